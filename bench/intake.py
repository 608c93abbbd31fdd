"""``intake``: how fast events become durable, against a plain Faust agent on the same events.

The events lie in the topic before a worker starts. Counted from the first changelog record that is seen until every row
is on the changelog and every event is committed; what was there at the first look is left out.
"""

import time
from dataclasses import dataclass
from typing import Any

from bench import load
from bench.figures import Figure, median, spread
from bench.stage import Installation, Kafka, Process, until

DAY_MS = 24 * load.HOUR_MS


@dataclass(frozen=True, slots=True)
class Take:
    """One measurement."""

    rate: float
    logged_rate: float
    cpu_us: float


async def _measure(kafka: Kafka, process: Process, changelog: str, group: str, topic: str, count: int) -> Take:
    async def begun() -> int:
        try:
            return await kafka.end(changelog)
        except Exception:  # noqa: BLE001  # the plain application has not created its changelog yet
            return 0

    first = await until(process, begun, 60, "the first row on the changelog")
    began, cpu = time.perf_counter(), process.cpu_s()

    async def logged() -> bool:
        return await kafka.end(changelog) >= count

    await until(process, logged, 300, "all rows on the changelog")
    there = time.perf_counter()

    async def committed() -> bool:
        return await kafka.committed(group, topic) >= count

    await until(process, committed, 60, "all events committed")
    done = time.perf_counter()
    left = count - first
    return Take(left / (done - began), left / (there - began), (process.cpu_s() - cpu) / left * 1e6)


async def _ours(kafka: Kafka, place: Installation, count: int) -> Take:
    names = place.names
    process = place.start()
    take = await _measure(kafka, process, names.reminders_changelog, names.core_app, names.reminders, count)
    if rejected := await kafka.end(names.dlq):
        raise RuntimeError(f"{rejected} events were rejected")
    process.stop()
    return take


async def _plain(kafka: Kafka, place: Installation, count: int) -> Take:
    app_id = f"plain-{place.namespace}"
    environ = place.environ
    data = place.folder / "plain" / "data"
    process = place.start(
        "-m", "bench.plain_app", kafka.bootstrap, app_id, place.names.reminders, str(data), environ["WEB_PORT"]
    )
    changelog = f"{app_id}-reminders-changelog"
    take = await _measure(kafka, process, changelog, app_id, place.names.reminders, count)
    process.stop()
    return take


async def run(kafka: Kafka, home: Any, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    count = 10_000 if quick else 40_000
    ours: list[Take] = []
    linked: list[Take] = []
    plain: list[Take] = []
    for recipient in [False] * takes + ([] if quick else [True]):
        place = Installation(kafka, home)
        await place.create()
        due = int(time.time() * 1000) + DAY_MS
        await kafka.write(place.names.reminders, load.events(count, due, recipient=recipient))
        (linked if recipient else ours).append(await _ours(kafka, place, count))
        if not recipient:
            plain.append(await _plain(kafka, place, count))
        await place.delete()
    ratios = [a.rate / b.rate for a, b in zip(ours, plain, strict=True)]
    ratio = median(ratios)
    figures = [
        Figure(
            "intake",
            "durable intake against a plain Faust agent",
            f"{ratio:.1f}× ({spread(ratios, '.1f')})",
            "≥ 5×",
            ratio >= 5,
            {"ratios": ratios, "events": count},
        ),
        _figure("one core worker: row and audit entry", ours),
    ]
    if linked:
        figures.append(_figure("the same with a known recipient: a link record more", linked))
    return [*figures, _figure("plain Faust agent: table[key] = record", plain)]


def _figure(what: str, takes: list[Take]) -> Figure:
    rates = [take.rate for take in takes]
    cpu = median([take.cpu_us for take in takes])
    shown = f"{median(rates):,.0f}/s ({spread(rates, ',.0f')}), {cpu:.0f} µs CPU an event"
    more = {"rates": rates, "until_logged": [t.logged_rate for t in takes], "cpu_us": [t.cpu_us for t in takes]}
    return Figure("intake", what, shown, more=more)
