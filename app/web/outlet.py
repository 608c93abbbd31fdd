"""How what came by HTTP gets to the brokers: by a producer of its own, made when it is first needed.

It shares nothing with the one that units publish by: where that one fails the worker ends, here the caller is told.
What the caller was told may be lost is not to arrive an hour later, when the brokers are back: aiokafka keeps batches
for as long as it knows their leader, however old they are. So a producer that failed is used no more, and is thrown
away with all that waits in it once its last request has ended.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.publisher import partition_of
from app.web.ports import Kept, Outgoing, Unsent


@dataclass(slots=True)
class _Line:
    """A producer and how many requests use it."""

    producer: Any
    users: int = 0


class KafkaOutlet:
    """Sends records of one topic. ``options``: those of ``app.kafka.producer_options``."""

    def __init__(self, options: dict[str, Any], topic: str, partitions: int, timeout_s: float) -> None:
        self._options = options
        self._topic = topic
        self._partitions = partitions
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._starting = asyncio.Lock()

    async def send(self, records: Sequence[Outgoing]) -> list[Kept]:
        """Return where each record lies, once all copies have all of them. Raises Unsent."""
        line: _Line | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._started()
                line.users += 1
                sent = [await self._put(line.producer, record) for record in records]
                told = await asyncio.gather(*sent, return_exceptions=True)
            kept = []
            for one in told:
                if isinstance(one, BaseException):
                    raise one
                kept.append(Kept(self._topic, one.partition, one.offset))
            return kept
        except TimeoutError as exc:
            self._retire(line)
            raise Unsent(f"no acknowledgement within {self._timeout_s:g} s") from exc
        except (KafkaError, OSError) as exc:
            self._retire(line)
            raise Unsent(type(exc).__name__) from exc
        finally:
            if line is not None:
                line.users -= 1
                if line is not self._line and line.users == 0:
                    await _thrown_away(line.producer)

    async def _put(self, producer: Any, record: Outgoing) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await producer.send(
            self._topic,
            record.value,
            key=record.key,
            partition=partition_of(record.key, self._partitions),
            headers=list(record.headers),
        )
        return future

    def _retire(self, line: _Line | None) -> None:
        if line is not None and line is self._line:
            self._line = None

    async def _started(self) -> _Line:
        async with self._starting:
            if self._line is None:
                # With an identity it would never give up a batch that fails. A copy does no harm: it has its event id.
                producer = AIOKafkaProducer(**self._options, client_id="reminders-http", max_batch_size=1 << 20)
                try:
                    await producer.start()
                except BaseException:
                    await _thrown_away(producer)
                    raise
                self._line = _Line(producer)
            return self._line

    async def close(self) -> None:
        """Disconnect. Requests under way have been awaited, or their callers are told."""
        line, self._line = self._line, None
        if line is not None and line.users == 0:
            await _thrown_away(line.producer)


async def _thrown_away(producer: Any) -> None:
    """Disconnect a producer, and send nothing that still waits in it, which its own ``stop`` would."""
    producer._closed = True
    with contextlib.suppress(Exception):
        if producer._sender is not None:
            await producer._sender.close()
    with contextlib.suppress(Exception):
        await producer.client.close()
