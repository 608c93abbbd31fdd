"""Rules of RFC 5545: the standard's own examples, dateutil as a second opinion, and where it differs."""

from datetime import date, datetime, timedelta
from itertools import islice

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tables import recurrence
from tables.recurrence import RuleError, parse
from tests.effort import times

START = datetime(1997, 9, 2, 9)  # noqa: DTZ001 - as the examples of the standard have it


def walls(text: str, start: datetime = START, most: int = 50) -> list[datetime]:
    rule = parse(text)
    last = recurrence.last_of_count(rule, start) if rule.count else None
    found = islice(recurrence.series(rule, start).walls(start), most)
    return [wall for wall in found if last is None or wall <= last]


def days(text: str, start: datetime = START, most: int = 50) -> list[str]:
    return [f"{wall:%m-%d}" for wall in walls(text, start, most)]


# Of RFC 5545 3.8.5.3, those that name days; times of day and UNTIL are in test_schedule and the cases.
EXAMPLES = [
    ("FREQ=DAILY;COUNT=10", "1997-09-02", "09-02 09-03 09-04 09-05 09-06 09-07 09-08 09-09 09-10 09-11"),
    ("FREQ=DAILY;INTERVAL=2", "1997-09-02", "09-02 09-04 09-06 09-08"),
    ("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02", "09-02 09-12 09-22 10-02 10-12"),
    ("FREQ=WEEKLY;COUNT=10", "1997-09-02", "09-02 09-09 09-16 09-23 09-30 10-07 10-14 10-21 10-28 11-04"),
    ("FREQ=WEEKLY;INTERVAL=2;WKST=SU", "1997-09-02", "09-02 09-16 09-30 10-14 10-28"),
    ("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", "1997-09-02", "09-02 09-04 09-09 09-11 09-16"),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", "1997-09-02", "09-02 09-04 09-16 09-18 09-30"),
    ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", "1997-09-05", "09-05 10-03 11-07 12-05 01-02 02-06 03-06 04-03"),
    ("FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU", "1997-09-07", "09-07 09-28 11-02 11-30 01-04 01-25"),
    ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22", "09-22 10-20 11-17 12-22 01-19 02-16"),
    ("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28", "09-28 10-29 11-28 12-29 01-29 02-26"),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15", "1997-09-02", "09-02 09-15 10-02 10-15 11-02 11-15 12-02"),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", "1997-09-30", "09-30 10-01 10-31 11-01 11-30 12-01 12-31"),
    ("FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12", "1997-09-10", "09-10 09-11 09-12 03-10 03-11"),
    ("FREQ=MONTHLY;INTERVAL=2;BYDAY=TU", "1997-09-02", "09-02 09-09 09-16 09-23 09-30 11-04 11-11"),
    ("FREQ=YEARLY;COUNT=10;BYMONTH=6,7", "1997-06-10", "06-10 07-10 06-10 07-10 06-10 07-10 06-10 07-10 06-10 07-10"),
    (
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "1997-03-10",
        "03-10 01-10 02-10 03-10 01-10 02-10 03-10 01-10 02-10 03-10",
    ),
    ("FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200", "1997-01-01", "01-01 04-10 07-19 01-01 04-09"),
    ("FREQ=YEARLY;BYDAY=20MO", "1997-05-19", "05-19 05-18 05-17"),
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05-12", "05-12 05-11 05-17"),
    ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1997-03-13", "03-13 03-20 03-27 03-05 03-12"),
    ("FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8", "1997-06-05", "06-05 06-12 06-19 06-26 07-03 07-10"),
    ("FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", "1997-09-13", "09-13 10-11 11-08 12-13 01-10"),
    ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", "1996-11-05", "11-05 11-07 11-02"),
    ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04", "09-04 10-07 11-06"),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29", "09-29 10-30 11-27 12-30 01-29 02-26"),
    ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15", "01-15 01-30 02-15 03-15 03-30"),
]


