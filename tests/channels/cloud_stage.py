"""WhatsApp's own API for the contract suite and the tests of its adapter."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.cloud_settings import CloudSettings
from channels.whatsapp_cloud import WhatsAppCloudChannel
from schemas.names import OutcomeKind
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import authority
from tests.sandbox.cloud_server import PHONE_ID, TOKEN, CloudServer, error
from tests.sandbox.http_server import Cut, Hold, Reply


def settings(place: Place, **changes: Any) -> CloudSettings:
    """Return settings for a server in this process, with short limits."""
    given: dict[str, Any] = {
        "phone_id": PHONE_ID,
        "token": TOKEN,
        "templates": "*:visit_reminder/en_US",
        "base_url": place.url,
        "ca_file": place.ca_file,
        "connections": 4,
        "connect_timeout_s": 2.0,
        "timeout_s": 2.0,
    }
    return CloudSettings(**(given | changes))


class CloudStage:
    """A number, and an adapter that has its token."""

    secret = TOKEN
    after_a_failed_server = OutcomeKind.MAYBE_SENT
    least_wait_s = None

    def __init__(self, server: CloudServer, adapter: WhatsAppCloudChannel) -> None:
        self.server = server
        self.adapter = adapter

    def address(self, number: int) -> str:
        return f"+120155501{number:02d}"

    def taken(self, address: str) -> list[bytes]:
        return [json.dumps(body, sort_keys=True).encode() for body in self.server.taken_for(address)]

    def refuse_address(self, address: str) -> None:
        self.reply(address, error(400, 131026, f"Message undeliverable to {address}"))

    def refuse_message(self, address: str) -> None:
        self.reply(address, error(400, 132007, f"no canary-text-91bc for {address}"))

    def defer(self, address: str) -> None:
        self.reply(address, error(429, 130429, f"Rate limit hit for {address}"))

    def lose_before(self, address: str) -> None:
        self.server.drop_next()

    def lose_after(self, address: str) -> None:
        self.server.say(address, Cut())

    def refuse_credentials(self) -> None:
        self.server.token = "another"

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

    def at(self, place: Place) -> WhatsAppCloudChannel:
        return WhatsAppCloudChannel(settings(place))


@asynccontextmanager
async def opened(server: CloudServer, **changes: Any) -> AsyncIterator[WhatsAppCloudChannel]:
    """Open an adapter for a server."""
    adapter = WhatsAppCloudChannel(settings(Place(server.url, authority().file), **changes))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@asynccontextmanager
async def cloud_stage() -> AsyncIterator[CloudStage]:
    """Open a server with TLS, and an adapter for it."""
    async with CloudServer(authority().issue("meta").server()) as server, opened(server) as adapter:
        yield CloudStage(server, adapter)
