"""Acts on all that match: which rows do, and that their events are no stronger than what was seen."""

from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from app import bulk_acts
from app.bulk_acts import Filter, Match
from app.cli.root import main
from schemas import codec
from schemas.checks import check_reminder
from schemas.names import Action, Channel, State
from schemas.records import Definition, ReminderEvent, ReminderRow, RowStep
from tables import lifecycle, transition
from tables.transition import Arrival, Rules

NOW = 1_795_600_000_000
DUE = NOW + 3_600_000
RULES = Rules()
D = Definition(
    "anna", at=DUE, category="visits", tenant="clinic", source="desk", steps=(RowStep(Channel.EMAIL, addressed=True),)
)


def upsert(rid: str = "clinic-1", d: Definition = D, version: int = 0) -> ReminderRow:
    event = ReminderEvent(rid, at=d.at, tenant=d.tenant, version=version)
    row = lifecycle.apply_event(rid, None, event, d, Arrival(NOW, NOW, event_id="first"), RULES).row
    assert row is not None
    return row


def act(row: ReminderRow, event: ReminderEvent, at: int) -> tuple[ReminderRow, str]:
    arrival = Arrival(NOW + 10, at, event_id=event.event_id)
    step = lifecycle.apply_event(event.reminder_id, row, event, None, arrival, RULES)
    assert step.row is not None
    return step.row, step.result


def found(row: ReminderRow, wanted: Filter, action: Action = Action.CANCEL, rid: str = "clinic-1") -> Match | None:
    return bulk_acts.match(rid.encode(), transition.header(row, RULES) + codec.encode(row), action, wanted)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Filter(tenant="clinic"), True),
        (Filter(tenant="clini"), False),
        (Filter(tenant="visits"), False),
        (Filter(category="visits"), True),
        (Filter(recipient="anna"), True),
        (Filter(source="desk"), True),
        (Filter(prefix="clinic-"), True),
        (Filter(prefix="bill-"), False),
        (Filter(tenant="clinic", category="bills"), False),
        (Filter(due_before=DUE + 1), True),
        (Filter(due_before=DUE), False),
        (Filter("clinic", "visits", "anna", "desk", "cl", DUE + 1), True),
    ],
)
def test_all_that_is_given_must_match(wanted: Filter, matches: bool) -> None:
    assert (found(upsert(), wanted) is not None) is matches


def test_only_what_the_act_would_change_matches() -> None:
    wanted, row = Filter(tenant="clinic"), upsert()
    assert [action for action in (Action.CANCEL, Action.PAUSE, Action.RESUME) if found(row, wanted, action)] == [
        Action.CANCEL, Action.PAUSE,
    ]  # fmt: skip
    paused, _ = act(row, ReminderEvent("clinic-1", action=Action.PAUSE, event_id="p"), NOW + 1)
    assert (found(paused, wanted, Action.PAUSE), found(paused, wanted, Action.RESUME) is not None) == (None, True)
    assert found(paused, wanted) is not None
    cancelled, _ = act(row, ReminderEvent("clinic-1", action=Action.CANCEL, event_id="c"), NOW + 1)
    assert found(cancelled, wanted) is None
    # What was sent, or may have been, is not touched.
    for state in (State.SENT, State.MAYBE_SENT):
        assert row.open is not None
        assert found(replace(row, open=replace(row.open, state=state)), wanted) is None


def test_what_waits_for_a_zone_is_before_no_time() -> None:
    waiting = upsert(d=replace(D, at=None, local="2027-12-01T09:00"))
    assert waiting.open is not None
    assert waiting.open.state is State.PENDING
    assert found(waiting, Filter(tenant="clinic", due_before=1 << 52)) is None
    assert found(waiting, Filter(tenant="clinic")) is not None


@pytest.mark.parametrize("version", [0, 7])
@pytest.mark.parametrize("action", [Action.CANCEL, Action.PAUSE])
def test_what_a_producer_sends_meanwhile_wins(version: int, action: Action) -> None:
    row, read_at = upsert(version=version), NOW + 5
    match = found(row, Filter(tenant="clinic"), action)
    assert match is not None
    event, at = bulk_acts.event(match, action, "me", "moved away"), bulk_acts.timestamp(match, read_at)
    assert check_reminder(event, NOW, at) is None
    assert (event.tenant, event.actor, event.text, event.version) == ("clinic", "me", "moved away", version)
    _, result = act(row, event, at)
    assert result == "applied"
    newer = ReminderEvent("clinic-1", at=DUE + 60_000, tenant="clinic", version=version and version + 1)
    arrival = Arrival(NOW + 6, read_at + 1, event_id="newer")
    step = lifecycle.apply_event("clinic-1", row, newer, replace(D, at=DUE + 60_000), arrival, RULES)
    assert step.row is not None
    after, result = act(step.row, event, at)
    assert result == "stale_version"
    assert after.open == step.row.open


def test_the_same_act_on_the_same_row_is_one_event() -> None:
    row = upsert()
    match = found(row, Filter(tenant="clinic"), Action.PAUSE)
    assert match is not None
    event = bulk_acts.event(match, Action.PAUSE, "me", "")
    assert bulk_acts.event(match, Action.PAUSE, "you", "again").event_id == event.event_id
    assert bulk_acts.event(match, Action.CANCEL, "me", "").event_id != event.event_id
    paused, _ = act(row, event, NOW + 5)
    again, result = act(paused, event, NOW + 6)
    assert result == "duplicate"
    assert (again.open, again.paused) == (paused.open, True)
    # Another row, or the same one later in its life, is acted on by another.
    resumed, _ = act(paused, ReminderEvent("clinic-1", action=Action.RESUME, event_id="r"), NOW + 7)
    later = found(resumed, Filter(tenant="clinic"), Action.PAUSE)
    assert later is not None
    assert bulk_acts.event(later, Action.PAUSE, "me", "").event_id != event.event_id


def test_a_row_of_a_faster_clock_can_be_acted_on() -> None:
    row = upsert()
    match = found(row, Filter(tenant="clinic"))
    assert match is not None
    assert bulk_acts.timestamp(match, NOW - 60_000) == NOW
    assert act(row, bulk_acts.event(match, Action.CANCEL, "", ""), NOW)[1] == "applied"


# -- the commands ------------------------------------------------------------------------------------------------------


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args, env={"KAFKA_BOOTSTRAP": "127.0.0.1:1"})


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
def test_which_are_meant_must_be_said(command: str) -> None:
    for args, said in (
        ((), "ID: give one, or at least one of --tenant, --category"),
        (("--yes",), "ID: give one, or at least one of"),
        (("clinic-1", "--tenant", "clinic"), "ID and --tenant: give the id of one, or say which are meant"),
        (("clinic-1", "--list", "x"), "ID and --list:"),
        (("--tenant", "clinic", "--version", "3"), "--version"),
        (("--due-before", "tomorrow"), "--due-before: 'tomorrow' is no instant"),
        (("--due-before", "2026-12-01"), "--due-before: '2026-12-01' has no offset"),
        (("--tenant", "clinic", "--wait", "x"), "--wait: 'x' is no duration"),
    ):
        done = run(command, *args)
        assert (done.exit_code, said in done.output) == (2, True), (args, done.output)
    assert "no broker answers" in run(command, "--tenant", "clinic").output
