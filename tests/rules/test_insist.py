"""Until they answer: the chain again, the next person, a quorum; answers that come at every moment."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Action, Channel, MaybeSent, Missed, OutcomeKind, RequestKind, State, WaitFor
from schemas.quick import replace
from schemas.records import Definition, Policy, RowStep
from tables import settling, transition
from tables.transition import Letter
from tests.rules.life import AT_NINE, DAY, EMAIL, HOUR, MINUTE, NINE, SECOND, Reminder, examples

#: Twice again, ten minutes apart, then two others.
NAG = Policy(nag_every_s=600, nag_max=2)
CALL = replace(NAG, escalate_to=("ben", "cleo"))
ANNA = Definition("anna", at=AT_NINE, steps=EMAIL, policy=NAG)


def reminder(policy: Policy = NAG, **fields: Any) -> Reminder:
    return Reminder().sending(replace(ANNA, policy=policy, **fields))


def again(r: Reminder) -> None:
    """Let the round that has been waited for come, and be asked for."""
    r.fire()
    assert r.state is State.SCHEDULED, r.reason
    r.fire()
    assert r.state is State.SENDING


def whom(r: Reminder) -> str:
    (asked,) = r.asked()
    return asked.recipient_id


def test_the_chain_is_restarted_until_its_number_is_up() -> None:
    r = reminder()
    ids = {r.delivery_id()}
    for number in (2, 3):
        r.accepted()
        assert (r.state, r.reason) == (State.SENT, "awaits_answer")
        assert r.header().due_ms == r.now + 10 * MINUTE
        again(r)
        ids.add(r.delivery_id())
        assert (r.open.step, r.open.attempt, r.open.due_at) == (0, 1, r.now)
        assert r.audit[-2].detail == f"round {number} of 3"
    assert len(ids) == 3
    r.accepted()
    r.fire()
    assert (r.state, r.reason) == (State.SENT, "unanswered")
    assert r.row is not None
    assert r.row.open is None


def test_each_round_repeats_the_whole_chain() -> None:
    push = RowStep(Channel.PUSH, WaitFor.ACKNOWLEDGED, 120)
    sms = RowStep(Channel.SMS)
    r = reminder(steps=(push, sms))
    began = r.now
    r.accepted()
    r.fire()
    r.fire()
    assert r.asked()[0].channel is Channel.SMS
    r.accepted()
    assert r.header().due_ms == began + 10 * MINUTE, "counted from the round's first message"
    again(r)
    assert r.asked()[0].channel is Channel.PUSH


def test_then_others_are_asked_in_turn_by_their_own_preferences() -> None:
    r = reminder(CALL)
    asked = [whom(r)]
    for _ in range(4):
        r.accepted()
        again(r)
        asked.append(whom(r))
        (request,) = r.asked()
        own = request.recipient_id == "anna"
        assert request.channel is (Channel.EMAIL if own else Channel.ANY)
        assert request.addressed is own
    assert asked == ["anna", "anna", "anna", "ben", "cleo"]
    r.accepted()
    r.fire()
    assert (r.state, r.reason) == (State.SENT, "unanswered")


def test_without_a_pause_between_rounds_the_others_come_after_the_wait_for_a_receipt() -> None:
    r = reminder(Policy(escalate_to=("ben",)))
    r.accepted()
    assert r.header().due_ms == r.now + r.rules.receipt_wait_ms
    again(r)
    assert whom(r) == "ben"


def test_a_number_of_none_goes_on_until_expiry() -> None:
    r = reminder(Policy(nag_every_s=600), expires_at=AT_NINE + 45 * MINUTE)
    rounds = 1
    while True:
        r.accepted()
        r.fire()
        if r.state is not State.SCHEDULED:
            break
        r.fire()
        rounds += 1
    assert (rounds, r.now, r.state, r.reason) == (5, AT_NINE + 45 * MINUTE, State.SENT, "unanswered")


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answer_ends_it_whichever_round_it_answers() -> None:
    r = reminder()
    first = r.delivery_id()
    r.accepted()
    again(r)
    r.accepted()
    assert r.act(Action.ACKNOWLEDGE, delivery_id=first).result == "applied"
    assert r.state is State.ACKNOWLEDGED


def test_an_answer_to_an_earlier_step_of_the_chain_counts() -> None:
    d = Definition("anna", at=AT_NINE, steps=(RowStep(Channel.PUSH, WaitFor.ACKNOWLEDGED, 60), RowStep(Channel.SMS)))
    r = Reminder().sending(d)
    push = r.delivery_id()
    r.accepted()
    r.fire()
    r.fire()
    assert r.open.step == 1
    assert r.act(Action.ACKNOWLEDGE, delivery_id=push).result == "applied"
    assert [e.kind for e in r.last.emits if hasattr(e, "kind")] == [RequestKind.WITHDRAW]
    r.withdrawn()
    assert r.state is State.ACKNOWLEDGED


def test_an_answer_to_another_occurrence_does_not_count() -> None:
    r = reminder()
    assert r.act(Action.ACKNOWLEDGE, delivery_id=r.delivery_id().replace(":0:0", ":7:0")).result == "another_delivery"
    assert r.state is State.SENDING


def test_an_answer_stops_the_round_that_is_on_its_way_to_somebody_else() -> None:
    r = reminder(CALL)
    first = r.delivery_id()
    for _ in range(3):
        r.accepted()
        again(r)
    assert whom(r) == "ben"
    r.act(Action.ACKNOWLEDGE, delivery_id=first)
    (told,) = r.asked(RequestKind.WITHDRAW)
    assert told.recipient_id == "ben"
    r.withdrawn()
    assert r.state is State.ACKNOWLEDGED


def test_a_late_answer_corrects_the_end() -> None:
    r = reminder(Policy(nag_every_s=600, nag_max=1))
    first = r.delivery_id()
    r.accepted()
    again(r)
    r.accepted()
    r.fire()
    assert (r.state, r.reason) == (State.SENT, "unanswered")
    r.act(Action.ACKNOWLEDGE, delivery_id=first)
    assert r.state is State.ACKNOWLEDGED


def test_a_receiver_that_acknowledges_at_once_is_nagged_no_more() -> None:
    r = reminder()
    r.outcome(OutcomeKind.READ, settling.Succeed(), reason="acknowledged")
    assert r.state is State.ACKNOWLEDGED


def test_quorum_two() -> None:
    """The first answer leaves it open, a second of the same person too, another's closes it."""
    r = reminder(replace(CALL, quorum=2))
    anna = r.delivery_id()
    r.accepted()
    r.act(Action.ACKNOWLEDGE, delivery_id=anna)
    assert (r.state, r.reason) == (State.SCHEDULED, "escalated"), "whoever has answered is asked no more"
    r.fire()
    assert whom(r) == "ben"
    r.accepted()
    r.act(Action.ACKNOWLEDGE, delivery_id=anna)
    assert (r.state, r.reason) == (State.SENT, "answered_before")
    r.act(Action.ACKNOWLEDGE)
    assert r.state is State.ACKNOWLEDGED


