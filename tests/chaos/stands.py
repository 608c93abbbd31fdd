"""The providers of a run: the sandbox's stand-ins, which note when the first sign of a message came, and are slow to
answer, so that faults meet calls. And a wall before the broker."""

import asyncio
import re
from contextlib import suppress
from random import Random
from typing import Any, Self

from aiohttp import web

from schemas.names import Channel
from tests.chaos.checker import Received
from tests.kafka.harness import now_ms
from tests.sandbox.http_server import Reply, Seen
from tests.sandbox.smtp_server import Mail, SmtpServer
from tests.sandbox.twilio_server import TwilioServer
from tests.sandbox.webhook_server import WebhookServer

#: A provider answers within so many seconds, drawn anew for each message.
SLOW_S = 0.12


class Noted:
    """What came to all providers, and whose it is: by address, number or path."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.whose: dict[str, str] = {}
        self.received: dict[str, list[Received]] = {}

    def note(self, whom: str, channel: Channel, began_at: int, token: str = "", *, taken: bool) -> None:
        """Note a message for somebody."""
        rid = self.whose.get(whom, whom)
        self.received.setdefault(rid, []).append(Received(rid, channel, began_at, token, taken))

    def pause(self) -> float:
        """Return for how long an answer is to wait, in seconds."""
        return self.rng.random() * SLOW_S


class Mails(SmtpServer):
    """A mail server that notes each recipient it is told of, and each mail that it has."""

    def __init__(self, noted: Noted) -> None:
        super().__init__()
        self._noted = noted
        self._began: dict[int, int] = {}

    async def note(self, connection: int, line: str, *, tls: bool) -> None:
        if line[:5].upper() == "RCPT ":
            self._began[connection] = now_ms()
            self._noted.note(line[8:].strip("<> "), Channel.EMAIL, now_ms(), taken=False)
        await super().note(connection, line, tls=tls)

    async def keep(self, mail: Mail) -> None:
        named = re.search(rb"^Message-ID: <([^@>]+)@", mail.data, re.MULTILINE | re.IGNORECASE)
        token = named[1].decode() if named is not None else ""
        self._noted.note(mail.recipients[0], Channel.EMAIL, self._began[mail.connection], token, taken=True)
        await super().keep(mail)
        # It has the mail, and the sender does not know it yet.
        await asyncio.sleep(self._noted.pause())


class Hooks(WebhookServer):
    """A receiver of webhooks. A copy that it knows by its id goes to nobody."""

    def __init__(self, noted: Noted) -> None:
        super().__init__()
        self._noted = noted
        #: What is answered before a message is taken, by path, and paths at which nobody is any more.
        self.failing: dict[str, list[Reply]] = {}
        self.gone: set[str] = set()

    def fault(self, seen: Seen) -> Reply | None:
        if seen.path in self.gone:
            return Reply(410)
        return self.failing[seen.path].pop() if self.failing.get(seen.path) else super().fault(seen)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._noted.note(request.path_qs, Channel.WEBHOOK, now_ms(), taken=False)
        answer = await super()._handle(request)
        await asyncio.sleep(self._noted.pause())
        return answer

    def take(self, seen: Seen) -> Reply:
        if (token := seen.headers["webhook-id"]) not in self.accepted:
            self._noted.note(seen.path, Channel.WEBHOOK, now_ms(), token, taken=True)
        return super().take(seen)


class Texts(TwilioServer):
    """Twilio. ``news``: the address for news of each message, by number."""

    def __init__(self, noted: Noted, tls: Any) -> None:
        super().__init__(tls)
        self._noted = noted
        self.news: dict[str, str] = {}

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._handle(request)
        await asyncio.sleep(self._noted.pause())
        return answer

    def take(self, seen: Seen) -> Reply:
        reply = super().take(seen)
        form = self.taken[-1]
        if reply.status == 201:
            self._noted.note(form["To"], Channel.SMS, now_ms(), taken=True)
            self.news[form["To"]] = form.get("StatusCallback", "")
        return reply


class Wall:
    """Passes bytes on to a port of this machine while it is open; while it is shut, nothing gets through either way and
    nobody is told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.target = 0
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        writers = [writer]
        ways: list[asyncio.Task[None]] = []
        try:
            await self._open.wait()
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=2**20)
            writers.append(to_writer)
            ways += [asyncio.create_task(self._pass(*way)) for way in ((reader, to_writer), (to_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for way in ways:
                way.cancel()
            for one in writers:
                with suppress(OSError, RuntimeError):
                    one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**18):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
