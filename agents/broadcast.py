"""The broadcast reader: a compacted topic that every worker reads whole, and knows how fresh its knowledge is.

It belongs to no consumer group. It is ready once it has stood at the end of every partition, and fresh as long as the
broker confirmed that it still does: a worker that cannot know of a hold, or of a STOP, begins no call (design: Holds).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

#: A reader that has not stood at the end for so long may have missed something, in seconds.
FRESH_S = 0.8
#: How long the broker may keep a fetch open that has nothing to answer, in ms; well below FRESH_S.
FETCH_MS = 200


class Broadcast:
    """Follows a topic from its beginning. A subclass takes each record, and a turn after each fetch."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topic: str,
        partitions: int,
        *,
        fatal: Callable[[str, BaseException | None], None],
    ) -> None:
        self._make_consumer = make_consumer
        self._topic = topic
        self._tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._fatal = fatal
        self._task: asyncio.Task[None] | None = None
        self._at_end = float("-inf")

    def fresh(self) -> bool:
        """Return whether what is known here was the whole topic within the last FRESH_S."""
        return time.monotonic() - self._at_end <= FRESH_S

    async def start(self) -> None:
        """Read the topic to its end, then follow it."""
        consumer = self._make_consumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_MS,
        )
        await consumer.start()
        consumer.assign(self._tps)
        await consumer.seek_to_beginning(*self._tps)
        reached = asyncio.Event()
        self._task = asyncio.create_task(self._follow(consumer, reached), name=f"reader of {self._topic}")
        await reached.wait()

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, consumer: AIOKafkaConsumer, reached: asyncio.Event) -> None:
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values():
                    for record in records:
                        self._apply(record)
                self._turn()
                heard = await self._heard_at_end(consumer)
                if heard is not None:
                    self._at_end = max(self._at_end, heard)
                    reached.set()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  # without its reader a worker would begin no call, and not say why
            self._fatal(f"the reader of {self._topic} failed", exc)
        finally:
            await consumer.stop()

    async def _heard_at_end(self, consumer: AIOKafkaConsumer) -> float | None:
        """Return the monotonic time at which the broker last confirmed that nothing is left to read, None if it is not
        so."""
        oldest = float("inf")
        for tp in self._tps:
            end = consumer.highwater(tp)
            heard_ms = consumer.last_poll_timestamp(tp)
            if end is None or not heard_ms or await consumer.position(tp) < end:
                return None
            oldest = min(oldest, float(heard_ms))
        return time.monotonic() - max(0.0, time.time() - oldest / 1000)

    def _apply(self, record: Any) -> None:
        """Take a record."""
        raise NotImplementedError

    def _turn(self) -> None:
        """Called after each fetch."""
