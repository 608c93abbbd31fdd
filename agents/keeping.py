"""The keys of sealed reminders: kept in the recipients' partition, used by the gate alone."""

from dataclasses import dataclass

from agents import forgetting
from agents.delivery import Delivering
from agents.ports import View
from schemas import codec, ids
from schemas.names import OutcomeKind
from schemas.quick import replace
from schemas.records import Content, DeliveryRequest, RecipientLink, RecipientProfile
from schemas.sealing import CLEAR, CONTENT, Unopened

#: How long a request waits whose content is of another key: core asks again with what it has by then, in ms.
ANOTHER_KEY_MS = 1_000
#: So much longer than core its row those keep a key who may be asked in a recipient's place, in ms: a word may be late.
STANDS_IN_MS = 3_600_000
#: How long one waits whose master key this worker does not have, in ms: somebody has to set it.
MASTER_UNKNOWN_MS = 60_000


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a request is not served, since it is over or something does not open. ``wait_ms`` 0: it never will be."""

    outcome: OutcomeKind
    reason: str
    wait_ms: int = 0


def opened(work: Delivering, view: View, request: DeliveryRequest) -> Content | Closed:
    """Return what a request says, or why nobody can read it any more, or not now."""
    if request.sealed.key_id == CLEAR:
        return codec.decode(Content, request.sealed.body)
    raw = view.get(ids.link_key(request.recipient_id, request.reminder_id))
    wrapped = work.link(raw).wrapped_key if raw is not None else b""
    try:
        return codec.decode(Content, work.sealing.open(request.reminder_id, CONTENT, request.sealed, wrapped))
    except Unopened as why:
        match why.reason:
            case "another_key":
                return Closed(OutcomeKind.HELD, "another_key", ANOTHER_KEY_MS)
            case "master_unknown":
                return Closed(OutcomeKind.MISCONFIGURED, "sealed_with_unknown_key", MASTER_UNKNOWN_MS)
            case "key_gone":
                return Closed(OutcomeKind.SKIPPED, "key_gone")
            case _:
                return Closed(OutcomeKind.REJECTED, "sealed_damaged")


def closed(why: Unopened) -> Closed:
    """Return what becomes of a request whose recipient's profile does not open."""
    if why.reason == "master_unknown":
        return Closed(OutcomeKind.MISCONFIGURED, "sealed_with_unknown_key", MASTER_UNKNOWN_MS)
    return Closed(OutcomeKind.REJECTED, "sealed_damaged")


def read(
    work: Delivering, view: View, request: DeliveryRequest, now: int
) -> tuple[RecipientProfile | None, Content] | Closed:
    """Return what is known of the recipient of a request and what it says, or why nothing is sent for it."""
    try:
        profile = work.profile(view, request.recipient_id)
    except Unopened as why:
        return closed(why)
    if request.deadline and request.deadline <= now:
        return Closed(OutcomeKind.SKIPPED, "expired")
    if forgetting.asked_before(profile, request.asked_at):
        return Closed(OutcomeKind.SKIPPED, "erased")
    content = opened(work, view, request)
    return content if isinstance(content, Closed) else (profile, content)


def with_key(link: RecipientLink, wrapped: bytes) -> RecipientLink:
    """Return a link with the newest key of its reminder's content; one that comes without keeps what it has."""
    return replace(link, wrapped_key=wrapped) if wrapped else link


def until(link: RecipientLink, now: int, retention_ms: int) -> int:
    """Return when the link of a reminder that has ended is purged, in ms UTC.

    Its key outlives the reminder's own row: while that stands, it can be sent again. The copy of somebody who may be
    asked in its recipient's place does so by no more than it must: core tells them of an erasure as long as it has the
    row.
    """
    if link.stands_in:
        return now + retention_ms + STANDS_IN_MS
    return now + (2 if link.wrapped_key else 1) * retention_ms
