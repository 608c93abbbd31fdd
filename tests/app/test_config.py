import dataclasses
import re
from pathlib import Path

import pytest

from app import config
from app.cli.worker import _say_who_alone_is_sent_to
from app.config import VARIABLES, ConfigError, Kind, Role, Settings, Variable
from schemas.names import MaybeSent

ROOT = Path(__file__).resolve().parents[2]


def faults(environ: dict[str, str], needs: Role | None = None) -> list[str]:
    try:
        Settings.load(environ, needs)
    except ConfigError as exc:
        return exc.faults
    return []


TAKES_MAIL = {"CALLBACK_KEY": "k" * 16, "SMTP_CALLBACK_TOKEN": "t" * 16}


def test_the_page_is_made_from_the_data() -> None:
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == config.document()


def test_an_empty_environment_is_good_for_development() -> None:
    settings = Settings.load({})
    assert settings.kafka.bootstrap == "127.0.0.1:9092"
    assert settings.web.bind == "127.0.0.1"
    assert (settings.web.port, settings.web.delivery_port, settings.web.host) == (6066, 6067, "127.0.0.1")
    assert settings.rules.maybe_sent is MaybeSent.HOLD
    assert settings.fencing.limit_s + settings.fencing.publish_s < settings.fencing.session_s
    assert settings.data_dir == Path(".data/worker")


def test_every_variable_is_read() -> None:
    reads = (ROOT / "app/config.py").read_text("utf-8")
    assert [v.name for v in VARIABLES if f'("{v.name}")' not in reads] == []
    assert len({v.name for v in VARIABLES}) == len(VARIABLES)


def test_nothing_else_reads_the_environment() -> None:
    packages = ("app", "agents", "tables", "channels", "schemas")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    readers = {
        str(path.relative_to(ROOT)) for path in files if re.search(r"\benviron\b|getenv", path.read_text("utf-8"))
    }
    # Two tell where secrets come from, never what they are; a move has a second environment made of the first.
    shows = {"app/cli/settings.py", "app/cli/secrets.py", "app/secret_list.py", "app/cli/move.py"}
    assert readers <= {"app/config.py", "app/cli/root.py"} | shows


BAD = {
    Kind.INTEGER: ("x", "1.5", "", "-1", "99999999999"),
    Kind.SECONDS: ("x", "nan", "inf", "-1", "1e12"),
    Kind.CHOICE: ("", "nonsense"),
    Kind.FILE: ("/does/not/exist",),
}


@pytest.mark.parametrize("variable", [v for v in VARIABLES if v.kind in BAD], ids=lambda v: v.name)
def test_every_variable_refuses_what_it_cannot_be(variable: Variable) -> None:
    for text in BAD[variable.kind]:
        found = faults({variable.name: text})
        high = variable.high == float("inf") and text in ("1e12", "99999999999")
        if not text or high:
            continue
        assert any(line.startswith(f"{variable.name}={text!r}: ") for line in found), (text, found)


