"""What is held of a person: read from the changelogs of both tables, as the rows stand now. It needs no worker."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import unquote

from aiokafka import ConsumerRecord, TopicPartition

from agents.publisher import partition_of
from app.cli.audit import partitions, reader, records
from app.config import Settings
from app.topics import TopicNames
from schemas import codec, ids
from schemas.codec import Undecodable
from schemas.hashing import normal
from schemas.names import Channel
from schemas.records import (
    Content,
    RecipientDelivery,
    RecipientLink,
    RecipientProfile,
    RecipientSends,
    ReminderRow,
)
from schemas.sealing import CONTENT, Sealing, Unopened
from tables import due as index
from tables import profiles, rewrap
from tables.rewrap import Waits

_T = TypeVar("_T")


@dataclass
class Held:
    """The rows of one person, or of one reminder. ``links`` and ``deliveries``: by key, as the recipients table has
    them; ``reminders``: by id."""

    recipient_id: str = ""
    profile: RecipientProfile | None = None
    links: dict[bytes, RecipientLink] = field(default_factory=dict)
    deliveries: dict[bytes, RecipientDelivery] = field(default_factory=dict)
    sends: RecipientSends | None = None
    reminders: dict[str, ReminderRow] = field(default_factory=dict)

    def contents(self, sealing: Sealing) -> dict[str, Content]:
        """Return the content of each reminder that can be read, by id."""
        keys = {link.reminder_id: link.wrapped_key for link in self.links.values()}
        found = {rid: content_of(rid, row, keys.get(rid, b""), sealing) for rid, row in self.reminders.items()}
        return {rid: content for rid, content in found.items() if content is not None}

    def personal(self) -> bool:
        """Return whether anything personal is left."""
        known = self.profile is not None and not self.profile.erased
        return known or any(says_something(row) for row in self.reminders.values())


def says_something(row: ReminderRow) -> bool:
    """Return whether a row has any content."""
    return row.definition is not None and bool(row.definition.sealed.body)


def content_of(rid: str, row: ReminderRow, wrapped: bytes, sealing: Sealing) -> Content | None:
    """Return the content of a row, None where it has none or nobody here can read it."""
    d = row.definition
    if d is None or not d.sealed.body:
        return None
    try:
        return codec.decode(Content, sealing.open(rid, CONTENT, d.sealed, wrapped))
    except (Undecodable, Unopened):
        return None


def read_row(kind: type[_T], raw: bytes | None) -> _T | None:
    """Return what a row says behind its header, None where there is none, or none that this release can read."""
    if raw is None or len(raw) < index.HEADER.size:
        return None
    try:
        return codec.decode(kind, raw[index.HEADER.size :])
    except Undecodable:
        return None


def profile_of(recipient_id: str, raw: bytes | None, sealing: Sealing) -> RecipientProfile | None:
    """Return a recipient's profile out of its row, without contacts and proofs where they are sealed with a key that is
    not here; None where there is none, or none that this release can read."""
    if raw is None or len(raw) < index.HEADER.size:
        return None
    body = raw[index.HEADER.size :]
    try:
        return profiles.opened(body, recipient_id, sealing)
    except Unopened:
        return profiles.known(body)
    except Undecodable:
        return None


async def _latest(
    settings: Settings, topic: str, wanted: Callable[[bytes], bool], of: list[bytes] | None
) -> dict[bytes, bytes]:
    """Return the last value of each key that is wanted, from the partitions of the keys ``of``, or from all."""
    found: dict[bytes, bytes] = {}
    async with reader(settings, topic) as consumer:
        tps = await partitions(consumer, topic)
        if of is not None:
            tps = [TopicPartition(topic, p) for p in sorted({partition_of(key, len(tps)) for key in of})]
        async for record in _mine(records(consumer, tps), wanted):
            if record.value is None:
                found.pop(record.key, None)
            else:
                found[record.key] = record.value
    return found


async def _mine(all_: AsyncIterator[ConsumerRecord], wanted: Callable[[bytes], bool]) -> AsyncIterator[ConsumerRecord]:
    async for record in all_:
        if record.key is not None and wanted(record.key):
            yield record


async def of_recipient(settings: Settings, recipient_id: str, *, everywhere: bool = True) -> Held:
    """Return what is held of a recipient.

    ``everywhere``: all rows of reminders are looked at, not only those that the recipient's partition knows of.
    """
    names = TopicNames.of(settings)
    owner = f"u:{ids.escape(recipient_id)}".encode()
    singles = {b"p/" + owner, b"c/" + owner}
    begins = (b"l/" + owner + b"/", b"d/" + owner + b"/")
    rows = await _latest(
        settings,
        names.recipients_changelog,
        lambda key: key in singles or key.startswith(begins),
        [recipient_id.encode()],
    )
    held = Held(recipient_id)
    held.profile = profile_of(recipient_id, rows.get(b"p/" + owner), Sealing.of(settings.rules.seal_keys))
    held.sends = read_row(RecipientSends, rows.get(b"c/" + owner))
    _sort(held, rows)
    linked = {link.reminder_id for link in held.links.values() if not link.stands_in}
    if not everywhere and not linked:
        return held
    own = [rid.encode() for rid in linked]
    reminders = await _latest(
        settings,
        names.reminders_changelog,
        (lambda key: True) if everywhere else set(own).__contains__,
        None if everywhere else own,
    )
    for key, raw in reminders.items():
        row = read_row(ReminderRow, raw)
        if row is None:
            continue
        rid = key.decode("utf-8", "replace")
        if rid in linked or (row.definition is not None and row.definition.recipient_id == recipient_id):
            held.reminders[rid] = row
    return held


async def of_reminder(settings: Settings, reminder_id: str) -> Held:
    """Return what is held of one reminder, and in which recipient's partition."""
    names = TopicNames.of(settings)
    key = reminder_id.encode()
    rows = await _latest(settings, names.reminders_changelog, key.__eq__, [key])
    held = Held()
    row = read_row(ReminderRow, rows.get(key))
    if row is not None:
        held.reminders[reminder_id] = row
        held.recipient_id = row.definition.recipient_id if row.definition is not None else ""
    route = ids.routing_key(held.recipient_id, reminder_id)
    link = ids.link_key(held.recipient_id, reminder_id)
    begins = f"d/{ids.owner(held.recipient_id, reminder_id)}/{ids.escape(reminder_id)}:".encode()
    _sort(
        held,
        await _latest(settings, names.recipients_changelog, lambda key: key == link or key.startswith(begins), [route]),
    )
    return held


