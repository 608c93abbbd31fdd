"""After a change of the master key, or of what is sealed: walks the rows of this worker, and has each that is not as it
should be written anew.

What is done stands in the rows, so a walk that was broken off goes on with those that are left. A chunk at a time is
given to the partition's own worker, and the next one a little later: sends do not wait for it. What is found again is
tried here first: a row that cannot be helped is counted, and left alone until its partition is assigned anew.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agents.delivery import Delivering
from agents.ports import NOTHING, Command, Decision, Job, View, Word
from schemas.codec import Undecodable
from tables import due as index
from tables import rewrap
from tables.rewrap import Waits

log = logging.getLogger(__name__)

#: Rows looked at without a turn of the loop in between, and the seconds that follow where some are written anew.
CHUNK = 200
REST_S = 0.1
#: Seconds after which rows are looked at again that were given to be written.
AGAIN_S = 10.0


class Rows(Protocol):
    """The part of the store that a walk reads."""

    def scan_prefix(self, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows by prefix."""


@dataclass(frozen=True, slots=True)
class Renew:
    """The command for one row: write it as it should be."""

    key: bytes


def job(work: Delivering, word: Word) -> Job | None:
    """Return the job of a row that is to be written anew, None for what is no such command. The row is looked at again,
    for it may have changed since."""
    if not isinstance(word.body, Renew):
        return None
    key = word.body.key

    def run(view: View, now: int) -> Decision:
        raw = view.get(key)
        if raw is None:
            return NOTHING
        head, body = raw[: index.HEADER.size], raw[index.HEADER.size :]
        new = rewrap.renewed(key, body, work.sealing, work.seal_contacts, work.random)
        return Decision({key: head + new}) if new is not None else NOTHING

    return Job((key,), run)


class Rewrapping:
    """The walks of one worker. ``ready``: the partitions that may be acted on; ``say``: is told how many rows wait, by
    why, whenever that is known anew."""

    def __init__(
        self,
        work: Delivering,
        *,
        store: Callable[[], Rows],
        give: Callable[[int, Iterable[Command]], None],
        ready: Callable[[], set[int]],
        say: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._work = work
        self._store = store
        self._give = give
        self._ready = ready
        self._say = say
        self._waiting: dict[int, Counter[Waits]] = {}
        #: How many of a partition were given to be written.
        self._given: Counter[int] = Counter()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at the partitions that have become ready."""
        self._wake.set()

    async def forget(self) -> None:
        """Look at all partitions again: they are given up, or come."""
        self._waiting.clear()
        self._given.clear()

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while todo := sorted(p for p in self._ready() if self._to_look_at(p)):
                for partition in todo:
                    await self._walk(partition)
                self._tell()
                if any(map(self._to_look_at, self._waiting)):
                    await asyncio.sleep(AGAIN_S)

    def _to_look_at(self, partition: int) -> bool:
        """Return whether a partition was not looked at yet, or had rows that could be written anew."""
        return partition not in self._waiting or self._given[partition] > 0

    def _tell(self) -> None:
        total: Counter[Waits] = Counter()
        for counts in self._waiting.values():
            total.update(counts)
        self._say({why.value: total[why] for why in Waits})

    async def _walk(self, partition: int) -> None:
        work, found, given = self._work, Counter[Waits](), 0
        again = partition in self._waiting
        for prefix in rewrap.PREFIXES:
            start = prefix
            while partition in self._ready():
                rows = self._store().scan_prefix(partition, prefix, start, CHUNK)
                due = []
                for key, raw in rows:
                    try:
                        why = rewrap.waits(key, raw[index.HEADER.size :], work.sealing, work.seal_contacts)
                    except Undecodable:
                        # Of a newer release: that one looks after it.
                        continue
                    if why is not None:
                        found[why] += 1
                        lost = why is Waits.UNKNOWN or (again and not self._helped(key, raw))
                        due += [] if lost else [key]
                given += len(due)
                if due:
                    self._give(partition, [Word(Renew(key)) for key in due])
                if len(rows) < CHUNK:
                    break
                start = rows[-1][0] + b"\0"
                await asyncio.sleep(REST_S if due else 0)
        if partition not in self._ready():
            return
        self._waiting[partition], self._given[partition] = found, given
        if found:
            log.info("partition %d: sealed otherwise than now: %s", partition, dict(found))

    def _helped(self, key: bytes, raw: bytes) -> bool:
        """Return whether a row can be written anew at all: a damaged one stays as it is, however often it is tried."""
        work = self._work
        try:
            return (
                rewrap.renewed(key, raw[index.HEADER.size :], work.sealing, work.seal_contacts, work.random) is not None
            )
        except Exception:  # noqa: BLE001  # whatever is wrong with it, its job fails by it as well
            return False
