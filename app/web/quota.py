"""How many events a minute may come by HTTP: of each source and tenant, or of a tenant as a whole. Told the time."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

from schemas.records import ReminderEvent

#: Sources and tenants that are remembered; of more, the one that was silent longest is forgotten.
MAX_KEYS = 10_000
MINUTE_S = 60.0


class TooMany(Exception):  # noqa: N818 - an answer more than an error
    """More than the quota. ``retry_after_s`` 0: more at once than a whole minute's, so that waiting would not help."""

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(limit, retry_after_s)
        self.limit = limit
        self.retry_after_s = retry_after_s


class Quotas:
    """What is left of each quota: it fills up again evenly, to the events of one minute at most.

    ``per_minute``: of each source and tenant, 0 for no limit. ``of_tenant``: of all sources of a tenant together, where
    that tenant has a quota of its own.
    """

    def __init__(
        self, per_minute: int, of_tenant: Callable[[str], int | None], clock: Callable[[], float], most: int = MAX_KEYS
    ) -> None:
        self._per_minute = per_minute
        self._of_tenant = of_tenant
        self._clock = clock
        self._most = most
        self._left: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, events: Iterable[ReminderEvent]) -> Callable[[], None]:
        """Count events, all or none; return what gives them back. Raises TooMany."""
        now = self._clock()
        wanted: Counter[tuple[str, str]] = Counter()
        limits: dict[tuple[str, str], int] = {}
        for event in events:
            own = self._of_tenant(event.tenant) if event.tenant else None
            key = (event.source, event.tenant) if own is None else ("", event.tenant)
            if limit := self._per_minute if own is None else own:
                limits[key] = limit
                wanted[key] += 1
        for key, count in wanted.items():
            limit = limits[key]
            if count > limit:
                raise TooMany(limit, 0)
            if (missing := count - self._now(key, limit, now)) > 0:
                raise TooMany(limit, max(1, math.ceil(missing * MINUTE_S / limit)))
        for key, count in wanted.items():
            self._left[key] = (self._now(key, limits[key], now) - count, now)
            self._left.move_to_end(key)
        while len(self._left) > self._most:
            self._left.popitem(last=False)

        def give_back() -> None:
            for key, count in wanted.items():
                left, at = self._left.get(key, (float(limits[key]), now))
                self._left[key] = (left + count, at)

        return give_back

    def _now(self, key: tuple[str, str], limit: int, now: float) -> float:
        left, at = self._left.get(key, (float(limit), now))
        return min(float(limit), left + (now - at) * limit / MINUTE_S)
