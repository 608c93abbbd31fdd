"""The table of Twilio's codes: each row over a real socket, no code twice, and a default for all others."""

import itertools

import orjson
import pytest

from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import (
    FAULTS,
    STATUSES,
    UNKNOWN_CODE,
    Answer,
    Failure,
    HttpFault,
    HttpReason,
    fault_meaning,
    retry_after_s,
    status_meaning,
)
from channels.retry import MAX_RETRY_AFTER_S
from channels.sms import SmsChannel
from channels.twilio_codes import CALL_STATUSES, CODES, EXPLANATIONS, MESSAGE_STATUSES, TwilioReason, read_answer
from schemas.names import OutcomeKind
from tests.channels.contract import send_to
from tests.channels.twilio_stage import twilio_stage
from tests.sandbox.http_server import Reply
from tests.sandbox.twilio_server import error


def test_no_code_stands_twice() -> None:
    codes = list(itertools.chain.from_iterable(rule.codes for rule in CODES))
    assert len(codes) == len(set(codes))
    assert all(10_000 <= code < 1_000_000 for code in codes)


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == {*HttpReason, *TwilioReason, UNKNOWN_CODE}
    assert set(HTTP_EXPLANATIONS) == {*HttpReason, UNKNOWN_CODE}
    assert set(FAULTS) == set(HttpFault)


async def test_each_row_over_a_real_socket() -> None:
    async with twilio_stage(SmsChannel)() as stage:
        for rule in CODES:
            for code in rule.codes:
                stage.reply(stage.address(1), error(429 if code == 20429 else 400, code, f"{stage.address(1)} {code}"))
                outcome = await stage.adapter.send(send_to(stage, 1))
                meaning = rule.meaning
                assert (outcome.kind, outcome.reason) == (meaning.kind, meaning.reason), code
                assert (outcome.reached, outcome.blames_address) == (meaning.reached, meaning.blames_address), code
                assert outcome.code == str(code)
                assert outcome.detail == EXPLANATIONS[meaning.reason]


async def test_an_unknown_code_refuses_this_message_and_says_so() -> None:
    async with twilio_stage(SmsChannel)() as stage:
        stage.reply(stage.address(1), error(400, 29_999, "something new"))
        outcome = await stage.adapter.send(send_to(stage, 1))
    assert (outcome.kind, outcome.reason, outcome.code) == (OutcomeKind.REJECTED, UNKNOWN_CODE, "29999")
    assert not outcome.blames_address


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, OutcomeKind.MISCONFIGURED), (404, OutcomeKind.MISCONFIGURED), (500, OutcomeKind.MAYBE_SENT)],
)
def test_a_sure_status_is_better_than_a_code_that_nobody_knows(status: int, kind: OutcomeKind) -> None:
    assert read_answer(Answer(status, orjson.dumps({"code": 29_999}))).meaning.kind is kind


@pytest.mark.parametrize("code", [503, True, "21211", None, 10**9, -21211, 21211.0])
def test_what_is_no_code_of_twilios_does_not_count(code: object) -> None:
    """The SDK says the status where a body has no code: 503 is no code of Twilio's."""
    read = read_answer(Answer(503, orjson.dumps({"code": code})))
    assert (read.meaning.kind, read.code) == (OutcomeKind.MAYBE_SENT, "503")


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b"<html>", b"\xff", b'{"sid": 7}', b'{"sid": ""}', b"null"])
@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_success_that_cannot_be_read_is_a_doubt(status: int, body: bytes) -> None:
    assert read_answer(Answer(status, body)).meaning.kind is OutcomeKind.MAYBE_SENT


async def test_a_message_that_failed_at_once_was_not_accepted() -> None:
    async with twilio_stage(SmsChannel)() as stage:
        made = {"sid": "SM1", "status": "failed", "error_code": 30005}
        stage.reply(stage.address(1), Reply(201, made))
        outcome = await stage.adapter.send(send_to(stage, 1))
    assert (outcome.kind, outcome.blames_address, outcome.code) == (OutcomeKind.UNDELIVERABLE, True, "30005")


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_a_meaning(status: int) -> None:
    meaning = status_meaning(status)
    assert (meaning.kind is OutcomeKind.ACCEPTED) == (200 <= status < 300)
    assert not meaning.blames_address


@pytest.mark.parametrize("status", [-1, 0, 99, 1000, 10**9])
def test_what_is_no_status_is_a_doubt(status: int) -> None:
    assert status_meaning(status) is STATUSES[-1].meaning


@pytest.mark.parametrize("fault", HttpFault)
def test_once_the_request_has_begun_to_leave_nobody_knows(fault: HttpFault) -> None:
    assert fault_meaning(Failure(fault, sent=True)).kind is OutcomeKind.MAYBE_SENT
    assert not fault_meaning(Failure(fault)).reached


def test_statuses_of_later_news_are_those_of_the_vendors_document() -> None:
    assert set(MESSAGE_STATUSES) == {
        *("accepted", "scheduled", "queued", "sending", "sent", "partially_delivered", "delivered", "read"),
        *("undelivered", "failed", "canceled"),
    }
    assert set(CALL_STATUSES) == {
        *("queued", "initiated", "ringing", "in-progress", "completed", "busy", "failed", "no-answer", "canceled"),
    }


def test_a_finished_call_is_no_acknowledgement() -> None:
    assert CALL_STATUSES["completed"].kind is OutcomeKind.DELIVERED
    assert {CALL_STATUSES[status].kind for status in ("busy", "no-answer")} == {OutcomeKind.DEFERRED}


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0.0),
        ("5", 5.0),
        ("1.5", None),
        ("٥", None),
        ("Wed, 21 Oct 2015 07:28:00 +0200", None),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 120.0),
        ("Wed Oct 21 07:28:00 2015", 120.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Wed, 21 Oct 9999 07:28:00 GMT", MAX_RETRY_AFTER_S),
    ],
)
def test_waits_in_every_form(value: str, wait: float | None) -> None:
    assert retry_after_s(value, "Wed, 21 Oct 2015 07:26:00 GMT", 0.0) == wait
