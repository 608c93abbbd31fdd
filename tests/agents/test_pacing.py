"""Pacing by the real clock: two workers, one rate."""

import asyncio
import time
from bisect import bisect_left
from types import SimpleNamespace
from typing import Any

from agents.pacing import Pacing, Slot
from schemas.names import Channel

SMTP: Any = SimpleNamespace(name="smtp", channel=Channel.EMAIL)
SECOND: Any = SimpleNamespace(name="smtp-2", channel=Channel.EMAIL)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def pacing(rates: dict[str, float], owned: set[int]) -> Pacing:
    return Pacing(rates, partitions=8, owned=lambda: owned, clock=now_ms)


async def test_two_workers_make_no_more_calls_in_any_second_than_both_may() -> None:
    made: list[int] = []
    workers = [pacing({"email/smtp": 40}, {0, 2, 4, 6}), pacing({"email/smtp": 40}, {1, 3, 5, 7})]

    async def call(worker: Pacing) -> None:
        slot = worker.reserve([SMTP])
        if slot is not None and await worker.turn(slot, SMTP):
            made.append(now_ms())

    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        await asyncio.gather(*(call(worker) for worker in workers for _ in range(30)))
    made.sort()
    assert len(made) >= 40
    # What is noted a moment after its slot was looked at may be noted late: that is not what is tested here.
    assert max(bisect_left(made, at + 1000) - n for n, at in enumerate(made)) <= 40


async def test_what_has_no_slot_soon_is_woken_when_there_is_one() -> None:
    slow = pacing({"email/smtp": 0.4}, set(range(8)))
    woken = asyncio.Event()
    slow.wake = lambda channel, count: woken.set()
    while slow.reserve([SMTP]) is not None:
        pass
    async with asyncio.timeout(30):
        await woken.wait()
    async with asyncio.timeout(30):
        while slow.reserve([SMTP]) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_provider_without_a_limit_is_called_at_once_and_takes_what_the_other_may_not_have() -> None:
    some = pacing({"email/smtp": 0.001}, set(range(8)))
    while (slot := some.reserve([SMTP, SECOND])) is not None and slot.name == "email/smtp":
        pass
    assert slot == Slot("email/smtp-2")
    assert await some.turn(slot, SECOND)
    # It was to go by the other one: there is no turn for that now.
    assert not await some.turn(slot, SMTP)
    assert some.limits(SMTP)
    assert not some.limits(SECOND)


async def test_without_a_partition_there_is_no_slot() -> None:
    assert pacing({"email/smtp": 10}, set()).reserve([SMTP]) is None
