"""Addresses as keyed hashes."""

import pytest

from schemas import hashing
from schemas.hashing import AddressHash
from schemas.names import Channel

OLD, NEW = (1, b"an older secret of ours"), (2, b"a newer secret of ours!")


def test_however_an_address_is_written_it_is_the_same() -> None:
    h = AddressHash((OLD,))
    assert h.key(Channel.EMAIL, " Anna@People.Example ") == h.key(Channel.EMAIL, "anna@people.example")
    assert h.key(Channel.SMS, "+1 (201) 555-0123") == h.key(Channel.SMS, "+12015550123")
    assert h.key(Channel.WHATSAPP, "whatsapp:+12015550123") == h.key(Channel.WHATSAPP, "+12015550123")
    assert h.key(Channel.PUSH, "aB") != h.key(Channel.PUSH, "ab")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("anna@xn--fa-hia.de", "Anna@Faß.de"),
        ("anna@xn--mnchen-3ya.example", "anna@mu\u0308nchen.example"),
        ("anna@people.example", "Anna Weiß <anna@people.example>"),
        ("anna@people.example", '"Weiß, Anna" <anna@PEOPLE.example>'),
        ("anna@people.example", "anna@ｐｅｏｐｌｅ。example"),
        ("a\u0308nne@people.example", "Änne@people.example"),
    ],
)
def test_a_mailbox_is_the_same_as_its_provider_tells_of_it_and_as_people_write_it(told: str, kept: str) -> None:
    h = AddressHash((OLD,))
    assert h.key(Channel.EMAIL, told) == h.key(Channel.EMAIL, kept)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("anna@faß.de", "anna@fass.de"),
        ("strasse@people.example", "straße@people.example"),
        ("anna@аpple.example", "anna@apple.example"),
        ("anna+news@people.example", "anna@people.example"),
        ("anna@no domain", "anna@nodomain"),
    ],
)
def test_a_mailbox_of_somebody_else_is_another(one: str, other: str) -> None:
    h = AddressHash((OLD,))
    assert h.key(Channel.EMAIL, one) != h.key(Channel.EMAIL, other)


def test_channel_scope_secret_and_version_are_in_the_key() -> None:
    h = AddressHash((OLD,))
    keys = {
        h.key(Channel.SMS, "+12015550123"),
        h.key(Channel.WHATSAPP, "+12015550123"),
        h.key(Channel.SMS, "+12015550123", "offers"),
        AddressHash((NEW,)).key(Channel.SMS, "+12015550123"),
        AddressHash().key(Channel.SMS, "+12015550123"),
    }
    assert len(keys) == 5
    assert {key.split(".")[0] for key in keys} == {"0", "1", "2"}
    assert not any("12015550123" in key for key in keys)


def test_a_changed_secret_still_finds_what_the_old_one_wrote() -> None:
    both = hashing.parse("2:a newer secret of ours!, 1:an older secret of ours")
    assert both == AddressHash((NEW, OLD))
    assert both.version == 2
    assert AddressHash((OLD,)).key(Channel.SMS, "+1") in both.keys(Channel.SMS, "+1")
    assert "secret" not in repr(both)
    assert hashing.parse("one secret without version") == AddressHash(((1, b"one secret without version"),))
    assert hashing.parse("") == AddressHash()


@pytest.mark.parametrize(
    "text",
    [
        "2:short",
        "x:a secret that is long enough",
        "0:a secret that is long enough",
        "1:a secret that is long enough,1:a secret that is long, too",
    ],
)
def test_what_is_no_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
        hashing.parse(text)
    assert "long" not in str(caught.value).replace("shorter", "")


@pytest.mark.parametrize("written", ["+44 (0)20 7946 0958", "tel:+44-20-7946-0958", "whatsapp:+442079460958"])
def test_a_number_has_one_key_however_it_is_written(written: str) -> None:
    known = AddressHash(((1, b"a secret of sixteen"),))
    assert known.key(Channel.SMS, written) == known.key(Channel.SMS, "+442079460958")
