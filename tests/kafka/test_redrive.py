"""A redrive neither loses nor doubles a letter: killed, frozen or doubled at every step; and a life after death."""

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError

from agents import letters
from agents.letters import Complaint
from app import dlq
from app.cli.dlq import _edit, _skip
from app.cli.dlq.desk import Desk
from app.cli.dlq.redrive import Wish, redrive_letters
from app.cli.failures import Failure
from app.config import Settings
from app.topics import TopicNames
from app.web.console.desk import KafkaDesk
from app.web.ports import Refused
from deploy.dev.broker import Broker
from schemas.codec import encode
from schemas.names import State
from schemas.records import ReminderEvent
from tests.kafka.conftest import ROOT, Kafka
from tests.kafka.harness import Installation, Worker, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

PARTITIONS = 2
LETTERS = 12


class Inbound:
    topic = ""
    partition = 0

    def __init__(self, topic: str, n: int) -> None:
        self.topic = topic
        self.offset = n
        self.key: bytes | None = f"clinic/{n}".encode()
        self.value: bytes | None = encode(mail_event(f"clinic/{n}", now_ms() + 3_600_000))
        self.timestamp = now_ms() / 1000
        self.headers = [("correlation-id", b"c")]


class Letters:
    """An installation that has nothing but the topics that a redrive needs, with letters from topic reminders."""

    def __init__(self, kafka: Kafka) -> None:
        self.names = TopicNames(f"t{uuid.uuid4().hex[:10]}")
        self.env = {
            "KAFKA_BOOTSTRAP": kafka.bootstrap,
            "REMINDERS_NAMESPACE": self.names.reminders.partition(".")[0],
            "REMINDERS_PARTITIONS": str(PARTITIONS),
            "SESSION_TIMEOUT_S": "6",
            "FENCE_LIMIT_S": "2",
            "PUBLISH_TIMEOUT_S": "2",
        }
        self.kafka = kafka
        self.processes: list[asyncio.subprocess.Process] = []

    @property
    def settings(self) -> Settings:
        return Settings.load(self.env)

    async def open(self) -> None:
        for topic in (self.names.dlq, self.names.reminders):
            await self.kafka.topic(topic, PARTITIONS)
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap) as producer:
            for n in range(LETTERS):
                record = Inbound(self.names.reminders, n)
                out = letters.dead_letter(self.names.dlq, PARTITIONS, record, Complaint("bug"), now_ms() + n)
                await producer.send_and_wait(
                    out.topic, out.value, key=out.key, partition=out.partition, headers=list(out.headers)
                )

    async def add(self, event: ReminderEvent, n: int) -> None:
        """Write the letter of an event that came after the others."""
        record = Inbound(self.names.reminders, n)
        record.key, record.value = event.reminder_id.encode(), encode(event)
        out = letters.dead_letter(self.names.dlq, PARTITIONS, record, Complaint("bug"), now_ms() + n)
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap) as producer:
            await producer.send_and_wait(
                out.topic, out.value, key=out.key, partition=out.partition, headers=list(out.headers)
            )

    async def start(self, **more: str) -> asyncio.subprocess.Process:
        env = {**os.environ, **self.env, **more}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.kafka.redriver", cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE
        )
        self.processes.append(process)
        return process

    async def run(self, code: int = 0, **more: str) -> str:
        """Run a redrive to its end; return what it said."""
        process = await self.start(**more)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == code, out.decode()
        return out.decode()

    async def put_back(self) -> Counter[bytes]:
        """Return how often each record stands on its topic."""
        found = [r for p in range(PARTITIONS) for r in await self.kafka.records(self.names.reminders, p)]
        return Counter(record.key for record in found)

    async def book(self) -> dlq.Book:
        consumer: AIOKafkaConsumer = self.kafka.consumer()
        async with consumer:
            return await dlq.read(consumer, [TopicPartition(self.names.dlq, p) for p in range(PARTITIONS)])


@pytest_asyncio.fixture
async def open_letters(kafka: Kafka) -> AsyncIterator[Letters]:
    made = Letters(kafka)
    await made.open()
    yield made
    for process in made.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


EACH_ONCE = Counter({f"clinic/{n}".encode(): 1 for n in range(LETTERS)})


