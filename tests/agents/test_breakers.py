"""Breakers of several workers over one log: who opens, who may probe, who waits, and who is told."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.breakers import Admitted, Breakers
from agents.circuits import Board
from agents.ports import Out
from channels.base import Outcome
from schemas import codec
from schemas.names import Channel, OutcomeKind
from schemas.records import ControlRecord
from tables.circuit import Circuit, Limits, Phase

NAME = "email/smtp"
ACCEPTED = Outcome(OutcomeKind.ACCEPTED, "ok", "smtp")
UNREACHABLE = Outcome(OutcomeKind.DEFERRED, "unreachable", "smtp", reached=False)
REFUSED = Outcome(OutcomeKind.MISCONFIGURED, "auth_refused", "smtp", reached=False)


class Log:
    """A log that all workers read at once, in its order."""

    def __init__(self) -> None:
        self.now = 1_796_112_000_000
        self.records: list[ControlRecord] = []
        self.boards: list[Board] = []

    async def publish(self, out: list[Out]) -> None:
        for one in out:
            record = codec.decode(ControlRecord, one.value or b"")
            self.records.append(record)
            for board in self.boards:
                board.take((one.key or b"").decode(), record)

    @property
    def turns(self) -> list[str]:
        return [record.state for record in self.records if record.turn]


class Worker:
    """A worker with some of eight partitions and its adapters."""

    def __init__(self, log: Log, owned: set[int], *names: str, limits: Limits | None = None) -> None:
        self.alerts: list[Circuit] = []
        self.board = Board(lambda: log.now)
        log.boards.append(self.board)
        self.adapters: list[Any] = [
            SimpleNamespace(name=name, channel=Channel.EMAIL, concurrency=2) for name in names or ("smtp",)
        ]
        self.breakers = Breakers(
            self.board,
            topic="control",
            partitions=8,
            publish=log.publish,
            owned=lambda: owned,
            clock=lambda: log.now,
            limits=limits or Limits(),
            fatal=lambda why, exc: pytest.fail(f"{why}: {exc!r}"),
            alert=self.alerts.append,
        )
        self.breakers.serves(self.adapters)

    async def fed(self, outcome: Outcome, count: int = 1, probe: str = "", channel: Channel = Channel.EMAIL) -> None:
        for _ in range(count):
            self.breakers.fed(channel, outcome, outcome.provider, probe)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def admit(self, delivery: str = "d") -> Admitted | Outcome:
        return await self.breakers.admit(Channel.EMAIL, self.adapters, delivery)


async def test_a_worker_alone_opens_at_once_and_its_probe_closes_or_leaves_it_open() -> None:
    log = Log()
    worker = Worker(log, set(range(8)))
    await worker.fed(UNREACHABLE, 19)
    assert isinstance(await worker.admit(), Admitted)
    await worker.fed(UNREACHABLE)
    held = await worker.admit()
    assert isinstance(held, Outcome)
    assert (held.kind, held.reason, held.reached) == (OutcomeKind.HELD, "hold:circuit:email/smtp", False)
    assert held.retry_after_s == 31.0
    for outcome, left in ((UNREACHABLE, Phase.OPEN), (ACCEPTED, Phase.CLOSED)):
        log.now += 31_000
        admitted = await worker.admit()
        assert isinstance(admitted, Admitted)
        assert admitted.probe == NAME
        assert isinstance(await worker.admit(), Outcome)
        await worker.fed(outcome, probe=admitted.probe)
        assert worker.board.of(NAME).phase is left
    assert log.turns == ["OPEN", "PROBING", "OPEN", "PROBING", "CLOSED"]
    # Told when it opened and when it works again, not at each probe.
    assert [c.phase for c in worker.alerts] == [Phase.OPEN, Phase.CLOSED]


async def test_failures_of_several_workers_are_added_and_others_successes_too() -> None:
    for good, opens in ((0, True), (50, False)):
        log = Log()
        workers = [Worker(log, {0, 1, 2, 3}), Worker(log, {4, 5, 6, 7})]
        await workers[0].fed(UNREACHABLE, 12)
        await workers[1].fed(UNREACHABLE, 10)
        await workers[1].fed(ACCEPTED, good)
        for _ in range(4):
            for worker in workers:
                await worker.breakers.tick()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.now += 1000
        assert [worker.board.of(NAME).shut(log.now) for worker in workers] == [opens, opens]
        assert sum(len(worker.alerts) for worker in workers) == opens


async def test_of_two_workers_one_has_the_probe_and_the_other_waits_for_the_next() -> None:
    log = Log()
    workers = [Worker(log, {0, 1, 2, 3}), Worker(log, {4, 5, 6, 7})]
    await workers[0].fed(REFUSED)
    assert all(worker.board.of(NAME).misconfigured for worker in workers)
    log.now += 31_000
    found = await asyncio.gather(*(worker.admit() for worker in workers for _ in range(3)))
    assert sum(isinstance(one, Admitted) for one in found) == 1
    held = next(one for one in found if isinstance(one, Outcome))
    assert held.code == "auth_refused"
    # What nobody ended is no probe for ever.
    log.now += 31_000
    assert isinstance(await workers[1].admit(), Admitted)


async def test_few_wait_for_the_next_probe_and_the_others_longer() -> None:
    log = Log()
    worker = Worker(log, set(range(8)))
    await worker.fed(REFUSED)
    waits = []
    for n in range(60):
        held = await worker.admit(f"d{n}")
        assert isinstance(held, Outcome)
        waits.append(held.retry_after_s or 0)
    assert set(waits[:20]) == {31.0}
    assert len({round(wait) for wait in waits[20:]}) > 20
    assert max(waits) <= 331


async def test_a_provider_that_asks_for_time_has_it_from_all_workers_and_no_other_provider_does() -> None:
    log = Log()
    workers = [Worker(log, {0}, "one", "two"), Worker(log, {1}, "one", "two")]
    slower = Outcome(OutcomeKind.DEFERRED, "service_unavailable", "one", retry_after_s=40, reached=False)
    await workers[0].fed(slower)
    for worker in workers:
        admitted = await worker.admit()
        assert isinstance(admitted, Admitted)
        assert [adapter.name for adapter in admitted.adapters] == ["two"]
    log.now += 40_000
    admitted = await workers[1].admit()
    assert isinstance(admitted, Admitted)
    assert [adapter.name for adapter in admitted.adapters] == ["one", "two"]
    # Of one mail alone it says nothing of the others: greylisting.
    await workers[0].fed(Outcome(OutcomeKind.DEFERRED, "greylisted", "two", retry_after_s=300))
    assert not workers[0].board.of("email/two").shut(log.now)
    # Whoever takes mails by HTTP means all of them.
    await workers[0].fed(Outcome(OutcomeKind.DEFERRED, "rate_limited", "two", retry_after_s=300))
    assert workers[0].board.of("email/two").shut(log.now)


async def test_a_provider_that_keeps_calls_waiting_is_not_the_first_to_be_tried() -> None:
    log = Log()
    worker = Worker(log, set(range(8)), "one", "two")

    async def order() -> list[str]:
        admitted = await worker.admit()
        assert isinstance(admitted, Admitted)
        return [adapter.name for adapter in admitted.adapters]

    with worker.breakers.calling(worker.adapters[0]):
        log.now += 2_999
        assert await order() == ["one", "two"]
        log.now += 1
        assert await order() == ["two", "one"]
        await worker.fed(Outcome(OutcomeKind.ACCEPTED, "ok", "one"))
        assert await order() == ["one", "two"]
        with worker.breakers.calling(worker.adapters[0]):
            assert await order() == ["two", "one"]
    assert await order() == ["one", "two"]


async def test_the_probe_of_one_provider_goes_on_to_the_one_beside_it() -> None:
    log = Log()
    worker = Worker(log, set(range(8)), "one", "two")
    await worker.fed(Outcome(OutcomeKind.MISCONFIGURED, "auth_refused", "one", reached=False))
    admitted = await worker.admit()
    assert isinstance(admitted, Admitted)
    assert ([a.name for a in admitted.adapters], admitted.probe) == (["two"], "")
    log.now += 31_000
    admitted = await worker.admit()
    assert isinstance(admitted, Admitted)
    assert ([a.name for a in admitted.adapters], admitted.probe) == (["one", "two"], "email/one")


async def test_receivers_of_webhooks_stand_alone() -> None:
    log = Log()
    worker = Worker(log, set(range(8)))
    failed = Outcome(OutcomeKind.DEFERRED, "unreachable", "webhook", reached=False)
    await worker.fed(failed, 100, channel=Channel.WEBHOOK)
    assert log.records == []
