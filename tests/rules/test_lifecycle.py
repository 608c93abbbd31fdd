"""The life of a reminder under its producer's events and the passing of time."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Channel, OutcomeKind, RequestKind, State, WaitFor, Withdrawal
from schemas.records import Definition, DeliveryRequest, Policy, ReminderRow, ReminderStatus, RowStep
from tables import due as index
from tables import lifecycle, settling, transition
from tables.settling import Again, Doubt, GiveUp, NextStep, Skip, Succeed
from tests.rules.life import (
    AT_NINE,
    AT_TEN,
    DAY,
    EMAIL,
    HOUR,
    MINUTE,
    NINE,
    RULES,
    SECOND,
    T0,
    TEN,
    Reminder,
    examples,
    start,
)
from tests.rules.model import effective, rebuilt

ANNA = Definition("anna", at=T0 + 9 * HOUR)
BEN = Definition("ben", at=T0 + 9 * HOUR)
WALL = Definition("anna", local="2026-12-01T09:00")


# -- creation ----------------------------------------------------------------------------------------------------------


def test_a_new_reminder_is_scheduled_for_its_start() -> None:
    r = Reminder()
    step = r.upsert(NINE, 1)
    assert step.result == "created"
    assert (r.state, r.open.due, r.open.deadline) == (State.SCHEDULED, AT_NINE, AT_NINE + RULES.max_lateness_ms)
    assert [(e.seq, e.from_state, e.to_state, e.due) for e in step.audit] == [(1, State.NONE, State.SCHEDULED, AT_NINE)]


def test_a_deadline_is_the_producers_before_the_policys_before_the_installations() -> None:
    r = Reminder()
    r.upsert(replace(NINE, policy=Policy(max_lateness_s=60)), 1)
    assert r.open.deadline == AT_NINE + MINUTE
    r.upsert(replace(NINE, policy=Policy(max_lateness_s=60), expires_at=T0 + 9 * HOUR + 5), 2)
    assert r.open.deadline == T0 + 9 * HOUR + 5


@pytest.mark.parametrize(
    ("d", "wanted"),
    [
        (NINE, False),
        (replace(NINE, steps=(RowStep(Channel.SMS, WaitFor.DELIVERED),)), False),
        (replace(NINE, steps=(RowStep(Channel.SMS), RowStep(Channel.EMAIL, WaitFor.ACKNOWLEDGED, 60))), True),
        (replace(NINE, policy=Policy(nag_every_s=60, nag_max=2)), True),
        (replace(NINE, policy=Policy(max_attempts=2)), False),
    ],
)
def test_delivery_is_told_whether_somebody_is_asked_for_an_answer(d: Definition, wanted: bool) -> None:
    r = Reminder()
    r.upsert(d, 1)
    [asked] = [e for e in r.fire().emits if isinstance(e, DeliveryRequest) and e.kind is RequestKind.DELIVER]
    assert asked.wants_answer is wanted


def test_what_is_too_late_already_expires_at_once_and_says_so() -> None:
    r = Reminder(now=T0 + 3 * DAY)
    r.upsert(NINE, 1)
    assert (r.state, r.reason) == (State.EXPIRED, "too_late")
    assert [e.state for e in r.last.emits if isinstance(e, ReminderStatus)] == [State.EXPIRED]


def test_a_spread_moves_the_due_time_but_not_the_name_of_the_start() -> None:
    r = Reminder()
    r.upsert(replace(NINE, jitter_s=600), 1)
    assert 0 <= r.open.due_at - T0 - 9 * HOUR < 600 * SECOND
    assert r.open.occurrence == start(NINE)


def test_a_wall_clock_without_a_zone_waits_for_its_recipients() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    assert r.state is State.PENDING
    assert [q.follows_zone for q in r.asked(RequestKind.LINK)] == [True]
    latest = T0 + 21 * HOUR  # nine o'clock, twelve hours behind UTC
    assert r.open.deadline == latest + RULES.max_lateness_ms


def test_a_pending_reminder_asks_again_hourly_until_its_deadline() -> None:
    r = Reminder()
    r.upsert(WALL, 1)
    r.fire()
    assert r.now == T0 + HOUR
    assert (r.state, r.reason) == (State.PENDING, "no_zone_yet")
    assert [q.link for q in r.asked(RequestKind.LINK)] == [2]
    r.fire(r.open.deadline)
    assert r.state is State.EXPIRED


# -- updates -----------------------------------------------------------------------------------------------------------


def test_an_update_of_the_text_keeps_the_occurrence() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    before = r.open
    r.upsert(replace(NINE, template="other"), 2)
    assert (r.reason, r.open) == ("text_only", before)
    assert r.row is not None
    assert r.row.definition == replace(NINE, template="other")


def test_a_move_opens_the_other_start_in_a_new_round() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.upsert(TEN, 2)
    assert (r.reason, r.open.occurrence, r.open.round, r.open.due) == ("rescheduled", start(TEN), 1, AT_TEN)
    assert r.asked(RequestKind.WITHDRAW) == [], "nobody can have been asked yet"


def test_a_move_of_what_is_nearly_due_is_withdrawn_first() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.now = T0 + 9 * HOUR - 30 * SECOND
    r.upsert(TEN, 2)
    assert (r.state, r.open.withdrawal) == (State.WITHDRAWING, Withdrawal.REPLACE)
    r.withdrawn()
    assert (r.state, r.open.occurrence, r.open.round) == (State.SCHEDULED, start(TEN), 1)


def test_new_text_for_what_is_nearly_due_kills_an_ask_of_a_unit_that_died() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.now = T0 + 9 * HOUR - 30 * SECOND
    r.upsert(replace(NINE, template="other"), 2)
    assert [q.ask for q in r.asked(RequestKind.WITHDRAW)] == [1]
    r.fire()
    assert [(q.ask, q.round, q.template) for q in r.asked()] == [(2, 0, "other")]


@pytest.mark.parametrize("wait", [State.RETRY, State.HELD])
def test_new_text_leaves_a_retry_its_attempt_and_its_time(wait: State) -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.DEFERRED, Again(MINUTE, "1m", spent=wait is State.RETRY, held=wait is State.HELD))
    before = r.open
    r.upsert(replace(NINE, template="other"), 2)
    assert (r.state, r.open.attempt, r.open.due) == (wait, before.attempt, before.due)


def test_new_text_leaves_a_fallback_at_its_step() -> None:
    chain = (*EMAIL, RowStep(Channel.SMS, addressed=True))
    r = Reminder().sending(replace(NINE, steps=chain))
    r.outcome(OutcomeKind.UNDELIVERABLE, NextStep())
    r.upsert(replace(NINE, steps=chain, template="other"), 2)
    assert (r.state, r.open.step) == (State.SCHEDULED, 1)


def test_an_update_while_a_call_may_be_under_way_waits_for_the_answer() -> None:
    r = Reminder().sending()
    asked = r.open.ask
    r.upsert(TEN, 2)
    assert (r.state, r.open.withdrawal) == (State.WITHDRAWING, Withdrawal.REPLACE)
    assert [(q.ask, q.occurrence) for q in r.asked(RequestKind.WITHDRAW)] == [(asked + 1, start(NINE))]
    r.withdrawn()
    assert (r.state, r.open.occurrence, r.open.round) == (State.SCHEDULED, start(TEN), 1)


def test_an_update_that_the_call_was_faster_than() -> None:
    r = Reminder().sending()
    r.upsert(TEN, 2)
    r.accepted()
    assert r.row is not None
    assert [c.state for c in r.row.closed] == [State.SENT]
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, start(TEN))


def test_new_text_that_the_call_was_faster_than_sends_nothing_more() -> None:
    r = Reminder().sending()
    r.upsert(replace(NINE, template="other"), 2)
    r.accepted()
    assert (r.state, r.reason) == (State.SENT, "text_only")


def test_one_withdrawal_serves_every_later_event() -> None:
    r = Reminder().sending()
    r.upsert(TEN, 2)
    r.upsert(replace(TEN, template="other"), 3)
    assert r.asked(RequestKind.WITHDRAW) == []
    r.cancel(4)
    assert r.asked(RequestKind.WITHDRAW) == []
    r.withdrawn()
    assert (r.state, r.reason) == (State.CANCELLED, "cancelled")


def test_after_sent_the_same_start_changes_nothing_but_the_text_to_come() -> None:
    r = Reminder().sending()
    r.accepted()
    r.upsert(replace(NINE, template="other"), 2)
    assert (r.state, r.reason, r.asked()) == (State.SENT, "text_only", [])
    assert r.row is not None
    assert r.row.open is None


def test_after_sent_another_start_opens_a_new_occurrence() -> None:
    r = Reminder().sending()
    r.accepted()
    r.upsert(TEN, 2)
    assert (r.state, r.open.occurrence, r.open.round) == (State.SCHEDULED, start(TEN), 1)


def test_a_start_that_was_sent_is_not_sent_again_by_way_of_another() -> None:
    r = Reminder().sending()
    r.accepted()
    r.upsert(TEN, 2)
    r.upsert(replace(NINE, template="back"), 3)
    assert (r.state, r.reason) == (State.SKIPPED, "already_sent")
    r.upsert(TEN, 4)
    r.cancel(5)
    r.upsert(NINE, 6)
    assert r.reason == "text_only"
    assert r.row is not None
    assert r.row.open is None


def test_in_doubt_the_same_start_is_not_sent_again() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    r.upsert(replace(NINE, template="other"), 2)
    assert (r.state, r.reason) == (State.MAYBE_SENT, "text_only")
    r.upsert(TEN, 3)
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, start(TEN))
    r.upsert(NINE, 4)
    assert (r.state, r.reason) == (State.SKIPPED, "already_sent")


@pytest.mark.parametrize("ended", [State.CANCELLED, State.EXPIRED, State.SKIPPED])
def test_what_was_never_sent_is_reopened_in_a_new_round(ended: State) -> None:
    r = Reminder()
    if ended is State.CANCELLED:
        r.upsert(NINE, 1)
        r.cancel(2)
    elif ended is State.EXPIRED:
        r.upsert(replace(NINE, expires_at=T0 - 1), 1)
    else:
        r.sending()
        r.outcome(OutcomeKind.SKIPPED, Skip(State.SKIPPED), reason="no_consent")
    assert r.state is ended
    r.upsert(replace(NINE, expires_at=T0 + DAY), 3)
    assert (r.state, r.reason, r.open.round) == (State.SCHEDULED, "reopened", 1)


# -- recipients --------------------------------------------------------------------------------------------------------


def test_a_reminder_is_linked_when_accepted_and_unlinked_at_its_end() -> None:
    r = Reminder()
    r.upsert(ANNA, 1)
    assert [(q.recipient_id, q.link) for q in r.asked(RequestKind.LINK)] == [("anna", 1)]
    r.cancel(2)
    assert [(q.recipient_id, q.link) for q in r.asked(RequestKind.UNLINK)] == [("anna", 2)]


def test_another_recipient_is_linked_and_the_former_one_unlinked() -> None:
    r = Reminder()
    r.upsert(ANNA, 1)
    r.upsert(BEN, 2)
    assert [(q.recipient_id, q.link) for q in r.asked(RequestKind.UNLINK)] == [("anna", 2)]
    assert [(q.recipient_id, q.link) for q in r.asked(RequestKind.LINK)] == [("ben", 3)]
    assert r.open.round == 1


def test_another_recipient_is_asked_only_once_the_former_one_has_answered() -> None:
    r = Reminder().sending(ANNA)
    r.upsert(BEN, 2)
    assert [q.recipient_id for q in r.asked(RequestKind.UNLINK)] == ["anna"]
    assert [q.recipient_id for q in r.asked(RequestKind.WITHDRAW)] == ["anna"]
    r.fire()
    assert r.asked(RequestKind.WITHDRAW) == [], "the new recipient's partition must not answer for the former one's"
    r.withdrawn()
    assert [q.recipient_id for q in r.asked(RequestKind.LINK)] == ["ben"]
    r.fire()
    assert [(q.recipient_id, q.round) for q in r.asked()] == [("ben", 1)]


def test_another_recipient_is_reminded_of_what_the_former_one_was_sent() -> None:
    r = Reminder().sending(ANNA)
    r.upsert(BEN, 2)
    r.accepted()
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, start(BEN))
    r.fire()
    assert [q.recipient_id for q in r.asked()] == ["ben"]


# -- cancels -----------------------------------------------------------------------------------------------------------


def test_a_cancel_of_what_is_far_is_accepted_at_once() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.cancel(2)
    assert (r.state, r.reason, r.asked(RequestKind.WITHDRAW)) == (State.CANCELLED, "cancelled", [])


def test_a_cancel_of_what_is_near_withdraws_the_ask_that_may_have_left() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.now = T0 + 9 * HOUR - 59 * SECOND
    r.cancel(2)
    assert r.state is State.WITHDRAWING
    assert [q.ask for q in r.asked(RequestKind.WITHDRAW)] == [1]
    r.withdrawn()
    assert (r.state, r.reason) == (State.CANCELLED, "cancelled")


def test_a_cancel_while_sending_waits_for_deliverys_word() -> None:
    r = Reminder().sending()
    r.cancel(2)
    assert (r.state, r.open.withdrawal, r.open.ask) == (State.WITHDRAWING, Withdrawal.CANCEL, 2)
    r.withdrawn()
    assert (r.state, r.reason) == (State.CANCELLED, "cancelled")


@pytest.mark.parametrize(
    ("outcome", "became"),
    [
        (OutcomeKind.ACCEPTED, State.SENT),
        (OutcomeKind.DELIVERED, State.DELIVERED),
        (OutcomeKind.MAYBE_SENT, State.MAYBE_SENT),
    ],
)
def test_a_cancel_that_the_call_was_faster_than_says_what_became_of_it(outcome: OutcomeKind, became: State) -> None:
    r = Reminder().sending()
    r.cancel(2)
    r.outcome(outcome, Succeed())
    assert (r.state, r.reason) == (became, "cancel_too_late")


def test_a_failure_is_no_answer_to_a_withdrawal() -> None:
    r = Reminder().sending()
    r.cancel(2)
    step = r.outcome(OutcomeKind.REJECTED, GiveUp("rejected"))
    assert (step.changed, step.row, r.state) == (False, r.row, State.WITHDRAWING)
    r.withdrawn()
    assert r.state is State.CANCELLED


def test_a_withdrawal_is_repeated_under_its_number_so_that_a_slow_answer_counts() -> None:
    r = Reminder().sending()
    r.cancel(2)
    out = r.open
    r.fire()
    assert [q.ask for q in r.asked(RequestKind.WITHDRAW)] == [out.ask]
    r.withdrawn(out)
    assert r.state is State.CANCELLED


def test_a_withdrawal_of_another_delivery_is_no_answer() -> None:
    """A unit that died may have used the number for the step before."""
    r = Reminder().sending()
    first = r.open
    r.outcome(OutcomeKind.UNDELIVERABLE, NextStep())
    r.fire()
    r.cancel(2)
    assert not r.withdrawn(first, ask=r.open.ask).changed
    assert r.state is State.WITHDRAWING


def test_an_answer_to_an_older_withdrawal_is_no_answer() -> None:
    r = Reminder().sending()
    r.cancel(2)
    assert not r.withdrawn(ask=1).changed


def test_a_cancel_of_what_waits_for_its_receipt_is_too_late() -> None:
    waits = (RowStep(Channel.EMAIL, WaitFor.DELIVERED, addressed=True),)
    r = Reminder().sending(replace(NINE, steps=waits))
    r.accepted()
    assert r.state is State.SENT
    r.cancel(2)
    assert (r.state, r.reason) == (State.SENT, "cancel_too_late")
    assert r.row is not None
    assert r.row.open is None


def test_a_cancel_of_a_doubt_does_not_say_that_nothing_was_sent() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    r.cancel(2)
    assert (r.state, r.reason) == (State.MAYBE_SENT, "cancel_too_late")
    r.upsert(NINE, 3)
    assert r.reason == "text_only"


def test_a_cancel_of_what_was_sent_changes_nothing() -> None:
    r = Reminder().sending()
    r.accepted()
    r.cancel(2)
    assert (r.state, r.reason) == (State.SENT, "cancel_too_late")


def test_a_cancel_of_what_expired_is_a_cancel() -> None:
    r = Reminder(now=T0 + 3 * DAY)
    r.upsert(NINE, 1)
    r.cancel(2)
    assert (r.state, r.reason) == (State.CANCELLED, "cancelled")


def test_a_cancel_before_its_create_leaves_a_row_that_the_create_cannot_revive() -> None:
    r = Reminder()
    r.cancel(2)
    assert (r.state, r.reason) == (State.CANCELLED, "cancelled_before_create")
    assert r.upsert(NINE, 1).result == "stale_version"
    assert r.state is State.CANCELLED
    r.upsert(NINE, 3)
    assert (r.state, r.reason) == (State.SCHEDULED, "created")


# -- versions ----------------------------------------------------------------------------------------------------------


def test_the_same_event_id_is_a_duplicate_and_is_audited() -> None:
    r = Reminder()
    r.upsert(NINE, 1, event_id="e1")
    step = r.upsert(TEN, 2, event_id="e1")
    assert (step.result, r.open.occurrence) == ("duplicate", start(NINE))
    assert [(e.seq, e.to_state, e.reason, e.due) for e in step.audit] == [(2, State.SCHEDULED, "duplicate", AT_NINE)]


@pytest.mark.parametrize(("version", "result"), [(1, "stale_version"), (2, "duplicate")])
def test_a_version_that_is_not_newer_changes_nothing(version: int, result: str) -> None:
    r = Reminder()
    r.upsert(NINE, 2)
    assert r.upsert(TEN, version).result == result
    assert r.open.occurrence == start(NINE)


def test_a_cancel_wins_a_tie() -> None:
    for order in (0, 1):
        r = Reminder()
        if order:
            r.cancel(5)
        r.upsert(NINE, 5)
        if not order:
            r.cancel(5)
        assert r.state is State.CANCELLED


def test_without_numbers_the_time_of_the_record_orders() -> None:
    r = Reminder()
    r.upsert(NINE, at=T0 + 5)
    assert r.upsert(TEN, at=T0 + 4).result == "stale_version"
    assert r.cancel(at=T0 + 4).result == "stale_version"
    r.cancel(at=T0 + 6)
    assert r.state is State.CANCELLED
    assert r.upsert(TEN, at=T0 + 6).result == "stale_version", "a cancel is never revived by what is not newer"
    r.upsert(TEN, at=T0 + 7)
    assert (r.state, r.reason) == (State.SCHEDULED, "reopened")


def test_numbered_and_unnumbered_versions_do_not_mix() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    assert r.upsert(TEN, at=T0 + 5).result == "mixed_versions"
    assert r.audit[-1].remedy
    r = Reminder()
    r.upsert(NINE, at=T0)
    assert r.upsert(TEN, 1).result == "mixed_versions"


def test_a_cancel_without_a_number_is_ordered_by_time_and_keeps_the_number() -> None:
    r = Reminder()
    r.upsert(NINE, 7, at=T0 + 5)
    assert r.cancel(at=T0 + 4).result == "stale_version"
    r.cancel(at=T0 + 6)
    assert r.row is not None
    assert (r.state, r.row.version, r.row.numbered) == (State.CANCELLED, 7, True)
    r.upsert(NINE, 8, at=T0 + 7)
    assert r.state is State.SCHEDULED


def test_a_number_on_a_cancel_alone_does_not_make_a_reminder_numbered() -> None:
    r = Reminder()
    r.upsert(NINE, at=T0)
    r.cancel(3, at=T0 + 1)
    assert r.upsert(NINE, at=T0 + 2).result == "applied"
    assert r.state is State.SCHEDULED


# -- time --------------------------------------------------------------------------------------------------------------


def test_what_is_due_is_asked_for_under_a_lease() -> None:
    r = Reminder().sending()
    assert (r.state, r.open.due) == (State.SENDING, AT_NINE + RULES.lease_ms)
    assert [(q.ask, q.attempt, q.deadline) for q in r.asked()] == [(1, 1, r.open.deadline)]


def test_an_expired_lease_asks_again_for_the_same_attempt() -> None:
    r = Reminder().sending()
    first = r.asked()[0]
    r.fire()
    (second,) = r.asked()
    assert (second.ask, r.reason) == (first.ask + 1, "lease_expired")
    assert (second.round, second.step, second.attempt) == (first.round, first.step, first.attempt)


def test_a_command_that_is_early_late_or_doubled_changes_nothing() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    assert r.row is not None
    for due, now in ((AT_NINE, AT_NINE - 1), (AT_NINE - 5, AT_NINE), (T0, AT_NINE + 1)):
        step = lifecycle.fire(r.rid, r.row, due, now, RULES)
        assert (step.changed, step.row) == (False, r.row)
    r.fire()
    assert not lifecycle.fire(r.rid, r.row, AT_NINE, AT_NINE + 1, RULES).changed
    assert not lifecycle.fire(r.rid, None, AT_NINE, AT_NINE, RULES).changed


def test_at_its_deadline_what_may_have_been_asked_for_is_withdrawn_and_then_expires() -> None:
    for prepare in (
        lambda r: r.sending(),
        lambda r: r.upsert(NINE, 1),
        lambda r: (r.sending(), r.outcome(OutcomeKind.DEFERRED, Again(2 * DAY, "1h", spent=True))),
        lambda r: (r.sending(), r.outcome(OutcomeKind.HELD, Again(2 * DAY, "", spent=False, held=True))),
    ):
        r = Reminder()
        prepare(r)
        r.fire(r.open.deadline)
        assert (r.state, r.open.withdrawal) == (State.WITHDRAWING, Withdrawal.EXPIRE)
        r.withdrawn()
        assert (r.state, r.reason) == (State.EXPIRED, "too_late")


def test_what_cannot_have_been_asked_for_expires_at_once() -> None:
    r = Reminder()
    r.upsert(replace(NINE, expires_at=T0 + HOUR), 1)
    r.fire()
    assert r.now == T0 + HOUR
    assert (r.state, r.reason) == (State.EXPIRED, "too_late")


def test_an_expiry_that_the_call_was_faster_than_is_sent() -> None:
    r = Reminder().sending()
    r.fire(r.open.deadline)
    r.accepted()
    assert r.state is State.SENT


def test_a_doubt_is_listed_again_and_never_expires() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    assert r.header().deadline_ms == 0
    for _ in range(3):
        r.fire()
        assert (r.state, r.reason, r.asked()) == (State.MAYBE_SENT, "review", [])


def test_an_ended_row_is_purged_after_its_retention() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    r.cancel(2)
    assert r.header().due_ms == r.now + RULES.retention_ms
    assert r.row is not None
    assert not lifecycle.fire(r.rid, r.row, r.header().due_ms, r.header().due_ms - 1, RULES).changed
    step = r.fire()
    assert (step.row, step.changed, step.result) == (None, True, "purged")


# -- replays -----------------------------------------------------------------------------------------------------------


def test_a_replay_of_any_input_changes_nothing() -> None:
    r = Reminder()
    for act in (
        lambda: r.upsert(NINE, 1),
        lambda: r.cancel(2),
        lambda: r.upsert(NINE, 3),
        lambda: r.upsert(NINE, 3),
        lambda: (r.fire(), r.outcome(OutcomeKind.DEFERRED, Again(MINUTE, "1m", spent=True))),
        lambda: (r.fire(), r.accepted()),
        lambda: r.receipt(OutcomeKind.DELIVERED),
    ):
        act()
        step = r.again()
        assert (step.changed, step.row, step.emits, step.audit, step.result) == (False, r.row, (), (), "replay")


def test_a_unit_that_died_and_is_done_again_uses_the_same_ids() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    assert r.row is not None
    first = lifecycle.fire(r.rid, r.row, AT_NINE, AT_NINE, RULES)
    second = lifecycle.fire(r.rid, r.row, AT_NINE, AT_NINE + 5 * SECOND, RULES)
    ids = [[(e.occurrence, e.round, e.step, e.attempt, e.ask) for e in s.emits] for s in (first, second)]  # type: ignore[union-attr]
    assert ids[0] == ids[1]


# -- whatever comes, in whatever order ---------------------------------------------------------------------------------

STARTS = st.sampled_from([T0 - 3 * DAY, T0 + 10 * SECOND, T0 + 9 * HOUR, T0 + 10 * HOUR])
DEFINITIONS = st.builds(
    lambda at, recipient, steps, template: Definition(recipient, at=at, steps=steps, template=template),
    STARTS,
    st.sampled_from(["", "anna", "ben"]),
    st.sampled_from([(), EMAIL, (*EMAIL, RowStep(Channel.SMS, addressed=True))]),
    st.sampled_from(["", "other"]),
)
VERSIONS = st.lists(st.one_of(DEFINITIONS, st.none()), min_size=1, max_size=6)


def say(r: Reminder, versions: list[Definition | None], number: int) -> None:
    d = versions[number]
    if d is None:
        r.cancel(number + 1, event_id=f"e{number}")
    else:
        r.upsert(d, number + 1, event_id=f"e{number}")


def essence(r: Reminder) -> tuple[Any, ...]:
    """Return what two rows must agree on: state, version, definition, start, due. (Who was cancelled before any
    definition came has none.)"""
    assert r.row is not None
    if r.row.open is not None and r.state is State.WITHDRAWING:
        r.withdrawn()
    o = r.row.open
    if o is None:
        return (r.state, r.row.version, r.row.definition if r.state is not State.CANCELLED else None)
    return (r.state, r.row.version, r.row.definition, o.occurrence, o.due_at, o.due, o.deadline)


@examples(400)
@given(VERSIONS, st.data())
def test_any_order_of_the_same_numbered_events_ends_in_the_same_row(
    versions: list[Definition | None], data: st.DataObject
) -> None:
    numbers = list(range(len(versions)))
    order = data.draw(st.permutations(numbers + data.draw(st.lists(st.sampled_from(numbers), max_size=4))))
    straight, shuffled = Reminder(), Reminder()
    for number in numbers:
        say(straight, versions, number)
    for number in order:
        say(shuffled, versions, number)
    assert essence(shuffled) == essence(straight)
    newest = versions[-1]
    assert (newest is None) is (straight.state is State.CANCELLED)


@examples(400)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=8))
def test_a_cancel_is_never_revived_by_what_is_not_newer(events: list[tuple[bool, int]]) -> None:
    """Without numbers: what counts is the time of the record."""
    r = Reminder()
    cancelled = -1
    for cancels, at in events:
        before = r.state if r.row is not None else State.NONE
        if cancels:
            step = r.cancel(at=T0 + at)
            cancelled = at if step.result == "applied" else cancelled
        else:
            r.upsert(NINE, at=T0 + at)
            if before is State.CANCELLED and at <= cancelled:
                assert r.state is State.CANCELLED


OUTCOMES: list[OutcomeKind] = [k for k in OutcomeKind if k not in (OutcomeKind.NONE, OutcomeKind.UNKNOWN)]
FAILED: list[settling.Verdict] = [
    Again(MINUTE, "1m", spent=True),
    Again(MINUTE, "1m", spent=False),
    NextStep(),
    GiveUp("dead"),
]
VERDICTS: dict[OutcomeKind, list[settling.Verdict]] = dict.fromkeys(OUTCOMES, FAILED) | {
    OutcomeKind.ACCEPTED: [Succeed()],
    OutcomeKind.DELIVERED: [Succeed()],
    OutcomeKind.READ: [Succeed()],
    OutcomeKind.HELD: [Again(SECOND, "", spent=False, held=True)],
    OutcomeKind.SKIPPED: [Skip(State.SKIPPED), Skip(State.EXPIRED)],
    OutcomeKind.MAYBE_SENT: [Doubt(), Again(MINUTE, "1m", spent=True)],
}
WAITS = st.sampled_from(list(WaitFor)[1:])
CHAINS = st.lists(st.builds(lambda w: RowStep(Channel.EMAIL, w, 60, True), WAITS), max_size=3).map(tuple)
LIVE = st.builds(
    lambda d, local, steps: (
        replace(d, at=None, local="2026-12-01T09:00", recipient_id="anna", steps=steps)
        if local
        else replace(d, steps=steps)
    ),
    DEFINITIONS,
    st.booleans(),
    CHAINS,
)
INPUTS = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), LIVE, st.integers(1, 9)),
        st.tuples(st.just("cancel"), st.none(), st.integers(1, 9)),
        st.tuples(st.just("fire"), st.none(), st.integers(0, 2)),
        st.tuples(st.just("outcome"), st.sampled_from(OUTCOMES), st.integers(0, 40)),
        st.tuples(st.just("withdrawn"), st.none(), st.integers(-1, 1)),
        st.tuples(st.just("profile"), st.sampled_from(["Europe/Berlin", "Asia/Tokyo", ""]), st.integers(0, 1)),
        st.tuples(st.just("receipt"), st.sampled_from([OutcomeKind.DELIVERED, OutcomeKind.READ]), st.just(0)),
        st.tuples(st.just("wait"), st.none(), st.sampled_from([SECOND, MINUTE, HOUR, 10 * HOUR])),
    ),
    min_size=1,
    max_size=40,
)


def act(r: Reminder, seen: list[Any], what: str, value: Any, number: int) -> None:
    match what:
        case "upsert":
            r.upsert(value, number)
        case "cancel":
            r.cancel(number)
        case "wait":
            r.now += number
        case "fire" if r.row is not None:
            # At its time, or too early, or with a due that is no longer the row's.
            r.fire() if number else lifecycle.fire(r.rid, r.row, r.now, r.now, RULES)
        case "outcome" | "withdrawn" | "receipt" if seen:
            of = seen[number % len(seen)]
            if what == "outcome":
                r.outcome(value, VERDICTS[value][number % len(VERDICTS[value])], of=of, spent=number % 3 > 0)
            elif what == "withdrawn":
                r.withdrawn(ask=of.ask + number, of=of)
            else:
                r.receipt(value, transition.delivery_id(r.rid, of))
        case "profile":
            r.profile(value, reachable=bool(number))


def check(r: Reminder, before: ReminderRow | None) -> None:
    step = r.last
    if not step.changed:
        assert step.row is before
        assert (step.emits, step.audit) == ((), ())
        return
    if step.row is None:
        assert step.result == "purged"
        r.audit.clear()
        return
    row, old = step.row, before or ReminderRow()
    assert step.audit, "every change is in the audit"
    assert [e.seq for e in step.audit] == list(range(old.seq + 1, row.seq + 1))
    for one, two in pairwise([(None, transition.state(old)), *((e.from_state, e.to_state) for e in step.audit)]):
        assert one[1] is two[0], "each entry goes on from where the last one ended"
    assert (row.ask, row.rounds, row.link) >= (old.ask, old.rounds, old.link)
    assert row.ask >= old.ask
    assert row.rounds >= old.rounds
    head = r.header()
    assert rebuilt(effective(r.audit), RULES) == (transition.state(row), head.due_ms)
    assert 0 < head.due_ms < index.MAX_DUE_MS
    assert head.deadline_ms < index.MAX_DUE_MS
    assert list(index.entries(b"r1", transition.header(row, RULES)))
    assert index.STATES[head.state] is transition.state(row)
    if row.open is not None:
        assert row.open.state not in (State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD_LETTER, State.DELIVERED)
        assert row.open.ask <= row.ask
        assert row.open.round <= row.rounds


@examples(400)
@given(INPUTS)
def test_whatever_comes_the_audit_tells_it_and_the_row_goes_on(inputs: list[tuple[str, Any, int]]) -> None:
    r = Reminder()
    seen: list[Any] = []
    ids: dict[int, tuple[str, int]] = {}
    for what, value, number in inputs:
        before = r.row
        r.last = transition.unchanged(before, "")
        act(r, seen, what, value, number)
        check(r, before)
        for q in r.asked():
            delivery = transition.delivery_id(r.rid, r.open)
            assert q.ask not in ids, "no ask has its number twice"
            ids[q.ask] = (delivery, q.attempt)
        if r.row is not None and r.row.open is not None:
            seen.append(r.row.open)
        if r.row is None:
            ids.clear()
        elif r.last.changed and what not in ("fire", "wait"):
            replay = r.again()
            assert (replay.changed, replay.row) == (False, r.row)
