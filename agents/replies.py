"""Replies: which messages wait for a texted answer, and when somebody last wrote, read whole by every worker.

An answer brings an address and no reminder. So each call of a message that wants one is announced under the hash of its
address before it begins, and taken back when nothing went out or the occurrence has ended. Without that nobody could
tell what "ok" is about.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from aiokafka import AIOKafkaConsumer

from agents.broadcast import Broadcast
from agents.ports import Clock, Out
from agents.publisher import partition_of
from channels.answers import Waiting, code
from schemas import codec
from schemas.codec import Undecodable
from schemas.hashing import AddressHash
from schemas.names import Channel, ReplyKind
from schemas.records import Delivery, ReplyRecord

log = logging.getLogger(__name__)

#: Channels on which people answer by writing.
TEXTED = frozenset({Channel.SMS, Channel.WHATSAPP})
#: How long the topic keeps its records, and so how long a message can be answered at most, in ms.
KEPT_MS = 7 * 86_400_000
#: How long a copy of an answer is known as one, in ms.
COPIES_MS = 86_400_000
#: How often what has ended is let go, in ms.
SWEEP_MS = 60_000
#: Messages of one address that are remembered; of more, the oldest is forgotten.
MOST_OF_ONE = 50


#: Whose number the windows of WhatsApp are about where nothing is said of it.
FIRST = "twilio"


def _hashed(message: str) -> str:
    return sha256(message.encode()).hexdigest()[:32]


def _scope(provider: str) -> str:
    """Return what tells a provider's windows from those of the first, which had none beside it once."""
    return "" if provider == FIRST else provider


@dataclass(frozen=True, slots=True)
class Asked:
    """Messages of one occurrence that wait for an answer. ``at``, ``until``: of the last one; ``since``: when the first
    was asked."""

    deliveries: tuple[str, ...]
    at: int
    until: int
    since: int


