"""Templates: six outputs of one, in each reader's language and clock; nothing of a value does anything."""

import html
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import formats
from channels.shelf import KEPT, Shelf
from channels.template_check import check
from channels.templates import About, Source, UnsaidError, Version, compiled, wanted
from channels.word_reasons import WordReason
from schemas.names import Channel
from tests.effort import times

VISIT = {
    "template.toml": 'locale = "en"\n[variables.name]\nsample = "Anna"\nmost = 30\n',
    "subject.txt": "Your visit on {{ at|date }}",
    "text.txt": "Dear {{ name }},\n\nwe expect you on {{ at|datetime }}.\n"
    "{{ pills|plural(one='# pill', other='# pills') }}, {{ price|money('EUR') }}.",
    "html.html": '<p>Dear {{ name }}, <a href="{{ link|url }}">your visit</a> is on {{ at|datetime }}.</p>',
    "sms.txt": "{{ name }}: {{ at|datetime('short') }}",
    "whatsapp.txt": "*{{ name }}*, {{ at|time }}",
    "voice.txt": "Hello {{ name }}. Your visit is on {{ at|date('full') }} at {{ at|time }}.",
    "push.txt": "{{ name }}, {{ at|time }}",
    "de/text.txt": "Guten Tag {{ name }},\n\nwir erwarten Sie am {{ at|datetime }}.\n"
    "{{ pills|plural(one='# Tablette', other='# Tabletten') }}, {{ price|money('EUR') }}.",
    "de/subject.txt": "Ihr Termin am {{ at|date }}",
    "de-AT/subject.txt": "Ihr Termin im {{ at|date }}",
}
VALUES = {"name": "Anna", "at": "2027-01-05T08:30:00Z", "pills": "1", "price": "1234.5", "link": "https://a.example/x"}


def made(files: dict[str, str], name: str = "visit", number: int = 1) -> Version:
    version, faults = compiled(Source(name, number, files))
    assert version is not None, [str(fault) for fault in faults]
    return version


def wrong(text: str, file: str = "text.txt") -> str:
    version, faults = compiled(Source("visit", 1, {"text.txt": "x", file: text}))
    assert version is None, text
    return "; ".join(str(fault) for fault in faults)


def test_one_template_is_six_outputs() -> None:
    version, about = made(VISIT), About("en-GB", "Europe/London")
    mail = version.say(Channel.EMAIL, VALUES, about)
    assert mail.title == "Your visit on 5 January 2027"
    assert mail.text == "Dear Anna,\n\nwe expect you on 5 January 2027, 08:30.\n1 pill, €1,234.50."
    assert mail.html == ('<p>Dear Anna, <a href="https://a.example/x">your visit</a> is on 5 January 2027, 08:30.</p>')
    said = {c: version.say(c, VALUES, about).text for c in (Channel.SMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH)}
    assert said == {
        Channel.SMS: "Anna: 05/01/2027, 08:30",
        Channel.WHATSAPP: "*Anna*, 08:30",
        Channel.VOICE: "Hello Anna. Your visit is on Tuesday, 5 January 2027 at 08:30.",
        Channel.PUSH: "Anna, 08:30",
    }
    assert version.say(Channel.PUSH, VALUES, about).title == "Your visit on 5 January 2027"
    assert check(version) == []


def test_each_reader_has_their_language_their_clock_and_their_marks() -> None:
    version = made(VISIT)
    austrian = version.say(Channel.EMAIL, VALUES, About("de-AT", "Europe/Vienna"))
    assert austrian.title == "Ihr Termin im 5. Jänner 2027"
    plain = austrian.text.replace("\u00a0", " ").replace("\u202f", " ")
    assert plain.endswith("wir erwarten Sie am 5. Jänner 2027, 09:30.\n1 Tablette, € 1.234,50.")
    german = version.say(Channel.EMAIL, VALUES, About("de_CH", "Europe/Berlin"))
    assert german.title == "Ihr Termin am 5. Januar 2027"
    # No other language is mixed in: French has none of its own, so all of it is in the default one.
    french = version.say(Channel.EMAIL, VALUES, About("fr-FR", "Asia/Tokyo"))
    assert french.title == "Your visit on January 5, 2027"
    assert "5:30" in french.text
    # What German lacks is said by its own text, not by an English part.
    assert version.say(Channel.SMS, VALUES, About("de", "UTC")).text.startswith("Guten Tag Anna")
    assert version.say(Channel.EMAIL, VALUES, About("de", "UTC")).html == ""


