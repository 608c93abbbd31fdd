"""Webhooks for the contract suite and the tests of the adapter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.base import Send
from channels.webhook import WebhookChannel, WebhookSettings
from channels.webhook_rules import shown_secret
from schemas.names import Channel, OutcomeKind
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import authority
from tests.sandbox.http_server import Cut, Hold, Reply
from tests.sandbox.webhook_server import WebhookServer

KEY = "canary-key-9b1e-0123456789abcdef-long"


class WebhookStage:
    """A receiver on this machine, and an adapter that may call it."""

    secret = KEY
    after_a_failed_server = OutcomeKind.DEFERRED
    least_wait_s = None

    def __init__(self, server: WebhookServer, adapter: WebhookChannel) -> None:
        self.server = server
        self.adapter = adapter

    def path(self, address: str) -> str:
        return address.removeprefix(self.server.url)

    def address(self, number: int) -> str:
        return f"{self.server.url}/canary-reader-{number}?token=canary-token-{number}"

    def taken(self, address: str) -> list[bytes]:
        return [seen.body for seen in self.server.seen if seen.path == self.path(address)]

    def refuse_address(self, address: str) -> None:
        self.reply(address, Reply(410, f"{address} is gone"))

    def refuse_message(self, address: str) -> None:
        self.reply(address, Reply(422, f"no canary-text-91bc for {address}"))

    def defer(self, address: str) -> None:
        self.reply(address, Reply(503, address))

    def lose_before(self, address: str) -> None:
        self.server.drop_next()

    def lose_after(self, address: str) -> None:
        self.server.say(self.path(address), Cut())

    def refuse_credentials(self) -> None:
        for number in range(20):
            self.reply(self.address(number), Reply(401, f"{KEY} is wrong"))

    def hold(self, address: str) -> asyncio.Event:
        event = asyncio.Event()
        self.server.say(self.path(address), Hold(event))
        return event

    async def held(self, address: str) -> None:
        await self.server.until(lambda: bool(self.taken(address)))

    async def vanish(self) -> None:
        await self.server.stop()

    # -- over HTTP

    def reply(self, address: str, reply: Reply) -> None:
        self.server.say(self.path(address), reply)

    def at(self, place: Place) -> WebhookChannel:
        raise NotImplementedError("where a receiver is, its own address says")


def settings(server: WebhookServer, **changes: Any) -> WebhookSettings:
    """Return settings for a receiver in this process, with short limits."""
    given: dict[str, Any] = {
        "keys": (KEY,),
        "allow": f"127.0.0.1:{server.port}",
        "concurrency": 32,
        "per_host": 32,
        "connect_timeout_s": 2.0,
        "timeout_s": 2.0,
    }
    return WebhookSettings(**(given | changes))


@asynccontextmanager
async def channel(server: WebhookServer, **changes: Any) -> AsyncIterator[WebhookChannel]:
    """Open an adapter for a receiver."""
    adapter = WebhookChannel(settings(server, **changes))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@asynccontextmanager
async def webhook_stage(**changes: Any) -> AsyncIterator[WebhookStage]:
    """Open a receiver and an adapter for it."""
    tls = authority().issue("receiver").server()
    async with WebhookServer(tls) as server, channel(server, ca_file=authority().file, **changes) as adapter:
        yield WebhookStage(server, adapter)


def hook(address: str, **changes: Any) -> Send:
    """Return a message to send."""
    given: dict[str, Any] = {
        "channel": Channel.WEBHOOK,
        "address": address,
        "token": "abcdefghij234567abcdefghij",
        "attempt": 1,
        "created_ms": 1_764_000_000_000,
        "due_ms": 1_764_000_000_000,
        "deadline_ms": 1_764_086_400_000,
        "title": "Dentist",
        "text": "Tomorrow at nine.",
        "reminder_id": "clinic/visit-42",
        "occurrence": "2025-11-24T17:00/PT0S",
        "recipient_id": "anna",
    }
    return Send(**(given | changes))


def secret_of(url: str) -> str:
    """Return what the receiver behind a URL was told."""
    return shown_secret(KEY, url)
