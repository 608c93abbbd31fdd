"""Why a reminder stands where it stands, what happens next and when, and where its lateness came from. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from app import reasons
from schemas.names import Channel, State, Withdrawal
from schemas.records import AuditEntry, Occurrence, ReminderRow, Stages, TrailEntry
from tables import digests, insist, transition, turns
from tables import due as index

#: The stages of an attempt, in their order, by the field of Stages that says when each was reached.
STAGES: tuple[tuple[str, str], ...] = (
    ("wanted", "wanted_at"),
    ("published", "published_at"),
    ("claimed", "claimed_at"),
    ("gated", "gated_at"),
    ("queued", "queued_at"),
    ("called", "called_at"),
    ("answered", "answered_at"),
)
#: What was waited for before each stage.
WAITS: dict[str, str] = {
    "wanted": "earlier attempts, steps and holds",
    "published": "the timer, and credit of its channel",
    "claimed": "its partition's worker",
    "gated": "the request's way to the gate",
    "queued": "the delivery's way to its channel's topic",
    "called": "a free slot of its provider",
    "answered": "the provider",
}


_OF_AN_ANSWER = frozenset({insist.AWAITS, insist.QUORUM_OPEN, insist.ANSWERED_BEFORE})


@dataclass(frozen=True, slots=True)
class Part:
    """One stage: when it was reached, and how long it took since the one before, in ms."""

    stage: str
    at: int
    ms: int


@dataclass(frozen=True, slots=True)
class Lateness:
    """From the due time to the answer. ``total_ms`` is the sum of the parts, to the millisecond."""

    due_at: int
    total_ms: int
    attempt: int
    channel: Channel
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Why:
    """What a person wants to know. ``at``: when what is ``next`` happens, ms UTC; 0: no time is set. ``deadline``: 0
    where none is left."""

    state: str
    because: str
    next: str
    at: int = 0
    deadline: int = 0
    lateness: Lateness | None = None


def split(stages: Stages, attempt: int = 0, channel: Channel = Channel.ANY) -> Lateness:
    """Return where the time of an attempt went. A stage that nobody told of is part of the one after it.

    Stages are told by the clocks of those who saw them: where these differ, a part may be negative.
    """
    known = [(name, getattr(stages, field)) for name, field in STAGES]
    known = [(name, at) for name, at in known if at]
    before = first = stages.due_at or (known[0][1] if known else 0)
    parts = []
    for name, at in known:
        if name != "wanted" or at != before:
            parts.append(Part(name, at, at - before))
            before = at
    return Lateness(first, before - first, attempt, channel, tuple(parts))


def lateness(trail: tuple[TrailEntry, ...]) -> Lateness | None:
    """Return where the time of the last attempt on a trail went: of the last call, if there was one."""
    told = [entry for entry in trail if entry.stages is not None and entry.stages.answered_at]
    called = [entry for entry in told if entry.stages is not None and entry.stages.called_at]
    for entry in reversed(called or told):
        if entry.stages is not None:
            return split(entry.stages, entry.attempt, entry.channel)
    return None


def explain(row: ReminderRow, head: index.Header, now: int) -> Why:
    """Return why a row stands where it stands. ``head``: its header, which says when it acts next."""
    o = row.open
    state = index.STATES.get(head.state, State.UNKNOWN)
    told = lateness(row.trail)
    if state is not transition.state(row):
        # Only what our own code cannot get past is moved by its header alone.
        return Why(reasons.STATES[state], reasons.sentence("bug"), _ended(state), head.due_ms, 0, told)
    if o is None:
        return Why(reasons.STATES[state], _because(row, state), _ended(state), head.due_ms, 0, told)
    deadline = 0 if state in (State.SENT, State.MAYBE_SENT, State.WITHDRAWING) else o.deadline
    return Why(_standing(o, now), _because(row, state), _next(row, o, now), o.due, deadline, told)


def recount(entries: Sequence[AuditEntry], now: int) -> Why:
    """Return the same from the audit topic alone, oldest entry first. Raises ValueError where there is none."""
    if not entries:
        raise ValueError("nothing is on record")
    told = [entry for entry in entries if entry.to_state is not State.REJECTED] or list(entries)
    last = told[-1]
    trail = tuple(
        TrailEntry(e.seq, e.at, e.to_state, e.reason, e.occurrence, e.attempt, e.channel, e.detail, e.actor, e.stages)
        for e in told
    )
    if not last.due or last.to_state is State.REJECTED:
        words = _words(last.reason, last.channel, last.detail)
        return Why(reasons.STATES[last.to_state], words, _ended(last.to_state), 0, 0, lateness(trail))
    o = Occurrence(
        last.occurrence,
        last.to_state,
        last.due_at,
        last.deadline,
        last.due,
        step=last.step,
        attempt=last.attempt,
        channel=last.channel,
    )
    head = index.Header(index.ROW_FORMAT, index.STATE_CODES[last.to_state], 0, 0, last.due, last.deadline)
    return explain(ReminderRow(open=o, trail=trail), head, now)


def _because(row: ReminderRow, state: State) -> str:
    """Return the reason of a state in words: the open occurrence's own, how the last one ended, or the trail's."""
    said = [entry for entry in row.trail if entry.state is state and entry.reason]
    last = said[-1] if said else None
    o = row.open
    if o is not None and o.state is state and o.reason:
        same = last is not None and last.reason == o.reason
        return _words(o.reason, o.channel, last.detail if last is not None and same else "")
    if o is None and row.closed and row.closed[-1].state is state and row.closed[-1].reason:
        end = row.closed[-1]
        same = last is not None and last.reason == end.reason
        return _words(end.reason, end.channel, last.detail if last is not None and same else "")
    return _words(last.reason, last.channel, last.detail) if last is not None else ""


def _words(reason: str, channel: Channel, detail: str) -> str:
    sentence = reasons.sentence(reason, channel)
    return f"{sentence} ({detail})" if detail else sentence


def _standing(o: Occurrence, now: int) -> str:
    if o.state is State.SCHEDULED and o.due <= now:
        return "It is due and waits for its turn: for credit of its channel, or until a hold on the channel ends."
    if o.state is State.SENT:
        return "The provider took it; a receipt is awaited."
    return reasons.STATES[o.state]


def _next(row: ReminderRow, o: Occurrence, now: int) -> str:
    """Return what happens at ``o.due`` if nothing comes before it."""
    match o.state:
        case State.SENT | State.MAYBE_SENT if turns.awaits(o):
            return _unless_answered(row, o)
        case State.SENT if row.definition is None and row.trail and row.trail[-1].reason in _OF_AN_ANSWER:
            # The audit alone does not tell whose turn comes next.
            return "Unless an answer comes first, its chain begins again, the next person is asked, or it ends as SENT."
        case State.PENDING:
            return "The recipient's profile is asked for again."
        case State.SCHEDULED if o.due <= now:
            return "It is sent as soon as its channel has credit."
        case State.SCHEDULED:
            return f"It is sent{_which_round(row, o)}."
        case State.RETRY:
            return f"Attempt {o.attempt} is made."
        case State.HELD if o.reason.startswith(reasons.HOLD):
            return "It is looked at again, or as soon as the hold is released."
        case State.HELD if o.reason == digests.WINDOW:
            return "It goes in one message with the others of its recipient that have come due by then."
        case State.HELD:
            return f"Attempt {o.attempt} is asked for again."
        case State.SENDING:
            return "Unless the answer comes first, the same attempt is asked for again; delivery makes no second call."
        case State.PAUSED:
            return "It is listed for review again; RESUME lets it go on."
        case State.MAYBE_SENT:
            return "It is listed for review again; `maybe resolve` settles it."
        case State.WITHDRAWING:
            return _after_withdrawal(o.withdrawal)
        case State.SENT:
            d = row.definition
            more = d is not None and o.step + 1 < len(d.steps)
            return "Unless a receipt comes first, " + (
                "the next step of its chain begins." if more else "it ends as SENT."
            )
        case _:
            return "Nothing is planned."


def _which_round(row: ReminderRow, o: Occurrence) -> str:
    """Return which round an occurrence is in, where it is not its first."""
    d, ins = row.definition, o.insistence
    if d is None or ins is None:
        return ""
    if turns.escalated(o):
        number, most = len(ins.turns) - 1, len(turns.policy(d).escalate_to)
        return f", to {ins.turns[-1].recipient_id}, person {number} of {max(number, most)}"
    return f", in round {ins.nags + 1} of {insist.nags(d) + 1}" if ins.nags else ""


def _unless_answered(row: ReminderRow, o: Occurrence) -> str:
    """Return what comes if no answer does."""
    d, ins = row.definition, o.insistence
    unless = "Unless an answer comes first, "
    if d is None or ins is None:
        return unless + "it goes on."
    over = d.expires_at is not None and d.expires_at <= o.due
    if not over and insist.rounds_left(d, ins):
        return unless + f"round {ins.nags + 2} of {insist.nags(d) + 1} begins."
    if not over and (person := turns.next_person(d, ins)) is not None:
        return unless + f"{person} is asked, person {len(ins.turns)} of {len(turns.policy(d).escalate_to)}."
    return unless + f"it ends as {ins.reached.value}, unanswered."


def _after_withdrawal(why: Withdrawal) -> str:
    again = "Unless delivery answers first, it is asked again. With the answer "
    match why:
        case Withdrawal.CANCEL:
            return again + "it is CANCELLED, or what became of the call."
        case Withdrawal.EXPIRE:
            return again + "it is EXPIRED, or what became of the call."
        case Withdrawal.REPLACE:
            return again + "its newer version takes its place."
        case Withdrawal.PAUSE:
            return again + "it is PAUSED, or what became of the call."
        case Withdrawal.SNOOZE:
            return again + "it is planned for its new time."
        case Withdrawal.ACKNOWLEDGE:
            return again + "it is ACKNOWLEDGED, or the next person is asked whose answer is wanted as well."
        case Withdrawal.CANCEL_ONE:
            return again + "this occurrence is CANCELLED, or what became of the call, and the next one opens."
        case Withdrawal.SUPERSEDE:
            return again + "this occurrence is SKIPPED, or what became of the call, and the next one opens."
        case Withdrawal.ERASE:
            return again + "it is CANCELLED, or what became of the call; what was personal of it is gone already."
        case Withdrawal.NONE | Withdrawal.UNKNOWN:
            return again + "it goes on."
        case other:
            assert_never(other)


def _ended(state: State) -> str:
    match state:
        case State.DEAD_LETTER:
            return "Nothing, unless somebody sends it anew (`fire`, or `dlq redrive`). It is forgotten later."
        case State.CANCELLED | State.EXPIRED | State.SKIPPED:
            return "Nothing, unless a newer UPSERT reopens it. It is forgotten later."
        case State.MAYBE_SENT:
            return "Nothing is sent of it any more; `maybe resolve` puts the books right. It is forgotten later."
        case _:
            return "Nothing more. It is forgotten later."
