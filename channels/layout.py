"""How a reminder without a template looks: its own words, who sends it, and how to answer. Pure."""

from dataclasses import dataclass

from channels.render import MAX_TITLE, Mail, escaped, one_line
from schemas.names import Channel
from schemas.quick import quicken

#: Longest name of a sender, and longest hint, in characters.
MAX_SENDER, MAX_ANSWER = 60, 200


@quicken
@dataclass(frozen=True, slots=True)
class Foot:
    """What an installation, or a category, says of itself. ``postal``: at the foot of mails alone, with or without a
    template, since the law wants it there."""

    sender: str = ""
    answer: str = ""
    postal: str = ""


def mail(made: Mail, foot: Foot) -> Mail:
    """Return a mail with its foot, below the text and within the HTML."""
    lines = [line for line in (foot.sender, foot.answer, foot.postal) if line]
    if not lines:
        return made
    text = "\n\n".join(part for part in (made.text.rstrip("\n"), "\n".join(lines)) if part)
    shown = escaped("\n".join(lines))
    small = f'<p dir="auto" style="margin-top:2em;font-size:.875em;opacity:.75">{shown}</p>\n'
    at = made.html.lower().rfind("</body>")
    html = f"{made.html[:at]}{small}{made.html[at:]}" if at >= 0 else f"{made.html.rstrip()}\n{small}"
    return Mail(made.subject, text, html)


def said(channel: Channel, title: str, text: str, foot: Foot) -> tuple[str, str]:
    """Return title and text of a message that is no mail, with its sender.

    What has no sender of its own that a reader sees begins with it; a push takes it as its title where it has none. How
    to answer stands where it costs no part and is not read aloud.
    """
    match channel:
        case Channel.SMS | Channel.WHATSAPP | Channel.VOICE:
            if foot.sender:
                title, text = (
                    (one_line(f"{foot.sender}: {title}", MAX_TITLE), text) if title else ("", f"{foot.sender}: {text}")
                )
            if channel is Channel.WHATSAPP and foot.answer:
                text = f"{text}\n\n{foot.answer}".lstrip("\n")
            return title, text
        case Channel.PUSH:
            return title or foot.sender, text
        case _:
            return title, text
