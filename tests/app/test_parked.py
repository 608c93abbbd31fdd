"""Parked letters: which wait, which build names itself how, and what it does not try twice."""

from dataclasses import replace
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from agents import letters
from agents.letters import Complaint
from app.dlq import Book, Place, letter_of
from app.parked import Waiting, actor, build_id, tried_already

NOW = 1_796_112_000_000


class Inbound:
    topic = "reminders"
    partition, offset, timestamp = 0, 7, NOW / 1000
    key: bytes | None = b"a"
    value: bytes | None = b"v"
    headers: Any = ()


def letter(offset: int, *, parked: bool = True, **more: str) -> ConsumerRecord:
    out = letters.dead_letter("dlq", 1, Inbound(), Complaint("unknown_fingerprint", parked=parked), NOW)
    headers = [*out.headers, *((name.replace("_", "-"), text.encode()) for name, text in more.items())]
    return record(offset, headers, out.value)


def record(offset: int, headers: Any, value: bytes | None = None, partition: int = 0) -> ConsumerRecord:
    return ConsumerRecord("dlq", partition, offset, NOW, 0, b"a", value, None, 0, 0, tuple(headers))


def closing(offset: int, of: int, by: str, partition: int = 0) -> ConsumerRecord:
    said = {"dlq-act": "closed", "dlq-run": "r", "dlq-letter": str(of), "dlq-how": "redriven", "dlq-actor": by}
    return record(offset, [(name, text.encode()) for name, text in said.items()], partition=partition)


def test_what_is_parked_waits_until_it_is_closed() -> None:
    waiting = Waiting()
    for each in (letter(0), letter(1, parked=False), letter(2), closing(3, 0, "anna"), closing(4, 2, "anna", 1)):
        waiting.add(each)
    assert waiting.places == {Place(0, 2)}


def test_a_build_has_one_name() -> None:
    assert build_id() == build_id()
    assert len(build_id()) == 12
    assert actor() == f"build {build_id()}"


@pytest.mark.parametrize(
    ("by", "came_from", "tried"),
    [
        (actor(), "dlq/0/0", True),
        ("build 0123456789ab", "dlq/0/0", False),
        ("anna", "dlq/0/0", False),
        (actor(), "", False),
        (actor(), "dlq/0/9", False),
        (actor(), "nonsense", False),
    ],
)
def test_what_this_build_has_put_back_and_was_parked_again_is_left_to_people(
    by: str, came_from: str, tried: bool
) -> None:
    book = Book()
    for each in (letter(0), closing(1, 0, by)):
        book.add(each)
    again = replace(letter_of(letter(2)), came_from=came_from)
    assert tried_already(again, book) is tried
