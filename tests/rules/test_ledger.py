"""The ledger: whatever a service does that keeps its promises adds up; whatever is taken away or added is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.names import Action, AnswerKind, Channel, OutcomeKind, State
from schemas.records import AuditEntry, Definition, DeliveryAnswer, DeliveryReceipt, ReminderEvent, ReminderRow
from tables import due as index
from tables import ledger, lifecycle, settling, transition
from tables.ledger import GRACE_MS, SLACK_MS, STUCK_MS, Kind, Ledger, Reached, Role, Source
from tables.transition import Arrival
from tests.rules.life import AT_NINE, DAY, HOUR, NINE, RULES, SECOND, T0, TEN, examples

SOURCES = {role.value: Source(role, role.value) for role in Role}
KEY = b"r1"
FAR = 10**15


class Partition:
    """The topics of one partition: a reminder's inputs, what its units emitted, its row; and a ledger that reads."""

    def __init__(self, rules: transition.Rules = RULES) -> None:
        self.rules = rules
        self.now = T0
        self.row: ReminderRow | None = None
        self.raw: bytes | None = None
        self.ledger = Ledger(0, T0 - HOUR, SOURCES, rules, home=lambda key: 0)
        self.offsets: dict[str, int] = {}
        self.entries: list[bytes] = []
        self.taken: dict[str, int] = {}
        #: Whether a unit dies after its emits, and decides once more.
        self.dies: Callable[[], bool] = lambda: False

    # -- what the service does

    def event(self, event: ReminderEvent, d: Definition | None = None) -> None:
        a = self._arrive(Role.EVENT, codec.encode(event))
        self._unit(lambda row, now: lifecycle.apply_event("r1", row, event, d, replace(a, now=now), self.rules))

    def outcome(self, kind: OutcomeKind, *, taken: bool = True, **more: object) -> None:
        answer = self.answer(outcome=kind, **more)
        a = self._arrive(Role.OUTCOME, codec.encode(answer))
        if taken:
            verdict = settling.Succeed() if kind is OutcomeKind.ACCEPTED else settling.GiveUp("gone")
            self._unit(lambda row, now: settling.settle("r1", row, answer, verdict, replace(a, now=now), self.rules))

    def answer(self, **more: object) -> DeliveryAnswer:
        assert self.row is not None
        o = self.row.open
        assert o is not None
        delivery = transition.delivery_id("r1", o)
        made = DeliveryAnswer(AnswerKind.OUTCOME, "r1", delivery, o.occurrence, o.round, o.step, o.attempt, o.ask)
        return replace(made, **more)  # type: ignore[arg-type]

    def due(self) -> None:
        assert self.raw is not None
        head = index.unpack(self.raw)
        self.now = max(self.now, min(t for t in (head.due_ms, head.deadline_ms) if t))
        self._unit(lambda row, now: lifecycle.fire("r1", row, head.due_ms, now, self.rules))

    def _arrive(self, role: Role, value: bytes, key: bytes = KEY) -> Arrival:
        offset = self.offsets[role.value] = self.offsets.get(role.value, -1) + 1
        self.taken[role.value] = offset + 1
        self.ledger.take_in(role.value, offset, self.now, key, value)
        return Arrival(self.now, self.now, role.value, offset)

    def _unit(self, rule: Callable[[ReminderRow | None, int], transition.Transition], *, again: bool = False) -> None:
        step = rule(self.row, self.now)
        if not step.changed:
            return None
        for entry in step.audit:
            self.audit(codec.encode(entry))
        if not again and self.dies():
            self.now += SECOND
            return self._unit(rule, again=True)
        self.row = step.row
        self.write(None if step.row is None else transition.header(step.row, self.rules) + codec.encode(step.row))
        return None

    def audit(self, value: bytes, key: bytes = KEY) -> None:
        self.entries.append(value)
        offset = self.offsets["audit"] = self.offsets.get("audit", -1) + 1
        self.ledger.audited("audit", offset, self.now, key, value)

    def write(self, raw: bytes | None, *, stored: bool = True) -> None:
        offset = self.offsets["changelog"] = self.offsets.get("changelog", -1) + 1
        self.ledger.logged(offset, self.now, KEY, raw)
        if stored:
            self.raw = raw

    # -- what the ledger says

    def orphans(self, after_ms: int = GRACE_MS, **reached: object) -> list[ledger.Orphan]:
        self.now += after_ms
        known = replace(Reached(FAR, FAR, self.taken), **reached)  # type: ignore[arg-type]
        return self.ledger.examine(KEY, self.raw, self.now, known)

    def kinds(self, after_ms: int = GRACE_MS, **reached: object) -> list[Kind]:
        return [orphan.kind for orphan in self.orphans(after_ms, **reached)]


