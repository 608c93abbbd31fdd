"""When a provider is asked about a doubt, and what its list says of it."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.names import AnswerKind, AttemptState, OutcomeKind, State
from schemas.quick import replace
from schemas.records import Attempt, DeliveryAnswer, RecipientDelivery
from tables import deliveries, lookup
from tables.lookup import FOUND, LOOKS_MS, NOT_FOUND, SETTLED_MS, Listed
from tables.settling import Again, Doubt
from tests.rules.life import HOUR, MINUTE, NINE, SECOND, Reminder

AT = 1_000_000
DOUBT = DeliveryAnswer(
    AnswerKind.OUTCOME,
    "r",
    attempt=1,
    outcome=OutcomeKind.MAYBE_SENT,
    reason="no_answer",
    started_at=AT,
    ended_at=AT + 5,
)


def in_doubt(to_hash: str = "1.to") -> RecipientDelivery:
    begun = Attempt(1, AttemptState.STARTED, AT, AT + 9, body_hash="1.body", to_hash=to_hash)
    return deliveries.ended(RecipientDelivery("r", "", "o", 0, 0, 1, attempts=(begun,)), 1, DOUBT, AT + 5)


def test_a_doubt_is_looked_up_three_times_and_then_the_row_is_kept_as_ever() -> None:
    row, times = in_doubt(), []
    while (at := lookup.next_look(row)) is not None:
        assert deliveries.due(row, AT, HOUR) == at
        assert lookup.to_look(row, at - 1) is None
        attempt = lookup.to_look(row, at)
        assert attempt is not None
        assert lookup.last(attempt) == (len(times) == 2)
        times.append(at - DOUBT.ended_at)
        row = lookup.looked(row, attempt)
    assert tuple(times) == LOOKS_MS
    assert deliveries.due(row, AT, HOUR) == AT + HOUR
    assert lookup.window(row.attempts[0]) == (AT - 60_000, AT + 60_005)


def test_what_cannot_be_looked_up_is_not() -> None:
    assert lookup.next_look(in_doubt("")) is None
    good = replace(DOUBT, outcome=OutcomeKind.ACCEPTED)
    ended = deliveries.ended(in_doubt(), 1, good, AT)
    assert lookup.next_look(ended) is None
    assert ended.attempts[0].to_hash == ""
    assert lookup.told(DOUBT, askable=False, deadline=0) is DOUBT
    assert lookup.told(good, askable=True, deadline=0) is good


def test_nothing_is_sent_again_before_its_provider_was_asked_but_in_time_all_the_same() -> None:
    def wait(deadline: int | None) -> int:
        return lookup.told(DOUBT, askable=True, deadline=deadline).not_before - DOUBT.ended_at

    assert wait(0) == SETTLED_MS
    assert wait(DOUBT.ended_at + HOUR) == SETTLED_MS
    assert wait(DOUBT.ended_at + 5 * MINUTE) == 5 * MINUTE - 30 * SECOND
    assert wait(DOUBT.ended_at + SECOND) == 0
    assert wait(None) == 150 * SECOND, "whoever takes over does not know its deadline"


ME, OTHER, SILENT = Listed("SM1", AT, "mine"), Listed("SM2", AT, "other"), Listed("SM3", AT, None)


def test_the_words_tell_which_it_is_and_what_is_unclear_stays_so() -> None:
    def found(*listed: Listed, body: str = "mine", others: frozenset[str] = frozenset()) -> Listed | bool | None:
        return lookup.found(listed, body, lambda words: words, others)

    assert found() is None
    assert found(OTHER, ME) is ME
    assert found(OTHER) is True, "its provider may have changed the words"
    assert found(OTHER, others=frozenset({"SM2"})) is None
    assert found(ME, others=frozenset({"SM1"})) is None, "it is another delivery's"
    assert found(SILENT) is True
    assert found(SILENT, body="") is SILENT
    assert found(SILENT, OTHER, body="") is True
    assert found(SILENT, OTHER, body="", others=frozenset({"SM2"})) is SILENT


@given(st.lists(st.sampled_from([ME, OTHER, SILENT]), max_size=4), st.sampled_from(["mine", ""]), st.booleans())
def test_nothing_is_called_absent_while_something_unexplained_is_there(
    listed: list[Listed], body: str, known: bool
) -> None:
    others = frozenset({"SM2"}) if known else frozenset()
    found = lookup.found(listed, body, lambda words: words, others)
    assert (found is None) == all(one.provider_id in others for one in listed)


def test_what_its_provider_has_is_sent_and_what_it_has_not_stays_a_doubt() -> None:
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason="no_answer")
    r.now += 30 * SECOND
    r.accepted(reason=FOUND)
    assert (r.state, r.reason) == (State.SENT, FOUND)
    r = Reminder().sending()
    r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason="no_answer")
    due = r.open.due
    for _ in range(2):
        r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason=NOT_FOUND)
    assert (r.state, r.open.reason, r.open.due) == (State.MAYBE_SENT, NOT_FOUND, due)
    assert [entry.reason for entry in r.audit].count(NOT_FOUND) == 1


def test_what_is_to_be_sent_again_is_not_once_it_is_found() -> None:
    r = Reminder().sending(NINE)
    r.outcome(OutcomeKind.MAYBE_SENT, Again(11 * MINUTE, "10m", spent=True), reason="no_answer")
    assert (r.state, r.open.due) == (State.RETRY, r.now + 11 * MINUTE)
    r.now += MINUTE
    r.accepted(attempt=1, reason=FOUND)
    assert (r.state, r.reason) == (State.SENT, FOUND)
