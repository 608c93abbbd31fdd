"""The header of a row and the index that is derived from it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import DELIVERY_CHANNELS, Channel, Lane, State
from tables import due as index
from tests.rules.life import examples

TIMES = st.integers(0, index.MAX_DUE_MS)
STATES = st.sampled_from(sorted(index.STATES))
KEYS = st.binary(min_size=1, max_size=40)


def test_a_header_has_twenty_bytes_and_reads_as_it_was_written() -> None:
    row = index.pack(index.STATE_CODES[State.RETRY], Lane.BULK, 3, 5, 9) + b"body"
    assert len(row) == 24
    assert index.unpack(row) == (index.ROW_FORMAT, index.STATE_CODES[State.RETRY], Lane.BULK, 3, 5, 9)
    with pytest.raises(struct.error):
        index.unpack(row[:19])


def test_every_state_of_a_row_and_every_channel_has_its_code() -> None:
    without = {State.UNKNOWN, State.REJECTED}
    assert set(index.STATE_CODES) == set(State) - without
    assert len(index.STATES) == len(index.STATE_CODES)
    assert set(index.CHANNELS.values()) == {Channel.ANY, *DELIVERY_CHANNELS}


def test_codes_are_on_disk_and_in_changelogs_so_they_never_change() -> None:
    assert [index.STATE_CODES[s] for s in (State.SCHEDULED, State.SENDING, State.RETRY, State.HELD)] == [2, 3, 7, 8]
    assert [index.STATE_CODES[s] for s in (State.PENDING, State.MAYBE_SENT, State.WITHDRAWING)] == [1, 10, 11]
    assert [index.CHANNEL_CODES[c] for c in (Channel.ANY, Channel.EMAIL, Channel.WEBHOOK)] == [0, 1, 6]


@pytest.mark.parametrize("state", sorted(index.STATES))
def test_what_waits_for_credit_stands_in_its_lane_and_all_else_in_housekeeping(state: int) -> None:
    first, *_ = index.entries(b"k", index.pack(state, Lane.NORMAL, 2, 5, 0))
    waits = index.STATES[state] in (State.SCHEDULED, State.RETRY, State.HELD)
    assert first[:2] == (index.group(Lane.NORMAL, 2) if waits else index.HOUSEKEEPING)


def test_a_deadline_expires_what_waits_for_credit() -> None:
    waiting = index.pack(index.STATE_CODES[State.SCHEDULED], Lane.URGENT, 1, 7, 7)
    assert sorted(index.entries(b"k", waiting)) == sorted(
        [index.entry(index.group(Lane.URGENT, 1), 7, b"k"), index.entry(index.HOUSEKEEPING, 7, b"k")]
    )


def test_lease_and_deadline_at_one_instant_are_one_entry() -> None:
    assert len(list(index.entries(b"k", index.pack(index.SENDING, Lane.URGENT, 1, 7, 7)))) == 1
    assert len(list(index.entries(b"k", index.pack(index.SENDING, Lane.URGENT, 1, 7, 8)))) == 2


def test_no_time_is_no_entry() -> None:
    assert list(index.entries(b"k", index.pack(index.NO_STATE, 0, 0, 0, 0))) == []


def test_groups_are_served_housekeeping_first_then_by_lane() -> None:
    assert index.GROUPS[0] == index.HOUSEKEEPING
    assert list(index.GROUPS[1:]) == sorted(index.GROUPS[1:])
    assert len(set(index.GROUPS)) == len(index.GROUPS) == 1 + len(Lane) * len(index.CHANNELS)


@examples(300)
@given(STATES, st.sampled_from(list(Lane)), st.sampled_from(sorted(index.CHANNELS)), TIMES, TIMES, KEYS)
def test_entries_point_to_their_row_and_their_time(
    state: int, lane: Lane, channel: int, due: int, deadline: int, key: bytes
) -> None:
    entries = list(index.entries(key, index.pack(state, lane, channel, due, deadline)))
    assert len(set(entries)) == len(entries)
    assert {index.due_of(e) for e in entries} == {t for t in (due, deadline) if t}
    assert all(index.row_key_of(e) == key for e in entries)
    assert all(e[:2] in index.GROUPS for e in entries)


@examples(300)
@given(st.lists(st.tuples(TIMES, KEYS), min_size=2, max_size=10))
def test_within_a_group_bytes_order_as_time_does(rows: list[tuple[int, bytes]]) -> None:
    keys = [index.entry(index.HOUSEKEEPING, due, key) for due, key in rows]
    assert [index.due_of(k) for k in sorted(keys)] == sorted(due for due, _ in rows)
