"""Twilio for the contract suite and the tests of its three adapters."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from channels.sms import SmsChannel
from channels.twilio_settings import TwilioSettings
from channels.voice import VoiceChannel
from channels.whatsapp import WhatsAppChannel
from schemas.names import OutcomeKind
from tests.channels.certs import Authority
from tests.channels.http_contract import Place
from tests.sandbox.http_server import Cut, Hold, Reply
from tests.sandbox.twilio_server import ACCOUNT, TOKEN, TwilioServer, error

Adapter = SmsChannel | WhatsAppChannel | VoiceChannel
TEMPLATE = "HX" + "0123456789abcdef" * 2
SERVICE = "MG" + "0123456789abcdef" * 2
SENDER = "+12015550100"


@cache
def authority() -> Authority:
    """Return an authority for all stages of this process; making one takes a while."""
    return Authority(Path(tempfile.mkdtemp(prefix="authority-")), "stage")


def settings(place: Place, **changes: Any) -> TwilioSettings:
    """Return settings for a server in this process, with short limits."""
    given: dict[str, Any] = {
        "account_sid": ACCOUNT,
        "auth_token": TOKEN,
        "sms_from": SENDER,
        "whatsapp_from": SENDER,
        "whatsapp_templates": f"*:{TEMPLATE}",
        "voice_from": SENDER,
        "callback_url": "https://hooks.service.example",
        "base_url": place.url,
        "ca_file": place.ca_file,
        "connections": 4,
        "connect_timeout_s": 2.0,
        "timeout_s": 2.0,
    }
    return TwilioSettings(**(given | changes))


class TwilioStage:
    """An account, and an adapter that has its token."""

    secret = TOKEN
    after_a_failed_server = OutcomeKind.MAYBE_SENT
    least_wait_s = None

    def __init__(self, server: TwilioServer, adapter: Adapter) -> None:
        self.server = server
        self.adapter = adapter

    def address(self, number: int) -> str:
        return f"+120155501{number:02d}"

    def taken(self, address: str) -> list[bytes]:
        return [json.dumps(form, sort_keys=True).encode() for form in self.server.taken_for(address)]

    def refuse_address(self, address: str) -> None:
        self.reply(address, error(400, 21211, f"The 'To' number {address} is not a valid phone number."))

    def refuse_message(self, address: str) -> None:
        self.reply(address, error(400, 21617, f"no canary-text-91bc for {address}"))

    def defer(self, address: str) -> None:
        self.reply(address, error(429, 20429, f"Too many requests for {address}"))

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

    def at(self, place: Place) -> Adapter:
        return type(self.adapter)(settings(place))


@asynccontextmanager
async def opened(kind: type[Adapter], server: TwilioServer, **changes: Any) -> AsyncIterator[Adapter]:
    """Open an adapter for a server."""
    adapter = kind(settings(Place(server.url, authority().file), **changes))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


def twilio_stage(kind: type[Adapter]) -> Callable[[], AbstractAsyncContextManager[TwilioStage]]:
    """Return what opens a server with TLS, and an adapter for it."""

    @asynccontextmanager
    async def stage() -> AsyncIterator[TwilioStage]:
        async with TwilioServer(authority().issue("twilio").server()) as server, opened(kind, server) as adapter:
            yield TwilioStage(server, adapter)

    return stage
