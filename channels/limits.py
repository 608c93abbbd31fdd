"""What fits into a message of each channel, and what is done with what does not. Pure.

Limits are data (``LIMITS``), counted in the channel's own unit; ``fit`` applies them all. A cut never falls inside what
a reader sees as one character, an escape pair of GSM-7 or a surrogate pair.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never
from xml.sax.saxutils import escape

from channels.render import cut_at
from schemas.names import Channel

#: 3GPP TS 23.038 §6.2.1: the default alphabet, and what takes two places in it.
GSM7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_PAIRS = frozenset("\f^{}\\[~]|€")


class Encoding(StrEnum):
    """How the text of an SMS is coded. One character outside of GSM-7 turns the whole text to UCS-2."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


#: Places of a message of one part, and of each part of a longer one (3GPP TS 23.040 §9.2.3.24.1).
PLACES = {Encoding.GSM7: (160, 153), Encoding.UCS2: (70, 67)}


class TooLong(StrEnum):
    """What is done with a text that does not fit: end it in an ellipsis, let it be as many parts as the provider
    allows (where a message has parts; else it is cut), or refuse the message."""

    CUT = "cut"
    SPLIT = "split"
    REFUSE = "refuse"


class Unit(StrEnum):
    """What a limit counts."""

    PARTS = "parts"
    CHARACTERS = "characters"
    ESCAPED = "characters once escaped"


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a text a channel takes. ``most`` is the provider's own limit; ``usual`` where we are not told
    another."""

    unit: Unit
    most: int
    usual: int
    source: str


LIMITS: dict[Channel, Limit] = {
    Channel.SMS: Limit(Unit.PARTS, 10, 3, "Twilio takes 1,600 characters, ten parts; 3GPP TS 23.038 and 23.040"),
    Channel.WHATSAPP: Limit(Unit.CHARACTERS, 1600, 1600, "Twilio, body of a message; a template's variables together"),
    Channel.VOICE: Limit(
        Unit.ESCAPED, 3000, 1500, "Twilio takes 4,000 characters of TwiML; 3,000 leave room around it"
    ),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How an SMS is coded and what it costs."""

    encoding: Encoding
    parts: int
    places: int


def sms_size(text: str) -> Size:
    """Return the parts that a text takes, as carriers bill them."""
    encoding = Encoding.GSM7 if all(char in GSM7 or char in GSM7_PAIRS for char in text) else Encoding.UCS2
    widths = [_width(char, encoding) for char in text]
    places = sum(widths)
    single, each = PLACES[encoding]
    if places <= single:
        return Size(encoding, 1, places)
    parts, used = 1, 0
    for width in widths:
        # A pair may not be parted, so a place may be left empty at the end of a part.
        if used + width > each:
            parts, used = parts + 1, 0
        used += width
    return Size(encoding, parts, places)


def _width(char: str, encoding: Encoding) -> int:
    match encoding:
        case Encoding.GSM7:
            return 2 if char in GSM7_PAIRS else 1
        case Encoding.UCS2:
            return 2 if ord(char) > 0xFFFF else 1
        case other:
            assert_never(other)


def fit(channel: Channel, text: str, too_long: TooLong, most: int = 0, ending: str = "") -> str | None:
    """Return as much of a text as its channel takes, None where it is refused. ``most``: our own limit, 0: the usual.
    ``ending``: what must stand below the text, whole.

    A channel without a limit here takes any text.
    """
    limit = LIMITS.get(channel)
    below = f"\n{ending}" if ending else ""
    if limit is None:
        return text + below
    splits = too_long is TooLong.SPLIT and limit.unit is Unit.PARTS
    allowed = limit.most if splits else min(most or limit.usual, limit.most)
    # No character counts less than once, so a very long text need not be counted whole.
    longest = allowed * PLACES[Encoding.GSM7][1] + 7 if limit.unit is Unit.PARTS else allowed
    if len(text) <= longest and amount(text + below, limit.unit) <= allowed:
        return text + below
    return None if too_long is TooLong.REFUSE else _cut(text[: longest + 1], limit.unit, allowed, below)


def amount(text: str, unit: Unit) -> int:
    """Return how much a text is, in a unit."""
    match unit:
        case Unit.PARTS:
            return sms_size(text).parts
        case Unit.CHARACTERS:
            # Outside of the Basic Multilingual Plane a character counts twice, as in the providers' own languages.
            return len(text.encode("utf-16-le", "surrogatepass")) // 2
        case Unit.ESCAPED:
            return len(escape(text))
        case other:
            assert_never(other)


def _cut(text: str, unit: Unit, allowed: int, below: str) -> str:
    """Return the longest beginning that fits with its ellipsis, found by halving: amounts only grow with the text."""
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if amount(_ended(text, middle, unit) + below, unit) <= allowed:
            low = middle
        else:
            high = middle - 1
    return _ended(text, low, unit) + below


def _ended(text: str, at: int, unit: Unit) -> str:
    kept = text[: cut_at(text, at)].rstrip()
    # The ellipsis is not in GSM-7: it would more than double the price of a text that is.
    plain = unit is Unit.PARTS and sms_size(kept).encoding is Encoding.GSM7
    return kept + ("..." if plain else "…")
