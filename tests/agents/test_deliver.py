"""Calls: one that cannot be ended ends the process, for nobody else would learn of it."""

import asyncio
from collections import Counter
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from agents.deliver import Calls, Ended, Member
from agents.delivery import BUSY_MS, MOST_BUSY_MS, Delivering
from agents.mail_links import MailLinks
from agents.ports import Out, Word
from agents.suppressions import BOUNCED, BOUNCED_MS, STOP, UNSUBSCRIBED, Suppressions
from agents.suppressions import Desk as Desk_
from channels.base import Outcome, Send
from channels.send_only import SendOnlyTo
from schemas import codec, ids
from schemas.bounces import BounceAddresses
from schemas.hashing import AddressHash
from schemas.names import AnswerKind, Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import (
    Consent,
    Contact,
    Delivery,
    DeliveryAnswer,
    Message,
    RecipientDelivery,
    RecipientLink,
    RecipientProfile,
    Sealed,
)
from schemas.references import References
from schemas.sealing import Sealing
from tables import due as index
from tables.consent import Categories
from tables.prices import NO_PRICES
from tests.agents.memory import MemoryStore, Watch


async def test_a_call_that_cannot_be_ended_ends_the_process() -> None:
    ended: list[tuple[str, BaseException | None]] = []
    adapter: Any = SimpleNamespace(name="smtp", concurrency=1, call_timeout_s=1, repeatable=False)
    work: Any = SimpleNamespace(
        adapters={Channel.EMAIL: adapter}, clock=lambda: 1000, spares={}, call_limit_s=lambda one: one.call_timeout_s
    )

    def broken() -> bool:
        raise OSError("the reader is gone")

    calls = Calls(
        work,
        store=MemoryStore,
        publish=lambda records: asyncio.sleep(0),
        owns=lambda partition: True,
        fence=lambda where: None,
        observer=Watch(),
        control=SimpleNamespace(fresh=broken),  # type: ignore[arg-type]
        fatal=lambda why, exc: ended.append((why, exc)),
    )
    delivery = Delivery("d", "r", "@1/PT0S", Channel.EMAIL)
    calls.begin(0, b"d/r:r/d", delivery, Message("a@people.example"), adapter)
    async with asyncio.timeout(5):
        while not ended:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert ended[0][0] == "a call could not be ended"
    assert isinstance(ended[0][1], OSError)


BOUNCES = BounceAddresses(("a secret of these tests",), "bounce.clinic.example")


async def test_the_address_for_bounces_names_the_record_that_asked() -> None:
    desk = Desk()
    await desk.call("a@people.example", offset=1042)
    [place] = BOUNCES.found([f"{desk.sent[0].bounce}@{BOUNCES.domain}"])
    assert (place.partition, place.offset, place.is_of("d")) == (0, 1042, True)


