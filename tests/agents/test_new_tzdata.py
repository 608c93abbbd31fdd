"""The walk after new time zone data: it finds the rows that older data placed, each once, and no other."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from agents.new_tzdata import CHUNK, NewTzdata, Placed
from agents.ports import Command, Word
from schemas import codec
from schemas.names import State
from schemas.records import Definition, ReminderRow
from tables import transition
from tests.rules.life import EMAIL, RULES, Reminder

OLD = replace(RULES, tzdata="tz:2025b")
WALL = Definition(local="2027-12-01T09:00", zone="Europe/Berlin", steps=EMAIL)
FIXED = Definition(at=1_900_000_000_000, steps=EMAIL)


class Rows:
    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def put(self, name: str, d: Definition, rules: transition.Rules) -> bytes:
        r = Reminder(rid=name)
        r.rules = rules
        r.upsert(d, 1)
        assert isinstance(r.row, ReminderRow)
        assert r.state is State.SCHEDULED
        self.rows[name.encode()] = transition.header(r.row, rules) + codec.encode(r.row)
        return name.encode()

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [(k, v) for k, v in sorted(self.rows.items()) if k >= start][:limit] if partition == 0 else []


async def test_rows_that_older_data_placed_are_looked_at_once() -> None:
    store, ready = Rows(), {0, 1}
    given: asyncio.Queue[Command] = asyncio.Queue()
    old = [store.put(f"a{n:04}", WALL, OLD) for n in range(CHUNK + 10)]
    store.put("b-new", WALL, RULES)
    store.put("c-fixed", FIXED, OLD)

    def give(partition: int, commands: Iterable[Command]) -> None:
        assert partition == 0
        for command in commands:
            given.put_nowait(command)

    walks = NewTzdata(store=lambda: store, give=give, ready=lambda: ready, stamp=RULES.tzdata)
    task = asyncio.create_task(walks.run())
    async with asyncio.timeout(10):
        walks.wake()
        assert [await given.get() for _ in old] == [Word(Placed(key)) for key in old]
        walks.wake()
        await asyncio.sleep(0.05)
        assert given.empty(), "a partition is walked once"
        await walks.forget()
        walks.wake()
        assert [await given.get() for _ in old] == [Word(Placed(key)) for key in old]
    task.cancel()


async def test_a_partition_that_is_given_up_is_walked_no_further() -> None:
    store, given, ready = Rows(), list[Command](), {0}
    gone = asyncio.Event()
    for n in range(CHUNK * 2):
        store.put(f"a{n:04}", WALL, OLD)

    def give(partition: int, commands: Iterable[Command]) -> None:
        given.extend(commands)
        ready.clear()
        gone.set()

    walks = NewTzdata(store=lambda: store, give=give, ready=lambda: ready, stamp=RULES.tzdata)
    task = asyncio.create_task(walks.run())
    walks.wake()
    async with asyncio.timeout(10):
        await gone.wait()
    await asyncio.sleep(0.25)
    task.cancel()
    assert len(given) == CHUNK
