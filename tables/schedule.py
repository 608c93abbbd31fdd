"""When a reminder fires: starts, rules, zones, offsets and days off, as instants in order. Pure.

A wall-clock start is kept as it was written; its instant is worked out from the zone's rules of today, whenever it is
needed. Times are ms since 1970.

What holds for every definition and zone:

- Firings come in order, each strictly later than the one before: what falls on one instant is one firing. Of two starts
  that clocks that jump bring together the one stays whose time exists; of two offsets the one nearest to its start.
- A firing's ids do not depend on where the search began, nor on tz data unless the wall clock itself does.
- A local time that the clocks jump over moves forward by the offset before the jump; one that they show twice means its
  first pass (RFC 5545 3.3.5). Rules of hours and less, and cron expressions with ``*``, count elapsed time instead.
- The cost is bounded by the rule, never by how long ago it began; a rule that names nothing for 200 years has ended.

A start's id is its local time; ``@ms`` for a fixed instant and for the second pass of an hour that is shown twice. An
occurrence's id adds the offset (``schemas.ids``). docs/time.md has every rule with its source.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import TypeVar
from zoneinfo import ZoneInfo

from schemas import ids
from schemas.checks import instant_of, wall_clock, zone
from schemas.records import Definition
from tables import crontab, offsets, recurrence
from tables.calendars import Calendar
from tables.offsets import Offset
from tables.recurrence import Rule

__all__ = [
    "Firing",
    "TimeRules",
    "firing",
    "firings",
    "first_start",
    "instant",
    "last_firing",
    "moved",
    "next_firing",
    "recurs",
    "start_id",
    "start_id_of",
    "zone",
]

T = TypeVar("T")

#: The hour at which a date alone fires, unless configured.
ALL_DAY_HOUR = 9

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall clocks have no zone
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_DAY_MS = 86_400_000
#: No zone's clocks ever jumped further (Samoa left out a day in 2011).
_WIDEST_GAP = timedelta(hours=24)
_SECOND = timedelta(seconds=1)
#: Nothing is worked out beyond it.
_LAST_DAY = datetime(recurrence.LAST_YEAR, 12, 31)  # noqa: DTZ001
#: A rule of which a calendar leaves out so many starts in a row has ended.
MOST_LEFT_OUT = 400
_LEFT_OUT_AT_ONCE = 40


def start_id(local: str) -> str:
    """Return a local start in the one form that names it: ``2026-12-01T09:00``, with seconds only if there are any.

    A date alone keeps its form, so that it stays the same start when the hour of all-day reminders is changed.
    """
    return local[:16] if len(local) == 19 and local.endswith(":00") else local


def start_id_of(local: str, at: int | None) -> str:
    """Return the name of a one-shot start: its local form, or ``@ms`` for a fixed instant."""
    return f"@{at}" if at is not None else start_id(local)


def instant(local: str, zone_name: str, all_day_hour: int = ALL_DAY_HOUR) -> int:
    """Return when the wall clocks of a zone show a local time; raise ValueError for what is neither.

    A time that the clocks jump over counts with the offset before the jump; one that they show twice means its first
    pass; a date alone means ``all_day_hour``.
    """
    wall, known = wall_clock(local), zone(zone_name)
    if wall is None or known is None:
        raise ValueError("no local time" if wall is None else "no zone")
    if len(local) == 10:
        wall += timedelta(hours=all_day_hour)
    return instant_of(wall, known)


def first_start(local: str, at: int | None, zone_name: str, all_day_hour: int = ALL_DAY_HOUR) -> tuple[str, int]:
    """Return the name and the instant of a one-shot reminder's start."""
    return start_id_of(local, at), at if at is not None else instant(local, zone_name, all_day_hour)


# -- what is asked and answered ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TimeRules:
    """What an installation decides: the hour of a date alone, and its holiday calendars by name."""

    all_day_hour: int = ALL_DAY_HOUR
    calendars: Mapping[str, Calendar] = field(default_factory=dict)


