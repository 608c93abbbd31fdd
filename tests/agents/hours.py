"""Hours in seconds: a core worker and delivery workers over memory, on a loop whose clock jumps to whatever is next.

All that decides is the product's own: intake, timer, settle, gate, calls, breakers, units. Memory stands in for the
broker (records in order, delivered after a moment, from the first unacked one again after a death) and for the store.
"""

import asyncio
import selectors
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from agents import gate, intake, rearm, settle
from agents.breakers import Breakers
from agents.circuits import Board
from agents.core import Core, CoreLogic, CoreTopics
from agents.deliver import Calls
from agents.delivery import Delivering, DeliveryLogic, DeliveryTopics
from agents.meter import Meter
from agents.ports import Inbound, Out
from agents.publisher import partition_of
from agents.release import Releases
from agents.timer import Timer
from agents.unit_of_work import Units
from app import circuits
from channels.base import ChannelAdapter
from channels.retry import RetryPolicy
from schemas import codec
from schemas.codec import Codec
from schemas.names import Channel, MaybeSent, State
from schemas.records import AuditEntry, ControlRecord, RecipientEvent, ReminderEvent, ReminderRow, Step
from tables import due as index
from tables import transition
from tables.circuit import Limits
from tables.transition import Rules
from tests.agents.memory import MemoryStore, Record, Watch

T = TypeVar("T")

#: 2026-12-01T00:00:00Z
T0 = 1_796_083_200_000
PARTITIONS = 4
#: How long a record is on its way, and a change of a row on its way to the broker, in seconds.
LATENCY_S = 0.003
#: How often the reader of ``reminders.control`` takes a turn, in seconds; the real one does more often.
TURN_S = 1.0
SESSION_S = 15.0
TIERS = {"1m": "retry.1m", "10m": "retry.10m", "1h": "retry.1h"}
CHANNELS = {channel: channel.value.lower() for channel in Channel}


class _Jumping(selectors.DefaultSelector):
    """A selector that never waits; it only counts for how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            raise RuntimeError("nothing is left that could happen")
        self.jumped += timeout
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait for its own time: its clock jumps to whatever is next. For what uses no sockets."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.jumped


def run(doing: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop that jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(doing)


def now_ms() -> int:
    """Return the wall clock of the running loop."""
    return T0 + round(asyncio.get_running_loop().time() * 1000)


class _Shelf(MemoryStore):
    """Rows of one partition whose index is kept and not made anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: list[bytes] = []
        self._counts: Counter[tuple[int, int]] = Counter()

    def write_rows(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int | None) -> list[bytes]:
        added: list[bytes] = []
        for key, value in rows.items():
            before = self._forgotten(key)
            if value is not None:
                self.rows[key] = value
                self._counts[_standing(value)] += 1
                for entry in index.entries(key, value):
                    insort(self._keys, entry)
                    if entry not in before:
                        added.append(entry)
        return added

    def _forgotten(self, key: bytes) -> set[bytes]:
        old = self.rows.pop(key, None)
        if old is None:
            return set()
        self._counts[_standing(old)] -= 1
        entries = set(index.entries(key, old))
        for entry in entries:
            self._keys.pop(bisect_left(self._keys, entry))
        return entries

    def _index(self) -> list[bytes]:
        return self._keys

    def next_due(self, partition: int, group: bytes, start: bytes) -> int | None:
        at = bisect_left(self._keys, max(start, group))
        return index.due_of(self._keys[at]) if at < len(self._keys) and self._keys[at][:2] == group else None

    def scan_due(self, partition: int, group: bytes, start: bytes, upto_ms: int, limit: int) -> list[bytes]:
        found: list[bytes] = []
        for key in self._keys[bisect_left(self._keys, max(start, group)) :]:
            if key[:2] != group or index.due_of(key) > upto_ms or len(found) >= limit:
                break
            found.append(key)
        return found

    def counts(self, partition: int) -> Counter[tuple[int, int]]:
        return self._counts


def _standing(row: bytes) -> tuple[int, int]:
    head = index.unpack(row)
    return head.state, head.channel


