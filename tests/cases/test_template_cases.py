"""Case O-33: one template, several outputs; what is missing stops the message."""

import json
from pathlib import Path

import pytest

from channels.templates import About, Source, UnsaidError, Version, compiled
from channels.word_reasons import HOPELESS, WordReason
from schemas.names import Channel

CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))}
GIVEN, WANTED = CASES["O-33"]["input"], CASES["O-33"]["expected"]
FILES = {
    "subject.txt": GIVEN["templates"]["subject"],
    "text.txt": GIVEN["templates"]["text"],
    "html.html": GIVEN["templates"]["html"],
}


def made(files: dict[str, str]) -> Version:
    version, faults = compiled(Source("hello", 1, files))
    assert version is not None, faults
    return version


def test_o33_html_is_escaped_and_nothing_else_is() -> None:
    said = made(FILES).say(Channel.EMAIL, {"n": GIVEN["name"]}, About())
    assert (said.title, said.text) == (WANTED["subject"], WANTED["text"])
    assert said.html.replace("&#x27;", "&#39;").replace("&apos;", "&#39;") == WANTED["html"]
    for channel in (Channel.SMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH, Channel.WEBHOOK):
        assert made(FILES).say(channel, {"n": GIVEN["name"]}, About()).text == WANTED["text"]


@pytest.mark.parametrize("channel", [c for c in Channel if c not in (Channel.UNKNOWN, Channel.ANY)])
def test_o33_a_missing_value_stops_every_channel_even_those_that_do_not_name_it(channel: Channel) -> None:
    version = made({**FILES, "sms.txt": GIVEN["templates"]["missing"]})
    with pytest.raises(UnsaidError) as stopped:
        version.say(channel, {"n": GIVEN["name"]}, About())
    assert (stopped.value.reason, stopped.value.what) == (WordReason.MISSING, "first_name")
    assert stopped.value.reason in HOPELESS


@pytest.mark.parametrize("nothing", [None, "", " ", "\n"])
def test_o33_null_and_nothing_greet_nobody(nothing: str | None) -> None:
    with pytest.raises(UnsaidError) as stopped:
        made({"text.txt": "Dear {{ n }}"}).say(Channel.EMAIL, {"n": nothing}, About())
    assert stopped.value.what == "n"
