"""``life``: whole lives (event in, claimed, asked for, gated, mail accepted, audited), with one core and one delivery
worker and a mail server that answers after MAIL_MS.

Three figures: how many lives a second when all is due on arrival; how late a steady stream is while a million others
are pending; how late the reminders of one second are on their channel's topic. Everything is a process of its own.
"""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaProducer

from agents.publisher import partition_of
from bench import load
from bench.figures import Figure, median, quantile, spread
from bench.stage import PARTITIONS, BenchError, Installation, Kafka, Process, until
from deploy.dev.process import free_ports
from schemas import codec
from schemas.names import AnswerKind, Channel, OutcomeKind
from schemas.records import DeliveryAnswer, DeliveryRequest

MAIL_MS = 5
LIVES = 20_000
LIVES_PER_S = 600.0
STREAM_PER_S = 300
STREAM_S = 60
PENDING = 1_000_000
#: How far ahead of their time the events of the stream are sent, in seconds.
AHEAD_S = 3
REQUEST_MS, PROVIDER_MS = 50.0, 250.0
WINDOW = 2500
CHANNEL_MS = 1000.0


class _Stage:
    """An installation with both workers and a mail server."""

    def __init__(self, kafka: Kafka, home: Path, **extra: str) -> None:
        (self.port,) = free_ports(1)
        smtp = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(self.port), "SMTP_TLS": "none"}
        self.place = Installation(kafka, home, smtp | {"SMTP_FROM": "bench@example.org"} | extra)
        self.kafka = kafka

    async def begin(self, warm: int = 200) -> tuple[Process, Process]:
        """Start everything; return core and delivery once some mails have gone the whole way."""
        place, names = self.place, self.place.names
        place.start("-m", "bench.mail_server", str(self.port), str(MAIL_MS))
        core = place.start("-m", "app", "worker", "--role", "core", "--no-topics")
        delivery = place.start(
            "-m", "app", "worker", "--role", "delivery", "--no-topics", WEB_PORT=str(free_ports(1)[0])
        )
        before = await self.kafka.end(names.outcomes)
        await self.kafka.write(names.reminders, (_event("warm", n, int(time.time() * 1000)) for n in range(warm)))

        async def sent() -> bool:
            return await self.kafka.end(names.outcomes) >= before + warm

        await until(delivery, sent, 300, "the first mails", every_s=0.1)
        return core, delivery


def _event(kind: str, n: int, at: int) -> tuple[int, bytes, bytes]:
    event = replace(load.event(n, at), reminder_id=f"{kind}-{n:07d}")
    key = event.reminder_id.encode()
    return partition_of(key, PARTITIONS), key, codec.encode(event)


async def _rate(kafka: Kafka, home: Path, lives: int) -> tuple[float, float, float]:
    """Return lives a second, and the CPU time of core and of delivery for each, in ms."""
    stage = _Stage(kafka, home)
    place = stage.place
    await place.create()
    names = place.names
    await kafka.stamp_on_arrival(names.status)
    core, delivery = await stage.begin()
    cpu = core.cpu_s(), delivery.cpu_s()
    beginnings = await kafka.ends([names.status])
    before = sum(beginnings.values())
    await kafka.write(names.reminders, (_event("life", n, int(time.time() * 1000)) for n in range(lives)))

    async def ended() -> bool:
        core.check()
        return await kafka.end(names.status) >= before + lives

    await until(delivery, ended, 300, "all lives at their end", every_s=0.1)
    used = core.cpu_s() - cpu[0], delivery.cpu_s() - cpu[1]
    # A status is written in the unit that audits the end. The first and the last tenth are start and drain.
    times = sorted(r.timestamp for r in await kafka.records(beginnings))[lives // 10 : -lives // 10]
    await place.delete()
    return 1000 * len(times) / (times[-1] - times[0]), 1000 * used[0] / lives, 1000 * used[1] / lives


async def _stream(kafka: Kafka, home: Path, pending: int, seconds: int) -> tuple[list[float], list[float]]:
    """Return how late each was asked for, and called for, in ms."""
    stage = _Stage(kafka, home)
    place = stage.place
    await place.create()
    names = place.names
    await kafka.stamp_on_arrival(names.requests)
    await load.write_rows(kafka.bootstrap, names.reminders_changelog, pending, int(time.time() * 1000))
    core, delivery = await stage.begin()
    requests, answers = await kafka.ends([names.requests]), await kafka.ends([names.outcomes])
    begun = time.time() + 1
    due: dict[str, int] = {}
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=0) as producer:
        sent = []
        for n in range(seconds * STREAM_PER_S):
            moment = begun + n / STREAM_PER_S
            if (left := moment - time.time()) > 0:
                await asyncio.sleep(left)
            at = int((moment + AHEAD_S) * 1000)
            partition, key, value = _event("stream", n, at)
            due[key.decode()] = at
            sent.append(await producer.send(names.reminders, value, key=key, partition=partition))
        await asyncio.gather(*sent)

    async def answered() -> bool:
        core.check()
        return await kafka.end(names.outcomes) >= sum(answers.values()) + len(due)

    await until(delivery, answered, 120, "all mails of the stream", every_s=0.5)
    asked = [(codec.decode(DeliveryRequest, r.value).reminder_id, r.timestamp) for r in await kafka.records(requests)]
    found = [codec.decode(DeliveryAnswer, r.value) for r in await kafka.records(answers)]
    called = [
        (a.reminder_id, a.started_at)
        for a in found
        if a.kind is AnswerKind.OUTCOME and a.outcome is OutcomeKind.ACCEPTED
    ]
    late = [[float(at - due[rid]) for rid, at in times if rid in due] for times in (asked, called)]
    if len(late[1]) != len(due):
        raise BenchError(f"of {len(due)} mails {len(late[1])} went out")
    await place.delete()
    return late[0], late[1]


