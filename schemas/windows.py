"""Windows of the week on a wall clock: ``22:00-07:00`` or ``SA,SU 23:00-10:00``. Pure.

A window includes its start and excludes its end; one that ends no later than it starts goes across midnight and belongs
to the day on which it starts. ``24:00`` is the end of a day, and a window whose ends are equal is a whole day. What
counts is what the clock on the wall shows: an hour that clocks show twice is twice within the window, and one that they
jump over is not there.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
EVERY_DAY = frozenset(range(7))
_DAY = 24 * 60
_DAY_MS = _DAY * 60_000
_UTC = ZoneInfo("Etc/UTC")
_TEXT = re.compile(r"(?:([A-Za-z]{2}(?:\s*[,-]\s*[A-Za-z]{2})*)\s+)?(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})")
_MS = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of some days of the week (0 is Monday), from a minute of the day up to another, which is excluded."""

    start: int
    end: int
    days: frozenset[int] = EVERY_DAY

    def contains(self, local: datetime) -> bool:
        """Return whether a wall clock that shows ``local`` is within the window."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (minute >= self.start and day in self.days) or (minute < self.end and (day - 1) % 7 in self.days)

    def ends(self, local: datetime) -> datetime:
        """Return what the wall clock shows when the window ends that contains ``local``."""
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        minute = local.hour * 60 + local.minute
        later = self.start >= self.end and minute >= self.start and local.weekday() in self.days
        return midnight + timedelta(days=1 if later else 0, minutes=self.end)


def parse(text: str) -> Window | None:
    """Return the window that a text names, None if it names none."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        return None
    names, h, m, to_h, to_m = found.groups()
    start, end = int(h) * 60 + int(m), int(to_h) * 60 + int(to_m)
    if int(m) > 59 or int(to_m) > 59 or start >= _DAY or end > _DAY:
        return None
    days = _days(names) if names else EVERY_DAY
    return None if days is None else Window(start, end, days)


def _days(names: str) -> frozenset[int] | None:
    days: set[int] = set()
    for part in names.upper().split(","):
        ends = [name.strip() for name in part.split("-")]
        if len(ends) > 2 or any(name not in DAYS for name in ends):
            return None
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        days.update((first + n) % 7 for n in range((last - first) % 7 + 1))
    return frozenset(days)


def within(windows: Iterable[Window], zone: ZoneInfo, at_ms: int) -> bool:
    """Return whether an instant (ms UTC) is within any of the windows, by the clocks of a zone."""
    local = _local(zone, at_ms)
    return any(window.contains(local) for window in windows)


def until(windows: Sequence[Window], zone: ZoneInfo, at_ms: int) -> int | None:
    """Return the first instant from ``at_ms`` on (ms UTC) that is in none of the windows; None if none of the next two
    weeks is."""
    at, last = at_ms, at_ms + 14 * 86_400_000
    while at < last:
        local = _local(zone, at)
        inside = [window for window in windows if window.contains(local)]
        if not inside:
            return at
        at = _reached(max(window.ends(local) for window in inside), zone, at)
    return None


def opens(windows: Sequence[Window], zone: ZoneInfo, at_ms: int) -> int | None:
    """Return the first instant from ``at_ms`` on (ms UTC) that is in one of the windows; None if none of the next two
    weeks is."""
    if within(windows, zone, at_ms):
        return at_ms
    local = _local(zone, at_ms)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    starts = sorted(
        start
        for window in windows
        for day in range(15)
        if (start := midnight + timedelta(days=day, minutes=window.start)).weekday() in window.days
    )
    # A start that clocks jump over is reached when they have jumped; then it may be over.
    reached = (_reached(start, zone, at_ms) for start in starts)
    found = next((at for at in reached if at >= at_ms and within(windows, zone, at)), None)
    again = next((at for at in _set_back(zone, at_ms) if within(windows, zone, at)), None)
    return again if again is not None and (found is None or again < found) else found


def _set_back(zone: ZoneInfo, at_ms: int) -> Iterator[int]:
    """Yield the instants of the next two weeks (ms UTC) at which clocks are set back: what was over may be again."""
    for day in range(14):
        before, behind = at_ms + day * _DAY_MS, at_ms + (day + 1) * _DAY_MS
        offset = _local(zone, before) - _local(_UTC, before)
        if _local(zone, behind) - _local(_UTC, behind) < offset:
            while behind - before > 1:
                middle = (before + behind) // 2
                stays = _local(zone, middle) - _local(_UTC, middle) == offset
                before, behind = (middle, behind) if stays else (before, middle)
            yield behind


@lru_cache(maxsize=1024)
def _local(zone: ZoneInfo, at_ms: int) -> datetime:
    return (_EPOCH + at_ms * _MS).astimezone(zone).replace(tzinfo=None)


def _ms(local: datetime, zone: ZoneInfo, fold: int) -> int:
    return (local.replace(tzinfo=zone, fold=fold) - _EPOCH) // _MS


def _reached(local: datetime, zone: ZoneInfo, after_ms: int) -> int:
    """Return the first instant after ``after_ms`` at which the clocks show ``local`` or have jumped past it."""
    first, second = sorted((_ms(local, zone, 0), _ms(local, zone, 1)))
    if first == second:
        return max(first, after_ms)
    if _local(zone, first) == local:
        return first if first > after_ms else max(second, after_ms)
    # The clocks jump over it, somewhere between the two readings of it.
    before, behind = first, second
    while behind - before > 1:
        middle = (before + behind) // 2
        before, behind = (middle, behind) if _local(zone, middle) < local else (before, middle)
    return max(behind, after_ms)
