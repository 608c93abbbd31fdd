"""The delivery app behind its unit of work: recipients, gate and channels of a partition share one worker and its
rows."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agents import letters
from agents.core import rejection
from agents.letters import Complaint
from agents.mail_links import MailLinks
from agents.meter import Meter
from agents.ports import Clock, Command, Decision, Fire, Inbound, Job, Out, View, Word
from agents.publisher import partition_of
from agents.replies import Replies
from agents.suppressions import Suppressions
from channels.base import ChannelAdapter
from channels.layout import Foot
from channels.send_only import SendOnlyTo
from channels.shelf import Shelf
from schemas import codec, ids
from schemas.bounces import BounceAddresses
from schemas.codec import Codec, Undecodable
from schemas.names import Channel
from schemas.records import (
    ControlRecord,
    DeliveryAnswer,
    ProviderDay,
    RecipientDelivery,
    RecipientDigest,
    RecipientLink,
    RecipientProfile,
    RecipientSends,
)
from schemas.references import References
from schemas.sealing import Random, Sealing
from tables import deliveries, profiles
from tables import due as index
from tables.consent import Categories
from tables.prices import NO_PRICES, Prices
from tables.transition import Arrival

#: How long a call may outlive its own limit before its attempt is called a doubt, in ms.
GRACE_MS = 5_000
#: How long an answer "busy" asks core to wait, in ms: at least, and at most.
BUSY_MS, MOST_BUSY_MS = 1_000, 60_000


@dataclass(frozen=True, slots=True)
class DeliveryTopics:
    """Names of the topics that delivery reads and writes, with their namespace."""

    recipients: str
    requests: str
    channels: Mapping[Channel, str]
    outcomes: str
    audit: str
    dlq: str


@dataclass(frozen=True, slots=True)
class Delivering:
    """What the agents of delivery share. ``retention_ms``: how long a delivery's record is kept after it last
    changed."""

    topics: DeliveryTopics
    partitions: int
    topic_ids: Mapping[str, str]
    retention_ms: int
    review_ms: int
    room: int
    adapters: Mapping[Channel, ChannelAdapter]
    codec: Codec
    meter: Meter
    clock: Clock
    slots: dict[Channel, int] = field(default_factory=dict)
    send_only_to: SendOnlyTo = field(default_factory=SendOnlyTo)
    skipped: Callable[[Inbound], ControlRecord | None] = letters.never
    categories: Categories = field(default_factory=Categories)
    suppressions: Suppressions | None = None
    sealing: Sealing = field(default_factory=Sealing)
    seal_contacts: bool = True
    random: Random = os.urandom
    references: References = field(default_factory=lambda: References(()))
    bounces: BounceAddresses = field(default_factory=lambda: BounceAddresses(()))
    spares: Mapping[Channel, tuple[ChannelAdapter, ...]] = field(default_factory=dict)
    mail_links: MailLinks = field(default_factory=MailLinks)
    templates: Shelf = field(default_factory=Shelf)
    foot: Foot = field(default_factory=Foot)
    replies: Replies | None = None
    prices: Prices = NO_PRICES

    def providers(self, channel: Channel) -> tuple[ChannelAdapter, ...]:
        """Return the providers of a channel, the first one first."""
        first = self.adapters.get(channel)
        return (first, *self.spares.get(channel, ())) if first is not None else ()

    def price(self, channel: Channel, address: str) -> int | None:
        """Return what the cheapest provider of a channel takes for one message, or one part of it, in micros; None
        where nobody knows."""
        return self.prices.least(channel, (one.name for one in self.providers(channel)), address)

    def concurrency(self, adapter: ChannelAdapter) -> int:
        """Return how many calls of an adapter's channel may go on at once, by all its providers."""
        spares = self.spares.get(adapter.channel, ()) if self.spares else ()
        return adapter.concurrency + sum(spare.concurrency for spare in spares)

    def call_limit_s(self, adapter: ChannelAdapter) -> float:
        """Return the hard limit of a call, in seconds: of all providers of its channel, one after the other."""
        spares = self.spares.get(adapter.channel, ()) if self.spares else ()
        return adapter.call_timeout_s + sum(spare.call_timeout_s for spare in spares)

    def suppressed(self, channel: Channel, address: str, category: str) -> str:
        """Return why an address must not be used for a category, empty if it may."""
        return self.suppressions.why(channel, address, category) if self.suppressions is not None else ""

    # -- rows

    def profile(self, view: View, recipient_id: str) -> RecipientProfile | None:
        """Return what is known of a recipient. Raises Unopened where it is sealed and does not open."""
        raw = view.get(ids.profile_key(recipient_id)) if recipient_id else None
        return None if raw is None else profiles.opened(raw[index.HEADER.size :], recipient_id, self.sealing)

    def known(self, view: View, recipient_id: str) -> RecipientProfile | None:
        """Return what is known of a recipient without a key: no contacts, no proofs of consent."""
        raw = view.get(ids.profile_key(recipient_id)) if recipient_id else None
        return None if raw is None else profiles.known(raw[index.HEADER.size :])

    def kept(self, recipient_id: str, profile: RecipientProfile) -> bytes:
        """Return the bytes of a recipient's profile, sealed where contacts are."""
        sealing = self.sealing if self.seal_contacts else Sealing()
        body = profiles.body_of(profile, recipient_id, sealing, self.random)
        return index.pack(index.NO_STATE, 0, 0, 0, 0) + body

    def link(self, raw: bytes) -> RecipientLink:
        """Return a link from its row."""
        return codec.decode(RecipientLink, raw[index.HEADER.size :])

    def sends(self, view: View, recipient_id: str) -> RecipientSends | None:
        """Return what counts against a recipient's caps."""
        raw = view.get(ids.sends_key(recipient_id)) if recipient_id else None
        return None if raw is None else codec.decode(RecipientSends, raw[index.HEADER.size :])

    def delivery(self, view: View, key: bytes) -> RecipientDelivery | None:
        """Return what is remembered of a delivery."""
        raw = view.get(key)
        return None if raw is None else codec.decode(RecipientDelivery, raw[index.HEADER.size :])

    def digest(self, view: View, key: bytes) -> RecipientDigest | None:
        """Return who waits to go in one message."""
        raw = view.get(key)
        return None if raw is None else codec.decode(RecipientDigest, raw[index.HEADER.size :])

    def written(
        self,
        row: RecipientProfile | RecipientLink | RecipientSends | RecipientDelivery | RecipientDigest | ProviderDay,
        due_ms: int,
    ) -> bytes:
        """Return the bytes of a row that housekeeping looks at when it is due (0: never)."""
        return index.pack(index.NO_STATE, 0, 0, due_ms, 0) + codec.encode(row)

    def remembered(self, row: RecipientDelivery, now: int) -> bytes:
        """Return the bytes of a delivery's row."""
        return self.written(row, deliveries.due(row, now, self.retention_ms))

    # -- records

    def arrival(self, record: Inbound, now: int, event_id: str = "", correlation_id: str = "") -> Arrival:
        """Return how a record came."""
        return Arrival(
            now, round(record.timestamp * 1000), self.topic_ids[record.topic], record.offset, event_id, correlation_id
        )

    def answered(self, answer: DeliveryAnswer) -> Out:
        """Return an answer to core as a record."""
        key = answer.reminder_id.encode()
        return Out(self.topics.outcomes, partition_of(key, self.partitions), key, codec.encode(answer))

    def rejected(self, record: Inbound, complaint: Complaint, now: int, action: str = "") -> Decision:
        """Return a rejection: the dead letter, and the audit's answer."""
        self.meter.dlq(complaint.reason)
        letter = letters.dead_letter(self.topics.dlq, self.partitions, record, complaint, now)
        entry = rejection(
            record,
            complaint.reason,
            complaint.field,
            complaint.value,
            complaint.remedy,
            now,
            action=action,
            correlation_id=complaint.correlation_id,
        )
        return Decision(
            {}, (letter, Out(self.topics.audit, record.partition, letters.short_key(record), codec.encode(entry)))
        )

    def unreadable(self, record: Inbound, why: Undecodable) -> Job:
        """Return the job of a record that cannot be read."""
        complaint = Complaint(str(why.reason), why.field, why.value, why.remedy, parked=why.parked)
        return Job((), lambda _view, now: self.rejected(record, complaint, now), record)


