"""What goes to SendGrid: the mail of SMTP as JSON; each row of the table over a real socket; waits; the probe."""

import json
import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest

from channels.base import Outcome, Send
from channels.http_answers import UNKNOWN_CODE, Answer, HttpReason
from channels.sendgrid_codes import ANSWERS, EXPLANATIONS, SendGridReason, read_answer
from channels.sendgrid_settings import SendGridSettings, public_key
from schemas.names import Channel, OutcomeKind
from tests.channels.contract import send_to
from tests.channels.sendgrid_stage import opened, sendgrid_stage
from tests.channels.twilio_stage import authority
from tests.sandbox.http_server import Reply
from tests.sandbox.sendgrid_server import API_KEY, SendGridServer, Signer, error


def message(**changes: Any) -> Send:
    given: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "address": "anna@reader.example",
        "token": "token1",
        "attempt": 1,
        "created_ms": 1_764_000_000_000,
        "due_ms": 1_764_000_000_000,
        "deadline_ms": 1_764_086_400_000,
        "title": "Dentist",
        "text": "Tomorrow at ten.",
        "name": "Anna Ö.",
        "category": "visits",
        "tenant": "clinic",
    }
    return Send(**(given | changes))


async def sent(said: Send, **changes: Any) -> Any:
    async with SendGridServer(authority().issue("sendgrid").server()) as server, opened(server, **changes) as adapter:
        outcome = await adapter.send(said)
        return server.taken[0] if server.taken else outcome


async def test_a_mail_is_the_one_that_smtp_would_carry_and_nobody_follows_its_reader() -> None:
    mail = await sent(
        message(
            reference="sealed",
            unsubscribe_url="https://hooks.example/l/u",
            unsubscribe_mail="mailto:out@example.org?subject=x",
            confirm_url="https://hooks.example/l/c",
        )
    )
    assert mail["personalizations"] == [{"to": [{"email": "anna@reader.example", "name": "Anna Ö."}]}]
    assert mail["from"] == {"email": "reminders@service.example", "name": "Clinic"}
    assert mail["subject"] == "Dentist"
    text, html = mail["content"]
    assert (text["type"], html["type"]) == ("text/plain", "text/html")
    assert "Tomorrow at ten." in text["value"]
    assert "https://hooks.example/l/c" in text["value"]
    assert html["value"].startswith("<!DOCTYPE html>")
    assert mail["headers"] == {
        "Message-ID": "<token1@service.example>",
        "Auto-Submitted": "auto-generated",
        "Feedback-ID": "visits:clinic:reminder:serviceexample",
        "List-Unsubscribe": "<https://hooks.example/l/u>, <mailto:out@example.org?subject=x>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert mail["custom_args"] == {"token": "token1", "reminder_category": "visits", "delivery": "sealed"}
    assert {part["enable"] for part in mail["tracking_settings"].values()} == {False}


async def test_what_a_user_wrote_is_inert() -> None:
    mail = await sent(message(title="a\r\nBcc: b@example.org", text="<script>{{7*7}}</script>", name='"x"\r\ny'))
    assert "\n" not in mail["subject"] + mail["personalizations"][0]["to"][0]["name"]
    assert "<script>" not in mail["content"][1]["value"]
    assert "{{7*7}}" in mail["content"][0]["value"]
    assert "List-Unsubscribe" not in mail["headers"]
    assert "delivery" not in mail["custom_args"]


async def test_an_address_that_json_could_not_carry_is_not_sent_to() -> None:
    wrong = await sent(message(address="no address"))
    assert (wrong.kind, wrong.blames_address, wrong.reached) == (OutcomeKind.UNDELIVERABLE, True, False)
    other = await sent(message(address="änna@reader.example"))
    assert (other.kind, other.reason, other.blames_address) == (OutcomeKind.UNDELIVERABLE, "needs_smtputf8", False)


async def test_each_row_over_a_real_socket() -> None:
    async with sendgrid_stage() as stage:
        for rule in ANSWERS:
            field, says = rule.field or "content.0.value", f"xx {rule.says} xx {stage.address(1)}"
            stage.reply(stage.address(1), error(rule.status, says, field))
            outcome = await stage.adapter.send(send_to(stage, 1))
            meaning = rule.meaning
            assert (outcome.kind, outcome.reason) == (meaning.kind, meaning.reason), rule
            assert (outcome.reached, outcome.blames_address) == (meaning.reached, meaning.blames_address), rule
            assert outcome.detail == EXPLANATIONS[meaning.reason]


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == {*HttpReason, *SendGridReason, UNKNOWN_CODE}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"errors": 7}', b'{"errors": [7]}', b'{"errors": [{"field": 1}]}']
)
def test_a_refusal_that_cannot_be_read_is_known_by_its_status(body: bytes) -> None:
    assert read_answer(Answer(400, body)).reason == "payload_refused"
    assert read_answer(Answer(403, body)).reason == "credentials_refused"
    assert read_answer(Answer(422, body)).reason == UNKNOWN_CODE
    assert read_answer(Answer(500, body)).kind is OutcomeKind.MAYBE_SENT
    assert read_answer(Answer(204, body)).kind is OutcomeKind.MAYBE_SENT


