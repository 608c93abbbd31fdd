"""When a one-shot reminder starts, in every zone and on every kind of day."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.checks import zone_names
from tables import schedule
from tests.effort import times

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
STEP = timedelta(minutes=15)


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("local", "zone", "at"),
    [
        ("2026-12-01T09:00", "Europe/Berlin", "2026-12-01T08:00:00Z"),
        ("2026-07-01T09:00", "Europe/Berlin", "2026-07-01T07:00:00Z"),
        ("2026-12-01T09:00:30", "Europe/Berlin", "2026-12-01T08:00:30Z"),
        ("2026-12-01", "Europe/Berlin", "2026-12-01T08:00:00Z"),
        ("2024-02-29T00:00", "Asia/Kathmandu", "2024-02-28T18:15:00Z"),
        # Missing: with the offset before the jump. Shown twice: the first pass.
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:30:00Z"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        # Midnight itself is missing.
        ("2018-11-04T00:00", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        # A day is missing.
        ("2011-12-30T09:00", "Pacific/Apia", "2011-12-30T19:00:00Z"),
    ],
)
def test_the_instant_of_a_wall_clock(local: str, zone: str, at: str) -> None:
    assert schedule.instant(local, zone) == utc(at)


def test_a_date_alone_means_the_configured_hour() -> None:
    assert schedule.instant("2026-12-01", "Europe/Berlin", 7) == utc("2026-12-01T06:00:00Z")
    assert schedule.instant("2026-03-29", "Europe/Berlin", 2) == utc("2026-03-29T01:00:00Z")
    assert schedule.instant("2026-12-01T09:00", "Europe/Berlin", 7) == utc("2026-12-01T08:00:00Z")


@pytest.mark.parametrize(
    ("local", "at", "start"),
    [
        ("2026-12-01T09:00", None, "2026-12-01T09:00"),
        ("2026-12-01T09:00:00", None, "2026-12-01T09:00"),
        ("2026-12-01T09:00:30", None, "2026-12-01T09:00:30"),
        ("2026-12-01", None, "2026-12-01"),
        ("", 1_768_467_600_000, "@1768467600000"),
    ],
)
def test_the_name_of_a_start(local: str, at: int | None, start: str) -> None:
    assert schedule.start_id_of(local, at) == start
    assert schedule.first_start(local, at, "Europe/Berlin")[0] == start


def test_a_fixed_instant_needs_no_zone() -> None:
    assert schedule.first_start("", 1_768_467_600_000, "") == ("@1768467600000", 1_768_467_600_000)


@pytest.mark.parametrize(
    ("local", "zone"), [("2026-02-30", "UTC"), ("2026-12-01T9:00", "UTC"), ("", "UTC"), ("2026-12-01T09:00", "Mars")]
)
def test_what_is_no_time_raises(local: str, zone: str) -> None:
    with pytest.raises(ValueError, match=r"no local time|no zone"):
        schedule.instant(local, zone)


def test_zones_come_from_the_package_whatever_the_system_has() -> None:
    """British Columbia stopped changing its clocks in 2026; many a system does not know."""
    assert schedule.instant("2026-11-01T09:00", "America/Vancouver") == utc("2026-11-01T16:00:00Z")
    assert schedule.zone("America/Vancouver") is schedule.zone("America/Vancouver")
    assert schedule.zone("Mars") is None


# -- against an oracle that looks only from instants to wall clocks ----------------------------------------------------


def shown_at(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return what the wall clocks of a zone show at an instant (UTC, without a zone)."""
    return instant.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)


def oracle(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant at which the clocks show a time, else as if they had not jumped."""
    samples = [wall - timedelta(hours=30) + STEP * n for n in range(240)]
    offsets = {shown_at(instant, zone) - instant for instant in samples}
    hits = [wall - offset for offset in offsets if shown_at(wall - offset, zone) == wall]
    if hits:
        return min(hits)
    before = max(instant for instant in samples if shown_at(instant, zone) < wall)
    return wall - (shown_at(before, zone) - before)


def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """Return the instants of a year, to the quarter of an hour, at which a zone's offset changes."""
    found = []
    instant = datetime(year, 1, 1)  # noqa: DTZ001
    for _ in range(366):
        after = instant + timedelta(days=1)
        if shown_at(instant, zone) - instant != shown_at(after, zone) - after:
            while shown_at(instant, zone) - instant == shown_at(instant + STEP, zone) - instant - STEP:
                instant += STEP
            found.append(instant + STEP)
        instant = after
    return found


def check(wall: datetime, zone: ZoneInfo) -> None:
    local = wall.isoformat(timespec="seconds")
    expected = (oracle(wall, zone) - EPOCH) // timedelta(milliseconds=1)
    assert schedule.instant(local, zone.key) == expected
    assert schedule.first_start(local, None, zone.key) == (schedule.start_id(local), expected)


@settings(max_examples=times(150), deadline=None)
@given(
    name=st.sampled_from(sorted(zone_names())),
    wall=st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)),  # noqa: DTZ001
)
def test_any_time_in_any_zone(name: str, wall: datetime) -> None:
    zone = schedule.zone(name)
    assert zone is not None
    check(wall.replace(microsecond=0), zone)


@settings(max_examples=times(150), deadline=None)
@given(
    name=st.sampled_from(sorted(zone_names())),
    year=st.integers(2000, 2045),
    off=st.integers(-3 * 3600, 3 * 3600),
    which=st.integers(0, 3),
)
def test_times_about_a_change_of_clocks(name: str, year: int, off: int, which: int) -> None:
    zone = schedule.zone(name)
    assert zone is not None
    found = changes(zone, year)
    assume(found)
    instant = found[which % len(found)]
    check(shown_at(instant, zone) + timedelta(seconds=off), zone)
