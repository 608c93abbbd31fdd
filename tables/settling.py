"""How delivery's answers change a reminder: outcomes, withdrawals, receipts, profiles, retries. Pure."""

from dataclasses import dataclass
from typing import Any, assert_never

from schemas import ids
from schemas.names import (
    Channel,
    OutcomeKind,
    State,
    WaitFor,
    Withdrawal,
)
from schemas.quick import replace
from schemas.records import (
    Definition,
    DeliveryAnswer,
    Occurrence,
    ReminderRow,
    RetryRecord,
)
from tables import actions, erasure, insist, lookup, reach, schedule, series, turns
from tables.transition import (
    MOVED,
    REACHED,
    Arrival,
    Letter,
    Life,
    Retry,
    Rules,
    Transition,
    delivery_id,
    is_replay,
    may_have_been_asked,
    start_step,
    state,
    status,
    step_channel,
    unchanged,
)

#: New time zone data have moved it.
TZ_MOVED = "tz_moved"
#: With this reason delivery skips a call whose ask was withdrawn at the last moment.
WITHDRAWN = "withdrawn"

#: With this reason a receiver says at once that its message was acknowledged.
ACKNOWLEDGED = "acknowledged"

#: With this reason a step ends, or the occurrence, of which the provider told later that it could not be delivered.
UNDELIVERED = "undelivered"
#: News that a message which the provider had taken has failed.
FAILED = frozenset(
    {
        OutcomeKind.REJECTED,
        OutcomeKind.DEFERRED,
        OutcomeKind.UNDELIVERABLE,
        OutcomeKind.OPTED_OUT,
        OutcomeKind.MISCONFIGURED,
        OutcomeKind.MAYBE_SENT,
    }
)

#: What a step must hear of before it is done, by rank; an outcome of the same rank or a higher one ends it.
WAITED: dict[WaitFor, int] = {WaitFor.DELIVERED: 2, WaitFor.READ: 3, WaitFor.ACKNOWLEDGED: 4}
TAKEN = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.MAYBE_SENT})
HEARD: dict[OutcomeKind, int] = {OutcomeKind.ACCEPTED: 1, OutcomeKind.DELIVERED: 2, OutcomeKind.READ: 3}


@dataclass(frozen=True, slots=True)
class Succeed:
    """The provider took it, or more."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try the same step again after ``wait_ms``. ``spent``: the attempt counts. ``held``: it was held, not failed."""

    wait_ms: int
    tier: str
    spent: bool
    held: bool = False


@dataclass(frozen=True, slots=True)
class NextStep:
    """This step has failed for good; the next one starts now."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No step is left."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skip:
    """It must not be sent any more."""

    state: State


@dataclass(frozen=True, slots=True)
class Doubt:
    """Nobody can know whether it was sent; a person decides."""


Verdict = Succeed | Again | NextStep | GiveUp | Skip | Doubt


def concerns(row: ReminderRow | None, answer: DeliveryAnswer) -> bool:
    """Return whether an answer is about the step and attempt that the open occurrence is at."""
    o = row.open if row is not None else None
    return o is not None and (o.occurrence, o.round, o.step, o.attempt) == (
        answer.occurrence,
        answer.round,
        answer.step,
        answer.attempt,
    )


def withdrawn(rid: str, row: ReminderRow | None, answer: DeliveryAnswer, a: Arrival, rules: Rules) -> Transition:
    """Apply delivery's word that no call will begin for the asks up to ``answer.ask``."""
    if is_replay(row, a):
        return unchanged(row, "replay")
    o = row.open if row is not None else None
    if row is None or o is None or o.state is not State.WITHDRAWING or answer.ask < o.ask:
        return unchanged(row, "stale")
    if (o.occurrence, o.round, o.step) != (answer.occurrence, answer.round, answer.step):
        # The number was used before, by a unit that died: that withdrawal was about another delivery.
        return unchanged(row, "stale")
    life = Life(rid, row, a, rules)
    match o.withdrawal:
        case Withdrawal.CANCEL:
            life.cancel()
        case Withdrawal.EXPIRE:
            life.close(State.EXPIRED, o.reason)
        case Withdrawal.REPLACE:
            life.open(reason="rescheduled", anew=True, anyway=o.reason == MOVED)
        case Withdrawal.PAUSE:
            actions.paused(life)
        case Withdrawal.SNOOZE:
            actions.again(life, o, o.snoozed_to)
        case Withdrawal.ACKNOWLEDGE:
            insist.acknowledged(life)
        case Withdrawal.CANCEL_ONE:
            life.close(State.CANCELLED, "cancelled")
        case Withdrawal.SUPERSEDE:
            life.close(State.SKIPPED, o.reason)
        case Withdrawal.ERASE:
            erasure.ended(life, State.CANCELLED)
        case Withdrawal.NONE | Withdrawal.UNKNOWN:
            raise ValueError("a withdrawal without a reason")
        case other:
            assert_never(other)
    return life.done()


