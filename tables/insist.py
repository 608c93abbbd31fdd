"""What follows the end of a chain where an answer is wanted: the chain again, the next person, or the end. Pure.

A chain that has ended well waits for an answer in SENT, one of which nobody knows in MAYBE_SENT. Each round is one of
its own, with delivery ids of its own, and comes by timer and gate like any other: consent, quiet hours, caps and holds
are looked at anew. A chain that has failed is tried again with the next round, or at once with the next person.
"""

from collections.abc import Mapping
from typing import Any

from schemas import checks
from schemas.names import Channel, State, Withdrawal
from schemas.quick import replace
from schemas.records import Definition, Insistence, Occurrence, Turn
from tables import turns
from tables.transition import Life, better, max_lateness, step_channel

AWAITS = "awaits_answer"
NAGGED = "nagged"
ESCALATED = "escalated"
UNANSWERED = "unanswered"
QUORUM_OPEN = "quorum_open"
ANSWERED_BEFORE = "answered_before"
#: The reminder was changed and no longer names the person whose turn it is.
NO_LONGER_NAMED = "no_longer_named"

#: Rounds after the first where a policy names no number: until there is an answer, but not for ever.
MOST_NAGS = checks.MAX_NAGS


def nags(d: Definition) -> int:
    """Return how often the chain of a reminder is restarted before the next person is asked."""
    p = turns.policy(d)
    if p.nag_every_s <= 0:
        return 0
    return p.nag_max or (0 if p.escalate_to else MOST_NAGS)


def rounds_left(d: Definition, ins: Insistence) -> bool:
    """Return whether the person who is asked now is asked again: those to whom it was escalated are asked once."""
    has_answered = ins.turns[-1].recipient_id in ins.answered
    return len(ins.turns) == 1 and not has_answered and ins.nags < nags(d)


def _open(life: Life) -> tuple[Definition, Occurrence, Insistence]:
    d, o = life.row.definition, life.row.open
    if d is None or o is None:
        raise ValueError("what is insisted on is defined, and open")
    return d, o, turns.begun(d, o)


def _wait_ms(life: Life, d: Definition) -> int:
    return turns.policy(d).nag_every_s * 1000 or life.rules.receipt_wait_ms


# -- the end of a chain ------------------------------------------------------------------------------------------------


def said(life: Life, to: State) -> None:
    """Note that the open round has reached its person, and how well."""
    d, o, ins = _open(life)
    if turns.insists(d):
        at = ins.said_at or life.now
        life.row.open = replace(o, insistence=replace(ins, said_at=at, reached=better(ins.reached, to)))


def chain_ended(life: Life, to: State, reason: str, facts: Mapping[str, Any]) -> None:
    """End a chain that came through, as ``to``: the occurrence with it, or an answer is awaited."""
    if not turns.insists(life.row.definition):
        life.close(to, reason, **facts)
        return
    said(life, to)
    d, o, ins = _open(life)
    if has_answered(life):
        acknowledged(life, **facts)
        return
    life.row.open = replace(o, insistence=replace(ins, awaits=True))
    life.move(State.SENT, AWAITS, due=_answer_by(life, d, ins))
    life.tell(facts)


def _answer_by(life: Life, d: Definition, ins: Insistence) -> int:
    """Return when the next round begins, or the occurrence ends, if no answer comes first."""
    at = max(life.now, (ins.said_at or life.now) + _wait_ms(life, d))
    return min(at, max(life.now, d.expires_at)) if d.expires_at else at


def raised(life: Life, to: State, facts: Mapping[str, Any]) -> bool:
    """Note news of a message that awaits an answer; return whether it was any."""
    _, o, ins = _open(life)
    if better(ins.reached, to) is ins.reached and o.state is State.SENT:
        return False
    life.row.open = replace(o, insistence=replace(ins, reached=better(ins.reached, to)))
    life.move(State.SENT, AWAITS, due=o.due)
    life.tell(facts)
    return True


def doubted(life: Life, reason: str, facts: Mapping[str, Any]) -> None:
    """Let a call be in doubt. The next round is meant to be sent in any case, so a doubt does not stand in its way."""
    d, o = life.row.definition, life.row.open
    due = life.now + life.rules.review_ms
    if d is not None and o is not None and turns.insists(d):
        ins = turns.begun(d, o)
        more = rounds_left(d, ins) or turns.next_person(d, ins) is not None
        ins = replace(ins, reached=better(ins.reached, State.MAYBE_SENT), awaits=more)
        life.row.open = replace(o, insistence=ins)
        if has_answered(life):
            acknowledged(life, **facts)
            return
        due = _answer_by(life, d, ins) if more else due
    life.move(State.MAYBE_SENT, reason, due=due)
    life.tell(facts)


def chain_failed(life: Life, *, for_good: bool) -> bool:
    """Go on after a chain of which nothing came through; return False where nobody is left to be asked.

    ``for_good``: this person will not have it, so that another round for them is no use.
    """
    if not turns.insists(life.row.definition):
        return False
    d, _, ins = _open(life)
    if not for_good and rounds_left(d, ins):
        at = _answer_by(life, d, ins)
        return (not d.expires_at or at < d.expires_at) and _again(life, ins, at)
    return _ask_next(life, ins, life.now)


def others_left(life: Life) -> bool:
    """Return whether somebody else can be asked in the place of the person who is asked now."""
    d, o = life.row.definition, life.row.open
    if d is None or o is None or not turns.insists(d):
        return False
    return turns.next_person(d, turns.begun(d, o)) is not None