def test_all_faults_at_once_each_with_its_remedy() -> None:
    found = faults(
        {
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_BOOTSTRAP": "broker",
            "REMINDERS_NAMESPACE": "a b",
            "REMINDERS_PARTITIONS": "many",
            "WEB_BIND": "0.0.0.0",
            "FENCE_LIMIT_S": "9",
            "RETRY_BASE_S": "10",
            "RETRY_CAP_S": "1",
            "SMTP_PORT": "70000",
            "LOG_FORMAT": "yaml",
        },
        Role.ALL,
    )
    named = [line.partition(":")[0].partition("=")[0] for line in found]
    assert sorted(named) == sorted(
        [
            *("REMINDERS_PARTITIONS", "SMTP_PORT", "LOG_FORMAT", "KAFKA_BOOTSTRAP", "KAFKA_USERNAME", "KAFKA_PASSWORD"),
            *("REMINDERS_NAMESPACE", "FENCE_LIMIT_S", "RETRY_CAP_S", "WEB_BIND", "SMTP_HOST", "SMTP_FROM"),
        ]
    )
    assert all(": " in line and "\n" not in line for line in found)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"KAFKA_USERNAME": "u"}, "KAFKA_USERNAME"),
        ({"KAFKA_CA_FILE": __file__}, "KAFKA_CA_FILE"),
        ({"KAFKA_SECURITY": "SSL", "KAFKA_CERT_FILE": __file__}, "KAFKA_KEY_FILE"),
        ({"KAFKA_SECURITY": "SSL", "KAFKA_KEY_FILE": __file__}, "KAFKA_CERT_FILE"),
        ({"KAFKA_BOOTSTRAP": "a:1,b"}, "KAFKA_BOOTSTRAP"),
        ({"KAFKA_BOOTSTRAP": "a:99999"}, "KAFKA_BOOTSTRAP"),
        ({"SCHEMA_REGISTRY_URL": "localhost:8081"}, "SCHEMA_REGISTRY_URL"),
        ({"HEARTBEAT_S": "3"}, "HEARTBEAT_S"),
        ({"SESSION_TIMEOUT_S": "13"}, "FENCE_LIMIT_S"),
        ({"WEB_PORT": "65535"}, "WEB_PORT"),
        ({"DELIVERY_WEB_PORT": "6066"}, "DELIVERY_WEB_PORT"),
        ({"SMTP_PASSWORD": "p"}, "SMTP_USERNAME"),
        ({"SMTP_USERNAME": "u"}, "SMTP_PASSWORD"),
        ({"SMTP_HOST": "mx.example.org", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "p", "SMTP_TLS": "none"}, "SMTP_TLS"),
        ({"SMTP_FROM": "Anna <anna@example.org>"}, "SMTP_FROM"),
        ({"SMTP_DKIM_KEY_FILE": __file__, "SMTP_DKIM_SELECTOR": "k1"}, "SMTP_DKIM_KEY_FILE"),
        ({"SMTP_DKIM_SELECTOR": "k1"}, "SMTP_DKIM_KEY_FILE"),
        ({"SMTP_CALLBACK_TOKEN": "short"}, "SMTP_CALLBACK_TOKEN"),
        ({"SMTP_BOUNCE_DOMAIN": "b.example", "CALLBACK_KEY": "k" * 16}, "SMTP_CALLBACK_TOKEN"),
        ({"SMTP_BOUNCE_DOMAIN": "b.example", "SMTP_CALLBACK_TOKEN": "t" * 16}, "CALLBACK_KEY"),
        ({"SMTP_BOUNCE_DOMAIN": "no domain", **TAKES_MAIL}, "SMTP_BOUNCE_DOMAIN"),
        ({"SMTP_UNSUBSCRIBE_ADDRESS": "stop@b.example", **TAKES_MAIL}, "PUBLIC_URL"),
        (
            {"SMTP_UNSUBSCRIBE_ADDRESS": "Stop <stop@b.example>", "PUBLIC_URL": "https://n.example", **TAKES_MAIL},
            "SMTP_UNSUBSCRIBE_ADDRESS",
        ),
        ({"FCM_CREDENTIALS_FILE": __file__}, "FCM_CREDENTIALS_FILE"),
        ({"FCM_URL": "http://fcm.example"}, "FCM_URL"),
        ({"FCM_ANDROID_CHANNEL": "x" * 101}, "FCM_ANDROID_CHANNEL"),
        ({"WEBHOOK_KEYS": "short"}, "WEBHOOK_KEYS"),
        ({"WEBHOOK_KEYS": f"{'k' * 32},{'k' * 32}"}, "WEBHOOK_KEYS"),
        ({"WEBHOOK_ALLOW": "10.0.0.0/8, localhost"}, "WEBHOOK_ALLOW"),
        ({"WEBHOOK_PORTS": "443,x"}, "WEBHOOK_PORTS"),
        ({"WEBHOOK_PER_HOST": "101"}, "WEBHOOK_PER_HOST"),
        ({"SMTP_FROM_NAME": "a\r\nBcc: b@example.org"}, "SMTP_FROM_NAME"),
    ],
)
def test_faults_between_variables(environ: dict[str, str], named: str) -> None:
    found = faults(environ)
    assert len(found) == 1, found
    assert found[0].startswith(named)


def test_what_tests_and_small_machines_use_is_allowed() -> None:
    assert (
        faults({"SESSION_TIMEOUT_S": "6", "FENCE_LIMIT_S": "3", "PUBLISH_TIMEOUT_S": "2", "RETRY_BASE_S": "0.05"}) == []
    )
    assert faults({"WEB_BIND": "0.0.0.0", "WEB_TOKEN": "t"}) == []
    assert faults({"WEB_BIND": "::1"}) == []
    assert faults({"KAFKA_BOOTSTRAP": "a.example:9092, [::1]:9093"}) == []
    assert faults({"SMTP_HOST": "localhost", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "p", "SMTP_TLS": "none"}) == []