class Desk:
    """Calls over memory, with an adapter that takes everything."""

    def __init__(self, *, send_only_to: SendOnlyTo = SendOnlyTo(), suppressions: Any = None) -> None:  # noqa: B008 - frozen
        self.sent: list[Send] = []
        self.spares: dict[Channel, tuple[Any, ...]] = {}
        self.outcome = Outcome(OutcomeKind.ACCEPTED, "ok", "smtp")
        self.adapter: Any = SimpleNamespace(
            name="smtp", concurrency=1, call_timeout_s=1, repeatable=False, send=self.send
        )
        meter: Any = SimpleNamespace(
            lateness=lambda *_: None, in_flight=lambda _: nullcontext(), call=lambda *_: None, outcome=lambda *_: None
        )
        work: Any = SimpleNamespace(
            adapters={Channel.EMAIL: self.adapter},
            spares=self.spares,
            concurrency=lambda one: one.concurrency,
            call_limit_s=lambda one: one.call_timeout_s,
            clock=lambda: self.now,
            meter=meter,
            send_only_to=send_only_to,
            categories=Categories(),
            references=References(()),
            bounces=BOUNCES,
            mail_links=MailLinks(),
            replies=None,
            prices=NO_PRICES,
            suppressions=suppressions,
            suppressed=lambda *of: suppressions.why(*of) if suppressions else "",
        )
        self.now = 1000
        self.store = MemoryStore()
        self.given: list[Any] = []
        self.fenced: list[tuple[str, int]] = []
        control: Any = SimpleNamespace(fresh=lambda: True, holding=lambda subject: None)
        self.calls = Calls(
            work,
            store=lambda: self.store,
            publish=lambda records: asyncio.sleep(0),
            owns=lambda partition: True,
            fence=lambda where: self.fenced.append((where, len(self.sent))),
            observer=Watch(),
            control=control,
            fatal=lambda why, exc: self.given.append(exc),
        )
        backlogs: Any = SimpleNamespace(give=lambda partition, words: self.given.extend(words), call=self.call_out)
        self.calls.backlogs = backlogs

        self.waiting: dict[str, int] = {}
        self.called: list[tuple[str, int]] = []

    def call_out(self, room: str, count: int) -> int:
        out = min(count, self.waiting.get(room, 0))
        self.called.append((room, out))
        return out

    async def send(self, message: Send) -> Outcome:
        self.sent.append(message)
        return self.outcome

    async def call(self, address: str, recipient_id: str = "", offset: int = -1) -> Any:
        key = b"d/r:r/d"
        row = RecipientDelivery("r", "", "@1/PT0S", 0, 0, 1)
        self.store.rows[key] = index.pack(0, 0, 0, 0, 0) + codec.encode(row)
        delivery = Delivery("d", "r", "@1/PT0S", Channel.EMAIL, recipient_id, ask=1)
        self.calls.begin_all(0, (Member(key, delivery, Message(address), offset),), self.adapter)
        async with asyncio.timeout(5):
            while not self.given:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return self.given[0].body.answer


async def test_who_is_not_on_the_list_is_not_called_though_a_gate_let_it_pass() -> None:
    only = SendOnlyTo(domains=frozenset({"staging.example"}))
    desk = Desk(send_only_to=only)
    answer = await desk.call("customer@people.example")
    assert (answer.outcome, answer.reason) == (OutcomeKind.SKIPPED, "not_on_send_only_list")
    assert desk.sent == []
    desk = Desk(send_only_to=only)
    answer = await desk.call("tester@staging.example")
    assert answer.outcome is OutcomeKind.ACCEPTED
    assert len(desk.sent) == 1


async def test_the_fence_is_asked_right_before_the_call() -> None:
    desk = Desk()
    await desk.call("someone@people.example")
    assert desk.fenced == [("call", 0)]
    assert len(desk.sent) == 1


async def test_a_call_that_is_cut_short_is_a_doubt() -> None:
    desk = Desk()
    never = asyncio.Event()

    async def hang(message: Send) -> Outcome:
        await never.wait()
        raise AssertionError("unreachable")

    desk.adapter.send, desk.adapter.call_timeout_s = hang, 0.01
    answer = await desk.call("someone@people.example")
    assert (answer.outcome, answer.reason, answer.spent) == (OutcomeKind.MAYBE_SENT, "call_timeout", True)


async def test_a_channel_is_told_the_language_of_the_words() -> None:
    desk = Desk()
    sent = desk.calls._outgoing(
        Delivery("d", "r", "@1/PT0S", Channel.EMAIL), Message("a@people.example", locale="de-AT"), "smtp"
    )
    assert sent.locale == "de-AT", "what is added to a mail speaks it, too"


async def test_what_was_withdrawn_behind_ten_thousand_is_not_called() -> None:
    """All have a slot when they are cancelled: the row counts that stands there right before the call."""
    desk = Desk()
    count, kept = 10_000, {0, 1, 9_998}
    for n in range(count):
        rid = f"r{n}"
        key = ids.delivery_key("", rid, "d")
        row = RecipientDelivery(rid, "", "@1/PT0S", 0, 0, 1)
        desk.store.rows[key] = index.pack(0, 0, 0, 0, 0) + codec.encode(row)
        delivery = Delivery("d", rid, "@1/PT0S", Channel.EMAIL, ask=1)
        desk.calls.begin(0, key, delivery, Message(f"{rid}@people.example"), desk.adapter)
        if n not in kept:
            row = replace(row, withdrawn=1)
            desk.store.rows[key] = index.pack(0, 0, 0, 0, 0) + codec.encode(row)
    async with asyncio.timeout(60):
        while len(desk.given) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(desk.sent) == len(kept)
    told = Counter((word.body.answer.outcome, word.body.answer.reason) for word in desk.given)
    assert told == {(OutcomeKind.ACCEPTED, "ok"): len(kept), (OutcomeKind.SKIPPED, "withdrawn"): count - len(kept)}