def scheduled(**more: object) -> Partition:
    p = Partition(**more)  # type: ignore[arg-type]
    p.event(ReminderEvent("r1"), NINE)
    return p


def sending() -> Partition:
    p = scheduled()
    p.due()
    return p


def sent() -> Partition:
    p = sending()
    p.outcome(OutcomeKind.ACCEPTED)
    return p


# -- what adds up ------------------------------------------------------------------------------------------------------


def asked(p: Partition) -> bool:
    return p.row is not None and p.row.open is not None and p.row.open.asked_at > 0


MOVES: dict[str, Callable[[Partition], None]] = {
    "upsert": lambda p: p.event(ReminderEvent("r1"), NINE),
    "another start": lambda p: p.event(ReminderEvent("r1"), TEN),
    "cancel": lambda p: p.event(ReminderEvent("r1", action=Action.CANCEL)),
    "pause": lambda p: p.event(ReminderEvent("r1", action=Action.PAUSE)),
    "resume": lambda p: p.event(ReminderEvent("r1", action=Action.RESUME)),
    "snooze": lambda p: p.event(ReminderEvent("r1", action=Action.SNOOZE, at=p.now + HOUR)),
    "fire": lambda p: p.event(ReminderEvent("r1", action=Action.FIRE)),
    "not sent": lambda p: p.event(ReminderEvent("r1", action=Action.CONFIRM_NOT_SENT)),
    "acknowledge": lambda p: p.event(ReminderEvent("r1", action=Action.ACKNOWLEDGE)),
    "stale": lambda p: p.event(ReminderEvent("r1", version=1), NINE),
    "due": lambda p: p.due() if p.raw is not None else None,
    "accepted": lambda p: p.outcome(OutcomeKind.ACCEPTED) if asked(p) else None,
    "given up": lambda p: p.outcome(OutcomeKind.REJECTED) if asked(p) else None,
    "late": lambda p: p.outcome(OutcomeKind.REJECTED, attempt=9) if asked(p) else None,
    "time": lambda p: setattr(p, "now", p.now + 7 * SECOND),
}


@examples(150)
@given(st.lists(st.sampled_from(sorted(MOVES)), max_size=25), st.data())
def test_a_life_adds_up(moves: list[str], data: st.DataObject) -> None:
    """Whatever happens to it, whenever one looks, also where units die after their emits and decide again."""
    p = Partition()
    p.dies = lambda: data.draw(st.booleans())
    for move in moves:
        MOVES[move](p)
        if data.draw(st.booleans()):
            assert p.kinds(data.draw(st.integers(0, 2 * GRACE_MS))) == []
    assert p.kinds() == []
    page = p.ledger.pages.get(KEY)
    assert page is None or page.inputs == []


def test_what_was_purged_had_its_time() -> None:
    p = sent()
    p.due()
    assert p.raw is None
    assert p.kinds() == []


def test_what_is_still_on_its_way_is_no_orphan() -> None:
    p = sending()
    p.outcome(OutcomeKind.ACCEPTED, taken=False)
    assert p.kinds(10 * GRACE_MS, taken={}) == [], "the group has not taken it"
    assert p.kinds(0) == [Kind.OUTCOME]
    p = scheduled()
    p.now += SLACK_MS + HOUR
    p.event(ReminderEvent("r1"), TEN)
    p.ledger = Ledger(0, T0, SOURCES, RULES, home=lambda key: 0)
    p.write(p.raw)
    assert p.kinds(GRACE_MS, audit=p.now - 1) == [], "its audit has not been read"
    assert p.kinds(0) == [Kind.TRAIL]


# -- what does not -----------------------------------------------------------------------------------------------------


