"""What SendGrid's answers to ``/v3/mail/send`` mean. Pure: one table, read from the top.

SendGrid has no codes of its own: a refusal is a status with a list of errors, each with the field that it is about.
What no row knows is what its status says, or refuses this message and is counted (``unknown_code``).
``docs/channels.md`` shows the table; a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from channels.classify import Reason
from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import UNKNOWN_CODE, Answer, HttpReason, Meaning, ours, status_meaning
from schemas.names import OutcomeKind

#: Errors of one answer that are looked at.
MOST_ERRORS = 20


class SendGridReason(StrEnum):
    """Why a mail ended as it did, where SendGrid says more than its status."""

    ADDRESS_SYNTAX = Reason.ADDRESS_SYNTAX.value
    SENDER_REFUSED = Reason.SENDER_REFUSED.value
    PAYLOAD_REFUSED = "payload_refused"
    ACCOUNT = "account"
    SANDBOX = "sandbox"
    # Said by us, before a call.
    NEEDS_SMTPUTF8 = Reason.NEEDS_SMTPUTF8.value


EXPLANATIONS: dict[str, str] = {
    **HTTP_EXPLANATIONS,
    SendGridReason.ADDRESS_SYNTAX: "the server cannot read the address",
    SendGridReason.SENDER_REFUSED: "the server refuses our sender address: check it and the login it needs",
    SendGridReason.PAYLOAD_REFUSED: "the provider refuses a value of this message",
    SendGridReason.ACCOUNT: "our account is suspended, on trial, or has no credit",
    SendGridReason.SANDBOX: "the provider only checks our mails and sends none: its sandbox mode is on",
    SendGridReason.NEEDS_SMTPUTF8: "the address needs SMTPUTF8, which the server does not have",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a status, what the field of an error begins with and what its message holds, in small letters. Empty
    parts match every answer."""

    status: int
    field: str
    says: str
    meaning: Meaning
    source: str


#: "responses" are those of https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send, "errors" those of
#: https://docs.sendgrid.com/api-reference/mail-send/errors.
ANSWERS: tuple[Rule, ...] = (
    Rule(202, "", "", Meaning(OutcomeKind.ACCEPTED, HttpReason.OK), "responses: queued"),
    Rule(200, "", "", ours(SendGridReason.SANDBOX), "responses: valid, but not queued"),
    Rule(
        400,
        "personalizations.0.to",
        "",
        Meaning(OutcomeKind.UNDELIVERABLE, SendGridReason.ADDRESS_SYNTAX, blames_address=True),
        "errors: the recipient's address",
    ),
    Rule(400, "from", "", ours(SendGridReason.SENDER_REFUSED), "errors: the sender's address"),
    Rule(400, "", "", Meaning(OutcomeKind.REJECTED, SendGridReason.PAYLOAD_REFUSED), "errors: any other value"),
    Rule(401, "", "credits", ours(SendGridReason.ACCOUNT), "errors: maximum credits exceeded"),
    Rule(401, "", "", ours(HttpReason.CREDENTIALS_REFUSED), "responses"),
    Rule(403, "from", "", ours(SendGridReason.SENDER_REFUSED), "errors: no verified sender identity"),
    Rule(403, "", "", ours(HttpReason.CREDENTIALS_REFUSED), "responses: the key may not send"),
    Rule(413, "", "", Meaning(OutcomeKind.REJECTED, HttpReason.MESSAGE_TOO_BIG), "responses: 30 MB"),
    Rule(429, "", "", Meaning(OutcomeKind.DEFERRED, HttpReason.RATE_LIMITED), "responses: not processed"),
)

#: What a refusal means that neither a row nor its status knows.
DEFAULT = Meaning(OutcomeKind.REJECTED, UNKNOWN_CODE)


def read_answer(answer: Answer) -> Meaning:
    """Return what an answer means. A failed server is a doubt, and so is a success that is none of SendGrid's."""
    errors = _errors(answer)
    for rule in ANSWERS:
        if rule.status == answer.status and any(
            field.startswith(rule.field) and rule.says in said for field, said in errors
        ):
            return rule.meaning
    if 200 <= answer.status < 300:
        return Meaning(OutcomeKind.MAYBE_SENT, HttpReason.PROTOCOL)
    by_status = status_meaning(answer.status)
    return DEFAULT if by_status.reason == HttpReason.REQUEST_REFUSED else by_status


def _errors(answer: Answer) -> list[tuple[str, str]]:
    """Return field and message of each error; one that says nothing where there is none."""
    nothing = [("", "")]
    if not answer.whole:
        return nothing
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return nothing
    errors = body.get("errors") if isinstance(body, dict) else None
    if not isinstance(errors, list):
        return nothing
    found = [(_small(one, "field"), _small(one, "message")) for one in errors[:MOST_ERRORS] if isinstance(one, dict)]
    return found or nothing


def _small(error: Mapping[str, object], name: str) -> str:
    value = error.get(name)
    return value[:500].lower() if isinstance(value, str) else ""
