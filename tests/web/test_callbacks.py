"""Providers' news: only what is signed counts, it is kept before it is answered, and copies do no harm."""

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from agents.suppressions import Desk
from app.callers import Callers
from app.web.ports import CallbackPorts, Unsent
from channels.answers import Waiting
from schemas import codec, ids
from schemas.hashing import AddressHash
from schemas.names import Action, Channel, OutcomeKind
from schemas.records import DeliveryReceipt, SuppressionRecord
from schemas.references import References
from tests.web.stage import Fake, Serve

BASE = "https://hooks.clinic.example/reminders"
TOKEN = "f00dfacef00dfacef00dfacef00dface"
REFERENCES = References(("a secret of these tests",))
HASHING = AddressHash(((1, b"a secret of these tests"),))
NUMBER = "+12015550123"
NINE = Waiting("clinic/visit 42", "2026-12-01T09:00/PT0S", 1, "the delivery")
TEN = Waiting("clinic/visit 43", "2026-12-01T10:00/PT0S", 2)
DELIVERY = ids.delivery_id("clinic/visit 42", "2026-12-01T09:00/PT0S", 0, 1)


class Waits:
    """What waits for an answer, as a test has it."""

    def __init__(self) -> None:
        self.known = True
        self.open: list[Waiting] = []
        self.before: dict[str, Waiting] = {}
        self.noted: list[tuple[int, str]] = []
        self.last: dict[str, int] = {}

    def fresh(self) -> bool:
        return self.known

    def waiting(self, channel: Channel, address: str) -> list[Waiting]:
        return self.open if (channel, address) == (Channel.SMS, NUMBER) else []

    def taken(self, message: str) -> Waiting | None:
        return self.before.get(message)

    def took(self, message: str, meant: Waiting, now: int) -> tuple[bytes, bytes]:
        self.before[message] = meant
        return b"took", message.encode()

    def came(self, channel: Channel, address: str, at: int, provider: str) -> tuple[bytes, bytes]:
        self.noted.append((at, provider))
        self.last[provider] = max(at, self.last.get(provider, 0))
        return b"came", f"{channel.value} {address}".encode()

    def wrote(self, channel: Channel, address: str, provider: str) -> int:
        return self.last.get(provider, 0)


class Desks:
    """A server with the ports of callbacks, each of which keeps what it is given."""

    def __init__(self) -> None:
        self.reminders, self.receipts, self.suppressions, self.replies = Fake(), Fake(), Fake(), Fake()
        self.waits = Waits()
        self.ports = CallbackPorts(
            BASE,
            lambda: (TOKEN, "the one before"),
            REFERENCES,
            self.receipts,
            self.suppressions,
            Desk(HASHING),
            self.waits,
            self.replies,
            "We remind you. <STOP> ends it.",
        )

    async def open(self, serve: Serve) -> "Desks":
        self.client: TestClient = await serve(self.reminders, callbacks=self.ports)
        return self

    async def post(self, kind: str, form: dict[str, Any], *, delivery: str = DELIVERY, **more: Any) -> ClientResponse:
        path = f"/callbacks/twilio/{kind}"
        if delivery:
            path += "?" + urlencode({"delivery": REFERENCES.seal(delivery)})
        signed = BASE + path + "".join(k + form[k] for k in sorted(form))
        signature = base64.b64encode(hmac.digest(TOKEN.encode(), signed.encode(), hashlib.sha1)).decode()
        headers = {"X-Twilio-Signature": signature, **more}
        return await self.client.post(path, data=form, headers=headers)

    @property
    def untouched(self) -> bool:
        return not (self.reminders.sent or self.receipts.sent or self.suppressions.sent or self.replies.sent)


@pytest.fixture
async def desks(serve: Serve) -> Desks:
    return await Desks().open(serve)


