"""Costs at the gate and before the call: the cheaper channel first, nothing dearer than allowed, told in outcomes."""

from types import SimpleNamespace
from typing import Any

from agents.deliver import Member
from agents.ways import allowed
from channels.base import Outcome
from schemas.names import Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import Contact, Delivery, Message, RecipientProfile
from tables.consent import Categories, Category
from tables.prices import Prices
from tests.agents.test_deliver import Desk
from tests.agents.test_gate import HOUR, MAIL, PHONE, Gate

PRICES = Prices("EUR", {(Channel.SMS, "twilio", "US"): 8_000, (Channel.EMAIL, "smtp", "*"): 400})
THRIFTY = Categories({"thrifty": Category(cheaper_first=True)})


def priced(*contacts: Contact, quiet: tuple[str, ...] = ()) -> Gate:
    anna = Gate(RecipientProfile(zone="UTC", contacts=contacts, quiet=quiet), now=12 * HOUR)
    adapters: Any = {Channel.EMAIL: SimpleNamespace(name="smtp"), Channel.SMS: SimpleNamespace(name="twilio")}
    anna.work = replace(anna.work, adapters=adapters, prices=PRICES, categories=THRIFTY)
    return anna


def test_the_cheaper_channel_goes_first_where_the_category_says_so() -> None:
    sent, _ = priced(PHONE, MAIL).ask("a")
    assert sent is not None
    assert (sent.channel, sent.chosen) == (Channel.SMS, "")
    sent, _ = priced(PHONE, MAIL).ask("a", category="thrifty")
    assert sent is not None
    assert (sent.channel, sent.more) == (Channel.EMAIL, True)
    assert sent.chosen == "cheaper first: email 0.0004 EUR, sms 0.008 EUR"
    sent, _ = priced(PHONE, MAIL).ask("a", category="thrifty", channel=Channel.SMS)
    assert sent is not None
    assert sent.channel is Channel.SMS  # the producer named it


def test_what_is_dearer_than_allowed_is_left_out_and_told() -> None:
    sent, _ = priced(PHONE, MAIL).ask("a", max_cost_micros=500)
    assert sent is not None
    assert (sent.channel, sent.more, sent.max_cost_micros) == (Channel.EMAIL, False, 500)
    for fields in ({"channel": Channel.SMS}, {}):
        _, told = priced(PHONE).ask("a", max_cost_micros=500, **fields)
        assert told is not None
        assert (told.outcome, told.reason) == (OutcomeKind.UNDELIVERABLE, "too_dear")
        assert told.detail == "0.008 EUR; allowed 0.0005 EUR"
    abroad = replace(PHONE, address="+4915112345678")
    _, told = priced(abroad).ask("a", max_cost_micros=1_000_000)
    assert told is not None
    assert (told.outcome, told.reason) == (OutcomeKind.UNDELIVERABLE, "price_unknown")
    sent, _ = priced(abroad).ask("b")
    assert sent is not None


def parts(desk: Desk, count: int) -> Any:
    adapter = desk.adapter
    adapter.name, adapter.channel, adapter.units = "twilio", Channel.SMS, lambda message: count
    desk.outcome = Outcome(OutcomeKind.ACCEPTED, "ok", "twilio", detail="taken")
    desk.calls._work.prices = PRICES  # type: ignore[misc]
    return adapter


async def test_an_outcome_tells_what_all_parts_cost() -> None:
    desk = Desk()
    adapter = parts(desk, 3)
    delivery = Delivery("d", "r", "@1/PT0S", Channel.SMS, ask=1, chosen="cheaper first: sms 0.008 EUR")
    message = Message(PHONE.address)
    members = (Member(b"", delivery, message),)
    outcome = await desk.calls._send(0, members, adapter)
    assert outcome.cost_micros == 24_000
    desk.outcome = Outcome(OutcomeKind.DEFERRED, "rate_limited", "twilio")
    assert (await desk.calls._send(0, members, adapter)).cost_micros == 0
    # A cap is held to all of the parts.
    assert desk.calls._affordable(replace(delivery, max_cost_micros=24_000), message, (adapter,)) == (adapter,)
    assert desk.calls._affordable(replace(delivery, max_cost_micros=23_999), message, (adapter,)) == ()
    work: Any = SimpleNamespace(prices=PRICES)
    assert allowed(work, 23_999, 24_000) == "0.024 EUR; allowed 0.023999 EUR"
