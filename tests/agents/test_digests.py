"""Digests over memory: several reminders of one recipient go in one message, and each is told what became of it."""

import asyncio
from collections import Counter
from dataclasses import replace as changed
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from agents import digests, gate
from agents.deliver import Calls, Member
from agents.delivery import Delivering, DeliveryTopics
from agents.meter import Meter
from agents.ports import Decision, Word
from agents.publisher import partition_of
from channels.base import Outcome, Send
from schemas import codec, ids
from schemas.bounces import BounceAddresses
from schemas.codec import Codec
from schemas.names import AnswerKind, AttemptState, Channel, OutcomeKind, Priority, RequestKind
from schemas.records import (
    Contact,
    Content,
    Delivery,
    DeliveryAnswer,
    DeliveryRequest,
    RecipientProfile,
    RecipientSends,
    Sealed,
)
from schemas.references import References
from tables import due as index
from tables.consent import Caps, Categories, Category
from tests.agents.memory import MemoryStore, Record, Watch

MINUTE = 60_000
PARTITION = partition_of(b"anna", 8)
MAIL = Contact(Channel.EMAIL, "anna@people.example")
PHONE = Contact(Channel.SMS, "+12015550123")
CATEGORIES = Categories(
    {
        "pills": Category(digest_window_s=60),
        "capped": Category(caps=Caps.DIGEST),
        "both": Category(digest_window_s=60, caps=Caps.DIGEST),
    }
)