_DEFAULT = TimeRules()


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing. ``occurrence_id`` is made of the other two ids. ``due_at``: when it fires; ``start_at``: when what it
    reminds of begins, which is the same without an offset. ``note``: what a person should know of it, or nothing."""

    start_id: str
    offset_id: str
    occurrence_id: str
    due_at: int
    start_at: int
    note: str = ""


def recurs(d: Definition) -> bool:
    """Return whether a definition may fire more than once."""
    return bool(d.rrule or d.cron or d.rdates or len(d.before) > 1)


def next_firing(d: Definition, zone_: str | ZoneInfo, after_ms: int, rules: TimeRules = _DEFAULT) -> Firing | None:
    """Return the first firing strictly after an instant; None where there is none (any more).

    ``zone_``: the zone in use, the definition's own or the recipient's; it may be empty for a fixed instant. Raises
    ValueError for a definition that ``tables.admission`` refuses, and for an unknown zone.
    """
    return next(firings(d, zone_, after_ms + 1, rules), None)


def firings(d: Definition, zone_: str | ZoneInfo, from_ms: int, rules: TimeRules = _DEFAULT) -> Iterator[Firing]:
    """Yield the firings from an instant on (that instant included), in order; without end where the rule has none.

    What was missed between a and b, both included, is ``takewhile(lambda f: f.due_at <= b, firings(d, zone, a))``.
    """
    plan_, clock = _plan_of(d), _clock(zone_, d.at)
    if len(plan_.offsets) == 1:
        yield from _firings_of(plan_, clock, plan_.offsets[0], from_ms, rules)
        return
    last = from_ms - 1
    # Where two offsets meet, the one nearest to its start is the first of the streams.
    streams = (_firings_of(plan_, clock, offset, from_ms, rules) for offset in plan_.offsets)
    for found in heapq.merge(*streams, key=lambda f: f.due_at):
        if found.due_at > last:
            last = found.due_at
            yield found


def last_firing(
    d: Definition, zone_: str | ZoneInfo, after_ms: int, until_ms: int, rules: TimeRules = _DEFAULT
) -> Firing | None:
    """Return the last firing after an instant and no later than another: what ``missed = LATEST`` sends.

    Looks back in growing steps, so a long downtime of a frequent rule costs little.
    """
    span = 3_600_000
    high = until_ms
    while high > after_ms:
        low = max(after_ms, high - span)
        found = None
        for found in takewhile(lambda f, high=high: f.due_at <= high, firings(d, zone_, low + 1, rules)):  # type: ignore[misc]  # noqa: B007
            pass
        if found is not None:
            return found
        high, span = low, span * 4
    return None


def firing(d: Definition, zone_: str | ZoneInfo, occurrence_id: str, rules: TimeRules = _DEFAULT) -> Firing | None:
    """Return the firing of an id as it is with this zone and its rules of today; None for what names none, or where it
    falls on a day off.

    The ids are the definition's; whether its rule still names the start is not asked. So what is pending is placed
    anew when the recipient's zone or the tz data change.
    """
    start, _, offset_id = occurrence_id.rpartition("/")
    clock = _clock(zone_, d.at)
    try:
        offset = offsets.parse(offset_id)
        if start.startswith("@"):
            found = clock.fixed(int(start[1:]))
        else:
            wall = wall_clock(start)
            if wall is None:
                return None
            found = clock.place(wall, start)
    except ValueError:
        return None
    calendar = rules.calendars.get(d.calendar)
    if calendar is not None:
        there = calendar.moved(found.wall.date())
        if there is None:
            return None
        found = _on_day(clock, found, there, calendar)
    return _fire(_plan_of(d), clock, found, offset, rules)[0]


def moved(
    d: Definition,
    before: ZoneInfo,
    after: ZoneInfo,
    from_ms: int,
    until_ms: int,
    rules: TimeRules = _DEFAULT,
) -> list[tuple[str, int | None, int | None]]:
    """Return what fires at another time with other rules of a zone: id, instant before, instant after, in order.

    None: does not fire in the span from one instant to the other, both included. For another zone and for new tz data.
    """
    old, new = (
        {f.occurrence_id: f.due_at for f in takewhile(lambda f: f.due_at <= until_ms, firings(d, z, from_ms, rules))}
        for z in (before, after)
    )
    different = [(id_, old.get(id_), new.get(id_)) for id_ in {**old, **new} if old.get(id_) != new.get(id_)]
    return sorted(different, key=lambda change: (min(at for at in change[1:] if at is not None), change[0]))


# -- what a definition says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """A definition's times, read. ``rule`` None: ``start`` alone, or none where ``cron`` or ``at`` say when.
    ``without``: the excluded days as ordinals."""

    start: datetime | None
    all_day: bool
    at: int | None
    rule: Rule | None
    cron: str
    excluded: frozenset[datetime]
    excluded_days: frozenset[date]
    without: frozenset[int]
    further: tuple[datetime, ...]
    offsets: tuple[Offset, ...]
    at_hour: bool
    calendar: str


def _plan_of(d: Definition) -> Plan:
    return plan(d.local, d.at, d.rrule, d.cron, d.exclude, d.rdates, d.before, d.calendar)


@lru_cache(maxsize=1024)
def plan(
    local: str,
    at: int | None,
    rrule: str,
    cron: str,
    exclude: tuple[str, ...],
    rdates: tuple[str, ...],
    before: tuple[str, ...],
    calendar: str,
) -> Plan:
    """Return what a definition's times say. Raises ValueError."""
    start = wall_clock(local) if local else None
    if local and start is None:
        raise ValueError("no local time")
    if start is None and at is None and not cron:
        raise ValueError("no start")
    all_day = len(local) == 10
    walls = [(text, wall_clock(text)) for text in exclude]
    further = [wall_clock(text) for text in rdates]
    if any(wall is None for _, wall in walls) or any(wall is None for wall in further):
        raise ValueError("no local time")
    excluded_days = frozenset(wall.date() for text, wall in walls if wall is not None and len(text) == 10)
    given = {offsets.parse(text) for text in before}
    return Plan(
        start,
        all_day,
        at,
        recurrence.parse(rrule, all_day) if rrule else None,
        cron,
        frozenset(wall for text, wall in walls if wall is not None and len(text) > 10),
        excluded_days,
        frozenset(day.toordinal() for day in excluded_days),
        tuple(sorted({wall for wall in further if wall is not None})),
        tuple(sorted(given, key=lambda o: o.days * 86_400 + o.seconds)) or (offsets.NONE,),
        all_day and not before,
        calendar,
    )


