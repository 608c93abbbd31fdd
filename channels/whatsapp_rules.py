"""What is sent on WhatsApp, whoever carries it: free text or a template, and the values of its variables. Pure.

Free text goes while the recipient's last message is less than 24 hours old, looked at when it is sent, not when it was
planned; later only an approved template does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from channels import limits, render
from channels.base import Send
from channels.limits import TooLong
from schemas.names import Channel

#: How long after a recipient's last message free text may be sent, in ms.
WINDOW_MS = 24 * 3_600_000
#: Longest value of a template's variable; WhatsApp refuses line breaks in it, and runs of more than four spaces.
MAX_VARIABLE = 500
#: Where the value of a variable may come from, beside ``data.<key>``.
SOURCES = ("title", "text", "name", "reply")

#: WhatsApp knows older Brazilian accounts by the number that their telephone had before mobiles got a ninth digit, a 9
#: in front (2012 to 2016). The number that was written to has it: without it a STOP would be about somebody else.
_BRAZILIAN = re.compile(r"(\+55[1-9][0-9])([6-9][0-9]{7})\Z")


class Unsaid(StrEnum):
    """Why nothing is sent."""

    NO_TEXT = "no_text"
    TOO_LONG = "too_long"
    OUTSIDE_WINDOW = "outside_window"


@dataclass(frozen=True, slots=True)
class Words:
    """What is said: free text, or (``template`` is not empty) a template with the values of its variables, by name."""

    text: str = ""
    template: str = ""
    values: tuple[tuple[str, str], ...] = ()


def words(
    message: Send, now_ms: int, template: str, variables: Iterable[tuple[str, str]], too_long: TooLong
) -> Words | Unsaid:
    """Return what a message says now (ms UTC). ``template``: the one of its category, empty where there is none;
    ``variables``: each with the source of its value."""
    said = render.plain(message.title, message.text)
    if not said:
        return Unsaid.NO_TEXT
    if in_window(message.last_inbound_ms, now_ms):
        body = limits.fit(Channel.WHATSAPP, said, too_long, ending=message.reply_hint)
        return Unsaid.TOO_LONG if body is None else Words(body)
    if not template:
        return Unsaid.OUTSIDE_WINDOW
    return Words(template=template, values=tuple((name, value(message, source)) for name, source in variables))


def value(message: Send, source: str) -> str:
    """Return the value of a variable, one line of it, ``-`` where it would be empty: that is refused."""
    match source:
        case "title":
            found = message.title or message.text
        case "text":
            found = message.text or message.title
        case "name":
            found = message.name
        case "reply":
            found = message.reply_hint
        case _:
            found = message.data.get(source.removeprefix("data."), "")
    return " ".join(render.one_line(found, MAX_VARIABLE).split()) or "-"


def in_window(last_inbound_ms: int, now_ms: int) -> bool:
    """Return whether free text may be sent: the recipient wrote, and less than 24 hours ago."""
    return last_inbound_ms > 0 and now_ms - last_inbound_ms < WINDOW_MS


def written_to(number: str) -> str:
    """Return the number by which somebody is written to, of the one by which WhatsApp knows them. Both with a ``+``."""
    return _BRAZILIAN.sub(r"\g<1>9\g<2>", number)