class World:
    """The recipients' partition of Anna, its gate and its calls, with a core that asks again for what was held."""

    def __init__(self, profile: RecipientProfile | None = None, *, patient: bool = False) -> None:
        self.now = 12 * 60 * MINUTE
        self.sent: list[Send] = []
        self.refs = References(("a-secret-of-tests-only",))
        self.outcome = Outcome(OutcomeKind.ACCEPTED, "ok", "smtp", cost_micros=7)
        self.store = MemoryStore()
        self.told: list[DeliveryAnswer] = []
        self.channel: list[Record] = []
        self.asks: dict[str, DeliveryRequest] = {}
        self.again: dict[str, int] = {}
        self.given: list[Any] = []
        self.fresh = True
        topics = DeliveryTopics("recipients", "requests", {c: c.value for c in Channel}, "outcomes", "audit", "dlq")
        adapter: Any = SimpleNamespace(name="smtp", concurrency=5, call_timeout_s=5, repeatable=False, send=self.send)
        self.work = Delivering(
            topics,
            8,
            {"requests": "t"},
            7 * 24 * 60 * MINUTE,
            MINUTE,
            10,
            {Channel.EMAIL: adapter, Channel.SMS: adapter, Channel.WEBHOOK: adapter},
            Codec(None),
            Meter(CollectorRegistry(), process=False),
            lambda: self.now,
            categories=CATEGORIES,
            references=self.refs,
        )
        control: Any = SimpleNamespace(fresh=lambda: self.fresh, holding=lambda subject: None)

        async def publish(records: Any) -> None:
            raise AssertionError("the partition is ours")

        self.calls = Calls(
            self.work,
            store=lambda: self.store,
            publish=publish,
            owns=lambda partition: True,
            fence=lambda where: None,
            observer=Watch(),
            control=control,
            fatal=lambda why, exc: self.given.append(exc),
        )
        backlogs: Any = SimpleNamespace(
            give=lambda partition, words: self.given.extend(words), call=lambda room, count: 0, parked=lambda *of: 0
        )
        self.calls.backlogs = backlogs
        self.calls.caught_up = lambda partition: True
        self.store.rows[ids.profile_key("anna")] = self.work.written(
            profile or RecipientProfile(zone="UTC", contacts=(MAIL, PHONE)), 0
        )

    # -- parts

    @property
    def view(self) -> Any:
        rows = self.store.rows
        return SimpleNamespace(
            get=rows.get, scan=lambda prefix, start, limit: self.store.scan_prefix(0, prefix, start, limit)
        )

    def apply(self, decision: Decision, *, dies: bool = False) -> Decision:
        """Publish what a decision emits, then write it, unless the worker dies in between."""
        for out in decision.emits:
            if out.topic == "outcomes":
                answer = codec.decode(DeliveryAnswer, out.value or b"")
                self.told.append(answer)
                self.heard(answer)
            else:
                self.channel.append(Record(out.topic, PARTITION, 0, out.key, out.value, self.now / 1000))
        if not dies:
            self.store.write_rows(0, decision.rows, None)
            for begin in decision.after:
                begin()
        return decision

    def heard(self, answer: DeliveryAnswer) -> None:
        """Do as core does: what is held is asked for again, by the last ask."""
        request = self.asks.get(answer.reminder_id)
        if request is not None and answer.ask == request.ask and answer.outcome is OutcomeKind.HELD:
            self.again[answer.reminder_id] = max(self.now, answer.not_before)

    def put(self, request: DeliveryRequest, *, dies: bool = False) -> Decision:
        record = Record("requests", PARTITION, 0, b"anna", codec.encode(request), self.now / 1000)
        return self.apply(gate.read_request(self.work, record).run(self.view, self.now), dies=dies)

    def ask(self, rid: str, *, dies: bool = False, **fields: Any) -> Decision:
        before = self.asks.get(rid)
        text = fields.pop("text", f"Take {rid}.")
        content = Content(f"Title {rid}", text, {}, ("boss@people.example",))
        base = before or DeliveryRequest(
            RequestKind.DELIVER,
            rid,
            "anna",
            occurrence="@1/PT0S",
            attempt=1,
            due_at=self.now,
            deadline=self.now + 24 * 60 * MINUTE,
            category="pills",
            sealed=Sealed(0, codec.encode(content)),
        )
        request = changed(base, ask=base.ask + 1, asked_at=self.now, **fields)
        self.asks[rid] = request
        self.again.pop(rid, None)
        return self.put(request, dies=dies)

    def withdraw(self, rid: str) -> None:
        request = self.asks.pop(rid)
        self.again.pop(rid, None)
        self.put(changed(request, kind=RequestKind.WITHDRAW, ask=request.ask + 1, sealed=Sealed()))

    def tick(self, ms: int) -> None:
        """Let time pass, and do what comes due in its order."""
        end = self.now + ms
        while True:
            dues = [(at, 0, rid) for rid, at in self.again.items()]
            dues += [
                (due, 1, key)  # type: ignore[misc]
                for key, raw in self.store.rows.items()
                if key[:2] == b"g/" and (due := index.unpack(raw).due_ms)
            ]
            at, kind, who = min(dues, default=(end + 1, 0, ""), key=lambda one: one[:2])
            if at > end:
                break
            self.now = max(self.now, at)
            if kind:
                self.apply(self.calls.fired(who).run(self.view, self.now))  # type: ignore[arg-type]
            else:
                self.ask(who)
        self.now = end

    async def call(self) -> None:
        """Let what stands on the channels' topics be called, and the outcomes be told."""
        while self.channel:
            record = self.channel.pop(0)
            self.apply(self.calls.read(self.work, record).run(self.view, self.now))
            async with asyncio.timeout(5):
                while self.calls._tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            given, self.given = self.given, []
            for word in given:
                assert isinstance(word, Word), word
                self.apply(self.calls.said(word).run(self.view, self.now))

    async def send(self, message: Send) -> Outcome:
        self.sent.append(message)
        return self.outcome

    def outcomes(self) -> dict[str, tuple[OutcomeKind, str]]:
        """Return the last outcome of each reminder."""
        return {a.reminder_id: (a.outcome, a.reason) for a in self.told if a.kind is AnswerKind.OUTCOME}


FIVE = [f"r{n}" for n in range(5)]
OK = (OutcomeKind.ACCEPTED, "ok")


