"""``list``: how long the loop stands still while somebody lists among a million reminders, and what a page takes.

The service's own view over its own store, in this process and without a broker, asked over HTTP. A task beside it
wants its turn every millisecond; the CPU time of the loop's thread from one turn to the next is how long the loop was
kept from others (on a machine that others use as well, the wall clock tells of those). One reminder in 50 was given up,
so that what is looked for lies scattered.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import faust
from aiohttp import web
from prometheus_client import CollectorRegistry

from agents.meter import Meter
from app.tokens import Keyring
from app.web.ports import CorePorts, Kept, Outgoing, Reply
from app.web.routing import StoreRows
from app.web.views import attach_core
from app.web.wiring import FAUST_PAGES_OFF
from bench import load
from bench.figures import Figure, median, spread
from bench.find import START_MS, fill, make_store
from bench.stage import PARTITIONS, Kafka
from schemas import codec
from schemas.names import Channel, State
from schemas.quick import replace
from schemas.records import Closed, ReminderRow
from tables import due as index
from tables.store import DueStore

LOOP_MS = 10.0
TRAIL_MS = 100.0
TOKEN = "bench"
EVERY = 50
#: What is asked: the usual page of an operator, one whose rows lie far apart, one for which all must be looked at.
ASKED: tuple[tuple[str, dict[str, str]], ...] = (
    ("all", {}),
    ("FAILED", {"state": "FAILED", "channel": "email", "due_before": "2100-01-01T00:00:00Z"}),
    ("one category that there is not", {"state": "SCHEDULED", "category": "none"}),
    ("one id prefix", {"prefix": "clinic/visit-09"}),
)


class _Alone:
    """One worker that owns everything, and what its views need beside rows."""

    def live(self) -> str:
        return ""

    def ready(self) -> str:
        return ""

    def notices(self) -> Mapping[str, object]:
        return {}

    def details(self) -> Mapping[str, object]:
        return {}

    def owner(self, reminder_id: str) -> str | None:
        return ""

    def owner_of(self, partition: int) -> str | None:
        return ""

    async def forward(self, url: str, headers: Mapping[str, str]) -> Reply:
        raise ConnectionError("there is one worker")

    async def send(self, records: Sequence[Outgoing]) -> list[Kept]:
        return []


def _given_up(count: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield one row in EVERY as it is after it was given up."""
    for n in range(0, count, EVERY):
        partition, key, _ = load.one(n, START_MS)
        raw = load.row(n, START_MS, START_MS)
        row = codec.decode(ReminderRow, raw[index.HEADER.size :])
        closed = Closed("@1/PT0S", State.DEAD_LETTER, START_MS, 1, channel=Channel.EMAIL, reason="temporary")
        ended = replace(row, open=None, closed=(closed,), updated_at=START_MS)
        head = index.pack(index.STATE_CODES[State.DEAD_LETTER], 1, 0, START_MS + load.HOUR_MS, 0)
        yield partition, key, head + codec.encode(ended)


def _filled(store: DueStore, count: int) -> None:
    fill(store, count)
    batches: dict[int, dict[bytes, bytes | None]] = {p: {} for p in range(PARTITIONS)}
    for partition, key, row in _given_up(count):
        batches[partition][key] = row
    for partition, batch in batches.items():
        store.write_rows(partition, batch, None)


@asynccontextmanager
async def _served(store: DueStore) -> AsyncIterator[str]:
    app = faust.App("bench-list", store="memory://", autodiscover=False, **cast("Any", FAUST_PAGES_OFF))
    alone: Any = _Alone()
    rows = StoreRows(store=lambda: store, at_work=lambda: set(range(PARTITIONS)), partitions=PARTITIONS)
    meter = Meter(CollectorRegistry(), process=False)
    attach_core(app, CorePorts(alone, meter, Keyring(TOKEN), rows, alone, alone.forward, alone, PARTITIONS, alone))
    server: Any = app.web
    server.init_server()
    runner = web.AppRunner(server.web_app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class _Turns:
    """Wants its turn every millisecond, and keeps what went on between two of them, in ms."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.cpu.append((time.thread_time() - cpu) * 1000)
            self.wall.append((time.perf_counter() - wall) * 1000)

    async def during(self, work: Any) -> tuple[float, float]:
        """Return the most CPU time, and the longest wait, between two turns while something is awaited."""
        self.cpu.clear()
        self.wall.clear()
        await work
        await asyncio.sleep(0.002)
        return max(self.cpu), max(self.wall)


async def _asked(session: aiohttp.ClientSession, url: str, query: Mapping[str, str], pages: int) -> list[float]:
    """Ask for pages, one after the other; return how long each took, in ms."""
    took: list[float] = []
    cursor = ""
    for _ in range(pages):
        began = time.perf_counter()
        async with session.get(f"{url}/reminders", params={**query, **({"cursor": cursor} if cursor else {})}) as got:
            told = await got.json()
        took.append((time.perf_counter() - began) * 1000)
        cursor = told["next"]
        if not cursor:
            break
    return took


async def _trails(session: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    took = []
    for n in range(0, count, max(1, count // 500)):
        began = time.perf_counter()
        async with session.get(f"{url}/reminders/{quote(f'clinic/visit-{n:07d}')}") as got:
            await got.read()
        took.append((time.perf_counter() - began) * 1000)
    return took


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    count = 50_000 if quick else 1_000_000
    store = make_store(home / "list")
    await asyncio.to_thread(_filled, store, count)
    # As a worker has it: the collector's longest stops are of what was there before.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    turns = _Turns()
    task = asyncio.create_task(turns.run())
    stood: dict[str, list[float]] = {name: [] for name, _ in ASKED}
    waited: dict[str, list[float]] = {name: [] for name, _ in ASKED}
    took: dict[str, list[float]] = {name: [] for name, _ in ASKED}
    trails: list[float] = []
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with _served(store) as url, aiohttp.ClientSession(headers=headers) as session:
        await _asked(session, url, {}, 2)
        for _ in range(takes):
            for name, query in ASKED:
                work = asyncio.create_task(_asked(session, url, query, 10))
                cpu, wall = await turns.during(work)
                stood[name].append(cpu)
                waited[name].append(wall)
                took[name].append(median(work.result()))
            trails.append(sorted(await _trails(session, url, count))[-5])
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    worst = [max(each) for each in zip(*stood.values(), strict=True)]
    pages = ", ".join(f"{name} {median(took[name]):.0f} ms" for name, _ in ASKED)
    return [
        Figure(
            "list",
            f"most CPU time between two turns of the loop while listing among {count:,} reminders",
            f"{median(worst):.1f} ms ({spread(worst, '.1f')}); a page of: {pages}",
            f"≤ {LOOP_MS:g} ms",
            median(worst) <= LOOP_MS,
            {"stood_ms": stood, "took_ms": took, "wall_ms": waited},
        ),
        Figure(
            "list",
            f"the trail of one reminder among {count:,}, by its view",
            f"{median(trails):.1f} ms p99 ({spread(trails, '.1f')})",
            f"≤ {TRAIL_MS:g} ms",
            median(trails) <= TRAIL_MS,
            {"trail_ms": trails},
        ),
    ]
