"""Canaries in every personal field, through every channel and through failures that repeat them: none is found in logs,
metrics, views, keys, headers, URLs, or on a topic that is said to hold nothing personal."""

from pathlib import Path
from typing import Any

from app.privacy import MEANS, Means
from app.topics import full_name
from channels.webhook_rules import shown_secret
from deploy.dev.broker import Broker
from schemas.names import Action, Channel, RecipientAction, State
from schemas.records import Consent, Contact, RecipientEvent, ReminderEvent, Step
from tests.channels.fcm_stage import credentials, key
from tests.channels.twilio_stage import authority
from tests.kafka.conftest import Kafka
from tests.kafka.harness import Installation, installed, now_ms
from tests.kafka.test_channels import twilio
from tests.sandbox.fcm_server import FcmServer
from tests.sandbox.http_server import Reply
from tests.sandbox.smtp_server import SmtpServer, Stage
from tests.sandbox.twilio_server import TwilioServer, error
from tests.sandbox.webhook_server import WebhookServer

KEY = "a-key-of-tests-only-0123456789abcdef"
NUMBERS = {name: f"+120155501{n}" for n, name in enumerate(("sms", "whatsapp", "voice", "refused"), start=61)}
#: What must be found nowhere: each number as it is dialled, and the word in every other canary.
CANARIES = (b"canary", *(number[2:].encode() for number in NUMBERS.values()))
DAY_MS = 86_400_000
#: Topics whose records are said to hold nothing personal, or nothing but who acted.
CLEAN = [name for name, means in MEANS.items() if means in (Means.NONE, Means.HASH, Means.ACTOR)]
SEALED = [name for name, means in MEANS.items() if means in (Means.SEALED, Means.ROW)]


def found(where: str, data: bytes) -> list[str]:
    """Return the canaries that stand in some bytes, and where."""
    return [f"{where}: {canary.decode()}" for canary in CANARIES if canary in data]


def reminder(name: str, *steps: Step, **more: Any) -> ReminderEvent:
    fields = {"title": f"canary title {name}", "text": f"canary text {name}", "data": {"canary-key": "canary data"}}
    return ReminderEvent(name, at=now_ms(), steps=steps, **(fields | more))


async def read(service: Installation, kafka: Kafka, plain: str) -> list[Any]:
    topic = full_name(service.namespace, plain)
    return [record for p in range(service.partitions) for record in await kafka.records(topic, p)]


async def test_no_canary_is_found(broker: Broker, kafka: Kafka, tmp_path: Path) -> None:
    async with (
        SmtpServer() as mails,
        TwilioServer(authority().issue("twilio").server()) as texts,
        FcmServer(certificate=key()[1]) as pushes,
        WebhookServer() as hooks,
    ):
        extra = {
            **twilio(texts),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_FROM": "reminders@clinic.example",
            "FCM_CREDENTIALS_FILE": str(credentials(tmp_path, pushes.token_uri)),
            "FCM_URL": pushes.url,
            "WEBHOOK_KEYS": KEY,
            "WEBHOOK_ALLOW": f"127.0.0.1:{hooks.port}",
            "SEAL_KEY": "a key of tests that seals contents",
            "ADDRESS_HASH_KEY": "1:a-secret-of-tests-only-01",
            "LOG_LEVEL": "DEBUG",
        }
        hook = f"{hooks.url}/canary-hook"
        hooks.secret = shown_secret(KEY, hook)
        address = "canary-anna@people.example"
        refused = "canary-refused@people.example"
        mails.say(Stage.RCPT, f"550 5.1.1 <{refused}>: canary text of the server", to=refused)
        texts.say(NUMBERS["refused"], error(400, 21211, f"The number {NUMBERS['refused']} is a canary"))
        hooks.say("/canary-hook", Reply(500, "canary in an answer"), Reply(200))
        anna = RecipientEvent(
            "anna",
            zone="UTC",
            contacts=(
                Contact(Channel.EMAIL, address, "canary label"),
                Contact(Channel.PUSH, "canary-token", "canary device"),
            ),
            consents=(Consent(True, now_ms() - DAY_MS, evidence="canary evidence"),),
        )
        async with installed(broker.bootstrap, tmp_path, mails.port, extra=extra) as service:
            worker = service.start()
            await service.send_recipient(anna)
            fallback = (Step(Channel.SMS, address=NUMBERS["refused"]), Step(Channel.EMAIL, address=refused))
            await service.send(
                reminder("mail", recipient_id="anna"),
                reminder("push", Step(Channel.PUSH), recipient_id="anna"),
                reminder("sms", Step(Channel.SMS, address=NUMBERS["sms"])),
                reminder("whatsapp", Step(Channel.WHATSAPP, address=NUMBERS["whatsapp"])),
                reminder("voice", Step(Channel.VOICE, address=NUMBERS["voice"])),
                reminder("hook", Step(Channel.WEBHOOK, address=hook)),
                reminder("failed", *fallback),
                reminder("wrong", Step(Channel.EMAIL, address="canary is no address")),
                reminder("nowhere", Step(Channel.EMAIL, address=address), zone="canary/zone", local="2026-12-01T09:00"),
                reminder("forgotten", Step(Channel.EMAIL, address=address), expires_at=None),
            )
            await service.send_raw(b"\xc3\x01 canary of no schema")
            await service.send_raw(b'{"text": "canary in json"}')
            ended = ["mail", "push", "sms", "whatsapp", "voice", "hook", "forgotten"]
            await service.all_in(ended, [State.SENT, State.DELIVERED], 90)
            await service.all_in(["failed"], [State.DEAD_LETTER, State.SKIPPED], 90)
            await service.tap.until(lambda: len(service.dead_letters()) >= 4, 60, "what was refused")
            await service.send(ReminderEvent("forgotten", action=Action.ERASE))
            await service.send_recipient(RecipientEvent("anna", RecipientAction.ERASE))
            await service.tap.until(
                lambda: {e.reminder_id for e in service.audit() if e.reason == "erased"} >= {"forgotten", "mail"},
                60,
                "the erased ones say so",
            )
            seen = [
                *found("metrics", (await service.get(worker, "/metrics")).encode()),
                *found("log", worker.log.read_bytes()),
            ]
            for name in ("mail", "failed", "hook"):
                view = await service.get_settled(worker, f"/reminders/{name}", token="a-token-of-tests-only")
                seen += found(f"view of {name}", view.encode())
            for plain in MEANS:
                if "<" in plain:
                    continue
                for record in await read(service, kafka, plain):
                    where = f"{plain}/{record.partition}/{record.offset}"
                    seen += found(f"key of {where}", record.key or b"")
                    for header, value in record.headers:
                        seen += found(f"header {header} of {where}", value or b"")
                    if plain in CLEAN or plain in SEALED:
                        seen += found(f"value of {where}", record.value or b"")
            for server in (texts, pushes):
                for request in server.seen:
                    seen += found(f"path of {type(server).__name__}", request.path.encode())
            assert not seen, "\n".join(seen[:40])
            # The canaries were there to be found.
            assert any(b"canary text mail" in mail.data for mail in mails.mails)
            assert NUMBERS["sms"] in {form["To"] for form in texts.taken}
            assert any(b"canary" in (r.value or b"") for r in await read(service, kafka, "reminders"))
