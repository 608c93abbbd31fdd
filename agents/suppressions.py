"""Suppressions: addresses that must not be used, as the topic ``suppressions`` has them, read whole by every worker.

A STOP brings an address and no recipient, so it cannot wait for a row: every worker knows it within a second, and one
that may not know begins no call.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer

from agents.broadcast import Broadcast
from agents.ports import Clock, Out
from agents.publisher import partition_of
from schemas import codec
from schemas.codec import Undecodable
from schemas.hashing import AddressHash
from schemas.names import Channel
from schemas.records import SuppressionRecord

log = logging.getLogger(__name__)

#: What begins the reason of what was not sent to a suppressed address.
PREFIX = "suppressed_"
#: Why an address is suppressed: a texted STOP or the provider's own list, a one-click unsubscribe, a complaint, an
#: address that does not exist, an operator.
STOP, UNSUBSCRIBED, COMPLAINED, BOUNCED, OPERATOR = "stop", "unsubscribed", "complained", "bounced", "operator"
REASONS = (STOP, UNSUBSCRIBED, COMPLAINED, BOUNCED, OPERATOR)
#: An address that did not exist may exist again, in ms.
BOUNCED_MS = 30 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Noted:
    """A record of ``suppressions`` to be written."""

    key: bytes
    value: bytes | None


class Desk:
    """Makes the records that suppress addresses and that let them be used again."""

    def __init__(self, hashing: AddressHash) -> None:
        self._hashing = hashing

    def record(
        self, channel: Channel, address: str, reason: str, at: int, *, scope: str = "", source: str = ""
    ) -> Noted:
        """Return the record that suppresses an address."""
        until = at + BOUNCED_MS if reason == BOUNCED else 0
        record = SuppressionRecord(channel, reason, at, self._hashing.version, until, scope, source)
        return Noted(self._hashing.key(channel, address, scope).encode(), codec.encode(record))

    def lifted(self, channel: Channel, address: str, *, scope: str = "") -> list[Noted]:
        """Return the records that let an address be used again, under whichever secret it was suppressed."""
        return [Noted(key.encode(), None) for key in self._hashing.keys(channel, address, scope)]


class Suppressions(Broadcast):
    """The addresses that must not be used."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topic: str,
        partitions: int,
        *,
        clock: Clock,
        hashing: AddressHash,
        fatal: Callable[[str, BaseException | None], None],
    ) -> None:
        super().__init__(make_consumer, topic, partitions, fatal=fatal)
        self._partitions = partitions
        self._clock = clock
        self._hashing = hashing
        self._desk = Desk(hashing)
        #: By key: until when (ms UTC, 0: for good), and why. Millions of them must fit.
        self._known: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def why(self, channel: Channel, address: str, category: str) -> str:
        """Return why an address must not be used for a category, empty if it may."""
        if not self._known:
            return ""
        for scope in ("", category):
            for key in self._hashing.keys(channel, address, scope):
                found = self._known.get(key)
                if found is not None and (not found[0] or found[0] > self._clock()):
                    return PREFIX + found[1]
        return ""

    def record(self, channel: Channel, address: str, reason: str, at: int, source: str) -> Out:
        """Return the record that suppresses an address, for a unit to publish."""
        noted = self._desk.record(channel, address, reason, at, source=source)
        return Out(self._topic, partition_of(noted.key, self._partitions), noted.key, noted.value)

    def _apply(self, record: Any) -> None:
        key = (record.key or b"").decode("ascii", "replace")
        if record.value is None:
            self._known.pop(key, None)
            return
        try:
            said = codec.decode(SuppressionRecord, record.value)
        except Undecodable as why:
            # Whatever a newer release says of it, it is a reason not to use the address.
            log.error("a suppression cannot be read: %s", why.reason, extra={"offset": record.offset})
            self._known[key] = (0, OPERATOR)
            return
        reason = said.reason if said.reason in REASONS else OPERATOR
        self._known[key] = (said.expires_at, sys.intern(reason))
