"""``due``: many reminders due at one second; how late each is claimed (its SENDING row on the changelog) and asked for
(its request on ``notifications.requests``), by the broker's clock on arrival.

Each partition has as many as ADMISSION_WINDOW admits, so that what is measured is the timer and not the window: nobody
answers here.
"""

import asyncio
import time
from pathlib import Path

from bench import load
from bench.figures import Figure, median, quantile
from bench.stage import PARTITIONS, BenchError, Installation, Kafka, until
from schemas import codec
from schemas.records import DeliveryRequest
from tables import due as index

WINDOW = 2500
TARGET_MS = 500.0
QUIET_S = 3.0


async def _take(kafka: Kafka, home: Path, per_partition: int) -> tuple[list[float], list[float]]:
    """Return how late each was claimed, and asked for, in ms."""
    count = per_partition * PARTITIONS
    place = Installation(kafka, home, {"ADMISSION_WINDOW": str(WINDOW), "LEASE_S": "600"})
    await place.create()
    names = place.names
    await kafka.stamp_on_arrival(names.reminders_changelog, names.requests)
    process = place.start()
    # Accepted well before they are due, else intake is measured as well.
    due = (int(time.time()) + 15 + count // 1500) * 1000
    await kafka.write(names.reminders, load.balanced(per_partition, due))

    async def accepted() -> bool:
        return await kafka.end(names.reminders_changelog) >= count

    await until(process, accepted, 120, "all rows on the changelog", every_s=0.1)
    if (left := due / 1000 - time.time()) < QUIET_S:
        raise BenchError(f"events were accepted only {left:.1f} s before they were due; the machine is too busy")
    rows = await kafka.ends([names.reminders_changelog])
    requests = await kafka.ends([names.requests])
    await asyncio.sleep(max(0.0, due / 1000 - time.time()))

    async def asked() -> bool:
        return await kafka.end(names.reminders_changelog) >= 2 * count

    await until(process, asked, 60, "all reminders claimed", every_s=0.5)
    claimed = [r.timestamp - due for r in await kafka.records(rows) if r.value[1] == index.SENDING]
    said = [
        (codec.decode(DeliveryRequest, r.value).reminder_id, r.timestamp - due) for r in await kafka.records(requests)
    ]
    if len(claimed) != count or len({rid for rid, _ in said}) != count:
        raise BenchError(f"of {count}, {len(claimed)} were claimed and {len(said)} asked for")
    process.stop()
    await place.delete()
    return [float(ms) for ms in claimed], [float(ms) for _, ms in said]


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    per_partition = 250 if quick else WINDOW
    taken = [await _take(kafka, home, per_partition) for _ in range(takes)]
    count = per_partition * PARTITIONS
    figures = []
    for place, what in enumerate(("claimed", "on notifications.requests")):
        late = [take[place] for take in taken]
        p50, p99, most = (median([quantile(ms, part) for ms in late]) / 1000 for part in (0.5, 0.99, 1.0))
        figures.append(
            Figure(
                "due",
                f"{count:,} due at one second, until {what}",
                f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {most:.2f} s",
                "p99 ≤ 0.5 s",
                p99 * 1000 <= TARGET_MS,
                {"p99_ms": [quantile(ms, 0.99) for ms in late], "p50_ms": [quantile(ms, 0.5) for ms in late]},
            )
        )
    return figures
