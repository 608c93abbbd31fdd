"""What Twilio's codes mean. Pure: one table for the API's refusals and for later news of a message or a call.

Twilio adds codes as it likes, so the table has a default: an unknown code refuses this message, blames no address, and
is counted (``unknown_code``). ``docs/channels.md`` shows the tables; a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import UNKNOWN_CODE, Answer, HttpReason, Meaning, ours, status_meaning
from schemas.names import OutcomeKind


class TwilioReason(StrEnum):
    """Why a message or a call ended as it did, where Twilio says it in a code of its own."""

    NO_SUCH_NUMBER = "no_such_number"
    NOT_MOBILE = "not_mobile"
    NOT_ON_WHATSAPP = "not_on_whatsapp"
    OPTED_OUT = "opted_out"
    BLOCKED = "blocked"
    OUTSIDE_WINDOW = "outside_window"
    CONTENT_REFUSED = "content_refused"
    TEMPLATE_REFUSED = "template_refused"
    TEMPLATE_PAUSED = "template_paused"
    SENDER_REFUSED = "sender_refused"
    COUNTRY_REFUSED = "country_refused"
    ACCOUNT = "account"
    FILTERED = "filtered"
    OUR_REQUEST = "our_request"
    QUEUE_FULL = "queue_full"
    UNREACHED = "unreached"
    BUSY_LINE = "busy_line"
    NO_REPLY = "no_reply"
    CALL_FAILED = "call_failed"
    CALL_CANCELLED = "call_cancelled"
    MAINTENANCE = "maintenance"
    # Said by us, before a call.
    TOO_LONG = "too_long"
    NO_TEXT = "no_text"


EXPLANATIONS: dict[str, str] = {
    **HTTP_EXPLANATIONS,
    TwilioReason.NO_SUCH_NUMBER: "there is no such number",
    TwilioReason.NOT_MOBILE: "the number takes no messages: it is a landline, a short code or a premium number",
    TwilioReason.NOT_ON_WHATSAPP: "the number is not on WhatsApp",
    TwilioReason.OPTED_OUT: "the recipient has opted out of messages from this sender",
    TwilioReason.BLOCKED: "the recipient's network or device blocks us",
    TwilioReason.OUTSIDE_WINDOW: "the recipient has not written within 24 hours, so only a template may be sent",
    TwilioReason.CONTENT_REFUSED: "the provider refuses this text",
    TwilioReason.TEMPLATE_REFUSED: "the template does not exist, is not approved or does not take these variables",
    TwilioReason.TEMPLATE_PAUSED: "WhatsApp has paused or disabled the template",
    TwilioReason.SENDER_REFUSED: "our sender cannot send this: check the number, the service and its registration",
    TwilioReason.COUNTRY_REFUSED: "our account may not send to this country: check its geographic permissions",
    TwilioReason.ACCOUNT: "our account is suspended, on trial, or has no credit",
    TwilioReason.FILTERED: "carriers filter what we send",
    TwilioReason.OUR_REQUEST: "the request itself is wrong: check the callback URL and the settings",
    TwilioReason.QUEUE_FULL: "the sender's queue is full",
    TwilioReason.UNREACHED: "the device could not be reached",
    TwilioReason.BUSY_LINE: "the line was busy",
    TwilioReason.NO_REPLY: "nobody took the call",
    TwilioReason.CALL_FAILED: "the call could not be connected",
    TwilioReason.CALL_CANCELLED: "the call was cancelled before anybody took it",
    TwilioReason.MAINTENANCE: "the provider is in maintenance",
    TwilioReason.TOO_LONG: "the text is longer than the settings allow",
    TwilioReason.NO_TEXT: "nothing is left of the text that could be sent",
}


@dataclass(frozen=True, slots=True)
class CodeRule:
    """Codes of one meaning."""

    codes: tuple[int, ...]
    meaning: Meaning
    source: str


def _address(reason: TwilioReason, *, blames: bool = True) -> Meaning:
    return Meaning(OutcomeKind.UNDELIVERABLE, reason, blames_address=blames)


def _message(reason: TwilioReason) -> Meaning:
    return Meaning(OutcomeKind.REJECTED, reason)


def _later(reason: str) -> Meaning:
    return Meaning(OutcomeKind.DEFERRED, reason)


_IN_DOUBT = Meaning(OutcomeKind.MAYBE_SENT, HttpReason.SERVER_ERROR)

#: A code stands in one row. "dictionary" is Twilio's error and warning dictionary.
CODES: tuple[CodeRule, ...] = (
    # Later.
    CodeRule((20429, 14107, 63038), _later(HttpReason.RATE_LIMITED), "dictionary: not processed, safe to send again"),
    CodeRule((21611, 30001, 30022), _later(TwilioReason.QUEUE_FULL), "dictionary"),
    CodeRule((21730,), _later(TwilioReason.MAINTENANCE), "dictionary"),
    CodeRule((30003, 30008, 30017), _later(TwilioReason.UNREACHED), "dictionary: news of a message"),
    CodeRule((63018, 63049), _later(HttpReason.RATE_LIMITED), "dictionary: WhatsApp's limits"),
    CodeRule((63010, 63012), _later(HttpReason.TRY_LATER), "WhatsApp's own failure"),
    # Nobody knows.
    CodeRule((20500, 20503, 20504), _IN_DOUBT, "dictionary: the API failed with the request in its hands"),
    # This address, on this channel.
    CodeRule((21211, 21217, 21401, 13223, 13224, 30005), _address(TwilioReason.NO_SUCH_NUMBER), "dictionary"),
    CodeRule((21421, 21422, 21640), _address(TwilioReason.NO_SUCH_NUMBER, blames=False), "dictionary"),
    CodeRule((21614, 21635, 21655, 30006), _address(TwilioReason.NOT_MOBILE), "dictionary"),
    CodeRule((63003, 63024), _address(TwilioReason.NOT_ON_WHATSAPP), "dictionary"),
    CodeRule((21610, 63014, 63032), Meaning(OutcomeKind.OPTED_OUT, TwilioReason.OPTED_OUT), "dictionary"),
    CodeRule((30004,), _address(TwilioReason.BLOCKED, blames=False), "dictionary"),
    CodeRule((63016,), _address(TwilioReason.OUTSIDE_WINDOW, blames=False), "dictionary: free text after 24 hours"),
    # This message.
    CodeRule(
        (21602, 21617, 21619, 30019, 63005, 63013, 63019, 63021), _message(TwilioReason.CONTENT_REFUSED), "dictionary"
    ),
    CodeRule((35111, 35114, 35115, 35118), _message(TwilioReason.CONTENT_REFUSED), "dictionary: scheduling"),
    # Ours: the circuit opens, everything is kept, nobody is blamed.
    CodeRule((20003, 20004, 20006, 20008, 20101, 20104, 20403), ours(HttpReason.CREDENTIALS_REFUSED), "dictionary"),
    CodeRule((20005, 20010, 21608, 21219, 30002, 30010), ours(TwilioReason.ACCOUNT), "dictionary"),
    CodeRule((20404,), ours(HttpReason.WRONG_PLACE), "dictionary"),
    CodeRule((21408, 21215, 13227), ours(TwilioReason.COUNTRY_REFUSED), "dictionary: geographic permissions"),
    CodeRule(
        (
            21210,
            21212,
            21213,
            21603,
            21606,
            21612,
            21618,
            21620,
            21659,
            21660,
            21661,
            21701,
            21703,
            21704,
            30034,
            63007,
        ),
        ours(TwilioReason.SENDER_REFUSED),
        "dictionary",
    ),
    CodeRule((30007, 30038, 63029), ours(TwilioReason.FILTERED), "dictionary: stop the campaign"),
    CodeRule((21656, 21658, 63027, 63028, 63030), ours(TwilioReason.TEMPLATE_REFUSED), "dictionary: content templates"),
    CodeRule((63040, 63041, 63042), ours(TwilioReason.TEMPLATE_PAUSED), "dictionary: rejected, paused, disabled"),
    CodeRule((20001, 21205, 21207, 21604, 21605, 21609, 21218, 21220), ours(TwilioReason.OUR_REQUEST), "dictionary"),
)

BY_CODE: Mapping[int, Meaning] = {code: rule.meaning for rule in CODES for code in rule.codes}

#: What an unknown code of a refusal means.
DEFAULT = Meaning(OutcomeKind.REJECTED, UNKNOWN_CODE)

#: Statuses of a message that its creation may answer with, and that later news bring.
MESSAGE_STATUSES: Mapping[str, OutcomeKind] = {
    "accepted": OutcomeKind.ACCEPTED,
    "scheduled": OutcomeKind.ACCEPTED,
    "queued": OutcomeKind.ACCEPTED,
    "sending": OutcomeKind.ACCEPTED,
    "sent": OutcomeKind.ACCEPTED,
    "partially_delivered": OutcomeKind.ACCEPTED,
    "delivered": OutcomeKind.DELIVERED,
    "read": OutcomeKind.READ,
    "undelivered": OutcomeKind.DEFERRED,
    "failed": OutcomeKind.DEFERRED,
    "canceled": OutcomeKind.SKIPPED,
}

#: What has become of a call. ``completed`` is not "heard": see ``AnsweredBy``. Only a key pressed acknowledges.
CALL_STATUSES: Mapping[str, Meaning] = {
    "queued": Meaning(OutcomeKind.ACCEPTED, HttpReason.OK),
    "initiated": Meaning(OutcomeKind.ACCEPTED, HttpReason.OK),
    "ringing": Meaning(OutcomeKind.ACCEPTED, HttpReason.OK),
    "in-progress": Meaning(OutcomeKind.ACCEPTED, HttpReason.OK),
    "completed": Meaning(OutcomeKind.DELIVERED, HttpReason.OK),
    "busy": _later(TwilioReason.BUSY_LINE),
    "no-answer": _later(TwilioReason.NO_REPLY),
    "failed": _later(TwilioReason.CALL_FAILED),
    "canceled": Meaning(OutcomeKind.SKIPPED, TwilioReason.CALL_CANCELLED),
}


def code_meaning(code: int) -> Meaning:
    """Return what a code of Twilio's means."""
    return BY_CODE.get(code, DEFAULT)