async def _says(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while (said := (await process.stdout.readline()).decode().strip()) != line:
            assert said or process.returncode is None, f"ended without {line}"


@pytest.mark.parametrize(
    ("step", "after"),
    [("begun", 1), ("marked", 2), ("put", 1), ("put", 7), ("sent", 1), ("closing", 3), ("closed", 2), ("ended", 1)],
)
async def test_killed_at_a_step(open_letters: Letters, step: str, after: int) -> None:
    """Chunks of five: the third is never full."""
    await open_letters.run(-signal.SIGKILL, STOP_AT=step, STOP_AFTER=str(after), RATE="5")
    assert all(count == 1 for count in (await open_letters.put_back()).values())
    await open_letters.run()
    assert await open_letters.put_back() == EACH_ONCE
    book = await open_letters.book()
    assert [book.state(place) for place in book.letters] == ["redriven"] * LETTERS
    assert all(run.ended for run in book.runs.values())


async def test_killed_while_it_finishes_what_another_left(open_letters: Letters) -> None:
    await open_letters.run(-signal.SIGKILL, STOP_AT="sent", STOP_AFTER="2", RATE="5")
    await open_letters.run(-signal.SIGKILL, STOP_AT="closing", STOP_AFTER="2")
    assert sum((await open_letters.put_back()).values()) == 10
    await open_letters.run()
    assert await open_letters.put_back() == EACH_ONCE


async def test_frozen_and_thawed(open_letters: Letters) -> None:
    """What wakes up after others have taken over does nothing more."""
    frozen = await open_letters.start(STOP_AT="marked", STOP_AFTER="2", STOP_HOW="stop", RATE="5")
    for _ in range(2):
        await _says(frozen, "marked")
    await open_letters.run()
    assert await open_letters.put_back() == EACH_ONCE
    frozen.send_signal(signal.SIGCONT)
    out, _ = await asyncio.wait_for(frozen.communicate(), 30)
    assert frozen.returncode == 1
    assert "no sign of this run reached the brokers" in out.decode()
    assert await open_letters.put_back() == EACH_ONCE


async def test_one_at_a_time(open_letters: Letters) -> None:
    first = await open_letters.start(RATE="2")
    await _says(first, "closed")
    refused = await open_letters.run(1)
    assert "is acting on dead letters right now" in refused
    await asyncio.wait_for(first.communicate(), 30)
    assert first.returncode == 0
    assert await open_letters.put_back() == EACH_ONCE


async def test_told_to_stop_it_ends_in_order(open_letters: Letters) -> None:
    process = await open_letters.start(RATE="2")
    await _says(process, "closed")
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, "redriven, then stopped" in out.decode()) == (0, True)
    assert (await open_letters.put_back()).total() == 2
    begun = asyncio.get_running_loop().time()
    await open_letters.run()
    assert asyncio.get_running_loop().time() - begun < 6, "it waited for nobody"
    assert await open_letters.put_back() == EACH_ONCE


