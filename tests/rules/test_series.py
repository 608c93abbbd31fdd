"""The life of a recurring reminder: one occurrence after the other, each with its own end, none twice, none lost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import zones
from schemas.names import Action, Missed, OutcomeKind, Overlap, RequestKind, State, WaitFor, Withdrawal
from schemas.records import Definition, Policy, ReminderStatus, RowStep
from tables import due as index
from tables import schedule, settling
from tables.settling import Again, Doubt, GiveUp
from tests.rules.life import DAY, EMAIL, HOUR, MINUTE, RULES, SECOND, T0, Reminder, examples

SNOOZE, ACK, PAUSE, RESUME, FIRE = Action.SNOOZE, Action.ACKNOWLEDGE, Action.PAUSE, Action.RESUME, Action.FIRE
#: Every day at 09:00 in Berlin, 08:00 UTC in December.
DAILY = Definition(local="2026-12-01T09:00", zone="Europe/Berlin", rrule="FREQ=DAILY", steps=EMAIL)
EIGHT = T0 + 8 * HOUR
FOLLOWING = Definition("anna", local="2026-12-01T09:00", rrule="FREQ=DAILY")


def daily(day: int, offset: str = "PT0S") -> str:
    return f"2026-12-{day:02}T09:00/{offset}"


def with_policy(d: Definition = DAILY, **policy: object) -> Definition:
    return replace(d, policy=Policy(**policy))  # type: ignore[arg-type]


def at_work(d: Definition = DAILY, now: int = T0) -> Reminder:
    """Return a series whose first occurrence waits for its time."""
    r = Reminder(now=now)
    r.upsert(d, 1)
    return r


def send(r: Reminder) -> str:
    """Let the open occurrence come due and be sent; return it."""
    r.fire()
    sent = r.open.occurrence
    assert [q.occurrence for q in r.asked()] == [sent]
    r.accepted()
    return sent


def ends(r: Reminder) -> list[tuple[str, State, str]]:
    """Return the occurrences that have ended, with how."""
    terminal = {State.SENT, State.DELIVERED, State.SKIPPED, State.EXPIRED, State.CANCELLED, State.DEAD_LETTER}
    return [(e.occurrence, e.to_state, e.reason) for e in r.audit if e.to_state in terminal and e.occurrence]


def consistent(r: Reminder) -> None:
    """Check what holds of every row."""
    assert r.row is not None
    head = r.header()
    last = r.audit[-1]
    assert last.to_state is r.state, (last, r.row)
    assert (last.due or last.at + RULES.retention_ms) == head.due_ms
    if r.row.open is not None:
        assert 0 < head.due_ms < index.MAX_DUE_MS


# -- one after the other -----------------------------------------------------------------------------------------------


def test_when_one_is_sent_the_next_one_opens() -> None:
    r = at_work()
    assert (r.state, r.open.occurrence, r.open.due) == (State.SCHEDULED, daily(1), EIGHT)
    assert (r.row.next_start, r.row.next_due) == (daily(2), EIGHT + DAY)  # type: ignore[union-attr]
    assert [send(r) for _ in range(3)] == [daily(1), daily(2), daily(3)]
    assert (r.state, r.open.occurrence, r.open.due) == (State.SCHEDULED, daily(4), EIGHT + 3 * DAY)
    assert ends(r) == [(daily(n), State.SENT, "") for n in (1, 2, 3)]
    statuses = [e for e in r.last.emits if isinstance(e, ReminderStatus)]
    assert [(s.occurrence, s.state) for s in statuses] == [(daily(3), State.SENT)]
    consistent(r)


def test_a_series_that_began_long_ago_does_not_fire_its_past() -> None:
    r = at_work(replace(DAILY, local="2020-01-01T09:00"))
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, daily(1))
    assert len(r.audit) == 1


def test_what_came_due_while_its_event_waited_for_us_is_sent() -> None:
    r = Reminder(now=EIGHT + HOUR)
    r.upsert(DAILY, 1, at=EIGHT - MINUTE)
    assert (r.open.occurrence, r.open.due_at) == (daily(1), EIGHT)
    assert send(r) == daily(1)


def test_the_last_one_ends_the_reminder_and_unlinks_it() -> None:
    r = at_work(replace(FOLLOWING, zone="Europe/Berlin", rrule="FREQ=DAILY;COUNT=2"))
    assert [q.link for q in r.asked(RequestKind.LINK)] == [1]
    send(r)
    assert not r.asked(RequestKind.UNLINK)
    send(r)
    assert (r.state, r.row.open) == (State.SENT, None)  # type: ignore[union-attr]
    assert len(r.asked(RequestKind.UNLINK)) == 1
    consistent(r)
    r.now += RULES.retention_ms + 1
    assert r.fire().row is None


def test_a_series_without_anything_to_come_says_so() -> None:
    r = at_work(replace(DAILY, rrule="FREQ=DAILY;UNTIL=20261130"))
    assert (r.state, r.reason, r.row.open) == (State.EXPIRED, "nothing_to_come", None)  # type: ignore[union-attr]
    consistent(r)


def test_expires_at_ends_a_series_and_bounds_its_last_one() -> None:
    r = at_work(replace(DAILY, expires_at=EIGHT + DAY + HOUR))
    assert r.open.deadline == EIGHT + RULES.max_lateness_ms
    send(r)
    assert r.open.deadline == EIGHT + DAY + HOUR
    send(r)
    assert (r.state, r.row.open) == (State.SENT, None)  # type: ignore[union-attr]


def test_one_that_fails_for_good_does_not_end_the_series() -> None:
    r = at_work()
    r.fire()
    r.outcome(OutcomeKind.REJECTED, GiveUp("rejected"))
    assert ends(r) == [(daily(1), State.DEAD_LETTER, "rejected")]
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, daily(2))
    consistent(r)


def test_late_news_of_one_that_is_over_changes_it_alone() -> None:
    waits = replace(DAILY, steps=(RowStep(EMAIL[0].channel, WaitFor.ACCEPTED, addressed=True),))
    r = at_work(waits)
    send(r)
    before = r.open
    r.receipt(OutcomeKind.DELIVERED, r.row.closed[-1].delivery_id)  # type: ignore[union-attr]
    assert r.row is not None
    assert (r.row.closed[-1].state, r.open) == (State.DELIVERED, before)
    consistent(r)


# -- overlap -----------------------------------------------------------------------------------------------------------


def test_the_next_one_supersedes_one_that_is_being_tried() -> None:
    r = at_work()
    r.fire()
    r.outcome(OutcomeKind.DEFERRED, Again(3 * DAY, "1h", spent=True))
    r.fire(EIGHT + DAY)
    assert (r.state, r.open.withdrawal, r.reason) == (State.WITHDRAWING, Withdrawal.SUPERSEDE, "superseded")
    r.withdrawn()
    assert (daily(1), State.SKIPPED, "superseded") in ends(r)
    assert (r.state, r.open.occurrence, r.open.due) == (State.SCHEDULED, daily(2), EIGHT + DAY)
    assert send(r) == daily(2)
    consistent(r)


def test_one_whose_call_was_faster_than_the_next_is_sent_and_so_is_the_next() -> None:
    r = at_work()
    r.fire()
    r.fire(EIGHT + DAY)
    assert r.state is State.WITHDRAWING
    r.accepted()
    assert (daily(1), State.SENT, "") in ends(r)
    assert send(r) == daily(2)


def test_with_skip_the_next_one_is_left_out_and_the_open_one_goes_on() -> None:
    r = at_work(with_policy(overlap=Overlap.SKIP, max_lateness_s=5 * 86_400))
    r.fire()
    r.outcome(OutcomeKind.DEFERRED, Again(2 * DAY + HOUR, "1h", spent=True))
    retry = r.open
    r.fire(EIGHT + DAY)
    assert ends(r)[-1] == (daily(2), State.SKIPPED, "overlap")
    assert r.open == retry
    consistent(r)
    r.fire(EIGHT + 2 * DAY)
    assert ends(r)[-1] == (daily(3), State.SKIPPED, "overlap")
    r.fire()
    r.accepted()
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, daily(4))


def test_each_one_that_waits_for_an_answer_ends_when_the_next_comes() -> None:
    waits = (RowStep(EMAIL[0].channel, WaitFor.ACKNOWLEDGED, within_s=30 * 86_400, addressed=True),)
    r = at_work(replace(DAILY, steps=waits))
    for day in range(3):
        r.fire(EIGHT + day * DAY)
        if day:
            assert (r.reason, r.open.occurrence) == ("next", daily(day + 1))
            r.fire()
        r.accepted()
        assert r.state is State.SENT
    assert ends(r)[-4:] == [
        (daily(1), State.SENT, "superseded"),
        (daily(2), State.SENT, ""),
        (daily(2), State.SENT, "superseded"),
        (daily(3), State.SENT, ""),
    ]


@pytest.mark.parametrize(
    "policy", [{"overlap": Overlap.SUPERSEDE}, {"overlap": Overlap.SKIP}, {"missed": Missed.ALL}], ids=str
)
def test_a_doubt_stands_in_nobodys_way(policy: dict[str, object]) -> None:
    r = at_work(with_policy(**policy))
    r.fire()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    r.fire(EIGHT + DAY)
    assert r.row is not None
    assert [(c.occurrence, c.state) for c in r.row.closed] == [(daily(1), State.MAYBE_SENT)]
    assert send(r) == daily(2)


@pytest.mark.parametrize(
    ("said", "state"), [(Action.CONFIRM_SENT, State.SENT), (Action.CONFIRM_NOT_SENT, State.SKIPPED)]
)
@pytest.mark.parametrize("named", [True, False])
def test_a_doubt_that_the_series_has_left_behind_can_still_be_settled(said: Action, state: State, named: bool) -> None:
    r = at_work()
    r.fire()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
    r.fire(EIGHT + DAY)
    assert r.row is not None
    before = r.open
    doubt = r.row.closed[-1].delivery_id if named else ""
    assert r.act(said, delivery_id=doubt).result == "applied"
    assert (r.row.closed[-1].state, r.open) == (state, before)
    consistent(r)
    assert r.act(said, delivery_id=doubt).result == "not_in_doubt"


# -- missed ------------------------------------------------------------------------------------------------------------


def after_downtime(rule: Missed, now: int, d: Definition = DAILY, **policy: object) -> Reminder:
    r = at_work(with_policy(d, missed=rule, **policy))
    r.fire(now)
    if r.state is State.WITHDRAWING:
        r.withdrawn()
    return r


def test_of_what_was_missed_the_latest_is_sent() -> None:
    r = after_downtime(Missed.LATEST, EIGHT + 3 * DAY + HOUR)
    assert ends(r) == [(daily(n), State.SKIPPED, "missed") for n in (1, 2, 3)]
    assert (r.open.occurrence, r.open.due_at) == (daily(4), EIGHT + 3 * DAY)
    assert send(r) == daily(4)
    assert r.open.occurrence == daily(5)


def test_nothing_is_sent_that_is_later_than_it_may_be() -> None:
    r = after_downtime(Missed.LATEST, EIGHT + 2 * DAY + 2 * HOUR, max_lateness_s=3600)
    assert ends(r) == [
        (daily(1), State.SKIPPED, "missed"),
        (daily(2), State.SKIPPED, "missed"),
        (daily(3), State.EXPIRED, "too_late"),
    ]
    assert (r.open.occurrence, r.open.due) == (daily(4), EIGHT + 3 * DAY)


def test_with_skip_nothing_that_was_missed_is_sent() -> None:
    r = after_downtime(Missed.SKIP, EIGHT + DAY + HOUR)
    assert ends(r) == [(daily(1), State.SKIPPED, "missed"), (daily(2), State.SKIPPED, "missed")]
    assert (r.open.occurrence, r.open.due) == (daily(3), EIGHT + 2 * DAY)


def test_a_restart_of_seconds_misses_nothing() -> None:
    r = at_work(with_policy(missed=Missed.SKIP))
    r.fire(EIGHT + 16 * SECOND)
    assert [q.occurrence for q in r.asked()] == [daily(1)]


def test_with_skip_a_single_reminder_that_was_missed_is_not_sent_either() -> None:
    r = at_work(Definition(at=EIGHT, steps=EMAIL, policy=Policy(missed=Missed.SKIP)))
    r.fire(EIGHT + HOUR)
    r.withdrawn()
    assert (r.state, r.reason) == (State.SKIPPED, "missed")


def test_a_fallback_is_no_missed_occurrence() -> None:
    chain = (*EMAIL, RowStep(EMAIL[0].channel, addressed=True))
    r = at_work(replace(with_policy(missed=Missed.SKIP), steps=chain))
    r.fire()
    r.now += HOUR
    r.outcome(OutcomeKind.UNDELIVERABLE, settling.NextStep())
    r.fire()
    assert [(q.occurrence, q.step) for q in r.asked()] == [(daily(1), 1)]


def test_with_all_each_one_is_sent_after_the_other_whatever_the_overlap() -> None:
    d = with_policy(missed=Missed.ALL, overlap=Overlap.SKIP, max_lateness_s=3 * 86_400)
    r = at_work(d)
    r.fire(EIGHT + 2 * DAY + HOUR)
    assert [q.occurrence for q in r.asked()] == [daily(1)]
    r.accepted()
    assert [send(r), send(r)] == [daily(2), daily(3)]
    assert r.open.due == EIGHT + 3 * DAY


def test_thousands_of_missed_ones_are_recorded_and_do_not_stop_the_series() -> None:
    d = replace(DAILY, rrule="FREQ=MINUTELY")
    r = at_work(d)
    r.fire(EIGHT + 5 * DAY + 30 * SECOND)
    r.withdrawn()
    assert r.open.due_at == EIGHT + 5 * DAY
    missed = [e for e in r.audit if e.reason == "missed" and e.to_state is State.SKIPPED]
    assert 100 <= len(missed) <= 105
    assert "all others before 2026-12-06T09:00/PT0S" in missed[-1].detail
    send(r)
    assert r.open.due == EIGHT + 5 * DAY + MINUTE


def test_one_that_a_hold_kept_back_until_the_next_says_so() -> None:
    from schemas.records import ControlRecord
    from tables import holding

    r = at_work()
    held = holding.hold_back(r.rid, r.row, EIGHT, EIGHT, ControlRecord("tenant:clinic", "HOLD", T0), RULES)
    assert held is not None
    r.row = held.row
    r.fire(EIGHT + DAY)
    r.withdrawn()
    assert ends(r)[0] == (daily(1), State.SKIPPED, "hold:tenant:clinic")


# -- offsets -----------------------------------------------------------------------------------------------------------

VISIT = Definition(local="2026-12-03T09:00", zone="Europe/Berlin", before=("P1D", "PT2H", "PT0S"), steps=EMAIL)


def visit(offset: str) -> str:
    return f"2026-12-03T09:00/{offset}"


def test_each_offset_is_an_occurrence_of_its_own() -> None:
    r = at_work(VISIT)
    assert [send(r) for _ in range(3)] == [visit("P1D"), visit("PT2H"), visit("PT0S")]
    assert [e.due_at for e in r.audit if e.to_state is State.SENDING] == [
        EIGHT + DAY,
        EIGHT + 2 * DAY - 2 * HOUR,
        EIGHT + 2 * DAY,
    ]
    assert (r.state, r.row.open) == (State.SENT, None)  # type: ignore[union-attr]


def test_an_offset_already_past_when_the_event_arrives_is_skipped_and_says_so() -> None:
    r = at_work(VISIT, now=EIGHT + DAY + HOUR)
    assert ends(r) == [(visit("P1D"), State.SKIPPED, "offset_past")]
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, visit("PT2H"))
    consistent(r)


def test_where_all_offsets_are_past_and_the_start_is_to_come_the_last_fires_at_once() -> None:
    r = at_work(replace(VISIT, before=("P1D", "PT2H")), now=EIGHT + 2 * DAY - HOUR)
    assert ends(r) == [(visit("P1D"), State.SKIPPED, "offset_past")]
    assert (r.open.occurrence, r.open.due, r.open.due_at) == (visit("PT2H"), r.now, r.now)
    assert send(r) == visit("PT2H")
    assert r.row is not None
    assert (r.state, r.row.open) == (State.SENT, None)


def test_an_offset_added_later_does_not_repeat_one_that_was_sent() -> None:
    r = at_work(VISIT)
    send(r)
    r.upsert(replace(VISIT, before=("P1D", "PT4H", "PT0S")), 2)
    assert [send(r), send(r)] == [visit("PT4H"), visit("PT0S")]


def test_an_offset_of_a_single_reminder_counts() -> None:
    r = at_work(replace(VISIT, before=("PT1H",)))
    assert r.open.due == EIGHT + 2 * DAY - HOUR


def test_what_is_after_the_start_fires_after_it() -> None:
    r = at_work(replace(VISIT, before=("-PT1H",)), now=EIGHT + 2 * DAY + MINUTE)
    assert r.open.due == EIGHT + 2 * DAY + HOUR


# -- follow me ---------------------------------------------------------------------------------------------------------


def followed(zone: str = "America/New_York", now: int = T0) -> Reminder:
    r = at_work(FOLLOWING, now)
    assert r.state is State.PENDING
    r.profile(zone)
    return r


def test_a_series_follows_its_recipients_zone() -> None:
    r = followed()
    assert (r.state, r.open.occurrence, r.open.due) == (State.SCHEDULED, daily(1), T0 + 14 * HOUR)
    r.profile("Europe/Berlin")
    assert (r.open.occurrence, r.open.due, r.row.next_due) == (daily(1), EIGHT, EIGHT + DAY)  # type: ignore[union-attr]


def test_who_flies_west_after_it_was_sent_is_not_reminded_of_it_again() -> None:
    r = followed("Europe/Berlin")
    assert send(r) == daily(1)
    r.profile("America/New_York")
    assert (r.open.occurrence, r.open.due) == (daily(2), T0 + DAY + 14 * HOUR)


def test_who_flies_east_over_the_time_is_reminded_at_once() -> None:
    r = followed()
    send(r)
    r.now = T0 + DAY + 3 * HOUR
    r.profile("Asia/Tokyo")
    assert (r.open.occurrence, r.open.due, r.open.due_at) == (daily(2), r.now, r.now)
    assert send(r) == daily(2)
    assert (r.open.occurrence, r.open.due) == (daily(3), T0 + 2 * DAY)


def test_a_flight_while_it_is_being_sent_neither_repeats_nor_loses_any() -> None:
    r = followed("Pacific/Kiritimati", now=T0 - DAY)
    r.fire()
    assert (r.open.occurrence, r.open.due_at) == (daily(1), T0 - 5 * HOUR)
    r.profile("Pacific/Pago_Pago")
    r.accepted()
    assert (r.open.occurrence, r.open.due) == (daily(2), T0 + DAY + 20 * HOUR)
    r = followed("Pacific/Pago_Pago")
    r.fire()
    assert r.open.due_at == T0 + 20 * HOUR
    r.profile("Pacific/Kiritimati")
    r.accepted()
    assert [send(r), send(r)] == [daily(2), daily(3)]


def test_a_series_by_cron_waits_for_its_recipients_zone() -> None:
    r = at_work(Definition("anna", cron="0 9 * * *"))
    assert (r.state, r.open.occurrence) == (State.PENDING, "first/PT0S")
    r.profile("Europe/Berlin")
    assert (r.open.occurrence, r.open.due) == (daily(1), EIGHT)


# -- pause, edits, clocks ----------------------------------------------------------------------------------------------


def test_a_weekly_one_that_is_resumed_does_not_fire_the_past() -> None:
    r = at_work(replace(DAILY, rrule="FREQ=WEEKLY"))
    r.act(PAUSE)
    r.fire(EIGHT + 7 * DAY)
    assert ends(r) == [(daily(n), State.SKIPPED, "paused") for n in (1, 8)]
    assert (r.state, r.open.occurrence) == (State.PAUSED, daily(15))
    r.now = EIGHT + 8 * DAY
    r.act(RESUME)
    assert (r.state, r.open.occurrence, r.open.due) == (State.SCHEDULED, daily(15), EIGHT + 14 * DAY)
    consistent(r)


def test_a_resume_after_weeks_in_which_nobody_worked_does_not_fire_the_past() -> None:
    r = at_work(replace(DAILY, rrule="FREQ=WEEKLY"))
    r.act(PAUSE)
    r.now = EIGHT + 15 * DAY
    r.act(RESUME)
    assert ends(r) == [(daily(n), State.SKIPPED, "paused") for n in (1, 8, 15)]
    assert r.open.occurrence == daily(22)


def test_what_is_resumed_before_its_time_fires_at_its_time() -> None:
    r = at_work()
    r.act(PAUSE)
    r.act(RESUME)
    assert send(r) == daily(1)


def test_new_text_neither_refires_nor_moves_anything() -> None:
    r = at_work()
    send(r)
    before = r.open
    r.upsert(replace(DAILY, template="new"), 2)
    assert (r.open, r.reason) == (before, "text_only")
    assert send(r) == daily(2)
    assert r.asked() == []


def test_new_text_while_it_is_being_sent_goes_out_with_the_same_occurrence() -> None:
    r = at_work()
    r.fire()
    r.upsert(replace(DAILY, template="new"), 2)
    r.withdrawn()
    r.fire()
    assert [(q.occurrence, q.template, q.round) for q in r.asked()] == [(daily(1), "new", 1)]
    r.accepted()
    assert r.open.occurrence == daily(2)


def test_new_text_that_the_call_was_faster_than_is_for_the_next() -> None:
    r = at_work()
    r.fire()
    r.upsert(replace(DAILY, template="new"), 2)
    r.accepted()
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, daily(2))
    assert send(r) == daily(2)


def test_another_rule_counts_from_its_event_on() -> None:
    r = at_work()
    send(r)
    r.now = EIGHT + HOUR
    evening = replace(DAILY, local="2026-12-01T20:00")
    r.upsert(evening, 2)
    assert (r.open.occurrence, r.open.due) == ("2026-12-01T20:00/PT0S", EIGHT + 11 * HOUR)
    r.upsert(replace(DAILY, local="2020-01-01T07:00"), 3)
    assert r.open.occurrence == "2026-12-02T07:00/PT0S"


def test_another_rule_while_one_is_being_sent_that_it_names_as_well() -> None:
    r = at_work()
    r.fire()
    r.upsert(replace(DAILY, rrule="FREQ=HOURLY"), 2)
    r.withdrawn()
    assert (r.open.occurrence, r.open.round) == (daily(1), 1)
    assert send(r) == daily(1)
    assert r.open.due == EIGHT + HOUR


def test_another_rule_while_one_is_being_sent_that_it_no_longer_names() -> None:
    r = at_work()
    r.fire()
    r.upsert(replace(DAILY, local="2026-12-01T20:00"), 2)
    r.withdrawn()
    assert ends(r) == [(daily(1), State.SKIPPED, "replaced")]
    assert r.open.occurrence == "2026-12-01T20:00/PT0S"


def test_another_zone_fires_no_start_twice() -> None:
    r = at_work()
    send(r)
    r.upsert(replace(DAILY, zone="America/New_York"), 2)
    assert (r.open.occurrence, r.open.due) == (daily(2), T0 + DAY + 14 * HOUR)


def test_a_single_reminder_becomes_a_series_and_a_single_one_again() -> None:
    once = replace(DAILY, rrule="")
    r = at_work(once)
    r.upsert(DAILY, 2)
    assert r.row is not None
    assert (r.open.occurrence, r.row.next_start) == (daily(1), daily(2))
    r.upsert(once, 3)
    assert (r.open.occurrence, r.row.next_start, r.row.next_due) == (daily(1), "", 0)
    send(r)
    assert r.state is State.SENT


def test_a_cancelled_series_stays_cancelled_until_a_newer_version() -> None:
    r = at_work()
    send(r)
    r.cancel(2)
    assert (r.state, r.row.open) == (State.CANCELLED, None)  # type: ignore[union-attr]
    consistent(r)
    r.upsert(DAILY, 3)
    assert (r.state, r.reason, r.open.occurrence) == (State.SCHEDULED, "reopened", daily(2))


def test_a_cancel_that_is_too_late_for_one_ends_the_series_all_the_same() -> None:
    r = at_work()
    r.fire()
    r.cancel(2)
    r.accepted()
    assert (daily(1), State.SENT, "cancel_too_late") in ends(r)
    assert (r.state, r.row.open) == (State.CANCELLED, None)  # type: ignore[union-attr]
    consistent(r)


def test_a_clock_that_goes_back_does_not_double_and_one_that_goes_forward_does_not_lose() -> None:
    r = at_work(replace(DAILY, rrule="FREQ=MINUTELY;INTERVAL=30"))
    send(r)
    r.now = EIGHT - HOUR
    r.upsert(replace(DAILY, rrule="FREQ=MINUTELY;INTERVAL=30", template="new"), 2)
    assert (r.open.occurrence, r.open.due) == ("2026-12-01T09:30/PT0S", EIGHT + 30 * MINUTE)
    assert send(r) == "2026-12-01T09:30/PT0S"


def test_a_row_of_a_backup_asks_under_the_ids_that_delivery_knows() -> None:
    """So what was sent since is answered from its record and no call is made."""
    r = at_work()
    backup = r.row
    r.fire()
    first = r.asked()[0]
    r.accepted()
    r.row = backup
    r.fire(EIGHT + HOUR)
    again = r.asked()[0]
    assert (again.occurrence, again.round, again.step, again.attempt) == (
        first.occurrence,
        first.round,
        first.step,
        first.attempt,
    )


# -- one of them -------------------------------------------------------------------------------------------------------


def test_one_to_come_is_cancelled_by_its_start() -> None:
    r = at_work()
    before = r.open
    r.act(Action.CANCEL, occurrence="2026-12-02T09:00")
    assert (daily(2), State.CANCELLED, "cancelled") in ends(r)
    assert r.open == before
    consistent(r)
    assert [send(r), send(r)] == [daily(1), daily(3)]
    r.upsert(replace(DAILY, template="new"), 2)
    assert r.open.occurrence == daily(4)
    assert r.row is not None
    assert r.row.moves == (), "what has passed is forgotten"


def test_the_open_one_is_cancelled_alone_and_new_text_does_not_revive_it() -> None:
    r = at_work()
    r.act(Action.CANCEL, occurrence="2026-12-01T09:00")
    assert (r.state, r.open.occurrence) == (State.SCHEDULED, daily(2))
    r.upsert(replace(DAILY, template="new"), 2)
    r.upsert(replace(DAILY, rrule="FREQ=HOURLY;INTERVAL=12"), 3)
    assert r.open.occurrence == "2026-12-01T21:00/PT0S"


def test_one_is_cancelled_while_it_is_being_sent() -> None:
    r = at_work()
    r.fire()
    r.act(Action.CANCEL, occurrence="2026-12-01T09:00")
    assert (r.state, r.open.withdrawal) == (State.WITHDRAWING, Withdrawal.CANCEL_ONE)
    r.upsert(replace(DAILY, template="new"), 2)
    r.withdrawn()
    assert ends(r) == [(daily(1), State.CANCELLED, "cancelled")]
    assert r.open.occurrence == daily(2)


def test_one_that_was_sent_is_cancelled_too_late_and_the_series_goes_on() -> None:
    r = at_work()
    send(r)
    assert r.act(Action.CANCEL, occurrence="2026-12-01T09:00").audit[-1].reason == "cancel_too_late"
    assert r.open.occurrence == daily(2)
    r.fire()
    r.act(Action.CANCEL, occurrence="2026-12-02T09:00")
    r.accepted()
    assert ends(r)[-1] == (daily(2), State.SENT, "cancel_too_late")
    assert r.open.occurrence == daily(3)


def test_a_start_may_be_named_with_its_seconds() -> None:
    r = at_work()
    assert r.act(Action.CANCEL, occurrence="2026-12-02T09:00:00").result == "applied"
    assert r.act(SNOOZE, occurrence="2026-12-01T09:00:00", at=EIGHT + HOUR).result == "applied"


def test_a_start_that_the_rule_does_not_name_cannot_be_cancelled() -> None:
    r = at_work()
    assert r.act(Action.CANCEL, 7, occurrence="2026-12-02T10:00").result == "no_such_occurrence"
    assert r.row is not None
    assert r.row.version == 1


def test_a_start_is_cancelled_with_all_of_its_offsets() -> None:
    r = at_work(VISIT)
    send(r)
    r.act(Action.CANCEL, occurrence="2026-12-03T09:00")
    assert (r.row.open, r.state) == (None, State.CANCELLED)  # type: ignore[union-attr]
    consistent(r)


def test_one_to_come_is_moved_and_fires_once() -> None:
    r = at_work()
    r.act(SNOOZE, occurrence="2026-12-02T09:00", at=EIGHT + 2 * DAY + HOUR)
    assert [send(r), send(r), send(r)] == [daily(1), daily(3), daily(2)]
    assert r.open.occurrence == daily(4)


def test_one_to_come_that_is_moved_while_another_is_sent_is_not_what_comes_next() -> None:
    r = at_work()
    r.fire()
    assert (r.state, r.row.next_start) == (State.SENDING, daily(2))  # type: ignore[union-attr]
    r.act(SNOOZE, occurrence="2026-12-02T09:00", at=EIGHT + 2 * DAY + HOUR)
    assert (r.row.next_start, r.row.next_due) == (daily(3), EIGHT + 2 * DAY)  # type: ignore[union-attr]
    consistent(r)


def test_one_to_come_is_moved_before_the_open_one() -> None:
    r = at_work()
    r.act(SNOOZE, occurrence="2026-12-02T09:00", at=EIGHT - HOUR)
    assert (r.open.occurrence, r.open.due) == (daily(2), EIGHT - HOUR)
    assert [send(r), send(r), send(r)] == [daily(2), daily(1), daily(3)]


def test_the_open_one_is_moved_behind_the_next() -> None:
    r = at_work()
    r.act(SNOOZE, occurrence="2026-12-01T09:00", at=EIGHT + DAY + HOUR)
    assert [send(r), send(r), send(r)] == [daily(2), daily(1), daily(3)]


def test_a_snooze_means_the_one_that_was_seen() -> None:
    r = at_work()
    send(r)
    r.now += MINUTE
    r.act(SNOOZE, at=r.now + 10 * MINUTE)
    assert (r.state, r.open.occurrence, r.open.round) == (State.SCHEDULED, daily(1), 1)
    assert r.row is not None
    assert (r.row.next_start, r.row.next_due) == (daily(2), EIGHT + DAY)
    assert send(r) == daily(1)
    assert send(r) == daily(2)


def test_a_snooze_beyond_the_next_is_superseded_by_it() -> None:
    r = at_work()
    send(r)
    r.act(SNOOZE, at=EIGHT + DAY + HOUR)
    r.fire(EIGHT + DAY)
    if r.state is State.WITHDRAWING:
        r.withdrawn()
    assert ends(r)[-1] == (daily(1), State.SKIPPED, "superseded")
    assert send(r) == daily(2)


def test_an_acknowledgement_means_the_one_that_was_seen() -> None:
    r = at_work()
    send(r)
    before = r.open
    r.act(ACK)
    assert r.row is not None
    assert (r.row.closed[-1].state, r.open) == (State.ACKNOWLEDGED, before)
    consistent(r)
    r.act(ACK, occurrence="2026-12-02T09:00")
    assert (r.row.closed[-1].occurrence, r.open.occurrence) == (daily(2), daily(3))


def test_one_that_was_given_up_is_sent_again_while_the_next_waits() -> None:
    r = at_work()
    r.fire()
    r.outcome(OutcomeKind.REJECTED, GiveUp("rejected"))
    delivery = r.row.closed[-1].delivery_id  # type: ignore[union-attr]
    r.act(FIRE, delivery_id=delivery)
    assert (r.open.occurrence, r.open.round) == (daily(1), 1)
    assert send(r) == daily(1)
    assert send(r) == daily(2)


# -- new time zone data ------------------------------------------------------------------------------------------------

#: 2026-10-31T12:00:00Z, before British Columbia did not put its clocks back.
HALLOWEEN = 1_793_448_000_000
NINE_THERE = HALLOWEEN + DAY + 4 * HOUR
VANCOUVER = Definition(local="2026-11-01T09:00", zone="America/Vancouver", steps=EMAIL)
OLD, NEW = replace(RULES, tzdata="tz:2025b"), replace(RULES, tzdata="tz:2026b")


def placed_by_old_data(d: Definition, monkeypatch: pytest.MonkeyPatch) -> Reminder:
    """Return a reminder that was placed when Vancouver's clocks still went as those of Los Angeles."""
    r = Reminder(now=HALLOWEEN)
    r.rules = OLD
    with monkeypatch.context() as patched:
        zone = zones.zone("America/Los_Angeles")
        assert zone is not None
        patched.setitem(zones._ZONES, "America/Vancouver", zone)
        r.upsert(d, 1)
    r.rules = NEW
    return r


