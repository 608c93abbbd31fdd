"""One real broker for all tests of this folder, and workers as real processes."""

import asyncio
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.dev.broker import Broker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: Shorter than in production, in the same order: fence limit + producer time-out < session.
SESSION_S = 6.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents or {"broker", "kafka"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker.start(tmp_path_factory.mktemp("kafka"), heap="384m") as started:
        yield started


@dataclass
class Kafka:
    """What tests do with the broker."""

    bootstrap: str
    admin: AIOKafkaAdminClient

    async def topic(self, name: str, partitions: int = 1, **config: Any) -> str:
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        await self.admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        return name

    async def produce(
        self, topic: str, records: Sequence[tuple[bytes, bytes | None]], partition: int = 0, transaction: bool = False
    ) -> None:
        """Write records, in order and acknowledged; in a transaction, its marker stands behind them."""
        options: dict[str, Any] = {"transactional_id": f"test-{uuid.uuid4()}"} if transaction else {}
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5, **options)
        await producer.start()
        try:
            async with producer.transaction() if transaction else contextlib.nullcontext():
                sent = [await producer.send(topic, key=k, value=v, partition=partition) for k, v in records]
                last = (await asyncio.gather(*sent))[-1].offset
        finally:
            await producer.stop()
        # The commit of a transaction is answered before its marker is written.
        async with asyncio.timeout(10):
            while transaction and await self.end(topic, partition) < last + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def end(self, topic: str, partition: int = 0) -> int:
        """Return the offset after the last record or marker."""
        consumer, tp = self.consumer(), TopicPartition(topic, partition)
        await consumer.start()
        try:
            return int((await consumer.end_offsets([tp]))[tp])
        finally:
            await consumer.stop()

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        defaults = {"group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        return AIOKafkaConsumer(bootstrap_servers=self.bootstrap, **(defaults | options))

    async def records(self, topic: str, partition: int = 0) -> list[Any]:
        """Return all records of a partition."""
        consumer, tp, found = self.consumer(), TopicPartition(topic, partition), []
        await consumer.start()
        try:
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            while await consumer.position(tp) < end:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(batch)
        finally:
            await consumer.stop()
        return found

    async def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """Return where a restarted worker of the group would go on; 0: at the beginning."""
        offsets = await self.admin.list_consumer_group_offsets(group)
        found = offsets.get(TopicPartition(topic, partition))
        return max(found.offset, 0) if found is not None else 0

    async def until_committed(self, group: str, topic: str, offset: int, seconds: float) -> int:
        """Wait until the group has committed offset, or the time is up; return what it has committed."""
        deadline = time.monotonic() + seconds
        while (found := await self.committed(group, topic)) < offset and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return found


@pytest_asyncio.fixture
async def kafka(broker: Broker) -> AsyncIterator[Kafka]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        yield Kafka(broker.bootstrap, admin)
    finally:
        await admin.close()


@pytest.fixture
def unique() -> str:
    """A name that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}"


class Worker:
    """A worker process: tests/kafka/hardening_app.py or another program that prints a line for each thing of note."""

    def __init__(self, program: Path, arguments: dict[str, Any]) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(program), json.dumps(arguments)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._fresh: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines, True), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors, False), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, into: list[str], told: bool) -> None:
        for line in stream:
            into.append(line.rstrip("\n"))
            if told:
                self._fresh.put(into[-1])
        if told:
            self._fresh.put(None)

    def _next(self, seconds: float) -> str | None:
        try:
            return self._fresh.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            return ""

    async def says(self, start: str, seconds: float = 90.0) -> str:
        """Wait for the next line that begins so; fail if the worker ends or the time is up."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            line = await asyncio.to_thread(self._next, min(left, 0.5))
            if line is None:
                break
            if line and line.startswith(start):
                return line
        raise AssertionError(f"the worker did not say {start!r}:\n" + self.tail())

    async def hears(self, start: str, seconds: float) -> bool:
        """Return whether the worker says such a line in time."""
        try:
            await self.says(start, seconds)
        except AssertionError:
            return False
        return True

    def tell(self, line: str) -> None:
        """Give the worker a line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = 90.0) -> int | None:
        """Return the exit code, None if it still runs when the time is up."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if self.process.poll() is not None:
            for reader in self._readers:
                await asyncio.to_thread(reader.join, 5)
        return self.process.poll()

    async def kill(self) -> None:
        self.process.kill()
        await self.ended()

    def tail(self) -> str:
        return "\n".join([*self.lines[-30:], "--- standard error", *self.errors[-60:]])


class Workers:
    """Starts workers, and ends those that a test leaves."""

    def __init__(self, bootstrap: str, path: Path) -> None:
        self._bootstrap = bootstrap
        self._path = path
        self._started: list[Worker] = []

    def start(
        self, scenario: str, app_id: str, *, place: str = "w0", skip: tuple[str, ...] = (), **more: Any
    ) -> Worker:
        """Start hardening_app.py; place names its data directory."""
        arguments = {
            "scenario": scenario,
            "app_id": app_id,
            "bootstrap": self._bootstrap,
            "datadir": str(self.directory(app_id, place)),
            "skip": skip,
            "session_s": SESSION_S,
        } | more
        worker = Worker(Path(__file__).with_name("hardening_app.py"), arguments)
        self._started.append(worker)
        return worker

    def directory(self, app_id: str, place: str = "w0") -> Path:
        return self._path / app_id / place

    def end(self) -> None:
        for worker in self._started:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait(10)


@pytest.fixture
def workers(broker: Broker, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(broker.bootstrap, tmp_path)
    yield started
    started.end()
