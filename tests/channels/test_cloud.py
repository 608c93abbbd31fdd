"""What goes to Meta for WhatsApp: text, window, templates; each row of the code table over a real socket; the probe."""

import itertools
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from channels.base import Send
from channels.cloud_codes import CODES, EXPLANATIONS, CloudReason, code_meaning, failed, read_answer
from channels.http_answers import UNKNOWN_CODE, Answer, HttpReason
from channels.limits import TooLong
from channels.whatsapp_rules import WINDOW_MS
from schemas.names import Channel, OutcomeKind
from tests.channels.cloud_stage import cloud_stage, opened
from tests.channels.contract import send_to
from tests.channels.twilio_stage import authority
from tests.sandbox.cloud_server import PHONE_ID, CloudServer, error
from tests.sandbox.http_server import Reply

HOUR = 3_600_000


def message(**changes: Any) -> Send:
    now = time.time_ns() // 1_000_000
    given: dict[str, Any] = {
        "channel": Channel.WHATSAPP,
        "address": "+12015550123",
        "token": "token1",
        "attempt": 1,
        "created_ms": now,
        "due_ms": now,
        "deadline_ms": now + HOUR,
        "title": "Dentist",
        "text": "Tomorrow at ten.",
        "name": "Anna",
    }
    return Send(**(given | changes))


async def sent(said: Send, **changes: Any) -> Any:
    async with CloudServer(authority().issue("meta").server()) as server, opened(server, **changes) as adapter:
        server.templates |= {("named", "de"): 2, ("bare", "en"): 0}
        outcome = await adapter.send(said)
        return server.taken[0] if server.taken else outcome


def wrote(ago_ms: int) -> int:
    return time.time_ns() // 1_000_000 - ago_ms


async def test_within_a_day_of_their_message_free_text_goes_with_the_sealed_attempt() -> None:
    body = await sent(
        message(last_inbound_ms=wrote(WINDOW_MS - 60_000), reference="sealed", reply_hint="Reply OK 4711")
    )
    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+12015550123",
        "type": "text",
        "text": {"preview_url": False, "body": "Dentist\nTomorrow at ten.\nReply OK 4711"},
        "biz_opaque_callback_data": "sealed",
    }


async def test_a_minute_after_the_day_the_template_goes() -> None:
    body = await sent(message(last_inbound_ms=wrote(WINDOW_MS + 60_000), text="Tomorrow\nat     ten."))
    assert body["type"] == "template"
    assert body["template"] == {
        "name": "visit_reminder",
        "language": {"code": "en_US"},
        "components": [
            {
                "type": "body",
                "parameters": [{"type": "text", "text": "Dentist"}, {"type": "text", "text": "Tomorrow at ten."}],
            }
        ],
    }
    assert "biz_opaque_callback_data" not in body


async def test_values_go_by_name_or_in_the_order_of_their_places() -> None:
    named = await sent(message(data={"room": "4"}), templates="*:named/de", variables="who=name,where=data.room")
    assert named["template"]["components"][0]["parameters"] == [
        {"type": "text", "text": "Anna", "parameter_name": "who"},
        {"type": "text", "text": "4", "parameter_name": "where"},
    ]
    placed = await sent(message(), variables="2=name,1=title")
    assert [p["text"] for p in placed["template"]["components"][0]["parameters"]] == ["Dentist", "Anna"]
    bare = await sent(message(), templates="*:bare/en", variables="")
    assert "components" not in bare["template"]


async def test_what_cannot_be_said_is_not_sent() -> None:
    outside = await sent(message(), templates="")
    assert (outside.kind, outside.reason, outside.reached) == (OutcomeKind.UNDELIVERABLE, "outside_window", False)
    assert not outside.blames_address
    nothing = await sent(message(title="", text=" \n"))
    assert (nothing.kind, nothing.reason) == (OutcomeKind.REJECTED, "no_text")
    long = await sent(message(text="x" * 5000, last_inbound_ms=wrote(1000)), too_long=TooLong.REFUSE)
    assert (long.kind, long.reason) == (OutcomeKind.REJECTED, "too_long")
    landline = await sent(message(address="extension 12"))
    assert (landline.kind, landline.blames_address, landline.reached) == (OutcomeKind.UNDELIVERABLE, True, False)


async def test_a_reference_that_meta_would_refuse_is_left_out() -> None:
    body = await sent(message(last_inbound_ms=wrote(1000), reference="r" * 513))
    assert "biz_opaque_callback_data" not in body


async def test_the_id_of_a_message_is_told() -> None:
    async with cloud_stage() as stage:
        outcome = await stage.adapter.send(send_to(stage, 1))
    assert outcome.provider_id.startswith("wamid.")


