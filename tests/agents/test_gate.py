"""The gate over memory: what a recipient allows decides whether, where and when they are written to."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from agents import gate
from agents.delivery import Delivering, DeliveryTopics
from agents.meter import Meter
from agents.ports import Decision
from agents.publisher import partition_of
from channels.send_only import SendOnlyTo
from schemas import codec, ids
from schemas.codec import Codec
from schemas.names import Channel, OutcomeKind, RequestKind
from schemas.records import (
    Consent,
    Contact,
    Content,
    Delivery,
    DeliveryAnswer,
    DeliveryRequest,
    Message,
    RecipientProfile,
    Sealed,
)
from tables import due as index
from tables.consent import Categories, Category, Legal, Needs

HOUR = 3_600_000
PARTITION = partition_of(b"anna", 8)
MAIL = Contact(Channel.EMAIL, "anna@people.example")
PHONE = Contact(Channel.SMS, "+12015550123")
CATEGORIES = Categories(
    {
        "duty": Category(needs=Needs.NOTHING, overrides_quiet=True, overrides_caps=True, unverified=True),
        "offers": Category(Legal.MARKETING, Needs.GRANT, calling_hours=True, postal_address="1 Long Way"),
    }
)


@dataclass
class View(dict[bytes, bytes | None]):
    """Rows of a partition."""

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return sorted((k, v) for k, v in self.items() if v is not None and k.startswith(prefix) and k >= start)[:limit]


@dataclass
class Gate:
    """A gate, with the rows of Anna's partition."""

    profile: RecipientProfile
    now: int = 0
    view: View = field(default_factory=View)

    def __post_init__(self) -> None:
        topics = DeliveryTopics("recipients", "requests", {c: c.value for c in Channel}, "outcomes", "audit", "dlq")
        adapters: Any = {c: SimpleNamespace() for c in (Channel.EMAIL, Channel.SMS, Channel.PUSH)}
        self.work = Delivering(
            topics,
            8,
            {"requests": "t"},
            7 * 24 * HOUR,
            HOUR,
            10,
            adapters,
            Codec(None),
            Meter(CollectorRegistry(), process=False),
            lambda: self.now,
            categories=CATEGORIES,
        )
        self.view[ids.profile_key("anna")] = self.work.written(self.profile, 0)

    def ask(self, rid: str, *, ask: int = 1, **fields: Any) -> tuple[Delivery | None, DeliveryAnswer | None]:
        """Ask for a delivery; return what goes to a channel, or what core is told."""
        content = Content("Title", "Text", {}, ("boss@people.example",))
        fields = {
            "attempt": 1,
            "due_at": self.now,
            "deadline": self.now + 30 * 24 * HOUR,
            "asked_at": self.now,
            "sealed": Sealed(0, codec.encode(content)),
            **fields,
        }
        request = DeliveryRequest(
            RequestKind.DELIVER,
            rid,
            "anna",
            occurrence="@1/PT0S",
            ask=ask,
            **fields,
        )
        record: Any = SimpleNamespace(
            topic="requests", partition=PARTITION, offset=0, key=b"anna", value=codec.encode(request), timestamp=0.0
        )
        decision: Decision = gate.read_request(self.work, record).run(self.view, self.now)
        self.view.update(decision.rows)
        (out,) = decision.emits
        if out.topic == "outcomes":
            return None, codec.decode(DeliveryAnswer, out.value or b"")
        return codec.decode(Delivery, out.value or b""), None


def test_quiet_hours_hold_until_they_end_and_duty_goes_through() -> None:
    anna = Gate(RecipientProfile(zone="Africa/Nairobi", contacts=(MAIL,), quiet=("22:00-07:00",)), now=20 * HOUR)
    sent, told = anna.ask("a")
    assert sent is None
    assert told is not None
    assert (told.outcome, told.reason, told.spent) == (OutcomeKind.HELD, "quiet_hours", False)
    assert told.not_before == 28 * HOUR  # seven in Nairobi is four in UTC
    assert anna.ask("b", category="duty")[0] is not None
    anna.now = told.not_before
    assert anna.ask("a", ask=2)[0] is not None


def test_a_channel_is_used_only_with_its_own_consent() -> None:
    refusing = RecipientProfile(
        zone="UTC", contacts=(PHONE, MAIL), consents=(Consent(False, 1, "*", Channel.SMS),), region="US-NY"
    )
    anna = Gate(refusing, now=12 * HOUR)
    sent, _ = anna.ask("a")
    assert sent is not None
    assert sent.channel is Channel.EMAIL
    assert not sent.more
    _, told = anna.ask("b", channel=Channel.SMS)
    assert told is not None
    assert (told.outcome, told.reason) == (OutcomeKind.OPTED_OUT, "consent_refused")
    _, told = anna.ask("c", category="offers")
    assert told is not None
    assert (told.outcome, told.reason) == (OutcomeKind.OPTED_OUT, "consent_refused")


