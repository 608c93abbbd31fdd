"""``channels``: whole lives by channel, and whether a dead provider slows the others.

Lives: event in, claimed, asked for, gated, called, audited, with one core and one delivery worker and a provider that
answers after PROVIDER_MS, each a process of its own. Calls at once are set so high that they do not bound a life.

Beside a dead one: mails at a steady rate, first alone, then while as many webhooks go to a receiver that takes
connections and never answers. What counts is how late each mail's call began, in the same take.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka import AIOKafkaProducer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agents.publisher import partition_of
from bench import load
from bench.figures import Figure, median, quantile, spread
from bench.stage import PARTITIONS, BenchError, Installation, Kafka, Process, until
from deploy.dev.process import free_ports
from schemas import codec
from schemas.names import AnswerKind, Channel, OutcomeKind
from schemas.records import DeliveryAnswer, Step

PROVIDER_MS = 50
LIVES = 20_000
#: Calls at once of a delivery worker: 2,400 a second of 50 ms each.
CALLS = 120
MAILS_PER_S = 50
MAILS_S = 30
#: How much later a mail may be beside a dead provider, at its p99. The least that counts, in ms: the clock's step.
RATIO = 1.2
LEAST_MS = 1.0


@dataclass(frozen=True, slots=True)
class Provider:
    """A channel and how its provider is set up. ``address``: of a number; ``environ``: by port and folder."""

    channel: Channel
    target: float
    address: Callable[[int, int], str]
    environ: Callable[[int, Path], Mapping[str, str]]
    command: tuple[str, ...]


def _mail(port: int, _folder: Path) -> dict[str, str]:
    smtp = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_TLS": "none", "SMTP_FROM": "bench@example.org"}
    return smtp | {"SMTP_POOL": str(CALLS)}


def _webhook(port: int, _folder: Path) -> dict[str, str]:
    return {
        "WEBHOOK_KEYS": "a-key-of-benches-only-0123456789-abcdef",
        "WEBHOOK_ALLOW": f"127.0.0.1:{port}",
        "WEBHOOK_CONCURRENCY": str(CALLS),
        "WEBHOOK_PER_HOST": str(CALLS),
    }


def _push(port: int, folder: Path) -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    account = {
        "type": "service_account",
        "project_id": "bench",
        "private_key_id": "key-1",
        "private_key": key.private_bytes(*form).decode(),
        "client_email": "sender@bench.example",
        "token_uri": f"http://127.0.0.1:{port}/token",
    }
    file = folder / "account.json"
    file.write_text(json.dumps(account))
    return {
        "FCM_CREDENTIALS_FILE": str(file),
        "FCM_URL": f"http://127.0.0.1:{port}",
        "FCM_CONCURRENCY": str(CALLS),
    }


def _twilio(port: int, _folder: Path) -> dict[str, str]:
    return {
        "TWILIO_ACCOUNT_SID": "AC" + "0123456789abcdef" * 2,
        "TWILIO_AUTH_TOKEN": "a-token-of-benches-only",
        "TWILIO_SMS_FROM": "+12015550100",
        "TWILIO_BASE_URL": f"http://127.0.0.1:{port}",
        "TWILIO_CONNECTIONS": str(CALLS),
    }


_SERVER = "bench.provider_server"
MAIL = Provider(Channel.EMAIL, 600.0, lambda n, _port: f"patient.{n:07d}@people.example", _mail, ("bench.mail_server",))
WEBHOOK = Provider(
    Channel.WEBHOOK, 1000.0, lambda n, port: f"http://127.0.0.1:{port}/{n}", _webhook, (_SERVER, "webhook")
)
PUSH = Provider(Channel.PUSH, 1000.0, lambda n, _port: f"device-{n:07d}:APA91b", _push, (_SERVER, "push"))
SMS = Provider(Channel.SMS, 500.0, lambda n, _port: f"+1201555{n % 10_000:04d}", _twilio, (_SERVER, "sms"))
PROVIDERS = (WEBHOOK, PUSH, MAIL, SMS)


class _Stage:
    """An installation with both workers and the providers of some channels."""

    def __init__(self, kafka: Kafka, home: Path, providers: Sequence[Provider]) -> None:
        self.kafka = kafka
        home.mkdir(parents=True, exist_ok=True)
        self.ports = dict(zip((p.channel for p in providers), free_ports(len(providers)), strict=True))
        extra: dict[str, str] = {}
        for provider in providers:
            extra |= provider.environ(self.ports[provider.channel], home)
        self.place = Installation(kafka, home, extra)
        self._providers = providers

    async def begin(self, warm: int = 200) -> tuple[Process, Process]:
        """Start everything; return core and delivery once some messages of the first provider went the whole way."""
        place, first = self.place, self._providers[0]
        for provider in self._providers:
            module, *kind = provider.command
            place.start("-m", module, *kind, str(self.ports[provider.channel]), str(PROVIDER_MS))
        core = place.start("-m", "app", "worker", "--role", "core", "--no-topics")
        delivery = place.start(
            "-m", "app", "worker", "--role", "delivery", "--no-topics", WEB_PORT=str(free_ports(1)[0])
        )
        now = int(time.time() * 1000)
        await self.kafka.write(place.names.reminders, (self.event(first, "warm", n, now) for n in range(warm)))

        async def sent() -> bool:
            return await self.kafka.end(place.names.outcomes) >= warm

        await until(delivery, sent, 300, "the first messages", every_s=0.1)
        return core, delivery

    def event(self, provider: Provider, kind: str, n: int, at: int) -> tuple[int, bytes, bytes]:
        """Return (partition, key, value) of an event for a provider."""
        steps = (Step(provider.channel, address=provider.address(n, self.ports[provider.channel])),)
        event = replace(load.event(n, at), reminder_id=f"{kind}-{n:07d}", steps=steps)
        key = event.reminder_id.encode()
        return partition_of(key, PARTITIONS), key, codec.encode(event)


async def _lives(kafka: Kafka, home: Path, provider: Provider, lives: int) -> tuple[float, float, float]:
    """Return lives a second, and the CPU time of core and of delivery for each, in ms."""
    stage = _Stage(kafka, home, [provider])
    place, names = stage.place, stage.place.names
    await place.create()
    await kafka.stamp_on_arrival(names.status)
    core, delivery = await stage.begin()
    cpu = core.cpu_s(), delivery.cpu_s()
    beginnings, answers = await kafka.ends([names.status]), await kafka.ends([names.outcomes])
    before, now = sum(beginnings.values()), int(time.time() * 1000)
    await kafka.write(names.reminders, (stage.event(provider, "life", n, now) for n in range(lives)))

    async def ended() -> bool:
        core.check()
        return await kafka.end(names.status) >= before + lives

    await until(delivery, ended, 600, "all lives at their end", every_s=0.1)
    used = core.cpu_s() - cpu[0], delivery.cpu_s() - cpu[1]
    found = [codec.decode(DeliveryAnswer, r.value) for r in await kafka.records(answers)]
    taken = sum(a.kind is AnswerKind.OUTCOME and a.outcome is OutcomeKind.ACCEPTED for a in found)
    if taken < lives:
        raise BenchError(f"of {lives} messages {taken} were taken; see {delivery.log}")
    # The first and the last tenth are start and drain.
    times = sorted(r.timestamp for r in await kafka.records(beginnings))[lives // 10 : -lives // 10]
    await place.delete()
    return 1000 * len(times) / max(1, times[-1] - times[0]), 1000 * used[0] / lives, 1000 * used[1] / lives


async def _beside_a_dead_one(kafka: Kafka, home: Path, seconds: int) -> tuple[list[float], list[float]]:
    """Return how late each mail's call began, in ms: alone, and beside webhooks to a receiver that never answers."""
    dead = replace(WEBHOOK, command=(_SERVER, "dead"))
    stage = _Stage(kafka, home, [MAIL, dead])
    place, names = stage.place, stage.place.names
    await place.create()
    core, delivery = await stage.begin()
    late: list[list[float]] = []
    for kind, others in (("alone", []), ("beside", [dead])):
        answers = await kafka.ends([names.outcomes])
        due = await _stream(stage, kind, [MAIL, *others], seconds)

        async def called(
            kind: str = kind, answers: Mapping[object, int] = answers, due: Mapping[str, int] = due
        ) -> list[float] | None:
            core.check()
            found = [codec.decode(DeliveryAnswer, r.value) for r in await kafka.records(answers)]
            mails = [a for a in found if a.kind is AnswerKind.OUTCOME and a.channel is Channel.EMAIL]
            times = [float(a.started_at - due[a.reminder_id]) for a in mails if a.reminder_id in due]
            return times if len(times) >= len(due) else None

        late.append(await until(delivery, called, 120, f"all mails {kind}", every_s=1.0))
    await place.delete()
    return late[0], late[1]


