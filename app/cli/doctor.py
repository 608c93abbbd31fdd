"""The command that checks everything a worker needs, and says what to do about what is wrong."""

import asyncio
import contextlib
import importlib.metadata
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import aiohttp
import click
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from rich.text import Text

from app.cli.failures import Failure
from app.cli.groups import admin_of, committed, members
from app.cli.root import load, run
from app.cli.show import console, plain
from app.config import Settings
from app.kafka import client_options
from app.topics import TopicError, TopicNames, check_topics, full_name
from schemas import zones as tz

#: Less free space than this is a warning: changelogs, tables and their compaction need room.
LOW_DISK_BYTES = 2 * 1024**3
#: Clocks further apart than this make lateness and expiry wrong in a way people notice.
CLOCK_WARN_MS = 500
CLOCK_BAD_MS = 5000
_LIMIT_S = 20.0
#: What waits longer than this, and of which none is done while we look for so long, stands still; in seconds.
OLD_S = 60.0
STILL_S = 3.0
MOST_SHOWN = 3


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


_STYLES = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "red", Grade.SKIP: "dim"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: each fault with its remedy."""

    name: str
    grade: Grade
    text: str


def line(verdict: Verdict, width: int = 10) -> Text:
    """Return a verdict as it is shown; ``width``: of its name."""
    text = Text(f"{verdict.grade.value:<5}", style=_STYLES[verdict.grade])
    return text.append(f"{verdict.name:<{width}} {plain(verdict.text)}", style="default")


Check = Callable[[Settings], Awaitable[Verdict]]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(as_json: bool) -> None:
    """Check versions, broker, topics, clock, what waits, disk, time zones, providers and worker.

    Exits with 1 where one fails; each line names what to do.
    """
    settings = load()
    verdicts = run(examine(settings))
    out = console()
    for verdict in verdicts:
        if as_json:
            click.echo(orjson.dumps({"check": verdict.name, "grade": verdict.grade.value, "text": verdict.text}))
        else:
            out.print(line(verdict), soft_wrap=True)
    if any(verdict.grade is Grade.FAIL for verdict in verdicts):
        sys.exit(1)


async def examine(settings: Settings) -> list[Verdict]:
    """Return all verdicts. What needs the broker is skipped where there is none."""
    verdicts = [await _limited("versions", versions, settings), await _limited("broker", broker, settings)]
    with_broker: dict[str, Check] = {
        "topics": topics,
        "clock": clock,
        "progress": progress,
        "providers": circuits,
        "sealing": sealing,
    }
    for name, check in with_broker.items():
        if verdicts[1].grade is Grade.FAIL:
            verdicts.append(Verdict(name, Grade.SKIP, "needs the broker"))
        else:
            verdicts.append(await _limited(name, check, settings))
    alone: dict[str, Check] = {"disk": disk, "tz data": zones, "channels": channels, "worker": worker, "stuck": stuck}
    return verdicts + [await _limited(name, check, settings) for name, check in alone.items()]


async def _limited(name: str, check: Check, settings: Settings) -> Verdict:
    try:
        async with asyncio.timeout(_LIMIT_S):
            return await check(settings)
    except TimeoutError:
        return Verdict(name, Grade.FAIL, f"no answer within {_LIMIT_S:g} s; look at the network between here and there")
    except (OSError, KafkaError, Failure) as exc:
        return Verdict(name, Grade.FAIL, exc.message if isinstance(exc, Failure) else str(exc) or type(exc).__name__)


async def versions(_: Settings) -> Verdict:
    """Check that exactly the versions are installed that the corrections of Faust were made for."""
    from app.hardening import PINNED  # noqa: PLC0415 - brings Faust in, which takes half a second

    wrong, found = [], []
    for package, pinned in PINNED.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "nothing"
        found.append(f"{package} {version}")
        if version != pinned:
            wrong.append(f"{package}=={pinned} is needed, {version} is installed")
    if wrong:
        remedy = "pip install --require-hashes -r requirements.lock"
        return Verdict("versions", Grade.FAIL, f"{'; '.join(wrong)}; {remedy}")
    python = ".".join(map(str, sys.version_info[:3]))
    return Verdict("versions", Grade.OK, f"Python {python}, {', '.join(found)}")


async def broker(settings: Settings) -> Verdict:
    """Check that the brokers answer, and enough of them for the copies that are wanted."""
    begun = time.perf_counter()
    async with admin_of(settings) as admin:
        cluster = await admin.describe_cluster()
    took = (time.perf_counter() - begun) * 1000
    brokers = len(cluster["brokers"])
    number = "1 broker" if brokers == 1 else f"{brokers} brokers"
    text = f"{settings.kafka.bootstrap} ({settings.kafka.security}): {number}, answered in {took:.0f} ms"
    if brokers < settings.replication:
        return Verdict(
            "broker", Grade.FAIL, f"{text}; REMINDERS_REPLICATION={settings.replication} needs as many brokers"
        )
    if settings.replication == 1 and brokers > 1:
        return Verdict("broker", Grade.WARN, f"{text}; REMINDERS_REPLICATION=1 loses data with a broker: use 3")
    return Verdict("broker", Grade.OK, text)


async def topics(settings: Settings) -> Verdict:
    """Compare the topics with what they must be."""
    try:
        reports = await check_topics(settings)
    except TopicError as exc:
        return Verdict("topics", Grade.FAIL, "; ".join(exc.faults))
    missing = [report.name for report in reports if report.missing]
    if missing:
        return Verdict("topics", Grade.FAIL, f"{len(missing)} of {len(reports)} missing; run `python -m app topics`")
    faults = [fault for report in reports for fault in report.faults]
    if faults:
        more = f" (and {len(faults) - 1} more; see `python -m app topics --check`)" if len(faults) > 1 else ""
        return Verdict("topics", Grade.FAIL, faults[0] + more)
    return Verdict(
        "topics", Grade.OK, f"{len(reports)} topics, {settings.partitions} partitions each, as they should be"
    )


async def clock(settings: Settings) -> Verdict:
    """Compare this machine's clock with a broker's: a topic that the broker stamps is made for one record."""
    topic = full_name(settings.namespace, f"doctor-{uuid.uuid4().hex[:12]}")
    async with admin_of(settings) as admin:
        config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "60000"}
        response = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=config)])
        if response.topic_errors[0][1]:
            return Verdict("clock", Grade.SKIP, "cannot be compared: making a topic for it is not allowed")
        try:
            apart, doubt = await _apart(settings, topic)
        finally:
            await admin.delete_topics([topic])
    text = f"this machine is {abs(apart):.0f} ms {'ahead of' if apart > 0 else 'behind'} the broker (±{doubt:.0f} ms)"
    if abs(apart) <= max(CLOCK_WARN_MS, doubt):
        return Verdict("clock", Grade.OK, text)
    grade = Grade.FAIL if abs(apart) > CLOCK_BAD_MS + doubt else Grade.WARN
    return Verdict("clock", grade, f"{text}; run a time service (chrony, systemd-timesyncd) on both")


async def progress(settings: Settings) -> Verdict:
    """Find records that wait and of which none is done, whoever should do them."""
    names = TopicNames.of(settings)
    inputs = {
        names.core_app: ("core", (*names.intakes, names.outcomes, names.receipts, *names.retry.values())),
        names.delivery_app: ("delivery", (names.recipients, names.requests, *names.channels.values())),
    }
    found: list[tuple[Grade, str]] = []
    async with admin_of(settings) as admin, _reader(settings) as consumer:
        known = await consumer._client.fetch_all_metadata()
        for group, (role, wanted) in inputs.items():
            there = [TopicPartition(t, p) for t in wanted for p in known.partitions_for_topic(t) or ()]
            before = await _undone(admin, consumer, group, there)
            if not before:
                continue
            await asyncio.sleep(STILL_S)
            after = await _undone(admin, consumer, group, there)
            still = {tp: offsets for tp, offsets in after.items() if before.get(tp, (-1, -1))[0] == offsets[0]}
            workers = await members(admin, group)
            for tp, (offset, end) in still.items():
                waited = await _age_s(consumer, tp, offset)
                if waited <= OLD_S:
                    continue
                what = f"{tp.topic}/{tp.partition}: {end - offset} wait from {offset} on, the first for {waited:.0f} s"
                if not workers:
                    found.append((Grade.FAIL, f"{what}; no worker: run `python -m app worker --role {role}`"))
                elif tp.topic in names.channels.values():
                    found.append((Grade.WARN, f"{what}; for a provider that is slow, or held: `python -m app holds`"))
                else:
                    remedy = "see `stuck` in GET /health of each worker, and end that one: it is started anew"
                    found.append((Grade.FAIL, f"{what}, none is done; {remedy}"))
    if not found:
        return Verdict("progress", Grade.OK, "what waits is being done")
    worst = Grade.FAIL if any(grade is Grade.FAIL for grade, _ in found) else Grade.WARN
    more = f" (and {len(found) - MOST_SHOWN} more partitions)" if len(found) > MOST_SHOWN else ""
    return Verdict("progress", worst, "; ".join(text for _, text in found[:MOST_SHOWN]) + more)


async def _undone(
    admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str, tps: list[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return where a group stands and where the end is, of each partition that it has not done to its end."""
    done = await committed(admin, group)
    first, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    stands = {tp: max(done.get(tp, 0), first[tp]) for tp in tps}
    return {tp: (stands[tp], ends[tp]) for tp in tps if stands[tp] < ends[tp]}


