"""What follows an outcome: done, again, the next contact or step, the end, or doubt. Pure: jitter is a parameter.

A temporary answer uses up its budget before the chain moves on; a permanent one moves it at once. What never reached
the provider, was misconfigured, held or turned away as busy consumes no attempt, so it never dies of its budget: its
deadline ends it.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import assert_never

from channels.word_reasons import HOPELESS
from schemas.names import MaybeSent, OutcomeKind

#: Reason of a deferred answer that our own side gave: the channel was at its limit.
BUSY = "busy"
#: No provider's wish is followed further than this.
MAX_RETRY_AFTER_S = 7 * 86_400.0


class Tier(StrEnum):
    """The delayed topics, by the longest wait that each takes."""

    MINUTE = "1m"
    TEN_MINUTES = "10m"
    HOUR = "1h"


class Next(StrEnum):
    """Where a chain goes on."""

    CONTACT = "contact"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon: waits grow from ``base_s`` by ``factor`` to ``cap_s``, plus up to ``jitter`` of that."""

    max_attempts: int = 5
    base_s: float = 60.0
    factor: float = 2.0
    cap_s: float = 3600.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1: the first attempt counts")
        if not (math.isfinite(self.base_s) and self.base_s > 0):
            raise ValueError("base_s must be a positive number of seconds")
        if not (math.isfinite(self.factor) and 1 <= self.factor <= 100):
            raise ValueError("factor must be between 1 and 100: waits never shrink")
        if not (math.isfinite(self.cap_s) and self.cap_s >= self.base_s):
            raise ValueError("cap_s must be finite and at least base_s")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter must be between 0 and 1: it is a share of the wait")


@dataclass(frozen=True, slots=True)
class Done:
    """This step has its answer. ``kind`` says which: accepted, delivered, read, or skipped."""

    kind: OutcomeKind
    reason: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The same step again, no sooner than ``wait_ms`` from now, as attempt number ``attempt``."""

    wait_ms: int
    tier: Tier
    attempt: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """This contact or step has failed; the chain goes on at once."""

    to: Next
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Nothing is left to try."""

    reason: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """It may have been sent and must not be again unasked. ``exhausted``: it was, as often as the budget allows."""

    reason: str
    exhausted: bool = False


Decision = Done | Retry | Fallback | Dead | Doubt


def wait_s(policy: RetryPolicy, attempt: int, jitter: float, retry_after_s: float | None = None) -> float:
    """Return how long to wait after ``attempt``; a provider's longer wish wins as it is."""
    # A float overflows past 1,024 doublings; every cap is reached long before.
    grown = policy.base_s * policy.factor ** min(attempt - 1, 100)
    computed = min(grown, policy.cap_s) * (1 + policy.jitter * jitter)
    return max(computed, _wish(retry_after_s))


def asked_wait_s(retry_after: str | None, now_ms: int) -> float | None:
    """Return the wait that an HTTP ``Retry-After`` asks for, in either of its forms (RFC 9110 §10.2.3), capped.

    None: own back-off. So it is for what is no wait, and for an instant that has passed.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        # Whatever is longer than the cap has a digit too many to be turned into a number with care.
        return float(min(int(text[:12]), MAX_RETRY_AFTER_S))
    if not text or not text[0].isalpha():
        return None
    try:
        until = parsedate_to_datetime(text)
        wait = until.replace(tzinfo=until.tzinfo or UTC).timestamp() - now_ms / 1000
    except (ValueError, OverflowError, IndexError):
        return None
    return min(wait, MAX_RETRY_AFTER_S) if wait > 0 else None


def tier(wait_ms: int) -> Tier:
    """Return the topic that a wait goes to."""
    if wait_ms <= 300_000:
        return Tier.MINUTE
    if wait_ms <= 1_800_000:
        return Tier.TEN_MINUTES
    return Tier.HOUR


def decide(
    outcome_kind: OutcomeKind,
    reason: str,
    *,
    attempt: int,
    policy: RetryPolicy,
    retry_after_s: float | None,
    spent: bool,
    jitter: float,
    has_next_step: bool,
    more_contacts: bool,
    maybe_sent: MaybeSent,
) -> Decision:
    """Return what follows the outcome of ``attempt`` (counted from 1). ``jitter`` is a number in [0, 1)."""
    match outcome_kind:
        case OutcomeKind.ACCEPTED | OutcomeKind.DELIVERED | OutcomeKind.READ | OutcomeKind.SKIPPED:
            return Done(outcome_kind, reason)
        case OutcomeKind.HELD:
            return _own_wait(policy, attempt, jitter, retry_after_s)
        case OutcomeKind.DEFERRED if reason == BUSY:
            return _own_wait(policy, attempt, jitter, retry_after_s)
        case OutcomeKind.MISCONFIGURED:
            return _again(policy, attempt, jitter, retry_after_s, spent=False)
        case OutcomeKind.DEFERRED:
            if not spent or attempt < policy.max_attempts:
                return _again(policy, attempt, jitter, retry_after_s, spent=spent)
            return _onward(reason, has_next_step=has_next_step, more_contacts=more_contacts)
        case OutcomeKind.REJECTED if reason in HOPELESS:
            # It is the reminder itself that cannot be put into words, on whichever channel.
            return Dead(reason)
        case OutcomeKind.REJECTED:
            # It is the message that was refused, so another address of the same kind would not help.
            return _onward(reason, has_next_step=has_next_step, more_contacts=False)
        case OutcomeKind.UNDELIVERABLE | OutcomeKind.OPTED_OUT:
            return _onward(reason, has_next_step=has_next_step, more_contacts=more_contacts)
        case OutcomeKind.MAYBE_SENT:
            # Anything but an explicit RESEND keeps the doubt: never a blind second copy, on this channel or the next.
            if maybe_sent is not MaybeSent.RESEND:
                return Doubt(reason)
            if attempt >= policy.max_attempts:
                return Doubt(reason, exhausted=True)
            return _again(policy, attempt, jitter, retry_after_s, spent=True)
        case OutcomeKind.NONE | OutcomeKind.UNKNOWN:
            raise ValueError("not an outcome: there is nothing to decide on")
        case other:
            assert_never(other)


def _again(policy: RetryPolicy, attempt: int, jitter: float, retry_after_s: float | None, *, spent: bool) -> Retry:
    ms = _ms(wait_s(policy, attempt, jitter, retry_after_s))
    return Retry(ms, tier(ms), attempt + 1 if spent else attempt)


def _own_wait(policy: RetryPolicy, attempt: int, jitter: float, retry_after_s: float | None) -> Retry:
    """Our own side named the instant, so it is kept, sooner than the back-off too."""
    if retry_after_s is None:
        return _again(policy, attempt, jitter, None, spent=False)
    ms = _ms(_wish(retry_after_s))
    return Retry(ms, tier(ms), attempt)


def _onward(reason: str, *, has_next_step: bool, more_contacts: bool) -> Fallback | Dead:
    if more_contacts:
        return Fallback(Next.CONTACT, reason)
    if has_next_step:
        return Fallback(Next.STEP, reason)
    return Dead(reason)


def _wish(retry_after_s: float | None) -> float:
    if retry_after_s is None or math.isnan(retry_after_s):
        return 0.0
    return min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)


def _ms(seconds: float) -> int:
    return math.ceil(round(seconds * 1000, 3))