def test_an_event_without_row_or_rejection_is_named() -> None:
    p = Partition()
    p._arrive(Role.EVENT, codec.encode(ReminderEvent("r1")))
    assert p.kinds(GRACE_MS - 1) == []
    (orphan,) = p.orphans(1)
    assert (orphan.kind, orphan.where, orphan.reminder_id) == (Kind.EVENT, "event/0/0", "r1")
    assert orphan.remedy
    p.audit(codec.encode(AuditEntry("r1", 0, p.now, State.NONE, State.REJECTED, origin_topic="event",
                                    origin_partition=0, origin_offset=0)))  # fmt: skip
    assert p.kinds() == []


def test_an_event_that_the_row_has_passed_over_is_named() -> None:
    p = scheduled()
    p._arrive(Role.EVENT, codec.encode(ReminderEvent("r1", action=Action.CANCEL)))
    assert p.kinds() == [Kind.EVENT]
    # A later event is reflected, and the rows remember no more than the last offset.
    p.event(ReminderEvent("r1", action=Action.CANCEL))
    assert p.kinds() == []


def test_an_event_under_another_key_is_looked_for_under_its_id() -> None:
    p = Partition()
    event = ReminderEvent("r1")
    a = p._arrive(Role.EVENT, codec.encode(event), b"another key")
    p._unit(lambda row, now: lifecycle.apply_event("r1", row, event, NINE, replace(a, now=now), RULES))
    assert p.kinds() == []
    assert b"another key" not in p.ledger.pages
    elsewhere = Ledger(0, T0, SOURCES, RULES, home=lambda key: 3)
    assert elsewhere.take_in("event", 0, T0, KEY, codec.encode(event)) is None


def test_an_outcome_that_no_row_reflects_is_named_until_it_is() -> None:
    p = sending()
    p.outcome(OutcomeKind.ACCEPTED, taken=False)
    (orphan,) = p.orphans()
    assert (orphan.kind, orphan.where) == (Kind.OUTCOME, "outcome/0/0")
    p.due()  # its lease: it is asked for again, and answered again
    assert p.kinds() == [Kind.OUTCOME]
    p.outcome(OutcomeKind.ACCEPTED)
    assert p.kinds() == []


def test_an_outcome_of_what_has_no_row_is_named() -> None:
    answer = sending().answer(outcome=OutcomeKind.ACCEPTED)
    p = Partition()
    p._arrive(Role.OUTCOME, codec.encode(answer))
    assert p.kinds() == [Kind.OUTCOME]


def test_receipts_and_retries_that_no_row_reflects_are_named() -> None:
    p = sent()
    assert p.row is not None
    news = DeliveryReceipt("r1", p.row.closed[-1].delivery_id, OutcomeKind.DELIVERED, p.now)
    p._arrive(Role.RECEIPT, codec.encode(news))
    assert p.kinds() == [Kind.OUTCOME]
    # Bad news of what was sent is put on its trail, too; that it was accepted is known.
    late = sent()
    late._arrive(Role.RECEIPT, codec.encode(replace(news, outcome=OutcomeKind.REJECTED)))
    assert late.kinds() == [Kind.OUTCOME]
    stale = replace(news, outcome=OutcomeKind.ACCEPTED)
    q = sent()
    q._arrive(Role.RECEIPT, codec.encode(stale))
    assert q.kinds() == []


def test_a_row_that_was_deleted_is_named() -> None:
    p = scheduled()
    p.write(None, stored=False)
    (orphan,) = p.orphans()
    assert (orphan.kind, orphan.where) == (Kind.ROW, "changelog/0/1")
    p.raw = None  # it was recovered from that changelog
    assert p.kinds() == [Kind.ROW]
    early = sent()
    early.write(None)
    assert early.kinds() == [Kind.ROW], "it had ended, but not so long ago"


def test_a_row_that_its_changelog_does_not_have_is_named_and_healed_by_the_next_write() -> None:
    p = scheduled()
    assert p.raw is not None
    p.write(p.raw + b"x", stored=False)
    assert p.kinds() == [Kind.ROW]
    p.event(ReminderEvent("r1"), TEN)
    assert p.kinds() == []


