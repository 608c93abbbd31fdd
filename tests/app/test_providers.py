"""How providers are shown, and what an alert says."""

from app.alerts import Alerts, of_circuit
from app.providers import shown
from schemas.records import ControlRecord
from tables import circuit
from tables.circuit import Circuit, Limits

NOW = 1_796_115_600_000
C = Circuit("sms/twilio", beside=("twilio",))


def turned(record: ControlRecord | None) -> Circuit:
    assert record is not None
    after = circuit.taken(None, record)
    assert after is not None
    return after


def test_a_circuit_is_shown_with_its_reason_until_it_closes() -> None:
    refused = turned(circuit.opened(C, NOW, "a", "credentials_refused", Limits(), misconfigured=True))
    assert shown(refused, NOW) == {
        "provider": "twilio",
        "channel": "SMS",
        "state": "OPEN",
        "misconfigured": True,
        "reason": "credentials_refused",
        "since": "2026-12-01T09:00:00Z",
        "next_probe": "2026-12-01T09:00:31Z",
    }
    paused = turned(circuit.paused(C, NOW, "a", 60_000, "rate_limited"))
    assert (shown(paused, NOW)["state"], shown(paused, NOW)["until"]) == ("PAUSED", "2026-12-01T09:01:00Z")
    assert shown(paused, NOW + 60_000) == {"provider": "twilio", "channel": "SMS", "state": "CLOSED"}


def test_an_alert_says_what_is_wrong_in_a_sentence() -> None:
    refused = turned(circuit.opened(C, NOW, "a", "credentials_refused", Limits(), misconfigured=True))
    body = of_circuit(refused)
    assert (body["provider"], body["channel"], body["state"], body["misconfigured"]) == ("twilio", "SMS", "OPEN", True)
    assert "refuses our settings: The provider refuses our credentials" in str(body["text"])
    closed = circuit.closed(refused, NOW + 1, "a")
    assert closed is not None
    again = circuit.taken(refused, closed)
    assert again is not None
    assert "works again" in str(of_circuit(again)["text"])


def test_without_a_url_nobody_is_told() -> None:
    Alerts("").circuit(C)