def passed_over(life: Life, until: int) -> bool:
    """Return whether one to whom it was escalated is passed over, who may not be written to before ``until``, ms UTC.

    The time in which they were to answer is over by then, and others are left. The reminder's own recipient is waited
    for.
    """
    d, o = life.row.definition, life.row.open
    if d is None or o is None or not turns.escalated(o):
        return False
    return until > o.due_at + _wait_ms(life, d) and others_left(life)


def dropped(life: Life) -> None:
    """Pass over a person whom the reminder no longer names: the next one is asked, or it ends as what it came to."""
    _, o, ins = _open(life)
    if others_left(life):
        life.note(State.FAILED, NO_LONGER_NAMED, o=o)
    if not _ask_next(life, ins, life.now):
        life.close(State.SKIPPED, NO_LONGER_NAMED)


# -- the next round, the next person -----------------------------------------------------------------------------------


def go_on(life: Life) -> None:
    """Act where no answer has come in time: the chain again, the next person, or the end."""
    d, o, ins = _open(life)
    over = d.expires_at is not None and d.expires_at <= life.now
    if not over and rounds_left(d, ins):
        _again(life, ins, o.due)
    elif not over and _ask_next(life, ins, o.due):
        return
    elif o.state is State.MAYBE_SENT and ins.reached is State.MAYBE_SENT:
        life.row.open = replace(o, insistence=replace(ins, awaits=False))
        life.move(State.MAYBE_SENT, UNANSWERED, due=life.now + life.rules.review_ms)
    else:
        life.close(ins.reached, UNANSWERED)


def _again(life: Life, ins: Insistence, at: int) -> bool:
    d = life.row.definition
    number = ins.nags + 1
    most = nags(d) if d is not None else 0
    _begin(life, replace(ins, nags=number), at, NAGGED, f"round {number + 1} of {most + 1}")
    return True


def _ask_next(life: Life, ins: Insistence, at: int) -> bool:
    d = life.row.definition
    person = turns.next_person(d, ins) if d is not None else None
    if d is None or person is None or (d.expires_at is not None and d.expires_at <= at):
        return False
    number, most = len(ins.turns), len(turns.policy(d).escalate_to)
    turn = Turn(life.row.rounds + 1, person)
    _begin(life, replace(ins, turns=(*ins.turns, turn), nags=0), at, ESCALATED, f"person {number} of {most}")
    return True


def _begin(life: Life, ins: Insistence, at: int, reason: str, detail: str) -> None:
    """Begin a round, due at ``at``."""
    d, o, _ = _open(life)
    row = life.row
    row.rounds += 1
    paused = row.paused
    row.open = Occurrence(
        o.occurrence,
        State.PAUSED if paused else State.SCHEDULED,
        at,
        d.expires_at or max(at, life.now) + max_lateness(d, life.rules),
        life.now + life.rules.review_ms if paused else at,
        row.rounds,
        ask=row.ask,
        channel=step_channel(d, 0) if len(ins.turns) == 1 else Channel.ANY,
        reason=reason,
        insistence=replace(ins, said_at=0, awaits=False),
    )
    life.note(row.open.state, reason, o=row.open, detail=detail)


# -- answers -----------------------------------------------------------------------------------------------------------


def answered(life: Life, who: str, action: str = "") -> bool:
    """Count the answer of a person to the open occurrence; return whether it is enough. One person counts once."""
    d, o, ins = _open(life)
    quorum = turns.policy(d).quorum
    if quorum <= 1:
        return True
    again = who in ins.answered
    if not again:
        ins = replace(ins, answered=(*ins.answered, who))
        o = life.row.open = replace(o, insistence=ins)
    if len(ins.answered) >= quorum:
        return True
    why = ANSWERED_BEFORE if again else QUORUM_OPEN
    life.note(o.state, why, action=action, o=o, detail=f"{len(ins.answered)} of {quorum}")
    return False


def enough(life: Life) -> bool:
    """Return whether as many people have answered as the policy wants."""
    d, o = life.row.definition, life.row.open
    quorum = turns.policy(d).quorum if d is not None else 1
    return quorum <= 1 or (o is not None and o.insistence is not None and len(o.insistence.answered) >= quorum)


def has_answered(life: Life) -> bool:
    """Return whether the person who is asked now has answered already, or enough others."""
    o = life.row.open
    ins = o.insistence if o is not None else None
    if ins is None or not ins.answered:
        return False
    return ins.turns[-1].recipient_id in ins.answered or enough(life)


def acknowledged(life: Life, action: str = "", **facts: Any) -> None:
    """End what has been answered, or go on to whoever has not answered yet."""
    if enough(life):
        life.close(State.ACKNOWLEDGED, "acknowledged", action=action, **facts)
    else:
        pass_on(life)
        life.tell(facts)


def pass_on(life: Life) -> None:
    """Ask the next person in the place of one who has answered; where nobody is left, wait for somebody's answer."""
    d, o, ins = _open(life)
    if _ask_next(life, ins, max(life.now, o.due_at)):
        return
    end = d.expires_at or max(o.deadline, life.now + _wait_ms(life, d))
    if ins.reached is State.NONE:
        due = max(life.now, o.deadline)
        life.move(State.SCHEDULED, QUORUM_OPEN, due=due, withdrawal=Withdrawal.NONE)
        return
    life.row.open = replace(o, insistence=replace(ins, awaits=True))
    doubt = ins.reached is State.MAYBE_SENT
    to = State.MAYBE_SENT if doubt else State.SENT
    life.move(to, QUORUM_OPEN, due=max(life.now, end), withdrawal=Withdrawal.NONE)