@pytest.mark.parametrize(
    ("name", "stands_in"),
    [
        ("de-AT", ("de-AT", "de")),
        ("de_AT", ("de-AT", "de")),
        ("zh-TW", ("zh-Hant-TW", "zh-Hant")),
        ("zh-Hant-HK", ("zh-Hant-HK", "zh-Hant")),
        ("zh-CN", ("zh-Hans-CN", "zh-Hans", "zh")),
        ("sr-Latn", ("sr-Latn",)),
        ("pt-BR", ("pt-BR", "pt")),
        ("xx", ()),
        ("", ()),
        ("../../etc", ()),
    ],
)
def test_what_stands_in_for_a_locale(name: str, stands_in: tuple[str, ...]) -> None:
    assert formats.chain(name) == stands_in


def test_a_wall_clock_stays_and_an_instant_is_put_on_the_readers_clock() -> None:
    version = made({"text.txt": "{{ at|time }}"})
    for at, shown in (("2026-12-01T09:00", "09:00"), ("2026-12-01T09:00:00+01:00", "08:00")):
        assert version.say(Channel.SMS, {"at": at}, About("en-GB", "UTC")).text == shown
    due = made({"text.txt": "{{ reminder.due|datetime('short') }}"})
    about = About("en-GB", "America/New_York", datetime(2026, 12, 1, 2, 0, tzinfo=UTC))
    assert due.say(Channel.SMS, {}, about).text == "30/11/2026, 21:00"


def test_plurals_are_those_of_the_language() -> None:
    forms = "{{ n|plural(one='# tabletka', few='# tabletki', many='# tabletek', other='# tabletki') }}"
    version = made({"template.toml": 'locale = "pl"', "text.txt": forms})
    said = [version.say(Channel.SMS, {"n": n}, About("pl")).text for n in ("1", "3", "5", "22", "1.5")]
    assert said == ["1 tabletka", "3 tabletki", "5 tabletek", "22 tabletki", "1,5 tabletki"]
    assert "needs few, many" in str(
        compiled(Source("x", 1, {"template.toml": 'locale = "pl"', "text.txt": "{{ n|plural(one='a', other='b') }}"}))[
            1
        ][0]
    )


def test_an_sms_gets_no_space_that_doubles_its_price() -> None:
    said = made({"text.txt": "{{ at|time }}"}).say(Channel.SMS, {"at": "2026-12-01T09:00"}, About("en-US", "UTC"))
    assert said.text == "9:00 AM"


NOT_ALLOWED = [
    ("{{ 7 * 7 }}", "mul"),
    ("{{ 10 ** 9 }}", "pow"),
    ("{% for x in range(1000000000) %}x{% endfor %}", "nothing may be called"),
    ("{% for x in name %}{{ x }}{% endfor %}", "split"),
    ("{% for a in b|split %}{% for c in d|split %}x{% endfor %}{% endfor %}", "loop"),
    ("{{ name.__class__.__mro__ }}", "no parts"),
    ("{{ name['__class__'] }}", "brackets"),
    ("{{ name|attr('__class__') }}", "no filter attr"),
    ("{{ ''.join(name) }}", "called"),
    ("{{ '%s'|format(name) }}", "no filter format"),
    ("{{ name|safe }}", "no filter safe"),
    ("{{ name|shout }}", "no filter shout"),
    ("{{ name|upper(**x) }}", "one by one"),
    ("{{ self }}", "no value"),
    ("{{ reminder }}", "no value"),
    ("{{ reminder.address }}", "no reminder.address"),
    ("{{ reminder.__init__ }}", "no reminder"),
    ("{{ data.items }}", "data["),
    ("{{ loop }}", "no value"),
    ("{{ lipsum() }}", "called"),
    ("{% include 'other' %}", "include"),
    ("{% import 'other' as x %}", "import"),
    ("{% extends 'other' %}", "extends"),
    ("{% macro x() %}{% endmacro %}", "macro"),
    ("{% set x = 1 %}", "assign"),
    ("{{ name", "cannot be read"),
    ("{% if x is sameas(y) %}{% endif %}", "no test sameas"),
    ("{{ at|date('yyyy') }}", "style"),
    ("{{ price|money }}", "EUR"),
    ("{{ _reader }}", "no value"),
    ("x" * 40_000, "characters"),
]


