"""Whoever asks to be forgotten: nothing is pending, nothing personal is left, and the past does not come back."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.names import Action, AnswerKind, OutcomeKind, RequestKind, State, Withdrawal
from schemas.records import Content, DeliveryAnswer, ReminderEvent, ReminderRow, Sealed
from tables import erasure, lifecycle, settling
from tables.settling import Doubt
from tables.transition import Arrival, Transition
from tests.rules.life import MINUTE, NINE, T0, Reminder, examples

CANARY = "canary-4711"
SECRET = Sealed(0, codec.encode(Content(CANARY, CANARY, {"k": CANARY}, (CANARY,), CANARY)))
WHO = replace(NINE, recipient_id="anna", sealed=SECRET)


def erase(r: Reminder, *, at: int = 0, link: int | None = None) -> Transition:
    """Let the recipient's partition say that the recipient was erased."""
    known = r.row.link if r.row is not None else 0
    answer = DeliveryAnswer(
        AnswerKind.ERASED, r.rid, link=known if link is None else link, ended_at=at or r.now, correlation_id="c"
    )
    a = r._arrival("outcomes")
    return r._apply(lambda row: erasure.recipient_erased(r.rid, row, answer, a, r.rules))


def event(r: Reminder, action: Action = Action.ERASE, *, version: int = 0, at: int = 0) -> Transition:
    """Let an event act on the reminder."""
    r.now += 2
    a = replace(r._arrival("reminders"), record_ms=at or r.now, event_id=f"e{r._offsets}", actor=CANARY)
    what = ReminderEvent(r.rid, action=action, version=version, text=CANARY)
    return r._apply(lambda row: lifecycle.apply_event(r.rid, row, what, None, a, r.rules))


def clean(row: ReminderRow | None) -> bool:
    return row is not None and CANARY.encode() not in codec.encode(row)


def pending(r: Reminder) -> None:
    r.upsert(WHO, 1)


def sending(r: Reminder) -> None:
    r.sending(WHO)


def cancelling(r: Reminder) -> None:
    r.sending(WHO)
    event(r, Action.CANCEL, version=1)


def snoozing(r: Reminder) -> None:
    r.sending(WHO)
    a = replace(r._arrival("reminders"), record_ms=r.now, event_id="s")
    what = ReminderEvent(r.rid, action=Action.SNOOZE, at=r.now + 60 * MINUTE)
    r._apply(lambda row: lifecycle.apply_event(r.rid, row, what, None, a, r.rules))


def paused(r: Reminder) -> None:
    r.upsert(WHO, 1)
    event(r, Action.PAUSE)


def in_doubt(r: Reminder) -> None:
    r.sending(WHO)
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason="no_outcome")


def sent(r: Reminder) -> None:
    r.sending(WHO)
    r.accepted()


def series(r: Reminder) -> None:
    r.upsert(replace(WHO, at=None, local="2026-12-01T09:00", zone="UTC", rrule="FREQ=DAILY"), 1)


def series_in_doubt(r: Reminder) -> None:
    series(r)
    r.fire()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason="no_outcome")


WAYS: list[Callable[[Reminder], None]] = [
    *(pending, sending, cancelling, snoozing, paused, in_doubt, sent, series, series_in_doubt),
]


@pytest.mark.parametrize("by", [erase, event])
@pytest.mark.parametrize("way", WAYS)
def test_wherever_it_stands_nothing_personal_is_left_and_it_ends(
    way: Callable[[Reminder], None], by: Callable[[Reminder], Transition]
) -> None:
    r = Reminder()
    way(r)
    assert r.row is not None
    was_sent = r.state in (State.SENT, State.MAYBE_SENT)
    by(r)
    assert clean(r.row)
    assert all(e.sealed == Sealed() for e in r.last.emits if hasattr(e, "sealed"))
    if r.state is State.WITHDRAWING:
        assert r.row.open is not None
        assert r.row.open.withdrawal is Withdrawal.ERASE
        assert r.reason == "erasing"
        r.withdrawn()
    assert r.row.open is None
    assert r.row.definition is None
    row = r.row
    assert (row.paused, row.zone, row.reachable, row.tzdata) == (False, "", True, "")
    assert (row.told, row.told_at, row.since, row.moves) == ("", 0, 0, ())
    assert (row.next_start, row.next_due, row.open_at) == ("", 0, 0)
    assert r.state is State.CANCELLED or was_sent
    assert r.reason == "erased"
    assert clean(r.row)


def test_the_past_does_not_come_back_and_what_is_later_starts_afresh() -> None:
    r = Reminder()
    r.upsert(WHO, 0, at=T0)
    erase(r, at=T0 + 10)
    before = r.row
    assert not r.again().changed
    r.upsert(WHO, 0, at=T0 + 5)
    assert (r.last.result, r.state) == ("stale_version", State.CANCELLED)
    assert clean(r.row)
    r.upsert(WHO, 0, at=T0 + 11)
    assert r.state is State.SCHEDULED
    assert before is not None
    assert r.open.round > 0, "no id of a delivery is used twice"
    r.fire()
    assert r.asked()[0].sealed == SECRET


