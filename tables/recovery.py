"""Replay of changelogs into the store, before Faust's own recovery, which then has nothing left to do.

Faust reads each record through its whole machinery (77 s of CPU for 1M rows) and waits for the record before the end
to exist, which a marker of a transaction or compaction can prevent. This reads in batches, keeps the last value of
each key, and is done when its position has reached the end.

Nothing here ever removes rows. Where a store and its changelog contradict each other, it says so and leaves both as
they are, for either may be the only copy.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from tables.store import DueStore

log = logging.getLogger(__name__)

#: Without a step forward for so long, the replay is given up: the worker exits and begins anew.
STALL_S = 30.0
PROGRESS_S = 1.0
BATCH_RECORDS = 5_000


class ReplayError(Exception):
    """The changelogs cannot be replayed; the message says what to do."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did."""

    partitions: int
    records: int
    rows: int
    seconds: float


async def replay(
    stores: Mapping[TP, DueStore], make_consumer: Callable[[], AIOKafkaConsumer], *, stall_s: float = STALL_S
) -> Replayed:
    """Bring the stores of these changelog partitions up to the present end of their changelogs.

    The consumer must belong to no group; it is started and stopped here. A partition that is closed meanwhile (another
    rebalance) is left alone. Raises ReplayError if there is no step forward within stall_s, or if a store is ahead of
    its changelog.
    """
    run = _Replay(stores, stall_s)
    consumer = make_consumer()
    try:
        async with asyncio.timeout(stall_s) as limit:
            await consumer.start()
            await run.seek(consumer)
            run.moved(limit)
            while run.ends:
                await run.step(consumer, limit)
    except TimeoutError as exc:
        behind = ", ".join(f"{tp.topic}-{tp.partition}" for tp in sorted(run.ends))
        raise ReplayError(f"no changelog record came for {stall_s:g} s ({behind or 'no answer at all'})") from exc
    except KafkaError as exc:
        raise ReplayError(f"the changelogs could not be read: {exc!r}") from exc
    finally:
        await consumer.stop()
    return run.result()


class _Replay:
    def __init__(self, stores: Mapping[TP, DueStore], stall_s: float) -> None:
        self.stores = {TopicPartition(tp.topic, tp.partition): store for tp, store in stores.items()}
        self.stall_s = stall_s
        #: Where the changelogs of the partitions that are not done end.
        self.ends: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.records = self.rows = 0
        self.began = self.said = time.monotonic()

    async def seek(self, consumer: AIOKafkaConsumer) -> None:
        """Assign what is to be read, from the first record that a store does not reflect."""
        tps = list(self.stores)
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        beginnings = await consumer.beginning_offsets(tps)
        reflected = {tp: self._reflected(tp) for tp in tps}
        self._refuse_if_ahead(ends, reflected)
        for tp in tps:
            start = reflected[tp] + 1
            if beginnings[tp] > start:
                # The rows here and what is left of the changelog are all there is; together they lose the least.
                level = logging.ERROR if start else logging.WARNING
                message = "changelog records were deleted before this store had read them; going on with the rest"
                log.log(level, message, extra=_about(tp) | {"from": start, "to": beginnings[tp] - 1})
                start = beginnings[tp]
            if start < ends[tp]:
                self.ends[tp], self.positions[tp] = ends[tp], start
                consumer.seek(tp, start)
            else:
                consumer.pause(tp)

    async def step(self, consumer: AIOKafkaConsumer, limit: asyncio.Timeout) -> None:
        """Read and write one batch a partition."""
        batches = await consumer.getmany(timeout_ms=500, max_records=BATCH_RECORDS)
        for tp, records in batches.items():
            if tp in self.ends and self._open(tp):
                rows = {record.key: record.value for record in records if record.key is not None}
                self.stores[tp].write_rows(tp.partition, rows, records[-1].offset)
                self.records += len(records)
                self.rows += len(rows)
            await asyncio.sleep(0)
        for tp, end in list(self.ends.items()):
            if not self._open(tp):
                self._leave(consumer, tp)
                continue
            # Not the last record's offset: what stands before the end may be a marker, or was compacted away.
            position = await consumer.position(tp)
            if position > self.positions[tp]:
                self.positions[tp] = position
                self.moved(limit)
            if position >= end:
                if self._reflected(tp) < end - 1:
                    self.stores[tp].set_persisted_offset(TP(tp.topic, tp.partition), end - 1)
                self._leave(consumer, tp)
        if time.monotonic() - self.said >= PROGRESS_S:
            self.said = time.monotonic()
            left = sum(self.ends[tp] - self.positions[tp] for tp in self.ends)
            log.info(
                "replaying changelogs", extra={"records": self.records, "left": left, "partitions": len(self.ends)}
            )

    def moved(self, limit: asyncio.Timeout) -> None:
        """Put off the time limit."""
        limit.reschedule(asyncio.get_running_loop().time() + self.stall_s)

    def result(self) -> Replayed:
        """Say what was done."""
        done = Replayed(len(self.stores), self.records, self.rows, round(time.monotonic() - self.began, 3))
        about = {"partitions": done.partitions, "records": done.records, "rows": done.rows, "seconds": done.seconds}
        log.info("replayed changelogs", extra=about)
        return done

    def _open(self, tp: TopicPartition) -> bool:
        return self.stores[tp].is_open(tp.partition)

    def _leave(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        del self.ends[tp]
        consumer.pause(tp)

    def _reflected(self, tp: TopicPartition) -> int:
        offset = self.stores[tp].persisted_offset(TP(tp.topic, tp.partition))
        return -1 if offset is None else offset

    def _refuse_if_ahead(self, ends: Mapping[TopicPartition, int], reflected: Mapping[TopicPartition, int]) -> None:
        """Raise if a store has read more than its changelog holds: that one was made anew, or has lost its tail.

        Which of the two is right cannot be told from here. Emptying the store loses the rows that only it has (their
        events are committed and do not come again); going on lets old offsets hide new records.
        """
        ahead: dict[str, list[str]] = defaultdict(list)
        for tp, offset in reflected.items():
            if offset >= ends[tp]:
                where = f"{self.stores[tp].partition_path(tp.partition)} (has read {offset + 1}, there are {ends[tp]})"
                ahead[tp.topic].append(where)
        if ahead:
            listed = "; ".join(f"{topic}: {', '.join(sorted(paths))}" for topic, paths in sorted(ahead.items()))
            raise ReplayError(
                "the local store is ahead of its changelog, which was made anew or has lost its end. "
                f"{listed}. Nothing was changed: these directories may be the only copy of their rows. Remedy: bring "
                "back the changelog topic; or, if what Kafka holds is right, move the named directories away and "
                "start again, and the rows are read from the changelog"
            )


def _about(tp: TopicPartition) -> dict[str, object]:
    return {"topic": tp.topic, "partition": tp.partition}