def test_marketing_needs_a_grant_and_says_where_its_sender_can_be_written_to() -> None:
    anna = Gate(RecipientProfile(zone="UTC", contacts=(MAIL,)), now=12 * HOUR)
    _, told = anna.ask("a", category="offers")
    assert told is not None
    assert told.reason == "no_consent"
    _, told = anna.ask("b", category="offers", addressed=True, channel=Channel.EMAIL)
    assert told is not None
    assert told.reason == "no_consent"
    agreed = RecipientProfile(zone="UTC", contacts=(MAIL,), consents=(Consent(True, 1, "offers", Channel.EMAIL),))
    sent, _ = Gate(agreed, now=12 * HOUR).ask("a", category="offers")
    assert sent is not None
    assert codec.decode(Message, sent.sealed.body).text.rstrip().endswith("1 Long Way")


def test_of_five_with_a_cap_of_three_over_both_channels_two_are_held_and_then_sent() -> None:
    anna = Gate(RecipientProfile(zone="UTC", contacts=(MAIL, PHONE), max_per_hour=3), now=12 * HOUR)
    channels = [Channel.EMAIL, Channel.SMS, Channel.EMAIL, Channel.SMS, Channel.EMAIL]
    answers = [anna.ask(f"r{n}", channel=channel) for n, channel in enumerate(channels)]
    assert [sent is not None for sent, _ in answers] == [True, True, True, False, False]
    for _, told in answers[3:]:
        assert told is not None
        assert (told.outcome, told.reason, told.not_before) == (OutcomeKind.HELD, "cap_per_hour", 13 * HOUR)
    assert anna.ask("urgent", category="duty")[0] is not None
    anna.now = 13 * HOUR
    assert [anna.ask(f"r{n}", ask=2)[0] is not None for n in (3, 4)] == [True, True]
    # What counted is forgotten a day after the last of it.
    assert index.unpack(anna.view[ids.sends_key("anna")] or b"").due_ms == 37 * HOUR


def test_unverified_addresses_serve_only_where_the_category_says_so() -> None:
    anna = Gate(RecipientProfile(zone="UTC", contacts=(Contact(Channel.EMAIL, "new@people.example", verified=False),)))
    _, told = anna.ask("a")
    assert told is not None
    assert told.reason == "no_contact"
    assert anna.ask("b", category="duty")[0] is not None


def devices(delivery: Delivery | None) -> tuple[str, ...]:
    assert delivery is not None
    message = codec.decode(Message, delivery.sealed.body)
    return (message.address, *message.also)


def test_a_push_goes_to_all_devices_and_a_mail_to_one_address() -> None:
    phones = tuple(Contact(Channel.PUSH, f"device-{n % 25}") for n in range(30))
    anna = Gate(RecipientProfile(zone="UTC", contacts=(MAIL, *phones, Contact(Channel.EMAIL, "anna@work.example"))))
    assert devices(anna.ask("all", channel=Channel.PUSH)[0]) == tuple(f"device-{n}" for n in range(20))
    assert devices(anna.ask("mail", channel=Channel.EMAIL)[0]) == ("anna@people.example",)
    assert devices(anna.ask("any")[0]) == ("anna@people.example",)


def test_devices_that_may_not_be_sent_to_are_left_out() -> None:
    phones = tuple(Contact(Channel.PUSH, name, verified=name != "new") for name in ("new", "hers", "mine"))
    anna = Gate(RecipientProfile(zone="UTC", contacts=phones))
    assert devices(anna.ask("a", channel=Channel.PUSH)[0]) == ("hers", "mine")
    anna.work = replace(anna.work, send_only_to=SendOnlyTo(exactly=frozenset({"mine"})))
    assert devices(anna.ask("b", channel=Channel.PUSH)[0]) == ("mine",)
    anna.work = replace(anna.work, send_only_to=SendOnlyTo(exactly=frozenset({"other"})))
    sent, told = anna.ask("c", channel=Channel.PUSH)
    assert sent is None
    assert told is not None
    assert (told.outcome, told.reason) == (OutcomeKind.SKIPPED, "not_on_send_only_list")


def reached(contact: Contact, **fields: Any) -> bool:
    """Return whether the gate says that a reminder that is linked can reach Anna."""
    gate_ = Gate(RecipientProfile(contacts=(contact,)))
    request = DeliveryRequest(RequestKind.LINK, "r", "anna", link=1, **fields)
    record: Any = SimpleNamespace(topic="requests", partition=PARTITION, offset=0, value=codec.encode(request))
    decision = gate.read_request(gate_.work, record).run(gate_.view, 0)
    return all(codec.decode(DeliveryAnswer, out.value or b"").reachable for out in decision.emits)


def test_a_contact_serves_on_the_channels_of_the_reminder_and_as_its_category_says() -> None:
    assert reached(MAIL)
    assert reached(MAIL, channels=("SMS", "EMAIL"))
    assert not reached(MAIL, channels=("SMS",))
    assert not reached(Contact(Channel.VOICE, "+12015550123")), "there is no such channel here"
    new = replace(MAIL, verified=False)
    assert not reached(new)
    assert reached(new, category="duty")