@pytest.mark.parametrize("back", [1, 2])
def test_an_audit_entry_that_stands_there_twice_is_named_once(back: int) -> None:
    p = sent()
    p.audit(p.entries[-back])
    (orphan,) = p.orphans(0)
    assert (orphan.kind, orphan.where) == (Kind.DOUBLED, f"audit/0/{len(p.entries) - 1}")
    assert p.kinds() == [], "and nothing else is wrong for it"


def test_an_audit_entry_that_is_missing_is_named() -> None:
    p, q = sent(), Partition()
    q.raw, q.now = p.raw, p.now
    for n, value in enumerate(p.entries):
        if n != 1:
            q.audit(value)
    assert q.kinds(GRACE_MS - 1) == []
    (orphan,) = q.orphans(1)
    assert (orphan.kind, "entry 2 is missing" in orphan.why) == (Kind.MISSING, True)
    assert q.kinds() == []


def test_a_trail_that_ends_elsewhere_is_named() -> None:
    p, q = sent(), Partition()
    for value in p.entries[:-1]:
        q.audit(value)
    q.raw, q.now = p.raw, p.now
    assert q.kinds() == [Kind.TRAIL]
    assert p.kinds() == []
    p.raw = sending().raw
    p.ledger.pages[KEY].logged = None
    assert p.kinds() == [Kind.TRAIL]


def test_a_row_that_was_moved_by_its_header_adds_up() -> None:
    p = sending()
    assert p.raw is not None
    head = index.unpack(p.raw)
    moved = index.pack(index.STATE_CODES[State.MAYBE_SENT], head.lane, head.channel, p.now + DAY, 0)
    p.audit(codec.encode(AuditEntry("r1", 0, p.now, State.SENDING, State.MAYBE_SENT, "bug")))
    p.write(moved + p.raw[index.HEADER.size :])
    assert p.kinds() == []
    p.raw = b"\0" + p.raw[:30]
    assert p.kinds() == [], "what cannot be read is not judged"


def test_what_is_long_past_its_time_is_stuck_unless_it_waits_rightly() -> None:
    p = sending()
    assert p.raw is not None
    lease = index.unpack(p.raw).due_ms
    assert p.kinds(lease - p.now + STUCK_MS - 1) == []
    (orphan,) = p.orphans(1)
    assert (orphan.kind, "SENDING" in orphan.why) == (Kind.STUCK, True)
    waits = scheduled()
    assert waits.kinds(AT_NINE - waits.now + STUCK_MS) == [Kind.STUCK]
    assert waits.raw is not None
    now = waits.now
    held = Ledger(0, T0, SOURCES, RULES, home=lambda key: 0, held=lambda channel: channel is Channel.EMAIL)
    assert held.overdue("r1", waits.raw, now) is None
    assert held.overdue("r1", waits.raw, AT_NINE + RULES.max_lateness_ms + STUCK_MS) is not None, "its deadline"
    other = sending()
    moving = Ledger(0, T0, SOURCES, RULES, home=lambda key: 0)
    moving.audited("audit", 0, now - STUCK_MS + 1, b"r2", other.entries[-1])
    assert moving.overdue("r1", waits.raw, now) is None, "others of its channel go out"
    fresh = Ledger(0, T0, SOURCES, RULES, home=lambda key: 0, at_work_since=now - STUCK_MS + 1)
    assert fresh.overdue("r1", waits.raw, now) is None
    ended = sent()
    assert ended.raw is not None
    assert Ledger(0, T0, SOURCES, RULES, home=lambda key: 0).overdue("r1", ended.raw, ended.now) is None


def test_it_remembers_so_many_and_says_what_it_forgot() -> None:
    book = Ledger(0, T0, SOURCES, RULES, home=lambda key: 0, most=2)
    for n in range(3):
        book.take_in("event", n, T0, f"r{n}".encode(), codec.encode(ReminderEvent(f"r{n}")))
        book.pages[f"r{n}".encode()].queued = True
    assert (list(book.pages), book.forgotten) == ([b"r1", b"r2"], 1)


def test_what_was_long_past_when_it_came_is_not_stuck_at_once() -> None:
    p = Partition()
    p.now = AT_NINE + 5 * HOUR
    p.event(ReminderEvent("r1"), NINE)
    assert p.kinds(0) == []
    assert p.kinds(STUCK_MS - 1) == []
    assert p.kinds(2 * STUCK_MS) == [Kind.STUCK]
