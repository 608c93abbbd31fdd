"""The dead letter topic as a book: letters, what closed them, and the runs of commands that put them back.

A letter is closed by a record beside it on the same partition (ADR 0018). What is open is therefore known to whoever
reads the topic, and lives as long as the letters do. Pure but for ``read``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from zlib import crc32

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from agents.letters import ACT, CUT, EDITED_BY, ORIGIN, PREFIX, RUN


class Act(StrEnum):
    """What a record of the dead letter topic that is no letter says."""

    BEGUN = "begun"
    SENDING = "sending"
    CLOSED = "closed"
    ENDED = "ended"


class How(StrEnum):
    """How a letter was closed."""

    REDRIVEN = "redriven"
    EDITED = "edited"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a letter lies on the dead letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def of(cls, text: str) -> "Place":
        """Return the place that ``3/17`` or ``topic/3/17`` names. Raises ValueError."""
        partition, offset = text.split("/")[-2:]
        return cls(int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, without its bytes."""

    place: Place
    at: int
    topic: str
    partition: int
    offset: int
    timestamp: int
    reason: str
    field: str
    value: str
    remedy: str
    attempts: int
    redrives: int
    correlation_id: str
    parked: bool
    came_from: str
    edited_by: str
    key: bytes | None
    size: int
    cut: bool
    identity: tuple[object, ...]

    @property
    def origin(self) -> str:
        """Return where the record came from, "" where nobody said."""
        return f"{self.topic}/{self.partition}/{self.offset}" if self.topic else ""

    @property
    def occurrence(self) -> bool:
        """Return whether an occurrence was given up, so that the bytes are but the answer that ended it."""
        return self.remedy.startswith("trail ")


@dataclass(frozen=True, slots=True)
class Closing:
    """What became of a letter. ``went_to``: where the record lies that was put back."""

    how: How
    at: int
    actor: str
    why: str
    went_to: str


@dataclass(slots=True)
class Run:
    """A command that acts on letters. ``sending``: letters it was about to put back, each with topic, partition and
    the least offset of its record."""

    id: str
    offset: int
    actor: str = ""
    signed_at: int = 0
    ended: bool = False
    sending: dict[Place, tuple[str, int, int]] = field(default_factory=dict)


def headers_of(record: ConsumerRecord) -> dict[str, str]:
    """Return the headers of a record as text; the last of equal names counts."""
    return {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}


def letter_of(record: ConsumerRecord, said: Mapping[str, str] | None = None) -> Letter:
    """Return what a dead letter says."""
    said = headers_of(record) if said is None else said

    def text(name: str) -> str:
        return said.get(PREFIX + name, "")

    def number(name: str, other: int) -> int:
        return int(text(name)) if text(name).isdecimal() and len(text(name)) < 19 else other

    came_from = said.get(ORIGIN, "")
    redrives = number("redrives", 0)
    partition, offset, timestamp = number("partition", -1), number("offset", -1), number("timestamp", record.timestamp)
    value = record.value or b""
    # A unit of work that was repeated leaves its letters twice; so may a record that was put back twice.
    first = (came_from, redrives) if came_from else (text("topic"), partition, offset, timestamp)
    known = bool(came_from or text("topic"))
    return Letter(
        place=Place(record.partition, record.offset),
        at=number("at", record.timestamp),
        topic=text("topic"),
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        reason=text("reason"),
        field=text("field"),
        value=text("value"),
        remedy=text("remedy"),
        attempts=number("attempts", 0),
        redrives=redrives,
        correlation_id=text("correlation-id"),
        parked=bool(text("parked")),
        came_from=came_from,
        edited_by=said.get(EDITED_BY, ""),
        key=record.key,
        size=len(value),
        cut=CUT in said,
        identity=(*first, record.key, crc32(value)) if known else (record.partition, record.offset),
    )