def test_quorum_by_names_and_while_it_is_being_sent() -> None:
    r = reminder(replace(CALL, quorum=2))
    r.act(Action.ACKNOWLEDGE, recipient_id="dora")
    assert (r.state, r.reason) == (State.SENDING, "quorum_open"), "anna has not answered, and is still asked"
    r.act(Action.ACKNOWLEDGE, recipient_id="dora")
    assert (r.state, r.reason) == (State.SENDING, "answered_before")
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    r.withdrawn()
    assert r.state is State.ACKNOWLEDGED


def test_a_call_to_whoever_has_answered_is_withdrawn_and_the_next_one_asked() -> None:
    r = reminder(replace(CALL, quorum=2))
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    assert r.state is State.WITHDRAWING
    r.withdrawn()
    assert (r.state, r.reason) == (State.SCHEDULED, "escalated")
    r.fire()
    assert whom(r) == "ben"


def test_an_answer_ahead_of_its_time_counts_for_the_quorum() -> None:
    r = Reminder()
    r.upsert(replace(ANNA, policy=replace(CALL, quorum=2)), 1)
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    assert (r.state, r.reason) == (State.SCHEDULED, "quorum_open")
    r.fire()
    assert (r.state, r.reason, r.now) == (State.SCHEDULED, "escalated", AT_NINE)
    r.fire()
    assert whom(r) == "ben"


