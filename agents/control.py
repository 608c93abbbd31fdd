"""The control reader: holds and skips as ``reminders.control`` has them, which every worker reads whole."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer

from agents.broadcast import Broadcast
from agents.circuits import Board
from agents.ports import Clock, Inbound
from schemas import codec
from schemas.codec import Undecodable
from schemas.records import ControlRecord
from tables import circuit, holds, skips

log = logging.getLogger(__name__)

#: How long what stands is taken for known where no hold begins or ends, in ms.
LOOK_MS = 60_000


class Control(Broadcast):
    """Holds as they stand. ``changed`` is called after every record, with it."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topic: str,
        partitions: int,
        *,
        clock: Clock,
        fatal: Callable[[str, BaseException | None], None],
    ) -> None:
        super().__init__(make_consumer, topic, partitions, fatal=fatal)
        self._clock = clock
        #: The last record of each key: a scope's own, and beside it what recurs.
        self.records: dict[str, ControlRecord] = {}
        #: Events that are to be passed over, by where they lie.
        self._skips: dict[skips.Place, ControlRecord] = {}
        self._standing: list[ControlRecord] = []
        self._stands: tuple[int, int] = (0, 0)
        self.changed: list[Callable[[ControlRecord], None]] = []
        #: Called when a hold begins or ends, by a record or by itself.
        self.shifted: list[Callable[[], None]] = []
        self._in_force: dict[str, str] = {}
        self.circuits = Board(clock)

    # -- what is held

    def active(self) -> list[ControlRecord]:
        """Return the holds in force, each with its present window; found anew when one begins or ends."""
        now = self._clock()
        since, until = self._stands
        if not since <= now < until:
            self._standing = [found for r in self.records.values() if (found := holds.standing(r, now)) is not None]
            self._stands = now, holds.next_change(self.records.values(), now) or now + LOOK_MS
        return self._standing

    def holding(self, subject: holds.Subject) -> ControlRecord | None:
        """Return the hold that keeps a subject back longest, None if there is none."""
        return holds.longest(self.active(), subject) if self.records else None

    def channel_held(self, channel: str) -> bool:
        """Return whether a channel has no credit."""
        subject = holds.Subject(channel=channel)
        return bool(self.records) and any(
            holds.is_channel(record.scope) and holds.takes(record.scope, subject) for record in self.active()
        )

    def released(self) -> Iterable[ControlRecord]:
        """Return the releases on record, and holds that have ended by themselves as such: what they let go may not have
        been walked by a worker that has died since."""
        now = self._clock()
        for record in self.records.values():
            if record.kind == holds.RELEASE:
                yield record
            elif record.kind == holds.HOLD and record.ends_at and record.ends_at <= now:
                yield replace(record, kind=holds.RELEASE, at=record.ends_at)

    def skipped(self, record: Inbound) -> ControlRecord | None:
        """Return by what an event is to be passed over, None if it is not."""
        if not self._skips:
            return None
        found = self._skips.get(skips.Place(record.topic, record.partition, record.offset))
        return found if found and skips.meant(found, round(record.timestamp * 1000), self._clock()) else None

    # -- reading

    def _turn(self) -> None:
        now = self._clock()
        in_force = {key: record.scope for key, record in self.records.items() if holds.active(record, now)}
        if in_force == self._in_force:
            if self.circuits.moved():
                for listener in self.shifted:
                    listener()
            return
        gone = self._in_force.keys() - in_force.keys()
        ended = [(key, scope) for key, scope in self._in_force.items() if key in gone]
        self._in_force = in_force
        for listener in self.shifted:
            listener()
        for key, scope in ended:
            # A release has told its listeners by itself. What was held longer than the hold stood (it was made shorter,
            # or none knew its end) is let go now.
            record = self.records.get(key)
            if record is None or record.kind != holds.RELEASE:
                for let_go in self.changed:
                    let_go(ControlRecord(scope, holds.RELEASE, now))

    def _apply(self, record: Any) -> None:
        key = (record.key or b"").decode("utf-8", "replace")
        self._stands = (0, 0)
        if record.value is None:
            self.records.pop(key, None)
            if (named := skips.place(key)) is not None:
                self._skips.pop(named, None)
            return
        try:
            control = codec.decode(ControlRecord, record.value)
        except Undecodable as why:
            # What cannot be read may be a hold of a newer release: said, and nothing else is known of it.
            log.error("a control record cannot be read: %s", why.reason, extra={"offset": record.offset})
            return
        if control.kind in (circuit.CIRCUIT, circuit.TALLY):
            self.circuits.take(key, control)
            return
        log.info("control: %s %s", control.kind, control.scope)
        if control.kind == skips.SKIP:
            if (named := skips.place(control.scope)) is not None:
                self._skips[named] = control
            return
        self.records[key] = control
        for listener in self.changed:
            listener(control)
