"""What people do with a reminder: snooze, acknowledge, pause, resume, by reminder and by occurrence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Action, OutcomeKind, RequestKind, State, Withdrawal
from schemas.records import Definition
from tables import due as index
from tables import settling
from tests.rules.life import AT_NINE, AT_TEN, DAY, EMAIL, HOUR, NINE, RULES, SECOND, T0, Reminder, examples, start

SNOOZE, ACK, PAUSE, RESUME = Action.SNOOZE, Action.ACKNOWLEDGE, Action.PAUSE, Action.RESUME


def sent() -> Reminder:
    r = Reminder().sending()
    r.accepted()
    return r


# -- snooze ------------------------------------------------------------------------------------------------------------


def test_a_snooze_moves_the_same_occurrence_to_a_new_round() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    step = r.act(SNOOZE, at=AT_TEN)
    assert (r.state, r.open.occurrence, r.open.due, r.open.round) == (State.SCHEDULED, start(NINE), AT_TEN, 1)
    assert r.open.deadline == AT_TEN + RULES.max_lateness_ms
    assert step.audit[-1].reason == "snoozed"
    r.fire()
    r.accepted()
    assert r.state is State.SENT


def test_a_snooze_on_the_wall_clock_uses_the_zone_of_the_reminder() -> None:
    r = Reminder()
    r.upsert(Definition(local="2026-12-01T09:00", zone="Europe/Berlin", steps=EMAIL), 1)
    r.act(SNOOZE, local="2026-12-01T10:30")
    assert r.open.due == T0 + 9 * HOUR + 30 * 60 * SECOND


def test_a_snooze_while_it_is_being_sent_waits_for_what_became_of_it() -> None:
    r = Reminder().sending()
    r.act(SNOOZE, at=AT_TEN)
    assert r.state is State.WITHDRAWING
    assert len(r.asked(RequestKind.WITHDRAW)) == 1
    r.withdrawn()
    assert (r.state, r.open.due) == (State.SCHEDULED, AT_TEN)


def test_a_snooze_that_comes_after_the_call_reminds_again() -> None:
    r = Reminder().sending()
    r.act(SNOOZE, at=AT_TEN)
    r.accepted()
    assert [c.state for c in r.row.closed] == [State.SENT]  # type: ignore[union-attr]
    assert (r.state, r.open.due) == (State.SCHEDULED, AT_TEN)


def test_what_was_sent_can_be_snoozed_and_comes_again() -> None:
    r = sent()
    first = r.delivery_id()
    r.act(SNOOZE, at=AT_TEN)
    assert (r.state, r.open.due) == (State.SCHEDULED, AT_TEN)
    assert r.delivery_id() != first


def test_a_doubt_that_is_snoozed_is_sent_in_a_new_round() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt())
    r.act(SNOOZE, at=AT_TEN)
    assert (r.state, r.open.round) == (State.SCHEDULED, 1)


@pytest.mark.parametrize(
    ("prepare", "fields", "why"),
    [
        (lambda r: r.upsert(NINE, 1), {"at": T0}, "snooze_into_the_past"),
        (lambda r: r.upsert(replace(NINE, expires_at=AT_NINE + 5), 1), {"at": AT_TEN}, "after_expiry"),
        (lambda r: (r.upsert(NINE, 1), r.cancel(2)), {"at": AT_TEN}, "ended"),
        (lambda r: r.upsert(NINE, 1), {"at": AT_TEN, "occurrence": "2020-01-01T00:00"}, "no_such_occurrence"),
        (lambda r: None, {"at": AT_TEN}, "unknown_reminder"),
        (lambda r: r.upsert(NINE, 1), {"local": "2026-12-01T10:00"}, "no_zone"),
    ],
)
def test_a_snooze_that_cannot_apply_says_why_and_changes_nothing(prepare, fields, why) -> None:  # type: ignore[no-untyped-def]
    r = Reminder()
    prepare(r)
    before = r.row.open if r.row is not None else None
    step = r.act(SNOOZE, **fields)
    assert step.result == why
    assert r.audit[-1].reason == why
    assert (r.row.open if r.row is not None else None) == before


# -- acknowledge -------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_before_the_time_ends_it() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.act(ACK)
    assert (r.state, r.row.open) == (State.ACKNOWLEDGED, None)  # type: ignore[union-attr]


def test_an_acknowledgement_of_what_was_sent_is_its_last_word() -> None:
    r = sent()
    step = r.act(ACK)
    assert r.state is State.ACKNOWLEDGED
    assert step.audit[-1].from_state is State.SENT
    assert r.act(ACK).result == "ended"


def test_an_acknowledgement_while_it_is_being_sent_lets_no_call_begin() -> None:
    r = Reminder().sending()
    r.act(ACK)
    assert r.state is State.WITHDRAWING
    r.withdrawn()
    assert r.state is State.ACKNOWLEDGED


def test_an_acknowledgement_does_not_undo_a_cancel() -> None:
    r = Reminder().sending()
    r.cancel(2)
    assert r.act(ACK).result == "cancelling"
    r.withdrawn()
    assert r.state is State.CANCELLED


def test_an_occurrence_is_acknowledged_by_its_start() -> None:
    r = sent()
    assert r.act(ACK, occurrence=f"@{AT_NINE}").result == "applied"


# -- pause and resume --------------------------------------------------------------------------------------------------


def test_a_paused_reminder_is_not_asked_for_until_it_is_resumed() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.act(PAUSE)
    assert (r.state, r.header().state) == (State.PAUSED, index.STATE_CODES[State.PAUSED])
    r.fire(AT_NINE + SECOND)
    assert not r.asked()
    r.act(RESUME)
    assert (r.state, r.open.due) == (State.SCHEDULED, r.now)
    r.fire()
    assert len(r.asked()) == 1


def test_what_is_resumed_before_its_time_fires_at_its_time() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.act(PAUSE)
    r.act(RESUME)
    assert (r.state, r.open.due) == (State.SCHEDULED, AT_NINE)


def test_a_paused_reminder_expires_at_its_deadline_and_is_reviewed_before() -> None:
    r = Reminder()
    r.upsert(replace(NINE, at=T0 + 3 * DAY), 1)
    r.act(PAUSE)
    r.fire()
    assert (r.state, r.reason) == (State.PAUSED, "review")
    r.fire(r.open.deadline)
    assert r.state is State.EXPIRED


def test_a_pause_while_it_is_being_sent_waits_for_the_answer() -> None:
    r = Reminder().sending()
    r.act(PAUSE)
    assert (r.state, r.open.withdrawal) == (State.WITHDRAWING, Withdrawal.PAUSE)
    r.withdrawn()
    assert r.state is State.PAUSED
    r.act(RESUME)
    r.fire()
    assert len(r.asked()) == 1


def test_a_resume_that_overtakes_the_answer_to_its_pause() -> None:
    r = Reminder().sending()
    r.act(PAUSE)
    r.act(RESUME)
    r.withdrawn()
    assert r.state is State.SCHEDULED
    r.fire()
    assert len(r.asked()) == 1


def test_an_update_of_a_paused_reminder_stays_paused() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.act(PAUSE, 2)
    r.upsert(replace(NINE, at=AT_TEN), 3)
    assert r.state is State.PAUSED
    r.act(RESUME, 4)
    assert (r.state, r.open.due) == (State.SCHEDULED, AT_TEN)


def test_a_pause_before_its_create_is_kept() -> None:
    r = Reminder()
    r.act(PAUSE)
    r.now += SECOND
    r.upsert(NINE, 1)
    assert r.state is State.PAUSED


@pytest.mark.parametrize(("actions", "why"), [((PAUSE, PAUSE), "already_paused"), ((RESUME,), "not_paused")])
def test_what_is_already_so_says_so(actions: tuple[Action, ...], why: str) -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    for action in actions:
        r.act(action)
    assert r.audit[-1].reason == why


# -- all of them -------------------------------------------------------------------------------------------------------

STEPS = st.sampled_from(["snooze", "ack", "pause", "resume", "cancel", "fire", "accepted", "withdrawn", "upsert"])


@examples(200)
@given(st.lists(STEPS, max_size=14))
def test_whatever_comes_every_change_is_audited_and_every_open_row_has_a_due(steps: list[str]) -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    version = 1
    for step in steps:
        r.now += SECOND
        before = r.state
        asks, rounds = (r.row.ask, r.row.rounds) if r.row else (0, 0)
        match step:
            case "snooze":
                r.act(SNOOZE, at=r.now + HOUR)
            case "ack":
                r.act(ACK)
            case "pause":
                r.act(PAUSE)
            case "resume":
                r.act(RESUME)
            case "cancel":
                version += 1
                r.cancel(version)
            case "upsert":
                version += 1
                r.upsert(replace(NINE, at=r.now + HOUR), version)
            case "fire":
                r.fire()
            case "accepted" if r.row is not None and r.row.open is not None:
                r.accepted()
            case "withdrawn" if r.row is not None and r.row.open is not None:
                r.withdrawn()
            case _:
                continue
        if r.row is None:
            return
        assert r.state is before or r.audit[-1].to_state is r.state
        assert r.row.ask >= asks
        assert r.row.rounds >= rounds
        head = r.header()
        if r.row.open is not None:
            assert 0 < head.due_ms < index.MAX_DUE_MS
        replayed = r.again()
        assert replayed.changed is False or r.last.result in ("early", "stale")
