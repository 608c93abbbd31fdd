"""What people do with a reminder that exists: snooze, fire, acknowledge, pause, resume. Pure.

An action that cannot apply (a snooze into the past, an acknowledgement of what has ended) is answered in the audit with
its reason and changes nothing. Where delivery may have been asked, it is withdrawn first, and the action takes effect
with the answer.
"""

from schemas.names import Action, State, Withdrawal
from schemas.quick import replace
from schemas.records import Closed, Insistence, Occurrence, ReminderEvent, Turn
from tables import insist, retraction, schedule, series, turns
from tables.transition import (
    ASKABLE,
    REOPENABLE,
    Life,
    delivery_id,
    has_link,
    max_lateness,
    may_have_been_asked,
    status,
    step_channel,
)

_WAITING = ASKABLE | {State.PENDING, State.PAUSED}
#: Ends of an occurrence after which somebody may still wish to be reminded again.
_SNOOZABLE = frozenset({State.SENT, State.DELIVERED, State.DEAD_LETTER, State.EXPIRED, State.SKIPPED, State.MAYBE_SENT})
_ANSWERABLE = frozenset({State.SENT, State.DELIVERED, State.MAYBE_SENT})
#: Withdrawals after which nothing of the occurrence is to be sent any more.
_FOR_GOOD = frozenset({Withdrawal.CANCEL, Withdrawal.CANCEL_ONE, Withdrawal.ERASE})
#: Ends by which something may have reached somebody.
_SEEN = _ANSWERABLE | {State.ACKNOWLEDGED, State.DEAD_LETTER}


def apply(life: Life, event: ReminderEvent) -> str:
    """Apply an action to the reminder in the making; return what came of it, "applied" or why it did not apply."""
    action = event.action.value
    row = life.row
    if row.definition is None and event.action is not Action.PAUSE:
        return refuse(life, action, "unknown_reminder", "send its UPSERT first", "reminder_id")
    if event.occurrence:
        event = replace(event, occurrence=schedule.start_id(event.occurrence))
    if event.occurrence and not names(life, event.occurrence):
        return refuse(
            life, action, "no_such_occurrence", "name the original start of an open or recent occurrence", "occurrence"
        )
    if event.delivery_id and not _answers(life, event) and (why := another(life, event)):
        return why
    match event.action:
        case Action.SNOOZE:
            return _snooze(life, event)
        case Action.FIRE:
            return _fire(life, event)
        case Action.ACKNOWLEDGE:
            return _acknowledge(life, event)
        case Action.PAUSE:
            return _pause(life, action)
        case Action.RESUME:
            return _resume(life, action)
        case _:
            raise ValueError(f"{event.action} is no action on what exists")


def refuse(life: Life, action: str, why: str, remedy: str, field: str, value: str = "") -> str:
    """Answer an action that cannot apply, and return why."""
    o = life.row.open
    life.note(life.state(), why, action=action, o=o, field=field, value=value, remedy=remedy)
    return why


def another(life: Life, event: ReminderEvent) -> str:
    """Return "", or why an action that names a delivery is about none that is open or was the last one."""
    o, closed = life.row.open, life.row.closed
    ended = closed[-1].delivery_id if closed else ""
    if event.delivery_id == (ended if o is None else delivery_id(life.rid, o)):
        return ""
    if _of_series(life) and any(c.delivery_id == event.delivery_id for c in closed):
        return ""
    remedy = "it has gone on since; see its trail, and name the delivery that it is at"
    return refuse(life, event.action.value, "another_delivery", remedy, "delivery_id")


def _answers(life: Life, event: ReminderEvent) -> bool:
    """Return whether an event is what a person says to a message of an occurrence that has gone on since: to an earlier
    step of its chain, or in an earlier round."""
    if event.action not in (Action.ACKNOWLEDGE, Action.SNOOZE):
        return False
    o, closed = life.row.open, life.row.closed
    ended = closed if _of_series(life) else closed[-1:] if o is None else ()
    return any(turns.is_of(life.rid, x, event.delivery_id) for x in (*ended, *((o,) if o is not None else ())))


