"""SendGrid's news: only what is signed counts, batches are kept before they are answered, copies do no harm."""

import json
from itertools import permutations
from typing import Any

import pytest
from aiohttp import ClientResponse

from agents.suppressions import BOUNCED_MS, Desk
from app.callers import Callers
from app.web.callbacks_sendgrid import MAX_BODY_BYTES
from app.web.ports import EventPorts, Unsent
from channels import sendgrid_news
from schemas import codec, ids
from schemas.names import Channel, OutcomeKind
from schemas.records import DeliveryReceipt, SuppressionRecord
from tests.sandbox.sendgrid_server import Signer
from tests.web.stage import Fake, Serve
from tests.web.test_callbacks import DELIVERY, HASHING, REFERENCES

PATH = "/callbacks/sendgrid"
ANNA = "anna@reader.example"
AT = 1_764_000_000
GONE = "550 5.1.1 The email account that you tried to reach does not exist"

#: From the vendor's own library (sendgrid-python, test/unit/test_eventwebhook.py).
VENDOR_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6"
    "wEA3F+g=="
)
VENDOR_SIGNATURE = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
VENDOR_TIMESTAMP = "1600112502"
VENDOR_EVENT = {
    "email": "hello@world.com",
    "event": "dropped",
    "reason": "Bounced Address",
    "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
    "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
    "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
    "timestamp": 1600112492,
}


class Events:
    """A server that believes two keys, of which one is on its way out."""

    def __init__(self) -> None:
        self.signer, self.older = Signer(), Signer()
        self.receipts, self.suppressions = Fake(), Fake()
        self.ports = EventPorts(
            (self.signer.shown, self.older.shown), REFERENCES, self.receipts, self.suppressions, Desk(HASHING)
        )

    async def open(self, serve: Serve, **more: Any) -> "Events":
        self.client = await serve(Fake(), events=self.ports, **more)
        return self

    async def tell(self, body: Any, signer: Signer | None = None, **headers: str) -> ClientResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\r\n"
        sent = (signer or self.signer).headers(raw) | headers
        return await self.client.post(PATH, data=raw, headers=sent)

    async def told(self, *events: dict[str, Any]) -> None:
        answer = await self.tell(list(events))
        assert answer.status == 200, await answer.text()

    def received(self) -> list[DeliveryReceipt]:
        return [codec.decode(DeliveryReceipt, r.value or b"") for batch in self.receipts.sent for r in batch]

    def suppressed(self) -> dict[str, tuple[str, int]]:
        """Return reason and end by the key, of what is suppressed now."""
        found: dict[str, tuple[str, int]] = {}
        for record in (r for batch in self.suppressions.sent for r in batch):
            key = record.key.decode()
            if record.value is None:
                found.pop(key, None)
            else:
                said = codec.decode(SuppressionRecord, record.value)
                found[key] = (said.reason, said.expires_at)
        return found

    @property
    def untouched(self) -> bool:
        return not (self.receipts.sent or self.suppressions.sent)


def event(kind: str, *, delivery: str = DELIVERY, **more: Any) -> dict[str, Any]:
    return {
        "email": ANNA,
        "event": kind,
        "timestamp": AT,
        "sg_event_id": "ZGVsaXZlcmVkLTA",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "token": "token1",
        "category": ["something of SendGrid's own"],
        "reminder_category": "visits",
        "delivery": REFERENCES.seal(delivery),
        **more,
    }


def key(scope: str = "") -> str:
    return HASHING.key(Channel.EMAIL, ANNA, scope)


@pytest.fixture
async def events(serve: Serve) -> Events:
    return await Events().open(serve)


def test_the_vendors_own_example_is_believed_and_nothing_else() -> None:
    body = json.dumps([VENDOR_EVENT], sort_keys=True, separators=(",", ":")).encode() + b"\r\n"

    def believed(**changes: Any) -> bool:
        given = {"keys": [VENDOR_KEY], "timestamp": VENDOR_TIMESTAMP, "body": body, "signature": VENDOR_SIGNATURE}
        return sendgrid_news.genuine(**(given | changes))

    assert believed()
    assert believed(keys=["nonsense", Signer().shown, VENDOR_KEY])
    assert not believed(keys=[])
    assert not believed(keys=[Signer().shown])
    assert not believed(body=body.rstrip())
    for timestamp in ("1600112503", "", "ä", "timestamp"):
        assert not believed(timestamp=timestamp)
    for signature in ("", "AAAA", "ä", VENDOR_SIGNATURE[:-4], VENDOR_SIGNATURE + "AAAA"):
        assert not believed(signature=signature)


