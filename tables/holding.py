"""How a hold turns what comes due into HELD, and how a release lets it go. Pure."""

from schemas.names import State
from schemas.records import ControlRecord, Occurrence, ReminderRow
from tables.transition import ASKABLE, Arrival, Life, Rules, Transition, unchanged

_PREFIX = "hold:"


def reason(scope: str) -> str:
    """Return the reason of a row, or an outcome, that a hold keeps back."""
    return _PREFIX + scope


def kept_back(o: Occurrence) -> str:
    """Return the reason of an occurrence that a hold keeps back, nothing where none does."""
    return o.reason if o.state is State.HELD and o.reason.startswith(_PREFIX) else ""


def hold_back(
    rid: str, row: ReminderRow | None, due: int, now: int, record: ControlRecord, rules: Rules
) -> Transition | None:
    """Return how a hold keeps back a row that is due; None where there is nothing to keep back, or it has expired."""
    o = row.open if row is not None else None
    if row is None or o is None or o.state not in ASKABLE or o.due != due or o.due > now or o.deadline <= now:
        return None
    life = Life(rid, row, Arrival(now), rules)
    until = record.ends_at or now + rules.review_ms
    life.move(State.HELD, reason(record.scope), due=min(until, o.deadline))
    return life.done("held")


def let_go(rid: str, row: ReminderRow | None, scope: str, now: int, rules: Rules) -> Transition:
    """Let a row go that a hold on ``scope`` keeps back; all others are left alone."""
    o = row.open if row is not None else None
    if row is None or o is None or o.state is not State.HELD or o.reason != reason(scope) or o.due <= now:
        return unchanged(row, "stale")
    life = Life(rid, row, Arrival(now), rules)
    life.move(State.HELD, "released", due=now)
    return life.done("released")
