"""What a run asks for, drawn from a seed: reminders of several channels, and what people do with them meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from schemas.names import Action, Channel, MaybeSent, RecipientAction, WaitFor
from schemas.records import Contact, ControlRecord, Policy, RecipientEvent, ReminderEvent, Step
from tables import holds
from tests.sandbox.smtp_server import Stage

Asked = ReminderEvent | RecipientEvent | ControlRecord
#: How far ahead the first reminder of a batch is due, and over how long they spread, in ms.
AHEAD_MS, SPREAD_MS = 700, 1_500


@dataclass(slots=True)
class Batch:
    """The reminders of one run of a scenario.

    ``asks``: what is written, by when (ms after the start). ``whose``: whose an address is. ``mails``: what the server
    answers to an address. ``hooks``: how often a path fails before it takes a message; ``gone``: those that never do.
    ``texts``: numbers whose messages are told to have arrived. ``stops``: reminder and number of those who answer STOP.
    """

    name: str
    seed: str
    start: int
    number: int
    hooks_url: str
    rng: Random
    asks: list[tuple[int, Asked]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    whose: dict[str, str] = field(default_factory=dict)
    mails: dict[str, tuple[Stage, tuple[str, ...]]] = field(default_factory=dict)
    hooks: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    stops: list[tuple[str, str]] = field(default_factory=list)

    # -- parts of a reminder

    def new(self, kind: str) -> str:
        rid = f"{self.name}/{len(self.ids)}-{kind}"
        self.ids.append(rid)
        return rid

    def mail(self, rid: str, **more: object) -> Step:
        address = f"{rid.replace('/', '_')}@people.example"
        self.whose[address] = rid
        return Step(Channel.EMAIL, address=address, **more)

    def hook(self, rid: str, **more: object) -> Step:
        path = f"/{rid.replace('/', '_')}"
        self.whose[path] = rid
        return Step(Channel.WEBHOOK, address=self.hooks_url + path, **more)

    def text(self, rid: str, **more: object) -> Step:
        number = f"+1201{2_000_000 + 40 * self.number + len(self.whose)}"
        self.whose[number] = rid
        return Step(Channel.SMS, address=number, **more)

    def due(self) -> int:
        return self.start + AHEAD_MS + self.rng.randrange(SPREAD_MS)

    def ask(self, at_ms: int, asked: Asked) -> None:
        if isinstance(asked, ReminderEvent | RecipientEvent):
            asked = replace(asked, event_id=f"{self.name}/e{len(self.asks)}")
        self.asks.append((at_ms, asked))

    def upsert(self, rid: str, *steps: Step, ahead: int = 0, **more: object) -> ReminderEvent:
        given = {"at": self.due(), "title": f"Title {rid}", "text": "Bring your card.", "version": 1, "steps": steps}
        event = ReminderEvent(rid, **(given | more))
        self.ask(ahead, event)
        return event

    def act(self, at_ms: int, rid: str, action: Action) -> None:
        """Write what somebody does. It is numbered, as the reminder is."""
        self.ask(at_ms, ReminderEvent(rid, action=action, version=1))


def plain(batch: Batch) -> None:
    for step in (batch.mail, batch.mail, batch.hook, batch.text):
        rid = batch.new("plain")
        batch.upsert(rid, step(rid))


def tried_again(batch: Batch) -> None:
    rid = batch.new("busy")
    mail = batch.mail(rid)
    batch.mails[mail.address] = Stage.RCPT, ("451 4.3.0 not now", "250 2.1.5 ok")
    batch.upsert(rid, mail)
    rid = batch.new("down")
    hook = batch.hook(rid)
    batch.hooks[f"/{rid.replace('/', '_')}"] = 2
    batch.upsert(rid, hook)


def chains(batch: Batch) -> None:
    rid = batch.new("gone")
    hook, mail = batch.hook(rid), batch.mail(rid)
    batch.gone.add(f"/{rid.replace('/', '_')}")
    batch.upsert(rid, hook, mail)
    for told in (True, False):
        rid = batch.new("told" if told else "untold")
        text, mail = batch.text(rid, wait_for=WaitFor.DELIVERED, within_s=20 if told else 2), batch.mail(rid)
        if told:
            batch.texts.add(text.address)
        batch.upsert(rid, text, mail)


def cancels(batch: Batch) -> None:
    rid = batch.new("cancelled")
    batch.upsert(rid, batch.mail(rid), at=batch.start + 3_000)
    batch.act(300, rid, Action.CANCEL)
    rid = batch.new("crossing")
    event = batch.upsert(rid, batch.mail(rid))
    batch.act((event.at or 0) - batch.start + batch.rng.randrange(-150, 200), rid, Action.CANCEL)


def updates(batch: Batch) -> None:
    rid = batch.new("moved")
    event = batch.upsert(rid, batch.hook(rid))
    for version in (2, 3):
        moved = replace(event, at=(event.at or 0) + 200 * version, version=version, text=f"Version {version}.")
        batch.ask(batch.rng.randrange(100, 900), moved)


def pauses(batch: Batch) -> None:
    rid = batch.new("paused")
    batch.upsert(rid, batch.mail(rid))
    batch.act(batch.rng.randrange(200, 900), rid, Action.PAUSE)
    batch.act(2_500, rid, Action.RESUME)


def nags(batch: Batch) -> None:
    rid = batch.new("nag")
    batch.upsert(rid, batch.mail(rid), policy=Policy(nag_every_s=2, nag_max=2))
    batch.act(5_500 + batch.rng.randrange(500), rid, Action.ACKNOWLEDGE)


def resent(batch: Batch) -> None:
    for _ in range(2):
        rid = batch.new("resent")
        batch.upsert(rid, batch.mail(rid), policy=Policy(maybe_sent=MaybeSent.RESEND))


def of_people(batch: Batch) -> None:
    who, rid = f"{batch.name}.anna", batch.new("recipient")
    mail = batch.mail(rid)
    contact = Contact(Channel.EMAIL, mail.address)
    batch.ask(0, RecipientEvent(who, zone="Europe/Berlin", contacts=(contact,), version=1))
    batch.upsert(rid, ahead=100, recipient_id=who)
    who, rid = f"{batch.name}.ben", batch.new("erased")
    contact = Contact(Channel.EMAIL, batch.mail(rid).address)
    batch.ask(0, RecipientEvent(who, zone="Europe/Berlin", contacts=(contact,), version=1))
    batch.upsert(rid, ahead=100, recipient_id=who, at=batch.start + 2_500)
    batch.ask(1_000 + batch.rng.randrange(1_700), RecipientEvent(who, RecipientAction.ERASE, version=2))


def held(batch: Batch) -> None:
    rid = batch.new("held")
    tenant = batch.name.lower()
    until = batch.start + 3_500
    batch.ask(0, ControlRecord(f"tenant:{tenant}", holds.HOLD, batch.start, batch.start, until, "chaos", "chaos"))
    batch.upsert(rid, batch.mail(rid), tenant=tenant)


def stopped(batch: Batch) -> None:
    rid = batch.new("stopped")
    text = batch.text(rid)
    batch.stops.append((rid, text.address))
    batch.upsert(rid, text, at=batch.start + 3_000)


KINDS: tuple[Callable[[Batch], None], ...] = (
    plain,
    tried_again,
    chains,
    cancels,
    updates,
    pauses,
    nags,
    resent,
    of_people,
    held,
    stopped,
)


def make(name: str, seed: str, start: int, number: int, hooks_url: str, copies: int = 1) -> Batch:
    """Return the batch of a run; the same for the same seed but for its start (ms UTC). ``number``: of this batch among
    all, by which its telephone numbers differ from others'."""
    batch = Batch(name, seed, start, number, hooks_url, Random(seed))
    for _ in range(copies):
        for kind in KINDS:
            kind(batch)
    batch.asks.sort(key=lambda ask: ask[0])
    return batch
