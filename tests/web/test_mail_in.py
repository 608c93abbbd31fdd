"""Mails that come back: who may pass them on, what is believed of them, what follows, and that copies do no harm."""

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from agents.suppressions import Desk
from app.callers import Callers
from app.web.ports import MailPorts, Unsent
from schemas import codec, ids
from schemas.bounces import BounceAddresses
from schemas.hashing import AddressHash
from schemas.links import Act, Link, Links
from schemas.names import Channel, OutcomeKind
from schemas.records import Delivery, DeliveryReceipt, Message, SuppressionRecord
from tests.channels.test_mail_reports import LINK as LINK_IN_FEEDBACK
from tests.channels.test_mail_reports import TO as TO_IN_REPORTS
from tests.channels.test_mail_reports import block, dsn, feedback
from tests.web.stage import Fake, Serve

TOKEN, OLD = "a-token-of-a-mail-server", "the-one-before-that-one"
SECRETS = ("a secret of these tests",)
ADDRESSES = BounceAddresses(SECRETS, "bounce.clinic.example")
LINKS = Links(SECRETS, "https://notify.example", 1000)
HASHING = AddressHash(((1, b"a secret of these tests"),))
DELIVERY = Delivery(
    ids.delivery_id("clinic/visit 42", "2026-12-01T09:00/PT0S", 0, 1),
    "clinic/visit 42",
    "2026-12-01T09:00/PT0S",
    Channel.EMAIL,
    attempt=2,
    category="visits",
)
ADDRESS = f"{ADDRESSES.local(3, 1042, DELIVERY.delivery_id)}@{ADDRESSES.domain}"
FAILED = dsn(block("failed", "5.1.1", "smtp; 550 5.1.1 no such user"))
READER = "Anna@people.example"


class Door:
    """A server that takes mails; its ports keep what they are given."""

    def __init__(self) -> None:
        self.receipts, self.suppressions = Fake(), Fake()
        self.there = {(3, 1042): [(DELIVERY, Message(READER))]}
        self.unsent: Unsent | None = None
        self.tokens: tuple[str, ...] = (TOKEN, OLD)
        self.ports = MailPorts(
            lambda: self.tokens, ADDRESSES, LINKS, self, self.receipts, self.suppressions, Desk(HASHING)
        )

    async def find(self, partition: int, offset: int) -> list[tuple[Delivery, Message]]:
        if self.unsent is not None:
            raise self.unsent
        return self.there.get((partition, offset), [])

    async def open(self, serve: Serve, **more: Any) -> "Door":
        self.client: TestClient = await serve(Fake(), mails=self.ports, **more)
        return self

    async def post(self, raw: bytes, *to: str, token: str = TOKEN, **headers: str) -> ClientResponse:
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "message/rfc822"} | headers
        return await self.client.post("/callbacks/mail", params=[("to", a) for a in to], data=raw, headers=sent)

    @property
    def untouched(self) -> bool:
        return not (self.receipts.sent or self.suppressions.sent)

    def told(self) -> list[DeliveryReceipt]:
        return [codec.decode(DeliveryReceipt, r.value or b"") for batch in self.receipts.sent for r in batch]

    def suppressed(self) -> list[tuple[bytes, SuppressionRecord]]:
        records = [record for batch in self.suppressions.sent for record in batch]
        return [(record.key, codec.decode(SuppressionRecord, record.value or b"")) for record in records]


@pytest.fixture
async def door(serve: Serve) -> Door:
    return await Door().open(serve)


async def test_a_bounce_is_told_to_its_reminder_and_suppresses_the_address(door: Door) -> None:
    for _ in range(2):
        answer = await door.post(FAILED, ADDRESS.upper())
        assert (answer.status, await answer.json()) == (200, {"taken": "failed"})
    receipt = door.told()[0]
    assert door.receipts.sent[0][0].key == b"clinic/visit 42"
    assert (receipt.reminder_id, receipt.delivery_id, receipt.attempt) == (
        "clinic/visit 42", DELIVERY.delivery_id, 2,
    )  # fmt: skip
    assert (receipt.outcome, receipt.detail, receipt.code) == (
        OutcomeKind.UNDELIVERABLE, "no_such_mailbox", "550 5.1.1",
    )  # fmt: skip
    (key, said), copy = door.suppressed()
    assert key == copy[0] == HASHING.key(Channel.EMAIL, "anna@people.example").encode()
    assert (said.reason, said.source, said.scope) == ("bounced", "mail", "")
    assert 0 < said.at < said.expires_at