async def test_five_reminders_are_one_mail_and_five_outcomes() -> None:
    anna = World()
    for n, rid in enumerate(FIVE):
        anna.ask(rid)
        anna.tick(1000 if n < 4 else 0)
    assert {(a.outcome, a.reason, a.spent) for a in anna.told} == {(OutcomeKind.HELD, "digest_window", False)}
    assert len({a.not_before for a in anna.told}) == 1, "all wait for the end of the first one's window"
    anna.tick(57_000)
    await anna.call()
    (mail,) = anna.sent
    assert mail.title == "Reminders (5): Title r0, Title r1, Title r2, Title r3, Title r4"
    for rid in FIVE:
        assert f"Title {rid}\nTake {rid}." in mail.text
        assert mail.html.count(f"Take {rid}.") == 1
    assert anna.outcomes() == dict.fromkeys(FIVE, OK)
    accepted = [a for a in anna.told if a.outcome is OutcomeKind.ACCEPTED]
    assert {a.detail for a in accepted} == {"5 in one message", "cost 0.000007; 5 in one message"}
    assert len({a.digest for a in accepted}) == 1
    assert sorted(a.cost_micros for a in accepted) == [0, 0, 0, 0, 7], "it was paid for once"
    named = ids.attempts_named(anna.refs.open(mail.reference) or "")
    assert {ids.named(delivery)[0] for delivery, _ in named} == set(FIVE)  # type: ignore[index]
    anna.tick(10 * MINUTE)
    assert not [key for key in anna.store.rows if key.startswith(b"g/")], "nothing is left of the group"


async def test_one_alone_waits_its_window_and_is_said_as_ever() -> None:
    anna = World()
    anna.ask("r")
    anna.tick(MINUTE)
    await anna.call()
    (mail,) = anna.sent
    assert (mail.title, mail.text.strip()) == ("Title r", "Take r.")
    assert anna.outcomes() == {"r": OK}


async def test_what_is_urgent_or_wants_an_answer_goes_alone_at_once() -> None:
    anna = World()
    anna.ask("early")
    anna.ask("urgent", priority=Priority.URGENT)
    anna.ask("answer", wants_answer=True)
    anna.ask("soon over", deadline=anna.now + 30_000)
    anna.ask("plain", category="general")
    await anna.call()
    assert [mail.title for mail in anna.sent] == ["Title urgent", "Title answer", "Title soon over", "Title plain"]
    assert anna.outcomes()["early"] == (OutcomeKind.HELD, "digest_window")


async def test_what_ends_before_the_call_is_left_out_and_the_others_go() -> None:
    anna = World()
    for rid in FIVE:
        anna.ask(rid)
    anna.withdraw("r0")  # while it waits: core would not even ask again
    anna.tick(59_999)
    anna.again.clear()
    anna.now += 1
    for rid in FIVE[1:4]:
        anna.ask(rid)
    anna.withdraw("r1")  # gathered, and the message is not made yet
    anna.ask("r4")
    assert len(anna.channel) == 1
    anna.withdraw("r2")  # it stands on the channel's topic
    await anna.call()
    (mail,) = anna.sent
    assert mail.title == "Reminders (2): Title r3, Title r4"
    assert {rid for rid, (kind, _) in anna.outcomes().items() if kind is OutcomeKind.ACCEPTED} == {"r3", "r4"}


async def test_a_withdrawal_at_the_last_moment_takes_one_out_of_the_message() -> None:
    anna = World()
    for rid in FIVE[:3]:
        anna.ask(rid)
    anna.tick(MINUTE)
    record = anna.channel.pop()
    decision = anna.calls.read(anna.work, record).run(anna.view, anna.now)
    anna.store.write_rows(0, decision.rows, None)
    anna.withdraw("r1")  # all three have begun: the outcome will answer
    assert not [a for a in anna.told if a.kind is AnswerKind.WITHDRAWN]
    for begin in decision.after:
        begin()
    await anna.call()
    async with asyncio.timeout(5):
        while not anna.given:  # noqa: ASYNC110
            await asyncio.sleep(0)
    anna.apply(anna.calls.said(anna.given.pop()).run(anna.view, anna.now))
    assert [mail.title for mail in anna.sent] == ["Reminders (2): Title r0, Title r2"]
    assert anna.outcomes() == {"r0": OK, "r1": (OutcomeKind.SKIPPED, "withdrawn"), "r2": OK}
    assert [a.reminder_id for a in anna.told if a.kind is AnswerKind.WITHDRAWN] == ["r1"]


