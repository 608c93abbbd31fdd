"""The ledger at work: each core worker compares what came in, its rows and the audit, for the partitions that it owns.

It reads its own way, without a group, and never more than its share of the processor: after every slice it rests so
much longer than it worked (``LEDGER_PERCENT``). What it keeps is bounded, too. Where more happens than it can read, it
says how far it is behind, and leaves out what is too long ago; ``python -m app audit --since`` compares everything.

What fails here is tried again and harms nothing else.
"""

import asyncio
import contextlib
import heapq
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.publisher import partition_of
from app.topics import TopicNames
from schemas.names import Channel
from tables.ledger import Kind, Ledger, Orphan, Page, Reached, Role, Source
from tables.transition import Rules

log = logging.getLogger(__name__)

#: How far back a partition is read when it is taken, in ms.
WINDOW_MS = 15 * 60_000
#: One that is further behind than this begins anew, so that what it says is about the present, in ms.
BEHIND_MS = 2 * WINDOW_MS
#: When a reminder is looked at after something was seen of it, and when again where something is left, in ms.
LOOK_MS = 15_000
AGAIN_MS = 5_000
#: So long must something not add up before it is called an orphan, in ms.
STAND_MS = 9_000
#: What can never be mended (an entry that is missing or doubled) is counted for so long, in ms.
TOLD_MS = 60 * 60_000
_FOR_EVER = frozenset({Kind.MISSING, Kind.DOUBLED})
#: Reminders that are remembered, and orphans that are listed, by one worker.
MOST_PAGES = 20_000
MOST_ORPHANS = 1_000
#: Records, reminders and rows that are handled at a time: a few milliseconds.
RECORDS = 400
PAGES = 40
ROWS = 500
#: How often the walk over the rows goes a step on, in seconds.
STEP_S = 0.5
#: How long a fetch waits for something, how often the group's offsets are asked for, in seconds.
FETCH_S = 0.5
#: A fetch waits its time for so many bytes: each costs 1 to 3 ms, however little it brings.
FETCH_BYTES = 128 << 10
OFFSETS_S = 3.0
#: Partitions are given up after so long without any, in seconds: a rebalance takes less.
IDLE_S = 60.0
#: How long the brokers are left alone after they failed, in seconds.
AFTER_FAULT_S = 10.0

Rows = Callable[[int, list[bytes]], list[bytes | None]]
Scan = Callable[[int, bytes, int], list[tuple[bytes, bytes]]]


def inputs_of(names: TopicNames) -> dict[str, Role]:
    """Return core's input topics and what each holds."""
    return {
        **dict.fromkeys(names.intakes, Role.EVENT),
        names.outcomes: Role.OUTCOME,
        names.receipts: Role.RECEIPT,
        **dict.fromkeys(names.retry.values(), Role.RETRY),
    }


def sources_of(names: TopicNames, ids: Mapping[str, str]) -> dict[str, Source]:
    """Return what a ledger has to know of core's input topics. ``ids``: Kafka's id of each."""
    return {topic: Source(role, ids[topic]) for topic, role in inputs_of(names).items()}


class GroupOffsets:
    """How far a consumer group has acknowledged what it was given."""

    def __init__(self, options: Mapping[str, Any], group: str) -> None:
        self._options = options
        self._group = group
        self._admin: AIOKafkaAdminClient | None = None

    async def read(self) -> dict[tuple[str, int], int]:
        """Return the group's offsets by topic and partition. Raises KafkaError or OSError."""
        if self._admin is None:
            admin = AIOKafkaAdminClient(**self._options, client_id="reminders-ledger", request_timeout_ms=20_000)
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        found = await self._admin.list_consumer_group_offsets(self._group)
        return {(tp.topic, tp.partition): meta.offset for tp, meta in found.items()}

    async def close(self) -> None:
        """Let the connection go."""
        admin, self._admin = self._admin, None
        if admin is not None:
            with contextlib.suppress(KafkaError, OSError):
                await admin.close()