def settle(
    rid: str,
    row: ReminderRow | None,
    answer: DeliveryAnswer,
    verdict: Verdict,
    a: Arrival,
    rules: Rules,
    again: Again | None = None,
) -> Transition:
    """Apply the outcome of an attempt, judged by the retry rules. ``again``: how its step is tried again where news of
    a passing failure have come before."""
    if is_replay(row, a):
        return unchanged(row, "replay")
    if row is None:
        return unchanged(row, "gone")
    o = row.open
    if o is None or not concerns(row, answer):
        return _late_outcome(rid, row, answer, a, rules)
    facts = _facts(answer, o)
    life = Life(rid, row, a, rules)
    if o.state is State.WITHDRAWING:
        return settle_withdrawing(life, row, o, answer.outcome, answer.reason, facts)
    if o.state is State.MAYBE_SENT:
        # A late outcome corrects a doubt, but only good news does.
        return _late_outcome(rid, row, answer, a, rules)
    if o.state is not State.SENDING or (not answer.spent and answer.ask < o.ask):
        return unchanged(row, "stale")
    match verdict:
        case Succeed() | Doubt() if answer.outcome in TAKEN and _told_before(o, answer):
            # Its provider took it, for it has sent news of it.
            taken(life, o, OutcomeKind(o.heard_as), facts | {"detail": o.heard_reason}, again)
        case Succeed():
            succeed(life, o, answer.outcome, answer.reason, facts)
        case Again():
            _again(life, o, answer, verdict, facts)
        case NextStep():
            _next_step(life, o, answer, facts)
        case GiveUp(reason):
            _give_up(life, o, answer.reason, reason, facts)
        case Skip() if answer.reason == WITHDRAWN:
            # Whoever withdrew it, it was not this row: a unit that died, or an UPSERT that has changed the text since.
            life.move(State.HELD, WITHDRAWN, due=a.now)
            life.tell(facts)
        case Skip(to):
            _skip(life, o, to, answer, facts)
        case Doubt():
            insist.doubted(life, answer.reason, facts)
        case other:
            assert_never(other)
    return life.done()


def _next_step(life: Life, o: Occurrence, answer: DeliveryAnswer, facts: dict[str, Any]) -> None:
    life.note(State.FAILED, answer.reason, o=o, **facts)
    d = life.row.definition
    steps = turns.chain(d, o)
    channel = step_channel(d, o.step + 1) if d is not None and steps else Channel.ANY
    if not steps and answer.channel is not Channel.ANY:
        life.row.open = replace(o, tried=(*o.tried, answer.channel.value))
    start_step(life, life.row.open or o, channel, "fallback")


def _give_up(life: Life, o: Occurrence, why: str, reason: str, facts: dict[str, Any]) -> None:
    life.note(State.FAILED, why, o=o, **facts)
    if insist.chain_failed(life, for_good=False):
        return
    life.close(State.DEAD_LETTER, reason, **facts)
    if life.row.closed[-1].state is State.DEAD_LETTER:
        life.emits.append(Letter(reason, o.attempt))


def _skip(life: Life, o: Occurrence, to: State, answer: DeliveryAnswer, facts: dict[str, Any]) -> None:
    for_them = answer.outcome is OutcomeKind.OPTED_OUT or (turns.escalated(o) and to is State.SKIPPED)
    if for_them and insist.others_left(life):
        life.note(State.FAILED, answer.reason, o=o, **facts)
        insist.chain_failed(life, for_good=True)
    else:
        life.close(to, answer.reason, **facts)


