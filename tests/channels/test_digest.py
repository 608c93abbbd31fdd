"""Several reminders as one message: every word of each is there, on every channel, and stays inert."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import digest, limits, render
from channels.digest import Part
from channels.layout import Foot
from channels.templates import About, Source, UnsaidError, Version, compiled
from schemas.names import Channel
from tests.rules.life import examples

FOOT = Foot("Clinic", "Call 01", "1 Long Way")
TWO = [Part("Pills", "Take two.\n\nWith water."), Part("", "Dentist at ten")]
_words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=30)


def test_a_mail_names_them_all_and_has_one_foot() -> None:
    made = digest.mail(TWO, FOOT, "de-AT")
    assert made.subject == "Erinnerungen (2): Pills, Dentist at ten"
    assert made.text == (
        "Erinnerungen (2)\n\n1. Pills\nTake two.\n\nWith water.\n\n2. Dentist at ten\n\nClinic\nCall 01\n1 Long Way"
    )
    assert made.html.count("<li") == 2
    assert made.html.count("Clinic") == 1
    assert "<strong" in made.html


@pytest.mark.parametrize(
    ("channel", "title", "text"),
    [
        (Channel.SMS, "Clinic: Reminders (2)", "1. Pills: Take two.\n\nWith water.\n2. Dentist at ten"),
        (
            Channel.WHATSAPP,
            "Clinic: Reminders (2)",
            "1. Pills: Take two.\n\nWith water.\n2. Dentist at ten\n\nCall 01",
        ),
        (Channel.VOICE, "Clinic: Reminders (2)", "1. Pills. Take two.\n\nWith water.\n2. Dentist at ten"),
        (Channel.PUSH, "Reminders (2)", "1. Pills: Take two.\n\nWith water.\n2. Dentist at ten"),
    ],
)
def test_other_channels_say_them_one_after_the_other(channel: Channel, title: str, text: str) -> None:
    assert digest.said(channel, TWO, FOOT, "") == (title, text)


@examples(100)
@given(st.lists(st.tuples(_words, _words), min_size=2, max_size=6))
def test_no_word_is_lost_and_none_is_markup(said: list[tuple[str, str]]) -> None:
    parts = [Part(render.one_line(title, render.MAX_TITLE), text) for title, text in said]
    made = digest.mail(parts, Foot(), "")
    for part in parts:
        assert part.title in made.text
        assert part.text.strip("\n") in made.text
        assert render.escaped(part.title) in made.html
    assert made.html.count("<li") == len(parts)
    assert "\n" not in made.subject
    assert len(made.subject) <= render.MAX_SUBJECT
    for channel in (Channel.SMS, Channel.WHATSAPP, Channel.VOICE):
        title, text = digest.said(channel, parts, Foot(), "")
        if digest.fits(channel, title, text):
            plain = render.plain(title, text)
            assert limits.fit(channel, plain, limits.TooLong.CUT) == plain, "what fits is not cut"


@pytest.mark.parametrize(("channel", "most"), [(Channel.SMS, 459), (Channel.WHATSAPP, 1600), (Channel.PUSH, 700)])
def test_what_would_be_cut_does_not_fit(channel: Channel, most: int) -> None:
    assert digest.fits(channel, "", "x" * most)
    assert not digest.fits(channel, "", "x" * (most + 1))
    assert digest.fits(Channel.EMAIL, "", "x" * 100_000)


# -- templates that go through items -----------------------------------------------------------------------------------


def made(**files: str) -> Version:
    version, faults = compiled(Source("pills", 1, {name.replace("_", "."): text for name, text in files.items()}))
    assert version is not None, faults
    return version


def about(hour: int, title: str = "") -> About:
    return About("en", "Europe/Vienna", datetime(2027, 1, 5, hour, tzinfo=UTC), title, "", "pills", "Clinic")


TEXT = "{{ items|length }} for {{ name }}:{% for item in items %} {{ item.drug }} at {{ item.due|time }};{% endfor %}"


def test_a_template_that_goes_through_items_says_one_and_several() -> None:
    version = made(text_txt=TEXT)
    assert version.several(Channel.EMAIL, "en")
    anna = {"name": "Anna", "drug": "Ibu"}
    assert version.say(Channel.SMS, anna, about(7)).text == "1 for Anna: Ibu at 8:00 AM;"
    both = version.say_several(Channel.SMS, [(anna, about(7)), ({**anna, "drug": "Iron"}, about(11))])
    assert both.text == "2 for Anna: Ibu at 8:00 AM; Iron at 12:00 PM;"
    with pytest.raises(UnsaidError, match="drug"):
        version.say(Channel.SMS, {"name": "Anna"}, about(7))
    with pytest.raises(UnsaidError, match="name"):
        version.say_several(Channel.SMS, [(anna, about(7)), ({**anna, "name": "Bob"}, about(11))])


def test_a_mail_is_of_several_only_where_all_of_its_parts_are() -> None:
    assert not made(text_txt="{{ drug }}").several(Channel.EMAIL, "")
    assert not made(text_txt=TEXT, html_html="<p>{{ drug }}</p>").several(Channel.EMAIL, "")
    whole = made(
        text_txt=TEXT,
        html_html="<ul>{% for one in items %}<li>{{ one.drug }} {{ one['a note']|d('-') }}</li>{% endfor %}</ul>",
    )
    assert whole.several(Channel.EMAIL, "")
    said = whole.say_several(
        Channel.EMAIL, [({"name": "A", "drug": "<b>"}, about(7)), ({"name": "A", "drug": "x"}, about(8))]
    )
    assert said.html == "<ul><li>&lt;b&gt; -</li><li>x -</li></ul>"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{% for i in items %}{{ i }}{% endfor %}", "a whole reminder"),
        ("{% for i in items %}{{ i._known }}{% endfor %}", "no part"),
        ("{% for i in items %}{{ i.x }}{% endfor %}{{ items }}", "go through them"),
        ("{% for i in items %}{% for j in items %}{{ j.x }}{% endfor %}{% endfor %}", "in another"),
        ("{% for i, j in items %}{{ i }}{% endfor %}", "one by one"),
        ("{% for i in items %}{{ i.x.y }}{% endfor %}", "no parts"),
        ("{% for i in others %}{{ i }}{% endfor %}", "a loop goes through items"),
    ],
)
def test_what_items_are_not(text: str, part: str) -> None:
    version, faults = compiled(Source("pills", 1, {"text.txt": text}))
    assert version is None
    assert part in "; ".join(map(str, faults))


def test_a_value_named_items_is_a_value_where_nobody_goes_through_them() -> None:
    assert made(text_txt="{{ items }}").say(Channel.SMS, {"items": "two"}, about(7)).text == "two"
    looped = made(text_txt="{% for i in items|split(';') %}{{ i }},{% endfor %}")
    assert looped.say(Channel.SMS, {"items": "a;b"}, about(7)).text == "a,b,"
    assert not looped.several(Channel.SMS, "")
