"""The master key is changed under a running installation: counted, wrapped anew, and the old one goes."""

import asyncio
import signal
from pathlib import Path

import orjson
from click.testing import CliRunner, Result

from app.cli.root import main
from deploy.dev.broker import Broker
from schemas.names import Action, Channel, State
from schemas.records import Contact, Policy, RecipientEvent, ReminderEvent
from tests.kafka.harness import Worker, installed, now_ms
from tests.sandbox.smtp_server import SmtpServer

HOUR_MS = 3_600_000
OLD, NEW = "the old key of this test's house", "the new key of this test's house"


async def test_the_master_key_is_changed_and_nothing_needs_the_old_one(broker: Broker, tmp_path: Path) -> None:
    people = [
        RecipientEvent(name, zone="UTC", contacts=(Contact(Channel.EMAIL, f"{name}@people.example"),))
        for name in ("anna", "ben")
    ]
    later = now_ms() + HOUR_MS
    waiting = [
        ReminderEvent("r/0", recipient_id="anna", at=later, text="Text r/0"),
        ReminderEvent(
            "r/1", recipient_id="ben", at=later, text="Text r/1", policy=Policy(nag_every_s=3600, escalate_to=("anna",))
        ),
    ]
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=1) as service:

        def secrets(keys: str) -> Result:
            return CliRunner().invoke(main, ["secrets", "--waiting", "--json"], env=service.environ(SEAL_KEY=keys))

        async def counted(keys: str, waits: dict[str, int]) -> None:
            """Wait until so many rows wait, and the command's exit says whether any does."""
            async with asyncio.timeout(90):
                while True:
                    result = await asyncio.to_thread(secrets, keys)
                    told = [orjson.loads(line) for line in result.stdout.splitlines()]
                    found = next(line["waiting"] for line in told if "waiting" in line)
                    if {why: count for why, count in found.items() if count} == waits:
                        assert result.exit_code == (1 if waits else 0), result.stdout
                        return
                    await asyncio.sleep(0.3)

        async def ended(worker: Worker) -> None:
            worker.process.send_signal(signal.SIGTERM)
            assert await worker.exit_code(60) == 0, worker.tail()

        first = service.start(SEAL_KEY=OLD, SEAL_CONTACTS="off")
        await service.send_recipient(*people)
        await service.send(*waiting)
        await service.all_in(["r/0", "r/1"], [State.SCHEDULED])
        # Two people in clear; the keys of two contents, one of them with two people.
        await counted(f"{NEW},{OLD}", {"older_key": 3, "to_be_sealed": 2})
        await ended(first)
        second = service.start(SEAL_KEY=f"{NEW},{OLD}")
        await counted(f"{NEW},{OLD}", {})
        await ended(second)
        service.start(SEAL_KEY=NEW)
        await service.send(*(ReminderEvent(r.reminder_id, action=Action.FIRE) for r in waiting))
        await service.all_in(["r/0"], [State.SENT])
        await service.tap.until(lambda: len(server.mails) == 2, 60, "both mails")
        assert {to for mail in server.mails for to in mail.recipients} == {"anna@people.example", "ben@people.example"}