def _facts(answer: DeliveryAnswer, o: Occurrence) -> dict[str, Any]:
    late = answer.started_at - o.due_at if answer.started_at and o.due_at else 0
    return {
        "provider": answer.provider,
        "code": answer.code,
        "detail": answer.detail,
        "channel": answer.channel,
        "lateness_ms": max(0, late),
        "stages": answer.stages,
        "cost_micros": answer.cost_micros,
    }


def succeed(life: Life, o: Occurrence, outcome: OutcomeKind, reason: str, facts: dict[str, Any]) -> None:
    """End the step that an occurrence is at if it waited for no more than this, else let it wait for its receipt."""
    d = life.row.definition
    steps = turns.chain(d, o)
    step = steps[o.step] if o.step < len(steps) else None
    wait_for = step.wait_for if step is not None else WaitFor.ACCEPTED
    channel = facts.get("channel", Channel.ANY)
    if channel is not Channel.ANY:
        life.row.open = replace(o, channel=channel)
    to = State.SENT if outcome is OutcomeKind.ACCEPTED else State.DELIVERED
    if reason == ACKNOWLEDGED and outcome is OutcomeKind.READ and d is not None:
        insist.said(life, to)
        insist.answered(life, turns.whom(d, o))
        insist.acknowledged(life, **facts)
        return
    if HEARD[outcome] >= WAITED.get(wait_for, 1):
        insist.chain_ended(life, to, reason, facts)
        return
    insist.said(life, to)
    wait_ms = step.within_s * 1000 if step is not None and step.within_s else life.rules.receipt_wait_ms
    life.move(State.SENT, reason, due=life.now + wait_ms)
    life.tell(facts)


def _again(life: Life, o: Occurrence, answer: DeliveryAnswer, verdict: Again, facts: dict[str, Any]) -> None:
    if verdict.held and insist.passed_over(life, life.now + verdict.wait_ms):
        life.note(State.FAILED, answer.reason, o=o, **facts)
        insist.chain_failed(life, for_good=True)
        return
    if verdict.held:
        life.move(State.HELD, answer.reason, due=life.now + verdict.wait_ms)
        life.tell(facts)
        return
    life.note(State.FAILED, answer.reason, o=o, **facts)
    _try_again(life, o, answer.reason, answer.channel, verdict)


def _try_again(life: Life, o: Occurrence, reason: str, channel: Channel, verdict: Again) -> None:
    due = life.now + verdict.wait_ms
    attempt = o.attempt + 1 if verdict.spent else o.attempt
    life.move(State.RETRY, reason, due=due, attempt=attempt)
    record = RetryRecord(
        life.rid,
        o.occurrence,
        o.round,
        o.step,
        attempt,
        due,
        reason,
        channel,
        life.now,
        life.row.definition.correlation_id if life.row.definition else "",
    )
    life.emits.append(Retry(verdict.tier, record))


def settle_withdrawing(
    life: Life, row: ReminderRow, o: Occurrence, outcome: OutcomeKind, reason: str, facts: dict[str, Any]
) -> Transition:
    """Apply what became of a call that had begun before its withdrawal arrived."""
    if outcome is OutcomeKind.MAYBE_SENT:
        became = State.MAYBE_SENT
    elif outcome in REACHED:
        became = State.SENT if outcome is OutcomeKind.ACCEPTED else State.DELIVERED
    else:
        return unchanged(row, "awaits_withdrawal")
    if _stays(row.definition, o):
        _came_of_it(life, o, outcome, reason, facts)
        return life.done()
    match o.withdrawal:
        case Withdrawal.CANCEL:
            life.cancel_too_late(became, **facts)
        case Withdrawal.CANCEL_ONE:
            life.close(became, "cancel_too_late", **facts)
        case Withdrawal.EXPIRE | Withdrawal.SUPERSEDE:
            life.close(became, reason, **facts)
        case Withdrawal.REPLACE:
            d = row.definition
            moved = o.reason == MOVED
            if d is not None and series.is_series(d):
                life.close(became, reason, goes_on=False, told=not moved, **facts)
                life.open(reason="rescheduled", anew=True)
                return life.done()
            same = d is not None and ids.occurrence_id(schedule.start_id_of(d.local, d.at)) == o.occurrence
            life.close(became, "text_only" if same and not moved else reason, **facts)
            if moved or not same:
                life.open(reason="rescheduled", anew=True, anyway=moved)
        case Withdrawal.PAUSE:
            life.close(became, reason, **facts)
        case Withdrawal.SNOOZE:
            life.close(became, reason, goes_on=False, **facts)
            actions.again(life, turns.ended(o), o.snoozed_to)
        case Withdrawal.ACKNOWLEDGE:
            insist.said(life, became)
            insist.acknowledged(life, **facts)
        case Withdrawal.ERASE:
            erasure.ended(life, became, **facts)
        case Withdrawal.NONE | Withdrawal.UNKNOWN:
            raise ValueError("a withdrawal without a reason")
        case other:
            assert_never(other)
    return life.done()