async def with_address(settings: Settings, address: str) -> tuple[Held, list[str]]:
    """Return the reminders that carry an address, and the ids of the recipients who have it among their contacts."""
    names = TopicNames.of(settings)
    rows = await _latest(settings, names.recipients_changelog, lambda key: key.startswith((b"p/", b"l/")), None)
    sealing = Sealing.of(settings.rules.seal_keys)
    keys, people = {}, []
    for key, raw in rows.items():
        if key.startswith(b"l/"):
            link = read_row(RecipientLink, raw)
            if link is not None and link.wrapped_key and not link.stands_in:
                keys[link.reminder_id] = link.wrapped_key
        else:
            person = unquote(key.decode().removeprefix("p/u:"))
            profile = profile_of(person, raw, sealing)
            if profile is not None and any(same_address(c.channel, c.address, address) for c in profile.contacts):
                people.append(person)
    found = Held()
    for key, raw in (await _latest(settings, names.reminders_changelog, lambda key: True, None)).items():
        rid, row = key.decode("utf-8", "replace"), read_row(ReminderRow, raw)
        content = content_of(rid, row, keys.get(rid, b""), sealing) if row is not None else None
        if row is None or row.definition is None or content is None:
            continue
        steps = zip(row.definition.steps, content.addresses, strict=False)
        if any(same_address(step.channel, given, address) for step, given in steps if given):
            found.reminders[rid] = row
            found.links[key] = RecipientLink(rid, 0, False, wrapped_key=keys.get(rid, b""))
    return found, sorted(people)


async def sealed_otherwise(settings: Settings) -> Counter[Waits]:
    """Return how many rows are not sealed as these settings say, by why. It reads the whole recipients changelog."""
    topic = TopicNames.of(settings).recipients_changelog
    rows = await _latest(settings, topic, lambda key: key.startswith(rewrap.PREFIXES), None)
    sealing, contacts = Sealing.of(settings.rules.seal_keys), settings.rules.seal_contacts
    found: Counter[Waits] = Counter()
    for key, raw in rows.items():
        try:
            why = rewrap.waits(key, raw[index.HEADER.size :], sealing, contacts)
        except Undecodable:
            continue
        if why is not None:
            found[why] += 1
    return found


def told_of_sealing(found: Mapping[Waits, int], keys: int) -> str:
    """Return what the rows that are sealed otherwise mean to whoever changes one of ``keys`` master keys."""
    if found.get(Waits.UNKNOWN):
        return f"{found[Waits.UNKNOWN]} rows are sealed with a key that is not in SEAL_KEY; add it behind the others"
    if waiting := sum(found.values()):
        return f"{waiting} rows wait to be brought up to SEAL_KEY and SEAL_CONTACTS; keep all keys until they have been"
    return "no row waits: all keys but the first may go" if keys > 1 else "no row waits"


def same_address(channel: Channel, known: str, wanted: str) -> bool:
    """Return whether two addresses of a channel are the same, however they are written."""
    return known == wanted or normal(channel, known) == normal(channel, wanted)


def _sort(held: Held, rows: dict[bytes, bytes]) -> None:
    for key, raw in rows.items():
        if key.startswith(b"l/") and (link := read_row(RecipientLink, raw)) is not None:
            held.links[key] = link
        elif key.startswith(b"d/") and (delivery := read_row(RecipientDelivery, raw)) is not None:
            held.deliveries[key] = delivery