@pytest.mark.parametrize(("text", "why"), NOT_ALLOWED)
def test_what_a_template_may_not_do_is_refused_with_its_place(text: str, why: str) -> None:
    found = wrong(text)
    assert why in found
    assert found.startswith("text.txt")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('<a href="{{ link }}">x</a>', "url"),
        ("<a href='{{ a|url }}{{ b }}'>x</a>", "url"),
        ("<p title={{ name }}>x</p>", "quotes"),
        ("<p {{ name }}>x</p>", "quoted attributes only"),
        ("<{{ name }}>", "right behind"),
        ("&{{ name }};", "right behind"),
        ("<script>{{ name }}</script>", "script"),
        ("<style>{{ name }}</style>", "style"),
        ('<p style="color: {{ name }}">x</p>', "style"),
        ('<p onclick="x">x</p>', "onclick"),
        ("<!-- {{ name }} -->", "comment"),
        ("<iframe src='https://x.example/'></iframe>", "iframe"),
        ("<p title='{{ name }}'", "does not end"),
    ],
)
def test_no_value_stands_in_html_where_escaping_does_not_help(text: str, why: str) -> None:
    assert why in wrong(text, "html.html")


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "data:text/html,x", "//evil.example", " java\nscript:x", 'https://a"b']
)
def test_only_a_link_is_a_link(link: str) -> None:
    with pytest.raises(UnsaidError) as stopped:
        made(VISIT).say(Channel.EMAIL, {**VALUES, "link": link}, About())
    assert stopped.value.reason is WordReason.FAILED
    assert link not in str(stopped.value)


HOSTILE = (
    "{{ 7*7 }}{% for x in y %}${7*7}#{7*7}<script>alert(1)</script>\r\nBcc: all@people.example\u202e\u2066\x00\x1b[2J"
)


def test_a_value_is_inert_everywhere() -> None:
    version = made(VISIT)
    for channel in (Channel.EMAIL, Channel.SMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH, Channel.WEBHOOK):
        said = version.say(channel, {**VALUES, "name": HOSTILE}, About("en", "UTC"))
        whole = said.title + said.text + said.html
        assert "49" not in whole
        assert not any(char in whole for char in "\r\x00\x1b\u202e\u2066")
        assert "\n" not in said.title
        assert "<script" not in said.html
        assert "{{ 7*7 }}" in said.text


@given(st.text(max_size=200).filter(lambda text: text.strip() != ""))
def test_whatever_a_value_is_html_holds_it_as_text_alone(value: str) -> None:
    version = made({"text.txt": "x", "html.html": '<p title="{{ v }}">{{ v }}</p>'})
    try:
        made_html = version.say(Channel.EMAIL, {"v": value}, About()).html
    except UnsaidError:
        return
    inside = made_html.removeprefix('<p title="').removesuffix("</p>")
    assert inside.count("<") == 0
    assert inside.count('"') == 1
    shown = html.unescape(inside.partition('">')[2])
    assert not set(shown) & set("\r\x00\u202e")


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ("{{ at|date }}", {"at": "tomorrow"}, WordReason.FAILED),
        ("{{ n|number }}", {"n": "many"}, WordReason.FAILED),
        ("{{ n|number }}", {"n": "1e400"}, WordReason.FAILED),
        ("{{ n|money(c) }}", {"n": "1", "c": "Euros"}, WordReason.FAILED),
        ("{{ n|int }}", {"n": "x"}, WordReason.FAILED),
        ("{% if x %}{% endif %}", {}, WordReason.MISSING),
        ("{% if x == 'y' %}a{% endif %}b", {"x": "n", "unused": "1"}, None),
        ("{% for i in l|split %}{{ i }}{% endfor %}", {"l": "a,b,c"}, None),
        ("{% for i in l|split %}{{ i }}{% endfor %}", {"l": "a," * 200}, WordReason.FAILED),
        ("{% for i in l|split %}{{ l }}{% endfor %}", {"l": ",".join(["x" * 100] * 100)}, WordReason.TOO_LONG),
        ("{{ n|default('friend') }}", {}, None),
        ("{% if n is defined %}{{ n }}{% else %}friend{% endif %}", {}, None),
        ("{{ n|upper }} {{ n|default('x') }}", {}, WordReason.MISSING),
        ("{% if n == 'a' %}text{% endif %}", {"n": "b"}, WordReason.FAILED),
    ],
)
def test_it_is_whole_or_it_is_not_sent(text: str, values: dict[str, str], reason: WordReason | None) -> None:
    version = made({"text.txt": text})
    if reason is None:
        assert version.say(Channel.SMS, values, About()).text
        return
    with pytest.raises(UnsaidError) as stopped:
        version.say(Channel.SMS, values, About())
    assert stopped.value.reason is reason
    assert not any(value in str(stopped.value) for value in values.values() if len(value) > 2)


