"""How the key of a sealed reminder reaches the places that keep it: the partition of its recipient, and of each who may
be asked in their place. Pure."""

from schemas.names import RequestKind
from schemas.quick import replace
from schemas.records import DeliveryRequest
from tables.transition import Transition, link_requests, stand_ins

_LINKS = frozenset({RequestKind.LINK, RequestKind.UNLINK})


def sent_along(rid: str, step: Transition, wrapped: bytes, now: int) -> Transition:
    """Return the transition of an UPSERT with the wrapped key of its content on its way to delivery.

    It goes with the last word about each link, so that no older word takes it back; where nothing is said of a link,
    as it stands. The key comes before every request that needs it: they share a partition.
    """
    row = step.row
    if row is None or row.definition is None:
        raise ValueError("only what is defined has a key")
    d = row.definition
    wanted = {d.recipient_id, *stand_ins(d)}
    emits = list(step.emits)
    for n in reversed(range(len(emits))):
        emit = emits[n]
        if isinstance(emit, DeliveryRequest) and emit.kind in _LINKS and emit.recipient_id in wanted:
            emits[n] = replace(emit, wrapped_key=wrapped)
            wanted.remove(emit.recipient_id)
    if not wanted:
        return replace(step, emits=tuple(emits))
    kind = RequestKind.LINK if row.open is not None else RequestKind.UNLINK
    words = [
        replace(word, wrapped_key=wrapped)
        for word in link_requests(kind, rid, row.link, d, now)
        if word.recipient_id in wanted
    ]
    return replace(step, emits=(*words, *emits))
