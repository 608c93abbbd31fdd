"""The timer: lanes, credit, watermarks, and the sleep between."""

import asyncio
from collections.abc import Iterable
from itertools import pairwise

from agents.ports import Command, Fire
from agents.timer import LOOK_AGAIN_MS, Timer, _Pace
from schemas.names import Channel, Lane, State
from tables import due as index
from tests.agents.memory import MemoryStore


class Clockwork:
    """A timer over memory, with a clock that stands still until it is set."""

    def __init__(self, window: int = 10) -> None:
        self.store = MemoryStore()
        self.now = 1000
        self.given: list[bytes] = []
        self.timer = Timer(
            store=lambda: self.store,
            give=self.give,
            partitions=lambda: [0],
            clock=lambda: self.now,
            window=window,
            scanned=lambda: None,
        )

    def give(self, partition: int, commands: Iterable[Command]) -> None:
        self.given += [index.row_key_of(c.index_key) for c in commands if isinstance(c, Fire)]

    def put(
        self,
        name: str,
        due: int,
        *,
        lane: Lane = Lane.NORMAL,
        channel: Channel = Channel.EMAIL,
        state: State = State.SCHEDULED,
        deadline: int = 0,
    ) -> None:
        row = index.pack(index.STATE_CODES[state], lane, index.CHANNEL_CODES[channel], due, deadline)
        added = self.store.write_rows(0, {name.encode(): row}, None)
        self.timer.written(0, [], added)

    def serve(self) -> list[str]:
        self.given.clear()
        self.timer._serve(0)
        return [key.decode() for key in self.given]

    def claimed(self, name: str, channel: Channel = Channel.EMAIL, due: int = 0) -> None:
        """Let a unit claim a row, as dispatch would."""
        key = name.encode()
        old = next(e for e in index.entries(key, self.store.rows[key]))
        sending = index.pack(index.SENDING, index.unpack(self.store.rows[key]).lane, old[1], self.now + 60_000, 0)
        added = self.store.write_rows(0, {key: sending}, None)
        self.timer.written(0, [Fire(old)], added)

    def settled(self, name: str) -> None:
        added = self.store.write_rows(0, {name.encode(): None}, None)
        self.timer.written(0, [], added)


def test_what_is_due_is_issued_once() -> None:
    work = Clockwork()
    work.put("due", 900)
    work.put("later", 5000)
    assert work.serve() == ["due"]
    assert work.serve() == []
    work.now = 5000
    assert work.serve() == ["later"]


def test_urgent_goes_before_normal_before_bulk() -> None:
    work = Clockwork()
    work.put("bulk", 100, lane=Lane.BULK)
    work.put("normal", 200)
    work.put("urgent", 900, lane=Lane.URGENT)
    assert work.serve() == ["urgent", "normal", "bulk"]


def test_a_full_window_stops_its_channel_and_no_other() -> None:
    work = Clockwork(window=2)
    for n in range(4):
        work.put(f"mail-{n}", 100 + n)
    work.put("sms", 999, channel=Channel.SMS)
    assert work.serve() == ["mail-0", "mail-1", "sms"]
    work.claimed("mail-0")
    work.claimed("mail-1")
    assert work.serve() == []
    work.settled("mail-0")
    assert work.serve() == ["mail-2"]


def test_bulk_leaves_the_last_part_of_the_window() -> None:
    work = Clockwork(window=10)
    for n in range(10):
        work.put(f"bulk-{n}", 100 + n, lane=Lane.BULK)
    assert len(work.serve()) == 8
    for n in range(8):
        work.claimed(f"bulk-{n}")
    work.put("urgent", 900, lane=Lane.URGENT)
    assert work.serve() == ["urgent"]


def test_what_is_released_at_a_rate_is_claimed_at_that_rate_urgent_first() -> None:
    work = Clockwork(window=100)
    for n in range(5):
        work.put(f"mail-{n}", 100 + n)
    work.put("urgent", 900, lane=Lane.URGENT)
    work.put("sms", 900, channel=Channel.SMS)
    work.timer.pace("channel:email", [Channel.EMAIL], 4.0, 1000)
    assert work.serve() == ["urgent", "sms"]
    assert work.serve() == []
    assert work.timer._serve(0) == 1250, "it sleeps until the next slot"
    claimed = []
    while work.now < 2500:
        work.now += 50
        claimed += [(name, work.now) for name in work.serve()]
    assert claimed == [(f"mail-{n}", 1250 + 250 * n) for n in range(5)]
    for name, _ in claimed:
        work.claimed(name)
    for n in range(5):
        work.put(f"later-{n}", 2400)
    assert len(work.serve()) == 5, "nothing is left of what was due when it was released"


def test_a_slow_time_is_not_made_up_for_at_once() -> None:
    work = Clockwork(window=100)
    for n in range(50):
        work.put(f"mail-{n:02d}", 100 + n)
    work.timer.pace("*", [Channel.EMAIL, Channel.SMS], 4.0, 1000)
    assert len(work.serve()) == 1
    work.now += 60_000
    assert len(work.serve()) <= 5


def test_a_release_without_a_rate_ends_the_pace() -> None:
    work = Clockwork(window=100)
    for n in range(9):
        work.put(f"mail-{n}", 100 + n)
    work.timer.pace("channel:email", [Channel.EMAIL], 1.0, 1000)
    assert len(work.serve()) == 1
    work.timer.pace("channel:email", [Channel.EMAIL], 0.0, 1000)
    assert len(work.serve()) == 8


