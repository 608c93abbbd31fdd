"""Breakers: what a delivery worker's own calls say of its providers, told to all workers, and who may call at all.

Nothing here is on the way of a call while all is well but a look into a dictionary.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from agents.circuits import Board
from agents.ports import Clock, Out
from agents.publisher import partition_of
from channels.base import ChannelAdapter, Outcome
from channels.http_answers import HttpReason
from schemas import codec
from schemas.names import Channel, OutcomeKind
from schemas.records import ControlRecord
from tables import circuit, holding
from tables.circuit import Circuit, Limits, Phase, Weight, Window

log = logging.getLogger(__name__)

#: How long a worker waits to read what became of its request for a probe, in seconds.
CLAIM_S = 2.0
#: How often what was seen is told to the other workers, and their sum looked at, in seconds.
TICK_S = 1.0
#: How long the other workers have to tell what they have seen before one opens a circuit, in ms.
ASKED_MS = 2_000
#: Deliveries of one worker that wait for the next probe of an open circuit; all others wait longer.
FRONT = 20
#: The longest that one waits before it is looked at again, in ms; when the circuit closes, all are let go at once.
WAIT_MS = 300_000
#: Receivers of webhooks are the producers' own systems: what one of them does says nothing of the next.
APART = frozenset({Channel.WEBHOOK})


@dataclass(frozen=True, slots=True)
class Admitted:
    """The adapters that a call may try, in this order. ``probe``: the circuit of the first whose probe it is."""

    adapters: tuple[ChannelAdapter, ...]
    probe: str = ""


class Breakers:
    """The circuits of one delivery worker's adapters.

    ``partitions``: of the topic ``reminders.control``. ``owned``: the partitions that this worker works on;
    ``count``: how many there are. ``alert`` is called once for each turn that a person should hear of, by the worker
    that made it.
    """

    def __init__(
        self,
        board: Board,
        *,
        topic: str,
        partitions: int,
        publish: Callable[[list[Out]], Awaitable[None]],
        owned: Callable[[], set[int]],
        clock: Clock,
        limits: Limits,
        fatal: Callable[[str, BaseException | None], None],
        alert: Callable[[Circuit], None] = lambda turned: None,
    ) -> None:
        self._board = board
        self._topic = topic
        self._partitions = partitions
        self._publish = publish
        self._owned = owned
        self._clock = clock
        self._limits = limits
        self._fatal = fatal
        self._alert = alert
        self.who = uuid.uuid4().hex[:12]
        self._windows: dict[str, Window] = {}
        self._beside: dict[str, tuple[str, ...]] = {}
        self._told: dict[str, tuple[int, int]] = {}
        self._told_since: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._claiming: set[str] = set()
        #: When each call that goes on began, by its adapter.
        self._going: dict[int, dict[object, int]] = {}
        #: When each provider last did what it should.
        self._heard: dict[str, int] = {}
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        board.turned.append(self._turned)

    def serves(self, adapters: Iterable[ChannelAdapter]) -> None:
        """Learn which providers this worker calls."""
        by_channel: dict[Channel, list[str]] = {}
        for adapter in adapters:
            by_channel.setdefault(adapter.channel, []).append(adapter.name)
        for channel, names in by_channel.items():
            if channel not in APART:
                for name in names:
                    self._beside[circuit.name_of(channel.value, name)] = tuple(names)

    @property
    def names(self) -> list[str]:
        """The circuits of the adapters of this worker."""
        return list(self._beside)

    # -- before a call

    def shut(self, channel: Channel, adapters: Sequence[ChannelAdapter]) -> bool:
        """Return whether nothing of a channel is called for now, but for a probe."""
        if channel in APART or self._board.quiet:
            return False
        now = self._clock()
        return all(self._of(channel, adapter).shut(now) for adapter in adapters)

    async def admit(self, channel: Channel, adapters: Sequence[ChannelAdapter], delivery: str) -> Admitted | Outcome:
        """Return which adapters a call may try, or until when it is held."""
        if channel in APART:
            return Admitted(tuple(adapters))
        now = self._clock()
        if self._board.quiet:
            return Admitted(self._in_order(adapters, now))
        circuits = [self._of(channel, adapter) for adapter in adapters]
        if not any(c.shut(now) for c in circuits):
            return Admitted(self._in_order(adapters, now))
        open_ = tuple(adapter for adapter, c in zip(adapters, circuits, strict=True) if not c.shut(now))
        for adapter, c in zip(adapters, circuits, strict=True):
            if c.probe_due(now) and await self._claimed(c):
                return Admitted((adapter, *open_), c.name)
        if open_:
            return Admitted(self._in_order(open_, now))
        return self._held(min(circuits, key=lambda c: c.until), adapters[0].name, delivery)

    def _in_order(self, adapters: Sequence[ChannelAdapter], now: int) -> tuple[ChannelAdapter, ...]:
        """Return the providers of a channel in the order to try: as configured, but none first that is full, or that
        has kept a call waiting for long."""
        if len(adapters) < 2:
            return tuple(adapters)
        return tuple(sorted(adapters, key=lambda adapter: self._slow(adapter, now)))

    def _slow(self, adapter: ChannelAdapter, now: int) -> bool:
        going = self._going.get(id(adapter))
        if not going:
            return False
        heard = self._heard.get(circuit.name_of(adapter.channel.value, adapter.name), 0)
        waits = now - max(heard, next(iter(going.values())))
        return len(going) >= adapter.concurrency or waits >= self._limits.slow_ms

    def _of(self, channel: Channel, adapter: ChannelAdapter) -> Circuit:
        return self._board.of(circuit.name_of(channel.value, adapter.name))

    def _held(self, c: Circuit, provider: str, delivery: str) -> Outcome:
        """Return how long a delivery waits: few for the next probe, the others longer, till all are let go."""
        c = self._board.of(c.name)
        now = self._clock()
        waits = max(1000, c.until - now)
        if c.phase is Phase.OPEN:
            self._waiting[c.name] = self._waiting.get(c.name, 0) + 1
            if self._waiting[c.name] > FRONT:
                waits += int(WAIT_MS * int.from_bytes(sha256(delivery.encode()).digest()[:4], "big") / 2**32)
        reason = holding.reason(circuit.scope(c.name))
        return Outcome(OutcomeKind.HELD, reason, provider, code=c.reason, retry_after_s=waits / 1000, reached=False)

    async def _claimed(self, c: Circuit) -> bool:
        """Ask for a probe; return whether this worker was the first to."""
        if c.name in self._claiming:
            return False
        record = circuit.probing(c, self._clock(), self.who, self._limits)
        if record is None:
            return False
        self._claiming.add(c.name)
        try:
            await self._publish([self._out(record)])
            async with asyncio.timeout(CLAIM_S):
                while self._board.of(c.name).turn < record.turn:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            # It may be granted yet, to nobody: the next one is due when its time is over.
            return False
        finally:
            self._claiming.discard(c.name)
        now = self._board.of(c.name)
        return (now.turn, now.holder, now.phase) == (record.turn, self.who, Phase.PROBING)

    # -- after a call

    @contextmanager
    def calling(self, adapter: ChannelAdapter) -> Iterator[None]:
        """Know of a call for as long as it goes on."""
        going = self._going.setdefault(id(adapter), {})
        token = object()
        going[token] = self._clock()
        try:
            yield
        finally:
            del going[token]

    def fed(self, channel: Channel, outcome: Outcome, provider: str, probe: str) -> None:
        """Take what the end of a call says of its provider."""
        if channel in APART:
            return
        name = circuit.name_of(channel.value, provider)
        now = self._clock()
        weight = circuit.weigh(outcome.kind, outcome.reason, reached=outcome.reached)
        c = self._known(name)
        if weight is Weight.GOOD:
            self._heard[name] = now
        if weight is Weight.MISCONFIGURED:
            self._say(circuit.opened(c, now, self.who, outcome.reason, self._limits, misconfigured=True))
            return
        if probe == name and weight is not Weight.NOTHING:
            failed = weight is Weight.BAD
            reason = outcome.reason
            self._say(
                circuit.opened(c, now, self.who, reason, self._limits, misconfigured=c.misconfigured)
                if failed
                else circuit.closed(c, now, self.who)
            )
        if weight is Weight.NOTHING or c.shut(now):
            return
        if (wait_ms := _asked(channel, outcome)) > 0:
            self._say(circuit.paused(c, now, self.who, wait_ms, outcome.reason))
        self._windows.setdefault(name, Window()).add(now, bad=weight is Weight.BAD)
        if weight is Weight.BAD and self._alone():
            self._judge(name, now, self._seen(name, now), outcome.reason)

    def _known(self, name: str) -> Circuit:
        c = self._board.of(name)
        return c if c.beside == self._beside.get(name, ()) else circuit.beside(c, self._beside.get(name, ()))

    def _seen(self, name: str, now: int) -> tuple[int, int]:
        return self._windows.setdefault(name, Window()).seen(now, self._limits.window_ms)

    def _alone(self) -> bool:
        return len(self._owned()) >= self._partitions

    def _judge(self, name: str, now: int, seen: tuple[int, int], reason: str) -> None:
        c = self._known(name)
        if not c.shut(now) and circuit.too_many(seen, self._limits):
            self._say(circuit.opened(c, now, self.who, reason, self._limits, misconfigured=False))

    # -- with the others

    async def run(self) -> None:
        """Serve for ever: tell what was seen, and add up what all have seen."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Tell what changed, where anybody has seen a failure, and open what must be."""
        now = self._clock()
        owned = self._owned()
        if not owned:
            return
        out = []
        for name in self._beside:
            c = self._board.of(name)
            if c.shut(now):
                continue
            own = self._seen(name, now)
            others = [r for r in self._board.tallies.get(name, {}).values() if r.actor != self.who]
            pool = circuit.pooled(c, own, others, now, self._limits)
            if not pool[1]:
                self._told_since.pop(name, None)
                self._told.pop(name, None)
                continue
            if not self._alone() and self._told.get(name) != own:
                self._told[name] = own
                record = circuit.tally(name, self.who, now, own)
                out.append(self._out(record, f"{record.scope} seen by {min(owned)}"))
            since = self._told_since.setdefault(name, now)
            if self._alone() or now - since >= ASKED_MS:
                self._judge(name, now, pool, "failures")
        if out:
            await self._publish(out)

    def _out(self, record: ControlRecord, key: str = "") -> Out:
        # All of a circuit lies in one partition: its order is what decides.
        routed = partition_of(record.scope.encode(), self._partitions)
        return Out(self._topic, routed, (key or record.scope).encode(), codec.encode(record))

    def _say(self, record: ControlRecord | None) -> None:
        if record is None:
            return
        task = asyncio.create_task(self._publish_one(record), name=f"turn of {record.scope}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish_one(self, record: ControlRecord) -> None:
        try:
            await self._publish([self._out(record)])
        except Exception as exc:  # noqa: BLE001  # as with every record: infrastructure that fails ends the process
            self._fatal("a circuit's turn could not be published", exc)

    def _turned(self, before: Circuit | None, after: Circuit) -> None:
        self._news.set()
        self._windows.pop(after.name, None)
        self._told_since.pop(after.name, None)
        if before is None or before.phase is not Phase.PROBING or after.phase is Phase.CLOSED:
            self._waiting.pop(after.name, None)
        if after.holder != self.who or after.name not in self._beside:
            return
        was_open = before is not None and before.phase in (Phase.OPEN, Phase.PROBING)
        if after.phase is Phase.OPEN and not (was_open and before is not None and before.reason == after.reason):
            what = "is misconfigured" if after.misconfigured else "fails"
            log.error("the provider %s %s: its circuit is open", after.name, what, extra={"reason": after.reason})
            self._alert(after)
        elif after.phase is Phase.CLOSED and was_open:
            self._alert(after)


def _asked(channel: Channel, outcome: Outcome) -> int:
    """Return for how long a provider asks everybody to wait, in ms: by HTTP, or before it had the message. Of a mail
    that a mail server has looked at, it is that mail's alone (greylisting)."""
    of_one = outcome.reached and channel is Channel.EMAIL and outcome.reason != HttpReason.RATE_LIMITED
    if outcome.retry_after_s is None or of_one:
        return 0
    return int(min(outcome.retry_after_s * 1000, circuit.MAX_PAUSE_MS))
