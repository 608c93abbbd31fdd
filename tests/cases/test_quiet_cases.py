"""Public reports about quiet hours as inputs (cases.json)."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.names import Channel
from schemas.records import RecipientProfile
from tables.consent import Category, Held, look

CASE = next(c for c in json.loads((Path(__file__).parent / "cases.json").read_text("utf-8")) if c["id"] == "O-34")


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("at", "expected"), list(zip(CASE["input"]["quiet"]["at_utc"], CASE["expected"]["quiet"], strict=True))
)
def test_o_34_quiet_hours(at: str, expected: str) -> None:
    quiet = CASE["input"]["quiet"]
    profile = RecipientProfile(zone=quiet["zone"], quiet=(f"{quiet['start']}-{quiet['end']}",))
    found = look(profile, "general", Category(), Channel.SMS, _ms(at))
    if expected == "send":
        assert found is None
    else:
        assert isinstance(found, Held)
        until = datetime.fromtimestamp(found.until / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert expected == f"hold until {until}"
