"""Recurrence rules of RFC 5545: what one says, and the local times it names. Pure.

python-dateutil finds the days that the BY parts of a rule name, a calendar year at a time, so that no rule costs more
than the years that are looked at. Periods, INTERVAL, BYSETPOS and the start itself are done here, since dateutil
differs from the standard in them (docs/time.md has the list). Where the clocks show these local times,
``tables.schedule`` says; rules of hours and less are counted on the clock itself, by ``Elapsed``.
"""

from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from itertools import product, repeat
from zoneinfo import ZoneInfo

from dateutil.rrule import YEARLY, rrule, weekday

#: A rule that names nothing in this many years is taken for one that never will.
DRY_YEARS = 200
#: The same for rules of hours and less, whose years take longer to look through. No day of the calendar is rarer than
#: 29 February on a given weekday, which comes after 40 years at the latest.
DRY_YEARS_ELAPSED = 41
#: Steps of a rule of hours or less that lead to nothing, in a row, before it is taken for one that names nothing.
DRY_STEPS = 5_000
#: The largest COUNT that is counted through; a larger one is taken only where its last instance can be reckoned.
MAX_COUNT = 10_000
#: Steps that counting through may take, instances and what leads to none alike.
COUNT_STEPS = 20_000
#: What else counts as so many of those: the days of a year, a step of elapsed time that leads to nothing, and as so
#: many of the latter to find when the clocks jump next.
_YEAR_STEPS, _DRY_COST, _STRETCH_STEPS = 10, 3, 40
#: Empty periods in a row of a rule of weeks, however often it comes: more than of any rule that names something.
DRY_WEEKS = 3_000
MAX_INTERVAL = 1_000_000
LAST_YEAR = 9990

_DAY = 86_400
#: Where clocks are looked at to find their jumps. No zone's ever jumped twice within six days.
_STRIDE = 3 * _DAY
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_ALL_DAYS = tuple((0, n) for n in range(7))


class RuleError(ValueError):
    """A rule that cannot be followed: the part at fault, and what to do."""

    def __init__(self, value: str, remedy: str) -> None:
        super().__init__(f"{value}: {remedy}" if value else remedy)
        self.value = value
        self.remedy = remedy


class Freq(IntEnum):
    """How often, from the slowest."""

    YEARLY = 0
    MONTHLY = 1
    WEEKLY = 2
    DAILY = 3
    HOURLY = 4
    MINUTELY = 5
    SECONDLY = 6


