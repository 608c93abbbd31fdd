"""What delivery remembers of one delivery, and what a request, a withdrawal or the end of a call does with it. Pure.

A delivery row (``d/``) is why nothing is sent twice: asks up to ``withdrawn`` are dead, an ask older than the last is
ignored, and an attempt that has ended is answered from its record.
"""

from dataclasses import dataclass
from typing import assert_never

from schemas import ids
from schemas.names import AnswerKind, AttemptState, Channel, OutcomeKind
from schemas.quick import quicken, replace
from schemas.records import Attempt, Delivery, DeliveryAnswer, DeliveryRequest, RecipientDelivery, Stages
from tables import lookup

#: Without a call, these say nothing of the attempt: asked for again, it is looked at afresh.
_ASK_ANEW = frozenset({OutcomeKind.DEFERRED, OutcomeKind.HELD, OutcomeKind.MISCONFIGURED})

#: Attempts remembered with their outcomes; older ones can no longer be asked for.
KEPT_ATTEMPTS = 12


@quicken
@dataclass(frozen=True, slots=True)
class Verdict:
    """What a request leads to. ``row`` None: nothing to write. ``proceed``: pass the delivery on to its channel."""

    row: RecipientDelivery | None
    answers: tuple[DeliveryAnswer, ...] = ()
    proceed: bool = False


NOTHING = Verdict(None)


def delivery_id(row: RecipientDelivery) -> str:
    """Return the id of the delivery that a row remembers."""
    return ids.delivery_id(row.reminder_id, row.occurrence, row.round, row.step)


def attempt_of(row: RecipientDelivery, number: int) -> Attempt | None:
    """Return what is remembered of an attempt."""
    return next((a for a in row.attempts if a.attempt == number), None) if row.attempts else None


def with_attempt(row: RecipientDelivery, attempt: Attempt) -> RecipientDelivery:
    """Return the row with an attempt added or replaced."""
    return replace(row, attempts=_attempts(row, attempt))


def _attempts(row: RecipientDelivery, attempt: Attempt) -> tuple[Attempt, ...]:
    if not row.attempts:
        return (attempt,)
    attempts = [a for a in row.attempts if a.attempt != attempt.attempt]
    attempts.append(attempt)
    attempts.sort(key=lambda a: a.attempt)
    return tuple(attempts[-KEPT_ATTEMPTS:])


def new(request: DeliveryRequest, now: int) -> RecipientDelivery:
    """Return the row of a delivery that is asked for, or withdrawn, for the first time."""
    return RecipientDelivery(
        request.reminder_id, request.recipient_id, request.occurrence, request.round, request.step, 0, first_at=now
    )


def ask(row: RecipientDelivery, request: DeliveryRequest, now: int, oldest: int) -> Verdict:
    """Judge a request to deliver. ``oldest``: a request asked before it (ms UTC) may be one whose record is purged."""
    if request.ask <= row.withdrawn or request.ask < row.ask:
        return NOTHING
    known = attempt_of(row, request.attempt)
    if known is not None:
        match known.state:
            case AttemptState.STARTED:
                return Verdict(replace(row, ask=request.ask)) if request.ask > row.ask else NOTHING
            case AttemptState.ENDED:
                outcome = known.outcome
                if outcome is not None and (outcome.spent or outcome.ask == request.ask):
                    return Verdict(replace(row, ask=request.ask), (replace(outcome, ask=request.ask),))
            case AttemptState.ASKED | AttemptState.UNKNOWN:
                if request.ask == row.ask:
                    return NOTHING
    if request.asked_at < oldest:
        stale = answer(request, delivery_id(row), OutcomeKind.HELD, "stale_ask", now, spent=False)
        return Verdict(ended(replace(row, ask=request.ask), request.attempt, stale, now), (stale,))
    asked = Attempt(request.attempt, AttemptState.ASKED, now)
    return Verdict(replace(row, ask=request.ask, attempts=_attempts(row, asked)), proceed=True)


def withdraw(row: RecipientDelivery, request: DeliveryRequest, now: int) -> Verdict:
    """Judge a withdrawal: kill every ask up to its own, and answer unless a call has begun, whose outcome will
    answer."""
    row = replace(row, withdrawn=max(row.withdrawn, request.ask))
    if in_flight(row):
        return Verdict(row)
    last = row.attempts[-1] if row.attempts else None
    answers = [withdrawn(row, request.correlation_id, now)]
    if last is not None and last.outcome is not None and last.outcome.spent:
        answers.insert(0, last.outcome)
    return Verdict(row, tuple(answers))


def in_flight(row: RecipientDelivery) -> bool:
    """Return whether a call has begun of which nothing has been heard yet."""
    return any(a.state is AttemptState.STARTED for a in row.attempts)


def owes_withdrawal(row: RecipientDelivery) -> bool:
    """Return whether a withdrawal that found a call in flight can be answered now."""
    return row.withdrawn >= row.ask and not in_flight(row)


