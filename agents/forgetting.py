"""What the recipients' partition does when somebody is to be forgotten: it drops what it holds of them and tells their
reminders, which core then ends.

Topics keep no order among each other. So the profile of somebody who was erased stays as a mark of when that was,
without anything of theirs: a link or a request that was made before, and comes later, meets the mark.
"""

from collections.abc import Iterable

from agents.delivery import Delivering
from agents.ports import Out, View
from schemas import ids
from schemas.names import AnswerKind
from schemas.quick import replace
from schemas.records import DeliveryAnswer, DeliveryRequest, RecipientLink, RecipientProfile

#: Links looked at in one step when a recipient changes.
LINK_PAGE = 500


def links_of(work: Delivering, view: View, recipient_id: str) -> list[tuple[bytes, RecipientLink]]:
    """Return the links of a recipient, those of reminders that have ended too."""
    prefix = ids.link_prefix(recipient_id)
    found: list[tuple[bytes, RecipientLink]] = []
    start = prefix
    while True:
        page = view.scan(prefix, start, LINK_PAGE)
        found.extend((key, work.link(raw)) for key, raw in page)
        if len(page) < LINK_PAGE:
            return found
        start = page[-1][0] + b"\0"


def recipient(
    work: Delivering, view: View, recipient_id: str, at: int, now: int, correlation_id: str
) -> tuple[dict[bytes, bytes | None], tuple[Out, ...]]:
    """Return what an erased recipient leaves beside the profile, and the word to each of their reminders.

    ``at``: when they were erased, ms UTC.
    """
    rows: dict[bytes, bytes | None] = {}
    sends = ids.sends_key(recipient_id)
    if view.get(sends) is not None:
        rows[sends] = None
    waiting = ids.digest_prefix(recipient_id)
    rows |= {key: None for key, _ in view.scan(waiting, waiting, LINK_PAGE)}
    links = []
    for key, link in links_of(work, view, recipient_id):
        gone = keyless(replace(link, linked=False, correlation_id=correlation_id[:200]))
        rows[key] = work.written(gone, now + work.retention_ms)
        if not link.stands_in:
            links.append(gone)
    return rows, told(work, links, at)


def told(work: Delivering, links: Iterable[RecipientLink], at: int) -> tuple[Out, ...]:
    """Return the word that a recipient was erased (``at``, ms UTC), to the reminders of some links."""
    return tuple(
        work.answered(
            DeliveryAnswer(
                AnswerKind.ERASED, link.reminder_id, link=link.link, ended_at=at, correlation_id=link.correlation_id
            )
        )
        for link in links
    )


def keyless(link: RecipientLink) -> RecipientLink:
    """Return a link without the key of its reminder's content, which nobody can read from now on."""
    return replace(link, wrapped_key=b"")


def asked_before(profile: RecipientProfile | None, asked_at: int) -> bool:
    """Return whether something was asked (ms UTC) of a recipient who has been erased since."""
    return profile is not None and profile.erased and asked_at <= profile.updated_at


def late(work: Delivering, profile: RecipientProfile | None, request: DeliveryRequest) -> tuple[Out, ...]:
    """Return the word to a reminder whose link comes after its recipient was erased; core knows which was earlier."""
    if profile is None or not profile.erased or request.stands_in:
        return ()
    link = RecipientLink(request.reminder_id, request.link, False, correlation_id=request.correlation_id)
    return told(work, (link,), profile.updated_at)
