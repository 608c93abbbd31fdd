"""How a worker is, told from what its parts know: the event loop's pulse, units in flight, the group's last word."""

import asyncio
import time
from collections.abc import Callable, Mapping

from app.config import Role

#: A loop that has not turned for so long, or a unit that takes so long, will not come back by itself.
LOOP_STUCK_S = 10.0
UNIT_STUCK_S = 60.0
#: The group answers a heartbeat every second; without an answer for so long there is no broker.
BROKER_LOST_S = 5.0
_BEAT_S = 0.5


class Vitals:
    """The ``Vital`` of one app.

    ``busy_since``: for each partition whose unit is in flight, the loop's time at its start. ``heard``: seconds since
    the consumer group last answered. ``recovering``: why the app's partitions are not at work, "" where they are.
    ``partitions``: those that are. ``notices``: what keeps messages back though all is well.
    ``stuck``: what waits and has not moved for a while.
    """

    def __init__(
        self,
        *,
        role: Role,
        busy_since: Callable[[], Mapping[int, float]],
        heard: Callable[[], float],
        recovering: Callable[[], str],
        partitions: Callable[[], set[int]],
        notices: Callable[[], Mapping[str, object]] = dict,
        stuck: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._role = role
        self._busy_since = busy_since
        self._heard = heard
        self._recovering = recovering
        self._partitions = partitions
        self.notices = notices
        self._stuck = stuck
        self._clock = clock
        self._started = clock()
        self._beat = clock()
        self._feels = False

    def _pulse(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer and no task: whoever ends the loop waits for its tasks.
        self.beat()
        loop.call_later(_BEAT_S, self._pulse, loop)

    def beat(self) -> None:
        """Note that the loop has turned."""
        self._beat = self._clock()

    def _feel(self) -> None:
        """Begin with the first question: Faust starts an app's tasks only after its first recovery."""
        if not self._feels:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._feels = True
            self._pulse(loop)

    def live(self) -> str:
        """Say what is stuck."""
        self._feel()
        now = self._clock()
        if (lag := now - self._beat) > LOOP_STUCK_S:
            return f"the event loop was stuck for {lag:.0f} s"
        for partition, since in sorted(self._busy_since().items()):
            if (busy := now - since) > UNIT_STUCK_S:
                return f"a unit of partition {partition} has been at work for {busy:.0f} s"
        return ""

    def ready(self) -> str:
        """Say why no work is done."""
        if why := self._recovering():
            return why
        if (age := self._heard()) > BROKER_LOST_S:
            return "the consumer group has not answered" + (f" for {age:.0f} s" if age < float("inf") else " yet")
        return ""

    def details(self) -> Mapping[str, object]:
        """Return role, partitions and ages."""
        now, heard = self._clock(), self._heard()
        return {
            "role": self._role.value,
            "up_s": round(now - self._started, 1),
            "partitions": sorted(self._partitions()),
            "units_in_flight": len(self._busy_since()),
            "stuck": self._stuck(),
            "heard_of_group_s": round(heard, 1) if heard < float("inf") else None,
        }
