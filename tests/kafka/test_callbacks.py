"""What Twilio tells, on real parts: receipts, a key pressed, a STOP that every worker obeys within a second."""

import asyncio
import base64
import hashlib
import hmac
import re
from html import unescape
from pathlib import Path

import aiohttp

from deploy.dev.broker import Broker
from schemas.names import Channel, State, WaitFor
from schemas.records import ReminderEvent, Step
from tests.channels.twilio_stage import authority
from tests.kafka.harness import Worker, installed, now_ms
from tests.kafka.test_channels import twilio
from tests.kafka.test_suppressions import KNOWN_S
from tests.sandbox.twilio_server import TwilioServer

BASE = "https://hooks.service.example"


async def tell(worker: Worker, token: str, url: str, form: dict[str, str], *, forged: bool = False) -> int:
    """Send what Twilio sends to an address that it was given; return the status of the answer."""
    assert url.startswith(BASE)
    signed = url + "".join(name + form[name] for name in sorted(form))
    signature = base64.b64encode(hmac.digest(token.encode(), signed.encode(), hashlib.sha1)).decode()
    headers = {"X-Twilio-Signature": "AAAA" if forged else signature}
    path = f"http://127.0.0.1:{worker.web_port}{url.removeprefix(BASE)}"
    async with aiohttp.ClientSession() as session, session.post(path, data=form, headers=headers) as response:
        return response.status


def step(channel: Channel, address: str, wait_for: WaitFor = WaitFor.ACCEPTED) -> tuple[Step, ...]:
    return (Step(channel, wait_for, 600, address),)


async def test_receipts_keys_and_stop_have_their_effect_once(broker: Broker, tmp_path: Path) -> None:
    text, call = "+12015550161", "+12015550162"
    callbacks = {
        "TWILIO_CALLBACK_URL": BASE,
        "CALLBACK_KEY": "a secret of these tests alone",
        "ADDRESS_HASH_KEY": "a secret of these tests alone",
    }
    async with (
        TwilioServer(authority().issue("twilio").server()) as server,
        installed(broker.bootstrap, tmp_path, 25, extra=twilio(server) | callbacks) as service,
    ):
        worker = service.start()
        await service.send(
            ReminderEvent("text", at=now_ms(), text="Nine.", steps=step(Channel.SMS, text, WaitFor.DELIVERED)),
            ReminderEvent("call", at=now_ms(), text="Ten.", steps=step(Channel.VOICE, call, WaitFor.ACKNOWLEDGED)),
        )
        await service.all_in(["text", "call"], [State.SENT])
        taken = {form["To"]: form for form in server.taken}
        news = taken[text]["StatusCallback"]
        assert "text" not in news.partition("delivery=")[2]
        delivered = {"MessageStatus": "delivered", "MessageSid": "SM1", "To": text}
        assert await tell(worker, server.token, news, delivered, forged=True) == 403
        for form in (delivered, delivered, delivered | {"MessageStatus": "sent"}):
            assert await tell(worker, server.token, news, form) == 200
        await service.all_in(["text"], [State.DELIVERED])
        pressed = re.search(r'action="([^"]+)"', taken[call]["Twiml"])
        assert pressed is not None
        assert await tell(worker, server.token, unescape(pressed[1]), {"Digits": "1", "CallSid": "CA1"}) == 200
        await service.all_in(["call"], [State.ACKNOWLEDGED])
        assert [e.actor for e in service.audit("call") if e.to_state is State.ACKNOWLEDGED] == ["recipient"]
        stop = {"From": text, "To": "+12015550100", "Body": "Stop."}
        assert await tell(worker, server.token, f"{BASE}/callbacks/twilio/inbound", stop) == 200
        await asyncio.sleep(KNOWN_S)
        await service.send(ReminderEvent("stopped", at=now_ms(), text="No.", steps=step(Channel.SMS, text)))
        await service.all_in(["stopped"], [State.SKIPPED])
        assert service.rows()["stopped"].closed[-1].reason == "suppressed_stop"
        assert len(server.taken) == 2
        assert service.row_states()["text"] is State.DELIVERED
        assert "5550161" not in worker.log.read_text()
