"""What a reader sees, and that a user's text is inert in it."""

import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.render import MAX_SUBJECT, NO_SUBJECT, Mail, email, email_content, many_lines, one_line, shorten
from schemas.records import Content


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("Dentist\r\nBcc: spy@evil.example", "Dentist Bcc: spy@evil.example"),
        ("Dentist\n", "Dentist"),
        ("a\u2028b\u0085c\x0bd", "a b c d"),
        ("\x00\x1b[31mred\x7f", "[31mred"),
        ("a  b", "a  b"),
        ("tab\there", "tab here"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\ud800x", "\ufffdx"),
        ("שלום \u200fעולם", "שלום \u200fעולם"),
        ("", ""),
    ],
)
def test_a_header_value_is_one_line(value: str, clean: str) -> None:
    assert one_line(value) == clean


@settings(deadline=None)
@given(st.text())
def test_no_line_break_or_control_is_left_in_a_header_value(value: str) -> None:
    clean = one_line(value)
    assert clean == one_line(clean)
    assert len(clean) <= MAX_SUBJECT
    assert len(clean.splitlines()) <= 1
    assert not {unicodedata.category(char) for char in clean} & {"Cc", "Zl", "Zp", "Cs"}


@pytest.mark.parametrize(
    ("value", "limit", "cut"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("abcd efg", 6, "abcd…"),
        ("abcde\u0301fgh", 6, "abcd…"),
        ("abc👨\u200d👩\u200d👧def", 6, "abc…"),
        ("abcd👍🏽efg", 6, "abcd…"),
        ("abc🇩🇪🇫🇷x", 7, "abc🇩🇪…"),
        ("abc🇩🇪🇫🇷x", 6, "abc🇩🇪…"),
        ("abc🇩🇪🇫🇷x", 5, "abc…"),
        ("abcd❤\ufe0fefgh", 6, "abcd…"),
        ("ab\u1112\u1161\u11abcd", 4, "ab…"),
        ("a" + "\u0301" * 9, 6, "a" + "\u0301" * 4 + "…"),
        ("😀😀😀😀", 3, "😀😀…"),
    ],
)
def test_a_cut_falls_between_what_a_reader_sees(value: str, limit: int, cut: str) -> None:
    assert shorten(value, limit) == cut


@settings(deadline=None)
@given(st.text(), st.integers(2, 50))
def test_a_cut_value_is_short_and_says_so(value: str, limit: int) -> None:
    cut = shorten(value, limit)
    assert len(cut) <= limit
    assert cut == value or (cut.endswith("…") and value.startswith(cut[:-1]))


def test_a_text_keeps_its_lines_and_loses_its_controls() -> None:
    assert many_lines("a\r\nb\rc\u2028d\u0085e\x0bf\tg\x00h\x1bi") == "a\nb\nc\nd\ne\nf\tg h i"


@pytest.mark.parametrize(
    ("title", "text", "subject"),
    [
        ("Dentist", "at nine", "Dentist"),
        ("", "\n \nDentist at nine\nbring the card", "Dentist at nine"),
        ("\r\n", "", NO_SUBJECT),
        ("x" * 500, "", "x" * (MAX_SUBJECT - 1) + "…"),
    ],
)
def test_the_subject(title: str, text: str, subject: str) -> None:
    assert email(title, text).subject == subject


def test_html_is_the_text_again_with_nothing_in_it_that_acts() -> None:
    mail = email("<b>T</b>", "one <script>alert('1')</script>\ntwo & three\n\nfour \"five\"")
    assert mail.html == (
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
        "<title>&lt;b&gt;T&lt;/b&gt;</title></head>\n"
        '<body style="max-width:36em;margin:0 auto;padding:1.5em;'
        'font:1em/1.5 system-ui,-apple-system,Segoe UI,Roboto,Arial,sans-serif">\n'
        '<h1 dir="auto" style="font-size:1.25em">&lt;b&gt;T&lt;/b&gt;</h1>\n'
        '<p dir="auto">one &lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;<br>\ntwo &amp; three</p>\n'
        '<p dir="auto">four &quot;five&quot;</p>\n</body></html>\n'
    )
    assert "<h1" not in email("", "one\n\ntwo").html


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_text_becomes_markup(title: str, text: str) -> None:
    tags = _Tags()
    tags.feed(email(title, text).html)
    assert tags.seen <= {"html", "head", "meta", "title", "body", "h1", "p", "br"}


def test_html_that_was_rendered_before_is_kept() -> None:
    assert email("t", "x", "<p>y</p>") == Mail("t", "x", "<p>y</p>")


def test_a_reminders_content_becomes_a_mail() -> None:
    assert email_content(Content(title="t", text="x")) == email("t", "x")
