"""A text message, a WhatsApp message and a call on real parts: each once, and what is cut off in a call is a doubt."""

import asyncio
from pathlib import Path

from app.cli.costs import costs_of
from deploy.dev.broker import Broker
from schemas.names import Channel, MaybeSent, State
from schemas.records import Contact, Policy, RecipientEvent, ReminderEvent, Step
from tests.channels.twilio_stage import SENDER, TEMPLATE, authority
from tests.kafka.harness import installed, now_ms
from tests.sandbox.http_server import Hold
from tests.sandbox.twilio_server import TwilioServer, error


def twilio(server: TwilioServer) -> dict[str, str]:
    """Return the environment of a service whose only provider is a server in this process."""
    return {
        "SMTP_HOST": "",
        "SMTP_FROM": "",
        "TWILIO_ACCOUNT_SID": server.account,
        "TWILIO_AUTH_TOKEN": server.token,
        "TWILIO_BASE_URL": server.url,
        "TWILIO_CA_FILE": str(authority().file),
        "TWILIO_SMS_FROM": SENDER,
        "TWILIO_WHATSAPP_FROM": SENDER,
        "TWILIO_WHATSAPP_TEMPLATES": f"*:{TEMPLATE}",
        "TWILIO_VOICE_FROM": SENDER,
        "TWILIO_TIMEOUT_S": "5",
        "TWILIO_CONNECT_TIMEOUT_S": "2",
    }


def reminder(name: str, channel: Channel, address: str = "", **more: object) -> ReminderEvent:
    return ReminderEvent(
        name, at=now_ms(), title="Dentist", text="Bring your card.", steps=(Step(channel, address=address),), **more
    )


PRICES = """
currency = "EUR"
[sms.twilio]
US = 8000
[whatsapp."*"]
"*" = 5000
[voice.twilio]
"*" = 20000
"""


async def test_each_channel_sends_once_and_what_was_refused_falls_back(broker: Broker, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    async with (
        TwilioServer(authority().issue("twilio").server()) as server,
        installed(broker.bootstrap, tmp_path, 25, extra=twilio(server) | {"PRICES_FILE": str(prices)}) as service,
    ):
        began = now_ms()
        wrote = now_ms() - 3_600_000
        anna = Contact(Channel.WHATSAPP, "(201) 555-0144", last_inbound_at=wrote)
        await service.send_recipient(RecipientEvent("anna", zone="UTC", region="US", contacts=(anna,)))
        service.start()
        server.say("+12015550145", error(400, 21211, "no such number"))
        onward = (Step(Channel.SMS, address="+12015550145"), Step(Channel.VOICE, address="+12015550146"))
        thrifty = (Step(Channel.VOICE, address="+12015550147"), Step(Channel.SMS, address="+12015550147"))
        await service.send(
            reminder("sms", Channel.SMS, "+1 201 555 0141"),
            reminder("template", Channel.WHATSAPP, "+12015550142"),
            reminder("call", Channel.VOICE, "+12015550143"),
            reminder("free", Channel.WHATSAPP, recipient_id="anna"),
            ReminderEvent("onward", at=now_ms(), text="On.", steps=onward),
            ReminderEvent("thrifty", at=now_ms(), text="x" * 200, steps=thrifty, policy=Policy(max_cost_micros=16_000)),
            reminder("nobody", Channel.SMS, "020 7946 0958"),
        )
        names = ["sms", "template", "call", "free", "onward", "thrifty"]
        await service.all_in(names, [State.SENT])
        taken = {form["To"]: form for form in server.taken}
        assert len(server.taken) == len(taken) == len(names)
        assert taken["+12015550141"]["Body"] == "Dentist\nBring your card."
        assert taken["whatsapp:+12015550142"]["ContentSid"] == TEMPLATE
        assert taken["whatsapp:+12015550144"]["Body"] == "Dentist\nBring your card."
        assert "Twiml" in taken["+12015550143"]
        assert "Twiml" in taken["+12015550146"]
        assert taken["+12015550147"]["Body"] == "x" * 200, "a call would have been too dear, two parts are not"
        found = {
            line.channel: (line.messages, line.micros) for line in await costs_of(service.settings, began - 60_000)
        }
        assert found == {Channel.SMS: (2, 24_000), Channel.WHATSAPP: (2, 10_000), Channel.VOICE: (2, 40_000)}
        letters = await service.tap.until(service.dead_letters, 60, "the number without a country is refused")
        assert [(letter["dlq-reason"], letter["dlq-field"]) for letter in letters] == [
            ("bad_address", "steps[0].address")
        ]


async def test_a_worker_killed_in_a_call_leaves_a_doubt_and_no_second_message(broker: Broker, tmp_path: Path) -> None:
    async with (
        TwilioServer(authority().issue("twilio").server()) as server,
        installed(broker.bootstrap, tmp_path, 25, extra=twilio(server)) as service,
    ):
        number = "+12015550151"
        server.say(number, Hold(asyncio.Event()))
        worker = service.start()
        await service.send(reminder("cut", Channel.SMS, number, policy=Policy(maybe_sent=MaybeSent.HOLD)))
        await server.until(lambda: any(server.whom(seen) == number for seen in server.seen), 60)
        worker.kill()
        await worker.exit_code()
        server.say(number)
        service.start()
        await service.all_in(["cut"], [State.MAYBE_SENT])
        await service.send(reminder("after-it", Channel.SMS, "+12015550152"))
        await service.all_in(["after-it"], [State.SENT])
        assert [server.whom(seen) for seen in server.seen] == [number, "+12015550152"]
        assert service.row_states()["cut"] is State.MAYBE_SENT