def test_one_of_several_errors_about_the_address_is_enough() -> None:
    errors = [{"field": "subject", "message": "x"}, {"field": "personalizations.0.to.0.email", "message": "y"}]
    assert read_answer(Answer(400, orjson.dumps({"errors": errors}))).blames_address


async def limited(**headers: str) -> Outcome:
    async with sendgrid_stage() as stage:
        stage.reply(stage.address(1), Reply(429, "", {name.replace("_", "-"): v for name, v in headers.items()}))
        return await stage.adapter.send(send_to(stage, 1))


async def test_a_limit_says_when_it_ends_by_sendgrids_own_clock() -> None:
    then = int(time.time()) - 3600
    date = formatdate(then, usegmt=True)
    outcome = await limited(X_RateLimit_Reset=str(then + 45), Date=date)
    assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.DEFERRED, 45)
    assert (await limited(X_RateLimit_Reset=str(then + 45), Date=date, Retry_After="7")).retry_after_s == 7
    for nonsense in ("soon", "", "-1", str(then - 5), "9" * 30):
        assert (await limited(X_RateLimit_Reset=nonsense, Date=date)).retry_after_s is None


async def test_the_id_of_a_mail_is_told() -> None:
    async with sendgrid_stage() as stage:
        outcome = await stage.adapter.send(send_to(stage, 1))
    assert outcome.provider_id
    assert outcome.code == ""


async def test_the_probe_asks_what_the_key_may_do_and_sends_nothing() -> None:
    async with SendGridServer(authority().issue("sendgrid").server()) as server, opened(server) as adapter:
        assert "may send mails" in await adapter.probe()
        server.scopes = ["alerts.read"]
        with pytest.raises(OSError, match=r"give it the scope mail\.send"):
            await adapter.probe()
        server.api_key = "another"
        with pytest.raises(OSError, match="401 the provider refuses our credentials"):
            await adapter.probe()
        assert server.taken == []


def test_settings_name_their_faults_and_show_no_secret() -> None:
    assert list(SendGridSettings().faults()) == []
    signer = Signer()
    good = SendGridSettings(api_key=API_KEY, sender="a@example.org", event_keys=(signer.shown, Signer().shown))
    assert list(good.faults()) == []
    assert API_KEY not in repr(good)
    wrong = SendGridSettings(api_key="a b", event_keys=("x",), base_url="http://api.example", timeout_s=1)
    assert [name for name, _ in wrong.faults()] == ["api_key", "event_key", "base_url", "timeout_s"]
    with pytest.raises(ValueError, match="sendgrid: sender"):
        _ = SendGridSettings(api_key=API_KEY, sender="nobody").from_address
    assert public_key(signer.shown) is not None
    assert public_key(json.dumps({"kty": "EC"})) is None
