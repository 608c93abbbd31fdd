"""Webhooks: which URLs may be one, what is sent, how it is signed, and what an answer means. Pure.

The form is that of Standard Webhooks: the id stays the same over all attempts, timestamp and signature are each
attempt's own. Each receiver has secrets of its own, made from our keys and its URL: who can check what it is sent can
forge nothing for another.
"""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

import idna
import orjson
from standardwebhooks import Webhook

from channels.base import Send
from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import FAULTS, Failure, HttpFault, HttpReason, Meaning
from schemas.names import OutcomeKind

#: Longest URL that is looked at.
MAX_URL = 2000
#: What is said where one receiver has all the calls that it may have.
NO_ROOM = "this receiver has as many calls as it may have"
#: What a message is, in its ``type``.
DUE = "reminder.due"
TEST = "reminder.test"


class Reason(StrEnum):
    """Why a webhook ended as it did: with the faults of a connection, all reasons that the channel WEBHOOK gives."""

    OK = "ok"
    DELIVERED = "delivered"
    READ = "read"
    ACKNOWLEDGED = "acknowledged"
    GONE = "gone"
    MOVED = "moved"
    REDIRECTED = "redirected"
    TRY_LATER = "try_later"
    SERVER_ERROR = "server_error"
    NOT_FOUND = "not_found"
    SIGNATURE_REFUSED = "signature_refused"
    REFUSED = "refused"
    MESSAGE_TOO_BIG = "message_too_big"
    PROTOCOL = "protocol"
    BAD_URL = "bad_url"
    HTTP_NOT_ALLOWED = "http_not_allowed"


