"""Templates on real parts: a mail in its recipient's words, an edit while workers run, and what lacks a value."""

import asyncio
from email import message_from_bytes, policy
from pathlib import Path

from app.cli import templates
from app.template_folder import Folder
from app.template_preview import words_of
from app.template_topic import everything
from deploy.dev.broker import Broker
from schemas.names import Channel, State
from schemas.records import Contact, RecipientEvent, ReminderEvent
from tests.kafka.harness import installed, now_ms
from tests.sandbox.smtp_server import SmtpServer

ANNA = RecipientEvent("anna", zone="Europe/Vienna", locale="de-AT", contacts=(Contact(Channel.EMAIL, "a@x.example"),))


def write(folder: Path, path: str, text: str) -> None:
    file = folder / "visit@1" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def visit(reminder_id: str, **data: str) -> ReminderEvent:
    return ReminderEvent(reminder_id, "anna", at=now_ms(), template="visit", data=data)


def texts(server: SmtpServer) -> list[tuple[str, str]]:
    """Return the subject and the text of each mail, oldest first."""
    mails = [message_from_bytes(mail.data, policy=policy.default) for mail in server.mails]
    return [(mail["Subject"], mail.get_body(("plain",)).get_content().strip()) for mail in mails]  # type: ignore[union-attr]


async def test_a_template_is_said_edited_and_refused_where_a_value_is_missing(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    write(folder, "text.txt", "Dear {{ name }}")
    write(folder, "de/subject.txt", "Termin am {{ reminder.due|date }}")
    write(folder, "de/text.txt", "Guten Tag {{ name }}")
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        service.start(0, TEMPLATES_DIR=str(folder))
        await service.send_recipient(ANNA)
        await service.send(visit("whole", name="Anna"), visit("lacking", place="here"))
        await service.all_in(["whole"], [State.SENT])
        await service.all_in(["lacking"], [State.DEAD_LETTER])
        ((subject, text),) = texts(server)
        assert (subject.startswith("Termin am "), text) == (True, "Guten Tag Anna")
        sent = next(entry for entry in service.audit("whole") if entry.to_state is State.SENT)
        assert "template visit@1." in sent.detail
        ended = next(entry for entry in service.audit("lacking") if entry.to_state is State.DEAD_LETTER)
        assert ended.reason == "template_variable_missing"
        assert ended.detail.startswith("visit@1.")
        assert ended.detail.endswith(": name")
        await service.send(ReminderEvent("waits", "anna", at=now_ms(), template="later"))
        await service.all_in(["waits"], [State.HELD])
        write(folder, "de/text.txt", "Servus {{ name }}")
        async with asyncio.timeout(60):
            for n in range(1000):
                await service.send(visit(f"edited-{n}", name="Eva"))
                await service.all_in([f"edited-{n}"], [State.SENT])
                if texts(server)[-1][1] == "Servus Eva":
                    break
        assert texts(server)[-1][1] == "Servus Eva"


async def test_what_is_published_is_said_by_workers_that_have_no_folder(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    write(folder, "text.txt", "Dear {{ name }}")
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        service.start()
        await service.send_recipient(ANNA)
        await service.send(visit("early", name="Anna"))
        await service.all_in(["early"], [State.HELD])
        await templates._publish(service.settings, Folder(folder).read()[0])
        # It waits a minute for its template; somebody who published it may not.
        await service.send(visit("first", name="Anna"))
        await service.all_in(["first"], [State.SENT, State.HELD])
        write(folder, "text.txt", "Servus {{ name }}")
        await templates._publish(service.settings, Folder(folder).read()[0])
        (published,) = (await words_of(service.settings).read())[0]
        assert published.source.files == {"text.txt": "Servus {{ name }}"}
        assert len((await everything(service.settings))[0]) == 2
        async with asyncio.timeout(60):
            for n in range(1000):
                await service.send(visit(f"edited-{n}", name="Eva"))
                await service.all_in([f"edited-{n}"], [State.SENT])
                if texts(server)[-1][1] == "Servus Eva":
                    break
        assert texts(server)[-1][1] == "Servus Eva"
