"""Public reports about unsubscribing with one click as inputs (cases.json): a mail's headers, then their address."""

import email
import email.policy
import json
import time
from pathlib import Path

from agents.mail_links import MailLinks
from app.web.ports import LinkPorts
from channels import render
from channels.addresses import Address
from channels.mime import Headers, compose
from schemas import codec
from schemas.hashing import AddressHash
from schemas.links import Links
from schemas.names import Channel
from schemas.records import Delivery, SuppressionRecord
from tables.consent import Category, Legal, Needs
from tests.web.stage import Fake, Stage

CASES = {c["id"]: c for c in json.loads((Path(__file__).parent / "cases.json").read_text("utf-8"))}
BASE = "https://notify.example"
HASHING = AddressHash(((1, b"a secret of these tests"),))
LINKS = Links(("a secret of these tests",), BASE, 86_400_000)
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


async def test_o_18_one_click_unsubscribes_and_looking_does_not() -> None:
    assert CASES["O-18"]["expected"]["headers"][1] == "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
    address = CASES["O-18"]["input"]["mail"].rpartition(" ")[2]
    now = time.time_ns() // 1_000_000
    delivery = Delivery("r:o:0:0", "r", "o", Channel.EMAIL, due_at=now, category="offers")
    made = MailLinks(LINKS, HASHING).of(delivery, address, Category(Legal.MARKETING, Needs.GRANT))
    local, _, domain = address.partition("@")
    headers = Headers(Address("a", "b.example"), Address(local, domain), "t", "b.example", now, made["unsubscribe_url"])
    mail = email.message_from_bytes(compose(headers, render.email("Offer", "x")), policy=email.policy.compat32)
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    where = str(mail["List-Unsubscribe"])
    assert (where[0], where[-1]) == ("<", ">")
    assert where[1:].startswith(f"{BASE}/l/")
    path = where[1:-1].removeprefix(BASE)
    assert "x.example" not in path

    stage, suppressions = Stage(), Fake()
    client = await stage.start(Fake(), links=LinkPorts(LINKS, suppressions))
    try:
        for method in ("GET", "HEAD"):
            assert (await client.request(method, path)).status == 200
        assert suppressions.sent == []
        for _ in range(2):
            answer = await client.post(path, data=ONE_CLICK, allow_redirects=False)
            assert 200 <= answer.status < 300
            assert "Set-Cookie" not in answer.headers
        written = {record.key for [record] in suppressions.sent}
        assert written == {HASHING.key(Channel.EMAIL, address, "offers").encode()}
        [kept] = suppressions.sent[0]
        assert codec.decode(SuppressionRecord, kept.value or b"").scope == "offers"
        for at in range(3, len(path)):
            changed = path[:at] + ("A" if path[at] != "A" else "B") + path[at + 1 :]
            assert 400 <= (await client.post(changed, data=ONE_CLICK)).status < 500
        assert len(suppressions.sent) == 2
    finally:
        await stage.close()
