"""A STOP while a thousand messages for its number are on their way by two workers: no call begins a second later."""

import base64
import hashlib
import hmac
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from deploy.dev.broker import Broker
from schemas.names import Channel, State
from schemas.records import ReminderEvent, Step
from tests.channels.twilio_stage import authority
from tests.kafka.harness import Worker, installed, now_ms
from tests.kafka.test_channels import twilio
from tests.kafka.test_suppressions import KNOWN_S
from tests.sandbox.http_server import Reply, Seen
from tests.sandbox.twilio_server import TwilioServer

NUMBER, MANY = "+12015550181", 1000
INBOUND = "https://hooks.service.example/callbacks/twilio/inbound"
#: Between the last look and the line in the log lies what a machine with other work may need.
LOG_S = 0.5


class Slow(TwilioServer):
    """Takes a hundred messages a second at most, so that there is a queue when the STOP comes."""

    def take(self, seen: Seen) -> Reply:
        time.sleep(0.01)
        return super().take(seen)


def begun(worker: Worker) -> list[float]:
    """Return when the calls of a worker began, by its log, in seconds."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in worker.log.read_text().splitlines() if line[:1] == "{"]
    return [datetime.fromisoformat(line["time"]).timestamp() for line in lines if line["message"] == "calling"]


async def stop(worker: Worker, token: str) -> float:
    """Let the number write STOP; return when that was answered, in seconds."""
    form = {"From": NUMBER, "Body": "STOP", "MessageSid": "SM1"}
    signed = INBOUND + "".join(name + form[name] for name in sorted(form))
    signature = base64.b64encode(hmac.digest(token.encode(), signed.encode(), hashlib.sha1)).decode()
    url = f"http://127.0.0.1:{worker.web_port}/callbacks/twilio/inbound"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=form, headers={"X-Twilio-Signature": signature}) as response,
    ):
        assert response.status == 200
        return time.time()


async def test_no_call_begins_a_second_after_a_stop_was_answered(broker: Broker, tmp_path: Path) -> None:
    settings = {
        "TWILIO_CALLBACK_URL": "https://hooks.service.example",
        "CALLBACK_KEY": "a secret of these tests alone",
        "ADDRESS_HASH_KEY": "a secret of these tests alone",
        "TWILIO_CONNECTIONS": "4",
        "ADMISSION_WINDOW": "500",
        "LOG_FORMAT": "json",
    }
    async with (
        Slow(authority().issue("twilio").server()) as server,
        installed(broker.bootstrap, tmp_path, 25, extra=twilio(server) | settings) as service,
    ):
        workers = [service.start(0), service.start(1)]
        for worker in workers:
            await service.until_ready(worker)
        names = [f"r{n}" for n in range(MANY)]
        due, steps = now_ms(), (Step(Channel.SMS, address=NUMBER),)
        await service.send(*(ReminderEvent(name, at=due, text="Now.", steps=steps) for name in names))
        await server.until(lambda: len(server.taken) >= 50, 60)
        answered = await stop(workers[0], server.token)
        await service.all_in(names, [State.SENT, State.SKIPPED], 120)
        states = service.row_states()
        skipped = [name for name in names if states[name] is State.SKIPPED]
        assert len(server.taken) == MANY - len(skipped)
        # It came while many still waited, and ended those.
        assert len(skipped) >= MANY // 4
        assert {row.closed[-1].reason for name, row in service.rows().items() if name in set(skipped)} == {
            "suppressed_stop"
        }
        calls = [at for worker in workers for at in begun(worker)]
        assert len(calls) == len(server.taken)
        late = [at - answered for at in calls if at > answered + KNOWN_S + LOG_S]
        assert late == []