def _stays(d: Definition | None, o: Occurrence) -> bool:
    """Return whether an occurrence awaits its answer though it was withdrawn: it is paused, or has other words."""
    if d is None or not turns.insists(d):
        return False
    if o.withdrawal is not Withdrawal.REPLACE or o.reason == MOVED or series.is_series(d):
        return o.withdrawal is Withdrawal.PAUSE
    return ids.occurrence_id(schedule.start_id_of(d.local, d.at)) == o.occurrence


def _came_of_it(life: Life, o: Occurrence, outcome: OutcomeKind, reason: str, facts: dict[str, Any]) -> None:
    """Let a call that a withdrawal came too late for count as the round that it was, and its answer be awaited."""
    life.row.open = o = replace(o, withdrawal=Withdrawal.NONE)
    if outcome is OutcomeKind.MAYBE_SENT:
        insist.doubted(life, reason, facts)
    else:
        succeed(life, o, outcome, reason, facts)


def _late_outcome(rid: str, row: ReminderRow, answer: DeliveryAnswer, a: Arrival, rules: Rules) -> Transition:
    """Fold news of what the row has left behind: it may say that a doubt or an expiry was sent after all.

    Only good news counts: a late failure does not say that nothing was sent before it.
    """
    o = row.open
    if o is not None and answer.reason == lookup.NOT_FOUND and concerns(row, answer) and o.state is State.MAYBE_SENT:
        return _not_there(rid, row, o, answer, a, rules)
    if answer.outcome not in REACHED:
        return unchanged(row, "stale")
    ours = o is not None and delivery_id(rid, o) == answer.delivery_id
    if o is not None and not ours and answer.reason == ACKNOWLEDGED and turns.is_of(rid, o, answer.delivery_id):
        life = Life(rid, row, a, rules)
        who = turns.person(rid, row.definition, o, answer.delivery_id) if row.definition is not None else ""
        return life.done(actions.acknowledge(life, who))
    reason = answer.reason if answer.reason == lookup.FOUND else "late_outcome"
    if o is not None and ours:
        return came_through(rid, row, o, answer.outcome, reason, _facts(answer, o), a, rules)
    to = State.SENT if answer.outcome is OutcomeKind.ACCEPTED else State.DELIVERED
    return fold(rid, row, answer.delivery_id, to, reason, a, rules, cost_micros=answer.cost_micros)


def _not_there(
    rid: str, row: ReminderRow, o: Occurrence, answer: DeliveryAnswer, a: Arrival, rules: Rules
) -> Transition:
    """Note on a doubt that its provider has nothing of it: it stays for a person to decide."""
    if o.reason == lookup.NOT_FOUND:
        return unchanged(row, "known")
    life = Life(rid, row, a, rules)
    life.move(State.MAYBE_SENT, lookup.NOT_FOUND, due=o.due)
    life.tell(_facts(answer, o))
    return life.done()


