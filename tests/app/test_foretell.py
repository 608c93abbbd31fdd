"""What is foretold of an event is what the gate then decides, with no gap in between."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from app.cli.root import main
from app.foretell import Installation, Line, foretell
from channels.shelf import Shelf
from channels.templates import Source, compiled
from schemas import codec
from schemas.names import Action, Channel, OutcomeKind, Priority, WaitFor
from schemas.records import Consent, Contact, Content, Policy, RecipientProfile, ReminderEvent, Sealed, Step
from tables.consent import Caps, Categories, Category
from tables.prices import Prices
from tests.agents.test_gate import CATEGORIES, HOUR, Gate
from tests.rules.life import examples

NOW = 1_796_083_200_000
CHANNELS = frozenset({Channel.EMAIL, Channel.SMS, Channel.PUSH})
VERSION, _ = compiled(Source("visit", 1, {"text.txt": "Dear {{ name }}"}))
HERE = Installation(CATEGORIES, channels=CHANNELS, shelf=Shelf([VERSION] if VERSION is not None else []))
ADDRESSES = {
    Channel.EMAIL: "anna@people.example",
    Channel.SMS: "+12015550123",
    Channel.PUSH: "device-1",
    Channel.VOICE: "+12015550124",
}

contacts = st.lists(st.sampled_from(list(ADDRESSES)), unique=True, max_size=4).map(
    lambda channels: tuple(Contact(channel, ADDRESSES[channel]) for channel in channels)
)
profiles = st.builds(
    RecipientProfile,
    zone=st.sampled_from(["UTC", "Europe/Vienna", "America/New_York", "Pacific/Apia"]),
    region=st.sampled_from(["", "US-NY", "US-TX"]),
    contacts=contacts,
    quiet=st.sampled_from([(), ("22:00-07:00",), ("SA,SU 00:00-24:00",)]),
    max_per_day=st.sampled_from([0, 3]),
    consents=st.lists(
        st.builds(
            Consent,
            st.booleans(),
            st.integers(1, 9),
            st.sampled_from(["*", "offers", "duty"]),
            st.sampled_from([None, Channel.SMS, Channel.EMAIL]),
        ),
        max_size=3,
    ).map(tuple),
)
steps = st.lists(
    st.builds(Step, st.sampled_from(list(ADDRESSES)), st.sampled_from([WaitFor.ACCEPTED, WaitFor.READ])), max_size=3
).map(tuple)
events = st.builds(
    ReminderEvent,
    st.just("r"),
    st.just("anna"),
    at=st.integers(NOW + HOUR, NOW + 30 * 24 * HOUR),
    text=st.just("Text"),
    category=st.sampled_from(["general", "duty", "offers"]),
    steps=steps,
    template=st.sampled_from(["", "", "visit", "other"]),
    data=st.sampled_from([{}, {"name": "Anna"}]),
)


def said(lines: list[Line], about: str) -> list[Line]:
    return [line for line in lines if line.about == about]


@examples(1000)
@given(events, profiles)
def test_a_thousand_reminders_are_foretold_as_the_gate_decides_then(
    event: ReminderEvent, profile: RecipientProfile
) -> None:
    lines = foretell(event, profile, HERE, NOW)
    assert all(line.words.endswith(".") and "no more words" not in line.words for line in lines), lines
    assert {"intake", "time", "deadline", "category", "failures", "not known here"} <= {line.about for line in lines}
    assert all(said(lines, f"step {n}") for n in range(1, len(event.steps) + 1))
    assert event.steps or said(lines, "contacts")
    assert bool(event.template) == bool(said(lines, "template"))
    anna = Gate(profile, now=event.at or 0)
    assert HERE.shelf is not None
    anna.work.templates.replace(HERE.shelf.all())
    channel = event.steps[0].channel if event.steps else Channel.ANY
    content = Sealed(0, codec.encode(Content("", event.text, event.data)))
    sent, told = anna.ask(
        "r", channel=channel, category=event.category, template=event.template, sealed=content, due_at=event.at
    )
    first = said(lines, "step 1" if event.steps else "contacts")
    if sent is not None:
        # It was sent where nothing else was foretold of that channel, or of another one before it.
        assert any(line.rule == "consent" for line in first)
        return
    assert told is not None
    match told.reason:
        case "no_contact":
            assert any("no contact" in line.words or "no provider" in line.words for line in first)
        case "channel_not_configured":
            assert any("no provider" in line.words for line in first)
        case "unknown_template" | "template_variable_missing":
            assert said(lines, "template")[0].words.startswith("other:" if event.template == "other" else "visit@1.")
            assert (told.outcome is OutcomeKind.HELD) == (event.template == "other")
        case reason:
            assert reason in {line.rule for line in first}, (reason, lines)


def test_what_only_others_can_know_is_named() -> None:
    lines = foretell(ReminderEvent("r", "anna", local="2027-01-05T09:30", text="x"), None, HERE, NOW)
    assert "PENDING" in said(lines, "time")[0].words
    assert "--for" in said(lines, "contacts")[0].words
    series = ReminderEvent(
        "r", "anna", local="2027-01-05T09:30", zone="Europe/Vienna", rrule="FREQ=DAILY", text="x", version=7,
        policy=Policy(max_attempts=2, max_lateness_s=60),
    )  # fmt: skip
    lines = foretell(series, None, HERE, NOW)
    assert [line.words[:25] for line in said(lines, "time")] == [
        "It fires 2027-01-05 09:30",
        "It fires 2027-01-06 09:30",
        "It fires 2027-01-07 09:30",
        "And again, by its rule.",
    ]
    assert "60 s" in said(lines, "deadline")[0].words
    assert "2 times" in said(lines, "failures")[0].words
    assert "version 7" in said(lines, "version")[0].words
    assert said(foretell(ReminderEvent("r", action=Action.CANCEL), None, HERE, NOW), "effect")
    past = foretell(ReminderEvent("r", "anna", at=NOW - HOUR, text="x"), None, HERE, NOW)
    assert "past" in said(past, "time")[0].words


def test_prices_and_their_order_are_foretold() -> None:
    anna = RecipientProfile(zone="UTC", contacts=tuple(Contact(c, ADDRESSES[c]) for c in (Channel.SMS, Channel.EMAIL)))
    prices = Prices("EUR", {(Channel.SMS, "twilio", "US"): 8_000, (Channel.EMAIL, "*", "*"): 400})
    here = Installation(
        Categories({"general": Category(cheaper_first=True)}),
        prices=prices,
        providers={Channel.SMS: ("twilio",), Channel.EMAIL: ("smtp",)},
    )
    event = ReminderEvent("r", "anna", at=NOW + HOUR, text="x", policy=Policy(max_cost_micros=500))
    told = [(line.words, line.rule) for line in said(foretell(event, anna, here, NOW), "contacts")]
    assert told[0] == ("EMAIL, the cheaper first.", "cheaper_first")
    assert ("EMAIL costs 0.0004 EUR, and it may cost 0.0005 EUR.", "PRICES_FILE") in told
    assert ("SMS costs 0.008 EUR a part, and it may cost 0.0005 EUR.", "PRICES_FILE") in told
    assert "too_dear" in {rule for _, rule in told}


@pytest.mark.parametrize(
    ("event", "words", "rule"),
    [
        (ReminderEvent("r", "anna", at=NOW, text="x", category="pills"), "for up to 60 s", "digest_window_s"),
        (ReminderEvent("r", "anna", at=NOW, text="x", category="capped"), "cap keeps it back", "caps"),
        (
            ReminderEvent("r", "anna", at=NOW, text="x", category="pills", priority=Priority.URGENT),
            "urgent",
            "digest_window_s",
        ),
        (
            ReminderEvent("r", "anna", at=NOW, text="x", category="pills", policy=Policy(nag_every_s=600)),
            "wants an answer",
            "digest_window_s",
        ),
        (
            ReminderEvent("r", at=NOW, text="x", category="pills", steps=(Step(Channel.EMAIL, address="a@b.example"),)),
            "names no recipient",
            "digest_window_s",
        ),
    ],
)
def test_a_digest_is_foretold(event: ReminderEvent, words: str, rule: str) -> None:
    here = Installation(Categories({"pills": Category(digest_window_s=60), "capped": Category(caps=Caps.DIGEST)}))
    (line,) = said(foretell(event, None, here, NOW), "digest")
    assert words in line.words
    assert line.rule == rule
    assert not said(foretell(ReminderEvent("r", "anna", at=NOW, text="x"), None, here, NOW), "digest")


def invoke(*args: str, stdin: str = "", env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["validate", *args], input=stdin, env=env or {})


def test_the_command_says_it_in_words_and_in_json(tmp_path: Path) -> None:
    event = json.dumps(
        {"reminder_id": "r", "recipient_id": "anna", "local": "2036-12-01T23:00", "zone": "Europe/Vienna", "text": "x",
         "category": "offers"}
    )  # fmt: skip
    recipient = tmp_path / "anna.json"
    recipient.write_text(
        json.dumps(
            {"recipient_id": "anna", "zone": "Europe/Vienna", "quiet": ["22:00-07:00"],
             "contacts": [{"channel": "EMAIL", "address": "anna@people.example"}]}
        )
    )  # fmt: skip
    result = invoke("-", "--why", "--for", str(recipient), stdin=event)
    assert result.exit_code == 0, result.output
    assert "It is HELD until 2036-12-02 07:00" in result.stdout
    assert "anna@people" not in result.stdout
    told = json.loads(invoke("-", "--why", "--json", stdin=event).stdout)
    assert (told["ok"], told["why"][0]["about"]) == (True, "intake")
    bad = invoke("-", "--why", stdin=event.replace("Europe/Vienna", "Mars"))
    assert bad.exit_code == 1
    assert "Its time zone is not known." in bad.stdout
    refused = json.loads(invoke("-", "--why", "--json", stdin=event.replace("Europe/Vienna", "Mars")).stdout)
    assert refused["why"] == [{"about": "intake", "words": "Its time zone is not known.", "rule": "checks"}]


@pytest.mark.parametrize(
    ("args", "said_"),
    [
        (("--for", "FILE"), "--for: goes with --why"),
        (("--why", "--for", "FILE"), "--for: is bob, and the event is for anna"),
    ],
)
def test_a_wrong_recipient_is_refused(tmp_path: Path, args: tuple[str, ...], said_: str) -> None:
    path = tmp_path / "bob.json"
    path.write_text('{"recipient_id": "bob", "zone": "UTC"}')
    event = '{"reminder_id": "r", "recipient_id": "anna", "at": "2036-12-01T09:00:00Z", "text": "x"}'
    result = invoke("-", *(str(path) if arg == "FILE" else arg for arg in args), stdin=event)
    assert result.exit_code == 2
    assert said_ in result.stderr