async def _burst(kafka: Kafka, home: Path, per_partition: int) -> list[float]:
    """Return how late each of the reminders of one second was on its channel's topic, in ms."""
    count = per_partition * PARTITIONS
    stage = _Stage(kafka, home, ADMISSION_WINDOW=str(WINDOW))
    place = stage.place
    await place.create()
    names = place.names
    topic = names.channels[Channel.EMAIL]
    await kafka.stamp_on_arrival(topic)
    core, delivery = await stage.begin()
    due = (int(time.time()) + 15 + count // 1500) * 1000
    rows, beginnings = await kafka.end(names.reminders_changelog), await kafka.ends([topic])
    await kafka.write(names.reminders, load.balanced(per_partition, due))

    async def accepted() -> bool:
        return await kafka.end(names.reminders_changelog) >= rows + count

    await until(core, accepted, 120, "all rows on the changelog", every_s=0.1)
    if time.time() > due / 1000 - 3:
        raise BenchError("events were accepted too shortly before they were due; the machine is too busy")

    async def routed() -> bool:
        core.check()
        return await kafka.end(topic) >= sum(beginnings.values()) + count

    await until(delivery, routed, 120, "all on the channel's topic", every_s=0.5)
    late = [float(r.timestamp - due) for r in await kafka.records(beginnings)]
    await place.delete()
    return late


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    lives, pending, seconds, burst = (2000, 20_000, 5, 250) if quick else (LIVES, PENDING, STREAM_S, WINDOW)
    rates = [await _rate(kafka, home, lives) for _ in range(takes)]
    streams = [await _stream(kafka, home, pending, seconds) for _ in range(takes)]
    bursts = [await _burst(kafka, home, burst) for _ in range(takes)]
    rate = median([r[0] for r in rates])
    figures = [
        Figure(
            "life",
            f"{lives:,} whole lives (event in … audited), mail server answering in {MAIL_MS} ms",
            f"{rate:.0f}/s ({spread([r[0] for r in rates])}); CPU a life: core {median([r[1] for r in rates]):.2f} ms, "
            f"delivery {median([r[2] for r in rates]):.2f} ms",
            "≥ 600/s",
            rate >= LIVES_PER_S,
            {"rates": rates},
        )
    ]
    for place, (what, target) in enumerate((("asked for", REQUEST_MS), ("the call", PROVIDER_MS))):
        late = [take[place] for take in streams]
        p50, p99 = (median([quantile(ms, part) for ms in late]) for part in (0.5, 0.99))
        figures.append(
            Figure(
                "life",
                f"{STREAM_PER_S}/s with {pending:,} pending, lateness until {what}",
                f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
                f"p99 ≤ {target:.0f} ms",
                p99 <= target,
                {"p99_ms": [quantile(ms, 0.99) for ms in late], "p50_ms": [quantile(ms, 0.5) for ms in late]},
            )
        )
    p50, p99 = (median([quantile(ms, part) for ms in bursts]) / 1000 for part in (0.5, 0.99))
    figures.append(
        Figure(
            "life",
            f"{burst * PARTITIONS:,} due at one second, until on the channel's topic",
            f"p50 {p50:.2f} s, p99 {p99:.2f} s",
            "p99 ≤ 1.0 s",
            p99 * 1000 <= CHANNEL_MS,
            {"p99_ms": [quantile(ms, 0.99) for ms in bursts]},
        )
    )
    return figures
