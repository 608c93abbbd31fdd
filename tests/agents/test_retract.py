"""What is out is taken back through the provider that has it, once, and the trail is told what became of it."""

from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from agents import gate
from agents.delivery import Delivering, DeliveryTopics
from agents.meter import Meter
from agents.ports import Out
from agents.retract import RECENT_MS, Retractions
from channels.base import Outcome, Send
from schemas import codec, ids
from schemas.codec import Codec
from schemas.names import AnswerKind, AttemptState, Channel, OutcomeKind, RequestKind
from schemas.records import Attempt, Contact, DeliveryAnswer, DeliveryRequest, RecipientDelivery, RecipientProfile
from tests.agents.test_gate import View

NOW = 1_796_083_200_000
HOUR = 3_600_000
DELIVERY = ids.delivery_id("r1", "@1/PT0S", 0, 0)
PHONES = tuple(Contact(Channel.PUSH, f"device-{n}") for n in (1, 2))


class Provider:
    """A provider that takes back what it is told to."""

    concurrency = 1
    call_timeout_s = 5.0
    repeatable = False

    def __init__(self, channel: Channel, outcome: Outcome | Exception) -> None:
        self.name = "fake"
        self.channel = channel
        self.outcome = outcome
        self.asked: list[tuple[Send, str]] = []

    async def retract(self, message: Send, provider_id: str) -> Outcome:
        self.asked.append((message, provider_id))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


OK = Outcome(OutcomeKind.ACCEPTED, "ok", "fake")


class Stage:
    def __init__(self, channel: Channel, outcome: Outcome | Exception = OK, *, held: bool = False) -> None:
        self.provider = Provider(channel, outcome)
        self.told: list[DeliveryAnswer] = []
        adapters: Any = {channel: self.provider, Channel.EMAIL: SimpleNamespace(name="smtp")}
        topics = DeliveryTopics("recipients", "requests", {c: c.value for c in Channel}, "outcomes", "audit", "dlq")
        meter = Meter(CollectorRegistry(), process=False)
        self.work = Delivering(
            topics, 8, {"requests": "t"}, 7 * 24 * HOUR, HOUR, 10, adapters, Codec(None), meter, lambda: NOW
        )
        self.retractions = Retractions(self.work, self.publish, lambda channel, name: held)
        self.view = View()
        profile = RecipientProfile(contacts=PHONES)
        self.view[ids.profile_key("anna")] = self.work.written(profile, 0)

    async def publish(self, outs: list[Out]) -> None:
        self.told.extend(codec.decode(DeliveryAnswer, out.value or b"") for out in outs)

    def taken(
        self,
        channel: Channel,
        at: int = NOW,
        outcome: OutcomeKind = OutcomeKind.ACCEPTED,
        digest: str = "",
        rid: str = "r1",
    ) -> None:
        """Let a delivery have been taken by the provider."""
        delivery = ids.delivery_id(rid, "@1/PT0S", 0, 0)
        said = DeliveryAnswer(
            AnswerKind.OUTCOME,
            rid,
            delivery,
            outcome=outcome,
            channel=channel,
            provider="fake",
            provider_id="SM1",
            digest=digest,
            correlation_id=f"asked-{rid}",
        )
        row = RecipientDelivery(
            rid, "anna", "@1/PT0S", 0, 0, 1, attempts=(Attempt(1, AttemptState.ENDED, at, 0, said),)
        )
        self.view[ids.delivery_key("anna", rid, delivery)] = self.work.written(row, 0)

    async def retract(self, rid: str = "r1") -> None:
        request = DeliveryRequest(RequestKind.RETRACT, rid, "anna", occurrence="@1/PT0S", correlation_id="c1")
        record: Any = SimpleNamespace(topic="requests", partition=0, offset=0, value=codec.encode(request))
        decision = gate.read_request(self.work, record, self.retractions.job).run(self.view, NOW)
        assert decision.emits == ()
        self.view.update(decision.rows)
        for begin in decision.after:
            begin()
        await self.retractions.drain(30)


