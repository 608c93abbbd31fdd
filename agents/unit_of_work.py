"""The unit of work: how inputs become rows and records without any being lost (ADR 0001).

What is fetched of a partition goes into its backlog. One worker a partition takes what has come, decides with pure
functions, publishes the emits and awaits their acknowledgement, then the changelog, then writes RocksDB, and acks last.
An infrastructure failure anywhere ends the process: nothing is acked, Kafka replays, and replays repeat the same ids.
"""

import asyncio
import logging
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from agents.meter import Stage
from agents.ports import Check, Clock, Command, Decision, Fire, Job, Logic, Out, Store, Word
from agents.publisher import Publisher
from schemas.ids import MAX_ROW_BYTES

log = logging.getLogger(__name__)

#: The most inputs a unit takes, and how long it lingers for more, in seconds.
MAX_INPUTS = 1000
#: What a unit has not decided after so many seconds waits for the next one. The loop stands still meanwhile: of rules
#: that take long to work out a thousand would keep it from the brokers until others' publishes are given up.
DECIDE_S = 0.2
#: The fewest inputs a unit takes where it may take more.
MIN_INPUTS = 32
LINGER_S = 0.002
#: Nothing is fetched of a topic's partition from when this many inputs are undone until half of them are done.
BACKLOG_LIMIT = 4000
#: A decision that raises is tried this often before its input is called a dead letter.
TRIES = 3
COMMANDS = (Fire, Word)


class Observer(Protocol):
    """What a unit tells as it goes along. It may await; a unit does not go on before it has returned."""

    async def stage(self, stage: Stage, partition: int, inputs: int) -> None:
        """Be told that a unit of ``inputs`` inputs has reached a stage."""


class Event(Protocol):
    """The part of a Faust event that a unit needs. ``taken``: when it came, by the loop's clock, in seconds."""

    message: Any
    taken: float

    def ack(self) -> bool:
        """Mark the event as done."""


class RowTooLargeError(Exception):
    """A row would outgrow its limit."""


class Backlog:
    """The undone inputs of one partition. Registered with Faust's flow control, which clears it when the partition is
    given up."""

    def __init__(self, partition: int, discard: Callable[[Any], None], dropped: Callable[[int], None]) -> None:
        self.partition = partition
        self._discard = discard
        self._dropped = dropped
        self.inputs: deque[Event | Command] = deque()
        self.parked: dict[str, deque[Event]] = {}
        self.arrived = asyncio.Event()
        #: Told, once, when there is room again.
        self.waiting: list[Callable[[], None]] = []

    def put(self, item: "Event | Command") -> None:
        """Add an input."""
        self.inputs.append(item)
        self.arrived.set()

    def clear(self) -> None:
        """Drop events and the timer's commands; keep what this process alone knows.

        A dropped event must be discarded from Faust's set of unacked messages: that set holds what is in
        flight, and ``wait_empty`` would wait for it for ever.
        """
        kept: deque[Event | Command] = deque()
        for item in self.inputs:
            if isinstance(item, Word):
                kept.append(item)
            elif not isinstance(item, Fire):
                self._discard(item.message)
        self.inputs = kept
        for room in self.parked.values():
            for event in room:
                self._discard(event.message)
        self.parked.clear()
        # Who was not fetched from is fetched from anew after a rebalance, or is another's by then.
        self.waiting.clear()
        self._dropped(self.partition)


