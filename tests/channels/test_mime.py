"""A mail as bytes: the headers we mean and no others, the same bytes each time."""

import email
import email.header
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import render
from channels.addresses import Address
from channels.foot_words import ENGLISH, WORDS, foot_words
from channels.mime import Headers, compose, encoded_words, feedback_id, stuffed

TOKEN = "abcdefghij234567abcdefghij"
HEADERS = ["Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Auto-Submitted", "Content-Type"]


def composed(title: str = "Dentist", text: str = "at nine", *, name: str = "", local: str = "bob") -> bytes:
    sender = Address("reminders", "service.example", "Reminders")
    recipient = Address(local, "x.example", render.one_line(name, render.MAX_NAME))
    headers = Headers(sender, recipient, TOKEN, "service.example", 1_764_000_000_123)
    return compose(headers, render.email(title, text))


def decoded(value: str) -> str:
    """Read a header as RFC 2047 says, by the standard library's older parser."""
    return str(email.header.make_header(email.header.decode_header(value)))


def raw_headers(data: bytes) -> dict[str, str]:
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    assert len(message.keys()) == len(set(message.keys()))
    return {key: str(value) for key, value in message.items()}


def test_one_click_headers_are_lines_of_their_own() -> None:
    url = "https://notify.example/l/" + "Aa0-_" * 150
    headers = Headers(Address("a", "b.example"), Address("c", "d.example"), TOKEN, "b.example", 0, url)
    lines = compose(headers, render.email("t", "x")).split(b"\r\n")
    assert f"List-Unsubscribe: <{url}>".encode() in lines
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
    assert max(len(line) for line in lines) <= 998


