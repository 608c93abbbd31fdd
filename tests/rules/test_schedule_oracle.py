"""Schedules in every zone against an oracle that looks only from instants to wall clocks.

The oracle walks minute by minute through 48 hours before and after a change of clocks, as the tz data list them, and
reads what the clocks show. A sample of all zones and changes is tried: DEEP_CHANGES=5000 in the environment tries more.
"""

import os
import random
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest

from schemas.checks import zone, zone_names
from schemas.records import Definition
from tables import schedule
from tests.effort import times

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AROUND = timedelta(hours=48)
#: How many changes are tried: the same ones each time.
SAMPLE = int(os.environ.get("DEEP_CHANGES", times(100)))


@cache
def transitions(name: str) -> tuple[int, ...]:
    """Return the changes of a zone from 1970 to 2100, in seconds: those listed, and those of two late years."""
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()

    def header(at: int) -> tuple[int, ...]:
        assert data[at : at + 4] == b"TZif"
        return struct.unpack(">6l", data[at + 20 : at + 44])

    ut, std, leap, times, types, chars = header(0)
    second = 44 + times * 5 + types * 6 + chars + leap * 8 + std + ut
    count = header(second)[3]
    listed = struct.unpack(f">{count}q", data[second + 44 : second + 44 + count * 8])
    found = [at for at in listed if at >= 0]
    clock = zone(name)
    assert clock is not None
    for year in (2052, 2100):
        begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        for day in range(begin, begin + 366 * 86_400, 86_400):
            if offset(clock, day) != offset(clock, day + 86_400):
                quarters = range(day, day + 86_400, 900)
                found += [at + 900 for at in quarters if offset(clock, at) != offset(clock, at + 900)]
    return tuple(found)


def offset(clock: ZoneInfo, second: int) -> timedelta | None:
    return datetime.fromtimestamp(second, clock).utcoffset()


