"""The watchdog: what it takes for stuck, what it does not, and what it says."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from app.watchdog import Behind, LoopWatch, Overdue, Watchdog

Lag = dict[tuple[str, int], tuple[int, int]]


class Units:
    """How far the units of a test are."""

    def __init__(self) -> None:
        self.ended: Counter[int] = Counter()
        self.waits: Counter[int] = Counter()

    def waiting(self, partition: int) -> int:
        return self.waits[partition]


class Stage:
    """A watchdog with a limit of 60 s that looks every 10 s of a test's time."""

    def __init__(self) -> None:
        self.units = Units()
        self.owned = {0, 1}
        self.calls: list[Overdue] = []
        self.ended: list[str] = []
        self.join: object | None = None
        self.dog = Watchdog(
            name="reminders-core",
            inputs=self.units,
            owned=lambda: self.owned,
            behind=lambda partitions: asyncio.sleep(0, {}),
            overdue=lambda: self.calls,
            limit_s=60,
            fatal=lambda why, exc: self.ended.append(why),
            joining=lambda: self.join,
        )

    def pass_s(self, seconds: int, behind: Lag | None = None, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(seconds // 10):
            each()
            self.dog.look(10.0, behind or {})


def test_a_join_or_a_recovery_that_never_ends() -> None:
    stage = Stage()
    stage.owned = set()
    stage.join = (1, 1)
    stage.pass_s(360)
    stage.join = (2, 2)  # another one: the last has ended
    stage.pass_s(360)
    stage.join = None
    stage.pass_s(500)
    assert stage.ended == []
    stage.join = (3, 3)
    stage.pass_s(380)
    assert stage.ended == ["stuck: reminders-core: its partitions are not at work, nothing has moved for 370 s"]


def test_inputs_that_no_unit_ends() -> None:
    stage = Stage()
    stage.units.waits[1] = 12
    stage.pass_s(70)
    assert stage.ended == []
    assert stage.dog.stuck() == ["partition 1 has 12 inputs that no unit ends, nothing has moved for 60 s"]
    stage.pass_s(10)
    assert stage.ended == [
        "stuck: reminders-core: partition 1 has 12 inputs that no unit ends, nothing has moved for 70 s"
    ]


def test_a_partition_that_moves_hides_none_that_does_not() -> None:
    stage = Stage()
    stage.units.waits.update({0: 5, 1: 5})
    stage.pass_s(100, each=lambda: stage.units.ended.update({0: 1}))
    assert stage.ended
    assert all("partition 1 " in why for why in stage.ended)


def test_slow_is_not_stuck() -> None:
    stage = Stage()
    stage.units.waits[0] = 4000
    for _ in range(20):
        stage.pass_s(50)
        stage.units.ended[0] += 1
    assert stage.ended == []


def test_what_comes_and_goes_between_is_not_stuck() -> None:
    stage = Stage()
    for _ in range(20):
        stage.units.waits[0] = 1
        stage.pass_s(50)
        stage.units.waits[0] = 0
        stage.pass_s(10)
    assert (stage.ended, stage.dog.stuck()) == ([], [])


def test_records_that_are_not_fetched() -> None:
    stage = Stage()
    stage.pass_s(80, {("reminders", 0): (41, 50), ("reminders", 1): (7, 7)})
    assert stage.ended == [
        "stuck: reminders-core: reminders/0 has 9 records from 41 on that are not fetched, nothing has moved for 70 s"
    ]


def test_a_full_backlog_is_not_fetched_for_and_not_stuck_while_its_units_end() -> None:
    stage = Stage()
    stage.units.waits[0] = 4000
    stage.pass_s(200, {("reminders", 0): (41, 50)}, each=lambda: stage.units.ended.update({0: 1}))
    assert stage.ended == []


def test_a_rebalance_begins_anew() -> None:
    stage = Stage()
    stage.units.waits[0] = 1
    for _ in range(5):
        stage.pass_s(50)
        stage.owned = set()
        stage.pass_s(10)
        stage.owned = {0}
    assert stage.ended == []


def test_a_call_that_outlives_its_limit() -> None:
    stage = Stage()
    stage.calls = [Overdue("the call of smtp for r:@1:0:0, attempt 1,", 3.2)]
    stage.pass_s(10)
    assert stage.ended == [
        "stuck: reminders-core: the call of smtp for r:@1:0:0, attempt 1, goes on 3 s after its limit"
    ]


async def test_a_broker_that_does_not_answer_is_nobodys_fault() -> None:
    class Consumer:
        def __init__(self, **_: Any) -> None:
            self.stopped = False
            made.append(self)

        async def start(self) -> None: ...

        async def end_offsets(self, tps: Any) -> Any:
            if len(made) == 1:
                raise KafkaConnectionError
            return dict.fromkeys(tps, 9)

        async def stop(self) -> None:
            self.stopped = True

    made: list[Consumer] = []
    behind = Behind(Consumer, ("reminders",), lambda topic, partition: {0: 4, 1: None}[partition])
    assert await behind(set()) == {}
    assert await behind({0}) == {}
    assert made[0].stopped
    assert await behind({0, 1}) == {("reminders", 0): (4, 9)}
    await behind.close()
    assert made[1].stopped


@pytest.mark.timeout(120)
async def test_a_loop_that_stands_still_is_named_with_the_place() -> None:
    ended: list[str] = []
    said = threading.Event()

    def fatal(why: str, exc: BaseException | None) -> None:
        ended.append(why)
        said.set()

    watch = LoopWatch(0.4, fatal)
    turning = asyncio.create_task(watch.turn())
    await asyncio.sleep(1.0)
    assert ended == []
    until = time.monotonic() + 20
    while not said.is_set() and time.monotonic() < until:
        time.sleep(0.01)  # noqa: ASYNC251 - what the loop must not do
    assert ended
    assert ended[0].startswith("stuck: the event loop has not turned for")
    assert "test_watchdog.py" in ended[0]
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_a_loop_that_was_told_to_stop_is_not_watched_any_more() -> None:
    ended: list[str] = []
    watch = LoopWatch(0.2, lambda why, exc: ended.append(why))
    turning = asyncio.create_task(watch.turn())
    await asyncio.sleep(0.1)
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)
    time.sleep(0.6)  # noqa: ASYNC251
    assert ended == []