class Replies(Broadcast):
    """What waits for an answer. ``hint``: how to answer, in words, with ``{code}`` for the number; empty: not said.
    ``texted``: the channels on which answers come in.
    """

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topic: str,
        partitions: int,
        *,
        clock: Clock,
        hashing: AddressHash,
        hint: str,
        fatal: Callable[[str, BaseException | None], None],
        texted: frozenset[Channel] = TEXTED,
    ) -> None:
        super().__init__(make_consumer, topic, partitions, fatal=fatal)
        self.texted = texted
        self._partitions = partitions
        self._clock = clock
        self._hashing = hashing
        self._hint = hint
        self._open: dict[str, dict[tuple[str, str], Asked]] = {}
        self._addresses: dict[tuple[str, str], set[str]] = {}
        self._wrote: dict[str, int] = {}
        self._answered: dict[str, Waiting] = {}
        self._swept = 0

    # -- what is known

    def waiting(self, channel: Channel, address: str) -> list[Waiting]:
        """Return the occurrences of which a message waits for an answer from an address."""
        now = self._clock()
        found = {}
        for key in self._hashing.keys(channel, address):
            for (reminder_id, occurrence), asked in self._open.get(key, {}).items():
                if asked.until > now:
                    found[reminder_id, occurrence] = Waiting(
                        reminder_id, occurrence, asked.at, asked.deliveries[-1], asked.since
                    )
        return list(found.values())

    def wrote(self, channel: Channel, address: str, provider: str = FIRST) -> int:
        """Return when a message last came from an address to a provider's number, ms UTC; 0: not within what is
        kept."""
        if not self._wrote:
            return 0
        return max(self._wrote.get(key, 0) for key in self._hashing.keys(channel, address, _scope(provider)))

    def taken(self, message: str) -> Waiting | None:
        """Return what a message was found to be about before, if it came before: a copy must be about the same."""
        return self._answered.get(_hashed(message)) if message else None

    def hint(self, delivery: Delivery) -> str:
        """Return how to answer a message, empty where no answer is wanted or none can be texted."""
        if not delivery.wants_answer or delivery.channel not in self.texted:
            return ""
        return self._hint.replace("{code}", code(delivery.reminder_id, delivery.occurrence))

    # -- what is told

    def asked(self, delivery: Delivery, address: str, now: int) -> tuple[Out, ...]:
        """Return the record that a message is about to go out and wants an answer, if it does."""
        if not delivery.wants_answer or delivery.channel not in self.texted:
            return ()
        until = min(delivery.deadline or now + KEPT_MS, now + KEPT_MS)
        return (self._about(ReplyKind.ASKED, delivery, address, now, until),)

    def taken_back(self, delivery: Delivery, address: str, now: int) -> tuple[Out, ...]:
        """Return the record that nothing went out."""
        if not delivery.wants_answer or delivery.channel not in self.texted:
            return ()
        return (self._about(ReplyKind.TAKEN_BACK, delivery, address, now, 0),)

    def closed(self, reminder_id: str, occurrence: str, now: int) -> Out:
        """Return the record that an occurrence wants no answer any more."""
        record = ReplyRecord(ReplyKind.CLOSED, now, reminder_id=reminder_id, occurrence=occurrence)
        return self._out(reminder_id.encode(), record)

    def came(self, channel: Channel, address: str, at: int, provider: str = FIRST) -> tuple[bytes, bytes]:
        """Return key and value of the record that somebody wrote, at an instant, to a provider's number."""
        key = self._hashing.key(channel, address, _scope(provider))
        return key.encode(), codec.encode(ReplyRecord(ReplyKind.WROTE, at, key))

    def took(self, message: str, meant: Waiting, now: int) -> tuple[bytes, bytes]:
        """Return key and value of the record that a message, by its provider's id, is about an occurrence."""
        name = _hashed(message)
        self._answered[name] = replace(meant, asked_at=now)
        rid = meant.reminder_id
        record = ReplyRecord(ReplyKind.ANSWERED, now, "", rid, meant.occurrence, meant.delivery_id, message=name)
        return rid.encode(), codec.encode(record)

    def _about(self, kind: ReplyKind, delivery: Delivery, address: str, now: int, until: int) -> Out:
        hashed = self._hashing.key(delivery.channel, address)
        rid = delivery.reminder_id
        record = ReplyRecord(kind, now, hashed, rid, delivery.occurrence, delivery.delivery_id, until)
        return self._out(rid.encode(), record)

    def _out(self, key: bytes, record: ReplyRecord) -> Out:
        return Out(self._topic, partition_of(key, self._partitions), key, codec.encode(record))

    # -- what is read

    def _apply(self, record: Any) -> None:
        try:
            said = codec.decode(ReplyRecord, record.value or b"")
        except Undecodable as why:
            log.error("a record of replies cannot be read: %s", why.reason, extra={"offset": record.offset})
            return
        which = said.reminder_id, said.occurrence
        match said.kind:
            case ReplyKind.ASKED:
                if said.until <= self._clock():
                    return
                of_one = self._open.setdefault(said.address_hash, {})
                before = of_one.pop(which, None)
                others = [d for d in before.deliveries if d != said.delivery_id] if before is not None else []
                since = said.at if before is None else min(before.since, said.at)
                of_one[which] = Asked((*others, said.delivery_id), said.at, said.until, since)
                self._addresses.setdefault(which, set()).add(said.address_hash)
                if len(of_one) > MOST_OF_ONE:
                    self._forget(said.address_hash, next(iter(of_one)))
            case ReplyKind.TAKEN_BACK:
                known = self._open.get(said.address_hash, {}).get(which)
                left = tuple(d for d in known.deliveries if d != said.delivery_id) if known is not None else ()
                if known is not None and left:
                    self._open[said.address_hash][which] = replace(known, deliveries=left)
                else:
                    self._forget(said.address_hash, which)
            case ReplyKind.CLOSED:
                for address in tuple(self._addresses.get(which, ())):
                    self._forget(address, which)
            case ReplyKind.WROTE:
                self._wrote[said.address_hash] = max(said.at, self._wrote.get(said.address_hash, 0))
            case ReplyKind.ANSWERED:
                self._answered[said.message] = Waiting(*which, said.at, said.delivery_id)
            case ReplyKind.UNKNOWN:
                log.warning("a record of replies is of a kind that a newer release knows")

    def _forget(self, address: str, which: tuple[str, str]) -> None:
        of_one = self._open.get(address, {})
        of_one.pop(which, None)
        if not of_one:
            self._open.pop(address, None)
        addresses = self._addresses.get(which, set())
        addresses.discard(address)
        if not addresses:
            self._addresses.pop(which, None)

    def _turn(self) -> None:
        now = self._clock()
        if now - self._swept < SWEEP_MS:
            return
        self._swept = now
        over = [(a, which) for a, of_one in self._open.items() for which, one in of_one.items() if one.until <= now]
        for address, which in over:
            self._forget(address, which)
        self._wrote = {address: at for address, at in self._wrote.items() if now - at < KEPT_MS}
        self._answered = {name: one for name, one in self._answered.items() if now - one.asked_at < COPIES_MS}