def walk(clock: ZoneInfo, about: int) -> list[tuple[datetime, datetime]]:
    """Return every minute about a change with what the clocks show then."""
    begin = EPOCH + timedelta(seconds=about // 60 * 60) - AROUND
    minutes = (begin + MINUTE * n for n in range(int(AROUND * 2 / MINUTE)))
    return [(at, at.astimezone(clock).replace(tzinfo=None, fold=0)) for at in minutes]


def daily(steps: list[tuple[datetime, datetime]], times: set[tuple[int, int]]) -> dict[datetime, datetime]:
    """Return when the clocks show given times for the first time, and for those they skip, when they would have."""
    fired: dict[datetime, datetime] = {}
    seen: set[datetime] = set()
    last = steps[0][1] - MINUTE
    for at, shown in steps:
        skipped = last + MINUTE
        while skipped < shown:
            if (skipped.hour, skipped.minute) in times:
                fired.setdefault(at + (skipped - last - MINUTE), skipped)
            skipped += MINUTE
        if (shown.hour, shown.minute) in times and shown not in seen:
            fired[at] = shown
        seen.add(shown)
        last = shown
    return fired


def cron_fixed(steps: list[tuple[datetime, datetime]], times: set[tuple[int, int]]) -> set[datetime]:
    """Return when cron fires at given times: at the first pass, and right after a jump for those it skips."""
    fired: set[datetime] = set()
    seen: set[datetime] = set()
    last = steps[0][1] - MINUTE
    for at, shown in steps:
        skipped = last + MINUTE
        while skipped < shown:
            if (skipped.hour, skipped.minute) in times:
                fired.add(at)
            skipped += MINUTE
        if (shown.hour, shown.minute) in times and shown not in seen:
            fired.add(at)
        seen.add(shown)
        last = shown
    return fired


def changes() -> Iterator[tuple[str, int]]:
    chosen = random.Random(20_261_125)
    # Half of the sample where clocks do what few do.
    odd = ["Australia/Lord_Howe", "America/Nuuk", "Pacific/Apia", "Africa/Casablanca", "Antarctica/Troll", "Asia/Gaza",
           "Pacific/Kwajalein", "America/Sao_Paulo", "Europe/Dublin", "Asia/Tehran", "America/Scoresbysund",
           "Antarctica/Casey", "Africa/El_Aaiun", "Asia/Pyongyang", "America/St_Johns", "America/Havana"]  # fmt: skip
    names = sorted(zone_names())
    for n in range(SAMPLE):
        while True:
            name = chosen.choice(odd if n % 2 else names)
            if found := transitions(name):
                yield name, chosen.choice(found)
                break


def instants(d: Definition, clock: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    low, high = ms(begin), ms(end)
    found = list(takewhile(lambda f: f.due_at < high, schedule.firings(d, clock, low)))
    assert all(a.due_at < b.due_at for a, b in pairwise(found)), "each later than the last"
    # Asked from anywhere, it is the same series.
    after = low - 1
    for firing in found[:12]:
        assert schedule.next_firing(d, clock, after) == firing
        after = firing.due_at
    return [EPOCH + timedelta(milliseconds=f.due_at) for f in found]


def ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def within(found: Iterable[datetime], begin: datetime, end: datetime) -> list[datetime]:
    return sorted(at for at in found if begin <= at < end)


def series(name: str, times: set[tuple[int, int]], first: datetime) -> Definition:
    """Return a daily series at several times, as RDATEs cannot be without end: one rule for hours and minutes each."""
    hours = ",".join(str(h) for h, _ in sorted(times))
    minutes = ",".join(str(m) for _, m in sorted(times))
    rule = f"FREQ=DAILY;BYHOUR={hours};BYMINUTE={minutes}"
    return Definition(local=first.isoformat(timespec="minutes"), zone=name, rrule=rule)


def product(times: set[tuple[int, int]]) -> set[tuple[int, int]]:
    return {(h, m) for h, _ in times for _, m in times}


def test_every_change_of_clocks() -> None:
    """Daily rules, offsets, rules of minutes and cron, each against the walk, about every change of the sample."""
    tried = 0
    for name, about in changes():
        clock = zone(name)
        assert clock is not None
        chosen = random.Random(f"{name} {about}")
        steps = walk(clock, about)
        # Local times near the jump are the ones that go wrong.
        near = [shown for at, shown in steps if abs((at - EPOCH).total_seconds() - about) <= 7200]
        picked = [*chosen.sample(near, 2), chosen.choice(steps)[1]]
        times = product({(shown.hour, shown.minute) for shown in picked})
        whole_minutes = all(shown.second == 0 for _, shown in steps)
        begin, end = steps[0][0] + timedelta(hours=25), steps[-1][0] - timedelta(hours=1)
        if whole_minutes:
            first = min(shown for _, shown in steps).replace(hour=min(times)[0], minute=min(times)[1]) - 9 * DAY
            fired = daily(steps, times)
            d = series(name, times, first)
            assert instants(d, clock, begin, end) == within(fired, begin, end), (name, about, d)
            check_names(d, clock, fired, begin, end)
            lead = chosen.choice([timedelta(hours=2), timedelta(minutes=75)])
            d = Definition(d.recipient_id, d.local, name, rrule=d.rrule, before=(f"PT{int(lead.total_seconds())}S",))
            expected = within((at - lead for at in fired), begin, end - lead)
            assert instants(d, clock, begin, end - lead) == expected, (name, about, d)
            check_cron(clock, name, times, steps, begin, end)
        check_elapsed(clock, name, chosen, steps, begin, end)
        tried += 1
    assert tried >= SAMPLE


DAY = timedelta(days=1)


def check_names(
    d: Definition, clock: ZoneInfo, fired: dict[datetime, datetime], begin: datetime, end: datetime
) -> None:
    """A firing is named after its local time, and found again by its name."""
    for found in takewhile(lambda f: f.due_at < ms(end), schedule.firings(d, clock, ms(begin))):
        assert found.start_id == fired[EPOCH + timedelta(milliseconds=found.due_at)].isoformat(timespec="minutes")
        assert schedule.firing(d, clock, found.occurrence_id) == found


def check_cron(
    clock: ZoneInfo,
    name: str,
    times: set[tuple[int, int]],
    steps: list[tuple[datetime, datetime]],
    begin: datetime,
    end: datetime,
) -> None:
    minutes, hours = (",".join(str(n) for n in sorted({time[i] for time in times})) for i in (1, 0))
    d = Definition(zone=name, cron=f"{minutes} {hours} * * *")
    assert instants(d, clock, begin, end) == within(cron_fixed(steps, times), begin, end), (name, d)
    counted = {at for at, shown in steps if shown.minute % 20 == 0}
    d = Definition(zone=name, cron="*/20 * * * *")
    assert instants(d, clock, begin, end) == within(counted, begin, end), (name, d)


def check_elapsed(
    clock: ZoneInfo,
    name: str,
    chosen: random.Random,
    steps: list[tuple[datetime, datetime]],
    begin: datetime,
    end: datetime,
) -> None:
    """Rules of hours and minutes: every so many minutes elapsed, where the clocks show an hour that is named."""
    unit, every = chosen.choice([(60, 1), (60, 3), (1, 20), (1, 45), (60, 7)])
    start = next(at for at, shown in steps[chosen.randrange(600) :] if at.astimezone(clock).fold == 0)
    shown = start.astimezone(clock).replace(tzinfo=None)
    hours = sorted({chosen.randrange(24) for _ in range(12)}) if chosen.random() < 0.5 else list(range(24))
    rule = f"FREQ={'HOURLY' if unit == 60 else 'MINUTELY'};INTERVAL={every}"
    if len(hours) < 24:
        rule += f";BYHOUR={','.join(map(str, hours))}"
    if shown.second:
        return
    d = Definition(local=shown.isoformat(timespec="minutes"), zone=name, rrule=rule)
    if schedule.instant(d.local, name) != ms(start):
        return
    fired = {at for at, there in steps if at > start and (at - start) % (MINUTE * unit * every) == timedelta(0)
             and there.hour in hours}  # fmt: skip
    assert instants(d, clock, begin, end) == within({*fired, start}, begin, end), (name, d)


@pytest.mark.parametrize("name", ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"])
def test_days_without_a_change(name: str) -> None:
    """Random days, too, not only those on which the clocks jump."""
    clock = zone(name)
    assert clock is not None
    chosen = random.Random(name)
    for _ in range(3):
        steps = walk(clock, chosen.randrange(0, 4_102_444_800))
        times = product({(chosen.randrange(24), chosen.randrange(60)) for _ in range(3)})
        begin, end = steps[0][0] + timedelta(hours=25), steps[-1][0] - timedelta(hours=1)
        first = steps[0][1].replace(hour=min(times)[0], minute=min(times)[1]) - 40 * DAY
        fired = daily(steps, times)
        assert instants(series(name, times, first), clock, begin, end) == within(fired, begin, end)