async def test_what_waits_at_its_provider_is_canceled_by_its_id() -> None:
    stage = Stage(Channel.SMS)
    stage.taken(Channel.SMS)
    await stage.retract()
    ((send, sid),) = stage.provider.asked
    assert (sid, send.text, send.token) == ("SM1", "", ids.provider_token(DELIVERY))
    (told,) = stage.told
    assert (told.kind, told.outcome, told.delivery_id) == (AnswerKind.RETRACTED, OutcomeKind.ACCEPTED, DELIVERY)
    assert (told.channel, told.provider, told.correlation_id) == (Channel.SMS, "fake", "c1")


async def test_a_push_is_taken_back_from_all_devices() -> None:
    stage = Stage(Channel.PUSH)
    stage.taken(Channel.PUSH, NOW - 24 * HOUR)
    await stage.retract()
    ((send, _),) = stage.provider.asked
    assert (send.address, send.also) == ("device-1", ("device-2",))


async def test_what_cannot_be_taken_back_is_told() -> None:
    for outcome, reason in ((Outcome(OutcomeKind.REJECTED, "x", "fake", "30409"), "x"), (ValueError("canary"), "bug")):
        stage = Stage(Channel.SMS, outcome)
        stage.taken(Channel.SMS)
        await stage.retract()
        (told,) = stage.told
        assert told.outcome is not OutcomeKind.ACCEPTED
        assert told.reason == reason
        assert "canary" not in repr(told)


async def test_nobody_is_called_for_what_is_not_out() -> None:
    stage = Stage(Channel.SMS)
    await stage.retract()
    stage.taken(Channel.SMS, outcome=OutcomeKind.REJECTED)
    await stage.retract()
    stage.taken(Channel.SMS, NOW - RECENT_MS[Channel.SMS] - 1)
    await stage.retract()
    stage.taken(Channel.EMAIL)
    await stage.retract()
    held = Stage(Channel.SMS, held=True)
    held.taken(Channel.SMS)
    await held.retract()
    assert (stage.provider.asked, stage.told, held.provider.asked) == ([], [], [])


async def test_a_digest_is_taken_back_once_the_last_one_in_it_is_over() -> None:
    stage = Stage(Channel.PUSH)
    for rid in ("r1", "r2", "r3"):
        stage.taken(Channel.PUSH, NOW - HOUR, digest="digest:1", rid=rid)
    stage.taken(Channel.PUSH, NOW - HOUR, digest="digest:2", rid="r4")
    for rid in ("r1", "r3", "r1"):
        await stage.retract(rid)
        assert stage.provider.asked == [], "the others in it are still to be read"
    await stage.retract("r2")
    ((send, _),) = stage.provider.asked
    assert send.token == ids.provider_token("digest:1"), "the name that its provider knows it by"
    assert {told.reminder_id: (told.delivery_id, told.correlation_id) for told in stage.told} == {
        "r1": (DELIVERY, "asked-r1"),
        "r2": (ids.delivery_id("r2", "@1/PT0S", 0, 0), "c1"),
        "r3": (ids.delivery_id("r3", "@1/PT0S", 0, 0), "asked-r3"),
    }
    assert {told.outcome for told in stage.told} == {OutcomeKind.ACCEPTED}


async def test_a_digest_stays_where_nobody_can_know_who_was_in_it() -> None:
    stage = Stage(Channel.PUSH)
    stage.taken(Channel.PUSH, NOW - 7 * 24 * HOUR, digest="digest:1")  # the row of another one may be purged
    await stage.retract()
    assert stage.provider.asked == []
    stage.taken(Channel.PUSH, NOW - 7 * 24 * HOUR + 1, digest="digest:1")
    await stage.retract()
    assert len(stage.provider.asked) == 1