async def test_what_its_receiver_knows_again_is_sent_again_instead_of_held_in_doubt() -> None:
    for repeatable, kind in ((False, OutcomeKind.MAYBE_SENT), (True, OutcomeKind.DEFERRED)):
        desk = Desk()
        desk.adapter.repeatable = repeatable
        desk.outcome = Outcome(OutcomeKind.MAYBE_SENT, "no_answer", "smtp")
        answer = await desk.call("someone@people.example")
        assert (answer.outcome, answer.reason, answer.spent) == (kind, "no_answer", True)


async def test_a_slot_that_comes_free_goes_to_the_most_urgent_that_waits() -> None:
    desk = Desk()
    desk.waiting = {"EMAIL/NORMAL": 1, "EMAIL/BULK": 5}
    await desk.call("a@people.example")
    assert desk.called == [("EMAIL/URGENT", 0), ("EMAIL/NORMAL", 1)]
    desk.called.clear()
    desk.waiting = {"EMAIL/URGENT": 2, "EMAIL/NORMAL": 1, "EMAIL/BULK": 5}
    desk.adapter.concurrency = 4
    desk.calls._used[Channel.EMAIL] = 0
    desk.calls.summon()
    assert desk.called == [("EMAIL/URGENT", 2), ("EMAIL/NORMAL", 1), ("EMAIL/BULK", 1)]


async def test_a_slot_that_is_not_used_goes_to_the_next_that_waits() -> None:
    """What is called out and was withdrawn meanwhile must not keep its slot from those behind it."""
    desk = Desk()
    desk.waiting = {"EMAIL/NORMAL": 1}
    row = RecipientDelivery("r", "", "@1/PT0S", 0, 0, 1, withdrawn=1)
    desk.calls._work.delivery = lambda view, key: row  # type: ignore[method-assign]
    content = Sealed(body=codec.encode(Message("a@people.example")))
    value = codec.encode(Delivery("d", "r", "@1/PT0S", Channel.EMAIL, ask=1, sealed=content))
    record: Any = SimpleNamespace(topic="email", partition=0, offset=7, key=b"r", value=value, timestamp=1.0)
    decision = desk.calls.read(desk.calls._work, record).run(SimpleNamespace(), 1000)  # type: ignore[arg-type]
    assert (decision.rows, decision.park) == ({}, "")
    for act in decision.after:
        act()
    assert desk.called == [("EMAIL/URGENT", 0), ("EMAIL/NORMAL", 1)]


PHONE, TABLET = Contact(Channel.PUSH, "token-1"), Contact(Channel.PUSH, "token-2")


