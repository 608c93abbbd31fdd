"""Runs scenarios against an installation and has the checker judge each of them."""

import asyncio
import math
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos import workload
from tests.chaos.checker import DOUBLES, LOSSES, Fault, FaultKind, Span, Verdict, check, told
from tests.chaos.points import At, Point
from tests.chaos.scenarios import ALONE, Scenario, Way
from tests.chaos.service import CATCH_UP_MS, PATIENCE_S, Service, Slot
from tests.chaos.workload import Batch
from tests.kafka.harness import now_ms

Say = Callable[[str], None]
#: A point that the batch does not lead to within so many seconds is not met in this run.
MEET_S = 30.0
#: So many runs of each role are judged together: what a fault has left undone then never piles up.
TOGETHER = 4
#: How long the broker is away, in seconds: longer than a session.
AWAY_S = 10.0
#: How long a worker stays frozen, in seconds: longer than a session and what a takeover takes.
FROZEN_S = 10.0
#: What may still become right by itself.
_OPEN = frozenset(
    {FaultKind.LOST, FaultKind.UNFINISHED, FaultKind.UNSENT, FaultKind.UNFOLDED, FaultKind.STATUS, FaultKind.UNSAID}
)


@dataclass(slots=True)
class Run:
    """One run of a scenario. ``met``: whether its fault came about."""

    scenario: Scenario
    number: int
    batch: Batch
    met: bool = False
    recovery_ms: int = 0
    trouble: str = ""
    verdict: Verdict | None = None