def test_where_nobody_is_left_to_be_asked_it_waits_for_anybodys_answer() -> None:
    r = reminder(replace(NAG, quorum=2))
    r.accepted()
    r.act(Action.ACKNOWLEDGE)
    assert (r.state, r.reason, r.header().due_ms) == (State.SENT, "quorum_open", AT_NINE + DAY)
    r.act(Action.ACKNOWLEDGE, actor="dora")
    assert r.state is State.ACKNOWLEDGED


def test_an_end_is_corrected_by_as_many_answers_as_it_wants() -> None:
    r = reminder(Policy(nag_every_s=600, nag_max=1, quorum=2))
    for _ in range(2):
        r.accepted()
        r.fire()
        if r.row is not None and r.row.open is not None:
            r.fire()
    assert r.reason == "unanswered"
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    assert (r.state, r.reason) == (State.SENT, "answered_before")
    r.act(Action.ACKNOWLEDGE, recipient_id="ben")
    assert r.state is State.ACKNOWLEDGED


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_chain_that_fails_is_tried_again_with_the_next_round_and_then_at_once_with_the_next_person() -> None:
    r = reminder(replace(CALL, nag_max=1))
    r.outcome(OutcomeKind.REJECTED, settling.GiveUp("provider"), reason="provider")
    assert (r.state, r.reason, r.header().due_ms) == (State.SCHEDULED, "nagged", r.now + 10 * MINUTE)
    r.fire()
    r.outcome(OutcomeKind.REJECTED, settling.GiveUp("provider"), reason="provider")
    assert (r.state, r.reason, r.header().due_ms) == (State.SCHEDULED, "escalated", r.now)
    for person in ("ben", "cleo"):
        r.fire()
        assert whom(r) == person
        r.outcome(OutcomeKind.UNDELIVERABLE, settling.GiveUp("no_contact"), reason="no_contact")
    assert r.state is State.DEAD_LETTER
    assert [e for e in r.last.emits if isinstance(e, Letter)] == [Letter("no_contact", 1)]


def test_a_later_round_that_fails_does_not_undo_the_first() -> None:
    r = reminder(Policy(nag_every_s=600, nag_max=1))
    r.accepted()
    again(r)
    r.outcome(OutcomeKind.REJECTED, settling.GiveUp("provider"), reason="provider")
    assert r.state is State.SENT
    assert not [e for e in r.last.emits if isinstance(e, Letter)]


def test_whoever_has_opted_out_is_passed_over() -> None:
    r = reminder(CALL)
    r.outcome(OutcomeKind.OPTED_OUT, settling.Skip(State.SKIPPED), reason="suppressed")
    r.fire()
    assert whom(r) == "ben"
    r = reminder()
    r.accepted()
    again(r)
    r.outcome(OutcomeKind.OPTED_OUT, settling.Skip(State.SKIPPED), reason="suppressed")
    assert (r.state, r.reason) == (State.SENT, "suppressed")


def test_one_who_cannot_be_written_to_in_time_is_passed_over_but_not_the_first() -> None:
    held = settling.Again(HOUR, "", spent=False, held=True)
    soon = settling.Again(MINUTE, "", spent=False, held=True)
    r = reminder(replace(CALL, nag_max=0))
    r.outcome(OutcomeKind.HELD, held, reason="quiet_hours")
    assert (r.state, r.reason) == (State.HELD, "quiet_hours"), "its own recipient is waited for"
    r.fire()
    r.accepted()
    again(r)
    assert whom(r) == "ben"
    for _ in range(10):
        r.outcome(OutcomeKind.HELD, soon, reason="unknown_recipient")
        assert (r.state, r.reason) == (State.HELD, "unknown_recipient")
        r.fire()
    r.outcome(OutcomeKind.HELD, soon, reason="unknown_recipient")
    assert (r.state, r.reason) == (State.SCHEDULED, "escalated")
    r.fire()
    assert whom(r) == "cleo"
    r.outcome(OutcomeKind.HELD, held, reason="quiet_hours")
    assert (r.state, r.reason) == (State.HELD, "quiet_hours"), "nobody is left"