class Shelves:
    """A store of rows by partition."""

    def __init__(self) -> None:
        self._of: defaultdict[int, MemoryStore] = defaultdict(_Shelf)

    def get_rows(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._of[partition].get_rows(partition, keys)

    def write_rows(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int | None) -> list[bytes]:
        return self._of[partition].write_rows(partition, rows, offset)

    def scan_due(self, partition: int, group: bytes, start: bytes, upto_ms: int, limit: int) -> list[bytes]:
        return self._of[partition].scan_due(partition, group, start, upto_ms, limit)

    def next_due(self, partition: int, group: bytes, start: bytes) -> int | None:
        return self._of[partition].next_due(partition, group, start)

    def scan_prefix(self, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return self._of[partition].scan_prefix(partition, prefix, start, limit)

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        rows = self._of[partition].rows
        keys = sorted(rows)
        return [(key, rows[key]) for key in keys[bisect_left(keys, start) :][:limit]]

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        return self._of[partition].counts(partition)

    def every_row(self) -> Iterable[tuple[bytes, bytes]]:
        for store in self._of.values():
            yield from store.rows.items()


@dataclass(slots=True)
class Told:
    """A record as a unit is given it."""

    message: Record
    taken: float
    acked: bool = False

    def ack(self) -> bool:
        self.acked = True
        return True


class Bus:
    """The topics. ``readers``: who reads a partition of a topic; ``log``: everything that was written, in order."""

    def __init__(self) -> None:
        self.readers: dict[str, Callable[[int], Units | None]] = {}
        self.heard: dict[str, Callable[[Out], None]] = {}
        self.log: defaultdict[str, list[Out]] = defaultdict(list)
        self._records: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        self._done: dict[tuple[str, int], list[Told]] = defaultdict(list)

    async def publish(self, records: Iterable[Out]) -> None:
        await asyncio.sleep(LATENCY_S)
        for out in records:
            self.log[out.topic].append(out)
            kept = self._records[out.topic, out.partition]
            kept.append(
                Record(out.topic, out.partition, len(kept), out.key, out.value, now_ms() / 1000, tuple(out.headers))
            )
            self._hand_over(kept[-1])
            if (heard := self.heard.get(out.topic)) is not None:
                asyncio.get_running_loop().call_later(LATENCY_S, heard, out)

    async def append(self, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        await asyncio.sleep(LATENCY_S)
        return 0

    def _hand_over(self, record: Record) -> None:
        reader = self.readers.get(record.topic)
        units = reader(record.partition) if reader is not None else None
        if units is not None:
            told = Told(record, asyncio.get_running_loop().time())
            self._done[record.topic, record.partition].append(told)
            units.backlog(record.partition).put(told)

    def again(self, topics: Iterable[str], partition: int) -> None:
        """Hand over again what nobody has committed: from the first record on that is not done."""
        for topic in topics:
            told = self._done.pop((topic, partition), [])
            open_ = next((n for n, one in enumerate(told) if not one.acked), len(told))
            # What came while nobody read is behind those that were handed over.
            first = told[open_].message.offset if open_ < len(told) else len(told)
            self._done[topic, partition] = told[:open_]
            for record in self._records[topic, partition][first:]:
                self._hand_over(record)


class _Fresh:
    """Holds of which there are none, known at every time."""

    def fresh(self) -> bool:
        return True

    def holding(self, subject: object) -> ControlRecord | None:
        return None


def _fatal(why: str, exc: BaseException | None) -> None:
    raise AssertionError(why) from exc


@dataclass(eq=False)
class Worker:
    """A delivery worker. It may die at any time; whoever owns its partitions then goes on from its rows."""

    owned: set[int]
    units: Units
    calls: Calls
    breakers: Breakers
    board: Board
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    async def die(self) -> None:
        """End at once, whatever is going on."""
        for task in [*self.tasks, *self.calls._tasks]:
            task.cancel()
        await self.units.stop()
        await asyncio.gather(*self.tasks, *self.calls._tasks, return_exceptions=True)


class Hours:
    """An installation with one core worker. ``adapters``: of each delivery worker, by its number."""

    def __init__(
        self,
        adapters: Callable[[int], dict[Channel, ChannelAdapter]],
        *,
        workers: int = 1,
        lease_ms: int = 300_000,
        window: int = 100,
        room: int = 1000,
        catch_up_per_s: int = 0,
        maybe_sent: MaybeSent = MaybeSent.HOLD,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> None:
        self.bus = Bus()
        self.rows, self.kept = Shelves(), Shelves()
        self.adapters = adapters
        self.limits = limits
        self.room = room
        self.window = window
        self.tasks: list[asyncio.Task[Any]] = []
        self.workers: list[Worker] = []
        self._core(lease_ms, catch_up_per_s, maybe_sent, retry)
        for number in range(workers):
            self.add(number, {p for p in range(PARTITIONS) if p % workers == number})

    def _core(self, lease_ms: int, catch_up_per_s: int, maybe_sent: MaybeSent, retry: RetryPolicy) -> None:
        readers = {
            "reminders": intake.read,
            "outcomes": settle.read_outcome,
            "receipts": settle.read_receipt,
            **dict.fromkeys(TIERS.values(), rearm.read),
        }
        self.board = Board(now_ms)
        topics = CoreTopics("reminders", "outcomes", "receipts", TIERS, "requests", "audit", "status", "dlq")
        core = Core(
            topics,
            PARTITIONS,
            {topic: topic for topic in readers},
            Rules(lease_ms=lease_ms),
            retry,
            maybe_sent,
            Codec(None),
            Meter(CollectorRegistry(), process=False),
            _Fresh().holding,
            shut=circuits.shut_by(self.board),
        )
        units = self._units(CoreLogic(core, readers), self.rows)
        timer = self._timer(units, self.rows, set(range(PARTITIONS)), most=self._allowance)
        releases = Releases(
            store=lambda: self.rows,
            give=units.give,
            owned=lambda: set(range(PARTITIONS)),
            partitions=PARTITIONS,
            clock=now_ms,
        )
        circuits.of_core(self.board, timer, releases, catch_up_per_s)
        self.bus.readers |= dict.fromkeys(readers, lambda partition: units)
        self.bus.heard["control"] = self._heard
        self.tasks += [asyncio.create_task(timer.run()), asyncio.create_task(self._turns(timer))]

    def _allowance(self, channel: Channel) -> int:
        return self.board.allowance(channel.value)

    async def _turns(self, timer: Timer) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            if self.board.moved():
                timer.recount()

    def _heard(self, out: Out) -> None:
        record = codec.decode(ControlRecord, out.value or b"")
        for board in (self.board, *(worker.board for worker in self.workers)):
            board.take((out.key or b"").decode(), record)

    def _units(self, logic: Any, store: Shelves) -> Units:
        return Units(
            logic=logic,
            store=lambda: store,
            changelog="changelog",
            publisher=self.bus,  # type: ignore[arg-type]
            fence=lambda where: None,
            fatal=_fatal,
            clock=now_ms,
            observer=Watch(),
            manage=lambda backlog: None,
            discard=lambda message: None,
            current=lambda message: True,
        )

    def _timer(self, units: Units, store: Shelves, owned: set[int], most: Any = None) -> Timer:
        timer = Timer(
            store=lambda: store,
            give=units.give,
            partitions=lambda: owned,
            clock=now_ms,
            window=self.window,
            scanned=lambda: None,
            most=most,
            count=PARTITIONS,
        )
        units.written.append(timer.written)
        units.dropped.append(timer.forget)
        return timer

    def add(self, number: int, owned: set[int]) -> Worker:
        """Start a delivery worker, which takes over what its partitions left undone."""
        adapters = self.adapters(number)
        board = Board(now_ms)
        for out in self.bus.log["control"]:
            board.take((out.key or b"").decode(), codec.decode(ControlRecord, out.value or b""))
        breakers = Breakers(
            board,
            topic="control",
            partitions=PARTITIONS,
            publish=self.bus.publish,
            owned=lambda: owned,
            clock=now_ms,
            limits=self.limits,
            fatal=_fatal,
        )
        breakers.serves(adapters.values())
        inputs = ("recipients", "requests", *CHANNELS.values())
        work = Delivering(
            DeliveryTopics("recipients", "requests", CHANNELS, "outcomes", "audit", "dlq"),
            PARTITIONS,
            {topic: topic for topic in inputs},
            7 * 24 * 3_600_000,
            24 * 3_600_000,
            self.room,
            adapters,
            Codec(None),
            Meter(CollectorRegistry(), process=False),
            now_ms,
        )
        calls = Calls(
            work,
            store=lambda: self.kept,
            publish=self.bus.publish,
            owns=lambda partition: partition in owned,
            fence=lambda where: None,
            observer=Watch(),
            control=_Fresh(),  # type: ignore[arg-type]
            fatal=_fatal,
            breakers=breakers,
        )

        def request(work: Delivering, record: Inbound) -> Any:
            return gate.read_request(work, record)

        logic = DeliveryLogic(
            work,
            {"recipients": gate.read_recipient, "requests": request, **dict.fromkeys(CHANNELS.values(), calls.read)},
            fired=calls.fired,
            said=calls.said,
        )
        units = self._units(logic, self.kept)
        calls.backlogs = units
        calls.caught_up = lambda partition: True
        timer = self._timer(units, self.kept, owned)
        worker = Worker(owned, units, calls, breakers, board)
        worker.tasks += [asyncio.create_task(timer.run()), asyncio.create_task(breakers.run())]
        self.workers.append(worker)
        self.bus.readers |= dict.fromkeys(inputs, self._reads)
        for partition in owned:
            self.bus.again(inputs, partition)
        return worker

    def _reads(self, partition: int) -> Units | None:
        return next((worker.units for worker in self.workers if partition in worker.owned), None)

    async def kill(self, worker: Worker) -> None:
        """Let a delivery worker die, and another take its place once its session has ended."""
        number = self.workers.index(worker)
        self.workers.remove(worker)
        await worker.die()
        await asyncio.sleep(SESSION_S)
        self.add(number, worker.owned)

    async def stop(self) -> None:
        """End everything."""
        for worker in list(self.workers):
            await worker.die()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # -- what tests say and see

    async def send(self, *events: ReminderEvent) -> None:
        """Write producers' events."""
        for event in events:
            key = event.reminder_id.encode()
            out = Out("reminders", partition_of(key, PARTITIONS), key, codec.encode(event))
            await self.bus.publish([out])

    async def know(self, event: RecipientEvent) -> None:
        """Write an event about a recipient."""
        key = event.recipient_id.encode()
        await self.bus.publish([Out("recipients", partition_of(key, PARTITIONS), key, codec.encode(event))])

    def row(self, reminder_id: str) -> ReminderRow:
        """Return the row of a reminder."""
        key = reminder_id.encode()
        raw = self.rows.get_rows(partition_of(key, PARTITIONS), [key])[0]
        assert raw is not None, f"{reminder_id} is lost"
        return codec.decode(ReminderRow, raw[index.HEADER.size :])

    def state(self, reminder_id: str) -> State:
        """Return where a reminder stands."""
        return transition.state(self.row(reminder_id))

    @property
    def audit(self) -> list[AuditEntry]:
        """Every transition, in the order of its writing."""
        return [codec.decode(AuditEntry, out.value or b"") for out in self.bus.log["audit"]]

    @property
    def turns(self) -> list[ControlRecord]:
        """Every turn of a circuit."""
        said = (codec.decode(ControlRecord, out.value or b"") for out in self.bus.log["control"])
        return [record for record in said if record.turn]


def event(reminder_id: str, at_ms: int, channel: Channel = Channel.EMAIL, **more: Any) -> ReminderEvent:
    """Return a reminder for one address of its own."""
    address = f"{reminder_id}@people.example" if channel is Channel.EMAIL else f"address-of-{reminder_id}"
    return ReminderEvent(
        reminder_id, at=at_ms, title="Visit", text="Bring your card.", steps=(Step(channel, address=address),), **more
    )