@pytest.mark.parametrize("left_out", [0, 1, 2])
async def test_a_mail_names_its_record_for_bounces_only_where_all_of_it_go(left_out: int) -> None:
    anna = World()
    bounces = BounceAddresses(("a secret of these tests",), "bounce.clinic.example")
    object.__setattr__(anna.work, "bounces", bounces)
    for rid in FIVE[:3]:
        anna.ask(rid)
    anna.tick(MINUTE)
    for rid in FIVE[:left_out]:
        anna.withdraw(rid)
    await anna.call()
    (mail,) = anna.sent
    assert bool(mail.bounce) is (not left_out)


async def test_who_is_awaited_and_does_not_come_keeps_the_others_for_a_short_time_only() -> None:
    anna = World()
    for rid in FIVE:
        anna.ask(rid)
    anna.asks.pop("r4")
    anna.again.pop("r4")  # its reminder was moved to another day while it waited, so that nobody withdrew it here
    anna.tick(MINUTE + 9_000)
    assert anna.channel == []
    anna.tick(2_000)
    await anna.call()
    assert [mail.title for mail in anna.sent] == ["Reminders (4): Title r0, Title r1, Title r2, Title r3"]


async def test_a_message_that_failed_is_tried_again_with_all_of_its_members() -> None:
    anna = World()
    for rid in FIVE[:3]:
        anna.ask(rid)
    anna.tick(MINUTE)
    anna.outcome = Outcome(OutcomeKind.DEFERRED, "later", "smtp")
    await anna.call()
    assert anna.outcomes() == dict.fromkeys(FIVE[:3], (OutcomeKind.DEFERRED, "later"))
    anna.outcome = Outcome(OutcomeKind.ACCEPTED, "ok", "smtp")
    anna.now += MINUTE
    for rid in FIVE[:3]:
        anna.ask(rid, attempt=2)
    anna.tick(3_000)
    await anna.call()
    first, second = anna.sent
    assert first.token == second.token, "to its provider it is the same message"
    assert first.title == second.title
    assert anna.outcomes() == dict.fromkeys(FIVE[:3], OK)


async def test_a_worker_that_died_in_the_call_leaves_a_doubt_for_each() -> None:
    anna = World()
    for rid in FIVE:
        anna.ask(rid)
    anna.tick(MINUTE)
    record = anna.channel[0]
    decision = anna.calls.read(anna.work, record).run(anna.view, anna.now)
    anna.store.write_rows(0, decision.rows, None)
    anna.calls._open.clear()  # the next worker knows nothing of it
    assert anna.calls.read(anna.work, record).run(anna.view, anna.now).rows == {}, "it begins once"
    anna.now += MINUTE
    for key in [key for key in anna.store.rows if key.startswith(b"d/")]:
        anna.apply(anna.calls.fired(key).run(anna.view, anna.now))
    assert anna.outcomes() == dict.fromkeys(FIVE, (OutcomeKind.MAYBE_SENT, "no_outcome"))
    assert len({a.digest for a in anna.told if a.outcome is OutcomeKind.MAYBE_SENT}) == 1


async def test_no_call_begins_where_it_must_not_and_all_are_asked_for_again() -> None:
    anna = World()
    for rid in FIVE:
        anna.ask(rid)
    anna.tick(MINUTE)
    anna.fresh = False
    await anna.call()
    assert anna.sent == []
    assert anna.outcomes() == dict.fromkeys(FIVE, (OutcomeKind.HELD, "control_unknown"))
    anna.fresh = True
    anna.tick(5_000)
    await anna.call()
    assert [mail.title[:13] for mail in anna.sent] == ["Reminders (5)"]


