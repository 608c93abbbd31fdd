"""The ledger: what came in, what the rows say, what the audit says. Where they do not agree stands an orphan. Pure.

One ``Ledger`` compares one partition, for reminders of which something was seen in a stretch of its topics. It is fed
records in the order of each topic and asked, reminder by reminder, what does not add up. What may still be on its way
is no orphan: an input that the group has not taken yet, an audit entry that has not been read, a unit that is at work.

- ``event``: an event was taken, and there is neither a row that reflects it nor a rejection.
- ``outcome``: an answer of delivery, a receipt or a retry was taken, and the row would still change by it.
- ``row``: a row is gone though its reminder had not ended so long ago as rows are kept, or its changelog ends otherwise
  than the store.
- ``trail``: the audit ends otherwise than the row.
- ``audit_missing``: numbers of an audit trail were left out.
- ``audit_doubled``: an audit entry stands there twice, byte by byte.
- ``stuck``: a row is long past its time and nothing of its kind moves.

After a crash a unit may decide otherwise: an entry whose number is not above the last one replaces it and what
followed. Its time differs then, so that it is never the same bytes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, assert_never
from zlib import crc32

from schemas import codec
from schemas.codec import Undecodable
from schemas.names import AnswerKind, Channel, State
from schemas.records import AuditEntry, DeliveryAnswer, DeliveryReceipt, ReminderEvent, ReminderRow, RetryRecord
from tables import due as index
from tables import erasure, receipts, settling
from tables.transition import Arrival, Rules, Transition, is_replay

_T = TypeVar("_T")

#: How long a unit may take from its emits to its rows, in ms: the fence ends the process before that.
GRACE_MS = 15_000
#: A row that is so long past its time is stuck, in ms: longer than any lease, wait for a turn, or takeover.
STUCK_MS = 5 * 60_000
#: How much of the audit's past is needed to tell whether an entry that belongs to a row was missed, in ms.
SLACK_MS = 60_000
#: Audit entries of a reminder of which it is remembered how they look.
_REMEMBERED = 32
_ENDED = frozenset({State.SENT, State.DELIVERED, State.ACKNOWLEDGED, State.CANCELLED, State.SKIPPED, State.EXPIRED,
                    State.DEAD_LETTER, State.MAYBE_SENT, State.NONE})  # fmt: skip
_NEVER_STUCK = frozenset({State.NONE, State.UNKNOWN, State.DELIVERED})
#: Entries without a number that moved a row by its header alone.
_BY_HEADER = frozenset({State.MAYBE_SENT, State.DEAD_LETTER})


class Kind(StrEnum):
    """What does not add up."""

    EVENT = "event"
    OUTCOME = "outcome"
    ROW = "row"
    TRAIL = "trail"
    MISSING = "audit_missing"
    DOUBLED = "audit_doubled"
    STUCK = "stuck"


class Role(StrEnum):
    """What an input topic of core holds."""

    EVENT = "event"
    OUTCOME = "outcome"
    RECEIPT = "receipt"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Source:
    """An input topic: what it holds, and Kafka's id of it."""

    role: Role
    topic_id: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """One thing that does not add up. ``where``: the record or the row that shows it. ``at``: ms UTC of that."""

    kind: Kind
    reminder_id: str
    where: str
    at: int
    why: str
    remedy: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return what makes it the same orphan when it is looked at again."""
        return self.kind.value, self.reminder_id, self.where


@dataclass(frozen=True, slots=True)
class Input:
    """A record of an input topic that is not accounted for yet."""

    topic: str
    offset: int
    at: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Reached:
    """How far each side is known, in ms UTC: up to when the audit and the changelog have been read.

    ``taken``: by input topic, the offset up to which the group has acknowledged.
    """

    audit: int
    changelog: int
    taken: Mapping[str, int]


class Page:
    """What was seen of one reminder."""

    __slots__ = ("at", "doubled", "gaps", "head", "inputs", "logged", "queued", "recent", "seq", "state", "where")

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.seq = 0
        self.state = State.NONE
        #: The state to which the row was moved by its header, where that is the audit's last word.
        self.head: State | None = None
        self.at = 0
        self.where = ""
        self.recent: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int, str, int]] = []
        self.doubled: list[tuple[int, str, int]] = []
        #: The last record of the changelog: its offset, its checksum (None: a tombstone) and its time.
        self.logged: tuple[int, int | None, int] | None = None
        self.queued = False

    def audited(self, entry: AuditEntry, value: bytes, where: str, at: int) -> None:
        """Take in the next entry of the audit, by its rule of replacement."""
        if entry.seq == 0:
            if entry.to_state in _BY_HEADER:
                self.head, self.at, self.where = entry.to_state, at, where
            return
        looks = (entry.seq, crc32(value))
        if looks in self.recent:
            self.doubled.append((entry.seq, where, at))
            return
        self.recent = [*self.recent[1 - _REMEMBERED :], looks]
        if self.seq and entry.seq > self.seq + 1:
            self.gaps.append((self.seq + 1, entry.seq - 1, where, at))
        elif entry.seq <= self.seq:
            self.gaps = [gap for gap in self.gaps if gap[0] < entry.seq]
        self.seq, self.state, self.head = entry.seq, entry.to_state, None
        self.at, self.where = at, where


class Ledger:
    """One partition. ``begun``: from when on its topics have been read, ms UTC.

    ``home``: says which partition a key belongs to. ``held``: whether a channel is held, so that what is due rightly
    waits. ``at_work_since``: from when on its timer has acted. ``most``: how many reminders are remembered; the ones
    seen longest ago are forgotten first.
    """

    def __init__(
        self,
        partition: int,
        begun: int,
        sources: Mapping[str, Source],
        rules: Rules,
        home: Callable[[bytes], int],
        held: Callable[[Channel], bool] = lambda channel: False,
        most: int = 0,
        at_work_since: int = 0,
    ) -> None:
        self.partition = partition
        self.begun = begun
        self.pages: OrderedDict[bytes, Page] = OrderedDict()
        #: Pages that were forgotten before they had been compared.
        self.forgotten = 0
        self._sources = sources
        self._rules = rules
        self._home = home
        self._held = held
        self._most = most
        self._at_work_since = at_work_since
        self._rejected: OrderedDict[tuple[str, int], None] = OrderedDict()
        #: When something of a channel was last asked for.
        self._moved: dict[Channel, int] = {}

    # -- what is read

    def page(self, key: bytes) -> Page:
        """Return the page of a reminder, a new one if need be."""
        page = self.pages.get(key)
        if page is None:
            page = self.pages[key] = Page()
            if self._most and len(self.pages) > self._most:
                self.forgotten += self.pages.popitem(last=False)[1].queued
        else:
            self.pages.move_to_end(key)
        return page

    def take_in(self, topic: str, offset: int, at: int, key: bytes | None, value: bytes | None) -> bytes | None:
        """Take in a record of an input topic; return the key of its page, None where it is no reminder's of here."""
        if self._sources[topic].role is Role.EVENT:
            # Whatever its key, its row is that of its id. One that lies on the wrong partition is forwarded from there.
            meant = _decoded(ReminderEvent, value)
            key = meant.reminder_id.encode("utf-8", "replace") if meant is not None else key
            value = None
            if key and self._home(key) != self.partition:
                return None
        key = key or b""
        self.page(key).inputs.append(Input(topic, offset, at, value))
        return key

    def audited(self, topic: str, offset: int, at: int, key: bytes | None, value: bytes | None) -> bytes | None:
        """Take in a record of the audit; return the key of its page, None where it has none."""
        entry = _decoded(AuditEntry, value)
        if entry is None:
            return None
        if entry.origin_partition == self.partition and entry.origin_topic in self._sources:
            self._rejected[entry.origin_topic, entry.origin_offset] = None
            if self._most and len(self._rejected) > self._most:
                self._rejected.popitem(last=False)
        if entry.to_state is State.SENDING:
            self._moved[entry.channel] = max(at, self._moved.get(entry.channel, 0))
        if not key or (entry.seq == 0 and entry.to_state not in _BY_HEADER):
            return None
        self.page(key).audited(entry, value or b"", f"{topic}/{self.partition}/{offset}", at)
        return key

    def logged(self, offset: int, at: int, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog."""
        self.page(key).logged = (offset, None if value is None else crc32(value), at)

    # -- what does not add up

    def settled(self, page: Page) -> bool:
        """Return whether nothing of a page waits to be compared again."""
        return not page.inputs and not page.gaps

    def examine(self, key: bytes, raw: bytes | None, now: int, reached: Reached) -> list[Orphan]:
        """Return what does not add up of a reminder, whose row is ``raw``.

        What has been accounted for is dropped. So is what can never be: entries missing or doubled are told once.
        """
        page = self.pages.get(key)
        if page is None:
            return []
        row = None
        if raw is not None:
            row = _decoded(ReminderRow, raw[index.HEADER.size :])
            if row is None:
                # What this release cannot read it cannot judge; the row itself is reported elsewhere.
                page.inputs.clear()
                return []
        rid = key.decode("utf-8", "replace")
        found = list(self._audit(rid, page, now))
        found.extend(self._inputs(rid, page, row, now, reached))
        if raw is not None and row is not None:
            found.extend(self._row(rid, page, raw, row, now, reached))
            # What was long past when it was sent has been due only since then.
            if row.updated_at + STUCK_MS <= now and (orphan := self.overdue(rid, raw, now)) is not None:
                found.append(orphan)
        elif (orphan := self._gone(rid, page, now)) is not None:
            found.append(orphan)
        return found

    def _audit(self, rid: str, page: Page, now: int) -> Iterator[Orphan]:
        doubled, page.doubled = page.doubled, []
        for seq, where, at in doubled:
            yield Orphan(Kind.DOUBLED, rid, where, at, f"audit entry {seq} stands there twice", _TWICE)
        gaps, page.gaps = page.gaps, []
        for first, last, where, at in gaps:
            if at + GRACE_MS > now:
                page.gaps.append((first, last, where, at))
                continue
            numbers = f"entry {first} is" if first == last else f"entries {first} to {last} are"
            yield Orphan(Kind.MISSING, rid, where, at, f"audit {numbers} missing before this one", _LOST)

    def _inputs(self, rid: str, page: Page, row: ReminderRow | None, now: int, reached: Reached) -> Iterator[Orphan]:
        waiting: list[Input] = []
        for record in page.inputs:
            source = self._sources[record.topic]
            if (record.topic, record.offset) in self._rejected or is_replay(row, self._arrival(record, now)):
                continue
            if record.offset >= reached.taken.get(record.topic, 0) or record.at + GRACE_MS > now:
                waiting.append(record)
            elif self._left_over(page, source, record, row, now):
                waiting.append(record)
                where = f"{record.topic}/{self.partition}/{record.offset}"
                kind = Kind.EVENT if source.role is Role.EVENT else Kind.OUTCOME
                why = f"{_NAMES[source.role]} was taken, and no row reflects it"
                yield Orphan(kind, rid, where, record.at, why, _REMEDY[kind])
        page.inputs = waiting

    def _arrival(self, record: Input, now: int) -> Arrival:
        return Arrival(now, record.at, self._sources[record.topic].topic_id, record.offset)

    def _left_over(self, page: Page, source: Source, record: Input, row: ReminderRow | None, now: int) -> bool:
        """Return whether a record that was taken has had no effect though it should."""
        if row is None and page.seq and page.at >= record.at - GRACE_MS:
            # The audit accounts for it; that its row is gone is another question.
            return False
        return self._would_change(source.role, record, row, now)

    def _would_change(self, role: Role, record: Input, row: ReminderRow | None, now: int) -> bool:
        a, rules = self._arrival(record, now), self._rules
        step: Transition
        match role:
            case Role.OUTCOME:
                answer = _decoded(DeliveryAnswer, record.value)
                if answer is None:
                    return True
                if row is None:
                    return answer.kind is AnswerKind.OUTCOME
                match answer.kind:
                    case AnswerKind.OUTCOME:
                        # Whether it changes the row does not depend on how it is judged.
                        verdict = settling.Doubt()
                        step = settling.settle(answer.reminder_id, row, answer, verdict, a, rules)
                    case AnswerKind.WITHDRAWN:
                        step = settling.withdrawn(answer.reminder_id, row, answer, a, rules)
                    case AnswerKind.PROFILE:
                        step = settling.profile(answer.reminder_id, row, answer, a, rules)
                    case AnswerKind.ERASED:
                        step = erasure.recipient_erased(answer.reminder_id, row, answer, a, rules)
                    case AnswerKind.RETRACTED:
                        step = receipts.retracted(answer.reminder_id, row, answer, a, rules)
                    case AnswerKind.UNKNOWN:
                        return True
                    case other:
                        assert_never(other)
            case Role.RECEIPT:
                news = _decoded(DeliveryReceipt, record.value)
                if news is None:
                    return True
                step = receipts.receipt(news.reminder_id, row, news, a, rules)
            case Role.RETRY:
                retry = _decoded(RetryRecord, record.value)
                if retry is None:
                    return True
                step = settling.rearm(retry.reminder_id, row, retry, a, rules)
            case Role.EVENT:
                return True
            case unknown:
                assert_never(unknown)
        return step.changed

    def _row(self, rid: str, page: Page, raw: bytes, row: ReminderRow, now: int, reached: Reached) -> Iterator[Orphan]:
        if page.logged is not None and row.updated_at <= reached.changelog:
            offset, checksum, at = page.logged
            if checksum is None and at + GRACE_MS <= now:
                why = "its changelog ends with a tombstone, so the next recovery would lose it"
                yield Orphan(Kind.ROW, rid, f"changelog/{self.partition}/{offset}", at, why, _REMEDY[Kind.ROW])
            elif checksum is not None and checksum != crc32(raw) and at + GRACE_MS <= now:
                why = "its changelog ends with another row than the worker's store holds"
                yield Orphan(Kind.ROW, rid, f"changelog/{self.partition}/{offset}", at, why, _REMEDY[Kind.ROW])
        if row.updated_at > reached.audit:
            return
        state = index.STATES.get(index.unpack(raw).state, State.UNKNOWN)
        if not page.seq and page.head is None:
            seen = page.logged is not None and row.updated_at >= self.begun + SLACK_MS
            if seen and row.updated_at + GRACE_MS <= now:
                why = f"the row has moved to {state.value} as number {row.seq}, and the audit has nothing of it"
                yield Orphan(Kind.TRAIL, rid, f"row/{self.partition}", row.updated_at, why, _REMEDY[Kind.TRAIL])
            return
        if page.at + GRACE_MS > now or (page.seq > row.seq and page.inputs):
            # A unit is at work, or one that died will be repeated.
            return
        told = page.head or page.state
        if state is not told or (page.seq and page.seq != row.seq):
            why = f"the audit ends with {told.value} ({page.seq or '–'}), the row with {state.value} ({row.seq})"
            yield Orphan(Kind.TRAIL, rid, page.where, page.at, why, _REMEDY[Kind.TRAIL])

    def _kept_long_enough(self, page: Page, now: int) -> bool:
        return (page.head or page.state) in _ENDED and page.at + self._rules.retention_ms <= now + GRACE_MS

    def _gone(self, rid: str, page: Page, now: int) -> Orphan | None:
        """Return the orphan that a missing row is, None where it was purged, or was never written yet."""
        if not (page.seq or page.head) or page.at + GRACE_MS > now or self._kept_long_enough(page, now):
            return None
        if page.inputs:
            # The unit that audited it may have died before its row; the input tells.
            return None
        told = page.head or page.state
        why = f"its row is gone, and the audit ends with {told.value} ({page.seq or '–'})"
        return Orphan(Kind.ROW, rid, page.where, page.at, why, _REMEDY[Kind.ROW])

    def deleted(self, key: bytes, where: str, at: int) -> Orphan:
        """Return the orphan that a tombstone is whose reminder had not ended so long ago as rows are kept."""
        rid = key.decode("utf-8", "replace")
        return Orphan(Kind.ROW, rid, where, at, "its row was deleted before its time", _REMEDY[Kind.ROW])

    def overdue(self, rid: str, raw: bytes, now: int) -> Orphan | None:
        """Return the orphan that a row is whose time is long past, None where it waits rightly."""
        head = index.unpack(raw)
        state = index.STATES.get(head.state, State.UNKNOWN)
        limit = now - STUCK_MS
        deadline = head.deadline_ms if 0 < head.deadline_ms <= limit else 0
        if head.state >= index.STATE_CODES[State.CANCELLED] or state in _NEVER_STUCK:
            return None
        due = deadline or (head.due_ms if head.due_ms <= limit else 0)
        if not due or self._at_work_since > limit:
            return None
        channel = index.CHANNELS.get(head.channel, Channel.UNKNOWN)
        if (
            head.state in index.ASKABLE
            and not deadline
            and (self._held(channel) or self._moved.get(channel, 0) > limit)
        ):
            return None
        why = f"{state.value}, and its {'deadline' if deadline else 'time'} is {(now - due) // 1000} s past"
        return Orphan(Kind.STUCK, rid, f"row/{self.partition}", due, why, _REMEDY[Kind.STUCK])


_TWICE = "a client repeated its write, or somebody copied the record: readers take it once; nothing was sent by it"
_LOST = "audit records were lost or deleted; the trail of the row (`trail ID`) has its last entries"
_NAMES = {
    Role.EVENT: "the event",
    Role.OUTCOME: "the answer of delivery",
    Role.RECEIPT: "the receipt",
    Role.RETRY: "the retry",
}
_REMEDY = {
    Kind.EVENT: "send the event again; look who moved the group's offsets, or deleted the row",
    Kind.OUTCOME: "look at `trail ID`; its lease asks again, and delivery then repeats the answer without sending",
    Kind.ROW: "send its UPSERT again; look who wrote to the changelog, or deleted the row",
    Kind.TRAIL: "look at `trail ID` and `trail ID --audit`; look who wrote to the audit topic",
    Kind.STUCK: "`doctor`; a restart of its worker begins anew",
}


def _decoded(kind: type[_T], value: bytes | None) -> _T | None:
    """Return a record, None where it cannot be read."""
    try:
        return codec.decode(kind, value or b"")
    except Undecodable:
        return None