def withdrawn(row: RecipientDelivery, correlation_id: str, now: int) -> DeliveryAnswer:
    """Return the word that no call will begin for the asks up to the withdrawal."""
    return DeliveryAnswer(
        AnswerKind.WITHDRAWN,
        row.reminder_id,
        delivery_id(row),
        row.occurrence,
        row.round,
        row.step,
        ask=row.withdrawn,
        ended_at=now,
        correlation_id=correlation_id,
    )


def may_start(row: RecipientDelivery | None, delivery: Delivery) -> bool:
    """Return whether a channel may begin the call for a delivery: it is asked for, not withdrawn, and not begun before.

    An ask that was renewed meanwhile does not take the older copy's place in the queue: whichever comes first begins,
    or a queue longer than a lease would never be served.
    """
    if row is None or delivery.ask > row.ask or delivery.ask <= row.withdrawn:
        return False
    known = attempt_of(row, delivery.attempt)
    return known is not None and known.state is AttemptState.ASKED


def started(
    row: RecipientDelivery, delivery: Delivery, now: int, until: int, *, body_hash: str = "", to_hash: str = ""
) -> RecipientDelivery:
    """Return the row with the attempt begun; without an outcome by ``until`` it is in doubt. ``to_hash``: of its
    address, where its provider can be asked about it then; ``body_hash``: of its words."""
    row = replace(row, channel=delivery.channel, digest=delivery.digest)
    begun = Attempt(delivery.attempt, AttemptState.STARTED, now, until, body_hash=body_hash, to_hash=to_hash)
    return with_attempt(row, begun)


def ended(
    row: RecipientDelivery, number: int, outcome: DeliveryAnswer, now: int, *, body_hash: str = ""
) -> RecipientDelivery:
    """Return the row with the attempt's outcome recorded. ``body_hash``: of the words of its call, where they are not
    those that are on record."""
    known = attempt_of(row, number) if outcome.outcome is OutcomeKind.MAYBE_SENT else None
    body_hash, to_hash = (body_hash or known.body_hash, known.to_hash) if known is not None else ("", "")
    return with_attempt(row, Attempt(number, AttemptState.ENDED, now, 0, outcome, body_hash, to_hash))


def overdue(row: RecipientDelivery, now: int) -> Attempt | None:
    """Return an attempt that has begun and should have ended by now."""
    return next((a for a in row.attempts if a.state is AttemptState.STARTED and a.until <= now), None)


def due(row: RecipientDelivery, now: int, retention_ms: int) -> int:
    """Return when the row must be looked at: when a call in flight is in doubt, or the provider is asked about one
    that is, else when it is purged."""
    until = [a.until for a in row.attempts if a.state is AttemptState.STARTED]
    if (look := lookup.next_look(row)) is not None:
        until.append(look)
    return min(until) if until else now + retention_ms


def doubt(row: RecipientDelivery, attempt: Attempt, now: int, *, repeatable: bool = False) -> DeliveryAnswer:
    """Return the answer about a call that began and was never heard of again. ``repeatable``: a second copy of it does
    no harm, so it is only late."""
    return DeliveryAnswer(
        AnswerKind.OUTCOME,
        row.reminder_id,
        delivery_id(row),
        row.occurrence,
        row.round,
        row.step,
        attempt.attempt,
        row.ask,
        OutcomeKind.DEFERRED if repeatable else OutcomeKind.MAYBE_SENT,
        "no_outcome",
        row.channel,
        started_at=attempt.at,
        ended_at=now,
        stages=Stages(called_at=attempt.at, answered_at=now),
        digest=row.digest,
    )


def gated(request: DeliveryRequest, now: int) -> Stages:
    """Return the way of an attempt up to the gate's decision."""
    if request.stages is None:
        return Stages(request.due_at, claimed_at=request.asked_at, gated_at=now)
    return replace(request.stages, gated_at=now)


def _answered(asked: DeliveryRequest | Delivery, now: int, started: int) -> Stages:
    match asked:
        case DeliveryRequest():
            way = gated(asked, now)
        case Delivery():
            way = asked.stages or Stages(asked.due_at, claimed_at=asked.asked_at)
        case other:
            assert_never(other)
    return replace(way, called_at=started, answered_at=now)


def answer(
    request: DeliveryRequest | Delivery,
    delivery_id: str,
    outcome: OutcomeKind,
    reason: str,
    now: int,
    *,
    channel: Channel = Channel.ANY,
    **more: object,
) -> DeliveryAnswer:
    """Return the outcome of an attempt. Unless it says so itself, it is spent if a call was made or the answer is
    final."""
    started = more.get("started_at")
    more.setdefault("spent", bool(started) or outcome not in _ASK_ANEW)
    more.setdefault("stages", _answered(request, now, started if isinstance(started, int) else 0))
    return DeliveryAnswer(
        kind=AnswerKind.OUTCOME,
        reminder_id=request.reminder_id,
        delivery_id=delivery_id,
        occurrence=request.occurrence,
        round=request.round,
        step=request.step,
        attempt=request.attempt,
        ask=request.ask,
        outcome=outcome,
        reason=reason,
        channel=channel,
        ended_at=now,
        correlation_id=request.correlation_id,
        **more,  # type: ignore[arg-type]
    )
