"""What an answer of FCM (HTTP v1) means. Pure: the table as data, and the lookups on it.

FCM's own code (``FcmError.errorCode``) decides where there is one. Without one a status says little of the token: a 404
is a wrong project as well, a 403 an API that is switched off, a 400 our own bug. None of those blames a token.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

import orjson

from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import UNKNOWN_CODE, Answer, HttpReason, Meaning, ours
from schemas.names import OutcomeKind

#: Shortest wait after a quota was used up (Firebase, throttling: at least a minute).
QUOTA_S = 60.0


class FcmReason(StrEnum):
    """Why a push ended as it did, beside the reasons of HTTP."""

    UNREGISTERED = "unregistered"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a reason
    TOKEN_SUSPECT = "token_suspect"  # noqa: S105
    SENDER_ID_MISMATCH = "sender_id_mismatch"
    PAYLOAD_REFUSED = "payload_refused"
    MESSAGE_TOO_BIG = "message_too_big"
    QUOTA = "quota"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    THIRD_PARTY_AUTH = "third_party_auth"
    PERMISSION_DENIED = "permission_denied"
    WRONG_PROJECT = "wrong_project"
    LOGIN_UNAVAILABLE = "login_unavailable"
    CREDENTIALS_UNREADABLE = "credentials_unreadable"
    BAD_TOKEN = "bad_token"  # noqa: S105


#: What a reason says to people, without a word of FCM's: those may quote a token.
EXPLANATIONS: dict[str, str] = HTTP_EXPLANATIONS | {
    FcmReason.UNREGISTERED: "the app was removed or its token replaced; the token is taken from the contacts",
    FcmReason.TOKEN_INVALID: "FCM refuses this token for any message; it is taken from the contacts",
    FcmReason.TOKEN_SUSPECT: "FCM refuses token or message and does not say which; the token is kept",
    FcmReason.SENDER_ID_MISMATCH: "the token belongs to another project than our credentials; it is kept",
    FcmReason.PAYLOAD_REFUSED: "FCM refuses the content of this message",
    FcmReason.MESSAGE_TOO_BIG: "the message is too big for a push",
    FcmReason.QUOTA: "a quota of FCM is used up",
    FcmReason.UNAVAILABLE: "FCM is overloaded",
    FcmReason.INTERNAL: "FCM failed",
    FcmReason.THIRD_PARTY_AUTH: "Apple or the web push service refuses the key in the Firebase project: renew it there",
    FcmReason.PERMISSION_DENIED: "our account may not send: enable the FCM API and grant it the role",
    FcmReason.WRONG_PROJECT: "FCM does not know the project: check the credentials and FCM_URL",
    FcmReason.LOGIN_UNAVAILABLE: "Google's login cannot be reached or failed",
    FcmReason.CREDENTIALS_UNREADABLE: "the file of FCM_CREDENTIALS_FILE is no service account's",
    FcmReason.BAD_TOKEN: "the address is no registration token",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. ``code`` and ``rpc``: nothing matches anything; an ``x`` in ``status`` any digit.

    ``wait_s``: the shortest wait, where FCM asks for none or a shorter one.
    """

    code: str
    status: str
    meaning: Meaning
    source: str
    wait_s: float | None = None


def _later(reason: str) -> Meaning:
    return Meaning(OutcomeKind.DEFERRED, reason)


_GONE = Meaning(OutcomeKind.UNDELIVERABLE, FcmReason.UNREGISTERED, blames_address=True)
_SUSPECT = Meaning(OutcomeKind.UNDELIVERABLE, FcmReason.TOKEN_SUSPECT)
_MISMATCH = Meaning(OutcomeKind.UNDELIVERABLE, FcmReason.SENDER_ID_MISMATCH)
_CODES = "Firebase, FCM ErrorCode"

