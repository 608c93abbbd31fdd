"""What is taken back once somebody has answered, or the reminder is cancelled: messages that still wait at a provider,
pushes on screens, calls that ring. Pure.

It is a request of its own for each delivery that may be out, and nothing waits for what becomes of it.
"""

from schemas import ids
from schemas.names import Channel, RequestKind, State
from schemas.records import Closed, Definition, DeliveryRequest, Occurrence
from tables import turns

#: The reasons by which a trail tells what became of it.
RETRACTED = "retracted"
NOT_RETRACTED = "not_retracted"

#: Channels whose messages can be taken back at times.
CHANNELS = frozenset({Channel.PUSH, Channel.SMS, Channel.WHATSAPP, Channel.VOICE})
#: Deliveries of an occurrence that are taken back, the last ones.
MOST = 8
_TOO_LATE = "cancel_too_late"


def wanted(to: State, reason: str) -> bool:
    """Return whether what is out of an occurrence is to be taken back when it ends so."""
    return to in (State.ACKNOWLEDGED, State.CANCELLED) or reason == _TOO_LATE


def requests(reminder_id: str, d: Definition | None, o: Occurrence | Closed, now: int) -> list[DeliveryRequest]:
    """Return the requests that take back what may be out of an occurrence, the last delivery first."""
    if d is None or not _may_be_out(d, o):
        return []
    return [
        DeliveryRequest(
            kind=RequestKind.RETRACT,
            reminder_id=reminder_id,
            recipient_id=whom,
            occurrence=o.occurrence,
            round=round_,
            step=step,
            asked_at=now,
            tenant=d.tenant,
            source=d.source,
            correlation_id=d.correlation_id,
        )
        for whom, round_, step in _deliveries(d, o)[:MOST]
    ]


def _may_be_out(d: Definition, o: Occurrence | Closed) -> bool:
    if isinstance(o, Occurrence) and not o.asked_at and not o.step and not turns.repeated(o):
        return False
    several = o.insistence is not None and len(o.insistence.turns) > 1
    channels = {step.channel for step in d.steps}
    return several or (bool(CHANNELS & channels) if channels else o.channel in CHANNELS | {Channel.ANY})


def _deliveries(d: Definition, o: Occurrence | Closed) -> list[tuple[str, int, int]]:
    """Return the deliveries of an occurrence as recipient, round and step, the last one first."""
    found: list[tuple[str, int, int]] = []
    last = o.step if isinstance(o, Occurrence) else ids.step_of(o.delivery_id)
    for round_ in range(o.round, turns.first_round(o) - 1, -1):
        whom, first_turn = d.recipient_id, True
        for n, turn in enumerate(o.insistence.turns if o.insistence is not None else ()):
            if turn.round <= round_:
                whom, first_turn = turn.recipient_id, n == 0
        steps = last if round_ == o.round else max(0, len(d.steps) - 1) if first_turn else 0
        found.extend((whom, round_, step) for step in range(steps, -1, -1))
        if len(found) >= MOST:
            break
    return found
