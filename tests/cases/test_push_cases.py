"""Cases O-22, O-23, O-26 and O-34 of tests/cases/cases.json, as far as pushes and webhooks go."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from channels.fcm_codes import read_answer
from channels.fcm_payload import strings
from channels.http_answers import Answer
from channels.retry import MAX_RETRY_AFTER_S, Retry, RetryPolicy, asked_wait_s, decide
from channels.webhook_rules import signature
from schemas.names import MaybeSent, OutcomeKind
from tests.channels.fcm_stage import fcm_stage, note
from tests.sandbox.http_server import Reply

CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))}

# -- O-22: a payload bug deletes no token ------------------------------------------------------------------------------

O22 = CASES["O-22"]


def test_o22_every_value_is_a_text() -> None:
    assert strings(O22["input"]["data"]) == {"count": "12", "urgent": "true", "meta": '{"a": 1}'}


@pytest.mark.parametrize("n", range(len(O22["input"]["responses"])))
async def test_o22_a_bad_payload_and_a_bad_token_have_the_same_status(n: int) -> None:
    response = O22["input"]["responses"][n]
    async with fcm_stage() as stage:
        stage.server.say("device-1", Reply(response["status"], response["body"]), Reply(200, {"name": "looked"}))
        outcome = await stage.adapter.send(note())
        # The second look (a message that is not sent) finds the token good in both.
        assert (outcome.kind, outcome.reason, outcome.gone) == (OutcomeKind.REJECTED, "payload_refused", ())
        assert outcome.blames_address is False
        assert ("message.data[0].value" in outcome.detail) is (n == 0)
        assert len([seen for seen in stage.server.seen if seen.path != "/token"]) == n + 1


async def test_o22_a_second_hit_ends_the_token() -> None:
    response = O22["input"]["responses"][1]
    async with fcm_stage() as stage:
        stage.server.say("device-1", Reply(response["status"], response["body"]))
        outcome = await stage.adapter.send(note())
        assert (outcome.kind, outcome.gone) == (OutcomeKind.UNDELIVERABLE, ("device-1",))


# -- O-23: which answers are tried again, how soon, and which end a token ----------------------------------------------

O23 = CASES["O-23"]


def body_of(response: dict[str, Any]) -> dict[str, Any]:
    if "body" in response:
        return dict(response["body"])
    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": response["errorCode"]}
    return {"error": {"code": response["status"], "status": "X", "details": [detail]}}


@pytest.mark.parametrize(
    ("response", "said"), list(zip(O23["input"]["responses"], O23["expected"]["responses"], strict=True)), ids=str
)
async def test_o23_an_answer_of_fcm(response: dict[str, Any], said: str) -> None:
    async with fcm_stage() as stage:
        stage.server.say("device-1", Reply(response["status"], body_of(response), response.get("headers", {})))
        outcome = await stage.adapter.send(note())
    assert (outcome.gone == ("device-1",)) is said.startswith("token removed")
    if said == "sent":
        assert outcome.kind is OutcomeKind.ACCEPTED
    elif ("retry," in said and "no retry" not in said) or said.startswith("retry with"):
        assert outcome.kind is OutcomeKind.DEFERRED
        least = [float(word) for word in said.split() if word.isdigit()]
        assert outcome.retry_after_s == (least[0] if least else None)
    else:
        assert outcome.kind is OutcomeKind.UNDELIVERABLE


def test_o23_a_404_without_fcms_own_code_ends_no_token() -> None:
    read = read_answer(Answer(404, json.dumps({"error": {"code": 404, "status": "NOT_FOUND"}}).encode()))
    assert (read.meaning.kind, read.meaning.blames_address) == (OutcomeKind.MISCONFIGURED, False)


# -- O-26: Standard Webhooks -------------------------------------------------------------------------------------------

O26 = CASES["O-26"]["input"]["standard_webhooks"]


def test_o26_the_signature_of_the_standard() -> None:
    body = O26["body"].encode()
    assert (
        signature([O26["secret"]], O26["id"], O26["timestamp"], body) == CASES["O-26"]["expected"]["standard_webhooks"]
    )


def test_o26_whoever_checks_finds_the_right_one_among_several() -> None:
    now = int(time.time())
    body = O26["body"].encode()
    other = "whsec_" + "QUJD" * 8
    headers = {
        "webhook-id": O26["id"],
        "webhook-timestamp": str(now),
        "webhook-signature": signature([other, O26["secret"]], O26["id"], now, body),
    }
    assert Webhook(O26["secret"]).verify(body, headers) == json.loads(body)
    assert Webhook(other).verify(body, headers) == json.loads(body)


def test_o26_an_attempt_in_another_zone_is_signed_the_same() -> None:
    """The library takes the digits of any instant for UTC, so it is given nothing but UTC."""
    at = datetime.fromtimestamp(O26["timestamp"], UTC)
    assert Webhook(O26["secret"]).sign(O26["id"], at, O26["body"]) == CASES["O-26"]["expected"]["standard_webhooks"]


# -- O-34: both forms of Retry-After -----------------------------------------------------------------------------------

O34 = CASES["O-34"]["input"]["retry_after"]


@pytest.mark.parametrize(
    ("header", "said"),
    list(zip(O34["values"], CASES["O-34"]["expected"]["retry_after"], strict=True)),
    ids=str,
)
def test_o34_the_larger_of_both_waits(header: str, said: str) -> None:
    now_ms = round(datetime.fromisoformat(O34["now"]).timestamp() * 1000)
    wait = asked_wait_s(header, now_ms)
    own = RetryPolicy(base_s=60, jitter=0)
    decision = decide(
        OutcomeKind.DEFERRED,
        "try_later",
        attempt=1,
        policy=own,
        retry_after_s=wait,
        spent=True,
        jitter=0.0,
        has_next_step=False,
        more_contacts=False,
        maybe_sent=MaybeSent.HOLD,
    )
    assert isinstance(decision, Retry)
    expected = 120 if "120" in said else MAX_RETRY_AFTER_S if "capped" in said else 60
    assert decision.wait_ms == expected * 1000
