"""``lanes``: how late an urgent mail is while a flood of bulk is due and is being sent.

All of the bulk is due at one second; then urgent events come, so many a second, each due as it is sent. What is
measured goes from there until the mail server had taken it (``ended_at`` of the answer). Core, delivery and the mail
server are processes of their own; the mail server answers after MAIL_MS.
"""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaProducer

from agents.publisher import partition_of
from bench import load
from bench.figures import Figure, median, quantile
from bench.stage import PARTITIONS, BenchError, Installation, Kafka, until
from deploy.dev.process import free_ports
from schemas import codec
from schemas.names import AnswerKind, OutcomeKind, Priority
from schemas.records import DeliveryAnswer

BULK = 100_000
URGENT_PER_S = 20
SECONDS = 30
MAIL_MS = 5
TARGET_MS = 1000.0


def _event(n: int, at: int, priority: Priority) -> tuple[int, bytes, bytes]:
    event = load.event(n, at)
    event = replace(event, reminder_id=f"{priority.value.lower()}-{n:07d}", priority=priority)
    key = event.reminder_id.encode()
    return partition_of(key, PARTITIONS), key, codec.encode(event)


async def _take(kafka: Kafka, home: Path, bulk: int, seconds: int) -> tuple[list[float], float]:
    """Return how late each urgent mail was, in ms, and how many bulk mails a second went out beside."""
    (port,) = free_ports(1)
    smtp = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_TLS": "none", "SMTP_FROM": "bench@example.org"}
    place = Installation(kafka, home, smtp)
    await place.create()
    names = place.names
    place.start("-m", "bench.mail_server", str(port), str(MAIL_MS))
    core = place.start("-m", "app", "worker", "--role", "core", "--no-topics")
    delivery = place.start("-m", "app", "worker", "--role", "delivery", "--no-topics", WEB_PORT=str(free_ports(1)[0]))
    due = (int(time.time()) + 10 + bulk // 4000) * 1000
    await kafka.write(names.reminders, (_event(n, due, Priority.BULK) for n in range(bulk)))

    async def accepted() -> bool:
        return await kafka.end(names.reminders_changelog) >= bulk

    await until(core, accepted, 180, "all bulk accepted", every_s=0.5)

    async def flows() -> bool:
        return await kafka.end(names.outcomes) >= bulk // 50

    await until(delivery, flows, 120, "bulk mails going out", every_s=0.2)
    answers = await kafka.ends([names.outcomes])
    begun, sent = time.time(), {}
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for n in range(seconds * URGENT_PER_S):
            await asyncio.sleep(max(0.0, begun + n / URGENT_PER_S - time.time()))
            at = time.time_ns() // 1_000_000
            partition, key, value = _event(n, at, Priority.URGENT)
            sent[key.decode()] = at
            await producer.send_and_wait(names.reminders, value, key=key, partition=partition)
    core.check()
    delivery.check()
    late: dict[str, float] = {}
    went = 0
    limit = time.monotonic() + 60
    while len(late) < len(sent):
        if time.monotonic() > limit:
            raise BenchError(f"of {len(sent)} urgent mails {len(late)} went out")
        await asyncio.sleep(1.0)
        found = [codec.decode(DeliveryAnswer, r.value) for r in await kafka.records(answers)]
        taken = [a for a in found if a.kind is AnswerKind.OUTCOME and a.outcome is OutcomeKind.ACCEPTED]
        late = {a.reminder_id: float(a.ended_at - sent[a.reminder_id]) for a in taken if a.reminder_id in sent}
        went = len(taken) - len(late)
    rate = went / (time.time() - begun)
    if went >= bulk * 0.97:
        raise BenchError("the bulk was sent before the urgent mails: send more of it")
    await place.delete()
    return list(late.values()), rate


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    bulk, seconds = (6000, 3) if quick else (BULK, SECONDS)
    taken = [await _take(kafka, home, bulk, seconds) for _ in range(takes)]
    late = [take[0] for take in taken]
    p50, p99, most = (median([quantile(ms, part) for ms in late]) / 1000 for part in (0.5, 0.99, 1.0))
    rates = [take[1] for take in taken]
    return [
        Figure(
            "lanes",
            f"urgent mails, {URGENT_PER_S}/s, while {bulk:,} bulk are due, until the mail server took them",
            f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {most:.2f} s; bulk {median(rates):.0f}/s beside",
            "p99 ≤ 1.0 s",
            p99 * 1000 <= TARGET_MS,
            {"p99_ms": [quantile(ms, 0.99) for ms in late], "bulk_per_s": rates},
        )
    ]
