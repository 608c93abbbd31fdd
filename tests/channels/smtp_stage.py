"""SMTP for the contract suite and the tests of the adapter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.base import Send
from channels.email import EmailChannel, SmtpSettings, Tls
from schemas.names import Channel
from tests.sandbox.smtp_server import Drop, Hold, SmtpServer, Stage

USER = "canary-user"
PASSWORD = "canary-password-0c1d"


class SmtpStage:
    """A mail server that asks for a login, and an adapter that has it."""

    def __init__(self, server: SmtpServer, adapter: EmailChannel) -> None:
        self.server = server
        self.adapter = adapter
        self.secret = PASSWORD

    def address(self, number: int) -> str:
        return f"canary-reader-{number}@reader.example"

    def taken(self, address: str) -> list[bytes]:
        return [mail.data for mail in self.server.mails_to(address)]

    def refuse_address(self, address: str) -> None:
        self.server.say(Stage.RCPT, f"550 5.1.1 <{address}>: unknown here", to=address)

    def refuse_message(self, address: str) -> None:
        self.server.say(Stage.DOT, f"554 5.7.1 no canary-text-91bc for {address}", to=address)

    def defer(self, address: str) -> None:
        self.server.say(Stage.RCPT, f"451 4.7.1 <{address}> greylisted", to=address)

    def lose_before(self, address: str) -> None:
        self.server.say(Stage.DATA, Drop(), to=address)

    def lose_after(self, address: str) -> None:
        self.server.say(Stage.DOT, Drop(), to=address)

    def refuse_credentials(self) -> None:
        self.server.say(Stage.AUTH, f"535 5.7.8 {USER} with {PASSWORD} is wrong")
        # Connections that are logged in already would still serve.
        self.server.say(Stage.MAIL, "421 4.3.2 come again", "250 ok")

    def hold(self, address: str) -> asyncio.Event:
        event = asyncio.Event()
        self.server.say(Stage.RCPT, Hold(event, "250 2.1.5 ok"), to=address)
        return event

    async def held(self, address: str) -> None:
        await self.server.until(lambda: any(address in line for line in self.server.lines("RCPT")))

    async def vanish(self) -> None:
        await self.server.stop()


def settings(server: SmtpServer, **changes: Any) -> SmtpSettings:
    """Return settings for a server in this process, with short limits."""
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.port,
        "tls": Tls.NONE,
        "sender": "Reminders <reminders@service.example>",
        "connect_timeout_s": 5.0,
        "command_timeout_s": 5.0,
        "final_reply_timeout_s": 10.0,
        "pool_size": 4,
    }
    return SmtpSettings(**(given | changes))


@asynccontextmanager
async def channel(server: SmtpServer, **changes: Any) -> AsyncIterator[EmailChannel]:
    """Open an adapter for a server."""
    adapter = EmailChannel(settings(server, **changes))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@asynccontextmanager
async def smtp_stage(**changes: Any) -> AsyncIterator[SmtpStage]:
    """Open a server that asks for a login, and an adapter for it."""
    async with (
        SmtpServer(users={USER: PASSWORD}) as server,
        channel(server, username=USER, password=PASSWORD, **changes) as adapter,
    ):
        yield SmtpStage(server, adapter)


def mail(address: str = "reader@reader.example", **changes: Any) -> Send:
    """Return a mail to send."""
    given: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "address": address,
        "token": "abcdefghij234567abcdefghij",
        "attempt": 1,
        "created_ms": 1_764_000_000_000,
        "due_ms": 1_764_000_000_000,
        "deadline_ms": 1_764_086_400_000,
        "title": "Dentist",
        "text": "Tomorrow at nine.",
    }
    return Send(**(given | changes))