# -- a zone's clock ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """A start on the clock. ``wall``: its local time, as the rule names it, or as a calendar moved it. ``missing``: the
    clocks jump over it."""

    wall: datetime
    at: int
    id: str
    note: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class _Clock:
    """The wall clocks of a zone."""

    zone: ZoneInfo

    def shown(self, at: int) -> datetime:
        """Return what they show at an instant (``fold`` 1: for the second time)."""
        return (_EPOCH_UTC + at * _MS).astimezone(self.zone).replace(tzinfo=None)

    def place(self, wall: datetime, id_: str) -> Start:
        """Return when they show a time; a missing one later, a repeated one at its first pass."""
        before = self.zone.utcoffset(wall.replace(fold=0) if wall.fold else wall)
        after = self.zone.utcoffset(wall.replace(fold=1))
        if before is None or after is None:
            raise ValueError("no zone")
        at = (wall - before - _EPOCH) // _MS
        if before == after:
            return Start(wall, at, id_)
        if before > after:
            return Start(wall, at, id_, "first of two")
        form = "%H:%M" if (wall + (after - before)).date() == wall.date() else "%Y-%m-%d %H:%M"
        return Start(wall, at, id_, f"moved from {wall.strftime(form)}, which does not exist", True)

    def counted(self, at: int, note: str = "") -> Start:
        """Return the start at an instant that was reached by counting."""
        wall = self.shown(at)
        twice = self.zone.utcoffset(wall.replace(fold=0)) != self.zone.utcoffset(wall.replace(fold=1))
        if wall.fold:
            return Start(wall.replace(fold=0), at, f"@{at}", note or "second of two")
        return Start(wall, at, _id(wall), note or ("first of two" if twice else ""))

    def fixed(self, at: int) -> Start:
        """Return the start at a fixed instant."""
        return Start(self.shown(at).replace(fold=0), at, f"@{at}")

    def first_wall(self, at: int) -> datetime:
        """Return the first local time that may be placed at an instant or later."""
        now = self.shown(at).replace(fold=0)
        # Just after a jump times still come that were skipped.
        earlier = (_EPOCH_UTC + at * _MS - _WIDEST_GAP).astimezone(self.zone).utcoffset() or timedelta()
        return min(now, _EPOCH + at * _MS + earlier)


def _clock(zone_: str | ZoneInfo, at: int | None) -> _Clock:
    if isinstance(zone_, ZoneInfo):
        return _Clock(zone_)
    known = zone(zone_ or ("Etc/UTC" if at is not None else ""))
    if known is None:
        raise ValueError("no zone")
    return _Clock(known)


def _id(wall: datetime) -> str:
    return wall.isoformat(timespec="seconds" if wall.second else "minutes")


# -- starts ------------------------------------------------------------------------------------------------------------


def starts(plan_: Plan, clock: _Clock, low: datetime, low_at: int, rules: TimeRules) -> Iterator[Start]:
    """Yield the starts of a definition whose local time is no earlier than ``low``, or, where they are counted on the
    clock, whose instant is no earlier than ``low_at``; in order of their instants, each instant once."""
    calendar = rules.calendars.get(plan_.calendar)
    if calendar is not None:
        midnight = datetime.combine(calendar.since(low.date()), datetime.min.time())
        if midnight < low:
            low = midnight
            low_at = min(low_at, clock.place(midnight, "").at)
    if calendar is None:
        yield from _in_order((s, s) for s in _raw(plan_, clock, low, low_at))
    else:
        yield from _in_order(
            (s, s) for s in _moved_by(calendar, clock, _not_left_out(plan_, clock, low, low_at, calendar))
        )


def _raw(plan_: Plan, clock: _Clock, low: datetime, low_at: int) -> Iterator[Start]:
    further = (clock.place(wall, _name(plan_, wall)) for wall in plan_.further if wall >= low)
    counted = plan_.at is not None or plan_.cron or (plan_.rule is not None and plan_.rule.elapsed)
    if plan_.at is not None:
        own: Iterator[Start] = iter((clock.fixed(plan_.at),) if plan_.at >= low_at else ())
    elif plan_.cron:
        own = _of_cron(plan_, clock, low_at)
    elif plan_.rule is not None and plan_.rule.elapsed:
        own = _of_elapsed(plan_, plan_.rule, clock, low_at)
    else:
        walls = _walls(plan_, clock, low)
        if plan_.further:
            walls = heapq.merge(walls, (wall for wall in plan_.further if wall >= low))
        own = (clock.place(wall, _name(plan_, wall)) for wall in walls)
    merged = heapq.merge(own, further, key=lambda s: s.at) if plan_.further and counted else own
    if not plan_.excluded and not plan_.excluded_days:
        return merged
    return (s for s in merged if s.wall not in plan_.excluded and s.wall.date() not in plan_.excluded_days)


def _name(plan_: Plan, wall: datetime) -> str:
    return wall.date().isoformat() if plan_.all_day else _id(wall)


def _walls(plan_: Plan, clock: _Clock, low: datetime) -> Iterator[datetime]:
    start, rule = plan_.start, plan_.rule
    if start is None:
        return
    if rule is None:
        if start >= low:
            yield start
        return
    last = recurrence.last_of_count(rule, start) if rule.count else None
    until_at = None
    if rule.until:
        last, until_at = _end(rule.until, plan_.all_day)
    for wall in recurrence.series(rule, start).walls(max(low, start), plan_.without):
        if last is not None and wall > last:
            return
        if until_at is not None and clock.place(wall, "").at > until_at:
            # Within a gap a later time may come sooner.
            if not clock.place(wall, "").missing:
                return
            continue
        yield wall


@lru_cache(maxsize=4096)
def _end(until: str, all_day: bool) -> tuple[datetime | None, int | None]:
    """Return the last local time, or the last instant, that UNTIL allows; a date alone allows the whole day."""
    # 31 December 9999, which some calendars write for "for ever", has no next day and no instant in the west.
    day = min(datetime.strptime(until[:8], "%Y%m%d"), _LAST_DAY)  # noqa: DTZ007 - a wall clock
    if len(until) == 8 or all_day:
        return day + timedelta(days=1) - _SECOND, None
    wall = min(datetime.strptime(until[:15], "%Y%m%dT%H%M%S"), _LAST_DAY)  # noqa: DTZ007
    return (None, (wall - _EPOCH) // _MS) if until[-1] == "Z" else (wall, None)


def _of_elapsed(plan_: Plan, rule: Rule, clock: _Clock, low_at: int) -> Iterator[Start]:
    if plan_.start is None:
        return
    begin = clock.place(plan_.start, "").at // 1000
    counted = recurrence.Elapsed(rule, begin, clock.zone, plan_.without)
    last = counted.last_of_count() if rule.count else None
    if rule.until:
        wall, at = _end(rule.until, False)
        last = at // 1000 if at is not None else clock.place(wall, "").at // 1000 if wall is not None else None
    for second in counted.seconds(max(begin, -(-low_at // 1000))):
        if last is not None and second > last:
            return
        if second == begin:
            yield clock.place(plan_.start, _id(plan_.start))
        else:
            yield clock.counted(second * 1000)


def _of_cron(plan_: Plan, clock: _Clock, low_at: int) -> Iterator[Start]:
    from_at: int | None = low_at
    while from_at is not None:
        # From the second before: what cron fires at the very instant counts.
        after = _EPOCH_UTC + timedelta(seconds=-(-from_at // 1000) - 1)
        from_at = None
        for shown, missing in crontab.times(plan_.cron, after, clock.zone):
            note = "moved from a time that does not exist" if missing else ""
            s = clock.counted((shown.astimezone(UTC) - _EPOCH_UTC) // _MS, note)
            day = s.wall.date()
            if day not in plan_.excluded_days:
                yield s
                continue
            # Many a day: on to the next one that is not left out.
            while day in plan_.excluded_days:
                day += timedelta(days=1)
            from_at = max(s.at + 1, clock.place(datetime.combine(day, datetime.min.time()), "").at)
            break


def _in_order(found: Iterable[tuple[Start, T]]) -> Iterator[T]:
    """Put in order what clocks that jump brought out of it, and let the one stay whose time exists where two are one
    instant. What comes in, each with what it stands for, is in order but for missing times, which come too late."""
    held: list[tuple[Start, T]] = []
    last: int | None = None
    for s, of in found:
        far = bool(held) and s.wall - held[-1][0].wall > 2 * _WIDEST_GAP
        while held and (far or (not s.missing and held[0][0].at < s.at)):
            first, of_first = held.pop(0)
            if last is None or first.at > last:
                last = first.at
                yield of_first
        if s.missing:
            held.append((s, of))
            held.sort(key=lambda other: other[0].at)
            continue
        if last is None or s.at > last:
            last = s.at
            yield of
    for s, of in held:
        if last is None or s.at > last:
            last = s.at
            yield of


def _not_left_out(
    plan_: Plan, clock: _Clock, low: datetime, low_at: int, calendar: Calendar
) -> Iterator[tuple[Start, date]]:
    """Yield the starts that a calendar does not leave out, with the day on which they fire. Ends where it leaves out
    very many in a row: a rule that names days off alone."""
    in_a_row = 0
    while in_a_row < MOST_LEFT_OUT:
        for s in _in_order((s, s) for s in _raw(plan_, clock, low, low_at)):
            there = calendar.moved(s.wall.date())
            if there is not None:
                in_a_row = 0
                yield s, there
                continue
            in_a_row += 1
            if in_a_row % _LEFT_OUT_AT_ONCE == 0:
                # Many a day: on to the next one, without looking at each of them.
                low = datetime.combine(s.wall.date() + timedelta(days=1), datetime.min.time())
                low_at = clock.place(low, "").at
                break
        else:
            return


def _moved_by(calendar: Calendar, clock: _Clock, found: Iterable[tuple[Start, date]]) -> Iterator[Start]:
    """Let days off move starts. The day that a start is moved to never comes before that of an earlier start, so what
    fires on one day is put in order and passed on."""
    group: dict[int, Start] = {}
    day = date.min
    for s, there in found:
        if there > day:
            yield from (group[at] for at in sorted(group))
            group, day = {}, there
        new = _on_day(clock, s, there, calendar)
        # Of two that fall together the one stays that was not moved.
        if new.at not in group or new.wall == s.wall:
            group[new.at] = new
    yield from (group[at] for at in sorted(group))


def _on_day(clock: _Clock, s: Start, there: date, calendar: Calendar) -> Start:
    if there == s.wall.date():
        return s
    placed = clock.place(datetime.combine(there, s.wall.time()), s.id)
    return replace(placed, note=f"moved from {s.wall.date()}: {calendar.why_off(s.wall.date())}")


# -- firings -----------------------------------------------------------------------------------------------------------


def _firings_of(plan_: Plan, clock: _Clock, offset: Offset, from_ms: int, rules: TimeRules) -> Iterator[Firing]:
    """Yield the firings of one offset from an instant on, in order."""
    at = from_ms + offset.seconds * 1000
    low = clock.first_wall(at) + timedelta(days=offset.days)
    if plan_.at_hour:
        low -= timedelta(hours=rules.all_day_hour)
        at -= _DAY_MS + rules.all_day_hour * 3_600_000
    if offset.days:
        at = clock.place(low, "").at - _DAY_MS
    if plan_.all_day:
        low = datetime.combine(low.date(), datetime.min.time())
    found = starts(plan_, clock, low, at, rules)
    if not offset.days and not plan_.at_hour:
        for s in found:
            if s.at - offset.seconds * 1000 >= from_ms:
                yield _fire(plan_, clock, s, offset, rules)[0]
        return
    # Another day's clocks may jump where those of the start do not.
    for fired in _in_order((there, fired) for fired, there in (_fire(plan_, clock, s, offset, rules) for s in found)):
        if fired.due_at >= from_ms:
            yield fired


def _fire(plan_: Plan, clock: _Clock, s: Start, offset: Offset, rules: TimeRules) -> tuple[Firing, Start]:
    """Return the firing of a start at an offset, and where on the clock its days lead."""
    there = s
    if plan_.at_hour:
        there = clock.place(s.wall + timedelta(hours=rules.all_day_hour), s.id)
    elif offset.days:
        there = clock.place(s.wall - timedelta(days=offset.days), s.id)
    start_at = there.at if plan_.at_hour else s.at
    # A calendar that somebody has taken away must not hold its reminders back.
    missing = f"calendar {plan_.calendar} is not configured" if plan_.calendar not in ("", *rules.calendars) else ""
    notes = [note for note in (s.note if s.note != there.note else "", there.note, missing) if note]
    due_at = there.at - offset.seconds * 1000
    made = Firing(s.id, offset.id, ids.occurrence_id(s.id, offset.id), due_at, start_at, "; ".join(notes))
    return made, there
