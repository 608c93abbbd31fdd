"""What intake refuses of a reminder's times, with its reason, and what that costs."""

import time
from datetime import UTC, date, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from schemas.checks import check_reminder, zone_names
from schemas.names import Action
from schemas.records import Definition, ReminderEvent
from tables import calendars, crontab, recurrence, schedule
from tables.admission import times_fault
from tables.calendars import Calendar, DayOff
from tables.schedule import TimeRules

NOW = 1_796_000_000_000
RULES = TimeRules(
    calendars={
        "bank": Calendar("bank", "DE-BY"),
        "gulf": Calendar("gulf", "", DayOff.AFTER, frozenset({4, 5})),
        "never": Calendar("never", weekend=frozenset(range(7))),
    }
)


def event(local: str = "2026-12-01T09:00", **more: object) -> ReminderEvent:
    return ReminderEvent("r/1", "anna", local, "Europe/Berlin", "x", **more)  # type: ignore[arg-type]


FAULTS = [
    # Rules.
    (event(rrule="FREQ=DALY"), "bad_rrule", "rrule", "DALY", "one of YEARLY"),
    (event(rrule="FREQ=DAILY;UNTIL=31.12.2026"), "bad_rrule", "rrule", "UNTIL=31.12.2026", "20261231"),
    (event("2026-12-01", rrule="FREQ=HOURLY"), "bad_rrule", "rrule", "FREQ=HOURLY", "local with a time"),
    (event(rrule="FREQ=WEEKLY;BYDAY=MO;COUNT=20000"), "bad_rrule", "rrule", "COUNT=20000", "UNTIL instead"),
    (event(rrule="X" * 2001), "too_large", "rrule", "2001 characters", "at most 2000"),
    (event("", at=NOW, rrule="FREQ=DAILY"), "several_starts", "rrule", "FREQ=DAILY", "send local"),
    (event("", cron="0 9 * * *", rrule="FREQ=DAILY"), "several_starts", "rrule", "FREQ=DAILY", "cron stands alone"),
    # Never.
    (event(rrule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "never_fires", "rrule", None, "names none"),
    (event(rrule="FREQ=MONTHLY;INTERVAL=12;BYMONTH=2"), "never_fires", "rrule", None, "names none"),
    (event(rrule="FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31"), "never_fires", "rrule", None, "names none"),
    (event(rrule="FREQ=MINUTELY;INTERVAL=60;BYMINUTE=5"), "never_fires", "rrule", None, "names none"),
    (event(rrule="FREQ=DAILY;UNTIL=20261130"), "never_fires", "rrule", None, "names none"),
    (event(rrule="FREQ=DAILY;COUNT=1", exclude=("2026-12-01T09:00",)), "never_fires", "rrule", None, "excluded"),
    (event(exclude=("2026-12-01",)), "never_fires", "local", "2026-12-01T09:00", "excluded"),
    (event("2026-12-25T09:00", calendar="bank"), "never_fires", "local", "2026-12-25T09:00", "a day off"),
    (event(rrule="FREQ=DAILY;COUNT=50", calendar="never"), "never_fires", "rrule", None, "a day off"),
    (event(rrule="FREQ=MINUTELY", calendar="never"), "never_fires", "rrule", None, "a day off"),
    (event("2026-12-05T09:00", rrule="FREQ=WEEKLY", calendar="bank"), "never_fires", "rrule", None, "a day off"),
    (event("", cron="* * * * SAT", calendar="bank"), "never_fires", "cron", None, "a day off"),
    # Too often.
    (event(rrule="FREQ=SECONDLY"), "fires_too_often", "rrule", "FREQ=SECONDLY", "1440 times a day"),
    (event(rrule="FREQ=SECONDLY;INTERVAL=59"), "fires_too_often", "rrule", None, "1440"),
    (event(rrule="FREQ=MINUTELY;BYSECOND=0,30"), "fires_too_often", "rrule", None, "1440"),
    (event(rrule="FREQ=SECONDLY;BYMONTHDAY=1"), "fires_too_often", "rrule", None, "1440"),
    (event(rrule="FREQ=MINUTELY", before=("PT1H", "PT0S")), "fires_too_often", "rrule", None, "offsets counted"),
    (
        event(rrule=f"FREQ=DAILY;BYHOUR=9,10;BYMINUTE={','.join(map(str, range(60)))};BYSECOND=0,10,20,30,40,50",
              before=("PT1H", "PT0S", "P1D")),
        "fires_too_often", "rrule", None, "offsets counted",
    ),
    (event(rrule="FREQ=MINUTELY;INTERVAL=14", calendar="gulf"), "fires_too_often", "rrule", None, "96 times a day"),
    (event("", cron="*/14 * * * *", calendar="gulf"), "fires_too_often", "cron", None, "that moves days"),
    (event("", cron="* * * * *", before=("PT1M", "PT0S")), "fires_too_often", "cron", "* * * * *", "1440"),
    (
        event(rrule="FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))) + ";BYMINUTE=" + ",".join(map(str, range(60)))
              + ";BYSECOND=0,1"),
        "fires_too_often", "rrule", None, "1440",
    ),
    # Cron.
    (event("", cron="0 9 * *"), "bad_cron", "cron", "0 9 * *", "this has 4"),
    (event("", cron="0 0 9 * * *"), "bad_cron", "cron", "0 0 9 * * *", "this has 6"),
    (event("", cron="@daily"), "bad_cron", "cron", "@daily", "0 0 * * *"),
    (event("", cron="0 25 * * *"), "bad_cron", "cron", "0 25 * * *", "the hour is none"),
    (event("", cron="0 0 30 2 *"), "bad_cron", "cron", "0 0 30 2 *", "or never comes"),
    # Dates.
    (event(exclude=("2026-12-32",)), "impossible_date", "exclude[0]", "2026-12-32", "calendar has"),
    (event(rrule="FREQ=DAILY", exclude=("2026-12-02", "x")), "unreadable_time", "exclude[1]", "x", "exclude[1] as"),
    (event(rdates=("2026-12-03T09:00Z",)), "unreadable_time", "rdates[0]", "2026-12-03T09:00Z", "without an offset"),
    (event(rdates=("2026-12-03",)), "unreadable_time", "rdates[0]", "2026-12-03", "as local has one"),
    (event("2026-12-01", rdates=("2026-12-03T09:00",)), "unreadable_time", "rdates[0]", None, "as local is one"),
    (event("", at=NOW, rdates=("2026-12-03T09:00",)), "several_starts", "rdates", None, "no wall clock"),
    (event(rdates=("2026-12-03T09:00",) * 1001), "too_large", "rdates", "1001 entries", "at most 1000"),
    # Offsets.
    (event(before=("1 day",)), "bad_duration", "before[0]", "1 day", "P1D"),
    (event(before=("PT0S", "P1M")), "bad_duration", "before[1]", "P1M", "not months"),
    (event(rdates=("9999-12-31T23:59",)), "implausible_time", "rdates[0]", "9999-12-31T23:59", "1800 to 9900"),
    (event(rdates=("0001-01-01T00:00",)), "implausible_time", "rdates[0]", "0001-01-01T00:00", "1800 to 9900"),
    (event(before=("P",)), "bad_duration", "before[0]", "P", "P1D"),
    (event(before=("PT",)), "bad_duration", "before[0]", "PT", "P1D"),
    (event(before=("P2Y",)), "bad_duration", "before[0]", "P2Y", "not months"),
    (event(before=("P400D",)), "bad_duration", "before[0]", "P400D", "at most 366 days"),
    (event(before=("PT1H",) * 21), "too_large", "before", "21 entries", "at most 20"),
    # Calendars.
    (event(calendar="bnak"), "unknown_calendar", "calendar", "bnak", "bank, gulf, never"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "reason", "field", "value", "remedy"), FAULTS, ids=[f"{n}-{f[1]}" for n, f in enumerate(FAULTS)]
)
def test_a_fault_of_the_times(event: ReminderEvent, reason: str, field: str, value: str | None, remedy: str) -> None:
    fault = times_fault(event, RULES)
    assert fault is not None
    assert (fault.reason.value, fault.field) == (reason, field)
    assert value is None or fault.value == value
    assert remedy in fault.remedy


@pytest.mark.parametrize(
    "good",
    [
        event(),
        event(rrule="FREQ=WEEKLY;BYDAY=MO"),
        event(rrule="FREQ=DAILY;COUNT=100000"),
        event(rrule="FREQ=MINUTELY"),
        event(rrule="FREQ=SECONDLY;INTERVAL=60"),
        event(rrule="FREQ=SECONDLY;INTERVAL=30;BYHOUR=9"),
        event(rrule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"),
        event("2026-12-01", rrule="FREQ=DAILY;BYHOUR=9", exclude=("2026-12-02",), rdates=("2026-12-24",)),
        event("", cron="*/5 9-17 * * MON-FRI", exclude=("2026-12-25",)),
        event("", cron="0 0 * * 5L"),
        event("", cron="0 0 * * MON#2"),
        event("", at=NOW, before=("P1D", "PT2H", "PT0S")),
        event("2026-12-24", before=("-PT9H", "P1D")),
        event(rrule="FREQ=DAILY", calendar="bank"),
        event(rrule="FREQ=MINUTELY;INTERVAL=15", calendar="gulf"),
        event(rrule="FREQ=MINUTELY", calendar="bank"),
        ReminderEvent("r/1", action=Action.CANCEL, rrule="nonsense"),
    ],
)
def test_what_can_be_followed_is_taken(good: ReminderEvent) -> None:
    assert times_fault(good, RULES) is None
    assert times_fault(good) is None


def test_what_is_refused_was_well_formed() -> None:
    """These are not the faults that a look at each value alone finds."""
    assert all(
        fault is None or fault.reason.value in ("needs_newer_service", "several_starts")
        for fault in (check_reminder(one[0], NOW, NOW) for one in FAULTS)
    )


DEAR = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=YEARLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=DAILY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MINUTELY;INTERVAL=1439;BYHOUR=3;BYMINUTE=7;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=3;BYMINUTE=0;BYSECOND=0",
    "FREQ=SECONDLY;INTERVAL=61;BYSECOND=0;BYMINUTE=0",
    "FREQ=WEEKLY;COUNT=10000;BYDAY=MO",
    "FREQ=MINUTELY;COUNT=10000;BYHOUR=9",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,10;BYMINUTE=0,10,20,30,40,50;BYSETPOS=-1,1,7",
    "FREQ=YEARLY;BYWEEKNO=53;INTERVAL=11",
]


@pytest.mark.parametrize("rrule", DEAR)
def test_no_rule_costs_much(rrule: str) -> None:
    """The work is bounded, so the CPU time is: far below what is allowed here, which leaves room for slow machines."""
    for cached in (recurrence._days_of_year, recurrence._changes, recurrence.last_of_count, recurrence._last_elapsed):
        cached.cache_clear()
    began = time.process_time()
    times_fault(event("2020-01-06T09:00", rrule=rrule), RULES)
    d = Definition(local="2020-01-06T09:00", rrule=rrule)
    schedule.next_firing(d, "America/New_York", NOW)
    assert time.process_time() - began < 1


# -- calendars ---------------------------------------------------------------------------------------------------------

BANK = """
[bank]
holidays = "DE-BY"
day_off = "{}"
off = [2026-12-24]
on = [2026-12-19]

[exchange]
holidays = "XNYS"

[gulf]
weekend = ["FR", "SA"]
day_off = "after"
"""


def dates(day_off: str, local: str, rrule: str, most: int = 4) -> list[str]:
    rules = TimeRules(calendars=calendars.read(BANK.format(day_off)))
    d = Definition(local=local, rrule=rrule, calendar="bank")
    return [
        f"{f.start_id[5:10]}@{datetime.fromtimestamp(f.due_at / 1000, UTC):%m-%d}"
        for f in islice(schedule.firings(d, "Europe/Berlin", 0, rules), most)
    ]


@pytest.mark.parametrize(
    ("day_off", "expected"),
    [
        # Thursday the 24th is off by the file, the 25th by law, the 26th is a Saturday.
        ("fire", "12-23@12-23 12-24@12-24 12-25@12-25 12-26@12-26"),
        ("skip", "12-23@12-23 12-28@12-28 12-29@12-29 12-30@12-30"),
        ("before", "12-23@12-23 12-28@12-28 12-29@12-29 12-30@12-30"),
        ("after", "12-23@12-23 12-28@12-28 12-29@12-29 12-30@12-30"),
    ],
)
def test_a_daily_series_never_fires_twice_on_a_day(day_off: str, expected: str) -> None:
    assert dates(day_off, "2026-12-23T09:00", "FREQ=DAILY") == expected.split()


@pytest.mark.parametrize(
    ("day_off", "expected"),
    [
        ("skip", "11-24@11-24 02-24@02-24 03-24@03-24 05-24"),
        ("before", "11-24@11-24 12-24@12-23 01-24@01-22 02-24@02-24"),
        ("after", "11-24@11-24 12-24@12-28 01-24@01-25 02-24@02-24"),
    ],
)
def test_a_monthly_one_is_skipped_or_moved(day_off: str, expected: str) -> None:
    found = dates(day_off, "2026-11-24T09:00", "FREQ=MONTHLY")
    assert found[:3] == expected.split()[:3]


def test_a_moved_one_is_found_from_its_new_day_on() -> None:
    rules = TimeRules(calendars=calendars.read(BANK.format("after")))
    d = Definition(local="2026-12-24T09:00", rrule="FREQ=MONTHLY", calendar="bank", before=("P1D", "PT0S"))
    found = list(islice(schedule.firings(d, "Europe/Berlin", 0, rules), 6))
    assert [f.occurrence_id for f in found[:2]] == ["2026-12-24T09:00/P1D", "2026-12-24T09:00/PT0S"]
    # The start is moved, and with it what counts from it.
    assert [f.due_at for f in found[:2]] == [schedule.instant(f"2026-12-{n}T09:00", "Europe/Berlin") for n in (27, 28)]
    assert {f.note for f in found[:2]} == {"moved from 2026-12-24: day off"}
    after = 0
    for firing in found:
        assert schedule.next_firing(d, "Europe/Berlin", after, rules) == firing
        assert schedule.firing(d, "Europe/Berlin", firing.occurrence_id, rules) == firing
        after = firing.due_at


def test_a_calendar_that_was_taken_away_holds_nothing_back() -> None:
    d = Definition(local="2026-12-25T09:00", calendar="bank")
    assert schedule.next_firing(d, "Europe/Berlin", 0, RULES) is None
    found = schedule.next_firing(d, "Europe/Berlin", 0)
    assert found is not None
    assert found.note == "calendar bank is not configured"


@pytest.mark.parametrize("day_off", ["skip", "after", "before"])
def test_many_a_day_are_skipped_and_moved_as_well(day_off: str) -> None:
    rules = TimeRules(calendars=calendars.read(BANK.format(day_off)))
    d = Definition(local="2026-12-01T00:00", rrule="FREQ=MINUTELY", calendar="bank")
    friday, monday = (schedule.instant(f"2026-12-{n}T00:00", "Europe/Berlin") for n in ("05", "07"))
    found = list(islice(schedule.firings(d, "Europe/Berlin", friday - 120_000, rules), 5))
    assert [f.due_at for f in found[:2]] == [friday - 120_000, friday - 60_000]
    assert [f.due_at for f in found[2:]] == [monday, monday + 60_000, monday + 120_000]
    assert [f.start_id for f in found[2:4]] == ["2026-12-07T00:00", "2026-12-07T00:01"]


def test_a_day_that_is_on_is_on() -> None:
    bank = calendars.read(BANK.format("skip"))["bank"]
    assert bank.why_off(date(2026, 12, 19)) == ""  # a Saturday
    assert bank.why_off(date(2026, 12, 20)) == "weekend"
    assert bank.why_off(date(2026, 12, 24)) == "day off"
    assert bank.why_off(date(2026, 12, 25)) != ""
    assert calendars.read(BANK.format("skip"))["exchange"].why_off(date(2026, 11, 26)) != ""
    gulf = calendars.read(BANK.format("skip"))["gulf"]
    assert (gulf.moved(date(2026, 12, 4)), gulf.day_off) == (date(2026, 12, 6), DayOff.AFTER)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x", "is no TOML"),
        ("bank = 1", "begin a calendar with [name]"),
        ('[bank]\nholiday = "DE"', "holiday: is unknown; use holidays"),
        ('[bank]\nholidays = "XX"', "the holidays library has no XX"),
        ('[bank]\nholidays = "DE-XX"', "the holidays library has no DE-XX"),
        ('[bank]\nday_off = "move"', "use one of fire, skip, before, after"),
        ('[bank]\nweekend = ["Sat"]', "give a list of MO"),
        ('[bank]\nweekend = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]', "six at the most"),
        ('[bank]\noff = ["2026-12-24"]', "give a list of dates"),
    ],
)
def test_a_file_of_calendars_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(calendars.CalendarError) as caught:
        calendars.read(text)
    assert any(says in fault for fault in caught.value.faults)


