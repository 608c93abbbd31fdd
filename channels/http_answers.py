"""What an answer over HTTP means where the provider's own codes say nothing. Pure: data and the lookups on them.

A provider whose codes say more asks its own table first. ``docs/channels.md`` shows the tables; a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

from channels.retry import asked_wait_s
from schemas.names import OutcomeKind

#: The reason of an answer whose code no table knows: it is counted, so that the table can grow.
UNKNOWN_CODE = "unknown_code"


class HttpReason(StrEnum):
    """Why a call over HTTP ended as it did, where the provider's own codes say nothing."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    UNKNOWN_HOST = "unknown_host"
    BAD_URL = "bad_url"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    CERTIFICATE = "certificate"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    NO_ANSWER = "no_answer"
    PROTOCOL = "protocol"
    REDIRECT = "redirect"
    RATE_LIMITED = "rate_limited"
    TRY_LATER = "try_later"
    SERVER_ERROR = "server_error"
    CREDENTIALS_REFUSED = "credentials_refused"
    WRONG_PLACE = "wrong_place"
    MESSAGE_TOO_BIG = "message_too_big"
    REQUEST_REFUSED = "request_refused"


#: What a reason says to people, without a word of the provider's: those may quote an address.
EXPLANATIONS: dict[str, str] = {
    HttpReason.OK: "the provider took it",
    HttpReason.UNREACHABLE: "no connection to the provider: check its URL and the network",
    HttpReason.UNKNOWN_HOST: "the provider's host name cannot be resolved: check its URL and the DNS",
    HttpReason.BAD_URL: "the URL cannot be called: check it",
    HttpReason.ADDRESS_NOT_ALLOWED: "the address behind the URL is not one that may be called",
    HttpReason.CERTIFICATE: "the provider's certificate is not trusted: check the host name and the CA file",
    HttpReason.TLS_FAILED: "the TLS handshake failed: check the URL and its port",
    HttpReason.TIMEOUT: "no connection was made in time",
    HttpReason.CONNECTION_LOST: "the connection broke before the provider answered",
    HttpReason.NO_ANSWER: "the message was handed over and never answered for: it may have been sent",
    HttpReason.PROTOCOL: "the provider's answer is not what its protocol allows there",
    HttpReason.REDIRECT: "the provider points to another place, which is never followed: check its URL",
    HttpReason.RATE_LIMITED: "the provider asks us to be slower",
    HttpReason.TRY_LATER: "the provider asks for a later try",
    HttpReason.SERVER_ERROR: "the provider failed with the message in its hands",
    HttpReason.CREDENTIALS_REFUSED: "the provider refuses our credentials: check them and what they may do",
    HttpReason.WRONG_PLACE: "the provider does not know the place that we asked: check its URL and the account",
    HttpReason.MESSAGE_TOO_BIG: "the message is too big for the provider",
    HttpReason.REQUEST_REFUSED: "the provider refuses this message",
    UNKNOWN_CODE: "the provider refuses this message with a code that no table knows",
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer or a fault means for one message. ``reached``: an attempt is consumed."""

    kind: OutcomeKind
    reason: str
    reached: bool = True
    blames_address: bool = False


@dataclass(frozen=True, slots=True)
class StatusRule:
    """One row of the table of statuses; an ``x`` stands for any digit."""

    status: str
    meaning: Meaning
    source: str


def ours(reason: str) -> Meaning:
    """Return the meaning of what is our own fault: the circuit opens, everything is kept, nobody is blamed."""
    return Meaning(OutcomeKind.MISCONFIGURED, reason, reached=False)


#: Read from the top; the first row that matches decides.
STATUSES: tuple[StatusRule, ...] = (
    StatusRule("2xx", Meaning(OutcomeKind.ACCEPTED, HttpReason.OK), "RFC 9110 §15.3"),
    StatusRule("3xx", ours(HttpReason.REDIRECT), "RFC 9110 §15.4: never followed"),
    StatusRule("401", ours(HttpReason.CREDENTIALS_REFUSED), "RFC 9110 §15.5.2"),
    StatusRule("402", ours(HttpReason.CREDENTIALS_REFUSED), "RFC 9110 §15.5.3: the account"),
    StatusRule("403", ours(HttpReason.CREDENTIALS_REFUSED), "RFC 9110 §15.5.4"),
    StatusRule("407", ours(HttpReason.CREDENTIALS_REFUSED), "RFC 9110 §15.5.8"),
    StatusRule("404", ours(HttpReason.WRONG_PLACE), "RFC 9110 §15.5.5"),
    StatusRule("405", ours(HttpReason.WRONG_PLACE), "RFC 9110 §15.5.6"),
    StatusRule("410", ours(HttpReason.WRONG_PLACE), "RFC 9110 §15.5.11"),
    StatusRule("408", Meaning(OutcomeKind.DEFERRED, HttpReason.TRY_LATER), "RFC 9110 §15.5.9: not received whole"),
    StatusRule("425", Meaning(OutcomeKind.DEFERRED, HttpReason.TRY_LATER), "RFC 8470 §5.2"),
    StatusRule("429", Meaning(OutcomeKind.DEFERRED, HttpReason.RATE_LIMITED), "RFC 6585 §4"),
    StatusRule("413", Meaning(OutcomeKind.REJECTED, HttpReason.MESSAGE_TOO_BIG), "RFC 9110 §15.5.14"),
    StatusRule("4xx", Meaning(OutcomeKind.REJECTED, HttpReason.REQUEST_REFUSED), "default of refusals"),
    StatusRule("5xx", Meaning(OutcomeKind.MAYBE_SENT, HttpReason.SERVER_ERROR), "no key makes a second call harmless"),
    StatusRule("xxx", Meaning(OutcomeKind.MAYBE_SENT, HttpReason.PROTOCOL), "default"),
)


class HttpFault(StrEnum):
    """What can go wrong without an answer."""

    UNREACHABLE = "UNREACHABLE"
    UNKNOWN_HOST = "UNKNOWN_HOST"
    BAD_URL = "BAD_URL"
    NOT_ALLOWED = "NOT_ALLOWED"
    CERTIFICATE = "CERTIFICATE"
    TLS_FAILED = "TLS_FAILED"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    MALFORMED = "MALFORMED"


def _unsent(reason: HttpReason) -> Meaning:
    return Meaning(OutcomeKind.DEFERRED, reason, reached=False)


#: What each fault means before a byte of the request has left. After it everything is ``maybe_sent``.
FAULTS: dict[HttpFault, Meaning] = {
    HttpFault.UNREACHABLE: _unsent(HttpReason.UNREACHABLE),
    HttpFault.UNKNOWN_HOST: _unsent(HttpReason.UNKNOWN_HOST),
    HttpFault.BAD_URL: ours(HttpReason.BAD_URL),
    HttpFault.NOT_ALLOWED: ours(HttpReason.ADDRESS_NOT_ALLOWED),
    HttpFault.CERTIFICATE: ours(HttpReason.CERTIFICATE),
    HttpFault.TLS_FAILED: ours(HttpReason.TLS_FAILED),
    HttpFault.TIMEOUT: _unsent(HttpReason.TIMEOUT),
    HttpFault.LOST: _unsent(HttpReason.CONNECTION_LOST),
    HttpFault.MALFORMED: _unsent(HttpReason.PROTOCOL),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's status and the first part of its body. ``whole``: nothing of the body is missing.

    ``retry_after_s``: how long the provider asks us to wait, None where it did not say. ``headers``: those that were
    asked for, under the names by which they were.
    """

    status: int
    body: bytes = b""
    whole: bool = True
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer. ``sent``: whether the request had begun to leave, so that nobody knows what became of
    it."""

    fault: HttpFault
    sent: bool = False


def status_meaning(status: int) -> Meaning:
    """Return what a status means by itself."""
    digits = f"{status:03d}"
    for rule in STATUSES:
        if len(digits) == 3 and all(r in ("x", d) for r, d in zip(rule.status, digits, strict=True)):
            return rule.meaning
    return STATUSES[-1].meaning


def fault_meaning(failure: Failure) -> Meaning:
    """Return what a failure means: once the request had begun to leave nobody knows, before that nothing was sent."""
    if not failure.sent:
        return FAULTS[failure.fault]
    reason = HttpReason.NO_ANSWER if failure.fault is HttpFault.TIMEOUT else FAULTS[failure.fault].reason
    return Meaning(OutcomeKind.MAYBE_SENT, reason)


def retry_after_s(value: str, date: str, now_s: float) -> float | None:
    """Return the seconds that an answer's ``Retry-After`` asks for, None for what nobody should obey.

    A date counts from the answer's own ``Date``, so that clocks need not agree; without one from ``now_s``, seconds
    UTC.
    """
    try:
        begun = parsedate_to_datetime(date)
        now_s = begun.replace(tzinfo=begun.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        pass  # an answer need not say when it was given
    return asked_wait_s(value, int(now_s * 1000))
