"""Circuits as ``reminders.control`` has them: what every worker, core's too, knows of its providers."""

import logging
from collections.abc import Callable

from agents.ports import Clock
from schemas.records import ControlRecord
from tables import circuit
from tables.circuit import Circuit, Phase

log = logging.getLogger(__name__)


class Board:
    """The circuits of all providers, as far as any was ever open. Fed by the control reader, in the order of the log.

    ``turned`` is called after each turn, with the circuit before (None: none was known) and after it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.known: dict[str, Circuit] = {}
        #: What other workers have told, by circuit and by the key of who told it.
        self.tallies: dict[str, dict[str, ControlRecord]] = {}
        self.turned: list[Callable[[Circuit | None, Circuit], None]] = []
        self._shape: tuple[object, ...] = ()
        #: Whether every circuit is closed, so that nobody need look at any.
        self.quiet = True

    def take(self, key: str, record: ControlRecord) -> None:
        """Take a record of the log."""
        name = circuit.named(record.scope)
        if record.kind == circuit.TALLY:
            self.tallies.setdefault(name, {})[key] = record
            return
        before = self.known.get(name)
        after = circuit.taken(before, record)
        if after is None:
            return
        self.known[name] = after
        self.quiet = all(c.phase is Phase.CLOSED for c in self.known.values())
        log.log(
            logging.INFO if after.phase is not Phase.OPEN else logging.WARNING,
            "circuit %s: %s",
            name,
            after.phase.value,
            extra={"reason": after.reason, "turn": after.turn},
        )
        for listener in self.turned:
            listener(before, after)

    def of(self, name: str) -> Circuit:
        """Return a circuit; one that nobody has told of is closed."""
        return self.known.get(name) or Circuit(name)

    def allowance(self, channel: str) -> int:
        """Return how much may be outstanding of a channel in a partition, by its circuits."""
        return circuit.FREE if self.quiet else circuit.allowance(self.known, channel, self._clock())

    def shut(self, channel: str) -> Circuit | None:
        """Return a circuit because of which nothing of a channel is sent, None where something may be."""
        if self.allowance(channel) == circuit.FREE:
            return None
        now = self._clock()
        return next(c for c in self.known.values() if circuit.channel_of(c.name) == channel.lower() and c.shut(now))

    def moved(self) -> bool:
        """Return whether what may be called has changed since this was asked last, by time alone too."""
        if not self.known:
            return False
        now = self._clock()
        shape = tuple((c.name, c.stands(now), c.probe_due(now)) for c in self.known.values())
        if shape == self._shape:
            return False
        self._shape = shape
        return True
