"""How providers' later news of a delivery change a reminder. Pure.

A call's outcome and the news of it come by different topics, so in any order: whichever is second finds what the first
one left.
"""

from typing import Any

from schemas import ids
from schemas.names import OutcomeKind, State
from schemas.quick import replace
from schemas.records import Closed, DeliveryAnswer, DeliveryReceipt, Occurrence, ReminderRow
from tables import insist, turns
from tables.retraction import NOT_RETRACTED, RETRACTED
from tables.settling import FAILED, HEARD, UNDELIVERED, WAITED, Again, came_through, fold, settle_withdrawing, taken
from tables.transition import (
    REACHED,
    Arrival,
    Life,
    Rules,
    Transition,
    delivery_id,
    is_replay,
    state,
    status,
    unchanged,
)

#: With these reasons a message is told of that is still on its way, or that its reader called spam.
DELAYED, COMPLAINED = "delay_told", "complaint_told"


def receipt(
    rid: str, row: ReminderRow | None, news: DeliveryReceipt, a: Arrival, rules: Rules, again: Again | None = None
) -> Transition:
    """Apply a provider's later news: good ones raise what is known (sent, then delivered), bad ones end their step.

    In whatever order news and outcomes of an attempt come, and however often, the row ends in the same state.
    ``again``: how the last step is tried again where it failed for now, None: it is not.
    """
    if is_replay(row, a):
        return unchanged(row, "replay")
    if row is None:
        return unchanged(row, "gone")
    if news.outcome is OutcomeKind.NONE:
        return _noted(rid, row, news, a, rules)
    if news.outcome not in REACHED:
        return _bad_news(rid, row, news, a, rules, again)
    o = row.open
    if o is not None and _enough_before(rid, row, o, news):
        return _earlier_step_came_through(rid, row, o, news, a, rules)
    if o is not None and delivery_id(rid, o) == news.delivery_id:
        if news.outcome is OutcomeKind.ACCEPTED and o.state is not State.MAYBE_SENT:
            # That it was taken is news only where it is in doubt, or may come to be.
            return _before_its_outcome(rid, row, o, news, a, rules)
        facts = {"provider": news.provider, "code": news.code, "detail": news.detail}
        return came_through(rid, row, o, news.outcome, "receipt", facts, a, rules)
    to = State.SENT if news.outcome is OutcomeKind.ACCEPTED else State.DELIVERED
    return fold(rid, row, news.delivery_id, to, "receipt", a, rules)


def _bad_news(
    rid: str, row: ReminderRow, news: DeliveryReceipt, a: Arrival, rules: Rules, again: Again | None
) -> Transition:
    """Apply news that an attempt has failed that its provider had taken: its step, or the occurrence, ends by it."""
    o = row.open
    if news.outcome in FAILED and any(c.delivery_id == news.delivery_id for c in row.closed):
        return _failed_after_all(rid, row, news, a, rules)
    if o is None or news.outcome not in FAILED or delivery_id(rid, o) != news.delivery_id:
        return unchanged(row, "stale")
    if o.state not in (State.SENT, State.MAYBE_SENT) or not _of_this_attempt(o, news):
        return _before_its_outcome(rid, row, o, news, a, rules)
    life = Life(rid, row, a, rules)
    if turns.awaits(o):
        # The round has ended, and the next one will come; this is one for the trail.
        life.note(o.state, "failure_told", o=o, provider=news.provider, code=news.code, detail=news.detail)
        return life.done()
    taken(life, o, news.outcome, {"provider": news.provider, "code": news.code, "detail": news.detail}, again)
    return life.done()


def _failed_after_all(rid: str, row: ReminderRow, news: DeliveryReceipt, a: Arrival, rules: Rules) -> Transition:
    """Note of an occurrence that ended as sent that its message did not arrive: a mail may bounce days later. What its
    step waited for has come, so that nothing follows; producers are told."""
    i, c = next((i, c) for i, c in enumerate(row.closed) if c.delivery_id == news.delivery_id)
    if c.state is not State.SENT or c.reason == UNDELIVERED:
        return unchanged(row, "stale")
    life = Life(rid, row, a, rules)
    folded = replace(c, reason=UNDELIVERED)
    life.row.closed = (*row.closed[:i], folded, *row.closed[i + 1 :])
    _note(life, c, UNDELIVERED, news, f"{c.occurrence}: {news.detail}")
    life.emits.append(status(rid, life.row, folded, 0))
    return life.done()


