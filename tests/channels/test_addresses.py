"""Addresses: one form, clear faults, nothing told in logs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.addresses import REMEDIES, Address, AddressFault, AddressReason, mask, parse


@pytest.mark.parametrize(
    ("value", "spec", "name"),
    [
        ("jm@x.example", "jm@x.example", ""),
        ("  jm@x.example \n", "jm@x.example", ""),
        ("<jm@x.example>", "jm@x.example", ""),
        ("Jürgen Müller <jm@x.example>", "jm@x.example", "Jürgen Müller"),
        ('"Müller, J. <dentist>" <jm@x.example>', "jm@x.example", "Müller, J. <dentist>"),
        (r'"a \"b\" c" <jm@x.example>', "jm@x.example", 'a "b" c'),
        ("Bob\r\nBcc: spy@evil.example <bob@x.example>", "bob@x.example", "Bob Bcc: spy@evil.example"),
        ("JM@X.Example", "JM@x.example", ""),
        ("info@bücher.example", "info@xn--bcher-kva.example", ""),
        ("info@例え.テスト", "info@xn--r8jz45g.xn--zckzah", ""),
        ("a@faß.example", "a@xn--fa-hia.example", ""),
        ("a@ｅｘａｍｐｌｅ．com", "a@example.com", ""),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example", ""),
        ("o'brien+tag/x=y@x.example", "o'brien+tag/x=y@x.example", ""),
        ("me@localhost", "me@localhost", ""),
        ("me@mail.local", "me@mail.local", ""),
    ],
)
def test_addresses_in_their_one_form(value: str, spec: str, name: str) -> None:
    address = parse(value)
    assert isinstance(address, Address)
    assert (address.spec, address.name, address.needs_smtputf8) == (spec, name, False)


def test_a_foreign_local_part_is_kept_and_needs_smtputf8() -> None:
    address = parse("jürgen@bücher.example")
    assert address == Address("jürgen", "xn--bcher-kva.example")
    assert isinstance(address, Address)
    assert address.needs_smtputf8
    assert parse("ju\u0308rgen@bücher.example") == address


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", AddressReason.EMPTY),
        ("   ", AddressReason.EMPTY),
        ("Bob <>", AddressReason.EMPTY),
        ("bob", AddressReason.NO_AT),
        ("+491701234567", AddressReason.NO_AT),
        ("a@x.example, b@x.example", AddressReason.SEVERAL),
        ("a@x.example;b@x.example", AddressReason.SEVERAL),
        ("a@b@x.example", AddressReason.SEVERAL),
        ("Bob <bob@x.example", AddressReason.BRACKETS),
        ("Bob <bob@x.example> x", AddressReason.BRACKETS),
        ("a@x.example\r\n<b@x.example>\r\n<c@x.example>", AddressReason.BRACKETS),
        ("a@x.example\nb", AddressReason.CONTROL),
        ("a\x00@x.example", AddressReason.CONTROL),
        ("a\u200b@x.example", AddressReason.CONTROL),
        ("a\u2028@x.example", AddressReason.CONTROL),
        ("\ud800@x.example", AddressReason.CONTROL),
        ("@x.example", AddressReason.LOCAL),
        ("a..b@x.example", AddressReason.LOCAL),
        (".a@x.example", AddressReason.LOCAL),
        ("a b@x.example", AddressReason.LOCAL),
        ('"a b"@x.example', AddressReason.LOCAL),
        ("a@", AddressReason.DOMAIN),
        ("a@b", AddressReason.DOMAIN),
        ("a@x_y.example", AddressReason.DOMAIN),
        ("a@-x.example", AddressReason.DOMAIN),
        ("a@x..example", AddressReason.DOMAIN),
        ("a@x.example.", AddressReason.DOMAIN),
        ("a@[192.0.2.1]", AddressReason.DOMAIN),
        ("a@192.0.2.1", AddressReason.DOMAIN),
        ("a@xn--zz.example", AddressReason.DOMAIN),
        ("a@☃.example", AddressReason.DOMAIN),
        ("a@" + "ü" * 63 + ".example", AddressReason.DOMAIN),
        ("a" * 65 + "@x.example", AddressReason.TOO_LONG),
        ("ü" * 33 + "@x.example", AddressReason.TOO_LONG),
        ("a" * 60 + "@" + "b.".join(["c" * 60] * 3) + "d." + "e" * 30 + ".example", AddressReason.TOO_LONG),
        ("x" * 2000 + " <a@x.example>", AddressReason.TOO_LONG),
    ],
)
def test_what_is_no_address_has_a_reason_and_a_remedy(value: str, reason: AddressReason) -> None:
    fault = parse(value)
    assert fault == AddressFault(reason)
    assert isinstance(fault, AddressFault)
    assert fault.remedy == REMEDIES[reason]


def test_every_reason_has_a_remedy() -> None:
    assert set(REMEDIES) == set(AddressReason)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[^@\n]{0,9}@[a-zü.]{1,9}\.example", fullmatch=True))
def test_whatever_is_taken_fits_into_an_smtp_command(value: str) -> None:
    address = parse(value)
    if isinstance(address, Address):
        spec = address.spec
        assert parse(spec) == Address(address.local, address.domain)
        assert address.domain.isascii()
        assert len(spec.encode()) <= 254
        assert spec.count("@") == 1
        assert not set(spec) & set(' <>"(),;:\\[]\r\n\t')
        assert spec.isprintable()
        assert len(address.name.splitlines()) <= 1


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("anna@example.org", "a***@e…"),
        ("Anna <anna@example.org>", "a***@e…"),
        ("jürgen@bücher.example", "j***@b…"),
        ("no address at all", "n***"),
        ("@x", "***@x…"),
        ("\x00@x", "?***@x…"),
        ("", ""),
    ],
)
def test_masks(value: str, masked: str) -> None:
    assert mask(value) == masked


@settings(deadline=None)
@given(st.text(min_size=3), st.text(min_size=2))
def test_a_mask_is_short(local: str, domain: str) -> None:
    assert len(mask(f"{local}@{domain}")) <= 7
