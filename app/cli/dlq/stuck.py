"""Passing over an event that no worker gets past: workers are told on ``reminders.control`` and answer with a letter.

Nothing is taken from the topic: the event stays where it is for as long as the topic keeps it, and its letter has the
bytes.
"""

import time
import uuid

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app import dlq as book_
from app.cli import produce
from app.cli.audit import partitions, reader
from app.cli.dlq.desk import actor
from app.cli.dlq.pick import Named, chosen, kinds, now_ms, opened
from app.cli.failures import Failure
from app.cli.show import plain
from app.config import Settings
from app.dlq import Book, Letter
from app.kafka import client_options, unreachable
from app.topics import DAY_MS, TopicNames, full_name
from schemas.codec import encode
from schemas.records import ControlRecord
from tables import skips
from tables.skips import Place

#: How long workers remember to pass an event over: as long as topics keep it.
LASTS_MS = 7 * DAY_MS


def names_no_letter(book: Book, named: Named, settings: Settings) -> bool:
    """Return whether a name can only mean an event without a letter. Raises Failure where it has one by skipping."""
    topic, partition, offset = named
    try:
        letter = chosen(book, named, settings)
    except Failure:
        if not topic or _on(settings, topic) == TopicNames.of(settings).dlq:
            raise
        return True
    if letter.reason == "skipped" and topic and letter.topic == _on(settings, topic):
        raise Failure(
            f"{plain(topic)}/{partition}/{offset}: was passed over already; its letter is {letter.place}: "
            f"`dlq redrive {letter.place}` puts it back, `dlq skip {letter.place}` closes it"
        )
    return False


def _on(settings: Settings, topic: str) -> str:
    names = TopicNames.of(settings)
    inputs = {*kinds(names), names.dlq}
    return topic if topic in inputs else full_name(settings.namespace, topic)


async def pass_over(settings: Settings, named: Named, why: str, wait_ms: int) -> str:
    """Have the workers pass an event over, and wait for its letter. Return what to say; raises Failure."""
    place = Place(_on(settings, named[0]), named[1], named[2])
    at = await _checked(settings, place)
    names = TopicNames.of(settings)
    async with opened(settings) as (consumer, tps):
        starts = await consumer.end_offsets(tps)
        now = now_ms()
        record = ControlRecord(skips.scope(place), skips.SKIP, now, now, now + LASTS_MS, why, actor())
        sent = await produce.send(settings, names.control, record.scope, encode(record), uuid.uuid4().hex)
        letter = await _letter(consumer, starts, place, wait_ms)
    if letter is None:
        where = (
            f"they stand at {at}, before it" if at < place.offset else "see whether one runs: `python -m app doctor`"
        )
        raise Failure(
            f"{place}: told to the workers ({sent}), and not passed over after {wait_ms / 1000:g} s; {where}. "
            f"It holds for {LASTS_MS // DAY_MS} days"
        )
    return f"{place}: passed over; its letter is {letter.place}"


async def _checked(settings: Settings, place: Place) -> int:
    """Return at which offset the workers stand. Raises Failure where they cannot be stuck at the event."""
    names = TopicNames.of(settings)
    topics = kinds(names)
    if place.topic not in topics:
        known = ", ".join(topics)
        raise Failure(f"{plain(place.topic)}: no worker reads it; give one of {known}, and where the event lies")
    tp = TopicPartition(place.topic, place.partition)
    async with reader(settings, place.topic) as consumer:
        if tp not in await partitions(consumer, place.topic):
            raise Failure(f"{place}: the topic has no such partition")
        first, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    if not first <= place.offset < end:
        raise Failure(f"{place}: there is no such event; the partition has {first} to {end - 1}")
    ours = place.topic in (*names.intakes, names.outcomes, names.receipts, *names.retry.values())
    at = await _stand(settings, names.core_app if ours else names.delivery_app, tp)
    if at > place.offset:
        raise Failure(f"{place}: was read already, the workers stand at {at}; see `trail`, and `dlq list --all`")
    return at


async def _stand(settings: Settings, group: str, tp: TopicPartition) -> int:
    admin = AIOKafkaAdminClient(**client_options(settings), client_id="reminders-cli", request_timeout_ms=20_000)
    try:
        await admin.start()
        found = (await admin.list_consumer_group_offsets(group, partitions=[tp])).get(tp)
        return max(found.offset, 0) if found is not None else 0
    except (KafkaError, OSError) as exc:
        raise Failure(await unreachable(settings, exc)) from exc
    finally:
        await admin.close()


async def _letter(
    consumer: AIOKafkaConsumer, starts: dict[TopicPartition, int], place: Place, wait_ms: int
) -> Letter | None:
    limit = time.monotonic() + wait_ms / 1000
    consumer.assign(list(starts))
    for tp, start in starts.items():
        consumer.seek(tp, start)
    while time.monotonic() < limit:
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            for record in batch:
                letter = book_.letter_of(record)
                if (letter.topic, letter.partition, letter.offset) == tuple(place):
                    return letter
    return None
