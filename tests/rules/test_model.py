"""The whole pipeline under random schedules, faults included: what is promised holds at every step and at the end."""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Channel, MaybeSent, Missed, OutcomeKind, Overlap, State
from schemas.records import Contact, Definition, DeliveryReceipt, Policy, RowStep
from tables import transition, turns
from tables.transition import Rules
from tests.effort import TIMES
from tests.rules.life import examples
from tests.rules.model import DAY, EPOCH, HOUR, MINUTE, SECOND, Broken, Fate, World, answer, cancel, effective, upsert

RULES = Rules(max_lateness_ms=2 * HOUR)
#: By the byte of a step; every byte above ends a unit well.
FATES = (Fate.DONE, *(Fate.LOST,) * 20, *(Fate.UNACKED,) * 12)
TICKS = (SECOND, SECOND, 10 * SECOND, 10 * SECOND, 20 * SECOND, 40 * SECOND, MINUTE, MINUTE, 5 * MINUTE, HOUR)
RESULTS = (
    OutcomeKind.ACCEPTED,
    OutcomeKind.DEFERRED,
    OutcomeKind.MAYBE_SENT,
    OutcomeKind.UNDELIVERABLE,
    OutcomeKind.MISCONFIGURED,
    OutcomeKind.REJECTED,
)
EMAIL = Contact(Channel.EMAIL, "anna@example.org")
CHAINS = (
    (RowStep(Channel.EMAIL, addressed=True),),
    (RowStep(Channel.EMAIL, addressed=True), RowStep(Channel.SMS, addressed=True)),
)


@dataclass(frozen=True)
class Plan:
    """What a producer says about one reminder, version by version; None cancels."""

    versions: tuple[Definition | None, ...]


STARTS = (0, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, -2 * DAY)


def plan(recipients: list[str], versions: list[tuple[bool, int, int, int, bool]]) -> Plan:
    """Return a plan of a reminder that goes from one recipient to the next and never back to a former one.

    (A row does not remember whom it asked, so whoever comes back while the withdrawal is out is reminded again.)
    """
    whom = sorted(version[2] for version in versions)
    return Plan(
        tuple(
            definition(start, recipients[who % len(recipients)], chain, wall) if live else None
            for (live, start, _, chain, wall), who in zip(versions, whom, strict=True)
        )
    )


def definition(start: int, recipient: str, chain: int, wall: bool) -> Definition:
    steps = CHAINS[chain] if not recipient else ()
    if recipient and wall:
        # The epoch of the model is midnight UTC.
        minutes = max(start, 0) // MINUTE
        return Definition(recipient, local=f"2026-12-01T{minutes // 60:02}:{minutes % 60:02}", steps=steps)
    return Definition(recipient, at=EPOCH + start, steps=steps)


def recurring(d: Definition) -> Definition:
    """Return a definition that fires three times, a few minutes apart, in the place of one that fires once."""
    minutes = max(0, (d.at or EPOCH) - EPOCH) // MINUTE
    local = d.local or f"2026-12-01T{minutes // 60:02}:{minutes % 60:02}"
    zone = "" if d.recipient_id else "UTC"
    return replace(d, at=None, local=local, zone=zone, rrule="FREQ=MINUTELY;INTERVAL=7;COUNT=3")


def series_plan(
    recipients: list[str], versions: list[tuple[bool, int, int, int, bool]], missed: Missed, overlap: Overlap
) -> Plan:
    """Return a plan all of whose definitions fire three times."""
    policy = Policy(missed, overlap)
    return Plan(tuple(d and replace(recurring(d), policy=policy) for d in plan(recipients, versions).versions))


NAGS = (
    Policy(nag_every_s=300, nag_max=2),
    Policy(nag_every_s=60, nag_max=1, escalate_to=("cleo",)),
    Policy(nag_every_s=120, nag_max=1, escalate_to=("cleo",), quorum=2),
    Policy(escalate_to=("cleo", "dora")),
)


