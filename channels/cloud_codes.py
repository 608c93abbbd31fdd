"""What the codes of Meta's WhatsApp Cloud API mean. Pure: one table for refusals and for later news of a message.

Meta adds codes as it likes, so the table has a default: an unknown code refuses this message, blames no address, and is
counted (``unknown_code``). ``docs/channels.md`` shows the table; a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import UNKNOWN_CODE, Answer, HttpReason, Meaning, ours, status_meaning
from channels.whatsapp_rules import Unsaid
from schemas.names import OutcomeKind

#: Longest id of a message that is kept. A ``wamid`` has some 60 characters.
MAX_ID = 128


class CloudReason(StrEnum):
    """Why a message ended as it did, where Meta says it in a code of its own."""

    NOT_ON_WHATSAPP = "not_on_whatsapp"
    OUTSIDE_WINDOW = Unsaid.OUTSIDE_WINDOW.value
    HELD_BACK = "held_back"
    TOO_MANY_TO_ONE = "too_many_to_one"
    EXPERIMENT = "experiment"
    NO_MARKETING = "no_marketing"
    OWN_NUMBER = "own_number"
    CONTENT_REFUSED = "content_refused"
    PAYLOAD_REFUSED = "payload_refused"
    TEMPLATE_REFUSED = "template_refused"
    TEMPLATE_PAUSED = "template_paused"
    SENDER_REFUSED = "sender_refused"
    COUNTRY_REFUSED = "country_refused"
    ACCOUNT = "account"
    FILTERED = "filtered"
    MAINTENANCE = "maintenance"
    # Said by us, before a call.
    TOO_LONG = Unsaid.TOO_LONG.value
    NO_TEXT = Unsaid.NO_TEXT.value


EXPLANATIONS: dict[str, str] = {
    **HTTP_EXPLANATIONS,
    CloudReason.NOT_ON_WHATSAPP: "the number is not on WhatsApp",
    CloudReason.OUTSIDE_WINDOW: "the recipient has not written within 24 hours, so only a template may be sent",
    CloudReason.HELD_BACK: "WhatsApp keeps the message back for now: the recipient has had many like it",
    CloudReason.TOO_MANY_TO_ONE: "too many messages went to this number in a short time",
    CloudReason.EXPERIMENT: "WhatsApp delivers no such messages to this recipient, who is part of an experiment",
    CloudReason.NO_MARKETING: "the recipient has stopped marketing messages of this sender",
    CloudReason.OWN_NUMBER: "the number is the sender's own",
    CloudReason.CONTENT_REFUSED: "the provider refuses this text",
    CloudReason.PAYLOAD_REFUSED: "the provider refuses a value of this message",
    CloudReason.TEMPLATE_REFUSED: "the template does not exist, is not approved or does not take these variables",
    CloudReason.TEMPLATE_PAUSED: "WhatsApp has paused or disabled the template",
    CloudReason.SENDER_REFUSED: "our sender cannot send this: check the number, the service and its registration",
    CloudReason.COUNTRY_REFUSED: "our account may not send to this country: check its geographic permissions",
    CloudReason.ACCOUNT: "our account is suspended, on trial, or has no credit",
    CloudReason.FILTERED: "too much of what we send is taken for spam: check the quality of the number",
    CloudReason.MAINTENANCE: "the provider is in maintenance",
    CloudReason.TOO_LONG: "the text is longer than the settings allow",
    CloudReason.NO_TEXT: "nothing is left of the text that could be sent",
}


@dataclass(frozen=True, slots=True)
class CodeRule:
    """Codes of one meaning."""

    codes: tuple[int, ...]
    meaning: Meaning
    source: str


def _address(reason: CloudReason, *, blames: bool = False) -> Meaning:
    return Meaning(OutcomeKind.UNDELIVERABLE, reason, blames_address=blames)


def _message(reason: CloudReason) -> Meaning:
    return Meaning(OutcomeKind.REJECTED, reason)


def _later(reason: str) -> Meaning:
    return Meaning(OutcomeKind.DEFERRED, reason)


#: What is later for one recipient alone: whatever wait comes with it is not asked of all.
OF_ONE = frozenset({CloudReason.HELD_BACK, CloudReason.TOO_MANY_TO_ONE})

#: A code stands in one row. "throttling", "integrity" and the like are the parts of Meta's list of error codes.
CODES: tuple[CodeRule, ...] = (
    # Later.
    CodeRule((4, 80007, 130429), _later(HttpReason.RATE_LIMITED), "throttling: the app, the account, the throughput"),
    CodeRule((131056,), _later(CloudReason.TOO_MANY_TO_ONE), "throttling: pair of numbers"),
    CodeRule((131049,), _later(CloudReason.HELD_BACK), "other: kept back so that people do not tire of it"),
    CodeRule((131000, 131016, 133004), _later(HttpReason.TRY_LATER), "other: it says that the message was not sent"),
    CodeRule((131057,), _later(CloudReason.MAINTENANCE), "other: the account moves"),
    # Nobody knows.
    CodeRule(
        (1, 2), Meaning(OutcomeKind.MAYBE_SENT, HttpReason.SERVER_ERROR), "other: the API failed or is overloaded"
    ),
    # This address, on this channel.
    CodeRule((131026,), _address(CloudReason.NOT_ON_WHATSAPP, blames=True), "other: undeliverable"),
    CodeRule((131047,), _address(CloudReason.OUTSIDE_WINDOW), "other: free text after 24 hours"),
    CodeRule((130472,), _address(CloudReason.EXPERIMENT), "other: an experiment on marketing messages"),
    CodeRule((131050,), _address(CloudReason.NO_MARKETING), "other: marketing stopped; no STOP for all else"),
    CodeRule((131021,), _address(CloudReason.OWN_NUMBER), "other: recipient and sender are one"),
    # This message.
    CodeRule((131051, 131052, 131053, 132005, 132007), _message(CloudReason.CONTENT_REFUSED), "other, templates"),
    CodeRule((100, 131008, 131009), _message(CloudReason.PAYLOAD_REFUSED), "other: a parameter missing or wrong"),
    # We have to do something about it.
    CodeRule((0, 3, 10, 190, 131005), ours(HttpReason.CREDENTIALS_REFUSED), "authorization"),
    CodeRule(tuple(range(200, 300)), ours(HttpReason.CREDENTIALS_REFUSED), "authorization: permissions"),
    CodeRule((33,), ours(HttpReason.WRONG_PLACE), "other: the sender's number is deleted"),
    CodeRule((368, 131031, 131042, 134011, 131030), ours(CloudReason.ACCOUNT), "integrity, payment, test account"),
    CodeRule((130497,), ours(CloudReason.COUNTRY_REFUSED), "integrity: country"),
    CodeRule((131048,), ours(CloudReason.FILTERED), "throttling: spam; stop until the quality is better"),
    CodeRule((131037, 131045, 133000, 133006, 133010, 133015), ours(CloudReason.SENDER_REFUSED), "other, registration"),
    CodeRule((132000, 132001, 132012, 132018), ours(CloudReason.TEMPLATE_REFUSED), "templates"),
    CodeRule(
        (132015, 132016, 132068, 132069), ours(CloudReason.TEMPLATE_PAUSED), "templates: paused, disabled, blocked"
    ),
)

BY_CODE: Mapping[int, Meaning] = {code: rule.meaning for rule in CODES for code in rule.codes}

#: What an unknown code of a refusal means.
DEFAULT = Meaning(OutcomeKind.REJECTED, UNKNOWN_CODE)


def code_meaning(code: int) -> Meaning:
    """Return what a code of Meta's means."""
    return BY_CODE.get(code, DEFAULT)


