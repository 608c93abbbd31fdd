"""Who alone is sent to: what an entry takes in, what is no entry, and that what cannot be read is not on the list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.send_only import SendOnlyTo, read
from schemas.names import Channel

MAIL, SMS, HOOK = Channel.EMAIL, Channel.SMS, Channel.WEBHOOK


@pytest.mark.parametrize(
    ("entries", "channel", "address", "allowed"),
    [
        ("anna@example.org", MAIL, "anna@example.org", True),
        ("anna@example.org", MAIL, "Anna <ANNA@Example.ORG>", True),
        ("anna@example.org", MAIL, "hanna@example.org", False),
        ("anna@example.org", MAIL, "anna+x@example.org", False),
        ("anna@example.org", MAIL, "anna@example.org.evil.example", False),
        ("example.org", MAIL, "anyone@example.org", True),
        ("@example.org", MAIL, "anyone@example.org", True),
        ("example.org", MAIL, "anyone@mail.example.org", False),
        ("*.example.org", MAIL, "anyone@a.mail.example.org", True),
        ("*.example.org", MAIL, "anyone@example.org", False),
        ("*.example.org", MAIL, "anyone@badexample.org", False),
        ("münchen.example", MAIL, "a@xn--mnchen-3ya.example", True),
        ("example.org", MAIL, '"a@example.org"@evil.example', False),
        ("example.org", MAIL, "a@evil.example,b@example.org", False),
        ("example.org", MAIL, "no address", False),
        ("example.org", MAIL, "", False),
        ("+49", MAIL, "anna@example.org", False),
        ("+4930", SMS, "+49 30 123456", True),
        ("+49 (30)", SMS, "+4930123456", True),
        ("+4930", SMS, "+4931123456", False),
        ("+4930", SMS, "004930123456", False),
        ("+4930", Channel.WHATSAPP, "whatsapp:+4930123456", True),
        ("+4930", Channel.VOICE, "tel:+4930123456", True),
        ("example.org", SMS, "+4930123456", False),
        ("example.org", HOOK, "https://example.org/hook", True),
        ("example.org", HOOK, "https://user@example.org:8443/hook?x", True),
        ("example.org", HOOK, "https://example.org@evil.example/", False),
        ("example.org", HOOK, "https://evil.example/example.org", False),
        ("example.org", HOOK, "https://[broken", False),
        ("=http://127.0.0.1:8080/x", HOOK, "http://127.0.0.1:8080/x", True),
        ("=http://127.0.0.1:8080/x", HOOK, "http://127.0.0.1:8080/y", False),
        ("=token-1", Channel.PUSH, "token-1", True),
        ("example.org, +49", Channel.PUSH, "token-1", False),
        ("b@example.org, +49, example.net", MAIL, "x@example.net", True),
    ],
)
def test_who_is_on_the_list(entries: str, channel: Channel, address: str, allowed: bool) -> None:
    found, faults = read(entries)
    assert faults == []
    assert found.allows(channel, address) is allowed


@given(st.sampled_from(list(Channel)), st.text())
def test_without_a_list_everybody_is_sent_to(channel: Channel, address: str) -> None:
    assert read("")[0] == SendOnlyTo()
    assert SendOnlyTo().allows(channel, address)


@given(st.sampled_from(list(Channel)), st.text())
def test_no_address_makes_the_look_fail(channel: Channel, address: str) -> None:
    assert read("=x, +49, a@example.org, example.net")[0].allows(channel, address) in (True, False)


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        (",", "has no entry; name who may be sent to, or leave it out to send to everybody"),
        ("=", "'=' needs an address behind it"),
        ("+", "'+' is no beginning of a phone number; use such as +4930"),
        ("+49x", "'+49x' is no beginning of a phone number; use such as +4930"),
        ("an na@example.org", "'a***@e…' is no mail address; use such as anna@example.org"),
        ("Anna <anna@example.org>", "'a***@e…' is no mail address; use such as anna@example.org"),
        ("4930", "'4930' is no domain; use example.org, *.example.org, an address, +49 or =TOKEN"),
        ("*", "'*' is no domain; use example.org, *.example.org, an address, +49 or =TOKEN"),
    ],
)
def test_what_is_no_entry_is_named(entries: str, fault: str) -> None:
    assert read(entries)[1] == [fault]
