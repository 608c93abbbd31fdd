"""Moving an installation to topics of another number of partitions, under another namespace, while its workers rest.

Nothing of the old topics is changed, so that going back is to start the old workers again. The rows, the audit, the
holds, the suppressions and the open dead letters are copied, each record to the partition of its key among the new
ones; so is what the old workers had not taken yet. What a row reflects already is left out: the new topics have other
ids, and the row no longer tells it apart from a new event.

A copy that was broken off is begun anew with empty topics (``anew``). One that new workers have taken over cannot be
repeated; what reaches the old topics after it is carried over by ``late``.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiokafka import AIOKafkaConsumer, ConsumerRecord, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.letters import PREFIX
from agents.ports import Out
from agents.publisher import Publisher, PublishError, partition_of
from app import dlq
from app.cli.audit import partitions, reader
from app.cli.failures import Failure
from app.cli.groups import admin_of, committed, members
from app.config import Settings
from app.kafka import client_options
from app.topics import TopicNames, ensure_topics, full_name, topic_ids, topics_of
from schemas import codec
from schemas.codec import Undecodable
from schemas.records import Applied, ControlRecord, RecipientProfile, ReminderRow
from tables import due as index
from tables import profiles, skips

#: How much is published at once.
RECORDS = 1000
BYTES = 4 << 20
#: How long the brokers may take to forget deleted topics, in seconds.
FORGET_S = 60.0
#: Whoever reads the old topics for what comes late.
GROUP = "reminders-move"
#: Of a record's size: its headers and what a batch adds.
_OVERHEAD = 200


@dataclass(frozen=True, slots=True)
class Copy:
    """A topic that is copied whole: from, to, and by which key a record is partitioned."""

    source: str
    target: str
    key: Callable[[bytes], bytes] = bytes


#: Who looks at a row while it is copied.
Note = Callable[[bytes, bytes | None], None]
#: What a row reflects, by whether it is a recipient's and by the reminder's or recipient's id.
Reflected = dict[tuple[bool, bytes], tuple[Applied, ...]]


def owner_key(row_key: bytes) -> bytes:
    """Return by which key a row of the recipients table is partitioned: its owner's id."""
    part = row_key.decode().split("/")[1]
    return unquote(part[2:]).encode()