def test_one_who_is_to_be_forgotten_is_passed_over() -> None:
    r = reminder(replace(CALL, nag_max=0))
    r.accepted()
    again(r)
    r.outcome(OutcomeKind.SKIPPED, settling.Skip(State.SKIPPED), reason="erased")
    r.fire()
    assert whom(r) == "cleo"
    r.outcome(OutcomeKind.SKIPPED, settling.Skip(State.SKIPPED), reason="erased")
    assert (r.state, r.reason) == (State.SENT, "erased")


def test_a_doubt_does_not_stand_in_the_way_of_the_next_round() -> None:
    r = reminder(replace(NAG, nag_max=1, maybe_sent=MaybeSent.HOLD))
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt(), reason="no_outcome")
    assert (r.state, r.header().due_ms) == (State.MAYBE_SENT, r.now + 10 * MINUTE)
    again(r)
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt(), reason="no_outcome")
    assert (r.state, r.header().due_ms) == (State.MAYBE_SENT, r.now + r.rules.review_ms)
    r.fire()
    assert (r.state, r.reason) == (State.MAYBE_SENT, "review"), "a person decides"
    r.act(Action.CONFIRM_NOT_SENT)
    assert r.state is State.EXPIRED, "and it is too late by now"


def test_a_doubt_that_is_settled_well_awaits_its_answer() -> None:
    r = reminder()
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt(), reason="no_outcome")
    due = r.header().due_ms
    r.receipt(OutcomeKind.DELIVERED)
    assert (r.state, r.reason, r.header().due_ms) == (State.SENT, "awaits_answer", due)


def test_news_of_a_message_do_not_put_off_the_next_round() -> None:
    r = reminder()
    r.accepted()
    due = r.header().due_ms
    r.now += MINUTE
    r.receipt(OutcomeKind.DELIVERED)
    assert (r.state, r.header().due_ms) == (State.SENT, due)
    assert not r.receipt(OutcomeKind.DELIVERED).changed
    for _ in range(2):
        again(r)
        r.accepted()
    r.fire()
    assert (r.state, r.reason) == (State.DELIVERED, "unanswered"), "the best of all rounds"


# -- what else happens to it -------------------------------------------------------------------------------------------


def test_a_cancel_ends_the_rounds() -> None:
    r = reminder()
    r.accepted()
    r.cancel(2)
    assert (r.state, r.reason) == (State.SENT, "cancel_too_late")
    r = reminder()
    r.accepted()
    again(r)
    r.cancel(2)
    r.withdrawn()
    assert (r.state, r.reason) == (State.SENT, "cancel_too_late"), "the first round was sent"


def test_a_pause_holds_the_next_round_back() -> None:
    r = reminder()
    r.accepted()
    r.act(Action.PAUSE)
    r.fire()
    assert r.state is State.PAUSED
    r.act(Action.RESUME)
    assert r.state is State.SCHEDULED
    r.fire()
    assert r.state is State.SENDING


def test_a_pause_that_came_too_late_does_not_end_the_rounds() -> None:
    r = reminder()
    r.act(Action.PAUSE)
    r.accepted()
    assert (r.state, r.reason) == (State.SENT, "awaits_answer")


def test_a_snooze_starts_anew_and_keeps_the_answers() -> None:
    r = reminder(replace(CALL, quorum=2))
    r.accepted()
    r.act(Action.ACKNOWLEDGE, recipient_id="dora")
    r.act(Action.SNOOZE, at=r.now + HOUR)
    r.fire()
    assert whom(r) == "anna"
    r.accepted()
    r.act(Action.ACKNOWLEDGE)
    assert r.state is State.ACKNOWLEDGED


