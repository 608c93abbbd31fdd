"""``gate``: decisions of the gate a second, with a million recipients in its table.

The gate's own reading and deciding over a real store, without a broker: a batch of requests is decoded, the rows that
it wants are read from RocksDB at once, as a unit does, and each is decided: recipient, consent, hours, caps, contact,
content, words, the delivery in bytes and its row. Every request is for another recipient, so hardly a row is in a
cache. Once in clear, once with contacts and contents sealed. Beside it the rows alone are read, the same ones in the
same batches: a decision cannot be cheaper. CPU time of one thread.
"""

import asyncio
import gc
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
from prometheus_client import CollectorRegistry

from agents import gate
from agents.delivery import Delivering, DeliveryTopics
from agents.meter import Meter
from bench.figures import Figure, median, spread
from bench.stage import PARTITIONS, BenchError, Kafka
from schemas import codec, ids
from schemas.codec import Codec
from schemas.names import Channel, RequestKind
from schemas.records import (
    Consent,
    Contact,
    Content,
    DeliveryRequest,
    RecipientLink,
    RecipientProfile,
    Sealed,
)
from schemas.sealing import CONTENT, Sealing
from tables import store as due_store
from tables.store import DueStore

TARGET = 5_000
BATCH = 500
NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
KEY = Sealing.of(("a master key of benches alone",))


def _work(sealing: Sealing) -> Delivering:
    topics = DeliveryTopics("recipients", "requests", {c: c.value for c in Channel}, "outcomes", "audit", "dlq")
    adapters: Any = {Channel.EMAIL: SimpleNamespace(), Channel.SMS: SimpleNamespace()}
    meter = Meter(CollectorRegistry(), process=False)
    ids_of_topics = {"requests": "q", "recipients": "p"}
    return Delivering(
        topics,
        PARTITIONS,
        ids_of_topics,
        168 * HOUR_MS,
        24 * HOUR_MS,
        100,
        adapters,
        Codec(None),
        meter,
        lambda: NOW_MS,
        sealing=sealing,
    )


def _profile(n: int) -> RecipientProfile:
    return RecipientProfile(
        version=NOW_MS - n,
        event_id=f"event-{n}",
        zone="Europe/Berlin",
        locale="de-DE",
        contacts=(
            Contact(Channel.EMAIL, f"somebody.{n}@people.example", "private"),
            Contact(Channel.SMS, f"+4915{n:09}", "mobile"),
        ),
        quiet=("22:00-07:00",),
        max_per_day=20,
        consents=(Consent(True, NOW_MS - HOUR_MS, "general", Channel.EMAIL, "form 7"),),
        updated_at=NOW_MS - HOUR_MS,
    )


def _request(n: int, sealing: Sealing) -> tuple[bytes, bytes]:
    """Return a request in bytes, and the key of its content."""
    content = Content("Your visit", f"Visit {n} at ten o'clock, second floor.", {"place": "Praxis Dr. Weiß"})
    rid = f"clinic/visit-{n}"
    sealed, wrapped = Sealed(0, codec.encode(content)), b""
    if sealing:
        sealed, wrapped = sealing.seal(rid, CONTENT, sealed.body, os.urandom)
    request = DeliveryRequest(
        RequestKind.DELIVER,
        rid,
        f"person-{n}",
        occurrence="@1800000000000/PT0S",
        attempt=1,
        ask=1,
        asked_at=NOW_MS,
        due_at=NOW_MS,
        deadline=NOW_MS + 24 * HOUR_MS,
        correlation_id=f"correlation-{n}",
        source="bench",
        sealed=sealed,
    )
    return codec.encode(request), wrapped


