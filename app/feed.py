"""The way of events from the fetch to the backlogs, whole batches at a time (ADR 0017).

Faust gives every record to a conductor, a queue and a stream, with two tasks and some fourteen turns of the loop for
each: more than half of what an event costs, and events trickle in, so that units stay small. Here what a fetch brought
for a partition goes to its topic's agent as one batch, and from there into the partition's backlog. The rest is
Faust's: it subscribes, assigns, fetches, seeks and commits, and its flow control empties the agents' queues. What holds
there holds here:

- nothing passes while the flow is stopped; what a fetch brought then is sought again (Consumer.getmany);
- each event carries the generation in which it came, and counts as unacked from when its agent takes it until its unit
  acks it; what an agent has not taken when its partition is given up is dropped, and sought again by the next owner;
- a partition whose backlog is full is not fetched until half of it is done (Consumer.on_buffer_full, on_buffer_drop).

Turns that bring something are paced: the client fetches on while a turn waits, but once, until what it has is taken.

Records of other topics (changelogs of standbys) go Faust's way.
"""

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from types import MethodType
from typing import Any

from faust.types import TP

from agents.unit_of_work import Units

#: How long a fetch waits for records, in seconds. Faust's own.
FETCH_S = 1.0
#: How far apart fetches that bring something are in the long run, in seconds, and how many may come at once: a lone
#: record waits for none. Each fetch asks for every partition, 1 to 3 ms of CPU, be it for a single record.
PACE_S = 0.02
AT_ONCE = 5


class Pace:
    """Lets turns pass at once until ``at_once`` of them came closer together than ``every_s``."""

    __slots__ = ("_ahead_s", "_every_s", "_next")

    def __init__(self, every_s: float = PACE_S, at_once: int = AT_ONCE) -> None:
        self._every_s = every_s
        self._ahead_s = every_s * (at_once - 1)
        self._next = float("-inf")

    def taken(self, now: float) -> float:
        """Note a turn; return how long to wait before the one after it, in seconds. ``now``: of a steady clock."""
        self._next = max(self._next, now - self._ahead_s) + self._every_s
        return max(0.0, self._next - now)


class Message:
    """A record as units and Faust's consumer need it: what faust.types.tuples.ConsumerMessage is, without the rest."""

    __slots__ = (
        "acked",
        "generation_id",
        "headers",
        "key",
        "offset",
        "partition",
        "refcount",
        "timestamp",
        "topic",
        "tp",
        "tracked",
        "value",
    )

    def __init__(self, tp: TP, record: Any, generation_id: int) -> None:
        self.topic: str = tp.topic
        self.partition: int = tp.partition
        self.tp = tp
        self.offset: int = record.offset
        self.timestamp: float = record.timestamp / 1000.0
        self.headers: object = record.headers
        self.key: bytes | None = record.key
        self.value: bytes | None = record.value
        self.generation_id = generation_id
        self.acked = False
        self.tracked = True
        self.refcount = 1

    def __repr__(self) -> str:
        return f"<Message: {self.tp} offset={self.offset}>"


class Event:
    """A record that has not been acked."""

    __slots__ = ("_consumer", "message", "taken")

    def __init__(self, consumer: Any, message: Message, taken: float) -> None:
        self._consumer = consumer
        self.message = message
        self.taken = taken

    def ack(self) -> bool:
        """Mark the record as done."""
        return bool(self._consumer.ack(self.message))


class Batch:
    """What one fetch brought for one partition. A stream hands on untouched what is no event of Faust's."""

    __slots__ = ("generation_id", "records", "tp")

    def __init__(self, tp: TP, records: Sequence[Any], generation_id: int) -> None:
        self.tp = tp
        self.records = records
        self.generation_id = generation_id


