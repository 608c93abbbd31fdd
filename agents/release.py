"""Release: walks the rows of this worker that a hold kept back and lets them go, at the rate that was asked for.

The walk goes over row headers in chunks and decodes only what is HELD. It costs O(rows) once a release (ADR 0019),
against an index by scope that every write would pay for.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from agents.ports import Clock, Command, Word
from schemas.names import State
from schemas.records import ControlRecord
from tables import due as index
from tables import holds

log = logging.getLogger(__name__)

#: Rows looked at without a turn of the loop in between.
CHUNK = 500
#: Releases older than this have been walked, or what they let go has come to its review.
LOOK_BACK_MS = 2 * 24 * 3_600_000
HELD = index.STATE_CODES[State.HELD]


@dataclass(frozen=True, slots=True)
class LetGo:
    """The command for one row: let it go if a hold on ``scope`` keeps it back."""

    key: bytes
    scope: str


class Rows(Protocol):
    """The part of the store that a walk reads."""

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows in the order of their keys."""

    def counts(self, partition: int) -> dict[tuple[int, int], int]:
        """Return how many rows stand in each (state, channel)."""


class Releases:
    """The walks of one worker."""

    def __init__(
        self,
        *,
        store: Callable[[], Rows],
        give: Callable[[int, Iterable[Command]], None],
        owned: Callable[[], set[int]],
        partitions: int,
        clock: Clock,
    ) -> None:
        self._store = store
        self._give = give
        self._owned = owned
        self._partitions = partitions
        self._clock = clock
        self._walks: dict[str, asyncio.Task[None]] = {}

    def changed(self, record: ControlRecord) -> None:
        """Begin a walk for a release; a hold that stands on the same scope ends it."""
        now = self._clock()
        if record.kind == holds.HOLD and not holds.active(record, now):
            return
        running = self._walks.pop(record.scope, None)
        if running is not None:
            running.cancel()
        if record.kind == holds.RELEASE and record.at > now - LOOK_BACK_MS:
            self._walks[record.scope] = asyncio.create_task(self._walk(record), name=f"release-{record.scope}")

    async def stop(self) -> None:
        """End all walks; the next worker begins them again."""
        for task in self._walks.values():
            task.cancel()
        await asyncio.gather(*self._walks.values(), return_exceptions=True)
        self._walks.clear()

    async def _walk(self, record: ControlRecord) -> None:
        let_go = 0
        for partition in range(self._partitions):
            start = b""
            while partition in self._owned() and self._any_held(partition):
                rows = self._store().scan_rows(partition, start, CHUNK)
                held = [key for key, row in rows if index.unpack(row).state == HELD]
                for key in held:
                    if partition in self._owned():
                        self._give(partition, [Word(LetGo(key, record.scope))])
                        let_go += 1
                        await asyncio.sleep(self._pace(record))
                if len(rows) < CHUNK:
                    break
                start = rows[-1][0] + b"\0"
                await asyncio.sleep(0)
        log.info("released %s: %d held rows looked at", record.scope, let_go)

    def _any_held(self, partition: int) -> bool:
        return any(count for (state, _), count in self._store().counts(partition).items() if state == HELD)

    def _pace(self, record: ControlRecord) -> float:
        """Return the seconds between two rows of this worker: its share of the rate is its share of the partitions."""
        share = len(self._owned()) / self._partitions
        return 1 / (record.rate_per_s * share) if record.rate_per_s and share else 0.0
