"""HTTP intake on the real broker: a life from POST to mail, any worker for any reminder, and a broker that is away."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.publisher import partition_of
from app.config import Settings
from app.kafka import producer_options
from app.topics import TopicNames, ensure_topics
from app.web.outlet import KafkaOutlet
from app.web.ports import Outgoing, Unsent
from deploy.dev.broker import Broker
from schemas.names import State
from tests.kafka.harness import Worker, installed, now_ms
from tests.sandbox.smtp_sink import SmtpSink

AUTH = {"Authorization": "Bearer a-token-of-tests-only"}


def event(reminder_id: str, at: int) -> dict[str, Any]:
    steps = [{"channel": "EMAIL", "address": "anna@people.example"}]
    return {"reminder_id": reminder_id, "at": at, "text": "Bring your card.", "steps": steps}


async def sent(worker: Worker, method: str, path: str, status: int = 202, body: Any = None, **headers: str) -> Any:
    url = f"http://127.0.0.1:{worker.web_port}{path}"
    async with aiohttp.ClientSession() as session, session.request(
        method, url, json=body, headers=AUTH | headers
    ) as answer:  # fmt: skip
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_life_by_http_on_any_worker(broker: Broker, tmp_path: Path) -> None:
    async with SmtpSink() as sink, installed(broker.bootstrap, tmp_path, sink.port) as service:
        first, second = service.start(0), service.start(1, role="core")
        await service.until_ready(first)
        await service.until_ready(second)
        # In all partitions, so that each worker is asked for reminders of the other.
        ids = [f"http/{n}" for n in range(12)]
        assert len({partition_of(rid.encode(), service.partitions) for rid in ids}) == service.partitions
        soon = [event(rid, now_ms() + 1500) for rid in ids]
        body = [*soon, event("http/late", now_ms() + 3_600_000)]
        key = {"Idempotency-Key": "life-1"}
        taken = await sent(second, "POST", "/reminders", body=body, **key, **{"Correlation-Id": "life"})
        assert [t["partition"] for t in taken["events"]] == [
            partition_of(e["reminder_id"].encode(), service.partitions) for e in body
        ]
        again = await sent(first, "POST", "/reminders", body=body, **key)
        assert [t["event_id"] for t in again["events"]] == [t["event_id"] for t in taken["events"]]
        await sent(first, "DELETE", "/reminders/http/late")
        await service.all_in(ids, [State.SENT])
        await service.all_in(["http/late"], [State.CANCELLED])
        for worker in (first, second):
            for rid in (*ids, "http/late"):
                shown = await sent(worker, "GET", f"/reminders/{rid}", 200)
                assert shown["state"] == ("CANCELLED" if rid == "http/late" else "SENT")
        assert len(sink.mails) == len(ids)
        for rid in ids:
            assert [entry.reason for entry in service.audit(rid)].count("duplicate") == 1
        assert {e.correlation_id for e in service.audit("http/late")} >= {"life"}


@pytest.fixture
def short(broker: Broker) -> Settings:
    return Settings.load(
        {
            "KAFKA_BOOTSTRAP": broker.bootstrap,
            "REMINDERS_NAMESPACE": f"outlet{now_ms()}",
            "REMINDERS_PARTITIONS": "2",
            "PUBLISH_TIMEOUT_S": "1.5",
        }
    )


def outlet_of(settings: Settings) -> KafkaOutlet:
    return KafkaOutlet(
        producer_options(settings), TopicNames.of(settings).reminders, settings.partitions, settings.fencing.publish_s
    )


async def values(settings: Settings) -> list[bytes]:
    topic = TopicNames.of(settings).reminders
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, n) for n in range(settings.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends, found = await consumer.end_offsets(tps), []
        while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in batch]
        return found
    finally:
        await consumer.stop()


async def test_no_broker_is_told_in_time_and_makes_up_for_nothing_later(broker: Broker, short: Settings) -> None:
    await ensure_topics(short)
    outlet = outlet_of(short)
    try:
        [kept] = await outlet.send([Outgoing(b"a", b"1", (("correlation-id", b"c"),))])
        assert (kept.partition, kept.offset) == (partition_of(b"a", 2), 0)
        broker.pause()
        try:
            begun = time.monotonic()
            # What is on the wire when the broker stops may be taken; what waits behind it never is.
            for wave in (b"wire", b"never", b"never again"):
                told = await asyncio.gather(
                    *(outlet.send([Outgoing(b"k%d" % n, b"%s %d" % (wave, n))]) for n in range(20)),
                    return_exceptions=True,
                )
                assert {type(one) for one in told} == {Unsent}
            assert time.monotonic() - begun < 7
            await asyncio.sleep(2)
        finally:
            broker.resume()
        async with asyncio.timeout(20):
            while True:
                try:
                    await outlet.send([Outgoing(b"a", b"2")])
                    break
                except Unsent:
                    await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        found = await values(short)
        assert {b"1", b"2"} <= set(found)
        assert not [value for value in found if value.startswith(b"never")]
        assert len(found) == len(set(found))
    finally:
        await outlet.close()


async def test_nobody_listens() -> None:
    settings = Settings.load({"KAFKA_BOOTSTRAP": "127.0.0.1:1", "PUBLISH_TIMEOUT_S": "1"})
    outlet = outlet_of(settings)
    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(Unsent):
            await outlet.send([Outgoing(b"a", b"1")])
    assert time.monotonic() - begun < 4
    await outlet.close()