class Book:
    """What the dead letter topic says, record by record."""

    def __init__(self) -> None:
        self.letters: dict[Place, Letter] = {}
        self.closings: dict[Place, Closing] = {}
        self.copies: dict[Place, Place] = {}
        self.runs: dict[str, Run] = {}
        #: Letters of which cannot be known any more whether they were put back.
        self.doubts: set[Place] = set()
        self._firsts: dict[tuple[object, ...], Place] = {}

    def add(self, record: ConsumerRecord) -> None:
        """Take in the next record of a partition."""
        said = headers_of(record)
        if ACT in said:
            self._act(record, said)
            return
        letter = letter_of(record, said)
        first = self._firsts.setdefault(letter.identity, letter.place)
        if first != letter.place:
            self.copies[letter.place] = first
        self.letters[letter.place] = letter

    def _act(self, record: ConsumerRecord, said: Mapping[str, str]) -> None:
        run = self.runs.setdefault(said.get(RUN, ""), Run(said.get(RUN, ""), record.offset))
        run.actor = said.get(PREFIX + "actor", run.actor)
        match said[ACT]:
            case Act.CLOSED:
                of = Place(record.partition, int(said[PREFIX + "letter"]))
                self.closings.setdefault(
                    of,
                    Closing(
                        How(said[PREFIX + "how"]),
                        record.timestamp,
                        said.get(PREFIX + "actor", ""),
                        said.get(PREFIX + "why", ""),
                        said.get(PREFIX + "went-to", ""),
                    ),
                )
            case Act.BEGUN:
                run.offset, run.signed_at = record.offset, record.timestamp
            case Act.SENDING:
                run.signed_at = record.timestamp
                for place, (topic, partition, low) in orjson.loads(record.value or b"{}").items():
                    run.sending[Place.of(place)] = (topic, partition, low)
            case Act.ENDED:
                run.ended = True
                self.doubts.update(map(Place.of, orjson.loads(record.value or b"[]")))

    def state(self, place: Place) -> str:
        """Return how a letter stands: open, parked, sending, doubtful, copy, or how it was closed."""
        if place in self.closings:
            return self.closings[place].how.value
        if place in self.copies:
            return "copy"
        if place in self.doubts:
            return "doubtful"
        if any(place in run.sending for run in self.runs.values() if not run.ended):
            return "sending"
        return "parked" if self.letters[place].parked else "open"

    def is_open(self, place: Place) -> bool:
        """Return whether a letter waits for somebody to do something."""
        return place not in self.closings and place not in self.copies

    def unclosed(self) -> list[Letter]:
        """Return letters that are not closed, oldest first."""
        return sorted((v for k, v in self.letters.items() if self.is_open(k)), key=lambda v: (v.at, v.place))


async def read(
    consumer: AIOKafkaConsumer, tps: Iterable[TopicPartition], since_ms: int | None = None, at_once: int = 2000
) -> Book:
    """Read the topic, or what was written to it since then, up to its present end. ``at_once``: records that are taken
    in until the loop may turn."""
    book = Book()
    tps = list(tps)
    starts = await consumer.beginning_offsets(tps)
    if since_ms is not None:
        ends = await consumer.end_offsets(tps)
        found = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        starts = {tp: found[tp].offset if found[tp] is not None else ends[tp] for tp in tps}
    async for record in span(consumer, starts, at_once=at_once):
        book.add(record)
    return book


async def span(
    consumer: AIOKafkaConsumer,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int] | None = None,
    at_once: int = 2000,
) -> AsyncIterator[ConsumerRecord]:
    """Yield the records of partitions from given offsets to given ends, or to what is now their end."""
    if ends is None:
        ends = await consumer.end_offsets(list(starts))
    left = [tp for tp, start in starts.items() if start < ends[tp]]
    if not left:
        return
    consumer.assign(left)
    for tp in left:
        consumer.seek(tp, starts[tp])
    while left:
        batches: dict[TopicPartition, list[Any]] = await consumer.getmany(*left, timeout_ms=1000, max_records=at_once)
        for batch in batches.values():
            for record in batch:
                if record.offset < ends[TopicPartition(record.topic, record.partition)]:
                    yield record
        # By position: the last offsets of a partition may hold no record.
        left = [tp for tp in left if await consumer.position(tp) < ends[tp]]
        await asyncio.sleep(0)