async def test_news_of_a_message_are_kept_and_answered_with_twiml(desks: Desks) -> None:
    answer = await desks.post("status", {"MessageStatus": "delivered", "MessageSid": "SM1", "To": "+12015550123"})
    assert answer.status == 200
    assert answer.content_type == "text/xml"
    assert await answer.text() == '<?xml version="1.0" encoding="UTF-8"?><Response/>'
    [[record]] = desks.receipts.sent
    assert record.key == b"clinic/visit 42"
    receipt = codec.decode(DeliveryReceipt, record.value or b"")
    assert (receipt.reminder_id, receipt.delivery_id, receipt.outcome) == (
        "clinic/visit 42",
        DELIVERY,
        OutcomeKind.DELIVERED,
    )
    assert (receipt.provider, receipt.provider_id) == ("twilio", "SM1")


async def test_news_of_a_digest_are_news_of_each_that_went_in_it(desks: Desks) -> None:
    others = [ids.delivery_id(f"clinic/{n}", "@1/PT0S", 0, 0) for n in range(2)]
    together = ids.attempt_ids([ids.attempt_id(delivery, 1) for delivery in (DELIVERY, *others)])
    assert (
        await desks.post("status", {"MessageStatus": "delivered", "MessageSid": "SM1"}, delivery=together)
    ).status == 200
    [records] = desks.receipts.sent
    receipts = [codec.decode(DeliveryReceipt, record.value or b"") for record in records]
    assert [(one.delivery_id, one.attempt, one.outcome) for one in receipts] == [
        (delivery, 1, OutcomeKind.DELIVERED) for delivery in (DELIVERY, *others)
    ]
    assert [record.key for record in records] == [one.reminder_id.encode() for one in receipts]


async def test_news_of_a_failure_name_the_attempt_that_failed(desks: Desks) -> None:
    form = {"MessageStatus": "undelivered", "ErrorCode": "30006", "MessageSid": "SM1"}
    assert (await desks.post("status", form, delivery=ids.attempt_id(DELIVERY, 2))).status == 200
    [[record]] = desks.receipts.sent
    receipt = codec.decode(DeliveryReceipt, record.value or b"")
    assert (receipt.delivery_id, receipt.attempt, receipt.outcome) == (DELIVERY, 2, OutcomeKind.UNDELIVERABLE)


async def test_what_is_no_news_yet_is_answered_and_not_kept(desks: Desks) -> None:
    assert (await desks.post("status", {"MessageStatus": "queued", "MessageSid": "SM1"})).status == 200
    assert (await desks.post("call", {"CallStatus": "ringing", "CallSid": "CA1"})).status == 200
    assert desks.untouched


async def test_without_a_valid_signature_nothing_happens(desks: Desks) -> None:
    form = {"MessageStatus": "delivered", "MessageSid": "SM1"}
    for signature in ("", "AAAA", "ä"):
        answer = await desks.post("status", form, **{"X-Twilio-Signature": signature})
        assert answer.status == 403
    # The address is signed as well: another delivery's is another signature.
    path = "/callbacks/twilio/status?delivery=" + REFERENCES.seal(DELIVERY)
    signed = BASE + path + "".join(k + form[k] for k in sorted(form))
    good = base64.b64encode(hmac.digest(TOKEN.encode(), signed.encode(), hashlib.sha1)).decode()
    other = path.replace("status", "call")
    assert (await desks.client.post(other, data=form, headers={"X-Twilio-Signature": good})).status == 403
    assert desks.untouched
    assert (await desks.client.post(path, data=form, headers={"X-Twilio-Signature": good})).status == 200


async def test_a_delivery_that_we_did_not_seal_is_not_found(desks: Desks) -> None:
    assert (await desks.post("status", {"MessageStatus": "sent"}, delivery="")).status == 404
    assert (await desks.post("status", {"MessageStatus": "sent"}, delivery="no id")).status == 404
    assert desks.untouched


async def test_without_the_brokers_it_is_to_be_sent_again(desks: Desks) -> None:
    desks.receipts.unsent = Unsent("no acknowledgement")
    answer = await desks.post("status", {"MessageStatus": "delivered"})
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"


