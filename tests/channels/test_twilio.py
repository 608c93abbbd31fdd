"""What goes to Twilio for each channel: fields, text, window, TwiML; and settings whose faults are all named."""

import json
from typing import Any
from xml.etree import ElementTree as Tree

import pytest

from channels.base import Outcome, Send
from channels.limits import TooLong
from channels.sms import SmsChannel
from channels.twilio_settings import TwilioSettings
from channels.voice import VoiceChannel, spoken
from channels.whatsapp import WhatsAppChannel
from channels.whatsapp_rules import WINDOW_MS, in_window
from schemas.names import Channel, OutcomeKind
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import SENDER, SERVICE, TEMPLATE, authority, opened, settings
from tests.sandbox.twilio_server import ACCOUNT, TOKEN, TwilioServer

TO = "+12015550123"
HOUR = 3_600_000
NASTY = "A\r\nBcc: x <script>&\u202e{{7*7}} %s \x00 \"quoted\" 'too'"


def message(channel: Channel, **changes: Any) -> Send:
    given: dict[str, Any] = {
        "channel": channel,
        "address": TO,
        "token": "abcdefghij234567abcdefghij",
        "reference": "abcdefghij234567abcdefghij",
        "attempt": 1,
        "created_ms": 1,
        "due_ms": 1,
        "deadline_ms": 0,
        "title": "Dentist",
        "text": "Tomorrow at nine.",
    }
    return Send(**(given | changes))