Reader = Callable[[Delivering, Inbound], Job]
Handler = Callable[[int, object], Job]


class DeliveryLogic:
    """Answers each topic of delivery by its rule, and the commands of its timer and its calls."""

    def __init__(
        self,
        delivering: Delivering,
        readers: Mapping[str, Reader],
        fired: Callable[[bytes], Job],
        said: Callable[[Word], Job],
        renew: Callable[[Word], Job | None] = lambda _word: None,
    ) -> None:
        self._delivering = delivering
        self._renew = renew
        self._readers = readers
        self._fired = fired
        self._said = said

    async def prepare(self, records: Sequence[Inbound]) -> None:
        """Fetch unknown schemas from the registry, where there is one."""
        recipients, skipped = self._delivering.topics.recipients, self._delivering.skipped
        await self._delivering.codec.prefetch([r.value for r in records if r.topic == recipients and not skipped(r)])

    def read(self, record: Inbound) -> Job:
        """Return the job of a record. One that is to be passed over is not even looked at."""
        if (by := self._delivering.skipped(record)) is not None:
            complaint = letters.passed_over(by.reason)
            return Job((), lambda _view, now: self._delivering.rejected(record, complaint, now), record)
        return self._readers[record.topic](self._delivering, record)

    def command(self, partition: int, command: Command) -> Job:
        """Return the job of a command."""
        match command:
            case Fire(index_key):
                return self._fired(index.row_key_of(index_key))
            case Word():
                return self._renew(command) or self._said(command)

    def failed(self, job: Job, partition: int, exc: Exception, view: View, now: int) -> Decision:
        """Return what to do with an input that our own bug, or a damaged row, cannot get past: its dead letter.

        Core's lease asks again for what was to be sent, and its deadline ends it. A row that housekeeping cannot read
        is left alone for the time that rows are kept.
        """
        remedy = "see the worker's log; redrive the dead letter once the fault is mended"
        if job.origin is not None:
            return self._delivering.rejected(
                job.origin, Complaint("bug", value=type(exc).__name__, remedy=remedy, attempts=3), now
            )
        self._delivering.meter.dlq("bug")
        rows: dict[bytes, bytes | None] = {}
        for key in job.keys:
            raw = view.get(key)
            if raw is not None and len(raw) >= index.HEADER.size:
                rows[key] = (
                    index.pack(index.NO_STATE, 0, 0, now + self._delivering.retention_ms, 0) + raw[index.HEADER.size :]
                )
        return Decision(rows)
