"""What follows an outcome."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.retry import (
    BUSY,
    MAX_RETRY_AFTER_S,
    Dead,
    Decision,
    Done,
    Doubt,
    Fallback,
    Next,
    Retry,
    RetryPolicy,
    Tier,
    asked_wait_s,
    decide,
    tier,
)
from schemas.names import MaybeSent, OutcomeKind

POLICY = RetryPolicy()
#: 2015-10-21T07:26:00Z
NOW = 1_445_412_360_000
OUTCOMES = sorted(set(OutcomeKind) - {OutcomeKind.UNKNOWN, OutcomeKind.NONE})


def decided(kind: OutcomeKind, **given: Any) -> Decision:
    usual: dict[str, Any] = {
        "attempt": 1,
        "policy": POLICY,
        "retry_after_s": None,
        "spent": True,
        "jitter": 0.0,
        "has_next_step": False,
        "more_contacts": False,
        "maybe_sent": MaybeSent.HOLD,
    }
    return decide(kind, given.pop("reason", "why"), **(usual | given))


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 60), (2, 120), (3, 240), (4, 480)])
def test_waits_double_and_jitter_adds_up_to_a_tenth(attempt: int, wait_s: int) -> None:
    least = decided(OutcomeKind.DEFERRED, attempt=attempt)
    most = decided(OutcomeKind.DEFERRED, attempt=attempt, jitter=0.999999)
    assert isinstance(least, Retry)
    assert isinstance(most, Retry)
    assert least.wait_ms == wait_s * 1000
    assert wait_s * 1099 <= most.wait_ms <= wait_s * 1100
    assert least.attempt == most.attempt == attempt + 1


def test_the_cap_comes_before_the_jitter() -> None:
    policy = RetryPolicy(max_attempts=100)
    late = decided(OutcomeKind.DEFERRED, attempt=50, policy=policy, jitter=0.5)
    assert late == Retry(3_780_000, Tier.HOUR, 51)


@pytest.mark.parametrize(
    ("retry_after_s", "wait_ms"),
    [
        (None, 60_000),
        (10.0, 60_000),
        (300.0, 300_000),
        (3600.5, 3_600_500),
        (-5.0, 60_000),
        (float("nan"), 60_000),
        (float("inf"), int(MAX_RETRY_AFTER_S * 1000)),
    ],
)
def test_a_longer_retry_after_wins(retry_after_s: float | None, wait_ms: int) -> None:
    decision = decided(OutcomeKind.DEFERRED, retry_after_s=retry_after_s)
    assert isinstance(decision, Retry)
    assert decision.wait_ms == wait_ms


@pytest.mark.parametrize(
    ("wait_ms", "topic"),
    [
        (0, "1m"),
        (60_000, "1m"),
        (300_000, "1m"),
        (300_001, "10m"),
        (1_800_000, "10m"),
        (1_800_001, "1h"),
        (10**10, "1h"),
    ],
)
def test_tiers(wait_ms: int, topic: str) -> None:
    assert tier(wait_ms) == topic


@pytest.mark.parametrize(
    ("kind", "given_", "expected"),
    [
        (OutcomeKind.ACCEPTED, {}, Done(OutcomeKind.ACCEPTED, "why")),
        (OutcomeKind.DELIVERED, {}, Done(OutcomeKind.DELIVERED, "why")),
        (OutcomeKind.READ, {}, Done(OutcomeKind.READ, "why")),
        (OutcomeKind.SKIPPED, {"has_next_step": True}, Done(OutcomeKind.SKIPPED, "why")),
        (OutcomeKind.REJECTED, {}, Dead("why")),
        (OutcomeKind.REJECTED, {"more_contacts": True}, Dead("why")),
        (OutcomeKind.REJECTED, {"has_next_step": True}, Fallback(Next.STEP, "why")),
        (OutcomeKind.UNDELIVERABLE, {}, Dead("why")),
        (OutcomeKind.UNDELIVERABLE, {"has_next_step": True}, Fallback(Next.STEP, "why")),
        (OutcomeKind.UNDELIVERABLE, {"more_contacts": True}, Fallback(Next.CONTACT, "why")),
        (OutcomeKind.UNDELIVERABLE, {"more_contacts": True, "has_next_step": True}, Fallback(Next.CONTACT, "why")),
        (OutcomeKind.OPTED_OUT, {}, Dead("why")),
        (OutcomeKind.OPTED_OUT, {"has_next_step": True}, Fallback(Next.STEP, "why")),
        (OutcomeKind.OPTED_OUT, {"more_contacts": True}, Fallback(Next.CONTACT, "why")),
        (OutcomeKind.DEFERRED, {"attempt": 4}, Retry(480_000, Tier.TEN_MINUTES, 5)),
        (OutcomeKind.DEFERRED, {"attempt": 5}, Dead("why")),
        (OutcomeKind.DEFERRED, {"attempt": 5, "has_next_step": True}, Fallback(Next.STEP, "why")),
        (OutcomeKind.DEFERRED, {"attempt": 5, "more_contacts": True}, Fallback(Next.CONTACT, "why")),
        (OutcomeKind.DEFERRED, {"has_next_step": True}, Retry(60_000, Tier.MINUTE, 2)),
        (OutcomeKind.DEFERRED, {"attempt": 5, "spent": False}, Retry(960_000, Tier.TEN_MINUTES, 5)),
        (OutcomeKind.DEFERRED, {"attempt": 5, "reason": BUSY}, Retry(960_000, Tier.TEN_MINUTES, 5)),
        (OutcomeKind.DEFERRED, {"reason": BUSY, "retry_after_s": 2.0}, Retry(2_000, Tier.MINUTE, 1)),
        (OutcomeKind.HELD, {"retry_after_s": 7200.0}, Retry(7_200_000, Tier.HOUR, 1)),
        (OutcomeKind.HELD, {"retry_after_s": 2.0, "attempt": 5}, Retry(2_000, Tier.MINUTE, 5)),
        (OutcomeKind.MISCONFIGURED, {}, Retry(60_000, Tier.MINUTE, 1)),
        (OutcomeKind.MISCONFIGURED, {"attempt": 5, "has_next_step": True}, Retry(960_000, Tier.TEN_MINUTES, 5)),
        (OutcomeKind.MAYBE_SENT, {"has_next_step": True, "more_contacts": True}, Doubt("why")),
        (OutcomeKind.MAYBE_SENT, {"maybe_sent": MaybeSent.BY_CATEGORY}, Doubt("why")),
        (OutcomeKind.MAYBE_SENT, {"maybe_sent": MaybeSent.UNKNOWN}, Doubt("why")),
        (OutcomeKind.MAYBE_SENT, {"maybe_sent": MaybeSent.RESEND}, Retry(60_000, Tier.MINUTE, 2)),
        (
            OutcomeKind.MAYBE_SENT,
            {"maybe_sent": MaybeSent.RESEND, "attempt": 5, "has_next_step": True},
            Doubt("why", exhausted=True),
        ),
    ],
)
def test_decisions(kind: OutcomeKind, given_: dict[str, Any], expected: Decision) -> None:
    assert decided(kind, **given_) == expected


@pytest.mark.parametrize("kind", [OutcomeKind.NONE, OutcomeKind.UNKNOWN])
def test_what_is_no_outcome_is_not_guessed_at(kind: OutcomeKind) -> None:
    with pytest.raises(ValueError, match="not an outcome"):
        decided(kind)


@pytest.mark.parametrize(
    ("faulty", "named"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"base_s": 0}, "base_s"),
        ({"base_s": float("nan")}, "base_s"),
        ({"factor": 0.5}, "factor"),
        ({"cap_s": 59}, "cap_s"),
        ({"cap_s": float("inf")}, "cap_s"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": float("nan")}, "jitter"),
    ],
)
def test_a_faulty_policy_is_refused_by_name(faulty: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RetryPolicy(**faulty)  # type: ignore[arg-type]


policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    base_s=st.floats(0.001, 3600),
    factor=st.floats(1, 100),
    cap_s=st.floats(3600, 86_400),
    jitter=st.floats(0, 1),
)


@settings(deadline=None)
@given(
    kind=st.sampled_from(OUTCOMES),
    reason=st.sampled_from(["why", BUSY]),
    attempt=st.integers(1, 10_000),
    policy=policies,
    retry_after_s=st.none() | st.floats(allow_nan=True, allow_infinity=True),
    spent=st.booleans(),
    jitter=st.floats(0, 1, exclude_max=True),
    has_next_step=st.booleans(),
    more_contacts=st.booleans(),
    maybe_sent=st.sampled_from(MaybeSent),
)
def test_what_always_holds(
    kind: OutcomeKind, reason: str, attempt: int, policy: RetryPolicy, spent: bool, maybe_sent: MaybeSent, **given_: Any
) -> None:
    decision = decide(kind, reason, attempt=attempt, policy=policy, spent=spent, maybe_sent=maybe_sent, **given_)
    free = not spent or kind in (OutcomeKind.MISCONFIGURED, OutcomeKind.HELD) or reason == BUSY
    if kind in (OutcomeKind.DEFERRED, OutcomeKind.MISCONFIGURED, OutcomeKind.HELD) and free:
        assert isinstance(decision, Retry)
        assert decision.attempt == attempt
    if isinstance(decision, Retry):
        assert 0 <= decision.wait_ms <= max(policy.cap_s * 2, MAX_RETRY_AFTER_S) * 1000 + 1
        assert decision.tier is tier(decision.wait_ms)
        assert decision.attempt in (attempt, attempt + 1)
        assert decision.attempt == attempt or attempt < policy.max_attempts
    if isinstance(decision, Fallback):
        assert given_["has_next_step"] or given_["more_contacts"]
    if kind is OutcomeKind.MAYBE_SENT:
        assert isinstance(decision, Doubt | Retry)
        assert isinstance(decision, Doubt) or maybe_sent is MaybeSent.RESEND


@settings(deadline=None)
@given(policy=policies, jitter=st.floats(0, 1, exclude_max=True))
def test_a_budget_ends_after_its_attempts(policy: RetryPolicy, jitter: float) -> None:
    attempt, waits = 1, []
    while isinstance(decision := decided(OutcomeKind.DEFERRED, attempt=attempt, policy=policy, jitter=jitter), Retry):
        attempt = decision.attempt
        waits.append(decision.wait_ms)
    assert isinstance(decision, Dead)
    assert attempt == policy.max_attempts
    assert waits == sorted(waits)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("1.5", None),
        ("-5", None),
        ("+5", None),
        ("soon", None),
        ("٣", None),
        ("9999999999", MAX_RETRY_AFTER_S),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 120.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 120.0),
        ("Wed Oct 21 07:28:00 2015", 120.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", None),
        ("Wed, 21 Oct 9999 07:00:00 GMT", MAX_RETRY_AFTER_S),
        ("Wed, 99 Oct 2015 07:00:00 GMT", None),
    ],
)
def test_a_server_may_ask_for_a_wait_in_either_form(header: str | None, wait: float | None) -> None:
    assert asked_wait_s(header, NOW) == wait


@given(header=st.text())
def test_no_header_breaks_it(header: str) -> None:
    wait = asked_wait_s(header, NOW)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_S