def test_new_words_in_the_middle_of_a_round_keep_its_person_and_the_answers() -> None:
    r = reminder(replace(CALL, quorum=3))
    r.accepted()
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    r.fire()
    assert whom(r) == "ben"
    r.upsert(replace(ANNA, policy=replace(CALL, quorum=3), template="new"), 2)
    (told,) = r.asked(RequestKind.WITHDRAW)
    assert told.recipient_id == "ben"
    r.withdrawn()
    assert r.state is State.SCHEDULED
    r.fire()
    assert whom(r) == "ben"
    r.act(Action.ACKNOWLEDGE, recipient_id="ben")
    r.withdrawn()
    r.act(Action.ACKNOWLEDGE, recipient_id="cleo")
    r.withdrawn()
    assert r.state is State.ACKNOWLEDGED


def test_new_words_that_came_too_late_leave_the_rounds_as_they_are() -> None:
    r = reminder()
    r.upsert(replace(ANNA, template="new"), 2)
    r.accepted()
    assert (r.state, r.reason) == (State.SENT, "awaits_answer")
    again(r)
    assert r.asked()[0].template == "new"


def test_a_round_is_not_missed_because_the_first_one_is_long_past() -> None:
    r = reminder(replace(NAG, missed=Missed.SKIP))
    r.accepted()
    r.fire()
    r.fire(r.now + 2 * HOUR)
    assert r.state is State.SENDING


def test_a_series_ends_its_rounds_when_the_next_occurrence_comes() -> None:
    d = replace(ANNA, at=None, local="2026-12-01T09:00", zone="UTC", rrule="FREQ=MINUTELY;INTERVAL=15;COUNT=2")
    r = Reminder().sending(d)
    r.accepted()
    again(r)
    r.accepted()
    r.fire()
    assert r.row is not None
    assert [(c.state, c.reason) for c in r.row.closed] == [(State.SENT, "superseded")]
    assert r.state is State.SCHEDULED


# -- every order -------------------------------------------------------------------------------------------------------

MOVES = ("fire", "accepted", "failed", "doubt", "withdrawn", "late", "receipt", "ack", "ack first", "dora",
         "pause", "resume", "snooze", "words", "cancel", "wait")  # fmt: skip


def do(r: Reminder, move: str, first: str, seen: list[Any]) -> None:
    o = r.row.open if r.row is not None else None
    match move:
        case "fire" if o is not None:
            r.fire()
        case "accepted" if o is not None and o.asked_at:
            r.accepted()
        case "failed" if o is not None and o.asked_at:
            r.outcome(OutcomeKind.REJECTED, settling.GiveUp("provider"), reason="provider")
        case "doubt" if o is not None and o.asked_at:
            r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt(), reason="no_outcome")
        case "withdrawn" if o is not None and o.state is State.WITHDRAWING:
            r.withdrawn()
        case "late" if seen:
            r.accepted(of=seen[0])
        case "receipt":
            r.receipt(OutcomeKind.DELIVERED)
        case "ack":
            r.act(Action.ACKNOWLEDGE)
        case "ack first":
            r.act(Action.ACKNOWLEDGE, delivery_id=first)
        case "dora":
            r.act(Action.ACKNOWLEDGE, recipient_id="dora")
        case "pause":
            r.act(Action.PAUSE)
        case "resume":
            r.act(Action.RESUME)
        case "snooze":
            r.act(Action.SNOOZE, at=r.now + HOUR)
        case "words":
            version = r.row.version + 1 if r.row is not None else 1
            d = r.row.definition if r.row is not None else None
            r.upsert(replace(d or ANNA, template=f"t{version}"), version)
        case "cancel":
            r.cancel()
        case "wait":
            r.now += 7 * SECOND