class _View(dict[bytes, bytes | None]):
    """The rows that were read for a batch; any other is read when it is asked for, as in a unit."""

    def __init__(self, store: DueStore, partition: int) -> None:
        super().__init__()
        self._store, self._partition = store, partition

    def __missing__(self, key: bytes) -> bytes | None:
        found = self[key] = self._store.get_rows(self._partition, [key])[0]
        return found

    def get(self, key: bytes, default: Any = None) -> bytes | None:
        """Return a row."""
        return self[key]

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows by prefix."""
        return self._store.scan_prefix(self._partition, prefix, start, limit)


class _Table:
    """A recipients table of so many people, and the requests that one take after the other asks."""

    def __init__(self, path: Path, count: int, sealing: Sealing) -> None:
        self.work, self.count, self._sealing = _work(sealing), count, sealing
        due_store.register()
        path.mkdir(parents=True)
        app = faust.App(f"gate-{path.name}", datadir=str(path), store="due://", broker="kafka://127.0.0.1:1")
        app.conf.tabledir.mkdir(parents=True, exist_ok=True)
        data: Any = app.Table("recipients", partitions=PARTITIONS, key_type=bytes, value_type=bytes).data
        if not isinstance(data, DueStore):
            raise BenchError("the table is not ours")
        self.store = data

    def fill(self) -> None:
        """Write everybody; the partition is the number's, which costs nothing."""
        for partition in range(PARTITIONS):
            for first in range(partition, self.count, PARTITIONS * 2000):
                numbers = range(first, min(self.count, first + PARTITIONS * 2000), PARTITIONS)
                rows = {ids.profile_key(f"person-{n}"): self.work.kept(f"person-{n}", _profile(n)) for n in numbers}
                self.store.write_rows(partition, rows, None)

    def batches(self, take: int, asked: int) -> Iterator[tuple[int, list[Any]]]:
        """Yield requests by partition, for others each time, with the links of sealed ones written before."""
        step = 7919  # a prime: neighbours in a batch are none in the table
        for number in range(asked // BATCH):
            partition, people = number % PARTITIONS, self.count // PARTITIONS
            records: list[Any] = []
            links: dict[bytes, bytes | None] = {}
            for k in range(BATCH):
                place = ((take * asked + number * BATCH + k) * step) % people
                n = place * PARTITIONS + partition
                value, wrapped = _request(n, self._sealing)
                if wrapped:
                    rid = f"clinic/visit-{n}"
                    link = RecipientLink(rid, 1, False, wrapped_key=wrapped)
                    links[ids.link_key(f"person-{n}", rid)] = self.work.written(link, 0)
                records.append(
                    SimpleNamespace(
                        topic="requests", partition=partition, offset=k, key=b"k", value=value, timestamp=NOW_MS / 1000
                    )
                )
            if links:
                self.store.write_rows(partition, links, None)
            yield partition, records

    def decided(self, batches: Sequence[tuple[int, list[Any]]]) -> tuple[float, list[tuple[int, list[bytes]]]]:
        """Decide all; return the CPU seconds, and the keys that were read, by batch."""
        read, mail = [], Channel.EMAIL.value
        began = time.thread_time()
        for partition, records in batches:
            jobs = [gate.read_request(self.work, record) for record in records]
            keys = list(dict.fromkeys(key for job in jobs for key in job.keys))
            view = _View(self.store, partition)
            view.update(zip(keys, self.store.get_rows(partition, keys), strict=True))
            for job in jobs:
                decision = job.run(view, NOW_MS)
                if len(decision.emits) != 1 or decision.emits[0].topic != mail:
                    raise BenchError("a request was not let pass")
                view.update(decision.rows)
            read.append((partition, list(view)))
        return time.thread_time() - began, read

    def fetched(self, read: Sequence[tuple[int, list[bytes]]]) -> float:
        """Read the same rows alone; return the CPU seconds."""
        began = time.thread_time()
        for partition, keys in read:
            self.store.get_rows(partition, keys)
        return time.thread_time() - began


async def run(kafka: Kafka, home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Measure."""
    return await asyncio.to_thread(measure, home, quick=quick, takes=takes)


def measure(home: Path, *, quick: bool, takes: int) -> list[Figure]:
    """Take the figures."""
    count, asked = (20_000, 2_000) if quick else (1_000_000, 20_000)
    # As a worker sets it when it begins (app/build.py).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    figures = []
    for name, sealing in (("in clear", Sealing()), ("sealed", KEY)):
        table = _Table(home / f"gate-{name.replace(' ', '-')}", count, sealing)
        table.fill()
        rates, ratios = [], []
        for take in range(takes + 1):
            batches = list(table.batches(take, asked))
            seconds, read = table.decided(batches)
            alone = table.fetched(read)
            if take:  # the first one warms up what Python and RocksDB keep
                rates.append(asked / seconds)
                ratios.append(seconds / alone)
        figures.append(
            Figure(
                "gate",
                f"decisions of the gate with {count:,} recipients, {name}",
                f"{median(rates):,.0f}/s ({spread(rates, ',.0f')}) a core; "
                f"{median(ratios):.1f}× ({spread(ratios, '.1f')}) the CPU of reading their rows",
                f"≥ {TARGET:,}/s",
                median(rates) >= TARGET,
                {"rates": rates, "ratios": ratios},
            )
        )
    return figures
