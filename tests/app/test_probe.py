"""``python -m app probe``: six verdicts on a channel or a provider, and nothing sent."""

import asyncio
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from app.cli import probe
from app.cli.doctor import Grade
from app.cli.root import main
from app.config import VARIABLES, Settings
from app.topics import TopicNames, ensure_topics
from channels.cloud_settings import CloudSettings
from channels.email import EmailChannel, SmtpSettings
from channels.sendgrid import SendGridChannel
from channels.sendgrid_settings import SendGridSettings
from channels.sms import SmsChannel
from channels.twilio_settings import TwilioSettings
from channels.whatsapp_cloud import WhatsAppCloudChannel
from deploy.dev.broker import Broker
from schemas.codec import encode
from schemas.names import AnswerKind, Channel, OutcomeKind
from schemas.records import ControlRecord, DeliveryAnswer
from tables import circuit
from tests.sandbox.dns_server import DnsServer
from tests.sandbox.in_thread import in_thread
from tests.sandbox.smtp_server import SmtpServer

NOW = time.time_ns() // 1_000_000
UNSET: dict[str, str | None] = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
NAMES = ["credentials", "address", "quota", "format", "logs", "isolation", "dns"]
PUBLISHED = {"example.org": ["v=spf1 mx -all"], "_dmarc.example.org": ["v=DMARC1; p=none"]}
EMAIL = EmailChannel(SmtpSettings(host="127.0.0.1", sender="a@example.org"))
CLOUD = WhatsAppCloudChannel(CloudSettings(phone_id="106540352242922", token="t"))
SENDGRID = SendGridChannel(SendGridSettings(api_key="k", sender="a@example.org"))
SMS = SmsChannel(TwilioSettings(account_sid="AC" + "0" * 32, auth_token="t", sms_from="+14155550100"))


def answer(channel: Channel, provider: str, outcome: OutcomeKind, code: str = "", reason: str = "") -> DeliveryAnswer:
    return DeliveryAnswer(
        AnswerKind.OUTCOME, "r", outcome=outcome, channel=channel, provider=provider, code=code, reason=reason
    )


def test_an_address_and_a_text_are_checked_by_the_rules_of_the_channel() -> None:
    assert probe.layout([EMAIL], "", "hello", NOW).grade is Grade.OK
    fits = probe.layout([SMS], "+14155550123", "a" * 161, NOW)
    assert (fits.grade, fits.text) == (Grade.OK, "sms: 2 of 10 parts")
    wrong = probe.layout([SMS], "anna@example.org", "hello", NOW)
    assert wrong.grade is Grade.FAIL
    assert "anna" not in wrong.text
    assert "shorten the text" in probe.layout([SMS], "", "a" * 2000, NOW).text


def test_the_log_says_what_became_of_calls() -> None:
    good = answer(Channel.SMS, "twilio", OutcomeKind.ACCEPTED)
    bad = answer(Channel.SMS, "twilio", OutcomeKind.MISCONFIGURED, "20003", "credentials")
    other = answer(Channel.EMAIL, "smtp", OutcomeKind.DEFERRED)
    assert probe.logs([SMS], [other]).grade is Grade.SKIP
    assert probe.logs([SMS], [good, other]).text == "1 calls, 1 taken"
    some = probe.logs([SMS], [good, good, bad])
    assert some.grade is Grade.WARN
    assert "1 MISCONFIGURED 20003: " in some.text
    assert probe.logs([SMS], [good, bad]).grade is Grade.FAIL


def test_places_are_those_of_the_settings() -> None:
    settings = Settings.load({"SMTP_HOST": "mail.example.org", "SMTP_FROM": "a@example.org", "SMTP_TLS": "implicit"})
    (place,) = probe.places(settings, [EMAIL])
    assert (place.host, place.tls) == ("mail.example.org", True)
    (place,) = probe.places(settings, [SMS])
    assert (place.host, place.port, place.tls) == ("api.twilio.com", 443, True)
    (place,) = probe.places(settings, [CLOUD])
    assert (place.host, place.port, place.tls) == ("graph.facebook.com", 443, True)
    (place,) = probe.places(settings, [SENDGRID])
    assert (place.host, place.port, place.tls) == ("api.sendgrid.com", 443, True)


