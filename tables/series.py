"""What a series goes on with: which firings are left out and why, which opens, and when the one after it comes. Pure.

A series is every definition whose firings come from a rule, further dates, offsets or a calendar, be it one firing or
many. It goes on from the last firing that has ended (``told``), placed on the clock anew, so that a flight or new tz
data neither repeat a start nor lose one, and never from before its last change (``since``). docs/adr has the reasons.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import assert_never

from schemas import ids
from schemas.names import Missed, Overlap
from schemas.quick import replace
from schemas.records import Definition, MovedStart
from tables import offsets, schedule
from tables.schedule import Firing, TimeRules

#: What is later than this was missed. Less is the ordinary delay of a restart, and is sent whatever the policy.
LATE_MS = 60_000
#: The most left-out firings that are recorded one by one at a time; those between are named by their last.
MOST_RECORDED = 100
MISSED, PAUSED, TOO_LATE, OFFSET_PAST = "missed", "paused", "too_late", "offset_past"
#: The most firings that are looked through for offsets already past.
_MOST_OFFSETS = 200
_DAY_MS = 86_400_000


def is_series(d: Definition) -> bool:
    """Return whether a definition's firings are worked out by its rules, not read off its start."""
    return bool(d.rrule or d.cron or d.rdates or d.before or d.exclude or d.calendar)


def same_times(a: Definition, b: Definition) -> bool:
    """Return whether two definitions fire at the same times."""
    return (
        a.local == b.local
        and a.at == b.at
        and a.zone == b.zone
        and a.rrule == b.rrule
        and a.cron == b.cron
        and a.exclude == b.exclude
        and a.rdates == b.rdates
        and a.before == b.before
        and a.calendar == b.calendar
    )


def zone_of(d: Definition, followed: str) -> str:
    """Return the zone on whose clock a definition fires; empty: the recipient's, which is not known yet."""
    return d.zone or ("Etc/UTC" if d.at is not None else followed)


def missed_rule(d: Definition) -> Missed:
    """Return what becomes of what was missed."""
    rule = d.policy.missed if d.policy is not None else Missed.LATEST
    return Missed.LATEST if rule is Missed.UNKNOWN else rule


def overlap_rule(d: Definition) -> Overlap:
    """Return what becomes of an occurrence that is still open when the next one comes due."""
    rule = d.policy.overlap if d.policy is not None else Overlap.SUPERSEDE
    return Overlap.SUPERSEDE if rule is Overlap.UNKNOWN else rule


