"""DKIM: the published vectors, and what a signature of ours covers."""

import base64
import re
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from channels import dkim, render
from channels.addresses import Address
from channels.mime import Headers, compose

# RFC 8463, appendix A: two signatures of one mail, and the records that publish the keys.
MAIL = b"\r\n".join(
    (
        b"From: Joe SixPack <joe@football.example.com>",
        b"To: Suzie Q <suzie@shopping.example.net>",
        b"Subject: Is dinner ready?",
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)",
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>",
        b"",
        b"Hi.",
        b"",
        b"We lost the game.  Are you hungry yet?",
        b"",
        b"Joe.",
        b"",
    )
)
NAMES = ("from", "to", "subject", "date", "message-id", "from", "subject", "date")
BODY_HASH = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
ED25519 = (
    b" v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    b" subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
)
ED25519_SIGNATURE = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
ED25519_PUBLIC = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
RSA = (
    b" v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    b" date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
)
RSA_SIGNATURE = (
    "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2"
    "JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="
)
RSA_PUBLIC = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91"
    "y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)


@pytest.fixture(scope="module")
def rsa() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def mail(text: str = "at nine") -> bytes:
    headers = Headers(
        Address("r", "service.example", "Clinic"), Address("bob", "x.example"), "t" * 26, "service.example", 0
    )
    return compose(headers, render.email("Dentist", text))


def test_the_published_signatures_are_of_what_we_would_sign() -> None:
    head, _, body = MAIL.partition(b"\r\n\r\n")
    fields = list(dkim.header_fields(head))
    assert base64.b64encode(sha256(dkim.relaxed_body(body)).digest()).decode() == BODY_HASH
    Ed25519PublicKey.from_public_bytes(base64.b64decode(ED25519_PUBLIC)).verify(
        base64.b64decode(ED25519_SIGNATURE), sha256(dkim.signing_input(fields, NAMES, ED25519)).digest()
    )
    public = serialization.load_der_public_key(base64.b64decode(RSA_PUBLIC))
    assert isinstance(public, RSAPublicKey)
    public.verify(base64.b64decode(RSA_SIGNATURE), dkim.signing_input(fields, NAMES, RSA), PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    ("body", "relaxed"),
    [
        # RFC 6376 §3.4.4 and §3.4.5.
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \t\r\n \r\n", b""),
        (b"no line end", b"no line end\r\n"),
    ],
)
def test_bodies_in_relaxed_form(body: bytes, relaxed: bytes) -> None:
    assert dkim.relaxed_body(body) == relaxed


def test_fields_in_relaxed_form() -> None:
    # RFC 6376 §3.4.5.
    assert dkim.relaxed_field(b"A", b" X") == b"a:X"
    assert dkim.relaxed_field(b"B ", b" Y\t\r\n\tZ  ") == b"b:Y Z"


def verified(signed: bytes, key: RSAPrivateKey | Ed25519PrivateKey) -> dict[str, str]:
    """Check a signature the long way round, and return its tags."""
    head, _, body = signed.partition(b"\r\n\r\n")
    (name, value), *fields = dkim.header_fields(head)
    assert name == b"DKIM-Signature"
    parts = [part.split("=", 1) for part in value.decode().split(";")]
    tags = {name.strip(): "".join(text.split()) for name, text in parts}
    assert tags["bh"] == base64.b64encode(sha256(dkim.relaxed_body(body)).digest()).decode()
    data = dkim.signing_input(fields, tags["h"].split(":"), re.sub(rb"(?s)\bb=(?!h=).*", b"b=", value))
    signature = base64.b64decode(tags["b"])
    if isinstance(key, Ed25519PrivateKey):
        key.public_key().verify(signature, sha256(data).digest())
    else:
        key.public_key().verify(signature, data, PKCS1v15(), hashes.SHA256())
    return tags


def test_ours_holds_and_names_each_field_once_more(rsa: RSAPrivateKey) -> None:
    ed25519 = Ed25519PrivateKey.generate()
    for key, algorithm in ((rsa, "rsa-sha256"), (ed25519, "ed25519-sha256")):
        signer = dkim.Signer("service.example", "k1", key)
        signed = signer.signed(mail(), 1_764_000_000)
        assert signed == signer.signed(mail(), 1_764_000_000)
        assert signed.endswith(mail())
        tags = verified(signed, key)
        assert (tags["a"], tags["c"], tags["d"], tags["s"]) == (algorithm, "relaxed/relaxed", "service.example", "k1")
        assert tags["t"] == "1764000000"
        names = tags["h"].split(":")
        assert set(names) == set(dkim.SIGNED)
        assert [names.count(n) for n in ("From", "To", "Subject", "Message-ID", "Content-Type")] == [2] * 5
        assert [names.count(n) for n in ("Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post")] == [1] * 3
        assert max(map(len, signed.partition(b"\r\n\r\n")[0].split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "added", [b"From: e@vil.example", b"Reply-To: e@vil.example", b"List-Unsubscribe: <mailto:e@v>"]
)
def test_whoever_adds_a_field_breaks_it(rsa: RSAPrivateKey, added: bytes) -> None:
    signed = dkim.Signer("service.example", "k1", rsa).signed(mail(), 0)
    head, _, body = signed.partition(b"\r\n\r\n")
    with pytest.raises(InvalidSignature):
        verified(head + b"\r\n" + added + b"\r\n\r\n" + body, rsa)


def test_what_a_relay_does_to_spaces_and_folds_breaks_nothing(rsa: RSAPrivateKey) -> None:
    signed = dkim.Signer("service.example", "k1", rsa).signed(mail("a  b\n\n"), 0)
    folded = signed.replace(b"Subject: Dentist", b"subject:\r\n\tDentist ")
    assert folded != signed
    verified(folded, rsa)


@given(st.text(max_size=200))
def test_any_text_is_signed(text: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    verified(dkim.Signer("service.example", "k1", key).signed(mail(text), 1), key)


def test_keys_that_cannot_be_used_are_named(rsa: RSAPrivateKey) -> None:
    assert isinstance(dkim.load_key(pem(rsa)), RSAPrivateKey)
    assert isinstance(dkim.load_key(pem(Ed25519PrivateKey.generate())), Ed25519PrivateKey)
    for wrong, said in (
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (pem(generate_private_key(65537, 1024)).replace(b"PRIVATE", b"PUBLIC"), "no private key"),
        (pem(ec_key(SECP256R1())), "neither an RSA nor"),
    ):
        with pytest.raises(ValueError, match=said):
            dkim.load_key(wrong)


def test_what_the_dns_publishes() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    assert dkim.record(key) == f"v=DKIM1; k=ed25519; p={ED25519_PUBLIC}"
    assert [dkim.is_selector(s) for s in ("k1", "2026.mail", "", "a_b", "-a", "a" * 64)] == [True, True] + [False] * 4
