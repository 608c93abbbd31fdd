"""Connections that break, or fall silent, at any byte and any time: what is said of a message is never wrong.

A hundred cuts a channel, seeded, between the adapter and its provider, on connections that are new and on those that
have served before. What the provider really took is looked at when all is over, so that nothing which was still on its
way can be missed. The same with ``kill -9`` at each stage of a call is in ``tests/kafka/test_kills.py``.
"""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from channels.base import ChannelAdapter, Outcome, Send
from channels.email import EmailChannel, Tls
from channels.push import PushChannel
from channels.sendgrid import SendGridChannel
from channels.sms import SmsChannel
from channels.voice import VoiceChannel
from channels.webhook import WebhookChannel
from channels.whatsapp import WhatsAppChannel
from channels.whatsapp_cloud import WhatsAppCloudChannel
from schemas.names import OutcomeKind
from tests.channels import (
    cloud_stage,
    fcm_stage,
    sendgrid_stage,
    smtp_stage,
    test_cloud,
    test_twilio,
    twilio_stage,
    webhook_stage,
)
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import authority
from tests.sandbox.cloud_server import CloudServer
from tests.sandbox.cutting_proxy import Cut, CuttingProxy, Way
from tests.sandbox.fcm_server import FcmServer
from tests.sandbox.sendgrid_server import SendGridServer
from tests.sandbox.smtp_server import SmtpServer
from tests.sandbox.twilio_server import TwilioServer
from tests.sandbox.webhook_server import WebhookServer

CUTS = 100
#: Cuts of which nobody is told: each costs a time-out.
SILENT = 4
#: The adapters' own limits, in seconds. A machine on which a call takes longer makes more doubts, and no false ones.
LIMIT_S = 0.3


@dataclass(frozen=True, slots=True)
class Wire:
    """An adapter whose connections go through a proxy. ``message``: the one with a number; ``taken``: how often the
    provider has it."""

    adapter: ChannelAdapter
    proxy: CuttingProxy
    message: Callable[[int], Send]
    taken: Callable[[int], int]


@asynccontextmanager
async def _opened(adapter: Any, proxy: CuttingProxy, message: Any, taken: Any) -> AsyncIterator[Wire]:
    await adapter.open()
    try:
        yield Wire(adapter, proxy, message, taken)
    finally:
        await adapter.close()


def _mail(n: int) -> Send:
    return smtp_stage.mail(f"reader-{n}@reader.example", text="Tomorrow at nine. " * 40)


@asynccontextmanager
async def _email(tls: Tls) -> AsyncIterator[Wire]:
    server_tls = {Tls.IMPLICIT: "implicit", Tls.STARTTLS: "starttls"}.get(tls)
    context = {server_tls: authority().issue("mail").server()} if server_tls else {}
    users = {smtp_stage.USER: smtp_stage.PASSWORD}
    async with SmtpServer(users=users, **context) as server, CuttingProxy(server.port) as proxy:
        given = smtp_stage.settings(
            server,
            port=proxy.port,
            tls=tls,
            ca_file=authority().file if server_tls else None,
            username=smtp_stage.USER,
            password=smtp_stage.PASSWORD,
            connect_timeout_s=LIMIT_S,
            command_timeout_s=LIMIT_S,
            final_reply_timeout_s=LIMIT_S,
        )
        async with _opened(
            EmailChannel(given), proxy, _mail, lambda n: len(server.mails_to(f"reader-{n}@reader.example"))
        ) as wire:
            yield wire


def _place(proxy: CuttingProxy) -> Place:
    return Place(f"https://127.0.0.1:{proxy.port}", authority().file)


def _number(n: int) -> str:
    return f"+12015550{n:03d}"


@asynccontextmanager
async def _twilio(kind: Any) -> AsyncIterator[Wire]:
    async with TwilioServer(authority().issue("twilio").server()) as server, CuttingProxy(server.port) as proxy:
        adapter = kind(twilio_stage.settings(_place(proxy), timeout_s=LIMIT_S, connect_timeout_s=LIMIT_S))

        def message(n: int) -> Send:
            return test_twilio.message(adapter.channel, address=_number(n))

        async with _opened(adapter, proxy, message, lambda n: len(server.taken_for(_number(n)))) as wire:
            yield wire


@asynccontextmanager
async def _cloud() -> AsyncIterator[Wire]:
    async with CloudServer(authority().issue("meta").server()) as server, CuttingProxy(server.port) as proxy:
        given = cloud_stage.settings(_place(proxy), timeout_s=LIMIT_S, connect_timeout_s=LIMIT_S)

        def taken(n: int) -> int:
            return len(server.taken_for(_number(n)))

        def message(n: int) -> Send:
            return test_cloud.message(address=_number(n))

        async with _opened(WhatsAppCloudChannel(given), proxy, message, taken) as wire:
            yield wire


@asynccontextmanager
async def _sendgrid() -> AsyncIterator[Wire]:
    async with SendGridServer(authority().issue("sendgrid").server()) as server, CuttingProxy(server.port) as proxy:
        given = sendgrid_stage.settings(_place(proxy), timeout_s=LIMIT_S, connect_timeout_s=LIMIT_S)

        def taken(n: int) -> int:
            return len(server.taken_for(f"reader-{n}@reader.example"))

        async with _opened(SendGridChannel(given), proxy, _mail, taken) as wire:
            yield wire


