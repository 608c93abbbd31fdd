"""What working out a rule costs, hostile ones included; and that shortcuts name the same times as a plain walk."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Definition, ReminderEvent
from tables import admission, crontab, recurrence, schedule
from tables.admission import times_fault
from tests.effort import times

NOW = 1_796_088_000_000
ZONE = "Australia/Lord_Howe"
EVERY_HOUR = ",".join(map(str, range(24)))
EVERY_MINUTE = ",".join(map(str, range(60)))
EVERY_DAY = "MO,TU,WE,TH,FR,SA,SU"

#: Each of these took seconds, or steps without end, before what it walks through was counted.
HOSTILE = [
    "FREQ=MINUTELY;INTERVAL=86399;BYDAY=SU;BYMINUTE=35;BYSECOND=19",
    "FREQ=MINUTELY;INTERVAL=1000000;BYMONTH=1,10,12",
    "FREQ=HOURLY;INTERVAL=3600",
    "FREQ=SECONDLY;INTERVAL=86400;BYYEARDAY=33,-87,140;BYHOUR=0,1,3,4,5,6,7,8,9,10,11,14;COUNT=10000",
    "FREQ=SECONDLY;BYMONTHDAY=26,12,29;BYHOUR=4,8,10,11,13,14,17,19;BYSETPOS=366;COUNT=10000",
    "FREQ=HOURLY;INTERVAL=97;BYMONTH=1;BYDAY=FR,WE,SA;BYSETPOS=-1;COUNT=10000",
    "FREQ=DAILY;INTERVAL=60;BYMONTH=2,11;BYMINUTE=7;COUNT=10000",
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;COUNT=10000",
    "FREQ=WEEKLY;BYMONTH=9;BYSETPOS=7",
    f"FREQ=YEARLY;BYDAY={EVERY_DAY};BYHOUR={EVERY_HOUR};BYMINUTE={EVERY_MINUTE}",
    f"FREQ=YEARLY;BYWEEKNO={','.join(map(str, range(1, 54)))};BYDAY={EVERY_DAY};COUNT=10000",
]


def forget() -> None:
    """Empty what is kept of rules and zones."""
    for kept in (
        schedule.plan,
        recurrence.parse,
        recurrence.series,
        recurrence.last_of_count,
        recurrence._last_elapsed,
        recurrence._days_of_year,
        recurrence._days_of_kind,
        recurrence._changes,
        crontab.check,
    ):
        kept.cache_clear()


@pytest.mark.parametrize("rrule", HOSTILE)
def test_a_hostile_rule_is_refused_or_followed_at_a_bounded_cost(rrule: str) -> None:
    """CPU time, far above what it takes and below what it took."""
    event = ReminderEvent("r/1", "anna", "2013-06-28T11:27", ZONE, "x", rrule=rrule)
    forget()
    began = time.thread_time()
    fault = times_fault(event)
    assert time.thread_time() - began < 1
    if fault is not None:
        assert fault.reason.value in ("bad_rrule", "never_fires", "fires_too_often")
        assert fault.remedy
        return
    d, after = Definition(local=event.local, zone=ZONE, rrule=rrule), NOW
    forget()
    began = time.thread_time()
    for _ in range(3):
        if (firing := schedule.next_firing(d, ZONE, after)) is not None:
            assert firing.due_at > after
            after = firing.due_at
    assert time.thread_time() - began < 1


def test_a_count_that_takes_long_says_what_to_do() -> None:
    rule = recurrence.parse("FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;COUNT=10000")
    with pytest.raises(recurrence.RuleError, match="UNTIL instead"):
        recurrence.last_of_count(rule, datetime(2026, 1, 1, 9))  # noqa: DTZ001
    monthly = recurrence.parse("FREQ=MONTHLY;COUNT=9000")
    assert recurrence.last_of_count(monthly, datetime(2026, 1, 1, 9)) == datetime(2775, 12, 1, 9)  # noqa: DTZ001
    fewer = recurrence.parse("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=3")
    assert recurrence.last_of_count(fewer, datetime(2026, 1, 1, 9)) is None  # noqa: DTZ001


def test_a_year_has_the_days_of_its_kind() -> None:
    """Each kind of year is asked of dateutil once; the century that is no leap year, and week numbers at both ends."""
    parts = [
        ((), (1, 53, -1, -53), (), (), ((0, 0), (0, 6)), 0),
        ((), (52, -52, -53), (), (), (), 4),
        ((2,), (), (), (-1, 29), (), 6),
        ((), (), (1, 60, 366, -366), (), (), 0),
        ((), (), (), (), ((20, 0), (-1, 4)), 3),
    ]
    for year in (1900, 1901, 1999, 2000, 2001, 2096, 2099, 2100, 2101, 2104, 2105, 2400):
        for months, weeks, year_days, month_days, weekdays, start in parts:
            asked = recurrence._days_of_kind.__wrapped__(year, months, weeks, year_days, month_days, weekdays, start)
            assert recurrence._days_of_year(year, months, weeks, year_days, month_days, weekdays, start) == asked


OFTEN = [
    Definition(local="2026-10-01T00:00", rrule="FREQ=MINUTELY"),
    Definition(local="2026-10-01T00:00", rrule="FREQ=MINUTELY;BYDAY=MO,TU;BYHOUR=1,2"),
    Definition(local="2026-10-01T00:00", rrule=f"FREQ=DAILY;BYHOUR={EVERY_HOUR};BYMINUTE={EVERY_MINUTE}"),
    Definition(local="2026-10-01T00:30", rrule="FREQ=DAILY;BYHOUR=1,2;BYSETPOS=-1"),
    Definition(cron="* * * * *"),
    Definition(cron="30 2 * * *"),
]


@settings(max_examples=times(60), deadline=None)
@given(
    d=st.sampled_from(OFTEN),
    days=st.sets(st.integers(-2, 12), max_size=10),
    zone=st.sampled_from(["America/New_York", ZONE, "Africa/Casablanca", "Etc/UTC"]),
    first=st.sampled_from([date(2026, 10, 1), date(2026, 10, 30), date(2027, 3, 10)]),
)
def test_days_left_out_are_the_same_as_a_walk_without_them(
    d: Definition, days: set[int], zone: str, first: date
) -> None:
    gone = tuple((first + timedelta(days=n)).isoformat() for n in sorted(days))
    begin = schedule.instant(first.isoformat(), zone) - 3_600_000
    left_out = Definition(local=d.local, rrule=d.rrule, cron=d.cron, exclude=gone)

    def walk() -> Iterator[schedule.Firing]:
        return (f for f in schedule.firings(d, zone, begin) if not _falls(f, zone, gone))

    assert list(islice(schedule.firings(left_out, zone, begin), 40)) == list(islice(walk(), 40))


def _falls(firing: schedule.Firing, zone: str, gone: tuple[str, ...]) -> bool:
    """Return whether a firing's start is on one of the days."""
    start = firing.start_id
    if start.startswith("@"):
        known = schedule.zone(zone)
        return datetime.fromtimestamp(int(start[1:]) / 1000, known).date().isoformat() in gone
    return start[:10] in gone


