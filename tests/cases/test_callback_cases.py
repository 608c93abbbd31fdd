"""Public reports about signed callbacks as inputs (cases.json)."""

import json
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from channels import twilio_news
from schemas.names import Channel, OutcomeKind

CASES = {c["id"]: c for c in json.loads((Path(__file__).parent / "cases.json").read_text("utf-8"))}


def _vectors(case: str) -> list[tuple[dict[str, Any], bool]]:
    found = CASES[case]
    valid = {v["n"]: v["valid"] for v in found["expected"]["vectors"]}
    return [(vector, valid[vector["n"]]) for vector in found["input"]["vectors"]]


@pytest.mark.parametrize(("vector", "valid"), _vectors("O-24"))
def test_o_24_signatures_as_twilio_has_them(vector: dict[str, Any], valid: bool) -> None:
    given = CASES["O-24"]["input"]
    form = MultiDict(vector.get("params") or given["params"])
    assert twilio_news.genuine(given["token"], vector["url"], form, vector["sig"] or "") is valid


@pytest.mark.parametrize(("vector", "valid"), _vectors("O-25"))
def test_o_25_the_address_as_it_was_called(vector: dict[str, Any], valid: bool) -> None:
    given = CASES["O-25"]["input"]
    url = vector["public_base"] + vector["request_target"]
    assert twilio_news.genuine(given["token"], url, MultiDict(given["params"]), vector["sig"]) is valid


def test_without_a_token_nothing_is_genuine() -> None:
    assert not twilio_news.genuine("", "https://x.example/", MultiDict(), "anything")


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        ("queued", "", None),
        ("sending", "", None),
        ("of_next_year", "", None),
        ("", "", None),
        ("sent", "", OutcomeKind.ACCEPTED),
        ("delivered", "", OutcomeKind.DELIVERED),
        ("read", "", OutcomeKind.READ),
        ("undelivered", "30005", OutcomeKind.UNDELIVERABLE),
        ("failed", "21610", OutcomeKind.OPTED_OUT),
    ],
)
def test_what_a_status_says(status: str, code: str, outcome: OutcomeKind | None) -> None:
    news = twilio_news.of_message({"MessageStatus": status, "ErrorCode": code, "MessageSid": "SM1"})
    assert (news.outcome if news else None) is outcome
    assert news is None or (news.code, news.provider_id) == (code, "SM1")


@pytest.mark.parametrize("code", ["", "x", "99999999999", "-1", "٣٠٠٠٥"])
def test_an_odd_code_is_a_failure_all_the_same(code: str) -> None:
    news = twilio_news.of_message({"MessageStatus": "failed", "ErrorCode": code})
    assert news is not None
    assert news.outcome not in (OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ)


@pytest.mark.parametrize(
    ("form", "outcome"),
    [
        ({"CallStatus": "ringing"}, None),
        ({"CallStatus": "completed"}, OutcomeKind.DELIVERED),
        ({"CallStatus": "completed", "AnsweredBy": "human"}, OutcomeKind.DELIVERED),
        ({"CallStatus": "completed", "AnsweredBy": "machine_end_beep"}, OutcomeKind.ACCEPTED),
        ({"CallStatus": "busy"}, OutcomeKind.DEFERRED),
        ({"CallStatus": "no-answer"}, OutcomeKind.DEFERRED),
        ({"CallStatus": "canceled"}, OutcomeKind.SKIPPED),
    ],
)
def test_what_a_call_says(form: dict[str, str], outcome: OutcomeKind | None) -> None:
    news = twilio_news.of_call(form)
    assert (news.outcome if news else None) is outcome


def test_who_wrote() -> None:
    assert twilio_news.sender({"From": "whatsapp:+12015550123"}) == (Channel.WHATSAPP, "+12015550123")
    assert twilio_news.sender({"From": "+12015550123"}) == (Channel.SMS, "+12015550123")
