"""What the DNS says of our mails: each finding by the rules, and asked of a name server on a real socket."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from app import mail_dns
from app.mail_dns import Said, Sender, Unasked
from channels import dkim
from tests.sandbox.dns_server import DnsServer

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OURS = dkim.Signer("clinic.example", "k1", KEY)
SENDER = Sender("clinic.example", "bounce.clinic.example", OURS)


def wrong(said: Said, *words: str) -> bool:
    return said.good is False and all(word in said.text for word in words)


def test_spf() -> None:
    assert mail_dns.spf(SENDER, ["google-site=1", "v=spf1 mx -all"]).good
    assert wrong(mail_dns.spf(SENDER, ["v=spf10 -all"]), "publish at TXT bounce.clinic.example")
    assert wrong(mail_dns.spf(SENDER, ["v=spf1 mx -all", "v=spf1 a -all"]), "leave one")
    assert wrong(mail_dns.spf(SENDER, ["v=spf1 +all"]), "-all")
    assert mail_dns.spf(SENDER, ["v=spf1 include:x.example ~all"]).good
    assert mail_dns.spf(SENDER, Unasked("no answer")) == Said("SPF: no answer; look up TXT bounce.clinic.example", None)


def test_dkim() -> None:
    record = dkim.record(KEY)
    assert mail_dns.signature(SENDER, [record]).good
    assert mail_dns.signature(SENDER, [record.replace("p=", "p= ")]).good
    for texts, said in (
        ([], "no key"),
        (["v=spf1 -all"], "no key"),
        (["v=DKIM1; p="], "withdrawn"),
        ([record, record], "several"),
        ([dkim.record(Ed25519PrivateKey.from_private_bytes(b"x" * 32))], "another key"),
    ):
        found = mail_dns.signature(SENDER, texts)
        assert wrong(found, said, f"publish at TXT k1._domainkey.clinic.example: {record}")
        assert found.wrong
    assert mail_dns.signature(Sender("a.example", "a.example"), []).good is None


def test_dmarc() -> None:
    at = "_dmarc.clinic.example"
    assert mail_dns.dmarc(SENDER, (at, ["v=DMARC1; p=reject"])).text.endswith("met by DKIM and SPF")
    assert mail_dns.dmarc(SENDER, (at, ["v=DMARC1; p=none; aspf=s"])).text.endswith("met by DKIM")
    stranger = Sender("clinic.example", "mail.relay.example")
    assert mail_dns.dmarc(stranger, (at, ["v=DMARC1; p=reject"])).wrong
    assert wrong(mail_dns.dmarc(SENDER, ("", [])), "publish at TXT _dmarc.clinic.example")
    assert wrong(mail_dns.dmarc(SENDER, (at, ["v=DMARC1"])), "no policy")
    assert wrong(mail_dns.dmarc(SENDER, (at, ["v=DMARC1; p=none"] * 2)), "leave one")


@pytest.mark.parametrize(
    ("domain", "shown", "strict", "fits"),
    [
        ("a.example", "A.example", True, True),
        ("m.a.example", "a.example", True, False),
        ("m.a.example", "a.example", False, True),
        ("a.example", "m.a.example", False, True),
        ("ba.example", "a.example", False, False),
    ],
)
def test_alignment(domain: str, shown: str, strict: bool, fits: bool) -> None:
    assert mail_dns.aligned(domain, shown, strict=strict) is fits


async def test_a_name_server_is_asked() -> None:
    key = generate_private_key(65537, 2048)
    sender = Sender("eu.clinic.example", "eu.clinic.example", dkim.Signer("clinic.example", "k1", key))
    async with DnsServer({"eu.clinic.example": ["v=spf1 mx -all"]}) as server:
        ask = mail_dns.asker(server.address)
        spf, signature, dmarc = await mail_dns.judged(sender, ask)
        assert (spf.good, signature.wrong, dmarc.good) == (True, True, False)
        # Longer than one string of a record, and the policy of the parent.
        server.texts |= {
            "k1._domainkey.clinic.example": [dkim.record(key)],
            "_dmarc.clinic.example": ["v=DMARC1; p=quarantine"],
        }
        assert [said.good for said in await mail_dns.judged(sender, ask)] == [True] * 3
        assert "_dmarc.example" not in server.asked


async def test_without_an_answer_it_says_what_to_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_dns, "LIMIT_S", 0.2)
    async with DnsServer() as server:
        server.silent = True
        found = await mail_dns.judged(SENDER, mail_dns.asker(server.address))
    assert [said.good for said in found] == [None] * 3
    assert [said.text.partition("look up ")[2] for said in found] == [
        "TXT bounce.clinic.example",
        "TXT k1._domainkey.clinic.example",
        "TXT _dmarc.clinic.example",
    ]


@pytest.mark.parametrize("server", ["dns.example", "1.2.3", "::1]:53x"])
def test_a_name_server_is_an_address(server: str) -> None:
    with pytest.raises(ValueError, match="address"):
        mail_dns.asker(server)