@asynccontextmanager
async def _push() -> AsyncIterator[Wire]:
    tls = authority().issue("fcm").server()
    async with FcmServer(tls, certificate=fcm_stage.key()[1]) as server, CuttingProxy(server.port) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        given = fcm_stage.settings(server, base_url=url, timeout_s=LIMIT_S, connect_timeout_s=LIMIT_S)
        # The login goes straight to the server: it is the message that is cut.
        fcm_stage.credentials(given.credentials_file.parent, server.token_uri)

        def taken(n: int) -> int:
            return len(server.taken.get(f"device-{n}", []))

        async with _opened(PushChannel(given), proxy, lambda n: fcm_stage.note(f"device-{n}"), taken) as wire:
            yield wire


@asynccontextmanager
async def _webhook() -> AsyncIterator[Wire]:
    async with WebhookServer(authority().issue("receiver").server()) as server, CuttingProxy(server.port) as proxy:
        allow = f"127.0.0.1:{proxy.port}"
        given = webhook_stage.settings(
            server, allow=allow, ca_file=authority().file, timeout_s=LIMIT_S, connect_timeout_s=LIMIT_S
        )

        def message(n: int) -> Send:
            return webhook_stage.hook(f"https://{allow}/{n}", token=f"token-{n}")

        def taken(n: int) -> int:
            return int(f"token-{n}" in server.accepted)

        async with _opened(WebhookChannel(given), proxy, message, taken) as wire:
            yield wire


WIRES: Mapping[str, Callable[[], AbstractAsyncContextManager[Wire]]] = {
    "email": lambda: _email(Tls.NONE),
    "email_starttls": lambda: _email(Tls.STARTTLS),
    "email_implicit": lambda: _email(Tls.IMPLICIT),
    "sendgrid": _sendgrid,
    "sms": lambda: _twilio(SmsChannel),
    "whatsapp": lambda: _twilio(WhatsAppChannel),
    "voice": lambda: _twilio(VoiceChannel),
    "whatsapp_cloud": _cloud,
    "push": _push,
    "webhook": _webhook,
}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a call goes that nothing cuts: bytes each way, and seconds."""

    out: int
    back: int
    seconds: float

    def cut(self, rng: random.Random, *, silent: bool) -> Cut:
        """Return a cut somewhere within, or right at the end."""
        way = rng.choices(list(Way), (2, 2, 1))[0]
        match way:
            case Way.OUT:
                after = float(rng.randint(0, self.out))
            case Way.BACK:
                after = float(rng.randint(0, self.back))
            case Way.TIME:
                after = rng.uniform(0, self.seconds)
        return Cut(way, after, silent)


async def _sent(wire: Wire, n: int) -> tuple[Outcome, Reach]:
    begun = time.monotonic()
    outcome = await wire.adapter.send(wire.message(n))
    # An answer that nobody waits for any more is on its way yet.
    passed = wire.proxy.passed
    return outcome, Reach(passed[Way.OUT], passed[Way.BACK], time.monotonic() - begun)


async def _uncut(wire: Wire, told: dict[int, Outcome]) -> Reach:
    """Return how far a call goes, once one was taken: on a busy machine one may run into its limit."""
    for n in range(CUTS + len(told), CUTS + len(told) + 20):
        wire.proxy.arm(None)
        told[n], reach = await _sent(wire, n)
        if told[n].kind is OutcomeKind.ACCEPTED:
            return reach
    raise AssertionError("no call came through")


@pytest.mark.parametrize("name", WIRES)
async def test_a_hundred_cuts(name: str) -> None:
    rng = random.Random(f"cuts of {name}")
    silent = set(rng.sample(range(CUTS), SILENT))
    told: dict[int, Outcome] = {}
    async with WIRES[name]() as wire:
        # What a call takes that opens a connection, and one that finds an open one.
        fresh, again = await _uncut(wire, told), await _uncut(wire, told)
        assert again.out < fresh.out
        for n in range(CUTS):
            reach = again if wire.proxy.open else fresh
            wire.proxy.arm(reach.cut(rng, silent=n in silent))
            told[n], _ = await _sent(wire, n)
        wire.proxy.arm(None)
    kinds = Counter(_judged(outcome, wire.taken(n)) for n, outcome in told.items())
    assert kinds.keys() == {OutcomeKind.ACCEPTED, OutcomeKind.DEFERRED, OutcomeKind.MAYBE_SENT}, kinds
    doubts = [wire.taken(n) for n, outcome in told.items() if outcome.kind is OutcomeKind.MAYBE_SENT]
    assert set(doubts) == {0, 1}, "a doubt is one: some were taken, and some were not"


def _judged(outcome: Outcome, taken: int) -> OutcomeKind:
    """Hold what was said against what the provider has."""
    match outcome.kind:
        case OutcomeKind.ACCEPTED:
            assert taken == 1
        case OutcomeKind.DEFERRED:
            # It may be sent again, and uses up no attempt.
            assert (taken, outcome.reached) == (0, False)
        case OutcomeKind.MAYBE_SENT:
            assert taken in (0, 1)
            assert outcome.reached
        case _:
            # A cut is nobody's setting, and no address is bad for it.
            raise AssertionError(outcome)
    return outcome.kind
