"""Cancelling, pausing and resuming all reminders that match: which rows do, and the event for each. Pure.

The event is an ordinary one, and no stronger than what was seen: it carries the row's version, or a timestamp from
before the rows were read, so whatever a producer has sent since then wins. Its id is made from the row's place in its
own history, so that the same act on the same row is one event however often it is sent.
"""

import hashlib
from dataclasses import dataclass

from schemas import codec
from schemas.names import Action, State, Withdrawal
from schemas.records import ReminderEvent, ReminderRow
from tables import due as index

#: States in which something is still to come of an occurrence. What was sent, or may have been, is for its own desk.
_TO_COME = frozenset(
    {State.PENDING, State.SCHEDULED, State.RETRY, State.HELD, State.PAUSED, State.SENDING, State.WITHDRAWING}
)
_CODES = frozenset(index.STATE_CODES[state] for state in _TO_COME)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which reminders are meant: those that are all of what is given. ``due_before``: ms UTC, 0: whenever."""

    tenant: str = ""
    category: str = ""
    recipient: str = ""
    source: str = ""
    prefix: str = ""
    due_before: int = 0

    def may_match(self, key: bytes, raw: bytes) -> bool:
        """Return whether a row's bytes may be of a reminder that is meant; cheap, so that most rows are not decoded."""
        wanted = (self.tenant, self.category, self.recipient, self.source)
        return (
            index.unpack(raw).state in _CODES
            and key.startswith(self.prefix.encode())
            and all(text.encode() in raw for text in wanted)
        )

    def matches(self, row: ReminderRow) -> bool:
        """Return whether a row is of a reminder that is meant."""
        d, o = row.definition, row.open
        if d is None or o is None:
            return False
        given = ((self.tenant, d.tenant), (self.category, d.category), (self.recipient, d.recipient_id))
        if any(wanted and wanted != has for wanted, has in (*given, (self.source, d.source))):
            return False
        # What waits for a zone has no time yet, so it is before none.
        return not self.due_before or 0 < o.due_at < self.due_before


@dataclass(frozen=True, slots=True)
class Match:
    """A reminder that an act is to change, as it was seen. ``version`` 0: its events are ordered by time."""

    reminder_id: str
    state: State
    due_at: int
    seq: int
    version: int
    stamp: int
    tenant: str


def match(key: bytes, raw: bytes, action: Action, wanted: Filter) -> Match | None:
    """Return what an act would change of a row, None if nothing. Raises codec.Undecodable for what cannot be read."""
    if not wanted.may_match(key, raw):
        return None
    row = codec.decode(ReminderRow, raw[index.HEADER.size :])
    o, d = row.open, row.definition
    if o is None or d is None or not wanted.matches(row) or not _can(row, action):
        return None
    version = row.version if row.numbered else 0
    return Match(key.decode(), o.state, o.due_at, row.seq, version, row.stamp, d.tenant)


def _can(row: ReminderRow, action: Action) -> bool:
    """Return whether an act would do something to a row that is open."""
    match action:
        case Action.PAUSE:
            return not row.paused
        case Action.RESUME:
            return row.paused
        case _:
            return row.open is not None and row.open.withdrawal not in (
                Withdrawal.CANCEL,
                Withdrawal.ERASE,
            )


def event(found: Match, action: Action, actor: str, reason: str) -> ReminderEvent:
    """Return the event that acts on a reminder."""
    said = f"{action.value} {found.seq} {found.reminder_id}"
    event_id = hashlib.sha256(said.encode()).hexdigest()[:32]
    return ReminderEvent(
        found.reminder_id,
        action=action,
        version=found.version,
        event_id=event_id,
        correlation_id=event_id,
        source="cli",
        tenant=found.tenant,
        actor=actor,
        text=reason,
    )


def timestamp(found: Match, read_at: int) -> int:
    """Return the time, in ms, with which an act is ordered: when the reading began, or the row's own if that is later.

    What a producer has sent since then is later, and wins.
    """
    return max(read_at, found.stamp)
