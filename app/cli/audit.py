"""Reading the audit topic: what happened to a reminder, from the partition of its id."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from agents.publisher import partition_of
from app.cli.failures import Failure
from app.config import Settings
from app.kafka import MAX_BATCH_BYTES, client_options, unreachable
from app.topics import TopicNames
from schemas.codec import Undecodable, decode
from schemas.names import State
from schemas.records import AuditEntry

#: States after which nothing more is to come by itself, for who waits for the end.
ENDS = frozenset(
    {
        *(State.SENT, State.DELIVERED, State.ACKNOWLEDGED, State.CANCELLED, State.SKIPPED, State.EXPIRED),
        *(State.DEAD_LETTER, State.REJECTED, State.MAYBE_SENT),
    }
)
#: Ends that are no success.
BAD_ENDS = frozenset({State.EXPIRED, State.DEAD_LETTER, State.REJECTED, State.MAYBE_SENT})


@asynccontextmanager
async def reader(settings: Settings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer without a group that may read a topic. Fails in one line where it cannot."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        client_id="reminders-cli",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2 * MAX_BATCH_BYTES,
        request_timeout_ms=20_000,
    )
    try:
        await consumer.start()
    except (KafkaError, OSError) as exc:
        await consumer.stop()
        raise Failure(await unreachable(settings, exc)) from exc
    try:
        if topic not in await consumer.topics():
            raise Failure(f"{topic}: does not exist; run `python -m app topics`")
        yield consumer
    except KafkaError as exc:
        raise Failure(f"{topic}: cannot be read ({type(exc).__name__}: {exc}); see `python -m app doctor`") from exc
    finally:
        await consumer.stop()


async def partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Return all partitions of a topic that exists."""
    known = await consumer._client.fetch_all_metadata()
    return [TopicPartition(topic, number) for number in sorted(known.partitions_for_topic(topic))]


async def records(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition], since: int | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Yield all records from the beginning, or from ``since`` (ms UTC) on, to what was the end when this began."""
    consumer.assign(tps)
    await consumer.seek_to_beginning(*tps)
    ends = await consumer.end_offsets(tps)
    if since is not None:
        for tp, found in (await consumer.offsets_for_times(dict.fromkeys(tps, max(0, since)))).items():
            consumer.seek(tp, found.offset if found is not None else ends[tp])
    left = {tp for tp in tps if await consumer.position(tp) < ends[tp]}
    while left:
        for batch in (await consumer.getmany(*left, timeout_ms=1000, max_records=5000)).values():
            for record in batch:
                yield record
        # By position: the last offsets of a partition may hold no record.
        left = {tp for tp in left if await consumer.position(tp) < ends[tp]}


class Audit:
    """The audit entries of one reminder. Use within ``open``."""

    def __init__(self, consumer: AIOKafkaConsumer, tp: TopicPartition, reminder_id: str) -> None:
        self._consumer = consumer
        self._tp = tp
        self._key = reminder_id.encode()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, reminder_id: str) -> AsyncIterator["Audit"]:
        """Give the audit of a reminder."""
        topic = TopicNames.of(settings).audit
        async with reader(settings, topic) as consumer:
            count = len(await partitions(consumer, topic))
            yield cls(consumer, TopicPartition(topic, partition_of(reminder_id.encode(), count)), reminder_id)

    async def history(self) -> list[AuditEntry]:
        """Return what is on record, oldest first."""
        found = [entry async for record in records(self._consumer, [self._tp]) if (entry := self._mine(record))]
        return folded(found)

    async def at_end(self) -> None:
        """Let ``follow`` begin with what is not written yet."""
        self._consumer.assign([self._tp])
        await self._consumer.seek_to_end(self._tp)
        await self._consumer.position(self._tp)

    async def follow(self) -> AsyncIterator[AuditEntry]:
        """Yield entries as they are written, from where ``history`` or ``at_end`` stopped; never ends by itself."""
        while True:
            batches: dict[Any, list[ConsumerRecord]] = await self._consumer.getmany(self._tp, timeout_ms=500)
            for batch in batches.values():
                for record in batch:
                    if entry := self._mine(record):
                        yield entry
            await asyncio.sleep(0)

    def _mine(self, record: ConsumerRecord) -> AuditEntry | None:
        return entry_of(record) if record.key == self._key else None


def entry_of(record: ConsumerRecord) -> AuditEntry | None:
    """Return the entry in a record; None where it is of a release that this one cannot read."""
    try:
        return decode(AuditEntry, record.value or b"")
    except Undecodable:
        return None


def folded(entries: Iterable[AuditEntry]) -> list[AuditEntry]:
    """Return the entries that hold: one whose number is not above the last replaces it and what followed.

    A worker that died and decided otherwise the second time leaves both on the topic. Number 0 belongs to no row.
    """
    kept: list[AuditEntry] = []
    for entry in entries:
        if entry.seq:
            kept = [earlier for earlier in kept if not earlier.seq or earlier.seq < entry.seq]
        kept.append(entry)
    return kept