@pytest.mark.parametrize(("text", "start", "expected"), EXAMPLES, ids=[one[0] for one in EXAMPLES])
def test_the_examples_of_the_standard(text: str, start: str, expected: str) -> None:
    found = days(text, datetime.fromisoformat(f"{start}T09:00"))
    assert found[: len(expected.split())] == expected.split()
    count = parse(text).count
    assert not count or len(found) == count


def test_several_times_of_a_day() -> None:
    found = walls("FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,20,40", most=7)
    assert [f"{wall:%d %H:%M}" for wall in found] == [
        "02 09:00", "02 09:20", "02 09:40", "02 10:00", "02 10:20", "02 10:40", "03 09:00",
    ]  # fmt: skip


# -- where dateutil differs, and the standard is followed --------------------------------------------------------------


def dateutil(text: str, start: datetime, most: int = 50) -> list[datetime]:
    return list(islice(rrulestr(text, dtstart=start), most))


def test_the_start_is_the_first_instance_whether_the_rule_names_it_or_not() -> None:
    """3.8.5.3: DTSTART defines the first instance, and counts as the first occurrence."""
    text, start = "FREQ=WEEKLY;BYDAY=MO;COUNT=3", datetime(2026, 12, 1, 9)  # noqa: DTZ001 - a Tuesday
    assert days(text, start) == ["12-01", "12-07", "12-14"]
    assert [f"{wall:%m-%d}" for wall in dateutil(text, start)] == ["12-07", "12-14", "12-21"]


def test_a_position_counts_in_the_whole_week() -> None:
    """BYSETPOS is of one interval; dateutil begins the first week at the start."""
    text, start = "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=2", datetime(2026, 12, 2, 9)  # noqa: DTZ001 - a Wednesday
    assert days(text, start, 3) == ["12-02", "12-09", "12-16"]
    assert [f"{wall:%m-%d}" for wall in dateutil(text, start, 3)] == ["12-04", "12-09", "12-16"]


def test_a_week_number_alone_keeps_the_weekday_of_the_start() -> None:
    """What a rule does not say comes from the start; dateutil takes all seven days."""
    text, start = "FREQ=YEARLY;BYWEEKNO=20", datetime(2026, 5, 13, 9)  # noqa: DTZ001 - a Wednesday
    assert days(text, start, 3) == ["05-13", "05-19", "05-17"]
    assert len({wall.year for wall in dateutil(text, start, 5)}) == 1


def test_days_with_and_without_a_number_add_up() -> None:
    """3.3.10: BYDAY is a list; dateutil takes the days that are in both halves of it."""
    text, start = "FREQ=MONTHLY;BYDAY=MO,1TU", datetime(2026, 12, 1, 9)  # noqa: DTZ001
    assert days(text, start, 6) == ["12-01", "12-07", "12-14", "12-21", "12-28", "01-04"]
    assert dateutil(text + ";UNTIL=20300101T000000", start, 6) == []


def test_a_week_belongs_to_the_year_that_has_most_of_it() -> None:
    """Every other year's first week, which may begin in December; dateutil looks at calendar years."""
    text, start = "FREQ=YEARLY;INTERVAL=2;BYWEEKNO=1;BYDAY=MO", datetime(2024, 12, 30, 9)  # noqa: DTZ001
    assert [wall.date().isoformat() for wall in walls(text, start, 3)] == ["2024-12-30", "2027-01-04", "2029-01-01"]


def test_weeks_have_the_numbers_of_the_calendar() -> None:
    """3.3.10 by way of ISO 8601; dateutil takes days of week 52 for 53, and knows no week -53."""
    years = [date(year, 1, 1) for year in range(1996, 2102)]
    for number in (1, 2, 52, 53, -1, -52, -53):
        last = {day.year: date(day.year, 12, 28).isocalendar().week for day in years}
        expected = sorted(
            date.fromisocalendar(year, number if number > 0 else weeks + 1 + number, weekday)
            for year, weeks in last.items()
            for weekday in (1, 4, 7)
            if abs(number) <= weeks
        )
        rule = parse(f"FREQ=YEARLY;BYWEEKNO={number};BYDAY=MO,TH,SU")
        found = recurrence.series(rule, datetime(1995, 6, 1, 9)).walls(datetime(1996, 1, 10))  # noqa: DTZ001
        ours = [wall.date() for wall in islice(found, len(expected))]
        expected = [day for day in expected if day >= date(1996, 1, 10)]
        assert ours[: len(expected)] == expected, number
    text, start = "FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO,SA", datetime(2007, 4, 3, 9)  # noqa: DTZ001
    assert date(2011, 1, 1).isocalendar().week == 52
    assert date(2011, 1, 1) in [wall.date() for wall in dateutil(text, start, 4)]
    assert date(2011, 1, 1) not in [wall.date() for wall in walls(text, start, 4)]


