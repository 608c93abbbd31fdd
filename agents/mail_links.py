"""The links of a message: what its reader may do with one click, of this delivery, this address and this category."""

from dataclasses import dataclass, field

from schemas.hashing import AddressHash
from schemas.links import Act, Link, Links
from schemas.names import Channel
from schemas.records import Delivery
from tables.consent import Category, Needs

#: Longest address that fits into a line of a mail's head, in characters.
MAX_MAILTO = 960


@dataclass(frozen=True, slots=True)
class MailLinks:
    """Makes the links. They are the same for every attempt of a delivery, as the mail itself is.

    ``unsubscribe_at``: the address to which a mail unsubscribes, too; empty: there is none.
    """

    links: Links = field(default_factory=lambda: Links(()))
    hashing: AddressHash = field(default_factory=AddressHash)
    unsubscribe_at: str = ""

    def of(self, delivery: Delivery, address: str, category: Category) -> dict[str, str]:
        """Return the links that a delivery carries, by the name of the field of ``Send``.

        What needs no consent cannot be unsubscribed from, so that it offers no such link.
        """
        if not self.links or delivery.channel not in (Channel.EMAIL, Channel.PUSH):
            return {}
        until = delivery.due_at + self.links.lasts_ms
        made = {}
        if delivery.wants_answer:
            made["confirm_url"] = self.links.url(Link(Act.ACKNOWLEDGE, delivery.delivery_id, until))
        if delivery.channel is Channel.PUSH:
            # For the app to post to, once somebody has tapped.
            return made
        if category.needs is not Needs.NOTHING:
            key = self.hashing.key(delivery.channel, address, delivery.category)
            unsubscribe = Link(Act.UNSUBSCRIBE, key, until, delivery.category)
            made["unsubscribe_url"] = self.links.url(unsubscribe)
            mail = f"mailto:{self.unsubscribe_at}?subject=unsubscribe%20{self.links.token(unsubscribe)}"
            # A long category makes a long link; a line of a mail is no longer, and one way is enough.
            if self.unsubscribe_at and len(mail) <= MAX_MAILTO:
                made["unsubscribe_mail"] = mail
        if delivery.recipient_id:
            made["preferences_url"] = self.links.url(Link(Act.PREFERENCES, delivery.recipient_id, until))
        return made
