"""What a transition of a reminder is made of: rules, inputs, results, the row header, and the moves that inputs share.
Pure.

What holds for every transition: an entry in the audit says it; a row that is not terminal has a finite due; an input
already applied changes nothing; asks and rounds only grow, so no id of a delivery is ever used for two things.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any

from schemas import ids, zones
from schemas.names import (
    LANES,
    Channel,
    Lane,
    Missed,
    OutcomeKind,
    RequestKind,
    State,
    WaitFor,
    Withdrawal,
)
from schemas.quick import copier, freezer, quicken, replace
from schemas.records import (
    Applied,
    AuditEntry,
    Closed,
    Definition,
    DeliveryRequest,
    MovedStart,
    Occurrence,
    ReminderRow,
    ReminderStatus,
    RetryRecord,
    Stages,
    TrailEntry,
)
from tables import due as index
from tables import retraction, schedule, series, turns
from tables.schedule import Firing, TimeRules

#: An occurrence due sooner than this may have been asked for by a unit that died before its changelog, so it is
#: withdrawn.
NEAR_MS = 60_000
HOUR_MS = 3_600_000
#: So long before it is due somebody is warned that a reminder will reach nobody.
WARNED_MS = 24 * HOUR_MS
KEPT_CLOSED = 4
KEPT_TRAIL = 24

ASKABLE = frozenset({State.SCHEDULED, State.RETRY, State.HELD})
REOPENABLE = frozenset({State.CANCELLED, State.EXPIRED, State.SKIPPED})
#: An occurrence is withdrawn because its reminder is now another recipient's. Only the one who was asked can answer, so
#: the withdrawal is said once, to them, and what they were sent does not count for the new one.
MOVED = "recipient_changed"
#: The most starts of a series that are moved or cancelled ahead of their time.
MOST_MOVES = 200
#: A series has no firing (any more).
NOTHING_TO_COME = "nothing_to_come"
#: The start of a series by cron that waits for its recipient's zone.
UNKNOWN_START = "first"
#: How long a series waits for its recipient's zone, in ms.
PENDING_SERIES_MS = 366 * 24 * HOUR_MS
#: How much is known to have come of it, by state; of all others nothing.
_CAME_TO = {State.MAYBE_SENT: 1, State.SENT: 2, State.DELIVERED: 3, State.ACKNOWLEDGED: 4}
REACHED = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ})


#: What comes before the release in a row, so that a row placed by another one is found without being read.
TZ_TAG = "tz:"


def tz_stamp() -> str:
    """Return the release of the time zone data in use as a row keeps it."""
    return TZ_TAG + zones.release()


@dataclass(frozen=True, slots=True)
class Rules:
    """What an installation decides, in ms.

    ``lease_ms``: how long an ask may go unanswered before it is asked again. ``retention_ms``: how long an ended row
    stays, so that late duplicates are recognised. ``review_ms``: how often doubts and pauses are listed again.
    ``max_lateness_ms``: later than this a reminder expires, where neither it nor its category says otherwise.
    ``tzdata``: the release of the time zone data by which wall clocks are placed, as a row keeps it.
    """

    lease_ms: int = 60_000
    withdraw_lease_ms: int = 15_000
    retention_ms: int = 7 * 24 * HOUR_MS
    review_ms: int = 24 * HOUR_MS
    max_lateness_ms: int = 24 * HOUR_MS
    receipt_wait_ms: int = HOUR_MS
    profile_retry_ms: int = HOUR_MS
    times: TimeRules = field(default_factory=TimeRules)
    tzdata: str = field(default_factory=tz_stamp)


@quicken
@dataclass(frozen=True, slots=True)
class Arrival:
    """How an input came: when, from where, under which id. ``offset`` -1: a command, which has none."""

    now: int
    record_ms: int = 0
    topic_id: str = ""
    offset: int = -1
    event_id: str = ""
    correlation_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Publish the retry on a tier topic. ``tier`` is one of ``1m``, ``10m``, ``1h``."""

    tier: str
    record: RetryRecord


@dataclass(frozen=True, slots=True)
class Letter:
    """An occurrence that ended in DEAD_LETTER: what it ended by goes to the DLQ."""

    reason: str
    attempts: int


Emit = DeliveryRequest | Retry | ReminderStatus | Letter