class Standing:
    """What does not add up now, and since when."""

    def __init__(self, most: int = MOST_ORPHANS) -> None:
        self._most = most
        self._first: dict[tuple[str, str, str], int] = {}
        self._named: dict[tuple[str, str, str], tuple[Orphan, int]] = {}

    def looked(self, reminder_id: str, found: list[Orphan], now: int) -> list[Orphan]:
        """Take in what was found of a reminder; return what is to be named now."""
        seen = {orphan.identity: orphan for orphan in found}
        for identity in [i for i in self._first if i[1] == reminder_id and i not in seen]:
            del self._first[identity]
        for identity in [i for i in self._named if i[1] == reminder_id and i not in seen]:
            if self._named[identity][0].kind not in _FOR_EVER:
                del self._named[identity]
        fresh: list[Orphan] = []
        for identity, orphan in seen.items():
            since = self._first.setdefault(identity, now)
            if identity in self._named or (orphan.kind not in _FOR_EVER and since + STAND_MS > now):
                continue
            if len(self._named) < self._most:
                self._named[identity] = orphan, now
            fresh.append(orphan)
        return fresh

    def counts(self, now: int) -> Counter[Kind]:
        """Return how many stand, by kind."""
        for identity, (orphan, at) in list(self._named.items()):
            if orphan.kind in _FOR_EVER and at + TOLD_MS <= now:
                del self._named[identity]
                self._first.pop(identity, None)
        return Counter(orphan.kind for orphan, _ in self._named.values())


class _Part:
    """One partition: its ledger, and how far each of its topics has been read."""

    def __init__(self, ledger: Ledger, starts: Mapping[str, int], begun: int) -> None:
        self.ledger = ledger
        self.next = dict(starts)
        self.read: dict[str, int] = dict.fromkeys(starts, begun)
        self.standing = Standing()
        #: Where the walk over the rows goes on.
        self.cursor = b""


