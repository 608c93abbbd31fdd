"""A connection that breaks at any byte, either way: what is said of the message is never wrong."""

import random

import pytest

from channels.push import PushChannel
from channels.sms import SmsChannel
from channels.voice import VoiceChannel
from channels.webhook import WebhookChannel
from channels.whatsapp import WhatsAppChannel
from schemas.names import OutcomeKind
from tests.channels import fcm_stage, twilio_stage, webhook_stage
from tests.channels.fcm_stage import note
from tests.channels.http_contract import Place
from tests.channels.test_twilio import message as twilio_message
from tests.channels.twilio_stage import authority
from tests.channels.webhook_stage import hook
from tests.sandbox.cutting_proxy import CuttingProxy
from tests.sandbox.fcm_server import FcmServer
from tests.sandbox.twilio_server import TwilioServer
from tests.sandbox.webhook_server import WebhookServer

CUTS = 20


@pytest.mark.parametrize("way", ["cut_out", "cut_back"])
async def test_a_push_that_is_cut(way: str) -> None:
    tls = authority().issue("fcm").server()
    rng = random.Random(7)
    kinds = set()
    async with FcmServer(tls, certificate=fcm_stage.key()[1]) as server, CuttingProxy(server.port) as proxy:
        for n in range(CUTS):
            given = fcm_stage.settings(server, base_url=f"https://127.0.0.1:{proxy.port}")
            # The login goes straight to the server: it is the message that is cut.
            fcm_stage.credentials(given.credentials_file.parent, server.token_uri)
            adapter = PushChannel(given)
            await adapter.open()
            setattr(proxy, way, rng.randrange(0, 4000))
            outcome = await adapter.send(note(f"device-{n}"))
            await adapter.close()
            kinds.add(_judged(outcome.kind, outcome.reached, len(server.taken.get(f"device-{n}", []))))
    assert OutcomeKind.MAYBE_SENT in kinds
    assert OutcomeKind.DEFERRED in kinds


@pytest.mark.parametrize("way", ["cut_out", "cut_back"])
async def test_a_webhook_that_is_cut(way: str) -> None:
    rng = random.Random(11)
    kinds = set()
    tls = authority().issue("receiver").server()
    async with WebhookServer(tls) as server, CuttingProxy(server.port) as proxy:
        for n in range(CUTS):
            adapter = WebhookChannel(
                webhook_stage.settings(server, allow=f"127.0.0.1:{proxy.port}", ca_file=authority().file)
            )
            await adapter.open()
            setattr(proxy, way, rng.randrange(0, 3500))
            token = f"token-{n}"
            outcome = await adapter.send(hook(f"https://127.0.0.1:{proxy.port}/{n}", token=token))
            await adapter.close()
            kinds.add(_judged(outcome.kind, outcome.reached, int(token in server.accepted)))
    assert OutcomeKind.MAYBE_SENT in kinds
    assert OutcomeKind.DEFERRED in kinds


@pytest.mark.parametrize("kind", [SmsChannel, WhatsAppChannel, VoiceChannel])
@pytest.mark.parametrize("way", ["cut_out", "cut_back"])
async def test_a_message_over_twilio_that_is_cut(kind: type, way: str) -> None:
    rng = random.Random(13)
    kinds = set()
    async with TwilioServer(authority().issue("twilio").server()) as server, CuttingProxy(server.port) as proxy:
        for n in range(CUTS):
            adapter = kind(twilio_stage.settings(Place(f"https://127.0.0.1:{proxy.port}", authority().file)))
            await adapter.open()
            setattr(proxy, way, rng.randrange(0, 3500))
            number = f"+120155501{n:02d}"
            outcome = await adapter.send(twilio_message(adapter.channel, address=number))
            await adapter.close()
            kinds.add(_judged(outcome.kind, outcome.reached, len(server.taken_for(number))))
    assert OutcomeKind.MAYBE_SENT in kinds
    assert OutcomeKind.DEFERRED in kinds


def _judged(kind: OutcomeKind, reached: bool, taken: int) -> OutcomeKind:
    match kind:
        case OutcomeKind.ACCEPTED:
            assert taken == 1
        case OutcomeKind.DEFERRED:
            assert (taken, reached) == (0, False)
        case OutcomeKind.MAYBE_SENT:
            assert taken in (0, 1)
            assert reached
        case _:
            # A cut is nobody's setting, and no address is bad for it.
            raise AssertionError(kind)
    return kind
