"""Ways: which of a recipient's contacts goes first for its price, and what must not be sent for it."""

from collections.abc import Sequence

from agents.delivery import Delivering
from schemas.names import Channel
from schemas.records import Contact, DeliveryRequest, RecipientProfile
from tables import consent, prices


def ordered(
    work: Delivering,
    request: DeliveryRequest,
    profile: RecipientProfile,
    category: consent.Category,
    served: Sequence[Contact],
    now: int,
) -> tuple[list[Contact], str]:
    """Return a recipient's contacts in the order in which they are to be tried, and why, for the trail.

    What costs more than the request allows is left out, unless all do. The recipient's own order stays, unless the
    category has the cheaper channel go first.
    """
    cap = request.max_cost_micros
    kept = [c for c in served if not prices.beyond(cap, work.price(c.channel, c.address))] if cap else []
    kept = kept or list(served)
    first: dict[Channel, Contact] = {}
    for contact in kept:
        first.setdefault(contact.channel, contact)
    if not category.cheaper_first or request.channel is not Channel.ANY or len(first) == 1:
        return kept, ""
    found = [
        prices.Way(
            channel,
            work.price(channel, contact.address),
            consent.look(profile, request.category, category, channel, now) is None,
            _answers(work, channel),
        )
        for channel, contact in first.items()
    ]
    found = list(prices.cheaper_first(found, wants_answer=request.wants_answer))
    rank = {way.channel: n for n, way in enumerate(found)}
    compared = ", ".join(f"{way.channel.value.lower()} {_words(work.prices, way)}" for way in found)
    return sorted(kept, key=lambda contact: rank[contact.channel]), f"cheaper first: {compared}"


def closed(work: Delivering, request: DeliveryRequest, channel: Channel, address: str) -> tuple[str, str]:
    """Return why a channel cannot be used: it is not there, or for its price, with what was compared; empty if it can.

    A text message costs a part here at least; what all of its parts come to is looked at before the call.
    """
    if channel not in work.adapters:
        return "channel_not_configured", ""
    cap = request.max_cost_micros
    price = work.price(channel, address) if cap else None
    why = prices.beyond(cap, price)
    return (why, allowed(work, cap, price)) if why else ("", "")


def allowed(work: Delivering, cap: int, cost: int | None) -> str:
    """Return what a message costs and what it may, in words."""
    return f"{'no price' if cost is None else work.prices.words(cost)}; allowed {work.prices.words(cap)}"


def _words(table: prices.Prices, way: prices.Way) -> str:
    price = "no price" if way.micros is None else table.words(way.micros)
    return price if way.now else f"{price}, not now"


def _answers(work: Delivering, channel: Channel) -> bool:
    """Return whether an answer can come back on a channel."""
    match channel:
        case Channel.SMS | Channel.WHATSAPP:
            return work.replies is not None and channel in work.replies.texted
        case Channel.VOICE:
            # The key that somebody presses comes the way that texts do.
            return work.replies is not None and Channel.SMS in work.replies.texted
        case Channel.EMAIL | Channel.PUSH:
            return bool(work.mail_links.links)
        case _:
            return True
