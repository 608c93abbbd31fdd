"""Circuits on real parts: a dead provider is left alone by all workers, its messages wait, and a person is told."""

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from agents.publisher import partition_of
from deploy.dev.broker import Broker
from schemas.names import State
from tables import quota
from tests.kafka.harness import Installation, Worker, installed, mail_event, now_ms
from tests.kafka.test_kills import mailed
from tests.sandbox.smtp_server import SmtpServer, Stage

PROBE_S = 3.0
CIRCUIT = "hold:circuit:email/smtp"


@asynccontextmanager
async def pager() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Give the URL of somebody who is to be told, and what they were."""
    told: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/page/secret", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/page/secret", told
    finally:
        await runner.cleanup()


async def until_told(told: list[dict[str, Any]], state: str, *, misconfigured: bool = False) -> None:
    async with asyncio.timeout(60):
        while not any((t["state"], t["misconfigured"]) == (state, misconfigured) for t in told):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def called(worker: Worker) -> list[float]:
    """Return when each call of a worker began, in seconds since 1970, by its log."""
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if '"calling"' in line]
    return [datetime.fromisoformat(line["time"]).timestamp() for line in lines]


async def until_waiting(service: Installation) -> None:
    def waits() -> bool:
        return any(entry.reason == CIRCUIT for entry in service.audit())

    await service.tap.until(waits, 60, "something waits for the circuit")


async def test_a_dead_provider_is_tried_seldom_by_all_workers_together_and_nothing_is_lost(
    broker: Broker, tmp_path: Path
) -> None:
    async with pager() as (url, told), SmtpServer() as server:
        extra = {"CIRCUIT_CALLS": "6", "CIRCUIT_PROBE_S": str(PROBE_S), "ALERT_WEBHOOK": url}
        async with installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
            for index in range(2):
                await service.until_ready(service.start(index))
            await service.send(mail_event("before", now_ms()))
            await service.all_in(["before"], [State.SENT])
            server.say(Stage.CONNECT, "421 4.3.2 not now")
            server.say(Stage.MAIL, "421 4.3.2 not now")
            ids = [f"waits-{n}" for n in range(40)]
            await service.send(*(mail_event(rid, now_ms()) for rid in ids))
            await until_told(told, "OPEN")
            await until_waiting(service)
            # What was under way when it opened has ended by now, or does within this time.
            await asyncio.sleep(PROBE_S)
            begun, before = time.monotonic(), server.connections
            await server.until(lambda: server.connections >= before + 2)
            await asyncio.sleep(PROBE_S)
            assert server.connections - before <= (time.monotonic() - begun) / PROBE_S + 1
            server.say(Stage.MAIL, "250 ok")
            server.say(Stage.CONNECT, "220 sandbox ready")
            await service.all_in(ids, [State.SENT])
            await until_told(told, "CLOSED")

            # A sender that the provider does not want: one call is enough to know, and everything is kept.
            server.say(Stage.MAIL, "550 5.1.8 no such sender")
            more = [f"kept-{n}" for n in range(20)]
            await service.send(*(mail_event(rid, now_ms()) for rid in more))
            await until_told(told, "OPEN", misconfigured=True)
            await until_waiting(service)
            server.say(Stage.MAIL, "250 ok")
            await service.all_in(more, [State.SENT])

            assert set(mailed(server).values()) == {1}
            assert service.dead_letters() == []
            assert {e.attempt for e in service.audit() if e.reminder_id in {*ids, *more}} <= {0, 1}
            assert State.MAYBE_SENT not in {entry.to_state for entry in service.audit()}
            assert not any("people.example" in str(alert) for alert in told)


async def test_a_second_mail_server_takes_over_and_the_first_has_its_share_again(
    broker: Broker, tmp_path: Path
) -> None:
    async with SmtpServer() as first, SmtpServer() as second:
        extra = {
            "CIRCUIT_CALLS": "6",
            "CIRCUIT_PROBE_S": str(PROBE_S),
            "SMTP_2_HOST": "127.0.0.1",
            "SMTP_2_PORT": str(second.port),
            "SMTP_2_TLS": "none",
        }
        async with installed(broker.bootstrap, tmp_path, first.port, extra=extra) as service:
            await service.until_ready(service.start())
            await service.send(mail_event("before", now_ms()))
            await service.all_in(["before"], [State.SENT])
            assert (len(first.mails), len(second.mails)) == (1, 0)
            await first.stop()
            ids = [f"beside-{n}" for n in range(20)]
            await service.send(*(mail_event(rid, now_ms()) for rid in ids))
            await service.all_in(ids, [State.SENT])
            assert mailed(second) == dict.fromkeys(ids, 1)
            sent = {e.reminder_id: e for e in service.audit() if e.to_state is State.SENT}
            assert {sent[rid].provider for rid in ids} == {"smtp-2"}
            assert {sent[rid].attempt for rid in ids} == {1}
            await first.start()
            after: list[str] = []

            def again() -> bool:
                return len(first.mails) > 3

            # One message at a time, each to be probed with or not, until the first takes them all again.
            async with asyncio.timeout(60):
                while not again():
                    after.append(f"after-{len(after)}")
                    await service.send(mail_event(after[-1], now_ms()))
                    await service.all_in([after[-1]], [State.SENT])
            assert set((mailed(first) + mailed(second)).values()) == {1}
            assert service.dead_letters() == []


async def test_two_workers_keep_a_providers_rate_together(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server:
        extra = {"PROVIDER_RATES": "email/smtp=10"}
        async with installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
            workers = [service.start(index) for index in range(2)]
            for worker in workers:
                await service.until_ready(worker)
            ids = [f"paced-{n}" for n in range(60)]
            await service.send(*(mail_event(rid, now_ms()) for rid in ids))
            await service.all_in(ids, [State.SENT])
            assert set(mailed(server).values()) == {1}
            # A call's first line is written in its turn, before anything that may be slow.
            begun = sorted(at for worker in workers for at in called(worker))
            assert len(begun) == 60
            assert max(bisect_left(begun, at + 1.0) - n for n, at in enumerate(begun)) <= 10


async def test_two_workers_keep_a_providers_calls_a_day_together_and_another_worker_does_not_begin_anew(
    broker: Broker, tmp_path: Path
) -> None:
    calls, held = 10, State.HELD
    async with SmtpServer() as server:
        extra = {"PROVIDER_QUOTAS": f"email/smtp={calls}"}
        async with installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
            workers = [service.start(index) for index in range(2)]
            for worker in workers:
                await service.until_ready(worker)
            if (left_ms := quota.next_day(now_ms()) - now_ms()) < 180_000:
                # At midnight, UTC, counting begins anew.
                await asyncio.sleep(left_ms / 1000 + 1)
            ids = [f"of-a-day-{n}" for n in range(40)]
            await service.send(*(mail_event(rid, now_ms()) for rid in ids))
            await service.all_in(ids, [State.SENT, held])
            workers[0].kill()
            more = [f"of-a-day-{n}" for n in range(40, 60)]
            await service.send(*(mail_event(rid, now_ms()) for rid in more))
            await service.all_in(more, [State.SENT, held])
            # Each partition has its part, whoever works on it, and all parts make the whole.
            parts = Counter(partition_of(rid.encode(), service.partitions) for rid in [*ids, *more])
            shares = [min(parts[p], quota.share(calls, p, service.partitions)) for p in range(service.partitions)]
            assert set(mailed(server).values()) == {1}
            assert len(server.mails) == sum(shares) == calls
            waits = [entry for entry in service.audit() if entry.to_state is held]
            assert {entry.reason for entry in waits} == {"daily_quota"}
            assert {entry.due for entry in waits} == {quota.next_day(now_ms())}