@pytest.mark.parametrize("rrule", ["", "FREQ=DAILY"])
def test_new_time_zone_data_move_what_waits(rrule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case O-03: stored with 2025b, asked again with 2026b."""
    r = placed_by_old_data(replace(VANCOUVER, rrule=rrule), monkeypatch)
    assert r.open.due == NINE_THERE + HOUR
    step = r.new_tzdata()
    assert (step.result, r.reason, r.open.due, r.open.due_at) == ("tz_moved", "tz_moved", NINE_THERE, NINE_THERE)
    assert r.open.occurrence == "2026-11-01T09:00/PT0S"
    consistent(r)
    assert not r.new_tzdata().changed, "once is enough"
    assert send(r) == "2026-11-01T09:00/PT0S"


def test_new_time_zone_data_do_not_repeat_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent at the old time, it is not to come by the new data."""
    r = placed_by_old_data(replace(VANCOUVER, rrule="FREQ=DAILY"), monkeypatch)
    assert send(r) == "2026-11-01T09:00/PT0S"
    r.new_tzdata()
    assert send(r) == "2026-11-02T09:00/PT0S"


def test_what_does_not_move_is_noted_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    r = placed_by_old_data(replace(VANCOUVER, zone="Europe/Berlin", rrule="FREQ=DAILY"), monkeypatch)
    before = r.open
    step = r.new_tzdata()
    assert (step.result, step.changed, step.audit, r.open) == ("placed", True, (), before)
    assert r.row is not None
    assert r.row.tzdata == "tz:2026b"


def test_a_time_that_a_person_gave_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    r = placed_by_old_data(VANCOUVER, monkeypatch)
    r.act(SNOOZE, at=NINE_THERE + 5 * HOUR)
    r.new_tzdata()
    assert r.open.due == NINE_THERE + 5 * HOUR


def test_a_fixed_instant_is_none_of_the_clocks() -> None:
    r = at_work(Definition(at=EIGHT, steps=EMAIL))
    assert r.row is not None
    assert r.row.tzdata == ""
    assert not r.new_tzdata().changed


# -- whatever comes ----------------------------------------------------------------------------------------------------

RULES_TRIED = st.sampled_from(
    [
        DAILY,
        replace(DAILY, rrule="FREQ=HOURLY;INTERVAL=6"),
        replace(DAILY, before=("P1D", "PT3H")),
        replace(DAILY, rrule="FREQ=DAILY;COUNT=5"),
        with_policy(overlap=Overlap.SKIP),
        with_policy(missed=Missed.SKIP),
        with_policy(missed=Missed.ALL),
        replace(DAILY, zone="America/New_York"),
        replace(FOLLOWING, steps=EMAIL),
        Definition(cron="30 */5 * * *", zone="Europe/Berlin", steps=EMAIL),
        replace(DAILY, rrule="", rdates=("2026-12-01T21:00", "2026-12-03T09:00")),
        replace(DAILY, local="2026-12-02", rrule="FREQ=DAILY;INTERVAL=2"),
        Definition(at=EIGHT + DAY, steps=EMAIL),
    ]
)
OPS = st.sampled_from(
    ["fire", "fire", "fire", "accepted", "accepted", "withdrawn", "withdrawn", "failed", "doubt", "gone", "text",
     "rule", "cancel", "one", "next", "snooze", "move", "ack", "pause", "resume", "fly", "fly", "wait",
     "hours", "days", "back"]
)  # fmt: skip
ZONES = ("Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Australia/Lord_Howe")


def step(r: Reminder, op: str, n: int, d: Definition, version: int, other: Definition) -> tuple[Definition, int]:
    """Do one thing; return the definition and the version afterwards."""
    o = r.row.open if r.row is not None else None
    start = o.occurrence.rpartition("/")[0] if o is not None else ""
    match op:
        case "fire" if r.row is not None:
            r.fire()
        case "accepted" if o is not None:
            r.accepted()
        case "withdrawn" if o is not None:
            r.withdrawn()
        case "failed" if o is not None:
            r.outcome(OutcomeKind.DEFERRED, Again((n + 1) * HOUR, "1h", spent=True))
        case "doubt" if o is not None:
            r.outcome(OutcomeKind.MAYBE_SENT, Doubt())
        case "gone" if o is not None:
            r.outcome(OutcomeKind.REJECTED, GiveUp("rejected"))
        case "text" | "rule":
            d = replace(d, template=f"v{version}") if op == "text" else other
            version += 1
            r.upsert(d, version)
        case "cancel":
            version += 1
            r.cancel(version)
        case "one" if start:
            r.act(Action.CANCEL, occurrence=start)
        case "next" if r.row is not None and r.row.next_start:
            r.act(Action.CANCEL, occurrence=r.row.next_start.rpartition("/")[0])
        case "snooze":
            r.act(SNOOZE, at=r.now + (n * n + 1) * HOUR)
        case "move" if r.row is not None and r.row.next_start:
            named = r.row.next_start if n % 2 else (o.occurrence if o is not None else "")
            r.act(SNOOZE, occurrence=named.rpartition("/")[0], at=r.now + (n * n + 1) * HOUR)
        case "ack":
            r.act(ACK)
        case "pause" | "resume":
            r.act(PAUSE if op == "pause" else RESUME)
        case "fly":
            r.profile(ZONES[n % len(ZONES)])
        case "wait":
            r.now += n * MINUTE
        case "hours":
            r.now += n * HOUR
        case "days":
            r.now += n * DAY
        case "back":
            r.now -= HOUR
        case _:
            pass
    return d, version


@examples(400)
@given(RULES_TRIED, st.lists(st.tuples(OPS, st.integers(0, 9), RULES_TRIED), max_size=30))
def test_whatever_comes_a_series_says_what_it_does_and_goes_on(
    d: Definition, steps: list[tuple[str, int, Definition]]
) -> None:
    r = at_work(d)
    version, asks, rounds = 1, 0, 0
    asked: dict[tuple[str, int, int, int], int] = {}
    for op, n, other in steps:
        before = r.row
        d, version = step(r, op, n, d, version, other)
        if r.row is None:
            return
        for q in r.asked() if r.row is not before else []:
            key = (q.occurrence, q.round, q.step, q.ask)
            assert key not in asked, f"{key} was asked for twice"
            asked[key] = q.attempt
        assert r.row.ask >= asks
        assert r.row.rounds >= rounds
        asks, rounds = r.row.ask, r.row.rounds
        consistent(r)
        if r.row is not before and r.last.audit:
            replayed = r.again()
            assert not replayed.changed or r.last.result in ("early", "stale") or op == "fire"
        for seq, entry in enumerate(r.last.audit[1:], start=1):
            assert entry.seq == r.last.audit[seq - 1].seq + 1
        if r.row.open is None:
            ended_or_cancelled(r)


def ended_or_cancelled(r: Reminder) -> None:
    """Check that a series of which nothing is open has nothing to come, or was cancelled."""
    assert r.row is not None
    row, d = r.row, r.row.definition
    assert d is not None
    if row.cancelled or not (d.rrule or d.cron or d.rdates or d.before) or d.expires_at:
        return
    zone = d.zone or row.zone
    coming = (
        [
            f
            for f in schedule.firings(d, zone, max(r.now, row.told_at) + 1)
            if f.start_id not in {m.start for m in row.moves}
        ]
        if "COUNT" in d.rrule or d.rdates or d.before
        else None
    )
    assert coming == [], f"{coming} were forgotten"


@examples(200)
@given(
    st.sampled_from([DAILY, replace(DAILY, rrule="FREQ=HOURLY;INTERVAL=6"), replace(FOLLOWING, steps=EMAIL)]),
    st.sampled_from([Missed.LATEST, Missed.SKIP, Missed.ALL]),
    st.lists(
        st.tuples(st.sampled_from(["text", "fly", "hours", "days", "none", "back", "retry"]), st.integers(0, 9)),
        max_size=25,
    ),
)
def test_every_start_has_its_end_once_and_none_is_sent_twice(
    d: Definition, missed: Missed, steps: list[tuple[str, int]]
) -> None:
    """Whatever edits of the text, flights, outages and clocks come between, the starts that ended are those of the
    rule, one after the other, without a gap."""
    r = at_work(with_policy(d, missed=missed, max_lateness_s=86_400 * 30))
    if r.state is State.PENDING:
        r.profile(ZONES[0])
    version = 1
    for op, n in steps:
        match op:
            case "text":
                version += 1
                r.upsert(replace(with_policy(d, missed=missed, max_lateness_s=86_400 * 30), template=str(n)), version)
            case "fly":
                r.profile(ZONES[n % len(ZONES)])
            case "hours":
                r.now += n * HOUR
            case "days":
                r.now += n * DAY
            case "back":
                r.now -= HOUR
            case _:
                pass
        r.fire()
        if r.state is State.WITHDRAWING:
            r.withdrawn()
        elif r.state is State.SENDING and op == "retry":
            r.outcome(OutcomeKind.DEFERRED, Again(MINUTE, "1m", spent=True))
        elif r.state is State.SENDING:
            r.accepted()
        consistent(r)
    over = [occurrence for occurrence, _, _ in ends(r)]
    assert len(set(over)) == len(over), "an occurrence ended twice"
    assert over == sorted(over), "occurrences ended out of their order"
    expected = [f.occurrence_id for f, _ in zip(schedule.firings(d, "Europe/Berlin", 0), over, strict=False)]
    assert over == expected, "an occurrence was lost"
