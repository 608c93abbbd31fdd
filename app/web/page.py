"""A row of the reminders table as people may see it: states, times and reasons; personal content masked. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from app import reasons, why
from app.web import series_page
from schemas.checks import masked
from schemas.checks import zone as zone_of
from schemas.codec import Undecodable, decode
from schemas.names import Channel, State
from schemas.records import Closed, Content, Definition, Occurrence, ReminderRow, TrailEntry
from tables import due, transition, turns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def reminder(reminder_id: str, raw: bytes, now: int) -> dict[str, object]:
    """Return what is shown of a row. Raises Undecodable for a damaged one."""
    head = due.unpack(raw)
    row = decode(ReminderRow, raw[due.HEADER.size :])
    definition = row.definition
    zone = (definition.zone if definition else "") or row.zone
    return {
        "reminder": reminder_id,
        "state": _state(row, head.state),
        "zone": zone,
        "acts_next": _time(head.due_ms, zone),
        "why": _why(why.explain(row, head, now), zone),
        "open": _open(row.open, zone) if row.open else None,
        "delivery_id": _delivery(reminder_id, row),
        "closed": [_closed(closed, zone) for closed in row.closed],
        "trail": [_entry(entry, zone) for entry in row.trail],
        "series": series_page.shown(row, zone, _time),
        "definition": _definition(definition, zone) if definition else None,
        "content": _content(definition) if definition else None,
        "version": row.version,
        "numbered": row.numbered,
        "cancelled": row.cancelled,
        "paused": row.paused,
        "reachable": row.reachable,
        "event_id": row.event_id,
        "created_at": _time(row.created_at, zone),
        "updated_at": _time(row.updated_at, zone),
    }


def due_at(row: ReminderRow) -> int:
    """Return when the open or the last occurrence was due, ms UTC; when it ended, where that is all that is known."""
    if row.open is not None:
        return row.open.due_at
    if not row.closed:
        return 0
    return row.closed[-1].due_at or row.closed[-1].at


def line(reminder_id: str, raw: bytes, row: ReminderRow) -> dict[str, object]:
    """Return what a list shows of a row."""
    head = due.unpack(raw)
    definition, o = row.definition, row.open
    zone = (definition.zone if definition else "") or row.zone
    last = row.closed[-1] if row.closed else None
    state = due.STATES.get(head.state, State.UNKNOWN)
    told = [entry for entry in row.trail if entry.state is state and entry.reason]
    reason = (o.reason if o is not None else last.reason if last is not None else "") or (
        told[-1].reason if told else ""
    )
    channel = o.channel if o is not None else last.channel if last is not None else Channel.ANY
    attempt = o.attempt if o is not None else row.trail[-1].attempt if row.trail else 0
    return {
        "reminder": reminder_id,
        "state": state.value,
        "reason": reason,
        "because": reasons.sentence(reason, channel),
        "channel": _channel(channel),
        "attempt": attempt,
        "due_at": _time(due_at(row), zone),
        "acts_next": _time(o.due, zone) if o is not None else None,
        "rule": series_page.rule(definition),
        "next_due": _time(row.next_due, zone),
        "deadline": _time(o.deadline, zone) if o is not None else None,
        "updated_at": _time(row.updated_at, zone),
        "recipient_id": definition.recipient_id if definition else "",
        "address": "" if o is not None and turns.escalated(o) else _address(definition, o.step if o is not None else 0),
        "category": definition.category if definition else "",
        "source": definition.source if definition else "",
        "tenant": definition.tenant if definition else "",
        "delivery_id": _delivery(reminder_id, row),
        "damaged": "",
    }


def _delivery(reminder_id: str, row: ReminderRow) -> str:
    """Return the id of the delivery that is open, or of the last one."""
    if row.open is not None:
        return transition.delivery_id(reminder_id, row.open)
    return row.closed[-1].delivery_id if row.closed else ""


def damaged_line(reminder_id: str, raw: bytes, reason: str) -> dict[str, object]:
    """Return what a list shows of a row whose body cannot be read."""
    head = due.unpack(raw)
    texts = (
        "reason",
        "because",
        "rule",
        "channel",
        "recipient_id",
        "address",
        "category",
        "source",
        "tenant",
        "delivery_id",
    )
    return {
        "reminder": reminder_id,
        "state": due.STATES.get(head.state, State.UNKNOWN).value,
        **dict.fromkeys(texts, ""),
        "attempt": 0,
        **dict.fromkeys(("due_at", "next_due", "deadline", "updated_at")),
        "acts_next": _time(head.due_ms, ""),
        "damaged": reason,
    }


def _address(definition: Definition | None, step: int) -> str:
    """Return the address of a step, masked; "" where the recipient's contacts serve or nobody here can read it."""
    if definition is None or definition.sealed.key_id or not definition.sealed.body:
        return ""
    try:
        addresses = decode(Content, definition.sealed.body).addresses
    except Undecodable:
        return ""
    return masked(addresses[step], "address") if step < len(addresses) else ""


