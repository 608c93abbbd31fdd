"""Circuits: one log, however many workers write it and however late they read it."""

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import OutcomeKind
from schemas.records import ControlRecord
from tables import circuit
from tables.circuit import Circuit, Limits, Phase, Weight, Window
from tests.rules.life import examples

NOW = 1_796_112_000_000
LIMITS = Limits()
NAME = "email/smtp"
C = Circuit(NAME, beside=("smtp",))


def after(c: Circuit, record: ControlRecord | None) -> Circuit:
    assert record is not None
    found = circuit.taken(c if c.turn else None, record)
    assert found is not None
    return found


def opened(now: int = NOW, *, misconfigured: bool = False) -> Circuit:
    return after(C, circuit.opened(C, now, "a", "unreachable", LIMITS, misconfigured=misconfigured))


def test_it_opens_at_half_of_twenty_calls_in_thirty_seconds_and_not_before() -> None:
    window = Window()
    for n in range(19):
        window.add(NOW + n * 1000, bad=True)
    assert not circuit.too_many(window.seen(NOW + 19_000, LIMITS.window_ms), LIMITS)
    window.add(NOW + 19_000, bad=False)
    assert circuit.too_many(window.seen(NOW + 19_000, LIMITS.window_ms), LIMITS)
    assert not circuit.too_many((40, 19), LIMITS)
    assert circuit.too_many((40, 20), LIMITS)
    # What is older than the window says nothing any more.
    assert window.seen(NOW + 60_000, LIMITS.window_ms) == (0, 0)


def test_what_one_recipient_or_one_message_is_refused_for_says_that_the_provider_works() -> None:
    for kind, reason, reached, weight in (
        (OutcomeKind.ACCEPTED, "ok", True, Weight.GOOD),
        (OutcomeKind.UNDELIVERABLE, "no_such_mailbox", True, Weight.GOOD),
        (OutcomeKind.UNDELIVERABLE, "address_syntax", False, Weight.NOTHING),
        (OutcomeKind.DEFERRED, "greylisted", True, Weight.GOOD),
        (OutcomeKind.DEFERRED, "rate_limited", True, Weight.GOOD),
        (OutcomeKind.DEFERRED, "unreachable", False, Weight.BAD),
        (OutcomeKind.DEFERRED, "unavailable", True, Weight.BAD),
        (OutcomeKind.DEFERRED, "service_unavailable", True, Weight.BAD),
        (OutcomeKind.DEFERRED, "busy", False, Weight.NOTHING),
        (OutcomeKind.MAYBE_SENT, "no_answer", True, Weight.BAD),
        (OutcomeKind.MAYBE_SENT, "bug", True, Weight.NOTHING),
        (OutcomeKind.MISCONFIGURED, "auth_refused", False, Weight.MISCONFIGURED),
        (OutcomeKind.MISCONFIGURED, "country_refused", False, Weight.NOTHING),
        (OutcomeKind.HELD, "stopping", False, Weight.NOTHING),
    ):
        assert circuit.weigh(kind, reason, reached=reached) is weight, (kind, reason)


def test_a_probe_is_due_after_its_time_and_one_worker_has_it() -> None:
    c = opened()
    assert c.shut(NOW)
    assert circuit.probing(c, NOW + LIMITS.probe_ms - 1, "a", LIMITS) is None
    due = NOW + LIMITS.probe_ms
    asked = {who: circuit.probing(c, due, who, LIMITS) for who in ("a", "b")}
    now = after(c, asked["b"])
    assert (now.stands(due), now.holder) == (Phase.PROBING, "b")
    assert asked["a"] is not None
    assert circuit.taken(now, asked["a"]) is None
    # It works: everybody may call. It does not: the next probe counts from the request for this one.
    assert not after(now, circuit.closed(now, due + 5000, "b")).shut(due + 5000)
    failed = after(now, circuit.opened(now, due + 5000, "b", "timeout", LIMITS, misconfigured=False))
    assert (failed.since, failed.until) == (NOW, due + LIMITS.probe_ms)
    # Nobody ended it: the next may be asked for.
    assert now.probe_due(due + LIMITS.probe_ms)
    # Only who has the probe, or a provider that refuses our settings, moves an open circuit.
    assert circuit.opened(now, due, "a", "timeout", LIMITS, misconfigured=False) is None
    assert circuit.opened(c, NOW + 1, "a", "timeout", LIMITS, misconfigured=False) is None
    assert after(c, circuit.opened(c, NOW + 1, "a", "auth_refused", LIMITS, misconfigured=True)).misconfigured


