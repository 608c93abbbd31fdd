"""``recurrence``: how fast the next firing of a rule is worked out, zone and all, beside python-dateutil without zones.

Distinct reminders, each with a start of its own within the last month, one question each: when next? Ours reads the
definition anew for each (as a worker does for a row that it has not seen lately) and places it on the clocks of a zone.
dateutil is given rules that were read before, with the naive local time: the best that it can do. croniter answers for
the cron expressions, on the clocks of the zone. CPU time of one core; no broker is used.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from croniter import croniter  # type: ignore[import-untyped]
from dateutil.rrule import rrulestr

from bench.figures import Figure, median, quantile, spread
from bench.stage import Kafka
from schemas.records import Definition, ReminderEvent
from schemas.zones import zone
from tables import admission, crontab, recurrence, schedule

#: What reminders are like, most of them first.
RULES = (
    "FREQ=DAILY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2",
    "FREQ=MONTHLY;BYMONTHDAY=-1",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=YEARLY",
    "FREQ=HOURLY;INTERVAL=8",
)
CRONS = ("0 9 * * *", "0 9 * * MON-FRI", "*/15 8-18 * * *", "0 7 1 * *")
#: The dearest that intake lets pass.
DEAR = (
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=DAILY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=3;BYMINUTE=7",
    "FREQ=WEEKLY;COUNT=10000;BYDAY=MO",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,10;BYMINUTE=0,10,20,30,40,50;BYSETPOS=-1,1,7",
)
ZONE = "America/New_York"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TARGET = 0.5
MEDIAN_MS, WORST_MS = 1.0, 50.0


def starts(count: int) -> list[datetime]:
    """Return distinct local times of the month before NOW."""
    first = NOW.replace(tzinfo=None) - timedelta(days=30)
    return [first + timedelta(minutes=n * 43_000 // count, seconds=n % 60) for n in range(count)]


def timed(ask: Callable[[], object], count: int) -> float:
    """Return how many questions a second of CPU time answers."""
    began = time.thread_time()
    ask()
    return count / (time.thread_time() - began)


def forget() -> None:
    """Empty what is kept of rules: each take begins as a worker does."""
    for kept in (
        schedule.plan,
        recurrence.parse,
        recurrence.series,
        recurrence.last_of_count,
        recurrence._last_elapsed,
        recurrence._days_of_year,
        recurrence._days_of_kind,
        recurrence._changes,
        crontab.check,
    ):
        kept.cache_clear()


def against_dateutil(count: int) -> tuple[float, float]:
    """Return questions a second of ours and of dateutil's."""
    now_ms = int(NOW.timestamp() * 1000)
    walls = starts(count)
    ours = [
        Definition(local=wall.isoformat(timespec="seconds"), zone=ZONE, rrule=rule) for rule in RULES for wall in walls
    ]
    theirs = [rrulestr(rule, dtstart=wall) for rule in RULES for wall in walls]
    local = NOW.astimezone(zone(ZONE)).replace(tzinfo=None)
    forget()
    return (
        timed(lambda: [schedule.next_firing(d, ZONE, now_ms) for d in ours], len(ours)),
        timed(lambda: [rule.after(local) for rule in theirs], len(theirs)),
    )


def against_croniter(count: int) -> tuple[float, float]:
    """Return questions a second of ours and of croniter's, on the clocks of a zone and read anew each time."""
    now_ms = int(NOW.timestamp() * 1000)
    ours = [Definition(zone=ZONE, cron=cron) for cron in CRONS] * count
    there = NOW.astimezone(zone(ZONE))
    forget()
    return (
        timed(lambda: [schedule.next_firing(d, ZONE, now_ms) for d in ours], len(ours)),
        timed(lambda: [croniter(d.cron, there).get_next(datetime) for d in ours], len(ours)),
    )


def each(rules: Sequence[str], calls: int, *, cold: bool) -> list[float]:
    """Return the ms that each of many questions took, one after the other."""
    found = []
    for rule in rules:
        d = Definition(local="2020-01-06T09:00", zone=ZONE, rrule=rule)
        after = int(NOW.timestamp() * 1000)
        for _ in range(calls):
            if cold:
                forget()
            began = time.thread_time()
            firing = schedule.next_firing(d, ZONE, after)
            found.append((time.thread_time() - began) * 1000)
            if firing is None:
                break
            after = firing.due_at
    return found


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    # In a thread, for the loop has clients of Kafka that must not starve; what is taken is that thread's CPU time.
    return await asyncio.to_thread(measure, quick=quick, takes=takes)


def measure(*, quick: bool, takes: int) -> list[Figure]:
    """Take the figures."""
    count = 100 if quick else 2000
    rules = [against_dateutil(count) for _ in range(takes)]
    crons = [against_croniter(count) for _ in range(takes)]
    ratios, cron_ratios = ([ours / theirs for ours, theirs in taken] for taken in (rules, crons))
    usual = each(RULES, 20 if quick else 300, cold=False)
    dear = each(DEAR, 3 if quick else 20, cold=True)
    refused = [rule for rule in DEAR if admission.times_fault(event(rule)) is not None]
    return [
        Figure(
            "recurrence",
            "next firing of a rule with its zone, against python-dateutil without",
            f"{median(ratios):.2f}× ({spread(ratios, '.2f')}); {median([a for a, _ in rules]):,.0f} against "
            f"{median([b for _, b in rules]):,.0f} a second",
            f"≥ {TARGET}×",
            median(ratios) >= TARGET,
            {"ours": [a for a, _ in rules], "dateutil": [b for _, b in rules]},
        ),
        Figure(
            "recurrence",
            "next firing of a cron expression, against croniter",
            f"{median(cron_ratios):.2f}× ({spread(cron_ratios, '.2f')}); {median([a for a, _ in crons]):,.0f} against "
            f"{median([b for _, b in crons]):,.0f} a second",
            "",
            None,
            {"ours": [a for a, _ in crons], "croniter": [b for _, b in crons]},
        ),
        Figure(
            "recurrence",
            "next firing of usual rules, median; of the dearest that are accepted, with nothing kept, worst",
            f"{median(usual):.3f} ms (p99 {quantile(usual, 0.99):.3f}); {max(dear):.1f} ms",
            f"≤ {MEDIAN_MS:g} ms; ≤ {WORST_MS:g} ms",
            median(usual) <= MEDIAN_MS and max(dear) <= WORST_MS and not refused,
            {"usual_ms": list(islice(usual, 200)), "dear_ms": dear},
        ),
    ]


def event(rule: str) -> ReminderEvent:
    """Return a reminder with a rule."""
    return ReminderEvent("r/1", "anna", "2020-01-06T09:00", ZONE, "x", rrule=rule)