@dataclass(frozen=True, slots=True)
class Read:
    """What an answer says: its meaning, the code as it is told, and the id that Twilio gave."""

    meaning: Meaning
    code: str = ""
    sid: str = ""


def read_answer(answer: Answer) -> Read:
    """Return what an answer of the API means. A success that cannot be read is a doubt, and so is a failed server."""
    body = _json(answer)
    code = _code(body, "code")
    if 200 <= answer.status < 300:
        sid = body.get("sid") if body is not None else None
        if not isinstance(sid, str) or not sid:
            return Read(Meaning(OutcomeKind.MAYBE_SENT, HttpReason.PROTOCOL), str(answer.status))
        wrong = _code(body, "error_code")
        if wrong or (body is not None and body.get("status") in ("failed", "undelivered")):
            return Read(code_meaning(wrong), str(wrong or answer.status), sid[:64])
        return Read(Meaning(OutcomeKind.ACCEPTED, HttpReason.OK), "", sid[:64])
    by_status = status_meaning(answer.status)
    if not code or not 400 <= answer.status < 600:
        return Read(by_status, str(answer.status))
    known = BY_CODE.get(code)
    if known is not None:
        return Read(known, str(code))
    # What the status says for sure is better than a guess at a code.
    sure = by_status.reason != HttpReason.REQUEST_REFUSED
    return Read(by_status if sure else DEFAULT, str(code))


def _json(answer: Answer) -> Mapping[str, object] | None:
    if not answer.whole:
        return None
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _code(body: Mapping[str, object] | None, name: str) -> int:
    """Return a code of Twilio's own, which has five digits or more; 0 where there is none."""
    value = body.get(name) if body is not None else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 10_000 <= value < 1_000_000 else 0
