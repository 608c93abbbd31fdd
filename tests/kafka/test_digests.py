"""Several reminders of one recipient go in one message, through a kill."""

import signal
from email import message_from_bytes
from email.policy import default
from pathlib import Path

from deploy.dev.broker import Broker
from schemas.names import Channel, State
from schemas.records import Contact, RecipientEvent, ReminderEvent
from tests.kafka.harness import installed, now_ms
from tests.sandbox.smtp_server import SmtpServer


async def test_five_reminders_are_one_mail_and_five_trails_through_a_kill(broker: Broker, tmp_path: Path) -> None:
    """The worker dies when the message stands on its channel's topic and no row says so yet: 1 recipient, 5 links, 5
    requests that wait and the 5 that come back have been its inputs."""
    file = tmp_path / "categories.toml"
    file.write_text("[pills]\ndigest_window_s = 3\n")
    ids = [f"pills/{n}" for n in range(5)]
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, extra={"CATEGORIES_FILE": str(file)}) as service,
    ):
        worker = service.start(0, STOP_AT="emitted", STOP_ROLE="delivery", STOP_AFTER="16")
        await service.send_recipient(RecipientEvent("anna", contacts=(Contact(Channel.EMAIL, "anna@people.example"),)))
        at = now_ms() + 500
        await service.send(
            *(ReminderEvent(rid, "anna", at=at, title=f"Title {rid}", text="Take it.", category="pills") for rid in ids)
        )
        assert await worker.exit_code(60) == -signal.SIGKILL, worker.tail()
        service.start(0)
        await service.all_in(ids, [State.SENT], 60)
        (mail,) = server.mails
        said = message_from_bytes(mail.data, policy=default).get_body(("plain",))
        assert said is not None
        assert [said.get_content().count(f"Title {rid}") for rid in ids] == [1] * 5
        for rid in ids:
            told = [(entry.to_state, entry.reason) for entry in service.audit(rid)]
            assert (State.HELD, "digest_window") in told
            assert "5 in one message" in service.audit(rid)[-1].detail
