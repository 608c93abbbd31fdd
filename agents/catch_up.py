"""Catching up: what a worker must have read before it acts on rows that it took over (ADR 0020).

A unit may die after its emits and before its changelog: its answer stands while its row is behind. Until the inputs
that lay there when the partition was assigned have been read again, the row may be about to change: a withdrawal that
was answered would be followed by a call, a cancel by a request. So channels and timer wait, partition by partition.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

log = logging.getLogger(__name__)

#: Seconds between two looks while a partition catches up.
LOOK_S = 0.05
#: A backlog longer than this is not waited for, in seconds: to send nothing at all would be worse than the rest of the
#: doubt.
LIMIT_S = 120.0


class Inputs(Protocol):
    """The part of the units that says how far they are."""

    @property
    def progress(self) -> Mapping[tuple[str, int], int]:
        """Return the offset after the last record done, by topic and partition."""

    def undone(self, partition: int, topics: frozenset[str]) -> bool:
        """Return whether inputs of these topics wait or are at work."""


class CatchUp:
    """Which partitions have caught up with ``topics``. ``ends`` and ``position`` ask the consumer, by topic and
    partition."""

    def __init__(
        self,
        topics: Iterable[str],
        inputs: Inputs,
        *,
        assigned: Callable[[], set[int]],
        owned: Callable[[], set[int]],
        ends: Callable[[list[tuple[str, int]]], Awaitable[Mapping[tuple[str, int], int]]],
        position: Callable[[str, int], Awaitable[int | None]],
        fatal: Callable[[str, BaseException | None], None],
    ) -> None:
        self._topics = frozenset(topics)
        self._inputs = inputs
        self._assigned = assigned
        self._owned = owned
        self._ends = ends
        self._position = position
        self._fatal = fatal
        self._caught_up: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        #: Called once a partition has caught up.
        self.reached: list[Callable[[], None]] = []

    def caught_up(self, partition: int) -> bool:
        """Return whether a partition's rows are as its inputs have left them."""
        return partition in self._caught_up

    def ready(self) -> set[int]:
        """Return the partitions that are owned and have caught up."""
        return self._owned() & self._caught_up

    def forget(self) -> None:
        """Begin anew: partitions are given up, or come."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._caught_up.clear()

    def begin(self) -> None:
        """Let the partitions that were assigned catch up."""
        self.forget()
        self._task = asyncio.create_task(self._follow(), name="catch-up")

    async def _follow(self) -> None:
        try:
            await self._until_all()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  # a worker that never catches up would silently send nothing
            self._fatal("catching up with the inputs failed", exc)

    async def _until_all(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._assigned()
        ends = await self._ends([(topic, partition) for topic in self._topics for partition in left])
        limit = loop.time() + LIMIT_S
        seen: set[int] = set()
        while left:
            # Faust says that a rebalance is complete before the rows may be worked on: who is told then finds none.
            for partition in sorted(left & self._owned()):
                if loop.time() > limit:
                    log.warning("partition %d has not caught up within %g s and goes on", partition, LIMIT_S)
                elif not await self._at_end(partition, ends):
                    seen.discard(partition)
                    continue
                elif partition not in seen:
                    # A batch may be between the consumer and the backlog: the second look finds it there.
                    seen.add(partition)
                    continue
                left.discard(partition)
                self._caught_up.add(partition)
                for listener in self.reached:
                    listener()
            if left:
                await asyncio.sleep(LOOK_S)

    async def _at_end(self, partition: int, ends: Mapping[tuple[str, int], int]) -> bool:
        for topic in self._topics:
            end = ends.get((topic, partition)) or 0
            if end == 0 or self._inputs.progress.get((topic, partition), 0) >= end:
                continue
            # By position: the last offsets of a partition may hold no record.
            if ((await self._position(topic, partition)) or 0) < end:
                return False
            if self._inputs.undone(partition, frozenset({topic})):
                return False
        return True
