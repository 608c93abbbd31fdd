"""The core app behind its unit of work: which rule answers which topic, and how what it decides is put on the wire."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agents import letters
from agents.letters import Complaint
from agents.meter import Meter, Stage
from agents.new_tzdata import Placed
from agents.ports import Command, Decision, Inbound, Job, Out, View, Word
from agents.publisher import partition_of
from agents.release import LetGo
from agents.replies import Replies
from channels.retry import RetryPolicy
from schemas import codec, ids
from schemas.checks import PARKED
from schemas.codec import Codec, Undecodable
from schemas.names import Channel, MaybeSent, State
from schemas.records import AuditEntry, ControlRecord, DeliveryRequest, ReminderRow, ReminderStatus
from schemas.sealing import Random, Sealing
from tables import due as index
from tables import holding, holds, lifecycle, reach, settling, transition
from tables.consent import Categories
from tables.holds import Subject
from tables.transition import Arrival, Letter, Retry, Rules, Transition

log = logging.getLogger(__name__)

#: Rows in these states may have been asked for: only a doubt, never a dead letter, is true of them when their body
#: fails us.
_ASKED = frozenset(index.STATE_CODES[s] for s in (State.SENDING, State.WITHDRAWING, State.SENT, State.MAYBE_SENT))


@dataclass(frozen=True, slots=True)
class CoreTopics:
    """Names of the topics that core reads and writes, with their namespace.

    ``prefixes``: the intake topics of teams, and what the ids on each begin with.
    """

    reminders: str
    outcomes: str
    receipts: str
    retries: Mapping[str, str]
    requests: str
    audit: str
    status: str
    dlq: str
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def takes_events(self, topic: str) -> bool:
        """Return whether producers write to a topic: everybody's, or a team's."""
        return topic == self.reminders or topic in self.prefixes


@dataclass(frozen=True, slots=True)
class Core:
    """What the agents of core share. ``topic_ids``: Kafka's id of each input topic, by name."""

    topics: CoreTopics
    partitions: int
    topic_ids: Mapping[str, str]
    rules: Rules
    retry: RetryPolicy
    maybe_sent: MaybeSent
    codec: Codec
    meter: Meter
    holding: Callable[[Subject], ControlRecord | None]
    skipped: Callable[[Inbound], ControlRecord | None] = letters.never
    categories: Categories = field(default_factory=Categories)
    #: The scope of a circuit because of which nothing of a channel is sent, empty where something may be.
    shut: Callable[[str], str] = lambda channel: ""
    replies: Replies | None = None
    sealing: Sealing = field(default_factory=Sealing)
    random: Random = os.urandom

    # -- rows

    def row(self, view: View, key: bytes) -> ReminderRow | None:
        """Return the row of a reminder. Raises Undecodable for a damaged one."""
        raw = view.get(key)
        return None if raw is None else codec.decode(ReminderRow, raw[index.HEADER.size :])

    def written(self, row: ReminderRow) -> bytes:
        """Return the bytes of a row."""
        return transition.header(row, self.rules) + codec.encode(row)

    # -- what came

    def arrival(self, record: Inbound, now: int, event_id: str = "", correlation_id: str = "") -> Arrival:
        """Return how a record came."""
        return Arrival(
            now, round(record.timestamp * 1000), self.topic_ids[record.topic], record.offset, event_id, correlation_id
        )

    # -- what leaves

    def out(self, topic: str, key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> Out:
        """Return a record for the partition of its key."""
        return Out(topic, partition_of(key, self.partitions), key, value, headers)

    def decision(
        self, key: bytes, step: Transition, origin: Inbound | None, after: Callable[[], None] | None = None
    ) -> Decision:
        """Return a transition as rows and records."""
        if not step.changed:
            return Decision({}, (), (after,) if after else ())
        emits = [self.emit(key, emit, origin, step) for emit in step.emits]
        emits.extend(self.audited(key, entry) for entry in step.audit)
        if self.replies is not None and step.row is not None:
            emits.extend(self._wants_no_answer(self.replies, step.row, step))
        row = None if step.row is None else self.written(step.row)
        return Decision({key: row}, tuple(e for e in emits if e is not None), (after,) if after else ())

    @staticmethod
    def _wants_no_answer(replies: Replies, row: ReminderRow, step: Transition) -> Iterator[Out]:
        """Yield the word that an occurrence that has just ended waits for no texted answer."""
        for told in step.emits:
            if not isinstance(told, ReminderStatus) or row.definition is None:
                continue
            going_on = row.open is not None and row.open.occurrence == told.occurrence
            if not going_on and transition.wants_answer(row.definition):
                yield replies.closed(told.reminder_id, told.occurrence, told.at)

    def emit(self, key: bytes, emit: transition.Emit, origin: Inbound | None, step: Transition) -> Out | None:
        """Return what a transition emits as a record."""
        match emit:
            case DeliveryRequest():
                route = ids.routing_key(emit.recipient_id, emit.reminder_id)
                return self.out(self.topics.requests, route, codec.encode(emit))
            case Retry(tier, record):
                return self.out(self.topics.retries[str(tier)], key, codec.encode(record))
            case ReminderStatus():
                if emit.reason in reach.REASONS:
                    self.meter.unreachable()
                return self.out(self.topics.status, key, codec.encode(emit))
            case Letter(reason, attempts):
                if origin is None:
                    return None
                self.meter.dlq(reason)
                last = step.audit[-1]
                complaint = Complaint(
                    reason, attempts=attempts, correlation_id=last.correlation_id, remedy="trail " + last.reminder_id
                )
                return letters.dead_letter(self.topics.dlq, self.partitions, origin, complaint, last.at)

    def audited(self, key: bytes, entry: AuditEntry) -> Out:
        """Return an audit entry as a record, with the correlation id in its header."""
        headers = ((letters.CORRELATION, entry.correlation_id.encode()),) if entry.correlation_id else ()
        return self.out(self.topics.audit, key, codec.encode(entry), headers)

    def rejected(self, record: Inbound, entry: AuditEntry, now: int) -> Decision:
        """Return a rejection: the dead letter, and the audit's answer to whoever sent it."""
        complaint = Complaint(
            entry.reason,
            entry.field,
            entry.value,
            entry.remedy,
            correlation_id=entry.correlation_id,
            parked=entry.reason in PARKED,
        )
        letter = letters.dead_letter(self.topics.dlq, self.partitions, record, complaint, now)
        self.meter.dlq(entry.reason)
        key = entry.reminder_id.encode() or letters.short_key(record) or b""
        partition = partition_of(key, self.partitions) if key else record.partition
        headers = ((letters.CORRELATION, entry.correlation_id.encode()),) if entry.correlation_id else ()
        return Decision({}, (letter, Out(self.topics.audit, partition, key, codec.encode(entry), headers)))

    def unreadable(self, record: Inbound, why: Undecodable) -> Job:
        """Return the job of a record of an internal topic that cannot be read."""

        def run(_view: View, now: int) -> Decision:
            return self.rejected(record, rejection(record, why.reason, why.field, why.value, why.remedy, now), now)

        return Job((), run, record)

    def passed_over(self, record: Inbound, by: ControlRecord) -> Job:
        """Return the job of a record that an operator has named to be passed over: its dead letter alone."""
        complaint = letters.passed_over(by.reason)

        def run(_view: View, now: int) -> Decision:
            rid = letters.key_text(record)
            return self.rejected(record, rejection(record, complaint.reason, "", "", complaint.remedy, now, rid), now)

        return Job((), run, record)


def rejection(
    record: Inbound, reason: str, field: str, value: str, remedy: str, now: int, reminder_id: str = "", **more: str
) -> AuditEntry:
    """Return the audit entry of a rejection, with where the input lies."""
    return AuditEntry(
        reminder_id=reminder_id,
        seq=0,
        at=now,
        from_state=State.NONE,
        to_state=State.REJECTED,
        reason=str(reason),
        field=field,
        value=value,
        remedy=remedy,
        origin_topic=record.topic,
        origin_partition=record.partition,
        origin_offset=record.offset,
        **more,  # type: ignore[arg-type]
    )


def _shown(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()


Reader = Callable[[Core, Inbound], Job]


class CoreLogic:
    """Answers each topic of core by its rule. ``readers``: by topic name."""

    def __init__(self, core: Core, readers: Mapping[str, Reader]) -> None:
        self._core = core
        self._readers = readers

    async def prepare(self, records: Sequence[Inbound]) -> None:
        """Fetch unknown schemas from the registry, where there is one."""
        takes, skipped = self._core.topics.takes_events, self._core.skipped
        await self._core.codec.prefetch([r.value for r in records if takes(r.topic) and not skipped(r)])

    def read(self, record: Inbound) -> Job:
        """Return the job of a record. One that is to be passed over is not even looked at."""
        if (by := self._core.skipped(record)) is not None:
            return self._core.passed_over(record, by)
        return self._readers[record.topic](self._core, record)

    def command(self, partition: int, command: Command) -> Job:
        """Return the job of a timer's command, or of a release."""
        core = self._core
        if isinstance(command, Word):
            return self._said(command.body)
        key, due = index.row_key_of(command.index_key), index.due_of(command.index_key)

        def run(view: View, now: int) -> Decision:
            row = core.row(view, key)
            step = self._held_back(key.decode(), row, due, now) or lifecycle.fire(
                key.decode(), row, due, now, core.rules, self._held_by(row, now), command.at
            )
            if step.changed and step.audit and step.audit[-1].to_state is State.SENDING:
                entry = step.audit[-1]
                if command.at:
                    core.meter.lateness(Stage.PUBLISHED, entry.channel, (command.at - entry.due_at) / 1000)
                core.meter.lateness(Stage.CLAIMED, entry.channel, (now - entry.due_at) / 1000)
            raw = view.get(key)
            if row is not None and raw is not None and not step.changed and index.unpack(raw).due_ms == due <= now:
                # The header was moved by itself (see failed). What the body says is tried again, or it stays due for
                # ever.
                return Decision({key: core.written(row)})
            return core.decision(key, step, None)

        return Job((key,), run)

    def _held_back(self, rid: str, row: ReminderRow | None, due: int, now: int) -> Transition | None:
        """Return how a hold on more than a channel keeps a due row back, None if there is none."""
        core = self._core
        d = row.definition if row is not None else None
        if d is None:
            return None
        record = core.holding(Subject(category=d.category, tenant=d.tenant, source=d.source))
        if record is None or holds.is_channel(record.scope):
            return None
        return holding.hold_back(rid, row, due, now, record, core.rules)

    def _held_by(self, row: ReminderRow | None, now: int) -> str:
        """Return the reason of the hold that keeps a row back at the end of its time, a channel's as well."""
        d, o = (row.definition, row.open) if row is not None else (None, None)
        if d is None or o is None or o.deadline > now:
            return ""
        channel = "" if o.channel is Channel.ANY else o.channel.value
        record = self._core.holding(Subject(channel, category=d.category, tenant=d.tenant, source=d.source))
        scope = record.scope if record is not None else self._core.shut(channel)
        return holding.reason(scope) if scope else ""

    def _said(self, body: object) -> Job:
        if isinstance(body, Placed):
            return self._place(body)
        if not isinstance(body, LetGo):
            raise TypeError("core knows no other words than a release and new time zone data")
        core = self._core

        def run(view: View, now: int) -> Decision:
            step = holding.let_go(body.key.decode(), core.row(view, body.key), body.scope, now, core.rules)
            return core.decision(body.key, step, None)

        return Job((body.key,), run)

    def _place(self, body: Placed) -> Job:
        core = self._core

        def run(view: View, now: int) -> Decision:
            row = core.row(view, body.key)
            step = settling.new_tzdata(body.key.decode(), row, now, core.rules)
            if step.result == settling.TZ_MOVED and row is not None and row.open is not None:
                moved = step.row.open if step.row is not None else None
                log.info(
                    "new time zone data moved %s, %s, from %s to %s",
                    body.key.decode(),
                    row.open.occurrence,
                    _shown(row.open.due_at),
                    _shown(moved.due_at) if moved is not None else "none",
                )
            return core.decision(body.key, step, None)

        return Job((body.key,), run)

    def failed(self, job: Job, partition: int, exc: Exception, view: View, now: int) -> Decision:
        """Return what to do with an input that our own bug, or a damaged row, cannot get past.

        An event goes to the DLQ and leaves its row alone. What the row itself is waiting for moves the row by its
        header: to MAYBE_SENT if it may have been asked for, else to DEAD_LETTER.
        """
        core = self._core
        core.meter.dlq("bug")
        reason = "bug"
        key = job.keys[0] if job.keys else b""
        rid = key.decode("utf-8", "replace")
        raw = view.get(key) if key else None
        rows: dict[bytes, bytes | None] = {}
        emits: list[Out] = []
        origin = job.origin
        internal = origin is None or not core.topics.takes_events(origin.topic)
        from_state = State.NONE
        to_state = State.REJECTED
        if internal and raw is not None and len(raw) >= index.HEADER.size:
            head = index.unpack(raw)
            from_state = index.STATES.get(head.state, State.UNKNOWN)
            doubt = head.state in _ASKED
            to_state = State.MAYBE_SENT if doubt else State.DEAD_LETTER
            wait = core.rules.review_ms if doubt else core.rules.retention_ms
            moved = index.pack(index.STATE_CODES[to_state], head.lane, head.channel, now + wait, 0)
            rows[key] = moved + raw[index.HEADER.size :]
        entry = AuditEntry(
            reminder_id=rid,
            seq=0,
            at=now,
            from_state=from_state,
            to_state=to_state,
            reason=reason,
            detail=type(exc).__name__,
            remedy="see the worker's log; redrive the dead letter once the fault is mended",
            origin_topic=origin.topic if origin else "",
            origin_partition=origin.partition if origin else partition,
            origin_offset=origin.offset if origin else -1,
        )
        if key:
            emits.append(core.audited(key, entry))
        if origin is not None:
            complaint = Complaint(reason, value=type(exc).__name__, remedy=entry.remedy, attempts=3)
            emits.append(letters.dead_letter(core.topics.dlq, core.partitions, origin, complaint, now))
        return Decision(rows, tuple(emits))
