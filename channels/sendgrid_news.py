"""What SendGrid tells after a call: whether it was SendGrid, and what became of mails. Pure.

One request brings many events, in any order, and comes again until it was answered with 2xx. Only those of mails with a
name that we sealed count; the account may send others. Opens and clicks are not asked for: machines cause most.
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256

from channels.addresses import Address, parse
from channels.classify import Phase, Reason, smtp_reply, smtp_status
from channels.http_answers import UNKNOWN_CODE, Meaning
from channels.news import News, Told
from channels.sendgrid_settings import public_key
from schemas.names import OutcomeKind

PROVIDER = "sendgrid"
#: Custom arguments of our mails: the attempt, sealed, and the reminder's category. They stand in an event beside
#: SendGrid's own properties, of which ``category`` is one.
DELIVERY, CATEGORY = "delivery", "reminder_category"
#: Events of one request that are looked at; SendGrid sends far fewer.
MOST_EVENTS = 10_000
_REPLY = re.compile(r"([45][0-9]{2})((?:[ -].*)?)\Z", re.DOTALL)
_STATUS = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}\Z")


@dataclass(frozen=True, slots=True)
class Suppress:
    """An address that must not be used, or (``why`` is empty) may be used again. ``category``: for that one alone,
    empty: for all. ``at``: when that was so, ms UTC. ``reference``: the attempt that it came from, sealed."""

    reference: str
    address: str
    why: str
    at: int
    category: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request brings."""

    told: tuple[Told, ...] = ()
    suppress: tuple[Suppress, ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """One row of the table of mails that were taken and not sent. ``why``: for what the address is suppressed."""

    says: str
    meaning: Meaning
    why: str
    source: str


_NO_MAILBOX = Meaning(OutcomeKind.UNDELIVERABLE, Reason.NO_SUCH_MAILBOX, blames_address=True)
_STOPPED = Meaning(OutcomeKind.OPTED_OUT, "opted_out")

#: Read from the top; what the reason of a dropped mail begins with, in small letters. "reference" is the page above.
DROPS: tuple[Drop, ...] = (
    Drop("bounced address", _NO_MAILBOX, "bounced", "reference: on SendGrid's list of bounces"),
    Drop("invalid smtpapi", Meaning(OutcomeKind.REJECTED, "payload_refused"), "", "reference"),
    Drop("invalid", _NO_MAILBOX, "bounced", "reference: on SendGrid's list of invalid addresses"),
    Drop("unsubscribed address", _STOPPED, "unsubscribed", "reference: on SendGrid's list of unsubscribes"),
    Drop("spam reporting address", _STOPPED, "complained", "reference: on SendGrid's list of complaints"),
    Drop("spam content", Meaning(OutcomeKind.REJECTED, Reason.CONTENT_REFUSED), "", "reference: its spam checker"),
    Drop("recipient list over package quota", Meaning(OutcomeKind.MISCONFIGURED, "account"), "", "reference"),
)
#: What a mail that was dropped for any other reason means.
DROPPED = Meaning(OutcomeKind.REJECTED, UNKNOWN_CODE)
#: What a bounce without a reply of the other server's means.
BOUNCED = Meaning(OutcomeKind.UNDELIVERABLE, Reason.MAILBOX_UNAVAILABLE)
#: Bounces that SendGrid calls so are of addresses that do not exist.
INVALID = "invalid address"


def genuine(keys: Sequence[str], timestamp: str, body: bytes, signature: str) -> bool:
    """Return whether SendGrid sent a body: ECDSA with SHA-256 over the timestamp and the bytes as they came."""
    try:
        given = base64.b64decode(signature, validate=True)
        signed = timestamp.encode("ascii") + body
    except (binascii.Error, ValueError):
        return False
    for text in keys:
        key = public_key(text)
        if key is None:
            continue
        try:
            key.verify(given, signed, ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return True
    return False


def read(body: bytes) -> Batch | None:
    """Return what a request brings, None where it is no list of events. What cannot be read of it, has no name of ours
    or is of no kind that we know is passed over: SendGrid would send it for a day."""
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(events, list):
        return None
    told: list[Told] = []
    suppress: list[Suppress] = []
    for event in events[:MOST_EVENTS]:
        if not isinstance(event, dict) or not (reference := _text(event, DELIVERY)):
            continue
        news, why, scoped = _meant(event)
        if news is not None:
            told.append(Told(reference, news))
        address = parse(_text(event, "email"))
        if why is not None and isinstance(address, Address):
            category = _text(event, CATEGORY)[:200] if scoped else ""
            suppress.append(Suppress(reference, address.spec, why, _at(event), category))
    return Batch(tuple(told), tuple(suppress))


def _meant(event: Mapping[str, Any]) -> tuple[News | None, str | None, bool]:
    """Return the news that an event is, why its address is suppressed (empty: no more; None: nothing of it), and
    whether for its category alone."""
    match _text(event, "event"):
        case "delivered":
            return _news(event, OutcomeKind.DELIVERED, "receipt", ""), None, False
        case "bounce":
            meaning, code = bounced(
                _text(event, "type"),
                _text(event, "reason"),
                _text(event, "status"),
                _text(event, "bounce_classification"),
            )
            return (
                _news(event, meaning.kind, meaning.reason, code),
                "bounced" if meaning.blames_address else None,
                False,
            )
        case "dropped":
            meaning, why = dropped(_text(event, "reason"))
            return _news(event, meaning.kind, meaning.reason, "dropped"), why or None, False
        case "spamreport":
            return None, "complained", True
        case "unsubscribe" | "group_unsubscribe":
            return None, "unsubscribed", True
        case "group_resubscribe":
            return None, "", True
        case _:
            # ``processed`` says what the API has said, ``deferred`` that SendGrid still tries.
            return None, None, False


def bounced(kind: str, said: str, status: str = "", classification: str = "") -> tuple[Meaning, str]:
    """Return what a bounce means, and the code of the other server's reply: read by the table of replies of SMTP. A
    ``blocked`` one is about us and not the address."""
    found = _REPLY.match(said.strip()[:1000])
    if found is None:
        code, meaning = "", BOUNCED
    else:
        code = found[1]
        text = found[2].lstrip(" -")
        # The reply's own status counts before what SendGrid has made of it.
        text = text if smtp_status(int(code), text) or not _STATUS.match(status) else f"{status} {text}"
        verdict = smtp_reply(Phase.RCPT, int(code), text)
        # Our settings are SendGrid's there: it is this mail that was refused.
        ours = verdict.kind is OutcomeKind.MISCONFIGURED
        meaning = Meaning(
            OutcomeKind.REJECTED if ours else verdict.kind,
            Reason.POLICY if ours else verdict.reason,
            blames_address=verdict.blames_address,
        )
    if kind == "blocked":
        return Meaning(meaning.kind, meaning.reason), code
    if classification.lower() == INVALID and meaning.kind is OutcomeKind.UNDELIVERABLE:
        return _NO_MAILBOX, code
    return meaning, code


def dropped(said: str) -> tuple[Meaning, str]:
    """Return what a mail that was taken and not sent means, and for what its address is suppressed."""
    small = said.strip().lower()
    for row in DROPS:
        if small.startswith(row.says):
            return row.meaning, row.why
    return DROPPED, ""


def _news(event: Mapping[str, Any], outcome: OutcomeKind, reason: str, code: str) -> News:
    # The id that the API gave is what comes before the first dot.
    return News(outcome, str(reason), code, _text(event, "sg_message_id").partition(".")[0][:64])


def _at(event: Mapping[str, Any]) -> int:
    seconds = event.get("timestamp")
    return seconds * 1000 if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds < 10**11 else 0


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""
