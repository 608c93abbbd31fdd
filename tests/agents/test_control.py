"""What the control reader makes of its records as time goes by, and what a release walks."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from agents.circuits import Board
from agents.control import Control
from agents.ports import Command, Word
from agents.release import LetGo, Releases
from app.circuits import of_core
from schemas import codec
from schemas.names import Channel, State
from schemas.records import ControlRecord
from tables import circuit, holds
from tables import due as index
from tables.holds import HOLD, RELEASE, Subject
from tests.agents.memory import MemoryStore

NOW = 1_796_112_000_000
HOUR = 3_600_000


class Reader(Control):
    """A reader whose records and whose clock a test has in its hands."""

    def __init__(self) -> None:
        unused: Any = None
        super().__init__(unused, "control", 1, clock=lambda: self.now, fatal=unused)
        self.now = NOW
        self.told: list[ControlRecord] = []
        self.shifts = 0
        self.changed.append(self.told.append)
        self.shifted.append(self._count)

    def _count(self) -> None:
        self.shifts += 1

    def read(self, record: ControlRecord, *, recurring: bool = False) -> None:
        key = holds.key(record.scope, recurring=recurring)
        self._apply(SimpleNamespace(key=key.encode(), value=codec.encode(record), offset=0))
        self._turn()

    def at(self, now: int) -> list[str]:
        self.now = now
        self._turn()
        return sorted(record.scope for record in self.active())


def test_a_hold_to_come_begins_and_ends_by_itself_and_each_is_told_once() -> None:
    reader = Reader()
    reader.read(ControlRecord("tenant:clinic", HOLD, NOW, NOW + HOUR, NOW + 2 * HOUR))
    assert reader.at(NOW) == []
    assert reader.at(NOW + HOUR) == ["tenant:clinic"]
    assert reader.holding(Subject(tenant="Clinic")) is not None
    assert reader.at(NOW + HOUR + 1) == ["tenant:clinic"]
    assert reader.shifts == 1
    assert reader.at(NOW + 2 * HOUR) == []
    assert reader.shifts == 2
    # What was held longer than it stood is let go now, and again by a worker that comes later.
    assert [(r.kind, r.scope) for r in reader.told[1:]] == [(RELEASE, "tenant:clinic")]
    assert [r.at for r in reader.released()] == [NOW + 2 * HOUR]


def test_what_recurs_goes_on_when_what_was_held_by_hand_is_released() -> None:
    reader = Reader()
    daily = ControlRecord(
        "channel:email", HOLD, NOW, NOW, every="daily", local="2026-12-01T09:00:00", zone="Europe/Berlin", lasts_ms=HOUR
    )
    reader.read(daily, recurring=True)
    reader.read(ControlRecord("channel:email", HOLD, NOW))
    assert reader.at(NOW) == ["channel:email", "channel:email"]
    reader.read(ControlRecord("channel:email", RELEASE, NOW))
    assert reader.channel_held("EMAIL")
    assert reader.at(NOW + HOUR) == []
    assert not reader.channel_held("EMAIL")
    assert reader.at(NOW + 24 * HOUR) == ["channel:email"]
    reader.read(ControlRecord("channel:email", RELEASE, NOW, every="recurring"), recurring=True)
    assert reader.at(NOW + 24 * HOUR) == []
    assert reader.at(NOW + 48 * HOUR) == []


def test_a_clock_that_goes_back_is_followed() -> None:
    reader = Reader()
    reader.read(ControlRecord("*", HOLD, NOW, NOW, NOW + HOUR))
    assert reader.at(NOW + HOUR) == []
    assert reader.at(NOW + 1) == ["*"]


class Walker:
    """Releases over memory."""

    def __init__(self, held: int) -> None:
        self.store = MemoryStore()
        for n in range(held):
            head = index.pack(index.STATE_CODES[State.HELD], 1, index.CHANNEL_CODES[Channel.EMAIL], NOW + HOUR, 0)
            self.store.rows[b"r%d" % n] = head
        self.store.rows[b"other"] = index.pack(index.SENDING, 1, 1, NOW, 0)
        self.given: list[bytes] = []
        self.releases = Releases(store=lambda: self, give=self.give, owned=lambda: {0}, partitions=1, clock=lambda: NOW)

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [(k, v) for k, v in sorted(self.store.rows.items()) if k >= start][:limit]

    def counts(self, partition: int) -> dict[tuple[int, int], int]:
        return dict(self.store.counts(partition))

    def give(self, partition: int, commands: Iterable[Command]) -> None:
        for command in commands:
            assert isinstance(command, Word)
            assert isinstance(command.body, LetGo)
            self.given.append(command.body.key)


async def test_a_release_walks_what_is_held_and_nothing_else() -> None:
    walker = Walker(3)
    walker.releases.changed(ControlRecord("tenant:clinic", RELEASE, NOW))
    await asyncio.gather(*walker.releases._walks.values())
    assert walker.given == [b"r0", b"r1", b"r2"]


async def test_a_hold_ends_a_walk_but_one_to_come_does_not() -> None:
    walker = Walker(50)
    walker.releases.changed(ControlRecord("tenant:clinic", RELEASE, NOW, rate_per_s=1000.0))
    walk = walker.releases._walks["tenant:clinic"]
    walker.releases.changed(ControlRecord("tenant:clinic", HOLD, NOW, NOW + HOUR))
    assert not walk.cancelling()
    walker.releases.changed(ControlRecord("tenant:clinic", HOLD, NOW))
    await asyncio.gather(walk, return_exceptions=True)
    assert walk.cancelled()
    assert len(walker.given) < 50


def test_an_event_that_is_named_is_passed_over_until_the_word_ends() -> None:
    reader = Reader()
    event: Any = SimpleNamespace(topic="reminders", partition=3, offset=1042, timestamp=NOW / 1000 - 60)
    other: Any = SimpleNamespace(topic="reminders", partition=3, offset=1043, timestamp=NOW / 1000 - 60)
    assert reader.skipped(event) is None
    said = ControlRecord("skip:reminders/3/1042", "SKIP", NOW, NOW, NOW + HOUR, "stuck")
    reader.read(said)
    assert reader.skipped(event) == said
    assert reader.skipped(other) is None
    # It is no hold, and no release when it ends.
    assert (reader.active(), reader.told, list(reader.released())) == ([], [], [])
    reader.now = NOW + HOUR
    assert (reader.skipped(event), list(reader.released())) == (None, [])
    reader.now = NOW
    reader._apply(SimpleNamespace(key=b"skip:reminders/3/1042", value=None, offset=1))
    assert reader.skipped(event) is None


def test_turns_of_circuits_are_told_by_the_log_and_by_time_and_are_no_holds() -> None:
    reader = Reader()
    limits = circuit.Limits()
    known = circuit.Circuit("email/smtp", beside=("smtp",))
    opens = circuit.opened(known, NOW, "a", "unreachable", limits, misconfigured=False)
    late = circuit.opened(known, NOW + 1, "b", "timeout", limits, misconfigured=False)
    assert opens is not None
    assert late is not None
    reader.read(opens)
    reader.read(late)
    assert reader.circuits.of("email/smtp").holder == "a"
    assert (reader.active(), reader.told, reader.records) == ([], [], {})
    assert reader.circuits.allowance("EMAIL") == 0
    assert reader.circuits.allowance("SMS") == circuit.FREE
    shut = reader.circuits.shut("EMAIL")
    assert shut is not None
    assert shut.reason == "unreachable"
    shifts = reader.shifts
    reader.at(NOW + limits.probe_ms - 1)
    assert reader.shifts == shifts
    reader.at(NOW + limits.probe_ms)
    assert reader.shifts == shifts + 1
    assert reader.circuits.allowance("EMAIL") == 1


async def test_a_circuit_that_closes_lets_go_what_it_kept_back() -> None:
    walker = Walker(3)
    paced: list[tuple[str, list[Channel], float]] = []
    timer: Any = SimpleNamespace(pace=lambda scope, channels, rate, since: paced.append((scope, list(channels), rate)))
    board = Board(lambda: NOW)
    again = of_core(board, timer, walker.releases, 50)
    limits = circuit.Limits()
    opens = circuit.opened(circuit.Circuit("email/smtp"), NOW, "a", "timeout", limits, misconfigured=False)
    assert opens is not None
    board.take(opens.scope, opens)
    assert not walker.releases._walks
    closes = circuit.closed(board.of("email/smtp"), NOW, "a")
    assert closes is not None
    board.take(closes.scope, closes)
    await asyncio.gather(*walker.releases._walks.values())
    assert walker.given == [b"r0", b"r1", b"r2"]
    assert paced == [("circuit:email/smtp", [Channel.EMAIL], 50)]
    # A worker that takes over walks again: the one before may have died over it.
    again()
    await asyncio.gather(*walker.releases._walks.values())
    assert len(walker.given) == 6