def damaged(reminder_id: str, raw: bytes, reason: str) -> dict[str, object]:
    """Return what can still be said of a row whose body cannot be read."""
    head = due.unpack(raw)
    return {
        "reminder": reminder_id,
        "state": due.STATES.get(head.state, State.UNKNOWN).value,
        "acts_next": _time(head.due_ms, ""),
        "damaged": reason,
        "trail": [],
    }


def _state(row: ReminderRow, code: int) -> str:
    if row.open is not None:
        return row.open.state.value
    return due.STATES.get(code, State.UNKNOWN).value


def _open(occurrence: Occurrence, zone: str) -> dict[str, object]:
    return {
        "occurrence": occurrence.occurrence,
        "state": occurrence.state.value,
        "reason": occurrence.reason,
        "due_at": _time(occurrence.due_at, zone),
        "deadline": _time(occurrence.deadline, zone),
        "acts_next": _time(occurrence.due, zone),
        "round": occurrence.round,
        "step": occurrence.step,
        "attempt": occurrence.attempt,
        "ask": occurrence.ask,
        "asked_at": _time(occurrence.asked_at, zone),
        "channel": _channel(occurrence.channel),
    }


def _closed(closed: Closed, zone: str) -> dict[str, object]:
    return {
        "occurrence": closed.occurrence,
        "state": closed.state.value,
        "reason": closed.reason,
        "at": _time(closed.at, zone),
        "delivery_id": closed.delivery_id,
        "channel": _channel(closed.channel),
    }


def _entry(entry: TrailEntry, zone: str) -> dict[str, object]:
    return {
        "seq": entry.seq,
        "at": _time(entry.at, zone),
        "state": entry.state.value,
        "reason": entry.reason,
        "occurrence": entry.occurrence,
        "attempt": entry.attempt,
        "channel": _channel(entry.channel),
        "detail": entry.detail,
        "actor": entry.actor,
    }


def _why(found: why.Why, zone: str) -> dict[str, object]:
    return {
        "state": found.state,
        "because": found.because,
        "next": found.next,
        "next_at": _time(found.at, zone),
        "deadline": _time(found.deadline, zone),
        "lateness": _lateness(found.lateness, zone) if found.lateness else None,
    }


def _lateness(found: why.Lateness, zone: str) -> dict[str, object]:
    return {
        "due_at": _time(found.due_at, zone),
        "total_ms": found.total_ms,
        "attempt": found.attempt,
        "channel": _channel(found.channel),
        "stages": [
            {"stage": part.stage, "at": _time(part.at, zone), "ms": part.ms, "waits_for": why.WAITS[part.stage]}
            for part in found.parts
        ],
    }


def _definition(definition: Definition, zone: str) -> dict[str, object]:
    return {
        "recipient_id": definition.recipient_id,
        "local": definition.local,
        "at": _time(definition.at or 0, zone),
        "zone": definition.zone,
        "rrule": definition.rrule,
        "cron": definition.cron,
        "exclude": list(definition.exclude),
        "rdates": list(definition.rdates),
        "before": list(definition.before),
        "calendar": definition.calendar,
        "expires_at": _time(definition.expires_at or 0, zone),
        "category": definition.category,
        "priority": definition.priority.value,
        "steps": [
            {"channel": _channel(step.channel), "wait_for": step.wait_for.value, "within_s": step.within_s}
            for step in definition.steps
        ],
        "source": definition.source,
        "tenant": definition.tenant,
        "correlation_id": definition.correlation_id,
    }


def _content(definition: Definition) -> dict[str, object]:
    """Return how much content there is; never the content."""
    sealed = definition.sealed
    if sealed.key_id or not sealed.body:
        return {"sealed": bool(sealed.key_id)}
    try:
        content = decode(Content, sealed.body)
    except Undecodable:
        return {"sealed": False, "damaged": True}
    return {
        "sealed": False,
        "title": masked(content.title, "content"),
        "text": masked(content.text, "content"),
        "data": _masked(content.data, "content"),
        "addresses": _masked(content.addresses, "address"),
        "actor": masked(content.actor, "actor"),
    }


def _masked(values: Iterable[str], pii: str) -> list[str]:
    return [masked(value, pii) for value in values]


def _channel(channel: Channel) -> str:
    return "" if channel is Channel.ANY else channel.value


def _time(ms: int, zone: str) -> dict[str, object] | None:
    """Return an instant in ms, in UTC and on the reminder's clock; None for none."""
    if not 0 < ms < due.MAX_DUE_MS:
        return None
    shown: dict[str, object] = {"ms": ms}
    try:
        at = _EPOCH + timedelta(milliseconds=ms)
        shown["utc"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if there := zone_of(zone):
            shown["local"] = at.astimezone(there).isoformat(timespec="milliseconds")
    except OverflowError:
        pass
    return shown