@pytest.mark.parametrize("d", OFTEN)
def test_a_thousand_days_left_out_cost_little(d: Definition) -> None:
    first = date(2026, 10, 1)
    gone = tuple((first + timedelta(days=n)).isoformat() for n in range(1000))
    begin = schedule.instant("2026-10-01", "America/New_York")
    began = time.thread_time()
    left_out = Definition(local=d.local, rrule=d.rrule, cron=d.cron, exclude=gone)
    firing = schedule.next_firing(left_out, "America/New_York", begin)
    assert firing is not None
    assert firing.start_id.startswith("2029-06-2") or firing.start_id.startswith("2029-07-0")
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("freq", ["DAILY", "WEEKLY", "MONTHLY", "YEARLY", "HOURLY", "MINUTELY"])
@settings(max_examples=times(60), deadline=None)
@given(data=st.data())
def test_what_one_look_lets_pass_is_what_a_closer_look_would(freq: str, data: st.DataObject) -> None:
    """A rule of ordinary shape is not worked out at intake; working it out would not have refused it."""
    parts = [f"FREQ={freq}", f"INTERVAL={data.draw(st.sampled_from([1, 2, 12, 60, 366]))}"]
    for name, values in (
        ("BYDAY", ["MO", "TU,SU", *(["1MO", "-1FR", "5TU"] if freq == "MONTHLY" else [])]),
        ("BYMONTHDAY", [] if freq == "WEEKLY" else ["1", "31", "-31", "29,30"]),
        ("BYMONTH", ["2", "1,12"]),
        ("BYHOUR", ["9", EVERY_HOUR]),
        ("BYMINUTE", ["0,30", EVERY_MINUTE]),
        ("BYSECOND", ["0,30"]),
        ("COUNT", ["1", "1440", "10000"]),
    ):
        if values and data.draw(st.integers(0, 3)) == 0:
            parts.append(f"{name}={data.draw(st.sampled_from(values))}")
    event = ReminderEvent("r/1", "anna", "2024-02-29T09:00", ZONE, "x", rrule=";".join(parts))
    if admission._surely_fires(event, ZONE):
        # Leaving out what never comes changes nothing, but that look.
        assert times_fault(replace(event, exclude=("1999-01-01T09:00",))) is None


@pytest.mark.parametrize("local", ["2026-12-01", "2026-12-01T09:00"])
@pytest.mark.parametrize("until", ["99991231", "99991231T235959", "99991231T235959Z", "99990101"])
@pytest.mark.parametrize("freq", ["DAILY", "HOURLY"])
def test_an_end_that_means_for_ever_is_none(local: str, until: str, freq: str) -> None:
    if freq == "HOURLY" and len(local) == 10:
        return
    for zone in ("America/New_York", "Pacific/Kiritimati", "Etc/UTC"):
        d = Definition(local=local, zone=zone, rrule=f"FREQ={freq};UNTIL={until}")
        event = ReminderEvent("r/1", "anna", local, zone, "x", rrule=d.rrule)
        assert times_fault(event) is None
        endless = replace(d, rrule=f"FREQ={freq}")
        found = [[f.due_at for f in islice(schedule.firings(one, zone, NOW), 3)] for one in (d, endless)]
        assert found[0] == found[1]
