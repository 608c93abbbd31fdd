"""Holds on real parts: obeyed by every worker within a second, right before a call too, and let go at a rate."""

import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from deploy.dev.broker import Broker
from schemas.names import Channel, State
from schemas.records import Contact, RecipientEvent, ReminderEvent
from tests.kafka.harness import ROOT, Installation, Worker, installed, mail_event, now_ms
from tests.kafka.test_kills import mailed
from tests.sandbox.smtp_server import SmtpServer


def cli(service: Installation, *words: str) -> str:
    """Run a command of the product beside its workers."""
    env = {**service.environ(), "PATH": "/usr/bin:/bin", "HOME": str(service.home)}
    done = subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until_held(service: Installation, worker: Worker, scope: str) -> None:
    """Wait until core knows of a hold."""
    async with asyncio.timeout(60):
        while scope not in json.loads(await service.get(worker, "/ready")).get("held", []):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_held_channel_keeps_its_rows_due_and_nothing_is_sent(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        await service.send_recipient(
            RecipientEvent("anna", zone="Europe/Berlin", contacts=(Contact(Channel.EMAIL, "anna@people.example"),))
        )
        worker = service.start()
        await service.send(mail_event("before", now_ms()))
        await service.all_in(["before"], [State.SENT])
        await asyncio.to_thread(cli, service, "hold", "channel:email", "--reason", "maintenance")
        assert "channel:email" in await asyncio.to_thread(cli, service, "holds")
        await until_held(service, worker, "channel:email")
        ids = [f"held-{n}" for n in range(20)]
        await service.send(*(mail_event(rid, now_ms()) for rid in ids))
        # Which channel this one takes is the recipient's order to say, so it is asked for, once.
        await service.send(ReminderEvent("by-order", recipient_id="anna", at=now_ms(), text="?"))
        await service.all_in(ids, [State.SCHEDULED])
        await service.all_in(["by-order"], [State.HELD])
        await asyncio.sleep(3)
        assert set(service.row_states().values()) == {State.SENT, State.SCHEDULED, State.HELD}
        assert [e.to_state for e in service.audit("by-order")].count(State.HELD) == 1
        begun = time.monotonic()
        await asyncio.to_thread(cli, service, "release", "channel:email", "--rate", "5/s")
        await service.all_in(ids, [State.SENT])
        assert time.monotonic() - begun >= 19 / 5
        await service.all_in(["by-order"], [State.SENT])
        assert set(mailed(server).values()) == {1}


async def test_a_held_tenant_is_let_go_at_a_rate_and_its_neighbours_are_not_held(
    broker: Broker, tmp_path: Path
) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        await asyncio.to_thread(cli, service, "hold", "tenant:clinic", "--reason", "they asked")
        worker = service.start()
        ids = [f"clinic-{n}" for n in range(20)]
        await service.send(*(mail_event(rid, now_ms(), tenant="Clinic") for rid in ids))
        await service.send(mail_event("other", now_ms(), tenant="bank"))
        await service.all_in(["other"], [State.SENT])
        await service.all_in(ids, [State.HELD])
        assert {e.reason for e in service.audit() if e.to_state is State.HELD} == {"hold:tenant:clinic"}
        assert json.loads(await service.get(worker, "/ready"))["held"] == ["tenant:clinic"]
        metrics = (await service.get(worker, "/metrics")).splitlines()
        assert 'reminders_held{scope="tenant"} 1.0' in metrics
        assert 'reminders_held{scope="channel"} 0.0' in metrics
        begun = time.monotonic()
        await asyncio.to_thread(cli, service, "release", "tenant:clinic", "--rate", "5/s")
        await service.all_in(ids, [State.SENT])
        assert time.monotonic() - begun >= 19 / 5
        assert set(mailed(server).values()) == {1}


async def test_a_release_that_no_worker_was_there_for_is_walked_by_the_next(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        await asyncio.to_thread(cli, service, "hold", "tenant:clinic", "--reason", "they asked")
        service.start()
        ids = [f"clinic-{n}" for n in range(8)]
        await service.send(*(mail_event(rid, now_ms(), tenant="clinic") for rid in ids))
        await service.all_in(ids, [State.HELD])
        service.workers[0].kill()
        await service.workers[0].exit_code()
        await asyncio.to_thread(cli, service, "release", "tenant:clinic")
        service.start(1)
        await service.all_in(ids, [State.SENT])
        assert set(mailed(server).values()) == {1}


async def test_a_hold_counts_right_before_a_call(broker: Broker, tmp_path: Path) -> None:
    """What waits for a slot when the hold comes is not sent; what it outlives expires, and says by what it was held."""
    async with (
        SmtpServer() as server,
        installed(
            broker.bootstrap, tmp_path, server.port, partitions=1, extra={"SMTP_POOL": "1", "SMTP_TIMEOUT_S": "20"}
        ) as service,
    ):
        from tests.sandbox.smtp_server import Hold, Stage

        gate = asyncio.Event()
        server.say(Stage.CONNECT, Hold(gate, "220 at last"))
        # On a busy machine a start takes longer than what is sent here may wait, and so does a command.
        await service.until_ready(service.start())
        at = now_ms() + 500
        await service.send(*(mail_event(f"queued-{n}", at + n, expires_at=at + 20_000) for n in range(6)))
        await service.all_in([f"queued-{n}" for n in range(6)], [State.SENDING])
        await asyncio.to_thread(cli, service, "hold", "provider:smtp", "--reason", "leak")
        await asyncio.sleep(1)
        gate.set()
        await service.all_in([f"queued-{n}" for n in range(1, 6)], [State.HELD])
        assert len(server.mails) <= 1
        await service.all_in([f"queued-{n}" for n in range(1, 6)], [State.EXPIRED])
        held = [e for e in service.audit("queued-5") if e.to_state is State.HELD]
        assert held[-1].reason == "hold:provider:smtp"
        assert service.audit("queued-5")[-1].reason == "hold:provider:smtp"


async def test_a_hold_that_ends_by_itself(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        service.start()
        await service.send(mail_event("warm", now_ms()))
        await service.all_in(["warm"], [State.SENT])
        await asyncio.to_thread(cli, service, "hold", "everything", "--reason", "drill", "--for", "6s")
        ends = now_ms() + 6000
        await asyncio.sleep(1)
        await service.send(mail_event("short", now_ms()))
        await service.all_in(["short"], [State.SENT])
        assert service.audit("short")[-1].at >= ends - 1500


async def test_a_window_that_recurs_begins_and_ends_by_itself_and_another_hold_leaves_it_alone(
    broker: Broker, tmp_path: Path
) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start()
        await service.send(mail_event("warm", now_ms()))
        await service.all_in(["warm"], [State.SENT])
        begins = now_ms() // 1000 * 1000 + 5000
        wall = datetime.fromtimestamp(begins / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        words = ("--every", "weekly", "--from", wall, "--zone", "Etc/UTC", "--for", "8s")
        await asyncio.to_thread(cli, service, "hold", "tenant:clinic", "--reason", "maintenance", *words)
        await asyncio.to_thread(cli, service, "hold", "tenant:clinic", "--reason", "by hand")
        said = await asyncio.to_thread(cli, service, "release", "tenant:clinic")
        assert "weekly on the clock of Etc/UTC; release it with --recurring" in said
        await service.send(mail_event("within", begins + 1000, tenant="clinic"))
        await service.all_in(["within"], [State.HELD])
        assert json.loads(await service.get(worker, "/ready"))["held"] == ["tenant:clinic"]
        await service.all_in(["within"], [State.SENT])
        assert service.audit("within")[-1].at >= begins + 8000
        assert "to come" in await asyncio.to_thread(cli, service, "holds")


async def test_a_system_for_trying_things_out_never_mails_a_customer(broker: Broker, tmp_path: Path) -> None:
    """Whether the address came with the reminder or from the recipient's contacts."""
    extra = {"SEND_ONLY_TO": "tester@people.example, staging.example"}
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
        for name, address in (("anna", "anna@customers.example"), ("berta", "berta@staging.example")):
            contact = (Contact(Channel.EMAIL, address),)
            await service.send_recipient(RecipientEvent(name, zone="Europe/Berlin", contacts=contact))
        worker = service.start()
        await service.until_ready(worker)
        at = now_ms() + 500
        await service.send(
            mail_event("tester", at),
            mail_event("customer", at),
            ReminderEvent("to-anna", recipient_id="anna", at=at, text="?"),
            ReminderEvent("to-berta", recipient_id="berta", at=at, text="?"),
        )
        await service.all_in(["tester", "to-berta"], [State.SENT])
        await service.all_in(["customer", "to-anna"], [State.SKIPPED])
        for rid in ("customer", "to-anna"):
            assert service.audit(rid)[-1].reason == "not_on_send_only_list"
        assert sorted(mail.recipients for mail in server.mails) == [
            ("berta@staging.example",),
            ("tester@people.example",),
        ]
        assert json.loads(await service.get(worker, "/ready")) == {"status": "ok", "send_only_to": 2}
