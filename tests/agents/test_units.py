"""The unit of work: its order, its dead letters, its rooms, its end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from agents.meter import Stage
from agents.ports import NOTHING, Command, Decision, Fire, Inbound, Job, Out, View, Word
from agents.unit_of_work import DECIDE_S, Units
from schemas.ids import MAX_ROW_BYTES
from tables import due as index
from tests.agents.memory import Event, MemoryPublisher, MemoryStore, Record, Watch

Run = Callable[[View, int], Decision]


class Script:
    """A logic that does what each record's value names."""

    def __init__(self, **runs: Run) -> None:
        self.runs = runs
        self.calls = 0
        self.read_count = 0
        self.failures: list[Exception] = []

    async def prepare(self, records: Sequence[Inbound]) -> None:
        pass

    def read(self, record: Inbound) -> Job:
        self.read_count += 1

        def run(view: View, now: int) -> Decision:
            self.calls += 1
            return self.runs[(record.value or b"").decode()](view, now)

        return Job((record.key or b"",), run, record)

    def command(self, partition: int, command: Command) -> Job:
        name = str(command.body) if isinstance(command, Word) else "fire"
        return Job((), self.runs[name])

    def failed(self, job: Job, partition: int, exc: Exception, view: View, now: int) -> Decision:
        self.failures.append(exc)
        return Decision({}, (Out("dlq", 0, b"k", b"dead"),))


class Bench:
    """Units over memory."""

    def __init__(self, logic: Script) -> None:
        self.logic = logic
        self.store, self.publisher, self.watch = MemoryStore(), MemoryPublisher(), Watch()
        self.checks: list[str] = []
        self.ended: list[str] = []
        self.discarded: list[Record] = []
        self.current = True
        self.units = Units(
            logic=logic,
            store=lambda: self.store,
            changelog="changelog",
            publisher=self.publisher,  # type: ignore[arg-type]
            fence=self.check,
            fatal=lambda why, exc: self.ended.append(why),
            clock=lambda: 1000,
            observer=self.watch,
            manage=lambda backlog: None,
            discard=self.discarded.append,
            current=lambda message: self.current,
        )

    def check(self, where: str) -> None:
        self.checks.append(where)
        self.publisher.journal.append(f"fence {where}")

    def event(self, value: str, key: bytes = b"k") -> Event:
        return Event(Record(value=value.encode(), key=key), self.publisher.journal)

    async def done(self, *events: Event) -> None:
        for event in events:
            self.units.backlog(0).put(event)
        async with asyncio.timeout(5):
            while not self.watch.stages or self.watch.stages[-1] is not Stage.ACKED or self.units.busy_since:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(**runs: Run) -> AsyncIterator[Bench]:
    made = Bench(Script(**runs))
    try:
        yield made
    finally:
        await made.units.stop()


def row(text: bytes = b"") -> bytes:
    return index.pack(0, 0, 0, 0, 0) + text


async def test_what_takes_long_to_decide_is_done_in_several_units() -> None:
    """So the loop turns, and each unit's publish is acknowledged in time; nothing is passed over, and all in order."""
    seen: list[int] = []

    def slow(view: View, now: int) -> Decision:
        time.sleep(DECIDE_S / 5)
        seen.append(int((view.get(b"k") or row(b"0"))[index.HEADER.size :]))
        return Decision({b"k": row(b"%d" % len(seen))})

    async with bench(slow=slow) as b:
        events = [b.event("slow") for _ in range(20)]
        for event in events:
            b.units.backlog(0).put(event)
        async with asyncio.timeout(60):
            while b.publisher.journal.count("ack") < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert seen == list(range(20))
        assert b.publisher.journal.count("changelog") > 1
        first = b.publisher.journal.index("ack")
        assert b.publisher.journal[first:].count("changelog") >= 1
        assert b.store.rows == {b"k": row(b"20")}


async def test_units_learn_how_much_they_can_decide_and_read_little_twice() -> None:
    async with bench(slow=lambda view, now: time.sleep(DECIDE_S / 80) or NOTHING) as b:
        for event in [b.event("slow") for _ in range(400)]:
            b.units.backlog(0).put(event)
        async with asyncio.timeout(120):
            while b.publisher.journal.count("ack") < 400:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        # What is left over is read again: a thousand and more, if each unit took all.
        assert b.logic.read_count < 900


async def test_emits_then_changelog_then_rows_then_acks_with_a_fence_before_each_publish() -> None:
    began: list[str] = []

    def write(view: View, now: int) -> Decision:
        return Decision({b"k": row()}, (Out("topic", 0, b"k", b"v"),), (lambda: began.append("after"),))

    async with bench(write=write) as b:
        await b.done(b.event("write"))
        assert b.publisher.journal == ["fence emits", "emits", "fence changelog", "changelog", "ack"]
        assert b.store.rows == {b"k": row()}
        assert b.watch.stages == [
            Stage.RECEIVED,
            Stage.DECIDED,
            Stage.EMITTED,
            Stage.LOGGED,
            Stage.WRITTEN,
            Stage.ACKED,
        ]
        assert began == ["after"]


