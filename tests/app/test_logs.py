import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import logs
from app.config import VARIABLES, Settings
from app.secret_list import ROTATED

SECRET = "hunter2-s3cret"
CANARIES = {
    "mailbox": "canary.person+tag@example.org",
    "quoted mailbox": '"canary person"@example.org',
    "other scripts": "канарейка@пример.рф",
    "encoded mailbox": "canary%40example.org",
    "phone": "+49 170 1234567",
    "phone, plain": "+491701234567",
    "phone in a query": "To=%2B491701234567",
    "phone, a word before": "sms:491701234567",
    "bearer": "Authorization: Bearer abcDEF123456.zyx",
    "password": 'password="canary pass"',
    "password in JSON": '{"password": "canary-pass"}',
    "token in a query": "https://example.org/hook?token=canarytoken&x=1",
    "userinfo": "smtp://canary:canarypass@mail.example.org:587",
    "smtp auth": "AUTH PLAIN AGNhbmFyeQBjYW5hcnlwYXNz",
    "push token": "canary" + "aB3_" * 40,
    "configured secret": SECRET,
}
LEAKS = (
    *(
        "canary.person",
        "canary person",
        "канарейка",
        "canary%40",
        "1701234567",
        "170 1234567",
        "abcDEF123456",
        "canary pass",
    ),
    *("canary-pass", "canarytoken", "canarypass", "AGNhbmFyeQ", "aB3_aB3_", SECRET),
)


