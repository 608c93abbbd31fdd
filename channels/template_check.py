"""What a template says at its worst: each language and channel rendered with the longest values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from channels import formats, limits, render
from channels.layout import MAX_SENDER
from channels.limits import LIMITS
from channels.template_rules import TemplateFault
from channels.templates import (
    CHOICE,
    FILES,
    MAX_OUTPUT,
    About,
    Said,
    Tongue,
    UnsaidError,
    Version,
    samples,
)
from schemas.names import Channel

#: A wide letter of each alphabet: of GSM-7, and one that turns an SMS to UCS-2.
NARROW, WIDE = "W", "Ж"
#: The longest day and hour of English, and of most languages.
LONGEST = datetime(2026, 9, 30, 22, 45, tzinfo=UTC)
#: Bytes of a push that are left for its words beside ids, data and what FCM adds.
PUSH_BYTES = 3000


@dataclass(frozen=True, slots=True)
class Most:
    """How long a message of a channel gets at the worst, in the channel's own unit, and how long it may get.

    ``own``: whether the template has words of its own for the channel; else they are cut as its TOO_LONG rule says.
    """

    channel: Channel
    amount: int
    allowed: int
    unit: str
    own: bool

    @property
    def fits(self) -> bool:
        """Whether nothing is ever cut."""
        return self.amount <= self.allowed


def check(version: Version, sms_parts: int = 0) -> list[TemplateFault]:
    """Return what is wrong with the longest messages of a template. ``sms_parts``: how many an SMS may have, 0: the
    usual."""
    faults = []
    for locale, tongue in version.tongues.items():
        for channel in CHOICE:
            where = "" if locale == version.default else f"{locale}/"
            part = next(part for part in CHOICE[channel] if part in tongue.parts)
            try:
                found = measured(version, tongue, channel, sms_parts)
            except UnsaidError as exc:
                remedy = f"says nothing whole with samples ({exc}); give samples in template.toml"
                faults.append(TemplateFault(f"{where}{FILES[part]}", 0, remedy))
                continue
            for most in found:
                if most.own and not most.fits:
                    remedy = (
                        f"{channel.value} gets {most.amount} {most.unit} at the worst, and {most.allowed} are allowed; "
                        "shorten it, or say in template.toml how long its values are at the most"
                    )
                    faults.append(TemplateFault(f"{where}{FILES[part]}", 0, remedy))
    return list(dict.fromkeys(faults))


def measured(version: Version, tongue: Tongue, channel: Channel, sms_parts: int = 0) -> tuple[Most, ...]:
    """Return how long the parts of a channel's message get at the worst; raises ``UnsaidError``."""
    said = worst(version, tongue, channel)
    own = CHOICE[channel][0] in tongue.parts
    match channel:
        case Channel.SMS:
            parts = limits.sms_size(render.plain("", said.text)).parts
            return (Most(channel, parts, sms_parts or LIMITS[channel].usual, "parts", own),)
        case Channel.WHATSAPP | Channel.VOICE:
            limit = LIMITS[channel]
            amount = limits.amount(render.plain("", said.text), limit.unit)
            return (Most(channel, amount, limit.usual, limit.unit.value, own),)
        case Channel.PUSH:
            amount = len(said.title.encode()) + len(said.text.encode())
            return (Most(channel, amount, PUSH_BYTES, "bytes", own),)
        case _:
            return (
                Most(channel, len(said.text), MAX_OUTPUT, "characters", own),
                Most(channel, len(said.title), render.MAX_SUBJECT, "characters of its subject", own),
            )


def worst(version: Version, tongue: Tongue, channel: Channel) -> Said:
    """Return the longest message of a channel, with values of either alphabet of an SMS; raises ``UnsaidError``."""
    found: list[Said] = []
    why: UnsaidError | None = None
    # A value that the words are chosen by has few that it may be: its sample is one of them.
    for fill in (NARROW, WIDE, ""):
        try:
            found.append(version.say(channel, samples(version, tongue, fill=fill), _about(tongue, fill or NARROW)))
        except UnsaidError as exc:
            why = exc
    if not found and why is not None:
        raise why
    if channel is Channel.SMS:
        return max(found, key=lambda said: limits.sms_size(said.text).parts)
    return max(found, key=lambda said: len(said.text.encode()))


def _about(tongue: Tongue, fill: str) -> About:
    of = {"title": fill * 60, "text": fill * 120, "category": "general", "sender": fill * MAX_SENDER}
    return About(formats.tag(tongue.locale), "UTC", LONGEST, **of)


def sampled(version: Version, tongue: Tongue, given: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return values for a preview: what is given, and samples for the rest."""
    return {**samples(version, tongue), **given}


#: Channels in the order in which a preview shows them.
SHOWN = tuple(channel for channel in CHOICE if channel is not Channel.WEBHOOK)