class _Overlay:
    """Rows as they stand within a unit: what it has decided so far, over what was read before it."""

    __slots__ = ("_fetched", "_partition", "_store", "changed")

    def __init__(self, store: Store, partition: int, keys: Iterable[bytes]) -> None:
        self._store = store
        self._partition = partition
        self.changed: dict[bytes, bytes | None] = {}
        wanted = list(dict.fromkeys(keys))
        self._fetched = dict(zip(wanted, store.get_rows(partition, wanted), strict=True)) if wanted else {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.changed:
            return self.changed[key]
        if key not in self._fetched:
            self._fetched[key] = self._store.get_rows(self._partition, [key])[0]
        return self._fetched[key]

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = dict(self._store.scan_prefix(self._partition, prefix, start, limit + len(self.changed)))
        for key, value in self.changed.items():
            if key.startswith(prefix) and key >= start:
                found.pop(key, None)
                if value is not None:
                    found[key] = value
        return sorted(found.items())[:limit]


class Units:
    """All partition workers of one app."""

    def __init__(
        self,
        *,
        logic: Logic,
        store: Callable[[], Store],
        changelog: str,
        publisher: Publisher,
        fence: Check,
        fatal: Callable[[str, BaseException | None], None],
        clock: Clock,
        observer: Observer,
        manage: Callable[[Backlog], None],
        discard: Callable[[Any], None],
        current: Callable[[Any], bool],
    ) -> None:
        self._logic = logic
        self._store = store
        self._changelog = changelog
        self._publisher = publisher
        self._fence = fence
        self._fatal = fatal
        self._clock = clock
        self._observer = observer
        self._manage = manage
        self._discard = discard
        self._current = current
        self._backlogs: dict[int, Backlog] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._busy: set[int] = set()
        #: How many inputs a unit takes: about as many as it can decide. What it gives back it has read for nothing.
        self._at_once = MAX_INPUTS
        self._calm = asyncio.Event()
        self._calm.set()
        self.busy_since: dict[int, float] = {}
        #: How many units of each partition have ended.
        self.ended: Counter[int] = Counter()
        self._at_work: dict[int, list[Event | Command]] = {}
        #: The offset after the last record done, by topic and partition.
        self.progress: dict[tuple[str, int], int] = {}
        #: Called with (partition, commands handled, index keys added) once a unit is durable.
        self.written: list[Callable[[int, Sequence[Command], Sequence[bytes]], None]] = []
        #: Called with a partition whose undone inputs were dropped.
        self.dropped: list[Callable[[int], None]] = []

    # -- inputs

    def put(self, partition: int, events: Iterable[Event], room: Callable[[], None]) -> bool:
        """Add events to the backlog of a partition; return whether it is full, ``room`` is then told when to go on."""
        backlog = self.backlog(partition)
        backlog.inputs.extend(events)
        backlog.arrived.set()
        if len(backlog.inputs) < BACKLOG_LIMIT:
            return False
        backlog.waiting.append(room)
        return True

    def give(self, partition: int, commands: Iterable[Command]) -> None:
        """Add commands to the backlog of a partition."""
        backlog = self.backlog(partition)
        for command in commands:
            backlog.put(command)

    def backlog(self, partition: int) -> Backlog:
        """Return the backlog of a partition, with its worker running."""
        backlog = self._backlogs.get(partition)
        if backlog is None:
            backlog = self._backlogs[partition] = Backlog(partition, self._discard, self._on_dropped)
            self._manage(backlog)
            self._tasks[partition] = asyncio.create_task(self._work(partition, backlog), name=f"units-{partition}")
        return backlog

    def _on_dropped(self, partition: int) -> None:
        for listener in self.dropped:
            listener(partition)

    async def idle(self) -> None:
        """Return once no unit is in flight and no word is unsaid: awaited before the last commit of a revocation."""
        while self._busy or any(isinstance(item, Word) for b in self._backlogs.values() for item in b.inputs):
            self._calm.clear()
            await self._calm.wait()

    async def stop(self) -> None:
        """End the workers. Called when no unit is in flight and no input will come."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        self._backlogs.clear()

    def parked(self, partition: int, room: str) -> int:
        """Return how many inputs of a partition wait in a room."""
        backlog = self._backlogs.get(partition)
        return len(backlog.parked.get(room, ())) if backlog is not None else 0

    def call(self, room: str, count: int) -> int:
        """Call up to ``count`` inputs out of a room, by turns from the partitions, in front of what came later; return
        how many."""
        called = 0
        waiting = [backlog for backlog in self._backlogs.values() if backlog.parked.get(room)]
        while waiting and called < count:
            for backlog in list(waiting):
                queue = backlog.parked[room]
                backlog.inputs.appendleft(queue.popleft())
                backlog.arrived.set()
                called += 1
                if not queue:
                    waiting.remove(backlog)
                if called >= count:
                    return called
        return called

    def undone(self, partition: int, topics: frozenset[str]) -> bool:
        """Return whether inputs of these topics wait or are at work."""
        backlog = self._backlogs.get(partition)
        if partition in self._busy:
            return True
        return backlog is not None and any(
            not isinstance(item, COMMANDS) and item.message.topic in topics for item in backlog.inputs
        )

    def depth(self) -> int:
        """Return how many inputs are undone."""
        return sum(len(b.inputs) + sum(map(len, b.parked.values())) for b in self._backlogs.values())

    def waiting(self, partition: int) -> int:
        """Return how many inputs of a partition wait or are at work, those apart that are parked in a room."""
        backlog = self._backlogs.get(partition)
        return len(self._at_work.get(partition, ())) + (len(backlog.inputs) if backlog is not None else 0)

    def oldest(self, now: float) -> dict[tuple[str, int], float]:
        """Return, by topic and partition, for how many seconds its oldest record has been here that is not acked."""
        found: dict[tuple[str, int], float] = {}
        for partition, backlog in self._backlogs.items():
            for item in chain(self._at_work.get(partition, ()), backlog.inputs, *backlog.parked.values()):
                if not isinstance(item, COMMANDS):
                    of = item.message.topic, partition
                    found[of] = min(item.taken, found.get(of, now))
        return {of: now - taken for of, taken in found.items()}

    # -- the worker

    async def _work(self, partition: int, backlog: Backlog) -> None:
        loop = asyncio.get_running_loop()
        inputs: list[Event | Command] = []
        try:
            while True:
                if not backlog.inputs:
                    backlog.arrived.clear()
                    await backlog.arrived.wait()
                if len(backlog.inputs) < self._at_once:
                    await asyncio.sleep(LINGER_S)
                inputs = self._take(backlog)
                if backlog.waiting and len(backlog.inputs) < BACKLOG_LIMIT // 2:
                    waiting, backlog.waiting = backlog.waiting, []
                    for room in waiting:
                        room()
                if not inputs:
                    continue
                self._busy.add(partition)
                self.busy_since[partition] = loop.time()
                self._at_work[partition] = inputs
                try:
                    await self._unit(partition, inputs)
                finally:
                    self._busy.discard(partition)
                    self.busy_since.pop(partition, None)
                    self._at_work.pop(partition, None)
                    self.ended[partition] += 1
                    if not self._busy:
                        self._calm.set()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            # Acking, or going on after a hole, would lose what this unit held.
            log.error("the unit of partition %d that failed held %s", partition, _places(inputs) or "no event")
            self._fatal(f"unit of partition {partition} failed", exc)
            raise

    def _take(self, backlog: Backlog) -> list[Event | Command]:
        """Take the next inputs. An event of a partition that has been given up since it came is another's by now."""
        inputs: list[Event | Command] = []
        while backlog.inputs and len(inputs) < self._at_once:
            item = backlog.inputs.popleft()
            if isinstance(item, COMMANDS) or self._current(item.message):
                inputs.append(item)
            else:
                self._discard(item.message)
        return inputs

    async def _unit(self, partition: int, inputs: list[Event | Command]) -> None:
        stage = self._observer.stage
        count = len(inputs)
        await stage(Stage.RECEIVED, partition, count)
        events = [item for item in inputs if not isinstance(item, COMMANDS)]
        if events:
            await self._logic.prepare([event.message for event in events])
        now = self._clock()
        jobs = [
            self._logic.command(partition, item) if isinstance(item, COMMANDS) else self._logic.read(item.message)
            for item in inputs
        ]
        view = _Overlay(self._store(), partition, [key for job in jobs for key in job.keys])
        emits: list[Out] = []
        after: list[Callable[[], None]] = []
        done: list[Event] = []
        clock = asyncio.get_running_loop().time
        began = clock()
        for taken, (item, job) in enumerate(zip(inputs, jobs, strict=True)):
            if taken and clock() > began + DECIDE_S:
                self.backlog(partition).inputs.extendleft(reversed(inputs[taken:]))
                del inputs[taken:]
                count = taken
                self._at_once = max(MIN_INPUTS, taken)
                break
            decision = self._decide(job, partition, view, now)
            if not isinstance(item, COMMANDS):
                if decision.park:
                    self.backlog(partition).parked.setdefault(decision.park, deque()).append(item)
                    continue
                done.append(item)
            view.changed.update(decision.rows)
            emits.extend(decision.emits)
            after.extend(decision.after)
        else:
            if count >= self._at_once and clock() < began + DECIDE_S / 2:
                self._at_once = min(MAX_INPUTS, 2 * self._at_once)
        await stage(Stage.DECIDED, partition, count)
        if emits:
            self._fence("emits")
            await self._publisher.publish(emits)
        await stage(Stage.EMITTED, partition, count)
        added: list[bytes] = []
        if view.changed:
            self._fence("changelog")
            offset = await self._publisher.append(self._changelog, partition, view.changed.items())
            await stage(Stage.LOGGED, partition, count)
            added = self._store().write_rows(partition, view.changed, offset)
        await stage(Stage.WRITTEN, partition, count)
        for event in done:
            event.ack()
            self.progress[event.message.topic, partition] = event.message.offset + 1
        await stage(Stage.ACKED, partition, count)
        commands = [item for item in inputs if isinstance(item, COMMANDS)]
        for listener in self.written:
            listener(partition, commands, added)
        for begin in after:
            begin()

    def _decide(self, job: Job, partition: int, view: _Overlay, now: int) -> Decision:
        for attempt in range(1, TRIES + 1):
            try:
                decision = job.run(view, now)
                for value in decision.rows.values():
                    if value is not None and len(value) > MAX_ROW_BYTES:
                        raise RowTooLargeError(f"a row of {len(value)} bytes exceeds {MAX_ROW_BYTES}")
            except Exception as exc:  # noqa: BLE001  # our own bugs become dead letters, never the unit's end
                origin = job.origin
                where = f"{origin.topic}/{origin.partition}/{origin.offset}" if origin is not None else "a command"
                log.error("the decision on %s raised (%d of %d): %s", where, attempt, TRIES, raised_at(exc))
                if attempt == TRIES or isinstance(exc, RowTooLargeError):
                    return self._logic.failed(job, partition, exc, view, now)
            else:
                return decision
        raise AssertionError("unreachable")


def _places(inputs: Iterable["Event | Command"]) -> str:
    """Return where the events of a unit lie: from the first to the last of each topic."""
    spans: dict[tuple[str, int], list[int]] = {}
    for item in inputs:
        if not isinstance(item, COMMANDS):
            spans.setdefault((item.message.topic, item.message.partition), []).append(item.message.offset)
    return ", ".join(
        f"{topic}/{partition}/{min(at)}" + (f" to {max(at)}" if len(at) > 1 else "")
        for (topic, partition), at in spans.items()
    )


def raised_at(exc: BaseException) -> str:
    """Return the type of an exception and where it was raised. Its text is left out: it may quote what people wrote."""
    frames = traceback.extract_tb(exc.__traceback__)[-4:]
    return f"{type(exc).__name__} at " + " < ".join(
        f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames)
    )
