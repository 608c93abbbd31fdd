"""What the recipients' partition remembers of the deliveries of one recipient."""

from collections.abc import Iterator

from agents.ports import View
from schemas import codec, ids
from schemas.codec import Undecodable
from schemas.records import RecipientDelivery
from tables import due as index

#: A recipient's deliveries that are looked at, at the most.
MOST = 1_000


def rows_of(view: View, recipient_id: str, reminder_id: str) -> Iterator[tuple[bytes, RecipientDelivery]]:
    """Yield what is remembered of a recipient's deliveries, or of those of a reminder without one; up to ``MOST``, and
    none that cannot be read."""
    prefix = f"d/{ids.owner(recipient_id, reminder_id)}/".encode()
    for key, raw in view.scan(prefix, prefix, MOST):
        try:
            yield key, codec.decode(RecipientDelivery, raw[index.HEADER.size :])
        except Undecodable:
            continue