def test_the_worst_case_is_looked_at_in_each_language() -> None:
    long = {"text.txt": "x", "sms.txt": "Hello {{ a }} {{ b }} {{ c }}, {{ d }}"}
    assert "SMS gets 4 parts at the worst, and 3 are allowed" in "".join(map(str, check(made(long))))
    declared = long | {"template.toml": "".join(f"[variables.{name}]\nmost = 20\n" for name in "abcd")}
    assert check(made(declared)) == []
    assert check(made(declared), sms_parts=1) != []
    # Words that are the mail's, too, are cut for an SMS as its rule says; that is no fault.
    assert check(made({"text.txt": "x" * 2000})) == []
    said = {"text.txt": "x", "de/subject.txt": "Termin {{ a }}{{ b }}{{ c }}", "de/text.txt": "y"}
    assert "de/text.txt" in str(check(made(said))[0])


def test_words_that_a_value_chooses_are_checked_with_its_sample() -> None:
    files = {"text.txt": "{% if kind == 'pills' %}Your pills{% endif %}"}
    assert "give samples" in str(check(made(files))[0])
    assert check(made(files | {"template.toml": '[variables.kind]\nsample = "pills"'})) == []


def test_files_that_are_no_parts_are_named() -> None:
    files = {
        "text.txt": "x",
        "sms.text": "y",
        "de/html.html": "<p>x</p>",
        "klingon/text.txt": "x",
        "de_at/text.txt": "x",
    }
    _, faults = compiled(Source("visit", 1, files))
    assert {fault.file for fault in faults} == {"sms.text", "klingon/text.txt", "de_at/text.txt"}
    assert "name the folder as a locale: de-AT" in "".join(map(str, faults))
    assert "de/text.txt: write this" in str(
        compiled(Source("visit", 1, {"text.txt": "x", "de/html.html": "<p>x</p>"}))[1][0]
    )
    assert "text.txt: write this" in str(compiled(Source("visit", 1, {"subject.txt": "x"}))[1][0])
    assert "variables.a" in str(
        compiled(Source("v", 1, {"text.txt": "x", "template.toml": "[variables]\na = 3"}))[1][0]
    )


def test_a_shelf_knows_the_newest_and_what_was_sent_before() -> None:
    first, second = made({"text.txt": "one"}), made({"text.txt": "two"}, number=2)
    edited = made({"text.txt": "one, edited"})
    shelf = Shelf([first, second])
    assert shelf.find("visit") is second
    assert shelf.find("visit@1") is first
    assert shelf.find("visit@3") is None
    assert shelf.find("other") is None
    shelf.replace([edited])
    assert shelf.find("visit") is edited
    assert shelf.known(first.ref) is first
    assert shelf.known(second.ref) is second
    assert shelf.known(edited.ref) is edited
    assert shelf.known("visit@1.00000000") is None
    assert first.ref != edited.ref
    for n in range(KEPT + 10):
        shelf.replace([replace(first, ref=f"visit@1.{n:08x}")])
    assert shelf.known(first.ref) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pills", ("pills", 0)),
        ("pills@3", ("pills", 3)),
        ("a.b-c_d@12", ("a.b-c_d", 12)),
        ("pills@0", None),
        ("pills@", None),
        ("../pills", None),
        ("pills\n", None),
        ("", None),
    ],
)
def test_what_an_event_may_ask_for(text: str, found: tuple[str, int] | None) -> None:
    assert wanted(text) == found


TOKENS = (
    "{{ ", " }}", "{% ", " %}", "{# ", " #}", "if ", "endif", "else", "elif ", "for ", "endfor", " in ", "is defined",
    "not ", "and ", "or ", "name", "at", "n", "data", "reminder", ".due", ".title", "['x']", "[0]", "|", "date", "time",
    "split", "plural", "(one='a', other='b')", "('short')", "default", "(", ")", "'x'", "1", "-1", "10**9", "~", "+",
    "*", "==", "<", ">", "&", "<a href='", "'>", "</a>", "<p ", "<!--", "-->", "self", "loop", "super()", "__class__",
    "\n", "truncate", "length", "join", "money", "url", "set ", "block ", "endblock", "raw", "endraw", "é",
    "\x00", "{", "}",
)  # fmt: skip


@settings(deadline=None, max_examples=times(500))
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map("".join), st.booleans())
def test_whatever_is_written_is_a_fault_or_whole_words(text: str, markup: bool) -> None:
    version, faults = compiled(Source("v", 1, {"text.txt": "x", "html.html" if markup else "sms.txt": text}))
    assert (version is None) == bool(faults)
    if version is None:
        return
    check(version)
    for values in ({}, {"name": HOSTILE, "at": "2026-12-01T09:00", "n": "3", "x": "y"}):
        try:
            said = version.say(Channel.EMAIL if markup else Channel.SMS, values, About("en", "UTC"))
        except UnsaidError:
            continue
        assert "<script" not in said.html
        assert "object at 0x" not in said.text + said.html
        assert "Undefined" not in said.text + said.html
