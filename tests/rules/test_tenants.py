"""A reminder keeps its tenant: what another tenant sends for its id is refused."""

import pytest

from schemas.names import Action
from schemas.records import Definition, ReminderEvent, ReminderRow
from tables import lifecycle
from tables.transition import Arrival, Rules

NOW = 1_796_083_200_000
ARRIVAL = Arrival(NOW, NOW, "topic", 7, "e")


def event(tenant: str, action: Action = Action.UPSERT) -> ReminderEvent:
    return ReminderEvent("clinic/1", action=action, at=NOW + 1000, tenant=tenant)


def row_of(tenant: str) -> ReminderRow | None:
    step = lifecycle.apply_event(
        "clinic/1", None, event(tenant), Definition(at=NOW + 1000, tenant=tenant), Arrival(NOW), Rules()
    )
    return step.row


@pytest.mark.parametrize(
    ("whose", "says", "action", "refused"),
    [
        ("clinic", "clinic", Action.UPSERT, False),
        ("clinic", "bank", Action.UPSERT, True),
        ("clinic", "Clinic", Action.UPSERT, True),
        ("clinic", "", Action.UPSERT, True),
        ("", "bank", Action.UPSERT, True),
        ("", "", Action.UPSERT, False),
        ("clinic", "bank", Action.CANCEL, True),
        ("clinic", "bank", Action.SNOOZE, True),
        ("", "bank", Action.CANCEL, True),
        ("clinic", "", Action.CANCEL, False),
        ("clinic", "clinic", Action.PAUSE, False),
    ],
)
def test_whose_events_a_reminder_takes(whose: str, says: str, action: Action, refused: bool) -> None:
    assert lifecycle.of_another_tenant(row_of(whose), event(says, action), ARRIVAL) is refused


def test_an_unused_id_belongs_to_nobody() -> None:
    assert not lifecycle.of_another_tenant(None, event("bank"), ARRIVAL)
    cancelled = lifecycle.apply_event("clinic/1", None, event("bank", Action.CANCEL), None, Arrival(NOW), Rules())
    assert not lifecycle.of_another_tenant(cancelled.row, event("clinic"), ARRIVAL)


def test_a_replay_is_no_offence() -> None:
    """The row reflects it already: a cancel that came before the first UPSERT, say, of whichever tenant."""
    cancelled = lifecycle.apply_event("clinic/1", None, event("bank", Action.CANCEL), None, ARRIVAL, Rules())
    later = Arrival(NOW + 1, NOW + 1, "topic", 8, "f")
    made = lifecycle.apply_event(
        "clinic/1", cancelled.row, event("clinic"), Definition(at=NOW + 1000, tenant="clinic"), later, Rules()
    )
    assert not lifecycle.of_another_tenant(made.row, event("bank", Action.CANCEL), ARRIVAL)
    assert lifecycle.of_another_tenant(made.row, event("bank", Action.CANCEL), Arrival(NOW, NOW, "topic", 9, "g"))
