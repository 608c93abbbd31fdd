"""SendGrid for the contract suite and the tests of its adapter."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.sendgrid import SendGridChannel
from channels.sendgrid_settings import SendGridSettings
from schemas.names import OutcomeKind
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import authority
from tests.sandbox.http_server import Cut, Hold, Reply
from tests.sandbox.sendgrid_server import API_KEY, SendGridServer, error


def settings(place: Place, **changes: Any) -> SendGridSettings:
    """Return settings for a server in this process, with short limits."""
    given: dict[str, Any] = {
        "api_key": API_KEY,
        "sender": "reminders@service.example",
        "sender_name": "Clinic",
        "base_url": place.url,
        "ca_file": place.ca_file,
        "connections": 4,
        "connect_timeout_s": 2.0,
        "timeout_s": 2.0,
    }
    return SendGridSettings(**(given | changes))


class SendGridStage:
    """An account, and an adapter that has its key."""

    secret = API_KEY
    after_a_failed_server = OutcomeKind.MAYBE_SENT
    least_wait_s = None

    def __init__(self, server: SendGridServer, adapter: SendGridChannel) -> None:
        self.server = server
        self.adapter = adapter

    def address(self, number: int) -> str:
        return f"canary-reader-{number}@reader.example"

    def taken(self, address: str) -> list[bytes]:
        return [json.dumps(mail, sort_keys=True).encode() for mail in self.server.taken_for(address)]

    def refuse_address(self, address: str) -> None:
        field = "personalizations.0.to.0.email"
        self.reply(address, error(400, f"Does not contain a valid address: {address}", field))

    def refuse_message(self, address: str) -> None:
        self.reply(address, error(400, f"no canary-text-91bc for {address}", "content.0.value"))

    def defer(self, address: str) -> None:
        self.reply(address, error(429, f"too many requests for {address}"))

    def lose_before(self, address: str) -> None:
        self.server.drop_next()

    def lose_after(self, address: str) -> None:
        self.server.say(address, Cut())

    def refuse_credentials(self) -> None:
        self.server.api_key = "another"

    def hold(self, address: str) -> asyncio.Event:
        event = asyncio.Event()
        self.server.say(address, Hold(event))
        return event

    async def held(self, address: str) -> None:
        await self.server.until(lambda: any(self.server.whom(seen) == address for seen in self.server.seen))

    async def vanish(self) -> None:
        await self.server.stop()

    # -- over HTTP

    def reply(self, address: str, reply: Reply) -> None:
        self.server.say(address, reply)

    def at(self, place: Place) -> SendGridChannel:
        return SendGridChannel(settings(place))


@asynccontextmanager
async def opened(server: SendGridServer, **changes: Any) -> AsyncIterator[SendGridChannel]:
    """Open an adapter for a server."""
    adapter = SendGridChannel(settings(Place(server.url, authority().file), **changes))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@asynccontextmanager
async def sendgrid_stage() -> AsyncIterator[SendGridStage]:
    """Open a server with TLS, and an adapter for it."""
    async with SendGridServer(authority().issue("sendgrid").server()) as server, opened(server) as adapter:
        yield SendGridStage(server, adapter)