def came_through(
    rid: str,
    row: ReminderRow,
    o: Occurrence,
    outcome: OutcomeKind,
    reason: str,
    facts: dict[str, Any],
    a: Arrival,
    rules: Rules,
) -> Transition:
    """Apply news, by another way than the awaited outcome, that the open delivery has reached its recipient."""
    life = Life(rid, row, a, rules)
    steps = turns.chain(row.definition, o)
    step = steps[o.step] if o.step < len(steps) else None
    enough = HEARD[outcome] >= WAITED.get(step.wait_for, 1) if step is not None else True
    match o.state:
        case State.WITHDRAWING:
            return settle_withdrawing(life, row, o, outcome, reason, facts)
        case State.SENT | State.MAYBE_SENT if turns.awaits(o):
            to = State.SENT if outcome is OutcomeKind.ACCEPTED else State.DELIVERED
            if not insist.raised(life, to, facts):
                return unchanged(row, "stale")
        case State.SENT if not enough:
            return unchanged(row, "stale")
        case State.SENT | State.MAYBE_SENT:
            succeed(life, o, outcome, reason, facts)
        case State.SENDING | State.SCHEDULED | State.RETRY | State.HELD:
            # An earlier attempt was in doubt and asked for again: the next one must not begin.
            life.kill()
            succeed(life, life.row.open or o, outcome, reason, facts)
        case _:
            return unchanged(row, "stale")
    return life.done()


def _told_before(o: Occurrence, answer: DeliveryAnswer) -> bool:
    """Return whether news of an attempt came before its outcome."""
    return bool(o.heard) and o.heard == ids.attempt_id(answer.delivery_id, o.attempt)


def taken(life: Life, o: Occurrence, news: OutcomeKind, facts: dict[str, Any], again: Again | None = None) -> None:
    """Apply news of a message that its provider has taken, for it tells of it: so far so good, or undelivered.

    ``again``: how the last step is tried again where it failed for now (a line that was busy), None: it is not.
    """
    d = life.row.definition
    steps = turns.chain(d, o)
    if news not in FAILED or o.step >= len(steps) or steps[o.step].wait_for not in WAITED:
        succeed(life, o, OutcomeKind.ACCEPTED, UNDELIVERED if news in FAILED else "receipt", facts)
        return
    if o.step + 1 < len(steps):
        life.note(State.FAILED, UNDELIVERED, o=o, **facts)
        start_step(life, life.row.open or o, steps[o.step + 1].channel, "fallback")
    elif news is OutcomeKind.DEFERRED and again is not None:
        life.note(State.FAILED, UNDELIVERED, o=o, **facts)
        _try_again(life, o, UNDELIVERED, o.channel, again)
    elif news is not OutcomeKind.OPTED_OUT:
        _give_up(life, o, UNDELIVERED, UNDELIVERED, facts)
    else:
        life.note(State.FAILED, UNDELIVERED, o=o, **facts)
        if not insist.chain_failed(life, for_good=True):
            life.close(State.SKIPPED, UNDELIVERED, **facts)


_RANK = {
    State.CANCELLED: 0,
    State.EXPIRED: 0,
    State.SKIPPED: 0,
    State.DEAD_LETTER: 0,
    State.MAYBE_SENT: 1,
    State.SENT: 2,
    State.DELIVERED: 3,
}


def of_series(row: ReminderRow) -> bool:
    """Return whether more than one occurrence may come of a row."""
    return row.definition is not None and series.is_series(row.definition)


def fold(
    rid: str,
    row: ReminderRow,
    delivery: str,
    to: State,
    reason: str,
    a: Arrival,
    rules: Rules,
    *,
    cost_micros: int = 0,
) -> Transition:
    """Apply good news of an occurrence that has ended; they only ever raise what is known of it."""
    for i, c in enumerate(row.closed):
        if c.delivery_id == delivery and _RANK.get(c.state, 9) < _RANK[to]:
            if c.reason == UNDELIVERED and to is State.SENT:
                # That it was taken is known, and no comfort.
                break
            life = Life(rid, row, a, rules)
            folded = replace(c, state=to, reason=reason)
            life.row.closed = (*row.closed[:i], folded, *row.closed[i + 1 :])
            if row.open is None and i == len(row.closed) - 1 and not of_series(row):
                life.row.cancelled = False
            detail = f"{c.occurrence}: {c.state.value} became {to.value}"
            if row.open is not None:
                life.note(row.open.state, reason, o=row.open, detail=detail)
            else:
                to_state = state(life.row)
                life.note(to_state, reason, detail=detail, occurrence=c.occurrence, round=c.round, channel=c.channel)
            if cost_micros:
                life.tell({"channel": c.channel, "cost_micros": cost_micros})
            life.emits.append(status(rid, life.row, folded, 0))
            return life.done()
    return unchanged(row, "stale")