class Gone:
    """A recipient with devices, and a call that has found some of them gone."""

    def __init__(self, *contacts: Contact) -> None:
        self.key = ids.profile_key("anna")
        work: Any = SimpleNamespace(
            adapters={Channel.PUSH: SimpleNamespace()},
            retention_ms=1000,
            codec=None,
            partitions=1,
            categories=Categories(),
            sealing=Sealing(),
            seal_contacts=True,
            random=None,
        )
        for name in ("profile", "link", "delivery", "written", "kept", "remembered"):
            setattr(work, name, partial(getattr(Delivering, name), work))
        work.answered = lambda answer: answer
        self.store = MemoryStore()
        link = RecipientLink("r", 1, False, told_reachable=True)
        self.store.rows[self.key] = work.written(RecipientProfile(contacts=contacts, updated_at=500), 0)
        self.store.rows[ids.link_key("anna", "r")] = work.written(link, 0)
        self.calls = Calls(
            work,
            store=lambda: self.store,
            publish=lambda records: asyncio.sleep(0),
            owns=lambda partition: True,
            fence=lambda where: None,
            observer=Watch(),
            control=SimpleNamespace(),  # type: ignore[arg-type]
            fatal=lambda why, exc: None,
        )

    def end(self, *gone: str, started: int = 1000) -> tuple[Any, ...]:
        delivery = Delivery("d", "r", "@1/PT0S", Channel.PUSH, "anna")
        answer = DeliveryAnswer(
            AnswerKind.OUTCOME, "r", "d", outcome=OutcomeKind.UNDELIVERABLE, reason="unregistered", started_at=started
        )
        job = self.calls.said(Word(Ended(b"d/u:anna/d", delivery, answer, gone)))
        view: Any = SimpleNamespace(
            get=self.store.rows.get,
            scan=lambda prefix, start, limit: self.store.scan_prefix(0, prefix, start, limit),
        )
        decision = job.run(view, 2000)
        self.store.write_rows(0, decision.rows, None)
        return decision.emits

    @property
    def contacts(self) -> tuple[Contact, ...]:
        return codec.decode(RecipientProfile, self.store.rows[self.key][index.HEADER.size :]).contacts


def test_a_device_that_is_gone_is_taken_from_the_contacts() -> None:
    desk = Gone(PHONE, TABLET)
    desk.end("token-1")
    assert desk.contacts == (TABLET,)


def test_the_last_device_that_is_gone_is_told_to_the_reminders() -> None:
    desk = Gone(PHONE)
    told = desk.end("token-1")
    assert desk.contacts == ()
    assert [(answer.kind, answer.reachable) for answer in told] == [
        (AnswerKind.OUTCOME, True),
        (AnswerKind.PROFILE, False),
    ]


def test_a_device_that_may_have_come_back_is_kept() -> None:
    desk = Gone(PHONE)
    desk.end("token-1", started=499)
    assert desk.contacts == (PHONE,)
    desk.end()
    assert desk.contacts == (PHONE,)


async def test_all_devices_that_may_have_it_are_given_to_the_adapter_and_shown_to_nobody() -> None:
    known = Known()
    known.take(known.record(Channel.EMAIL, "canary-3@b.example", STOP, 5, ""))
    only = SendOnlyTo(domains=frozenset({"b.example"}))
    desk = Desk(suppressions=known, send_only_to=only)
    key = b"d/r:r/d"
    row = RecipientDelivery("r", "", "@1/PT0S", 0, 0, 1)
    desk.store.rows[key] = index.pack(0, 0, 0, 0, 0) + codec.encode(row)
    devices = ("canary-2@b.example", "canary-3@b.example", "canary-4@c.example")
    desk.outcome = Outcome(OutcomeKind.ACCEPTED, "ok", "smtp", gone=devices[:1])
    message = Message("a@b.example", also=devices)
    desk.calls.begin(0, key, Delivery("d", "r", "@1/PT0S", Channel.EMAIL, ask=1), message, desk.adapter)
    async with asyncio.timeout(5):
        while not desk.given:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert desk.sent[0].also == devices[:1]
    assert desk.given[0].body.gone == devices[:1]
    assert "canary" not in repr(desk.outcome) + repr(desk.given[0])


async def test_what_the_recipient_said_or_the_clock_shows_since_the_gate_counts_right_before_the_call() -> None:
    def known(**profile: Any) -> bytes:
        return index.pack(0, 0, 0, 0, 0) + codec.encode(RecipientProfile(zone="UTC", **profile))

    desk = Desk()
    desk.now = 22 * 3_600_000
    desk.store.rows[b"p/u:anna"] = known(quiet=("22:00-07:00",))
    answer = await desk.call("anna@people.example", "anna")
    assert (answer.outcome, answer.reason) == (OutcomeKind.HELD, "quiet_hours")
    assert answer.not_before == 31 * 3_600_000
    desk = Desk()
    desk.store.rows[b"p/u:anna"] = known(consents=(Consent(False, 1, "*", Channel.EMAIL),))
    answer = await desk.call("anna@people.example", "anna")
    assert (answer.outcome, answer.reason) == (OutcomeKind.OPTED_OUT, "consent_refused")
    assert desk.sent == []
    desk = Desk()
    desk.store.rows[b"p/u:anna"] = known(quiet=("22:00-07:00",))
    desk.now = 7 * 3_600_000
    assert (await desk.call("anna@people.example", "anna")).outcome is OutcomeKind.ACCEPTED