UNIT_S = {Freq.HOURLY: 3600, Freq.MINUTELY: 60, Freq.SECONDLY: 1}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule says. ``by_day``: ordinal (0: every) and weekday (0: Monday). ``until``: as it was written."""

    freq: Freq
    interval: int = 1
    count: int = 0
    until: str = ""
    by_month: tuple[int, ...] = ()
    by_week: tuple[int, ...] = ()
    by_year_day: tuple[int, ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_day: tuple[tuple[int, int], ...] = ()
    by_hour: tuple[int, ...] = ()
    by_minute: tuple[int, ...] = ()
    by_second: tuple[int, ...] = ()
    by_set_pos: tuple[int, ...] = ()
    week_start: int = 0

    @property
    def elapsed(self) -> bool:
        """Whether it counts elapsed time (hours, minutes, seconds), not days of the calendar."""
        return self.freq >= Freq.HOURLY

    @property
    def plain(self) -> bool:
        """Whether it has no BY part."""
        return not (self.by_clock or self.by_date or self.by_set_pos)

    def of_any_day(self) -> "Rule":
        """Return the rule without the parts that name days, and without an end."""
        none: tuple[()] = ()
        return replace(
            self, by_month=none, by_year_day=none, by_month_day=none, by_day=none, by_week=none, count=0, until=""
        )

    @property
    def by_clock(self) -> bool:
        """Whether a part names hours, minutes or seconds."""
        return bool(self.by_hour or self.by_minute or self.by_second)

    @property
    def by_date(self) -> bool:
        """Whether a part names days."""
        return bool(self.by_month or self.by_week or self.by_year_day or self.by_month_day or self.by_day)


# -- reading -----------------------------------------------------------------------------------------------------------

#: Part: field, least and greatest value, whether it may be negative.
_NUMBERS = {
    "BYMONTH": ("by_month", 1, 12, False),
    "BYWEEKNO": ("by_week", 1, 53, True),
    "BYYEARDAY": ("by_year_day", 1, 366, True),
    "BYMONTHDAY": ("by_month_day", 1, 31, True),
    "BYHOUR": ("by_hour", 0, 23, False),
    "BYMINUTE": ("by_minute", 0, 59, False),
    "BYSECOND": ("by_second", 0, 60, False),
    "BYSETPOS": ("by_set_pos", 1, 366, True),
}
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "WKST", *_NUMBERS)


@lru_cache(maxsize=4096)
def parse(text: str, all_day: bool = False) -> Rule:
    """Return what a rule says. ``all_day``: its start is a date. Raises RuleError."""
    parts: dict[str, str] = {}
    for part in text.strip().removeprefix("RRULE:").rstrip(";").split(";"):
        name, equals, value = part.strip().partition("=")
        name, value = name.upper(), value.strip().upper()
        if not equals or not value:
            raise RuleError(part, "send parts as NAME=VALUE with ; between them, such as FREQ=WEEKLY;BYDAY=MO")
        if name not in _PARTS:
            known = "RSCALE and SKIP (RFC 7529) are not supported" if name in ("RSCALE", "SKIP") else "unknown"
            raise RuleError(name, f"{known}; the parts of RFC 5545 are {', '.join(_PARTS)}")
        if name in parts:
            raise RuleError(name, "give each part once")
        parts[name] = value
    if parts.get("FREQ") not in Freq.__members__:
        raise RuleError(parts.get("FREQ", ""), f"send FREQ= and one of {', '.join(Freq.__members__)}")
    freq = Freq[parts["FREQ"]]
    found: dict[str, tuple[int, ...]] = {}
    for name, (field, low, high, signed) in _NUMBERS.items():
        if name in parts:
            found[field] = _numbers(name, parts[name], low, high, signed)
    if all_day:
        # "These rule parts MUST be ignored in RECUR value that violate the above requirement" (3.3.10).
        for field in ("by_hour", "by_minute", "by_second"):
            found.pop(field, None)
    if "by_second" in found:
        found["by_second"] = tuple(sorted({min(second, 59) for second in found["by_second"]}))
    rule = Rule(
        freq,
        _positive("INTERVAL", parts.get("INTERVAL", "1"), MAX_INTERVAL),
        _positive("COUNT", parts["COUNT"], 10**9) if "COUNT" in parts else 0,
        _until(parts["UNTIL"]) if "UNTIL" in parts else "",
        by_day=_weekdays(parts["BYDAY"]) if "BYDAY" in parts else (),
        week_start=_weekday(parts.get("WKST", "MO")),
        **found,
    )
    _consistent(rule, all_day)
    return rule


def _positive(name: str, text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= most:
        raise RuleError(f"{name}={text}", f"send a whole number from 1 to {most}")
    return int(text)


def _numbers(name: str, text: str, low: int, high: int, signed: bool) -> tuple[int, ...]:
    found = set()
    for item in text.split(","):
        digits = item[1:] if item[:1] in ("+", "-") else item
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 5 else -1
        if not low <= number <= high or (item[0] in "+-" and not signed):
            sign = f", or -{high} to -{low} from the end" if signed else ""
            raise RuleError(f"{name}={item}", f"send whole numbers from {low} to {high}{sign}")
        found.add(-number if item[0] == "-" else number)
    return tuple(sorted(found))


def _weekday(text: str) -> int:
    if text not in _DAYS:
        raise RuleError(text, f"send a day as one of {', '.join(_DAYS)}")
    return _DAYS.index(text)


def _weekdays(text: str) -> tuple[tuple[int, int], ...]:
    found = set()
    for item in text.split(","):
        number, day = item[:-2].strip(), item[-2:]
        ordinal = 0
        if number:
            digits = number[1:] if number[0] in "+-" else number
            ordinal = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 3 else 0
            if not 1 <= ordinal <= 53:
                raise RuleError(f"BYDAY={item}", "send days as MO, the second Monday as 2MO, the last as -1MO")
            ordinal = -ordinal if number[0] == "-" else ordinal
        found.add((ordinal, _weekday(day)))
    return tuple(sorted(found))


def _until(text: str) -> str:
    for form in ("%Y%m%d", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ"):
        # strptime alone would take fewer digits.
        if len(text) == {"%Y%m%d": 8, "%Y%m%dT%H%M%S": 15}.get(form, 16):
            try:
                datetime.strptime(text, form)  # noqa: DTZ007 - only whether it can be read
            except ValueError:
                continue
            return text
    raise RuleError(f"UNTIL={text}", "send a date as 20261231, or an instant as 20261231T225959Z")


def _consistent(rule: Rule, all_day: bool) -> None:
    """Refuse what the standard says MUST NOT be."""
    wrong = ""
    if rule.count and rule.until:
        wrong = "COUNT and UNTIL: give one of them"
    elif rule.by_week and rule.freq is not Freq.YEARLY:
        wrong = "BYWEEKNO: only with FREQ=YEARLY"
    elif rule.by_year_day and rule.freq in (Freq.MONTHLY, Freq.WEEKLY, Freq.DAILY):
        wrong = "BYYEARDAY: not with FREQ=MONTHLY, WEEKLY or DAILY"
    elif rule.by_month_day and rule.freq is Freq.WEEKLY:
        wrong = "BYMONTHDAY: not with FREQ=WEEKLY"
    elif rule.by_set_pos and not (rule.by_clock or rule.by_date):
        wrong = "BYSETPOS: only beside another BY part"
    elif any(ordinal for ordinal, _ in rule.by_day) and (rule.freq > Freq.MONTHLY or rule.by_week):
        wrong = "BYDAY with a number: only with FREQ=MONTHLY, or YEARLY without BYWEEKNO"
    elif all_day and rule.elapsed:
        wrong = f"FREQ={rule.freq.name}: not from a date alone; send local with a time"
    if wrong:
        raise RuleError(*wrong.split(": ", 1))


# -- days --------------------------------------------------------------------------------------------------------------


def _kind(year: int) -> tuple[int, bool, bool, bool]:
    """Return what a year's days and week numbers depend on: its first weekday, and which of it and its neighbours are
    leap years."""
    return date(year, 1, 1).weekday(), isleap(year - 1), isleap(year), isleap(year + 1)


#: For each kind of year, one of it: dateutil is asked for no more years than there are kinds.
_LIKE = {_kind(year): year for year in range(2001, 2029)}


@lru_cache(maxsize=4096)
def _days_of_year(
    year: int,
    months: tuple[int, ...],
    weeks: tuple[int, ...],
    year_days: tuple[int, ...],
    month_days: tuple[int, ...],
    weekdays: tuple[tuple[int, int], ...],
    week_start: int,
) -> tuple[int, ...]:
    """Return the days of a calendar year that the parts name, as proleptic ordinals."""
    like = _LIKE[_kind(year)]
    days = _days_of_kind(like, months, weeks, year_days, month_days, weekdays, week_start)
    by = date(year, 1, 1).toordinal() - date(like, 1, 1).toordinal()
    return tuple([day + by for day in days]) if by else days


@lru_cache(maxsize=2048)
def _days_of_kind(
    year: int,
    months: tuple[int, ...],
    weeks: tuple[int, ...],
    year_days: tuple[int, ...],
    month_days: tuple[int, ...],
    weekdays: tuple[tuple[int, int], ...],
    week_start: int,
) -> tuple[int, ...]:
    ordinals = [pair for pair in weekdays if pair[0]]
    if ordinals and len(ordinals) < len(weekdays):
        # dateutil takes "MO,1TU" for days that are both; the standard for days that are either.
        most = 5 if months else 53
        every = [(n, day) for ordinal, day in weekdays if not ordinal for n in range(1, most + 1)]
        weekdays = (*ordinals, *every)
    if not (year_days or month_days or weekdays):
        weekdays = _ALL_DAYS
    found = rrule(
        YEARLY,
        dtstart=datetime(year, 1, 1),  # noqa: DTZ001 - days of a calendar have no zone
        # One year: the next one of the rule lies behind the end of the calendar.
        interval=10_000,
        wkst=week_start,
        bymonth=months or None,
        byyearday=year_days or None,
        bymonthday=month_days or None,
        byweekday=[weekday(day, ordinal or None) for ordinal, day in weekdays] or None,
        byhour=0,
        byminute=0,
        bysecond=0,
    )
    days = tuple(day.toordinal() for day in found)
    if not weeks:
        return days
    # By our own count: dateutil loses week -53, and takes week 52 of a year's first days for 53 where the year has one.
    named = _week_starts(year, weeks, week_start)
    return tuple(day for day in days if _week_of(day, week_start) in named)


def _week_of(day: int, week_start: int) -> int:
    """Return the first day of the week that a day is in, as proleptic ordinals, of which the first was a Monday."""
    return day - ((day - 1) % 7 - week_start) % 7


def _week_starts(year: int, weeks: tuple[int, ...], week_start: int) -> frozenset[int]:
    """Return the first days of the weeks with these numbers that a calendar year may have days of.

    Week 1 is the first that has four days of its year (3.3.10), which is the one with 4 January.
    """
    found = set()
    for of in (year - 1, year, year + 1):
        first, end = (_week_of(date(n, 1, 4).toordinal(), week_start) for n in (of, of + 1))
        starts = range(first, end, 7)
        found |= {starts[n - 1 if n > 0 else n] for n in weeks if abs(n) <= len(starts)}
    return frozenset(found)


def _month_start(month: int) -> int:
    return date(month // 12, month % 12 + 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Series:
    """A rule with its start, and with what the rule leaves to the start made explicit."""

    rule: Rule
    start: datetime
    times: tuple[int, ...]

    def _named(self, year: int, months: tuple[int, ...] = ()) -> tuple[int, ...]:
        r = self.rule
        return _days_of_year(
            year, r.by_month or months, r.by_week, r.by_year_day, r.by_month_day, r.by_day, r.week_start
        )

    def _week(self, day: int) -> int:
        """Return the first day of the week that a day is in."""
        return _week_of(day, self.rule.week_start)

    def _year(self, day: int) -> int:
        """Return the year that a day counts in: for week numbers, the one that has most of its week."""
        return date.fromordinal(self._week(day) + 3 if self.rule.by_week else day).year

    def _periods(self, low: int) -> Iterator[Sequence[int]]:
        """Yield the days of each period that the rule is in, from the period that ``low`` is in."""
        r, first = self.rule, self.start.toordinal()
        match r.freq:
            case Freq.YEARLY:
                begin = self._year(first)
                for year in range(begin + _up(self._year(low) - begin, r.interval), LAST_YEAR, r.interval):
                    yield self._of_week_year(year) if r.by_week else self._named(year)
            case Freq.MONTHLY:
                begin = self.start.year * 12 + self.start.month - 1
                there = date.fromordinal(low)
                from_month = begin + _up(there.year * 12 + there.month - 1 - begin, r.interval)
                for month in range(from_month, LAST_YEAR * 12, r.interval):
                    named = self._named(month // 12, tuple(range(1, 13)))
                    yield named[bisect_left(named, _month_start(month)) : bisect_left(named, _month_start(month + 1))]
            case Freq.WEEKLY:
                begin, step = self._week(first), 7 * r.interval
                days = sorted((day - r.week_start) % 7 for _, day in r.by_day)
                for week in range(begin + _up(self._week(low) - begin, step), LAST_YEAR * 365, step):
                    yield [
                        week + day for day in days if not r.by_month or date.fromordinal(week + day).month in r.by_month
                    ]
            case _ if not r.by_date:
                for day in range(first + _up(low - first, r.interval), LAST_YEAR * 365, r.interval):
                    yield (day,)
            case _:
                for year in range(date.fromordinal(low).year, LAST_YEAR):
                    named = self._named(year)
                    on_grid = [day for day in named if (day - first) % r.interval == 0] if r.interval > 1 else named
                    yield from ((day,) for day in on_grid if day >= low)
                    if not on_grid:
                        yield ()

    def _of_week_year(self, year: int) -> list[int]:
        # A week is of the year that the 4 January is in, if it is its first.
        first, end = (self._week(date(n, 1, 4).toordinal()) for n in (year, year + 1))
        return [day for n in (year - 1, year, year + 1) for day in self._named(n) if first <= day < end]

    def _picked(self, days: Sequence[int]) -> list[datetime]:
        """Return what BYSETPOS picks of a period."""
        size = len(days) * len(self.times)
        picked = sorted({p - 1 if p > 0 else size + p for p in self.rule.by_set_pos if abs(p) <= size})
        return [_at(days[n // len(self.times)], self.times[n % len(self.times)]) for n in picked]

    def _steps(self, low: datetime, without: frozenset[int]) -> Iterator[datetime | None]:
        """Yield the local times from ``low`` on that the rule names, and None for each period that led to none."""
        per_year = {Freq.MONTHLY: 12, Freq.WEEKLY: 53}.get(self.rule.freq, 1)
        # A rule of days says of a whole year at once that it names none of them.
        dry, dry_limit = 0, DRY_YEARS * per_year // (1 if self.rule.freq is Freq.DAILY else self.rule.interval)
        if self.rule.freq is Freq.WEEKLY:
            dry_limit = min(dry_limit, DRY_WEEKS)
        first = low.toordinal()
        for days in self._periods(first):
            named: Iterable[datetime] = ()
            if self.rule.by_set_pos:
                named = self._picked(days)
                some = bool(named)
                if days and days[-1] >= first and without:
                    named = [wall for wall in named if wall.toordinal() not in without]
            else:
                some = bool(days)
                # What is before the first day may be very much.
                left = days[bisect_left(days, first) :] if days and days[0] < first else days
                if without:
                    left = [day for day in left if day not in without]
                named = (_at(day, time) for day in left for time in self.times)
            for wall in named:
                if wall >= low:
                    yield wall
            if some:
                dry = 0
                continue
            dry += 1
            if dry > dry_limit:
                return
            yield None

    def names_any(self) -> bool:
        """Return whether the rule names anything from its start on."""
        return any(wall is not None for wall in self._steps(self.start, frozenset()))

    def walls(self, low: datetime, without: frozenset[int] = frozenset()) -> Iterator[datetime]:
        """Yield the local times from ``low`` on, each once and in order, without regard to COUNT and UNTIL.

        The start is the first of them whether the rule names it or not, as the standard has it (3.8.5.3).
        ``without``: days, as proleptic ordinals, of which the rule names none.
        """
        if low <= self.start:
            yield self.start
            low = self.start + timedelta(seconds=1)
        yield from (wall for wall in self._steps(low, without) if wall is not None)

    def nth(self, count: int) -> datetime | None:
        """Return the local time that is the ``count``-th; None if there are fewer. Raises RuleError where it is far
        off."""
        if count == 1:
            return self.start
        left, cost, year = count - 1, 0, self.start.year
        for wall in self._steps(self.start + timedelta(seconds=1), frozenset()):
            cost += 2 if self.rule.by_set_pos else 1
            if wall is not None:
                left -= 1
                if left == 0:
                    return wall
                cost, year = cost + (wall.year - year) * _YEAR_STEPS, wall.year
            if cost > COUNT_STEPS:
                raise _too_far(count)
        return None


def _too_far(count: int) -> RuleError:
    return RuleError(f"COUNT={count}", "send a lower one, or UNTIL instead: it would take long to count so far")


def _at(day: int, time: int) -> datetime:
    return datetime.fromordinal(day) + timedelta(seconds=time)


def _up(distance: int, step: int) -> int:
    """Return the first multiple of a step that is no less than a distance, nor than nothing."""
    return max(0, -(-distance // step) * step)


@lru_cache(maxsize=4096)
def series(rule: Rule, start: datetime) -> Series:
    """Return a rule of days or more, counted from a start."""
    implied: dict[str, tuple[int, ...]] = {}
    by_day = rule.by_day
    named = bool(rule.by_week or rule.by_year_day or rule.by_month_day or by_day)
    if rule.freq is Freq.YEARLY and not named:
        implied["by_month"] = rule.by_month or (start.month,)
        implied["by_month_day"] = (start.day,)
    elif rule.freq is Freq.MONTHLY and not (rule.by_month_day or by_day):
        implied["by_month_day"] = (start.day,)
    elif rule.freq is Freq.WEEKLY and not by_day:
        by_day = ((0, start.weekday()),)
    elif rule.by_week and not (by_day or rule.by_month_day or rule.by_year_day):
        # dateutil takes all seven days of the week; the standard the weekday of the start.
        by_day = ((0, start.weekday()),)
    hours = rule.by_hour or (start.hour,)
    minutes = rule.by_minute or (start.minute,)
    seconds = rule.by_second or (start.second,)
    times = tuple(h * 3600 + m * 60 + s for h, m, s in product(hours, minutes, seconds))
    return Series(replace(rule, by_day=by_day, **implied), start, times)  # type: ignore[arg-type]


@lru_cache(maxsize=8192)
def last_of_count(rule: Rule, start: datetime) -> datetime | None:
    """Return the last local time that COUNT allows; None if there are fewer. Raises RuleError where it is far off."""
    if rule.freq in (Freq.DAILY, Freq.WEEKLY) and rule.plain:
        try:
            return start + timedelta(days=(rule.count - 1) * rule.interval * (7 if rule.freq is Freq.WEEKLY else 1))
        except OverflowError:
            return None
    if rule.count > MAX_COUNT:
        raise RuleError(f"COUNT={rule.count}", f"send at most {MAX_COUNT}, or UNTIL instead")
    return series(rule, start).nth(rule.count)


# -- elapsed time ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def _changes(zone: ZoneInfo, year: int) -> tuple[tuple[int, int], ...]:
    """Return the changes of a zone's offset in a year of UTC: second since 1970, new offset in seconds."""
    found = []
    begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp())
    before = _offset(zone, begin - 1)
    for low in range(begin - 1, end - 1, _STRIDE):
        high = min(low + _STRIDE, end - 1)
        after = _offset(zone, high)
        if after == before:
            continue
        a, b = low, high
        while b - a > 1:
            middle = (a + b) // 2
            a, b = (middle, b) if _offset(zone, middle) == before else (a, middle)
        found.append((b, after))
        before = after
    return tuple(found)


