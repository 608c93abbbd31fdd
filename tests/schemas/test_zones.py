"""Which spellings of a zone are taken, for which zone, and what is suggested for the rest."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas import zones
from schemas.zones import canonical, similar_zone, zone, zone_names


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("america/new_york", "America/New_York"),
        ("AMERICA/PORT-AU-PRINCE", "America/Port-au-Prince"),
        ("America/New York", "America/New_York"),
        (" Europe/Berlin ", "Europe/Berlin"),
        # Links keep their name.
        ("US/Pacific", "US/Pacific"),
        ("Asia/Calcutta", "Asia/Calcutta"),
        ("EST", "EST"),
        ("est5edt", "EST5EDT"),
        # UTC by all its names.
        ("UTC", "UTC"),
        ("utc", "UTC"),
        ("Z", "Etc/UTC"),
        ("gmt", "GMT"),
        ("GMT0", "GMT0"),
        ("gmt+0", "GMT+0"),
        ("Zulu", "Zulu"),
        ("etc/gmt+5", "Etc/GMT+5"),
        # Windows and Outlook.
        ("Eastern Standard Time", "America/New_York"),
        ("romance standard time", "Europe/Paris"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("India Standard Time", "Asia/Calcutta"),
    ],
)
def test_a_spelling_that_means_one_zone_is_taken(name: str, key: str) -> None:
    found = zone(name)
    assert found is not None
    assert found.key == key == canonical(name)
    assert zone(key) is found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("new york", "America/New_York"),
        ("Berlin", "Europe/Berlin"),
        ("Europe/Berlln", "Europe/Berlin"),
        # The sign, or which of several, is anybody's guess.
        ("GMT+5", "Etc/GMT-5 (5 h ahead of UTC) or Etc/GMT+5 (5 h behind UTC)"),
        ("UTC-11", "Etc/GMT-11 (11 h ahead of UTC) or Etc/GMT+11 (11 h behind UTC)"),
        ("utc+00:00", "Etc/UTC"),
        ("+02:00", "Etc/GMT-2 (2 h ahead of UTC)"),
        ("-0500", "Etc/GMT+5 (5 h behind UTC)"),
        ("+05:30", ""),
        ("CEST", "Europe/Berlin or Europe/Paris"),
        ("ist", "Asia/Kolkata or Europe/Dublin or Asia/Jerusalem"),
        ("PST", "America/Los_Angeles or Asia/Manila"),
        ("", ""),
        ("Factory", ""),
        ("x" * 41, ""),
        ("y" * 500, ""),
        ("../../../etc/passwd", ""),
        ("Europe/../Europe/Berlin", ""),
        ("Europe/Berlin\n/x", ""),
    ],
)
def test_any_other_is_refused_with_what_was_meant(name: str, meant: str) -> None:
    assert zone(name) is None
    assert similar_zone(name) == meant


def test_what_is_suggested_exists() -> None:
    assert {meant for several in zones._ABBREVIATIONS.values() for meant in several} <= zone_names()
    assert set(zones._windows_names().values()) <= zone_names()
    assert not set(zones._ABBREVIATIONS) & zone_names()


def test_every_listed_zone_opens_and_is_kept() -> None:
    names = zone_names()
    assert len(names) > 500
    assert "Factory" not in names
    for name in names:
        found = zone(name)
        assert found is not None
        assert found.key == name
        assert zone(name) is found


def test_other_spellings_fill_no_memory() -> None:
    before = len(zones._ZONES)
    for n in range(200):
        assert zone("".join(c.upper() if n >> i & 1 else c for i, c in enumerate("europe/berlin"))) is not None
    assert len(zones._ZONES) <= before + 1


def test_a_zone_without_summer_time_says_so() -> None:
    assert zones.hint("EST") == "EST has no summer time; America/New_York has"
    assert zones.hint("America/New_York") == ""
    assert zones.hint("nowhere") == ""


def test_the_age_of_the_data_is_known_to_half_a_year() -> None:
    year = int(zones.release()[:4])
    since = zones.no_older_than()
    assert datetime(year, 1, 1, tzinfo=UTC) <= since <= datetime.now(UTC)
    assert since.year == year
    assert not zones.may_be_old(since + timedelta(days=183))
    assert zones.may_be_old(since + timedelta(days=184))
