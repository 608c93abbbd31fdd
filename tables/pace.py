"""Rates that workers keep together without asking each other. Pure.

Time is cut into slots, a little fewer a second than calls are allowed: slot n begins at n times the spacing, on
everybody's clock, and belongs to the partition n modulo all partitions. Who works on a partition may begin one call in
each of its slots, within ``OPEN_MS`` of its beginning. So the calls of a second lie in no more slots than it may have
calls, whoever makes them; a partition that nobody works on leaves its slots unused.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil

#: How long after its beginning a slot may be used, in ms.
OPEN_MS = 50
#: What a call may be later at its provider than another that began as late in its slot, and clocks may differ, in ms.
SLACK_MS = 50


def spacing_ms(rate: float) -> float:
    """Return the time between two slots: so long that no second touches more slots than it may have calls."""
    return (1000 + OPEN_MS + SLACK_MS) / rate


@dataclass(slots=True)
class Pace:
    """The slots of one provider as one worker uses them. ``rate``: calls a second, over all workers."""

    rate: float
    partitions: int
    #: The last slot that was used or must be left alone, of each partition that is worked on.
    _last: dict[int, int] = field(default_factory=dict)

    def next_slot(self, owned: Iterable[int], now: int) -> tuple[float, int, int] | None:
        """Return the next free slot: when it begins, its partition and its number; None without a partition.

        A partition that is new here begins with the first slot that its last owner cannot have used.
        """
        every = spacing_ms(self.rate)
        owned = set(owned)
        for gone in self._last.keys() - owned:
            del self._last[gone]
        found: tuple[float, int, int] | None = None
        for partition in owned:
            if partition not in self._last:
                self._last[partition] = ceil((now + OPEN_MS) / every)
            first = max(ceil((now - OPEN_MS + 1) / every), self._last[partition] + 1)
            number = first + (partition - first) % self.partitions
            begins = number * every
            if found is None or begins < found[0]:
                found = begins, partition, number
        return found

    def use(self, partition: int, number: int) -> None:
        """Use a slot."""
        self._last[partition] = number


def parse(text: str) -> dict[str, float]:
    """Return the rates of ``email/smtp=10, sms/twilio=0.5``. Raises ValueError, saying what is wrong."""
    rates: dict[str, float] = {}
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            continue
        name, equals, number = (part.strip() for part in entry.partition("="))
        channel, slash, provider = name.lower().partition("/")
        if not (equals and slash and channel and provider):
            raise ValueError(f"{entry!r}: use CHANNEL/PROVIDER=N, such as email/smtp=10, separated by commas")
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1_000_000:
            raise ValueError(f"{entry!r}: use a number of calls a second above 0")
        if name.lower() in rates:
            raise ValueError(f"{name!r}: is named twice")
        rates[name.lower()] = rate
    return rates
