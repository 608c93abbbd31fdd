"""What SMTP replies and faults mean."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import classify
from channels.classify import EXPLANATIONS, FAULTS, REPLIES, Fault, Phase, Reason, smtp_fault, smtp_reply, smtp_status
from schemas.names import OutcomeKind

ACCEPTED, DEFERRED, REJECTED = OutcomeKind.ACCEPTED, OutcomeKind.DEFERRED, OutcomeKind.REJECTED
UNDELIVERABLE, OURS, DOUBT = OutcomeKind.UNDELIVERABLE, OutcomeKind.MISCONFIGURED, OutcomeKind.MAYBE_SENT
SESSION = [Phase.CONNECT, Phase.EHLO, Phase.TLS, Phase.AUTH]
MESSAGE = [Phase.RCPT, Phase.DATA, Phase.DOT]


@pytest.mark.parametrize("phase", MESSAGE)
@pytest.mark.parametrize("code", [550, 553, 554])
@pytest.mark.parametrize("status", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"])
def test_a_bad_address_is_blamed_at_every_phase(phase: Phase, code: int, status: str) -> None:
    verdict = smtp_reply(phase, code, f"{status} no")
    assert (verdict.kind, verdict.blames_address, verdict.reached) == (UNDELIVERABLE, True, True)


@pytest.mark.parametrize(
    ("phase", "code", "text", "kind", "reason"),
    [
        (Phase.RCPT, 552, "5.2.2 over quota", UNDELIVERABLE, Reason.MAILBOX_FULL),
        (Phase.DOT, 552, "5.2.2 over quota", UNDELIVERABLE, Reason.MAILBOX_FULL),
        (Phase.RCPT, 550, "5.2.2 over quota", UNDELIVERABLE, Reason.MAILBOX_FULL),
        (Phase.RCPT, 550, "mailbox unavailable", UNDELIVERABLE, Reason.MAILBOX_UNAVAILABLE),
        (Phase.RCPT, 550, "5.5.0 mailbox unavailable", UNDELIVERABLE, Reason.MAILBOX_UNAVAILABLE),
        (Phase.RCPT, 550, "5.4.1 access denied", UNDELIVERABLE, Reason.UNROUTABLE),
        (Phase.RCPT, 551, "user not local", UNDELIVERABLE, Reason.MAILBOX_UNAVAILABLE),
        (Phase.RCPT, 553, "mailbox name not allowed", UNDELIVERABLE, Reason.ADDRESS_SYNTAX),
        (Phase.RCPT, 501, "5.5.4 bad address", UNDELIVERABLE, Reason.ADDRESS_SYNTAX),
        (Phase.RCPT, 553, "5.6.7 no UTF-8", UNDELIVERABLE, Reason.NEEDS_SMTPUTF8),
        (Phase.MAIL, 550, "5.6.7 no UTF-8", UNDELIVERABLE, Reason.NEEDS_SMTPUTF8),
        (Phase.RCPT, 599, "who knows", UNDELIVERABLE, Reason.MAILBOX_UNAVAILABLE),
    ],
)
def test_permanent_answers_that_do_not_suppress(
    phase: Phase, code: int, text: str, kind: OutcomeKind, reason: Reason
) -> None:
    verdict = smtp_reply(phase, code, text)
    assert (verdict.kind, verdict.reason, verdict.blames_address) == (kind, reason, False)


@pytest.mark.parametrize(
    ("phase", "code", "text", "reason"),
    [
        (Phase.MAIL, 552, "", Reason.MESSAGE_TOO_BIG),
        (Phase.RCPT, 552, "", Reason.MESSAGE_TOO_BIG),
        (Phase.DOT, 552, "too much", Reason.MESSAGE_TOO_BIG),
        (Phase.DOT, 554, "5.3.4 too big", Reason.MESSAGE_TOO_BIG),
        (Phase.RCPT, 550, "5.7.1 not welcome", Reason.POLICY),
        (Phase.DOT, 550, "5.7.26 unauthenticated", Reason.POLICY),
        (Phase.DOT, 554, "5.7.1 spam", Reason.POLICY),
        (Phase.DOT, 554, "", Reason.CONTENT_REFUSED),
        (Phase.DOT, 550, "", Reason.CONTENT_REFUSED),
        (Phase.DOT, 550, "5.6.0 odd", Reason.CONTENT_REFUSED),
        (Phase.DATA, 503, "5.5.1", Reason.CONTENT_REFUSED),
        (Phase.RCPT, 503, "5.5.1 MAIL first", Reason.PROTOCOL),
        (Phase.RCPT, 555, "", Reason.PROTOCOL),
    ],
)
def test_what_refuses_this_message_blames_no_address(phase: Phase, code: int, text: str, reason: Reason) -> None:
    verdict = smtp_reply(phase, code, text)
    assert (verdict.kind, verdict.reason, verdict.blames_address) == (REJECTED, reason, False)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("code", [530, 534, 535, 538])
def test_logins_are_our_fault_at_every_phase(phase: Phase, code: int) -> None:
    verdict = smtp_reply(phase, code, "5.7.8 no")
    assert (verdict.kind, verdict.reached, verdict.blames_address) == (OURS, False, False)
    assert verdict.close


@pytest.mark.parametrize("phase", [*SESSION, Phase.MAIL])
def test_permanent_answers_before_a_recipient_is_named_are_our_fault(phase: Phase) -> None:
    for text in ("", "5.7.1 blocked", "5.1.1 odd"):
        verdict = smtp_reply(phase, 554, text)
        assert (verdict.kind, verdict.reached, verdict.blames_address) == (OURS, False, False)


@pytest.mark.parametrize("phase", list(Phase))
def test_421_ends_the_connection_and_blames_nobody(phase: Phase) -> None:
    verdict = smtp_reply(phase, 421, "4.7.0 <a@b.example> come again")
    assert (verdict.kind, verdict.close, verdict.blames_address) == (DEFERRED, True, False)
    assert verdict.reached is (phase in MESSAGE)


@pytest.mark.parametrize("phase", [Phase.MAIL, *MESSAGE])
@pytest.mark.parametrize("code", [450, 451])
def test_greylisting_waits_minutes(phase: Phase, code: int) -> None:
    verdict = smtp_reply(phase, code, "4.7.1 greylisted")
    assert verdict.kind is DEFERRED
    assert verdict.retry_after_s == 300
    assert verdict.reached


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("4.7.1 try again in 600 seconds", 600),
        ("4.7.1 try again in 20 minutes", 1200),
        ("4.7.1 retry after 10 s", 300),
        ("4.7.1 try again in 99999 minutes", 3600),
        ("4.7.1 try again in 0 seconds", 300),
        ("4.7.1 10.0.0.5 seen in 3 lists", 300),
    ],
)
def test_a_wait_that_the_server_names_counts_where_it_is_longer(text: str, wait: float) -> None:
    assert smtp_reply(Phase.RCPT, 451, text).retry_after_s == wait


def test_the_greylisting_wait_can_be_configured() -> None:
    assert smtp_reply(Phase.RCPT, 451, greylist_s=1).retry_after_s == 1
    assert smtp_reply(Phase.RCPT, 452, greylist_s=1).retry_after_s is None


@settings(deadline=None)
@given(st.sampled_from(list(Phase)), st.integers(400, 499), st.text(max_size=60))
def test_every_4yz_but_the_password_transition_is_temporary(phase: Phase, code: int, text: str) -> None:
    verdict = smtp_reply(phase, code, text)
    assert verdict.kind is (OURS if (phase, code) == (Phase.AUTH, 432) else DEFERRED)
    assert not verdict.blames_address


@settings(deadline=None)
@given(st.sampled_from(list(Phase)), st.integers(500, 599), st.text(max_size=60))
def test_every_5yz_is_permanent(phase: Phase, code: int, text: str) -> None:
    assert smtp_reply(phase, code, text).kind in (UNDELIVERABLE, REJECTED, OURS)


@settings(deadline=None)
@given(st.sampled_from(list(Phase)), st.integers(-10, 1200), st.text(max_size=60))
def test_every_reply_has_one_meaning(phase: Phase, code: int, text: str) -> None:
    verdict = smtp_reply(phase, code, text)
    assert verdict.reason in EXPLANATIONS
    assert verdict.kind is not ACCEPTED or 200 <= code < 400
    assert verdict.kind is not DOUBT or phase is Phase.DOT
    assert not verdict.blames_address or verdict.kind is UNDELIVERABLE
    assert not verdict.reached or phase not in SESSION or verdict.kind is ACCEPTED


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("code", [0, 100, 399, 600, 999])
def test_what_no_server_should_say_is_a_doubt_only_after_the_dot(phase: Phase, code: int) -> None:
    if (phase, code) == (Phase.DATA, 399):
        return
    verdict = smtp_reply(phase, code)
    assert (verdict.kind, verdict.reason) == (DOUBT if phase is Phase.DOT else DEFERRED, Reason.PROTOCOL)
    assert verdict.close


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 unknown", "5.1.1"),
        (550, "5.1.1", "5.1.1"),
        (550, "5.1.1\n5.1.1 more", "5.1.1"),
        (550, "5.01.010 odd", "5.1.10"),
        (550, "4.7.1 contradictory", ""),
        (550, "unknown 5.1.1", ""),
        (550, "5.1.1234 no status", ""),
        (250, "2.1.5 ok", "2.1.5"),
        (550, "", ""),
    ],
)
def test_the_enhanced_status_is_what_the_text_begins_with(code: int, text: str, status: str) -> None:
    assert smtp_status(code, text) == status


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_is_a_doubt_only_after_the_dot(fault: Fault) -> None:
    before, after = smtp_fault(Phase.DATA, fault), smtp_fault(Phase.DOT, fault)
    assert not before.reached
    assert before.kind is not DOUBT
    assert (after.kind, after.reached, after.close) == (DOUBT, True, True)


def test_every_row_can_match() -> None:
    """A row that an earlier one hides would be a rule that nobody follows."""
    for rule in REPLIES:
        code = int(rule.code.replace("x", "9") if rule.code != "xxx" else "999")
        text = rule.status.replace("x", "99")
        assert any(classify.smtp_rule(phase, code, text) is rule for phase in rule.phases), rule


def test_every_reason_and_fault_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert set(FAULTS) == set(Fault)