async def test_of_five_with_a_cap_of_three_two_go_later_as_one_message() -> None:
    anna = World(RecipientProfile(zone="UTC", contacts=(MAIL, PHONE), max_per_hour=3))
    channels = [Channel.EMAIL, Channel.SMS, Channel.EMAIL, Channel.EMAIL, Channel.EMAIL]
    for n, channel in enumerate(channels):
        anna.ask(f"r{n}", channel=channel, category="capped")
        anna.tick(1_000)
    await anna.call()
    assert len(anna.sent) == 3
    assert [a.reason for a in anna.told if a.outcome is OutcomeKind.HELD] == ["cap_per_hour"] * 2
    anna.tick(60 * MINUTE)
    await anna.call()
    assert anna.sent[3:][0].title == "Reminders (2): Title r3, Title r4"
    assert len(anna.sent) == 4
    assert anna.outcomes() == dict.fromkeys(FIVE, OK)
    raw = anna.store.rows[ids.sends_key("anna")]
    assert len(codec.decode(RecipientSends, raw[index.HEADER.size :]).passed) == 4, "a message counts once"


async def test_a_message_asked_for_again_before_its_call_is_not_kept_back_by_its_own_count() -> None:
    anna = World(RecipientProfile(zone="UTC", contacts=(MAIL,), max_per_hour=1))
    for rid in FIVE[:2]:
        anna.ask(rid, category="both")
    anna.tick(MINUTE)
    assert len(anna.channel) == 1
    for rid in FIVE[:2]:
        anna.ask(rid)  # core's lease is over before a slot was free
    anna.tick(15_000)
    assert "cap_per_hour" not in {a.reason for a in anna.told}
    await anna.call()
    assert len(anna.sent) == 1
    assert anna.outcomes() == dict.fromkeys(FIVE[:2], OK)


async def test_words_that_do_not_fit_into_one_message_go_in_several() -> None:
    anna = World()
    for n in range(5):
        anna.ask(f"r{n}", channel=Channel.SMS, text="x" * 180)
    anna.tick(MINUTE)
    await anna.call()
    texts = "\n".join(f"{sms.title}\n{sms.text}" for sms in anna.sent)
    assert [texts.count(f"Title r{n}") for n in range(5)] == [1] * 5
    assert [sms.text.count("Title") for sms in anna.sent] == [2, 2, 0]
    assert anna.outcomes() == dict.fromkeys(FIVE, OK)


async def test_what_is_too_large_for_one_record_goes_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_TOGETHER", 20_000)
    anna = World()
    for rid in FIVE:
        anna.ask(rid, text="x" * 3_000)
    anna.tick(MINUTE)
    assert len(anna.channel) > 1
    assert all(len(record.value or b"") <= 20_000 for record in anna.channel)
    await anna.call()
    assert anna.outcomes() == dict.fromkeys(FIVE, OK)
    assert "".join(mail.text for mail in anna.sent).count("x" * 3_000) == 5


async def test_each_address_and_each_channel_gets_its_own() -> None:
    anna = World()
    anna.ask("a", channel=Channel.EMAIL)
    anna.ask("b", channel=Channel.EMAIL)
    anna.ask("boss", channel=Channel.EMAIL, addressed=True)
    anna.ask("text", channel=Channel.SMS)
    anna.tick(MINUTE)
    await anna.call()
    assert {(sent.channel, sent.address) for sent in anna.sent} == {
        (Channel.EMAIL, "anna@people.example"),
        (Channel.EMAIL, "boss@people.example"),
        (Channel.SMS, "+12015550123"),
    }
    assert Counter(sent.title[:9] for sent in anna.sent)["Reminders"] == 1


