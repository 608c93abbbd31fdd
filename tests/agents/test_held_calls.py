"""Holds, right before a call."""

from typing import Any

import pytest

from schemas.names import OutcomeKind
from schemas.records import ControlRecord
from tests.agents.test_deliver import Desk


@pytest.mark.parametrize("scope", ["channel:email", "provider:smtp", "*"])
async def test_what_is_held_waits_for_the_end_of_the_hold(scope: str) -> None:
    """It is not asked for again and again meanwhile: its release lets it go."""
    for ends_at, until in ((7_201_000, 7_201_000), (0, 1000 + 86_400_000)):
        desk = Desk()
        record = ControlRecord(scope, "HOLD", 0, ends_at=ends_at)
        calls: Any = desk.calls
        calls._work.review_ms = 86_400_000
        calls._control.holding = lambda subject, record=record: record
        answer = await desk.call("a@people.example")
        assert (answer.outcome, answer.reason, answer.spent) == (OutcomeKind.HELD, f"hold:{scope}", False)
        assert answer.not_before == until
        assert desk.sent == []
