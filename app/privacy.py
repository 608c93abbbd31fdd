"""By which means what is personal goes, topic by topic, as data.

docs/privacy.md has it, and a test compares it with the topics and with the fields that the schemas mark as personal.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.teams import Team
from app.topics import DAY_MS, TOPICS, Cleanup, TopicSpec, team_topic

_AVRO = Path(__file__).resolve().parent.parent / "schemas" / "avro"


class Means(StrEnum):
    """How what is personal goes from a topic."""

    TIME = "clear, until its time is over"
    SEALED = "sealed, its key is destroyed"
    ROW = "sealed, its key goes with the row"
    HASH = "a keyed hash"
    ACTOR = "clear: who acted, for the record"
    NONE = "nothing personal"


#: What stands for the topics of teams.
TEAM = team_topic(Team("<team>", "<prefix>"))
_CORE, _DELIVERY = (spec.name for spec in TOPICS if spec.name.endswith("-changelog"))
MEANS: dict[str, Means] = {
    "reminders": Means.TIME,
    TEAM.name: Means.TIME,
    "recipients": Means.TIME,
    "notifications.requests": Means.SEALED,
    **{spec.name: Means.TIME for spec in TOPICS if spec.schema == "delivery, message"},
    "notifications.outcomes": Means.NONE,
    "notifications.receipts": Means.NONE,
    "notifications.replies": Means.HASH,
    **{spec.name: Means.NONE for spec in TOPICS if spec.schema == "retry_record"},
    "notifications.dlq": Means.TIME,
    "reminders.audit": Means.ACTOR,
    "reminders.control": Means.ACTOR,
    "notifications.status": Means.NONE,
    "templates": Means.ACTOR,
    "suppressions": Means.HASH,
    _CORE: Means.SEALED,
    _DELIVERY: Means.ROW,
}


def specs() -> tuple[TopicSpec, ...]:
    """Return all topics, and one that stands for those of teams."""
    return (TOPICS[0], TEAM, *TOPICS[1:])


def personal(spec: TopicSpec) -> list[str]:
    """Return the fields of a topic's records that its schemas mark as personal, by kind, each once."""
    found: dict[str, None] = {}
    for name in spec.schema.split(", ") if spec.schema else ():
        _marks(json.loads((_AVRO / f"{name}.avsc").read_text("utf-8")), found)
    return list(found)


def _marks(node: Any, found: dict[str, None]) -> None:
    if isinstance(node, list):
        for one in node:
            _marks(one, found)
    elif isinstance(node, dict):
        if "pii" in node:
            found.setdefault(f"{node['name']} ({node['pii']})")
        for value in node.values():
            _marks(value, found)


def table() -> str:
    """Return the table of docs/privacy.md."""
    lines = ["| topic | personal | means | kept |", "|---|---|---|---|"]
    for spec in specs():
        kept = "last value of a key" if spec.cleanup is Cleanup.COMPACT else f"{spec.retention_ms // DAY_MS} days"
        fields = ", ".join(f"`{field}`" for field in personal(spec)) or (
            "the original bytes" if not spec.schema else "–"
        )
        lines.append(f"| `{spec.name}` | {fields} | {MEANS[spec.name].value} | {kept} |")
    return "\n".join(lines)
