"""Whatever is taken away from a running installation, or added to it, is named within a minute."""

import asyncio
import signal
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.publisher import partition_of
from app.cli.ledger import Found, compare
from deploy.dev.broker import Broker
from schemas.names import State
from tables.ledger import GRACE_MS
from tests.kafka.harness import Installation, Worker, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

PARTITIONS = 2


async def _pass_over_outcomes(service: Installation) -> None:
    """Let core's group believe that it has taken every outcome there is, once there is one."""
    tps = [TopicPartition(service.names.outcomes, p) for p in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=service.bootstrap, group_id=service.names.core_app, enable_auto_commit=False
    )
    async with consumer:
        async with asyncio.timeout(60):
            while not any((ends := await consumer.end_offsets(tps)).values()):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        consumer.assign(tps)
        await consumer.commit(ends)


async def _named(service: Installation, worker: Worker, kinds: set[str], limit_s: float = 60.0) -> float:
    """Wait until a worker's metrics count one orphan of each kind; return how long that took, in seconds."""
    begun = time.monotonic()
    wanted = {f'reminders_orphans{{kind="{kind}"}} 1.0' for kind in kinds}
    while missing := wanted - set((await service.get(worker, "/metrics")).splitlines()):
        assert time.monotonic() - begun < limit_s, f"{missing}; {worker.tail()}"
        await asyncio.sleep(0.5)
    return time.monotonic() - begun


def _told(found: Found) -> set[tuple[str, str]]:
    return {(orphan.kind.value, orphan.reminder_id) for orphan in found.orphans}


async def test_planted_faults_are_named_within_a_minute(broker: Broker, tmp_path: Path) -> None:
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, partitions=PARTITIONS, extra={"LEASE_S": "600"}) as service,
    ):
        core = service.start(0, role="core")
        began = now_ms()
        later = began + 3_600_000
        await service.send(
            mail_event("copied", later), mail_event("deleted", later), mail_event("dropped", now_ms() + 500)
        )
        await service.all_in(["dropped"], [State.SENDING])
        await service.all_in(["copied", "deleted"], [State.SCHEDULED])
        core.kill(signal.SIGTERM)
        assert await core.exit_code() == 0, core.tail()
        delivery = service.start(1, role="delivery")
        await _pass_over_outcomes(service)
        assert len(server.mails) == 1

        core = service.start(0, role="core")
        await service.until_ready(core, 60)
        names = service.names
        copied = next(r for r in service.tap.records[names.audit] if r.key == b"copied")
        await service.producer.send_and_wait(
            names.audit, copied.value, key=copied.key, partition=copied.partition, headers=list(copied.headers)
        )
        await service.producer.send_and_wait(
            names.reminders_changelog, None, key=b"deleted", partition=partition_of(b"deleted", PARTITIONS)
        )
        await _named(service, core, {"audit_doubled", "row", "outcome"})
        text = await service.get(core, "/metrics")
        for kind in ("event", "trail", "audit_missing", "stuck"):
            assert f'reminders_orphans{{kind="{kind}"}} 0.0' in text, core.tail()
        planted = {("audit_doubled", "copied"), ("row", "deleted"), ("outcome", "dropped")}
        log = core.log.read_text()
        for kind, reminder in planted:
            assert any("orphan: " in line and kind in line and reminder in line for line in log.splitlines()), kind
        assert _told(await compare(service.settings, began - 60_000)) == planted

        assert delivery.process.poll() is None


async def test_a_day_with_a_kill_adds_up(broker: Broker, tmp_path: Path) -> None:
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, partitions=PARTITIONS) as service,
    ):
        began = now_ms()
        killed = service.start(0, STOP_AT="emitted", STOP_ROLE="core", STOP_AFTER="30")
        ids = [f"clinic/{n}" for n in range(40)]
        await service.send(*(mail_event(rid, now_ms() + 300) for rid in ids))
        assert await killed.exit_code(60) == -signal.SIGKILL
        worker = service.start(0)
        await service.all_in(ids, [State.SENT], 90)
        await service.send_raw(b"{}", b"clinic/0")
        await service.tap.until(service.dead_letters, 30, "the letter of a malformed event")
        async with asyncio.timeout(60):
            # All of it is old enough to be judged, as soon as its group has said that it was taken.
            while (found := await compare(service.settings, began - 60_000, now_ms() + GRACE_MS)).waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        assert _told(found) == set(), worker.tail()
        assert (found.events, found.rows) == (41, 40)
        assert found.answers >= 40
