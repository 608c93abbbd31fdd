"""The examples of the pages run as they stand, against a real broker."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.publisher import partition_of
from app.config import VARIABLES, Settings
from app.topics import ensure_topics
from deploy.dev.broker import Broker
from schemas.checks import check_recipient, check_reminder
from schemas.codec import decode, encode
from schemas.names import Action, Channel, State
from schemas.records import RecipientEvent, ReminderEvent, ReminderStatus
from tests.docs.pages import ROOT, blocks

README = ROOT / "README.md"
PYTHON = ROOT / "docs" / "produce" / "python.md"
OPERATING = ROOT / "docs" / "operating.md"
PARTITIONS = 8


def environment(broker: Broker) -> dict[str, str]:
    """Return this process's environment with none of our variables but the broker."""
    ours = {variant for v in VARIABLES for variant in (v.name, f"{v.name}_FILE")}
    return {k: v for k, v in os.environ.items() if k not in ours} | {"KAFKA_BOOTSTRAP": broker.bootstrap}


@pytest.fixture(scope="module")
def topics(broker: Broker) -> Broker:
    asyncio.run(ensure_topics(Settings.load({"KAFKA_BOOTSTRAP": broker.bootstrap})))
    return broker


def execute(block: str, broker: Broker) -> str:
    """Run a block as a program of its own, from the root, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=ROOT, env=environment(broker), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


async def records(broker: Broker, topic: str) -> list[Any]:
    """Return every record of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    await consumer.start()
    found: list[Any] = []
    try:
        tps = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(batch)
    finally:
        await consumer.stop()
    return found


async def written(broker: Broker, topic: str, *given: tuple[str, object]) -> None:
    """Write records, acknowledged."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
        for key, record in given:
            await producer.send_and_wait(topic, encode(record), key=key.encode())


def test_the_readme_has_the_example_of_the_page() -> None:
    assert blocks(README, "python") == blocks(PYTHON, "python")[:1]


def test_a_sent_reminder_is_one_that_intake_takes(topics: Broker) -> None:
    execute(blocks(PYTHON, "python")[0], topics)
    [record] = [r for r in asyncio.run(records(topics, "reminders")) if r.key == b"py/1"]
    event = decode(ReminderEvent, record.value)
    assert (event.text, event.steps[0].channel, event.steps[0].address) == ("Hello", Channel.EMAIL, "you@example.org")
    assert event.at == pytest.approx(record.timestamp + 5000, abs=5000)
    assert check_reminder(event, record.timestamp, record.timestamp) is None
    assert record.partition == partition_of(b"py/1", PARTITIONS)


def test_changes_and_the_cancel_are_taken(topics: Broker) -> None:
    execute(blocks(PYTHON, "python")[1], topics)
    found = [r for r in asyncio.run(records(topics, "reminders")) if r.key == b"py/visit"]
    events = [decode(ReminderEvent, record.value) for record in found]
    assert [(event.action, event.version) for event in events] == [
        (Action.UPSERT, 1),
        (Action.UPSERT, 2),
        (Action.CANCEL, 3),
    ]
    assert [check_reminder(event, r.timestamp, r.timestamp) for event, r in zip(events, found, strict=True)] == [
        None
    ] * 3


def test_a_set_recipient_is_taken(topics: Broker) -> None:
    execute(blocks(PYTHON, "python")[2], topics)
    [record] = asyncio.run(records(topics, "recipients"))
    event = decode(RecipientEvent, record.value)
    assert (record.key, event.contacts[0].address if event.contacts else "") == (b"anna", "anna@example.org")
    assert check_recipient(event, record.timestamp, record.timestamp) is None


def test_the_answer_is_read(topics: Broker) -> None:
    ended = ReminderStatus("py/1", "@1/PT0S", State.SENT, 1_764_000_000_000, "ok")
    asyncio.run(written(topics, "notifications.status", ("py/1", ended)))
    assert execute(blocks(PYTHON, "python")[3], topics) == "py/1 SENT ok\n"


def test_a_misspelt_field_is_refused_by_the_example(topics: Broker) -> None:
    block = blocks(PYTHON, "python")[0].replace('"text": "Hello"', '"txt": "Hello"')
    with pytest.raises(AssertionError, match="txt"):
        execute(block, topics)


def test_every_python_block_is_run_here() -> None:
    assert [len(blocks(page, "python")) for page in (README, PYTHON, OPERATING)] == [1, 4, 0]
