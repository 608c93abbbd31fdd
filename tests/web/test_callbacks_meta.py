"""Meta's news: only what is signed counts, batches are kept whole before they are answered, and copies do no harm."""

import hashlib
import hmac
import json
import time
from itertools import permutations
from typing import Any

import pytest
from aiohttp import ClientResponse

from app.callers import Callers
from app.web.callbacks_meta import MAX_BODY_BYTES
from app.web.ports import CallbackPorts, CloudPorts, Unsent
from channels import cloud_news
from channels.answers import Waiting
from schemas import codec, ids
from schemas.names import Action, Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import DeliveryReceipt, SuppressionRecord
from tests.web.stage import Serve
from tests.web.test_callbacks import DELIVERY, HASHING, NINE, NUMBER, REFERENCES, TEN, Desks
from tests.web.test_callbacks import Waits as TextedWaits

SECRET = "canary-app-secret"
VERIFY = "canary-verify-token"
#: The secret before, for as long as what it signed may be on its way.
OLDER = "canary-older-secret"
PHONE_ID = "106540352242922"
PATH = "/callbacks/meta"


class Waits(TextedWaits):
    def waiting(self, channel: Channel, address: str) -> list[Waiting]:
        return self.open if (channel, address) == (Channel.WHATSAPP, NUMBER) else []