async def sent(kind: Any, given: Send, **changes: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    """Return the outcome of a message and what the provider took."""
    async with TwilioServer(authority().issue("twilio").server()) as server, opened(kind, server, **changes) as adapter:
        outcome = await adapter.send(given)
        return outcome, server.taken


class TestSms:
    async def test_the_fields(self) -> None:
        outcome, (form,) = await sent(SmsChannel, message(Channel.SMS))
        assert form == {
            "To": TO,
            "From": SENDER,
            "Body": "Dentist\nTomorrow at nine.",
            "StatusCallback": "https://hooks.service.example/callbacks/twilio/status?delivery=abcdefghij234567abcdefghij",
        }
        assert outcome.provider_id.startswith("SM")

    async def test_a_messaging_service_picks_the_sender(self) -> None:
        _, (form,) = await sent(SmsChannel, message(Channel.SMS), sms_from="", messaging_service_sid=SERVICE)
        assert form["MessagingServiceSid"] == SERVICE
        assert "From" not in form

    async def test_nobody_is_called_back_without_an_address(self) -> None:
        _, (form,) = await sent(SmsChannel, message(Channel.SMS), callback_url="")
        assert "StatusCallback" not in form

    async def test_what_people_write_is_sent_as_e164(self) -> None:
        _, (form,) = await sent(SmsChannel, message(Channel.SMS, address="\u202a+1 (201) 555-0123\u202c"))
        assert form["To"] == TO

    @pytest.mark.parametrize("address", ["72975", "020 7946 0958", "", "+1 201 555 0123 ext. 9", "nobody"])
    async def test_what_is_no_number_is_never_tried(self, address: str) -> None:
        outcome, taken = await sent(SmsChannel, message(Channel.SMS, address=address))
        assert (outcome.kind, outcome.reached, outcome.blames_address) == (OutcomeKind.UNDELIVERABLE, False, True)
        assert taken == []

    async def test_text_is_inert(self) -> None:
        _, (form,) = await sent(SmsChannel, message(Channel.SMS, title=NASTY, text=NASTY))
        assert form["To"] == TO
        assert form["Body"] == (
            "A Bcc: x <script>& {{7*7}} %s   \"quoted\" 'too'\nA\nBcc: x <script>&{{7*7}} %s   \"quoted\" 'too'"
        )

    async def test_a_long_text_is_cut_or_refused_as_configured(self) -> None:
        _, (form,) = await sent(SmsChannel, message(Channel.SMS, title="", text="a" * 400), sms_max_parts=1)
        assert form["Body"] == "a" * 157 + "..."
        refuse = {"sms_max_parts": 1, "sms_too_long": TooLong.REFUSE}
        outcome, taken = await sent(SmsChannel, message(Channel.SMS, title="", text="a" * 400), **refuse)
        assert (outcome.kind, outcome.reason, taken) == (OutcomeKind.REJECTED, "too_long", [])
        _, (form,) = await sent(
            SmsChannel, message(Channel.SMS, title="", text="a" * 400), sms_max_parts=1, sms_too_long=TooLong.SPLIT
        )
        assert form["Body"] == "a" * 400

    async def test_how_to_answer_stands_below_a_text_that_is_cut(self) -> None:
        given = message(Channel.SMS, title="", text="a" * 400, reply_hint="Reply OK 4711.")
        _, (form,) = await sent(SmsChannel, given, sms_max_parts=1)
        assert form["Body"] == "a" * 142 + "...\nReply OK 4711."

    async def test_nobody_is_told_to_answer_a_name(self) -> None:
        _, (form,) = await sent(SmsChannel, message(Channel.SMS, reply_hint="Reply OK 4711."), sms_from="Clinic")
        assert form["Body"] == "Dentist\nTomorrow at nine."

    async def test_nothing_to_say_is_refused(self) -> None:
        outcome, taken = await sent(SmsChannel, message(Channel.SMS, title="\u202e", text=" \r\n"))
        assert (outcome.kind, outcome.reason, taken) == (OutcomeKind.REJECTED, "no_text", [])


class TestWhatsApp:
    @pytest.mark.parametrize(
        ("age_ms", "free"), [(0, True), (WINDOW_MS - 60_000, True), (WINDOW_MS, False), (WINDOW_MS + 60_000, False)]
    )
    def test_free_text_until_a_day_after_the_last_message(self, age_ms: int, free: bool) -> None:
        now = 1_764_000_000_000
        adapter = WhatsAppChannel(settings(Place("https://api.twilio.example")))
        content = adapter.content(message(Channel.WHATSAPP, last_inbound_ms=now - age_ms), now)
        assert isinstance(content, dict)
        assert ("body" in content, "content_sid" in content) == (free, not free)
        assert in_window(now - age_ms, now) is free

    async def test_a_template_with_its_variables(self) -> None:
        data = {"doctor": "Dr. \n Who"}
        given = message(Channel.WHATSAPP, text="Tomorrow\nat\t nine", data=data, category="visit")
        templates = f"visit:{TEMPLATE[:-1]}0,*:{TEMPLATE}"
        _, (form,) = await sent(
            WhatsAppChannel,
            given,
            whatsapp_templates=templates,
            whatsapp_variables="1=title,2=text,3=data.doctor,4=name",
        )
        assert (form["To"], form["From"]) == (f"whatsapp:{TO}", f"whatsapp:{SENDER}")
        assert form["ContentSid"] == TEMPLATE[:-1] + "0"
        # WhatsApp refuses line breaks and empty values.
        assert json.loads(form["ContentVariables"]) == {
            "1": "Dentist",
            "2": "Tomorrow at nine",
            "3": "Dr. Who",
            "4": "-",
        }
        assert "Body" not in form

    async def test_how_to_answer_is_in_the_text_or_in_a_variable(self) -> None:
        given = message(Channel.WHATSAPP, title="", text="Nine.", reply_hint="Reply OK 4711.", last_inbound_ms=1)
        adapter = WhatsAppChannel(
            settings(
                Place("https://api.twilio.example"), whatsapp_templates=f"*:{TEMPLATE}", whatsapp_variables="1=reply"
            )
        )
        assert adapter.content(given, 2) == {"body": "Nine.\nReply OK 4711."}
        made = adapter.content(given, 2 + WINDOW_MS)
        assert isinstance(made, dict)
        assert json.loads(made["content_variables"]) == {"1": "Reply OK 4711."}

    async def test_without_a_template_the_next_contact_is_tried(self) -> None:
        outcome, taken = await sent(WhatsAppChannel, message(Channel.WHATSAPP), whatsapp_templates=f"x:{TEMPLATE}")
        assert (outcome.kind, outcome.reason) == (OutcomeKind.UNDELIVERABLE, "outside_window")
        assert (outcome.blames_address, taken) == (False, [])

    async def test_a_paused_template_is_our_fault(self) -> None:
        from tests.channels.contract import send_to
        from tests.channels.twilio_stage import twilio_stage
        from tests.sandbox.twilio_server import error

        async with twilio_stage(WhatsAppChannel)() as stage:
            stage.reply(stage.address(1), error(400, 63041, "Template paused"))
            outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.MISCONFIGURED, "template_paused", False)


