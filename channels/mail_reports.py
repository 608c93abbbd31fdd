"""What comes back by mail: reports of delivery (RFC 3464), of complaints (RFC 5965), and mails that unsubscribe. Pure.

Everything here was written by strangers. Nothing of it is believed but what it says about the mail that its address
names, and that is for the caller to find out. Work and memory grow with the size, never with what is nested in what: a
report is one level of parts, and only the first few of them are looked at.
"""

import base64
import binascii
import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from enum import StrEnum
from typing import NamedTuple

from channels.classify import Phase, Reason, smtp_reply
from schemas.names import OutcomeKind

#: Largest mail that is taken, in bytes: a report may hold all of what it is about.
MAX_MAIL_BYTES = 1024 * 1024
#: How much of a mail's or a part's head is read, in bytes; how many fields of it, and how many parts of a report.
MAX_HEAD = 64 * 1024
MAX_FIELDS = 500
MAX_PARTS = 8
#: Most recipients of a report that are looked at: a mail of ours has one, and a list behind it may have more.
MAX_RECIPIENTS = 50
_MAX_VALUE = 4096
#: Where the address that a mail was sent to may stand.
_SENT_TO = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "to")
#: What a reader's program reports as spam. Anything else (not-spam, auth-failure, …) is no complaint.
_COMPLAINTS = frozenset({"abuse", "fraud", "virus", "opt-out", "miscategorized"})
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\d)")
_SAID = re.compile(r"\s*smtp\s*;\s*([2-5]\d\d)(?!\d)", re.IGNORECASE)
_UNSUBSCRIBE = re.compile(r"\s*unsubscribe[\s:]+([A-Za-z0-9_-]{40,2048})\s*\Z", re.IGNORECASE)
_LINK = re.compile(r"/l/([A-Za-z0-9_-]{40,2048})>")


class About(StrEnum):
    """What a mail says."""

    #: Given up: it will not arrive.
    FAILED = "failed"
    #: The server goes on trying.
    DELAYED = "delayed"
    DELIVERED = "delivered"
    COMPLAINED = "complained"
    UNSUBSCRIBE = "unsubscribe"
    #: Nothing that something follows from: an answer of a person or a program, a report that says nothing.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Report:
    """What came. ``addresses``: texts in which the address may stand that names the delivery; ``link``: the sealed link
    that an unsubscribing mail or the mail behind a complaint carries. ``outcome``, ``reason``, ``code``: of a failure.
    ``blames_address``: there is no such mailbox."""

    about: About
    addresses: tuple[str, ...] = field(default=(), repr=False)
    link: str = field(default="", repr=False)
    outcome: OutcomeKind = OutcomeKind.NONE
    reason: str = ""
    code: str = ""
    blames_address: bool = False


Fields = dict[str, list[str]]


def read(raw: bytes, sent_to: Sequence[str] = ()) -> Report:
    """Return what a mail says, whatever is in it. ``sent_to``: the envelope's recipients, where they are known."""
    text = raw[:MAX_MAIL_BYTES].replace(b"\r\n", b"\n")
    head, body = _parted(text)
    fields = _fields(head)
    addresses = tuple(sent_to) + tuple(value for name in _SENT_TO for value in fields.get(name, ()))
    kind = _content_type(fields)
    if kind.type == "multipart/report" and kind.boundary:
        parts = [_Part.read(part) for part in _parts(body, kind.boundary)]
        enclosed = next((part.enclosed() for part in parts if part.encloses), {})
        match kind.report:
            case "delivery-status":
                status = next((part.body for part in parts if part.type.endswith("delivery-status")), b"")
                return _of_delivery(status, addresses)
            case "feedback-report":
                feedback = next((part.body for part in parts if part.type == "message/feedback-report"), b"")
                return _of_complaint(_fields(feedback), enclosed, addresses)
    subject = _decoded(fields.get("subject", [""])[0])
    if found := _UNSUBSCRIBE.match(subject):
        return Report(About.UNSUBSCRIBE, addresses, found[1])
    return Report(About.NOTHING, addresses)


# -- reports


class _Rank(NamedTuple):
    """How good the news of one recipient are, and what they are."""

    rank: int
    report: Report


def _of_delivery(status: bytes, addresses: tuple[str, ...]) -> Report:
    blocks = re.split(rb"\n[ \t]*\n", status, maxsplit=MAX_RECIPIENTS)
    found = [ranked for block in blocks if (ranked := _of_recipient(_fields(block), addresses)) is not None]
    # Where a list or an alias stands behind the address, it has arrived if it did anywhere.
    return max(found, key=lambda one: one.rank).report if found else Report(About.NOTHING, addresses)


def _of_recipient(fields: Fields, addresses: tuple[str, ...]) -> _Rank | None:
    action = fields.get("action", [""])[0].split("(")[0].strip().lower()
    match action:
        case "delivered":
            return _Rank(3, Report(About.DELIVERED, addresses))
        case "relayed" | "expanded":
            return _Rank(2, Report(About.NOTHING, addresses))
        case "delayed":
            return _Rank(1, Report(About.DELAYED, addresses, code=_status(fields)))
        case "failed":
            return _Rank(0, _failure(_status(fields), fields.get("diagnostic-code", [""])[0], addresses))
        case _:
            # The first block, of the report as a whole, and what no standard knows.
            return None


