"""How a reminder is forgotten: nothing of it is pending any more, and nothing personal is left in its row. Pure.

What stays is what keeps the past away: versions, times, offsets, how each occurrence ended. So a replay, or an event
that is older than the erasure, does not bring a reminder back; a later one starts it afresh.
"""

from typing import Any

from schemas.names import Action, RequestKind, State, Withdrawal
from schemas.quick import replace
from schemas.records import DeliveryAnswer, ReminderRow, Sealed
from tables import series, turns
from tables.transition import (
    REOPENABLE,
    Arrival,
    Life,
    Rules,
    Transition,
    better,
    is_replay,
    link_requests,
    may_have_been_asked,
    unchanged,
)

#: Why an occurrence ended, or a row was emptied: somebody asked to be forgotten.
ERASED = "erased"
#: Delivery is asked to let go of it first.
ERASING = "erasing"


def recipient_erased(rid: str, row: ReminderRow | None, answer: DeliveryAnswer, a: Arrival, rules: Rules) -> Transition:
    """Apply the word of the recipient's partition that the recipient was erased, at ``answer.ended_at``.

    What was defined later than that starts afresh, and is left alone.
    """
    if is_replay(row, a):
        return unchanged(row, "replay")
    if row is None:
        return unchanged(row, "gone")
    if row.defined_at > answer.ended_at:
        return unchanged(row, "newer")
    if row.definition is None and row.open is None:
        return unchanged(row, "known")
    life = Life(rid, row, a, rules)
    life.row.stamp = max(row.stamp, answer.ended_at)
    _with_its_key(life)
    return life.done(ERASED)


def by_event(life: Life) -> None:
    """Forget the reminder in the making because an event asks for it; delivery destroys the key of its content."""
    _with_its_key(life, Action.ERASE.value)


def _with_its_key(life: Life, action: str = "") -> None:
    d = life.row.definition
    forget(life, action)
    if d is not None and d.sealed.key_id:
        life.row.link = life.row.link + 1
        life.emits.extend(link_requests(RequestKind.ERASE, life.rid, life.row.link, d, life.now))


def forget(life: Life, action: str = "") -> None:
    """Forget the reminder in the making. What may have been asked for is withdrawn first, without its content."""
    row, o = life.row, life.row.open
    if o is None:
        last = row.closed[-1] if row.closed else None
        row.cancelled = row.cancelled or last is None or last.state in REOPENABLE
        life.note(life.state(), ERASED, action=action, occurrence=last.occurrence if last else "")
        _empty(life)
        return
    match o.state:
        case State.WITHDRAWING:
            row.open = replace(o, withdrawal=Withdrawal.ERASE)
            life.note(State.WITHDRAWING, ERASING, action=action, o=row.open)
            _empty(life)
        case State.SENT | State.MAYBE_SENT:
            ended(life, o.state, action=action)
        case state if state is State.SENDING or may_have_been_asked(o, life.now):
            life.withdraw(Withdrawal.ERASE, ERASING, action=action)
            _empty(life)
        case _:
            ended(life, State.CANCELLED, action=action)


def ended(life: Life, became: State, *, action: str = "", **facts: Any) -> None:
    """End the open occurrence of a reminder that is forgotten, and all that would have come after it."""
    d = life.row.definition
    became = better(turns.reached(life.row.open), became)
    if became is State.CANCELLED:
        life.row.cancelled = True
        life.close(State.CANCELLED, ERASED, action=action, **facts)
    else:
        life.close(became, ERASED, action=action, goes_on=False, **facts)
        if d is not None and series.is_series(d):
            life.row.cancelled = True
            life.note(State.CANCELLED, ERASED, action=action)
    _empty(life)


def _empty(life: Life) -> None:
    """Take what is personal out of the row, and all of the definition once nobody has to be asked any more."""
    row = life.row
    row.trail = tuple(replace(e, actor="", detail="") if e.actor or e.detail else e for e in row.trail)
    # Whose turn it was and who has answered are names.
    row.closed = tuple(replace(c, insistence=None) if c.insistence is not None else c for c in row.closed)
    if row.open is not None:
        if row.definition is not None:
            row.definition = replace(row.definition, sealed=Sealed())
        return
    if row.definition is not None and not row.cancelled:
        # What is no later than the erasure was meant to be forgotten, too, as it is after a cancel.
        row.stamp += 1
    row.definition = None
    row.paused = False
    row.zone, row.reachable, row.tzdata = "", True, ""
    row.told, row.told_at, row.since, row.moves = "", 0, 0, ()
    row.next_start, row.next_due, row.open_at = "", 0, 0
