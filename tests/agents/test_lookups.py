"""A doubt from the call that was cut to the look that finds it, over memory and a provider on a real socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from agents.deliver import Calls
from channels.sms import SmsChannel
from schemas import codec, ids
from schemas.names import Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import DeliveryAnswer, RecipientProfile
from tables.lookup import LOOKS_MS, SETTLED_MS
from tests.agents.memory import MemoryStore, Record, Watch
from tests.agents.test_gate import PARTITION, PHONE, Gate
from tests.agents.test_ways import PRICES
from tests.channels.twilio_stage import settings
from tests.sandbox.http_server import Cut
from tests.sandbox.twilio_server import TwilioServer


class Doubted:
    """Anna's partition, its gate and its calls, with text messages over Twilio's stand-in."""

    def __init__(self, adapter: SmsChannel, clock: Callable[[], int]) -> None:
        self.late = 0
        self.gate = Gate(RecipientProfile(zone="UTC", contacts=(PHONE,)), now=clock())
        self.work = replace(
            self.gate.work, adapters={Channel.SMS: adapter}, prices=PRICES, clock=lambda: clock() + self.late
        )
        self.gate.work = self.work
        self.given: list[Any] = []
        self.held = False
        self.answers: list[DeliveryAnswer] = []
        self.calls = self.made()
        self.store = MemoryStore()

    def made(self) -> Calls:
        """Return the calls of a worker that has just taken over."""
        control: Any = SimpleNamespace(fresh=lambda: True, holding=lambda subject: object() if self.held else None)
        calls = Calls(
            self.work,
            store=lambda: self.store,
            publish=lambda records: asyncio.sleep(0),
            owns=lambda partition: True,
            fence=lambda where: None,
            observer=Watch(),
            control=control,
            fatal=lambda why, exc: self.given.append(exc),
        )
        backlogs: Any = SimpleNamespace(
            give=lambda partition, words: self.given.extend(words), call=lambda room, count: 0, parked=lambda *_: 0
        )
        calls.backlogs = backlogs
        calls.caught_up = lambda partition: True
        return calls

    def apply(self, job: Any) -> None:
        view = self.gate.view
        decision = job.run(view, self.work.clock())
        for key, value in decision.rows.items():
            view[key] = value
            if value is not None:
                self.store.rows[key] = value
        self.answers += [codec.decode(DeliveryAnswer, out.value or b"") for out in decision.emits]
        for after in decision.after:
            after()

    async def word(self) -> None:
        """Wait for the next word of a call or a look, and let the partition's worker take it."""
        async with asyncio.timeout(20):
            while not self.given:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        self.apply(self.calls.said(self.given.pop(0)))

    async def call(self, rid: str = "r") -> bytes:
        self.gate.now = self.work.clock()
        sent, _ = self.gate.ask(rid, channel=Channel.SMS)
        assert sent is not None
        key = ids.delivery_key("anna", rid, sent.delivery_id)
        record = Record("notifications.sms", PARTITION, 0, b"anna", codec.encode(sent), self.work.clock() / 1000)
        self.apply(self.calls.read(self.work, record))  # type: ignore[arg-type]
        await self.word()
        return key

    async def call_together(self, *rids: str, withdrawn: str = "") -> list[bytes]:
        """Let several go in one message. ``withdrawn``: one that is taken back once they are on record."""
        self.gate.now = self.work.clock()
        sent = [one for one, _ in (self.gate.ask(rid, channel=Channel.SMS) for rid in rids) if one is not None]
        keys = [ids.delivery_key("anna", one.reminder_id, one.delivery_id) for one in sent]
        digest = ids.digest_id(one.delivery_id for one in sent)
        first, *others = [replace(one, digest=digest) for one in sent]
        out = codec.encode(replace(first, together=tuple(codec.encode(one) for one in others)))
        record = Record("notifications.sms", PARTITION, 0, b"anna", out, self.work.clock() / 1000)
        self.apply(self.calls.read(self.work, record))  # type: ignore[arg-type]
        if withdrawn:
            key = keys[rids.index(withdrawn)]
            row = self.work.delivery(self.gate.view, key)
            assert row is not None
            self.gate.view[key] = self.store.rows[key] = self.work.written(replace(row, withdrawn=row.ask), 0)
        await self.word()
        return keys

    def look(self, *keys: bytes, number: int = 0) -> None:
        self.late = LOOKS_MS[number] + 1_000
        for key in keys:
            self.apply(self.calls.fired(key))


