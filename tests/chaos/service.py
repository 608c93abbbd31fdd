"""The installation of a run: a broker behind a wall, providers, workers that are started again whenever they end."""

import asyncio
import base64
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from deploy.dev.broker import Broker
from schemas import codec
from schemas.names import Channel
from schemas.records import ControlRecord, RecipientEvent, ReminderEvent
from tests.channels.twilio_stage import SENDER, authority
from tests.chaos.checker import History, Span, Stop, Written
from tests.chaos.points import Point
from tests.chaos.stands import Hooks, Mails, Noted, Texts, Wall
from tests.chaos.workload import Batch
from tests.kafka.harness import ROOT, Installation, free_port, now_ms
from tests.sandbox.http_server import Reply
from tests.sandbox.twilio_server import TOKEN

BASE = "https://hooks.service.example"
#: A secret of these runs alone.
KEY = "a-key-of-chaos-only-0123456789abcdef"
#: After a fault is over, what has gathered is worked off; that long nothing is called late.
CATCH_UP_MS = 10_000
#: A process that gets its turn so much later than it wants, in ms, is on a machine that has too much to do.
STALL_MS = 300
#: Whatever takes longer than this is called lost, in seconds.
PATIENCE_S = 240.0


@dataclass(slots=True)
class Slot:
    """A place in which a worker of a role runs, and is started again when it ends."""

    service: "Service"
    role: str
    index: int
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    down_at: int = 0
    recovery_ms: int = 0
    code: int | None = None
    starts: int = 0
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    _keeping: "asyncio.Task[None] | None" = None

    @property
    def home(self) -> Path:
        return self.service.home / f"{self.role}-{self.index}"

    @property
    def log(self) -> Path:
        return self.service.home / f"{self.role}-{self.index}.log"

    @property
    def fault(self) -> Path:
        return self.service.home / f"{self.role}-{self.index}.fault"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def open(self) -> None:
        self.may_start.set()
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Kill it for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def arm(self, point: Point) -> None:
        point.arm(self.fault)

    def disarm(self) -> bool:
        """Take a fault back; return whether it was still there."""
        try:
            self.fault.unlink()
        except FileNotFoundError:
            return False
        return True

    def signal(self, sig: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sig)

    def tail(self, lines: int = 12) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    async def _keep(self) -> None:
        while True:
            await self.may_start.wait()
            self._start()
            assert self.process is not None
            while (code := self.process.poll()) is None:
                if not self.ready.is_set() and await self._is_ready():
                    self._is_up()
                await asyncio.sleep(0.05)
            self.code = code
            self.ready.clear()
            self.down_at = self.down_at or now_ms()
            self.ended.set()

    def _start(self) -> None:
        ports = {name: free_port() for name in ("WEB_PORT", "DELIVERY_WEB_PORT")}
        self.port = ports["WEB_PORT" if self.role == "core" else "DELIVERY_WEB_PORT"]
        env = {
            **os.environ,
            **self.service.environ(),
            "REMINDERS_DATA_DIR": str(self.home),
            "FAULT_FILE": str(self.fault),
            **{name: str(port) for name, port in ports.items()},
        }
        self.ended.clear()
        self.starts += 1
        with self.log.open("ab") as out:
            command = [sys.executable, "-m", "tests.chaos.worker", self.role]
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)

    async def _is_ready(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self.service.http.get(f"http://127.0.0.1:{self.port}/ready", timeout=timeout) as answer:
                return answer.status == 200
        return False

    def _is_up(self) -> None:
        if self.down_at:
            self.recovery_ms = max(self.recovery_ms, now_ms() - self.down_at)
            self.service.disturbed.append(Span(self.down_at, now_ms() + CATCH_UP_MS))
        self.down_at = 0
        self.ready.set()


class Service(Installation):
    """An installation whose workers are of one role each, with all its providers."""

    broker: Broker
    wall: Wall
    noted: Noted
    mails: Mails
    hooks: Hooks
    texts: Texts
    http: aiohttp.ClientSession

    @property
    def tapped(self) -> tuple[str, ...]:
        names = self.names
        return (names.reminders, names.receipts, names.audit, names.status)

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.disturbed: list[Span] = []
        self.stops: list[Stop] = []
        self.slots: dict[str, Slot] = {}
        self._taken: dict[str, int] = defaultdict(int)
        self._records: dict[tuple[str, str], list[Written]] = defaultdict(list)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def begin(self) -> None:
        """Start a worker of each role."""
        self.later(self._notice_stalls())
        for role in ("core", "delivery"):
            self.add(role, 0)
        await self.all_ready()

    async def _notice_stalls(self) -> None:
        """Note when the machine is so busy that even this process does not get its turn: that is nobody's lateness."""
        while True:
            before = now_ms()
            await asyncio.sleep(STALL_MS / 1000)
            if now_ms() - before > 2 * STALL_MS:
                self.disturbed.append(Span(before, now_ms() + CATCH_UP_MS))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(slot.close() for slot in self.slots.values()))

    def add(self, role: str, index: int) -> Slot:
        """Start one more worker."""
        slot = self.slots[f"{role}-{index}"] = Slot(self, role, index)
        slot.open()
        return slot

    async def remove(self, slot: Slot, sig: int = signal.SIGTERM) -> None:
        """End a worker for good."""
        slot.may_start.clear()
        slot.signal(sig)
        began = now_ms()
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await slot.ended.wait()
        await slot.close()
        self.disturbed.append(Span(began, now_ms() + CATCH_UP_MS))
        del self.slots[f"{slot.role}-{slot.index}"]
        shutil.rmtree(slot.home, ignore_errors=True)

    async def all_ready(self, limit_s: float = PATIENCE_S) -> None:
        """Return once every worker is at work. Raises AssertionError with the end of the log of one that is not."""
        for slot in list(self.slots.values()):
            await self.is_ready(slot, limit_s)

    async def is_ready(self, slot: Slot, limit_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await slot.ready.wait()
        except TimeoutError:
            raise AssertionError(
                f"{slot.role}-{slot.index} is not ready within {limit_s:g} s:\n{slot.tail()}"
            ) from None

    def later(self, work: Any) -> "asyncio.Task[Any]":
        """Do something meanwhile."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- a batch

    async def play(self, batch: Batch) -> None:
        """Do what a batch asks for, at its times."""
        self.noted.whose |= batch.whose
        for address, (stage, said) in batch.mails.items():
            self.mails.say(stage, *said, to=address)
        self.hooks.failing |= {path: [Reply(503)] * times for path, times in batch.hooks.items()}
        self.hooks.gone |= batch.gone
        for rid, number in batch.stops:
            self.later(self._stop(rid, number))
        for number in batch.texts:
            self.later(self._news(number))
        for at_ms, asked in batch.asks:
            await asyncio.sleep(max(0.0, (batch.start + at_ms - now_ms()) / 1000))
            names = self.names
            match asked:
                case ReminderEvent():
                    topic, key = names.reminders, asked.reminder_id
                case RecipientEvent():
                    topic, key = names.recipients, asked.recipient_id
                case ControlRecord():
                    topic, key = names.control, asked.scope
            await self.producer.send_and_wait(topic, codec.encode(asked), key=key.encode())

    async def _stop(self, rid: str, number: str) -> None:
        form = {"From": number, "To": SENDER, "Body": "Stop."}
        await self._tell(f"{BASE}/callbacks/twilio/inbound", form)
        self.stops.append(Stop(frozenset({rid}), Channel.SMS, now_ms()))

    async def _news(self, number: str) -> None:
        while number not in self.texts.news:  # noqa: ASYNC110  # a dictionary has no event
            await asyncio.sleep(0.1)
        form = {"MessageStatus": "delivered", "MessageSid": f"SM{number[-8:]:>032}", "To": number}
        await self._tell(self.texts.news[number], form)

    async def _tell(self, url: str, form: dict[str, str]) -> None:
        """Send what Twilio sends until it is taken."""
        signed = url + "".join(name + form[name] for name in sorted(form))
        signature = base64.b64encode(hmac.digest(TOKEN.encode(), signed.encode(), hashlib.sha1)).decode()
        while True:
            port = self.slots["core-0"].port
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self.http.post(
                    f"http://127.0.0.1:{port}{url.removeprefix(BASE)}",
                    data=form,
                    headers={"X-Twilio-Signature": signature},
                    timeout=aiohttp.ClientTimeout(total=10),
                ) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.3)

    def history(self, batch: Batch) -> History:
        """Return everything that is known of a batch by now."""
        for topic, records in self.tap.records.items():
            for record in records[self._taken[topic] :]:
                name = record.key.decode().partition("/")[0]
                self._records[topic, name].append(
                    Written(record.partition, record.offset, record.timestamp, record.value)
                )
            self._taken[topic] = len(records)
        names, ids = self.names, set(batch.ids)
        down = [Span(slot.down_at, now_ms()) for slot in self.slots.values() if slot.down_at]
        return History(
            events=self._records[names.reminders, batch.name],
            audit=self._records[names.audit, batch.name],
            receipts=self._records[names.receipts, batch.name],
            statuses=self._records[names.status, batch.name],
            received=[m for rid in batch.ids for m in self.noted.received.get(rid, ())],
            stops=[stop for stop in self.stops if stop.reminder_ids & ids],
            disturbed=[*self.disturbed, *down],
            ended_at=now_ms(),
            slack_ms=5_000,
        )


def _environment(hooks: Hooks, texts: Texts) -> dict[str, str]:
    return {
        "WEBHOOK_KEYS": KEY,
        "WEBHOOK_ALLOW": f"127.0.0.1:{hooks.port}",
        "WEBHOOK_TIMEOUT_S": "2",
        "TWILIO_ACCOUNT_SID": texts.account,
        "TWILIO_AUTH_TOKEN": texts.token,
        "TWILIO_BASE_URL": texts.url,
        "TWILIO_CA_FILE": str(authority().file),
        "TWILIO_SMS_FROM": SENDER,
        "TWILIO_TIMEOUT_S": "2",
        "TWILIO_CONNECT_TIMEOUT_S": "1",
        "TWILIO_CALLBACK_URL": BASE,
        "CALLBACK_KEY": KEY,
        "ADDRESS_HASH_KEY": KEY,
        "SMTP_TIMEOUT_S": "2",
        "SMTP_FINAL_TIMEOUT_S": "2",
        "MAYBE_SENT": "HOLD",
    }


@asynccontextmanager
async def serving(home: Path, seed: str, broker: Broker | None = None) -> AsyncIterator[Service]:
    """Open a service with everything around it. ``broker``: one that runs already, and is not to be harmed."""
    async with AsyncExitStack() as stack:
        noted = Noted(Random(seed))
        if broker is None:
            wall = await stack.enter_async_context(Wall(free_port()))
            advertised = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{wall.port}"}
            broker = await asyncio.to_thread(Broker.start, home / "kafka", extra_config=advertised, heap="384m")
            stack.callback(broker.stop)
            wall.target = broker.port
            bootstrap = f"127.0.0.1:{wall.port}"
        else:
            wall, bootstrap = Wall(0), broker.bootstrap
        mails = await stack.enter_async_context(Mails(noted))
        hooks = await stack.enter_async_context(Hooks(noted))
        texts = await stack.enter_async_context(Texts(noted, authority().issue("twilio").server()))
        service = Service(bootstrap, home, mails.port, extra=_environment(hooks, texts))
        service.broker, service.wall, service.noted = broker, wall, noted
        service.mails, service.hooks, service.texts = mails, hooks, texts
        service.http = await stack.enter_async_context(aiohttp.ClientSession())
        await service.open()
        stack.push_async_callback(service.close)
        stack.push_async_callback(service.end)
        await service.begin()
        yield service
