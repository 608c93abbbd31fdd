"""One installation on the real broker: topics of its own, workers as processes, a tap on its topics, a mail server.

Nothing here knows the inside of the service: it writes events, reads topics and mails, and kills processes.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.cli.ledger import compare
from app.config import Settings
from app.topics import TopicNames, ensure_topics
from schemas import codec
from schemas.names import State
from schemas.records import AuditEntry, RecipientEvent, ReminderEvent, ReminderRow
from tables.due import HEADER, STATES, unpack
from tables.ledger import GRACE_MS
from tests.kafka import forks

ROOT = Path(__file__).resolve().parents[2]
#: Short times with the same order as in production: fence + publish < session.
TIMES = {
    "SESSION_TIMEOUT_S": "6",
    "HEARTBEAT_S": "0.5",
    "FENCE_LIMIT_S": "2",
    "PUBLISH_TIMEOUT_S": "3",
    "LEASE_S": "4",
    "RETRY_BASE_S": "0.5",
    "RETRY_CAP_S": "2",
    "GREYLIST_MIN_S": "1",
    "SMTP_TIMEOUT_S": "3",
    "SMTP_FINAL_TIMEOUT_S": "4",
}
#: Limits are for a quiet machine. Who waits for something to happen waits longer before calling it lost: only a failure
#: costs the time.
PATIENCE = 3.0
ENDED = frozenset({State.SENT, State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD_LETTER, State.DELIVERED})


class Tap:
    """Everything that stands in some topics, as it arrives."""

    def __init__(self, bootstrap: str, topics: Iterable[str], partitions: int, **security: Any) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20, **security
        )
        self._tps = [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
        self.records: dict[str, list[Any]] = {topic: [] for topic in topics}
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign(self._tps)
        await self._consumer.seek_to_beginning(*self._tps)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            got = await self._consumer.getmany(timeout_ms=200, max_records=5000)
            if got:
                async with self._news:
                    for tp, records in got.items():
                        self.records[tp.topic].extend(records)
                    self._news.notify_all()

    async def until(self, condition: Callable[[], Any], limit_s: float, what: str) -> Any:
        """Return what ``condition`` returns once it is true; fail after ``limit_s`` with what was waited for."""
        end = time.monotonic() + limit_s * PATIENCE
        while not (result := condition()):
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"not within {limit_s * PATIENCE:g} s: {what}")
            async with self._news:
                try:
                    async with asyncio.timeout(min(left, 0.25)):
                        await self._news.wait()
                except TimeoutError:
                    continue
        return result

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()


@dataclass
class Worker:
    """A worker process and its log."""

    process: subprocess.Popen[bytes] | forks.Fork
    log: Path
    web_port: int

    def kill(self, sig: int = signal.SIGKILL) -> None:
        self.process.send_signal(sig)

    async def exit_code(self, limit_s: float = 30.0) -> int:
        end = time.monotonic() + limit_s * PATIENCE
        while (code := self.process.poll()) is None:
            if time.monotonic() > end:
                raise AssertionError(f"the worker did not end within {limit_s * PATIENCE:g} s; {self.tail()}")
            await asyncio.sleep(0.05)
        return code

    def tail(self, lines: int = 60) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class Installation:
    """Topics, workers and tap of one test."""

    bootstrap: str
    home: Path
    smtp_port: int
    partitions: int = 4
    namespace: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    extra: Mapping[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    tap: Tap = field(init=False)
    producer: AIOKafkaProducer = field(init=False)

    def environ(self, index: int = 0, **more: str) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "REMINDERS_NAMESPACE": self.namespace,
            "REMINDERS_PARTITIONS": str(self.partitions),
            "REMINDERS_DATA_DIR": str(self.home / f"worker-{index}"),
            "WEB_TOKEN": "a-token-of-tests-only",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.smtp_port),
            "SMTP_TLS": "none",
            "SMTP_FROM": "reminders@clinic.example",
            "LOG_LEVEL": "INFO",
            **TIMES,
            **self.extra,
            **more,
        }

    @property
    def names(self) -> TopicNames:
        return TopicNames(self.namespace)

    @property
    def settings(self) -> Settings:
        return Settings.load(self.environ())

    @property
    def tapped(self) -> tuple[str, ...]:
        """The topics that are read."""
        names = self.names
        return (
            names.audit,
            names.dlq,
            names.reminders_changelog,
            names.requests,
            names.status,
            *names.retry.values(),
        )

    async def open(self) -> None:
        await ensure_topics(self.settings)
        self.tap = Tap(self.bootstrap, self.tapped, self.partitions)
        await self.tap.start()
        self.producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await self.producer.start()

    async def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
        await self.producer.stop()
        await self.tap.stop()

    def start(self, index: int = 0, *, role: str = "all", root: Path = ROOT, **more: str) -> Worker:
        """Start a worker process of the release that lies in ``root``; ``more`` adds to its environment."""
        port = free_port()
        log = self.home / f"worker-{index}.log"
        env = {**os.environ, **self.environ(index, WEB_PORT=str(port), DELIVERY_WEB_PORT=str(free_port()), **more)}
        process: subprocess.Popen[bytes] | forks.Fork
        if root == ROOT and forks.can_fork(env):
            process = forks.worker(role, env, log)
        else:
            with log.open("ab") as out:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.kafka.worker", role],
                    cwd=root,
                    env=env,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
        worker = Worker(process, log, port)
        self.workers.append(worker)
        return worker

    async def get(self, worker: Worker, path: str, *, token: str = "", status: int = 200) -> str:
        """Return what a worker's web server answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{worker.web_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.text()

    async def get_settled(self, worker: Worker, path: str, *, token: str, limit_s: float = 30.0) -> str:
        """Return an answer, asked again for as long as a rebalance lets the worker answer that it should be."""
        end = time.monotonic() + limit_s
        while True:
            try:
                return await self.get(worker, path, token=token)
            except AssertionError as exc:
                if "try again" not in str(exc) or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.2)

    async def status(self, worker: Worker, path: str) -> int:
        """Return the status of a worker's answer, 0 where it gives none."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{worker.web_port}{path}") as response,
            ):
                return response.status
        except aiohttp.ClientError:
            return 0

    async def until_ready(self, worker: Worker, limit_s: float = 30.0) -> None:
        """Wait until a worker says that it is at work."""
        end = time.monotonic() + limit_s * PATIENCE
        while True:
            try:
                await self.get(worker, "/ready")
            except (AssertionError, aiohttp.ClientError):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    # -- in

    async def send(self, *events: ReminderEvent) -> None:
        """Write events to ``reminders``, acknowledged."""
        await self._send(self.names.reminders, [(e.reminder_id, e) for e in events])

    async def send_recipient(self, *events: RecipientEvent) -> None:
        await self._send(self.names.recipients, [(e.recipient_id, e) for e in events])

    async def _send(self, topic: str, events: list[tuple[str, Any]]) -> None:
        futures = [await self.producer.send(topic, codec.encode(event), key=key.encode()) for key, event in events]
        await asyncio.gather(*futures)

    async def send_raw(self, value: bytes | None, key: bytes | None = b"raw", **more: Any) -> None:
        await self.producer.send_and_wait(self.names.reminders, value, key=key, **more)

    # -- out

    def audit(self, reminder_id: str | None = None) -> list[AuditEntry]:
        entries = [codec.decode(AuditEntry, r.value) for r in self.tap.records[self.names.audit]]
        return entries if reminder_id is None else [e for e in entries if e.reminder_id == reminder_id]

    def states(self) -> dict[str, State]:
        """Return the last state of each reminder by the audit topic, with its replace rule."""
        last: dict[str, tuple[int, State]] = {}
        for record in self.tap.records[self.names.audit]:
            entry = codec.decode(AuditEntry, record.value)
            # A row whose body could not be read is moved by its header: no number, but its state stands.
            if entry.seq or entry.to_state in (State.MAYBE_SENT, State.DEAD_LETTER):
                last[entry.reminder_id] = (entry.seq, entry.to_state)
        return {rid: state for rid, (_, state) in last.items()}

    def raw_rows(self) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes | None] = {}
        for record in self.tap.records[self.names.reminders_changelog]:
            rows[record.key] = record.value
        return {key: value for key, value in rows.items() if value is not None}

    def rows(self) -> dict[str, ReminderRow]:
        return {k.decode(): codec.decode(ReminderRow, v[HEADER.size :]) for k, v in self.raw_rows().items()}

    def row_states(self) -> dict[str, State]:
        return {k.decode(): STATES[unpack(v).state] for k, v in self.raw_rows().items()}

    def dead_letters(self) -> list[dict[str, str]]:
        return [{name: value.decode() for name, value in record.headers} for record in self.tap.records[self.names.dlq]]

    async def all_in(self, ids: Iterable[str], states: Iterable[State], limit_s: float = 60.0) -> None:
        """Wait until each reminder's row is in one of the states."""
        wanted, allowed = set(ids), frozenset(states)

        def there() -> bool:
            found = self.row_states()
            if self.workers and all(w.process.poll() not in (None, -signal.SIGKILL) for w in self.workers):
                raise AssertionError("every worker has ended")
            return all(found.get(rid) in allowed for rid in wanted)

        try:
            await self.tap.until(there, limit_s, f"{len(wanted)} rows in {sorted(allowed)}")
        except AssertionError as exc:
            found = self.row_states()
            missing = {rid: found.get(rid) for rid in wanted if found.get(rid) not in allowed}
            sample = dict(list(missing.items())[:10])
            tails = "\n\n".join(f"{w.log.name}:\n{w.tail()}" for w in self.workers)
            raise AssertionError(f"{exc}; {len(missing)} are not: {sample}\n{tails}") from None


def free_port() -> int:
    """Return a port that was free a moment ago."""
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@asynccontextmanager
async def installed(bootstrap: str, home: Path, smtp_port: int, **more: Any) -> AsyncIterator[Installation]:
    """Open an installation for a block."""
    installation = Installation(bootstrap, home, smtp_port, **more)
    await installation.open()
    try:
        yield installation
    finally:
        await installation.close()


async def adds_up(service: Installation, began: int, at: int = 0) -> None:
    """Compare events, rows, outcomes and audit, as soon as everything has been taken: there is no orphan."""
    async with asyncio.timeout(60):
        while (found := await compare(service.settings, began - 60_000, at or now_ms() + GRACE_MS)).waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    tails = "\n".join(worker.tail(20) for worker in service.workers)
    assert found.orphans == [], tails


def mail_event(reminder_id: str, at_ms: int, **more: Any) -> ReminderEvent:
    """Return a reminder that mails one address of its own at an instant."""
    from schemas.names import Channel
    from schemas.records import Step

    steps = (Step(Channel.EMAIL, address=f"{reminder_id}@people.example"),)
    return ReminderEvent(
        reminder_id, at=at_ms, title=f"Title {reminder_id}", text="Bring your card.", steps=steps, **more
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000