async def test_a_batch_is_kept_whole_each_about_its_attempt(events: Events) -> None:
    second = ids.attempt_id(DELIVERY, 2)
    await events.told(
        event("processed"), event("deferred", response="400 try again later", attempt="5"), event("delivered"),
        event("bounce", delivery=second, type="bounce", reason=GONE, status="5.1.1"), event("open"), event("click"),
    )  # fmt: skip
    assert len(events.receipts.sent) == 1
    good, bad = events.received()
    assert (good.delivery_id, good.attempt, good.outcome, good.provider) == (
        DELIVERY, 0, OutcomeKind.DELIVERED, "sendgrid",
    )  # fmt: skip
    assert good.provider_id == "14c5d75ce93"
    assert (bad.attempt, bad.outcome, bad.code, bad.detail) == (
        2, OutcomeKind.UNDELIVERABLE, "550", "no_such_mailbox",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "outcome", "reason", "suppresses"),
    [
        ({"type": "bounce", "reason": GONE}, OutcomeKind.UNDELIVERABLE, "no_such_mailbox", True),
        ({"type": "bounce", "reason": "550-5.1.1 no"}, OutcomeKind.UNDELIVERABLE, "no_such_mailbox", True),
        ({"type": "bounce", "reason": "550 no", "status": "5.1.1"}, OutcomeKind.UNDELIVERABLE, "no_such_mailbox", True),
        (
            {"type": "bounce", "reason": "550 5.2.2 x", "status": "5.1.1"},
            OutcomeKind.UNDELIVERABLE,
            "mailbox_full",
            False,
        ),
        ({"type": "blocked", "reason": GONE}, OutcomeKind.UNDELIVERABLE, "no_such_mailbox", False),
        ({"type": "blocked", "reason": "550 5.7.1 blocked"}, OutcomeKind.REJECTED, "policy", False),
        ({"type": "blocked", "reason": "421 4.7.0 later"}, OutcomeKind.DEFERRED, "service_unavailable", False),
        ({"type": "bounce", "reason": "552 5.2.2 full"}, OutcomeKind.UNDELIVERABLE, "mailbox_full", False),
        ({"type": "bounce", "reason": "500 unknown"}, OutcomeKind.REJECTED, "protocol", False),
        ({"type": "bounce", "reason": "550 5.1.8 sender"}, OutcomeKind.REJECTED, "policy", False),
        (
            {"type": "bounce", "reason": "unable to get mx info"},
            OutcomeKind.UNDELIVERABLE,
            "mailbox_unavailable",
            False,
        ),
        (
            {"type": "bounce", "reason": "550 no", "bounce_classification": "Invalid Address"},
            OutcomeKind.UNDELIVERABLE,
            "no_such_mailbox",
            True,
        ),
        ({"type": 7, "reason": None}, OutcomeKind.UNDELIVERABLE, "mailbox_unavailable", False),
    ],
)
async def test_a_bounce_is_read_as_the_reply_that_it_quotes(
    events: Events, more: dict[str, Any], outcome: OutcomeKind, reason: str, suppresses: bool
) -> None:
    await events.told(event("bounce", **more))
    [receipt] = events.received()
    assert (receipt.outcome, receipt.detail) == (outcome, reason)
    ends = AT * 1000 + BOUNCED_MS
    assert events.suppressed() == ({key(): ("bounced", ends)} if suppresses else {})


