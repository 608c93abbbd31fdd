"""Windows on a wall clock, beside an oracle that asks the clock minute by minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import windows
from schemas.windows import EVERY_DAY, Window, parse
from tests.effort import times

MINUTE = 60_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("22:00-07:00", Window(1320, 420)),
        ("7:30-9:00", Window(450, 540)),
        ("SA,SU 23:00-10:00", Window(1380, 600, frozenset({5, 6}))),
        ("mo-fr 09:00-17:00", Window(540, 1020, frozenset(range(5)))),
        ("SA-MO 00:00-24:00", Window(0, 1440, frozenset({5, 6, 0}))),
        (" 22:00 - 07:00 ", Window(1320, 420)),
        ("22:00–07:00", Window(1320, 420)),
    ],
)
def test_windows_are_read(text: str, window: Window) -> None:
    assert parse(text) == window


@pytest.mark.parametrize(
    "text", ["", "22-7", "25:00-07:00", "22:60-07:00", "22:00-24:01", "XX 22:00-07:00", "24:00-1:00"]
)
def test_what_is_no_window_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("zone", "text", "at", "until"),
    [
        # Start included, end excluded, across midnight.
        ("Africa/Nairobi", "22:00-07:00", "2026-06-09T18:59:59", None),
        ("Africa/Nairobi", "22:00-07:00", "2026-06-09T19:00", "2026-06-10T04:00"),
        ("Africa/Nairobi", "22:00-07:00", "2026-06-10T03:59:59", "2026-06-10T04:00"),
        ("Africa/Nairobi", "22:00-07:00", "2026-06-10T04:00", None),
        # The night belongs to the day on which it begins: Sunday's goes on into Monday.
        ("Europe/Berlin", "SU 23:00-10:00", "2026-06-08T07:59", "2026-06-08T08:00"),
        ("Europe/Berlin", "SU 23:00-10:00", "2026-06-07T07:00", None),
        # An end that the clocks jump over is reached when they have jumped; an hour shown twice is quiet twice.
        ("Europe/Berlin", "22:00-02:30", "2026-03-29T00:30", "2026-03-29T01:00"),
        ("Europe/Berlin", "22:00-02:30", "2026-10-25T00:15", "2026-10-25T00:30"),
        ("Europe/Berlin", "22:00-02:30", "2026-10-25T00:45", None),
        ("Europe/Berlin", "22:00-02:30", "2026-10-25T01:15", "2026-10-25T01:30"),
        # A night of eight hours and one of ten.
        ("Europe/Berlin", "22:00-07:00", "2026-03-28T21:00", "2026-03-29T05:00"),
        ("Europe/Berlin", "22:00-07:00", "2026-10-24T20:00", "2026-10-25T06:00"),
        ("Pacific/Apia", "00:00-24:00", "2011-12-30T09:00", ""),
    ],
)
def test_until_when_it_is_quiet(zone: str, text: str, at: str, until: str | None) -> None:
    window = parse(text)
    assert window is not None
    found = windows.until([window], ZoneInfo(zone), ms(at))
    assert found == (ms(at) if until is None else None if until == "" else ms(until))
    assert windows.within([window], ZoneInfo(zone), ms(at)) is (until is not None)


@pytest.mark.parametrize("text", ["09:00-17:00", "17:00-09:00"])
def test_a_window_has_its_start_and_not_its_end(text: str) -> None:
    window = parse(text)
    assert window is not None
    nine, five = ms("2026-06-01T09:00"), ms("2026-06-01T17:00")
    day = window.start < window.end
    assert windows.within([window], ZoneInfo("Etc/UTC"), nine) is day
    assert windows.within([window], ZoneInfo("Etc/UTC"), nine - 1) is not day
    assert windows.within([window], ZoneInfo("Etc/UTC"), five) is not day
    assert windows.within([window], ZoneInfo("Etc/UTC"), five - 1) is day


_WINDOWS = st.builds(
    Window,
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.frozensets(st.integers(0, 6), min_size=1) | st.just(EVERY_DAY),
)
#: About clock changes of all kinds: of an hour, of half an hour, at midnight.
_CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("America/Havana", "2026-03-08T05:00"),
    ("America/Asuncion", "2024-03-24T03:00"),
]


def test_a_window_opens_again_where_clocks_are_set_back_into_it() -> None:
    """On Lord Howe the half hour from 01:30 is shown twice on 5 April 2026."""
    window = parse("00:00-01:31")
    assert window is not None
    over, again = ms("2026-04-04T14:59"), ms("2026-04-04T15:00")
    zone = ZoneInfo("Australia/Lord_Howe")
    assert windows.opens([window], zone, over) == again
    assert windows.opens([window], zone, again + MINUTE) == ms("2026-04-05T13:30")


@settings(max_examples=times(60), deadline=None)
@given(st.lists(_WINDOWS, min_size=1, max_size=3), st.sampled_from(_CHANGES), st.integers(-600, 600))
def test_until_and_opens_agree_with_a_walk_minute_by_minute(
    some: list[Window], change: tuple[str, str], minutes: int
) -> None:
    zone = ZoneInfo(change[0])
    at = ms(change[1]) + minutes * MINUTE
    walk = [at + n * MINUTE for n in range(3 * 1440)]
    inside = [windows.within(some, zone, t) for t in walk]
    free = next((t for t, quiet in zip(walk, inside, strict=True) if not quiet), None)
    busy = next((t for t, quiet in zip(walk, inside, strict=True) if quiet), None)
    until, opens = windows.until(some, zone, at), windows.opens(some, zone, at)
    if free is not None:
        assert until == free
    else:
        assert until is None or until > walk[-1]
    if busy is not None:
        assert opens == busy
    else:
        assert opens is None or opens > walk[-1]


def test_a_local_day_that_there_was_not_is_in_no_window() -> None:
    window = Window(0, 1440, frozenset({4}))  # Friday 30 December 2011, which Samoa left out
    at = ms("2011-12-29T12:00")
    start = windows.opens([window], ZoneInfo("Pacific/Apia"), at)
    assert start is not None
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start)).astimezone(ZoneInfo("Pacific/Apia"))
    assert local.date().isoformat() == "2012-01-06"
