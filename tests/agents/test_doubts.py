"""Doubts through the whole decision: calls that are cut, and workers that die, at any time.

With HOLD nobody gets two. With RESEND nobody is missing. Each doubt is listed, asked about where the provider keeps a
list, and settled by what a person finds out. The cuts themselves, on real connections, are in
``tests/channels/test_cuts.py``; the same deaths on a real broker are in ``tests/kafka/test_kills.py``.
"""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from channels.base import OnRecord, Outcome, Send
from schemas.names import Action, Channel, MaybeSent, OutcomeKind, State
from schemas.records import Contact, RecipientEvent, ReminderEvent, Step
from tests.agents import hours
from tests.agents.hours import T0, Hours, now_ms

COUNT = 60
#: One reminder a second.
SPREAD_MS = 1_000
NAMES = {Channel.EMAIL: "smtp", Channel.SMS: "twilio"}


class Cutting:
    """A provider to which the way breaks at times: before it had a message, while it had it, or after. What becomes of
    a call depends on its message and its number alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.taken: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.listed: dict[str, list[OnRecord]] = {}

    async def call(self, message: Send, provider: str) -> Outcome:
        self.calls[message.address] += 1
        rng = random.Random(f"{self.seed} {message.address} {self.calls[message.address]}")
        fate = rng.choices(["taken", "unsent", "lost", "unanswered"], (14, 5, 3, 3))[0]
        await asyncio.sleep(rng.uniform(0, 2))
        if fate == "unsent":
            return Outcome(OutcomeKind.DEFERRED, "connection_lost", provider, reached=False)
        if fate == "lost":
            return Outcome(OutcomeKind.MAYBE_SENT, "connection_lost", provider)
        # From here on whoever dies leaves a message behind that was taken.
        self.taken[message.address] += 1
        number = f"SM{sum(self.taken.values()):032x}"
        self.listed.setdefault(message.address, []).append(OnRecord(number, now_ms(), message.text))
        await asyncio.sleep(rng.uniform(0, 2))
        if fate == "unanswered":
            return Outcome(OutcomeKind.MAYBE_SENT, "no_answer", provider)
        return Outcome(OutcomeKind.ACCEPTED, "ok", provider, provider_id=number)


class Mail:
    """An adapter whose provider cannot be asked what it has."""

    channel = Channel.EMAIL
    name = NAMES[Channel.EMAIL]
    concurrency = 20
    call_timeout_s = 10.0
    repeatable = False

    def __init__(self, provider: Cutting) -> None:
        self.provider = provider

    async def send(self, message: Send) -> Outcome:
        return await self.provider.call(message, self.name)


class Text(Mail):
    """An adapter whose provider keeps a list."""

    channel = Channel.SMS
    name = NAMES[Channel.SMS]

    def words(self, message: Send) -> str:
        return message.text

    async def look_up(self, address: str, since_ms: int, until_ms: int) -> tuple[OnRecord, ...] | Outcome:
        await asyncio.sleep(0.1)
        return tuple(one for one in self.provider.listed.get(address, []) if since_ms <= one.created_ms <= until_ms)


class Life:
    """An installation with two delivery workers that die at times."""

    def __init__(self, kind: type[Mail], rule: MaybeSent, seed: int) -> None:
        self.provider = Cutting(seed)
        self.kind, self.rng = kind, random.Random(seed)
        self.place = Hours(lambda number: self._adapters(), workers=2, maybe_sent=rule)
        self.addresses = {f"r{n}": f"r{n}@people.example" if kind is Mail else f"+1201555{n:04d}" for n in range(COUNT)}

    def _adapters(self) -> dict[Channel, Any]:
        return {self.kind.channel: self.kind(self.provider)}

    async def through(self) -> None:
        """Send them all, with five deaths on the way, and wait until nothing is left to be tried.

        Their contacts are the recipients': what a new worker knows of an address in doubt, it knows from there.
        """
        channel = self.kind.channel
        for n, (rid, address) in enumerate(self.addresses.items()):
            await self.place.know(RecipientEvent(rid, zone="UTC", contacts=(Contact(channel, address),)))
            steps = (Step(channel),)
            at = T0 + 5_000 + n * SPREAD_MS
            await self.place.send(ReminderEvent(rid, recipient_id=rid, at=at, text="Bring your card.", steps=steps))
        for _ in range(5):
            await asyncio.sleep(self.rng.uniform(1, 8))
            await self.place.kill(self.rng.choice(self.place.workers))
        # Three looks at a list take ten minutes; five attempts a quarter of an hour, and five doubts in a row an hour.
        await asyncio.sleep(3600)

    def states(self) -> Counter[State]:
        return Counter(self.place.state(rid) for rid in self.addresses)

    def taken(self, rid: str) -> int:
        return self.provider.taken[self.addresses[rid]]

    def doubts(self) -> list[str]:
        return [rid for rid in self.addresses if self.place.state(rid) is State.MAYBE_SENT]

    async def found_out(self) -> None:
        """Let a person say of each doubt what its provider really has."""
        for rid in self.doubts():
            action = Action.CONFIRM_SENT if self.taken(rid) else Action.CONFIRM_NOT_SENT
            await self.place.send(ReminderEvent(rid, action=action, actor="desk"))
        await asyncio.sleep(900)

    async def settled(self) -> None:
        """Find out of all doubts, and of those that come of it, until none is left."""
        while self.doubts():
            await self.found_out()


@pytest.mark.parametrize(("kind", "seed"), [(Mail, 1), (Text, 2)])
def test_with_hold_nobody_gets_two_and_each_doubt_is_listed_and_settled(kind: type[Mail], seed: int) -> None:
    async def whole() -> None:
        life = Life(kind, MaybeSent.HOLD, seed)
        await life.through()
        assert set(life.provider.taken.values()) == {1}
        assert life.states().keys() == {State.SENT, State.MAYBE_SENT}
        doubts = life.doubts()
        # Whoever can be asked has said of each that was taken.
        assert {life.taken(rid) for rid in doubts} == ({0, 1} if kind is Mail else {0})
        for rid in life.addresses:
            assert rid in doubts or life.taken(rid) == 1
        reasons = Counter(entry.reason for entry in life.place.audit)
        assert {"no_outcome", "connection_lost", "no_answer"} <= reasons.keys()
        if kind is Text:
            assert reasons["found_at_provider"] > 0
            assert reasons["not_at_provider"] > 0
        await life.settled()
        assert life.states() == {State.SENT: COUNT}
        assert {life.taken(rid) for rid in life.addresses} == {1}
        await life.place.stop()

    hours.run(whole())


@pytest.mark.parametrize(("kind", "seed"), [(Mail, 3), (Text, 4)])
def test_with_resend_nobody_is_missing_and_only_a_doubt_makes_a_second_copy(kind: type[Mail], seed: int) -> None:
    async def whole() -> None:
        life = Life(kind, MaybeSent.RESEND, seed)
        await life.through()
        left = life.doubts()
        # As often as attempts are left: what is in doubt after the fifth is listed like any other.
        assert life.states() == Counter({State.SENT: COUNT - len(left), State.MAYBE_SENT: len(left)})
        assert len(left) <= COUNT // 20
        assert all(life.taken(rid) for rid in life.addresses if rid not in left)
        in_doubt = {
            entry.reminder_id
            for entry in life.place.audit
            if entry.to_state is State.FAILED and entry.reason in ("no_outcome", "connection_lost", "no_answer")
        }
        twice = {rid for rid in life.addresses if life.taken(rid) > 1}
        assert twice <= in_doubt
        assert bool(twice) is (kind is Mail), "whoever can be asked is asked before anything is sent again"
        await life.settled()
        assert life.states() == {State.SENT: COUNT}
        await life.place.stop()

    hours.run(whole())