@examples(400)
@given(
    st.sampled_from([NAG, CALL, replace(CALL, quorum=2), replace(CALL, quorum=3), Policy(escalate_to=("ben",))]),
    st.lists(st.sampled_from(MOVES), max_size=40),
)
def test_whatever_happens_each_delivery_is_one_persons_and_nobody_is_asked_after_the_end(
    policy: Policy, moves: list[str]
) -> None:
    r = reminder(policy)
    first = r.delivery_id()
    owner = {first: "anna"}
    seen: list[Any] = [r.open]
    asks = {(first, r.open.ask)}
    r.last = transition.unchanged(r.row, "")
    for move in moves:
        before = r.row
        do(r, move, first, seen)
        if r.row is not before and move != "fire":
            last = r.last
            assert not r.again().changed, "a replay"
            r.last = last
        assert r.row is not None
        for asked in r.asked():
            delivery = transition.delivery_id(r.rid, r.open)
            assert owner.setdefault(delivery, asked.recipient_id) == asked.recipient_id
            assert (delivery, asked.ask) not in asks
            asks.add((delivery, asked.ask))
            seen.append(r.open)
        r.last = transition.unchanged(r.row, "")
        if r.row.open is not None:
            assert min(t for t in (r.header().due_ms, r.header().deadline_ms) if t) > 0
            ins = r.row.open.insistence
            if ins is not None:
                assert len(set(ins.answered)) == len(ins.answered) < max(2, policy.quorum) or (
                    r.row.open.state is State.WITHDRAWING
                )
                assert len({t.recipient_id for t in ins.turns}) == len(ins.turns)
                assert ins.nags <= 2
        else:
            assert r.state in (*transition.REOPENABLE, State.SENT, State.DELIVERED, State.ACKNOWLEDGED,
                               State.DEAD_LETTER, State.MAYBE_SENT)  # fmt: skip
    for _ in range(60):
        if r.row is None or r.row.open is None or r.row.open.state is State.MAYBE_SENT:
            break
        if r.row.paused:
            r.act(Action.RESUME)
        match r.row.open.state:
            case State.SENDING:
                r.accepted()
            case State.WITHDRAWING:
                r.withdrawn()
            case _:
                r.fire()
    else:
        pytest.fail(f"it never ends: {r.row and r.row.open}")


def test_one_that_wants_no_answer_is_as_it_was() -> None:
    r = Reminder().sending(NINE)
    r.accepted()
    assert (r.state, r.row is not None and r.row.open) == (State.SENT, None)


def test_forgetting_ends_the_rounds_as_what_they_came_to_and_names_nobody() -> None:
    r = reminder(replace(CALL, quorum=2))
    r.accepted()
    r.act(Action.ACKNOWLEDGE, recipient_id="anna")
    assert r.state is State.SCHEDULED
    r.act(Action.ERASE)
    if r.state is State.WITHDRAWING:
        r.withdrawn()
    assert (r.state, r.reason) == (State.SENT, "erased")
    assert r.row is not None
    assert [c.insistence for c in r.row.closed] == [None]


def test_whoever_is_named_no_more_while_it_is_their_turn_is_not_asked() -> None:
    r = reminder(CALL)
    for _ in range(2):
        r.accepted()
        again(r)
    r.accepted()
    r.fire()
    assert r.open.insistence is not None
    assert r.open.insistence.turns[-1].recipient_id == "ben"
    r.upsert(replace(ANNA, policy=replace(CALL, escalate_to=("cleo",))), 2)
    assert r.state is State.SCHEDULED
    r.fire()
    assert [(e.to_state, e.reason) for e in r.audit[-2:]] == [
        (State.FAILED, "no_longer_named"),
        (State.SCHEDULED, "escalated"),
    ]
    r.fire()
    assert whom(r) == "cleo"


@pytest.mark.parametrize("asked", [False, True])
def test_where_nobody_else_is_named_it_ends_as_what_it_came_to(asked: bool) -> None:
    r = reminder(CALL)
    for _ in range(2):
        r.accepted()
        again(r)
    r.accepted()
    r.fire()
    if asked:
        r.fire()
        assert whom(r) == "ben"
    r.upsert(replace(ANNA, policy=NAG), 2)
    if asked:
        assert r.state is State.WITHDRAWING
        r.withdrawn()
    r.fire()
    assert (r.state, r.reason) == (State.SENT, "no_longer_named")
    assert r.row is not None
    assert r.row.open is None
    assert not r.asked()
