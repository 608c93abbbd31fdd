"""What an answer means. Pure: data tables and the lookups on them.

The first digit of the basic code decides (RFC 5321 §4.2.1); an enhanced status (RFC 3463) refines it where its class is
the same, and is ignored where it is not. The words of a reply never decide: they only carry the status and, in a
temporary answer, how long to wait. ``docs/channels.md`` shows the tables; a test compares them.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from schemas.names import OutcomeKind

#: Shortest wait after a greylisting 450 or 451, unless configured.
GREYLIST_S = 300.0
#: Longest wait that the words of a reply may ask for.
MAX_HINT_S = 3600.0


class Phase(StrEnum):
    """How far an SMTP conversation has got. ``DATA`` lasts until the final dot is handed over; ``DOT`` follows."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    TLS = "TLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "DOT"


class Reason(StrEnum):
    """Why a mail ended as it did: with the faults of an address, all reasons that the channel EMAIL gives."""

    OK = "ok"
    # the server, or the way to it
    SERVICE_UNAVAILABLE = "service_unavailable"
    SERVICE_REFUSED = "service_refused"
    UNREACHABLE = "unreachable"
    CONNECTION_LOST = "connection_lost"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    TLS_TEMPORARY = "tls_temporary"
    TLS_REFUSED = "tls_refused"
    TLS_FAILED = "tls_failed"
    STARTTLS_MISSING = "starttls_missing"
    CERTIFICATE = "certificate"
    AUTH_TEMPORARY = "auth_temporary"
    AUTH_REFUSED = "auth_refused"
    AUTH_MISSING = "auth_missing"
    SENDER_REFUSED = "sender_refused"
    # this message
    GREYLISTED = "greylisted"
    TRY_LATER = "try_later"
    INSUFFICIENT_STORAGE = "insufficient_storage"
    TEMPORARY = "temporary"
    MESSAGE_TOO_BIG = "message_too_big"
    CONTENT_REFUSED = "content_refused"
    POLICY = "policy"
    NO_ANSWER = "no_answer"
    # this address
    NO_SUCH_MAILBOX = "no_such_mailbox"
    NO_SUCH_DOMAIN = "no_such_domain"
    MOVED = "moved"
    MAILBOX_DISABLED = "mailbox_disabled"
    MAILBOX_FULL = "mailbox_full"
    MAILBOX_UNAVAILABLE = "mailbox_unavailable"
    ADDRESS_SYNTAX = "address_syntax"
    SYSTEM_REFUSED = "system_refused"
    UNROUTABLE = "unroutable"
    NEEDS_SMTPUTF8 = "needs_smtputf8"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply or a fault means for one message.

    ``reached``: an attempt is consumed. ``blames_address``: suppress the address. ``close``: the connection must not be
    used again.
    """

    kind: OutcomeKind
    reason: Reason
    retry_after_s: float | None = None
    reached: bool = True
    blames_address: bool = False
    close: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the reply table. An ``x`` stands for anything; an empty status matches every reply."""

    phases: tuple[Phase, ...]
    code: str
    status: str
    verdict: Verdict
    source: str


SESSION = (Phase.CONNECT, Phase.EHLO, Phase.TLS, Phase.AUTH)
#: Answers that concern one recipient or one message.
MESSAGE = (Phase.RCPT, Phase.DATA, Phase.DOT)
BEFORE_MESSAGE = (*SESSION, Phase.MAIL)
EVERY = tuple(Phase)
BEFORE_DOT = tuple(phase for phase in Phase if phase is not Phase.DOT)

_ACCEPTED = Verdict(OutcomeKind.ACCEPTED, Reason.OK)


def _deferred(reason: Reason, wait: float | None = None, *, reached: bool = True, close: bool = False) -> Verdict:
    return Verdict(OutcomeKind.DEFERRED, reason, wait, reached=reached, close=close)


def _ours(reason: Reason, *, close: bool = False) -> Verdict:
    return Verdict(OutcomeKind.MISCONFIGURED, reason, reached=False, close=close)


def _rejected(reason: Reason) -> Verdict:
    return Verdict(OutcomeKind.REJECTED, reason)


