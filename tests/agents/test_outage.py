"""A provider that is dead for an hour, with leases of five minutes: hours on a clock that jumps, in seconds.

It refuses connections, then it answers that it is not available, then it takes connections and says nothing. What it
says is what the channels' own tables make of that.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from channels import classify, fcm_codes
from channels.base import ChannelAdapter, Outcome, Send
from channels.classify import Fault, Phase
from channels.http_answers import Answer, Failure, HttpFault, fault_meaning
from schemas.names import Channel, OutcomeKind, State
from tests.agents import hours
from tests.agents.hours import T0, Hours, event
from tests.sandbox.fcm_server import refusal

MINUTE = 60.0
DIES, BACK = 5 * MINUTE, 65 * MINUTE
LEASE_MS = 300_000
RATE = 20
#: How long a call hangs that nobody answers, in seconds: the limit of the adapter's own.
HANGS_S = 10.0
NAMES = {Channel.EMAIL: "smtp", Channel.PUSH: "fcm"}


@dataclass
class Provider:
    """A provider as its workers meet it. ``does``: what it does at a time, in seconds from the beginning."""

    does: Callable[[float, Send], Awaitable[Outcome]]
    calls: list[tuple[float, str]] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)

    async def take(self, message: Send, provider: str) -> Outcome:
        self.taken[message.address] += 1
        return Outcome(OutcomeKind.ACCEPTED, "ok", provider)

    def most_within(self, seconds: float, since: float, until: float) -> int:
        """Return the most calls that began within so many seconds, between two times."""
        begun = sorted(at for at, _ in self.calls if since <= at < until)
        return max((bisect_left(begun, at + seconds) - n for n, at in enumerate(begun)), default=0)


class Way:
    """An adapter for a provider of these tests."""

    call_timeout_s = 30.0
    repeatable = False

    def __init__(self, provider: Provider, channel: Channel, concurrency: int = 10) -> None:
        self._provider = provider
        self.channel = channel
        self.name = NAMES[channel]
        self.concurrency = concurrency

    async def send(self, message: Send) -> Outcome:
        at = asyncio.get_running_loop().time()
        self._provider.calls.append((at, message.address))
        return await self._provider.does(at, message)


def refused(channel: Channel) -> Outcome:
    if channel is Channel.EMAIL:
        return _smtp(classify.smtp_fault(Phase.CONNECT, Fault.UNREACHABLE))
    return _fcm(fault_meaning(Failure(HttpFault.UNREACHABLE)))


def unavailable(channel: Channel) -> Outcome:
    if channel is Channel.EMAIL:
        return _smtp(classify.smtp_reply(Phase.CONNECT, 421, "4.3.2 not now"))
    reply = refusal(503, "UNAVAILABLE", "overloaded", code="UNAVAILABLE")
    return _fcm(fcm_codes.read_answer(Answer(503, reply.data)).meaning)


def silent(channel: Channel) -> Outcome:
    if channel is Channel.EMAIL:
        return _smtp(classify.smtp_fault(Phase.EHLO, Fault.TIMEOUT))
    return _fcm(fault_meaning(Failure(HttpFault.TIMEOUT)))


def _smtp(said: Any) -> Outcome:
    return Outcome(said.kind, said.reason, "smtp", retry_after_s=said.retry_after_s, reached=said.reached)


def _fcm(said: Any) -> Outcome:
    return Outcome(said.kind, said.reason, "fcm", reached=said.reached)


def dead_for_an_hour(channel: Channel, *phases: Callable[[Channel], Outcome]) -> Provider:
    """Return a provider that goes through phases of the same length while it is dead."""

    async def does(at: float, message: Send) -> Outcome:
        if not DIES <= at < BACK:
            await asyncio.sleep(0.05)
            return await provider.take(message, NAMES[channel])
        says = phases[int((at - DIES) * len(phases) / (BACK - DIES))]
        await asyncio.sleep(HANGS_S if says is silent else 0.02)
        return says(channel)

    provider = Provider(does)
    return provider


def adapters(provider: Provider, channel: Channel, **more: Any) -> Callable[[int], dict[Channel, ChannelAdapter]]:
    return lambda number: {channel: Way(provider, channel, **more)}  # type: ignore[dict-item]


@pytest.mark.parametrize("channel", [Channel.EMAIL, Channel.PUSH])
def test_after_an_hour_everything_goes_once_at_the_rate_and_nothing_is_in_doubt(channel: Channel) -> None:
    provider = dead_for_an_hour(channel, refused, unavailable, silent)

    async def hour() -> None:
        place = Hours(adapters(provider, channel), workers=2, lease_ms=LEASE_MS, catch_up_per_s=RATE)
        ids = [f"burst-{n}" for n in range(80)]
        await place.send(*(event(rid, T0 + int((DIES + 60) * 1000), channel) for rid in ids))
        for n in range(62):
            ids.append(f"each-minute-{n}")
            await place.send(event(ids[-1], T0 + int((n * MINUTE + 30) * 1000), channel))
        opened = 0.0
        while not opened:
            await asyncio.sleep(1)
            opened = next(((turn.at - T0) / 1000 for turn in place.turns if turn.state == "OPEN"), 0.0)
        # Those that were under way have ended by then.
        await asyncio.sleep(MINUTE)
        settled = asyncio.get_running_loop().time()
        await asyncio.sleep(BACK - settled)
        # Two probes a minute of all workers together, whatever waits.
        assert 1 <= provider.most_within(MINUTE, settled, BACK) <= 2
        waiting = [rid for rid in ids if place.state(rid) not in (State.SENT, State.MAYBE_SENT)]
        assert len(waiting) >= 120
        in_flight = [rid for rid in waiting if place.state(rid) is State.SENDING]
        assert len(in_flight) <= 4, "it waits in core, where it can be cancelled, and not in delivery"
        await asyncio.sleep(5 * MINUTE)
        assert Counter(place.state(rid) for rid in ids) == {State.SENT: len(ids)}
        assert set(provider.taken.values()) == {1}
        assert len(provider.taken) == len(ids)
        assert provider.most_within(1.0, BACK, BACK + 10 * MINUTE) <= RATE * 3 // 2
        assert {entry.to_state for entry in place.audit}.isdisjoint({State.MAYBE_SENT, State.DEAD_LETTER})
        assert place.bus.log["dlq"] == []
        await place.stop()

    hours.run(hour())


def turned_away(channel: Channel) -> Outcome:
    """Return what a mail server's 421 after RCPT comes to: it takes nothing from anybody."""
    return _smtp(classify.smtp_reply(Phase.RCPT, 421, "4.3.2 closing"))


