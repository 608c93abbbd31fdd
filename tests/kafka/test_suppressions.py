"""Suppressed addresses on real parts: nobody who shares one is written to, from a second after it was said."""

import asyncio
from pathlib import Path

from deploy.dev.broker import Broker
from schemas.names import Channel, State
from schemas.records import ReminderEvent, Step
from tests.kafka.harness import installed, now_ms
from tests.kafka.test_holds import cli
from tests.sandbox.smtp_server import SmtpServer, Stage

#: The promise: every worker knows of it within a second.
KNOWN_S = 1.0


def to(address: str, reminder_id: str) -> ReminderEvent:
    return ReminderEvent(reminder_id, at=now_ms(), title="T", text="t", steps=(Step(Channel.EMAIL, address=address),))


async def test_an_address_is_left_alone_whoever_shares_it_until_it_may_be_used_again(
    broker: Broker, tmp_path: Path
) -> None:
    key = {"ADDRESS_HASH_KEY": "a secret of these tests alone"}
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=key) as service:
        worker = service.start()
        server.say(Stage.RCPT, "550 5.1.1 no such mailbox", "250 ok")
        await service.send(to("gone@people.example", "bounces"))
        await service.all_in(["bounces"], [State.DEAD_LETTER])
        await asyncio.to_thread(cli, service, "suppress", "email", "Anna@people.example", "--reason", "stop")
        await asyncio.sleep(KNOWN_S)
        await service.send(to("gone@people.example", "after-bounce"), to("anna@people.example", "after-stop"))
        await service.send(to("ben@people.example", "other"))
        await service.all_in(["after-bounce", "after-stop"], [State.SKIPPED])
        await service.all_in(["other"], [State.SENT])
        assert service.rows()["after-bounce"].closed[-1].reason == "suppressed_bounced"
        assert service.rows()["after-stop"].closed[-1].reason == "suppressed_stop"
        shown = await asyncio.to_thread(cli, service, "suppressed", "email", "anna@people.example")
        assert "stop since" in shown
        await asyncio.to_thread(cli, service, "unsuppress", "email", "anna@people.example")
        await asyncio.sleep(KNOWN_S)
        await service.send(to("anna@people.example", "again"))
        await service.all_in(["again"], [State.SENT])
        assert len(server.mails) == 2
        assert "anna@" not in worker.log.read_text().lower()
