"""What will become of an event that is not sent yet, and by which rule: the answer of ``validate --why``. Pure.

It asks the very rules that intake, the gate and settle ask. What only they can know, it names: the recipient's profile
where none is given, suppressions, holds, what else is sent to them by then.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import assert_never

from agents.intake import definition_of
from app import reasons
from app.cli.times import moment
from channels.shelf import Shelf
from schemas.checks import zone as zone_of
from schemas.names import Action, Channel, RequestKind, State, WaitFor
from schemas.records import Definition, Occurrence, RecipientProfile, ReminderEvent, Step
from tables import caps, consent, digests, prices, recipients, schedule, transition
from tables.consent import Caps, Categories, Category
from tables.prices import NO_PRICES, Prices
from tables.schedule import TimeRules

#: Firings that are told.
TOLD = 3
_ENDS = {
    WaitFor.ACCEPTED: "the provider takes it",
    WaitFor.DELIVERED: "it is delivered",
    WaitFor.READ: "it is read",
    WaitFor.ACKNOWLEDGED: "somebody acknowledges it",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that will be decided: what it is about, what it comes to, and the rule that says so."""

    about: str
    words: str
    rule: str = ""

    def fields(self) -> dict[str, str]:
        """Return it for JSON."""
        return {"about": self.about, "words": self.words, "rule": self.rule}


@dataclass(frozen=True, slots=True)
class Installation:
    """What an installation says. ``channels``: those that are configured, None: not known. ``shelf`` None: no
    templates are known here. ``providers``: the names of each channel's."""

    categories: Categories = field(default_factory=Categories)
    times: TimeRules = field(default_factory=TimeRules)
    max_lateness_s: float = 86_400
    max_attempts: int = 5
    channels: frozenset[Channel] | None = None
    shelf: Shelf | None = None
    prices: Prices = NO_PRICES
    providers: Mapping[Channel, tuple[str, ...]] = field(default_factory=dict)

    def price(self, channel: Channel, address: str) -> int | None:
        """Return what the cheapest provider of a channel takes for a message, or a part of it, in micros."""
        return self.prices.least(channel, self.providers.get(channel, ("",)), address)


def foretell(event: ReminderEvent, profile: RecipientProfile | None, here: Installation, now_ms: int) -> list[Line]:
    """Return what will become of an event that intake takes. ``profile``: of its recipient, None where it is not
    known."""
    if event.action is not Action.UPSERT:
        words = "It acts on the reminder as it stands by then; `trail ID --why` says how."
        return [Line("intake", f"{event.action.value} is taken.", "checks"), Line("effect", words)]
    d = definition_of(event, "")
    lines = [Line("intake", "It is taken.", "checks")]
    if event.version:
        lines.append(Line("version", f"Only events of version {event.version} or later count after it.", "version"))
    at = _times(d, profile, here, now_ms, lines)
    _deadline(event, at, here, lines)
    category = here.categories.of(event.category)
    lines.append(_category(event.category, category, here))
    lines.extend(_digest(d, category))
    if event.template:
        lines.extend(_template(event, profile, here))
    lines.extend(_steps(event, profile, category, here, at))
    attempts = event.policy.max_attempts if event.policy is not None else 0
    onward = "then the next step begins" if len(event.steps) > 1 else "then it ends as DEAD_LETTER"
    own = "policy.max_attempts" if attempts else "RETRY_MAX_ATTEMPTS"
    lines.append(Line("failures", f"A step is tried {attempts or here.max_attempts} times at the most; {onward}.", own))
    unknown = "an address that is suppressed, a hold, a circuit that is open"
    lines.append(Line("not known here", f"At that moment these are looked at, too: {unknown}, a newer event.", "gate"))
    return lines


def _zone(d: Definition, profile: RecipientProfile | None) -> str:
    return d.zone or (profile.zone if profile is not None else "")


def _times(
    d: Definition, profile: RecipientProfile | None, here: Installation, now_ms: int, lines: list[Line]
) -> int | None:
    """Add when it fires, and return the first time; None where it is not known."""
    zone = _zone(d, profile)
    if not zone and d.at is None:
        words = "It waits as PENDING until the recipient's time zone is known: a wall clock has no time without one."
        lines.append(Line("time", words, "zone"))
        return None
    clock = zone_of(zone)
    found = list(islice(schedule.firings(d, zone, now_ms, here.times), TOLD + 1))
    if not found:
        lost = "It is past; the deadline says whether it is still sent." if not schedule.recurs(d) else ""
        lines.append(Line("time", lost or reasons.sentence("nothing_to_come"), "schedule"))
        past = next(schedule.firings(d, zone, 0, here.times), None) if lost else None
        return past.due_at if past is not None else None
    for firing in found[:TOLD]:
        note = f" ({firing.note})" if firing.note else ""
        lines.append(Line("time", f"It fires {moment(firing.due_at, clock)}{note}.", "schedule"))
    if len(found) > TOLD:
        lines.append(Line("time", "And again, by its rule.", "schedule"))
    return found[0].due_at