def test_after_downtime_what_is_withdrawn_first_keeps_to_the_pace_as_well() -> None:
    work = Clockwork(window=100)
    work.put("missed", 100)
    work.timer.pace("after downtime", [Channel.EMAIL], 1.0, 1000, until=20_000)
    assert work.serve() == ["missed"]
    work.claimed("missed")
    for n in range(5):
        work.put(f"latest-{n}", 500)
    work.now = 2000
    assert work.serve() == ["latest-0"]
    work.now = 21_000
    for n in range(5):
        work.claimed(f"latest-{n}")
    for n in range(5):
        work.put(f"later-{n}", 20_000)
    assert len(work.serve()) == 5


def test_all_partitions_together_keep_to_the_rate() -> None:
    pace = _Pace(20.0, 0, 8, frozenset({1}))
    times: list[int] = []
    for now in range(10_000, 14_000):
        for partition in range(8):
            if slots := pace.slots(partition, now):
                pace.use(partition, slots)
                times += [now] * slots
    assert 79 <= len(times) <= 81
    assert all(later - earlier >= 49 for earlier, later in pairwise(times))


def test_bulk_is_sent_through_the_narrowest_window_too() -> None:
    work = Clockwork(window=1)
    work.put("bulk", 100, lane=Lane.BULK)
    assert work.serve() == ["bulk"]


def test_what_comes_urgently_amid_a_flood_of_bulk_is_next() -> None:
    """However much of it is due, and however often its window comes free."""
    work = Clockwork(window=10)
    for n in range(500):
        work.put(f"bulk-{n:03d}", 100 + n, lane=Lane.BULK)
    first = work.serve()
    assert len(first) == 8
    for name in first:
        work.claimed(name)
    for n in range(5):
        work.put(f"urgent-{n}", 950, lane=Lane.URGENT)
    assert work.serve() == ["urgent-0", "urgent-1"], "the part of the window that bulk leaves"
    for name in ("urgent-0", "urgent-1"):
        work.claimed(name)
    for name in first[:3]:
        work.settled(name)
    assert work.serve() == ["urgent-2", "urgent-3", "urgent-4"]


def test_a_held_or_full_channel_hides_no_other_in_any_lane() -> None:
    work = Clockwork(window=2)
    work.timer._held = {Channel.EMAIL}.__contains__
    for lane in Lane:
        for n in range(5):
            work.put(f"mail-{lane}-{n}", 100, lane=lane)
            work.put(f"push-{lane}-{n}", 100, lane=lane, channel=Channel.PUSH)
        work.put(f"sms-{lane}", 999, lane=lane, channel=Channel.SMS)
    served = work.serve()
    assert [name for name in served if name.startswith("sms")] == ["sms-0", "sms-1"]
    assert [name for name in served if name.startswith("push")] == ["push-0-0", "push-0-1"]
    assert not [name for name in served if name.startswith("mail")]
    for name in ("sms-0", "sms-1"):
        work.claimed(name, Channel.SMS, 999)
        work.settled(name)
    assert "sms-2" in work.serve()


def test_a_write_below_the_watermark_lowers_it() -> None:
    work = Clockwork()
    work.put("b", 900)
    assert work.serve() == ["b"]
    work.put("a", 100)
    assert work.serve() == ["a"]


def test_dropped_commands_are_issued_again() -> None:
    work = Clockwork()
    work.put("due", 900)
    assert work.serve() == ["due"]
    work.timer.forget(0)
    assert work.serve() == ["due"]


def test_an_entry_that_outlives_its_command_stays_in_sight() -> None:
    work = Clockwork()
    work.put("due", 900)
    (key,) = work.store.scan_due(0, index.group(Lane.NORMAL, 1), b"", 1000, 5)
    assert work.serve() == ["due"]
    work.timer.written(0, [Fire(key)], [])
    assert work.serve() == []
    work.now += LOOK_AGAIN_MS
    assert work.serve() == ["due"]


def test_a_deadline_is_served_though_its_row_waits_for_credit() -> None:
    work = Clockwork(window=0)
    work.put("waits", 100, deadline=950)
    assert work.serve() == ["waits"]


async def test_it_sleeps_until_a_write_wakes_it() -> None:
    work = Clockwork()
    work.put("far", 10_000_000)
    running = asyncio.create_task(work.timer.run())
    for _ in range(20):
        await asyncio.sleep(0)
    scans = work.store.scans
    await asyncio.sleep(0.05)
    assert work.store.scans == scans
    work.put("now", work.now)
    await asyncio.sleep(0.01)
    assert b"now" in work.given
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_held_channel_has_no_credit_until_it_is_released() -> None:
    work = Clockwork()
    held = {Channel.EMAIL}
    work.timer._held = held.__contains__
    work.put("mail", 900)
    work.put("sms", 950, channel=Channel.SMS)
    assert work.serve() == ["sms"]
    held.clear()
    assert work.serve() == []
    work.timer.recount()
    assert work.serve() == ["mail"]


def test_an_open_circuit_lets_nothing_out_and_one_a_partition_when_a_probe_is_due() -> None:
    work = Clockwork(window=10)
    most = {Channel.EMAIL: 0}
    work.timer._most = lambda channel: most.get(channel, 1 << 30)
    for n in range(3):
        work.put(f"mail-{n}", 100 + n)
    work.put("bulk", 100, lane=Lane.BULK)
    work.put("sms", 999, channel=Channel.SMS)
    assert work.serve() == ["sms"]
    most[Channel.EMAIL] = 1
    work.timer.recount()
    assert work.serve() == ["mail-0"]
    work.claimed("mail-0")
    assert work.serve() == []
    most[Channel.EMAIL] = 1 << 30
    work.timer.recount()
    assert sorted(work.serve()) == ["bulk", "mail-1", "mail-2"]