#: Read from the top; the first row that matches decides. A code that none names is counted as unknown.
ANSWERS: tuple[Rule, ...] = (
    Rule("UNREGISTERED", "xxx", _GONE, _CODES),
    Rule("INVALID_ARGUMENT", "xxx", _SUSPECT, f"{_CODES}: token or payload; a second look decides"),
    Rule("SENDER_ID_MISMATCH", "xxx", _MISMATCH, _CODES),
    Rule("QUOTA_EXCEEDED", "xxx", _later(FcmReason.QUOTA), f"{_CODES}: at least a minute", QUOTA_S),
    Rule("UNAVAILABLE", "xxx", _later(FcmReason.UNAVAILABLE), _CODES),
    Rule("INTERNAL", "xxx", _later(FcmReason.INTERNAL), _CODES),
    Rule("THIRD_PARTY_AUTH_ERROR", "xxx", ours(FcmReason.THIRD_PARTY_AUTH), _CODES),
    Rule("other", "4xx", Meaning(OutcomeKind.REJECTED, UNKNOWN_CODE), "default of an unknown code"),
    Rule("other", "xxx", _later(UNKNOWN_CODE), "default of an unknown code"),
    Rule("", "400", Meaning(OutcomeKind.REJECTED, FcmReason.PAYLOAD_REFUSED), "google.rpc.BadRequest: our own bug"),
    Rule("", "401", ours(HttpReason.CREDENTIALS_REFUSED), "after the login was renewed once"),
    Rule("", "403", ours(FcmReason.PERMISSION_DENIED), "google.rpc PERMISSION_DENIED"),
    Rule("", "404", ours(FcmReason.WRONG_PROJECT), "google.rpc NOT_FOUND: the project, not the token"),
    Rule("", "413", Meaning(OutcomeKind.REJECTED, FcmReason.MESSAGE_TOO_BIG), "RFC 9110 §15.5.14"),
    Rule("", "429", _later(FcmReason.QUOTA), "google.rpc RESOURCE_EXHAUSTED: at least a minute", QUOTA_S),
    Rule("", "3xx", ours(HttpReason.REDIRECT), "RFC 9110 §15.4: never followed"),
    Rule("", "408", _later(HttpReason.TRY_LATER), "RFC 9110 §15.5.9"),
    Rule("", "4xx", Meaning(OutcomeKind.REJECTED, HttpReason.REQUEST_REFUSED), "default of refusals"),
    Rule("", "5xx", _later(HttpReason.SERVER_ERROR), "Firebase: try again; a copy replaces the first on the device"),
    Rule("", "xxx", Meaning(OutcomeKind.MAYBE_SENT, HttpReason.PROTOCOL), "default"),
)
_KNOWN = frozenset(rule.code for rule in ANSWERS) - {"", "other"}
_FIELD = re.compile(r"message(?:\.[a-z_A-Z]{1,40}|\[[0-9]{1,3}\])*\Z")


@dataclass(frozen=True, slots=True)
class Read:
    """An answer as the table reads it. ``field``: which part of the message is refused; ``name``: what was taken."""

    meaning: Meaning
    code: str
    wait_s: float | None = None
    field: str = ""
    name: str = ""


def read_answer(answer: Answer) -> Read:
    """Return what an answer means, by the table."""
    said = _said(answer)
    if 200 <= answer.status <= 299:
        name = said.get("name")
        if not isinstance(name, str) or not name:
            # Whoever answers so is not FCM, or its answer broke off: what became of the message is not known.
            return Read(Meaning(OutcomeKind.MAYBE_SENT, HttpReason.PROTOCOL), str(answer.status))
        return Read(Meaning(OutcomeKind.ACCEPTED, HttpReason.OK), str(answer.status), name=name[:200])
    code, field = _details(said)
    if not code and field == "message.token":
        code = "INVALID_ARGUMENT"
    known = code if code in _KNOWN else "other" if code else ""
    digits = f"{answer.status:03d}"
    for rule in ANSWERS:
        if rule.code == known and all(r in ("x", d) for r, d in zip(rule.status, digits, strict=False)):
            wait = max(rule.wait_s or 0.0, answer.retry_after_s or 0.0) or None
            later = rule.meaning.kind is OutcomeKind.DEFERRED
            return Read(rule.meaning, f"{answer.status} {_shown(code)}".strip(), wait if later else None, field)
    raise AssertionError("the table has a default")


def _said(answer: Answer) -> dict[str, object]:
    try:
        said = orjson.loads(answer.body) if answer.whole else {}
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _details(said: dict[str, object]) -> tuple[str, str]:
    """Return FCM's own code and the first field that is complained of, nothing where there is none."""
    error = said.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    code = field = ""
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict):
            continue
        given = detail.get("errorCode")
        if not code and isinstance(given, str) and str(detail.get("@type", "")).endswith("FcmError"):
            code = given
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else []:
            named = violation.get("field") if isinstance(violation, dict) else None
            # Only names of FCM's own: what else stands there may be somebody's data.
            if not field and isinstance(named, str) and _FIELD.match(named):
                field = named
    return code, field


def _shown(code: str) -> str:
    return code if re.fullmatch(r"[A-Z_]{1,40}", code) else "?" if code else ""
