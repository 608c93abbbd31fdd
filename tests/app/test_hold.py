"""``hold``: what its words mean, and what is wrong with those that mean nothing."""

from typing import Any

import pytest

from app.cli.failures import Misuse
from app.cli.hold import planned, told
from tables import holds

NOW = 1_796_112_000_000  # 2026-12-01T08:00:00Z
HOUR = 3_600_000


def plan(**words: str) -> Any:
    said = {"length": "", "start": "", "until": "", "zone": "", "every": "", **words}
    return planned("channel:sms", "why", now=NOW, actor="anna", **said)


@pytest.mark.parametrize(
    ("words", "begins", "ends"),
    [
        ({}, NOW, 0),
        ({"length": "2h"}, NOW, NOW + 2 * HOUR),
        ({"until": "2026-12-01T10:00:00Z"}, NOW, NOW + 2 * HOUR),
        ({"start": "2026-12-01T09:00:00Z"}, NOW + HOUR, 0),
        ({"start": "2026-12-01T11:00", "zone": "Europe/Berlin", "length": "1h"}, NOW + 2 * HOUR, NOW + 3 * HOUR),
    ],
)
def test_a_hold_that_stands_once(words: dict[str, str], begins: int, ends: int) -> None:
    record = plan(**words)
    assert (record.starts_at, record.ends_at, record.every) == (begins, ends, "")


@pytest.mark.parametrize("start", ["2026-12-06T02:00", "2026-12-06T01:00:00Z", "2026-12-05T20:00:00-05:00"])
def test_a_hold_that_recurs(start: str) -> None:
    record = plan(start=start, zone="Europe/Berlin", length="2h", every="weekly", until="2027-01-01T00:00:00Z")
    assert (record.every, record.local, record.zone) == ("weekly", "2026-12-06T02:00:00", "Europe/Berlin")
    assert record.lasts_ms == 2 * HOUR
    assert told(record, NOW) == {
        "scope": "channel:sms",
        "state": "to come",
        "from": "2026-12-06 01:00:00.000Z",
        "until": "2026-12-06 03:00:00.000Z",
        "recurs": "weekly (Europe/Berlin) until 2027-01-01 00:00:00.000Z",
        "reason": "why",
        "by": "anna",
    }
    assert told(record, record.starts_at)["state"] == "held"


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ({"length": "2"}, "--for: '2' is no duration"),
        ({"length": "0s"}, "--for '0s': give a duration that is longer than nothing"),
        ({"length": "1h", "until": "2026-12-02T00:00:00Z"}, "give either --for or --until"),
        ({"until": "2026-12-01T07:00:00Z"}, "give a time that is still to come"),
        ({"start": "2026-11-01T00:00:00Z", "length": "1h"}, "would be over already"),
        (
            {"start": "2026-12-06T02:00"},
            "--from: '2026-12-06T02:00' has no offset; add Z or +01:00, or give its --zone",
        ),
        ({"start": "tomorrow"}, "--from: 'tomorrow' is no instant"),
        ({"zone": "berlin"}, "--zone 'berlin': is no IANA zone; did you mean Europe/Berlin?"),
        ({"every": "daily"}, "--every needs --from, --zone and --for"),
        ({"every": "daily", "start": "2026-12-06T02:00Z", "length": "1h"}, "--every needs --from, --zone and --for"),
        (
            {"every": "daily", "start": "2026-12-06T02:00", "zone": "Europe/Berlin", "length": "24h"},
            "is no shorter than the time from one start to the next",
        ),
        (
            {"every": "daily", "start": "2027-10-31T01:30:00Z", "zone": "Europe/Berlin", "length": "1h"},
            "is shown twice by that wall clock",
        ),
    ],
)
def test_what_means_nothing_is_named(words: dict[str, str], wrong: str) -> None:
    with pytest.raises(Misuse) as refused:
        plan(**words)
    assert wrong in str(refused.value)


def test_what_recurs_has_a_key_of_its_own() -> None:
    assert holds.key("channel:sms", recurring=False) == "channel:sms"
    assert holds.key("channel:sms", recurring=True) == "channel:sms recurring"
