"""Whether anybody can be reached with a reminder, and when somebody is warned that nobody can. Pure.

The recipient's partition says whether the recipient has a contact that can be used. Where they have none, and no step
brings an address of its own, whoever made the reminder is warned when that is known, and again a day before it is due.
"""

from schemas.quick import replace
from schemas.records import Closed, Occurrence, ReminderRow
from tables.transition import WARNED_MS, Draft, Life, Transition, status

#: With this reason the audit and producers are told.
UNREACHABLE = "recipient_unreachable"
STILL_UNREACHABLE = "still_unreachable"
REASONS = frozenset({UNREACHABLE, STILL_UNREACHABLE})


def nobody(row: ReminderRow | Draft) -> bool:
    """Return whether a reminder has nobody whom it can reach."""
    d = row.definition
    return not row.reachable and d is not None and bool(d.recipient_id) and not any(s.addressed for s in d.steps)


def told(life: Life) -> None:
    """Warn, now that it is known. What is due within a day is not warned of twice."""
    o = life.row.open
    if o is None or not nobody(life.row):
        return
    if 0 < o.due_at <= life.now + WARNED_MS:
        life.row.open = o = replace(o, warned=True)
    _say(life, o, UNREACHABLE)


def warn(life: Life, o: Occurrence) -> Transition:
    """Warn a day before it is due."""
    life.row.open = o = replace(o, warned=True)
    life.note(o.state, STILL_UNREACHABLE, o=o)
    _say(life, o, STILL_UNREACHABLE)
    return life.done("warned")


def _say(life: Life, o: Occurrence, reason: str) -> None:
    now = Closed(o.occurrence, o.state, life.now, o.ask, o.round, channel=o.channel, reason=reason)
    life.emits.append(status(life.rid, life.row, now, o.due_at))