# -- offsets -----------------------------------------------------------------------------------------------------------


def test_offsets_count_days_on_the_wall_clock_and_hours_as_they_pass() -> None:
    d = Definition(local="2026-03-29T12:00", before=("P1D", "PT24H", "PT0S", "P1W"))
    found = {f.offset_id: f.due_at for f in schedule.firings(d, "Europe/Berlin", 0)}
    noon = schedule.instant("2026-03-29T12:00", "Europe/Berlin")
    assert found == {
        "P7D": schedule.instant("2026-03-22T12:00", "Europe/Berlin"),
        "P1D": noon - 23 * 3_600_000,
        "PT24H": noon - 24 * 3_600_000,
        "PT0S": noon,
    }


def test_offsets_of_a_date_count_from_its_midnight() -> None:
    d = Definition(local="2026-12-24", before=("P1D", "-PT9H", "PT15H30M"))
    midnight = schedule.instant("2026-12-24T00:00", "Europe/Berlin")
    assert [(f.occurrence_id, (f.due_at - midnight) // 60_000) for f in schedule.firings(d, "Europe/Berlin", 0)] == [
        ("2026-12-24/P1D", -1440),
        ("2026-12-24/PT15H30M", -930),
        ("2026-12-24/-PT9H", 540),
    ]


def test_two_offsets_that_meet_are_one_firing_the_nearest_to_its_start() -> None:
    d = Definition(local="2026-12-01T09:00", rrule="FREQ=DAILY;COUNT=3", before=("P1D", "PT0S"))
    assert [f.occurrence_id for f in schedule.firings(d, "Europe/Berlin", 0)] == [
        "2026-12-01T09:00/P1D",
        "2026-12-01T09:00/PT0S",
        "2026-12-02T09:00/PT0S",
        "2026-12-03T09:00/PT0S",
    ]


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("P1D", "P1D"), ("P1W", "P7D"), ("PT90M", "PT1H30M"), ("PT24H", "PT24H"), ("P1DT2H", "P1DT2H"), ("P0D", "PT0S"),
        ("PT0S", "PT0S"), ("-PT0S", "PT0S"), ("-PT9H", "-PT9H"), ("PT3600S", "PT1H"), ("+P2D", "P2D"),
    ],
)  # fmt: skip
def test_an_offset_has_one_name(text: str, id_: str) -> None:
    from tables import offsets

    assert offsets.parse(text).id == id_
    assert offsets.parse(id_) == offsets.parse(text)


