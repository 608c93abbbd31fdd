"""Webhooks and pushes on real parts: an event on Kafka becomes a signed call, once, and what is gone is forgotten."""

import asyncio
from dataclasses import replace
from pathlib import Path

from channels.webhook_rules import shown_secret
from deploy.dev.broker import Broker
from schemas.names import Channel, MaybeSent, State, WaitFor
from schemas.records import Contact, Policy, RecipientEvent, ReminderEvent, Step
from tests.channels.fcm_stage import credentials, key
from tests.kafka.harness import installed, mail_event, now_ms
from tests.sandbox.fcm_server import FcmServer
from tests.sandbox.http_server import Hold, Reply
from tests.sandbox.webhook_server import WebhookServer

KEY = "a-key-of-tests-only-0123456789abcdef"


def to_anna(reminder_id: str, *steps: Step) -> ReminderEvent:
    return replace(mail_event(reminder_id, now_ms()), recipient_id="anna", steps=steps)


async def test_a_webhook_is_called_once_and_what_is_gone_is_forgotten(broker: Broker, tmp_path: Path) -> None:
    async with WebhookServer() as server:
        extra = {
            "WEBHOOK_KEYS": KEY,
            "WEBHOOK_ALLOW": f"127.0.0.1:{server.port}",
            # Nobody listens there: this installation has no mails.
            "SMTP_HOST": "",
        }
        async with installed(broker.bootstrap, tmp_path, 1, extra=extra) as service:
            service.start()
            url = f"{server.url}/anna"
            server.secret = shown_secret(KEY, url)
            hook = Step(Channel.WEBHOOK, WaitFor.ACCEPTED)
            await service.send_recipient(
                RecipientEvent("anna", zone="UTC", version=1, contacts=(Contact(Channel.WEBHOOK, url),))
            )
            await service.send(to_anna("taken", hook))
            await service.all_in(["taken"], [State.SENT])
            (taken,) = server.accepted.values()
            assert b'"reminder_id":"taken"' in taken.body
            # A temporary failure is tried again, under the same id.
            server.say("/anna", Reply(503), Reply(200, {"status": "acknowledged"}))
            await service.send(to_anna("late", hook))
            await service.all_in(["late"], [State.ACKNOWLEDGED])
            ids = [taken.headers["webhook-id"] for taken in server.seen[1:]]
            assert len(ids) == 2
            assert len(set(ids)) == 1
            # What is gone is not asked again.
            server.say("/anna", Reply(410))
            await service.send(to_anna("gone", hook))
            await service.all_in(["gone"], [State.DEAD_LETTER])
            told = len(server.seen)
            await service.send(to_anna("nowhere", hook))
            await service.all_in(["nowhere"], [State.DEAD_LETTER])
            assert service.audit("nowhere")[-1].reason == "no_contact"
            assert len(server.seen) == told


async def test_a_push_reaches_every_device_once_and_a_kill_in_the_call_is_a_doubt(
    broker: Broker, tmp_path: Path
) -> None:
    async with FcmServer(certificate=key()[1]) as server:
        extra = {
            "FCM_CREDENTIALS_FILE": str(credentials(tmp_path, server.token_uri)),
            "FCM_URL": server.url,
            # The hard limit of a call, after which its doubt shows, is five times as long and a little more.
            "FCM_TIMEOUT_S": "0.5",
            "SMTP_HOST": "",
        }
        async with installed(broker.bootstrap, tmp_path, 1, extra=extra) as service:
            worker = service.start()

            def phone() -> int:
                return len([seen for seen in server.seen if server.whom(seen) == "phone"])

            devices = tuple(Contact(Channel.PUSH, name) for name in ("phone", "old", "tablet"))
            server.unregistered.add("old")
            step = Step(Channel.PUSH, WaitFor.ACCEPTED)
            await service.send_recipient(RecipientEvent("anna", zone="UTC", version=1, contacts=devices))
            await service.send(to_anna("all", step))
            await service.all_in(["all"], [State.SENT])
            assert {device: len(taken) for device, taken in server.taken.items()} == {"phone": 1, "tablet": 1}
            # What is gone is not asked again; the others are.
            await service.send(to_anna("rest", step))
            await service.all_in(["rest"], [State.SENT])
            asked = [server.whom(seen) for seen in server.seen if seen.path != "/token"]
            assert sorted(asked) == ["old", "phone", "phone", "tablet", "tablet"]
            server.say("phone", Hold(asyncio.Event()))
            await service.send(replace(to_anna("doubt", step), policy=Policy(maybe_sent=MaybeSent.HOLD)))
            await server.until(lambda: phone() == 3, 60)
            worker.kill()
            service.start(1)
            await service.all_in(["doubt"], [State.MAYBE_SENT], 120)
            assert phone() == 3
