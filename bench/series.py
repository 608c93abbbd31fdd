"""``series``: 100,000 recurring reminders of usual rules, in several zones, come due within one minute; how late each
is claimed, and how late it stands on the changelog with its next time, by the broker's clock on arrival.

The starts lie up to a year back, so each next time is worked out of the rule. Core works alone: ``bench.answerer``
stands for delivery and says at once that the provider took the message, since the series goes on with that answer.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agents.publisher import partition_of
from bench import load
from bench.figures import Figure, median, quantile
from bench.stage import PARTITIONS, BenchError, Installation, Kafka, until
from schemas import codec
from schemas.names import State
from schemas.records import ReminderEvent, ReminderRow
from schemas.zones import zone
from tables import due as index

COUNT = 100_000
SPAN_MS = 60_000
TARGET_MS = 1000.0
QUIET_S = 5.0
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", "Etc/UTC")
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_SCHEDULED = index.STATE_CODES[State.SCHEDULED]


def recurring(n: int, due: int) -> ReminderEvent:
    """Return the ``n``-th reminder, of one of eight usual rules, that fires at ``due`` (a whole second) and then in an
    hour at the earliest."""
    name = ZONES[n // 8 % len(ZONES)]
    there = datetime.fromtimestamp(due / 1000, UTC).astimezone(zone(name)).replace(tzinfo=None)
    back = 1 + n // 48 % 50
    day, last = there.day, (there + timedelta(days=1)).day == 1
    match n % 8:
        case 0:
            rule, start = "FREQ=DAILY", there - timedelta(days=7 * back)
        case 1:
            others = ",".join(_DAYS[(there.weekday() + step) % 7] for step in (0, 2, 4))
            rule, start = f"FREQ=WEEKLY;BYDAY={others}", there - timedelta(days=7 * back)
        case 2:
            rule, start = "FREQ=WEEKLY;INTERVAL=2", there - timedelta(days=14 * (1 + back % 25))
        case 3:
            rule = f"FREQ=MONTHLY;BYMONTHDAY={-1 if last else day}"
            start = there - timedelta(days=7 * back)
        case 4:
            rule, start = (
                f"FREQ=MONTHLY;BYDAY={(day - 1) // 7 + 1}{_DAYS[there.weekday()]}",
                there - timedelta(days=350),
            )
        case 5:
            rule, start = "FREQ=DAILY;INTERVAL=3", there - timedelta(days=3 * back)
        case 6:
            rule = f"FREQ=YEARLY;BYMONTH={there.month};BYMONTHDAY={day}"
            start = there - timedelta(days=7 * back)
        case _:
            # Hours elapse: in UTC no start of the past is one that was shown twice.
            name, start = "Etc/UTC", datetime.fromtimestamp(due / 1000, UTC).replace(tzinfo=None)
            rule, start = "FREQ=HOURLY;INTERVAL=8", start - timedelta(hours=8 * back)
    made = load.event(n, due)
    return replace(made, at=None, local=start.isoformat(timespec="seconds"), zone=name, rrule=rule)


def _events(count: int, due: int) -> Iterator[tuple[int, bytes, bytes]]:
    for n in range(count):
        event = recurring(n, due + n * 7919 % SPAN_MS // 1000 * 1000)
        key = event.reminder_id.encode()
        yield partition_of(key, PARTITIONS), key, codec.encode(event)


def _late(records: list[Any], begins: int) -> tuple[list[float], list[float]]:
    """Return how late each reminder was claimed, and went on to its next time, in ms."""
    dues: dict[bytes, int] = {}
    claimed: dict[bytes, float] = {}
    went_on: dict[bytes, float] = {}
    for r in records:
        head = index.HEADER.unpack_from(r.value)
        if head[1] == index.SENDING and r.key not in claimed:
            row = codec.decode(ReminderRow, r.value[index.HEADER.size :])
            if row.open is None or not begins <= row.open.due_at < begins + SPAN_MS:
                raise BenchError("a reminder was claimed at another time than its rule says")
            dues[r.key] = row.open.due_at
            claimed[r.key] = r.timestamp - row.open.due_at
        elif head[1] == _SCHEDULED and r.key in claimed and r.key not in went_on:
            if head[4] <= dues[r.key]:
                raise BenchError("a series went on to a time that is not later")
            went_on[r.key] = r.timestamp - dues[r.key]
    return list(claimed.values()), list(went_on.values())


async def _take(kafka: Kafka, home: Path, count: int) -> tuple[list[float], list[float], float, float]:
    """Return how late each was claimed and went on, in ms, and core's CPU time an accepted event and a firing, in
    µs."""
    place = Installation(kafka, home)
    await place.create()
    names = place.names
    await kafka.stamp_on_arrival(names.reminders_changelog)
    core = place.start()
    place.start("-m", "bench.answerer", kafka.bootstrap, names.requests, names.outcomes)

    async def accepted(rows: int) -> bool:
        return await kafka.end(names.reminders_changelog) >= rows

    # One that is far off shows that the worker is at work.
    await kafka.write(names.reminders, [load.one(count, (int(time.time()) + 86_400) * 1000)])
    await until(core, lambda: accepted(1), 120, "the first row on the changelog", every_s=0.2)
    # Accepted well before they are due, else intake is measured as well.
    begins = (int(time.time()) + 15 + count // 500) * 1000
    spent = core.cpu_s()
    await kafka.write(names.reminders, _events(count, begins))

    await until(core, lambda: accepted(count + 1), 300, "all rows on the changelog", every_s=0.2)
    if (left := begins / 1000 - time.time()) < QUIET_S:
        raise BenchError(f"events were accepted only {left:.1f} s before they were due; the machine is too busy")
    intake = (core.cpu_s() - spent) / count * 1e6
    rows = await kafka.ends([names.reminders_changelog])
    await asyncio.sleep(max(0.0, begins / 1000 - time.time()))
    spent = core.cpu_s()
    await until(core, lambda: accepted(3 * count + 1), 300, "all reminders at their next time", every_s=1.0)
    firing = (core.cpu_s() - spent) / count * 1e6
    claimed, went_on = _late(await kafka.records(rows), begins)
    if len(claimed) != count or len(went_on) != count:
        raise BenchError(f"of {count}, {len(claimed)} were claimed and {len(went_on)} went on")
    await place.delete()
    return claimed, went_on, intake, firing


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    count = 6000 if quick else COUNT
    taken = [await _take(kafka, home, count) for _ in range(takes)]
    figures = []
    lates = {"claimed": [take[0] for take in taken], "at their next time": [take[1] for take in taken]}
    for what, late in lates.items():
        p50, p99, most = (median([quantile(ms, part) for ms in late]) / 1000 for part in (0.5, 0.99, 1.0))
        figures.append(
            Figure(
                "series",
                f"{count:,} recurring reminders due within a minute, until {what}",
                f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {most:.2f} s; "
                f"{median([take[2] for take in taken]):.0f} µs of core an event, "
                f"{median([take[3] for take in taken]):.0f} µs a firing",
                "p99 ≤ 1.0 s",
                p99 * 1000 <= TARGET_MS,
                {"p99_ms": [quantile(ms, 0.99) for ms in late], "p50_ms": [quantile(ms, 0.5) for ms in late]},
            )
        )
    return figures
