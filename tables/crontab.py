"""Cron expressions, read and followed by cronsim. Pure.

Five fields with names, ranges, steps, ``L`` and ``#``, as in Debian's cron. So are the changes of clocks: an expression
with a ``*`` at the beginning of its minutes or hours counts elapsed time; any other fires once in a repeated hour, in
its first pass, and right after a jump where its time is missing.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = "minute hour day-of-month month day-of-week"
MAX_BYTES = 200


class CronError(ValueError):
    """An expression that cannot be followed; the text is the remedy."""


@lru_cache(maxsize=4096)
def check(expression: str) -> CronSim:
    """Raise CronError where an expression cannot be followed; return it as read."""
    fields = expression.split()
    if expression.strip() in _MACROS:
        raise CronError(f"send the five fields instead: {_MACROS[expression.strip()]}")
    if len(fields) != 5:
        raise CronError(f"send five fields ({_FIELDS}); this has {len(fields)}")
    if len(expression) > MAX_BYTES:
        raise CronError(f"send at most {MAX_BYTES} characters")
    try:
        return CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - only whether it can be read
    except CronSimError as exc:
        what = str(exc).removeprefix("Bad ")
        raise CronError(f"the {what} is none, or never comes; the fields are {_FIELDS}") from exc


def times(expression: str, after: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, bool]]:
    """Yield the instants strictly after one (aware) at which an expression fires, on the clocks of a zone, and whether
    the time that it names is missing there. Ends where nothing fires within 50 years."""
    check(expression)
    last = after
    simulation = CronSim(expression, after.astimezone(zone))
    for at in simulation:
        # Within the second pass of a repeated hour cronsim begins with times of the first.
        if (instant := at.astimezone(after.tzinfo)) > last:
            last = instant
            missing = at.minute not in simulation.minutes or at.hour not in simulation.hours
            yield at, missing


def most_a_day(expression: str) -> int:
    """Return how often an expression fires on a day at the most, where no clock changes."""
    read = check(expression)
    return len(read.minutes) * len(read.hours)