def _undeliverable(reason: Reason, *, blames: bool = False) -> Verdict:
    return Verdict(OutcomeKind.UNDELIVERABLE, reason, blames_address=blames)


#: Read from the top; the first row that matches decides.
REPLIES: tuple[Rule, ...] = (
    Rule(tuple(p for p in Phase if p is not Phase.DATA), "2xx", "", _ACCEPTED, "RFC 5321 §4.2.1"),
    Rule((Phase.DATA,), "3xx", "", _ACCEPTED, "RFC 5321 §3.3: go on"),
    # The service as a whole: nobody is blamed, whatever the status says.
    Rule(BEFORE_MESSAGE, "421", "", _deferred(Reason.SERVICE_UNAVAILABLE, reached=False, close=True), "RFC 5321 §3.8"),
    Rule(MESSAGE, "421", "", _deferred(Reason.SERVICE_UNAVAILABLE, close=True), "RFC 5321 §3.8"),
    # Our credentials and our settings.
    Rule((Phase.AUTH,), "432", "", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6: password transition"),
    Rule((Phase.TLS,), "4xx", "", _deferred(Reason.TLS_TEMPORARY, reached=False, close=True), "RFC 3207 §4"),
    Rule((Phase.AUTH,), "4xx", "", _deferred(Reason.AUTH_TEMPORARY, reached=False, close=True), "RFC 4954 §6"),
    Rule(SESSION, "4xx", "", _deferred(Reason.SERVICE_UNAVAILABLE, reached=False, close=True), "RFC 5321 §4.2.1"),
    Rule((Phase.TLS,), "5xx", "", _ours(Reason.TLS_REFUSED, close=True), "RFC 3207 §4"),
    Rule((Phase.AUTH,), "5xx", "", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(SESSION, "5xx", "", _ours(Reason.SERVICE_REFUSED, close=True), "RFC 5321 §3.1, RFC 7504 §3"),
    Rule(EVERY, "530", "", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6, RFC 3207 §4"),
    Rule(EVERY, "534", "", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(EVERY, "535", "", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(EVERY, "538", "", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(EVERY, "5xx", "5.7.8", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(EVERY, "5xx", "5.7.9", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(EVERY, "5xx", "5.7.11", _ours(Reason.AUTH_REFUSED, close=True), "RFC 4954 §6"),
    Rule(EVERY, "5xx", "5.7.13", _ours(Reason.AUTH_REFUSED, close=True), "RFC 5248: our account disabled"),
    Rule(EVERY, "5xx", "5.7.14", _ours(Reason.AUTH_REFUSED, close=True), "RFC 5248: trust relationship"),
    Rule(EVERY, "5xx", "5.1.7", _ours(Reason.SENDER_REFUSED), "RFC 3463 §3.2"),
    Rule(EVERY, "5xx", "5.1.8", _ours(Reason.SENDER_REFUSED), "RFC 3463 §3.2"),
    # Later, perhaps.
    Rule((Phase.RCPT,), "450", "", _deferred(Reason.GREYLISTED, GREYLIST_S), "RFC 6647"),
    Rule((Phase.RCPT,), "451", "", _deferred(Reason.GREYLISTED, GREYLIST_S), "RFC 6647"),
    Rule((Phase.MAIL, Phase.DATA, Phase.DOT), "450", "", _deferred(Reason.TRY_LATER, GREYLIST_S), "RFC 6647"),
    Rule((Phase.MAIL, Phase.DATA, Phase.DOT), "451", "", _deferred(Reason.TRY_LATER, GREYLIST_S), "RFC 6647"),
    Rule(EVERY, "4xx", "4.2.2", _deferred(Reason.MAILBOX_FULL), "RFC 3463 §3.3"),
    Rule(EVERY, "452", "", _deferred(Reason.INSUFFICIENT_STORAGE), "RFC 5321 §4.2.3"),
    Rule(EVERY, "4xx", "", _deferred(Reason.TEMPORARY), "RFC 5321 §4.2.1: default of all temporary answers"),
    # Too big for whoever is asked.
    Rule(EVERY, "5xx", "5.3.4", _rejected(Reason.MESSAGE_TOO_BIG), "RFC 3463 §3.4, RFC 1870 §6"),
    Rule(EVERY, "5xx", "5.2.3", _rejected(Reason.MESSAGE_TOO_BIG), "RFC 3463 §3.3"),
    Rule(EVERY, "5xx", "5.6.7", _undeliverable(Reason.NEEDS_SMTPUTF8), "RFC 6531"),
    # Nothing but the sender is known at MAIL.
    Rule((Phase.MAIL,), "552", "", _rejected(Reason.MESSAGE_TOO_BIG), "RFC 1870 §6"),
    Rule((Phase.MAIL,), "5xx", "", _ours(Reason.SENDER_REFUSED), "RFC 5321 §4.3.2: default at MAIL"),
    # This address, whatever we send.
    Rule(MESSAGE, "5xx", "5.1.1", _undeliverable(Reason.NO_SUCH_MAILBOX, blames=True), "RFC 3463 §3.2"),
    Rule(MESSAGE, "5xx", "5.1.2", _undeliverable(Reason.NO_SUCH_DOMAIN, blames=True), "RFC 3463 §3.2"),
    Rule(MESSAGE, "5xx", "5.1.3", _undeliverable(Reason.ADDRESS_SYNTAX, blames=True), "RFC 3463 §3.2"),
    Rule(MESSAGE, "5xx", "5.1.6", _undeliverable(Reason.MOVED, blames=True), "RFC 3463 §3.2"),
    Rule(MESSAGE, "5xx", "5.1.10", _undeliverable(Reason.NO_SUCH_DOMAIN, blames=True), "RFC 7505 §6"),
    Rule(MESSAGE, "5xx", "5.1.x", _undeliverable(Reason.MAILBOX_UNAVAILABLE), "RFC 3463 §3.2"),
    Rule(MESSAGE, "5xx", "5.2.1", _undeliverable(Reason.MAILBOX_DISABLED, blames=True), "RFC 3463 §3.3"),
    Rule(MESSAGE, "5xx", "5.2.2", _undeliverable(Reason.MAILBOX_FULL), "RFC 3463 §3.3"),
    Rule(MESSAGE, "5xx", "5.2.x", _undeliverable(Reason.MAILBOX_UNAVAILABLE), "RFC 3463 §3.3"),
    Rule(MESSAGE, "5xx", "5.3.x", _undeliverable(Reason.SYSTEM_REFUSED), "RFC 3463 §3.4"),
    Rule(MESSAGE, "5xx", "5.4.x", _undeliverable(Reason.UNROUTABLE), "RFC 3463 §3.5"),
    # This message, to whomever. 5.5.x says nothing that the basic code does not.
    Rule(MESSAGE, "5xx", "5.6.x", _rejected(Reason.CONTENT_REFUSED), "RFC 3463 §3.7"),
    Rule(MESSAGE, "5xx", "5.7.x", _rejected(Reason.POLICY), "RFC 3463 §3.8"),
    Rule(MESSAGE, "552", "", _rejected(Reason.MESSAGE_TOO_BIG), "RFC 5321 §4.2.3"),
    Rule(MESSAGE, "554", "", _rejected(Reason.CONTENT_REFUSED), "RFC 5321 §4.2.3"),
    Rule((Phase.RCPT,), "556", "", _undeliverable(Reason.NO_SUCH_DOMAIN, blames=True), "RFC 7504 §4"),
    Rule((Phase.RCPT,), "501", "", _undeliverable(Reason.ADDRESS_SYNTAX), "RFC 5321 §4.3.2"),
    Rule((Phase.RCPT,), "553", "", _undeliverable(Reason.ADDRESS_SYNTAX), "RFC 5321 §4.2.3"),
    Rule((Phase.RCPT,), "50x", "", _rejected(Reason.PROTOCOL), "RFC 5321 §4.2.3"),
    Rule((Phase.RCPT,), "555", "", _rejected(Reason.PROTOCOL), "RFC 5321 §4.1.1.11"),
    Rule((Phase.RCPT,), "5xx", "", _undeliverable(Reason.MAILBOX_UNAVAILABLE), "RFC 5321 §4.2.3: default at RCPT"),
    Rule(
        (Phase.DATA, Phase.DOT), "5xx", "", _rejected(Reason.CONTENT_REFUSED), "RFC 5321 §4.2.1: default of the message"
    ),
    # What no server should say.
    Rule(BEFORE_DOT, "xxx", "", _deferred(Reason.PROTOCOL, reached=False, close=True), "default before the final dot"),
    Rule(
        (Phase.DOT,),
        "xxx",
        "",
        Verdict(OutcomeKind.MAYBE_SENT, Reason.PROTOCOL, close=True),
        "default after the final dot",
    ),
)


class Fault(StrEnum):
    """What can go wrong without a reply."""

    UNREACHABLE = "UNREACHABLE"
    LOST = "LOST"
    TIMEOUT = "TIMEOUT"
    MALFORMED = "MALFORMED"
    CERTIFICATE = "CERTIFICATE"
    TLS_FAILED = "TLS_FAILED"
    STARTTLS_MISSING = "STARTTLS_MISSING"
    AUTH_MISSING = "AUTH_MISSING"
    SMTPUTF8_MISSING = "SMTPUTF8_MISSING"
    TOO_BIG = "TOO_BIG"


def _unsent(kind: OutcomeKind, reason: Reason, *, close: bool = True) -> Verdict:
    return Verdict(kind, reason, reached=False, close=close)


#: What each fault means before the final dot. After it everything is ``maybe_sent``.
FAULTS: dict[Fault, Verdict] = {
    Fault.UNREACHABLE: _unsent(OutcomeKind.DEFERRED, Reason.UNREACHABLE),
    Fault.LOST: _unsent(OutcomeKind.DEFERRED, Reason.CONNECTION_LOST),
    Fault.TIMEOUT: _unsent(OutcomeKind.DEFERRED, Reason.TIMEOUT),
    Fault.MALFORMED: _unsent(OutcomeKind.DEFERRED, Reason.PROTOCOL),
    Fault.CERTIFICATE: _unsent(OutcomeKind.MISCONFIGURED, Reason.CERTIFICATE),
    Fault.TLS_FAILED: _unsent(OutcomeKind.MISCONFIGURED, Reason.TLS_FAILED),
    Fault.STARTTLS_MISSING: _unsent(OutcomeKind.MISCONFIGURED, Reason.STARTTLS_MISSING),
    Fault.AUTH_MISSING: _unsent(OutcomeKind.MISCONFIGURED, Reason.AUTH_MISSING),
    Fault.SMTPUTF8_MISSING: _unsent(OutcomeKind.UNDELIVERABLE, Reason.NEEDS_SMTPUTF8, close=False),
    Fault.TOO_BIG: _unsent(OutcomeKind.REJECTED, Reason.MESSAGE_TOO_BIG, close=False),
}

#: What a reason says to people, without a word of the server's: those may quote an address.
EXPLANATIONS: dict[Reason, str] = {
    Reason.OK: "the server took it",
    Reason.SERVICE_UNAVAILABLE: "the server turns everybody away for now",
    Reason.SERVICE_REFUSED: "the server refuses us: check host, port and whether this machine may send there",
    Reason.UNREACHABLE: "no connection to the server: check host, port and network",
    Reason.CONNECTION_LOST: "the connection broke",
    Reason.TIMEOUT: "the server did not answer in time",
    Reason.PROTOCOL: "the server's answer is not SMTP or not what the protocol allows there",
    Reason.TLS_TEMPORARY: "the server cannot do TLS right now",
    Reason.TLS_REFUSED: "the server refuses STARTTLS: check the port and the TLS setting",
    Reason.TLS_FAILED: "the TLS handshake failed: check the TLS setting, the port and the client certificate",
    Reason.STARTTLS_MISSING: "the server does not offer STARTTLS, so nothing was sent: check the port",
    Reason.CERTIFICATE: "the server's certificate is not trusted: check the host name and the CA file",
    Reason.AUTH_TEMPORARY: "the server cannot check our login right now",
    Reason.AUTH_REFUSED: "the server refuses our login: check user and password",
    Reason.AUTH_MISSING: "the server offers no login that we are allowed to use: check TLS and the methods",
    Reason.SENDER_REFUSED: "the server refuses our sender address: check it and the login it needs",
    Reason.GREYLISTED: "the server asks for a later try",
    Reason.TRY_LATER: "the server asks for a later try",
    Reason.INSUFFICIENT_STORAGE: "the server has no room right now",
    Reason.TEMPORARY: "the server gave a temporary failure",
    Reason.MESSAGE_TOO_BIG: "the message is too big for the server",
    Reason.CONTENT_REFUSED: "the server refuses this message",
    Reason.POLICY: "the server's policy refuses this message",
    Reason.NO_ANSWER: "the message was handed over and never answered for: it may have been sent",
    Reason.NO_SUCH_MAILBOX: "there is no such mailbox",
    Reason.NO_SUCH_DOMAIN: "the domain takes no mail",
    Reason.MOVED: "the mailbox has moved",
    Reason.MAILBOX_DISABLED: "the mailbox is disabled",
    Reason.MAILBOX_FULL: "the mailbox is full",
    Reason.MAILBOX_UNAVAILABLE: "the mailbox cannot be reached",
    Reason.ADDRESS_SYNTAX: "the server does not accept the form of the address",
    Reason.SYSTEM_REFUSED: "the reader's mail system takes no mail",
    Reason.UNROUTABLE: "there is no way to the reader's mail system",
    Reason.NEEDS_SMTPUTF8: "the address needs a server with SMTPUTF8",
}

_STATUS = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})(?!\d)")
_HINT = re.compile(r"\b(?:in|after)\s+(\d{1,5})\s*(seconds?|secs?|s|minutes?|mins?|m)\b", re.IGNORECASE)


def smtp_status(code: int, text: str) -> str:
    """Return the enhanced status that a reply begins with; nothing where it has none or one that contradicts it."""
    found = _STATUS.match(text)
    if found is None or int(found[1]) != code // 100:
        return ""
    return ".".join(str(int(part)) for part in found.groups())


def _matches(pattern: str, value: str) -> bool:
    if "x" not in pattern:
        return pattern == value
    if "." in pattern:
        return value.startswith(pattern.removesuffix("x"))
    return len(value) == len(pattern) and all(p in ("x", v) for p, v in zip(pattern, value, strict=True))


def smtp_rule(phase: Phase, code: int, text: str = "") -> Rule:
    """Return the row that decides on a reply."""
    status = smtp_status(code, text)
    basic = f"{code:03d}" if 0 <= code <= 999 else "000"
    for rule in REPLIES:
        if phase in rule.phases and _matches(rule.code, basic) and (not rule.status or _matches(rule.status, status)):
            return rule
    raise AssertionError("the table has a default for every phase")


def smtp_reply(phase: Phase, code: int, text: str = "", *, greylist_s: float = GREYLIST_S) -> Verdict:
    """Return what a reply means. ``greylist_s`` stands in for the table's wait, so that configuration can change it."""
    verdict = smtp_rule(phase, code, text).verdict
    if verdict.kind is not OutcomeKind.DEFERRED:
        return verdict
    wait = greylist_s if verdict.retry_after_s is not None else None
    hint = _hint_s(text)
    if hint is not None:
        wait = max(wait or 0.0, hint)
    return Verdict(verdict.kind, verdict.reason, wait, reached=verdict.reached, close=verdict.close)


def smtp_fault(phase: Phase, fault: Fault) -> Verdict:
    """Return what a fault without a reply means: after the final dot nobody knows, before it nothing was sent."""
    if phase is not Phase.DOT:
        return FAULTS[fault]
    reason = Reason.NO_ANSWER if fault is Fault.TIMEOUT else FAULTS[fault].reason
    return Verdict(OutcomeKind.MAYBE_SENT, reason, close=True)


def _hint_s(text: str) -> float | None:
    found = _HINT.search(text)
    if found is None:
        return None
    wait = int(found[1]) * (60 if found[2].lower().startswith("m") else 1)
    return min(float(wait), MAX_HINT_S) if wait else None