class Known(Suppressions):
    """The reader of suppressions, without its topic."""

    def __init__(self) -> None:
        hashing = AddressHash(((1, b"a secret of this test"),))
        super().__init__(
            lambda **_: None,  # type: ignore[arg-type, return-value]
            "suppressions",
            8,
            clock=lambda: self.now,
            hashing=hashing,
            fatal=lambda why, exc: None,
        )
        self.desk = Desk_(hashing)
        self.now = 1000
        self.whole = True

    def fresh(self) -> bool:
        return self.whole

    def take(self, *records: Any) -> None:
        for record in records:
            self._apply(SimpleNamespace(key=record.key, value=record.value, offset=0))


def test_a_stop_counts_for_all_categories_and_a_start_lifts_it() -> None:
    known = Known()
    known.take(known.record(Channel.SMS, "+1 201 555 0123", STOP, 5, ""))
    assert known.why(Channel.SMS, "+12015550123", "care") == "suppressed_stop"
    assert known.why(Channel.SMS, "+12015550124", "care") == ""
    assert known.why(Channel.VOICE, "+12015550123", "care") == ""
    known.take(*known.desk.lifted(Channel.SMS, "+12015550123"))
    assert known.why(Channel.SMS, "+12015550123", "care") == ""
    assert len(known) == 0


def test_an_unsubscribe_counts_for_its_category_and_a_bounce_for_a_month() -> None:
    known = Known()
    known.take(known.desk.record(Channel.EMAIL, "anna@people.example", UNSUBSCRIBED, 5, scope="offers"))
    assert known.why(Channel.EMAIL, "Anna@people.example", "offers") == "suppressed_unsubscribed"
    assert known.why(Channel.EMAIL, "anna@people.example", "care") == ""
    known.take(known.record(Channel.EMAIL, "ben@people.example", BOUNCED, 5, ""))
    assert known.why(Channel.EMAIL, "ben@people.example", "care") == "suppressed_bounced"
    known.now = 5 + BOUNCED_MS
    assert known.why(Channel.EMAIL, "ben@people.example", "care") == ""


def test_what_a_newer_release_says_of_an_address_is_a_reason_to_leave_it_alone() -> None:
    known = Known()
    key = known.record(Channel.EMAIL, "anna@people.example", STOP, 5, "").key
    known.take(Out("suppressions", 0, key, b"of next year"))
    assert known.why(Channel.EMAIL, "anna@people.example", "x") == "suppressed_operator"


async def test_no_call_begins_for_an_address_that_said_stop_nor_while_nobody_can_know() -> None:
    known = Known()
    known.take(known.record(Channel.EMAIL, "anna@people.example", STOP, 5, ""))
    desk = Desk(suppressions=known)
    answer = await desk.call("anna@people.example")
    assert (answer.outcome, answer.reason) == (OutcomeKind.OPTED_OUT, "suppressed_stop")
    assert desk.given[0].body.more == ()
    known.whole = False
    desk = Desk(suppressions=known)
    answer = await desk.call("ben@people.example")
    assert (answer.outcome, answer.reason) == (OutcomeKind.HELD, "suppressions_unknown")
    assert desk.sent == []


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(OutcomeKind.OPTED_OUT, "opted_out", "twilio"), "suppressed_stop"),
        (Outcome(OutcomeKind.UNDELIVERABLE, "unknown_mailbox", "smtp", blames_address=True), "suppressed_bounced"),
        (Outcome(OutcomeKind.UNDELIVERABLE, "no_route", "smtp"), ""),
        (Outcome(OutcomeKind.OPTED_OUT, "opted_out", "twilio", reached=False), ""),
    ],
)
async def test_what_a_provider_says_of_an_address_lets_nobody_use_it_again(outcome: Outcome, why: str) -> None:
    known = Known()
    desk = Desk(suppressions=known)
    desk.outcome = outcome
    await desk.call("anna@people.example")
    told = desk.given[0].body.more
    known.take(*told)
    assert known.why(Channel.EMAIL, "anna@people.example", "any") == why
    assert "anna" not in repr(told)