async def test_an_erasure_takes_the_group_along() -> None:
    anna = World()
    anna.ask("r0")
    anna.ask("r1")
    anna.tick(MINUTE - 1)
    anna.now += 1
    anna.ask("r0")  # gathered, with its content
    key = ids.digest_key("anna", "pills")
    assert key in anna.store.rows
    record = Record("recipients", PARTITION, 5, b"anna", None, (anna.now + 1) / 1000)
    anna.work.topic_ids["recipients"] = "t"  # type: ignore[index]
    anna.now += 1
    anna.apply(gate.read_recipient(anna.work, record).run(anna.view, anna.now))
    assert key not in anna.store.rows
    anna.tick(MINUTE)
    await anna.call()
    assert anna.sent == []


# -- any order, any death ----------------------------------------------------------------------------------------------

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("withdraw"), st.integers(0, 5), st.just(False)),
        st.tuples(st.just("tick"), st.sampled_from([1, 500, 2_000, 10_000, 60_000]), st.just(False)),
        st.tuples(st.just("call"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("lease"), st.integers(0, 5), st.booleans()),
    ),
    max_size=40,
)


class Players(World):
    """A world whose calls end at once, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[Member, ...]] = []
        self.calls.begin_all = lambda partition, members, adapter: self.begun.append(members)  # type: ignore[method-assign]

    def answered(self, rid: str) -> bool:
        kind, _ = self.outcomes().get(rid, (OutcomeKind.HELD, ""))
        return kind is not OutcomeKind.HELD


@given(_STEPS)
def test_whatever_happens_each_is_in_one_message_at_most_and_none_is_forgotten(
    steps: list[tuple[str, int, bool]],
) -> None:
    anna = Players()
    withdrawn: dict[str, int] = {}
    asked: set[str] = set()
    for act, n, dies in steps:
        rid = f"r{n}"
        match act:
            case "ask" if rid not in asked:
                asked.add(rid)
                if dies:
                    anna.ask(rid, dies=True)  # and what was read is read again
                    anna.put(anna.asks[rid])
                else:
                    anna.ask(rid)
            case "lease" if rid in anna.asks and rid not in anna.again and not anna.answered(rid):
                anna.ask(rid, dies=dies)
                if dies:
                    anna.put(anna.asks[rid])
            case "withdraw" if rid in anna.asks and not anna.answered(rid):
                anna.withdraw(rid)
                if anna.told and anna.told[-1].kind is AnswerKind.WITHDRAWN:
                    withdrawn[rid] = len(anna.begun)
            case "tick":
                anna.tick(n)
            case "call" if anna.channel:
                record = anna.channel.pop(0)
                decision = anna.calls.read(anna.work, record).run(anna.view, anna.now)
                anna.apply(decision, dies=dies)
                if dies:
                    anna.channel.insert(0, record)
            case _:
                pass
    for _ in range(3):
        anna.tick(2 * MINUTE)
        while anna.channel:
            anna.apply(anna.calls.read(anna.work, anna.channel.pop(0)).run(anna.view, anna.now))
    calls = Counter(one.delivery.reminder_id for members in anna.begun for one in members)
    assert all(count == 1 for count in calls.values())
    for rid in asked - set(withdrawn):
        assert calls[rid] == 1, "what was asked for and not withdrawn has been called"
    for rid, at in withdrawn.items():
        late = [one for members in anna.begun[at:] for one in members if one.delivery.reminder_id == rid]
        assert not late, "no call begins after the word that none will"
    for members in anna.begun:
        for one in members:
            row = anna.work.delivery(anna.view, one.key)
            assert row is not None
            assert row.attempts[-1].state is AttemptState.STARTED


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_stands_on_the_topic_holds_each_delivery_whole(count: int) -> None:
    anna = World()
    for rid in FIVE[:count]:
        anna.ask(rid)
    anna.tick(MINUTE)
    (record,) = anna.channel
    first = codec.decode(Delivery, record.value or b"")
    assert len(first.together) == count - 1
    assert bool(first.digest) is (count > 1)
