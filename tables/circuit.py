"""Circuits: whether a provider may be called, as all workers know it. Pure.

One circuit for each provider of a channel. Its state is what the log of ``reminders.control`` says: each record has the
number of the turn that it makes, and of two records for the same turn the first one counts, for every reader alike. So
workers that see the same failure, or want the same probe, need no leader and no lock: whoever is first in the log has
it, and reads there that it is so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from schemas.names import OutcomeKind
from schemas.quick import replace
from schemas.records import ControlRecord

#: Kinds of records on ``reminders.control``: a circuit's turn, and what one worker has seen lately.
CIRCUIT = "CIRCUIT"
TALLY = "TALLY"
_PREFIX = "circuit:"

#: The longest pause that a provider may ask for, in ms: after it one call finds out whether it goes on.
MAX_PAUSE_MS = 3_600_000
#: A pause is made longer only by more than this, in ms, or each of many refusals would be a turn.
PAUSE_STEP_MS = 1000
#: Reasons of a misconfigured answer that concern one message alone: no other would be refused for them.
_OF_ONE_MESSAGE = frozenset({"country_refused"})
#: Our own side was at its limit: that says nothing of a provider.
_OURS = frozenset({"busy", "bug"})
#: The provider failed, or turns everybody away (SMTP's 421, at whatever stage), though it answered.
_FAILED = frozenset({"server_error", "unavailable", "internal", "service_unavailable"})


class Phase(StrEnum):
    """How a circuit stands."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    PROBING = "PROBING"
    PAUSED = "PAUSED"


class Weight(StrEnum):
    """What the end of a call says of its provider."""

    NOTHING = "NOTHING"
    GOOD = "GOOD"
    BAD = "BAD"
    MISCONFIGURED = "MISCONFIGURED"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a circuit opens, and how it is tried again: ``percent`` failures of at least ``calls`` calls within
    ``window_ms``, and a probe every ``probe_ms``, over all workers. ``slow_ms``: a provider that keeps a call waiting
    for so long is not the first to be tried while there is another beside it."""

    window_ms: int = 30_000
    calls: int = 20
    percent: int = 50
    probe_ms: int = 31_000
    slow_ms: int = 3_000


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit as a reader of the log knows it. Times are ms UTC.

    ``turn``: how many turns it has taken. ``since``: when it opened, or was paused. ``until``: OPEN and PROBING: when
    the next probe may begin; PAUSED: when it is over. ``misconfigured``: it is our own settings that are refused.
    ``holder``: the worker that made the turn, and has the probe. ``beside``: all providers of its channel.
    """

    name: str
    phase: Phase = Phase.CLOSED
    turn: int = 0
    at: int = 0
    since: int = 0
    until: int = 0
    reason: str = ""
    misconfigured: bool = False
    holder: str = ""
    beside: tuple[str, ...] = ()

    def stands(self, now: int) -> Phase:
        """Return how it stands: a pause ends by itself, and a probe that nobody ended is none any more."""
        if self.phase is Phase.PAUSED and now >= self.until:
            return Phase.CLOSED
        if self.phase is Phase.PROBING and now >= self.until:
            return Phase.OPEN
        return self.phase

    def shut(self, now: int) -> bool:
        """Return whether no call may begin now but a probe."""
        return self.stands(now) is not Phase.CLOSED

    def probe_due(self, now: int) -> bool:
        """Return whether a worker may ask for the next probe."""
        return self.stands(now) is Phase.OPEN and now >= self.until


def name_of(channel: str, provider: str) -> str:
    """Return the name of the circuit of a channel's provider, such as ``email/smtp``."""
    return f"{channel.lower()}/{provider.lower()}"


def scope(name: str) -> str:
    """Return a circuit's scope, which is the key of its records."""
    return _PREFIX + name


def named(scope: str) -> str:
    """Return the circuit that a scope names, empty for one that names none."""
    return scope.removeprefix(_PREFIX) if scope.startswith(_PREFIX) else ""


def channel_of(name: str) -> str:
    """Return the channel of a circuit, in the letters of its name."""
    return name.partition("/")[0]


def weigh(kind: OutcomeKind, reason: str, *, reached: bool) -> Weight:
    """Return what the end of a call says of its provider. What is said of one recipient or one message says that the
    provider works."""
    if reason in _OURS:
        return Weight.NOTHING
    match kind:
        case OutcomeKind.MISCONFIGURED:
            return Weight.NOTHING if reason in _OF_ONE_MESSAGE else Weight.MISCONFIGURED
        case OutcomeKind.MAYBE_SENT:
            return Weight.BAD
        case OutcomeKind.DEFERRED:
            return Weight.BAD if not reached or reason in _FAILED else Weight.GOOD
        case OutcomeKind.HELD | OutcomeKind.SKIPPED | OutcomeKind.NONE | OutcomeKind.UNKNOWN:
            return Weight.NOTHING
        case OutcomeKind.ACCEPTED | OutcomeKind.DELIVERED | OutcomeKind.READ:
            return Weight.GOOD
        case OutcomeKind.REJECTED | OutcomeKind.UNDELIVERABLE | OutcomeKind.OPTED_OUT:
            # Refused by ourselves, before any call, it says nothing.
            return Weight.GOOD if reached else Weight.NOTHING


def beside(c: Circuit, providers: tuple[str, ...]) -> Circuit:
    """Return a circuit that names all providers of its channel."""
    return replace(c, beside=providers)


# -- turns


