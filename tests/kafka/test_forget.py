"""Somebody is forgotten on the real broker: exported, erased by the command line, and searched for."""

import asyncio
from pathlib import Path

import orjson
from click.testing import CliRunner, Result

from app.cli.root import main
from deploy.dev.broker import Broker
from schemas.names import Channel, State
from schemas.records import Consent, Contact, RecipientEvent, ReminderEvent, Step
from tests.kafka.harness import installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

DAY_MS = 86_400_000


def invoke(*args: str, env: dict[str, str]) -> Result:
    return CliRunner().invoke(main, args, env=env)


async def test_export_erase_and_proof(broker: Broker, tmp_path: Path) -> None:
    address, text = "canary-4711@people.example", "canary text for anna alone"
    anna = RecipientEvent(
        "anna",
        zone="Europe/Berlin",
        contacts=(Contact(Channel.EMAIL, address, "canary label"),),
        consents=(Consent(True, now_ms() - DAY_MS, "offers", Channel.EMAIL, "canary evidence"),),
    )
    carried = (Step(Channel.EMAIL, address="canary-4712@people.example"),)
    extra = {"SEAL_KEY": "a key of tests that seals contents"}
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
        service.start()
        await service.send_recipient(anna)
        await service.send(
            ReminderEvent("now", recipient_id="anna", at=now_ms() + 1500, text=text, title="canary title"),
            ReminderEvent("later", recipient_id="anna", at=now_ms() + DAY_MS, text=text, data={"k": "canary data"}),
            ReminderEvent("alone", at=now_ms() + DAY_MS, text="canary of nobody", steps=carried),
            mail_event("bobs", now_ms() + DAY_MS),
        )
        await service.all_in(["now"], [State.SENT])
        await service.all_in(["later", "alone", "bobs"], [State.SCHEDULED])
        env = service.environ()
        (mail,) = server.mails
        assert text.encode() in mail.data, "only the gate opens, and it does"
        rows = service.tap.records[service.names.reminders_changelog]
        assert len(rows) >= 4
        assert not any(b"canary" in (record.value or b"") for record in rows), "core keeps nothing that can be read"

        told = await asyncio.to_thread(invoke, "recipient", "export", "anna", env=env)
        assert told.exit_code == 0, told.output
        document = orjson.loads(told.stdout)
        assert [r["id"] for r in document["reminders"]] == ["later", "now"]
        for canary in (address, text, "canary label", "canary evidence", "canary title", "canary data"):
            assert canary in told.stdout
        assert {c["topic"].rpartition(".")[2] for c in document["copies"]} >= {"recipients", "reminders"}
        shown = await asyncio.to_thread(invoke, "recipient", "show", "anna", env=env)
        assert address not in shown.stdout
        assert "1 SENT" in shown.stdout

        done = await asyncio.to_thread(invoke, "erase", "anna", "--yes", "--proof", env=env)
        assert done.exit_code == 0, done.output
        assert "anna, 2 reminders" in done.stdout
        assert "goes with its time" in done.stdout
        assert "STILL HELD" not in done.stdout
        assert address not in done.stdout
        await service.all_in(["later"], [State.CANCELLED])
        assert service.audit("later")[-1].reason == "erased"
        assert (await asyncio.to_thread(invoke, "recipient", "export", "anna", env=env)).stdout.count("canary") == 0

        carrying = await asyncio.to_thread(invoke, "erase", "--address", carried[0].address, "--yes", env=env)
        assert carrying.exit_code == 0, carrying.output
        await service.all_in(["alone"], [State.CANCELLED])
        assert service.audit("alone")[-1].reason == "erased"
        assert service.audit("bobs")[-1].to_state is State.SCHEDULED
        logs = "".join(worker.log.read_text(errors="replace") for worker in service.workers)
        assert "canary" not in logs