async def test_that_a_mail_failed_is_told_to_each_that_went_in_it(door: Door) -> None:
    other = replace(DELIVERY, reminder_id="clinic/pills", delivery_id="clinic%2Fpills:o:0:0", category="pills")
    door.there[3, 1042] = [(other, Message(READER)), (DELIVERY, Message(READER))]
    assert (await door.post(FAILED, ADDRESS)).status == 200
    assert [r.reminder_id for r in door.told()] == ["clinic/pills", "clinic/visit 42"]
    assert len(door.suppressed()) == 1


async def test_other_news_of_a_mail_are_of_the_one_that_it_was_sent_as(door: Door) -> None:
    # It may have been left out before the call, and no mail brought it.
    other = replace(DELIVERY, reminder_id="clinic/pills", delivery_id="clinic%2Fpills:o:0:0")
    door.there[3, 1042] = [(DELIVERY, Message(READER)), (other, Message(READER))]
    for raw in (dsn(block("delivered", "2.0.0")), dsn(block("delayed", "4.4.1"))):
        assert (await door.post(raw, ADDRESS)).status == 200
    assert (await door.post(feedback().replace(TO_IN_REPORTS.encode(), ADDRESS.encode()))).status == 200
    assert {r.reminder_id for r in door.told()} == {"clinic/visit 42"}
    assert [said.scope for _, said in door.suppressed()] == ["visits"]


async def test_what_blames_no_address_suppresses_none(door: Door) -> None:
    assert (await door.post(dsn(block("failed", "5.7.1")), ADDRESS)).status == 200
    assert [r.outcome for r in door.told()] == [OutcomeKind.REJECTED]
    assert not door.suppressions.sent


async def test_the_address_may_stand_in_the_mail(door: Door) -> None:
    assert (await door.post(FAILED.replace(TO_IN_REPORTS.encode(), ADDRESS.encode()))).status == 200
    assert len(door.told()) == 1


async def test_a_delay_is_noted_and_sends_nothing_anew(door: Door) -> None:
    assert (await door.post(dsn(block("delayed", "4.4.1")), ADDRESS)).status == 200
    assert [(r.outcome, r.detail) for r in door.told()] == [
        (OutcomeKind.ACCEPTED, ""),
        (OutcomeKind.NONE, "delay_told"),
    ]
    assert not door.suppressions.sent


async def test_that_it_arrived_is_told(door: Door) -> None:
    assert (await door.post(dsn(block("delivered", "2.0.0")), ADDRESS)).status == 200
    assert [r.outcome for r in door.told()] == [OutcomeKind.DELIVERED]


@pytest.mark.parametrize("place", [(3, 1041), (4, 1042)])
async def test_a_forged_bounce_does_nothing(door: Door, place: tuple[int, int]) -> None:
    forged = BounceAddresses(("a secret of somebody else",), ADDRESSES.domain)
    gone = f"{ADDRESSES.local(*place, DELIVERY.delivery_id)}@{ADDRESSES.domain}"
    # A topic made anew has another delivery at the place.
    another = f"{ADDRESSES.local(3, 1042, 'another:o:0:0')}@{ADDRESSES.domain}"
    for address in (
        f"{forged.local(3, 1042, DELIVERY.delivery_id)}@{ADDRESSES.domain}", gone, another, READER, "",
    ):  # fmt: skip
        answer = await door.post(FAILED, address)
        assert answer.status == 404
        assert "names a delivery" in (await answer.json())["error"]
    assert door.untouched


