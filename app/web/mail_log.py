"""What a mail was sent for, read from the topic that asked for it, by the place that the mail's address names."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.web.ports import Unsent
from schemas import codec
from schemas.codec import Undecodable
from schemas.records import Delivery, Message


class KafkaMails:
    """Reads single records, one at a time. ``options``: those of ``app.kafka.client_options``; ``timeout_s``: limit of
    one look, and of the wait for those before it. Its consumer belongs to no group, is made when it is first needed,
    and is thrown away where the brokers fail it."""

    def __init__(self, options: Mapping[str, Any], topic: str, partitions: int, timeout_s: float) -> None:
        self._options = options
        self._topic = topic
        self._partitions = partitions
        self._timeout_s = timeout_s
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()

    async def find(self, partition: int, offset: int) -> list[tuple[Delivery, Message]]:
        """Return what a record asked for, in one mail; nothing where it is there no more. Raises Unsent where the
        brokers do not answer."""
        if partition >= self._partitions:
            return []
        tp = TopicPartition(self._topic, partition)
        await self._take_turn()
        try:
            async with asyncio.timeout(self._timeout_s):
                value = await self._value(tp, offset)
        except TimeoutError as exc:
            await self._close()
            raise Unsent(f"no answer of the brokers within {self._timeout_s:g} s") from exc
        except (KafkaError, OSError) as exc:
            await self._close()
            raise Unsent(type(exc).__name__) from exc
        except BaseException:
            await self._close()
            raise
        finally:
            self._turn.release()
        if value is None:
            return []
        try:
            first = codec.decode(Delivery, value)
            every = [first, *(codec.decode(Delivery, raw) for raw in first.together)]
            return [(one, codec.decode(Message, one.sealed.body)) for one in every]
        except Undecodable:
            return []

    async def _take_turn(self) -> None:
        """Wait for those before, but not for long: without brokers they would be ever more."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turn.acquire()
        except TimeoutError as exc:
            raise Unsent(f"others wait for the brokers for more than {self._timeout_s:g} s") from exc

    async def _value(self, tp: TopicPartition, offset: int) -> bytes | None:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **self._options, enable_auto_commit=False, auto_offset_reset="none", client_id="reminders-mails"
            )
            await self._consumer.start()
        consumer = self._consumer
        begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        if not begin <= offset < end:
            return None
        consumer.assign([tp])
        try:
            consumer.seek(tp, offset)
            record = await consumer.getone(tp)
        finally:
            # Else it would read on, to the end of the topic.
            consumer.unsubscribe()
        return record.value if record.offset == offset else None

    async def close(self) -> None:
        """Disconnect."""
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()
