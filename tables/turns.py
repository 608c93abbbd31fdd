"""Whose turn it is where an occurrence is asked about until somebody answers: small questions to its records. Pure.

A turn is one person's: the reminder's own recipient has the first, with as many rounds as its policy nags, then each of
``escalate_to`` has one, in order. A round is one run of a chain: the reminder's own in the first turn, the person's own
order of contacts in every other.
"""

from schemas import ids
from schemas.names import Channel, State
from schemas.quick import replace
from schemas.records import Closed, Definition, Insistence, Occurrence, Policy, RowStep, Turn

_NO_POLICY = Policy()


def policy(d: Definition) -> Policy:
    """Return the rules of a reminder."""
    return d.policy or _NO_POLICY


def insists(d: Definition | None) -> bool:
    """Return whether a reminder is not done with its chain, but goes on until it is answered."""
    p = d.policy if d is not None else None
    return p is not None and (p.nag_every_s > 0 or p.quorum > 1 or bool(p.escalate_to))


def whom(d: Definition, o: Occurrence) -> str:
    """Return the recipient that the round of an occurrence is for; "" where the reminder carries its address."""
    return o.insistence.turns[-1].recipient_id if escalated(o) and o.insistence is not None else d.recipient_id


def escalated(o: Occurrence) -> bool:
    """Return whether somebody else than the reminder's own recipient is asked."""
    return o.insistence is not None and len(o.insistence.turns) > 1


def dropped(d: Definition | None, o: Occurrence) -> bool:
    """Return whether it is somebody's turn whom the reminder, changed since, no longer names."""
    return d is not None and escalated(o) and whom(d, o) not in policy(d).escalate_to


def chain(d: Definition | None, o: Occurrence) -> tuple[RowStep, ...]:
    """Return the steps of the round that an occurrence is in; none where the person's own order of contacts decides."""
    return d.steps if d is not None and not escalated(o) else ()


def first_round(o: Occurrence | Closed) -> int:
    """Return the round in which an occurrence was asked about first."""
    return o.insistence.turns[0].round if o.insistence is not None else o.round


def repeated(o: Occurrence) -> bool:
    """Return whether an occurrence is in a later round than its first."""
    return o.round > first_round(o)


def begun(d: Definition, o: Occurrence) -> Insistence:
    """Return how an occurrence is insisted on, from its first turn on where nothing of it is written yet."""
    return o.insistence or Insistence((Turn(o.round, d.recipient_id),))


def reached(o: Occurrence | None) -> State:
    """Return the best that any round of an occurrence came to: NONE, MAYBE_SENT, SENT or DELIVERED."""
    return o.insistence.reached if o is not None and o.insistence is not None else State.NONE


def awaits(o: Occurrence) -> bool:
    """Return whether the chain of the round has ended, and an answer is awaited."""
    return o.insistence is not None and o.insistence.awaits


def carried(old: Occurrence | None, o: Occurrence, d: Definition) -> Occurrence:
    """Return an occurrence that takes the place of ``old``: of the same one, to the same person, the answers and turns
    stay."""
    kept = old.insistence if old is not None and old.occurrence == o.occurrence else None
    if kept is None or kept.turns[0].recipient_id != d.recipient_id:
        return o
    o = replace(o, insistence=replace(kept, answered=_open_answers(d, kept), awaits=False, said_at=0))
    if old is not None and repeated(old):
        # A later round keeps its own time; that of the first one is long past.
        waits = o.state is State.SCHEDULED
        deadline = d.expires_at or max(o.deadline, old.deadline)
        o = replace(o, due_at=old.due_at, due=old.due_at if waits else o.due, deadline=deadline)
    return replace(o, channel=Channel.ANY) if escalated(o) else o


def ended(o: Occurrence) -> Occurrence:
    """Return an occurrence whose rounds have ended in the books, so that nothing they came to is left of it."""
    return o if o.insistence is None else replace(o, insistence=replace(o.insistence, reached=State.NONE))


def anew(o: Occurrence, round_: int, d: Definition) -> Insistence | None:
    """Return what is left of the answers and of what was reached where an occurrence starts again from its first turn,
    in ``round_``."""
    kept = o.insistence
    if kept is None or kept.turns[0].recipient_id != d.recipient_id:
        return None
    return Insistence((Turn(round_, d.recipient_id),), _open_answers(d, kept), reached=kept.reached)


def _open_answers(d: Definition, ins: Insistence) -> tuple[str, ...]:
    """Return the answers that still count where it begins again. Where they had been enough it is a new question."""
    return ins.answered if len(ins.answered) < policy(d).quorum else ()


def next_person(d: Definition, ins: Insistence) -> str | None:
    """Return who is asked next, None where nobody is left: who was asked or has answered is not asked again."""
    asked = {turn.recipient_id for turn in ins.turns} | set(ins.answered)
    return next((person for person in policy(d).escalate_to if person not in asked), None)


def round_named(rid: str, occurrence: str, delivery: str) -> int | None:
    """Return the round of a delivery of an occurrence, None where it is none of it."""
    head, _, rest = delivery.rpartition(":")
    stem, _, number = head.rpartition(":")
    if not rest.isdecimal() or not number.isdecimal():
        return None
    return int(number) if stem == f"{ids.escape(rid)}:{ids.escape(occurrence)}" else None


def is_of(rid: str, o: Occurrence | Closed, delivery: str) -> bool:
    """Return whether a delivery is one of an occurrence, in any of its rounds and at any of its steps."""
    named = round_named(rid, o.occurrence, delivery)
    return named is not None and first_round(o) <= named <= o.round


def person(rid: str, d: Definition, o: Occurrence | Closed, delivery: str) -> str:
    """Return to whom a delivery of an occurrence went: the person of its turn. Without a delivery, of the last turn."""
    if o.insistence is None:
        return d.recipient_id
    named = round_named(rid, o.occurrence, delivery) if delivery else None
    turns = [t for t in o.insistence.turns if named is None or t.round <= named]
    return turns[-1].recipient_id if turns else d.recipient_id