def nagging_plan(
    recipients: list[str], versions: list[tuple[bool, int, int, int, bool]], policy: Policy, series: bool
) -> Plan:
    """Return a plan all of whose definitions want an answer."""
    made = plan(recipients, versions).versions
    return Plan(tuple(d and replace(recurring(d) if series else d, policy=policy) for d in made))


VERSIONS = st.lists(
    st.tuples(
        st.sampled_from([True, True, False]),
        st.sampled_from(STARTS),
        st.integers(0, 2),
        st.integers(0, len(CHAINS) - 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)
SERIES_PLANS = st.builds(
    series_plan,
    st.permutations(["", "anna", "ben"]),
    VERSIONS,
    st.sampled_from([Missed.LATEST, Missed.SKIP, Missed.ALL]),
    st.sampled_from([Overlap.SUPERSEDE, Overlap.SKIP]),
)
NAGGING_PLANS = st.builds(
    nagging_plan, st.permutations(["", "anna", "ben"]), VERSIONS, st.sampled_from(NAGS), st.booleans()
)
PLANS = st.builds(
    plan,
    st.permutations(["", "anna", "ben"]),
    VERSIONS,
)

#: What may happen, by how often it is tried; what has nothing to act on is left out of the draw.
OPS = {
    "event": 2, "again": 1, "core": 6, "pair": 2, "fire": 4, "stale": 1, "gate": 6, "channel": 4, "begin": 3,
    "finish": 3, "house": 1, "tick": 4, "profile": 1, "kill_core": 1, "kill_delivery": 1, "move": 1, "receipt": 1,
    "answer": 2,
}  # fmt: skip
LENGTH = 4 * (150 if TIMES > 1 else 80)
#: Four bytes a step: what happens (0: nothing), to which of the candidates, how the unit ends, what gets out of it.
STEPS = st.binary(min_size=LENGTH, max_size=LENGTH)


class Driver:
    def __init__(self, plans: list[Plan], rule: MaybeSent, slots: int) -> None:
        self.world = World(rules=RULES, rule=rule, slots=slots)
        self.plans = {f"r{i}": plan for i, plan in enumerate(plans)}
        self.seen: list[tuple[str, int]] = []
        self.said: list[tuple[str, int]] = []
        self.profiles = 0
        self.answers = 0
        self.told: list[tuple[str, Any, Fate, int]] = []

    def run(self, steps: bytes) -> None:
        for i in range(0, len(steps), 4):
            op, choice, fate, mask = steps[i : i + 4]
            if op:
                self.step(op, choice, FATES[fate] if fate < len(FATES) else Fate.DONE, mask)

    def end(self, *, known: bool) -> None:
        """Let everything come to rest; ``known``: whoever is still unknown is introduced first."""
        if known:
            for recipient in ("anna", "ben", *self.others()):
                self.profiles += 1
                self.world.introduce(recipient, "Europe/Berlin", (EMAIL,), self.profiles)
        self.world.settle_down()
        self.world.check_ends()

    def others(self) -> list[str]:
        """Return whom some reminder may be escalated to."""
        policies = [d.policy for plan in self.plans.values() for d in plan.versions if d is not None and d.policy]
        return sorted({person for policy in policies for person in policy.escalate_to})

    def insisting(self) -> bool:
        """Return whether some reminder wants an answer."""
        return any(turns.insists(d) for plan in self.plans.values() for d in plan.versions)

    def candidates(self) -> dict[str, list[Any]]:
        w = self.world
        core = w.waiting(w.core, w.CORE)
        return {
            "event": self.unsaid(),
            "again": self.said,
            "core": core,
            "pair": core,
            "fire": w.due_rows(),
            "stale": self.seen if w.core.caught_up() else [],
            "gate": w.waiting(w.delivery, w.GATE),
            "channel": w.waiting(w.delivery, w.CHANNELS),
            "begin": [c for c in w.calls if not c.begun],
            "finish": [c for c in w.calls if c.begun],
            "house": w.overdue(),
            "tick": list(TICKS),
            "profile": ["anna", "ben", *self.others()],
            "kill_core": [0, 1, 2, 5],
            "kill_delivery": [0, 1, 2, 5],
            "move": [0, 1, 2, 5] if w.calls else [],
            "receipt": [c.delivery for c in w.made if c.sent],
            "answer": [c.delivery for c in w.made if c.sent is not False] if self.insisting() else [],
        }

    def step(self, op: int, choice: int, fate: Fate, mask: int) -> None:
        w = self.world
        found = self.candidates()
        bag = [name for name, weight in OPS.items() if found[name] for _ in range(weight)]
        name = bag[op % len(bag)]
        chosen = found[name][choice % len(found[name])]
        self.told.append((name, chosen, fate, mask))
        match name:
            case "event":
                self.said.append(chosen)
                self.produce(*chosen)
            case "again":
                self.produce(*chosen)
            case "core":
                w.core_unit([chosen], fate, mask)
            case "pair":
                w.core_unit([chosen, *w.due_rows()[:1], found["core"][mask % len(found["core"])]], fate, mask)
            case "fire":
                self.seen.append(chosen)
                w.core_unit([chosen], fate, mask)
            case "stale":
                w.core_unit([chosen], fate, mask)
            case "gate" | "channel":
                w.delivery_unit(chosen, fate, mask)
            case "begin":
                w.begin(chosen)
            case "finish":
                w.finish(chosen, RESULTS[mask % len(RESULTS)], fate, choice)
            case "house":
                w.housekeep(chosen, fate, mask)
            case "tick":
                w.now += chosen
            case "profile":
                self.profiles += 1
                w.introduce(chosen, ("Europe/Berlin", "UTC", "America/New_York")[mask % 3], (EMAIL,), self.profiles)
            case "kill_core":
                w.kill_core(chosen)
            case "kill_delivery":
                w.kill_delivery(chosen, moved=False)
            case "move":
                w.kill_delivery(chosen, moved=True)
            case "receipt":
                news = DeliveryReceipt(chosen.reminder_id, chosen.delivery_id, OutcomeKind.DELIVERED, w.now)
                w.publish("receipts", chosen.reminder_id, news)
            case "answer":
                self.answers += 1
                w.produce(answer(chosen, self.answers), None, w.now)

    def unsaid(self) -> list[tuple[str, int]]:
        """Return the next two versions of each reminder that its producer has not said yet: they may swap places."""
        return [
            event
            for rid, plan in self.plans.items()
            for event in [(rid, v) for v in range(1, len(plan.versions) + 1) if (rid, v) not in self.said][:2]
        ]

    def produce(self, rid: str, number: int) -> None:
        d = self.plans[rid].versions[number - 1]
        if d is None:
            self.world.produce(cancel(rid, number), None, self.world.now)
        else:
            event, definition = upsert(rid, number, d)
            self.world.produce(event, definition, self.world.now)


@pytest.mark.parametrize("rule", [MaybeSent.HOLD, MaybeSent.RESEND])
def test_the_promises_hold_under_every_schedule(rule: MaybeSent) -> None:
    @examples(250)
    @given(st.lists(PLANS, min_size=1, max_size=2), st.integers(1, 3), STEPS)
    def holds(plans: list[Plan], slots: int, steps: bytes) -> None:
        driver = Driver(plans, rule, slots)
        driver.run(steps)
        driver.end(known=steps[0] % 4 > 0)

    holds()


@pytest.mark.parametrize("rule", [MaybeSent.HOLD, MaybeSent.RESEND])
def test_the_promises_hold_for_series_under_every_schedule(rule: MaybeSent) -> None:
    @examples(120)
    @given(st.lists(SERIES_PLANS, min_size=1, max_size=2), st.integers(1, 3), STEPS)
    def holds(plans: list[Plan], slots: int, steps: bytes) -> None:
        driver = Driver(plans, rule, slots)
        driver.run(steps)
        driver.end(known=True)

    holds()


@pytest.mark.parametrize("rule", [MaybeSent.HOLD, MaybeSent.RESEND])
def test_they_hold_where_an_answer_is_wanted_and_crosses_with_what_is_sent(rule: MaybeSent) -> None:
    @examples(120)
    @given(st.lists(NAGGING_PLANS, min_size=1, max_size=2), st.integers(1, 3), STEPS)
    def holds(plans: list[Plan], slots: int, steps: bytes) -> None:
        driver = Driver(plans, rule, slots)
        driver.run(steps)
        driver.end(known=True)

    holds()


def drawn(seed: int) -> Driver:
    """Return a schedule drawn by a plain random number generator, run to its end."""
    luck = random.Random(seed)
    plans = []
    for _ in range(luck.randint(1, 2)):
        order = luck.sample(["", "anna", "ben"], 3)
        versions = [
            (
                luck.random() < 0.7,
                luck.choice(STARTS),
                luck.randrange(3),
                luck.randrange(len(CHAINS)),
                luck.random() < 0.5,
            )
            for _ in range(luck.randint(1, 4))
        ]
        plans.append(plan(order, versions))
    driver = Driver(plans, luck.choice([MaybeSent.HOLD, MaybeSent.RESEND]), luck.randint(1, 3))
    driver.run(luck.randbytes(4 * 80))
    driver.end(known=seed % 3 > 0)
    return driver


CORNERS = {
    (State.PENDING, "created"), (State.PENDING, "no_zone_yet"), (State.SCHEDULED, "zone_known"),
    (State.SCHEDULED, "rescheduled"), (State.SCHEDULED, "reopened"), (State.SCHEDULED, "fallback"),
    (State.SENDING, "due"), (State.SENDING, "lease_expired"), (State.RETRY, "provider"), (State.HELD, "busy"),
    (State.WITHDRAWING, "cancelling"), (State.WITHDRAWING, "replaced"), (State.WITHDRAWING, "recipient_changed"),
    (State.WITHDRAWING, "too_late"), (State.CANCELLED, "cancelled"), (State.EXPIRED, "too_late"),
    (State.SENT, "provider"), (State.SENT, "cancel_too_late"), (State.DELIVERED, "receipt"),
    (State.MAYBE_SENT, "no_outcome"), (State.MAYBE_SENT, "cancel_too_late"), (State.DEAD_LETTER, "provider"),
}  # fmt: skip


def test_the_schedules_reach_every_corner() -> None:
    seen: set[tuple[State, str]] = set()
    for seed in range(400):
        for entries in drawn(seed).world.audit.values():
            seen.update((e.to_state, e.reason) for e in entries)
        if seen >= CORNERS:
            break
    assert CORNERS - seen == set()


# -- by hand -----------------------------------------------------------------------------------------------------------

DUE = Definition(at=EPOCH, steps=CHAINS[0])


def say(w: World, version: int, d: Definition | None) -> None:
    if d is None:
        w.produce(cancel("r0", version), None, w.now)
    else:
        w.produce(*upsert("r0", version, d), w.now)
    w.core_unit([("reminders", "r0")])


def queued(*, catches_up: bool, d: Definition = DUE) -> World:
    """Return a world in which a reminder stands in its channel's queue."""
    w = World(rules=RULES, rule=MaybeSent.HOLD, catches_up=catches_up)
    say(w, 1, d)
    w.core_unit(w.due_rows())
    w.delivery_unit(("requests", "r:r0"))
    return w


def cancelled_by_a_unit_that_died(*, catches_up: bool) -> World:
    """The gate answers a withdrawal and dies before its changelog; what it said stands all the same."""
    w = queued(catches_up=catches_up)
    say(w, 2, None)
    w.delivery_unit(("requests", "r:r0"), Fate.LOST)
    w.core_unit([("outcomes", "r0")])
    assert effective(w.audit["r0"])[-1].to_state is State.CANCELLED
    return w


def test_no_call_follows_a_cancel_that_a_unit_accepted_and_died() -> None:
    w = cancelled_by_a_unit_that_died(catches_up=True)
    assert w.waiting(w.delivery, w.CHANNELS) == []
    w.settle_down()
    w.check_ends()
    assert w.made == []


def test_delivery_has_to_catch_up_before_it_calls() -> None:
    """Why the rule is there: without it, the queue of the channel is read before the withdrawal is read again."""
    w = cancelled_by_a_unit_that_died(catches_up=False)
    w.delivery_unit(("channel", "r:r0"))
    with pytest.raises(Broken, match="stands as CANCELLED"):
        w.begin(w.calls[0])


def test_a_refusal_that_is_decided_otherwise_after_a_kill_calls_nobody_twice() -> None:
    """The gate refuses an unknown recipient and dies; when the request is read again, the profile is there."""
    w = World(rules=RULES, rule=MaybeSent.HOLD)
    say(w, 1, Definition("anna", at=EPOCH))
    w.core_unit(w.due_rows())
    w.delivery_unit(("requests", "anna"))  # the link
    w.delivery_unit(("requests", "anna"), Fate.LOST)
    w.introduce("anna", "UTC", (EMAIL,), 1)
    w.delivery_unit(("recipients", "anna"))
    w.delivery_unit(("requests", "anna"))
    w.delivery_unit(("channel", "anna"))
    w.begin(w.calls[0])
    w.kill_delivery(0, moved=False)  # and what became of the call is never known
    w.settle_down()
    w.check_ends()
    assert [c.delivery.attempt for c in w.made] == [1]
    row = w.row("r0")
    assert row is not None
    assert transition.state(row) is State.MAYBE_SENT


def test_a_queue_longer_than_a_lease_is_served() -> None:
    w = queued(catches_up=True)
    for _ in range(3):
        w.now += RULES.lease_ms
        w.core_unit(w.due_rows())
        w.delivery_unit(("requests", "r:r0"))
    w.delivery_unit(("channel", "r:r0"))
    assert [c.delivery.ask for c in w.calls] == [1]


def test_new_text_is_sent_though_a_unit_that_died_had_asked_with_the_old() -> None:
    w = World(rules=RULES, rule=MaybeSent.HOLD)
    say(w, 1, DUE)
    w.core_unit(w.due_rows(), Fate.LOST)
    w.delivery_unit(("requests", "r:r0"))
    w.delivery_unit(("channel", "r:r0"))
    say(w, 2, replace(DUE, template="new"))
    w.core_unit(w.due_rows())
    w.delivery_unit(("requests", "r:r0"))  # the withdrawal of the ask that died
    w.delivery_unit(("requests", "r:r0"))
    w.begin(w.calls[0])  # which sees it, and does not call
    w.settle_down()
    w.check_ends()
    assert [c.delivery.ask for c in w.made] == [3]


def test_what_a_unit_that_died_had_sent_is_known_before_the_reminder_moves_on() -> None:
    w = World(rules=RULES, rule=MaybeSent.HOLD)
    say(w, 1, DUE)
    w.core_unit(w.due_rows(), Fate.LOST)
    w.delivery_unit(("requests", "r:r0"))
    w.delivery_unit(("channel", "r:r0"))
    w.begin(w.calls[0])
    w.finish(w.calls[0], OutcomeKind.ACCEPTED)
    w.core_unit([("outcomes", "r0")])
    say(w, 2, replace(DUE, at=EPOCH + HOUR))
    w.settle_down()
    w.check_ends()
    row = w.row("r0")
    assert row is not None
    assert [(c.occurrence, c.state) for c in row.closed] == [
        (f"@{EPOCH}/PT0S", State.SENT),
        (f"@{EPOCH + HOUR}/PT0S", State.SENT),
    ]
