"""The publisher beside other publishers: one batch of a partition at a time is handed to aiokafka."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from agents.ports import Out
from agents.publisher import Publisher


class Producer:
    """Takes batches as aiokafka does, and fails where a second one has to wait for its partition."""

    def __init__(self) -> None:
        self.waiting: Counter[tuple[str, int]] = Counter()
        self.ends: Counter[tuple[str, int]] = Counter()

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(200, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        where = topic, partition
        self.waiting[where] += 1
        assert self.waiting[where] == 1, "two batches of a partition wait"
        await asyncio.sleep(0.001)
        self.waiting[where] -= 1
        done = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=self.ends[where]))
        self.ends[where] += batch.record_count()
        return done


async def test_units_that_write_to_one_partition_take_turns() -> None:
    publisher = Publisher({}, timeout_s=5)
    producer = publisher._producer = Producer()
    records = [Out("requests", n % 3, b"key", b"value" * 10) for n in range(30)]
    await asyncio.gather(*(publisher.publish(records) for _ in range(8)))
    assert producer.ends == {("requests", p): 80 for p in range(3)}


async def test_the_offset_of_the_last_row_is_told() -> None:
    publisher = Publisher({}, timeout_s=5)
    publisher._producer = Producer()
    rows = [(b"key-%d" % n, b"value" * 10) for n in range(20)]
    assert await publisher.append("changelog", 0, rows) == 19
    assert await publisher.append("changelog", 0, rows) == 39