def said(event: ReminderEvent) -> str:
    """Return the words of who acts, fit for the trail."""
    return "".join(c if c.isprintable() else " " for c in event.text)[:200]


def names(life: Life, start: str) -> bool:
    """Return whether a start is that of an open or recent occurrence, or of one of a series that is still to come."""
    o = life.row.open
    occurrences = [c.occurrence for c in life.row.closed] + ([o.occurrence] if o is not None else [])
    return any(series.start_of(occurrence) == start for occurrence in occurrences) or life.to_come(start) is not None


def _of_series(life: Life) -> bool:
    d = life.row.definition
    return d is not None and series.is_series(d)


def meant(life: Life, event: ReminderEvent) -> int | None:
    """Return which ended occurrence an action on a series is about, None where it is the open one.

    It is the one that the event names. Without a name it is the last one that people have seen: while the open one only
    waits for its time, that is the one before it.
    """
    row, o = life.row, life.row.open
    if o is None or not _of_series(life):
        return len(row.closed) - 1 if o is None else None
    if event.delivery_id:
        of = [n for n, c in enumerate(row.closed) if turns.is_of(life.rid, c, event.delivery_id)]
        return of[-1] if of and not turns.is_of(life.rid, o, event.delivery_id) else None
    if event.occurrence:
        if series.start_of(o.occurrence) == event.occurrence:
            return None
        of = [n for n, c in enumerate(row.closed) if series.start_of(c.occurrence) == event.occurrence]
        return of[-1] if of else None
    seen = bool(row.closed) and row.closed[-1].state in _SEEN
    return len(row.closed) - 1 if seen and _waits(life, o) else None


def _waits(life: Life, o: Occurrence) -> bool:
    """Return whether an occurrence has done nothing yet but wait for its time."""
    return o.state in (State.SCHEDULED, State.PAUSED, State.PENDING) and not o.asked_at and not 0 < o.due_at <= life.now


# -- cancel one of a series --------------------------------------------------------------------------------------------


def cancel_one(life: Life, start: str, action: str) -> str:
    """Cancel one start of a series, with all of its offsets: before its time, while it is open, or too late."""
    row, o = life.row, life.row.open
    coming = life.to_come(start)
    is_open = o is not None and series.start_of(o.occurrence) == start
    if (is_open or coming is not None) and not life.move_start(start, 0):
        return refuse(life, action, "too_many_moved", "change the rule, or its exclude, instead", "occurrence", start)
    if o is not None and is_open:
        match o.state:
            case State.WITHDRAWING if o.withdrawal in (Withdrawal.CANCEL, Withdrawal.ERASE):
                life.note(State.WITHDRAWING, "cancelling", action=action, o=o)
            case State.WITHDRAWING:
                row.open = replace(o, withdrawal=Withdrawal.CANCEL_ONE)
                life.note(State.WITHDRAWING, "cancelling", action=action, o=row.open)
            case State.SENT | State.MAYBE_SENT:
                life.close(o.state, "cancel_too_late", action=action)
            case state if state is State.SENDING or may_have_been_asked(o, life.now):
                life.withdraw(Withdrawal.CANCEL_ONE, "cancelling", action=action)
            case _:
                life.close(State.CANCELLED, "cancelled", action=action)
        return "applied"
    if coming is not None:
        gone = Occurrence(coming.occurrence_id, State.CANCELLED, coming.due_at, 0, 0, row.rounds, attempt=0)
        life.note(State.CANCELLED, "cancelled", action=action, o=gone)
        closed = Closed(gone.occurrence, State.CANCELLED, life.now, 0, gone.round, reason="cancelled")
        life.emits.append(status(life.rid, row, closed, coming.due_at))
        life.look_ahead()
        life.note(life.state(), "cancelled_one", action=action, o=row.open, detail=start)
        return "applied"
    ended = [c for c in row.closed if series.start_of(c.occurrence) == start]
    if not ended:
        remedy = "name the original start of an occurrence that is recent, open or to come"
        return refuse(life, action, "no_such_occurrence", remedy, "occurrence", start)
    why = "already_ended" if ended[-1].state in REOPENABLE else "cancel_too_late"
    life.note(life.state(), why, action=action, o=o, detail=f"{start} ended as {ended[-1].state.value}")
    return "applied"