@pytest.mark.parametrize(
    "url", ["https://x.example/a\r\nBcc: e@vil.example", "https://x/>", "mailto:a@b", "https://x/é"]
)
def test_an_address_to_unsubscribe_at_is_no_way_into_the_headers(url: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        compose(Headers(Address("a", "b"), Address("c", "d"), TOKEN, "b", 0, url), render.email("t", "x"))


def test_a_mail_that_unsubscribes_stands_beside_the_link() -> None:
    url, mailto = "https://notify.example/l/" + "a" * 900, "mailto:stop@b.example?subject=" + "b" * 900
    headers = Headers(Address("a", "b.example"), Address("c", "d.example"), TOKEN, "b.example", 0, url, mailto)
    made = compose(headers, render.email("t", "x"))
    assert f"List-Unsubscribe: <{url}>,\r\n <{mailto}>\r\n".encode() in made
    assert max(len(line) for line in made.split(b"\r\n")) <= 998
    for wrong in ("mailto:a@b\r\nBcc: e@vil.example", "mailto:a@b>", "https://x.example/a"):
        with pytest.raises(ValueError, match="mailto"):
            compose(Headers(headers.sender, headers.recipient, TOKEN, "b", 0, url, wrong), render.email("t", "x"))


@pytest.mark.parametrize(
    ("category", "tenant", "domain", "made"),
    [
        ("visits", "north", "mail.clinic.example", "visits:north:reminder:mailclinicexamp"),
        ("a:b\r\nBcc: x", "", "b.ex", "a-b--Bcc--x::reminder:bexxx"),
        ("é" * 100, "t", "xn--bcher-kva.example", f"{'-' * 40}:t:reminder:xnbcherkvaexamp"),
    ],
)
def test_complaints_are_counted_by_four_parts(category: str, tenant: str, domain: str, made: str) -> None:
    assert feedback_id(category, tenant, domain) == made
    assert 5 <= len(made.rpartition(":")[2]) <= 15


def test_links_stand_below_text_and_html() -> None:
    mail = render.email("Dentist", "at nine")
    assert render.linked(mail, "", "", "") == mail
    linked = render.linked(mail, "https://x/c", "https://x/u?a&b", "https://x/p")
    assert linked.text == (
        "at nine\n\nConfirm: https://x/c\n\n-- \nUnsubscribe: https://x/u?a&b\nYour preferences: https://x/p\n"
    )
    body, end = linked.html.split("</body>")
    assert end == "</html>\n"
    assert '<a href="https://x/u?a&amp;b">Unsubscribe</a>' in body
    assert body.index("at nine") < body.index("https://x/c") < body.index("https://x/u")
    assert render.linked(render.email("t", "x", "<p>x</p>"), "https://x/c", "", "").html.startswith("<p>x</p>")
    german = render.linked(mail, "https://x/c", "https://x/u", "", foot_words("de-AT"))
    assert "Bestätigen: https://x/c\n\n-- \nAbbestellen: https://x/u\n" in german.text
    assert ">Abbestellen</a>" in german.html


@pytest.mark.parametrize("locale", ["", "en-GB", "xx", "../de"])
def test_what_links_say_is_english_where_nothing_else_is_known(locale: str) -> None:
    assert foot_words(locale) is ENGLISH


def test_every_language_says_all_three() -> None:
    assert all(len({said.confirm, said.unsubscribe, said.preferences}) == 3 for said in WORDS.values())


def test_one_mail_in_full() -> None:
    assert composed("Zähne", "Grüße\n.\nEnde", name="Bob") == (
        b"Date: Mon, 24 Nov 2025 16:00:00 +0000\r\n"
        b"From: Reminders <reminders@service.example>\r\n"
        b"To: Bob <bob@x.example>\r\n"
        b"Subject: =?utf-8?b?WsOkaG5l?=\r\n"
        b"Message-ID: <abcdefghij234567abcdefghij@service.example>\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Auto-Submitted: auto-generated\r\n"
        b'Content-Type: multipart/alternative; boundary="=_abcdefghij234567abcdefghij"\r\n'
        b"\r\n"
        b"--=_abcdefghij234567abcdefghij\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: base64\r\n"
        b"\r\n"
        b"R3LDvMOfZQ0KLg0KRW5kZQ==\r\n"
        b"--=_abcdefghij234567abcdefghij\r\n"
        b'Content-Type: text/html; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n"
        b"\r\n"
        b"<!DOCTYPE html>\r\n"
        b'<html><head><meta charset=3D"utf-8">\r\n'
        b'<meta name=3D"viewport" content=3D"width=3Ddevice-width">\r\n'
        b'<meta name=3D"color-scheme" content=3D"light dark">\r\n'
        b"<title>Z=C3=A4hne</title></head>\r\n"
        b'<body style=3D"max-width:36em;margin:0 auto;padding:1.5em;font:1em/1.5 syst=\r\n'
        b'em-ui,-apple-system,Segoe UI,Roboto,Arial,sans-serif">\r\n'
        b'<h1 dir=3D"auto" style=3D"font-size:1.25em">Z=C3=A4hne</h1>\r\n'
        b'<p dir=3D"auto">Gr=C3=BC=C3=9Fe<br>\r\n'
        b".<br>\r\n"
        b"Ende</p>\r\n"
        b"</body></html>\r\n"
        b"\r\n"
        b"--=_abcdefghij234567abcdefghij--\r\n"
    )


@pytest.mark.parametrize(
    "value",
    [
        "=?UTF-8?Q?=0A?=Bcc: spy@evil.example",
        "Pay 💩 bill=?UTF-8?Q?=0A?=Bcc: spy@evil.example",
        "=?utf-8?b?DQpCY2M6IHNweUBldmlsLmV4YW1wbGU=?=",
        "a =?us-ascii?q?b?= c",
        "x" * 60,
        "word " * 29,
        '"quoted" \\ (comment) <a@b.example>, c@d.example;',
        " leading",
        "-- ",
    ],
)
def test_what_a_user_writes_stays_what_it_is_in_any_header(value: str) -> None:
    data = composed(value, name=value)
    headers = raw_headers(data)
    assert list(headers) == HEADERS
    assert decoded(headers["Subject"]) == render.one_line(value)
    name, _, rest = decoded(headers["To"]).rpartition(" <")
    assert (name.strip(), rest) == (render.one_line(value, render.MAX_NAME), "bob@x.example>")


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_text_gives_exactly_our_headers_and_comes_back(title: str, text: str, name: str) -> None:
    data = composed(title, text, name=name)
    headers = raw_headers(data)
    assert list(headers) == HEADERS
    assert decoded(headers["Subject"]) == render.email(title, text).subject
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert data.isascii()
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert b"\n" not in data.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    parts = [part.get_payload(decode=True) for part in parsed.iter_parts()]
    expected = render.email(title, text)
    assert parts == [part.replace("\n", "\r\n").encode() for part in (expected.text, expected.html)]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_encoded_words_are_short_and_whole(value: str) -> None:
    lines = encoded_words(value).split("\r\n ")
    assert all(len(line) <= 75 for line in lines)
    for line in lines:
        [(raw, charset)] = email.header.decode_header(line)
        assert charset == "utf-8"
        assert isinstance(raw, bytes)
        raw.decode()


def test_lines_of_headers_fit() -> None:
    data = composed("é" * 150, name="é" * 100, local="b" * 64)
    head = data.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 78 for line in head.split(b"\r\n") if not line.startswith(b"Content-Type"))


def test_an_address_that_needs_utf8_goes_as_utf8() -> None:
    assert "To: <jürgen@x.example>\r\n".encode() in composed(local="jürgen")
    assert "To: Bob <jürgen@x.example>\r\n".encode() in composed(local="jürgen", name="Bob")


@pytest.mark.parametrize("token", ["", "a b", "a\r\nb", "x" * 101, "a>b", ".a"])
def test_a_token_that_could_break_a_header_is_our_mistake(token: str) -> None:
    sender = Address("reminders", "service.example")
    with pytest.raises(ValueError, match="token"):
        compose(Headers(sender, sender, token, "service.example", 0), render.email("t", "x"))


@settings(deadline=None)
@given(st.lists(st.sampled_from([b".", b"..", b"a", b"", b".a", b"a."])))
def test_dots_at_the_start_of_lines_are_doubled(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    sent = stuffed(message)
    assert b"\r\n.\r\n" not in b"\r\n" + sent
    undone = [line[1:] if line.startswith(b".") else line for line in sent.split(b"\r\n")]
    assert b"\r\n".join(undone) == (message or b"\r\n")