EXPLANATIONS: dict[Reason, str] = {
    Reason.OK: "the receiver took it",
    Reason.DELIVERED: "the receiver says that it was delivered",
    Reason.READ: "the receiver says that it was read",
    Reason.ACKNOWLEDGED: "the receiver says that it was acknowledged",
    Reason.GONE: "the receiver wants no more (410); its URL is taken from the recipient's contacts",
    Reason.MOVED: "the receiver has moved; redirects are not followed: set its new URL",
    Reason.REDIRECTED: "the receiver points elsewhere; redirects are not followed",
    Reason.TRY_LATER: "the receiver asks for a later try",
    Reason.SERVER_ERROR: "the receiver failed",
    Reason.NOT_FOUND: "there is nothing at this URL of the receiver",
    Reason.SIGNATURE_REFUSED: "the receiver does not accept our signature: compare with `webhook secret URL`",
    Reason.REFUSED: "the receiver refuses this message",
    Reason.MESSAGE_TOO_BIG: "the message is too big",
    Reason.PROTOCOL: "the receiver's answer is not one of HTTP's",
    Reason.BAD_URL: "the address is no URL that can be called: https, a host, no user, no fragment",
    Reason.HTTP_NOT_ALLOWED: "http is for addresses on WEBHOOK_ALLOW alone: use https",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table of answers. An ``x`` stands for any digit."""

    status: str
    meaning: Meaning
    source: str


def _later(reason: Reason) -> Meaning:
    return Meaning(OutcomeKind.DEFERRED, reason)


_REFUSED = Meaning(OutcomeKind.REJECTED, Reason.REFUSED)

#: Read from the top; the first row that matches decides.
ANSWERS: tuple[Rule, ...] = (
    Rule("2xx", Meaning(OutcomeKind.ACCEPTED, Reason.OK), "Standard Webhooks: success"),
    Rule("301", Meaning(OutcomeKind.UNDELIVERABLE, Reason.MOVED), "Standard Webhooks: no redirects"),
    Rule("308", Meaning(OutcomeKind.UNDELIVERABLE, Reason.MOVED), "Standard Webhooks: no redirects"),
    Rule("3xx", _later(Reason.REDIRECTED), "Standard Webhooks: no redirects; default of 3xx"),
    Rule("401", _later(Reason.SIGNATURE_REFUSED), "RFC 9110 §15.5.2; one receiver's 401 says nothing of the others"),
    Rule("403", _later(Reason.SIGNATURE_REFUSED), "RFC 9110 §15.5.4"),
    Rule("404", _later(Reason.NOT_FOUND), "RFC 9110 §15.5.5: temporary or not is not said"),
    Rule("408", _later(Reason.TRY_LATER), "RFC 9110 §15.5.9"),
    Rule("409", _later(Reason.TRY_LATER), "RFC 9110 §15.5.10"),
    Rule("410", Meaning(OutcomeKind.UNDELIVERABLE, Reason.GONE, blames_address=True), "Standard Webhooks: disable"),
    Rule("413", Meaning(OutcomeKind.REJECTED, Reason.MESSAGE_TOO_BIG), "RFC 9110 §15.5.14"),
    Rule("421", _later(Reason.TRY_LATER), "RFC 9110 §15.5.20"),
    Rule("423", _later(Reason.TRY_LATER), "RFC 4918 §11.3"),
    Rule("425", _later(Reason.TRY_LATER), "RFC 8470 §5.2"),
    Rule("429", _later(Reason.TRY_LATER), "RFC 6585 §4, Standard Webhooks: throttle"),
    Rule("4xx", _REFUSED, "RFC 9110 §15.5: default of 4xx"),
    Rule("5xx", _later(Reason.SERVER_ERROR), "RFC 9110 §15.6: default of 5xx"),
    Rule("xxx", _later(Reason.PROTOCOL), "default of what is no status"),
)


def rule(status: int) -> Rule:
    """Return the row that decides on a status."""
    digits = f"{status:03d}"
    for row in ANSWERS:
        if row.status == "xxx" or (
            len(digits) == 3 and all(want in ("x", digit) for want, digit in zip(row.status, digits, strict=True))
        ):
            return row
    raise AssertionError("the table has a default")


#: What a receiver may say in the body of a 2xx.
SAID: dict[str, Meaning] = {
    "delivered": Meaning(OutcomeKind.DELIVERED, Reason.DELIVERED),
    "read": Meaning(OutcomeKind.READ, Reason.READ),
    "acknowledged": Meaning(OutcomeKind.READ, Reason.ACKNOWLEDGED),
}


def judged(status: int, body: bytes) -> Meaning:
    """Return what an answer means. ``body`` is nothing where it did not come whole."""
    meaning = rule(status).meaning
    return SAID.get(_status(body), meaning) if meaning.kind is OutcomeKind.ACCEPTED else meaning


def unanswered(failure: Failure) -> Meaning:
    """Return what a call without an answer means: of one receiver, so nothing is our own fault."""
    meaning = FAULTS[failure.fault]
    if failure.sent:
        reason = HttpReason.NO_ANSWER if failure.fault is HttpFault.TIMEOUT else meaning.reason
        return Meaning(OutcomeKind.MAYBE_SENT, reason)
    if failure.fault in (HttpFault.BAD_URL, HttpFault.NOT_ALLOWED):
        return Meaning(OutcomeKind.UNDELIVERABLE, meaning.reason, reached=False)
    return Meaning(OutcomeKind.DEFERRED, meaning.reason, reached=False)


def explained(reason: str) -> str:
    """Return what a reason says to people."""
    return EXPLANATIONS[Reason(reason)] if reason in set(Reason) else HTTP_EXPLANATIONS.get(reason, NO_ROOM)


def _status(body: bytes) -> str:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    status = said.get("status") if isinstance(said, dict) else None
    return status if isinstance(status, str) else ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver: its URL in one form, and what limits are counted by."""

    url: str
    scheme: str
    place: str


def endpoint(address: str) -> Endpoint | None:
    """Return the receiver behind an address, None where it is no URL that can be called."""
    if not 0 < len(address) <= MAX_URL or any(char <= " " or char in "\x7f\\" for char in address):
        return None
    try:
        parts = urlsplit(address)
        port = parts.port
        host = parts.hostname or ""
        host = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except (ValueError, UnicodeError):
        return None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.fragment or port == 0:
        return None
    shown = f"[{host}]" if ":" in host else host
    usual = 443 if scheme == "https" else 80
    netloc = shown if port in (None, usual) else f"{shown}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return Endpoint(f"{scheme}://{netloc}{parts.path or '/'}{query}", scheme, f"{shown}:{port or usual}")


def mask(address: str) -> str:
    """Return a form for logs: the scheme and the first letter of the host."""
    found = endpoint(address)
    return f"{found.scheme}://{found.place[0]}***" if found is not None else "***"


# -- what is sent ------------------------------------------------------------------------------------------------------


def payload(message: Send, text: str, kind: str = DUE) -> bytes:
    """Return the body of a message, the same for every attempt. ``text`` may be shorter than the message's own."""
    return orjson.dumps(
        {
            "type": kind,
            "timestamp": _instant(message.due_ms),
            "data": {
                "reminder_id": message.reminder_id,
                "occurrence": message.occurrence,
                "recipient_id": message.recipient_id,
                "due_at": _instant(message.due_ms),
                "expires_at": _instant(message.deadline_ms) if message.deadline_ms else None,
                "title": message.title,
                "text": text,
                "data": message.data,
                "category": message.category,
                "tenant": message.tenant,
                "correlation_id": message.correlation_id,
            },
        },
        option=orjson.OPT_SORT_KEYS,
    )


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- signatures --------------------------------------------------------------------------------------------------------


def secret(key: str, url: str) -> bytes:
    """Return the secret that one receiver shares with us under one of our keys."""
    return hmac.new(key.encode(), b"webhook\0" + url.encode(), hashlib.sha256).digest()


def shown_secret(key: str, url: str) -> str:
    """Return the secret in the form that the libraries of receivers take."""
    return "whsec_" + b64encode(secret(key, url)).decode()


def signature(secrets: Iterable[bytes | str], message_id: str, at_s: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: one entry for each secret, so that keys can be changed one by one."""
    at = datetime.fromtimestamp(at_s, UTC)
    return " ".join(Webhook(known).sign(message_id, at, body.decode()) for known in secrets)


def headers(keys: Iterable[str], url: str, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt."""
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature([secret(key, url) for key in keys], message_id, at_s, body),
    }