# -- snooze ------------------------------------------------------------------------------------------------------------


def _snooze(life: Life, event: ReminderEvent) -> str:
    action = event.action.value
    d = life.row.definition
    if d is None:
        raise ValueError("what can be snoozed is defined")
    zone = event.zone or d.zone or life.row.zone
    if event.at is None and not zone:
        return refuse(life, action, "no_zone", "give at, or a zone", "zone")
    _, to = schedule.first_start(event.local, event.at, zone, life.rules.times.all_day_hour)
    if to <= life.now:
        return refuse(life, action, "snooze_into_the_past", "give a time to come", "local", str(to))
    if d.expires_at and d.expires_at <= to:
        return refuse(life, action, "after_expiry", "give a time before expires_at", "local", str(to))
    return _again_at(life, event, to, "snoozed")


def _fire(life: Life, event: ReminderEvent) -> str:
    action = event.action.value
    d, o = life.row.definition, life.row.open
    if d is not None and d.expires_at and d.expires_at <= life.now:
        return refuse(life, action, "after_expiry", "send an UPSERT with a later expires_at", "expires_at")
    if o is not None and o.state is State.SENDING:
        return refuse(life, action, "being_sent", "wait for what becomes of it; see its trail", "action")
    return _again_at(life, event, life.now, "fired", said(event))


def _again_at(life: Life, event: ReminderEvent, to: int, reason: str, detail: str = "") -> str:
    """Remind of the open or the last occurrence again at ``to``, in a new round, or move one that is to come."""
    o, action = life.row.open, event.action.value
    if event.occurrence and _moves(life, event.occurrence, to):
        return _move(life, event.occurrence, to, action)
    which = meant(life, event)
    if o is None or which is not None:
        last = life.row.closed[which] if which is not None and which >= 0 else None
        if last is None or life.row.cancelled or last.state not in _SNOOZABLE:
            return refuse(life, action, "ended", "send an UPSERT with a new start", "occurrence")
        if o is not None and (not _waits(life, o) or may_have_been_asked(o, life.now)):
            return refuse(life, action, "next_is_due", "wait for what becomes of it, then try again", "occurrence")
        life.row.open = None
        again(life, Occurrence(last.occurrence, last.state, to, 0, to), to, action, reason, detail)
        return "applied"
    match o.state:
        case State.WITHDRAWING if o.withdrawal in _FOR_GOOD:
            return refuse(life, action, "cancelling", "send an UPSERT with a new start", "occurrence")
        case State.WITHDRAWING:
            life.row.open = replace(o, withdrawal=Withdrawal.SNOOZE, snoozed_to=to)
            life.note(State.WITHDRAWING, "snoozing", action=action, o=life.row.open)
        case State.SENDING:
            _withdraw(life, Withdrawal.SNOOZE, "snoozing", action, to)
        case state if state in _WAITING and may_have_been_asked(o, life.now):
            _withdraw(life, Withdrawal.SNOOZE, "snoozing", action, to)
        case State.SENT:
            life.close(State.SENT, reason, action=action, goes_on=False)
            again(life, turns.ended(o), to, action, reason, detail)
        case _:
            again(life, o, to, action, reason, detail)
    return "applied"


def _moves(life: Life, start: str, to: int) -> bool:
    """Return whether a start of a series is moved to another time, not sent again: it is to come, or only waits."""
    o = life.row.open
    if o is not None and _of_series(life) and series.start_of(o.occurrence) == start:
        return _waits(life, o) and not may_have_been_asked(o, life.now) and to > life.now and life.row.open_at > 0
    return life.to_come(start) is not None