def test_a_week_begins_where_the_rule_says() -> None:
    """Week -53 is the first of a year that has 53: with weeks from Wednesday on, 2033's begins in 2032."""
    text, start = "FREQ=YEARLY;WKST=WE;BYWEEKNO=-53", datetime(2029, 5, 2, 9)  # noqa: DTZ001 - a Wednesday
    assert [wall.date().isoformat() for wall in walls(text, start, 3)] == ["2029-05-02", "2032-12-29", "2038-12-29"]


def test_a_leap_second_is_taken_for_the_second_before() -> None:
    assert [wall.second for wall in walls("FREQ=DAILY;BYSECOND=60", most=3)][1:] == [59, 59]
    with pytest.raises(ValueError, match="second"):
        dateutil("FREQ=DAILY;BYSECOND=60", START, 1)


# -- dateutil as a second opinion where it does not differ -------------------------------------------------------------

numbers = st.integers


def some(low: int, high: int) -> st.SearchStrategy[str]:
    return st.lists(st.integers(low, high).filter(bool), min_size=1, max_size=4).map(lambda n: ",".join(map(str, n)))


weekdays = st.lists(st.sampled_from(recurrence._DAYS), min_size=1, max_size=4, unique=True).map(",".join)
numbered = st.lists(
    st.tuples(st.integers(-5, 5).filter(bool), st.sampled_from(recurrence._DAYS)).map(lambda d: f"{d[0]}{d[1]}"),
    min_size=1,
    max_size=3,
    unique=True,
).map(",".join)


@st.composite
def rules(draw: st.DrawFn) -> str:
    freq = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY"]))
    parts = {"FREQ": freq, "INTERVAL": str(draw(st.integers(1, 5)))}

    def maybe(name: str, value: st.SearchStrategy[str], *but: str) -> None:
        if freq not in but and draw(st.integers(0, 3)) == 0:
            parts[name] = draw(value)

    maybe("BYMONTH", st.lists(st.integers(1, 12), min_size=1, max_size=3).map(lambda n: ",".join(map(str, n))))
    maybe("BYMONTHDAY", some(-31, 31), "WEEKLY")
    maybe("BYYEARDAY", some(-366, 366), "MONTHLY", "WEEKLY", "DAILY")
    maybe("BYDAY", weekdays if freq in ("WEEKLY", "DAILY") else st.one_of(weekdays, numbered))
    maybe("BYHOUR", some(1, 23).filter(lambda n: "-" not in n))
    maybe("BYMINUTE", some(1, 59).filter(lambda n: "-" not in n))
    if len(parts) > 2 and freq != "WEEKLY" and draw(st.integers(0, 3)) == 0:
        parts["BYSETPOS"] = draw(some(-3, 3))
    parts["WKST"] = draw(st.sampled_from(recurrence._DAYS))
    return ";".join(f"{name}={value}" for name, value in parts.items())


