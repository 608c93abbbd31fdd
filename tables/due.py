"""The row header and the due index that is derived from it: what is due, in which order, by whose credit. Pure.

A row is a 20-byte header ``>BBBBQQ`` (format, state, lane, channel, due_ms, deadline_ms) and an Avro body. Everything
that the store, the timer and a scan need is in the header; no body is ever decoded to find what is due.

An index key is ``group (2 bytes) + due_ms (>Q) + row key``. A row that waits for credit stands in the group of its lane
and channel, so that mails waiting for credit never hide an SMS; everything else that must happen at a time (lease,
deadline, review, purge) stands in the housekeeping group.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from schemas.names import DELIVERY_CHANNELS, Channel, Lane, State

HEADER = struct.Struct(">BBBBQQ")
#: Version of the row format that this release writes.
ROW_FORMAT = 1
#: Version of the index derived here; a store with another one rebuilds it from its rows.
INDEX_VERSION = 1

_DUE = struct.Struct(">Q")
MAX_DUE_MS = (1 << 63) - 1

STATE_CODES: dict[State, int] = {
    State.NONE: 0,
    State.PENDING: 1,
    State.SCHEDULED: 2,
    State.SENDING: 3,
    State.SENT: 4,
    State.DELIVERED: 5,
    State.FAILED: 6,
    State.RETRY: 7,
    State.HELD: 8,
    State.PAUSED: 9,
    State.MAYBE_SENT: 10,
    State.WITHDRAWING: 11,
    State.CANCELLED: 20,
    State.EXPIRED: 21,
    State.SKIPPED: 22,
    State.ACKNOWLEDGED: 23,
    State.DEAD_LETTER: 24,
}
STATES: dict[int, State] = {code: state for state, code in STATE_CODES.items()}
#: Rows of the recipients table are no occurrences; their header carries this state.
NO_STATE = 0
SENDING = STATE_CODES[State.SENDING]

CHANNEL_CODES: dict[Channel, int] = {Channel.ANY: 0} | {c: i for i, c in enumerate(DELIVERY_CHANNELS, start=1)}
CHANNELS: dict[int, Channel] = {code: channel for channel, code in CHANNEL_CODES.items()}

#: Rows in these states wait for their time and then for credit.
ASKABLE = frozenset({STATE_CODES[State.SCHEDULED], STATE_CODES[State.RETRY], STATE_CODES[State.HELD]})
HOUSEKEEPING = b"\xff\xff"


class Header(NamedTuple):
    """The fixed part of a row. Times are ms since 1970-01-01 UTC; 0: none."""

    format: int
    state: int
    lane: int
    channel: int
    due_ms: int
    deadline_ms: int


def pack(state: int, lane: int, channel: int, due_ms: int, deadline_ms: int) -> bytes:
    """Return the header bytes of a row in the format that this release writes."""
    return HEADER.pack(ROW_FORMAT, state, lane, channel, due_ms, deadline_ms)


def unpack(row: bytes) -> Header:
    """Return the header of a row. Raises ``struct.error`` if the row is shorter than a header."""
    return Header(*HEADER.unpack_from(row))


def group(lane: int, channel: int) -> bytes:
    """Return the index group of what waits for credit on a channel in a lane."""
    return bytes((lane, channel))


#: Every group, in the order in which the timer serves them: housekeeping, then urgent, normal, bulk.
GROUPS: tuple[bytes, ...] = (HOUSEKEEPING, *(group(lane, channel) for lane in Lane for channel in CHANNELS))


def entry(where: bytes, due_ms: int, key: bytes) -> bytes:
    """Return an index key."""
    return where + _DUE.pack(due_ms) + key


def due_of(index_key: bytes) -> int:
    """Return the due time of an index key, ms UTC."""
    (due_ms,) = _DUE.unpack_from(index_key, 2)
    return int(due_ms)


def row_key_of(index_key: bytes) -> bytes:
    """Return the row key that an index key points to."""
    return index_key[10:]


def entries(key: bytes, row: bytes) -> Iterator[bytes]:
    """Yield the index keys of a row: its due time, and its deadline where it has one."""
    _, state, lane, channel, due_ms, deadline_ms = HEADER.unpack_from(row)
    if due_ms:
        yield entry(bytes((lane, channel)) if state in ASKABLE else HOUSEKEEPING, due_ms, key)
    if (deadline_ms and deadline_ms != due_ms) or (deadline_ms and state in ASKABLE):
        yield entry(HOUSEKEEPING, deadline_ms, key)
