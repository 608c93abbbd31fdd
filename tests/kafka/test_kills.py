"""Kills, freezes and outages at every step: nothing accepted is lost, nothing is mailed twice with HOLD."""

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from deploy.dev.broker import Broker
from schemas.names import State
from tests.kafka.harness import ENDED, Installation, adds_up, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

UNIT_STAGES = ("received", "decided", "emitted", "logged", "written", "acked")
CALL_STAGES = ("started", "called", "answered")


def mailed(server: SmtpServer) -> Counter[str]:
    """Return how many mails each reminder's address got."""
    return Counter(mail.recipients[0].removesuffix("@people.example") for mail in server.mails)


async def killed_at_each(service: Installation, role: str, stages: Iterable[str], per_stage: int = 8) -> list[str]:
    """Start a worker for each stage that kills itself there amid due reminders; return the ids that were accepted."""
    ids: list[str] = []
    for n, stage in enumerate(stages):
        fresh = [f"{role}-{stage}-{i}" for i in range(per_stage)]
        ids += fresh
        # Two inputs: the stage is met in the middle of the work, not only at its very beginning.
        worker = service.start(0, STOP_AT=stage, STOP_ROLE=role, STOP_AFTER=str(1 + n % 3))
        await service.send(*(mail_event(rid, now_ms() + 500) for rid in fresh))
        assert await worker.exit_code(60) == -signal.SIGKILL, worker.tail()
    return ids


@pytest.mark.parametrize(("role", "stages"), [("core", UNIT_STAGES), ("delivery", UNIT_STAGES + CALL_STAGES)])
async def test_kill_at_each_stage_with_hold(broker: Broker, tmp_path: Path, role: str, stages: tuple[str, ...]) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        ids = await killed_at_each(service, role, stages)
        service.start(0)
        await service.all_in(ids, [*ENDED, State.MAYBE_SENT], 90)
        counts, states = mailed(server), service.row_states()
        assert {rid for rid, count in counts.items() if count > 1} == set()
        missing = {rid for rid in ids if counts[rid] == 0}
        assert {states[rid] for rid in missing} <= {State.MAYBE_SENT}
        assert {states[rid] for rid in ids if rid not in missing} <= {State.SENT, State.MAYBE_SENT}


async def test_kill_at_each_stage_of_a_call_with_resend(broker: Broker, tmp_path: Path) -> None:
    extra = {"MAYBE_SENT": "RESEND"}
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
        ids = await killed_at_each(service, "delivery", ("written", *CALL_STAGES))
        service.start(0)
        await service.all_in(ids, [State.SENT], 90)
        assert {rid for rid in ids if mailed(server)[rid] == 0} == set()


