"""``recovery`` and ``memory``: a core worker with a million reminders pending, of which only the changelog exists.

A worker is ready when it has answered an event: one that lies in the topic before it starts, so that nothing else needs
to be believed. Time runs from the start of its process.
"""

import asyncio
import time
from pathlib import Path

from bench import load
from bench.figures import Figure, median, spread
from bench.stage import Installation, Kafka, Process, until

RECOVERY_S = 20.0
MEMORY_MIB = 300.0
#: Memory is looked at this long after the worker was ready, in seconds.
SETTLED_S = 5.0


async def _ready(kafka: Kafka, place: Installation, probe: int) -> tuple[Process, float]:
    """Start a worker; return it with how long it took to be ready."""
    names = place.names
    before = await kafka.end(names.audit)
    await kafka.write(names.reminders, [_probe(probe)])
    process = place.start()

    async def answered() -> bool:
        return await kafka.end(names.audit) > before

    await until(process, answered, 300, "the worker ready", every_s=0.05)
    return process, time.time() - process.began


def _probe(number: int) -> tuple[int, bytes, bytes]:
    return load.one(10_000_000 + number, int(time.time() * 1000) + 365 * 24 * load.HOUR_MS)


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    count = 50_000 if quick else 1_000_000
    place = Installation(kafka, home)
    await place.create()
    changelog = place.names.reminders_changelog
    began = time.perf_counter()
    await load.write_rows(kafka.bootstrap, changelog, count, int(time.time() * 1000))
    size = len(load.row(count // 2, int(time.time() * 1000) + load.HOUR_MS, int(time.time() * 1000)))
    built = time.perf_counter() - began
    empty: list[float] = []
    again: list[float] = []
    cpu: list[float] = []
    recovered: list[dict[str, float]] = []
    restarted: list[dict[str, float]] = []
    for take in range(takes):
        place.end()
        place.folder.mkdir(parents=True)
        process, seconds = await _ready(kafka, place, 2 * take)
        empty.append(seconds)
        cpu.append(process.cpu_s())
        await asyncio.sleep(SETTLED_S)
        recovered.append(process.memory())
        process.stop()
        place.running.clear()
        process, seconds = await _ready(kafka, place, 2 * take + 1)
        again.append(seconds)
        await asyncio.sleep(SETTLED_S)
        restarted.append(process.memory())
        process.stop()
    await place.delete()
    ready = median(empty)
    figures = [
        Figure(
            "recovery",
            f"{count:,} rows of {size} B from an empty disk, until ready",
            f"{ready:.1f} s ({spread(empty, '.1f')}), {median(cpu):.0f} s of it CPU",
            "≤ 20 s",
            ready <= RECOVERY_S,
            {"ready_s": empty, "cpu_s": cpu, "built_s": round(built)},
        ),
        Figure(
            "recovery", "start with its data in place, until ready", f"{median(again):.1f} s", more={"ready_s": again}
        ),
    ]
    for what, memory in (("after that recovery", recovered), ("after a restart", restarted)):
        rss = median([found["VmRSS"] for found in memory])
        peak = median([found["VmHWM"] for found in memory])
        figures.append(
            Figure(
                "memory",
                f"core worker with {count:,} pending, {what}",
                f"{rss:.0f} MiB, {peak:.0f} at its peak",
                "≤ 300 MiB",
                rss <= MEMORY_MIB,
                {"takes": memory},
            )
        )
    return figures