class Comparing:
    """Compares, for as long as it runs. ``say`` is given how many orphans stand by kind, and how far it is behind."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        *,
        group: GroupOffsets,
        sources: Callable[[], Mapping[str, Source]],
        audit: str,
        changelog: str,
        partitions: int,
        owned: Callable[[], set[int]],
        rows: Rows,
        scan: Scan,
        held: Callable[[Channel], bool],
        rules: Rules,
        say: Callable[[Mapping[Kind, int], float], None],
        clock: Callable[[], int],
        share: float,
    ) -> None:
        self._make_consumer = make_consumer
        self._group = group
        self._sources = sources
        self._audit = audit
        self._changelog = changelog
        self._partitions = partitions
        self._owned = owned
        self._rows = rows
        self._scan = scan
        self._held = held
        self._rules = rules
        self._say = say
        self._clock = clock
        self._share = share
        self._parts: dict[int, _Part] = {}
        self._due: list[tuple[int, int, bytes]] = []
        self._taken: Mapping[tuple[str, int], int] = {}
        self._asked = float("-inf")
        self._idle_since: float | None = None
        self._turns = 0
        self._stepped = float("-inf")

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as exc:
                log.warning("nothing is compared for now: %s", type(exc).__name__)
            await asyncio.sleep(AFTER_FAULT_S)

    async def _follow(self) -> None:
        consumer = self._make_consumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=int(FETCH_S * 1000),
            fetch_min_bytes=FETCH_BYTES,
            fetch_max_bytes=2 << 20,
            max_partition_fetch_bytes=128 << 10,
        )
        self._parts.clear()
        self._due.clear()
        self._asked = float("-inf")
        await consumer.start()
        try:
            while True:
                await self._turn(consumer)
        finally:
            await self._group.close()
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        loop = asyncio.get_running_loop()
        owned = self._wanted(loop.time())
        if owned != self._parts.keys():
            await self._take(consumer, owned)
        if not owned:
            self._say({}, 0.0)
            await asyncio.sleep(1.0)
            return
        batches: dict[TopicPartition, list[Any]] = await consumer.getmany(
            timeout_ms=int(FETCH_S * 1000), max_records=RECORDS
        )
        worked = self._timed(self._read, consumer, batches)
        if self._asked + OFFSETS_S < loop.time() and self._due and self._due[0][0] <= self._clock():
            self._taken = await self._group.read()
            self._asked = loop.time()
        worked += self._timed(self._look)
        if self._stepped + STEP_S < loop.time():
            self._stepped = loop.time()
            worked += self._timed(self._walk)
        await self._begin_anew(consumer)
        self._tell()
        await asyncio.sleep(worked * (1 / self._share - 1))

    def _timed(self, work: Callable[..., None], *args: Any) -> float:
        """Return what some work cost this thread; on a busy machine it takes longer, and costs no more."""
        begun = time.thread_time()
        work(*args)
        return time.thread_time() - begun

    # -- partitions

    def _wanted(self, now: float) -> set[int]:
        owned = self._owned()
        if owned:
            self._idle_since = None
            return owned
        if self._idle_since is None:
            self._idle_since = now
        return set() if now - self._idle_since > IDLE_S else set(self._parts)

    async def _take(self, consumer: AIOKafkaConsumer, owned: set[int]) -> None:
        kept = {partition: self._parts[partition] for partition in owned & self._parts.keys()}
        fresh = sorted(owned - self._parts.keys())
        made = await self._begun(consumer, fresh, self._clock() - WINDOW_MS) if fresh else {}
        self._parts = kept | made
        self._due = [entry for entry in self._due if entry[1] in kept]
        heapq.heapify(self._due)
        self._assign(consumer)

    async def _begun(self, consumer: AIOKafkaConsumer, fresh: list[int], since: int) -> dict[int, _Part]:
        topics = [*self._sources(), self._audit, self._changelog]
        tps = [TopicPartition(topic, partition) for partition in fresh for topic in topics]
        ends = await consumer.end_offsets(tps)
        found = await consumer.offsets_for_times(dict.fromkeys(tps, since))
        starts = {tp: found[tp].offset if found.get(tp) is not None else ends[tp] for tp in tps}
        return {
            partition: _Part(
                Ledger(
                    partition,
                    since,
                    self._sources(),
                    self._rules,
                    lambda key: partition_of(key, self._partitions),
                    self._held,
                    max(1, MOST_PAGES // max(1, len(self._owned()))),
                    self._clock(),
                ),
                {topic: starts[TopicPartition(topic, partition)] for topic in topics},
                since,
            )
            for partition in fresh
        }

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        tps = {TopicPartition(t, p): offset for p, part in self._parts.items() for t, offset in part.next.items()}
        consumer.assign(list(tps))
        for tp, offset in tps.items():
            consumer.seek(tp, offset)

    async def _begin_anew(self, consumer: AIOKafkaConsumer) -> None:
        late = [p for p, part in self._parts.items() if self._behind(part) > BEHIND_MS]
        if not late:
            return
        minutes = WINDOW_MS // 60_000
        log.warning(
            "more happens than LEDGER_PERCENT lets the ledger read; it goes on with the last %d minutes", minutes,
            extra={"partitions": late},
        )  # fmt: skip
        self._parts |= await self._begun(consumer, late, self._clock() - WINDOW_MS)
        self._due = [entry for entry in self._due if entry[1] not in late]
        heapq.heapify(self._due)
        self._assign(consumer)

    # -- reading

    def _read(self, consumer: AIOKafkaConsumer, batches: Mapping[TopicPartition, list[Any]]) -> None:
        now = self._clock()
        for tp, records in batches.items():
            part = self._parts.get(tp.partition)
            if part is None:
                continue
            for record in records:
                self._one(part, record, now)
            part.next[tp.topic] = records[-1].offset + 1
            part.read[tp.topic] = max(part.read[tp.topic], records[-1].timestamp)
        for partition, part in self._parts.items():
            for topic, following in part.next.items():
                end = consumer.highwater(TopicPartition(topic, partition))
                if end is not None and following >= end:
                    # As the last fetch had it, which may have been waiting for a while.
                    part.read[topic] = max(part.read[topic], now - 2 * int(FETCH_S * 1000))

    def _one(self, part: _Part, record: Any, now: int) -> None:
        ledger, key = part.ledger, record.key
        if record.topic == self._changelog:
            if key is None:
                return
            ledger.logged(record.offset, record.timestamp, key, record.value)
        elif record.topic == self._audit:
            key = ledger.audited(record.topic, record.offset, record.timestamp, key, record.value)
        else:
            key = ledger.take_in(record.topic, record.offset, record.timestamp, key, record.value)
        if key is not None:
            self._queue(part, key, now + LOOK_MS)

    def _queue(self, part: _Part, key: bytes, at: int) -> None:
        page = part.ledger.pages.get(key)
        if page is not None and not page.queued:
            page.queued = True
            heapq.heappush(self._due, (at, part.ledger.partition, key))

    # -- comparing

    def _look(self) -> None:
        now, owned = self._clock(), self._owned()
        wanted: dict[int, list[tuple[bytes, Page]]] = {}
        for _ in range(PAGES):
            if not self._due or self._due[0][0] > now:
                break
            _, partition, key = heapq.heappop(self._due)
            part = self._parts.get(partition)
            page = part.ledger.pages.get(key) if part is not None else None
            if part is None or page is None:
                continue
            page.queued = False
            if partition not in owned:
                # It moves between workers: looked at when it has arrived.
                self._queue(part, key, now + AGAIN_MS)
                continue
            wanted.setdefault(partition, []).append((key, page))
        for partition, pages in wanted.items():
            part = self._parts[partition]
            reached = self._reached(part)
            rows = self._rows(partition, [key for key, _ in pages])
            for (key, page), raw in zip(pages, rows, strict=True):
                found = part.ledger.examine(key, raw, now, reached)
                for orphan in part.standing.looked(key.decode("utf-8", "replace"), found, now):
                    name(orphan)
                if any(orphan.kind not in _FOR_EVER for orphan in found) or not part.ledger.settled(page):
                    self._queue(part, key, now + AGAIN_MS)
                elif (again := max(page.at, page.logged[2] if page.logged else 0) + LOOK_MS) > now:
                    self._queue(part, key, again)

    def _reached(self, part: _Part) -> Reached:
        partition = part.ledger.partition
        taken = {topic: self._taken.get((topic, partition), 0) for topic in self._sources()}
        return Reached(part.read[self._audit], part.read[self._changelog], taken)

    def _walk(self) -> None:
        """Look at the headers of some rows more, one partition after the other."""
        self._turns += 1
        walked = sorted(self._parts.keys() & self._owned())
        if not walked:
            return
        part = self._parts[walked[self._turns % len(walked)]]
        now = self._clock()
        rows = self._scan(part.ledger.partition, part.cursor, ROWS)
        for key, raw in rows:
            if part.ledger.overdue("", raw, now) is not None:
                part.ledger.page(key)
                self._queue(part, key, now)
        part.cursor = rows[-1][0] + b"\0" if len(rows) == ROWS else b""

    # -- telling

    def _behind(self, part: _Part) -> int:
        return max(0, self._clock() - min(part.read.values()) - LOOK_MS)

    def _tell(self) -> None:
        now = self._clock()
        counts: Counter[Kind] = Counter()
        for part in self._parts.values():
            counts.update(part.standing.counts(now))
        self._say(counts, max(map(self._behind, self._parts.values()), default=0) / 1000)


def name(orphan: Orphan) -> None:
    """Say in the log that something does not add up."""
    log.error(
        "orphan: %s (%s); %s",
        orphan.why,
        orphan.kind.value,
        orphan.remedy,
        extra={"reminder": orphan.reminder_id, "kind": orphan.kind.value, "where": orphan.where, "at": orphan.at},
    )