async def test_what_cannot_be_a_form_is_refused(desks: Desks) -> None:
    path = "/callbacks/twilio/inbound"
    assert (await desks.client.post(path, json={"From": "+1"})).status == 415
    assert (await desks.client.post(path, data={"Body": "x" * 70_000})).status == 413
    wrong = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await desks.client.post(path, data=b"\xff\xfe=1", headers=wrong)).status == 400
    assert (await desks.client.post(path, data="&".join("a=1" for _ in range(300)), headers=wrong)).status == 400
    assert (await desks.client.get(path)).status == 405
    assert desks.untouched


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("whatsapp:+551187654321", "+5511987654321"),
        ("whatsapp:+5511987654321", "+5511987654321"),
        ("whatsapp:+551132654321", "+551132654321"),
        ("whatsapp:+5215512345678", "+525512345678"),
    ],
)
async def test_a_stop_counts_for_the_number_that_was_written_to(desks: Desks, written: str, known: str) -> None:
    assert (await desks.post("inbound", {"From": written, "Body": "STOP"}, delivery="")).status == 200
    [[record]] = desks.suppressions.sent
    assert record.key == HASHING.key(Channel.WHATSAPP, known).encode()


@pytest.mark.parametrize(
    ("sender", "channel"), [("+12015550123", Channel.SMS), ("whatsapp:+12015550123", Channel.WHATSAPP)]
)
async def test_a_stop_suppresses_the_address_alone_and_a_start_lifts_it(
    desks: Desks, sender: str, channel: Channel
) -> None:
    assert (await desks.post("inbound", {"From": sender, "Body": "Stop."}, delivery="")).status == 200
    [[record]] = desks.suppressions.sent
    assert record.key == HASHING.key(channel, "+12015550123").encode()
    said = codec.decode(SuppressionRecord, record.value or b"")
    assert (said.channel, said.reason, said.source, said.expires_at) == (channel, "stop", "twilio", 0)
    assert b"5550123" not in record.key + (record.value or b"")
    assert (await desks.post("inbound", {"From": sender, "Body": "START"}, delivery="")).status == 200
    assert [(r.key, r.value) for r in desks.suppressions.sent[1]] == [(record.key, None)]
    assert not desks.reminders.sent


async def test_what_twilio_understood_counts_before_the_text(desks: Desks) -> None:
    form = {"From": "+12015550123", "Body": "adios", "OptOutType": "STOP"}
    assert (await desks.post("inbound", form, delivery="")).status == 200
    assert len(desks.suppressions.sent) == 1


@pytest.mark.parametrize("text", ["STOP PLEASE", "please stop by at 5", "ok", "", "no"])
async def test_any_other_text_changes_nothing(desks: Desks, text: str) -> None:
    assert (await desks.post("inbound", {"From": "+12015550123", "Body": text}, delivery="")).status == 200
    assert desks.untouched


async def test_the_key_one_acknowledges_the_occurrence_of_the_call(desks: Desks) -> None:
    for _ in range(2):
        answer = await desks.post("key", {"Digits": "1", "CallSid": "CA1"})
        assert answer.status == 200
        assert "<Say>Thank you." in await answer.text()
    first, second = desks.reminders.events
    assert (first.reminder_id, first.action, first.occurrence) == (
        "clinic/visit 42",
        Action.ACKNOWLEDGE,
        "2026-12-01T09:00",
    )
    assert (first.actor, first.source, first.delivery_id) == ("recipient", "twilio", DELIVERY)
    assert first == second
    assert "another key" in await (await desks.post("key", {"Digits": "7", "CallSid": "CA1"})).text()
    assert len(desks.reminders.sent) == 2


async def test_an_answering_machine_is_no_person(desks: Desks) -> None:
    await desks.post("call", {"CallStatus": "completed", "CallSid": "CA1", "AnsweredBy": "machine_start"})
    [[record]] = desks.receipts.sent
    assert codec.decode(DeliveryReceipt, record.value or b"").outcome is OutcomeKind.ACCEPTED


# -- answers of people


async def texted(desks: Desks, body: str, *, sid: str = "SM1", **more: str) -> str:
    answer = await desks.post("inbound", {"From": NUMBER, "Body": body, "MessageSid": sid} | more, delivery="")
    assert answer.status == 200
    return await answer.text()


async def test_a_word_acknowledges_the_one_that_waits(desks: Desks) -> None:
    desks.waits.open = [NINE]
    assert "<Message>" not in await texted(desks, "Ok!")
    [event] = desks.reminders.events
    assert (event.reminder_id, event.action, event.occurrence) == (
        "clinic/visit 42",
        Action.ACKNOWLEDGE,
        "2026-12-01T09:00",
    )
    assert (event.actor, event.source, event.delivery_id) == ("recipient", "twilio", "the delivery")


