"""Publishing: batches to explicit partitions, every one acknowledged by all in-sync replicas before the caller goes
on."""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer

from agents.ports import Out

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_words = [struct.Struct(f"<{n}I").unpack_from for n in range(64)]


def murmur2(data: bytes) -> int:
    """Return Kafka's hash of a key: aiokafka's own, byte by byte, takes three times as long."""
    size = len(data)
    count = size >> 2
    h = 0x9747B28C ^ size
    for k in _words[count](data) if count < 64 else struct.unpack_from(f"<{count}I", data):
        k = k * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if size & 3:
        h = (h ^ int.from_bytes(data[size & ~3 :], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=4096)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's Java client gives a key (murmur2, sign bit dropped)."""
    # Remembered for a moment: whatever follows from one input has the same few keys.
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class PublishError(Exception):
    """A record was not acknowledged: infrastructure, hence fatal to the process."""


class Publisher:
    """The one producer of an app: idempotent, acks from all replicas, records go where the caller says.

    ``publish`` and ``append`` return only when the broker has acknowledged everything, and raise ``PublishError`` when
    it has not within ``timeout_s`` (design: a publish unacked that long after its fence check must not land later).
    """

    def __init__(self, options: dict[str, Any], *, timeout_s: float) -> None:
        self._options = options
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        #: By topic and partition: whose turn it is to hand over batches.
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Connect. Called in the running loop."""
        self._producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=1 << 20,
            max_request_size=4 << 20,
            request_timeout_ms=int(self._timeout_s * 1000),
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect. Nothing is left to send: every publish was awaited."""
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, records: Iterable[Out]) -> None:
        """Publish records, those of a partition in their order."""
        targets: dict[tuple[str, int], list[Out]] = {}
        for record in records:
            targets.setdefault((record.topic, record.partition), []).append(record)
        async with self._limit():
            await asyncio.gather(*(self._send(topic, partition, out) for (topic, partition), out in targets.items()))

    async def append(self, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Append rows to a changelog partition; return the offset of the last one."""
        async with self._limit():
            return await self._send(topic, partition, [Out(topic, partition, key, value) for key, value in rows])

    def _limit(self) -> "_Limit":
        return _Limit(self._timeout_s)

    async def _send(self, topic: str, partition: int, records: Sequence[Out]) -> int:
        producer = self._producer
        if producer is None:
            raise PublishError("the producer has not been started")
        batches = [producer.create_batch()]
        for record in records:
            if not _added(batches[-1], record):
                batches.append(producer.create_batch())
                _added(batches[-1], record)
        sent: list[tuple[int, asyncio.Future[Any]]] = []
        # aiokafka lets one batch a partition wait and wakes all who have another, the last of them again and again;
        # each time it takes all that has passed off its time-out (add_batch), which is then over after two seconds.
        async with self._turns[topic, partition]:
            for batch in batches:
                batch.close()
                sent.append((batch.record_count(), await producer.send_batch(batch, topic, partition=partition)))
        last = -1
        for count, future in sent:
            metadata = await future
            last = metadata.offset + count - 1
        return last


def _added(batch: Any, record: Out) -> bool:
    """Add a record to a batch; False if the batch is full. The first record always fits."""
    added = batch.append(
        key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=list(record.headers)
    )
    return added is not None


class _Limit:
    """A time limit that turns its own expiry, and every failure of the client, into PublishError."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = asyncio.timeout(timeout_s)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, exc, trace)
        except TimeoutError:
            raise PublishError(f"the broker did not acknowledge within {self._timeout_s} s") from exc
        if isinstance(exc, Exception):
            raise PublishError(f"{type(exc).__name__}: {exc}") from exc