@dataclass(slots=True)
class Row:
    """What came of all runs of a scenario."""

    name: str
    runs: int = 0
    met: int = 0
    reminders: int = 0
    lost: int = 0
    doubled: int = 0
    untimely: int = 0
    maybe_sent: int = 0
    worst_ms: int = 0
    faults: list[Fault] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Count a run."""
        self.runs += 1
        self.met += run.met
        self.worst_ms = max(self.worst_ms, run.recovery_ms)
        if run.trouble:
            self.trouble.append(run.trouble)
        if (verdict := run.verdict) is not None:
            self.reminders += verdict.reminders
            self.lost += verdict.of(LOSSES)
            self.doubled += verdict.of(DOUBLES)
            self.untimely += verdict.of((FaultKind.EARLY, FaultKind.LATE))
            self.maybe_sent += verdict.maybe_sent
            self.faults += verdict.faults


class Runner:
    """Runs what is planned."""

    def __init__(self, service: Service, seed: str, say: Say) -> None:
        self.service = service
        self.seed = seed
        self.say = say
        self.done: list[Run] = []
        self._numbers = 0
        self._began = time.monotonic()

    async def run(self, plan: Sequence[tuple[Scenario, int]], minutes: float = math.inf) -> list[Run]:
        """Run a plan, round by round: what can meet each role by itself at once, then what needs all for itself; and
        judge it. Nothing is begun after so many minutes. In the end all are judged once more: what has ended well may
        have been sent again since."""
        await self._rounds(plan, minutes)
        for run in self.done:
            self._judged(run, check(self.service.history(run.batch)))
        return self.done

    async def _rounds(self, plan: Sequence[tuple[Scenario, int]], minutes: float) -> None:
        for number in sorted({number for _, number in plan}):
            ours = [scenario for scenario, n in plan if n == number]
            lanes = [[s for s in ours if s.way not in ALONE and s.role == role] for role in ("core", "delivery")]
            for begin in range(0, max(map(len, lanes)), TOGETHER):
                if self._late(minutes):
                    return
                await asyncio.gather(*(self._lane(lane[begin : begin + TOGETHER], number) for lane in lanes))
                await self.judge()
            for scenario in (s for s in ours if s.way in ALONE):
                if self._late(minutes):
                    return
                await self._one(scenario, number)
                await self.judge()

    def _late(self, minutes: float) -> bool:
        return time.monotonic() - self._began > minutes * 60

    async def _lane(self, scenarios: Sequence[Scenario], number: int) -> None:
        for scenario in scenarios:
            await self._one(scenario, number)

    async def _one(self, scenario: Scenario, number: int) -> None:
        seed = f"{self.seed}/{scenario.name}/{number}"
        rng = Random(seed)
        self._numbers += 1
        for slot in list(self.service.slots.values()):
            if slot.role == scenario.role or scenario.way in ALONE:
                await self.service.is_ready(slot)
        other = None
        if scenario.way is Way.FREEZE:
            other = self.service.add(scenario.role, 1)
            await self.service.is_ready(other)
            await self.service.is_ready(self.service.slots[f"{scenario.role}-0"])
        name = f"{scenario.name.replace(' ', '-').replace(',', '')}.{number}"
        batch = workload.make(name, seed, now_ms() + 300, self._numbers, self.service.hooks.url)
        run = Run(scenario, number, batch)
        for slot in self.service.slots.values():
            if slot.role == scenario.role or scenario.way in ALONE:
                slot.recovery_ms = 0
        playing = self.service.later(self.service.play(batch))
        try:
            async with asyncio.timeout(PATIENCE_S * 2):
                await self._meet(run, rng)
        except (AssertionError, TimeoutError) as exc:
            run.trouble = f"{scenario.name}, run {number}: {str(exc) or 'it took too long'}"
            self.say(run.trouble)
        await playing
        if other is not None:
            await self.service.remove(other)
        self.done.append(run)
        met = f"back after {run.recovery_ms / 1000:.1f} s" if run.met else "not met"
        self.say(f"{time.monotonic() - self._began:6.0f} s  {scenario.name} #{number}: {met}")

    async def judge(self) -> None:
        """Wait until nothing of what was run is open any more, and judge it."""
        service = self.service
        await service.all_ready()
        waiting = [run for run in self.done if run.verdict is None]
        end, least = time.monotonic() + PATIENCE_S, sum(len(run.batch.ids) for run in waiting) + 1
        while waiting:
            verdicts = [(run, check(service.history(run.batch))) for run in waiting]
            if (left := sum(verdict.of(_OPEN) for _, verdict in verdicts)) < least:
                # Something has ended: it goes on.
                end, least = time.monotonic() + PATIENCE_S, left
            for run, verdict in verdicts:
                if not verdict.of(_OPEN) or time.monotonic() > end:
                    self._judged(run, verdict)
                    waiting.remove(run)
            await asyncio.sleep(0.5)

    def _judged(self, run: Run, verdict: Verdict) -> None:
        """Keep a verdict, and say what is new in it."""
        known = {(f.kind, f.reminder_id) for f in run.verdict.faults} if run.verdict is not None else set()
        fresh = [fault for fault in verdict.faults if (fault.kind, fault.reminder_id) not in known]
        run.verdict = verdict
        for fault in fresh:
            self.say(f"FAULT in {run.scenario.name} #{run.number}: {fault}")
        for rid in dict.fromkeys(fault.reminder_id for fault in fresh):
            self.say(told(self.service.history(run.batch), rid))

    # -- ways

    async def _meet(self, run: Run, rng: Random) -> None:
        scenario = run.scenario
        slot = self.service.slots[f"{scenario.role or 'core'}-0"]
        # How soon in the batch: the first unit, or one amid the others.
        point = Point(
            scenario.at,
            scenario.how,
            scenario.inputs,
            rng.randrange(3),
            rng.randrange(scenario.late_ms + 1),
        )
        match scenario.way:
            case Way.POINT:
                await self._at_point(run, slot, point)
            case Way.RESTART:
                await self._killed(slot, rng)
                slot.arm(Point(At.RECOVERED))
                await self._up(run, slot)
                run.met = not slot.disarm()
            case Way.TERM:
                await asyncio.sleep(0.5 + rng.random() * 2)
                slot.arm(Point(At.REVOKED))
                slot.signal(signal.SIGTERM)
                await self._ended(slot)
                await self._up(run, slot)
                run.met = not slot.disarm()
            case Way.JOIN:
                await self._joined(run, slot, rng)
            case Way.WIPE | Way.CORRUPT:
                await self._disk(run, slot, rng)
            case Way.STOP:
                await asyncio.sleep(0.5 + rng.random() * 2)
                slot.signal(signal.SIGTERM)
                await self._ended(slot)
                run.met = True
                if slot.code != 0:
                    raise AssertionError(f"a stop ended with {slot.code}:\n{slot.tail()}")
                await self._up(run, slot)
            case Way.FREEZE:
                await self._frozen(run, slot, point)
            case Way.THIRD:
                await self._third(run, slot, rng)
            case Way.BROKER_KILL | Way.BROKER_FROZEN | Way.UNREACHABLE:
                await self._without_broker(run, rng)

    async def _at_point(self, run: Run, slot: Slot, point: Point) -> None:
        starts = slot.starts
        slot.arm(point)
        end = time.monotonic() + MEET_S
        while slot.starts == starts and time.monotonic() < end:  # noqa: ASYNC110  # a process has no event
            await asyncio.sleep(0.05)
        run.met = not slot.disarm()
        await self._up(run, slot)

    async def _killed(self, slot: Slot, rng: Random) -> None:
        await asyncio.sleep(0.5 + rng.random() * 2)
        slot.signal(signal.SIGKILL)
        await self._ended(slot)

    async def _ended(self, slot: Slot) -> None:
        starts = slot.starts
        async with asyncio.timeout(PATIENCE_S):
            while slot.starts == starts and not slot.ended.is_set():  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.02)

    async def _up(self, run: Run, slot: Slot) -> None:
        await self.service.is_ready(slot)
        run.recovery_ms = max(run.recovery_ms, slot.recovery_ms)

    async def _joined(self, run: Run, slot: Slot, rng: Random) -> None:
        await asyncio.sleep(0.3 + rng.random())
        slot.arm(Point(At.REVOKED))
        began = now_ms()
        other = self.service.add(slot.role, 1)
        await self.service.is_ready(other)
        await self._up(run, slot)
        run.met = not slot.disarm()
        self.service.disturbed.append(Span(began, now_ms() + CATCH_UP_MS))
        await self.service.remove(other)

    async def _disk(self, run: Run, slot: Slot, rng: Random) -> None:
        """Harm what a worker keeps on its disk."""
        slot.may_start.clear()
        await self._killed(slot, rng)
        match run.scenario.way:
            case Way.WIPE:
                shutil.rmtree(slot.home)
            case Way.CORRUPT:
                damaged = damage(slot.home, rng)
                self.say(f"  damaged {damaged}")
        slot.may_start.set()
        run.met = True
        await self._up(run, slot)

    async def _frozen(self, run: Run, slot: Slot, point: Point) -> None:
        slot.arm(point)
        began, pid = now_ms(), slot.pid
        end = time.monotonic() + MEET_S
        while not stopped(pid) and time.monotonic() < end:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.05)
        run.met = stopped(pid)
        slot.disarm()
        if run.met:
            await asyncio.sleep(FROZEN_S)
            slot.signal(signal.SIGCONT)
            # It ends, since it cannot know that it is still meant; or it has nothing to write, and joins again.
            await asyncio.sleep(3)
        self.service.disturbed.append(Span(began, now_ms() + CATCH_UP_MS))
        await self._up(run, slot)

    async def _third(self, run: Run, slot: Slot, rng: Random) -> None:
        began = now_ms()
        others = []
        for index in (1, 2):
            await asyncio.sleep(rng.random())
            others.append(self.service.add(slot.role, index))
        await asyncio.sleep(2 + 3 * rng.random())
        slot.signal(signal.SIGKILL)
        run.met = True
        await self._ended(slot)
        await self._up(run, slot)
        for other in others:
            await self.service.is_ready(other)
        self.service.disturbed.append(Span(began, now_ms() + CATCH_UP_MS))
        for other in others:
            await self.service.remove(other, rng.choice((signal.SIGTERM, signal.SIGKILL)))

    async def _without_broker(self, run: Run, rng: Random) -> None:
        service = self.service
        await asyncio.sleep(0.8 + rng.random() * 2)
        began = now_ms()
        match run.scenario.way:
            case Way.BROKER_KILL:
                await asyncio.to_thread(service.broker.kill)
                await asyncio.sleep(2)
                await asyncio.to_thread(service.broker.restart)
            case Way.BROKER_FROZEN:
                service.broker.pause()
                await asyncio.sleep(AWAY_S)
                service.broker.resume()
            case _:
                service.wall.shut()
                await asyncio.sleep(AWAY_S)
                service.wall.open()
        back = now_ms()
        run.met = True
        # A worker that has lived through it says so; one that ends is started again.
        await asyncio.sleep(3)
        await service.all_ready()
        run.recovery_ms = now_ms() - back
        service.disturbed.append(Span(began, now_ms() + CATCH_UP_MS))


def stopped(pid: int) -> bool:
    """Return whether a process is halted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
    except FileNotFoundError:
        return False


def damage(home: Path, rng: Random) -> str:
    """Overwrite some bytes of a store's file, or cut it; return what was done."""
    files = sorted(p for p in home.rglob("*") if p.is_file() and p.stat().st_size and p.suffix in (".log", ".sst", ""))
    path = rng.choice([p for p in files if p.name != "LOCK" and ".db" in str(p.parent)])
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    cut = rng.random() < 0.3
    if cut:
        del data[at:]
    else:
        data[at : at + 64] = rng.randbytes(min(64, len(data) - at))
    path.write_bytes(bytes(data))
    return f"{path.relative_to(home)} {'cut' if cut else 'overwritten'} at {at} of {path.stat().st_size}"


def table(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> list[Row]:
    """Return a row a scenario, in their order."""
    rows = {scenario.name: Row(scenario.name) for scenario in scenarios}
    for run in runs:
        rows[run.scenario.name].add(run)
    return [row for row in rows.values() if row.runs]
