"""Where benches play: a broker of their own, installations on it, workers as processes, and what can be seen from
outside."""

import asyncio
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.config import Settings
from app.topics import TOPICS, TopicNames, ensure_topics, full_name
from deploy.dev.process import Kept, free_ports, spawn

ROOT = Path(__file__).resolve().parents[1]
PARTITIONS = 8
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A bench cannot go on; the message says why."""


class Process:
    """A worker, as the system sees it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.began = time.time()
        with log.open("ab") as out:
            self._kept: Kept = spawn([sys.executable, *command], env={**os.environ, **env}, cwd=ROOT, output=out)

    def cpu_s(self) -> float:
        """Return the CPU time that it has used, in seconds."""
        fields = Path(f"/proc/{self._kept.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> dict[str, float]:
        """Return resident memory, now and at its peak, in MiB."""
        lines = Path(f"/proc/{self._kept.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM", "RssAnon")))
        return {name: round(int(text.split()[0]) / 1024, 1) for name, text in found.items()}

    def check(self) -> None:
        """Raise BenchError with the end of its log if it has ended."""
        if (code := self._kept.poll()) is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])
            raise BenchError(f"a worker ended with {code}:\n{tail}")

    def stop(self) -> None:
        """Let it end in order; kill it after half a minute."""
        self._kept.stop(30.0)

    def kill(self) -> None:
        """Kill it."""
        self._kept.kill()


@dataclass
class Kafka:
    """What benches ask the broker."""

    bootstrap: str
    admin: AIOKafkaAdminClient
    consumer: AIOKafkaConsumer

    async def ends(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        """Return the end of each partition of the topics."""
        return dict(await self.consumer.end_offsets([TopicPartition(t, p) for t in topics for p in range(PARTITIONS)]))

    async def end(self, *topics: str) -> int:
        """Return how many records the topics have had."""
        return sum((await self.ends(topics)).values())

    async def committed(self, group: str, topic: str) -> int:
        """Return how many records of a topic a group has done for good."""
        offsets = await self.admin.list_consumer_group_offsets(group)
        return sum(max(0, found.offset) for tp, found in offsets.items() if tp.topic == topic)

    async def stamp_on_arrival(self, *topics: str) -> None:
        """Let the broker stamp records with the time of their arrival instead of the producer's."""
        change = {"message.timestamp.type": "LogAppendTime"}
        resources = []
        specs = {spec.name: spec for spec in TOPICS}
        for topic in topics:
            spec = next(spec for name, spec in specs.items() if topic == name or topic.endswith(f".{name}"))
            # AlterConfigs replaces all of a topic's settings.
            resources.append(ConfigResource(ConfigResourceType.TOPIC, topic, spec.config(1) | change))
        await self.admin.alter_configs(resources)

    async def records(self, beginnings: Mapping[TopicPartition, int]) -> list[Any]:
        """Return all records from the given offsets to the present ends."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, max_partition_fetch_bytes=8 << 20)
        await consumer.start()
        found: list[Any] = []
        try:
            consumer.assign(list(beginnings))
            ends = await consumer.end_offsets(list(beginnings))
            for tp, offset in beginnings.items():
                consumer.seek(tp, offset)
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=200, max_records=5000)).values():
                    found.extend(batch)
        finally:
            await consumer.stop()
        return found

    async def write(self, topic: str, records: Iterable[tuple[int, bytes, bytes]]) -> int:
        """Write (partition, key, value) in large batches; return how many once all are acknowledged."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, max_batch_size=1 << 19, max_request_size=4 << 20, acks=1
        )
        await producer.start()
        count = 0
        try:
            open_: dict[int, Any] = {}
            sent: list[asyncio.Future[Any]] = []

            async def send(partition: int) -> None:
                batch = open_.pop(partition)
                batch.close()
                sent.append(await producer.send_batch(batch, topic, partition=partition))

            for partition, key, value in records:
                count += 1
                batch = open_.get(partition) or open_.setdefault(partition, producer.create_batch())
                if batch.append(key=key, value=value, timestamp=None) is None:
                    await send(partition)
                    batch = open_[partition] = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            for partition in list(open_):
                await send(partition)
            await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return count


@asynccontextmanager
async def connected(bootstrap: str) -> AsyncIterator[Kafka]:
    """Open what benches ask the broker with."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        yield Kafka(bootstrap, admin, consumer)
    finally:
        await consumer.stop()
        await admin.close()


@dataclass
class Installation:
    """One set of topics, with a core worker."""

    kafka: Kafka
    home: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    namespace: str = field(default_factory=lambda: f"b{uuid.uuid4().hex[:8]}")
    running: list[Process] = field(default_factory=list)

    @property
    def names(self) -> TopicNames:
        """Return the names of its topics."""
        return TopicNames(self.namespace)

    @property
    def folder(self) -> Path:
        """Return where its worker keeps its tables and its log."""
        return self.home / self.namespace

    @property
    def environ(self) -> dict[str, str]:
        """Return its configuration: the defaults, but for what a bench needs."""
        web, delivery = free_ports(2)
        return {
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "REMINDERS_NAMESPACE": self.namespace,
            "REMINDERS_PARTITIONS": str(PARTITIONS),
            "REMINDERS_DATA_DIR": str(self.folder / "data"),
            "WEB_PORT": str(web),
            "DELIVERY_WEB_PORT": str(delivery),
            **self.extra,
        }

    async def create(self) -> None:
        """Create its topics."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await ensure_topics(Settings.load(self.environ))

    def start(self, *command: str, **env: str) -> Process:
        """Start a core worker, or another program with the same environment."""
        program = command or ("-m", "app", "worker", "--role", "core", "--no-topics")
        process = Process(program, self.environ | env, self.folder / "worker.log")
        self.running.append(process)
        return process

    def end(self, *, forget: bool = True) -> None:
        """End what runs; ``forget``: remove its data, too."""
        for process in self.running:
            process.kill()
        self.running.clear()
        if forget:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def delete(self) -> None:
        """End what runs, and delete its topics, so that the broker no longer cares for them."""
        self.end()
        await self.kafka.admin.delete_topics([full_name(self.namespace, spec.name) for spec in TOPICS])


async def until(process: Process, condition: Any, limit_s: float, what: str, every_s: float = 0.02) -> Any:
    """Return what the awaited condition returns once it is true. Raises BenchError after ``limit_s``."""
    end = time.monotonic() + limit_s
    while not (result := await condition()):
        process.check()
        if time.monotonic() > end:
            raise BenchError(f"not within {limit_s:g} s: {what}; see {process.log}")
        await asyncio.sleep(every_s)
    return result


def chunks(total: int, parts: int) -> Iterator[range]:
    """Split ``range(total)`` into ``parts``."""
    for part in range(parts):
        yield range(total * part // parts, total * (part + 1) // parts)
