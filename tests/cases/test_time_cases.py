"""Cases O-01 to O-11 of tests/cases/cases.json: wall clocks, rules and zones, as far as they are pure."""

import json
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest

from schemas.checks import Reason, check_reminder
from schemas.records import Definition, ReminderEvent
from tables import schedule

CASES = {case["id"]: case for case in json.loads(Path(__file__).with_name("cases.json").read_text("utf-8"))}
NOW = 1_768_467_600_000


def vectors(case_id: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the inputs of a case with what is expected of each."""
    case = CASES[case_id]
    expected = {vector["n"]: vector for vector in case["expected"]["vectors"]}
    return [(vector, expected[vector["n"]]) for vector in case["input"]["vectors"]]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(("given", "expected"), vectors("O-01")[:2])
def test_o01_a_missing_and_a_repeated_hour(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert [schedule.instant(given["local"], given["zone"])] == [ms(at) for at in expected["utc"]]


def utc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def definition(given: dict[str, Any]) -> Definition:
    return Definition(
        local=given.get("dtstart") or given["local"],
        rrule=given.get("rrule", ""),
        exclude=tuple(given.get("exdate", ())),
    )


#: A date-only end with a timed start (O-09.3) has its own test.
SERIES = [
    (f"{case}-{given['n']}", given, expected)
    for case in ("O-01", "O-02", "O-03", "O-04", "O-05", "O-07", "O-08", "O-09", "O-10")
    for given, expected in vectors(case)
    if (case, given["n"]) != ("O-09", 3)
]


@pytest.mark.parametrize(("given", "expected"), [one[1:] for one in SERIES], ids=[one[0] for one in SERIES])
def test_a_series_is_what_the_case_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    found = list(islice(schedule.firings(definition(given), given["zone"], 0), given.get("take", 100)))
    instants = [utc(firing.due_at) for firing in found]
    compared = 0
    for key, got in (
        ("utc", instants),
        ("local_dates", [firing.start_id[:10] for firing in found]),
        ("local_times", [firing.start_id for firing in found]),
        ("count", len(found)),
        ("first_utc", instants[0]),
        ("last_utc", instants[-1]),
    ):
        if key in expected:
            assert got == expected[key]
            compared += 1
    for key in ("before_change_utc", "after_change_utc"):
        assert key not in expected or expected[key] in instants
    assert compared
    assert all(a.due_at < b.due_at for a, b in pairwise(found))


@pytest.mark.parametrize(("given", "expected"), [one[1:] for one in SERIES], ids=[one[0] for one in SERIES])
def test_asked_one_after_the_other_they_are_the_same(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """O-10: the next of the last is later than it, and never the same again."""
    d, zone = definition(given), given["zone"]
    found, after = [], 0
    while (firing := schedule.next_firing(d, zone, after)) is not None and len(found) < given.get("take", 100):
        assert firing.due_at > after
        found.append(firing)
        after = firing.due_at
    assert found == list(islice(schedule.firings(d, zone, 0), given.get("take", 100)))
    for firing in found:
        assert schedule.firing(d, zone, firing.occurrence_id) == firing


def test_o05_nothing_is_labelled_as_the_missing_day() -> None:
    ((given, _),) = vectors("O-05")
    assert [firing.start_id[:10] for firing in schedule.firings(definition(given), given["zone"], 0)] == [
        "2011-12-29",
        "2011-12-31",
        "2012-01-01",
    ]


def test_o09_an_end_without_a_time_means_the_whole_day() -> None:
    given, _ = vectors("O-09")[2]
    found = [utc(firing.due_at) for firing in schedule.firings(definition(given), given["zone"], 0)]
    assert found == ["2026-01-01T08:00:00Z", "2026-01-02T08:00:00Z", "2026-01-03T08:00:00Z"]


RULES = {
    "daily 09:00": Definition(local="2026-01-01T09:00", rrule="FREQ=DAILY"),
    "daily 16:00": Definition(local="2025-01-01T16:00", rrule="FREQ=DAILY"),
    "every minute": Definition(local="2026-01-01T00:00", rrule="FREQ=MINUTELY"),
}


@pytest.mark.parametrize(("given", "expected"), vectors("O-11"), ids=["3 days", "16 seconds", "112 minutes"])
def test_o11_what_was_missed_the_latest_of_it_and_the_next(given: dict[str, Any], expected: dict[str, Any]) -> None:
    d, zone, up = RULES[given["rule"]], given["zone"], ms(given["up_at"])
    down = ms(given["down_from"])
    missed = list(takewhile(lambda firing: firing.due_at <= up, schedule.firings(d, zone, down + 1)))
    latest = schedule.last_firing(d, zone, down, up)
    assert latest == missed[-1]
    if "sent_on_return" in expected:
        assert [utc(latest.due_at)] == expected["sent_on_return"]
    if "recorded_as_missed" in expected:
        assert [utc(firing.due_at) for firing in missed[:-1]] == expected["recorded_as_missed"]
    if "next" in expected:
        following = schedule.next_firing(d, zone, up)
        assert following is not None
        assert utc(following.due_at) == expected["next"]
    assert len(missed) == {1: 4, 2: 1, 3: 112}[given["n"]]


DAYS = [
    (f"{case}-{given['n']}", given, expected)
    for case in ("O-01", "O-03", "O-04")
    for given, expected in vectors(case)
    if "FREQ=DAILY" in given.get("rrule", "")
]


@pytest.mark.parametrize(("given", "expected"), [day[1:] for day in DAYS], ids=[day[0] for day in DAYS])
def test_each_day_of_a_daily_series(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """O-01.3, O-03, O-04: each day's wall clock, taken alone, comes at the instant that the series has."""
    first = datetime.fromisoformat(given["dtstart"])
    days = [(first + timedelta(days=day)).isoformat(timespec="minutes") for day in range(len(expected["utc"]))]
    assert [schedule.instant(day, given["zone"]) for day in days] == [ms(at) for at in expected["utc"]]


def test_o05_the_missing_day_is_the_same_instant_as_the_next() -> None:
    ((given, expected),) = vectors("O-05")
    days = ("2011-12-29T09:00", "2011-12-30T09:00", "2011-12-31T09:00", "2012-01-01T09:00")
    first, missing, next_, last = (schedule.instant(day, given["zone"]) for day in days)
    assert missing == next_
    assert [first, next_, last] == [ms(at) for at in expected["utc"]]


@pytest.mark.parametrize(("given", "expected"), vectors("O-06"), ids=[repr(v[0]["zone"]) for v in vectors("O-06")])
def test_o06_a_zone_is_what_it_says_or_refused(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Where the case leaves the choice (3, 6, 7), the name is taken for the zone that it means."""
    name = given["zone"]
    event = ReminderEvent("r-1", "anna" if name else "", "2026-07-15T09:00", name, "x")
    fault = check_reminder(event, NOW, NOW)
    accepted = expected["accept"] is True or given["n"] in (3, 6, 7)
    if accepted:
        assert fault is None
        chosen = {3: ("14:00", "13:00"), 6: ("08:00", "07:00"), 7: ("14:00", "13:00")}.get(given["n"])
        utcs = [f"2026-{day}T{at}:00Z" for day, at in zip(("01-15", "07-15"), chosen, strict=True)] if chosen else None
        d = Definition(local="2026-01-01T09:00", zone=name, rrule="FREQ=DAILY")
        found = {utc(firing.due_at) for firing in islice(schedule.firings(d, name, 0), 200)}
        assert found >= set(utcs or expected["utc"])
        return
    assert fault is not None
    assert schedule.zone(name) is None
    assert fault.field == "zone"
    # Vector 9, no zone at all, is the recipient's zone where there is a recipient.
    assert fault.reason is (Reason.UNKNOWN_ZONE if name else Reason.NO_ZONE)


def test_o06_windows_names_mean_what_the_case_says() -> None:
    for name, winter, summer in (("Europe/Paris", 8, 7), ("America/New_York", 14, 13)):
        assert schedule.instant("2026-01-15T09:00", name) == ms(f"2026-01-15T{winter:02}:00:00Z")
        assert schedule.instant("2026-07-15T09:00", name) == ms(f"2026-07-15T{summer:02}:00:00Z")