def _move(life: Life, start: str, to: int, action: str) -> str:
    if not life.move_start(start, to):
        return refuse(life, action, "too_many_moved", "change the rule, or its rdates, instead", "occurrence", start)
    o = life.row.open
    if o is None or (_waits(life, o) and not may_have_been_asked(o, life.now)):
        life.open(reason="moved", action=action, link=o is None)
    else:
        life.look_ahead()
        life.note(o.state, "moved", action=action, o=o, detail=start)
    return "applied"


def _withdraw(life: Life, why: Withdrawal, reason: str, action: str, to: int = 0) -> None:
    o = life.row.open
    if o is not None and to:
        life.row.open = replace(o, snoozed_to=to)
    life.withdraw(why, reason, action=action)


def again(life: Life, o: Occurrence, to: int, action: str = "", reason: str = "snoozed", detail: str = "") -> None:
    """Open the same occurrence again in a new round, due at ``to`` (ms UTC)."""
    d = life.row.definition
    if d is None:
        raise ValueError("what is reminded of again is defined")
    life.row.rounds += 1
    deadline = d.expires_at or to + max_lateness(d, life.rules)
    life.row.open = Occurrence(
        o.occurrence,
        State.PAUSED if life.row.paused else State.SCHEDULED,
        to,
        deadline,
        life.now + life.rules.review_ms if life.row.paused else to,
        life.row.rounds,
        ask=life.row.ask,
        channel=step_channel(d, 0),
        insistence=turns.anew(o, life.row.rounds, d),
    )
    if _of_series(life):
        life.look_ahead()
        if life.row.open_at <= life.row.told_at:
            life.row.open_at = 0
    life.note(life.row.open.state, reason, action=action, o=life.row.open, detail=detail)
    if has_link(d):
        life.link(d)


# -- acknowledge -------------------------------------------------------------------------------------------------------


def _acknowledge(life: Life, event: ReminderEvent) -> str:
    row, o, action = life.row, life.row.open, event.action.value
    which = meant(life, event)
    if o is None or which is not None:
        last = row.closed[which] if which is not None and which >= 0 else None
        if which is None or last is None or last.state not in _ANSWERABLE:
            return refuse(life, action, "ended", "nothing is open to be acknowledged", "occurrence")
        if not _enough_ended(life, which, _who(life, event, last), action):
            return "applied"
        last = row.closed[which]
        folded = replace(last, state=State.ACKNOWLEDGED, at=life.now, reason="acknowledged")
        row.closed = (*row.closed[:which], folded, *row.closed[which + 1 :])
        life.note(State.ACKNOWLEDGED, "acknowledged", action=action, occurrence=last.occurrence, round=last.round)
        life.emits.append(status(life.rid, row, folded, 0))
        life.emits.extend(retraction.requests(life.rid, row.definition, folded, life.now))
        if life.audit[-1].to_state is not life.state() or o is not None:
            life.note(life.state(), "acknowledged_one", action=action, o=o, detail=last.occurrence)
        return "applied"
    return acknowledge(life, _who(life, event, o), action)


def _who(life: Life, event: ReminderEvent, o: Occurrence | Closed) -> str:
    """Return who answers: the recipient that the event names, or whose message it answers, or who sent it; without any
    of them the person who is asked now."""
    d = life.row.definition
    named = turns.person(life.rid, d, o, event.delivery_id) if d is not None and event.delivery_id else ""
    asked = turns.person(life.rid, d, o, "") if d is not None else ""
    return event.recipient_id or named or event.actor or asked


def _enough_ended(life: Life, which: int, who: str, action: str) -> bool:
    """Count an answer to an ended occurrence; return whether it is enough."""
    row, d = life.row, life.row.definition
    quorum = turns.policy(d).quorum if d is not None else 1
    if d is None or quorum <= 1:
        return True
    c = row.closed[which]
    ins = c.insistence or Insistence((Turn(c.round, d.recipient_id),))
    again = who in ins.answered
    if not again:
        ins = replace(ins, answered=(*ins.answered, who))
        row.closed = (*row.closed[:which], replace(c, insistence=ins), *row.closed[which + 1 :])
    if len(ins.answered) >= quorum:
        return True
    why = insist.ANSWERED_BEFORE if again else insist.QUORUM_OPEN
    detail = f"{c.occurrence}: {len(ins.answered)} of {quorum}"
    life.note(life.state(), why, action=action, o=row.open, detail=detail)
    return False