async def _stream(stage: _Stage, kind: str, providers: Sequence[Provider], seconds: int) -> dict[str, int]:
    """Send events for each provider at a steady rate, due as they are sent; return when each mail was due."""
    due: dict[str, int] = {}
    begun = time.time()
    async with AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer:
        sent = []
        for n in range(seconds * MAILS_PER_S):
            await asyncio.sleep(max(0.0, begun + n / MAILS_PER_S - time.time()))
            at = time.time_ns() // 1_000_000
            for provider in providers:
                name = f"{kind}-{provider.channel.value.lower()}"
                partition, key, value = stage.event(provider, name, n, at)
                if provider.channel is Channel.EMAIL:
                    due[key.decode()] = at
                sent.append(await producer.send(stage.place.names.reminders, value, key=key, partition=partition))
        await asyncio.gather(*sent)
    return due


def _bound(rate: float, core_ms: float, delivery_ms: float) -> str:
    """Return what a rate is bound by: whoever uses up a processor, or all of them together."""
    core, delivery = rate * core_ms / 1000, rate * delivery_ms / 1000
    name, most = max((("core", core), ("delivery", delivery)), key=lambda one: one[1])
    if rate >= 0.9 * CALLS * 1000 / PROVIDER_MS:
        return f"bound by {CALLS} calls at once"
    return f"{name} uses {100 * most:.0f} % of a processor"


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    lives, seconds = (2000, 5) if quick else (LIVES, MAILS_S)
    figures: list[Figure] = []
    for provider in PROVIDERS:
        taken = [await _lives(kafka, home, provider, lives) for _ in range(takes)]
        rate, core, delivery = (median([take[n] for take in taken]) for n in range(3))
        figures.append(
            Figure(
                "channels",
                f"{lives:,} whole lives by {provider.channel.value}, provider answering in {PROVIDER_MS} ms",
                f"{rate:.0f}/s ({spread([take[0] for take in taken])}); CPU a life: core {core:.2f} ms, "
                f"delivery {delivery:.2f} ms; {_bound(rate, core, delivery)}",
                f"≥ {provider.target:.0f}/s",
                rate >= provider.target,
                {"takes": taken},
            )
        )
    pairs = [await _beside_a_dead_one(kafka, home, seconds) for _ in range(takes)]
    p99 = [[quantile(ms, 0.99) for ms in pair] for pair in pairs]
    ratio = median([max(LEAST_MS, beside) / max(LEAST_MS, alone) for alone, beside in p99])
    figures.append(
        Figure(
            "channels",
            f"mails, {MAILS_PER_S}/s, until the call, beside as many webhooks to a receiver that never answers",
            f"p99 {median([beside for _, beside in p99]):.0f} ms against {median([alone for alone, _ in p99]):.0f} ms "
            f"alone: {ratio:.2f}×",
            f"≤ {RATIO}×",
            ratio <= RATIO,
            {"p99_ms": p99},
        )
    )
    return figures