async def _age_s(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> float:
    """Return how old the first record from an offset on is, 0 where there is none."""
    consumer.assign([tp])
    consumer.seek(tp, offset)
    try:
        async with asyncio.timeout(3.0):
            record = await consumer.getone(tp)
    except TimeoutError:
        return 0.0
    return time.time() - float(record.timestamp) / 1000


async def _apart(settings: Settings, topic: str) -> tuple[float, float]:
    """Return how far our clock is ahead of the broker's, and how wrong that may be, in ms."""
    producer = AIOKafkaProducer(**client_options(settings), client_id="reminders-doctor", request_timeout_ms=10_000)
    try:
        await producer.start()
        best = (0.0, float("inf"))
        # The quickest of several answers is the most exact; the first one also waits for the new topic.
        for _ in range(5):
            before = time.time() * 1000
            record = await producer.send_and_wait(topic, b"", partition=0)
            after = time.time() * 1000
            if (doubt := (after - before) / 2 + 1) < best[1]:
                best = ((before + after) / 2 - record.timestamp, doubt)
        return best
    finally:
        await producer.stop()


async def disk(settings: Settings) -> Verdict:
    """Check that the tables' folder can be written, and that there is room."""
    folder = settings.data_dir.resolve()
    where = f"REMINDERS_DATA_DIR={settings.data_dir}"
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as exc:
        return Verdict(
            "disk", Grade.FAIL, f"{where}: cannot be written ({exc.strerror}); grant it or name another folder"
        )
    free = shutil.disk_usage(existing).free
    text = f"{where}: {free / 1024**3:.1f} GiB free"
    if free < LOW_DISK_BYTES:
        return Verdict("disk", Grade.WARN, f"{text}; make room, or name another folder")
    return Verdict("disk", Grade.OK, text)


async def zones(_: Settings) -> Verdict:
    """Check the age of the time zone data."""
    since = tz.no_older_than()
    package = importlib.metadata.version("tzdata")
    text = f"release {tz.release()} (package tzdata {package}), from {since:%B %Y} or later"
    if tz.may_be_old(datetime.now(UTC)):
        remedy = "`make lock UPGRADE=-U` brings the newest; see docs/time.md"
        return Verdict("tz data", Grade.WARN, f"{text}: may be more than six months old; {remedy}")
    return Verdict("tz data", Grade.OK, text)


async def channels(settings: Settings) -> Verdict:
    """Ask the provider of each channel whether it accepts us, over a connection of its own; send nothing."""
    from app import build  # noqa: PLC0415 - brings Faust in
    from channels import registry  # noqa: PLC0415

    adapters = registry.every_adapter(build._channels(settings))
    if not adapters:
        return Verdict("channels", Grade.SKIP, "none is configured, SMTP_HOST is not set; a delivery worker needs one")
    said = await asyncio.gather(*(adapter.probe() for adapter in adapters), return_exceptions=True)
    lines, wrong = [], False
    for adapter, answer in zip(adapters, said, strict=True):
        if isinstance(answer, BaseException) and not isinstance(answer, OSError):
            raise answer
        wrong |= isinstance(answer, OSError)
        lines.append(f"{adapter.channel.value.lower()}: {answer}")
    return Verdict("channels", Grade.FAIL if wrong else Grade.OK, "; ".join(lines))


async def circuits(settings: Settings) -> Verdict:
    """Name the providers that no worker calls for now."""
    from app.cli import providers  # noqa: PLC0415 - as others that few commands need

    board, now = await providers.read(settings), time.time_ns() // 1_000_000
    shut = [c for c in board.known.values() if c.shut(now)]
    if not shut:
        return Verdict("providers", Grade.OK, "none is kept from being called")
    said = "; ".join(f"{c.name}: {'misconfigured' if c.misconfigured else 'not called'}, {c.reason}" for c in shut)
    grade = Grade.FAIL if any(c.misconfigured for c in shut) else Grade.WARN
    return Verdict("providers", grade, f"{said}; see `python -m app providers`")


async def sealing(settings: Settings) -> Verdict:
    """While a master key is being changed, count what still needs the old one."""
    from app.cli import holdings  # noqa: PLC0415 - as others that few commands need

    keys = len(settings.rules.seal_keys)
    if not keys:
        return Verdict("sealing", Grade.SKIP, "SEAL_KEY is not set: contents and contacts are kept in clear")
    if keys == 1:
        return Verdict("sealing", Grade.OK, "one master key; what waits for it: `python -m app secrets --waiting`")
    found = await holdings.sealed_otherwise(settings)
    grade = Grade.WARN if found else Grade.OK
    return Verdict("sealing", grade, holdings.told_of_sealing(found, keys))


async def worker(settings: Settings) -> Verdict:
    """Ask the worker of these settings whether it is at work."""
    url = f"http://{settings.web.host}:{settings.web.port}/ready"
    limit = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=limit, trust_env=False) as session, session.get(url) as response:
            body = await response.json()
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return Verdict("worker", Grade.SKIP, f"none answers at {url}; start one with `python -m app worker`")
    why = body.get("status", "") if isinstance(body, dict) else ""
    if status != 200:
        return Verdict("worker", Grade.WARN, f"{url}: not ready: {why}; wait, or see its log")
    return Verdict("worker", Grade.OK, f"{url}: ready")


async def stuck(settings: Settings) -> Verdict:
    """Ask the workers of these settings what does not move."""
    found, asked = [], 0
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit, trust_env=False) as session:
        for port in (settings.web.port, settings.web.delivery_port):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
                async with session.get(f"http://{settings.web.host}:{port}/health") as response:
                    body = await response.json()
                    said = body.get("stuck", []) if isinstance(body, dict) else []
                    if isinstance(said, list):
                        asked += 1
                        found += [f"port {port}: {what}" for what in said]
    if not asked:
        return Verdict("stuck", Grade.SKIP, "no worker answers here")
    if found:
        remedy = f"it ends by itself after WATCHDOG_S={settings.limits.watchdog_s:g}; see docs/operating.md"
        return Verdict("stuck", Grade.WARN, f"{'; '.join(found)}; {remedy}")
    return Verdict("stuck", Grade.OK, "nothing stands still")


@contextlib.asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, enable_auto_commit=False)
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