def test_a_numbered_one_stays_erased_for_its_versions_so_far() -> None:
    r = Reminder()
    r.upsert(WHO, 5)
    event(r)
    r.upsert(WHO, 5)
    assert r.last.result == "stale_version"
    r.upsert(WHO, 4)
    assert r.last.result == "stale_version"
    assert clean(r.row)
    r.upsert(WHO, 6)
    assert r.state is State.SCHEDULED


@pytest.mark.parametrize("action", [Action.SNOOZE, Action.FIRE, Action.ACKNOWLEDGE, Action.CANCEL, Action.PAUSE])
def test_no_act_revives_what_is_being_erased(action: Action) -> None:
    r = Reminder()
    r.sending(WHO)
    erase(r)
    a = replace(r._arrival("reminders"), record_ms=r.now, event_id="later")
    what = ReminderEvent(r.rid, action=action, at=r.now + 60 * MINUTE if action is Action.SNOOZE else None)
    r._apply(lambda row: lifecycle.apply_event(r.rid, row, what, None, a, r.rules))
    assert r.open.withdrawal is Withdrawal.ERASE
    r.withdrawn()
    assert (r.state, r.reason) == (State.CANCELLED, "erased")
    r._apply(lambda row: lifecycle.apply_event(r.rid, row, what, None, replace(a, offset=a.offset + 1), r.rules))
    assert not r.asked()
    assert r.state is State.CANCELLED


def test_a_call_that_had_begun_is_told_as_it_was() -> None:
    r = Reminder()
    r.sending(WHO)
    erase(r)
    r.accepted()
    assert (r.state, r.reason) == (State.SENT, "erased")
    assert clean(r.row)
    assert r.row is not None
    assert r.row.definition is None


def test_a_later_event_while_it_is_being_erased_takes_its_place() -> None:
    r = Reminder()
    r.sending(WHO)
    erase(r)
    r.upsert(replace(WHO, at=(WHO.at or 0) + 60 * MINUTE), 2)
    r.withdrawn()
    assert r.state is State.SCHEDULED


def test_what_was_defined_since_starts_afresh_and_what_was_only_acted_on_does_not() -> None:
    r = Reminder()
    r.upsert(WHO, 0, at=T0 + 10)
    assert not erase(r, at=T0 + 9).changed
    assert r.state is State.SCHEDULED
    event(r, Action.PAUSE, at=T0 + 30)
    assert erase(r, at=T0 + 20).changed
    assert r.state is State.CANCELLED
    assert not erase(r).changed, "it is known"


def test_an_unknown_one_leaves_a_mark() -> None:
    r = Reminder()
    event(r, at=T0)
    assert r.state is State.CANCELLED
    r.upsert(WHO, 0, at=T0 - 1)
    assert r.last.result == "stale_version"


def test_a_sealed_one_has_its_key_destroyed() -> None:
    r = Reminder()
    r.upsert(replace(WHO, recipient_id="", sealed=Sealed(9, b"x")), 1)
    event(r)
    (asked,) = r.asked(RequestKind.ERASE)
    assert r.row is not None
    assert asked.link == r.row.link


@examples(60)
@given(st.lists(st.sampled_from(["erase", "event", "withdrawn", "fire", "late", "old", "new"]), max_size=12))
def test_in_any_order(steps: list[str]) -> None:
    """Whatever comes in whatever order: what was erased is asked for again only after a newer event."""
    r = Reminder()
    r.upsert(WHO, 1)
    version, erased = 1, False
    for step in steps:
        match step:
            case "erase":
                erase(r)
                erased = True
            case "event":
                event(r)
                erased = True
            case "withdrawn" if r.row is not None and r.row.open is not None:
                r.withdrawn()
            case "fire" if r.row is not None and r.row.open is not None:
                r.now = max(r.now, r.header().due_ms)
                r.fire()
            case "late" if r.row is not None and r.row.open is not None and r.state is State.SENDING:
                r.accepted()
            case "old":
                r.upsert(WHO, version)
            case "new":
                version += 1
                r.upsert(replace(WHO, at=r.now + version * 60 * MINUTE), version)
                erased = False
            case _:
                continue
        if erased:
            assert clean(r.row)
            assert not r.asked(RequestKind.DELIVER)
    assert settling.of_series(r.row) is False if r.row is not None else True


def test_arrivals_are_recognised() -> None:
    r = Reminder()
    r.upsert(WHO, 1)
    step = erase(r)
    assert step.row is not None
    assert erasure.recipient_erased(
        r.rid, step.row, DeliveryAnswer(AnswerKind.ERASED, r.rid, link=9), Arrival(r.now, 0, "outcomes", 0), r.rules
    ).result in ("replay", "known")
