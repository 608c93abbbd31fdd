"""What a reader sees, by channel. Pure. User text is inert: it can neither end a header line nor become markup.

A mail without a template: a subject, the text, and the same text as HTML.
"""

import html as markup
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from channels.foot_words import ENGLISH, FootWords
from schemas.quick import quicken
from schemas.records import Content

#: Longest subject and display name, in code points; a longer one is cut and ends in an ellipsis.
MAX_SUBJECT = 150
MAX_NAME = 100
#: Longest title above the text of a message without a subject.
MAX_TITLE = 300
#: What stands in for a subject where there is neither title nor text.
NO_SUBJECT = "Reminder"

_ELLIPSIS = "…"
_JOINER = "\u200d"
_SPACE_RUN = re.compile(r"\x00+")
#: Line breaks of any script, for text that keeps its lines.
_LINE_BREAK = re.compile(r"\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_EMPTY_LINES = re.compile(r"\n[ \t]*\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
#: What ``many_lines`` changes; nearly no text has any of it.
_UNUSUAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: They reorder what stands around them, so a name or a subject could read as something that it is not.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@quicken
@dataclass(frozen=True, slots=True)
class Mail:
    """The parts of a mail that come from the reminder. ``subject`` is one line."""

    subject: str
    text: str
    html: str


def one_line(value: str, limit: int = MAX_SUBJECT) -> str:
    """Return a value that is safe in a header: each run of line breaks and controls becomes one space."""
    if value.isprintable():
        return shorten(value.strip(), limit)
    marked = "".join("\x00" if _breaks_line(char) else char for char in _whole(value))
    return shorten(_SPACE_RUN.sub(" ", marked).strip(), limit)


def many_lines(value: str) -> str:
    """Return a text with ``\\n`` as its only line break and no other control but the tab."""
    if value.isprintable() or not _UNUSUAL.search(value):
        return value
    return _CONTROL.sub(" ", _LINE_BREAK.sub("\n", _whole(value)))


def shorten(value: str, limit: int) -> str:
    """Return at most ``limit`` code points, an ellipsis for what was cut, never cut inside a visible character."""
    if len(value) <= limit:
        return value
    # A value of nothing but combining marks has no better place.
    return value[: cut_at(value, limit - 1) or limit - 1].rstrip() + _ELLIPSIS


def cut_at(value: str, at: int) -> int:
    """Return the last place not after ``at`` where a value can be cut without parting a visible character."""
    while 0 < at < len(value) and _inside(value, at):
        at -= 1
    return at


def email(title: str, text: str, html: str = "") -> Mail:
    """Return what a mail says. ``html``, rendered before, is used as it is; else it is made from the text."""
    body, heading = many_lines(text), one_line(title)
    subject = heading or one_line(next((line for line in body.split("\n") if line.strip()), "")) or NO_SUBJECT
    return Mail(subject, body, many_lines(html) if html else _as_html(subject, heading, body))


def linked(mail: Mail, confirm: str, unsubscribe: str, preferences: str, said: FootWords = ENGLISH) -> Mail:
    """Return a mail with links below its text; one that is empty is left out. ``said``: what the links say."""
    foot = [(words, url) for words, url in ((said.unsubscribe, unsubscribe), (said.preferences, preferences)) if url]
    if not confirm and not foot:
        return mail
    text, markup_ = mail.text.rstrip("\n"), ""
    if confirm:
        text += f"\n\n{said.confirm}: {confirm}"
        markup_ += f"<p>{_anchor(said.confirm, confirm)}</p>\n"
    if foot:
        text += "\n\n-- \n" + "\n".join(f"{words}: {url}" for words, url in foot)
        markup_ += f"<p><small>{' · '.join(_anchor(words, url) for words, url in foot)}</small></p>\n"
    before, end, after = mail.html.rpartition("</body>")
    return Mail(mail.subject, text + "\n", f"{before}{markup_}{end}{after}" if end else mail.html + markup_)


def _anchor(words: str, url: str) -> str:
    return f'<a href="{escaped(url)}">{escaped(words)}</a>'


def plain(title: str, text: str) -> str:
    """Return what a message without a subject says: the title, and the text below it, with no control that could
    disguise it."""
    head, body = one_line(title, MAX_TITLE), many_lines(text).replace("\t", " ").strip()
    kept = "\n".join(part for part in (head, body) if part)
    return "".join(char for char in kept if char not in _BIDI_CONTROLS and unicodedata.category(char) != "Cs")


def email_content(content: Content) -> Mail:
    """Return what a mail says about a reminder's content."""
    return email(content.title, content.text)


#: Read on a phone as at a desk, and in the colours of a reader who likes it dark.
_HEAD = (
    '<!DOCTYPE html>\n<html><head><meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
    '<meta name="color-scheme" content="light dark">\n<title>'
)
_BODY = (
    '</title></head>\n<body style="max-width:36em;margin:0 auto;padding:1.5em;'
    'font:1em/1.5 system-ui,-apple-system,Segoe UI,Roboto,Arial,sans-serif">\n'
)


def _as_html(subject: str, title: str, text: str) -> str:
    """Return the text as HTML of its own. ``title``: its heading, where it is not the text's own beginning."""
    paragraphs = [part.strip("\n") for part in _EMPTY_LINES.split(text) if part.strip()]
    heading = f'<h1 dir="auto" style="font-size:1.25em">{escaped(title)}</h1>\n' if title else ""
    body = "\n".join(f'<p dir="auto">{escaped(part)}</p>' for part in paragraphs)
    return f"{_HEAD}{escaped(subject)}{_BODY}{heading}{body}\n</body></html>\n"


def listed(subject: str, heading: str, parts: Sequence[tuple[str, str]]) -> str:
    """Return several titles and texts as one page of HTML, each below the other in an ordered list."""
    items = "\n".join(f'<li style="margin-bottom:1em">{_listed(title, text)}</li>' for title, text in parts)
    head = f'<h1 dir="auto" style="font-size:1.25em">{escaped(heading)}</h1>\n'
    return f"{_HEAD}{escaped(subject)}{_BODY}{head}<ol>\n{items}\n</ol>\n</body></html>\n"


def _listed(title: str, text: str) -> str:
    paragraphs = [part.strip("\n") for part in _EMPTY_LINES.split(text) if part.strip()]
    heading = f'<strong dir="auto">{escaped(title)}</strong>\n' if title else ""
    return heading + "\n".join(f'<p dir="auto" style="margin:.25em 0">{escaped(part)}</p>' for part in paragraphs)


def escaped(text: str) -> str:
    """Return a text as it stands in HTML, its lines as lines."""
    return markup.escape(text, quote=True).replace("\n", "<br>\n")


def _whole(value: str) -> str:
    """Replace lone surrogates, which no encoding can carry."""
    return _SURROGATE.sub("\ufffd", value)


def _breaks_line(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Zl", "Zp") or char in _BIDI_CONTROLS


def _inside(value: str, at: int) -> bool:
    """Return whether a cut before ``at`` would part what a reader sees as one character."""
    char, before = value[at], value[at - 1]
    if before == _JOINER or _extends(char):
        return True
    if _is_regional(char) and _is_regional(before):
        # Flags are pairs: an odd number of letters before the cut means that it falls inside one.
        start = at
        while start > 0 and _is_regional(value[start - 1]):
            start -= 1
        return (at - start) % 2 == 1
    return "\u1160" <= char <= "\u11ff" and "\u1100" <= before <= "\u11ff"


def _extends(char: str) -> bool:
    return (
        unicodedata.category(char) in ("Mn", "Me", "Mc")
        or char == _JOINER
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
