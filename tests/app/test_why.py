"""Why a reminder stands where it stands: by the real rules, for every state that they lead to."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import reasons, why
from schemas.names import Channel, OutcomeKind, State
from schemas.quick import replace
from schemas.records import DeliveryRequest, Occurrence, Policy, ReminderRow, Stages, TrailEntry
from tables import due as index
from tables import lifecycle, transition
from tables.settling import Again
from tests.rules.life import AT_NINE, NINE, RULES, T0, Reminder

TIMES = ("wanted_at", "published_at", "claimed_at", "gated_at", "queued_at", "called_at", "answered_at")


def explained(row: ReminderRow, now: int) -> why.Why:
    return why.explain(row, index.unpack(transition.header(row, RULES)), now)


@given(
    st.integers(1, 1 << 42),
    st.lists(st.integers(-5_000, 3_600_000), min_size=7, max_size=7),
    st.sets(st.sampled_from(TIMES)),
)
def test_stages_sum_to_the_whole(due_at: int, steps: list[int], untold: set[str]) -> None:
    at, times = due_at, {}
    for name, step in zip(TIMES, steps, strict=True):
        at += step
        times[name] = 0 if name in untold else at
    found = why.split(Stages(due_at, **times))
    told = [times[name] for name in TIMES if times[name]]
    assert sum(part.ms for part in found.parts) == found.total_ms == (told[-1] - due_at if told else 0)
    assert [part.at for part in found.parts] == [
        at for name, at in times.items() if at and (name != "wanted_at" or at != due_at)
    ]
    assert all(later.at - before.at == later.ms for before, later in pairwise(found.parts))


def test_without_a_due_time_it_begins_with_what_is_known() -> None:
    found = why.split(Stages(called_at=1_000, answered_at=1_250))
    assert (found.due_at, found.total_ms, [p.ms for p in found.parts]) == (1_000, 250, [0, 250])
    assert why.split(Stages()).parts == ()


def test_the_last_call_is_told_not_the_refusal_after_it() -> None:
    called = TrailEntry(
        1, 5, State.FAILED, "greylisted", attempt=1, stages=Stages(1, 1, 1, 2, 3, 3, 4, 5), channel=Channel.EMAIL
    )
    refused = TrailEntry(2, 9, State.HELD, "busy", attempt=2, stages=Stages(1, 6, 7, 8, 9, 9, 0, 9))
    found = why.lateness((called, refused))
    assert found is not None
    assert (found.attempt, found.channel, found.total_ms) == (1, Channel.EMAIL, 4)
    assert why.lateness((refused,)) is not None
    assert why.lateness(()) is None


WAY = Stages(AT_NINE, AT_NINE, AT_NINE + 5, AT_NINE + 7, AT_NINE + 20, AT_NINE + 30, AT_NINE + 40, AT_NINE + 90)


def asked() -> Reminder:
    """Return a reminder that is being sent."""
    r = Reminder()
    r.upsert(NINE)
    r.fire(AT_NINE + 7)
    return r


def told(r: Reminder) -> why.Why:
    assert r.row is not None
    return explained(r.row, r.now + 5)


def test_the_claim_says_when_it_was_wanted_and_published() -> None:
    r = Reminder()
    row = r.upsert(NINE).row
    [request] = lifecycle.fire("r1", row, AT_NINE, AT_NINE + 7, RULES, published=AT_NINE + 5).emits
    assert isinstance(request, DeliveryRequest)
    assert request.stages == Stages(AT_NINE, AT_NINE, AT_NINE + 5, AT_NINE + 7)


def test_before_its_time_and_when_it_is_asked_for() -> None:
    r = Reminder()
    r.upsert(NINE)
    found = told(r)
    assert (found.state, found.because) == (reasons.STATES[State.SCHEDULED], "A producer sent it.")
    assert (found.next, found.at, found.lateness) == ("It is sent.", AT_NINE, None)
    r = asked()
    found = told(r)
    assert (found.state, found.because) == (reasons.STATES[State.SENDING], "Its time has come.")
    assert found.next.startswith("Unless the answer comes first, the same attempt")
    assert found.at == AT_NINE + 7 + RULES.lease_ms


def test_a_failed_attempt_says_what_made_it_late() -> None:
    r = asked()
    r.now = AT_NINE + 95
    again = Again(60_000, "1m", spent=True)
    r.outcome(OutcomeKind.DEFERRED, again, reason="greylisted", channel=Channel.EMAIL, detail="RCPT: later", stages=WAY)
    found = told(r)
    assert found.because == "The server asks for a later try."
    assert (found.next, found.at) == ("Attempt 2 is made.", AT_NINE + 95 + 60_000)
    assert found.deadline == AT_NINE + RULES.max_lateness_ms
    assert found.lateness is not None
    assert (found.lateness.total_ms, [(p.stage, p.ms) for p in found.lateness.parts]) == (
        90,
        [("published", 5), ("claimed", 2), ("gated", 13), ("queued", 10), ("called", 10), ("answered", 50)],
    )
    assert why.recount(r.audit, r.now).next == "Attempt 2 is made."


def test_one_that_waits_for_others_says_so() -> None:
    r = asked()
    again = Again(60_000, "", spent=False, held=True)
    r.outcome(OutcomeKind.HELD, again, reason="digest_window", spent=False)
    found = told(r)
    assert found.because == "It waits for other reminders of its recipient, to go with them in one message."
    assert found.next == "It goes in one message with the others of its recipient that have come due by then."
    assert found.at == AT_NINE + 7 + 60_000


def test_what_was_sent_says_so_from_the_row_and_from_the_audit_topic() -> None:
    r = asked()
    r.accepted(reason="ok", channel=Channel.EMAIL, detail="DOT: the server took it", stages=WAY)
    found = told(r)
    assert (found.state, found.because) == ("The provider took it.", "The server took it. (DOT: the server took it)")
    assert found.next == "Nothing more. It is forgotten later."
    assert found.lateness is not None
    assert found.lateness.total_ms == 90
    again = why.recount(r.audit, r.now)
    assert (again.state, again.because, again.lateness) == (found.state, found.because, found.lateness)


@pytest.mark.parametrize("state", [state for state in State if state in index.STATE_CODES and state is not State.NONE])
def test_every_state_has_words(state: State) -> None:
    open_ = state in (
        *(State.PENDING, State.SCHEDULED, State.SENDING, State.SENT, State.RETRY, State.HELD, State.PAUSED),
        *(State.MAYBE_SENT, State.WITHDRAWING),
    )
    o = Occurrence("@1/PT0S", state, T0, T0 + 10, T0 + 5, reason="hold:channel:email") if open_ else None
    head = index.Header(1, index.STATE_CODES[state], 1, 1, T0 + 5, T0 + 10)
    for now in (T0, T0 + 6):
        found = why.explain(ReminderRow(open=o), head, now)
        assert found.state
        assert found.next
    if open_:
        assert found.because == "A hold on channel:email keeps it back."


def test_a_row_that_was_moved_by_its_header_says_so() -> None:
    row = asked().row
    assert row is not None
    head = index.Header(1, index.STATE_CODES[State.MAYBE_SENT], 1, 1, AT_NINE, 0)
    found = why.explain(row, head, AT_NINE)
    assert (found.state, found.because) == (reasons.STATES[State.MAYBE_SENT], reasons.LIFE["bug"])


def test_nothing_on_record() -> None:
    with pytest.raises(ValueError, match="nothing is on record"):
        why.recount([], T0)


def test_it_says_which_round_and_who_is_next() -> None:
    policy = Policy(nag_every_s=600, nag_max=1, escalate_to=("ben",))
    r = Reminder().sending(replace(NINE, recipient_id="anna", policy=policy))
    said = []
    for _ in range(3):
        r.accepted()
        said.append(told(r).next)
        assert told(r).at == r.now + 600_000
        r.fire()
        if r.row is not None and r.row.open is not None:
            r.now -= 1
            said.append(why._next(r.row, r.open, r.now - 1))
            r.now += 1
            r.fire()
    assert said == [
        "Unless an answer comes first, round 2 of 2 begins.",
        "It is sent, in round 2 of 2.",
        "Unless an answer comes first, ben is asked, person 1 of 1.",
        "It is sent, to ben, person 1 of 1.",
        "Unless an answer comes first, it ends as SENT, unanswered.",
    ]
    assert told(r).because == reasons.sentence("unanswered")


def test_from_the_audit_alone_it_says_what_may_come() -> None:
    r = Reminder().sending(replace(NINE, recipient_id="anna", policy=Policy(nag_every_s=600, nag_max=1)))
    r.accepted()
    found = why.recount(r.audit, r.now)
    assert (found.at, found.next.startswith("Unless an answer comes first")) == (r.now + 600_000, True)