def test_a_pause_ends_by_itself_grows_and_is_bounded() -> None:
    c = after(C, circuit.paused(C, NOW, "a", 30_000, "rate_limited"))
    assert (c.stands(NOW), c.stands(NOW + 30_000)) == (Phase.PAUSED, Phase.CLOSED)
    assert circuit.paused(c, NOW + 500, "b", 30_000, "rate_limited") is None
    assert after(c, circuit.paused(c, NOW + 5000, "b", 30_000, "rate_limited")).until == NOW + 35_000
    assert after(C, circuit.paused(C, NOW, "a", 10**9, "rate_limited")).until == NOW + circuit.MAX_PAUSE_MS
    assert circuit.paused(opened(), NOW, "a", 30_000, "rate_limited") is None


def test_core_asks_for_nothing_for_one_at_a_probe_and_for_all_where_one_provider_works() -> None:
    c = opened()
    due = NOW + LIMITS.probe_ms
    assert circuit.allowance({NAME: c}, "EMAIL", NOW) == 0
    assert circuit.allowance({NAME: c}, "EMAIL", due) == 1
    assert circuit.allowance({NAME: c}, "SMS", NOW) == circuit.FREE
    assert circuit.allowance({NAME: replace(c, beside=("smtp", "smtp-2"))}, "EMAIL", NOW) == circuit.FREE
    both = {NAME: replace(c, beside=("smtp", "smtp-2")), "email/smtp-2": replace(c, name="email/smtp-2")}
    assert circuit.allowance(both, "EMAIL", NOW) == 0
    probing = after(c, circuit.probing(c, due, "a", LIMITS))
    assert circuit.allowance({NAME: probing}, "EMAIL", due + 1) == 0


def test_what_all_have_seen_is_added_but_nothing_from_before_the_last_turn() -> None:
    told = [circuit.tally(NAME, who, at, (10, 5)) for who, at in (("b", NOW), ("c", NOW - 40_000))]
    assert circuit.pooled(C, (10, 5), told, NOW + 1000, LIMITS) == (20, 10)
    assert circuit.pooled(replace(C, at=NOW), (10, 5), told, NOW + 1000, LIMITS) == (10, 5)


@pytest.mark.parametrize("phase", [*Phase, "LATER"])
def test_a_state_of_a_newer_release_is_taken_for_a_pause(phase: str) -> None:
    record = ControlRecord(circuit.scope(NAME), circuit.CIRCUIT, NOW, ends_at=NOW + 1000, state=phase, turn=1)
    found = circuit.taken(None, record)
    assert found is not None
    assert found.phase is (Phase.PAUSED if phase == "LATER" else Phase(phase))


class Worker:
    """A worker that knows the log up to some record, and writes to its end."""

    def __init__(self, who: str, log: list[ControlRecord]) -> None:
        self.who, self.log, self.read, self.c = who, log, 0, C
        self.granted: list[int] = []
        self.claims: set[int] = set()

    def say(self, record: ControlRecord | None) -> None:
        if record is not None:
            self.log.append(record)

    def catch_up(self, now: int, upto: int) -> None:
        while self.read < min(upto, len(self.log)):
            record = self.log[self.read]
            self.read += 1
            found = circuit.taken(self.c if self.c.turn else None, record)
            if found is not None:
                self.c = found
                if found.phase is Phase.PROBING and found.holder == self.who and found.turn in self.claims:
                    self.granted.append(found.at)

    def act(self, what: str, now: int) -> None:
        c = self.c
        match what:
            case "fails":
                self.say(circuit.opened(c, now, self.who, "timeout", LIMITS, misconfigured=False))
            case "refused":
                self.say(circuit.opened(c, now, self.who, "auth_refused", LIMITS, misconfigured=True))
            case "claims":
                record = circuit.probing(c, now, self.who, LIMITS)
                if record is not None:
                    self.claims.add(record.turn)
                self.say(record)
            case "pauses":
                self.say(circuit.paused(c, now, self.who, 5000, "rate_limited"))


@examples(150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["fails", "refused", "claims", "claims", "pauses", "reads", "reads"]),
            st.integers(0, 20_000),
        ),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_workers_that_read_late_agree_in_the_end_and_probe_no_more_than_twice_a_minute(
    steps: list[tuple[str, str, int]], luck: random.Random
) -> None:
    log: list[ControlRecord] = []
    workers = {who: Worker(who, log) for who in "abc"}
    now = NOW
    for who, what, ms in steps:
        now += ms
        workers[who].catch_up(now, luck.randint(0, len(log)))
        workers[who].act(what, now)
    for worker in workers.values():
        worker.catch_up(now, len(log))
    states: list[Any] = [worker.c for worker in workers.values()]
    assert states[0] == states[1] == states[2]
    granted = sorted(at for worker in workers.values() for at in worker.granted)
    assert all(later - earlier >= LIMITS.probe_ms for earlier, later in pairwise(granted))
