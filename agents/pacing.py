"""Pacing: a call of a provider whose rate is limited gets a slot before it begins, and begins in it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agents.ports import Clock
from channels.base import ChannelAdapter
from schemas.names import Channel
from tables import circuit
from tables.pace import OPEN_MS, Pace

#: The furthest slot that a call may wait for, in ms: a part of what a call may outlive its own limit.
AHEAD_MS = 1_500
#: The shortest time between two looks at what waits, in seconds.
LEAST_S = 0.1
#: How often a call that missed its slot gets another one.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Slot:
    """Leave to call a provider at a time. ``at`` 0: at any time."""

    name: str
    at: float = 0.0


class Pacing:
    """The slots of one worker.

    ``rates``: calls a second over all workers, by the name of a circuit. ``owned``: the partitions that this worker
    works on, of ``partitions``. ``wake`` is called for a channel, with how many may begin, when slots come near that
    something waits for.
    """

    def __init__(
        self, rates: Mapping[str, float], *, partitions: int, owned: Callable[[], set[int]], clock: Clock
    ) -> None:
        self._paces = {name: Pace(rate, partitions) for name, rate in rates.items()}
        self._partitions = partitions
        self._owned = owned
        self._clock = clock
        self.wake: Callable[[Channel, int], None] = lambda channel, count: None
        self._alarms: dict[Channel, asyncio.TimerHandle] = {}

    def limits(self, adapter: ChannelAdapter) -> bool:
        """Return whether an adapter's rate is limited."""
        return _name(adapter) in self._paces

    def reserve(self, adapters: Sequence[ChannelAdapter]) -> Slot | None:
        """Return a slot of the first provider that has one soon; None: something is woken when there is."""
        now = self._clock()
        soonest, rate = float("inf"), 0.0
        for adapter in adapters:
            name = _name(adapter)
            pace = self._paces.get(name)
            if pace is None:
                return Slot(name)
            found = pace.next_slot(self._owned(), now)
            if found is None:
                continue
            begins, partition, number = found
            if begins <= now + AHEAD_MS:
                pace.use(partition, number)
                return Slot(name, begins)
            soonest, rate = min(soonest, begins), max(rate, pace.rate)
        if soonest < float("inf"):
            share = rate * len(self._owned()) / self._partitions
            self._alarm(adapters[0].channel, (soonest - now - AHEAD_MS) / 1000, 1 + int(share * 2 * LEAST_S))
        return None

    async def turn(self, slot: Slot, adapter: ChannelAdapter) -> bool:
        """Wait for a provider's slot; return whether it is there. ``slot``: what was reserved, perhaps of another."""
        wanted: Slot | None = slot
        if slot.name != _name(adapter):
            wanted = self.reserve([adapter])
        for _ in range(TRIES):
            if wanted is None:
                return False
            if not wanted.at:
                return True
            while (wait_ms := wanted.at - self._clock()) > 0:  # noqa: ASYNC110 - until a time, for no event
                await asyncio.sleep(wait_ms / 1000)
            if self._clock() < wanted.at + OPEN_MS:
                return True
            # The loop was busy.
            wanted = self.reserve([adapter])
        return False

    def _alarm(self, channel: Channel, in_s: float, count: int) -> None:
        if channel not in self._alarms:
            loop = asyncio.get_running_loop()
            self._alarms[channel] = loop.call_later(max(LEAST_S, in_s), self._ring, channel, count)

    def _ring(self, channel: Channel, count: int) -> None:
        self._alarms.pop(channel, None)
        self.wake(channel, count)


def _name(adapter: ChannelAdapter) -> str:
    return circuit.name_of(adapter.channel.value, adapter.name)