def test_the_dns_is_asked_of_servers_that_we_sign_for() -> None:
    assert [probe._is_server(adapter) for adapter in (EMAIL, SENDGRID, SMS)] == [True, False, False]


# -- the command, on a broker


@pytest.fixture
def env(broker: Broker, tmp_path: Path) -> dict[str, str]:
    made = {
        "KAFKA_BOOTSTRAP": broker.bootstrap,
        "REMINDERS_NAMESPACE": f"t{uuid.uuid4().hex[:10]}",
        "REMINDERS_PARTITIONS": "2",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_TLS": "none",
        "SMTP_FROM": "a@example.org",
    }
    asyncio.run(ensure_topics(Settings.load(made)))
    return made


@pytest.fixture
def invoke(env: dict[str, str]) -> Callable[..., Result]:
    return lambda *words, **more: CliRunner().invoke(main, ("probe", *words), env=UNSET | env | more)


def grades(result: Result) -> dict[str, str]:
    return {line.split()[1]: line.split()[0] for line in result.output.splitlines()}


async def write(env: dict[str, str], topic: str, key: bytes, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=env["KAFKA_BOOTSTRAP"]) as producer:
        await producer.send_and_wait(topic, value, key=key, partition=0)


def test_six_verdicts_and_nothing_sent(env: dict[str, str], invoke: Callable[..., Result]) -> None:
    names = TopicNames.of(Settings.load(env))
    with in_thread(SmtpServer()) as server, in_thread(DnsServer(PUBLISHED)) as dns:
        env["SMTP_PORT"] = str(server.port)
        good = invoke("email", "--to", "anna@example.org", "--dns", dns.address)
        assert good.exit_code == 0, good.output
        assert grades(good) == dict.fromkeys(NAMES, "ok") | {"logs": "skip"}
        assert list(grades(good)) == NAMES

        throttled = answer(Channel.EMAIL, "smtp", OutcomeKind.DEFERRED, "429", "rate_limited")
        asyncio.run(write(env, names.outcomes, b"r", encode(throttled)))
        c = circuit.Circuit(circuit.name_of("email", "smtp"))
        record = circuit.opened(c, NOW, "w", "connection_refused", circuit.Limits(), misconfigured=False)
        assert isinstance(record, ControlRecord)
        asyncio.run(write(env, names.control, record.scope.encode(), encode(record)))
        dns.texts = {}
        bad = invoke("smtp", "--dns", dns.address)
        assert bad.exit_code == 1
        assert grades(bad)["quota"] == "warn"
        assert grades(bad)["logs"] == "fail"
        assert grades(bad)["isolation"] == "warn"
        assert grades(bad)["dns"] == "warn"
        assert "publish at TXT example.org" in bad.output
        assert "email/smtp is not called" in bad.output
        assert (server.mails, server.lines("MAIL")) == ([], [])
    with in_thread(DnsServer(PUBLISHED)) as dns:
        gone = invoke("email", "--dns", dns.address)
    assert (grades(gone)["credentials"], grades(gone)["address"]) == ("fail", "fail")
    assert "check the port and the service" in gone.output


def test_without_a_broker_the_provider_is_looked_into_all_the_same() -> None:
    with in_thread(SmtpServer()) as server, in_thread(DnsServer(PUBLISHED)) as dns:
        env = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.port)}
        more = {"SMTP_TLS": "none", "SMTP_FROM": "a@example.org"}
        result = CliRunner().invoke(main, ("probe", "email", "--dns", dns.address), env=UNSET | env | more)
    assert result.exit_code == 0, result.output
    assert grades(result) == dict.fromkeys(NAMES, "ok") | dict.fromkeys(("quota", "logs", "isolation"), "skip")


def test_what_is_not_configured_is_named_with_what_is() -> None:
    env = {"SMTP_HOST": "127.0.0.1", "SMTP_FROM": "a@example.org"}
    result = CliRunner().invoke(main, ("probe", "pigeon"), env=UNSET | env)
    assert result.exit_code == 2
    assert result.output.strip() == "error: pigeon: is not configured; there is email, smtp"
