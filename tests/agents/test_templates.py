"""Templates by their topic: all that was ever published is known, and the last words of a version are its current."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from agents.templates import Templates
from channels.shelf import Shelf
from channels.templates import About, Source
from schemas import codec
from schemas.names import Channel
from schemas.records import TemplateRecord


class Topic:
    """The reader over records that a test writes."""

    def __init__(self) -> None:
        self.shelf, self.told = Shelf(), list[int]()
        self.reader: Any = Templates(
            lambda **_: None,  # type: ignore[arg-type,return-value]
            "templates",
            1,
            shelf=self.shelf,
            told=self.told.append,
            fatal=lambda why, exc: None,
        )

    def write(self, *records: tuple[str, bytes | None]) -> None:
        for ref, value in records:
            self.reader._apply(SimpleNamespace(key=ref.encode(), value=value, offset=0))
        self.reader._turn()

    def says(self, asked: str) -> str:
        version = self.shelf.find(asked)
        return version.say(Channel.SMS, {}, About()).text if version is not None else ""


def record(text: str, number: int = 1, at: int = 1) -> tuple[str, bytes]:
    source = Source("visit", number, {"text.txt": text})
    return source.ref, codec.encode(TemplateRecord("visit", number, at, dict(source.files)))


def test_the_last_words_count_and_those_before_stay_known() -> None:
    topic = Topic()
    first, edited, second = record("one"), record("one, edited", at=2), record("two", 2, at=1)
    topic.write(first, second)
    assert (topic.says("visit"), topic.says("visit@1")) == ("two", "one")
    topic.write(edited)
    assert topic.says("visit@1") == "one, edited"
    assert topic.shelf.known(first[0]) is not None
    # Published again, older words are the current ones once more; the order of partitions plays no part.
    topic.write(record("one", at=3))
    assert topic.says("visit@1") == "one"
    again = Topic()
    again.write(record("one", at=3), edited, second)
    assert again.says("visit@1") == "one"
    assert again.shelf.known(edited[0]) is not None


def test_what_is_withdrawn_is_gone_and_what_cannot_be_used_is_told(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    first = record("one")
    with caplog.at_level(logging.ERROR):
        topic.write(first, record("{{ 7 * 7 }}", 2), ("junk", b"junk"))
    assert topic.told == [2]
    assert "template visit@2 of the topic is not taken: text.txt:1" in caplog.text
    assert topic.says("visit") == "one"
    topic.write((first[0], None), ("junk", None))
    assert (topic.says("visit"), topic.told) == ("", [2, 1])