@quicken
@dataclass(frozen=True, slots=True)
class Transition:
    """What follows from one input. ``row`` None: there is (or stays) no row. ``changed``: whether the row must be
    written."""

    row: ReminderRow | None
    changed: bool
    emits: tuple[Emit, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    result: str = "applied"


class Draft:
    """A row in the making: the fields of ReminderRow, free to change until the transition is done."""

    __slots__ = tuple(f.name for f in fields(ReminderRow))

    version: int
    numbered: bool
    event_id: str
    definition: Definition | None
    open: Occurrence | None
    closed: tuple[Closed, ...]
    cancelled: bool
    stamp: int
    ask: int
    rounds: int
    link: int
    zone: str
    reachable: bool
    seq: int
    applied: tuple[Applied, ...]
    trail: tuple[TrailEntry, ...]
    created_at: int
    updated_at: int
    paused: bool
    next_start: str
    next_due: int
    open_at: int
    told: str
    told_at: int
    since: int
    moves: tuple[MovedStart, ...]
    tzdata: str
    defined_at: int

    def freeze(self) -> ReminderRow:
        """Return the row."""
        return _freeze(self)


_draft: Callable[[ReminderRow], Draft] = copier(ReminderRow, Draft)
_freeze = freezer(ReminderRow)


def lane(row: ReminderRow) -> Lane:
    """Return the lane of a reminder."""
    return LANES[row.definition.priority] if row.definition else Lane.NORMAL


def state(row: ReminderRow | Draft) -> State:
    """Return where a reminder stands: its open occurrence, else how the last one ended."""
    if row.open is not None:
        return row.open.state
    if row.cancelled:
        return State.CANCELLED
    return row.closed[-1].state if row.closed else State.NONE


def presses(row: ReminderRow, o: Occurrence) -> bool:
    """Return whether the next occurrence of a series ends the open one, or is left out, when it comes due.

    What became of a call must be known first. Where all that was missed is sent, the next one waits until the open one
    has ended; but a doubt may last for ever, and so may a pause.
    """
    if not row.next_due or o.state is State.WITHDRAWING:
        return False
    all_of_them = row.definition is not None and series.missed_rule(row.definition) is Missed.ALL
    return not all_of_them or o.state in (State.MAYBE_SENT, State.PAUSED)


def warned_at(row: ReminderRow, o: Occurrence) -> int:
    """Return when somebody is warned that a reminder will reach nobody, 0 where nobody is."""
    d = row.definition
    if row.reachable or d is None or o.warned or o.state is not State.SCHEDULED or not d.recipient_id:
        return 0
    return 0 if any(step.addressed for step in d.steps) else max(1, o.due_at - WARNED_MS)


def header(row: ReminderRow, rules: Rules) -> bytes:
    """Return the header of a row: what the store and the timer go by."""
    o = row.open
    if o is None:
        return index.pack(index.STATE_CODES[state(row)], lane(row), 0, row.updated_at + rules.retention_ms, 0)
    deadline = 0 if o.state in (State.MAYBE_SENT, State.SENT, State.WITHDRAWING) else o.deadline
    if presses(row, o):
        deadline = min(deadline, row.next_due) if deadline else row.next_due
    if not row.reachable and (warned := warned_at(row, o)):
        deadline = min(deadline, warned) if deadline else warned
    return index.pack(index.STATE_CODES[o.state], lane(row), index.CHANNEL_CODES[o.channel], o.due, deadline)


def _applied(known: tuple[Applied, ...], a: Arrival) -> tuple[Applied, ...]:
    if a.offset < 0:
        return known
    return (*(x for x in known if x.topic_id != a.topic_id), Applied(a.topic_id, a.offset))


def is_replay(row: ReminderRow | None, a: Arrival) -> bool:
    """Return whether a row already reflects this input. Its emits then left before the row was written, so it may be
    skipped."""
    if row is None or a.offset < 0:
        return False
    return any(x.topic_id == a.topic_id and x.offset >= a.offset for x in row.applied)


def unchanged(row: ReminderRow | None, result: str) -> Transition:
    """Return that nothing is to be written, and why."""
    return Transition(row, False, result=result)


def may_have_been_asked(o: Occurrence, now: int) -> bool:
    """Return whether delivery may know of an occurrence: the row says so, or a unit that died may have asked."""
    return o.asked_at > 0 or (o.state is not State.PENDING and o.due_at < now + NEAR_MS)


def has_had_its_say(closed: tuple[Closed, ...], occurrence: str) -> bool:
    """Return whether an occurrence was sent, may have been, or failed for good: nothing of it is ever sent again."""
    return any(c.occurrence == occurrence and c.state not in REOPENABLE for c in closed)


def delivery_id(reminder_id: str, o: Occurrence) -> str:
    """Return the id of the step that an occurrence is at."""
    return ids.delivery_id(reminder_id, o.occurrence, o.round, o.step)


def spread_ms(reminder_id: str, jitter_s: int) -> int:
    """Return by how much the firings of a reminder are put off, in ms: the same for an id each time."""
    if jitter_s <= 0:
        return 0
    return int.from_bytes(sha256(reminder_id.encode()).digest()[:6], "big") % (jitter_s * 1000)


def max_lateness(d: Definition, rules: Rules) -> int:
    """Return how late a reminder may be, in ms."""
    own = d.policy.max_lateness_s * 1000 if d.policy else 0
    return own or rules.max_lateness_ms


def better(known: State, now: State) -> State:
    """Return of two states the one of which more has come; the later one where they are alike."""
    return known if _CAME_TO.get(known, 0) > _CAME_TO.get(now, 0) else now


def step_channel(d: Definition, step: int) -> Channel:
    """Return the channel of a step; ANY where the recipient's order decides."""
    return d.steps[step].channel if step < len(d.steps) else Channel.ANY


def opened(reminder_id: str, d: Definition, zone: str, round_: int, ask: int, now: int, rules: Rules) -> Occurrence:
    """Return the occurrence that a one-shot definition opens; PENDING where the recipient's zone is not known yet."""
    use = d.zone or zone
    if d.at is None and not use:
        # The latest instant at which this wall clock is reached anywhere (UTC-12): a wait for a profile, too, must end.
        latest = schedule.instant(d.local, "Etc/GMT+12", rules.times.all_day_hour)
        return _pending(d, round_, ask, now, d.expires_at or latest + max_lateness(d, rules), rules)
    start, instant = schedule.first_start(d.local, d.at, use, rules.times.all_day_hour)
    due_at = instant + spread_ms(reminder_id, d.jitter_s)
    deadline = d.expires_at or due_at + max_lateness(d, rules)
    return Occurrence(
        ids.occurrence_id(start), State.SCHEDULED, due_at, deadline, due_at, round_, ask=ask, channel=step_channel(d, 0)
    )


def _pending(d: Definition, round_: int, ask: int, now: int, deadline: int, rules: Rules) -> Occurrence:
    start = ids.occurrence_id(schedule.start_id(d.local) if d.local else UNKNOWN_START)
    due = now + rules.profile_retry_ms
    return Occurrence(start, State.PENDING, 0, deadline, due, round_, ask=ask, channel=step_channel(d, 0))


def wants_answer(d: Definition) -> bool:
    """Return whether somebody is asked to say that they have got it."""
    return turns.insists(d) or any(step.wait_for is WaitFor.ACKNOWLEDGED for step in d.steps)


_NOTHING = Occurrence("", State.NONE, 0, 0, 0, attempt=0)
_UNDEFINED = Definition()


def request(kind: RequestKind, reminder_id: str, d: Definition | None, o: Occurrence, now: int) -> DeliveryRequest:
    """Return what is asked of delivery about the step that an occurrence is at."""
    d = d or _UNDEFINED
    deliver = kind is RequestKind.DELIVER
    steps = turns.chain(d, o)
    return DeliveryRequest(
        kind=kind,
        reminder_id=reminder_id,
        recipient_id=turns.whom(d, o),
        occurrence=o.occurrence,
        round=o.round,
        step=o.step,
        attempt=o.attempt,
        ask=o.ask,
        asked_at=now,
        due_at=o.due_at,
        deadline=o.deadline,
        channel=o.channel,
        addressed=o.step < len(steps) and steps[o.step].addressed,
        tried=o.tried,
        priority=d.priority,
        category=d.category,
        template=d.template,
        zone=d.zone if d.template else "",
        tenant=d.tenant,
        source=d.source,
        correlation_id=d.correlation_id,
        sealed=d.sealed if deliver else _UNDEFINED.sealed,
        wants_answer=deliver and wants_answer(d),
        max_cost_micros=d.policy.max_cost_micros if deliver and d.policy is not None else 0,
    )


def has_link(d: Definition) -> bool:
    """Return whether delivery keeps something for a reminder while it lives: its recipient's link, or its key."""
    return bool(d.recipient_id) or d.sealed.key_id != 0


def link_request(kind: RequestKind, reminder_id: str, link: int, d: Definition, now: int) -> DeliveryRequest:
    """Return the word that a reminder is, or is no longer, a recipient's."""
    return DeliveryRequest(
        kind=kind,
        reminder_id=reminder_id,
        recipient_id=d.recipient_id,
        asked_at=now,
        link=link,
        follows_zone=not d.zone and d.at is None,
        channels=tuple([step.channel.value for step in d.steps]),
        category=d.category,
        correlation_id=d.correlation_id,
        tenant=d.tenant,
        source=d.source,
    )


def stand_ins(d: Definition) -> tuple[str, ...]:
    """Return who may be asked in the recipient's place, and so needs the key of a sealed content. None where it is in
    clear."""
    if not d.sealed.key_id:
        return ()
    return tuple(dict.fromkeys(person for person in turns.policy(d).escalate_to if person != d.recipient_id))


def link_requests(
    kind: RequestKind, reminder_id: str, link: int, d: Definition, now: int
) -> tuple[DeliveryRequest, ...]:
    """Return the word about a reminder's link to its recipient, and to each who may be asked in their place."""
    word = link_request(kind, reminder_id, link, d, now)
    return (word, *(standing_in(word, person) for person in stand_ins(d)))


def standing_in(word: DeliveryRequest, person: str) -> DeliveryRequest:
    """Return a word about a reminder's link as one to a person who may be asked in the recipient's place."""
    return replace(word, recipient_id=person, stands_in=True, follows_zone=False, channels=())


def status(reminder_id: str, row: Draft, c: Closed, due_at: int) -> ReminderStatus:
    """Return what producers are told of an occurrence that has ended."""
    d = row.definition or _UNDEFINED
    return ReminderStatus(
        reminder_id,
        c.occurrence,
        c.state,
        c.at,
        c.reason,
        c.channel,
        due_at,
        row.version,
        d.source,
        d.tenant,
        d.correlation_id,
    )


def _counted_once(audit: list[AuditEntry]) -> list[AuditEntry]:
    """Return the entries of one transition with the cost of its message in the first that has it."""
    priced = [n for n, entry in enumerate(audit) if entry.cost_micros]
    return [replace(entry, cost_micros=0) if n in priced[1:] else entry for n, entry in enumerate(audit)]


class Life:
    """One transition in the making: the moves that several inputs share, each with its audit entry and its place on the
    trail."""

    __slots__ = ("_arrival", "_was", "audit", "emits", "now", "rid", "row", "rules")

    def __init__(self, rid: str, row: ReminderRow, arrival: Arrival, rules: Rules) -> None:
        self.rid = rid
        self.row = _draft(row)
        self.rules = rules
        self.now = arrival.now
        self.audit: list[AuditEntry] = []
        self.emits: list[Emit] = []
        self._arrival = arrival
        self._was = state(row)

    def note(self, to: State, reason: str = "", *, action: str = "", o: Occurrence | None = None, **more: Any) -> None:
        """Write a transition into the audit and onto the trail."""
        row, arrival = self.row, self._arrival
        row.seq += 1
        d = row.definition
        o = o or _NOTHING
        entry = AuditEntry(
            reminder_id=self.rid,
            seq=row.seq,
            at=arrival.now,
            from_state=self._was,
            to_state=to,
            reason=reason,
            action=action,
            occurrence=o.occurrence,
            round=o.round,
            step=o.step,
            attempt=o.attempt,
            ask=o.ask,
            channel=o.channel,
            due_at=o.due_at,
            due=o.due,
            deadline=o.deadline,
            version=row.version,
            event_id=arrival.event_id,
            correlation_id=arrival.correlation_id or (d.correlation_id if d else ""),
            source=d.source if d else "",
            tenant=d.tenant if d else "",
            actor=arrival.actor,
        )
        if more:
            entry = replace(entry, **more)
        self.audit.append(entry)
        row.trail = (
            *row.trail[1 - KEPT_TRAIL :],
            TrailEntry(
                row.seq,
                arrival.now,
                to,
                reason,
                o.occurrence,
                o.attempt,
                entry.channel,
                entry.detail,
                entry.actor,
                entry.stages,
            ),
        )
        self._was = to

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Add what is known besides to the transition that was written last."""
        entry = self.audit[-1] = replace(self.audit[-1], **facts)
        last = replace(self.row.trail[-1], channel=entry.channel, detail=entry.detail, stages=entry.stages)
        self.row.trail = (*self.row.trail[:-1], last)

    def state(self) -> State:
        """Return where the reminder stands now."""
        return state(self.row)

    def done(self, result: str = "applied") -> Transition:
        """Return the transition, with the input marked as applied."""
        if len(self.audit) > 1:
            self.audit = _counted_once(self.audit)
        self.row.updated_at = self.now
        self.row.applied = _applied(self.row.applied, self._arrival)
        return Transition(self.row.freeze(), True, tuple(self.emits), tuple(self.audit), result)

    def close(
        self,
        to: State,
        reason: str,
        *,
        action: str = "",
        goes_on: bool = True,
        told: bool = True,
        resting: bool = False,
        **more: Any,
    ) -> None:
        """End the open occurrence, or as what an earlier round of it has come to. A series that is not cancelled opens
        its next one (unless the caller does: not ``goes_on``); else the reminder is unlinked from its recipient, for
        nothing of it is pending any more.

        ``told`` False: what ended does not count, the series goes on with it. ``resting``: it was paused until now.
        """
        row, o = self.row, self.row.open
        if o is None:
            raise ValueError("no occurrence is open")
        to = better(turns.reached(o), to)
        ended = replace(o, state=to)
        self.note(to, reason, action=action, o=replace(ended, due=0), **more)
        ending = Closed(
            o.occurrence,
            to,
            self.now,
            o.ask,
            o.round,
            delivery_id(self.rid, o),
            o.channel,
            reason,
            o.due_at,
            o.insistence,
        )
        self._ended(ending, o)
        d = row.definition
        if retraction.wanted(to, reason):
            self.emits.extend(retraction.requests(self.rid, d, o, self.now))
        row.open = None
        row.next_start, row.next_due = "", 0
        if d is not None and series.is_series(d) and not row.cancelled:
            if told:
                self._tell(d, o.occurrence, row.open_at)
            if goes_on:
                self.go_on(action, resting=resting)
                return
        self._unlink()

    def cancel(self, action: str = "") -> None:
        """End the open occurrence because its reminder is cancelled, and nothing of this round can be sent any more."""
        if (before := turns.reached(self.row.open)) is not State.NONE:
            self.cancel_too_late(before, action=action)
            return
        self.row.cancelled = True
        self.close(State.CANCELLED, "cancelled", action=action)

    def cancel_too_late(self, became: State, *, action: str = "", **facts: Any) -> None:
        """End an open occurrence whose cancel came too late. What would have come after it in a series is cancelled."""
        d = self.row.definition
        if d is None or not series.is_series(d):
            self.close(became, "cancel_too_late", action=action, **facts)
            return
        self.close(became, "cancel_too_late", action=action, goes_on=False, **facts)
        self.row.cancelled = True
        self.note(State.CANCELLED, "cancelled", action=action)

    def _ended(self, closed: Closed, o: Occurrence) -> None:
        self.row.closed = (*self.row.closed[1 - KEPT_CLOSED :], closed)
        self.emits.append(status(self.rid, self.row, closed, o.due_at))

    def _unlink(self) -> None:
        d = self.row.definition
        if d is not None and has_link(d):
            self.row.link = self.row.link + 1
            self.emits.extend(link_requests(RequestKind.UNLINK, self.rid, self.row.link, d, self.now))

    def open(
        self,
        *,
        reason: str,
        action: str = "",
        round_: int | None = None,
        link: bool = True,
        anew: bool = False,
        anyway: bool = False,
    ) -> None:
        """Open the occurrence that the definition asks for; one already past its deadline expires at once.

        ``anew``: in a new round. A start that has had its say is not opened again, unless ``anyway`` (it had its say to
        another recipient): what is open then ends as SKIPPED.
        """
        row = self.row
        d = row.definition
        if d is None:
            raise ValueError("nothing is defined")
        row.cancelled = False
        if series.is_series(d):
            if anew:
                row.rounds = row.rounds + 1
            self._open_series(d, reason, action, row.rounds if round_ is None else round_, link=link)
            return
        row.next_start, row.next_due, row.open_at = "", 0, 0
        start = ids.occurrence_id(schedule.start_id_of(d.local, d.at))
        if not anyway and has_had_its_say(row.closed, start):
            if row.open is not None:
                self.close(State.SKIPPED, "already_sent", action=action)
            else:
                self.note(state(row), "text_only", action=action, occurrence=start)
            return
        if anew:
            row.rounds = row.rounds + 1
        o = opened(self.rid, d, row.zone, row.rounds if round_ is None else round_, row.ask, self.now, self.rules)
        if row.paused and o.state in (State.SCHEDULED, State.PENDING):
            o = replace(o, state=State.PAUSED, due=self.now + self.rules.review_ms)
        o = turns.carried(row.open, o, d)
        row.open = o
        self._placed(d, o)
        if o.deadline <= self.now:
            self.close(State.EXPIRED, "too_late", action=action)
            return
        self.note(o.state, reason, action=action, o=o)
        if link and has_link(d):
            self.link(d)

    def _placed(self, d: Definition, o: Occurrence) -> None:
        """Remember when an occurrence that has been placed on the clock is due by itself, and by which data."""
        self.row.open_at = o.due_at - spread_ms(self.rid, d.jitter_s) if o.due_at else 0
        self.row.tzdata = self.rules.tzdata if d.at is None else ""

    # -- series

    def _zone(self, d: Definition) -> str:
        return series.zone_of(d, self.row.zone)

    def replace_told(self) -> None:
        """Place the last ended firing anew: the zone, or its rules, or those of the series have changed."""
        row, d = self.row, self.row.definition
        if d is not None and row.told and (zone := self._zone(d)):
            row.told_at = series.told_until(d, zone, self.place(), self.rules.times)

    def place(self) -> series.Place:
        """Return where the series stands."""
        row = self.row
        return series.Place(row.told, row.told_at, row.since, row.moves)

    def candidate(self) -> Occurrence | None:
        """Return the occurrence that the definition would open now, in the round of the row, None where it has none.

        Of a series: the open one if the definition names it and has nothing before it, else the first that has not been
        told.
        """
        row, d = self.row, self.row.definition
        if d is None:
            raise ValueError("nothing is defined")
        if not series.is_series(d):
            return opened(self.rid, d, row.zone, row.rounds, row.ask, self.now, self.rules)
        zone = self._zone(d)
        if not zone:
            deadline = d.expires_at or self.now + PENDING_SERIES_MS
            return _pending(d, row.rounds, row.ask, self.now, deadline, self.rules)
        f = self._first(d, zone)
        return None if f is None else self._occurrence(d, f, row.rounds, due_at=max(f.due_at, self._not_before(f)))

    def _first(self, d: Definition, zone: str) -> Firing | None:
        times, place, o = self.rules.times, self.place(), self.row.open
        first = next(series.stream(d, zone, place, series.begins(d, zone, place, times), times), None)
        if o is not None and o.due_at:
            kept = series.named(d, zone, o.occurrence, place, times)
            if kept is not None and self.row.open_at == 0:
                # It is out of its turn: it keeps the time that a person gave it.
                return replace(kept, due_at=o.due_at - spread_ms(self.rid, d.jitter_s))
            if kept is not None and (first is None or kept.due_at <= first.due_at):
                return kept
        return first

    def _not_before(self, f: Firing) -> int:
        """Return when a firing may be due at the earliest: what another zone has made past is due now, not late."""
        o = self.row.open
        return self.now if o is not None and o.occurrence == f.occurrence_id and f.due_at < self.now < o.due_at else 0

    def _occurrence(self, d: Definition, f: Firing, round_: int, *, due_at: int) -> Occurrence:
        at = due_at + spread_ms(self.rid, d.jitter_s)
        deadline = at + max_lateness(d, self.rules)
        if d.expires_at:
            deadline = min(deadline, d.expires_at)
        channel = step_channel(d, 0)
        return Occurrence(f.occurrence_id, State.SCHEDULED, at, deadline, at, round_, ask=self.row.ask, channel=channel)

    def _open_series(self, d: Definition, reason: str, action: str, round_: int, *, link: bool) -> None:
        row, zone, times = self.row, self._zone(d), self.rules.times
        if not zone:
            deadline = d.expires_at or self.now + PENDING_SERIES_MS
            o = _pending(d, round_, row.ask, self.now, deadline, self.rules)
            row.next_start, row.next_due, row.open_at = "", 0, 0
            self._opens(o, reason, action)
            if link and has_link(d):
                self.link(d)
            return
        place = self.place()
        first = self._first(d, zone)
        if row.open is not None and first is not None and first.occurrence_id == row.open.occurrence:
            # It stays, in a new round; what comes after it is looked for anew.
            way = series.Way(opens=first, follows=next(series.stream(d, zone, place, first.due_at + 1, times), None))
            due_at = max(first.due_at, self._not_before(first))
        else:
            past, at_once = series.offsets_past(d, zone, place, self.now, times)
            way, due_at = self._way(d, zone), None
            if at_once is not None:
                way, due_at = series.Way(opens=at_once, follows=first), self.now
            self._replaced(way, action)
            for f in past:
                self._leave_out(f, series.OFFSET_PAST, action)
        self._go(way, reason, action, round_, link=link, due_at=due_at)

    def _replaced(self, way: series.Way, action: str) -> None:
        """End the open occurrence, which the definition no longer names: what has not come yet is simply no more."""
        row, o = self.row, self.row.open
        if o is None:
            return
        if any(move.start == series.start_of(o.occurrence) and not move.to for move in row.moves):
            self.close(State.CANCELLED, "cancelled", action=action, goes_on=False, told=False)
        elif way.opens is None:
            self.close(State.SKIPPED, NOTHING_TO_COME, action=action, goes_on=False, told=False)
        elif o.state is State.WITHDRAWING or 0 < o.due_at <= self.now:
            self.close(State.SKIPPED, "replaced", action=action, goes_on=False, told=False)
        row.open = None

    def out_of_turn(self, o: Occurrence) -> bool:
        """Return whether a person gave an occurrence another time than its definition does."""
        row, d = self.row, self.row.definition
        return d is not None and o.due_at > 0 and o.due_at != row.open_at + spread_ms(self.rid, d.jitter_s)

    def to_come(self, start: str) -> Firing | None:
        """Return the first firing of a start of a series that is still to come and is not open."""
        d, o = self.row.definition, self.row.open
        if d is None or not series.is_series(d) or not (zone := self._zone(d)):
            return None
        if o is not None and series.start_of(o.occurrence) == start:
            return None
        return series.to_come(d, zone, start, self.now, self.place(), self.rules.times)

    def move_start(self, start: str, to: int) -> bool:
        """Move a start of a series to an instant, or cancel it (0); return False where too many are moved."""
        row = self.row
        others = tuple(move for move in row.moves if move.start != start)
        if len(others) >= MOST_MOVES:
            return False
        row.moves = (*others, MovedStart(start, to))
        return True

    def go_on(self, action: str = "", *, resting: bool = False) -> None:
        """Open what comes after the last ended occurrence of a series. ``resting``: it was paused until now."""
        d = self.row.definition
        if d is None:
            raise ValueError("nothing is defined")
        zone = self._zone(d)
        if zone:
            self._go(self._way(d, zone, resting=resting), "next", action, self.row.rounds, link=False)
        else:
            self._open_series(d, "next", action, self.row.rounds, link=False)

    def _way(self, d: Definition, zone: str, *, resting: bool = False) -> series.Way:
        place, times = self.place(), self.rules.times
        return series.goes_on(
            d,
            zone,
            place,
            series.begins(d, zone, place, times),
            self.now - spread_ms(self.rid, d.jitter_s),
            times,
            latest_ms=max_lateness(d, self.rules),
            resting=resting or self.row.paused,
        )

    def _go(
        self, way: series.Way, reason: str, action: str, round_: int, *, link: bool, due_at: int | None = None
    ) -> None:
        row, d = self.row, self.row.definition
        if d is None:
            raise ValueError("nothing is defined")
        opens = way.opens
        last: Closed | None = None
        for f, why in way.left_out:
            last = self._leave_out(f, why, action)
        if way.between is not None:
            until = "the next" if opens is None else opens.occurrence_id
            last = self._leave_out(way.between, way.left_out[-1][1], action, f"and all others before {until}")
        o = (
            None
            if opens is None
            else self._occurrence(d, opens, round_, due_at=opens.due_at if due_at is None else due_at)
        )
        if opens is None or o is None or (d.expires_at and o.due_at >= d.expires_at):
            self._series_ended(d, last, action)
            return
        row.open_at = opens.due_at
        row.tzdata = self.rules.tzdata
        self._follows(d, way.follows)
        self._opens(o, reason, action)
        if link and has_link(d):
            self.link(d)

    def _opens(self, o: Occurrence, reason: str, action: str) -> None:
        if self.row.paused:
            o = replace(o, state=State.PAUSED, due=self.now + self.rules.review_ms)
        if self.row.definition is not None:
            o = turns.carried(self.row.open, o, self.row.definition)
        self.row.open = o
        self.note(o.state, reason, action=action, o=o)

    def _follows(self, d: Definition, f: Firing | None) -> None:
        """Remember what comes after the open occurrence."""
        self.row.next_start = f.occurrence_id if f is not None else ""
        self.row.next_due = f.due_at + spread_ms(self.rid, d.jitter_s) if f is not None else 0

    def look_ahead(self) -> None:
        """Find out anew what comes after the open occurrence, if it is one of a series."""
        d, o = self.row.definition, self.row.open
        if d is None or not series.is_series(d):
            self.row.next_start, self.row.next_due, self.row.open_at = "", 0, 0
            return
        if o is None or not (zone := self._zone(d)):
            return
        place, times = self.place(), self.rules.times
        there = series.named(d, zone, o.occurrence, place, times) or series.placed(d, zone, o.occurrence, times)
        self.row.open_at = there.due_at if there is not None else self.row.open_at
        begins = max(self.row.open_at + 1, series.begins(d, zone, place, times))
        self._follows(d, next(series.stream(d, zone, place, begins, times), None))

    def overlap(self, o: Occurrence) -> None:
        """Leave out what has come due while an occurrence is open, which goes on."""
        d = self.row.definition
        if d is None or not (zone := self._zone(d)):
            raise ValueError("a series has a zone and is defined")
        place, times = self.place(), self.rules.times
        begins = max(self.row.open_at + 1, series.begins(d, zone, place, times))
        now = self.now - spread_ms(self.rid, d.jitter_s)
        for n, f in enumerate(series.stream(d, zone, place, begins, times)):
            if f.due_at > now:
                self._follows(d, f)
                break
            if n >= series.MOST_RECORDED:
                # The rest is left out when this one has ended: it was missed, too.
                self._follows(d, next(series.stream(d, zone, self.place(), now + 1, times), None))
                break
            self._leave_out(f, "overlap", "")
        else:
            self._follows(d, None)
        self.note(o.state, "overlap", o=o)

    def _leave_out(self, f: Firing, why: str, action: str, detail: str = "") -> Closed:
        """Record a firing that is not sent, which was never opened: nobody can have been asked."""
        to = State.EXPIRED if why == series.TOO_LATE else State.SKIPPED
        o = Occurrence(f.occurrence_id, to, f.due_at, 0, 0, self.row.rounds, attempt=0)
        self.note(to, why, action=action, o=o, detail=detail)
        closed = Closed(f.occurrence_id, to, self.now, 0, o.round, reason=why, due_at=f.due_at)
        self.emits.append(status(self.rid, self.row, closed, f.due_at))
        d = self.row.definition
        if d is not None:
            self._tell(d, f.occurrence_id, f.due_at)
        return closed

    def _tell(self, d: Definition, occurrence: str, at: int) -> None:
        """Remember how far a series has come. A start out of its turn (sent again, or moved) does not set it back."""
        row = self.row
        start = series.start_of(occurrence)
        if any(move.start == start and move.to for move in row.moves):
            row.moves = tuple(MovedStart(m.start) if m.start == start else m for m in row.moves)
            return
        if at <= row.told_at:
            return
        row.told, row.told_at = occurrence, at
        if row.moves and self._zone(d):
            row.moves = tuple(m for m in row.moves if m.to or self._begins(d, m.start) > at)

    def _begins(self, d: Definition, start: str) -> int:
        there = series.placed(d, self._zone(d), ids.occurrence_id(start), self.rules.times)
        return there.start_at if there is not None else 0

    def _series_ended(self, d: Definition, last: Closed | None, action: str) -> None:
        """Let a series rest that has nothing to come."""
        row = self.row
        row.open, row.next_start, row.next_due, row.open_at = None, "", 0, 0
        if last is not None:
            row.closed = (*row.closed[1 - KEPT_CLOSED :], last)
        elif not row.closed:
            start = schedule.start_id(d.local) if d.local else UNKNOWN_START
            closed = Closed(ids.occurrence_id(start), State.EXPIRED, self.now, 0, row.rounds, reason=NOTHING_TO_COME)
            row.closed = (closed,)
            self.emits.append(status(self.rid, row, closed, 0))
            self.note(State.EXPIRED, NOTHING_TO_COME, action=action, occurrence=closed.occurrence)
        elif not self.audit or self.audit[-1].to_state is not state(row):
            self.note(state(row), NOTHING_TO_COME, action=action)
        self._unlink()

    def link(self, d: Definition) -> None:
        """Tell the recipient's partition that this reminder is theirs, and those who may be asked in their place."""
        self.row.link = self.row.link + 1
        self.emits.extend(link_requests(RequestKind.LINK, self.rid, self.row.link, d, self.now))

    def let_go(self, old: Definition, d: Definition) -> None:
        """Destroy the key of an old content where nobody is asked in the recipient's place any more."""
        kept = (d.recipient_id, *stand_ins(d))
        word = link_request(RequestKind.ERASE, self.rid, self.row.link, old, self.now)
        self.emits.extend(standing_in(word, person) for person in stand_ins(old) if person not in kept)

    def move(self, to: State, reason: str, *, due: int, action: str = "", **fields: Any) -> None:
        """Move the open occurrence to a state in which it acts at ``due``."""
        o = self.row.open
        if o is None:
            raise ValueError("no occurrence is open")
        o = replace(o, state=to, due=due, reason=reason, **fields)
        self.row.open = o
        self.row.ask = max(self.row.ask, o.ask)
        self.note(to, reason, action=action, o=o)

    def withdraw(self, why: Withdrawal, reason: str, *, action: str = "", sent_by: Definition | None = None) -> None:
        """Ask delivery to begin no call for the open occurrence, and wait for its answer."""
        self.move(
            State.WITHDRAWING,
            reason,
            due=self.now + self.rules.withdraw_lease_ms,
            action=action,
            withdrawal=why,
            ask=self.row.ask + 1,
            asked_at=self.now,
        )
        self.say_withdraw(sent_by)

    def kill(self, asked: Definition | None = None) -> None:
        """Let no call begin any more for what may have been asked so far, without waiting for the answer."""
        o = self.row.open
        if o is not None:
            self.row.ask = self.row.ask + 1
            self.row.open = replace(o, ask=self.row.ask)
            self.say_withdraw(asked)

    def say_withdraw(self, sent_by: Definition | None = None) -> None:
        """Emit the withdrawal of the open occurrence, addressed to the recipient that was asked (``sent_by``)."""
        o = self.row.open
        if o is not None:
            self.emits.append(request(RequestKind.WITHDRAW, self.rid, sent_by or self.row.definition, o, self.now))

    def ask_again(self, reason: str, published: int = 0) -> None:
        """Ask delivery for the attempt that the occurrence is at: a lease, not a fact. ``published``: when the timer
        said that it is due."""
        ask = self.row.ask + 1
        wanted = self.row.open.due if self.row.open is not None else 0
        self.move(State.SENDING, reason, due=self.now + self.rules.lease_ms, ask=ask, asked_at=self.now)
        o = self.row.open
        if o is not None:
            asked = request(RequestKind.DELIVER, self.rid, self.row.definition, o, self.now)
            self.emits.append(replace(asked, stages=Stages(o.due_at, wanted, published, self.now)))


def start_step(life: Life, o: Occurrence, channel: Channel, reason: str) -> None:
    """Go on to the next step of the chain, at once."""
    tried = o.tried if o.channel is Channel.ANY else (*o.tried, o.channel.value)
    life.move(
        State.SCHEDULED, reason, due=life.now, step=o.step + 1, attempt=1, channel=channel, tried=tried, asked_at=0
    )