def start_of(occurrence: str) -> str:
    """Return the start that an occurrence is of."""
    return occurrence.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a series stands. ``told``: its last ended firing and when that was, "" and 0 for none. ``since``: the
    instant from which on its firings count. ``moves``: starts that a person cancelled or moved."""

    told: str = ""
    told_at: int = 0
    since: int = 0
    moves: tuple[MovedStart, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """What a series goes on with. ``left_out``: firings that are not sent, with the reason of each. ``between``: the
    first of further ones, which are too many to be named; they end before what opens. ``opens`` None: the series has
    ended."""

    left_out: tuple[tuple[Firing, str], ...] = ()
    between: Firing | None = None
    opens: Firing | None = None
    follows: Firing | None = None


def known(d: Definition, rules: TimeRules) -> Definition:
    """Return a definition without its calendar where that is configured no more: it fires on days off, too."""
    return replace(d, calendar="") if d.calendar and d.calendar not in rules.calendars else d


def placed(d: Definition, zone: str, occurrence: str, rules: TimeRules) -> Firing | None:
    """Return the firing of an id on the clock of now, whether the rule still names it or not."""
    return schedule.firing(known(d, rules), zone, occurrence, rules)


def told_until(d: Definition, zone: str, place: Place, rules: TimeRules) -> int:
    """Return the instant of the last ended firing on the clock of now; what comes later has not been told."""
    if place.told:
        there = placed(d, zone, place.told, rules)
        if there is not None:
            return there.due_at
    return place.told_at


def stream(d: Definition, zone: str, place: Place, from_ms: int, rules: TimeRules) -> Iterator[Firing]:
    """Yield the firings from an instant on, without the starts that were cancelled, with those that were moved."""
    if not place.moves:
        return schedule.firings(known(d, rules), zone, from_ms, rules)
    gone = {move.start for move in place.moves}
    regular = (f for f in schedule.firings(known(d, rules), zone, from_ms, rules) if f.start_id not in gone)
    there = sorted(
        (
            Firing(move.start, offsets.NONE.id, ids.occurrence_id(move.start), move.to, move.to, "moved by hand")
            for move in place.moves
            if move.to
        ),
        key=lambda f: f.due_at,
    )
    return heapq.merge(regular, there, key=lambda f: f.due_at)


def begins(d: Definition, zone: str, place: Place, rules: TimeRules) -> int:
    """Return the instant from which on firings count."""
    return max(told_until(d, zone, place, rules) + 1, place.since)


def named(d: Definition, zone: str, occurrence: str, place: Place, rules: TimeRules) -> Firing | None:
    """Return the firing of an id on the clock of now, if the definition names it."""
    start = start_of(occurrence)
    moved = next((move for move in place.moves if move.start == start), None)
    if moved is not None:
        return Firing(start, offsets.NONE.id, occurrence, moved.to, moved.to) if moved.to else None
    there = placed(d, zone, occurrence, rules)
    if there is None:
        return None
    found = next(schedule.firings(known(d, rules), zone, there.due_at, rules), None)
    return there if found is not None and found.occurrence_id == occurrence else None


def to_come(d: Definition, zone: str, start: str, now: int, place: Place, rules: TimeRules) -> Firing | None:
    """Return the first firing of a start that is still to come; None where the definition has none."""
    given = tuple(dict.fromkeys(offsets.parse(text).id for text in d.before)) or (offsets.NONE.id,)
    found = (named(d, zone, ids.occurrence_id(start, offset), place, rules) for offset in given)
    return min((f for f in found if f is not None and f.due_at > now), key=lambda f: f.due_at, default=None)


def goes_on(
    d: Definition, zone: str, place: Place, from_ms: int, now: int, rules: TimeRules, *, latest_ms: int, resting: bool
) -> Way:
    """Return how a series goes on from an instant.

    ``latest_ms``: how late a firing may be. ``resting``: the reminder is, or was until now, paused: what came due
    meanwhile is not sent. Costs no more than MOST_RECORDED firings and the rule's own search, however long ago the
    instant is.
    """
    rule = missed_rule(d)
    left_out: list[tuple[Firing, str]] = []
    between: Firing | None = None
    coming = stream(d, zone, place, from_ms, rules)
    f, after = next(coming, None), next(coming, None)
    while f is not None and (why := _why(f, after, now, rule, latest_ms=latest_ms, resting=resting)):
        if len(left_out) >= MOST_RECORDED and between is None:
            leap = _leap(d, zone, f, rule, now, rules, latest_ms=latest_ms, resting=resting)
            if leap > f.due_at:
                between = f
                coming = stream(d, zone, place, leap, rules)
                f, after = next(coming, None), next(coming, None)
                continue
        left_out.append((f, why))
        f, after = after, next(coming, None)
    return Way(tuple(left_out), between, f, after if f is not None else None)


def _why(f: Firing, after: Firing | None, now: int, rule: Missed, *, latest_ms: int, resting: bool) -> str:
    """Return why a firing is not sent, "" if it is."""
    if f.due_at > now:
        return ""
    if resting:
        return PAUSED
    if after is not None and after.due_at <= now and rule is Missed.LATEST:
        return MISSED
    if f.due_at + latest_ms <= now:
        return TOO_LATE
    return MISSED if rule is Missed.SKIP and f.due_at < now - LATE_MS else ""


def _leap(
    d: Definition, zone: str, f: Firing, rule: Missed, now: int, rules: TimeRules, *, latest_ms: int, resting: bool
) -> int:
    """Return the instant before which nothing from a firing on is sent."""
    if resting:
        return now + 1
    match rule:
        case Missed.LATEST | Missed.UNKNOWN:
            latest = schedule.last_firing(known(d, rules), zone, f.due_at, now, rules)
            return latest.due_at if latest is not None else now + 1
        case Missed.SKIP:
            return now - LATE_MS
        case Missed.ALL:
            return now - latest_ms + 1
        case other:
            assert_never(other)


def offsets_past(
    d: Definition, zone: str, place: Place, now: int, rules: TimeRules
) -> tuple[tuple[Firing, ...], Firing | None]:
    """Return the offsets of starts still to come that are past as their event arrives, and which of them fires at once:
    the last one of the first start, where all of its offsets are past and none has been told."""
    reach = max((o.days * 86_400 + o.seconds for o in map(offsets.parse, d.before)), default=0) * 1000
    if reach <= 0:
        return (), None
    low = max(told_until(d, zone, place, rules) + 1, place.since - reach - _DAY_MS)
    coming = takewhile(lambda f: f.due_at < place.since, stream(d, zone, place, low, rules))
    past = [f for f in islice(coming, _MOST_OFFSETS) if f.start_at > now]
    if not past:
        return (), None
    first = min(past, key=lambda f: f.start_at)
    told = start_of(place.told) == first.start_id
    if told or to_come(d, zone, first.start_id, place.since - 1, place, rules) is not None:
        return tuple(past), None
    last = [f for f in past if f.start_id == first.start_id][-1]
    return tuple(f for f in past if f is not last), last
