"""What is held of a person as a document for them: JSON that says all and needs no knowledge of the service. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from app.reasons import sentence
from schemas.records import (
    AuditEntry,
    Content,
    RecipientDelivery,
    RecipientProfile,
    RecipientSends,
    ReminderRow,
    Sealed,
    SuppressionRecord,
)
from tables.transition import state

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Fields that hold an instant in ms, beside those that end with ``_at``.
_INSTANTS = frozenset({"at", "due", "deadline", "until", "next_due", "snoozed_to", "not_before", "since"})
#: What serves the service alone and says nothing of the person.
_INNER = frozenset({"applied", "sealed", "stages", "seq", "ask", "link", "tzdata", "stamp", "wrapped_key"})


def document(
    recipient_id: str,
    now: int,
    *,
    profile: RecipientProfile | None = None,
    suppressions: Iterable[SuppressionRecord] = (),
    reminders: Mapping[str, ReminderRow] | None = None,
    contents: Mapping[str, Content] | None = None,
    deliveries: Iterable[RecipientDelivery] = (),
    sends: RecipientSends | None = None,
    audit: Iterable[AuditEntry] = (),
    copies: Iterable[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Return all that is held of a person (``now``: ms UTC). ``copies``: where records about them lie besides."""
    rows = reminders or {}
    said = contents or {}
    return {
        "recipient": recipient_id,
        "exported_at": _instant(now),
        "profile": plain(profile) if profile is not None else None,
        "suppressed": [plain(record) for record in suppressions],
        "reminders": [_reminder(rid, rows[rid], said.get(rid)) for rid in sorted(rows)],
        "deliveries": [plain(row) for row in deliveries],
        "counted_against_caps": plain(sends) if sends is not None else None,
        "audit": [plain(entry) for entry in audit],
        "copies": list(copies),
    }


def _reminder(rid: str, row: ReminderRow, content: Content | None) -> dict[str, object]:
    told: dict[str, object] = {"id": rid, "state": state(row).value}
    reason = row.open.reason if row.open is not None else row.closed[-1].reason if row.closed else ""
    if reason:
        told["because"] = sentence(reason)
    if content is not None:
        told["content"] = plain(content)
    elif row.definition is not None and row.definition.sealed.body:
        told["content"] = "sealed, and its key is not here"
    whole = plain(row)
    return told | (whole if isinstance(whole, dict) else {})


def plain(value: Any) -> Any:
    """Return a record as JSON holds it: instants in ISO 8601, without what is empty or serves the service alone."""
    if isinstance(value, Sealed):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        found: dict[str, object] = {}
        for f in fields(value):
            one = getattr(value, f.name)
            if f.name in _INNER or (one in (None, "", 0, (), {}) and one is not False):
                continue
            if (f.name in _INSTANTS or f.name.endswith("_at")) and isinstance(one, int):
                found[f.name] = _instant(one)
            else:
                found[f.name] = plain(one)
        return found
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return value


def _instant(ms: int) -> object:
    try:
        return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return ms
