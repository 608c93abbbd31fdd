"""Cases of other systems that are about order: O-12, O-31 and O-32, through the whole pipeline."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.names import Channel, MaybeSent, OutcomeKind, State
from schemas.records import Definition, RowStep
from tables import transition
from tables.transition import Rules
from tests.rules.life import DAY, EMAIL, HOUR, SECOND
from tests.rules.model import EPOCH, Fate, World, cancel, upsert

CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "cases.json").read_text())}
#: 09:00 on the day that the cases speak of, and a day later.
NINE = EPOCH + 9 * HOUR
TEN = EPOCH + 10 * HOUR
NEXT = NINE + DAY


def world() -> World:
    return World(rules=Rules(), rule=MaybeSent.HOLD)


def say(w: World, rid: str, version: int, d: Definition | None) -> None:
    if d is None:
        w.produce(cancel(rid, version), None, w.now)
    else:
        event, definition = upsert(rid, version, d)
        w.produce(event, definition, w.now)


def calls(w: World, rid: str) -> list[tuple[str, int]]:
    """Return the calls made for a reminder: of which occurrence, and when."""
    return [(c.delivery.occurrence, c.at) for c in w.made if c.delivery.reminder_id == rid]


def state(w: World, rid: str) -> State:
    row = w.row(rid)
    assert row is not None
    return transition.state(row)


def read(w: World, *topics: str) -> None:
    """Let both apps read topics to their end."""
    for topic in topics:
        app, unit = (w.core, w.core_unit) if topic in w.CORE else (w.delivery, None)
        while streams := w.waiting(app, (topic,)):
            if unit is not None:
                unit([streams[0]])
            else:
                w.delivery_unit(streams[0])


def fire(w: World, at: int) -> None:
    w.now = at
    for command in w.due_rows():
        w.core_unit([command])


# -- O-12 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queued", ["scheduled", "asked", "gated"])
@pytest.mark.parametrize("others", [0, 150])
def test_o12_a_cancel_and_a_move_half_a_second_before_the_due_time(queued: str, others: int) -> None:
    assert "cancel R for A; move R for B" in CASES["O-12"]["input"]["events"][2]
    w = world()
    a, b = (Definition(at=NINE, steps=EMAIL), Definition(at=NINE, steps=EMAIL))
    rids = ["a", "b", *(f"x{i}" for i in range(others))]
    for rid in rids:
        say(w, rid, 1, b if rid == "b" else a)
    read(w, "reminders")
    if queued != "scheduled":
        # "Already in the send queue": its due time is a second early here.
        for rid in rids:
            early = Definition(at=NINE - SECOND, steps=EMAIL)
            say(w, rid, 2, early)
        read(w, "reminders")
        fire(w, NINE - SECOND)
        if queued == "gated":
            read(w, "requests")
    w.now = NINE - SECOND // 2
    for rid in rids:
        say(w, rid, 3, replace(b, at=NEXT) if rid == "b" else None)
    read(w, "reminders")
    fire(w, NINE)
    w.settle_down()
    w.check_ends()
    assert calls(w, "b") == [(f"@{NEXT}/PT0S", NEXT)]
    assert [rid for rid in rids if rid != "b" and (calls(w, rid) or state(w, rid) is not State.CANCELLED)] == []


def test_o12_the_new_text_goes_out_with_the_new_time() -> None:
    w = world()
    say(w, "b", 1, Definition(at=NINE, steps=EMAIL, template="old"))
    read(w, "reminders")
    fire(w, NINE)
    say(w, "b", 2, Definition(at=NEXT, steps=EMAIL, template="new"))
    w.settle_down()
    asked = [r for r in w.streams["requests", "r:b"] if r.kind == "DELIVER" and r.ask > 1]
    assert {(r.template, r.occurrence) for r in asked} == {("new", f"@{NEXT}/PT0S")}


# -- O-31 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", ["before", "during", "after"])
def test_o31_one_call_whatever_is_delivered_twice(killed: str) -> None:
    wanted = CASES["O-31"]["expected"]["provider_calls"]
    assert wanted["for the first three faults together"] == 1
    w = world()
    sms = (RowStep(Channel.SMS, addressed=True),)
    say(w, "r-1", 1, Definition(at=NINE, steps=sms))
    read(w, "reminders")
    fire(w, NINE)
    for _ in range(2):
        w.streams["requests", "r:r-1"].append(w.streams["requests", "r:r-1"][0])
    read(w, "requests")
    if killed != "before":
        read(w, "channel")
        w.begin(w.calls[0])
    if killed == "after":
        w.finish(w.calls[0], OutcomeKind.ACCEPTED, Fate.LOST)
    w.kill_delivery(5, moved=False)
    w.settle_down()
    w.check_ends()
    assert len(calls(w, "r-1")) == 1
    known = {"before": State.SENT, "during": State.MAYBE_SENT, "after": State.SENT}
    assert state(w, "r-1") is known[killed]


def test_o31_the_next_occurrence_the_second_recipient_and_the_other_channel_are_calls_of_their_own() -> None:
    w = world()
    sms, email = (RowStep(Channel.SMS, addressed=True),), EMAIL
    for rid, chain in (("r-1", sms), ("second", sms), ("email", email)):
        say(w, rid, 1, Definition(at=NINE, steps=chain))
    read(w, "reminders")
    w.settle_down()
    say(w, "r-1", 2, Definition(at=NEXT, steps=sms))
    w.settle_down()
    assert calls(w, "r-1") == [(f"@{NINE}/PT0S", NINE), (f"@{NEXT}/PT0S", NEXT)]
    assert [len(calls(w, rid)) for rid in ("second", "email")] == [1, 1]


# -- O-32 --------------------------------------------------------------------------------------------------------------


def test_o32_an_old_create_does_not_revive_what_was_cancelled() -> None:
    assert CASES["O-32"]["expected"]["final"] == "cancelled, nothing sent"
    w = world()
    v1, v2 = Definition(at=NINE, steps=EMAIL), Definition(at=TEN, steps=EMAIL)
    say(w, "r", 2, v2)
    say(w, "r", 3, None)
    say(w, "r", 1, v1)
    w.settle_down()
    w.now += DAY
    say(w, "r", 2, v2)
    w.settle_down()
    w.check_ends()
    assert (state(w, "r"), calls(w, "r")) == (State.CANCELLED, [])
    assert [e.reason for e in w.audit["r"]] == ["created", "cancelled", "stale_version", "stale_version"]


def test_o32_an_update_before_its_create_is_kept_and_sent_once() -> None:
    assert CASES["O-32"]["expected"]["second"] == "due 10:00, sent once at 10:00"
    w = world()
    say(w, "r", 2, Definition(at=TEN, steps=EMAIL))
    say(w, "r", 1, Definition(at=NINE, steps=EMAIL))
    w.settle_down()
    w.check_ends()
    assert calls(w, "r") == [(f"@{TEN}/PT0S", TEN)]
    assert [e.reason for e in w.audit["r"]][:2] == ["created", "stale_version"]
