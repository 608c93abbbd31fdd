"""What agents are given: records in, emits out, a view of rows, a clock, a store. Tests hand in their own."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.quick import quicken


class Inbound(Protocol):
    """A Kafka record as it was read. ``timestamp`` is in seconds since 1970-01-01 UTC, as Faust has it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: float
    headers: object


Headers = tuple[tuple[str, bytes], ...]


@quicken
@dataclass(frozen=True, slots=True)
class Out:
    """A record to publish. ``timestamp_ms`` None: now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


@quicken
@dataclass(frozen=True, slots=True)
class Decision:
    """What one input leads to: rows to write (None: delete), records to publish first, and what may begin once all is
    durable.

    ``park``: the input is not done; it waits, unacked, in the room of that name until it is called again.
    """

    rows: Mapping[bytes, bytes | None]
    emits: tuple[Out, ...] = ()
    after: tuple[Callable[[], None], ...] = ()
    park: str = ""


NOTHING = Decision({})


class View(Protocol):
    """The rows of one partition, as they stand at this point of the unit."""

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``limit`` rows whose key begins with ``prefix``, from ``start`` on, in order."""


@quicken
@dataclass(frozen=True, slots=True)
class Job:
    """One input, decoded: the rows that it will want, and the pure decision to take with them.

    ``run`` may be called again after it raised; it changes nothing by itself. ``origin`` is None for a command.
    """

    keys: Sequence[bytes]
    run: Callable[[View, int], Decision]
    origin: Inbound | None = None


@quicken
@dataclass(frozen=True, slots=True)
class Fire:
    """The timer's command: the row that an index key points to is due. Losing it or having it twice does no harm.

    ``at``: when it was issued, ms UTC; 0: not told.
    """

    index_key: bytes
    at: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """A command that must not be lost while the process lives, such as the outcome of a call."""

    body: object


Command = Fire | Word


class Logic(Protocol):
    """The rules of one app, behind the unit of work."""

    async def prepare(self, records: Sequence[Inbound]) -> None:
        """Fetch what decoding needs. Raises only for infrastructure; nothing of the unit is then acked."""

    def read(self, record: Inbound) -> Job:
        """Decode a record. Never raises: what cannot be read becomes a job that says so."""

    def command(self, partition: int, command: Command) -> Job:
        """Return the job of a command."""

    def failed(self, job: Job, partition: int, exc: Exception, view: View, now: int) -> Decision:
        """Return what to do with an input whose decision raised three times: our bug, its dead letter."""


class Store(Protocol):
    """The part of the table store that units and the timer use."""

    def get_rows(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return rows by key."""

    def write_rows(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int | None) -> list[bytes]:
        """Write rows, index, counters and changelog offset at once; return the index keys added."""

    def scan_due(self, partition: int, group: bytes, start: bytes, upto_ms: int, limit: int) -> list[bytes]:
        """Return index keys of a group, due by ``upto_ms``."""

    def next_due(self, partition: int, group: bytes, start: bytes) -> int | None:
        """Return when the next entry of a group is due."""

    def scan_prefix(self, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows by prefix."""

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        """Return how many rows stand in each (state, channel)."""


Clock = Callable[[], int]
Check = Callable[[str], None]
Publish = Callable[[Sequence[Out]], Awaitable[None]]