async def test_a_wiped_data_directory_comes_back_byte_for_byte(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        began = now_ms()
        worker = service.start(0)
        ids = [f"wiped-{n}" for n in range(60)]
        await service.send(*(mail_event(rid, now_ms() + 1000 + 3_600_000 * (n % 2)) for n, rid in enumerate(ids)))
        await service.all_in(ids[::2], [State.SENT])
        worker.kill(signal.SIGTERM)
        assert await worker.exit_code() == 0, worker.tail()
        before = stored_rows(tmp_path / "worker-0" / "core")
        assert {key.decode() for key in before} == set(ids)
        shutil.rmtree(tmp_path / "worker-0")
        worker = service.start(0)
        await service.send(mail_event("wiped-last", now_ms() + 500))
        await service.all_in(["wiped-last"], [State.SENT])
        worker.kill(signal.SIGTERM)
        assert await worker.exit_code() == 0, worker.tail()
        after = stored_rows(tmp_path / "worker-0" / "core")
        assert {key: value for key, value in after.items() if key != b"wiped-last"} == before
        # The delivery records came back, too: nothing that was sent is sent again.
        assert set(mailed(server).values()) == {1}
        await adds_up(service, began)


def stored_rows(directory: Path) -> dict[bytes, bytes]:
    """Return the rows in a data directory, read with the worker stopped."""
    from rocksdict import AccessType, Options, Rdict

    rows: dict[bytes, bytes] = {}
    for path in sorted(directory.glob("**/*.db")):
        families = {name: Options(raw_mode=True) for name in ("due", "meta")}
        db = Rdict(str(path), Options(raw_mode=True), families, AccessType.read_only())
        rows.update(db.items())
        db.close()
    return rows


async def test_sigterm_amid_500_sends_settles_all_and_doubts_none(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start(0)
        ids = [f"term-{n}" for n in range(500)]
        await service.send(*(mail_event(rid, now_ms() + 2000) for rid in ids))
        await server.until(lambda: len(server.mails) >= 100, 120)
        worker.kill(signal.SIGTERM)
        assert await worker.exit_code() == 0, worker.tail()
        assert len(server.mails) < 500, "all was sent before the signal: the test shows nothing"
        service.start(0)
        await service.all_in(ids, [State.SENT], 90)
        assert mailed(server) == Counter(ids)
        assert State.MAYBE_SENT not in {e.to_state for e in service.audit()}


async def test_a_frozen_worker_that_thaws_changes_nothing(broker: Broker, tmp_path: Path) -> None:
    """Rows are written read-modify-write (seq, version), so a stale write of the frozen worker would show."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        ids = [f"frozen-{n}" for n in range(200)]
        far = now_ms() + 3_600_000
        frozen = service.start(0, STOP_AT="emitted", STOP_ROLE="core", STOP_AFTER="120", STOP_HOW="stop")
        await service.send(*(mail_event(rid, far, version=1) for rid in ids))
        await service.tap.until(lambda: _stopped(frozen.process.pid), 60, "the worker freezes amid a unit")
        service.start(1)
        await service.all_in(ids, [State.SCHEDULED], 60)
        await service.send(*(mail_event(rid, far + 60_000, version=2) for rid in ids))
        await service.tap.until(lambda: _versions(service, ids) == {2}, 60, "the second worker applies version 2")
        frozen.kill(signal.SIGCONT)
        assert await frozen.exit_code(30) == 70, frozen.tail()
        await service.send(*(mail_event(rid, far + 120_000, version=3) for rid in ids[:10]))
        await service.tap.until(lambda: _versions(service, ids[:10]) == {3}, 60, "the second worker goes on")
        rows = service.rows()
        assert {rows[rid].version for rid in ids[10:]} == {2}
        assert server.mails == []


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def _versions(service: Installation, ids: list[str]) -> set[int]:
    rows = service.rows()
    return {rows[rid].version if rid in rows else 0 for rid in ids}


async def test_the_broker_goes_away_for_20_seconds_amid_load(tmp_path: Path) -> None:
    with Broker.start(tmp_path / "kafka", heap="384m") as broker:
        async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
            supervised = asyncio.create_task(keep_running(service))
            ids = [f"outage-{n}" for n in range(400)]
            start = now_ms()
            await service.send(*(mail_event(rid, start + 3000 + 50 * n) for n, rid in enumerate(ids)))
            await server.until(lambda: len(server.mails) >= 50, 120)
            paused = time.monotonic()
            broker.pause()
            # Whoever routes by /ready hears of it in time; a worker that has ended says nothing at all.
            while service.workers[-1].process.poll() is None:
                if await service.status(service.workers[-1], "/ready") == 503:
                    break
                assert time.monotonic() - paused < 10
                await asyncio.sleep(0.2)
            await asyncio.sleep(20 - (time.monotonic() - paused))
            broker.resume()
            await service.all_in(ids, [*ENDED, State.MAYBE_SENT], 120)
            supervised.cancel()
            counts, states = mailed(server), service.row_states()
            assert {rid for rid, count in counts.items() if count > 1} == set()
            assert {states[rid] for rid in ids if counts[rid] == 0} <= {State.MAYBE_SENT}


async def keep_running(service: Installation) -> None:
    """Start a worker, and another whenever it ends: the supervisor's part."""
    while True:
        worker = service.start(0)
        while worker.process.poll() is None:  # noqa: ASYNC110  # a process has no event
            await asyncio.sleep(0.2)
        await asyncio.sleep(1)


async def test_two_workers_a_third_joins_one_is_killed(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=6) as service:
        first = service.start(0)
        service.start(1)
        await service.send(mail_event("warm", now_ms()))
        await service.all_in(["warm"], [State.SENT])
        ids = [f"scale-{n}" for n in range(6000)]
        start = now_ms() + 5000
        feeding = asyncio.create_task(feed(service, ids, start))
        await server.until(lambda: len(server.mails) >= 1500, 180)
        service.start(2)
        await server.until(lambda: len(server.mails) >= 3500, 180)
        first.kill()
        killed = now_ms()
        await feeding
        await service.all_in(ids, [*ENDED, State.MAYBE_SENT], 180)
        counts, states = mailed(server), service.row_states()
        assert {rid for rid, count in counts.items() if count > 1} == set()
        assert {states[rid] for rid in ids if counts[rid] == 0} <= {State.MAYBE_SENT}
        assert resumed_after(service, killed) <= 6_000 + 3_000


async def feed(service: Installation, ids: list[str], start: int) -> None:
    """Write events at the rate at which they come due, 100/s, a few seconds ahead of it."""
    for n in range(0, len(ids), 100):
        await service.send(*(mail_event(rid, start + 10 * (n + i)) for i, rid in enumerate(ids[n : n + 100])))
        await asyncio.sleep(max(0.0, (start + 10 * n - 4000 - now_ms()) / 1000))


def resumed_after(service: Installation, killed: int) -> int:
    """Return the longest time after the kill, in ms, in which some partition claimed nothing, of those that had
    something left to claim: on a slow machine not all have."""
    claims: dict[int, list[int]] = {}
    for record in service.tap.records[service.names.requests]:
        claims.setdefault(record.partition, []).append(record.timestamp)
    return max(min((t for t in times if t > killed), default=killed) - killed for times in claims.values())


async def test_poison_between_good_events_stops_nobody(broker: Broker, tmp_path: Path) -> None:
    """Each bad input is answered, its neighbours take effect once."""
    from schemas import codec

    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=1) as service:
        good = codec.encode(mail_event("good", now_ms()))
        poison: dict[str, bytes | None] = {
            "empty_value": b"",
            "null_value": None,
            "json_not_avro": b'{"reminder_id":"r-1"}',
            "unknown_framing": b"\xff\xff\xff",
            "unknown_fingerprint": b"\xc3\x01" + b"\x01" * 8 + good[10:],
            "truncated": good[: len(good) // 2],
            "trailing_bytes": good + b"\xff",
        }
        ids = []
        for n, value in enumerate(poison.values()):
            ids.append(f"neighbour-{n}")
            await service.send(mail_event(ids[-1], now_ms() + 1000))
            await service.send_raw(value, key=f"poison-{n}".encode())
        ids.append("neighbour-last")
        await service.send(mail_event(ids[-1], now_ms() + 1000))
        service.start(0)
        await service.all_in(ids, [State.SENT])
        assert mailed(server) == Counter(ids)
        letters = {letter["dlq-reason"]: letter for letter in service.dead_letters()}
        assert set(poison) == set(letters)
        records = service.tap.records[service.names.dlq]
        assert [record.value for record in records] == list(poison.values())
        for n, letter in enumerate(service.dead_letters()):
            assert letter["dlq-topic"] == service.names.reminders
            assert (letter["dlq-partition"], letter["dlq-offset"]) == ("0", str(2 * n + 1))
            assert letter["dlq-remedy"]
        rejected = [e for e in service.audit() if e.to_state is State.REJECTED]
        assert {e.reason for e in rejected} == set(poison)