@pytest.mark.parametrize(
    ("reason", "outcome", "why"),
    [
        ("Bounced Address", OutcomeKind.UNDELIVERABLE, "bounced"),
        ("Invalid", OutcomeKind.UNDELIVERABLE, "bounced"),
        ("Invalid SMTPAPI header", OutcomeKind.REJECTED, ""),
        ("Unsubscribed Address", OutcomeKind.OPTED_OUT, "unsubscribed"),
        ("Spam Reporting Address", OutcomeKind.OPTED_OUT, "complained"),
        ("Spam Content (if Spam Checker app enabled)", OutcomeKind.REJECTED, ""),
        ("Recipient List over Package Quota", OutcomeKind.MISCONFIGURED, ""),
        ("something new", OutcomeKind.REJECTED, ""),
    ],
)
async def test_what_was_taken_and_not_sent_says_why(
    events: Events, reason: str, outcome: OutcomeKind, why: str
) -> None:
    await events.told(event("dropped", reason=reason))
    [receipt] = events.received()
    assert (receipt.outcome, receipt.code) == (outcome, "dropped")
    assert [found for found, _ in events.suppressed().values()] == ([why] if why else [])
    assert {row.why for row in sendgrid_news.DROPS} <= {"", "bounced", "unsubscribed", "complained"}


async def test_complaints_and_unsubscribes_are_of_the_category(events: Events) -> None:
    await events.told(event("spamreport"), event("unsubscribe", reminder_category="news"))
    assert events.received() == []
    assert events.suppressed() == {key("visits"): ("complained", 0), key("news"): ("unsubscribed", 0)}
    await events.told(event("group_resubscribe", reminder_category="news", asm_group_id=10))
    assert events.suppressed() == {key("visits"): ("complained", 0)}
    await events.told(event("group_unsubscribe", reminder_category=["a", "b"]))
    assert events.suppressed()[key()] == ("unsubscribed", 0)


async def test_no_record_names_the_address(events: Events) -> None:
    await events.told(event("bounce", type="bounce", reason=GONE), event("spamreport"))
    records = [r for batch in (*events.receipts.sent, *events.suppressions.sent) for r in batch]
    assert not [r for r in records if b"anna" in r.key + (r.value or b"")]


async def test_any_order_and_any_number_of_copies_is_kept_alike(events: Events) -> None:
    said = [event("processed"), event("delivered"), event("bounce", type="bounce", reason=GONE)]
    kept = set()
    for order in permutations(said):
        for _ in range(2):
            await events.told(*order)
        kept.add(frozenset(events.suppressed().items()))
    assert len(kept) == 1
    assert {r.outcome for r in events.received()} == {OutcomeKind.DELIVERED, OutcomeKind.UNDELIVERABLE}


async def test_without_a_valid_signature_nothing_happens(events: Events) -> None:
    said = [event("delivered")]
    assert (await events.tell(said, Signer())).status == 403
    for name in ("X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"):
        for forged in ("", "AAAA", "ä"):
            assert (await events.tell(said, **{name: forged})).status == 403
    assert events.untouched
    assert (await events.tell(said, events.older)).status == 200
    assert len(events.received()) == 1


async def test_what_is_of_others_or_says_nothing_is_answered_and_left_alone(events: Events) -> None:
    bounce = event("bounce", type="bounce", reason=GONE)
    for said in (
        [{k: v for k, v in bounce.items() if k != "delivery"}],
        [bounce | {"delivery": "made up"}],
        [event("account_status_change", type="compliance_suspend")],
        [7, None, "x", [], {}],
        [],
    ):
        assert (await events.tell(said)).status == 200
    assert events.untouched
    await events.told(bounce | {"email": "no address", "timestamp": "x"})
    assert (len(events.received()), events.suppressed()) == (1, {})


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'"x"', b"\xff", b"[" * 100_000])
async def test_what_is_no_list_of_events_is_refused_though_it_is_signed(events: Events, body: bytes) -> None:
    assert (await events.tell(body)).status == 400
    assert events.untouched


async def test_a_body_is_bounded(events: Events) -> None:
    assert (await events.tell(b"x" * (MAX_BODY_BYTES + 1))).status == 413


@pytest.mark.parametrize("topic", ["receipts", "suppressions"])
async def test_without_the_brokers_the_whole_is_to_be_sent_again(events: Events, topic: str) -> None:
    getattr(events, topic).unsent = Unsent("no acknowledgement")
    answer = await events.tell([event("bounce", type="bounce", reason=GONE)])
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_who_is_refused_again_and_again_must_wait_and_sendgrid_need_not(serve: Serve) -> None:
    events = await Events().open(serve, callers=Callers(60, (), lambda: 0.0))
    for _ in range(50):
        assert (await events.tell([])).status == 200
    assert [(await events.tell([], Signer())).status for _ in range(8)] == [403] * 6 + [429] * 2