class TestVoice:
    async def test_the_fields(self) -> None:
        outcome, (form,) = await sent(VoiceChannel, message(Channel.VOICE))
        assert (form["To"], form["From"], form["Timeout"]) == (TO, SENDER, "30")
        assert form["MachineDetection"] == "Enable"
        assert form["StatusCallbackEvent"] == ["initiated", "ringing", "answered", "completed"]
        assert "/callbacks/twilio/call?delivery=" in form["StatusCallback"]
        assert outcome.provider_id.startswith("CA")

    def test_it_is_read_repeated_and_confirmed_by_a_key(self) -> None:
        twiml = spoken(
            "Tomorrow at nine.", settings(Place("x"), voice_repeat=1), "https://hooks.example/key?delivery=t"
        )
        tree = Tree.fromstring(twiml)
        assert [child.tag for child in tree] == ["Gather", "Pause", "Gather", "Hangup"]
        gather = tree[0]
        assert gather.attrib["numDigits"] == "1"
        assert gather.attrib["action"] == "https://hooks.example/key?delivery=t"
        assert [say.text for say in gather] == ["Tomorrow at nine.", "Press 1 to confirm."]
        assert gather[0].attrib["language"] == "en-US"

    def test_without_somebody_to_take_it_no_key_is_asked_for(self) -> None:
        tree = Tree.fromstring(spoken("Tomorrow.", settings(Place("x"), voice_repeat=0), None))
        assert [child.tag for child in tree] == ["Say", "Hangup"]

    async def test_what_looks_like_a_tag_is_read_aloud(self) -> None:
        evil = "</Say><Dial>+19005550100</Dial> & <break time='10s'/>"
        _, (form,) = await sent(VoiceChannel, message(Channel.VOICE, title="", text=evil + NASTY))
        tree = Tree.fromstring(form["Twiml"])
        assert {node.tag for node in tree.iter()} == {"Response", "Gather", "Say", "Pause", "Hangup"}
        assert tree[0][0].text is not None
        assert tree[0][0].text.startswith(evil)

    @pytest.mark.parametrize("text", ["a" * 60_000, "&<>" * 20_000, "\u00e9" * 9_000, "😀" * 9_000])
    async def test_a_long_text_stays_within_what_a_call_takes(self, text: str) -> None:
        outcome, (form,) = await sent(VoiceChannel, message(Channel.VOICE, text=text), voice_repeat=5)
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert len(form["Twiml"]) <= 4000
        Tree.fromstring(form["Twiml"])

    async def test_a_machine_is_listened_for_as_configured(self) -> None:
        _, (form,) = await sent(VoiceChannel, message(Channel.VOICE), voice_machine_detection="off")
        assert "MachineDetection" not in form


class TestAccount:
    async def test_a_suspended_account_is_red(self) -> None:
        async with TwilioServer(authority().issue("twilio").server()) as server, opened(SmsChannel, server) as adapter:
            server.status = "suspended"
            with pytest.raises(OSError, match="our account is suspended"):
                await adapter.probe()

    async def test_the_environment_of_the_sdk_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TWILIO_REGION", "ie1")
        monkeypatch.setenv("TWILIO_EDGE", "dublin")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        outcome, taken = await sent(SmsChannel, message(Channel.SMS))
        assert (outcome.kind, len(taken)) == (OutcomeKind.ACCEPTED, 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account_sid": "AC1"}, "account_sid"),
        ({"auth_token": ""}, "auth_token"),
        ({"account_sid": ""}, "account_sid"),
        ({"sms_from": "", "whatsapp_from": "", "voice_from": ""}, "account_sid"),
        ({"messaging_service_sid": "MG1"}, "messaging_service_sid"),
        ({"sms_from": "020 7946 0958"}, "sms_from"),
        ({"whatsapp_from": "Clinic"}, "whatsapp_from"),
        ({"voice_from": "12345"}, "voice_from"),
        ({"whatsapp_templates": "visit:HX1"}, "whatsapp_templates"),
        ({"whatsapp_templates": TEMPLATE}, "whatsapp_templates"),
        ({"whatsapp_variables": "1=body"}, "whatsapp_variables"),
        ({"base_url": "http://api.twilio.example"}, "base_url"),
        ({"base_url": "https://u:p@api.twilio.example"}, "base_url"),
        ({"base_url": "https://["}, "base_url"),
        ({"callback_url": "https://my_hooks.example"}, "callback_url"),
        ({"callback_url": "hooks.example"}, "callback_url"),
        ({"voice_machine_detection": "yes"}, "voice_machine_detection"),
        ({"connect_timeout_s": 30.0}, "timeout_s"),
        ({"voice_confirm": "x" * 201}, "voice_confirm"),
        ({"callback_url": f"https://{'h' * 200}.example"}, "callback_url"),
    ],
)
def test_each_fault_of_the_settings_is_named(changes: dict[str, Any], field: str) -> None:
    found = list(settings(Place("https://api.twilio.example"), **changes).faults())
    assert [name for name, _ in found] == [field]
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("sender", ["+12015550123", "12345", "Clinic", "Dr Who 24"])
def test_senders_that_are_taken(sender: str) -> None:
    assert list(settings(Place("https://api.twilio.example"), sms_from=sender).faults()) == []


def test_nothing_is_configured_by_default_and_no_secret_is_shown() -> None:
    nothing = TwilioSettings()
    assert (nothing.sms, nothing.whatsapp, nothing.voice, list(nothing.faults())) == (False, False, False, [])
    assert TOKEN not in repr(TwilioSettings(account_sid=ACCOUNT, auth_token=TOKEN))


@pytest.mark.parametrize("kind", [SmsChannel, WhatsAppChannel, VoiceChannel])
async def test_what_waits_at_twilio_is_taken_back_and_what_has_left_is_not(kind: Any) -> None:
    async with TwilioServer(authority().issue("twilio").server()) as server, opened(kind, server) as adapter:
        said = message(kind.channel)
        sid = (await adapter.send(said)).provider_id
        assert (await adapter.retract(said, sid)).kind is OutcomeKind.ACCEPTED
        assert server.canceled == [sid]
        late = await adapter.retract(said, sid)
        assert (late.kind is OutcomeKind.ACCEPTED, late.code) == (False, "30409")
        assert len(server.taken) == 1
