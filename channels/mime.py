"""A mail as bytes. Pure: the same arguments give the same bytes, so every attempt sends one and the same mail.

Written out here and not through ``email.message``: its header folding decodes encoded-words that a user wrote, and
before Python 3.11.10 wrote the line breaks hidden in them raw into the header. Here a header holds nothing but
printable ASCII and encoded-words of our own.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from channels.addresses import Address
from channels.render import Mail

_PLAIN_SUBJECT = re.compile(r"[!-~](?:[ -~]{0,64}[!-~])?\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9'_-]+(?: [A-Za-z0-9'_-]+)*\Z")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
#: RFC 5322 §2.1.1: a line has at most 998 characters.
_URL = re.compile(r"https?://[!-;=?-~]{1,960}\Z")
_MAILTO = re.compile(r"mailto:[!-;=?-~]{3,960}\Z")
_NO_WORD = re.compile(r"[^A-Za-z0-9_-]")
_NO_LETTER = re.compile(r"[^a-z0-9]")
_LEADING_DOT = re.compile(rb"(?m)^\.")
#: Bytes of UTF-8 in one encoded-word, so that a word and a header's name fit into 76 characters (RFC 2047 §2).
_WORD_BYTES = 36
_LINE = 76


@dataclass(frozen=True, slots=True)
class Headers:
    """What the service says about a mail. ``token`` is the same for every attempt, and so is ``created_ms``.
    ``unsubscribe``: where one POST ends mails of its kind (RFC 8058); ``unsubscribe_mail``: to whom a mail does the
    same, beside it (RFC 2369). ``feedback``: by what reports of complaints count mails, see ``feedback_id``."""

    sender: Address
    recipient: Address
    token: str
    id_domain: str
    created_ms: int
    unsubscribe: str = ""
    unsubscribe_mail: str = ""
    feedback: str = ""


def compose(headers: Headers, mail: Mail) -> bytes:
    """Return the mail with CRLF line ends, 7 bit throughout unless the address itself needs UTF-8."""
    if not _TOKEN.match(headers.token):
        raise ValueError("the token of a mail has 1 to 100 letters, digits, dots, dashes or underscores")
    boundary = f"=_{headers.token}"
    lines = [
        f"Date: {format_datetime(datetime.fromtimestamp(headers.created_ms // 1000, UTC))}",
        f"From: {_mailbox(headers.sender)}",
        f"To: {_mailbox(headers.recipient)}",
        f"Subject: {_subject(mail.subject)}",
        f"Message-ID: <{headers.token}@{headers.id_domain}>",
        "MIME-Version: 1.0",
        # RFC 3834: asks vacation programs not to answer.
        "Auto-Submitted: auto-generated",
        *((f"Feedback-ID: {headers.feedback}",) if headers.feedback else ()),
        *(
            f"{name}: {value}"
            for name, value in unsubscribe_headers(headers.unsubscribe, headers.unsubscribe_mail, ",\r\n ").items()
        ),
        f'Content-Type: multipart/alternative; boundary="{boundary}"',
        "",
        f"--{boundary}",
    ]
    head = "\r\n".join(lines).encode()
    return b"".join(
        (
            head,
            _part("plain", mail.text),
            f"\r\n--{boundary}".encode(),
            _part("html", mail.html),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def stuffed(message: bytes) -> bytes:
    """Return a message as it goes after DATA: leading dots doubled, its last line ended, the final dot not included."""
    return _LEADING_DOT.sub(b"..", message if message.endswith(b"\r\n") else message + b"\r\n")


def encoded_words(value: str) -> str:
    """Return a value as RFC 2047 encoded-words, one a line, never parted inside a character."""
    words, word = [], b""
    for char in value:
        encoded = char.encode()
        if len(word) + len(encoded) > _WORD_BYTES:
            words.append(word)
            word = b""
        word += encoded
    words.append(word)
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


def _subject(subject: str) -> str:
    # "=?" from a user is encoded as well, so that no reader's program decodes it.
    return subject if _PLAIN_SUBJECT.match(subject) and "=?" not in subject else encoded_words(subject)


def feedback_id(category: str, tenant: str, domain: str) -> str:
    """Return what reports of complaints are counted by: category, tenant, that it is a reminder, and who sends.

    Google takes four parts, of which the last has 5 to 15 characters and is the same for all mails of a sender
    (https://support.google.com/a/answer/6254652). No part names a person or a single mail.
    """
    sender = _NO_LETTER.sub("", domain.lower())[:15]
    parts = (_NO_WORD.sub("-", category)[:40], _NO_WORD.sub("-", tenant)[:40], "reminder", f"{sender:x<5}")
    return ":".join(parts)


def unsubscribe_headers(url: str, mail: str, between: str = ", ") -> dict[str, str]:
    """Return the headers by which a mail program unsubscribes with one click. ``between`` the addresses: in a mail each
    is a line of its own, for one line could not hold both."""
    if not url:
        return {}
    if not _URL.match(url):
        raise ValueError("an address to unsubscribe at has printable ASCII alone, and fits in a line")
    if mail and not _MAILTO.match(mail):
        raise ValueError("a mail that unsubscribes goes to a mailto: address of printable ASCII that fits in a line")
    beside = f"{between}<{mail}>" if mail else ""
    return {"List-Unsubscribe": f"<{url}>{beside}", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def _mailbox(address: Address) -> str:
    if not address.name:
        return f"<{address.spec}>" if address.needs_smtputf8 else address.spec
    name = address.name if _PLAIN_NAME.match(address.name) else encoded_words(address.name)
    last = name.rpartition("\n")[2]
    gap = " " if len(last) + len(address.spec) + 9 <= _LINE else "\r\n "
    return f"{name}{gap}<{address.spec}>"


def _part(subtype: str, text: str) -> bytes:
    raw = text.replace("\n", "\r\n").encode()
    quoted = binascii.b2a_qp(raw, quotetabs=False, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    encoded = b"\r\n".join(base64.b64encode(raw[at : at + 57]) for at in range(0, len(raw), 57))
    encoding, body = ("quoted-printable", quoted) if len(quoted) <= len(encoded) else ("base64", encoded)
    head = f'\r\nContent-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode() + body
