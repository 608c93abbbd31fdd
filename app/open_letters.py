"""How many dead letters are open, by reason: followed by each core worker for the partitions that it owns.

Cheap and bounded: a closing says the reason of its letter, so counting needs no list of letters; the topic is read a
few records at a time, so that reminders never wait for it. What fails here is tried again and harms nothing else.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from agents.letters import ACT, PREFIX
from agents.meter import Bounded
from app.dlq import Act, headers_of, letter_of

log = logging.getLogger(__name__)

#: Letters of which it is remembered that they have been counted, a partition: copies come soon after.
REMEMBERED = 2048
#: How many records are taken at once, and the pause after them, in seconds.
TAKEN = 200
PAUSE_S = 0.1
#: How often it is asked whether retention has taken letters, in seconds.
LOOK_S = 300.0
#: Partitions are given up after so long without any, in seconds: a rebalance takes less.
IDLE_S = 60.0
#: How long the broker is left alone after it failed, in seconds.
AGAIN_S = 10.0


class Tally:
    """The open letters of one partition, counted from its first offset on."""

    __slots__ = ("_known", "_order", "_reason", "counts", "first", "next")

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.counts: Counter[str] = Counter()
        self._reason = Bounded(100)
        self._known: set[int] = set()
        self._order: deque[int] = deque()

    def add(self, record: ConsumerRecord) -> None:
        """Count the next record."""
        self.next = record.offset + 1
        said = headers_of(record)
        if ACT in said:
            of = said.get(PREFIX + "letter", "")
            # What retention has taken was never counted.
            if said[ACT] == Act.CLOSED and of.isdecimal() and int(of) >= self.first:
                self.counts[self._reason(said.get(PREFIX + "reason", ""))] -= 1
            return
        letter = letter_of(record, said)
        identity = hash(letter.identity)
        if identity in self._known:
            return
        self._known.add(identity)
        self._order.append(identity)
        if len(self._order) > REMEMBERED:
            self._known.discard(self._order.popleft())
        self.counts[self._reason(letter.reason)] += 1


class OpenLetters:
    """Follows the dead letter topic. ``say`` is given the counts of all owned partitions once they have been read."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topic: str,
        owned: Callable[[], set[int]],
        say: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._make_consumer = make_consumer
        self._topic = topic
        self._owned = owned
        self._say = say
        self._tallies: dict[int, Tally] = {}
        self._looked = 0.0
        self._idle_since: float | None = None

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as exc:
                log.warning("open dead letters are not counted for now: %s", type(exc).__name__)
            await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        consumer = self._make_consumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=1000,
            fetch_max_bytes=4 << 20,
            max_partition_fetch_bytes=256 << 10,
        )
        self._tallies.clear()
        await consumer.start()
        try:
            while True:
                await self._turn(consumer)
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        now = asyncio.get_running_loop().time()
        owned = self._wanted(now)
        if owned != self._tallies.keys():
            await self._take(consumer, owned)
        if not owned:
            self._say({})
            await asyncio.sleep(1.0)
            return
        if now - self._looked > LOOK_S:
            self._looked = now
            await self._look(consumer)
        batches: dict[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=1000, max_records=TAKEN)
        for tp, records in batches.items():
            for record in records:
                self._tallies[tp.partition].add(record)
        if batches:
            await asyncio.sleep(PAUSE_S)
        if self._at_end(consumer):
            self._say(sum((tally.counts for tally in self._tallies.values()), Counter()))

    def _wanted(self, now: float) -> set[int]:
        owned = self._owned()
        if owned:
            self._idle_since = None
            return owned
        if self._idle_since is None:
            self._idle_since = now
        return set() if now - self._idle_since > IDLE_S else set(self._tallies)

    async def _take(self, consumer: AIOKafkaConsumer, owned: set[int]) -> None:
        fresh = [TopicPartition(self._topic, partition) for partition in owned - self._tallies.keys()]
        firsts = await consumer.beginning_offsets(fresh) if fresh else {}
        kept = {partition: self._tallies[partition] for partition in owned & self._tallies.keys()}
        self._tallies = kept | {tp.partition: Tally(first) for tp, first in firsts.items()}
        self._assign(consumer)

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign([TopicPartition(self._topic, partition) for partition in self._tallies])
        for partition, tally in self._tallies.items():
            consumer.seek(TopicPartition(self._topic, partition), tally.next)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Count a partition anew whose first letters are gone; that happens by whole segments, so seldom."""
        tps = [TopicPartition(self._topic, partition) for partition in self._tallies]
        moved = {tp: first for tp, first in (await consumer.beginning_offsets(tps)).items()
                 if first > self._tallies[tp.partition].first}  # fmt: skip
        if moved:
            self._tallies |= {tp.partition: Tally(first) for tp, first in moved.items()}
            self._assign(consumer)

    def _at_end(self, consumer: AIOKafkaConsumer) -> bool:
        for partition, tally in self._tallies.items():
            end = consumer.highwater(TopicPartition(self._topic, partition))
            if end is None or tally.next < end:
                return False
        return True
