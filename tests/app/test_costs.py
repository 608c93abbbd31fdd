"""The file of prices, and the report of costs out of the audit."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import prices
from app.config import ConfigError, Settings
from app.costs import DAY_MS, Costs, Line
from schemas.names import Channel, State
from schemas.records import AuditEntry

FILE = """
currency = "EUR"

[sms.twilio]
DE = 75000
"*" = 90000

[voice."*"]
"*" = 20000
"""


def test_a_file_of_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(FILE)
    found = prices.load(path)
    assert found.currency == "EUR"
    assert found.of(Channel.SMS, "twilio", "+4915112345678") == 75_000
    assert found.of(Channel.VOICE, "twilio", "+4915112345678") == 20_000


def test_every_fault_of_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        "currency = 'Euro'\n[fax.'*']\n'*' = 1\n[sms]\ntwilio = 5\n[voice.twilio]\nGermany = 5\nDE = 0.075\nFR = -1\n"
    )
    with pytest.raises(ConfigError) as told:
        Settings.load({"PRICES_FILE": str(path)})
    said = "\n".join(told.value.faults)
    for part in ("currency='Euro'", "fax: is no channel", "sms.twilio=5", "voice.twilio.Germany", "DE=0.075", "FR=-1"):
        assert part in said
    assert said.count("PRICES_FILE") == 6
    path.write_text("currency = 'EUR'")
    with pytest.raises(prices.Faulty, match="names no price"):
        prices.load(path)


def entry(rid: str, seq: int, at: int, micros: int, tenant: str = "", channel: Channel = Channel.SMS) -> AuditEntry:
    return AuditEntry(rid, seq, at, State.SENDING, State.SENT, "ok", channel=channel, tenant=tenant, cost_micros=micros)


def test_costs_are_added_up_by_day_channel_and_tenant() -> None:
    costs = Costs(since=DAY_MS)
    for one in (
        entry("a", 1, DAY_MS - 1, 5),  # before
        entry("a", 2, DAY_MS, 5, "clinic"),
        entry("a", 3, DAY_MS + 9, 0, "clinic"),
        entry("b", 1, DAY_MS + 1, 7, "clinic"),
        entry("c", 1, 2 * DAY_MS, 7, "clinic", Channel.VOICE),
        entry("d", 1, 2 * DAY_MS, 1),
    ):
        costs.add(one)
    assert costs.lines() == [
        Line(DAY_MS, Channel.SMS, "clinic", 2, 12),
        Line(2 * DAY_MS, Channel.SMS, "", 1, 1),
        Line(2 * DAY_MS, Channel.VOICE, "clinic", 1, 7),
    ]


lives = st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(0, 9), min_size=1, max_size=8)), max_size=6)


@given(lives)
def test_what_a_worker_wrote_twice_counts_once(lives: list[tuple[int, list[int]]]) -> None:
    """Each worker goes on from a number that the one before may have passed, and decides otherwise."""
    costs, held = Costs(0), [0]
    costs.add(entry("a", 1, DAY_MS, 0))
    for start, micros in lives:
        # A first entry is written before anything is called.
        start = min(max(start, 1), len(held))
        held = held[:start] + micros
        for n, cost in enumerate(micros, start + 1):
            costs.add(entry("a", n, DAY_MS, cost))
    assert sum(line.micros for line in costs.lines()) == sum(held)


def test_an_id_that_is_used_again_after_its_purge_keeps_what_it_cost_before() -> None:
    costs = Costs(0)
    for seq, micros in ((1, 0), (2, 5), (3, 0), (1, 0), (1, 0), (2, 7), (2, 7), (3, 0)):
        costs.add(entry("a", seq, DAY_MS, micros))
    assert [(line.messages, line.micros) for line in costs.lines()] == [(2, 12)]
