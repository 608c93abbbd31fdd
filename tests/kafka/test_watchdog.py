"""A worker that stands still is ended by its watchdog, which says where; the next one does the work, once."""

import json
import time
from pathlib import Path

import pytest

from app.cli import doctor
from app.cli.doctor import Grade
from deploy.dev.broker import Broker
from schemas import codec
from schemas.names import State
from tests.kafka.harness import installed, mail_event, now_ms
from tests.kafka.test_kills import mailed
from tests.sandbox.smtp_server import SmtpServer


@pytest.mark.parametrize(
    ("how", "says"),
    [("hang", "inputs that no unit ends"), ("block", "stuck: the event loop has not turned for")],
)
async def test_what_stands_still_ends_and_is_started_anew(broker: Broker, tmp_path: Path, how: str, says: str) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=1) as service:
        halt = {"STOP_AT": "decided", "STOP_ROLE": "core", "STOP_AFTER": "2", "STOP_HOW": how}
        worker = service.start(0, WATCHDOG_S="8", **halt)
        ids = ["first", "second", "third"]
        await service.send(*(mail_event(rid, now_ms()) for rid in ids))
        assert await worker.exit_code(90) == 70
        assert says in worker.tail()
        service.start(0)
        await service.all_in(ids, [State.SENT])
        assert set(mailed(server).values()) == {1}


async def test_the_doctor_finds_what_nobody_does(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=2) as service:
        assert (await doctor.progress(service.settings)).grade is Grade.OK
        event = mail_event("old", now_ms())
        long_ago = now_ms() - 300_000
        await service.send_raw(codec.encode(event), b"old", timestamp_ms=long_ago)
        verdict = await doctor.progress(service.settings)
        assert verdict.grade is Grade.FAIL
        assert "1 wait from 0 on, the first for 30" in verdict.text
        assert "no worker: run `python -m app worker --role core`" in verdict.text
        worker = service.start(0)
        await service.all_in(["old"], [State.SENT])
        end = time.monotonic() + 60
        while (verdict := await doctor.progress(service.settings)).grade is not Grade.OK:
            assert time.monotonic() < end, verdict.text
        assert json.loads(await service.get(worker, "/health"))["stuck"] == []
        assert 'reminders_oldest_unacked_seconds{partition="0",topic="reminders"} 0.0' in await service.get(
            worker, "/metrics"
        )
