"""Events that an operator has named to be passed over: records of ``reminders.control`` beside the holds. Pure.

The scope is ``skip:TOPIC/PARTITION/OFFSET``. It is meant for an event at which workers end again and again, so that
nothing behind it is read: they send it to the dead letter topic undone and go on.
"""

from typing import NamedTuple

from schemas.checks import MAX_AHEAD_MS
from schemas.records import ControlRecord

SKIP = "SKIP"
_PREFIX = "skip:"


class Place(NamedTuple):
    """Where an event lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def scope(place: Place) -> str:
    """Return the scope that names an event."""
    return f"{_PREFIX}{place}"


def place(scope: str) -> Place | None:
    """Return the event that a scope names, None if it names none."""
    topic, _, rest = scope.removeprefix(_PREFIX).rpartition("/")[0].rpartition("/")
    offset = scope.rpartition("/")[2]
    if not scope.startswith(_PREFIX) or not topic or not rest.isdecimal() or not offset.isdecimal():
        return None
    return Place(topic, int(rest), int(offset))


def meant(record: ControlRecord, timestamp_ms: int, now: int) -> bool:
    """Return whether a record means the event that lies there now.

    One that is younger than the record lies on a topic that was made anew since then: another event was meant.
    """
    stands = record.ends_at == 0 or record.ends_at > now
    return record.kind == SKIP and stands and timestamp_ms <= record.at + MAX_AHEAD_MS
