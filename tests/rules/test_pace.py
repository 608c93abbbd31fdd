"""Rates that several workers keep together, each by its own partitions and the clock alone."""

from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables import pace
from tables.pace import OPEN_MS, SLACK_MS, Pace
from tests.rules.life import examples

NOW = 1_796_112_000_000


@examples(60)
@given(
    st.sampled_from([1, 2, 10, 37, 200]),
    st.sampled_from([1, 4, 8]),
    st.integers(1, 3),
    st.lists(st.integers(0, 2), min_size=8, max_size=8),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, OPEN_MS - 1), st.integers(0, SLACK_MS)), max_size=60),
    st.integers(0, 10_000_000),
)
def test_no_second_has_more_calls_than_are_allowed_whoever_makes_them(
    rate: int, partitions: int, count: int, owners: list[int], asks: list[tuple[int, int, int]], offset: int
) -> None:
    owned = [{p for p in range(partitions) if owners[p] % count == worker} for worker in range(count)]
    workers = [Pace(rate, partitions) for _ in range(count)]
    made: list[float] = []
    clocks = [float(NOW + offset)] * count
    for n, (later, late, travels) in enumerate(asks):
        worker = n % count
        clocks[worker] += later
        for _ in range(5):
            found = workers[worker].next_slot(owned[worker], int(clocks[worker]))
            if found is None:
                break
            begins, partition, number = found
            workers[worker].use(partition, number)
            # It begins in its slot, as late as may be, and travels for a while.
            made.append(max(begins, clocks[worker]) + late * (begins >= clocks[worker]) + travels)
    made.sort()
    for n, at in enumerate(made):
        assert bisect_left(made, at + 1000 - 1) - n <= rate


def test_two_workers_come_close_to_the_rate_together() -> None:
    workers = [(Pace(10, 8), {0, 2, 4, 6}), (Pace(10, 8), {1, 3, 5, 7})]
    made = []
    for worker, owned in workers:
        now = float(NOW)
        while now < NOW + 60_000:
            found = worker.next_slot(owned, int(now))
            assert found is not None
            worker.use(*found[1:])
            now = max(now, found[0])
            made.append(now)
    assert 530 <= len(made) <= 550


def test_a_new_owner_begins_after_what_the_old_one_can_have_used() -> None:
    old, new = Pace(10, 1), Pace(10, 1)
    found = old.next_slot({0}, NOW)
    assert found is not None
    old.use(*found[1:])
    taken = new.next_slot({0}, int(found[0]))
    assert taken is not None
    assert taken[2] > found[2]
    assert old.next_slot(set(), NOW) is None
    # What it had before it lost the partition says nothing of what another has used since.
    again = old.next_slot({0}, int(taken[0]))
    assert again is not None
    assert again[2] > taken[2]


def test_rates_are_read_and_faults_named() -> None:
    assert pace.parse("email/smtp=10, SMS/twilio = 0.5,") == {"email/smtp": 10.0, "sms/twilio": 0.5}
    for bad in ("smtp=10", "email/smtp", "email/smtp=0", "email/smtp=x", "email/smtp=1,EMAIL/smtp=2"):
        with pytest.raises(ValueError, match=r"email|smtp"):
            pace.parse(bad)


def test_it_would_be_noticed(monkeypatch: Any) -> None:
    monkeypatch.setattr(pace, "spacing_ms", lambda rate: 1000 / rate)
    worker, made, now = Pace(10, 1), [], float(NOW)
    for n in range(40):
        found = worker.next_slot({0}, int(now))
        assert found is not None
        worker.use(*found[1:])
        now = found[0]
        made.append(now + (OPEN_MS - 1 if n % 11 == 0 else 0))
    made.sort()
    assert max(bisect_left(made, at + 1000) - n for n, at in enumerate(made)) > 10