@pytest.mark.parametrize(("channel", "says"), [(Channel.PUSH, unavailable), (Channel.EMAIL, turned_away)])
def test_the_few_that_wait_lose_no_attempt_by_the_probes_of_an_hour(
    channel: Channel, says: Callable[[Channel], Outcome]
) -> None:
    """It answers, so that each call counts. Two probes a minute of two dozen messages would use up five attempts of
    each."""
    provider = dead_for_an_hour(channel, says)

    async def hour() -> None:
        place = Hours(adapters(provider, channel), workers=2, lease_ms=LEASE_MS)
        ids = [f"r{n}" for n in range(24)]
        await place.send(*(event(rid, T0 + int((DIES + 60) * 1000), channel) for rid in ids))
        await asyncio.sleep(BACK + 5 * MINUTE)
        assert Counter(place.state(rid) for rid in ids) == {State.SENT: len(ids)}
        assert set(provider.taken.values()) == {1}
        # The calls that opened the circuit count.
        assert max(entry.attempt for entry in place.audit) <= 2
        await place.stop()

    hours.run(hour())


@pytest.mark.parametrize("room", [1000, 10])
def test_what_waits_longer_than_its_lease_behind_a_slow_provider_is_asked_again_and_called_once(room: int) -> None:
    """It takes every message, 25 s after it was called. With little room, what does not fit is turned away as busy."""

    async def does(at: float, message: Send) -> Outcome:
        await asyncio.sleep(25)
        return await provider.take(message, "smtp")

    provider = Provider(does)

    async def hour() -> None:
        place = Hours(
            adapters(provider, Channel.EMAIL, concurrency=4), workers=2, lease_ms=LEASE_MS, room=room, window=60
        )
        ids = [f"r{n}" for n in range(200)]
        await place.send(*(event(rid, T0 + 1000) for rid in ids))
        await asyncio.sleep(BACK)
        assert Counter(place.state(rid) for rid in ids) == {State.SENT: len(ids)}
        assert set(provider.taken.values()) == {1}
        reasons = Counter(entry.reason for entry in place.audit)
        # Not a turn a second for each that waits: so long until there is room.
        assert 0 < reasons["lease_expired" if room > 60 else "busy"] < 20 * len(ids)
        assert {entry.to_state for entry in place.audit}.isdisjoint({State.MAYBE_SENT, State.DEAD_LETTER})
        assert {entry.attempt for entry in place.audit} <= {0, 1}
        await place.stop()

    hours.run(hour())
