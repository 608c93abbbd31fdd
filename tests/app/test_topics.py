import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.cli import topic_page
from app.config import Settings
from app.kafka import MAX_BATCH_BYTES, client_options, producer_options
from app.topics import (
    TOPICS,
    Cleanup,
    TopicError,
    TopicNames,
    _admin,
    _Found,
    check_topics,
    differences,
    ensure_topics,
    topic_ids,
)
from deploy.dev.broker import Broker
from schemas.codec import CONTRACTS
from schemas.ids import MAX_EVENT_BYTES, MAX_RECORD_BYTES
from schemas.names import DELIVERY_CHANNELS

ROOT = Path(__file__).resolve().parents[2]


def settings(broker: Broker, namespace: str, **more: str) -> Settings:
    return Settings.load({"KAFKA_BOOTSTRAP": broker.bootstrap, "REMINDERS_NAMESPACE": namespace, **more})


def test_the_page_is_made_from_the_data() -> None:
    assert (ROOT / "docs/topics.md").read_text("utf-8") == topic_page.document()


def test_every_name_has_a_topic_and_every_topic_a_name() -> None:
    names = TopicNames("ns")
    given = {
        value
        for name in TopicNames.__dataclass_fields__
        if name not in ("core_app", "delivery_app", "channels", "retry", "prefixes")
        for value in [getattr(names, name)]
    }
    given |= set(names.channels.values()) | set(names.retry.values())
    assert given == {f"ns.{spec.name}" for spec in TOPICS}
    assert set(names.channels) == set(DELIVERY_CHANNELS)
    assert (TopicNames().core_app, TopicNames().delivery_app) == ("reminders-core", "reminders-delivery")
    # Faust's own names of changelogs: <app id>-<table>-changelog.
    assert names.reminders_changelog == "ns.reminders-core-reminders-changelog"


def test_every_schema_is_documented() -> None:
    files = {path.stem for path in (ROOT / "schemas/avro").glob("*.avsc")}
    assert {name for spec in TOPICS for name in spec.schema.split(", ") if name} == files
    assert len(files) == len(CONTRACTS)


def test_what_must_never_change_by_accident() -> None:
    specs = {spec.name: spec for spec in TOPICS}
    for name in ("reminders", "recipients"):
        config = specs[name].config(3)
        assert config["message.timestamp.type"] == "CreateTime"
        assert config["message.timestamp.after.max.ms"] == "3600000"
        assert config["cleanup.policy"] == "delete"  # patches: never compacted
    for name, spec in specs.items():
        assert spec.max_batch_bytes > (MAX_EVENT_BYTES if name in ("reminders", "recipients") else MAX_RECORD_BYTES)
        assert spec.config(3)["min.insync.replicas"] == "2"
        assert spec.config(1)["min.insync.replicas"] == "1"
        if name.endswith("-changelog"):
            assert spec.cleanup is Cleanup.COMPACT
            assert "retention.ms" not in spec.config(1)


GOOD = {
    "cleanup.policy": "delete",
    "max.message.bytes": str(MAX_BATCH_BYTES),
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
    "min.insync.replicas": "1",
    "retention.ms": str(7 * 86_400_000),
}


@pytest.mark.parametrize(
    ("setting", "value", "refused"),
    [
        ("cleanup.policy", "compact", True),
        ("cleanup.policy", "compact,delete", True),
        ("message.timestamp.type", "LogAppendTime", True),
        ("message.timestamp.after.max.ms", "9223372036854775807", True),
        ("message.timestamp.after.max.ms", "60000", False),
        ("max.message.bytes", "1048588", True),
        ("max.message.bytes", "9000000", False),
        ("retention.ms", "3600000", True),
        ("retention.ms", "-1", False),
        ("min.insync.replicas", "2", False),
        ("segment.bytes", "1000000", False),
    ],
)
def test_a_setting_is_refused_where_it_would_lose_events(setting: str, value: str, refused: bool) -> None:
    spec = TOPICS[0]
    found = list(differences("reminders", spec, _Found(8, 1, GOOD | {setting: value}), 8, 1))
    assert len(found) == refused
    if refused:
        assert f"{setting} is {value}, must be {spec.config(1)[setting]}; run kafka-configs" in found[0]