def test_every_zone_takes_a_daily_rule() -> None:
    d = Definition(local="2026-01-01T02:30", rrule="FREQ=DAILY")
    for name in zone_names():
        found = list(islice(schedule.firings(d, name, NOW), 120))
        assert len({f.due_at for f in found}) == 120


@pytest.mark.parametrize("year", [1800, 9900])
def test_the_first_and_the_last_year_are_taken(year: int) -> None:
    assert times_fault(event(rdates=(f"{year}-06-01T09:00",)), RULES) is None


def test_a_calendar_that_moves_days_looks_back_over_all_days_off() -> None:
    """Good Friday to Easter Monday: what is due on one of them fires on the Tuesday, 7 April 2026."""
    easter = Calendar("easter", "DE", DayOff.AFTER)
    assert easter.since(date(2026, 4, 7)) == date(2026, 4, 3)
    assert easter.since(date(2026, 4, 8)) == date(2026, 4, 8)
    assert easter.since(date(2026, 12, 28)) == date(2026, 12, 25)
    assert easter.moved(date(2026, 4, 3)) == date(2026, 4, 7)


def test_an_exchange_is_known_by_its_other_name() -> None:
    assert calendars.public_holidays("NYSE", 2026) == calendars.public_holidays("XNYS", 2026) != {}


@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *", "59 2 29 3 *"])
def test_a_time_of_cron_that_clocks_jump_over_is_known_to_be_missing(cron: str) -> None:
    night = datetime(2026, 3, 28, 12, tzinfo=UTC)
    at, missing = next(crontab.times(cron, night, ZoneInfo("Europe/Berlin")))
    assert (at.astimezone(UTC), missing) == (datetime(2026, 3, 29, 1, tzinfo=UTC), True)
    after, there = next(crontab.times("0 3 * * *", night, ZoneInfo("Europe/Berlin")))
    assert (after.astimezone(UTC), there) == (datetime(2026, 3, 29, 1, tzinfo=UTC), False)