def failed(code: int) -> Meaning:
    """Return what the code of a message means that has failed for sure: there is no doubt about it any more."""
    meaning = code_meaning(code)
    return _later(meaning.reason) if meaning.kind is OutcomeKind.MAYBE_SENT else meaning


@dataclass(frozen=True, slots=True)
class Read:
    """What an answer says: its meaning, the code as it is told, and the id that Meta gave."""

    meaning: Meaning
    code: str = ""
    wamid: str = ""


def read_answer(answer: Answer) -> Read:
    """Return what an answer of the API means. A success that cannot be read is a doubt, and so is a failed server."""
    body = _json(answer)
    if 200 <= answer.status < 300:
        wamid, paused = _made(body)
        if not wamid:
            return Read(Meaning(OutcomeKind.MAYBE_SENT, HttpReason.PROTOCOL), str(answer.status))
        if paused:
            return Read(ours(CloudReason.TEMPLATE_PAUSED), "paused", wamid)
        return Read(Meaning(OutcomeKind.ACCEPTED, HttpReason.OK), "", wamid)
    by_status = status_meaning(answer.status)
    code = _code(body)
    if code is None or not 400 <= answer.status < 600:
        return Read(by_status, str(answer.status))
    known = BY_CODE.get(code)
    if known is not None:
        return Read(known, str(code))
    # What the status says for sure is better than a guess at a code.
    sure = by_status.reason != HttpReason.REQUEST_REFUSED
    return Read(by_status if sure else DEFAULT, str(code))


def _json(answer: Answer) -> Mapping[str, object]:
    if not answer.whole:
        return {}
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _made(body: Mapping[str, object]) -> tuple[str, bool]:
    """Return the id of the message that was taken, and whether it will not be sent since its template is paused."""
    made = body.get("messages")
    first = made[0] if isinstance(made, list) and made else None
    wamid = first.get("id") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(wamid, str):
        return "", False
    return wamid[:MAX_ID], first.get("message_status") == "paused"


def _code(body: Mapping[str, object]) -> int | None:
    """Return the code of a refusal, None where there is none."""
    error = body.get("error")
    value = error.get("code") if isinstance(error, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000_000 else None
