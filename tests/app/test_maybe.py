"""The desk of doubts: what is listed, and what is sent when somebody has found out; on a broker."""

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from click.testing import CliRunner, Result

from agents.publisher import partition_of
from app.cli.maybe import doubt_of
from app.cli.root import main
from app.config import VARIABLES, Settings
from app.topics import TopicNames, ensure_topics
from deploy.dev.broker import Broker
from schemas.codec import decode, encode
from schemas.names import Action, OutcomeKind, State
from schemas.records import ReminderEvent, ReminderRow
from tables import settling, transition
from tests.rules.life import RULES, Reminder

PARTITIONS = 2


def doubtful(rid: str = "clinic/1") -> Reminder:
    r = Reminder(rid=rid).sending()
    r.outcome(OutcomeKind.MAYBE_SENT, settling.Doubt(), reason="connection_lost")
    return r


def test_a_doubt_is_told_with_its_beginning_and_its_delivery() -> None:
    r = doubtful()
    began = r.now
    r.fire()  # its review
    assert r.row is not None
    found = doubt_of("clinic/1", r.row)
    assert found is not None
    assert (found.since, found.reason, found.delivery_id) == (began, "connection_lost", r.delivery_id())
    assert (found.ended, found.attempt, found.deadline) == (False, 1, r.open.deadline)
    r.cancel()
    ended = doubt_of("clinic/1", r.row)
    assert ended is not None
    assert (ended.ended, ended.delivery_id) == (True, found.delivery_id)
    r.act(Action.CONFIRM_SENT)
    assert doubt_of("clinic/1", r.row) is None


@pytest.fixture
def env(broker: Broker, tmp_path: Path) -> dict[str, str]:
    made = {
        "KAFKA_BOOTSTRAP": broker.bootstrap,
        "REMINDERS_NAMESPACE": f"t{uuid.uuid4().hex[:10]}",
        "REMINDERS_PARTITIONS": str(PARTITIONS),
    }
    asyncio.run(ensure_topics(Settings.load(made)))
    return made


@pytest.fixture
def invoke(env: dict[str, str]) -> Callable[..., Result]:
    unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
    return lambda *args: CliRunner().invoke(main, ("maybe", *args), env={**unset, **env})


async def write(env: dict[str, str], rows: dict[str, ReminderRow | None]) -> None:
    names = TopicNames.of(Settings.load(env))
    async with AIOKafkaProducer(bootstrap_servers=env["KAFKA_BOOTSTRAP"]) as producer:
        for rid, row in rows.items():
            value = None if row is None else transition.header(row, RULES) + encode(row)
            key = rid.encode()
            at = partition_of(key, PARTITIONS)
            await producer.send_and_wait(names.reminders_changelog, value, key=key, partition=at)


async def events(env: dict[str, str]) -> list[ReminderEvent]:
    topic = TopicNames.of(Settings.load(env)).reminders
    async with AIOKafkaConsumer(bootstrap_servers=env["KAFKA_BOOTSTRAP"]) as consumer:
        tps = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        found: list[ReminderEvent] = []
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += [decode(ReminderEvent, record.value) for record in batch]
        return found


def test_doubts_are_listed_and_resolved_once(env: dict[str, str], invoke: Callable[..., Result]) -> None:
    one, other = doubtful("clinic/1"), doubtful("clinic/2")
    sent = Reminder(rid="clinic/3").sending()
    sent.accepted()
    asyncio.run(write(env, {"clinic/1": one.row, "clinic/2": other.row, "clinic/3": sent.row, "clinic/4": one.row}))
    asyncio.run(write(env, {"clinic/4": None}))
    listed = [json.loads(line) for line in invoke("list", "--json").output.splitlines()]
    assert [(found["reminder_id"], found["delivery_id"]) for found in listed] == [
        ("clinic/1", one.delivery_id()),
        ("clinic/2", other.delivery_id()),
    ]
    assert "connection lost" in invoke("list").output
    done = invoke("resolve", "clinic/1", "not-sent", "--reason", "not in its log")
    assert done.exit_code == 0, done.output
    (event,) = asyncio.run(events(env))
    assert (event.action, event.delivery_id, event.text) == (
        Action.CONFIRM_NOT_SENT,
        one.delivery_id(),
        "not in its log",
    )
    assert event.actor
    refused = invoke("resolve", "clinic/3", "sent", "--reason", "r")
    assert (refused.exit_code, "is SENT, not in doubt" in refused.output) == (1, True)
    assert "no such reminder" in invoke("resolve", "clinic/4", "sent", "--reason", "r").output
    assert invoke("resolve", "clinic/2", "sent", "--reason", " ").exit_code == 2
    # What the service makes of it: the same word again is no mistake, the other one is.
    other.act(Action.CONFIRM_SENT, delivery_id=other.delivery_id())
    assert other.state is State.SENT
    asyncio.run(write(env, {"clinic/2": other.row}))
    again = invoke("resolve", "clinic/2", "sent", "--reason", "r")
    assert (again.exit_code, "was resolved as sent before" in again.output) == (0, True)
    assert invoke("resolve", "clinic/2", "not-sent", "--reason", "r").exit_code == 1
    assert len(asyncio.run(events(env))) == 1