def taken(known: Circuit | None, record: ControlRecord) -> Circuit | None:
    """Return a circuit after a record of its log, None where the record changes nothing: another made that turn."""
    name = named(record.scope)
    if not name or (known is not None and record.turn <= known.turn):
        return None
    try:
        phase = Phase(record.state)
    except ValueError:
        # A newer release knows it: nobody calls for as long as the record says.
        phase = Phase.PAUSED
    return Circuit(
        name,
        phase,
        record.turn,
        record.at,
        record.starts_at,
        record.ends_at,
        record.reason,
        bool(record.misconfigured),
        record.actor,
        record.beside,
    )


def _turn(c: Circuit, phase: Phase, now: int, who: str, **fields: Any) -> ControlRecord:
    made = replace(c, phase=phase, at=now, holder=who, turn=c.turn + 1, **fields)
    return ControlRecord(
        scope(made.name),
        CIRCUIT,
        made.at,
        made.since,
        made.until,
        made.reason,
        made.holder,
        state=made.phase.value,
        turn=made.turn,
        misconfigured=made.misconfigured,
        beside=made.beside,
    )


def opened(c: Circuit, now: int, who: str, reason: str, limits: Limits, *, misconfigured: bool) -> ControlRecord | None:
    """Return the turn that opens a circuit, or leaves it open after a probe; None where it is open already."""
    stands = c.stands(now)
    probed = c.phase is Phase.PROBING and c.holder == who
    if stands is Phase.OPEN and not probed and (c.misconfigured or not misconfigured):
        return None
    if stands is Phase.PROBING and not probed:
        return None
    since = c.since if c.phase in (Phase.OPEN, Phase.PROBING) else now
    # A probe counts from when it was asked for, so that there are never more of them than were meant.
    until = max(c.until, now + 1) if probed else now + limits.probe_ms
    return _turn(c, Phase.OPEN, now, who, since=since, until=until, reason=reason, misconfigured=misconfigured)


def probing(c: Circuit, now: int, who: str, limits: Limits) -> ControlRecord | None:
    """Return the turn by which a worker asks for the next probe, None where none is due."""
    if not c.probe_due(now):
        return None
    return _turn(c, Phase.PROBING, now, who, until=now + limits.probe_ms)


def closed(c: Circuit, now: int, who: str) -> ControlRecord | None:
    """Return the turn that closes a circuit, None where it is closed."""
    if c.phase is Phase.CLOSED:
        return None
    return _turn(c, Phase.CLOSED, now, who, since=now, until=0, reason="", misconfigured=False)


def paused(c: Circuit, now: int, who: str, wait_ms: int, reason: str) -> ControlRecord | None:
    """Return the turn that pauses a provider which asks for it, None where it has that already, or is not called at
    all."""
    until = now + min(wait_ms, MAX_PAUSE_MS)
    stands = c.stands(now)
    if stands in (Phase.OPEN, Phase.PROBING) or until <= now:
        return None
    if stands is Phase.PAUSED and until <= c.until + PAUSE_STEP_MS:
        return None
    since = c.since if stands is Phase.PAUSED else now
    return _turn(c, Phase.PAUSED, now, who, since=since, until=until, reason=reason, misconfigured=False)


def shown(c: Circuit, now: int) -> int:
    """Return how a circuit stands as a number for metrics: 0 closed, 1 probing, 2 open, 3 misconfigured, 4 paused."""
    match c.stands(now):
        case Phase.CLOSED:
            return 0
        case Phase.PROBING:
            return 1
        case Phase.OPEN:
            return 3 if c.misconfigured else 2
        case Phase.PAUSED:
            return 4
        case other:
            assert_never(other)


# -- what was seen


@dataclass(slots=True)
class Window:
    """The calls of one worker to one provider that ended within the last seconds, counted by the second."""

    seconds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, now: int, *, bad: bool) -> None:
        """Count a call."""
        calls, failures = self.seconds.get(now // 1000, (0, 0))
        self.seconds[now // 1000] = calls + 1, failures + bad

    def seen(self, now: int, window_ms: int) -> tuple[int, int]:
        """Return calls and failures within a time; what is older is forgotten."""
        oldest = (now - window_ms) // 1000
        for second in [second for second in self.seconds if second <= oldest]:
            del self.seconds[second]
        return sum(c for c, _ in self.seconds.values()), sum(f for _, f in self.seconds.values())


def tally(name: str, who: str, now: int, seen: tuple[int, int]) -> ControlRecord:
    """Return what a worker has seen of a provider, for the others to add."""
    return ControlRecord(scope(name), TALLY, now, actor=who, calls=seen[0], failures=seen[1])


def pooled(
    c: Circuit, own: tuple[int, int], others: Iterable[ControlRecord], now: int, limits: Limits
) -> tuple[int, int]:
    """Return calls and failures of all workers: of the others what they told within the window, since the last turn."""
    told = [r for r in others if r.at > now - limits.window_ms and r.at > c.at]
    return own[0] + sum(r.calls for r in told), own[1] + sum(r.failures for r in told)


def too_many(seen: tuple[int, int], limits: Limits) -> bool:
    """Return whether so many calls failed that the circuit must open."""
    calls, failures = seen
    return calls >= limits.calls and failures * 100 >= calls * limits.percent


# -- what core may ask for

#: No limit to what may be outstanding.
FREE = 1 << 30


def allowance(circuits: Mapping[str, Circuit], channel: str, now: int) -> int:
    """Return how much may be outstanding of a channel in a partition: nothing where all its providers are shut, one
    where one of them may be probed, else as much as there is credit."""
    of = {c.name.partition("/")[2]: c for c in circuits.values() if channel_of(c.name) == channel.lower()}
    shut = {provider: c for provider, c in of.items() if c.shut(now)}
    if not shut or any(provider not in shut for c in shut.values() for provider in c.beside):
        return FREE
    return 1 if any(c.probe_due(now) for c in shut.values()) else 0