@pytest.fixture(params=["json", "text"])
def out(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    settings = Settings.load({"LOG_FORMAT": request.param, "SMTP_USERNAME": "me", "SMTP_PASSWORD": SECRET})
    logs.setup(settings, stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as exc:
        return exc


@pytest.mark.parametrize("name", CANARIES)
def test_no_canary_is_written(out: io.StringIO, name: str) -> None:
    canary = CANARIES[name]
    log = logging.getLogger("agents.test")
    log.warning("sending %s", canary)
    log.warning(f"sending {canary}")  # noqa: G004 - as careless code would
    log.warning("sending %(who)s", {"who": canary})
    log.warning("failed", exc_info=raised(canary))
    log.warning("extra", extra={"detail": canary, "nested": {"deep": [canary]}, "raw": canary.encode()})
    log.warning("cut out by name", extra={"text": "canary.person", "title": "canary.person", "to": "canary.person"})
    written = out.getvalue()
    assert written.count("\n") >= 6
    assert [leak for leak in LEAKS if leak in written] == []


def test_what_names_nobody_stays(out: io.StringIO) -> None:
    line = (
        "delivery clinic%2Fvisit-42:2026-12-01T09%3A00%2FPT0S:0:0 at 2026-12-01T09:00:00.000+01:00 "
        "offset 1733040000000 on reminders/3/1042, key @1733040000000/PT0S"
    )
    logging.getLogger("agents.test").warning(line)
    assert line in out.getvalue()


def test_arguments_that_do_not_fit_do_not_lose_the_line(out: io.StringIO) -> None:
    logging.getLogger("agents.test").warning("two %s %s", "one")  # noqa: PLE1206
    assert "two %s %s" in out.getvalue()


PIECES = (
    *CANARIES.values(),
    *(
        "bearer",
        "BEARER ",
        "auth ",
        "Basic ",
        "api-key",
        "tel",
        "From",
        "://",
        "@",
        "%40",
        "+",
        "%2b",
        ":",
        "=",
        '"',
        " ",
    ),
    *("ba\u017fic ", "to\u212aen", "1701234567", "abcdefgh", "Z" * 60, "_" * 40, "/", "#", "a", "é", "\n"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=120))
def test_a_text_that_is_passed_quickly_is_one_that_no_pattern_changes(text: str) -> None:
    """Hints only spare patterns that cannot match: the result is that of all of them, one after the other."""
    slowly = text
    for pattern, replacement, _ in logs.Redactor._PATTERNS:
        slowly = pattern.sub(replacement, slowly)
    assert logs.Redactor().text(text) == slowly


def secret_settings(tmp_path: Path) -> Settings:
    """Return settings with every secret from a file of its own that names the variable."""
    more = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_FROM": "desk@clinic.example",
        "SMTP_USERNAME": "me",
        "SMTP_2_HOST": "127.0.0.2",
        "SMTP_2_USERNAME": "me",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_SMS_FROM": "+14155550100",
        "WHATSAPP_PHONE_ID": "106540352242922",
        "KAFKA_SECURITY": "SASL_PLAINTEXT",
        "KAFKA_USERNAME": "me",
        "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
        "SCHEMA_REGISTRY_USERNAME": "me",
    }
    for variable in VARIABLES:
        if variable.secret:
            (tmp_path / variable.name).write_text(secret(variable.name))
            more[f"{variable.name}_FILE"] = str(tmp_path / variable.name)
    return Settings.load(more)


def secret(name: str, when: str = "old") -> str:
    canary = f"canary-{when}-{name.lower().replace('_', '-')}-0123456789abcdef"
    match name:
        case "ALERT_WEBHOOK":
            return f"https://alerts.example/{canary}"
        case "ADDRESS_HASH_KEY":
            return f"2:{canary},1:{canary}-before"
        case _ if name in ROTATED:
            return f"{canary},{canary}-before"
        case _:
            return canary


def test_every_secret_of_the_settings_is_known_by_its_value(tmp_path: Path) -> None:
    settings = secret_settings(tmp_path)
    assert {name for name, _ in settings.secrets} == {v.name for v in VARIABLES if v.secret}
    redactor = logs.Redactor(logs.secrets_of(settings))
    for name, text in settings.secrets:
        assert redactor.text(f"x {text} y") == "x *** y", name
        if name in ROTATED:
            one, before = (part.rpartition(":")[2] for part in text.split(","))
            assert redactor.text(f"x {one} y {before} z") == "x *** y *** z", name
    assert "canary" not in repr(settings)


def test_secrets_that_are_read_again_are_known_beside_those_before(out: io.StringIO, tmp_path: Path) -> None:
    before = secret_settings(tmp_path)
    logs.learn(before)
    for name, _ in before.secrets:
        (tmp_path / name).write_text(secret(name, "new"))
    logs.learn(before.reread())
    for name, _ in before.secrets:
        logging.getLogger("agents.test").warning("%s and %s", secret(name), secret(name, "new"))
    assert "canary" not in out.getvalue()
    assert SECRET not in out.getvalue()


def test_requests_of_aiokafka_are_not_logged(out: io.StringIO) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("aiokafka.conn").debug("Request: %s", "canary.person")
    assert out.getvalue() == ""


def last(stream: io.StringIO) -> dict[str, Any]:
    return dict(json.loads(stream.getvalue().splitlines()[-1]))


def test_json_line() -> None:
    record = logging.makeLogRecord(
        {"name": "agents.settle", "levelname": "INFO", "msg": "settled %d", "args": (3,), "created": 0.5}
    )
    record.__dict__ |= {"reminder": "clinic/1", "correlation_id": "c-1", "level": "overwritten?"}
    logs.Redacting(logs.Redactor()).filter(record)
    assert json.loads(logs.JsonFormatter().format(record)) == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "info",
        "logger": "agents.settle",
        "message": "settled 3",
        "reminder": "clinic/1",
        "correlation_id": "c-1",
    }


def test_ids_of_the_context_and_of_the_line() -> None:
    def fields(**extra: str) -> tuple[object, object]:
        record = logging.makeLogRecord({"msg": "x", **extra})
        logs.Redacting(logs.Redactor()).filter(record)
        return record.__dict__.get("correlation_id"), record.__dict__.get("reminder")

    assert fields() == (None, None)
    with logs.about(correlation_id="c-1", reminder="r-1"):
        assert fields() == ("c-1", "r-1")
        assert fields(correlation_id="own") == ("own", "r-1")
        with logs.about(reminder="r-2"):
            assert fields() == ("c-1", "r-2")
    assert fields() == (None, None)
