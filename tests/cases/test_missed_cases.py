"""Case O-11 of tests/cases/cases.json: what was missed while everything was down, by the life of a series."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.names import State
from schemas.records import Definition, Policy
from tests.rules.life import DAY, EMAIL, Reminder

CASE = next(
    case for case in json.loads(Path(__file__).with_name("cases.json").read_text("utf-8")) if case["id"] == "O-11"
)
EXPECTED = {vector["n"]: vector for vector in CASE["expected"]["vectors"]}
GRACE_S = {"1 h": 3600, "5 min": 300}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def utc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def definition(given: dict[str, Any]) -> Definition:
    day = (datetime.fromisoformat(given["down_from"]) - timedelta(days=1)).date()
    wall, freq = ("00:00", "MINUTELY") if "minute" in given["rule"] else (given["rule"].split()[1], "DAILY")
    policy = Policy(max_lateness_s=GRACE_S[given["grace"]])
    return Definition(local=f"{day}T{wall}", zone=given["zone"], rrule=f"FREQ={freq}", steps=EMAIL, policy=policy)


def back(given: dict[str, Any]) -> Reminder:
    """Return the series as it is when what was due on return has been done."""
    r = Reminder(now=ms(given["down_from"]) - DAY // 2)
    r.upsert(definition(given), 1)
    up = ms(given["up_at"])
    while r.open.due < ms(given["down_from"]):
        r.fire()
        r.accepted()
    r.audit.clear()
    while r.open.due <= up:
        r.fire(up)
        if r.state is State.WITHDRAWING:
            r.withdrawn()
        elif r.state is State.SENDING:
            r.accepted()
    return r


@pytest.mark.parametrize("given", CASE["input"]["vectors"], ids=[str(v["n"]) for v in CASE["input"]["vectors"]])
def test_o11_one_message_on_return_and_a_record_of_each_missed_one(given: dict[str, Any]) -> None:
    expected = EXPECTED[given["n"]]
    r = back(given)
    sent = [utc(e.due_at) for e in r.audit if e.to_state is State.SENT]
    missed = [utc(e.due_at) for e in r.audit if e.to_state in (State.SKIPPED, State.EXPIRED)]
    assert len(sent) <= expected.get("sent_on_return_max", 1)
    if "sent_on_return" in expected:
        assert sent == expected["sent_on_return"]
        assert missed == expected.get("recorded_as_missed", [])
    if "next" in expected:
        assert utc(r.open.due) == expected["next"]
    assert len(set(missed)) == len(missed)


def test_o11_two_that_come_up_together_still_send_once() -> None:
    """The second one's command finds the row claimed."""
    given = CASE["input"]["vectors"][1]
    r = Reminder(now=ms(given["down_from"]) - DAY // 2)
    r.upsert(definition(given), 1)
    r.fire(ms(given["up_at"]))
    assert len(r.asked()) == 1
    assert not r.again().changed
