"""The timer: finds what is due in the index and hands it, by lane and credit, to the partition's own worker.

It sleeps until the next due time, until a unit has written something due earlier, or until credit has come back: it
never polls. It writes nothing. A command that is lost or doubled does no harm, since the worker looks at the row again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from agents.ports import Clock, Command, Fire, Store
from schemas.names import Channel, Lane
from tables import due as index

#: The longest sleep, in seconds: a wall clock that jumps is noticed by then.
LONGEST_SLEEP_S = 30.0
#: The most commands issued for one group of a partition at a time, so that events get their turn.
BATCH = 1000
#: How long an entry that could not be acted on is left alone, in ms.
LOOK_AGAIN_MS = 1000
#: The most rows of a group that are counted one by one for the metrics.
COUNTED = 5000
#: The part of a window that bulk leaves to the other lanes.
BULK_SHARE = 0.8
#: How much of a pace may be made up for at once, in ms.
LATE_SLOTS_MS = 1000
NEVER = index.MAX_DUE_MS


@dataclass(slots=True)
class _Group:
    """What the timer knows of one index group of one partition."""

    name: bytes
    head: int = 0
    mark: bytes = b""
    blocked: bool = False


@dataclass(slots=True)
class _Pace:
    """How fast a released channel may be claimed for, until nothing is left that was due when it was released.

    Each partition has slots of its own, ``partitions / rate`` seconds apart and a partition's beside the next one's, so
    that all workers together keep to the rate and nobody has to ask another.
    """

    rate: float
    since: int
    partitions: int
    channels: frozenset[int]
    until: int = 0
    next_at: dict[int, float] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)

    def slots(self, partition: int, now: int) -> int:
        """Return how many may be claimed now."""
        every = self.partitions * 1000 / self.rate
        begins = self.next_at.get(partition, now + partition * 1000 / self.rate)
        # What could not be used (no credit, a busy machine) is not made up for at once.
        self.next_at[partition] = begins = max(begins, now - LATE_SLOTS_MS)
        return 0 if now < begins else 1 + int((now - begins) / every)

    def use(self, partition: int, count: int) -> None:
        """Use slots up."""
        self.next_at[partition] += count * self.partitions * 1000 / self.rate


class Timer:
    """The timer of one app.

    ``window``: the most outstanding asks a partition and channel (ADMISSION_WINDOW). ``held``: whether a channel has no
    credit at all for now. ``most``: how much may be outstanding of a channel for now, whatever the window says.
    ``count``: how many partitions there are over all workers.
    """

    def __init__(
        self,
        *,
        store: Callable[[], Store],
        give: Callable[[int, Iterable[Command]], None],
        partitions: Callable[[], Iterable[int]],
        clock: Clock,
        window: int,
        scanned: Callable[[], None],
        held: Callable[[Channel], bool] = lambda channel: False,
        most: Callable[[Channel], int] | None = None,
        count: int = 1,
    ) -> None:
        self._store = store
        self._give = give
        self.partitions = partitions
        self._clock = clock
        self._window = window
        self._scanned = scanned
        self._held = held
        self._most = most
        self._count = count
        self._paces: dict[str, _Pace] = {}
        self._wake = asyncio.Event()
        self._groups: dict[int, dict[bytes, _Group]] = {}
        #: Index keys whose commands are on their way, by partition and channel.
        self._issued: defaultdict[tuple[int, int], set[bytes]] = defaultdict(set)

    def wake(self) -> None:
        """Look again now: partitions came, or were recovered."""
        self._wake.set()

    def recount(self) -> None:
        """Look at every credit again: a hold has begun or ended."""
        for groups in self._groups.values():
            for group in groups.values():
                group.blocked = False
        self._wake.set()

    def pace(self, scope: str, channels: Iterable[Channel], rate: float, since: int, until: int = 0) -> None:
        """Claim for the channels of a scope at a rate (a second, over all workers), until nothing is left that was due
        at ``since``, and at least until ``until`` (ms UTC): more may be withdrawn first and due then. A rate of 0 ends
        it."""
        if rate > 0:
            codes = frozenset(index.CHANNEL_CODES[channel] for channel in channels)
            self._paces[scope] = _Pace(rate, since, self._count, codes, until)
        else:
            self._paces.pop(scope, None)
        for groups in self._groups.values():
            for group in groups.values():
                group.head = 0
        self.recount()

    def forget(self, partition: int) -> None:
        """Start a partition anew: its commands were dropped, or it was given up."""
        for pace in self._paces.values():
            pace.over.discard(partition)
            pace.next_at.pop(partition, None)
        self._groups.pop(partition, None)
        for key in [key for key in self._issued if key[0] == partition]:
            del self._issued[key]
        self._wake.set()

    def written(self, partition: int, commands: Sequence[Command], added: Sequence[bytes]) -> None:
        """Learn what a unit did: commands handled, entries added, credit that came back."""
        groups = self._groups.get(partition)
        if groups is None:
            self._wake.set()
            return
        for command in commands:
            if isinstance(command, Fire):
                self._issued[partition, command.index_key[1]].discard(command.index_key)
        now = self._clock()
        for key in added:
            self._lower(groups[key[:2]], key, index.due_of(key))
        fired = [command.index_key for command in commands if isinstance(command, Fire)]
        if fired:
            self._look_again(partition, groups, fired, now)
        for group in groups.values():
            if group.blocked and self._credit(partition, group.name) > 0:
                group.blocked = False
                self._wake.set()

    def waiting(self) -> int:
        """Return how many rows are due now and wait for credit or for their turn, counted up to COUNTED a group."""
        now = self._clock()
        return sum(
            len(self._store().scan_due(partition, group, b"", now, COUNTED))
            for partition in self.partitions()
            for group in index.GROUPS
            if group != index.HOUSEKEEPING
        )

    def _lower(self, group: _Group, key: bytes, due_ms: int) -> None:
        if key < group.mark:
            group.mark = key
        if due_ms < group.head:
            group.head = due_ms
            self._wake.set()

    def _look_again(self, partition: int, groups: dict[bytes, _Group], keys: list[bytes], now: int) -> None:
        """Keep entries in sight that outlived their commands (a clock that went back, a row that was not ready).

        By the rows, not by the index: a seek into it would walk over the tombstones of all that was just claimed.
        """
        rows = self._store().get_rows(partition, [index.row_key_of(key) for key in keys])
        for key, row in zip(keys, rows, strict=True):
            if row is not None and key in index.entries(index.row_key_of(key), row):
                self._lower(groups[key[:2]], key, max(index.due_of(key), now + LOOK_AGAIN_MS))

    def _credit(self, partition: int, group: bytes) -> int:
        if group == index.HOUSEKEEPING:
            return BATCH
        lane, channel = group
        if self._held(index.CHANNELS[channel]):
            return 0
        # Of a window of one, bulk must have all: without any, it would never be sent.
        window = max(1, int(self._window * BULK_SHARE)) if lane == Lane.BULK else self._window
        if self._most is not None:
            window = min(window, self._most(index.CHANNELS[channel]))
        asked = self._store().counts(partition).get((index.SENDING, channel), 0)
        return window - asked - len(self._issued[partition, channel])

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            self._wake.clear()
            until = NEVER
            for partition in self.partitions():
                until = min(until, self._serve(partition))
            delay = min(LONGEST_SLEEP_S, (until - self._clock()) / 1000)
            if delay <= 0:
                # More is due than one batch: let the workers have the loop in between.
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _serve(self, partition: int) -> int:
        """Issue what is due and has credit; return when the partition must be looked at next."""
        groups = self._groups.get(partition)
        if groups is None:
            groups = self._groups[partition] = {name: _Group(name) for name in index.GROUPS}
        now = self._clock()
        until = NEVER
        self._end_paces(partition, groups, now)
        for group in groups.values():
            if group.head <= now and not group.blocked:
                self._scan(partition, group, now)
            if not group.blocked:
                until = min(until, group.head)
        return until

    def _end_paces(self, partition: int, groups: dict[bytes, _Group], now: int) -> None:
        for pace in self._paces.values():
            if partition in pace.over or now < pace.until:
                continue
            paced = [groups[index.group(lane, channel)] for lane in Lane for channel in pace.channels]
            dues = (self._store().next_due(partition, group.name, group.mark) for group in paced)
            if all(due is None or due > pace.since for due in dues):
                pace.over.add(partition)
                for group in paced:
                    group.head = 0

    def _paces_of(self, partition: int, group: bytes) -> list[_Pace]:
        if group == index.HOUSEKEEPING:
            return []
        return [pace for pace in self._paces.values() if group[1] in pace.channels and partition not in pace.over]

    def _scan(self, partition: int, group: _Group, now: int) -> None:
        credit = min(BATCH, self._credit(partition, group.name))
        if credit <= 0:
            group.blocked = True
            return
        paces = self._paces_of(partition, group.name)
        credit = min([credit, *(pace.slots(partition, now) for pace in paces)])
        if credit <= 0:
            group.head = ceil(max(pace.next_at[partition] for pace in paces))
            return
        store = self._store()
        self._scanned()
        issued = self._issued[partition, group.name[1]]
        keys = store.scan_due(partition, group.name, group.mark, now, credit + len(issued))
        fresh = [key for key in keys if key not in issued][:credit]
        if fresh:
            group.mark = fresh[-1] + b"\0"
            issued.update(fresh)
            self._give(partition, [Fire(key, now) for key in fresh])
            for pace in paces:
                pace.use(partition, len(fresh))
        elif keys:
            group.mark = keys[-1] + b"\0"
        head = store.next_due(partition, group.name, group.mark)
        group.head = NEVER if head is None else head
        if paces and group.head < NEVER:
            group.head = max(group.head, ceil(max(pace.next_at[partition] for pace in paces)))
