"""The second providers on real parts: each takes over from the first within the attempt, and its signed news move the
trail."""

import hashlib
import hmac
import json
from pathlib import Path

import aiohttp

from deploy.dev.broker import Broker
from schemas.names import Channel, State, WaitFor
from schemas.records import ReminderEvent, Step
from tests.channels.twilio_stage import authority
from tests.kafka.harness import Worker, free_port, installed, now_ms
from tests.kafka.test_channels import twilio
from tests.sandbox.cloud_server import CloudServer
from tests.sandbox.sendgrid_server import SendGridServer, Signer
from tests.sandbox.twilio_server import TwilioServer

SECRET = "an app secret of these tests alone"
NUMBER, ANNA = "+12015550161", "anna@reader.example"


async def tell(worker: Worker, path: str, body: bytes, headers: dict[str, str]) -> int:
    url = f"http://127.0.0.1:{worker.web_port}{path}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        return response.status


def of_meta(server: CloudServer, status: str) -> bytes:
    """Return the news of the one message that was taken."""
    news = {"id": "wamid.1", "status": status, "biz_opaque_callback_data": server.taken[0]["biz_opaque_callback_data"]}
    value = {"metadata": {"phone_number_id": server.phone_id}, "statuses": [news]}
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"value": value}]}]}
    return json.dumps(body).encode()


async def test_the_second_provider_takes_over_and_its_news_move_the_trail(broker: Broker, tmp_path: Path) -> None:
    signer = Signer()
    steps = {
        "visit": (Step(Channel.WHATSAPP, WaitFor.DELIVERED, 600, NUMBER),),
        "bill": (Step(Channel.EMAIL, WaitFor.DELIVERED, 600, ANNA),),
    }
    async with (
        TwilioServer(authority().issue("twilio").server(), token="another") as first,
        CloudServer(authority().issue("meta").server()) as meta,
        SendGridServer(authority().issue("sendgrid").server()) as sendgrid,
    ):
        sendgrid.sender = "reminders@clinic.example"
        extra = twilio(first) | {
            "TWILIO_AUTH_TOKEN": "refused",
            "WHATSAPP_PHONE_ID": meta.phone_id,
            "WHATSAPP_TOKEN": meta.token,
            "WHATSAPP_BASE_URL": meta.url,
            "WHATSAPP_CA_FILE": str(authority().file),
            "WHATSAPP_TEMPLATES": "*:visit_reminder/en_US",
            "WHATSAPP_APP_SECRET": SECRET,
            # Nobody listens there.
            "SMTP_HOST": "127.0.0.1",
            "SMTP_FROM": sendgrid.sender,
            "SENDGRID_API_KEY": sendgrid.api_key,
            "SENDGRID_BASE_URL": sendgrid.url,
            "SENDGRID_CA_FILE": str(authority().file),
            "SENDGRID_EVENT_KEY": signer.shown,
            "CALLBACK_KEY": "a secret of these tests alone",
        }
        async with installed(broker.bootstrap, tmp_path, free_port(), extra=extra) as service:
            worker = service.start()
            await service.send(
                *(ReminderEvent(name, at=now_ms(), title="Dentist", text="Nine.", steps=s) for name, s in steps.items())
            )
            await service.all_in(steps, [State.SENT])
            assert (len(meta.taken_for(NUMBER)), len(sendgrid.taken_for(ANNA)), first.taken) == (1, 1, [])
            by = {e.reminder_id: (e.provider, e.detail) for e in service.audit() if e.to_state is State.SENT}
            assert by["visit"][0] == "meta"
            assert "before: twilio credentials_refused" in by["visit"][1]
            assert by["bill"][0] == "sendgrid"
            assert "before: smtp unreachable" in by["bill"][1]

            forged = {"X-Hub-Signature-256": "sha256=00"}
            assert await tell(worker, "/callbacks/meta", of_meta(meta, "delivered"), forged) == 403
            for status in ("delivered", "sent", "delivered"):
                body = of_meta(meta, status)
                signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
                assert await tell(worker, "/callbacks/meta", body, {"X-Hub-Signature-256": signature}) == 200
            named = sendgrid.taken[0]["custom_args"]
            events = json.dumps([{"event": "delivered", "email": ANNA, "sg_message_id": "x.y", **named}]).encode()
            assert await tell(worker, "/callbacks/sendgrid", events, Signer().headers(events)) == 403
            for _ in range(2):
                assert await tell(worker, "/callbacks/sendgrid", events, signer.headers(events)) == 200
            await service.all_in(steps, [State.DELIVERED])
            assert (len(meta.taken), len(sendgrid.taken)) == (1, 1)
            log = worker.log.read_text()
            assert not [canary for canary in ("5550161", "anna@", meta.token, sendgrid.api_key) if canary in log]
