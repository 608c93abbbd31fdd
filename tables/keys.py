"""How the key of a sealed reminder reaches the one place that keeps it: the partition of its recipient. Pure."""

from schemas.names import RequestKind
from schemas.quick import replace
from schemas.records import Definition, DeliveryRequest, ReminderRow
from tables import turns
from tables.transition import Transition, link_request

_LINKS = frozenset({RequestKind.LINK, RequestKind.UNLINK})


def may_seal(d: Definition, before: ReminderRow | None) -> bool:
    """Return whether one place can keep the key: what is or may be escalated is read in several people's partitions."""
    o = before.open if before is not None else None
    return not turns.policy(d).escalate_to and (o is None or not turns.escalated(o))


def sent_along(rid: str, step: Transition, wrapped: bytes, now: int) -> Transition:
    """Return the transition of an UPSERT with the wrapped key of its content on its way to delivery.

    It goes with the last word about the link, so that no older word takes it back; where nothing is said of the link,
    as it stands. The key comes before every request that needs it: they share a partition.
    """
    row = step.row
    if row is None or row.definition is None:
        raise ValueError("only what is defined has a key")
    d = row.definition
    emits = list(step.emits)
    for n in reversed(range(len(emits))):
        emit = emits[n]
        if isinstance(emit, DeliveryRequest) and emit.kind in _LINKS and emit.recipient_id == d.recipient_id:
            emits[n] = replace(emit, wrapped_key=wrapped)
            return replace(step, emits=tuple(emits))
    kind = RequestKind.LINK if row.open is not None else RequestKind.UNLINK
    word = replace(link_request(kind, rid, row.link, d, now), wrapped_key=wrapped)
    return replace(step, emits=(word, *emits))
