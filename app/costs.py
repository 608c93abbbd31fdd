"""What messages cost, by channel, tenant and day, out of the audit. Pure.

Each message counts once, on the day (UTC) on which its provider took it. What a worker that died has written twice
counts once, as the audit's own rule says: a record whose number is not above the last one read replaces it and what
followed. What came before a first record stays: it is of an id that was purged and is used again, or is itself written
twice, and then no call has come before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.names import Channel
from schemas.records import AuditEntry

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """What the messages of a channel and tenant cost on a day. ``day``: its first instant, ms UTC."""

    day: int
    channel: Channel
    tenant: str
    messages: int
    micros: int


@dataclass(slots=True)
class Costs:
    """Adds up the entries of the audit, each reminder's in their order. ``since``: what is older is left out, ms
    UTC."""

    since: int
    _last: dict[str, int] = field(default_factory=dict)
    _priced: dict[str, list[AuditEntry]] = field(default_factory=dict)
    #: Of reminders that were purged, and whose ids are used again.
    _before: list[AuditEntry] = field(default_factory=list)

    def add(self, entry: AuditEntry) -> None:
        """Take an entry."""
        rid = entry.reminder_id
        if entry.seq == 1:
            self._before += self._priced.pop(rid, ())
            self._last[rid] = 1
        elif entry.seq:
            if entry.seq <= self._last.get(rid, 0) and rid in self._priced:
                self._priced[rid] = [e for e in self._priced[rid] if e.seq < entry.seq]
            self._last[rid] = entry.seq
        if entry.cost_micros and entry.at >= self.since:
            self._priced.setdefault(rid, []).append(entry)

    def lines(self) -> list[Line]:
        """Return the sums, the oldest day first."""
        sums: dict[tuple[int, Channel, str], tuple[int, int]] = {}
        for entry in self._entries():
            key = (entry.at - entry.at % DAY_MS, entry.channel, entry.tenant)
            messages, micros = sums.get(key, (0, 0))
            sums[key] = messages + 1, micros + entry.cost_micros
        return sorted(Line(*key, *found) for key, found in sums.items())

    def _entries(self) -> Iterator[AuditEntry]:
        yield from self._before
        for entries in self._priced.values():
            yield from entries
