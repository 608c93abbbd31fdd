"""The walk after a change of the master key: bounded chunks, what is left after a break, and how many still wait."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from agents import rewrap
from agents.ports import Command, Word
from agents.rewrap import CHUNK, Renew, Rewrapping
from schemas import codec, ids
from schemas.sealing import Sealing
from tables import rewrap as rules
from tests.agents.test_forgetting import Partition
from tests.rules.test_rewrap import BOTH, OF_NEW, OF_OLD, link


class Worker:
    """The rows of one partition, and what a walk gives to it; ``taken``: commands that are still carried out."""

    def __init__(self, count: int, sealing: Sealing = BOTH) -> None:
        self.partition = Partition()
        object.__setattr__(self.partition.work, "sealing", sealing)
        self.view = self.partition.view
        self.view.clear()
        for n in range(count):
            self.view[ids.link_key("anna", f"r{n:04}")] = self.partition.work.written(link(OF_OLD), 77)
        self.chunks: list[int] = []
        self.said: list[Mapping[str, int]] = []
        self.taken = 10**6
        self.walks = Rewrapping(
            self.partition.work, store=lambda: self, give=self.give, ready=lambda: {0}, say=self.said.append
        )

    def scan_prefix(self, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return self.view.scan(prefix, start, limit)

    def give(self, partition: int, commands: Iterable[Command]) -> None:
        commands = list(commands)
        self.chunks.append(len(commands))
        for command in commands[: self.taken]:
            self.taken -= 1
            assert isinstance(command, Word)
            job = rewrap.job(self.partition.work, command)
            assert job is not None
            self.view.update(job.run(self.view, 1).rows)

    async def walked(self, until: int) -> None:
        """Let it walk until it has said so often how many wait."""
        task = asyncio.create_task(self.walks.run())
        self.walks.wake()
        async with asyncio.timeout(30):
            while len(self.said) < until:  # noqa: ASYNC110 - it is told by a plain function
                await asyncio.sleep(0.01)
        task.cancel()

    @property
    def old(self) -> int:
        return sum(OF_NEW.tag not in (raw or b"") for raw in self.view.values())


async def test_every_row_is_written_once_in_chunks_and_then_none_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrap, "AGAIN_S", 0.01)
    worker = Worker(CHUNK + 10)
    await worker.walked(2)
    assert worker.old == 0
    assert worker.chunks == [CHUNK, 10]
    assert [sum(told.values()) for told in worker.said] == [CHUNK + 10, 0]
    assert codec.is_a(type(link()), (worker.view[ids.link_key("anna", "r0000")] or b"")[20:])


async def test_a_walk_that_was_broken_off_goes_on_with_what_is_left() -> None:
    worker = Worker(30)
    worker.taken = 12
    await worker.walked(1)
    assert worker.old == 18
    worker.taken, worker.chunks = 10**6, []
    await worker.walks.forget()
    worker.said.clear()
    await worker.walked(1)
    assert (worker.old, worker.chunks) == (0, [18])


@pytest.mark.parametrize("raises", [True, False])
async def test_a_damaged_row_is_counted_and_then_left_alone(monkeypatch: pytest.MonkeyPatch, raises: bool) -> None:
    monkeypatch.setattr(rewrap, "AGAIN_S", 0.01)
    worker = Worker(5)
    damaged, real, tries = ids.link_key("anna", "r0003"), rules.renewed, 0

    def renewed(key: bytes, *more: Any) -> bytes | None:
        nonlocal tries
        if key != damaged:
            return real(key, *more)
        tries += 1
        if raises and tries > 1:
            raise ValueError("damaged")
        return None

    monkeypatch.setattr(rules, "renewed", renewed)
    await worker.walked(2)
    assert (worker.chunks, tries) == ([5], 2)
    assert [sum(told.values()) for told in worker.said] == [5, 1], "it is still counted"
    assert not worker.walks._to_look_at(0)
    await worker.walks.forget()
    assert worker.walks._to_look_at(0), "until the next assignment"


async def test_without_the_old_key_they_are_counted_and_left() -> None:
    worker = Worker(5, OF_NEW)
    await worker.walked(1)
    assert (worker.old, worker.chunks) == (5, [])
    assert worker.said[-1]["unknown_key"] == 5


def test_a_row_that_has_changed_since_is_looked_at_again() -> None:
    worker = Worker(1)
    (key,) = worker.view
    job = rewrap.job(worker.partition.work, Word(Renew(key)))
    assert job is not None
    before = worker.view[key] or b""
    after = job.run(worker.view, 1).rows[key] or b""
    assert after[:20] == before[:20], "its time stays"
    worker.view[key] = after
    assert not job.run(worker.view, 1).rows
    del worker.view[key]
    assert not job.run(worker.view, 1).rows