def _noted(rid: str, row: ReminderRow, news: DeliveryReceipt, a: Arrival, rules: Rules) -> Transition:
    """Write news on the trail from which nothing follows, once for each occurrence."""
    named = ids.named(news.delivery_id)
    occurrence = named[1] if named is not None else ""
    if any(entry.reason == news.detail and entry.detail == occurrence for entry in row.trail):
        return unchanged(row, "duplicate")
    found = (one for one in (row.open, *row.closed) if one is not None and one.occurrence == occurrence)
    if (of := next(found, None)) is None:
        return unchanged(row, "stale")
    life = Life(rid, row, a, rules)
    _note(life, of, news.detail, news, occurrence)
    return life.done()


def _note(life: Life, of: Occurrence | Closed, reason: str, news: DeliveryReceipt, detail: str) -> None:
    """Write news of an occurrence on the trail of a row that stays where it stands."""
    facts: dict[str, Any] = {"provider": news.provider, "code": news.code, "detail": detail}
    if (o := life.row.open) is not None:
        life.note(o.state, reason, o=o, **facts)
    else:
        life.note(state(life.row), reason, occurrence=of.occurrence, round=of.round, channel=of.channel, **facts)


def _of_this_attempt(o: Occurrence, news: DeliveryReceipt) -> bool:
    """Return whether news are about the attempt that an occurrence is at; those that name none are of the first."""
    return (news.attempt or 1) == o.attempt


def _before_its_outcome(
    rid: str, row: ReminderRow, o: Occurrence, news: DeliveryReceipt, a: Arrival, rules: Rules
) -> Transition:
    """Remember news of a call that has not answered: what it answers decides what they mean."""
    attempt = ids.attempt_id(news.delivery_id, o.attempt)
    failed = news.outcome in FAILED
    known = o.heard == attempt and (not failed or OutcomeKind(o.heard_as) in FAILED)
    if o.state is not State.SENDING or known or not _of_this_attempt(o, news):
        return unchanged(row, "stale")
    life = Life(rid, row, a, rules)
    life.row.open = replace(o, heard=attempt, heard_as=news.outcome.value, heard_reason=news.detail)
    reason = "failure_told" if failed else "receipt"
    life.note(o.state, reason, o=o, provider=news.provider, code=news.code, detail=news.detail)
    return life.done()


def _enough_before(rid: str, row: ReminderRow, o: Occurrence, news: DeliveryReceipt) -> bool:
    """Return whether news say of a step before the present one that it got what it waited for."""
    steps = turns.chain(row.definition, o)
    for n, step in enumerate(steps[: o.step]):
        if ids.delivery_id(rid, o.occurrence, o.round, n) == news.delivery_id:
            return step.wait_for in WAITED and HEARD[news.outcome] >= WAITED[step.wait_for]
    return False


def _earlier_step_came_through(
    rid: str, row: ReminderRow, o: Occurrence, news: DeliveryReceipt, a: Arrival, rules: Rules
) -> Transition:
    """Stop what was to follow a step of which it is heard late that it reached its recipient."""
    facts: dict[str, Any] = {"provider": news.provider, "code": news.code, "detail": news.detail}
    life = Life(rid, row, a, rules)
    match o.state:
        case State.WITHDRAWING:
            return settle_withdrawing(life, row, o, news.outcome, "receipt", facts)
        case State.SENDING | State.SCHEDULED | State.RETRY | State.HELD:
            life.kill()
            insist.chain_ended(life, State.DELIVERED, "receipt", facts)
        case State.SENT | State.MAYBE_SENT if turns.awaits(o):
            if not insist.raised(life, State.DELIVERED, facts):
                return unchanged(row, "stale")
        case State.SENT | State.MAYBE_SENT:
            insist.chain_ended(life, State.DELIVERED, "receipt", facts)
        case _:
            return unchanged(row, "stale")
    return life.done()


def retracted(rid: str, row: ReminderRow | None, answer: DeliveryAnswer, a: Arrival, rules: Rules) -> Transition:
    """Note what became of taking a message back; nothing else follows from it."""
    if is_replay(row, a):
        return unchanged(row, "replay")
    if row is None:
        return unchanged(row, "gone")
    life = Life(rid, row, a, rules)
    life.note(
        life.state(),
        RETRACTED if answer.outcome is OutcomeKind.ACCEPTED else NOT_RETRACTED,
        o=row.open,
        provider=answer.provider,
        code=answer.code,
        detail=f"{answer.channel.value}: {answer.reason}",
    )
    return life.done()
