"""What became of each reminder, judged from outside: from what was asked, what the audit says and what providers got.

Written apart from the product's ledger and its rules: it shares the reading of Avro and nothing else. It knows only
what the README and the design promise. Pure.
"""

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from urllib.parse import quote

from schemas import codec
from schemas.names import Action, Channel, MaybeSent, OutcomeKind, State
from schemas.records import AuditEntry, DeliveryReceipt, ReminderEvent, ReminderStatus


class FaultKind(StrEnum):
    """What can be wrong with a history."""

    LOST = "lost"
    UNFINISHED = "unfinished"
    TWO_ENDS = "two ends"
    HOLE = "hole in the trail"
    BACKWARDS = "older version over a newer one"
    DOUBLED = "doubled"
    UNASKED = "received, never asked for"
    UNSAID = "received, not said"
    MISSING = "said, never received"
    UNSENT = "doubt not sent again"
    AFTER_CANCEL = "call after cancel"
    AFTER_STOP = "call after STOP"
    AFTER_ERASE = "call after erase"
    UNFOLDED = "receipt not folded"
    EARLY = "early"
    LATE = "lateness not accounted for"
    STATUS = "status says otherwise"


#: Faults by which a recipient has got nothing that they should have got, or nobody can say so.
LOSSES = frozenset(
    {
        FaultKind.LOST,
        FaultKind.UNFINISHED,
        FaultKind.TWO_ENDS,
        FaultKind.HOLE,
        FaultKind.BACKWARDS,
        FaultKind.UNSAID,
        FaultKind.MISSING,
        FaultKind.UNSENT,
        FaultKind.UNFOLDED,
        FaultKind.STATUS,
    }
)
#: Faults by which a recipient has got something that they should not have got.
DOUBLES = frozenset(
    {
        FaultKind.DOUBLED,
        FaultKind.UNASKED,
        FaultKind.AFTER_CANCEL,
        FaultKind.AFTER_STOP,
        FaultKind.AFTER_ERASE,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that was not kept to a reminder."""

    kind: FaultKind
    reminder_id: str
    what: str

    def __str__(self) -> str:
        return f"{self.reminder_id}: {self.kind}: {self.what}"


@dataclass(frozen=True, slots=True)
class Written:
    """A record of a topic. ``at``: its timestamp, ms UTC."""

    partition: int
    offset: int
    at: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A message at a provider. ``began_at``: when the first sign of it came, ms UTC; ``token``: the opaque id that it
    carries, "" where the provider's protocol has none; ``taken``: whether the provider let its recipient have it."""

    reminder_id: str
    channel: Channel
    began_at: int
    token: str = ""
    taken: bool = True


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody's STOP: from ``at`` (ms UTC) on nothing may go to these reminders' address on a channel."""

    reminder_ids: frozenset[str]
    channel: Channel
    at: int


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which something was broken on purpose, ms UTC."""

    since: int
    until: int


@dataclass(frozen=True, slots=True)
class History:
    """Everything that is known from outside. ``resend``: the installation's rule for doubts of reminders that have none
    of their own; ``attempts``: as often is something tried; ``slack_ms``: the lateness that needs no reason."""

    events: Sequence[Written] = ()
    audit: Sequence[Written] = ()
    receipts: Sequence[Written] = ()
    statuses: Sequence[Written] = ()
    received: Sequence[Received] = ()
    stops: Sequence[Stop] = ()
    disturbed: Sequence[Span] = ()
    ended_at: int = 0
    resend: bool = False
    attempts: int = 5
    slack_ms: int = 2_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The faults of a history, and how many of its reminders ended how."""

    faults: tuple[Fault, ...]
    reminders: int
    states: Mapping[State, int]

    @property
    def maybe_sent(self) -> int:
        """How many stand as a doubt for a person to decide."""
        return self.states.get(State.MAYBE_SENT, 0)

    def of(self, kinds: Iterable[FaultKind]) -> int:
        """Return how many faults are of these kinds."""
        wanted = frozenset(kinds)
        return sum(fault.kind in wanted for fault in self.faults)


_NEVER = frozenset({State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD_LETTER})
_REACHED = frozenset({State.SENT, State.DELIVERED, State.ACKNOWLEDGED})
_ENDS = _NEVER | _REACHED
#: What may be known of a message; news only ever raise it.
_KNOWN = {State.MAYBE_SENT: 1, State.SENT: 2, State.DELIVERED: 3, State.ACKNOWLEDGED: 4}
#: Where a reminder may rest: its time is still to come, or somebody else's.
_RESTS = frozenset({State.SCHEDULED, State.PENDING, State.PAUSED, State.HELD, State.SENT, State.DELIVERED})
#: Where nothing is late: it was told to wait, or has failed and waits for its next try.
_WAITS = frozenset({State.RETRY, State.HELD, State.PAUSED, State.PENDING, State.FAILED})
#: With these a step goes on to the next though its provider had taken it.
_WENT_ON = frozenset({"receipt_missing", "undelivered", "failure_told"})
#: With these an occurrence begins a new round though something of it was sent.
_ANEW = frozenset(
    {
        "nagged",
        "escalated",
        "snoozed",
        "fired",
        "reopened",
        "rescheduled",
        "updated",
        "resolved_not_sent",
        "recipient_changed",
        "moved",
    }
)
#: A call that was never answered. Whoever knows a message by its id is sent it again (ADR 0029), so that it is no state
#: of its own there: the doubt stands as the reason of a failure.
_DOUBTS = frozenset({"no_outcome", "call_timeout", "no_answer", "connection_lost"})
_KNOWS_COPIES = frozenset({Channel.WEBHOOK})
#: A person said that it was sent.
_BY_A_PERSON = frozenset({"resolved_sent"})
#: Every worker knows of a STOP within so long.
_KNOWN_MS = 1_000
#: By so much two clocks of one machine may differ in a record, ms.
_CLOCK_MS = 50

_Delivery = tuple[str, int, int]


def token_of(reminder_id: str, occurrence: str, round_: int, step: int) -> str:
    """Return the opaque id of a delivery, as the design says: base32(sha256(id))[:26], its parts escaped and joined."""
    name = f"{quote(reminder_id, safe='@')}:{quote(occurrence, safe='@')}:{round_}:{step}"
    return base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:26].lower()


@dataclass(frozen=True, slots=True)
class _Entry:
    """An audit entry and the timestamp of its record."""

    at: int
    said: AuditEntry

    @property
    def delivery(self) -> _Delivery:
        return (self.said.occurrence, self.said.round, self.said.step)


@dataclass(slots=True)
class _Story:
    """Everything about one reminder. ``raw``: all audit entries; ``trail``: those that stand in the end."""

    reminder_id: str
    events: list[tuple[int, ReminderEvent]] = field(default_factory=list)
    raw: list[_Entry] = field(default_factory=list)
    trail: list[_Entry] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    receipts: list[DeliveryReceipt] = field(default_factory=list)
    statuses: list[ReminderStatus] = field(default_factory=list)

    @property
    def tokens(self) -> dict[str, _Delivery]:
        """The deliveries that the audit names, by their opaque ids."""
        return {token_of(self.reminder_id, *e.delivery): e.delivery for e in self.raw if e.said.occurrence}

    def resends(self, default: bool) -> bool:
        """Return the rule for its doubts, as its last event has it."""
        rule = default
        for _, event in self.events:
            if event.action is Action.UPSERT:
                own = event.policy.maybe_sent if event.policy is not None else MaybeSent.BY_CATEGORY
                rule = default if own is MaybeSent.BY_CATEGORY else own is MaybeSent.RESEND
        return rule

    def fault(self, kind: FaultKind, what: str) -> Fault:
        return Fault(kind, self.reminder_id, what)


def check(history: History) -> Verdict:
    """Judge a history: every fault by its name and reminder."""
    stories = _stories(history)
    faults: list[Fault] = []
    states: Counter[State] = Counter()
    for story in stories.values():
        faults += _answered(story)
        faults += _in_order(story)
        faults += _ended(story, history)
        faults += _sent(story, history)
        faults += _not_sent(story, history)
        faults += _told(story)
        faults += _on_time(story, history)
        states[story.trail[-1].said.to_state if story.trail else State.NONE] += 1
    return Verdict(tuple(sorted(faults, key=lambda f: (f.reminder_id, f.kind))), len(stories), dict(states))


def told(history: History, reminder_id: str) -> str:
    """Return everything that a history has of a reminder, in the order of time: for whoever looks for a cause."""
    story = _stories(history).get(reminder_id, _Story(reminder_id))
    lines = [(at, f"event {e.action} version {e.version} {e.event_id}, at {e.at}") for at, e in story.events]
    for entry in story.raw:
        said, stands = entry.said, "" if entry in story.trail else " (replaced)"
        where = f"{_name(entry.delivery)}, attempt {said.attempt}, ask {said.ask}"
        what = f"{said.seq} {said.to_state} {said.reason} {said.action} {said.detail}; {where}; due {said.due}{stands}"
        lines.append((entry.at, f"audit {what}"))
    known = story.tokens
    for message in story.received:
        where = _name(known[message.token]) if message.token in known else message.token
        lines.append((message.began_at, f"{message.channel} {'took it' if message.taken else 'was asked'}: {where}"))
    lines += [(r.at, f"receipt {r.outcome} {r.delivery_id}") for r in story.receipts]
    lines += [(s.at, f"status {s.state} {s.occurrence}") for s in story.statuses]
    lines += [(at, text) for span in history.disturbed for at, text in ((span.since, "broken"), (span.until, "mended"))]
    return "\n".join(f"    {at} {text}" for at, text in sorted(lines))


def _stories(history: History) -> dict[str, _Story]:
    found: dict[str, _Story] = {}

    def story(reminder_id: str) -> _Story:
        return found.setdefault(reminder_id, _Story(reminder_id))

    for record in _sorted(history.events):
        event = codec.decode(ReminderEvent, record.value)
        story(event.reminder_id).events.append((record.at, event))
    for record in _sorted(history.audit):
        said = codec.decode(AuditEntry, record.value)
        one, entry = story(said.reminder_id), _Entry(record.at, said)
        one.raw.append(entry)
        if said.seq:
            # A number that is not above the last one replaces it and what followed.
            while one.trail and one.trail[-1].said.seq >= said.seq:
                one.trail.pop()
            one.trail.append(entry)
        elif said.to_state in (State.MAYBE_SENT, State.DEAD_LETTER):
            # A row that could not be read was moved by its header.
            one.trail.append(entry)
    for record in _sorted(history.receipts):
        receipt = codec.decode(DeliveryReceipt, record.value)
        story(receipt.reminder_id).receipts.append(receipt)
    for record in _sorted(history.statuses):
        status = codec.decode(ReminderStatus, record.value)
        story(status.reminder_id).statuses.append(status)
    for message in sorted(history.received, key=lambda m: m.began_at):
        story(message.reminder_id).received.append(message)
    return found


def _sorted(records: Iterable[Written]) -> list[Written]:
    return sorted(records, key=lambda r: (r.partition, r.offset))


# -- what was asked for is answered, and the trail is whole


def _answered(story: _Story) -> Iterator[Fault]:
    """Every event is named by an entry that stands, or by a refusal."""
    named = {e.said.event_id for e in story.trail} | {e.said.event_id for e in story.raw if not e.said.seq}
    for _, event in story.events:
        if event.event_id not in named:
            what = f"{event.action.value} {event.event_id or '(without id)'} is named by no entry of the audit"
            yield story.fault(FaultKind.LOST, what)


def _in_order(story: _Story) -> Iterator[Fault]:
    """The entries that stand are numbered without a gap, each goes on from the state of the one before, and versions
    never go back."""
    before: AuditEntry | None = None
    for entry in story.trail:
        said = entry.said
        if said.seq == 0:
            before = None
            continue
        last = before.seq if before is not None else 0
        if said.seq != last + 1 and (before is not None or entry is story.trail[0]):
            yield story.fault(FaultKind.HOLE, f"entry {said.seq} follows {last}")
        elif before is not None and said.from_state is not before.to_state:
            what = f"entry {said.seq} comes from {said.from_state}, entry {last} went to {before.to_state}"
            yield story.fault(FaultKind.HOLE, what)
        if before is not None and said.version < before.version:
            what = f"entry {said.seq} has version {said.version}, the one before {before.version}"
            yield story.fault(FaultKind.BACKWARDS, what)
        before = said


def _ended(story: _Story, history: History) -> Iterator[Fault]:
    """It is in exactly one end, or its time is still to come, or it is a doubt for a person to decide."""
    for before, entry in pairwise(story.trail):
        was, now = before.said, entry.said
        ended = was.to_state in _ENDS and was.due == 0 and now.to_state in _ENDS and now.due == 0
        same = was.occurrence == now.occurrence and was.round == now.round
        if not ended or not same or was.to_state is now.to_state:
            continue
        if _KNOWN.get(now.to_state, 0) <= _KNOWN.get(was.to_state, 0):
            yield story.fault(FaultKind.TWO_ENDS, f"{was.occurrence} ended as {was.to_state} and as {now.to_state}")
    if not story.trail:
        return
    last = story.trail[-1].said
    if last.to_state in _ENDS and last.due == 0:
        return
    if last.to_state is State.MAYBE_SENT:
        if story.resends(history.resend) and last.attempt < history.attempts:
            yield story.fault(FaultKind.UNSENT, f"{last.reason}: its rule is to send it again")
        return
    if last.to_state not in _RESTS or (last.due and last.due + history.slack_ms < history.ended_at):
        yield story.fault(FaultKind.UNFINISHED, f"stands at {last.to_state} since entry {last.seq}: {last.reason}")


# -- what was sent


def _sent(story: _Story, history: History) -> Iterator[Fault]:
    """Everything taken was asked for, once, and is said; everything said was taken."""
    taken = [m for m in story.received if m.taken]
    known = story.tokens
    for message in taken:
        if message.token and message.token not in known:
            yield story.fault(FaultKind.UNASKED, f"{message.channel} {message.token}")
    resends = story.resends(history.resend)
    attempts: dict[_Delivery, set[int]] = defaultdict(set)
    channels: dict[Channel, set[_Delivery]] = defaultdict(set)
    for entry in story.raw:
        if entry.said.occurrence and entry.said.attempt:
            attempts[entry.delivery].add(entry.said.attempt)
            channels[entry.said.channel].add(entry.delivery)
    deliveries: Counter[_Delivery] = Counter(known[m.token] for m in taken if m.token in known)
    for delivery, copies in deliveries.items():
        most = max(1, len(attempts[delivery])) if resends else 1
        if copies > most:
            yield story.fault(FaultKind.DOUBLED, f"{_name(delivery)} was taken {copies} times")
    yield from _nameless(story, taken, channels, attempts, resends)
    yield from _goes_on(story, sorted(deliveries))
    said = {(e.said.occurrence, e.said.round) for e in story.trail if e.said.to_state in _KNOWN or _went_on(e)}
    said |= set(_left_in_doubt(story))
    for occurrence, round_ in sorted({delivery[:2] for delivery in deliveries} - said):
        yield story.fault(FaultKind.UNSAID, f"{occurrence}, round {round_}")
    if not story.trail:
        if taken:
            yield story.fault(FaultKind.UNSAID, "the audit knows nothing of it")
        return
    yield from _missing(story, taken, deliveries)


def _left_in_doubt(story: _Story) -> Iterator[tuple[str, int]]:
    """Yield what a receiver who knows copies may have, by the words of ADR 0029: the trail says that a call was not
    answered, or a cancel came while one was under way."""
    for entry in story.trail:
        said = entry.said
        if said.channel in _KNOWS_COPIES and said.reason in _DOUBTS:
            yield said.occurrence, said.round
    began = min((m.began_at for m in story.received if m.channel in _KNOWS_COPIES and m.taken), default=0)
    for before, entry in pairwise(story.trail):
        if before.said.to_state is State.WITHDRAWING and 0 < began < entry.at:
            yield before.said.occurrence, before.said.round


def _nameless(
    story: _Story,
    taken: Sequence[Received],
    channels: Mapping[Channel, set[_Delivery]],
    attempts: Mapping[_Delivery, set[int]],
    resends: bool,
) -> Iterator[Fault]:
    """A provider whose protocol has no id took no more than deliveries were asked for on its channel."""
    for channel, copies in Counter(m.channel for m in taken if not m.token).items():
        asked = channels.get(channel, set())
        most = sum(len(attempts[d]) for d in asked) if resends else len(asked)
        if not asked:
            yield story.fault(FaultKind.UNASKED, f"{channel} took {copies}")
        elif copies > most:
            yield story.fault(FaultKind.DOUBLED, f"{channel} took {copies}, {most} were asked for")


def _goes_on(story: _Story, deliveries: Sequence[_Delivery]) -> Iterator[Fault]:
    """Where a second step, or a second round, reached its recipient, the audit says why the first was not enough."""
    for first, second in pairwise(deliveries):
        if first[0] != second[0]:
            continue
        if first[1] == second[1]:
            why = any(e.delivery == first and _went_on(e) for e in story.trail)
        else:
            why = any(e.delivery[:2] == second[:2] and e.said.reason in _ANEW for e in story.raw)
        if not why:
            what = f"{_name(first)} was taken, and so was {_name(second)}: nothing says why"
            yield story.fault(FaultKind.DOUBLED, what)


def _missing(story: _Story, taken: Sequence[Received], deliveries: Mapping[_Delivery, int]) -> Iterator[Fault]:
    got = {delivery[:2] for delivery in deliveries}
    nameless = Counter(m.channel for m in taken if not m.token)
    claimed: set[tuple[str, int]] = set()
    for entry in story.trail:
        said = entry.said
        if said.to_state not in (State.SENT, State.DELIVERED) or not said.occurrence or said.reason in _BY_A_PERSON:
            continue
        which = (said.occurrence, said.round)
        if which in got or which in claimed:
            continue
        claimed.add(which)
        if nameless[said.channel] > 0:
            nameless[said.channel] -= 1
        else:
            what = f"{said.to_state} of {said.occurrence}, round {said.round}, by {said.channel}"
            yield story.fault(FaultKind.MISSING, what)


def _went_on(entry: _Entry) -> bool:
    return entry.said.reason in _WENT_ON


def _name(delivery: _Delivery) -> str:
    occurrence, round_, step = delivery
    return f"{occurrence}, round {round_}, step {step}"


# -- what must not be sent any more


def _not_sent(story: _Story, history: History) -> Iterator[Fault]:
    """No call begins once CANCELLED is in the audit, a second after a STOP, or once it is said that it was erased.
    Entries that were replaced count, too: they were there to be read."""
    known = story.tokens
    for n, entry in enumerate(story.raw):
        if entry.said.to_state is not State.CANCELLED or not entry.said.occurrence:
            continue
        reopened = next((e.at for e in story.raw[n + 1 :] if _reopens(e, entry)), history.ended_at)
        erased = entry.said.reason == "erased"
        for message in story.received:
            of = known.get(message.token)
            mine = of is None or of[0] == entry.said.occurrence
            if mine and entry.at + _CLOCK_MS < message.began_at <= reopened:
                late = message.began_at - entry.at
                kind = FaultKind.AFTER_ERASE if erased else FaultKind.AFTER_CANCEL
                yield story.fault(kind, f"{message.channel}, {late} ms later")
    for stop in history.stops:
        for message in story.received:
            if (
                story.reminder_id in stop.reminder_ids
                and message.channel is stop.channel
                and message.began_at > stop.at + _KNOWN_MS + _CLOCK_MS
            ):
                yield story.fault(FaultKind.AFTER_STOP, f"{message.channel}, {message.began_at - stop.at} ms later")


def _reopens(entry: _Entry, cancelled: _Entry) -> bool:
    """Return whether an entry begins something new after a cancel. One that only takes its place does not."""
    said = entry.said
    anew = said.reason in _ANEW or said.reason == "next"
    return anew and said.seq > cancelled.said.seq and said.to_state not in _ENDS


# -- what is told


def _told(story: _Story) -> Iterator[Fault]:
    """Good news of a message is on the trail, and the status for producers says what the audit says."""
    known = {_delivery_id(story.reminder_id, d): d for d in story.tokens.values()}
    for receipt in story.receipts:
        if receipt.outcome not in (OutcomeKind.DELIVERED, OutcomeKind.READ):
            continue
        of = known.get(receipt.delivery_id)
        if of is None or not any(_folds(entry, of) for entry in story.trail):
            yield story.fault(FaultKind.UNFOLDED, f"{receipt.outcome} of {receipt.delivery_id}")
    ended: dict[str, State] = {}
    for entry in story.trail:
        said = entry.said
        if said.to_state in _ENDS and said.due == 0 and said.occurrence:
            ended[said.occurrence] = said.to_state
        elif said.occurrence:
            ended.pop(said.occurrence, None)
    last = {status.occurrence: status.state for status in story.statuses}
    for occurrence, state in ended.items():
        if last.get(occurrence) is not state:
            yield story.fault(FaultKind.STATUS, f"{occurrence}: {last.get(occurrence)}, and the audit says {state}")


def _delivery_id(reminder_id: str, delivery: _Delivery) -> str:
    occurrence, round_, step = delivery
    return f"{quote(reminder_id, safe='@')}:{quote(occurrence, safe='@')}:{round_}:{step}"


def _folds(entry: _Entry, of: _Delivery) -> bool:
    said = entry.said
    if said.occurrence != of[0]:
        return said.detail.startswith(f"{of[0]}: ")
    return said.to_state in (State.DELIVERED, State.ACKNOWLEDGED)


# -- when


def _on_time(story: _Story, history: History) -> Iterator[Fault]:
    """The first call of each occurrence begins at its time; what is later than the slack has a reason: it was told to
    wait, it came late, or something was broken on purpose."""
    first: dict[str, tuple[Received, _Delivery]] = {}
    for message in story.received:
        of = story.tokens.get(message.token)
        if of is not None and of[0] not in first:
            first[of[0]] = (message, of)
    for message, of in first.values():
        asked = [e for e in story.raw if e.delivery == of and e.said.to_state is State.SENDING and e.said.due_at]
        if not asked:
            continue
        due = min(e.said.due_at for e in asked)
        if message.began_at + _CLOCK_MS < due:
            yield story.fault(FaultKind.EARLY, f"{_name(of)}: {due - message.began_at} ms")
        late = _unaccounted(story, history, due, message.began_at)
        if late > history.slack_ms:
            yield story.fault(FaultKind.LATE, f"{_name(of)}: {late} ms of {message.began_at - due} ms")


def _unaccounted(story: _Story, history: History, since: int, until: int) -> int:
    """Return how many ms between two instants have no reason."""
    reasons = [(span.since, span.until) for span in history.disturbed]
    defined = [at for at, event in story.events if event.action is not Action.CANCEL and at <= until]
    if defined:
        reasons.append((since, defined[-1]))
    entries = [e.said for e in story.trail]
    for said, after in zip(entries, [*entries[1:], None], strict=True):
        if said.to_state in _WAITS:
            reasons.append((said.at, after.at if after is not None else until))
    left, reached = 0, since
    for begin, end in sorted(reasons):
        left += max(0, min(begin, until) - reached)
        reached = max(reached, min(end, until))
    return left + max(0, until - reached)