class Meta(Desks):
    """A server that believes Meta, and what it has written back."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Waits()
        self.back: list[tuple[str, str]] = []
        self.ports: CallbackPorts = replace(
            self.ports,
            base="",
            waits=self.waits,
            cloud=CloudPorts(
                PHONE_ID,
                lambda: (SECRET, OLDER),
                lambda: (VERIFY,),
                lambda number, text: self.back.append((number, text)),
            ),
        )

    async def tell(self, body: Any, *, secret: str = SECRET, **headers: str) -> ClientResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=True).encode()
        signed = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        sent = {"Content-Type": "application/json", "X-Hub-Signature-256": signed} | headers
        return await self.client.post(PATH, data=raw, headers=sent)

    async def wrote(self, *messages: dict[str, Any]) -> None:
        answer = await self.tell(hook(messages=list(messages)))
        assert answer.status == 200, await answer.text()

    def received(self) -> list[DeliveryReceipt]:
        return [codec.decode(DeliveryReceipt, r.value or b"") for batch in self.receipts.sent for r in batch]


def hook(*, phone_id: str = PHONE_ID, **value: Any) -> dict[str, Any]:
    """Return a webhook as the vendor's reference shows it."""
    metadata = {"display_phone_number": "15550783881", "phone_number_id": phone_id}
    change = {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
    return {"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [change]}]}


def status(kind: str, *, delivery: str = DELIVERY, **more: Any) -> dict[str, Any]:
    return {
        "id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI",
        "status": kind,
        "timestamp": "1749416383",
        "recipient_id": "12015550123",
        "biz_opaque_callback_data": REFERENCES.seal(delivery),
        **more,
    }


def failure(code: Any, **more: Any) -> dict[str, Any]:
    return status("failed", errors=[{"code": code, "title": "x", "error_data": {"details": "canary"}}], **more)


def said(text: str, wamid: str = "wamid.1", **more: Any) -> dict[str, Any]:
    written = {"from": NUMBER[1:], "id": wamid, "timestamp": "1749416383", "type": "text", "text": {"body": text}}
    return written | more


@pytest.fixture
async def meta(serve: Serve) -> Meta:
    made = Meta()
    await made.open(serve)
    return made


async def test_a_batch_of_news_is_kept_whole_each_about_its_attempt(meta: Meta) -> None:
    statuses = [
        status("sent"),
        status("delivered"),
        status("read"),
        failure(131026, delivery=ids.attempt_id(DELIVERY, 2)),
    ]
    assert (await meta.tell(hook(statuses=statuses))).status == 200
    assert len(meta.receipts.sent) == 1
    found = [(r.delivery_id, r.attempt, r.outcome, r.code, r.detail) for r in meta.received()]
    assert found == [
        (DELIVERY, 0, OutcomeKind.ACCEPTED, "", "receipt"),
        (DELIVERY, 0, OutcomeKind.DELIVERED, "", "receipt"),
        (DELIVERY, 0, OutcomeKind.READ, "", "receipt"),
        (DELIVERY, 2, OutcomeKind.UNDELIVERABLE, "131026", "not_on_whatsapp"),
    ]
    assert {(r.provider, r.reminder_id) for r in meta.received()} == {("meta", "clinic/visit 42")}


@pytest.mark.parametrize(
    ("code", "outcome", "told"),
    [
        (131047, OutcomeKind.UNDELIVERABLE, "131047"),
        (132015, OutcomeKind.MISCONFIGURED, "132015"),
        (130429, OutcomeKind.DEFERRED, "130429"),
        (2, OutcomeKind.DEFERRED, "2"),
        (199_999, OutcomeKind.REJECTED, "199999"),
        ("131047", OutcomeKind.REJECTED, ""),
        (True, OutcomeKind.REJECTED, ""),
        (None, OutcomeKind.REJECTED, ""),
    ],
)
async def test_a_failure_is_told_by_the_table_of_codes(meta: Meta, code: Any, outcome: OutcomeKind, told: str) -> None:
    assert (await meta.tell(hook(statuses=[failure(code)]))).status == 200
    [receipt] = meta.received()
    assert (receipt.outcome, receipt.code) == (outcome, told)


async def test_any_order_and_any_number_of_copies_is_kept_alike(meta: Meta) -> None:
    kinds = ("sent", "delivered", "read")
    for order in permutations(kinds):
        body = hook(statuses=[status(kind) for kind in order])
        for _ in range(2):
            assert (await meta.tell(body)).status == 200
    assert {r.outcome for r in meta.received()} == {OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ}


async def test_the_signature_is_over_the_bytes_as_they_came(meta: Meta) -> None:
    body = hook(statuses=[status("delivered", note="Grüße 😀")])
    raw = json.dumps(body).encode()
    assert b"\\u00fc" in raw
    assert (await meta.tell(raw)).status == 200
    assert len(meta.received()) == 1
    good = "sha256=" + hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    again = json.dumps(body, ensure_ascii=False).encode()
    assert (await meta.tell(again, **{"X-Hub-Signature-256": good})).status == 403
    for forged in ("", "sha256=", good.upper(), good[7:], "sha1=" + good[7:], "ä"):
        assert (await meta.tell(raw, **{"X-Hub-Signature-256": forged})).status == 403
    assert (await meta.tell(raw, secret="another")).status == 403
    assert len(meta.received()) == 1
    assert (await meta.tell(raw, secret=OLDER)).status == 200


def test_a_header_of_raw_bytes_is_no_signature() -> None:
    assert not cloud_news.genuine(SECRET, b"{}", "sha256=\udcff")
    assert not cloud_news.genuine("", b"{}", "sha256=" + hmac.new(b"", b"{}", hashlib.sha256).hexdigest())


async def test_what_is_about_others_or_says_nothing_is_answered_and_left_alone(meta: Meta) -> None:
    for body in (
        hook(statuses=[status("delivered")], phone_id="99999"),
        hook(statuses=[status("delivered", biz_opaque_callback_data="made up")]),
        hook(statuses=[{k: v for k, v in status("delivered").items() if k != "biz_opaque_callback_data"}]),
        hook(statuses=[status("deleted"), "x", 7, None]),
        hook(messages=[said("ok", type="reaction"), said("ok", **{"from": "nobody"}), {}]),
        hook(statuses="x", messages={"a": 1}),
        {"object": "whatsapp_business_account", "entry": [None, {"changes": [{"value": []}]}]},
        {"object": "whatsapp_business_account"},
    ):
        assert (await meta.tell(body)).status == 200, body
    assert meta.untouched


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"object": "page"}', b"\xff\xfe", b"[" * 100_000])
async def test_what_is_no_news_of_whatsapp_is_refused_though_it_is_signed(meta: Meta, body: bytes) -> None:
    assert (await meta.tell(body)).status == 400
    assert meta.untouched


async def test_a_body_is_bounded(meta: Meta) -> None:
    assert (await meta.tell(b"x" * (MAX_BODY_BYTES + 1))).status == 413


async def test_without_the_brokers_the_whole_is_to_be_sent_again(meta: Meta) -> None:
    meta.receipts.unsent = Unsent("no acknowledgement")
    answer = await meta.tell(hook(statuses=[status("delivered")]))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_whoever_writes_opens_the_window_at_the_time_they_wrote(meta: Meta) -> None:
    await meta.wrote(said("hello"), said("", type="image", timestamp="99999999999"))
    now = time.time_ns() // 1_000_000
    assert meta.waits.noted[0] == (1_749_416_383_000, "meta")
    at, provider = meta.waits.noted[1]
    assert (at <= now, provider) == (True, "meta")
    assert [r.value for batch in meta.replies.sent for r in batch] == [f"WHATSAPP {NUMBER}".encode()] * 2
    assert not meta.reminders.sent


async def test_a_stop_suppresses_the_address_and_a_start_lifts_it(meta: Meta) -> None:
    await meta.wrote(said("Stop."))
    [[record]] = meta.suppressions.sent
    assert record.key == HASHING.key(Channel.WHATSAPP, NUMBER).encode()
    kept = codec.decode(SuppressionRecord, record.value or b"")
    assert (kept.reason, kept.source) == ("stop", "meta")
    await meta.wrote(said("START"))
    assert [(r.key, r.value) for r in meta.suppressions.sent[1]] == [(record.key, None)]
    assert meta.back == []


@pytest.mark.parametrize("newer", ["meta", "twilio"])
async def test_a_start_that_comes_again_late_lifts_no_newer_stop(meta: Meta, newer: str) -> None:
    start = said("START", timestamp="1749416383")
    await meta.wrote(start)
    assert len(meta.suppressions.sent) == 1
    if newer == "meta":
        await meta.wrote(said("STOP", "wamid.2", timestamp="1749416384"))
    else:
        # The other number of ours on WhatsApp; the address is the same.
        meta.waits.last[newer] = 1_749_416_384_000
    sent = len(meta.suppressions.sent)
    await meta.wrote(start)
    assert len(meta.suppressions.sent) == sent
    await meta.wrote(said("START", "wamid.3", timestamp="1749416385"))
    assert [record.value for record in meta.suppressions.sent[-1]] == [None]


async def test_what_came_in_one_request_is_heard_in_the_order_in_which_it_was_written(meta: Meta) -> None:
    await meta.wrote(said("STOP", "wamid.2", timestamp="1749416384"), said("START", timestamp="1749416383"))
    assert [record.value is None for batch in meta.suppressions.sent for record in batch] == [True, False]


async def test_whoever_says_stop_is_written_nothing_back_in_the_same_breath(meta: Meta) -> None:
    other = "12015550124"
    await meta.wrote(said("help"), said("STOP", "wamid.2"), said("help", "wamid.3"), said("help", **{"from": other}))
    assert [number for number, _ in meta.back] == [f"+{other}"]


async def test_a_start_waits_until_it_is_known_what_was_written_last(meta: Meta) -> None:
    meta.waits.known = False
    assert (await meta.tell(hook(messages=[said("START")]))).status == 503
    assert not meta.suppressions.sent
    # A STOP needs no such knowledge.
    await meta.wrote(said("STOP"))
    assert len(meta.suppressions.sent) == 1


async def test_a_stop_of_an_old_brazilian_account_is_about_the_number_that_was_written_to(meta: Meta) -> None:
    await meta.wrote(said("STOP", **{"from": "551187654321"}))
    [[record]] = meta.suppressions.sent
    assert record.key == HASHING.key(Channel.WHATSAPP, "+5511987654321").encode()


@pytest.mark.parametrize(
    "message",
    [
        said("Ok!"),
        said("", type="button", button={"text": "OK", "payload": "x"}),
        said("", type="interactive", interactive={"type": "button_reply", "button_reply": {"id": "1", "title": "Yes"}}),
        said("", type="interactive", interactive={"type": "list_reply", "list_reply": {"id": "1", "title": "ok"}}),
    ],
)
async def test_a_word_or_a_button_acknowledges_the_one_that_waits(meta: Meta, message: dict[str, Any]) -> None:
    meta.waits.open = [NINE]
    await meta.wrote(message)
    await meta.wrote(message)
    first, second = meta.reminders.events
    assert (first.reminder_id, first.action, first.source) == ("clinic/visit 42", Action.ACKNOWLEDGE, "meta")
    assert (first.actor, first.delivery_id) == ("recipient", "the delivery")
    assert first == second


async def test_an_answer_that_comes_again_late_is_about_nothing_that_was_asked_after_it(meta: Meta) -> None:
    written = 1_749_416_383_000
    meta.waits.open = [replace(NINE, since=written + 60_000)]
    await meta.wrote(said("ok"))
    assert (meta.reminders.sent, meta.back) == ([], [])
    meta.waits.open = [NINE]
    await meta.wrote(said("ok"))
    assert [event.reminder_id for event in meta.reminders.events] == [NINE.reminder_id]


async def test_among_several_the_number_is_asked_for_and_help_is_given(meta: Meta) -> None:
    meta.waits.open = [NINE, TEN]
    await meta.wrote(said("ok"), said("help", "wamid.2"))
    (one, asked), (other, told) = meta.back
    assert one == other == NUMBER
    assert f"OK {NINE.code}" in asked
    assert told == "We remind you. <STOP> ends it."
    assert not meta.reminders.sent
    meta.waits.known = False
    assert (await meta.tell(hook(messages=[said("ok", "wamid.3"), said("help", "wamid.4")]))).status == 503
    assert len(meta.back) == 2


async def test_the_address_is_ours_to_whoever_knows_the_token(meta: Meta) -> None:
    asked = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1158201444"}
    answer = await meta.client.get(PATH, params=asked)
    assert (answer.status, await answer.text(), answer.content_type) == (200, "1158201444", "text/plain")
    for wrong, expected in (
        ({"hub.verify_token": "x"}, 403),
        ({"hub.verify_token": ""}, 403),
        ({"hub.mode": "unsubscribe"}, 403),
        ({"hub.challenge": "<script>"}, 400),
        ({"hub.challenge": ""}, 400),
        ({"hub.challenge": "1" * 300}, 400),
    ):
        assert (await meta.client.get(PATH, params=asked | wrong)).status == expected, wrong
    assert meta.untouched


async def test_without_a_verify_token_nobody_knows_it(serve: Serve) -> None:
    meta = Meta()
    cloud = meta.ports.cloud
    assert cloud is not None
    meta.ports = replace(meta.ports, cloud=replace(cloud, verify_tokens=lambda: ("",)))
    await meta.open(serve)
    asked = {"hub.mode": "subscribe", "hub.verify_token": "", "hub.challenge": "1"}
    assert (await meta.client.get(PATH, params=asked)).status == 403


async def test_twilio_is_not_believed_where_it_was_not_told_of_the_address(meta: Meta) -> None:
    assert (await meta.post("inbound", {"From": NUMBER, "Body": "STOP"}, delivery="")).status == 404
    assert meta.untouched


async def test_who_is_refused_again_and_again_must_wait_and_meta_need_not(serve: Serve) -> None:
    meta = Meta()
    callers = Callers(60, (), lambda: 0.0)
    meta.client = await serve(meta.reminders, callbacks=meta.ports, callers=callers)
    for _ in range(100):
        assert (await meta.tell(hook())).status == 200
    # Signed rightly, and nothing that we can use: no guess.
    assert [(await meta.tell(b"{}")).status for _ in range(10)] == [400] * 10
    forged = {"X-Hub-Signature-256": "sha256=00"}
    assert [(await meta.tell(hook(), **forged)).status for _ in range(8)] == [403] * 6 + [429] * 2