def _offset(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    return offset.days * _DAY + offset.seconds if offset is not None else 0


def stretches(zone: ZoneInfo, low: int) -> Iterator[tuple[int, int, int]]:
    """Yield the stretches of a zone's clock from a second on in which it does not jump: from, before, offset."""
    year, offset = datetime.fromtimestamp(low, UTC).year, _offset(zone, low)
    while year < LAST_YEAR:
        for second, new in _changes(zone, year):
            if second > low:
                yield low, second, offset
                low, offset = second, new
        year += 1
        end = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        if end > low:
            yield low, end, offset
            low = end


class Elapsed:
    """A rule of hours, minutes or seconds with its start (in seconds since 1970): INTERVAL counts elapsed time, and the
    BY parts look at what the clocks show then. A repeated hour is counted twice, a missing one not at all."""

    __slots__ = ("rule", "start", "unit", "without", "zone")

    def __init__(self, rule: Rule, start: int, zone: ZoneInfo, without: frozenset[int] = frozenset()) -> None:
        """``without``: days, as proleptic ordinals, of which nothing but the start comes."""
        self.rule, self.start, self.zone, self.unit, self.without = rule, start, zone, UNIT_S[rule.freq], without

    def _rests(self, offset: int) -> tuple[int, ...]:
        """Return what follows in each unit, in seconds: minutes and seconds, seconds, nothing."""
        r, shown = self.rule, self.start + offset
        minutes = r.by_minute or (shown // 60 % 60,)
        seconds = r.by_second or (shown % 60,)
        match r.freq:
            case Freq.HOURLY:
                rests = [m * 60 + s for m, s in product(minutes, seconds)]
            case Freq.MINUTELY:
                rests = list(seconds)
            case _:
                rests = [0]
        if r.by_set_pos:
            size = len(rests)
            rests = [rests[n] for n in sorted({p - 1 if p > 0 else size + p for p in r.by_set_pos if abs(p) <= size})]
        return tuple(rests)

    def _blocks(self, day: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a day, in seconds of the clock, that BYHOUR and BYMINUTE leave: from, before."""
        r = self.rule
        if self.unit == 3600 or not (r.by_hour or (r.by_minute and self.unit == 1)):
            yield day, day + _DAY
            return
        for hour in r.by_hour or range(24):
            begin = day + hour * 3600
            if self.unit == 60 or not r.by_minute:
                yield begin, begin + 3600
            else:
                yield from ((begin + m * 60, begin + m * 60 + 60) for m in r.by_minute)

    def _allowed(self, second: int) -> bool:
        r = self.rule
        match self.unit:
            case 3600:
                return not r.by_hour or second // 3600 % 24 in r.by_hour
            case 60:
                return not r.by_minute or second // 60 % 60 in r.by_minute
            case _:
                return not r.by_second or second % 60 in r.by_second

    def _next_day(self, day: int) -> int | None:
        """Return the first day (since 1970) from one on that the BY parts allow; None if there is none for long."""
        r = self.rule
        day += _EPOCH_DAY
        if not r.by_date:
            while day in self.without:
                day += 1
            return day - _EPOCH_DAY
        begin = date.fromordinal(day).year
        for year in range(begin, min(begin + DRY_YEARS_ELAPSED, LAST_YEAR)):
            days = _days_of_year(year, r.by_month, (), r.by_year_day, r.by_month_day, r.by_day, r.week_start)
            at = bisect_left(days, day)
            while at < len(days) and days[at] in self.without:
                at += 1
            if at < len(days):
                return days[at] - _EPOCH_DAY
        return None

    def seconds(self, low: int) -> Iterator[int]:
        """Yield the instants from ``low`` on, in order, without regard to COUNT and UNTIL; the start is the first."""
        if low <= self.start:
            yield self.start
            low = self.start + 1
        yield from (second for second in self._steps(low) if second is not None)

    def _steps(self, low: int) -> Iterator[int | None]:
        """Yield the instants from ``low`` on, and None for each step that led to none."""
        if not self._rests(0):
            # BYSETPOS is beyond all that there is in a unit.
            return
        dry, until = 0, low + DRY_YEARS_ELAPSED * 366 * _DAY
        for begin, end, offset in stretches(self.zone, low):
            if begin > until:
                return
            for second in self._shown(begin + offset, end + offset, offset):
                if second is None:
                    dry += 1
                    if dry > DRY_STEPS:
                        return
                    yield None
                else:
                    dry, until = 0, second + DRY_YEARS_ELAPSED * 366 * _DAY
                    yield second - offset
            # To find when clocks jump takes as long as many steps.
            yield from repeat(None, _STRETCH_STEPS)

    def _shown(self, begin: int, end: int, offset: int) -> Iterator[int | None]:
        """Yield the seconds of the clock in a stretch that the rule names, and None for each step that led nowhere."""
        anchor, step, rests = (self.start + offset) // self.unit, self.rule.interval, self._rests(offset)
        day: int | None = begin // _DAY
        while day is not None and (day := self._next_day(day)) is not None and day * _DAY < end:
            yield None
            unit = max(begin, day * _DAY) // self.unit
            unit += (anchor - unit) % step
            if unit * self.unit >= (day + 1) * _DAY:
                # Nothing on this day: on to the day of the next unit that counts.
                day = unit * self.unit // _DAY
                continue
            for low, high in self._blocks(day * _DAY):
                if high <= begin:
                    continue
                yield None
                from_unit = max(low, begin) // self.unit
                for unit in range(from_unit + (anchor - from_unit) % step, -(-min(high, end) // self.unit), step):
                    if self._allowed(unit * self.unit):
                        yield from (s for rest in rests if begin <= (s := unit * self.unit + rest) < end)
                    else:
                        yield None
            day += 1

    def last_of_count(self) -> int | None:
        """Return the last instant that COUNT allows, in seconds; None if there are fewer. Raises RuleError where it is
        far off."""
        return _last_elapsed(self.rule, self.start, self.zone)

    def nth(self, count: int) -> int | None:
        """Return the instant that is the ``count``-th; None if there are fewer. Raises RuleError where it is far
        off."""
        if count == 1:
            return self.start
        left, cost = count - 1, 0
        for second in self._steps(self.start + 1):
            if second is not None:
                left, cost = left - 1, cost + 1
                if left == 0:
                    return second
            else:
                cost += _DRY_COST
            if cost > COUNT_STEPS:
                raise _too_far(count)
        return None


@lru_cache(maxsize=8192)
def _last_elapsed(rule: Rule, start: int, zone: ZoneInfo) -> int | None:
    if rule.plain:
        return start + (rule.count - 1) * rule.interval * UNIT_S[rule.freq]
    if rule.count > MAX_COUNT:
        raise RuleError(f"COUNT={rule.count}", f"send at most {MAX_COUNT}, or UNTIL instead")
    return Elapsed(rule, start, zone).nth(rule.count)