def inputs(names: TopicNames) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what core and what delivery read by their groups."""
    core = (*names.intakes, names.outcomes, names.receipts, *names.retry.values())
    return core, (names.recipients, names.requests, *names.channels.values())


def copies(old: TopicNames, new: TopicNames) -> tuple[Copy, ...]:
    """Return the topics that are copied whole. The control topic and the letters are copied in part."""
    return (
        Copy(old.suppressions, new.suppressions),
        Copy(old.templates, new.templates),
        Copy(old.replies, new.replies),
        Copy(old.reminders_changelog, new.reminders_changelog),
        Copy(old.recipients_changelog, new.recipients_changelog, owner_key),
        Copy(old.audit, new.audit),
    )


class Move:
    """One move. ``told``: given a line for each thing that is done."""

    def __init__(self, old: Settings, new: Settings, told: Callable[[str], None]) -> None:
        self._old, self._new, self._told = old, new, told
        self._from, self._to = TopicNames.of(old), TopicNames.of(new)
        self._publisher = Publisher(client_options(new), timeout_s=30.0)
        self._batch: list[Out] = []
        self._size = 0
        names = {full_name(old.namespace, s.name): full_name(new.namespace, s.name) for s in topics_of(old)}
        self._renamed: Mapping[str, str] = names

    # -- the two acts

    async def whole(self, *, anew: bool = False) -> Counter[str]:
        """Copy everything; return how many records of each kind. Raises Failure where it must not, or cannot."""
        async with admin_of(self._old) as admin:
            for group in (self._to.core_app, self._to.delivery_app):
                if await committed(admin, group):
                    raise Failure(f"{group} was at work: a copy now would undo what it did; --late carries the rest")
            await self._at_rest(admin)
            await self._make_room(admin, anew)
            async with reader(self._old, self._from.reminders) as consumer:
                await self._publisher.start()
                try:
                    counts = await self._copied(admin, consumer)
                except (KafkaError, OSError, PublishError) as exc:
                    raise Failure(f"{type(exc).__name__}: {exc}; run it again with --anew") from exc
                finally:
                    await self._publisher.stop()
            await self._at_rest(admin)
        return counts

    async def late(self) -> Counter[str]:
        """Carry over what has reached the old topics since; return how many records."""
        counts: Counter[str] = Counter()
        async with admin_of(self._old) as admin, reader(self._old, self._from.reminders) as consumer:
            saved = await committed(admin, self._group)
            if not saved:
                raise Failure(f"{self._new.namespace}: nothing was moved there from here; run it without --late first")
            await self._publisher.start()
            try:
                ends = await consumer.end_offsets(list(saved))
                counts["late"] += await self._carry(consumer, saved, ends, {}, {})
            except (KafkaError, OSError, PublishError) as exc:
                raise Failure(f"{type(exc).__name__}: {exc}; run it again: what arrives twice has no effect") from exc
            finally:
                await self._publisher.stop()
            await self._save(ends)
        return counts

    @property
    def _group(self) -> str:
        return full_name(self._new.namespace, GROUP)

    # -- before

    async def _at_rest(self, admin: AIOKafkaAdminClient) -> None:
        for settings, names in ((self._old, self._from), (self._new, self._to)):
            for group in (names.core_app, names.delivery_app):
                if count := await members(admin, group):
                    where = settings.namespace or "without a namespace"
                    raise Failure(f"{group} ({where}) has {count} workers; stop all of them, and run it again (--anew)")

    async def _make_room(self, admin: AIOKafkaAdminClient, anew: bool) -> None:
        """Make the new topics, and see to it that they are empty and that nobody has been at work on them."""
        for group in (self._to.core_app, self._to.delivery_app):
            if await committed(admin, group):
                raise Failure(
                    f"{group} has been at work: a second copy would undo what it did; --late carries the rest"
                )
        targets = set(self._renamed.values())
        if anew:
            await admin.delete_topics([t for t in await admin.list_topics() if t in targets])
            async with asyncio.timeout(FORGET_S):
                while targets & set(await admin.list_topics()):  # noqa: ASYNC110 - the brokers tell nobody
                    await asyncio.sleep(0.2)
        await ensure_topics(self._new)
        async with reader(self._new, self._to.reminders) as consumer:
            tps = [tp for topic in targets for tp in await partitions(consumer, topic)]
            ends = await consumer.end_offsets(tps)
        if filled := sorted({tp.topic for tp, end in ends.items() if end}):
            raise Failure(f"{filled[0]} holds records already; --anew deletes the topics of that namespace first")

    # -- what is copied

    async def _copied(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> Counter[str]:
        counts: Counter[str] = Counter()
        names = self._from
        core, delivery = inputs(names)
        starts: dict[TopicPartition, int] = {}
        for group, topics in ((names.core_app, core), (names.delivery_app, delivery)):
            done = await committed(admin, group)
            tps = [tp for topic in topics for tp in await partitions(consumer, topic)]
            first = await consumer.beginning_offsets(tps)
            starts |= {tp: max(done.get(tp, 0), first[tp]) for tp in tps}
        ends = await consumer.end_offsets(list(starts))
        ids = await topic_ids(self._old, [*core, *delivery])
        waiting = {record.key async for record in dlq.span(consumer, starts, ends) if record.key}
        applied: Reflected = {}

        def reminder(key: bytes, value: bytes | None) -> None:
            if key in waiting:
                applied[False, key] = _applied(ReminderRow, value)

        def recipient(key: bytes, value: bytes | None) -> None:
            if key[:2] == b"p/" and (owner := owner_key(key)) in waiting:
                applied[True, owner] = _applied(RecipientProfile, value)

        noted = {names.reminders_changelog: reminder, names.recipients_changelog: recipient}
        for copy in copies(names, self._to):
            counts[copy.target] = await self._copy(consumer, copy, noted.get(copy.source))
            self._told(f"{copy.target}: {counts[copy.target]} records")
        counts["holds"] = await self._holds(consumer)
        counts["letters"] = await self._letters(consumer)
        counts["in flight"] = await self._carry(consumer, starts, ends, ids, applied)
        self._told(f"{counts['letters']} open letters, {counts['in flight']} records that were on their way")
        came = {*names.intakes, names.recipients, names.receipts}
        await self._save({tp: end for tp, end in ends.items() if tp.topic in came})
        return counts

    async def _copy(self, consumer: AIOKafkaConsumer, copy: Copy, seen: Note | None) -> int:
        count = 0
        async for record in self._all(consumer, copy.source):
            if record.key is None:
                continue
            if seen is not None:
                seen(record.key, record.value)
            await self._put(record, copy.target, partition_of(copy.key(record.key), self._new.partitions))
            count += 1
        await self._flush()
        return count

    async def _all(self, consumer: AIOKafkaConsumer, topic: str) -> AsyncIterator[ConsumerRecord]:
        first = await consumer.beginning_offsets(await partitions(consumer, topic))
        async for record in dlq.span(consumer, first):
            yield record

    async def _holds(self, consumer: AIOKafkaConsumer) -> int:
        """Copy holds and releases. A word about a stuck event names a place, where another event will lie."""
        count = 0
        async for record in self._all(consumer, self._from.control):
            try:
                kind = codec.decode(ControlRecord, record.value or b"").kind
            except Undecodable:
                kind = ""
            if kind == skips.SKIP or record.key is None:
                continue
            await self._put(record, self._to.control, partition_of(record.key, self._new.partitions))
            count += 1
        await self._flush()
        return count

    async def _letters(self, consumer: AIOKafkaConsumer) -> int:
        """Copy the letters that are open, as letters of the new topics; a run of a command is not."""
        book = await dlq.read(consumer, await partitions(consumer, self._from.dlq))
        count = 0
        async for record in self._all(consumer, self._from.dlq):
            place = dlq.Place(record.partition, record.offset)
            if place not in book.letters or not book.is_open(place):
                continue
            origin = PREFIX + "topic"
            headers = tuple(
                (name, self._renamed.get(value.decode(), value.decode()).encode() if name == origin else value)
                for name, value in record.headers
            )
            partition = self._target(record)
            await self._put(record, self._to.dlq, partition, headers)
            count += 1
        await self._flush()
        return count

    async def _carry(
        self,
        consumer: AIOKafkaConsumer,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        ids: Mapping[str, str],
        applied: Reflected,
    ) -> int:
        """Write what lies between two offsets to the new topics, but for what a row reflects."""
        count = 0
        async for record in dlq.span(consumer, starts, ends):
            known = applied.get((record.topic == self._from.recipients, record.key or b""), ())
            if any(a.topic_id == ids.get(record.topic) and a.offset >= record.offset for a in known):
                continue
            await self._put(record, self._renamed[record.topic], self._target(record))
            count += 1
        await self._flush()
        return count

    def _target(self, record: ConsumerRecord) -> int:
        """Return the partition of a record; one without a key goes wherever intake will look at it."""
        count = self._new.partitions
        return partition_of(record.key, count) if record.key else int(record.partition) % count

    async def _save(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remember up to where the old topics have been carried over."""
        options = client_options(self._old)
        async with AIOKafkaConsumer(**options, group_id=self._group, enable_auto_commit=False) as consumer:
            consumer.assign(list(ends))
            await consumer.commit({tp: OffsetAndMetadata(end, "") for tp, end in ends.items()})

    # -- out

    async def _put(
        self, record: ConsumerRecord, topic: str, partition: int, headers: Iterable[tuple[str, Any]] | None = None
    ) -> None:
        kept = tuple((name, value or b"") for name, value in (record.headers if headers is None else headers))
        self._batch.append(Out(topic, partition, record.key, record.value, kept, int(record.timestamp)))
        self._size += len(record.value or b"") + _OVERHEAD
        if len(self._batch) >= RECORDS or self._size >= BYTES:
            await self._flush()

    async def _flush(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            await self._publisher.publish(batch)


def _applied(kind: type[ReminderRow | RecipientProfile], value: bytes | None) -> tuple[Applied, ...]:
    """Return what a row reflects; of one that this release cannot read, nothing."""
    if value is None:
        return ()
    try:
        body = value[index.HEADER.size :]
        return profiles.known(body).applied if kind is RecipientProfile else codec.decode(kind, body).applied
    except Undecodable:
        return ()