async def test_among_several_the_number_tells_and_nobody_guesses(desks: Desks) -> None:
    desks.waits.open = [NINE, TEN]
    asked = await texted(desks, "ok")
    assert f"OK {TEN.code}, OK {NINE.code}" in asked
    assert desks.untouched
    await texted(desks, f"ok {NINE.code}", sid="SM2")
    assert [event.reminder_id for event in desks.reminders.events] == [NINE.reminder_id]
    assert "Which message" in await texted(desks, "OK 0000", sid="SM3")
    assert len(desks.reminders.sent) == 1


async def test_a_copy_of_an_answer_is_about_what_the_first_was_about(desks: Desks) -> None:
    desks.waits.open = [NINE]
    await texted(desks, "ok")
    # The first one is answered, and another waits by now.
    desks.waits.open = [TEN]
    await texted(desks, "ok")
    first, second = desks.reminders.events
    assert first == second
    await texted(desks, "ok", sid="SM2")
    assert desks.reminders.events[2].reminder_id == TEN.reminder_id


async def test_while_nobody_knows_what_waits_the_answer_is_to_be_sent_again(desks: Desks) -> None:
    desks.waits.open, desks.waits.known = [NINE], False
    answer = await desks.post("inbound", {"From": NUMBER, "Body": "ok", "MessageSid": "SM1"}, delivery="")
    assert answer.status == 503
    assert desks.untouched
    # A STOP needs no such knowledge.
    assert "<Message>" not in await texted(desks, "STOP")
    assert len(desks.suppressions.sent) == 1


async def test_without_the_brokers_no_answer_is_taken(desks: Desks) -> None:
    desks.waits.open = [NINE]
    desks.reminders.unsent = Unsent("no acknowledgement")
    answer = await desks.post("inbound", {"From": NUMBER, "Body": "ok", "MessageSid": "SM1"}, delivery="")
    assert answer.status == 503


async def test_help_is_answered_once(desks: Desks) -> None:
    assert "<Message>We remind you. &lt;STOP&gt; ends it.</Message>" in await texted(desks, "Help")
    assert "<Message>" not in await texted(desks, "Help", OptOutType="HELP")
    assert desks.untouched


async def test_yes_starts_again_and_answers(desks: Desks) -> None:
    desks.waits.open = [NINE]
    await texted(desks, "YES")
    assert [record.value for record in desks.suppressions.sent[0]] == [None]
    assert len(desks.reminders.sent) == 1


async def test_whoever_writes_on_whatsapp_opens_its_window(desks: Desks) -> None:
    form = {"From": "whatsapp:+12015550123", "Body": "anything at all"}
    assert (await desks.post("inbound", form, delivery="")).status == 200
    [[record]] = desks.replies.sent
    assert (record.key, record.value) == (b"came", b"WHATSAPP +12015550123")
    await texted(desks, "anything at all")
    assert len(desks.replies.sent) == 1


async def test_who_is_refused_again_and_again_must_wait_and_twilio_need_not(serve: Serve) -> None:
    desks = Desks()
    callers = Callers(60, (), lambda: 0.0)
    desks.client = await serve(desks.reminders, callbacks=desks.ports, callers=callers)
    for _ in range(100):
        assert (await desks.post("status", {"MessageStatus": "delivered"})).status == 200
    forged = {"X-Twilio-Signature": "AAAA"}
    answers = [await desks.post("status", {"MessageStatus": "delivered"}, **forged) for _ in range(8)]
    assert [answer.status for answer in answers] == [403] * 6 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "1"


async def test_what_twilio_signed_about_a_delivery_that_is_not_known_costs_it_nothing(serve: Serve) -> None:
    desks = Desks()
    desks.client = await serve(desks.reminders, callbacks=desks.ports, callers=Callers(60, (), lambda: 0.0))
    for _ in range(10):
        assert (await desks.post("status", {"MessageStatus": "sent"}, delivery="no id")).status == 404
    assert (await desks.post("status", {"MessageStatus": "sent", "MessageSid": "SM1"})).status == 200
