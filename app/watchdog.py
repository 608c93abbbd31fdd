"""The watchdog: what waits and does not move is named in the log, and the process ends, for a supervisor to start it
anew (ADR 0022).

A worker that fails ends by itself; one that stands still would hold its partitions for ever, since its consumer goes
on to tell the group from a thread of its own that it lives. Looked at, for each partition: inputs that no unit ends,
records that are not fetched, calls that outlive their limit; and from a thread, the event loop itself.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)

#: How much longer a join and a recovery may stand still, in seconds: each of their steps has a limit of its own, which
#: add up to this (hooks 45 twice, events in hand 60, the group 60, the steps of a recovery 90).
JOIN_S = 300.0
#: What stands still for this part of the limit is told to those who ask how the worker is, before it ends the process.
TOLD = 0.25


class Inputs(Protocol):
    """The part of the units that says how far they are."""

    @property
    def ended(self) -> Mapping[int, int]:
        """Return how many units of each partition have ended."""

    def waiting(self, partition: int) -> int:
        """Return how many inputs of a partition wait or are at work, those apart that wait for a free slot."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A call that goes on though its hard limit is over. ``over_s``: for how long."""

    what: str
    over_s: float


@dataclass(slots=True)
class _Seen:
    """What was seen of one thing that waits: how far it was, and for how long it has been there, in seconds.
    ``more_s``: how much longer than others it may."""

    mark: object
    what: str
    still_s: float = 0.0
    more_s: float = 0.0


