"""A store, a publisher and a clock in memory, for tests of what goes between them; the real ones are in tests/kafka."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.meter import Stage
from agents.ports import Out
from tables import due as index


class MemoryStore:
    """Rows and index as the real store has them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.scans = 0
        self.offset: int | None = None

    def get_rows(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def write_rows(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int | None) -> list[bytes]:
        before = set(self._index())
        for key, value in rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.offset = offset
        return [key for key in self._index() if key not in before]

    def _index(self) -> list[bytes]:
        return sorted(e for key, row in self.rows.items() for e in index.entries(key, row))

    def scan_due(self, partition: int, group: bytes, start: bytes, upto_ms: int, limit: int) -> list[bytes]:
        self.scans += 1
        keys = self._index()
        found = [k for k in keys[bisect_left(keys, start) :] if k[:2] == group and index.due_of(k) <= upto_ms]
        return found[:limit]

    def next_due(self, partition: int, group: bytes, start: bytes) -> int | None:
        keys = [k for k in self._index() if k[:2] == group and k >= start]
        return index.due_of(keys[0]) if keys else None

    def scan_prefix(self, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [(k, v) for k, v in sorted(self.rows.items()) if k.startswith(prefix) and k >= start][:limit]

    def counts(self, partition: int) -> Counter[tuple[int, int]]:
        return Counter((index.unpack(row).state, index.unpack(row).channel) for row in self.rows.values())


@dataclass
class MemoryPublisher:
    """Takes everything; ``journal`` tells in which order."""

    journal: list[str] = field(default_factory=list)
    out: list[Out] = field(default_factory=list)

    async def publish(self, records: Iterable[Out]) -> None:
        self.journal.append("emits")
        self.out.extend(records)

    async def append(self, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        self.journal.append("changelog")
        return len(list(rows)) - 1


@dataclass
class Record:
    """A Kafka record as Faust hands it on."""

    topic: str = "reminders"
    partition: int = 0
    offset: int = 0
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    timestamp: float = 1_795_600_000.0
    headers: Any = ()


@dataclass
class Event:
    """A Faust event."""

    message: Record
    journal: list[str] = field(default_factory=list)
    acked: int = 0
    taken: float = 0.0

    def ack(self) -> bool:
        self.acked += 1
        self.journal.append("ack")
        return True


class Watch:
    """Notes the stages of units."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    async def stage(self, stage: Stage, partition: int, inputs: int) -> None:
        self.stages.append(stage)