def acknowledge(life: Life, who: str, action: str = "") -> str:
    """Take a person's answer to the open occurrence: nothing more is sent to them, and where it is enough, to nobody.

    Returns "applied", or why it did not apply.
    """
    o = life.row.open
    if o is None:
        raise ValueError("no occurrence is open")
    if o.state is State.WITHDRAWING and o.withdrawal in _FOR_GOOD:
        return refuse(life, action, "cancelling", "nothing is open to be acknowledged", "occurrence")
    enough = insist.answered(life, who, action)
    o = life.row.open or o
    if not enough and not insist.has_answered(life):
        return "applied"
    match o.state:
        case State.WITHDRAWING if not enough:
            pass
        case State.WITHDRAWING:
            life.row.open = replace(o, withdrawal=Withdrawal.ACKNOWLEDGE)
            life.note(State.WITHDRAWING, "acknowledging", action=action, o=life.row.open)
        case State.SENDING:
            _withdraw(life, Withdrawal.ACKNOWLEDGE, "acknowledging", action)
        case state if state in _WAITING and may_have_been_asked(o, life.now):
            _withdraw(life, Withdrawal.ACKNOWLEDGE, "acknowledging", action)
        case state if state in _WAITING and not enough:
            # Whoever has answered ahead of its time is passed over when it comes.
            pass
        case _:
            insist.acknowledged(life, action)
    return "applied"


# -- pause and resume --------------------------------------------------------------------------------------------------


def _pause(life: Life, action: str) -> str:
    row, o = life.row, life.row.open
    if row.paused:
        return refuse(life, action, "already_paused", "", "action")
    row.paused = True
    if o is None:
        life.note(life.state(), "paused", action=action)
        return "applied"
    match o.state:
        case State.SENDING:
            _withdraw(life, Withdrawal.PAUSE, "pausing", action)
        case state if state in ASKABLE and may_have_been_asked(o, life.now):
            _withdraw(life, Withdrawal.PAUSE, "pausing", action)
        case state if state in _WAITING:
            life.move(State.PAUSED, "paused", due=life.now + life.rules.review_ms, action=action)
        case _:
            life.note(o.state, "paused", action=action, o=o)
    return "applied"


def paused(life: Life, action: str = "") -> None:
    """Let the open occurrence rest now that nothing of it can be sent any more."""
    life.move(
        State.PAUSED,
        "paused",
        due=life.now + life.rules.review_ms,
        action=action,
        withdrawal=Withdrawal.NONE,
        asked_at=0,
    )


def _resume(life: Life, action: str) -> str:
    row, o = life.row, life.row.open
    if not row.paused:
        return refuse(life, action, "not_paused", "", "action")
    row.paused = False
    if o is not None and o.state is State.WITHDRAWING and o.withdrawal is Withdrawal.PAUSE:
        # The answer is still to come; then it goes on as if it had been replaced by itself.
        row.open = replace(o, withdrawal=Withdrawal.SNOOZE, snoozed_to=max(o.due_at, life.now))
        life.note(State.WITHDRAWING, "resuming", action=action, o=row.open)
    elif o is None or o.state is not State.PAUSED:
        life.note(life.state(), "resumed", action=action, o=o)
    elif o.due_at == 0:
        life.move(State.PENDING, "resumed", due=life.now + life.rules.profile_retry_ms, action=action)
        if row.definition is not None:
            life.link(row.definition)
    elif _of_series(life) and o.due_at <= life.now and not life.out_of_turn(o):
        life.close(State.SKIPPED, series.PAUSED, action=action, resting=True)
    elif o.deadline <= life.now:
        life.close(State.EXPIRED, "too_late", action=action)
    else:
        life.move(State.SCHEDULED, "resumed", due=max(o.due_at, life.now), action=action)
    return "applied"