class Watchdog:
    """Watches one app. ``owned``: partitions at work; ``behind``: records that lie beyond what was fetched, each topic
    and partition with its position; ``overdue``: calls that should have ended; ``joining``: which join or recovery goes
    on, None if none does that has no limit of its own. Times are in seconds."""

    def __init__(
        self,
        *,
        name: str,
        inputs: Inputs,
        owned: Callable[[], set[int]],
        behind: Callable[[set[int]], Awaitable[Mapping[tuple[str, int], tuple[int, int]]]],
        overdue: Callable[[], Iterable[Overdue]],
        limit_s: float,
        fatal: Callable[[str, BaseException | None], None],
        joining: Callable[[], object | None] = lambda: None,
    ) -> None:
        self._joining = joining
        self._name = name
        self._inputs = inputs
        self._owned = owned
        self._behind = behind
        self._overdue = overdue
        self._limit_s = limit_s
        self._fatal = fatal
        self._seen: dict[object, _Seen] = {}
        self.look_s = min(5.0, limit_s / 6)

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(self.look_s)
            behind = await self._behind(self._owned())
            # What stood still with the whole process (a frozen machine, a loop that was busy) did not stand by itself.
            self.look(min(loop.time() - last, 2 * self.look_s), behind)
            last = loop.time()

    def look(self, passed_s: float, behind: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """Look once, so long after the last time; end the process for what has stood still past the limit."""
        owned = self._owned()
        found = dict(self._waits(owned, behind))
        if (mark := self._joining()) is not None:
            found["join"] = _Seen(mark, "its partitions are not at work", more_s=JOIN_S)
        for key, seen in found.items():
            known = self._seen.get(key)
            if known is not None and known.mark == seen.mark:
                seen.still_s = known.still_s + passed_s
        self._seen = found
        for seen in found.values():
            if seen.still_s > self._limit_s + seen.more_s:
                self._fatal(f"stuck: {self._name}: {seen.what}, nothing has moved for {seen.still_s:.0f} s", None)
        for call in self._overdue():
            self._fatal(f"stuck: {self._name}: {call.what} goes on {call.over_s:.0f} s after its limit", None)

    def _waits(
        self, owned: set[int], behind: Mapping[tuple[str, int], tuple[int, int]]
    ) -> Iterator[tuple[object, _Seen]]:
        for partition in sorted(owned):
            ended = self._inputs.ended.get(partition, 0)
            if count := self._inputs.waiting(partition):
                yield partition, _Seen(ended, f"partition {partition} has {count} inputs that no unit ends")
            for (topic, of), (position, end) in behind.items():
                if of == partition and position < end:
                    what = f"{topic}/{partition} has {end - position} records from {position} on that are not fetched"
                    # A full backlog is not fetched for: as long as its units end, it moves.
                    yield (topic, partition), _Seen((position, ended), what)

    def stuck(self) -> list[str]:
        """Return what has not moved for a while, for those who ask."""
        return [
            f"{seen.what}, nothing has moved for {seen.still_s:.0f} s"
            for seen in self._seen.values()
            if seen.still_s > self._limit_s * TOLD + seen.more_s
        ]


class Behind:
    """Asks the brokers for the ends of topics, and what was fetched of them. What they do not tell is not judged."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topics: Iterable[str],
        position: Callable[[str, int], int | None],
    ) -> None:
        self._make_consumer = make_consumer
        self._topics = tuple(topics)
        self._position = position
        self._consumer: AIOKafkaConsumer | None = None

    async def __call__(self, partitions: set[int]) -> dict[tuple[str, int], tuple[int, int]]:
        """Return position and end of each topic and partition."""
        wanted = [TopicPartition(topic, partition) for topic in self._topics for partition in sorted(partitions)]
        if not wanted:
            return {}
        try:
            async with asyncio.timeout(10.0):
                if self._consumer is None:
                    consumer = self._make_consumer(group_id=None, enable_auto_commit=False, request_timeout_ms=8_000)
                    self._consumer = consumer
                    await consumer.start()
                ends = await self._consumer.end_offsets(wanted)
        except (KafkaError, OSError, TimeoutError) as exc:
            log.debug("the ends of the inputs are not known for now: %s", type(exc).__name__)
            await self.close()
            return {}
        found = ((tp, self._position(tp.topic, tp.partition), end) for tp, end in ends.items())
        return {(tp.topic, tp.partition): (position, end) for tp, position, end in found if position is not None}

    async def close(self) -> None:
        """Let the brokers go."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()


def position_of(app: Any) -> Callable[[str, int], int | None]:
    """Return who tells how far an app's consumer has fetched. Read beside its thread: one number, old or new."""

    def position(topic: str, partition: int) -> int | None:
        consumer: Any = getattr(getattr(app._consumer, "_thread", None), "_consumer", None)
        subscription = consumer._subscription.subscription if consumer is not None else None
        assignment = subscription.assignment if subscription is not None else None
        tp = TopicPartition(topic, partition)
        if assignment is None or tp not in assignment.tps:
            return None
        found: int | None = assignment.state_value(tp)._position
        return found

    return position


class LoopWatch:
    """A thread that ends the process once the event loop has not turned for ``limit_s``, and says where it stands."""

    def __init__(self, limit_s: float, fatal: Callable[[str, BaseException | None], None]) -> None:
        self._limit_s = limit_s
        self._fatal = fatal
        self._tick_s = min(1.0, limit_s / 4)
        self._turns = 0
        self._thread_id = 0
        self._stop = threading.Event()

    async def turn(self) -> None:
        """Show that the loop turns, until cancelled. The first to come starts the thread."""
        if not self._thread_id:
            self._thread_id = threading.get_ident()
            threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()
        try:
            while True:
                self._turns += 1
                await asyncio.sleep(self._tick_s)
        finally:
            # A stop is not watched: it has limits of its own.
            self._stop.set()

    def _watch(self) -> None:
        seen, still = self._turns, 0
        # Counted by its own ticks: what freezes the process freezes these as well.
        while not self._stop.wait(self._tick_s):
            if self._turns != seen:
                seen, still = self._turns, 0
                continue
            still += 1
            if still * self._tick_s > self._limit_s:
                self._fatal(
                    f"stuck: the event loop has not turned for {still * self._tick_s:.0f} s, {self.where()}", None
                )
                return

    def where(self) -> str:
        """Return where the loop's thread stands, without any value."""
        frame = sys._current_frames().get(self._thread_id)
        frames = traceback.extract_stack(frame)[-6:] if frame is not None else []
        return "at " + " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