def _deadline(event: ReminderEvent, at: int | None, here: Installation, lines: list[Line]) -> None:
    if event.expires_at is not None:
        lines.append(Line("deadline", f"After {moment(event.expires_at)} it is not sent: EXPIRED.", "expires_at"))
        return
    own = event.policy.max_lateness_s if event.policy is not None else 0
    late = own or here.max_lateness_s
    until = f", {moment(at + int(late * 1000))}" if at is not None else ""
    rule = "policy.max_lateness_s" if own else "DEFAULT_MAX_LATENESS_S"
    lines.append(Line("deadline", f"Later than {late:g} s after its time{until}, it is not sent: EXPIRED.", rule))


def _category(name: str, category: Category, here: Installation) -> Line:
    known = name in here.categories.named
    parts = [category.legal.value, {"nothing": "needs no consent", "no_refusal": "is sent unless it was refused",
             "grant": "needs the recipient's grant"}[category.needs.value]]  # fmt: skip
    parts += ["keeps the calling hours of the law"] if category.calling_hours else []
    parts += ["goes through quiet hours"] if category.overrides_quiet else []
    parts += ["goes beyond caps"] if category.overrides_caps else []
    parts += ["takes the cheaper channel first"] if category.cheaper_first else []
    parts += (
        ["goes as one message with others that its recipient's cap keeps back"] if category.caps is Caps.DIGEST else []
    )
    rule = "CATEGORIES_FILE" if known else "no table of this name in CATEGORIES_FILE"
    return Line("category", f"{name}: {', '.join(parts)}.", rule)


def _digest(d: Definition, category: Category) -> Iterator[Line]:
    """Yield whether it waits for others, to go with them in one message."""
    if not digests.digests(category):
        return
    request = transition.request(RequestKind.DELIVER, "", d, Occurrence("", State.SENDING, 0, 0, 0), 0)
    match digests.never(request):
        case digests.Why.URGENT:
            words = "It is urgent, so it waits for no other and goes alone."
        case digests.Why.ANSWER:
            words = "It wants an answer, which must be about one reminder, so it goes alone."
        case digests.Why.COST:
            words = "It has a cost cap of its own, so it goes alone."
        case digests.Why.ADDRESS:
            words = "It names no recipient, so it goes alone."
        case None if not category.digest_window_s:
            words = "Where its recipient's cap keeps it back, it goes in one message with the others of its category."
        case None:
            words = (
                f"It is HELD for up to {category.digest_window_s} s, and goes in one message with the others of its "
                "category and recipient that come by then. To a webhook, or with a deadline before, it goes alone."
            )
        case other:
            assert_never(other)
    yield Line("digest", words, "digest_window_s" if category.digest_window_s else "caps")


def _template(event: ReminderEvent, profile: RecipientProfile | None, here: Installation) -> Iterator[Line]:
    if here.shelf is None:
        yield Line("template", f"{event.template}: the templates cannot be looked at from here.", "template")
        return
    version = here.shelf.find(event.template)
    if version is None:
        yield Line("template", f"{event.template}: {reasons.sentence('unknown_template')}", "unknown_template")
        return
    tongue = version.tongue(profile.locale if profile is not None else "")
    lacking = sorted(name for name in tongue.wants if not (event.data.get(name) or "").strip())
    if lacking:
        yield Line("template", f"{version.ref} needs {', '.join(lacking)}. It will end as DEAD_LETTER.", "template")
        return
    yield Line("template", f"{version.ref}, in {tongue.locale.english_name}, has all that it needs.", "template")


def _steps(
    event: ReminderEvent, profile: RecipientProfile | None, category: Category, here: Installation, at: int | None
) -> Iterator[Line]:
    if not event.steps:
        yield from _choice(event, profile, category, here, at)
        return
    for n, step in enumerate(event.steps, 1):
        about = f"step {n}"
        known = profile or RecipientProfile()
        yield Line(about, _step(event, step, profile, category, here), f"steps[{n - 1}]")
        if profile is not None or step.address:
            yield from _judged(about, event, known, category, step.channel, at)
            address = step.address or next((c.address for c in known.contacts if c.channel is step.channel), "")
            yield from _priced(about, event, step.channel, address, here)
        within = f" within {step.within_s} s" if step.within_s else ""
        if n < len(event.steps):
            yield Line(about, f"Unless {_ENDS[step.wait_for]}{within}, step {n + 1} begins.", "wait_for")


