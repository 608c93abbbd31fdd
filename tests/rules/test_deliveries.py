"""What delivery remembers, and that nothing is called twice by it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import AnswerKind, AttemptState, Channel, OutcomeKind, RequestKind
from schemas.records import Delivery, DeliveryAnswer, DeliveryRequest, RecipientDelivery
from tables import deliveries
from tables.deliveries import NOTHING
from tests.rules.life import DAY, HOUR, MINUTE, SECOND, T0, examples

OLDEST = T0 - DAY
REQUEST = DeliveryRequest(
    RequestKind.DELIVER, "r1", "anna", "@1/PT0S", attempt=1, ask=1, asked_at=T0, due_at=T0, deadline=T0 + DAY
)
WITHDRAW = replace(REQUEST, kind=RequestKind.WITHDRAW, ask=2)
NEW = deliveries.new(REQUEST, T0)


def delivery(ask: int = 1, attempt: int = 1) -> Delivery:
    return Delivery(deliveries.delivery_id(NEW), "r1", "@1/PT0S", Channel.EMAIL, "anna", attempt=attempt, ask=ask)


def asked(row: RecipientDelivery = NEW, ask: int = 1, attempt: int = 1) -> RecipientDelivery:
    verdict = deliveries.ask(row, replace(REQUEST, ask=ask, attempt=attempt), T0, OLDEST)
    assert verdict.row is not None
    return verdict.row


def begun(row: RecipientDelivery | None = None, attempt: int = 1) -> RecipientDelivery:
    row = row or asked()
    return deliveries.started(row, delivery(row.ask, attempt), T0 + SECOND, T0 + MINUTE)


def ended(
    kind: OutcomeKind = OutcomeKind.ACCEPTED, row: RecipientDelivery | None = None, attempt: int = 1, ask: int = 1
) -> RecipientDelivery:
    outcome = deliveries.answer(delivery(ask, attempt), "d", kind, "", T0 + 2, started_at=T0 + 1)
    return deliveries.ended(row or begun(), attempt, outcome, T0 + 2)


def unspent(kind: OutcomeKind = OutcomeKind.DEFERRED, ask: int = 1) -> RecipientDelivery:
    outcome = deliveries.answer(delivery(ask), "d", kind, "", T0 + 2, spent=False)
    return deliveries.ended(asked(ask=ask), 1, outcome, T0 + 2)


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_first_request_goes_on_to_its_channel() -> None:
    verdict = deliveries.ask(NEW, REQUEST, T0, OLDEST)
    assert (verdict.proceed, verdict.answers) == (True, ())
    assert verdict.row is not None
    assert verdict.row.ask == 1
    known = deliveries.attempt_of(verdict.row, 1)
    assert known is not None
    assert known.state is AttemptState.ASKED


def test_a_second_copy_of_a_request_does_nothing() -> None:
    assert deliveries.ask(asked(), REQUEST, T0, OLDEST) == NOTHING
    assert deliveries.ask(begun(), REQUEST, T0, OLDEST) == NOTHING
    # So it is where a newer release says of the attempt what this one does not know.
    known = deliveries.attempt_of(asked(), REQUEST.attempt)
    assert known is not None
    row = deliveries.with_attempt(asked(), replace(known, state=AttemptState.UNKNOWN))
    assert deliveries.ask(row, REQUEST, T0, OLDEST) == NOTHING


def test_an_older_ask_does_nothing() -> None:
    assert deliveries.ask(asked(ask=3), replace(REQUEST, ask=2), T0, OLDEST) == NOTHING


@pytest.mark.parametrize("ask", [1, 2])
def test_a_withdrawn_ask_does_nothing(ask: int) -> None:
    row = deliveries.withdraw(NEW, WITHDRAW, T0).row
    assert row is not None
    assert deliveries.ask(row, replace(REQUEST, ask=ask), T0, OLDEST) == NOTHING


def test_the_ask_after_a_withdrawal_is_served() -> None:
    row = deliveries.withdraw(asked(), WITHDRAW, T0).row
    assert row is not None
    assert deliveries.ask(row, replace(REQUEST, ask=3), T0, OLDEST).proceed


def test_an_ask_renewed_while_the_call_goes_on_waits_for_its_outcome() -> None:
    verdict = deliveries.ask(begun(), replace(REQUEST, ask=2), T0, OLDEST)
    assert (verdict.proceed, verdict.answers) == (False, ())
    assert verdict.row is not None
    assert verdict.row.ask == 2


def test_an_attempt_that_has_ended_is_answered_from_its_record() -> None:
    row = ended()
    for ask in (1, 2):
        verdict = deliveries.ask(row, replace(REQUEST, ask=ask), T0, OLDEST)
        assert not verdict.proceed
        assert [(a.outcome, a.ask) for a in verdict.answers] == [(OutcomeKind.ACCEPTED, ask)]


def test_an_attempt_that_was_not_spent_is_made_when_it_is_asked_for_again() -> None:
    row = unspent()
    assert not deliveries.ask(row, REQUEST, T0, OLDEST).proceed, "the same ask has its answer"
    assert deliveries.ask(row, replace(REQUEST, ask=2), T0, OLDEST).proceed


def test_a_request_whose_record_may_be_purged_is_asked_for_anew() -> None:
    verdict = deliveries.ask(NEW, replace(REQUEST, asked_at=OLDEST - 1), T0, OLDEST)
    assert not verdict.proceed
    assert [(a.outcome, a.reason, a.spent) for a in verdict.answers] == [(OutcomeKind.HELD, "stale_ask", False)]
    assert verdict.row is not None
    assert deliveries.ask(verdict.row, replace(REQUEST, ask=2, asked_at=T0), T0, OLDEST).proceed


@pytest.mark.parametrize(
    ("kind", "spent"),
    [
        (OutcomeKind.DEFERRED, False),
        (OutcomeKind.HELD, False),
        (OutcomeKind.MISCONFIGURED, False),
        (OutcomeKind.UNDELIVERABLE, True),
        (OutcomeKind.REJECTED, True),
        (OutcomeKind.SKIPPED, True),
    ],
)
def test_what_is_refused_without_a_call_is_spent_only_if_it_is_final(kind: OutcomeKind, spent: bool) -> None:
    assert deliveries.answer(REQUEST, "d", kind, "", T0).spent is spent
    assert deliveries.answer(REQUEST, "d", kind, "", T0, started_at=T0).spent
    assert deliveries.answer(REQUEST, "d", kind, "", T0, spent=not spent).spent is not spent


# -- withdrawals -------------------------------------------------------------------------------------------------------


def test_a_withdrawal_of_what_never_arrived_is_answered_and_remembered() -> None:
    verdict = deliveries.withdraw(NEW, WITHDRAW, T0)
    assert [(a.kind, a.ask, a.delivery_id) for a in verdict.answers] == [
        (AnswerKind.WITHDRAWN, 2, deliveries.delivery_id(NEW))
    ]
    assert verdict.row is not None
    assert verdict.row.withdrawn == 2


def test_a_withdrawal_before_the_call_stops_it() -> None:
    verdict = deliveries.withdraw(asked(), WITHDRAW, T0)
    assert [a.kind for a in verdict.answers] == [AnswerKind.WITHDRAWN]
    assert not deliveries.may_start(verdict.row, delivery())


def test_a_withdrawal_during_the_call_waits_for_what_becomes_of_it() -> None:
    verdict = deliveries.withdraw(begun(), WITHDRAW, T0)
    assert verdict.answers == ()
    row = verdict.row
    assert row is not None
    assert not deliveries.owes_withdrawal(row)
    assert deliveries.owes_withdrawal(ended(row=row))


def test_a_withdrawal_after_the_call_is_told_what_became_of_it_first() -> None:
    verdict = deliveries.withdraw(ended(), WITHDRAW, T0)
    assert [(a.kind, a.outcome) for a in verdict.answers] == [
        (AnswerKind.OUTCOME, OutcomeKind.ACCEPTED),
        (AnswerKind.WITHDRAWN, OutcomeKind.NONE),
    ]


def test_an_earlier_call_in_doubt_does_not_hide_a_later_one_in_flight() -> None:
    row = begun(asked(begun(), ask=2, attempt=2), attempt=2)
    doubt = deliveries.doubt(row, row.attempts[0], T0 + MINUTE)
    row = deliveries.ended(row, 1, doubt, T0 + MINUTE)
    assert [a.attempt for a in row.attempts] == [1, 2]
    verdict = deliveries.withdraw(row, replace(WITHDRAW, ask=3), T0)
    assert verdict.answers == ()
    assert verdict.row is not None
    assert not deliveries.owes_withdrawal(verdict.row)


def test_withdrawals_only_grow() -> None:
    row = deliveries.withdraw(NEW, replace(WITHDRAW, ask=9), T0).row
    assert row is not None
    again = deliveries.withdraw(row, WITHDRAW, T0)
    assert again.row is not None
    assert again.row.withdrawn == 9
    assert [a.ask for a in again.answers] == [9]


# -- calls -------------------------------------------------------------------------------------------------------------


def test_a_call_begins_once() -> None:
    assert deliveries.may_start(asked(), delivery())
    assert not deliveries.may_start(begun(), delivery())
    assert not deliveries.may_start(ended(), delivery())
    assert not deliveries.may_start(None, delivery())


def test_a_queue_longer_than_a_lease_is_served_all_the_same() -> None:
    row = asked(asked(), ask=2)
    assert deliveries.may_start(row, delivery(1)), "the older copy stands further ahead"
    assert deliveries.may_start(row, delivery(2))
    assert not deliveries.may_start(row, delivery(3))
    row = begun(row)
    assert not deliveries.may_start(row, delivery(2))


def test_no_call_begins_for_a_withdrawn_copy() -> None:
    row = deliveries.withdraw(asked(), WITHDRAW, T0).row
    assert row is not None
    row = asked(row, ask=3)
    assert not deliveries.may_start(row, delivery(1))
    assert deliveries.may_start(row, delivery(3))


def test_a_call_that_is_never_heard_of_again_is_a_doubt() -> None:
    row = begun()
    assert deliveries.overdue(row, T0 + MINUTE - 1) is None
    late = deliveries.overdue(row, T0 + MINUTE)
    assert late is not None
    answer = deliveries.doubt(row, late, T0 + MINUTE)
    assert (answer.outcome, answer.attempt, answer.ask, answer.spent) == (OutcomeKind.MAYBE_SENT, 1, 1, True)
    assert (answer.channel, answer.started_at) == (Channel.EMAIL, T0 + SECOND)
    assert deliveries.overdue(deliveries.ended(row, 1, answer, T0 + MINUTE), T0 + DAY) is None


def test_a_lost_call_that_may_be_repeated_is_only_late() -> None:
    row = begun()
    answer = deliveries.doubt(row, row.attempts[0], T0 + MINUTE, repeatable=True)
    assert (answer.outcome, answer.reason, answer.spent) == (OutcomeKind.DEFERRED, "no_outcome", True)


def test_a_row_is_due_when_its_call_should_have_ended_else_when_it_is_purged() -> None:
    assert deliveries.due(begun(), T0, HOUR) == T0 + MINUTE
    assert deliveries.due(ended(), T0, HOUR) == T0 + HOUR


def test_the_last_attempts_are_remembered() -> None:
    row = NEW
    for attempt in range(1, 20):
        row = asked(row, ask=attempt, attempt=attempt)
    assert [a.attempt for a in row.attempts] == list(range(20 - deliveries.KEPT_ATTEMPTS, 20))


# -- whatever comes ----------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "again", "next", "withdraw", "start", "end", "fail", "unspent", "doubt"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@examples(400)
@given(STEPS)
def test_no_attempt_is_called_twice_and_none_after_its_withdrawal_is_answered(steps: list[tuple[str, int]]) -> None:
    row, ask, attempt = NEW, 0, 1
    queue: list[Delivery] = []
    requests: list[DeliveryRequest] = []
    called: set[int] = set()
    dead = 0

    def answered(answers: tuple[DeliveryAnswer, ...]) -> int:
        return max((a.ask for a in answers if a.kind is AnswerKind.WITHDRAWN), default=0)

    for what, choice in steps:
        flying = next((a for a in row.attempts if a.state is AttemptState.STARTED), None)
        match what:
            case "ask" | "again" | "next":
                if what == "next" and (known := deliveries.attempt_of(row, attempt)) is not None:
                    attempt += known.outcome is not None and known.outcome.spent
                if what == "again" and requests:
                    request = requests[choice % len(requests)]
                else:
                    ask += 1
                    request = replace(REQUEST, ask=ask, attempt=attempt)
                    requests.append(request)
                verdict = deliveries.ask(row, request, T0, OLDEST)
                row = verdict.row or row
                if verdict.proceed:
                    queue.append(delivery(request.ask, request.attempt))
            case "withdraw":
                ask += 1
                verdict = deliveries.withdraw(row, replace(WITHDRAW, ask=ask, attempt=attempt), T0)
                row = verdict.row or row
                dead = max(dead, answered(verdict.answers))
            case "start" if queue:
                d = queue[choice % len(queue)]
                if deliveries.may_start(row, d):
                    assert d.ask > dead
                    assert d.attempt not in called
                    row = deliveries.started(row, d, T0, T0 + MINUTE)
            case "end" | "fail" | "unspent" | "doubt" if flying is not None:
                kind = {"end": OutcomeKind.ACCEPTED, "doubt": OutcomeKind.MAYBE_SENT}.get(what, OutcomeKind.DEFERRED)
                outcome = deliveries.answer(
                    delivery(row.ask, flying.attempt), "d", kind, "", T0, started_at=T0, spent=what != "unspent"
                )
                if what != "unspent":
                    called.add(flying.attempt)
                row = deliveries.ended(row, flying.attempt, outcome, T0)
                if deliveries.owes_withdrawal(row):
                    dead = max(dead, row.withdrawn)
        assert deliveries.due(row, T0, HOUR) > 0
