"""A pure model of the whole pipeline around the rules: topics, two apps with their units and tables, a timer, calls, a
provider that remembers, and every way to die that a unit has.

Each app keeps the promises of the unit of work and no more: what a unit emits is out before its rows are written, its
rows are written before its inputs are acked, and a kill may come between any two of them. Streams of different keys
and topics keep no order among each other. But an app that has come to life reads what was there before it fires or
calls (``catches_up``), so that what a unit said before it died is known again by then.

``World`` is driven step by step from outside and checks, at every step, what must hold at every step.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import SimpleNamespace
from typing import Any, cast

from agents.core import Core
from agents.settle import verdict
from channels.retry import RetryPolicy
from schemas import ids
from schemas.names import (
    Action,
    AnswerKind,
    AttemptState,
    Channel,
    MaybeSent,
    OutcomeKind,
    RecipientAction,
    RequestKind,
    State,
)
from schemas.records import (
    AuditEntry,
    Contact,
    Definition,
    Delivery,
    DeliveryAnswer,
    DeliveryReceipt,
    DeliveryRequest,
    Occurrence,
    RecipientDelivery,
    RecipientEvent,
    RecipientLink,
    RecipientProfile,
    ReminderEvent,
    ReminderRow,
    RetryRecord,
)
from tables import deliveries, lifecycle, receipts, recipients, settling, transition, turns
from tables import due as index
from tables.consent import Categories
from tables.transition import Arrival, Letter, Retry, Rules, Transition

#: 2026-12-01T00:00:00Z
EPOCH = 1_796_083_200_000
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

CALL_LIMIT = 30 * SECOND
GRACE = 5 * SECOND
BUSY = SECOND
RETENTION = 7 * DAY
AVAILABLE = frozenset({Channel.EMAIL, Channel.SMS})

#: States in which an open occurrence may stay for ever without anything being wrong: a person has to decide.
#: Why an occurrence may be skipped though nobody asked for that.
OWN_SKIPS = frozenset({"already_sent", "missed", "superseded", "replaced", "nothing_to_come"})
RESTING = frozenset({State.MAYBE_SENT, State.PAUSED})
#: Why an occurrence is in a new round that is meant to be sent, whatever came of the one before.
ROUNDS = frozenset({"nagged", "escalated"})


def resting(o: Occurrence) -> bool:
    """Return whether an open occurrence waits for a person to decide."""
    return o.state in RESTING and not turns.awaits(o)


class Fate(Enum):
    """How a unit ends."""

    DONE = "done"
    LOST = "killed after its emits, before its changelog"
    UNACKED = "killed after its changelog, before its acks"


@dataclass(frozen=True)
class Produced:
    """A producer's event and the definition that intake makes of it."""

    event: ReminderEvent
    definition: Definition | None
    record_ms: int


Stream = tuple[str, str]


@dataclass
class Call:
    """A call of a provider. ``sent`` None: nobody knows. ``told``: its outcome got out."""

    delivery: Delivery
    owner: str
    key: bytes
    begun: bool = False
    orphan: bool = False
    at: int = 0
    sent: bool | None = None
    told: bool = False


@dataclass
class App:
    """One app: its table, how far it has acked each stream, and how far that is committed."""

    rows: dict[bytes, Any] = field(default_factory=dict)
    acked: dict[Stream, int] = field(default_factory=lambda: defaultdict(int))
    upto: dict[Stream, int] = field(default_factory=dict)

    def caught_up(self) -> bool:
        """Return whether everything has been read that was there when this app last came to life."""
        return all(self.acked[stream] >= end for stream, end in self.upto.items())


class Broken(AssertionError):
    """What must always hold does not."""


def effective(entries: Iterable[AuditEntry]) -> list[AuditEntry]:
    """Return the audit of one reminder as a reader takes it: an entry whose seq is not above the last one read replaces
    it and what followed."""
    seen: list[AuditEntry] = []
    for entry in entries:
        while seen and seen[-1].seq >= entry.seq:
            seen.pop()
        seen.append(entry)
    return seen