def _step(
    event: ReminderEvent, step: Step, profile: RecipientProfile | None, category: Category, here: Installation
) -> str:
    if here.channels is not None and step.channel not in here.channels:
        return f"{step.channel.value}: {reasons.sentence('channel_not_configured')}"
    if step.address:
        return f"{step.channel.value}, to the step's own address."
    if profile is None:
        return f"{step.channel.value}, to the recipient's contact by then."
    available = here.channels if here.channels is not None else frozenset(Channel)
    if not recipients.usable(profile, step.channel, (), available, unverified=category.unverified):
        return f"{step.channel.value}: {reasons.sentence('no_contact')}"
    return f"{step.channel.value}, to the recipient's contact."


def _choice(
    event: ReminderEvent, profile: RecipientProfile | None, category: Category, here: Installation, at: int | None
) -> Iterator[Line]:
    if profile is None:
        words = "The recipient's contacts in their order, with their consent, quiet hours and caps by then."
        yield Line("contacts", f"{words} Give their profile with --for to have them judged.", "recipient")
        return
    available = here.channels if here.channels is not None else frozenset(Channel)
    found = recipients.usable(profile, Channel.ANY, (), available, unverified=category.unverified)
    if not found:
        yield Line("contacts", reasons.sentence("no_contact"), "recipient")
    first: dict[Channel, str] = {}
    for contact in found:
        first.setdefault(contact.channel, contact.address)
    order, by = list(first), "by the recipient's order"
    if category.cheaper_first and len(first) > 1:
        order, by = _by_price(event, profile, category, first, here, at), "the cheaper first"
    for channel in order:
        yield Line("contacts", f"{channel.value}, {by}.", "cheaper_first" if by.startswith("the") else "contacts")
        yield from _priced("contacts", event, channel, first[channel], here)
        yield from _judged("contacts", event, profile, category, channel, at)


def _by_price(
    event: ReminderEvent,
    profile: RecipientProfile,
    category: Category,
    first: Mapping[Channel, str],
    here: Installation,
    at: int | None,
) -> list[Channel]:
    """Return the channels in the order in which the gate will try them, as far as it can be known."""
    ways = [
        prices.Way(
            channel,
            here.price(channel, address),
            at is None or consent.look(profile, event.category, category, channel, at) is None,
        )
        for channel, address in first.items()
    ]
    return [way.channel for way in prices.cheaper_first(ways, wants_answer=False)]


def _priced(about: str, event: ReminderEvent, channel: Channel, address: str, here: Installation) -> Iterator[Line]:
    """Yield what a channel costs to an address, where anybody asks for it."""
    cap = event.policy.max_cost_micros if event.policy is not None else 0
    if not cap and not here.prices:
        return
    price = here.price(channel, address) if address else None
    if why := prices.beyond(cap, price):
        yield Line(about, reasons.sentence(why, channel), why)
    if price:
        each = " a part" if channel is Channel.SMS else ""
        allowed = f", and it may cost {here.prices.words(cap)}" if cap else ""
        yield Line(about, f"{channel.value} costs {here.prices.words(price)}{each}{allowed}.", "PRICES_FILE")


def _judged(
    about: str, event: ReminderEvent, profile: RecipientProfile, category: Category, channel: Channel, at: int | None
) -> Iterator[Line]:
    """Yield what the recipient allows at the time of the first firing."""
    if at is None:
        return
    match consent.look(profile, event.category, category, channel, at):
        case consent.Refused(reason):
            yield Line(about, reasons.sentence(reason, channel), reason)
        case consent.Held(reason, until):
            held = f"{reasons.sentence(reason, channel)} It is HELD until {moment(until, zone_of(profile.zone))}."
            yield Line(about, held, reason)
        case None:
            yield Line(about, "Consent and hours allow it at its time.", "consent")
    if caps.capped(profile) and not category.overrides_caps:
        most = [
            f"{n} in {what}" for n, what in ((profile.max_per_hour, "an hour"), (profile.max_per_day, "a day")) if n
        ]
        yield Line(about, f"The recipient takes {' and '.join(most)} at the most; more is HELD, not dropped.", "caps")
