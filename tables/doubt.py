"""What a person found out of a reminder of which nobody could know whether it was sent. Pure.

``sent`` settles the doubt as an answer of the provider would. ``not sent`` sends again, from the step that was in doubt
on, in a new round, unless its deadline has passed. A doubt that has ended (a cancel came too late, say) is only put
right in the books: what had been decided since stands, and nothing is sent.

The event names the delivery in doubt. A second copy, or another person's word on the same doubt, therefore finds that
it is none any more, and is answered with that.
"""

from dataclasses import replace

from schemas.names import Action, OutcomeKind, State, Withdrawal
from schemas.records import Insistence, Occurrence, ReminderEvent
from tables import actions, settling
from tables.transition import Life, status

RESOLVED_SENT = "resolved_sent"
RESOLVED_NOT_SENT = "resolved_not_sent"


def confirm(life: Life, event: ReminderEvent) -> str:
    """Settle the doubt of the reminder in the making; return "applied", or why there is none."""
    row, action = life.row, event.action.value
    if row.definition is None:
        return actions.refuse(life, action, "unknown_reminder", "send its UPSERT first", "reminder_id")
    if event.delivery_id and (why := actions.another(life, event)):
        return why
    at = _ended_in_doubt(life, event)
    if at is None and life.state() is not State.MAYBE_SENT:
        remedy = "only what is in MAYBE_SENT can be resolved; see its trail"
        return actions.refuse(life, action, "not_in_doubt", remedy, "action", life.state().value)
    sent = event.action is Action.CONFIRM_SENT
    if at is not None:
        _correct(life, at, action, sent, actions.said(event))
    elif row.open is None:
        raise ValueError("a doubt is open or has ended")
    elif sent:
        _sent(life, row.open, action, actions.said(event))
    else:
        _not_sent(life, row.open, action, actions.said(event))
    return "applied"


def _ended_in_doubt(life: Life, event: ReminderEvent) -> int | None:
    """Return which ended occurrence a person speaks of: the last one, or one of a series that has gone on since."""
    row = life.row
    if row.open is None:
        return len(row.closed) - 1 if life.state() is State.MAYBE_SENT else None
    if row.open.state is State.MAYBE_SENT or not row.closed:
        return None
    named = event.delivery_id or event.occurrence
    at = actions.meant(life, event) if named else len(row.closed) - 1
    return at if at is not None and row.closed[at].state is State.MAYBE_SENT else None


def _sent(life: Life, o: Occurrence, action: str, detail: str) -> None:
    settling.succeed(life, o, OutcomeKind.ACCEPTED, RESOLVED_SENT, {"detail": detail, "action": action})


def _not_sent(life: Life, o: Occurrence, action: str, detail: str) -> None:
    life.row.open = o = replace(o, insistence=_without_doubt(o))
    if o.deadline <= life.now:
        life.close(State.EXPIRED, "too_late", action=action, detail=detail)
        return
    row = life.row
    row.rounds += 1
    row.open = replace(
        o,
        state=State.PAUSED if row.paused else State.SCHEDULED,
        due=life.now + life.rules.review_ms if row.paused else life.now,
        round=row.rounds,
        attempt=1,
        ask=row.ask,
        asked_at=0,
        withdrawal=Withdrawal.NONE,
        snoozed_to=0,
        reason=RESOLVED_NOT_SENT,
    )
    life.note(row.open.state, RESOLVED_NOT_SENT, action=action, o=row.open, detail=detail)


def _without_doubt(o: Occurrence) -> Insistence | None:
    ins = o.insistence
    if ins is None:
        return None
    reached = State.NONE if ins.reached is State.MAYBE_SENT else ins.reached
    return replace(ins, awaits=False, said_at=0, reached=reached)


def _correct(life: Life, at: int, action: str, sent: bool, detail: str) -> None:
    """Put right how an occurrence ended. One that was not sent after all is what was wanted of it meanwhile."""
    row, last = life.row, life.row.closed[at]
    cancelled = last.reason == "cancel_too_late"
    unsent = State.CANCELLED if cancelled else State.SKIPPED
    reason = RESOLVED_SENT if sent else RESOLVED_NOT_SENT
    right = replace(last, state=State.SENT if sent else unsent, reason=reason, at=life.now)
    row.closed = (*row.closed[:at], right, *row.closed[at + 1 :])
    if row.open is None:
        row.cancelled = cancelled and not sent
    life.note(
        right.state,
        reason,
        action=action,
        occurrence=right.occurrence,
        round=right.round,
        channel=right.channel,
        detail=detail,
    )
    life.emits.append(status(life.rid, row, right, 0))
    if row.open is not None:
        life.note(row.open.state, reason, action=action, o=row.open, detail=right.occurrence)
