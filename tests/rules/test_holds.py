"""Holds: what a scope looks like, what it takes in, and when."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import checks
from schemas.names import AnswerKind, State
from schemas.records import ControlRecord, DeliveryAnswer
from tables import holding, holds, lifecycle, settling
from tables.holds import HOLD, RELEASE, Subject
from tables.transition import Arrival
from tests.rules.life import AT_NINE, DAY, HOUR, NINE, RULES, Reminder


@pytest.mark.parametrize(
    ("text", "scope"),
    [("channel:SMS", "channel:sms"), (" Tenant: Clinic ", "tenant:clinic"), ("everything", "*"), ("*", "*")],
)
def test_a_scope_is_compared_without_case(text: str, scope: str) -> None:
    assert holds.scope(text) == scope


@pytest.mark.parametrize("text", ["", "sms", "chanel:sms", "channel:", ":sms"])
def test_what_is_no_scope_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="a scope is channel:NAME, provider:NAME"):
        holds.scope(text)


def test_a_hold_begins_and_ends_by_itself() -> None:
    record = ControlRecord("channel:sms", HOLD, at=0, starts_at=100, ends_at=200)
    assert [holds.active(record, now) for now in (99, 100, 199, 200)] == [False, True, True, False]
    assert holds.active(ControlRecord("channel:sms", HOLD, at=0), 1 << 50)
    assert not holds.active(ControlRecord("channel:sms", RELEASE, at=0), 100)


def test_a_scope_takes_in_what_it_names_and_never_what_is_unknown() -> None:
    subject = Subject(channel="EMAIL", tenant="Clinic")
    assert holds.takes("channel:email", subject)
    assert holds.takes("tenant:clinic", subject)
    assert holds.takes("*", subject)
    assert not holds.takes("provider:", subject)
    assert not holds.takes("source:clinic", subject)


def test_of_several_holds_the_longest_counts() -> None:
    short = ControlRecord("channel:email", HOLD, at=0, ends_at=500)
    endless = ControlRecord("tenant:clinic", HOLD, at=0)
    subject = Subject(channel="EMAIL", tenant="clinic")
    assert holds.longest([short, endless], subject) is endless
    assert holds.longest([short], Subject(channel="SMS")) is None


def test_only_channels_lose_credit() -> None:
    assert [holds.is_channel(s) for s in ("*", "channel:sms", "tenant:x", "provider:smtp")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_next_change_is_when_a_hold_begins_or_ends() -> None:
    records = [
        ControlRecord("a", HOLD, at=0, starts_at=300, ends_at=900),
        ControlRecord("b", HOLD, at=0, ends_at=700),
        ControlRecord("c", RELEASE, at=0, ends_at=200),
    ]
    assert [holds.next_change(records, now) for now in (0, 300, 700, 900)] == [300, 700, 900, None]


def test_the_kinds_of_scopes_are_few() -> None:
    assert [holds.kind_of(holds.scope(s)) for s in ("tenant:Clinic", "everything")] == ["tenant", "everything"]
    assert set(holds.KINDS) == {*holds.Kind, "everything"}


# -- what recurs -------------------------------------------------------------------------------------------------------

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def maintenance(
    every: str = "weekly", local: str = "2026-10-18T02:30:00", lasts_ms: int = 2 * HOUR, **more: Any
) -> Any:
    starts = checks.instant_of(datetime.fromisoformat(local), BERLIN)
    fields = {"starts_at": starts, "every": every, "local": local, "zone": "Europe/Berlin", "lasts_ms": lasts_ms}
    return ControlRecord("channel:sms", HOLD, 0, **{**fields, **more})


@pytest.mark.parametrize(
    ("now", "begins", "ends"),
    [
        ("2026-10-01T00:00:00Z", "2026-10-18T00:30:00Z", "2026-10-18T02:30:00Z"),
        ("2026-10-18T02:29:59Z", "2026-10-18T00:30:00Z", "2026-10-18T02:30:00Z"),
        # The night on which the clocks go back shows 2:30 twice: the first one counts, and it lasts two hours.
        ("2026-10-18T02:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
        ("2026-10-25T01:40:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
        ("2026-10-25T02:30:00Z", "2026-11-01T01:30:00Z", "2026-11-01T03:30:00Z"),
        # The night on which they go forward shows no 2:30: it comes at 3:30.
        ("2027-03-22T00:00:00Z", "2027-03-28T01:30:00Z", "2027-03-28T03:30:00Z"),
        ("2027-03-28T03:30:00Z", "2027-04-04T00:30:00Z", "2027-04-04T02:30:00Z"),
    ],
)
def test_what_recurs_keeps_to_the_wall_clock(now: str, begins: str, ends: str) -> None:
    assert holds.window(maintenance(), ms(now)) == (ms(begins), ms(ends))


def test_what_recurs_stands_in_its_windows_alone_and_shows_the_present_one() -> None:
    record = maintenance("daily")
    first = record.starts_at
    assert holds.standing(record, first - 1) is None
    assert not holds.active(record, first + 2 * HOUR)
    shown = holds.standing(record, first + DAY + HOUR)
    assert shown is not None
    assert (shown.starts_at, shown.ends_at) == (first + DAY, first + DAY + 2 * HOUR)
    assert holds.next_change([record], first + HOUR) == first + 2 * HOUR
    assert holds.next_change([record], first + 2 * HOUR) == first + DAY


def test_what_recurs_may_end() -> None:
    record = maintenance("daily", ends_at=ms("2026-10-20T01:00:00Z"))
    assert holds.window(record, ms("2026-10-20T00:45:00Z")) == (ms("2026-10-20T00:30:00Z"), record.ends_at)
    assert holds.window(record, record.ends_at) is None
    early = maintenance("daily", ends_at=ms("2026-10-20T00:00:00Z"))
    assert holds.window(early, ms("2026-10-19T03:00:00Z")) is None


def test_what_recurs_in_a_way_that_is_not_known_is_held_all_along() -> None:
    for record in (maintenance("monthly"), maintenance(zone="Mars/Base"), replace(maintenance(), local="noon")):
        assert holds.active(record, record.starts_at + 3 * HOUR)
        assert not holds.active(record, record.starts_at - 1)


@given(
    st.sampled_from(["daily", "weekly"]),
    st.integers(1, 23 * 60),
    st.integers(0, 800 * 24 * 60),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_windows_come_one_after_the_other_and_none_is_left_out(every: str, minutes: int, later: int, zone: str) -> None:
    there = checks.zone(zone)
    assert there is not None
    local = datetime(2026, 1, 4, 2, 30)  # noqa: DTZ001 - a wall clock
    starts = checks.instant_of(local, there)
    record = maintenance(every, local.isoformat(), minutes * 60_000, zone=zone, starts_at=starts)
    now = starts + later * 60_000
    found = holds.window(record, now)
    assert found is not None
    assert found.ends > now
    assert found.ends - found.begins == minutes * 60_000
    # The same as counting from the first one.
    n = 0
    while checks.instant_of(local + timedelta(days=holds.EVERY[every] * n), there) + minutes * 60_000 <= now:
        n += 1
    assert found.begins == checks.instant_of(local + timedelta(days=holds.EVERY[every] * n), there)


# -- what a hold does to rows ------------------------------------------------------------------------------------------


def test_a_release_lets_go_what_its_hold_keeps_back_and_nothing_else() -> None:
    r = Reminder()
    r.upsert(NINE)
    scope = "tenant:clinic"
    assert not holding.let_go(r.rid, r.row, scope, AT_NINE, RULES).changed, "it waits for its own time"
    assert not holding.let_go(r.rid, None, scope, AT_NINE, RULES).changed
    held = holding.hold_back(r.rid, r.row, AT_NINE, AT_NINE, ControlRecord(scope, HOLD, at=0), RULES)
    assert held is not None
    assert held.row is not None
    assert held.row.open is not None
    later = AT_NINE + HOUR
    assert not holding.let_go(r.rid, held.row, "tenant:other", later, RULES).changed, "another hold keeps it back"
    due = held.row.open.due
    assert not holding.let_go(r.rid, held.row, scope, due, RULES).changed, "it is due by itself"
    gone = holding.let_go(r.rid, held.row, scope, later, RULES)
    assert gone.row is not None
    assert gone.row.open is not None
    assert (gone.result, gone.row.open.state, gone.row.open.due) == ("released", State.HELD, later)
    assert [entry.reason for entry in gone.audit] == ["released"]


def test_what_recurs_stands_beside_what_was_held_by_hand() -> None:
    assert holds.key("channel:sms", recurring=False) == "channel:sms"
    assert holds.key("channel:sms", recurring=True) == "channel:sms recurring"


def test_what_expires_while_it_is_held_names_the_hold() -> None:
    r = Reminder()
    r.upsert(NINE)
    assert r.row is not None
    deadline = r.row.open.deadline if r.row.open is not None else 0
    record = ControlRecord("tenant:clinic", HOLD, at=0, ends_at=deadline + HOUR)
    step = holding.hold_back(r.rid, r.row, AT_NINE, AT_NINE, record, RULES)
    assert step is not None
    step = lifecycle.fire(r.rid, step.row, deadline, deadline, RULES)
    assert step.row is not None
    # A unit that died may have asked for it: delivery answers first.
    assert step.row.open is not None
    assert step.row.open.reason == "hold:tenant:clinic"
    answer = DeliveryAnswer(
        AnswerKind.WITHDRAWN, r.rid, occurrence=step.row.open.occurrence, ask=step.row.open.ask, ended_at=deadline
    )
    ended = settling.withdrawn(r.rid, step.row, answer, Arrival(deadline + 1), RULES)
    assert ended.audit[-1].to_state is State.EXPIRED
    assert ended.audit[-1].reason == "hold:tenant:clinic"


def test_a_row_of_a_held_channel_that_expires_names_the_hold_too() -> None:
    r = Reminder()
    r.upsert(NINE)
    assert r.row is not None
    assert r.row.open is not None
    deadline = r.row.open.deadline
    step = lifecycle.fire(r.rid, r.row, deadline, deadline, RULES, "hold:channel:email")
    assert step.audit[-1].reason == "hold:channel:email"
    assert lifecycle.fire(r.rid, r.row, deadline, deadline, RULES).audit[-1].reason == "too_late"