class Feed:
    """Brings the records of ``topics`` from an app's consumer to their agents, and from there to the units."""

    def __init__(self, app: Any, units: Units, topics: Sequence[str]) -> None:
        self._app = app
        self._units = units
        self._topics = frozenset(topics)
        self._pace = Pace()

    def attach(self, consumer: Any) -> None:
        """Let a consumer be drained by this feed."""

        async def drain(consumer: Any, fetcher: Any) -> None:
            try:
                while not (consumer._stopped.is_set() or fetcher._stopped.is_set()):
                    await self._turn(consumer)
            except consumer.consumer_stopped_errors:
                if not self._app.should_stop:
                    raise
            except asyncio.CancelledError:
                if not self._app.should_stop:
                    raise

        consumer._drain_messages = MethodType(drain, consumer)

    async def _turn(self, consumer: Any) -> None:
        """Fetch once, and pass on what came. What comes while the next turn waits is fetched with it."""
        records, active = await consumer._wait_next_records(FETCH_S)
        if records is None or consumer.should_stop:
            return
        generation = self._app.consumer_generation_id
        if consumer.flow_active and not self._app.flow_control.is_active():
            await consumer.wait_first(self._app.flow_control.acquire(), consumer.suspend_flow.wait())
            if self._app.consumer_generation_id != generation:
                # A rebalance went by, and has sought again what this fetch brought before it.
                return
        if not consumer.flow_active:
            try:
                await consumer.perform_seek()
            except Exception as exc:  # noqa: BLE001  # as Faust: the recovery that follows seeks again
                consumer.log.warning("cannot seek while the flow is stopped: %r", exc)
            return
        others = {}
        for tp, batch in records.items():
            if active is None or tp in active or tp in consumer._buffered_partitions:
                if tp.topic in self._topics:
                    self._pass(consumer, TP(*tp), batch, generation)
                else:
                    others[tp] = batch
        if others:
            await self._faust(consumer, others)
        if consumer._commit_every is not None and consumer._n_acked >= consumer._commit_every:
            consumer._n_acked = 0
            await consumer.commit()
        if records and (wait_s := self._pace.taken(monotonic())):
            await asyncio.sleep(wait_s)

    def _pass(self, consumer: Any, tp: TP, batch: Sequence[Any], generation: int) -> None:
        monitor = self._app.monitor
        monitor.track_tp_end_offset(tp, consumer.highwater(tp))
        monitor.stream_inbound_time[tp] = monotonic()
        expected = consumer._read_offset[tp] or 0
        records = [record for record in batch if record.offset >= expected]
        if records:
            consumer._read_offset[tp] = records[-1].offset
            for channel in self._app.topics._topic_name_index[tp.topic]:
                channel.queue.put_nowait(Batch(tp, records, generation))

    async def pump(self, stream: Any) -> None:
        """Move the batches of a stream into the backlogs of their partitions, unacked. The body of every agent."""
        async for batch in stream:
            if self._app.flow_control.is_active() and batch.generation_id == self._app.consumer_generation_id:
                self._take(self._app.consumer, batch)

    def _take(self, consumer: Any, batch: Batch) -> None:
        tp = batch.tp
        messages = [Message(tp, record, batch.generation_id) for record in batch.records]
        consumer._unacked_messages.update(messages)
        now = monotonic()
        events = [Event(consumer, message, now) for message in messages]
        if self._units.put(tp.partition, events, lambda: consumer.on_buffer_drop(tp)):
            consumer.on_buffer_full(tp)

    async def _faust(self, consumer: Any, records: Mapping[TP, Sequence[Any]]) -> None:
        """Pass records on as Faust does (Consumer.getmany and Consumer._drain_messages)."""
        generation = self._app.consumer_generation_id
        for tp, record in consumer.scheduler.iterate(records):
            if not consumer.flow_active or self._app.consumer_generation_id != generation:
                return
            message = consumer._to_message(tp, record)
            expected = consumer._read_offset[tp]
            if expected is None or message.offset >= expected:
                await consumer.wait_first(consumer.callback(message), consumer.suspend_flow.wait())
                consumer._read_offset[tp] = message.offset