async def test_inputs_of_a_unit_see_what_those_before_them_decided() -> None:
    def add(view: View, now: int) -> Decision:
        return Decision({b"k": (view.get(b"k") or row()) + b"+"})

    async with bench(add=add) as b:
        await b.done(*(b.event("add") for _ in range(5)))
        assert b.store.rows == {b"k": row(b"+++++")}


async def test_a_decision_that_raises_three_times_is_a_dead_letter_and_stops_nobody() -> None:
    def bug(view: View, now: int) -> Decision:
        raise KeyError("what a person wrote")

    async with bench(bug=bug, write=lambda view, now: Decision({b"k": row()})) as b:
        first, second = b.event("bug", b"other"), b.event("write")
        await b.done(first, second)
        assert [out.value for out in b.publisher.out] == [b"dead"]
        assert b.store.rows == {b"k": row()}
        assert (first.acked, second.acked) == (1, 1)
        assert b.ended == []


async def test_a_decision_is_tried_again_before_it_is_given_up() -> None:
    raised: list[int] = []

    def flaky(view: View, now: int) -> Decision:
        if len(raised) < 2:
            raised.append(1)
            raise ValueError
        return Decision({b"k": row()})

    async with bench(flaky=flaky) as b:
        await b.done(b.event("flaky"))
        assert b.store.rows == {b"k": row()}


async def test_a_row_that_is_too_large_never_leaves() -> None:
    def grow(view: View, now: int) -> Decision:
        return Decision({b"k": b"x" * (MAX_ROW_BYTES + 1)}, (Out("topic", 0, b"k", b"must not leave"),))

    async with bench(grow=grow) as b:
        await b.done(b.event("grow"))
        assert [out.value for out in b.publisher.out] == [b"dead"]
        assert b.store.rows == {}


async def test_infrastructure_failure_ends_the_process_with_nothing_acked() -> None:
    async with bench(write=lambda view, now: Decision({b"k": row()})) as b:

        async def broken(*_: object) -> int:
            raise OSError("no broker")

        b.publisher.append = broken  # type: ignore[method-assign]
        event = b.event("write")
        b.units.backlog(0).put(event)
        async with asyncio.timeout(5):
            while not b.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert event.acked == 0
        assert b.store.rows == {}


async def test_a_parked_event_is_unacked_until_it_is_called() -> None:
    free = False

    def wait(view: View, now: int) -> Decision:
        return Decision({b"k": row()}) if free else Decision({}, park="EMAIL")

    async with bench(wait=wait) as b:
        event = b.event("wait")
        await b.done(event)
        assert event.acked == 0
        assert b.units.parked(0, "EMAIL") == 1
        free = True
        b.watch.stages.clear()
        b.units.call("EMAIL", 5)
        await b.done()
        assert event.acked == 1
        assert b.store.rows == {b"k": row()}


async def test_giving_a_partition_up_drops_events_and_timer_commands_but_no_word() -> None:
    heard: list[str] = []

    def say(view: View, now: int) -> Decision:
        heard.append("word")
        return NOTHING

    async with bench(say=say, fire=lambda view, now: NOTHING, write=lambda view, now: NOTHING) as b:
        backlog = b.units.backlog(0)
        dropped: list[int] = []
        b.units.dropped.append(dropped.append)
        event = b.event("write")
        backlog.put(event)
        b.units.give(0, [Fire(b"x" * 12), Word("say")])
        backlog.clear()
        await b.units.idle()
        assert heard == ["word"]
        assert event.acked == 0
        assert b.discarded == [event.message]
        assert dropped == [0]


async def test_an_event_of_an_older_generation_is_discarded() -> None:
    """Its partition may be another worker's by then."""
    async with bench(write=lambda view, now: Decision({b"k": row()})) as b:
        b.current = False
        event = b.event("write")
        b.units.backlog(0).put(event)
        async with asyncio.timeout(5):
            while not b.discarded:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert event.acked == 0
        assert b.store.rows == {}


async def test_the_oldest_record_that_is_not_acked_is_told_wherever_it_waits() -> None:
    def wait(view: View, now: int) -> Decision:
        return Decision({}, park="EMAIL")

    async with bench(wait=wait) as b:
        event = b.event("wait")
        event.taken = 40.0
        await b.done(event)
        assert b.units.oldest(100.0) == {("reminders", 0): 60.0}
        assert b.units.waiting(0) == 0, "it waits for a slot, and holds nothing up"
        assert b.units.ended[0] == 1
