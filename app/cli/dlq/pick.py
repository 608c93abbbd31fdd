"""Which letters are meant: the options of the commands, and reading what they name."""

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import click
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app import dlq as book_
from app.cli.audit import partitions, reader
from app.cli.failures import Failure
from app.cli.show import plain
from app.cli.times import duration_ms, instant_ms
from app.config import Settings
from app.dlq import Book, Letter, Place
from app.topics import TopicNames, full_name
from schemas.codec import Codec, RegistryUnavailable
from schemas.records import (
    Delivery,
    DeliveryAnswer,
    DeliveryReceipt,
    DeliveryRequest,
    RecipientEvent,
    ReminderEvent,
    RetryRecord,
)

SELECTION = "PARTITION/OFFSET of the letter, or TOPIC/PARTITION/OFFSET of where it came from"

#: How many letters' bytes are held at once.
_AT_ONCE = 100


def now_ms() -> int:
    """Return the wall clock in ms."""
    return time.time_ns() // 1_000_000


class When(click.ParamType):
    """An instant, or how long ago."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return ms since 1970."""
        if isinstance(value, int):
            return value
        try:
            return now_ms() - duration_ms(value) if re.match(r"[\d.]+ *[a-z]", value) else instant_ms(value)
        except ValueError as exc:
            self.fail(f"{exc}; or how long ago, such as 2h", param, ctx)


class Length(click.ParamType):
    """How long."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return ms."""
        if isinstance(value, int):
            return value
        try:
            return duration_ms(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Rate(click.ParamType):
    """So many in a time."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return how many a second."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)/(s|m|h)", value)
        if found is None or float(found[1]) <= 0:
            self.fail(f"{value!r} is no rate; use such as 5/s, 100/m or 1000/h", param, ctx)
        return float(found[1]) / {"s": 1, "m": 60, "h": 3600}[found[2]]


class Selection(click.ParamType):
    """One letter, by either of its places."""

    name = "letter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (topic or "", partition, offset)."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(?:(.+)/)?(\d{1,9})/(\d{1,18})", value)
        if found is None:
            self.fail(f"{value!r} names no letter; give {SELECTION}", param, ctx)
        return found[1] or "", int(found[2]), int(found[3])


Named = tuple[str, int, int]


def chosen(book: Book, names: Named, settings: Settings) -> Letter:
    """Return the letter that is meant: the latest, where several came from one place."""
    topic, partition, offset = names
    dlq_topic = TopicNames.of(settings).dlq
    place = Place(partition, offset)
    if topic in ("", dlq_topic) or full_name(settings.namespace, topic) == dlq_topic:
        if place in book.letters:
            return book.letters[place]
        raise Failure(f"{place}: there is no such letter, or it is older than the topic keeps; see `dlq list --all`")
    origins = {topic, full_name(settings.namespace, topic)}
    found = [
        letter
        for letter in book.letters.values()
        if letter.topic in origins and (letter.partition, letter.offset) == (partition, offset)
    ]
    first = [letter for letter in found if letter.place not in book.copies]
    if not first:
        raise Failure(f"{plain(topic)}/{place}: no dead letter came from there; see `dlq list --all`")
    return max(first, key=lambda letter: letter.at)


def filtered(
    book: Book,
    settings: Settings,
    reason: str | None = None,
    topic: str | None = None,
    since: int | None = None,
    until: int | None = None,
    *,
    all_: bool = False,
    parked: bool = False,
) -> list[Letter]:
    """Return the letters that pass, oldest first; without ``all_`` those that are open, parked ones or the others."""
    topics = {topic, full_name(settings.namespace, topic)} if topic else set()
    return sorted(
        (
            letter
            for place, letter in book.letters.items()
            if (all_ or (book.is_open(place) and letter.parked is parked))
            and (not reason or letter.reason == reason)
            and (not topics or letter.topic in topics)
            and (since is None or letter.at >= since)
            and (until is None or letter.at <= until)
        ),
        key=lambda letter: (letter.at, letter.place),
    )


def kinds(names: TopicNames) -> dict[str, Any]:
    """Return what each topic holds from which letters come."""
    return {
        **dict.fromkeys(names.intakes, ReminderEvent),
        names.recipients: RecipientEvent,
        names.requests: DeliveryRequest,
        names.outcomes: DeliveryAnswer,
        names.receipts: DeliveryReceipt,
        **dict.fromkeys(names.channels.values(), Delivery),
        **dict.fromkeys(names.retry.values(), RetryRecord),
    }


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """Give a consumer for the dead letters, and their partitions."""
    topic = TopicNames.of(settings).dlq
    async with reader(settings, topic) as consumer:
        yield consumer, await partitions(consumer, topic)


class Placed(Protocol):
    """What lies on the dead letter topic."""

    @property
    def place(self) -> Place:
        """Return where."""


async def records_of(
    consumer: AIOKafkaConsumer, topic: str, letters: Sequence[Placed]
) -> AsyncIterator[ConsumerRecord]:
    """Yield the records of letters, in the order of the letters; what is gone by now is left out."""
    for start in range(0, len(letters), _AT_ONCE):
        places = [letter.place for letter in letters[start : start + _AT_ONCE]]
        found: dict[Place, ConsumerRecord] = {}
        for partition in sorted({place.partition for place in places}):
            tp = TopicPartition(topic, partition)
            first = (await consumer.beginning_offsets([tp]))[tp]
            offsets = sorted(place.offset for place in places if place.partition == partition)
            wanted = frozenset(offsets)
            for low, high in _spans([offset for offset in offsets if offset >= first]):
                async for record in book_.span(consumer, {tp: low}, {tp: high + 1}):
                    # What lies between letters that are near each other is read, too.
                    if record.offset in wanted:
                        found[Place(partition, record.offset)] = record
        for place in places:
            if place in found:
                yield found[place]


def _spans(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Return stretches to read: letters that are far apart are sought one by one."""
    spans: list[tuple[int, int]] = []
    for offset in offsets:
        if spans and offset - spans[-1][1] < 1000:
            spans[-1] = (spans[-1][0], offset)
        else:
            spans.append((offset, offset))
    return spans


@asynccontextmanager
async def codec_for(settings: Settings, values: Sequence[bytes | None]) -> AsyncIterator[Codec]:
    """Give a codec that knows the schemas of these values, as far as there is a registry."""
    if not settings.registry.url:
        yield Codec()
        return
    from schemas.registry import Registry  # noqa: PLC0415 - brings a client that the rest does without

    registry = Registry(settings.registry.url, user=settings.registry.username, password=settings.registry.password)
    try:
        codec = Codec(registry)
        await codec.prefetch(values)
        yield codec
    except RegistryUnavailable as exc:
        raise Failure(f"SCHEMA_REGISTRY_URL: the registry gives no answer ({exc}); check it, or unset it") from exc
    finally:
        await registry.close()