async def test_what_cannot_have_reached_one_provider_goes_to_the_one_beside_it() -> None:
    unreachable = Outcome(OutcomeKind.DEFERRED, "unreachable", "smtp", reached=False)
    refusing = Outcome(OutcomeKind.MISCONFIGURED, "auth_refused", "smtp", reached=False)
    in_doubt = Outcome(OutcomeKind.MAYBE_SENT, "connection_lost", "smtp")
    later = Outcome(OutcomeKind.DEFERRED, "greylisted", "smtp")
    for first, provider, kind in (
        (unreachable, "smtp-2", OutcomeKind.ACCEPTED),
        (refusing, "smtp-2", OutcomeKind.ACCEPTED),
        # Whatever may have reached the first must not be said twice.
        (in_doubt, "smtp", OutcomeKind.MAYBE_SENT),
        (later, "smtp", OutcomeKind.DEFERRED),
    ):
        desk = Desk()
        desk.outcome = first
        beside: list[Send] = []

        async def send(message: Send, beside: list[Send] = beside) -> Outcome:
            beside.append(message)
            return Outcome(OutcomeKind.ACCEPTED, "ok", "smtp-2")

        second = SimpleNamespace(name="smtp-2", concurrency=1, call_timeout_s=1, repeatable=False, send=send)
        desk.spares[Channel.EMAIL] = (second,)
        answer = await desk.call("anna@people.example")
        assert (answer.provider, answer.outcome) == (provider, kind)
        assert len(beside) == (provider == "smtp-2")
        if beside:
            assert beside[0].token == desk.sent[0].token
            assert f"(before: smtp {first.reason})" in answer.detail


@pytest.mark.parametrize(
    ("kind", "taken_back"),
    [
        (OutcomeKind.ACCEPTED, False),
        (OutcomeKind.MAYBE_SENT, False),
        (OutcomeKind.REJECTED, True),
        (OutcomeKind.UNDELIVERABLE, True),
        (OutcomeKind.DEFERRED, True),
    ],
)
async def test_a_message_that_did_not_go_out_waits_for_no_answer(kind: OutcomeKind, taken_back: bool) -> None:
    out = Out("replies", 0, b"r", b"taken back")
    desk = Desk()
    work: Any = desk.calls._work
    work.replies = SimpleNamespace(
        wrote=lambda channel, address, provider: 77, hint=lambda delivery: "Reply OK.", taken_back=lambda *_: (out,)
    )
    desk.outcome = Outcome(kind, "some", "smtp")
    await desk.call("anna@people.example")
    assert (desk.sent[0].reply_hint, desk.sent[0].last_inbound_ms) == ("Reply OK.", 77)
    assert (out in desk.given[0].body.more) is taken_back


async def test_what_finds_its_room_full_waits_until_half_of_it_has_been_served_by_the_pace_of_late() -> None:
    desk = Desk()
    desk.adapter.channel, desk.adapter.concurrency = Channel.EMAIL, 4
    assert desk.calls._busy_ms(desk.adapter, 1000) == BUSY_MS
    desk.calls._took[Channel.EMAIL] = 0.05
    assert desk.calls._busy_ms(desk.adapter, 1000) == 6250
    desk.calls._took[Channel.EMAIL] = 3.0
    assert desk.calls._busy_ms(desk.adapter, 1000) == MOST_BUSY_MS
    # A call that has not ended yet says more than those that have.
    desk.calls._took[Channel.EMAIL] = 0.05
    desk.calls._begun_at[Channel.EMAIL] = {b"hangs": asyncio.get_running_loop().time() - 30}
    assert desk.calls._busy_ms(desk.adapter, 1000) == MOST_BUSY_MS
