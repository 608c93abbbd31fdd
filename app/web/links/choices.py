"""What a recipient may choose, and what follows from a choice. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agents.suppressions import PREFIX, UNSUBSCRIBED
from schemas.names import DELIVERY_CHANNELS, Channel
from schemas.records import Consent, RecipientProfile
from tables.consent import EVERY_CATEGORY, Category, Needs, consented

#: The category of what names none.
USUAL = "general"
#: Categories on a page.
MOST = 50
#: What is kept with a consent of its origin.
EVIDENCE = "preference page"
CHANNELS = {
    Channel.EMAIL: "Email",
    Channel.SMS: "Text message",
    Channel.WHATSAPP: "WhatsApp",
    Channel.VOICE: "Call",
    Channel.PUSH: "App",
}

#: Why an address must not be used for a category, empty if it may.
Why = Callable[[Channel, str, str], str]


@dataclass(frozen=True, slots=True)
class Choice:
    """One box: a category on a channel. ``blocked``: why it cannot be chosen here. ``addresses``: those that were
    unsubscribed from it."""

    category: str
    channel: Channel
    on: bool
    blocked: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the form calls it."""
        return f"{self.channel.value}|{self.category}"

    @property
    def words(self) -> str:
        """How people call the channel."""
        return CHANNELS[self.channel]


_BLOCKED = {
    "stop": "You wrote STOP. Write START to get these messages again.",
    "bounced": "Messages to this address did not arrive.",
}
_OTHER = "This address is not used. Please ask the sender."


def choices(
    profile: RecipientProfile, categories: Mapping[str, Category], of: Callable[[str], Category], why: Why
) -> list[Choice]:
    """Return every category that may be refused, on each channel on which the recipient can be reached.

    ``categories``: those that the installation names; ``of``: what holds for one.
    """
    named = {USUAL, *categories, *(c.category for c in profile.consents if c.category != EVERY_CATEGORY)}
    reach = {c.channel for c in profile.contacts}
    found: list[Choice] = []
    for category in sorted(named)[:MOST]:
        rule = of(category)
        if rule.needs is Needs.NOTHING:
            continue
        channels = [channel for channel in DELIVERY_CHANNELS if channel in reach and channel in CHANNELS]
        found.extend(_choice(profile, category, rule, channel, why) for channel in channels)
    return found


def _choice(profile: RecipientProfile, category: str, rule: Category, channel: Channel, why: Why) -> Choice:
    said = consented(profile, category, channel)
    on = said if said is not None else rule.needs is Needs.NO_REFUSAL
    addresses = [c.address for c in profile.contacts if c.channel is channel]
    reasons = {address: why(channel, address, category).removeprefix(PREFIX) for address in addresses}
    unsubscribed = tuple(address for address, reason in reasons.items() if reason == UNSUBSCRIBED)
    others = [reason for reason in reasons.values() if reason and reason != UNSUBSCRIBED]
    if len(others) == len(addresses):
        return Choice(category, channel, False, _BLOCKED.get(others[0], _OTHER))
    # Where any of several addresses was unsubscribed the box is empty: the one that is chosen next may be that one.
    return Choice(category, channel, on and not unsubscribed, "", unsubscribed)


def changes(before: list[Choice], chosen: set[str], now: int) -> Iterator[tuple[Choice, Consent]]:
    """Yield each box that was changed, with the consent that says so."""
    for choice in before:
        wanted = choice.name in chosen
        if not choice.blocked and wanted is not choice.on:
            yield choice, Consent(wanted, now, choice.category, choice.channel, EVIDENCE)
