"""What Meta tells after a call: whether it was Meta, what became of messages, and what people wrote. Pure.

One request brings many of each, in any order, and comes again until it was answered with 200.
https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages
"""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from channels.cloud_codes import MAX_ID, failed
from channels.news import Heard, News, Told
from channels.whatsapp_rules import written_to
from schemas.names import Channel, OutcomeKind

PROVIDER = "meta"
#: What Meta calls requests about WhatsApp.
OBJECT = "whatsapp_business_account"
#: Kinds of messages that nobody wrote to us, or that say nothing.
_NOT_WRITTEN = frozenset({"reaction", "system", "unknown", "unsupported", "request_welcome"})
_STATUSES: Mapping[str, OutcomeKind] = {
    "sent": OutcomeKind.ACCEPTED,
    "delivered": OutcomeKind.DELIVERED,
    "read": OutcomeKind.READ,
    "played": OutcomeKind.READ,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request brings, about our own number."""

    told: tuple[Told, ...] = ()
    heard: tuple[Heard, ...] = ()


def genuine(app_secret: str, body: bytes, signature: str) -> bool:
    """Return whether Meta sent a body: HMAC-SHA256 over its bytes as they came. ``signature``: the header
    ``X-Hub-Signature-256``."""
    if not app_secret or not signature.isascii():
        return False
    ours = "sha256=" + hmac.new(app_secret.encode(), body, sha256).hexdigest()
    return hmac.compare_digest(ours.encode(), signature.encode())


def read(body: bytes, phone_id: str) -> Batch | None:
    """Return what a request brings, None where it is none of WhatsApp's. What cannot be read of it, what is about
    another number and what is news of no kind that we know is passed over: Meta would send it for days."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, dict) or said.get("object") != OBJECT:
        return None
    told: list[Told] = []
    heard: list[Heard] = []
    for value in _values(said):
        if _part(value, "metadata").get("phone_number_id") != phone_id:
            continue
        told += filter(None, map(_told, _listed(value, "statuses")))
        heard += filter(None, map(_heard, _listed(value, "messages")))
    return Batch(tuple(told), tuple(heard))


def _values(said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in _listed(said, "entry"):
        for change in _listed(entry, "changes"):
            yield _part(change, "value")


def _told(status: Mapping[str, Any]) -> Told | None:
    reference, wamid = _text(status, "biz_opaque_callback_data"), _text(status, "id")[:MAX_ID]
    if not reference:
        return None
    kind = _text(status, "status")
    if (outcome := _STATUSES.get(kind)) is not None:
        return Told(reference, News(outcome, "receipt", "", wamid))
    if kind != "failed":
        return None
    code = next((error.get("code") for error in _listed(status, "errors")), None)
    known = code if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 10_000_000 else None
    meaning = failed(-1 if known is None else known)
    return Told(reference, News(meaning.kind, str(meaning.reason), "" if known is None else str(known), wamid))


def _heard(message: Mapping[str, Any]) -> Heard | None:
    number, kind = _text(message, "from"), _text(message, "type")
    if not (number.isascii() and number.isdigit()) or kind in _NOT_WRITTEN:
        return None
    match kind:
        case "text":
            text = _text(_part(message, "text"), "body")
        case "button":
            text = _text(_part(message, "button"), "text")
        case "interactive":
            chosen = _part(message, "interactive")
            text = _text(_part(chosen, "button_reply"), "title") or _text(_part(chosen, "list_reply"), "title")
        case _:
            text = ""
    seconds = _text(message, "timestamp")
    at = int(seconds) * 1000 if seconds.isascii() and seconds.isdigit() and len(seconds) < 12 else 0
    name = _text(message, "id")[:MAX_ID]
    return Heard(PROVIDER, Channel.WHATSAPP, written_to(f"+{number}"), text, name, at=at)


def _part(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = said.get(name)
    return part if isinstance(part, dict) else {}


def _listed(said: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = said.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""
