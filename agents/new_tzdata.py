"""New time zone data: walks the rows of this worker that another release of the data placed on a wall clock, and has
each placed anew.

The release stands in the row in clear, so the walk looks for its bytes and decodes nothing. It runs once for a
partition that has caught up, a chunk at a time; an update of the data costs one write for each row that waits on a wall
clock.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from agents.ports import Command, Word
from tables.transition import TZ_TAG

log = logging.getLogger(__name__)

#: Rows looked at without a turn of the loop in between, and the seconds that follow where some are to be placed anew.
CHUNK = 500
REST_S = 0.1


@dataclass(frozen=True, slots=True)
class Placed:
    """The command for one row: place it anew if its release of the data is not that of this worker."""

    key: bytes


class Rows(Protocol):
    """The part of the store that a walk reads."""

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows in the order of their keys."""


class NewTzdata:
    """The walks of one worker. ``ready``: the partitions that may be acted on; ``stamp``: the release as rows keep
    it."""

    def __init__(
        self,
        *,
        store: Callable[[], Rows],
        give: Callable[[int, Iterable[Command]], None],
        ready: Callable[[], set[int]],
        stamp: str,
    ) -> None:
        self._store = store
        self._give = give
        self._ready = ready
        self._stamp = stamp.encode()
        self._tag = TZ_TAG.encode()
        self._walked: set[int] = set()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at the partitions that have become ready."""
        self._wake.set()

    async def forget(self) -> None:
        """Look at all partitions again: they are given up, or come."""
        self._walked.clear()

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for partition in sorted(self._ready() - self._walked):
                self._walked.add(partition)
                if found := await self._walk(partition):
                    log.info("partition %d: %d rows are placed anew by %s", partition, found, self._stamp.decode())

    async def _walk(self, partition: int) -> int:
        start, found = b"", 0
        while partition in self._ready():
            rows = self._store().scan_rows(partition, start, CHUNK)
            old = [key for key, row in rows if self._tag in row and self._stamp not in row]
            if old:
                self._give(partition, [Word(Placed(key)) for key in old])
                found += len(old)
            if len(rows) < CHUNK:
                break
            start = rows[-1][0] + b"\0"
            await asyncio.sleep(REST_S if old else 0)
        return found
