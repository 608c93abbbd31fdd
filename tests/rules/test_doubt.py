"""What a person says of a doubt settles it once, and never makes two of one."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.names import Action, Channel, OutcomeKind, State, WaitFor
from schemas.records import Definition, ReminderStatus, RowStep
from tables import settling
from tests.rules.life import AT_NINE, EMAIL, NINE, SECOND, Reminder, examples

SENT, UNSENT, FIRE = Action.CONFIRM_SENT, Action.CONFIRM_NOT_SENT, Action.FIRE


def doubtful(d: Definition = NINE) -> Reminder:
    r = Reminder().sending(d)
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt(), reason="connection_lost")
    return r


def test_a_doubt_that_was_sent_is_sent() -> None:
    r = doubtful()
    step = r.act(SENT, delivery_id=r.delivery_id(), text="250 in the\nlog", actor="anna")
    assert (r.state, r.row.open) == (State.SENT, None)  # type: ignore[union-attr]
    entry = step.audit[-1]
    assert (entry.action, entry.reason, entry.detail) == ("CONFIRM_SENT", "resolved_sent", "250 in the log")
    assert [e.state for e in step.emits if isinstance(e, ReminderStatus)] == [State.SENT]


def test_a_doubt_that_waits_for_a_receipt_goes_on_waiting_for_it() -> None:
    r = doubtful(Definition(at=AT_NINE, steps=(RowStep(Channel.EMAIL, WaitFor.DELIVERED, 60, addressed=True),)))
    r.act(SENT)
    assert (r.state, r.open.due) == (State.SENT, r.now + 60 * SECOND)
    assert r.audit[-1].action == "CONFIRM_SENT"


def test_a_doubt_that_was_not_sent_is_sent_in_a_new_round_from_the_same_step_on() -> None:
    steps = (RowStep(Channel.SMS, addressed=True), *EMAIL)
    r = Reminder().sending(Definition(at=AT_NINE, steps=steps))
    r.outcome(OutcomeKind.UNDELIVERABLE, settling.NextStep())
    r.fire()
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt())
    first, deadline = r.delivery_id(), r.open.deadline
    step = r.act(UNSENT, delivery_id=first, text="no such mail in its log", actor="anna")
    assert (r.state, r.open.due, r.open.step, r.open.attempt) == (State.SCHEDULED, r.now, 1, 1)
    assert (r.open.round, r.open.deadline, r.open.channel) == (1, deadline, Channel.EMAIL)
    assert r.delivery_id() != first
    assert (step.audit[-1].reason, step.audit[-1].detail) == ("resolved_not_sent", "no such mail in its log")
    r.fire()
    assert len(r.asked()) == 1
    r.accepted()
    assert r.state is State.SENT


def test_what_would_be_too_late_is_not_sent_again() -> None:
    r = doubtful()
    r.now = r.open.deadline
    r.act(UNSENT)
    assert (r.state, r.audit[-1].reason) == (State.EXPIRED, "too_late")


def test_a_paused_doubt_waits_until_it_is_resumed() -> None:
    r = doubtful()
    r.act(Action.PAUSE)
    r.act(UNSENT)
    assert r.state is State.PAUSED
    r.act(Action.RESUME)
    assert (r.state, r.open.due) == (State.SCHEDULED, r.now)


@pytest.mark.parametrize("action", [SENT, UNSENT])
def test_what_is_in_no_doubt_is_left_alone(action: Action) -> None:
    for prepare in (lambda r: r.upsert(NINE, 1), Reminder.sending, lambda r: (r.sending(), r.accepted())):
        r = Reminder()
        prepare(r)
        before = (r.state, r.row.open, r.row.closed)  # type: ignore[union-attr]
        assert r.act(action).result == "not_in_doubt"
        assert (r.state, r.row.open, r.row.closed) == before  # type: ignore[union-attr]
        assert r.audit[-1].remedy
    assert Reminder().act(action).result == "unknown_reminder"


def test_a_word_on_an_earlier_doubt_is_no_word_on_this_one() -> None:
    r = doubtful()
    first = r.delivery_id()
    r.act(UNSENT, delivery_id=first)
    r.fire()
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt())
    assert r.act(UNSENT, delivery_id=first).result == "another_delivery"
    assert r.act(SENT, delivery_id=first).result == "another_delivery"
    assert r.state is State.MAYBE_SENT


@pytest.mark.parametrize(("action", "state"), [(SENT, State.SENT), (UNSENT, State.CANCELLED)])
def test_a_doubt_that_was_cancelled_is_put_right_and_nothing_is_sent(action: Action, state: State) -> None:
    r = doubtful()
    delivery = r.delivery_id()
    r.cancel()
    assert (r.state, r.reason) == (State.MAYBE_SENT, "cancel_too_late")
    r.act(action, delivery_id=delivery)
    assert (r.state, r.row.open, r.row.closed[-1].state) == (state, None, state)  # type: ignore[union-attr]
    assert r.asked() == []
    assert r.act(action, delivery_id=delivery).result == "not_in_doubt"


def test_better_news_after_a_wrong_word_is_believed() -> None:
    r = doubtful()
    delivery = r.delivery_id()
    r.cancel()
    r.act(UNSENT, delivery_id=delivery)
    r.receipt(OutcomeKind.DELIVERED, delivery)
    assert (r.state, r.row.cancelled) == (State.DELIVERED, False)  # type: ignore[union-attr]


# -- fire --------------------------------------------------------------------------------------------------------------


def dead() -> Reminder:
    r = Reminder().sending()
    r.outcome(OutcomeKind.REJECTED, settling.GiveUp("rejected"))
    return r


def test_what_was_given_up_is_sent_in_a_new_round() -> None:
    r = dead()
    first = r.delivery_id()
    step = r.act(FIRE, delivery_id=first, text="dead letter 0/1 was put back", actor="anna")
    assert (r.state, r.open.due, r.open.round) == (State.SCHEDULED, r.now, 1)
    assert (step.audit[-1].reason, step.audit[-1].detail) == ("fired", "dead letter 0/1 was put back")
    assert r.act(FIRE, delivery_id=first).result == "another_delivery"


def test_a_letter_of_a_reminder_that_has_gone_on_fires_nothing() -> None:
    r = dead()
    first = r.delivery_id()
    r.upsert(Definition(at=AT_NINE + SECOND * 3600, steps=EMAIL), 2)
    before = r.open
    assert r.act(FIRE, delivery_id=first).result == "another_delivery"
    assert r.open == before


def test_what_is_being_sent_is_not_fired_beside_it() -> None:
    r = Reminder().sending()
    assert r.act(FIRE).result == "being_sent"
    assert r.state is State.SENDING
    r = Reminder()
    r.upsert(Definition(at=AT_NINE, expires_at=AT_NINE + 1, steps=EMAIL), 1)
    r.now = AT_NINE + 1
    assert r.act(FIRE).result == "after_expiry"


# -- never two ---------------------------------------------------------------------------------------------------------

Step = Callable[[Reminder], object]


def _say(action: Action, back: int) -> Step:
    def say(r: Reminder) -> object:
        seen = r.__dict__.setdefault("doubts", [])
        if r.row is not None and r.state is State.MAYBE_SENT and r.delivery_id() not in seen:
            seen.append(r.delivery_id())
        return r.act(action, delivery_id=seen[-1 - back % len(seen)]) if seen else None

    return say


def _fire_due(r: Reminder) -> object:
    return r.fire() if r.row is not None and r.row.open is not None and r.state is State.SCHEDULED else None


def _answer(kind: OutcomeKind, verdict: settling.Verdict) -> Step:
    def answer(r: Reminder) -> object:
        return r.outcome(kind, verdict) if r.row is not None and r.row.open is not None else None

    return answer


STEPS: list[Step] = [
    *(_say(action, back) for action in (SENT, UNSENT) for back in (0, 1, 2)),
    _fire_due,
    _answer(OutcomeKind.MAYBE_SENT, settling.Doubt()),
    _answer(OutcomeKind.ACCEPTED, settling.Succeed()),
    lambda r: r.again(),
    lambda r: r.cancel(),
    lambda r: r.upsert(NINE),
]


@examples(150)
@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_each_doubt_is_resolved_once_however_often_it_is_said(steps: list[Step]) -> None:
    """A round is opened by nothing but a doubt's first ``not sent``; what was said to be sent is never asked for."""
    r = doubtful()
    asked: Counter[str] = Counter({r.delivery_id(): 1})
    resolved: dict[str, str] = {}
    for step in steps:
        audited = len(r.audit)
        at = r.delivery_id()
        step(r)
        for entry in r.audit[audited:]:
            if entry.reason in ("resolved_sent", "resolved_not_sent"):
                assert at not in resolved, "a doubt was resolved twice"
                resolved[at] = entry.reason
        if r.last.changed and len(r.audit) > audited:
            asked.update(ids.delivery_id(r.rid, e.occurrence, e.round, e.step) for e in r.asked())
    assert all(count == 1 for count in asked.values())
    unsent = sum(reason == "resolved_not_sent" for reason in resolved.values())
    assert len(asked) <= 1 + unsent
    assert r.row is not None
    assert r.row.rounds <= 1 + unsent + sum(e.action == "UPSERT" for e in r.audit)
