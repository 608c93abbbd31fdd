"""What ``/metrics`` shows of the core: the meter, with the gauges that are read when they are asked for."""

from collections import Counter
from collections.abc import Callable

from agents.meter import Meter
from schemas.names import State
from tables.due import STATES
from tables.store import DueStore


class Exposed:
    """Metrics with rows by state and rows that are due, as the store has them now."""

    def __init__(
        self,
        meter: Meter,
        store: Callable[[], DueStore],
        owned: Callable[[], set[int]],
        waiting: Callable[[], int],
    ) -> None:
        self._meter = meter
        self._store = store
        self._owned = owned
        self._waiting = waiting

    def expose(self) -> bytes:
        """Return all values in Prometheus' text format."""
        rows: Counter[State] = Counter()
        for partition in self._owned():
            for (state, _channel), count in self._store().counts(partition).items():
                rows[STATES.get(state, State.UNKNOWN)] += count
        for named in STATES.values():
            self._meter.rows(named, rows[named])
        self._meter.due(self._waiting())
        return self._meter.expose()