def _failure(status: str, diagnostic: str, addresses: tuple[str, ...]) -> Report:
    """Return what a failure means, by the table of SMTP replies (``channels.classify``): the server's words count as
    little as there."""
    said = _SAID.match(diagnostic)
    digit = status[:1] if status[:1] in ("4", "5") else said[1][0] if said and said[1][0] in "45" else "5"
    code = int(said[1]) if said and said[1][0] == digit else 0
    # A server that has given up asks for no later try, whatever it was told at first.
    verdict = smtp_reply(Phase.RCPT, 400 if digit == "4" else code or 550, status)
    kind, reason = verdict.kind, verdict.reason
    if kind is OutcomeKind.MISCONFIGURED:
        # What one server says to another about a login is not about ours.
        kind, reason = OutcomeKind.REJECTED, Reason.POLICY
    if kind is OutcomeKind.DEFERRED:
        # For days, perhaps: the server has given up, and who asks it again at once gets no further.
        kind = OutcomeKind.REJECTED
    shown = f"{code or ''} {status}".strip()
    return Report(About.FAILED, addresses, "", kind, str(reason), shown, verdict.blames_address)


def _of_complaint(feedback: Fields, enclosed: Fields, addresses: tuple[str, ...]) -> Report:
    kind = feedback.get("feedback-type", [""])[0].strip().lower()
    if kind not in _COMPLAINTS:
        return Report(About.NOTHING, addresses)
    named = (*feedback.get("original-mail-from", ()), *enclosed.get("return-path", ()), *addresses)
    found = _LINK.search("".join(enclosed.get("list-unsubscribe", [""])[0].split()))
    return Report(About.COMPLAINED, named, found[1] if found else "", code=kind)


def _status(fields: Fields) -> str:
    found = _STATUS.search(fields.get("status", [""])[0])
    return ".".join(str(int(part)) for part in found.groups()) if found else ""


# -- the form of a mail


class _Kind(NamedTuple):
    """What a content type says."""

    type: str
    report: str
    boundary: str


class _Part(NamedTuple):
    """A part of a report."""

    type: str
    body: bytes

    @classmethod
    def read(cls, part: bytes) -> "_Part":
        head, body = _parted(part)
        fields = _fields(head)
        return cls(_content_type(fields).type, _plain(body, fields))

    @property
    def encloses(self) -> bool:
        return self.type in ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")

    def enclosed(self) -> Fields:
        """Return the fields of the mail that it encloses."""
        return _fields(_parted(self.body)[0])


def _parted(text: bytes) -> tuple[bytes, bytes]:
    if text.startswith(b"\n"):
        return b"", text[1:]
    head, _, body = text.partition(b"\n\n")
    return head[:MAX_HEAD], body


def _fields(head: bytes) -> Fields:
    """Return values by name in lower case, unfolded. What is no field is passed over."""
    found: Fields = {}
    lines = re.sub(rb"\n[ \t]+", b" ", head[:MAX_HEAD]).split(b"\n", MAX_FIELDS)[:MAX_FIELDS]
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon and 0 < len(name) < 100:
            text = value[:_MAX_VALUE].decode("utf-8", "replace").strip()
            found.setdefault(name.decode("ascii", "replace").strip().lower(), []).append(text)
    return found


def _content_type(fields: Fields) -> _Kind:
    message: Message = Message()
    message["Content-Type"] = fields.get("content-type", ["text/plain"])[0][:1000].replace("\r", " ")
    try:
        report = message.get_param("report-type", "")
        boundary = message.get_boundary("") or ""
    except (ValueError, LookupError, TypeError):
        return _Kind("text/plain", "", "")
    return _Kind(message.get_content_type(), report.lower() if isinstance(report, str) else "", boundary)


def _parts(body: bytes, boundary: str) -> Iterator[bytes]:
    mark = b"--" + boundary.encode("utf-8", "replace")
    pieces = re.split(rb"(?:\A|\n)" + re.escape(mark) + rb"(?:--)?[ \t]*(?:\n|\Z)", body, maxsplit=MAX_PARTS + 1)
    yield from pieces[1 : MAX_PARTS + 1]


def _plain(body: bytes, fields: Fields) -> bytes:
    """Return a body without its transfer encoding; as it is where that is broken."""
    match fields.get("content-transfer-encoding", [""])[0].strip().lower():
        case "base64":
            try:
                return base64.b64decode(body).replace(b"\r\n", b"\n")
            except (binascii.Error, ValueError):
                return body
        case "quoted-printable":
            return quopri.decodestring(body).replace(b"\r\n", b"\n")
        case _:
            return body


def _decoded(subject: str) -> str:
    if "=?" not in subject:
        return subject
    try:
        words = decode_header(subject)
        return "".join(w if isinstance(w, str) else w.decode(charset or "ascii", "replace") for w, charset in words)
    except (HeaderParseError, LookupError, ValueError, binascii.Error):
        return subject
