"""What Twilio tells after a call: whether it was Twilio, and what became of a message, a call, or a person's answer.

Signatures are made over the address exactly as Twilio calls it and the sorted fields of the form
(https://www.twilio.com/docs/usage/security#validating-requests), and carry no time: a copy is as good as the first, so
whatever follows must not mind one.
"""

from collections.abc import Mapping

from twilio.request_validator import RequestValidator

from channels.news import News
from channels.twilio_codes import CALL_STATUSES, MESSAGE_STATUSES, code_meaning
from channels.whatsapp_rules import written_to
from schemas.names import Channel, OutcomeKind


def genuine(auth_token: str, url: str, form: Mapping[str, str], signature: str) -> bool:
    """Return whether Twilio sent a form to an address. ``url``: the public one, byte for byte as it was called."""
    if not auth_token or not signature:
        return False
    return bool(RequestValidator(auth_token).validate(url, form, signature))


#: Statuses that announce what will be said.
_UNDER_WAY = frozenset({"accepted", "scheduled", "queued", "sending", "initiated", "ringing", "in-progress"})


def of_message(form: Mapping[str, str]) -> News | None:
    """Return the news of a message's status callback, None where there is none yet.

    https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
    """
    status = form.get("MessageStatus") or form.get("SmsStatus") or ""
    sid = (form.get("MessageSid") or form.get("SmsSid") or "")[:64]
    outcome = MESSAGE_STATUSES.get(status)
    if outcome is None or status in _UNDER_WAY:
        return None
    if outcome in (OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ):
        return News(outcome, "receipt", "", sid)
    code = form.get("ErrorCode", "")
    meaning = code_meaning(int(code)) if code.isascii() and code.isdigit() and len(code) < 8 else code_meaning(0)
    return News(meaning.kind, str(meaning.reason), code[:8], sid)


def of_call(form: Mapping[str, str]) -> News | None:
    """Return the news of a call's status callback: an answering machine is no person, so a call that it took was made
    and not delivered.

    https://www.twilio.com/docs/voice/api/call-resource#statuscallback
    """
    status, sid = form.get("CallStatus", ""), form.get("CallSid", "")[:64]
    if status == "completed":
        machine = form.get("AnsweredBy", "").startswith(("machine", "fax"))
        return News(OutcomeKind.ACCEPTED if machine else OutcomeKind.DELIVERED, "receipt", "", sid)
    meaning = CALL_STATUSES.get(status)
    if meaning is None or status in _UNDER_WAY:
        return None
    return News(meaning.kind, str(meaning.reason), status, sid)


def sender(form: Mapping[str, str]) -> tuple[Channel, str]:
    """Return on which channel an inbound message came, and from whom."""
    number = form.get("From", "")
    if number.startswith("whatsapp:"):
        return Channel.WHATSAPP, written_to(number.removeprefix("whatsapp:"))
    return Channel.SMS, number