async def test_what_nobody_can_know_any_more_is_left_to_a_person(
    open_letters: Letters, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after the records had left; before the next run, their topic has lost them."""
    await open_letters.run(-signal.SIGKILL, STOP_AT="sent", RATE="5")
    admin: Any = open_letters.kafka.admin
    async with open_letters.kafka.consumer() as consumer:
        tps = [TopicPartition(open_letters.names.reminders, p) for p in range(PARTITIONS)]
        ends = await consumer.end_offsets(tps)
    from aiokafka.admin import RecordsToDelete

    await admin.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
    await open_letters.run()
    book = await open_letters.book()
    states = Counter(book.state(place) for place in book.letters)
    assert states == {"redriven": LETTERS - 5, "doubtful": 5}
    assert await redrive_letters(open_letters.settings, Wish((), {}, dry_run=True)) == 0
    assert "5 left: may have been put back by a run that was killed" in capsys.readouterr().out


@pytest.mark.parametrize("rate", [1.0, None], ids=["one by one", "together"])
async def test_what_the_brokers_refuse_stops_no_other(
    open_letters: Letters, capsys: pytest.CaptureFixture[str], rate: float | None
) -> None:
    """To an idempotent producer a refused record is a gap: what came behind it on its partition was refused, too."""
    await open_letters.add(replace(mail_event("clinic/large", now_ms() + 3_600_000), text="x" * 4000), LETTERS)
    await open_letters.add(mail_event("clinic/last", now_ms() + 3_600_000), LETTERS + 1)
    await open_letters.kafka.admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, open_letters.names.reminders, {"max.message.bytes": "4000"})]
    )
    wish = Wish((), {}, rate=rate and 20 * rate)
    assert await redrive_letters(open_letters.settings, wish) == 1
    assert "the broker refuses it (MessageSizeTooLargeError)" in capsys.readouterr().out
    assert (await open_letters.put_back()).keys() == EACH_ONCE.keys() | {b"clinic/last"}
    assert (await open_letters.put_back()).total() == LETTERS + 1
    book = await open_letters.book()
    assert Counter(book.state(place) for place in book.letters) == {"redriven": LETTERS + 1, "open": 1}
    assert all(run.ended for run in book.runs.values())
    [left] = book.unclosed()
    desk = KafkaDesk(open_letters.settings, list, None)  # type: ignore[arg-type] # it holds nothing
    with pytest.raises(Refused, match="is left where it is: the broker refuses it"):
        await desk.redrive(str(left.place), "anna", force=False)
    assert "was closed" in await desk.skip(str(left.place), "too large", "anna")


async def test_an_act_that_is_broken_off_is_not_waited_for(open_letters: Letters) -> None:
    """A page's time is over, or the brokers failed it, before anything was put back: the next finds no run at work."""
    at_work = asyncio.Event()

    async def work() -> None:
        async with Desk.open(open_letters.settings, who="anna"):
            at_work.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    async with asyncio.timeout(60):
        await at_work.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(Failure, match="no broker answers"):
        async with Desk.open(open_letters.settings, who="bert"):
            raise KafkaConnectionError
    runs = list((await open_letters.book()).runs.values())
    assert {run.actor for run in runs} == {"anna", "bert"}
    assert all(run.ended for run in runs)


async def test_a_life_after_death(broker: Broker, tmp_path: Path) -> None:
    """A refused event is put back (and refused again, counted), corrected, and its mail goes out."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=2) as service:
        worker = service.start(0)
        await service.until_ready(worker)
        event = mail_event("clinic/1", now_ms() + 500, zone="Mars/Base")
        await service.send(event)

        def rejected(count: int) -> list[dict[str, str]]:
            found = [letter for letter in service.dead_letters() if "dlq-reason" in letter and "dlq-act" not in letter]
            return found if len(found) == count else []

        await service.tap.until(lambda: rejected(1), 20, "the first letter")
        await _open(service, worker, "unknown_zone", 1)
        assert await redrive_letters(service.settings, Wish((), {}, force=True)) == 0
        _, again = await service.tap.until(lambda: rejected(2), 20, "the second letter")
        assert (again["dlq-reason"], again["dlq-redrives"]) == ("unknown_zone", "1")
        assert again["dlq-origin"].startswith(f"{service.names.dlq}/")
        place = (service.names.reminders, int(again["dlq-partition"]), int(again["dlq-offset"]))
        await _edit(service.settings, place, ("zone=Europe/Berlin",), None, False, True, False)
        await service.all_in(["clinic/1"], [State.SENT])
        assert len(server.mails) == 1
        async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap) as consumer:
            book = await dlq.read(consumer, [TopicPartition(service.names.dlq, p) for p in range(2)])
        assert [book.state(letter) for letter in sorted(book.letters)] == ["redriven", "edited"]
        await service.send_raw(b"{}", b"clinic/2")
        await service.tap.until(lambda: rejected(3), 20, "the third letter")
        third = rejected(3)[-1]
        place = (service.names.reminders, int(third["dlq-partition"]), int(third["dlq-offset"]))
        await _open(service, worker, "json_not_avro", 1)
        await _open(service, worker, "unknown_zone", 0)
        assert await _skip(service.settings, [place], "a test", 0) == ["1 skipped"]
        await _open(service, worker, "json_not_avro", 0)


async def _open(service: Installation, worker: Worker, reason: str, count: int) -> None:
    """Wait until a worker's metrics say how many letters are open."""
    line = f'reminders_dlq_open{{reason="{reason}"}} {count}.0'
    async with asyncio.timeout(20):
        while line not in (await service.get(worker, "/metrics")).splitlines():  # noqa: ASYNC110
            await asyncio.sleep(0.2)