def test_no_code_stands_twice_and_every_reason_is_explained() -> None:
    codes = list(itertools.chain.from_iterable(rule.codes for rule in CODES))
    assert len(codes) == len(set(codes))
    assert set(EXPLANATIONS) == {*HttpReason, *CloudReason, UNKNOWN_CODE}


async def test_each_row_over_a_real_socket() -> None:
    async with cloud_stage() as stage:
        for rule in CODES:
            for code in rule.codes[:10]:
                stage.reply(stage.address(1), error(400, code, f"{stage.address(1)} {code}"))
                outcome = await stage.adapter.send(send_to(stage, 1))
                meaning = rule.meaning
                assert (outcome.kind, outcome.reason) == (meaning.kind, meaning.reason), code
                assert (outcome.reached, outcome.blames_address) == (meaning.reached, meaning.blames_address), code
                assert (outcome.code, outcome.detail) == (str(code), EXPLANATIONS[meaning.reason])


async def test_a_limit_for_one_recipient_is_no_pause_for_all() -> None:
    async with cloud_stage() as stage:
        for code, wait in ((131056, None), (131049, None), (130429, 30)):
            stage.reply(stage.address(1), error(429, code, "later", Retry_After="30"))
            outcome = await stage.adapter.send(send_to(stage, 1))
            assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.DEFERRED, wait)


async def test_an_unknown_code_refuses_this_message_and_a_sure_status_is_better() -> None:
    async with cloud_stage() as stage:
        stage.reply(stage.address(1), error(400, 199_999, "something new"))
        outcome = await stage.adapter.send(send_to(stage, 1))
    assert (outcome.kind, outcome.reason, outcome.code) == (OutcomeKind.REJECTED, UNKNOWN_CODE, "199999")
    for status, kind in ((401, OutcomeKind.MISCONFIGURED), (500, OutcomeKind.MAYBE_SENT), (429, OutcomeKind.DEFERRED)):
        answer = Answer(status, orjson.dumps({"error": {"code": 199_999}}))
        assert read_answer(answer).meaning.kind is kind


@pytest.mark.parametrize("code", [True, "131026", None, -1, 131026.0, 10**9])
def test_what_is_no_code_does_not_count(code: object) -> None:
    answer = Answer(503, orjson.dumps({"error": {"code": code}}))
    assert (read_answer(answer).meaning.kind, read_answer(answer).code) == (OutcomeKind.MAYBE_SENT, "503")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"<html>", b"\xff", b'{"messages": []}', b'{"messages": [{"id": 7}]}', b"null"]
)
def test_a_success_that_cannot_be_read_is_a_doubt(body: bytes) -> None:
    assert read_answer(Answer(200, body)).meaning.kind is OutcomeKind.MAYBE_SENT


async def test_a_paused_template_is_ours_to_mend_however_it_is_told() -> None:
    async with cloud_stage() as stage:
        stage.reply(stage.address(1), error(400, 132015, "Template is paused"))
        refused = await stage.adapter.send(send_to(stage, 1))
        made = {"messages": [{"id": "wamid.1", "message_status": "paused"}]}
        stage.reply(stage.address(2), Reply(200, made))
        taken = await stage.adapter.send(send_to(stage, 2))
    for outcome in (refused, taken):
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, "template_paused")
        assert not outcome.reached


def test_what_has_failed_for_sure_is_no_doubt() -> None:
    assert code_meaning(2).kind is OutcomeKind.MAYBE_SENT
    assert failed(2).kind is OutcomeKind.DEFERRED
    assert failed(131047) == code_meaning(131047)


async def test_the_probe_asks_for_the_number_and_sends_nothing() -> None:
    async with CloudServer(authority().issue("meta").server()) as server, opened(server) as adapter:
        assert "ready for WhatsApp" in await adapter.probe()
        server.token = "another"
        with pytest.raises(OSError, match="190 the provider refuses our credentials"):
            await adapter.probe()
        server.token = "canary-meta-token-77aa"
        server.phone_id = "99999"
        with pytest.raises(OSError, match="33 the provider does not know the place"):
            await adapter.probe()
        assert server.taken == []
        assert PHONE_ID not in repr(server.taken)


async def test_every_attempt_has_the_same_bytes_but_for_its_reference() -> None:
    async with CloudServer(authority().issue("meta").server()) as server, opened(server) as adapter:
        said = message(last_inbound_ms=wrote(1000))
        for attempt in (1, 2):
            await adapter.send(replace(said, attempt=attempt, reference=f"sealed {attempt}"))
        first, second = server.taken
    assert (first.pop("biz_opaque_callback_data"), second.pop("biz_opaque_callback_data")) == ("sealed 1", "sealed 2")
    assert first == second