def test_partitions_and_copies_must_fit() -> None:
    (line,) = differences("reminders", TOPICS[0], _Found(12, 1, GOOD), 8, 1)
    assert "has 12 partitions, REMINDERS_PARTITIONS is 8; set REMINDERS_PARTITIONS=12" in line
    lines = list(differences("reminders", TOPICS[0], _Found(8, 1, GOOD | {"min.insync.replicas": "2"}), 8, 3))
    assert len(lines) == 1
    assert "add copies" in lines[0]


async def test_created_once_and_left_alone(broker: Broker) -> None:
    mine = settings(broker, "once", REMINDERS_PARTITIONS="3")
    assert all(report.missing for report in await check_topics(mine))
    first = await ensure_topics(mine)
    assert [report.created for report in first] == [True] * len(TOPICS)
    assert {report.partitions for report in first} == {3}
    second = await ensure_topics(mine)
    assert not any(report.created or report.faults for report in second)
    assert [report.faults for report in await check_topics(mine)] == [()] * len(TOPICS)


async def test_a_mismatch_is_refused_with_what_to_do(broker: Broker) -> None:
    await ensure_topics(settings(broker, "mismatch", REMINDERS_PARTITIONS="2"))
    with pytest.raises(TopicError) as refused:
        await ensure_topics(settings(broker, "mismatch", REMINDERS_PARTITIONS="4"))
    assert len(refused.value.faults) == len(TOPICS)
    assert "set REMINDERS_PARTITIONS=2" in refused.value.faults[0]
    with pytest.raises(TopicError, match="REMINDERS_REPLICATION='3': more than there are brokers"):
        await ensure_topics(settings(broker, "three", REMINDERS_REPLICATION="3"))


async def test_two_workers_may_create_them_at_once(broker: Broker) -> None:
    mine = settings(broker, "race", REMINDERS_PARTITIONS="2")
    both = await asyncio.gather(ensure_topics(mine), ensure_topics(mine))
    assert all(report.partitions == 2 for reports in both for report in reports)


async def test_a_topic_made_anew_has_another_id(broker: Broker) -> None:
    mine = settings(broker, "ids", REMINDERS_PARTITIONS="2")
    await ensure_topics(mine)
    names = TopicNames.of(mine)
    before = await topic_ids(mine, [names.reminders, names.dlq])
    assert all(len(bytes.fromhex(topic_id)) == 16 for topic_id in before.values())
    assert before == await topic_ids(mine, [names.reminders, names.dlq])
    admin = await _admin(mine)
    await admin.delete_topics([names.dlq])
    await admin.close()
    # A broker learns of the deletion a moment after it was promised.
    while not any(report.missing for report in await check_topics(mine)):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.02)
    await ensure_topics(mine)
    after = await topic_ids(mine, [names.reminders, names.dlq])
    assert after[names.reminders] == before[names.reminders]
    assert after[names.dlq] != before[names.dlq]
    with pytest.raises(TopicError, match=r"ids\.nothing: does not exist"):
        await topic_ids(mine, ["ids.nothing"])


async def test_no_broker_is_one_line() -> None:
    nowhere = Settings.load({"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    for work in (ensure_topics(nowhere), check_topics(nowhere), topic_ids(nowhere, ["x"])):
        with pytest.raises(OSError, match=r"KAFKA_BOOTSTRAP=127\.0\.0\.1:1: no broker answers") as failed:
            await work
        assert "\n" not in str(failed.value)


async def test_limits_hold_on_the_broker(broker: Broker) -> None:
    mine = settings(broker, "limits", REMINDERS_PARTITIONS="1")
    await ensure_topics(mine)
    names = TopicNames.of(mine)
    producer = AIOKafkaProducer(**producer_options(mine))
    await producer.start()
    try:
        await producer.send_and_wait(names.outcomes, bytes(MAX_RECORD_BYTES))
        ahead = 4_000_000_000_000
        with pytest.raises(KafkaError):
            await producer.send_and_wait(names.reminders, b"x", timestamp_ms=ahead)
    finally:
        await producer.stop()


def test_options_of_clients() -> None:
    assert client_options(Settings.load({"KAFKA_BOOTSTRAP": "a:1, b:2"})) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }
    login = {
        "KAFKA_SECURITY": "SASL_PLAINTEXT",
        "KAFKA_USERNAME": "u",
        "KAFKA_PASSWORD": "p",
        "KAFKA_SASL_MECHANISM": "PLAIN",
    }
    options = client_options(Settings.load(login))
    assert options["sasl_mechanism"] == "PLAIN"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