@settings(max_examples=times(250), deadline=None)
@given(text=rules(), start=st.datetimes(datetime(1996, 1, 1), datetime(2030, 1, 1)), on=numbers(0, 2000))  # noqa: DTZ001
def test_dateutil_says_the_same(text: str, start: datetime, on: int) -> None:
    start = start.replace(second=0, microsecond=0)
    ours = walls(text, start, 12)
    # A rule that names nothing keeps dateutil looking until the year 9999.
    assume(len(ours) == 12)
    theirs = [wall for wall in dateutil(text, start, 12) if wall > start]
    assert ours[0] == start
    assert ours[1:] == theirs[:11]
    # From anywhere on it is the same series.
    low = start + timedelta(days=on)
    again = list(islice(recurrence.series(parse(text), start).walls(low), 3))
    if low <= ours[-4]:
        assert again == [wall for wall in ours if wall >= low][:3]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "NAME=VALUE"),
        ("FREQ=HOURLY;BYDAY", "NAME=VALUE"),
        ("FREQ=FORTNIGHTLY", "send FREQ= and one of YEARLY"),
        ("BYDAY=MO", "send FREQ= and one of YEARLY"),
        ("FREQ=DAILY;FREQ=DAILY", "give each part once"),
        ("FREQ=DAILY;BYEASTER=1", "the parts of RFC 5545"),
        ("FREQ=MONTHLY;RSCALE=HEBREW", "RFC 7529"),
        ("FREQ=DAILY;INTERVAL=0", "from 1 to"),
        ("FREQ=DAILY;INTERVAL=-1", "from 1 to"),
        ("FREQ=DAILY;COUNT=0", "from 1 to"),
        ("FREQ=DAILY;COUNT=3;UNTIL=20261231", "give one of them"),
        ("FREQ=DAILY;UNTIL=2026-12-31", "20261231T225959Z"),
        ("FREQ=DAILY;UNTIL=20260230", "20261231T225959Z"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "-31 to -1"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "-31 to -1"),
        ("FREQ=YEARLY;BYMONTH=-1", "from 1 to 12"),
        ("FREQ=DAILY;BYHOUR=24", "from 0 to 23"),
        ("FREQ=DAILY;BYSETPOS=1", "only beside another"),
        ("FREQ=WEEKLY;BYDAY=XX", "one of MO"),
        ("FREQ=MONTHLY;BYDAY=0MO", "2MO"),
        ("FREQ=MONTHLY;BYDAY=54MO", "2MO"),
        ("FREQ=WEEKLY;BYDAY=2MO", "only with FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYMONTHDAY=2", "not with FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYWEEKNO=2", "only with FREQ=YEARLY"),
        ("FREQ=DAILY;BYYEARDAY=2", "not with"),
        ("FREQ=YEARLY;BYWEEKNO=2;BYDAY=1MO", "without BYWEEKNO"),
    ],
)
def test_what_must_not_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(RuleError, match=says):
        parse(text)


def test_a_rule_may_be_written_as_calendars_write_it() -> None:
    assert parse("RRULE:freq=weekly;byday=mo,we;wkst=su;") == parse("FREQ=WEEKLY;WKST=SU;BYDAY=WE,MO")


def test_a_date_alone_has_no_hours() -> None:
    """3.3.10: BYHOUR, BYMINUTE and BYSECOND MUST be ignored beside a date."""
    assert parse("FREQ=DAILY;BYHOUR=9;BYMINUTE=30", all_day=True) == parse("FREQ=DAILY")
    with pytest.raises(RuleError, match="not from a date alone"):
        parse("FREQ=HOURLY", all_day=True)


def test_what_never_comes_ends_soon() -> None:
    for text in (
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=MONTHLY;INTERVAL=12;BYMONTH=2",
    ):
        assert walls(text) == [START], text


def test_a_large_count_is_reckoned_or_refused() -> None:
    assert recurrence.last_of_count(parse("FREQ=DAILY;COUNT=100000"), START) == START + timedelta(days=99_999)
    assert recurrence.last_of_count(parse("FREQ=WEEKLY;INTERVAL=2;COUNT=20001"), START) == START + timedelta(
        days=280_000
    )
    with pytest.raises(RuleError, match="UNTIL instead"):
        recurrence.last_of_count(parse("FREQ=WEEKLY;BYDAY=MO;COUNT=100000"), START)


def test_a_rare_day_is_found() -> None:
    assert [wall.date() for wall in walls("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", most=3)][1:] == [
        date(2016, 2, 29),
        date(2044, 2, 29),
    ]
