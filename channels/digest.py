"""Several reminders as one message: the layout of a digest on each channel. Pure.

The words that are ours are few and need no plural, so that a language is one line of ``WORDS``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from channels import layout, limits, render
from channels.layout import Foot
from channels.limits import TooLong
from channels.render import Mail
from schemas.names import Channel

#: What stands before how many there are, by language (ISO 639-1).
WORDS: dict[str, str] = {
    "en": "Reminders",
    "cs": "Připomínky",
    "da": "Påmindelser",
    "de": "Erinnerungen",
    "es": "Recordatorios",
    "fi": "Muistutukset",
    "fr": "Rappels",
    "it": "Promemoria",
    "nb": "Påminnelser",
    "nl": "Herinneringen",
    "no": "Påminnelser",
    "pl": "Przypomnienia",
    "pt": "Lembretes",
    "sv": "Påminnelser",
}
#: How much of a push is text, in characters of its lines: a screen shows less, and FCM takes 4,096 bytes in all.
PUSH_TEXT = 700
#: How much is read aloud in one message, in characters: about a minute, and room for it to be repeated.
VOICE_TEXT = 700


@dataclass(frozen=True, slots=True)
class Part:
    """One of the reminders, in its own words. ``title`` is one line or empty."""

    title: str
    text: str


def heading(count: int, locale: str) -> str:
    """Return what a digest is called, such as ``Reminders (5)``."""
    return f"{WORDS.get(locale.replace('_', '-').partition('-')[0].lower(), WORDS['en'])} ({count})"


def mail(parts: Sequence[Part], foot: Foot, locale: str) -> Mail:
    """Return several reminders as one mail: the subject names them, each has a heading, and one foot is below all."""
    head = heading(len(parts), locale)
    subject = render.one_line(f"{head}: {', '.join(name for part in parts if (name := _name(part)))}".rstrip(": "))
    text = f"{head}\n\n" + "\n\n".join(_lines(n, part, "\n") for n, part in enumerate(parts, 1))
    return layout.mail(Mail(subject, text, render.listed(subject, head, [(p.title, p.text) for p in parts])), foot)


def said(channel: Channel, parts: Sequence[Part], foot: Foot, locale: str) -> tuple[str, str]:
    """Return title and text of several reminders as one message that is no mail."""
    head = heading(len(parts), locale)
    match channel:
        case Channel.PUSH:
            return head, "\n".join(_lines(n, part, ": ") for n, part in enumerate(parts, 1))
        case Channel.VOICE:
            text = "\n".join(f"{n}. {_sentence(part.title)}{part.text}" for n, part in enumerate(parts, 1))
            return layout.said(channel, head, text, foot)
        case _:
            text = "\n".join(_lines(n, part, ": ") for n, part in enumerate(parts, 1))
            return layout.said(channel, head, text, foot)


def fits(channel: Channel, title: str, text: str) -> bool:
    """Return whether title and text of several reminders are one message of a channel of which nothing is cut."""
    match channel:
        case Channel.EMAIL:
            return True
        case Channel.PUSH:
            return len(text) <= PUSH_TEXT
        case Channel.VOICE:
            return limits.fit(channel, render.plain(title, text), TooLong.REFUSE, VOICE_TEXT) is not None
        case _:
            return limits.fit(channel, render.plain(title, text), TooLong.REFUSE) is not None


def _name(part: Part) -> str:
    """Return what a reminder is called where there is room for a name alone."""
    return part.title or next((line.strip() for line in part.text.split("\n") if line.strip()), "")


def _lines(number: int, part: Part, between: str) -> str:
    return f"{number}. " + between.join(said for said in (part.title, part.text.strip("\n")) if said)


def _sentence(title: str) -> str:
    return f"{title.rstrip('.')}. " if title else ""
