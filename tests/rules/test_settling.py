"""What delivery's answers make of a reminder."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Channel, OutcomeKind, RequestKind, State, WaitFor
from schemas.records import Closed, Definition, DeliveryRequest, Policy, ReminderStatus, RetryRecord, RowStep
from tables import receipts, transition
from tables.settling import Again, Doubt, GiveUp, NextStep, Skip, Succeed
from tables.transition import Letter, Retry
from tests.rules.life import AT_NINE, EMAIL, HOUR, MINUTE, NINE, RULES, SECOND, T0, Reminder, examples

TWO = replace(NINE, steps=(*EMAIL, RowStep(Channel.SMS, addressed=True)))
ANY = Definition("anna", at=T0 + 9 * HOUR)
WALL = Definition("anna", local="2026-12-01T09:00")
RESEND = Again(MINUTE, "1m", spent=True)


def waits_for(wait: WaitFor, within_s: int = 0, *more: RowStep) -> Definition:
    return replace(NINE, steps=(RowStep(Channel.EMAIL, wait, within_s, addressed=True), *more))


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_an_accepted_message_ends_the_reminder_and_tells_its_producer() -> None:
    r = Reminder().sending()
    r.now += 3 * SECOND
    r.accepted(provider="smtp", channel=Channel.EMAIL, started_at=AT_NINE + 2 * SECOND)
    assert r.state is State.SENT
    assert (r.audit[-1].provider, r.audit[-1].lateness_ms) == ("smtp", 2 * SECOND)
    assert [e.state for e in r.last.emits if isinstance(e, ReminderStatus)] == [State.SENT]


def test_a_message_is_paid_for_once_and_its_policy_says_how_much_it_may_cost() -> None:
    r = Reminder().sending(replace(NINE, policy=Policy(max_cost_micros=90)))
    assert [request.max_cost_micros for request in r.asked()] == [90]
    r.accepted(provider="twilio", channel=Channel.SMS, cost_micros=80)
    assert [entry.cost_micros for entry in r.last.audit if entry.cost_micros] == [80]
    late = Reminder().sending()
    late.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    late.accepted(cost_micros=80)
    assert late.state is State.SENT
    assert [entry.cost_micros for entry in late.audit if entry.cost_micros] == [80]


def test_a_temporary_failure_is_tried_again_and_the_record_of_it_is_public() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.DEFERRED, Again(2 * MINUTE, "1m", spent=True), reason="451")
    assert (r.state, r.open.attempt, r.open.due) == (State.RETRY, 2, r.now + 2 * MINUTE)
    (retry,) = [e for e in r.last.emits if isinstance(e, Retry)]
    assert (retry.tier, retry.record.attempt, retry.record.not_before) == ("1m", 2, r.now + 2 * MINUTE)
    assert [e.to_state for e in r.last.audit] == [State.FAILED, State.RETRY]
    r.fire()
    assert [(q.attempt, q.ask) for q in r.asked()] == [(2, 2)]


def test_what_never_reached_the_provider_consumes_no_attempt() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.DEFERRED, Again(MINUTE, "1m", spent=False), spent=False)
    assert (r.state, r.open.attempt) == (State.RETRY, 1)


def test_a_held_message_waits_and_fails_nothing() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.HELD, Again(HOUR, "", spent=False, held=True), reason="quiet_hours", spent=False)
    assert (r.state, r.open.attempt, r.open.due, r.reason) == (State.HELD, 1, r.now + HOUR, "quiet_hours")
    assert [e for e in r.last.emits if isinstance(e, Retry)] == []
    r.fire()
    assert [q.ask for q in r.asked()] == [2]


def test_a_permanent_failure_goes_on_to_the_next_channel_at_once() -> None:
    r = Reminder().sending(TWO)
    r.outcome(OutcomeKind.UNDELIVERABLE, NextStep(), reason="unknown_user")
    assert (r.state, r.open.step, r.open.attempt, r.open.channel) == (State.SCHEDULED, 1, 1, Channel.SMS)
    assert r.open.due == r.now
    assert [e.to_state for e in r.last.audit] == [State.FAILED, State.SCHEDULED]


def test_in_the_recipients_order_the_next_request_names_what_was_tried() -> None:
    r = Reminder().sending(ANY)
    r.outcome(OutcomeKind.UNDELIVERABLE, NextStep(), channel=Channel.SMS, more=True)
    r.fire()
    assert [(q.channel, q.tried, q.step) for q in r.asked()] == [(Channel.ANY, ("SMS",), 1)]
    r.outcome(OutcomeKind.UNDELIVERABLE, NextStep(), channel=Channel.EMAIL, more=True)
    r.fire()
    assert [q.tried for q in r.asked()] == [("SMS", "EMAIL")]


def test_when_nothing_is_left_the_reminder_is_a_dead_letter() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.REJECTED, GiveUp("too_big"), reason="too_big", code="552")
    assert (r.state, r.reason) == (State.DEAD_LETTER, "too_big")
    assert [e for e in r.last.emits if isinstance(e, Letter)] == [Letter("too_big", 1)]
    assert [e.to_state for e in r.last.audit] == [State.FAILED, State.DEAD_LETTER]
    r.upsert(NINE, 2)
    assert r.reason == "text_only", "the DLQ is redriven, a dead letter is not reopened"


@pytest.mark.parametrize("to", [State.SKIPPED, State.EXPIRED])
def test_what_must_not_be_sent_any_more_is_skipped(to: State) -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.SKIPPED, Skip(to), reason="why")
    assert (r.state, r.reason) == (to, "why")


def test_a_call_skipped_for_a_withdrawal_that_the_row_knows_nothing_of_is_asked_for_again() -> None:
    """New text, or a unit that died, withdrew the ask; nothing says that the reminder is not wanted."""
    r = Reminder().sending()
    r.outcome(OutcomeKind.SKIPPED, Skip(State.SKIPPED), reason="withdrawn", spent=False)
    assert (r.state, r.open.due, r.open.attempt) == (State.HELD, r.now, 1)
    r.fire()
    assert [q.ask for q in r.asked()] == [2]


def test_a_doubt_is_kept_as_a_state_and_reviewed() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason="no_outcome")
    assert (r.state, r.open.due) == (State.MAYBE_SENT, r.now + RULES.review_ms)
    assert (r.audit[-1].reason, r.audit[-1].due) == ("no_outcome", r.open.due)


def test_a_doubt_that_may_be_sent_again_is_the_next_attempt() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, RESEND)
    assert (r.state, r.open.attempt) == (State.RETRY, 2)


@pytest.mark.parametrize(
    ("outcome", "state"), [(OutcomeKind.ACCEPTED, State.SENT), (OutcomeKind.DELIVERED, State.DELIVERED)]
)
def test_a_late_outcome_corrects_a_doubt(outcome: OutcomeKind, state: State) -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    r.outcome(outcome, Succeed())
    assert (r.state, r.reason) == (state, "late_outcome")


def test_a_late_failure_does_not_settle_a_doubt() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    step = r.outcome(OutcomeKind.REJECTED, GiveUp("no"))
    assert (step.changed, step.row, r.state) == (False, r.row, State.MAYBE_SENT)


@pytest.mark.parametrize("fired", [False, True])
def test_a_late_outcome_of_an_earlier_attempt_stops_the_next_one(fired: bool) -> None:
    r = Reminder().sending()
    first = r.open
    r.outcome(OutcomeKind.MAYBE_SENT, RESEND)
    if fired:
        r.fire()
    asked = r.open.ask
    r.accepted(first)
    assert (r.state, r.reason) == (State.SENT, "late_outcome")
    assert [q.ask for q in r.asked(RequestKind.WITHDRAW)] == [asked + 1]


def test_a_late_outcome_of_an_earlier_attempt_answers_a_cancel() -> None:
    r = Reminder().sending()
    first = r.open
    r.outcome(OutcomeKind.MAYBE_SENT, RESEND)
    r.cancel(2)
    r.accepted(first)
    assert (r.state, r.reason) == (State.SENT, "cancel_too_late")


def test_a_late_outcome_of_what_has_ended_is_folded_in() -> None:
    r = Reminder().sending()
    first = r.open
    r.fire(r.open.deadline)
    r.withdrawn()
    assert r.state is State.EXPIRED
    r.accepted(first)
    assert (r.state, r.reason, r.audit[-1].occurrence) == (State.SENT, "late_outcome", first.occurrence)
    assert "EXPIRED became SENT" in r.audit[-1].detail


def test_answers_of_another_round_step_or_attempt_change_nothing() -> None:
    r = Reminder().sending()
    for other in (
        replace(r.open, round=1),
        replace(r.open, step=1),
        replace(r.open, attempt=2),
        replace(r.open, occurrence="@1/PT0S"),
    ):
        step = r.outcome(OutcomeKind.DEFERRED, RESEND, of=other)
        assert (step.changed, step.result) == (False, "stale")


def test_the_same_outcome_of_an_older_ask_counts_if_it_is_final_and_not_if_it_is_not() -> None:
    r = Reminder().sending()
    first = r.open
    r.fire()
    assert not r.outcome(OutcomeKind.HELD, Again(0, "", spent=False, held=True), of=first, spent=False).changed
    r.outcome(OutcomeKind.DEFERRED, RESEND, of=first)
    assert (r.state, r.open.attempt) == (State.RETRY, 2)


def test_a_second_copy_of_an_outcome_changes_nothing() -> None:
    r = Reminder().sending()
    first = r.open
    r.outcome(OutcomeKind.DEFERRED, RESEND)
    assert not r.outcome(OutcomeKind.DEFERRED, RESEND, of=first).changed


def test_an_outcome_for_no_row_changes_nothing() -> None:
    r = Reminder()
    of = Reminder().sending().open
    step = r.outcome(OutcomeKind.ACCEPTED, Succeed(), of=of)
    assert (step.changed, step.row, step.result) == (False, None, "gone")


# -- receipts ----------------------------------------------------------------------------------------------------------


def test_a_step_that_waits_for_its_receipt_holds_no_credit_meanwhile() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED, 600))
    r.accepted()
    assert (r.state, r.open.due, r.header().deadline_ms) == (State.SENT, r.now + 600 * SECOND, 0)
    r.receipt(OutcomeKind.DELIVERED)
    assert (r.state, r.reason) == (State.DELIVERED, "receipt")


def test_a_missing_receipt_starts_the_next_channel() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED, 600, RowStep(Channel.SMS, addressed=True)))
    r.accepted()
    r.fire()
    assert (r.state, r.open.step, r.open.channel, r.reason) == (State.SCHEDULED, 1, Channel.SMS, "receipt_missing")


def test_a_missing_receipt_of_the_last_step_ends_in_sent() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED))
    r.accepted()
    r.fire()
    assert r.now == AT_NINE + RULES.receipt_wait_ms
    assert (r.state, r.reason) == (State.SENT, "receipt_missing")


@pytest.mark.parametrize("wait", [WaitFor.ACCEPTED, WaitFor.READ, WaitFor.ACKNOWLEDGED])
def test_a_receiver_may_acknowledge_at_once(wait: WaitFor) -> None:
    r = Reminder().sending(waits_for(wait, 600, RowStep(Channel.SMS, addressed=True)))
    r.outcome(OutcomeKind.READ, Succeed(), reason="acknowledged")
    assert (r.state, r.reason) == (State.ACKNOWLEDGED, "acknowledged")


def test_a_step_ends_by_what_it_waits_for_and_by_more_but_not_by_less() -> None:
    for wait, news, ends in (
        (WaitFor.DELIVERED, OutcomeKind.READ, True),
        (WaitFor.READ, OutcomeKind.READ, True),
        (WaitFor.READ, OutcomeKind.DELIVERED, False),
        (WaitFor.ACKNOWLEDGED, OutcomeKind.READ, False),
    ):
        r = Reminder().sending(waits_for(wait))
        r.accepted()
        r.receipt(news)
        assert r.state is (State.DELIVERED if ends else State.SENT)
        straight = Reminder().sending(waits_for(wait))
        straight.outcome(news, Succeed())
        assert straight.state is r.state


def test_receipts_fold_into_what_has_ended_and_only_ever_raise_it() -> None:
    r = Reminder().sending()
    r.accepted()
    r.receipt(OutcomeKind.DELIVERED)
    assert (r.state, r.reason) == (State.DELIVERED, "receipt")
    assert [e.state for e in r.last.emits if isinstance(e, ReminderStatus)] == [State.DELIVERED]
    assert not r.receipt(OutcomeKind.DELIVERED).changed
    assert not r.receipt(OutcomeKind.REJECTED).changed


def closed(r: Reminder) -> Closed:
    """Return the occurrence that has ended last."""
    assert r.row is not None
    return r.row.closed[-1]


def test_a_failure_that_is_told_days_later_is_on_the_trail_and_told_to_producers() -> None:
    r = Reminder().sending()
    r.accepted()
    delivery = closed(r).delivery_id
    step = r.receipt(OutcomeKind.UNDELIVERABLE, delivery)
    assert [(e.state, e.reason) for e in step.emits if isinstance(e, ReminderStatus)] == [(State.SENT, "undelivered")]
    assert (r.state, r.reason) == (State.SENT, "undelivered")
    late = r.audit[-1]
    assert (late.to_state, late.reason, late.occurrence) == (State.SENT, "undelivered", closed(r).occurrence)
    for again in (OutcomeKind.REJECTED, OutcomeKind.ACCEPTED):
        assert not r.receipt(again, delivery).changed
    # Who has read it has got it, whatever came back.
    r.receipt(OutcomeKind.DELIVERED, delivery)
    assert (r.state, r.reason) == (State.DELIVERED, "receipt")
    assert not r.receipt(OutcomeKind.UNDELIVERABLE, delivery).changed


def test_news_of_a_failure_before_and_after_the_outcome_end_alike() -> None:
    before = Reminder().sending()
    of = before.open
    before.receipt(OutcomeKind.UNDELIVERABLE)
    before.accepted(of)
    after = Reminder().sending()
    after.accepted()
    after.receipt(OutcomeKind.UNDELIVERABLE, closed(after).delivery_id)
    assert (before.state, before.reason) == (after.state, after.reason) == (State.SENT, "undelivered")


@pytest.mark.parametrize("told", [receipts.DELAYED, receipts.COMPLAINED])
def test_what_changes_nothing_is_noted_once(told: str) -> None:
    waiting, ended, series = (
        Reminder().sending(waits_for(wait)) for wait in (WaitFor.DELIVERED, *[WaitFor.ACCEPTED] * 2)
    )
    delivery = waiting.delivery_id()
    for r in (waiting, ended, series):
        r.accepted()
    series.upsert(replace(NINE, at=T0 + 20 * HOUR), 2)
    for r in (waiting, ended, series):
        state, due = r.state, r.header().due_ms
        for _ in range(2):
            r.noted(told, delivery)
        assert (r.state, r.header().due_ms) == (state, due)
        assert [e.reason for e in r.audit].count(told) == 1
        assert r.audit[-1].to_state is state
    assert waiting.noted(told, "r1:somewhere%2Felse:0:0").result == "stale"


def test_a_receipt_folds_into_an_older_occurrence_and_leaves_the_open_one() -> None:
    r = Reminder().sending()
    r.accepted()
    old = r.delivery_id()
    r.upsert(replace(NINE, at=T0 + 20 * HOUR), 2)
    before = r.open
    r.receipt(OutcomeKind.DELIVERED, old)
    assert (r.open, r.audit[-1].to_state, r.audit[-1].due) == (before, State.SCHEDULED, before.due)
    assert r.row is not None
    assert r.row.closed[-1].state is State.DELIVERED


def test_a_receipt_may_come_before_the_call_has_returned() -> None:
    r = Reminder().sending()
    first = r.open
    r.receipt(OutcomeKind.DELIVERED)
    assert r.state is State.DELIVERED
    assert not r.accepted(first).changed


def test_a_receipt_settles_a_doubt_and_answers_a_cancel() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    r.receipt(OutcomeKind.DELIVERED)
    assert r.state is State.DELIVERED
    r = Reminder().sending()
    r.cancel(2)
    r.receipt(OutcomeKind.DELIVERED)
    assert (r.state, r.reason) == (State.DELIVERED, "cancel_too_late")


def test_the_last_four_occurrences_are_remembered() -> None:
    r = Reminder()
    for version in range(1, 7):
        r.upsert(replace(NINE, at=T0 + version * MINUTE), version)
        r.fire()
        r.accepted()
    assert r.row is not None
    assert [c.occurrence for c in r.row.closed] == [f"@{T0 + v * MINUTE}/PT0S" for v in (3, 4, 5, 6)]


# -- profiles ----------------------------------------------------------------------------------------------------------


def test_the_zone_schedules_what_waited_for_it() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.profile("Europe/Berlin")
    assert (r.state, r.reason, r.open.due) == (State.SCHEDULED, "zone_known", T0 + 8 * HOUR)
    assert r.asked(RequestKind.LINK) == [], "it is linked already"


def test_the_zone_may_come_too_late() -> None:
    r = Reminder()
    r.upsert(replace(WALL, expires_at=T0 + HOUR), 1)
    r.now = T0 + HOUR
    r.profile("Europe/Berlin")
    assert (r.state, r.reason) == (State.EXPIRED, "too_late")


def test_a_reminder_follows_its_recipient_into_another_zone() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.profile("Europe/Berlin")
    r.profile("America/New_York")
    assert (r.state, r.reason, r.open.due, r.open.round) == (State.SCHEDULED, "zone_changed", T0 + 14 * HOUR, 0)


def test_what_is_nearly_due_is_withdrawn_before_it_follows() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.profile("Europe/Berlin")
    r.now = T0 + 8 * HOUR - 10 * SECOND
    r.profile("America/New_York")
    assert r.state is State.WITHDRAWING
    r.withdrawn()
    assert (r.state, r.open.due) == (State.SCHEDULED, T0 + 14 * HOUR)


def test_what_has_been_asked_for_goes_on_as_it_was_begun() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.profile("Europe/Berlin")
    r.fire()
    before = r.open
    r.profile("America/New_York")
    assert (r.open, r.reason) == (before, "zone_changed")


def test_a_zone_of_its_own_is_kept() -> None:
    r = Reminder()
    r.upsert(replace(WALL, zone="Asia/Tokyo"), 1)
    assert not r.profile("Europe/Berlin").changed


def test_an_answer_to_an_older_link_is_ignored() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.upsert(replace(WALL, recipient_id="ben"), 2)
    assert not r.profile("Europe/Berlin", link=1).changed
    assert r.state is State.PENDING


def test_another_recipients_zone_is_another() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.profile("Europe/Berlin")
    r.upsert(replace(WALL, recipient_id="ben"), 2)
    assert r.state is State.PENDING


def test_whether_a_recipient_can_be_reached_is_told_once() -> None:
    r = Reminder()
    r.upsert(ANY, 1)
    r.profile("", reachable=False)
    assert (r.state, r.reason) == (State.SCHEDULED, "recipient_unreachable")
    assert not r.profile("", reachable=False).changed
    r.profile("", reachable=True)
    assert r.reason == "recipient_reachable"


# -- tier topics -------------------------------------------------------------------------------------------------------


def record_of(r: Reminder) -> RetryRecord:
    (retry,) = [e for e in r.last.emits if isinstance(e, Retry)]
    return retry.record


def test_a_tier_record_arms_a_row_that_lost_its_due() -> None:
    dead = Reminder().sending()
    lost = dead.row
    dead.outcome(OutcomeKind.DEFERRED, RESEND)
    record = record_of(dead)
    dead.row = lost  # the unit died after its emits
    dead.rearm(record)
    assert (dead.state, dead.reason, dead.open.attempt, dead.open.due) == (
        State.RETRY,
        "rearmed",
        2,
        record.not_before,
    )


def test_a_tier_record_leaves_alone_what_knows_it_and_what_went_on() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.DEFERRED, RESEND)
    record = record_of(r)
    assert r.rearm(record).result == "known"
    r.fire()
    assert r.rearm(record).result == "known"
    r.cancel(2)
    assert not r.rearm(replace(record, attempt=3)).changed
    r.withdrawn()
    assert r.rearm(record).result == "stale"


def test_another_round_is_not_armed_by_an_old_record() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.DEFERRED, RESEND)
    record = record_of(r)
    r.cancel(2)
    r.withdrawn()
    r.upsert(NINE, 3)
    assert r.rearm(record).result == "stale"


def test_the_header_says_what_store_and_timer_go_by() -> None:
    r = Reminder().sending()
    head = r.header()
    assert (head.due_ms, head.deadline_ms) == (r.open.due, r.open.deadline)
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    assert r.header().deadline_ms == 0
    assert r.row is not None
    assert len(transition.header(r.row, RULES)) == 20


# -- bad news ----------------------------------------------------------------------------------------------------------

SMS_NEXT = RowStep(Channel.SMS, addressed=True)


def test_news_that_it_failed_start_the_next_step_at_once() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED, 600, SMS_NEXT))
    r.accepted()
    r.receipt(OutcomeKind.UNDELIVERABLE)
    assert (r.state, r.open.step, r.open.channel, r.open.due) == (State.SCHEDULED, 1, Channel.SMS, r.now)
    assert [(e.to_state, e.reason) for e in r.last.audit] == [
        (State.FAILED, "undelivered"),
        (State.SCHEDULED, "fallback"),
    ]


def test_news_that_it_failed_end_the_last_step_with_a_letter_or_without_where_nobody_wanted_it() -> None:
    for news, state in ((OutcomeKind.UNDELIVERABLE, State.DEAD_LETTER), (OutcomeKind.OPTED_OUT, State.SKIPPED)):
        r = Reminder().sending(waits_for(WaitFor.DELIVERED))
        r.accepted()
        r.receipt(news)
        assert (r.state, r.reason) == (state, "undelivered")
        assert [e.reason for e in r.last.emits if isinstance(e, Letter)] == (
            ["undelivered"] if state is State.DEAD_LETTER else []
        )


def test_a_passing_failure_of_the_last_step_is_tried_again_for_as_long_as_there_are_attempts() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED))
    r.accepted()
    r.receipt(OutcomeKind.DEFERRED, again=RESEND)
    assert (r.state, r.open.attempt, r.open.due, r.reason) == (State.RETRY, 2, r.now + MINUTE, "undelivered")
    assert [e.record.attempt for e in r.last.emits if isinstance(e, Retry)] == [2]
    # A copy of the same news, or the same news before the outcome, is about the first attempt.
    assert not r.receipt(OutcomeKind.DEFERRED, attempt=1, again=RESEND).changed
    r.fire()
    r.accepted()
    r.receipt(OutcomeKind.DEFERRED, attempt=2)
    assert (r.state, r.reason) == (State.DEAD_LETTER, "undelivered")


def test_a_step_that_waits_for_no_more_than_being_taken_is_left_alone_by_bad_news() -> None:
    r = Reminder().sending(TWO)
    first = r.open
    r.receipt(OutcomeKind.UNDELIVERABLE)
    r.accepted(first)
    assert r.state is State.SENT


def test_news_of_an_earlier_attempt_say_nothing_of_the_one_under_way() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED, 600, SMS_NEXT))
    r.outcome(OutcomeKind.DEFERRED, RESEND)
    r.fire()
    r.accepted()
    assert not r.receipt(OutcomeKind.UNDELIVERABLE, attempt=1).changed
    assert r.state is State.SENT
    r.receipt(OutcomeKind.UNDELIVERABLE, attempt=2)
    assert r.open.step == 1


def test_a_late_receipt_stops_what_was_about_to_follow() -> None:
    r = Reminder().sending(waits_for(WaitFor.DELIVERED, 600, SMS_NEXT))
    mail = r.delivery_id()
    r.accepted()
    r.fire()
    r.fire()
    assert (r.state, r.open.step) == (State.SENDING, 1)
    r.receipt(OutcomeKind.DELIVERED, mail)
    assert (r.state, r.reason) == (State.DELIVERED, "receipt")
    assert [e.kind for e in r.last.emits if isinstance(e, DeliveryRequest)][:1] == [RequestKind.WITHDRAW]


@examples(200)
@given(
    st.sampled_from([WaitFor.ACCEPTED, WaitFor.DELIVERED, WaitFor.READ]),
    st.booleans(),
    st.sampled_from([OutcomeKind.ACCEPTED, OutcomeKind.MAYBE_SENT]),
    st.lists(
        st.sampled_from(
            [
                OutcomeKind.ACCEPTED,
                OutcomeKind.DELIVERED,
                OutcomeKind.READ,
                OutcomeKind.UNDELIVERABLE,
                OutcomeKind.DEFERRED,
            ]
        ),
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_news_and_outcome_lead_to_one_state_in_every_order(
    wait: WaitFor, more: bool, outcome: OutcomeKind, news: list[OutcomeKind], luck: random.Random
) -> None:
    if wait is WaitFor.READ and OutcomeKind.DELIVERED in news:
        # Who tells of a message that it was delivered tells no more that it failed.
        news = [one for one in news if one in transition.REACHED]

    # An attempt fails in one way.
    failures = [one for one in news if one not in transition.REACHED]
    news = [one for one in news if one in transition.REACHED or one is failures[0]]

    def lived(order: list[OutcomeKind | None]) -> tuple[State, int]:
        r = Reminder().sending(waits_for(wait, 600, *((SMS_NEXT,) if more else ())))
        first, delivery = r.open, r.delivery_id()
        for one in order:
            if one is not None:
                r.receipt(one, delivery, attempt=1, again=RESEND)
            elif outcome is OutcomeKind.ACCEPTED:
                r.accepted(first, again=RESEND)
            else:
                r.outcome(outcome, Doubt(), of=first, again=RESEND)
        return r.state, r.row.open.step if r.row is not None and r.row.open is not None else -1

    inputs: list[OutcomeKind | None] = [None, *news, *news[:1]]
    other = list(inputs)
    luck.shuffle(other)
    assert lived(other) == lived(inputs)
