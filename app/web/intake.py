"""What came by HTTP becomes events as any producer writes them, or a list of what is wrong. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from app import sparse
from app.tokens import Token
from schemas.checks import Fault, Reason, shown
from schemas.codec import Unencodable, encode
from schemas.ids import MAX_EVENT_BYTES
from schemas.names import Action
from schemas.records import ReminderEvent
from tables.admission import event_fault

#: More faults than these are not looked for: a request that has so many is wrong as a whole.
MAX_FAULTS = 100
#: The source of an event that names none.
SOURCE = "http"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request beside its body. ``fresh`` gives an event id that nobody had."""

    token: Token
    key: str
    correlation: str
    now: int
    fresh: Callable[[], str]

    def event_id(self, position: int, event: ReminderEvent) -> str:
        """Return the id of an event that has none: the same for the same place of a request that is repeated."""
        if not self.key:
            return self.fresh()
        parts = [self.token.name, self.key, event.tenant, position, event.action.value, event.reminder_id]
        return sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(slots=True)
class Batch:
    """The events of a request, as far as it was read. With a fault in it nothing of it may be sent."""

    asked: Asked
    events: list[ReminderEvent] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    faults: list[dict[str, object]] = field(default_factory=list)
    forbidden: bool = False
    _unnumbered: set[str] = field(default_factory=set)

    @property
    def full(self) -> bool:
        """Whether so much is wrong that the rest need not be read."""
        return len(self.faults) >= MAX_FAULTS

    def read(self, index: int, value: Any) -> None:
        """Read one event of sparse JSON."""
        try:
            event = sparse.record(ReminderEvent, value)
        except sparse.NotARecord as exc:
            self._wrong(index, "invalid_json", exc.field, "", exc.remedy)
        else:
            self.take(index, event)

    def take(self, index: int, event: ReminderEvent) -> None:
        """Check one event and complete it with what the request says."""
        token = self.asked.token
        if token.tenant and event.tenant not in ("", token.tenant):
            self.forbidden = True
            remedy = f"this token writes events of tenant {token.tenant} alone; leave tenant out"
            return self._wrong(index, "forbidden_tenant", "tenant", shown(event.tenant), remedy)
        if not event.reminder_id.startswith(token.prefix):
            self.forbidden = True
            remedy = f"this token may only use ids that begin with {token.prefix}"
            return self._wrong(index, "forbidden_id", "reminder_id", shown(event.reminder_id), remedy)
        event = self._completed(index, event)
        if fault := event_fault(event, self.asked.now, self.asked.now) or self._repeated(event):
            return self._wrong(index, str(fault.reason), fault.field, fault.value, fault.remedy)
        try:
            value = encode(event)
        except Unencodable as exc:
            # What it says of a field is its name and its type, never what is in it.
            name, _, why = str(exc).partition(": ")[2].partition(" ")
            return self._wrong(index, str(Reason.INVALID), name, "", f"{why}; send what the schema takes")
        if len(value) > MAX_EVENT_BYTES:
            remedy = f"send at most {MAX_EVENT_BYTES} bytes; link to large content instead"
            return self._wrong(index, str(Reason.OVERSIZE), "", f"{len(value)} bytes", remedy)
        self.events.append(event)
        self.values.append(value)
        return None

    def _completed(self, index: int, event: ReminderEvent) -> ReminderEvent:
        asked = self.asked
        event = replace(
            event,
            tenant=event.tenant or asked.token.tenant,
            source=event.source or SOURCE,
            # Who has the token acts; what the body says of it is a claim.
            actor=asked.token.name,
        )
        event_id = event.event_id or asked.event_id(index, event)
        return replace(event, event_id=event_id, correlation_id=event.correlation_id or asked.correlation or event_id)

    def _repeated(self, event: ReminderEvent) -> "_Repeated | Fault | None":
        """Refuse a second unnumbered event of one reminder: were the request repeated, the first would undo it."""
        if event.version > 0:
            return None
        if event.reminder_id in self._unnumbered:
            return _Repeated(value=shown(event.reminder_id))
        self._unnumbered.add(event.reminder_id)
        return None

    def _wrong(self, index: int, reason: str, name: str, value: str, remedy: str) -> None:
        self.faults.append({"index": index, "reason": reason, "field": name, "value": value, "remedy": remedy})


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A fault that only a request of several events can have."""

    value: str
    reason: str = "repeated_id"
    field: str = "reminder_id"
    remedy: str = "number the versions of its events, or send them in requests of their own"


#: What may be said of a doubt.
ANSWERS = {"sent": Action.CONFIRM_SENT, "not-sent": Action.CONFIRM_NOT_SENT}


def resolve(reminder_id: str, answer: str, reason: str, delivery_id: str) -> ReminderEvent:
    """Return the event that says what became of a reminder in doubt."""
    return ReminderEvent(reminder_id, action=ANSWERS[answer], text=reason, delivery_id=delivery_id)


def cancel(reminder_id: str, version: int, occurrence: str) -> ReminderEvent:
    """Return the event that cancels a reminder, or one occurrence of it."""
    return ReminderEvent(reminder_id, action=Action.CANCEL, version=version, occurrence=occurrence)