def rebuilt(entries: Iterable[AuditEntry], rules: Rules) -> tuple[State, int]:
    """Return the state and the due of a row, from its audit alone."""
    last = effective(entries)[-1]
    return last.to_state, last.due or last.at + rules.retention_ms


def due_of(row: ReminderRow, rules: Rules) -> index.Header:
    """Return the header that the store would keep of a row."""
    return index.unpack(transition.header(row, rules))


class World:
    """Everything there is."""

    def __init__(self, *, rules: Rules, rule: MaybeSent, slots: int = 2, catches_up: bool = True) -> None:
        self.now = EPOCH
        self.rules = rules
        self.rule = rule
        self.slots = slots
        self.catches_up = catches_up
        self.streams: dict[Stream, list[Any]] = defaultdict(list)
        self.core = App()
        self.delivery = App()
        self.calls: list[Call] = []
        self.made: list[Call] = []
        self.audit: dict[str, list[AuditEntry]] = defaultdict(list)
        self.letters: list[Letter] = []
        self.peaks: dict[str, tuple[int, int]] = {}
        self._settle = cast("Core", SimpleNamespace(retry=RetryPolicy(), maybe_sent=rule, categories=Categories()))

    # -- topics

    def publish(self, topic: str, key: str, record: Any) -> None:
        """Append a record to a topic."""
        self.streams[topic, key].append(record)

    def produce(self, event: ReminderEvent, definition: Definition | None, record_ms: int) -> None:
        """Let a producer send an event."""
        self.publish("reminders", event.reminder_id, Produced(event, definition, record_ms))

    def introduce(self, recipient: str, zone: str, contacts: tuple[Contact, ...], version: int) -> None:
        """Let a producer say who a recipient is."""
        event = RecipientEvent(recipient, RecipientAction.UPSERT, zone, contacts=contacts, version=version)
        self.publish("recipients", recipient, event)

    def waiting(self, app: App, topics: tuple[str, ...]) -> list[Stream]:
        """Return the streams that an app has not read to their end."""
        if topics == self.CHANNELS and not app.caught_up():
            return []
        return sorted(s for s, log in self.streams.items() if s[0] in topics and app.acked[s] < len(log))

    # -- units

    def _unit(
        self,
        app: App,
        inputs: list[tuple[Stream | None, Callable[[dict[bytes, Any], int], "Effects"]]],
        fate: Fate,
        mask: int,
    ) -> list[Callable[[], None]]:
        """Run a unit: decide on each input over the rows as they then stand, and end as fate will have it."""
        view = dict(app.rows)
        changed: dict[bytes, Any] = {}
        emits: list[tuple[str, str, Any]] = []
        after: list[Callable[[], None]] = []
        read: dict[Stream, int] = {}
        for stream, decide in inputs:
            at = -1
            if stream is not None:
                at = read.get(stream, app.acked[stream])
                if at >= len(self.streams[stream]):
                    continue
                read[stream] = at + 1
            effects = decide(view, at)
            for key, row in effects.rows.items():
                changed[key] = row
                if row is None:
                    view.pop(key, None)
                else:
                    view[key] = row
            emits.extend(effects.emits)
            after.extend(effects.after)
        # Emits go to several partitions at once, so a kill may leave any part of them behind.
        parts = sorted({(topic, key) for topic, key, _ in emits})
        out = set(parts) if fate is not Fate.LOST else {p for i, p in enumerate(parts) if not mask >> (i % 6) & 1}
        for topic, route, record in emits:
            if (topic, route) in out:
                self._emitted(topic, route, record)
        if fate is Fate.LOST:
            return []
        for key, row in changed.items():
            if row is None:
                app.rows.pop(key, None)
            else:
                app.rows[key] = row
        if app is self.core:
            for key in changed:
                self._check_row(key.decode())
        if fate is Fate.UNACKED:
            return []
        app.acked.update(read)
        return after

    def _emitted(self, topic: str, key: str, record: Any) -> None:
        if topic == "audit":
            self.audit[key].append(record)
        elif topic == "dlq":
            self.letters.append(record)
        elif topic != "status":
            self.publish(topic, key, record)

    # -- core

    CORE = ("reminders", "outcomes", "retry", "receipts")

    def core_unit(self, inputs: Sequence[tuple[str, str | int]], fate: Fate = Fate.DONE, mask: int = 0) -> None:
        """Let core do a unit of heads of streams and of the timer's commands (id, due)."""
        jobs: list[tuple[Stream | None, Callable[[dict[bytes, Any], int], Effects]]] = []
        for name, what in inputs:
            if isinstance(what, int):
                jobs.append((None, self._fire(name, what)))
            else:
                jobs.append(((name, what), self._read((name, what))))
        self._unit(self.core, jobs, fate, mask)
        if fate is not Fate.DONE:
            self.kill_core(0)

    def kill_core(self, rewind: int) -> None:
        """Kill core: what was acked and not yet committed is read again."""
        for stream, at in self.core.acked.items():
            self.core.acked[stream] = max(0, at - rewind)
        self._revive(self.core, self.CORE)

    def _revive(self, app: App, topics: tuple[str, ...]) -> None:
        if self.catches_up:
            app.upto = {s: len(log) for s, log in self.streams.items() if s[0] in topics}

    def _fire(self, rid: str, due: int) -> Callable[[dict[bytes, Any], int], "Effects"]:
        def decide(view: dict[bytes, Any], _at: int) -> Effects:
            return self._said(rid, lifecycle.fire(rid, view.get(rid.encode()), due, self.now, self.rules))

        return decide

    def _read(self, stream: Stream) -> Callable[[dict[bytes, Any], int], "Effects"]:
        topic, rid = stream

        def decide(view: dict[bytes, Any], at: int) -> Effects:
            record = self.streams[stream][at]
            row = view.get(rid.encode())
            arrival = Arrival(self.now, 0, topic, at)
            before = row
            match record:
                case Produced(event, definition, record_ms):
                    arrival = replace(arrival, record_ms=record_ms, event_id=event.event_id)
                    step = lifecycle.apply_event(rid, row, event, definition, arrival, self.rules)
                case DeliveryAnswer(kind=AnswerKind.OUTCOME):
                    judged = verdict(self._settle, row, record, self.now)
                    step = settling.settle(rid, row, record, judged, arrival, self.rules)
                case DeliveryAnswer(kind=AnswerKind.WITHDRAWN):
                    step = settling.withdrawn(rid, row, record, arrival, self.rules)
                case DeliveryAnswer(kind=AnswerKind.PROFILE):
                    step = settling.profile(rid, row, record, arrival, self.rules)
                case DeliveryReceipt():
                    step = receipts.receipt(rid, row, record, arrival, self.rules)
                case RetryRecord():
                    step = settling.rearm(rid, row, record, arrival, self.rules)
                case _:
                    raise TypeError(record)
            if not step.changed and step.row is not before:
                raise Broken(f"{step.result}: unchanged, yet another row")
            if step.changed and step.row is not None:
                if not step.audit:
                    raise Broken(f"{type(record).__name__} changed a row, and the audit says nothing")
                self._check_replay(step.row, record, arrival)
            return self._said(rid, step)

        return decide

    def _check_replay(self, row: ReminderRow, record: Any, arrival: Arrival) -> None:
        if not transition.is_replay(row, arrival):
            raise Broken(f"a replay of {type(record).__name__} would not be recognised")

    def _said(self, rid: str, step: Transition) -> "Effects":
        if not step.changed:
            return Effects()
        emits: list[tuple[str, str, Any]] = []
        for emit in step.emits:
            match emit:
                case DeliveryRequest():
                    emits.append(("requests", emit.recipient_id or f"r:{rid}", emit))
                case Retry(_, record):
                    emits.append(("retry", rid, record))
                case Letter():
                    emits.append(("dlq", rid, emit))
                case _:
                    emits.append(("status", rid, emit))
        emits.extend(("audit", rid, entry) for entry in step.audit)
        return Effects({rid.encode(): step.row}, emits)

    def row(self, rid: str) -> ReminderRow | None:
        """Return the durable row of a reminder."""
        return cast("ReminderRow | None", self.core.rows.get(rid.encode()))

    def due_rows(self) -> list[tuple[str, int]]:
        """Return the timer's commands for what is due now."""
        found: list[tuple[str, int]] = []
        if not self.core.caught_up():
            return found
        for key, row in sorted(self.core.rows.items()):
            head = due_of(row, self.rules)
            due = min(x for x in (head.due_ms, head.deadline_ms) if x)
            if due <= self.now:
                found.append((key.decode(), head.due_ms if head.due_ms <= self.now else head.deadline_ms))
        return found

    def _check_row(self, rid: str) -> None:
        row = self.row(rid)
        if row is None:
            self.peaks.pop(rid, None)
            return
        head = due_of(row, self.rules)
        if row.open is not None:
            deadline = head.deadline_ms or index.MAX_DUE_MS
            if not 0 < min(head.due_ms or index.MAX_DUE_MS, deadline) < index.MAX_DUE_MS:
                raise Broken(f"{rid} is {row.open.state} and will never act again")
        ask, rounds = self.peaks.get(rid, (0, 0))
        if row.ask < ask or row.rounds < rounds:
            raise Broken(f"asks or rounds of {rid} went back")
        self.peaks[rid] = (row.ask, row.rounds)
        was = rebuilt(self.audit[rid], self.rules)
        if was != (transition.state(row), head.due_ms):
            raise Broken(f"the audit of {rid} says {was}, its row {(transition.state(row), head.due_ms)}")

    # -- delivery

    GATE = ("requests", "recipients")
    CHANNELS = ("channel",)

    def delivery_unit(self, stream: Stream, fate: Fate = Fate.DONE, mask: int = 0) -> None:
        """Let delivery do a unit of the head of a stream."""
        record = self.streams[stream][self.delivery.acked[stream]]

        def decide(view: dict[bytes, Any], _at: int) -> Effects:
            match record:
                case RecipientEvent():
                    return self._recipient(view, stream, record, _at)
                case DeliveryRequest(kind=RequestKind.DELIVER):
                    return self._deliver(view, stream[1], record)
                case DeliveryRequest(kind=RequestKind.WITHDRAW):
                    key = self._key(record)
                    row = view.get(key) or deliveries.new(record, self.now)
                    return self._verdict(key, deliveries.withdraw(row, record, self.now))
                case DeliveryRequest(kind=RequestKind.RETRACT):
                    return Effects()
                case DeliveryRequest():
                    return self._link(view, record)
                case Delivery():
                    return self._channel(view, record)
            raise TypeError(record)

        self._delivery(decide, stream, fate, mask)

    def _delivery(
        self, decide: Callable[[dict[bytes, Any], int], "Effects"], stream: Stream | None, fate: Fate, mask: int
    ) -> None:
        for begin in self._unit(self.delivery, [(stream, decide)], fate, mask):
            begin()
        if fate is not Fate.DONE:
            self.kill_delivery(0, moved=False)

    def kill_delivery(self, rewind: int, *, moved: bool) -> None:
        """Kill delivery, or take its partitions away (``moved``): then its calls in flight go on and report."""
        for stream, at in self.delivery.acked.items():
            self.delivery.acked[stream] = max(0, at - rewind)
        self._revive(self.delivery, self.GATE)
        if moved:
            for call in self.calls:
                call.orphan = True
        else:
            self.calls = [call for call in self.calls if call.orphan]

    @staticmethod
    def _key(r: DeliveryRequest) -> bytes:
        delivery = ids.delivery_id(r.reminder_id, r.occurrence, r.round, r.step)
        return ids.delivery_key(r.recipient_id, r.reminder_id, delivery)

    def _answered(self, answer: DeliveryAnswer) -> tuple[str, str, Any]:
        return ("outcomes", answer.reminder_id, answer)

    def _verdict(self, key: bytes, v: deliveries.Verdict) -> "Effects":
        return Effects({key: v.row} if v.row is not None else {}, [self._answered(a) for a in v.answers])

    def _recipient(self, view: dict[bytes, Any], stream: Stream, event: RecipientEvent, at: int) -> "Effects":
        key = ids.profile_key(event.recipient_id)
        before = view.get(key)
        after, _ = recipients.apply(before, event, Arrival(self.now, EPOCH, "recipients", at, event.event_id))
        if after is None:
            return Effects()
        effects = Effects({key: after})
        for link_key, link in view.items():
            if link_key.startswith(ids.link_prefix(event.recipient_id)) and link.linked:
                told, answer = self._tell(link, after)
                if answer is not None:
                    effects.rows[link_key] = told
                    effects.emits.append(self._answered(answer))
        return effects

    def _tell(
        self, link: RecipientLink, profile: RecipientProfile | None
    ) -> tuple[RecipientLink, DeliveryAnswer | None]:
        zone = profile.zone if profile is not None and link.follows_zone else ""
        reach = recipients.reachable(profile)
        if zone == link.told_zone and reach is link.told_reachable:
            return link, None
        answer = DeliveryAnswer(
            AnswerKind.PROFILE, link.reminder_id, link=link.link, zone=zone, reachable=reach, ended_at=self.now
        )
        return replace(link, told_zone=zone, told_reachable=reach), answer

    def _link(self, view: dict[bytes, Any], r: DeliveryRequest) -> "Effects":
        key = ids.link_key(r.recipient_id, r.reminder_id)
        known = view.get(key)
        if known is not None and known.link > r.link:
            return Effects()
        if r.kind is RequestKind.UNLINK:
            gone = known or RecipientLink(r.reminder_id, r.link, follows_zone=False)
            return Effects({key: replace(gone, link=r.link, linked=False)})
        link, answer = self._tell(
            RecipientLink(r.reminder_id, r.link, r.follows_zone), view.get(ids.profile_key(r.recipient_id))
        )
        return Effects({key: link}, [self._answered(answer)] if answer is not None else [])

    def _deliver(self, view: dict[bytes, Any], route: str, r: DeliveryRequest) -> "Effects":
        key = self._key(r)
        row = view.get(key) or deliveries.new(r, self.now)
        v = deliveries.ask(row, r, self.now, self.now - RETENTION // 2)
        if not v.proceed or v.row is None:
            return self._verdict(key, v)
        refusal: tuple[OutcomeKind, str] | None = None
        channel = r.channel
        if r.deadline <= self.now:
            refusal = OutcomeKind.SKIPPED, "expired"
        elif not r.addressed:
            profile = view.get(ids.profile_key(r.recipient_id))
            if profile is None or profile.erased:
                refusal = OutcomeKind.DEFERRED, "unknown_recipient"
            else:
                served = recipients.usable(profile, r.channel, r.tried, AVAILABLE)
                if served:
                    channel = served[0].channel
                else:
                    refusal = OutcomeKind.UNDELIVERABLE, "no_contact"
        delivery_id = deliveries.delivery_id(row)
        if refusal is not None:
            answer = deliveries.answer(r, delivery_id, *refusal, self.now, channel=r.channel)
            ended = deliveries.ended(v.row, r.attempt, answer, self.now)
            return Effects({key: ended}, [self._answered(answer)])
        sent = Delivery(
            delivery_id,
            r.reminder_id,
            r.occurrence,
            channel,
            r.recipient_id,
            r.round,
            r.step,
            r.attempt,
            r.ask,
            r.asked_at,
            r.due_at,
            r.deadline,
        )
        return Effects({key: replace(v.row, channel=channel)}, [("channel", route, sent)])

    def _channel(self, view: dict[bytes, Any], d: Delivery) -> "Effects":
        key = ids.delivery_key(d.recipient_id, d.reminder_id, d.delivery_id)
        row = view.get(key)
        if row is None or not deliveries.may_start(row, d):
            return Effects()
        refusal: tuple[OutcomeKind, str, dict[str, Any]] | None = None
        if d.deadline <= self.now:
            refusal = OutcomeKind.SKIPPED, "expired", {}
        elif sum(not call.orphan for call in self.calls) >= self.slots:
            refusal = OutcomeKind.HELD, "busy", {"spent": False, "not_before": self.now + BUSY}
        if refusal is not None:
            kind, reason, more = refusal
            answer = deliveries.answer(d, d.delivery_id, kind, reason, self.now, channel=d.channel, **more)
            return Effects({key: deliveries.ended(row, d.attempt, answer, self.now)}, [self._answered(answer)])
        begun = deliveries.started(row, d, self.now, self.now + CALL_LIMIT + GRACE)
        return Effects({key: begun}, after=[lambda: self.calls.append(Call(d, d.recipient_id, key))])

    def begin(self, call: Call) -> None:
        """Take the last look, and call the provider."""
        d = call.delivery
        row = self.delivery.rows.get(call.key)
        if call.orphan:
            self._end(call, OutcomeKind.DEFERRED, "partition_moved", reached=False)
        elif row is None or d.ask <= row.withdrawn:
            self._end(call, OutcomeKind.SKIPPED, "withdrawn", reached=False)
        elif d.deadline <= self.now:
            self._end(call, OutcomeKind.SKIPPED, "expired", reached=False)
        else:
            call.begun, call.at = True, self.now
            self._check_call(call)
            self.made.append(call)

    def finish(self, call: Call, kind: OutcomeKind, fate: Fate = Fate.DONE, mask: int = 0) -> None:
        """Let the provider answer."""
        if kind in (OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED):
            call.sent = True
        elif kind is not OutcomeKind.MAYBE_SENT:
            call.sent = False
        self._end(call, kind, "provider", fate=fate, mask=mask)

    def _end(
        self,
        call: Call,
        kind: OutcomeKind,
        reason: str,
        *,
        reached: bool = True,
        fate: Fate = Fate.DONE,
        mask: int = 0,
    ) -> None:
        d = call.delivery
        self.calls = [c for c in self.calls if c is not call]
        answer = deliveries.answer(
            d,
            d.delivery_id,
            kind,
            reason,
            self.now,
            channel=d.channel,
            spent=reached and kind is not OutcomeKind.MISCONFIGURED,
            started_at=call.at or self.now,
        )
        if call.orphan:
            call.told = True
            self._emitted(*self._answered(answer))
            return
        call.told = fate is not Fate.LOST

        def decide(view: dict[bytes, Any], _at: int) -> Effects:
            row = view.get(call.key)
            if row is None:
                return Effects({}, [self._answered(answer)])
            last = replace(answer, ask=max(answer.ask, row.ask))
            row = deliveries.ended(row, d.attempt, last, self.now)
            emits = [self._answered(last)]
            if self._owes_withdrawal(row):
                emits.append(self._answered(deliveries.withdrawn(row, "", self.now)))
            return Effects({call.key: row}, emits)

        self._delivery(decide, None, fate, mask)

    @staticmethod
    def _owes_withdrawal(row: RecipientDelivery) -> bool:
        return deliveries.owes_withdrawal(row)

    def overdue(self) -> list[bytes]:
        """Return the deliveries that housekeeping must look at."""
        return sorted(
            key
            for key, row in self.delivery.rows.items()
            if key.startswith(b"d/") and deliveries.overdue(row, self.now) is not None
        )

    def housekeep(self, key: bytes, fate: Fate = Fate.DONE, mask: int = 0) -> None:
        """Call a doubt what began, should have ended, and is no call of this worker's own."""
        if any(call.key == key and not call.orphan for call in self.calls):
            return

        def decide(view: dict[bytes, Any], _at: int) -> Effects:
            row = view[key]
            late = deliveries.overdue(row, self.now)
            if late is None:
                return Effects()
            answer = deliveries.doubt(row, late, self.now)
            row = deliveries.ended(row, late.attempt, answer, self.now)
            emits = [self._answered(answer)]
            if self._owes_withdrawal(row):
                emits.append(self._answered(deliveries.withdrawn(row, "", self.now)))
            return Effects({key: row}, emits)

        self._delivery(decide, None, fate, mask)

    # -- what must hold whenever a call begins

    def _check_call(self, call: Call) -> None:
        d = call.delivery
        entries = effective(self.audit[d.reminder_id])
        if any(
            e.to_state is State.CANCELLED and (e.occurrence, e.round) == (d.occurrence, d.round) and e.reason
            for e in entries
        ):
            raise Broken(f"a call began for {d.delivery_id}, which stands as CANCELLED")
        if any(e.to_state is State.ACKNOWLEDGED and e.occurrence == d.occurrence for e in entries):
            raise Broken(f"a call began for {d.delivery_id}, which stands as ACKNOWLEDGED")
        for other in self.made:
            o = other.delivery
            if other.sent is False:
                continue
            if (o.delivery_id, o.attempt) == (d.delivery_id, d.attempt):
                raise Broken(f"the attempt {d.delivery_id}:{d.attempt} was called twice")
            if (o.occurrence, o.round) != (d.occurrence, d.round) and any(
                e.round == d.round and e.reason in ROUNDS for e in entries
            ):
                # It is meant to be said again.
                continue
            if self.rule is MaybeSent.HOLD and (o.reminder_id, o.occurrence, o.recipient_id) == (
                d.reminder_id,
                d.occurrence,
                d.recipient_id,
            ):
                raise Broken(f"{d.recipient_id or 'the recipient'} was called again: {o.delivery_id}, {d.delivery_id}")

    # -- the end

    def settle_down(self) -> None:
        """Let everything work until nothing is left to do, the clock going on from due time to due time."""
        for _ in range(400):
            self._drain()
            if not self._unsettled():
                return
            self.now = max(self.now, self._next())
            for key in self.overdue():
                self.housekeep(key)
            for command in self.due_rows():
                self.core_unit([command])
        raise Broken(f"never came to rest: {self._unsettled()}")

    def _drain(self) -> None:
        for _ in range(10_000):
            streams = self.waiting(self.core, self.CORE)
            if streams:
                self.core_unit([streams[0]])
                continue
            streams = self.waiting(self.delivery, self.GATE) or self.waiting(self.delivery, self.CHANNELS)
            if streams:
                self.delivery_unit(streams[0])
                continue
            if not self.calls:
                return
            call = self.calls[0]
            if not call.begun:
                self.begin(call)
            else:
                self.finish(call, OutcomeKind.ACCEPTED)
        raise Broken("the topics never ran empty")

    def _unsettled(self) -> Mapping[str, State]:
        open_ = {
            key.decode(): row.open.state
            for key, row in self.core.rows.items()
            if row.open is not None and not resting(row.open)
        }
        if self._started():
            open_["a call"] = State.SENDING
        return open_

    def _started(self) -> list[RecipientDelivery]:
        return [
            row
            for key, row in self.delivery.rows.items()
            if key.startswith(b"d/") and any(a.state is AttemptState.STARTED for a in row.attempts)
        ]

    def _next(self) -> int:
        times = [
            min(x for x in (h.due_ms, h.deadline_ms) if x)
            for row in self.core.rows.values()
            if row.open is not None and not resting(row.open)
            for h in (due_of(row, self.rules),)
        ]
        times.extend(deliveries.due(row, self.now, RETENTION) for row in self._started())
        return min(times)

    def check_ends(self) -> None:
        """Check the promises at rest: each accepted reminder has ended once, truthfully, or is listed as a doubt."""
        for key, row in self.core.rows.items():
            rid = key.decode()
            self._check_row(rid)
            for n, c in enumerate(row.closed):
                if any((e.occurrence, e.round) == (c.occurrence, c.round) for e in row.closed[:n]):
                    # What waited for a zone has the name of its series' start, which has ended by itself.
                    continue
                calls = [
                    m
                    for m in self.made
                    if (m.delivery.reminder_id, m.delivery.occurrence) == (rid, c.occurrence)
                    and turns.first_round(c) <= m.delivery.round <= c.round
                ]
                self._check_end(rid, c.state, c.occurrence, calls)
                if c.state is State.SKIPPED and c.reason not in OWN_SKIPS:
                    raise Broken(f"{rid} {c.occurrence} was skipped: {c.reason}")
                if c.state is State.DEAD_LETTER and not calls and c.reason != "no_contact":
                    raise Broken(f"{rid} {c.occurrence} was given up before anybody was called: {c.reason}")
            for entry in effective(self.audit[rid]):
                if entry.to_state is State.EXPIRED and entry.reason == "too_late" and entry.at < entry.deadline:
                    raise Broken(f"{rid} {entry.occurrence} expired before its deadline")
            if row.open is not None:
                continue
            if row.definition is not None and not row.closed and not row.cancelled:
                raise Broken(f"{rid} was accepted and has neither an open nor an ended occurrence")

    def _check_end(self, rid: str, state: State, occurrence: str, calls: list[Call]) -> None:
        # Where a doubt is sent again, what it was in doubt about is forgotten unless its outcome comes after all.
        sent = any(c.sent and (c.told or self.rule is MaybeSent.HOLD) for c in calls)
        doubted = any(c.sent is None for c in calls)
        if state in (State.SENT, State.DELIVERED) and not any(c.sent is not False for c in calls):
            raise Broken(f"{rid} {occurrence} ended as {state}, and nobody was called")
        if state in (State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD_LETTER) and sent:
            raise Broken(f"{rid} {occurrence} ended as {state}, and was sent")
        if state in (State.CANCELLED, State.EXPIRED, State.SKIPPED) and doubted and self.rule is MaybeSent.HOLD:
            raise Broken(f"{rid} {occurrence} ended as {state}, and may have been sent")


@dataclass
class Effects:
    """What a decision of the model leads to."""

    rows: dict[bytes, Any] = field(default_factory=dict)
    emits: list[tuple[str, str, Any]] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)


def upsert(rid: str, version: int, definition: Definition) -> tuple[ReminderEvent, Definition]:
    """Return an UPSERT and its definition."""
    return ReminderEvent(rid, action=Action.UPSERT, version=version, event_id=f"{rid}/{version}"), definition


def cancel(rid: str, version: int) -> ReminderEvent:
    """Return a CANCEL."""
    return ReminderEvent(rid, action=Action.CANCEL, version=version, event_id=f"{rid}/{version}")


def answer(delivery: Delivery, number: int) -> ReminderEvent:
    """Return the acknowledgement of whoever got a delivery."""
    return ReminderEvent(
        delivery.reminder_id, action=Action.ACKNOWLEDGE, delivery_id=delivery.delivery_id, event_id=f"answer/{number}"
    )