async def test_only_our_mail_server_may_pass_them_on(door: Door) -> None:
    for header in ("", "Bearer", "Bearer ä", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Basic !", f"Digest {TOKEN}"):
        answer = await door.post(FAILED, ADDRESS, Authorization=header)
        assert answer.status == 401
    assert door.untouched
    basic = "Basic " + base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert (await door.post(FAILED, ADDRESS, Authorization=basic)).status == 200
    assert (await door.post(FAILED, ADDRESS, token=OLD)).status == 200
    door.tokens = ("the one after",)
    assert (await door.post(FAILED, ADDRESS)).status == 401
    assert (await door.post(FAILED, ADDRESS, token="the one after")).status == 200


async def test_a_header_of_any_bytes_is_no_token(door: Door) -> None:
    address = door.client.server
    for scheme in (b"Bearer", b"Basic"):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        head = b"POST /callbacks/mail HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
        writer.write(head + b"Authorization: " + scheme + b" \xff\xfe\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"401"
        writer.close()
        await writer.wait_closed()


async def test_who_guesses_must_wait(serve: Serve) -> None:
    door = await Door().open(serve, callers=Callers(60, (), lambda: 0.0))
    assert [(await door.post(FAILED, ADDRESS)).status for _ in range(50)] == [200] * 50
    assert [(await door.post(FAILED, ADDRESS, token="x")).status for _ in range(8)] == [401] * 6 + [429] * 2


async def test_what_is_no_mail_is_refused(door: Door) -> None:
    assert (await door.post(FAILED, ADDRESS, **{"Content-Type": "application/json"})).status == 415
    assert (await door.post(b"x" * (1024 * 1024 + 1), ADDRESS)).status == 413
    assert (await door.client.get("/callbacks/mail")).status == 405
    assert door.untouched


async def test_without_the_brokers_it_is_to_be_sent_again(door: Door) -> None:
    door.receipts.unsent = Unsent("no acknowledgement")
    answer = await door.post(FAILED, ADDRESS)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert not door.suppressions.sent
    door.receipts.unsent, door.unsent = None, Unsent("no answer")
    assert (await door.post(FAILED, ADDRESS)).status == 503


async def test_a_complaint_suppresses_its_category_alone(door: Door) -> None:
    raw = feedback().replace(TO_IN_REPORTS.encode(), ADDRESS.encode())
    answer = await door.post(raw, "fbl@clinic.example")
    assert await answer.json() == {"taken": "complained"}
    ((key, said),) = door.suppressed()
    assert key == HASHING.key(Channel.EMAIL, READER, "visits").encode()
    assert (said.reason, said.scope, said.expires_at) == ("complained", "visits", 0)
    assert [(r.outcome, r.detail) for r in door.told()] == [
        (OutcomeKind.ACCEPTED, ""),
        (OutcomeKind.NONE, "complaint_told"),
    ]


def unsubscribing(until: int = 2**42, act: Act = Act.UNSUBSCRIBE) -> str:
    return LINKS.token(Link(act, HASHING.key(Channel.EMAIL, READER, "visits"), until, "visits"))


async def test_a_complaint_without_the_address_goes_by_the_link_of_its_mail(door: Door) -> None:
    raw = feedback().replace(LINK_IN_FEEDBACK.encode(), unsubscribing().encode())
    assert (await door.post(raw)).status == 200
    ((key, said),) = door.suppressed()
    assert (key, said.reason) == (HASHING.key(Channel.EMAIL, READER, "visits").encode(), "complained")
    assert (await door.post(feedback())).status == 404


async def test_a_mail_unsubscribes_as_the_link_does(door: Door) -> None:
    raw = f"From: whoever@x.example\nSubject: unsubscribe {unsubscribing()}\n\n".encode()
    for _ in range(2):
        answer = await door.post(raw, "stop@bounce.clinic.example")
        assert (answer.status, await answer.json()) == (200, {"taken": "unsubscribe"})
    (key, said), copy = door.suppressed()
    assert key == copy[0] == HASHING.key(Channel.EMAIL, READER, "visits").encode()
    assert (said.reason, said.source, said.scope) == ("unsubscribed", "mail", "visits")
    for wrong in (unsubscribing(until=1000), unsubscribing(act=Act.ACKNOWLEDGE), "A" * 80):
        assert (await door.post(f"Subject: unsubscribe {wrong}\n\n".encode())).status == 404
    assert len(door.suppressions.sent) == 2


async def test_an_answer_of_a_person_or_a_program_changes_nothing(door: Door) -> None:
    answer = await door.post(b"Subject: Out of office\n\nI am away.", ADDRESS)
    assert (answer.status, await answer.json()) == (200, {"taken": "nothing"})
    assert door.untouched


async def test_where_nothing_is_set_up_nothing_is_taken(serve: Serve) -> None:
    client = await serve(Fake())
    assert (await client.post("/callbacks/mail", data=FAILED)).status == 404


async def test_no_log_names_anybody(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await door.post(FAILED, ADDRESS)
    await door.post(f"Subject: unsubscribe {unsubscribing()}\n\n".encode())
    ours = [r for r in caplog.records if r.name.startswith("app.")]
    assert [(r.getMessage(), r.__dict__["about"]) for r in ours] == [
        ("a mail came back", "failed"),
        ("a mail came back", "unsubscribe"),
    ]
    said = " ".join(str(r.__dict__) for r in ours)
    assert not any(word in said for word in ("anna@", "people.example", ADDRESS.partition("@")[0], unsubscribing()))