@pytest.mark.parametrize(("bind", "host"), [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")])
def test_where_other_workers_reach_this_one(bind: str, host: str) -> None:
    assert Settings.load({"WEB_BIND": bind}).web.host == host
    assert Settings.load({"WEB_BIND": bind, "WEB_HOST": "w1.example"}).web.host == "w1.example"
    everywhere = Settings.load({"WEB_BIND": "0.0.0.0", "WEB_TOKEN": "t"}).web.host
    assert everywhere not in ("", "0.0.0.0")


SECRETS = [v for v in VARIABLES if v.secret]


@pytest.mark.parametrize("variable", SECRETS, ids=lambda v: v.name)
def test_secrets_come_from_files_and_are_never_shown(variable: Variable, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = "canary-secret-of-32-characters-or-more"
    if variable.name == "ALERT_WEBHOOK":
        secret = f"https://alerts.example/{secret}"
    path.write_text(f"{secret}\n")
    more = {
        "KAFKA_PASSWORD": {"KAFKA_SECURITY": "SASL_SSL", "KAFKA_USERNAME": "u"},
        "SMTP_PASSWORD": {"SMTP_USERNAME": "u"},
        "SMTP_2_PASSWORD": {"SMTP_2_USERNAME": "u"},
        "SENDGRID_API_KEY": {"SMTP_FROM": "a@example.org"},
        "WHATSAPP_TOKEN": {"WHATSAPP_PHONE_ID": "106540352242922"},
        "WHATSAPP_APP_SECRET": {"CALLBACK_KEY": "0123456789abcdef"},
        "WHATSAPP_VERIFY_TOKEN": {"WHATSAPP_APP_SECRET": "s", "CALLBACK_KEY": "0123456789abcdef"},
    }.get(variable.name, {})
    settings = Settings.load({f"{variable.name}_FILE": str(path), **more})
    values = (
        settings.kafka.password,
        settings.registry.password,
        settings.web.token,
        settings.smtp.password,
        settings.smtp.second.password,
        settings.twilio.auth_token,
        settings.sendgrid.api_key,
        settings.cloud.token,
        settings.cloud.app_secret,
        settings.cloud.verify_token,
        *settings.webhook.keys,
        *settings.callback_keys,
        *settings.smtp.callback_tokens,
        *settings.rules.seal_keys,
        settings.circuits.alert_webhook,
        *(key.decode() for _, key in settings.rules.address_hash.secrets),
    )
    assert secret in values
    assert "canary-secret" not in f"{settings!r}{settings.shown}"
    assert dict(settings.shown)[variable.name] == f"set (file {path})"
    both = faults({f"{variable.name}_FILE": str(path), variable.name: "canary-other", **more})
    assert len(both) == 1
    assert both[0].startswith(f"{variable.name}: is set twice")
    missing = faults({f"{variable.name}_FILE": str(tmp_path / "absent"), **more})
    assert missing[0].startswith(f"{variable.name}: {variable.name}_FILE=")
    path.write_text("\n")
    assert "is empty" in faults({f"{variable.name}_FILE": str(path), **more})[0]
    assert "canary" not in "".join(both)


def test_misspelt_variables_are_named() -> None:
    environ = {"SMTP_PASWORD": "x", "KAFKA_BOOTSTRAP": "a:1", "KAFKA_HOME": "/opt", "WEB_TOKEN_FLE": "x", "PATH": "/"}
    assert config.misspelt(environ) == [
        "SMTP_PASWORD: is not read; did you mean SMTP_PASSWORD?",
        "WEB_TOKEN_FLE: is not read; did you mean WEB_TOKEN_FILE?",
    ]


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings.load({}).namespace = "x"  # type: ignore[misc]


def test_each_fault_of_the_list_of_who_is_sent_to_is_named() -> None:
    assert faults({"SEND_ONLY_TO": "example.org, +x, anna@"}) == [
        "SEND_ONLY_TO: '+x' is no beginning of a phone number; use such as +4930",
        "SEND_ONLY_TO: 'a***@…' is no mail address; use such as anna@example.org",
    ]
    assert Settings.load({"SEND_ONLY_TO": "example.org"}).rules.send_only_to == "example.org"


def test_a_worker_says_at_its_start_that_it_sends_to_few(capsys: pytest.CaptureFixture[str]) -> None:
    _say_who_alone_is_sent_to(Settings.load({"LOG_FORMAT": "text"}))
    assert capsys.readouterr().err == ""
    _say_who_alone_is_sent_to(Settings.load({"LOG_FORMAT": "text", "SEND_ONLY_TO": "example.org, +49"}))
    assert "only who is on its list (2 entries) is sent to" in capsys.readouterr().err


def test_a_delivery_worker_needs_some_channel() -> None:
    def missing(environ: dict[str, str]) -> list[str]:
        try:
            Settings.load(environ, Role.DELIVERY)
        except ConfigError as exc:
            return [fault.partition(":")[0] for fault in exc.faults]
        return []

    assert missing({}) == ["SMTP_HOST", "SMTP_FROM"]
    assert missing({"WEBHOOK_KEYS": "k" * 32}) == []
    assert missing({"WEBHOOK_KEYS": "k" * 32, "SMTP_HOST": "mx.example.org"}) == ["SMTP_FROM"]


def test_a_second_mail_server_needs_the_first_and_is_another() -> None:
    first = {"SMTP_HOST": "a.example", "SMTP_FROM": "a@example.org"}
    assert not faults({**first, "SMTP_2_HOST": "b.example"})
    assert faults({**first, "SMTP_2_HOST": "a.example"})[0].startswith("SMTP_2_HOST")
    assert faults({"SMTP_2_HOST": "b.example"})[0].startswith("SMTP_2_HOST")
    unsafe = {"SMTP_2_HOST": "b.example", "SMTP_2_TLS": "none", "SMTP_2_USERNAME": "u", "SMTP_2_PASSWORD": "p"}
    assert faults({**first, **unsafe})[0].startswith("SMTP_2_TLS")


def test_whatsapps_own_api_is_named_with_every_fault_and_no_secret() -> None:
    good = {"WHATSAPP_PHONE_ID": "106540352242922", "WHATSAPP_TOKEN": "canary-token"}
    assert not faults(
        {**good, "WHATSAPP_TEMPLATES": "*:visit/en_US, bill:bill_due/de", "WHATSAPP_VARIABLES": "who=name"}
    )
    assert Settings.load(good, Role.DELIVERY).cloud.whatsapp
    wrong = {
        "WHATSAPP_PHONE_ID": "+15550783881",
        "WHATSAPP_TOKEN": "canary token",
        "WHATSAPP_APP_SECRET": "canary-secret",
        "WHATSAPP_TEMPLATES": "*:HX0123",
        "WHATSAPP_VARIABLES": "1=body",
        "WHATSAPP_API_VERSION": "23",
        "WHATSAPP_BASE_URL": "http://graph.example",
    }
    found = faults(wrong)
    assert sorted(line.partition("=")[0].partition(":")[0] for line in found) == sorted(
        {*wrong, "CALLBACK_KEY"} - {"WHATSAPP_APP_SECRET"}
    )
    assert "canary" not in "".join(found)
    assert faults({"WHATSAPP_TOKEN": "t"})[0].startswith("WHATSAPP_PHONE_ID")
    assert faults({"PROVIDER_FIRST": "meta, sendmail"}) == [
        "PROVIDER_FIRST: 'sendmail': use names of smtp, smtp-2, sendgrid, twilio, meta"
    ]


def test_sendgrid_alone_is_enough_and_needs_a_sender() -> None:
    alone = {"SENDGRID_API_KEY": "SG.canary", "SMTP_FROM": "a@example.org"}
    assert Settings.load(alone, Role.DELIVERY).sendgrid.email
    for role in (None, Role.CORE, Role.DELIVERY):
        with pytest.raises(ConfigError) as caught:
            Settings.load({"SENDGRID_API_KEY": "SG.canary"}, role)
        assert [fault.partition(":")[0] for fault in caught.value.faults] == ["SMTP_FROM"]
    found = faults({**alone, "SENDGRID_EVENT_KEY": "canary key", "SENDGRID_BASE_URL": "ftp://x"})
    assert [line.partition("=")[0].partition(":")[0] for line in found] == [
        "CALLBACK_KEY",
        "SENDGRID_EVENT_KEY",
        "SENDGRID_BASE_URL",
    ]
    assert "canary" not in "".join(found)
