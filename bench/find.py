"""``find``: what it costs to find and claim what is due, with many reminders pending against few.

The service's own timer, unit of work, rules and store, in this process and without a broker (its publisher accepts at
once): CPU alone, so that a ratio of a few percent can be seen. Both tables have been lived in before: a part of
their rows was moved to another time, a part was purged, and round after round of due rows was claimed and moved away
just ahead of what is found next. CPU time of one round, from the timer's look to the rows written.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faust
from prometheus_client import CollectorRegistry

from agents.core import Core, CoreLogic, CoreTopics
from agents.meter import Meter, Stage
from agents.ports import Command, Out
from agents.timer import Timer
from agents.unit_of_work import Units
from bench import load
from bench.figures import Figure, median, spread
from bench.stage import PARTITIONS, Kafka
from channels.retry import RetryPolicy
from schemas.codec import Codec
from schemas.names import MaybeSent
from tables import store as due_store
from tables.store import DueStore

DUE = 500
ROUNDS = 15
TARGET = 1.2
START_MS = 1_800_000_000_000


class _Accepts:
    """A publisher whose broker acknowledges at once."""

    def __init__(self) -> None:
        self.offset = -1

    async def publish(self, records: Iterable[Out]) -> None:
        """Take the emits."""
        list(records)

    async def append(self, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Take changelog records."""
        self.offset += len(list(rows))
        return self.offset


class _Silent:
    async def stage(self, stage: Stage, partition: int, inputs: int) -> None:
        """Do nothing."""


def _core() -> Core:
    topics = CoreTopics("reminders", "outcomes", "receipts", {}, "requests", "audit", "status", "dlq")
    meter = Meter(CollectorRegistry(), process=False)
    # No lease ends while this runs: a round has its own reminders and no others.
    rules = replace(load.RULES, lease_ms=60 * 24 * load.HOUR_MS)
    return Core(topics, PARTITIONS, {}, rules, RetryPolicy(), MaybeSent.HOLD, Codec(), meter, lambda _subject: None)


def make_store(path: Path) -> DueStore:
    """Return an empty store of a table of our own."""
    due_store.register()
    path.mkdir(parents=True)
    app = faust.App(f"find-{path.name}", datadir=str(path), store="due://", broker="kafka://127.0.0.1:1")
    app.conf.tabledir.mkdir(parents=True, exist_ok=True)
    data: Any = app.Table("reminders", partitions=PARTITIONS, key_type=bytes, value_type=bytes).data
    if not isinstance(data, DueStore):
        raise TypeError("the table is not ours")
    return data


def fill(store: DueStore, count: int) -> None:
    """Write rows pending for the month after an hour from START_MS; then move a fifth and purge a tenth of as many."""
    batches: dict[int, dict[bytes, bytes | None]] = {p: {} for p in range(PARTITIONS)}

    def put(partition: int, key: bytes, row: bytes | None) -> None:
        batch = batches[partition]
        batch[key] = row
        if len(batch) >= 2000:
            store.write_rows(partition, batch, None)
            batch.clear()

    for partition, key, row in load.rows(range(count + count // 10), START_MS):
        put(partition, key, row)
    for n in range(0, count, 5):
        partition, key, _ = load.one(n, START_MS)
        put(partition, key, load.row(n, START_MS + 40 * 24 * load.HOUR_MS + n, START_MS))
    for n in range(count, count + count // 10):
        partition, key, _ = load.one(n, START_MS)
        put(partition, key, None)
    for partition, batch in batches.items():
        store.write_rows(partition, batch, None)


class _Table:
    """A filled table with the timer and the workers over it, and a clock that is told the time."""

    def __init__(self, store: DueStore, count: int) -> None:
        self.store = store
        self.count = count
        self.now = START_MS
        self.claimed = 0
        self.units = Units(
            logic=CoreLogic(_core(), {}),
            store=lambda: store,
            changelog="changelog",
            publisher=_Accepts(),  # type: ignore[arg-type]
            fence=lambda _where: None,
            fatal=_raise,
            clock=lambda: self.now,
            observer=_Silent(),
            manage=lambda _backlog: None,
            discard=lambda _message: None,
            current=lambda _message: True,
        )
        self.timer = Timer(
            store=lambda: store,
            give=self.units.give,
            partitions=lambda: range(PARTITIONS),
            clock=lambda: self.now,
            window=1_000_000,
            scanned=lambda: None,
        )
        self.units.written += [self.timer.written, self._count]

    def _count(self, _partition: int, commands: Sequence[Command], _added: Sequence[bytes]) -> None:
        self.claimed += len(commands)

    async def round(self, number: int) -> float:
        """Let DUE reminders come due; return the CPU ms that finding and claiming them took."""
        self.now += 60_000
        rows: dict[int, dict[bytes, bytes | None]] = {}
        for n in range(DUE):
            # Other rows of the table each time, moved from where they stood.
            partition, key, _ = load.one((number * DUE + n) * 3 % self.count, START_MS)
            at = self.now - 1000 + n
            rows.setdefault(partition, {})[key] = load.row((number * DUE + n) * 3 % self.count, at, START_MS)
        due = sum(map(len, rows.values()))
        added = {partition: self.store.write_rows(partition, changed, None) for partition, changed in rows.items()}
        self.claimed = 0
        began = time.process_time()
        for partition, keys in added.items():
            self.timer.written(partition, [], keys)
        while self.claimed < due:  # noqa: ASYNC110  # what is waited for is CPU work in this loop
            await asyncio.sleep(0)
        took = time.process_time() - began
        return took * 1000


def _raise(why: str, exc: BaseException | None) -> None:
    raise RuntimeError(why) from exc


async def _serve(table: _Table) -> list[float]:
    task = asyncio.create_task(table.timer.run())
    try:
        return [await table.round(number) for number in range(ROUNDS)][3:]
    finally:
        task.cancel()
        await table.units.stop()


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    few, many = 10_000, 50_000 if quick else 1_000_000
    tables: list[_Table] = []
    for count in (few, many):
        store = make_store(home / f"find-{count}")
        await asyncio.to_thread(fill, store, count)
        tables.append(_Table(store, count))
    small: list[float] = []
    large: list[float] = []
    for _ in range(takes):
        for table, into in zip(tables, (small, large), strict=True):
            into.append(median(await _serve(table)))
    ratios = [b / a for a, b in zip(small, large, strict=True)]
    ratio = median(ratios)
    return [
        Figure(
            "find",
            f"finding and claiming {DUE} due, {many:,} pending against {few:,}",
            f"{ratio:.2f}× ({spread(ratios, '.2f')}); {median(large):.1f} against {median(small):.1f} ms CPU",
            "≤ 1.2×",
            ratio <= TARGET,
            {"few_ms": small, "many_ms": large},
        )
    ]