def profile(rid: str, row: ReminderRow | None, answer: DeliveryAnswer, a: Arrival, rules: Rules) -> Transition:
    """Apply what the recipient's partition says of the recipient: their zone, and whether they can be reached."""
    if is_replay(row, a):
        return unchanged(row, "replay")
    d = row.definition if row is not None else None
    o = row.open if row is not None else None
    if row is None or d is None or o is None or answer.link < row.link:
        return unchanged(row, "stale")
    reached = answer.reachable is not row.reachable
    moved = bool(answer.zone) and answer.zone != row.zone and not d.zone and d.at is None
    if not reached and not moved:
        return unchanged(row, "known")
    life = Life(rid, row, a, rules)
    if reached:
        life.row.reachable = answer.reachable
        life.note(o.state, "recipient_reachable" if answer.reachable else reach.UNREACHABLE, o=o)
        if not answer.reachable:
            reach.told(life)
    if moved:
        life.row.zone = answer.zone
        _follow_zone(life, o)
    return life.done()


def _follow_zone(life: Life, o: Occurrence, reason: str = "zone_changed") -> None:
    """Keep a reminder at its recipient's wall clock. What was asked for, or failed once, goes on as it was begun."""
    fresh = o.state is State.SCHEDULED and o.step == 0 and o.attempt == 1 and not o.asked_at
    life.replace_told()
    if o.state is State.PENDING:
        life.open(reason="zone_known", round_=o.round, link=False, anyway=True)
    elif life.out_of_turn(o):
        life.look_ahead()
        life.note(o.state, reason, o=o)
    elif fresh and may_have_been_asked(o, life.now):
        life.withdraw(Withdrawal.REPLACE, reason)
    elif fresh or (o.state is State.PAUSED and of_series(life.row.freeze())):
        life.open(reason=reason, round_=o.round, link=False, anyway=True)
    else:
        life.look_ahead()
        life.note(o.state, reason, o=o)


def new_tzdata(rid: str, row: ReminderRow | None, now: int, rules: Rules) -> Transition:
    """Place what waits on the clock anew where the time zone data are newer than those by which it was placed."""
    d, o = (row.definition, row.open) if row is not None else (None, None)
    if row is None or d is None or o is None or not row.tzdata or row.tzdata == rules.tzdata:
        return unchanged(row, "known")
    life = Life(rid, row, Arrival(now), rules)
    life.row.tzdata = rules.tzdata
    life.replace_told()
    there = life.candidate()
    same = there is not None and there.occurrence == o.occurrence and there.due_at == o.due_at
    if same or o.due_at == 0 or o.asked_at or o.state not in (State.SCHEDULED, State.PAUSED) or life.out_of_turn(o):
        # What comes next may have moved all the same.
        life.look_ahead()
        return life.done("placed")
    _follow_zone(life, o, TZ_MOVED)
    return life.done(TZ_MOVED)


def rearm(rid: str, row: ReminderRow | None, record: RetryRecord, a: Arrival, rules: Rules) -> Transition:
    """Arm a row anew that has lost the retry which a tier topic holds; a row that knows of it is left alone."""
    if is_replay(row, a):
        return unchanged(row, "replay")
    o = row.open if row is not None else None
    if row is None or o is None or (o.occurrence, o.round, o.step) != (record.occurrence, record.round, record.step):
        return unchanged(row, "stale")
    if o.attempt >= record.attempt or o.state not in (State.SENDING, State.RETRY, State.SCHEDULED, State.HELD):
        return unchanged(row, "known")
    life = Life(rid, row, a, rules)
    life.move(State.RETRY, "rearmed", due=record.not_before, attempt=record.attempt)
    return life.done()