@asynccontextmanager
async def desk() -> AsyncIterator[tuple[Doubted, TwilioServer]]:
    async with TwilioServer() as server:
        place: Any = SimpleNamespace(url=server.url, ca_file=None)
        adapter = SmsChannel(settings(place))
        await adapter.open()
        try:
            yield Doubted(adapter, lambda: time.time_ns() // 1_000_000), server
        finally:
            await adapter.close()


async def test_a_message_that_was_cut_off_is_found_at_its_provider() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        key = await d.call()
        doubt = d.answers[-1]
        assert doubt.outcome is OutcomeKind.MAYBE_SENT
        assert doubt.not_before == doubt.ended_at + SETTLED_MS, "nothing is sent again before its provider was asked"
        d.look(key)
        await d.word()
        told = d.answers[-1]
        assert (told.outcome, told.reason, told.attempt) == (OutcomeKind.ACCEPTED, "found_at_provider", 1)
        assert told.provider_id.startswith("SM")
        assert (told.cost_micros, doubt.cost_micros) == (8_000, 0)
        assert told.detail.endswith("cost 0.008 EUR")
        assert len(server.taken) == 1
        for row in d.gate.view.values():
            assert row is None or PHONE.address.encode() not in row or row == d.gate.view[ids.profile_key("anna")]


async def test_the_worker_that_takes_over_looks_and_knows_the_address_by_its_hash() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        key = await d.call()
        d.calls = d.made()
        d.look(key)
        await d.word()
        assert d.answers[-1].reason == "found_at_provider"


async def test_what_is_not_there_is_said_after_the_last_look_alone() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        key = await d.call()
        server.messages.clear()
        for number in range(3):
            d.look(key, number=number)
            if number < 2:
                await d.calls.lookups.drain(20)
                assert d.given == []
        await d.word()
        told = d.answers[-1]
        assert (told.outcome, told.reason) == (OutcomeKind.MAYBE_SENT, "not_at_provider")
        assert server.lists == 3


async def test_a_message_of_another_delivery_is_not_taken_for_it_and_a_hold_is_respected() -> None:
    async with desk() as (d, server):
        await d.call("first")
        server.say(PHONE.address, Cut())
        key = await d.call("second")
        server.messages.pop(0)
        d.held = True
        d.look(key)
        await d.calls.lookups.drain(20)
        assert server.lists == 0
        d.held = False
        d.look(key, number=2)
        d.look(key, number=2)
        await d.word()
        assert d.answers[-1].reason == "not_at_provider", "the same words, but known to be the first one's"


async def test_the_worker_that_takes_over_knows_other_messages_by_their_rows() -> None:
    async with desk() as (d, server):
        await d.call("first")
        server.say(PHONE.address, Cut())
        key = await d.call("second")
        server.messages.pop(0)
        d.calls = d.made()
        d.look(key)
        await d.calls.lookups.drain(20)
        assert server.lists == 1
        assert d.given == [], "the same words, but its row says that they are the first one's"


async def test_other_words_to_the_same_number_are_not_taken_for_it() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        key = await d.call()
        server.messages[0]["body"] = "Other words"
        for number in range(3):
            d.look(key, number=number)
        await d.calls.lookups.drain(20)
        assert d.given == [], "it may be that its provider has changed the words: nobody can tell"
        assert d.calls.lookups.hashed("k", "Title: Text") == d.calls.lookups.hashed("k", "Title:\n Text ")
        assert d.calls.lookups.hashed("k", "Title") != d.calls.lookups.hashed("k", "Text")
        assert d.calls.lookups.hashed("k", "Title") != d.calls.lookups.hashed("l", "Title")


async def test_nobody_is_asked_about_somebody_who_was_erased() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        key = await d.call()
        d.gate.view[ids.profile_key("anna")] = d.work.kept("anna", RecipientProfile(erased=True))
        d.look(key)
        await d.calls.lookups.drain(20)
        assert server.lists == 0


async def test_nobody_is_asked_about_somebody_who_is_erased_while_the_look_waits() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        key = await d.call()
        d.look(key)
        d.store.rows[ids.profile_key("anna")] = d.work.kept("anna", RecipientProfile(erased=True))
        await d.calls.lookups.drain(20)
        assert server.lists == 0


async def test_a_digest_in_doubt_is_found_by_one_look_and_told_to_each() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        keys = await d.call_together("a", "b", "c")
        assert {a.outcome for a in d.answers} == {OutcomeKind.MAYBE_SENT}
        assert all(a.not_before == a.ended_at + SETTLED_MS for a in d.answers)
        d.answers.clear()
        d.look(*keys)
        for _ in keys:
            await d.word()
        assert [a.reminder_id for a in d.answers] == ["a", "b", "c"]
        assert {a.reason for a in d.answers} == {"found_at_provider"}
        assert len({a.provider_id for a in d.answers}) == 1
        assert {bool(a.digest) for a in d.answers} == {True}
        assert [a.cost_micros > 0 for a in d.answers].count(True) == 1, "a message costs once, whoever is in it"
        assert (server.lists, len(server.taken)) == (1, 1)


async def test_each_in_a_digest_is_found_by_a_worker_that_takes_over_amid_the_looks() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        keys = await d.call_together("a", "b")
        d.answers.clear()
        for key in reversed(keys):
            d.calls = d.made()
            d.look(key)
            await d.word()
        assert [(a.reminder_id, a.reason) for a in d.answers] == [
            ("b", "found_at_provider"),
            ("a", "found_at_provider"),
        ]
        assert [a.cost_micros > 0 for a in d.answers].count(True) == 1


async def test_a_digest_of_which_some_were_left_out_is_looked_for_by_what_was_sent() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        keys = await d.call_together("a", "b", "c", withdrawn="b")
        assert sorted(a.reminder_id for a in d.answers if a.outcome is OutcomeKind.MAYBE_SENT) == ["a", "c"]
        d.answers.clear()
        d.look(keys[0], keys[2])
        await d.word()
        await d.word()
        assert [(a.reminder_id, a.reason) for a in d.answers] == [
            ("a", "found_at_provider"),
            ("c", "found_at_provider"),
        ]


async def test_a_digest_that_is_not_there_is_said_to_each_after_the_last_look() -> None:
    async with desk() as (d, server):
        server.say(PHONE.address, Cut())
        keys = await d.call_together("a", "b")
        server.messages.clear()
        d.answers.clear()
        for number in range(3):
            d.look(*keys, number=number)
            await d.calls.lookups.drain(20)
        await d.word()
        await d.word()
        assert [(a.reminder_id, a.reason) for a in d.answers] == [
            ("a", "not_at_provider"),
            ("b", "not_at_provider"),
        ]
        assert server.lists == 3
