"""Lookups: a provider that keeps a list of messages is asked whether it took one that is in doubt.

A look is planned in the delivery's row, so that it outlives the worker. It is made beside the units, a few at a time;
its answer comes back as a command. Providers that must not be called now are not asked: the next look does.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from agents.delivery import Delivering
from agents.unit_of_work import raised_at
from channels.base import Metered, Outcome, Reconciling, Send
from schemas.names import Channel, OutcomeKind
from schemas.records import Attempt, RecipientDelivery
from tables import lookup
from tables.lookup import Listed

K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)

#: Looks that wait or go on; those beyond are left to the next one that is planned.
MOST = 1_000
#: Between two questions, in seconds: a list is read beside the messages themselves, never instead of them.
PAUSE_S = 0.2
#: Addresses of doubts that are kept at hand; those beyond are found among the recipient's contacts.
KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of a look, on its way to the partition's worker. ``found`` None: its provider has nothing of it, and
    this was the last look. ``cost_micros``: what a message that was found costs. ``counts``: whether it is counted with
    this delivery: of several in one message it is with one."""

    key: bytes
    attempt: int
    found: Listed | None
    provider: str
    cost_micros: int = 0
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Doubt:
    """An attempt whose provider is to be asked. ``others``: the provider's ids of the recipient's other messages, by
    their rows. ``counts``: whether the message is counted with this delivery, where it is of several."""

    partition: int
    key: bytes
    row: RecipientDelivery
    attempt: Attempt
    address: str = field(repr=False)
    others: frozenset[str] = frozenset()
    counts: bool = True

    @property
    def digest(self) -> str:
        """The message that it was in with others, empty for one that went alone."""
        return self.attempt.outcome.digest if self.attempt.outcome is not None else ""

    @property
    def message(self) -> bytes:
        """What the message at the provider is known by here: its delivery, or the digest that it is."""
        return self.digest.encode() or self.key

    @property
    def look(self) -> tuple[str, int, int]:
        """What the looks at the deliveries of one call have in common: the digest, when it was in doubt, the number."""
        return self.digest, self.attempt.at, self.attempt.looks


class Lookups:
    """The looks of one worker. ``shut``: whether a provider must not be called now. ``moot``: whether nobody is
    to be asked any more about somebody of a partition."""

    def __init__(
        self,
        work: Delivering,
        give: Callable[[int, Looked], None],
        shut: Callable[[Channel, Reconciling], bool],
        moot: Callable[[int, str], bool],
    ) -> None:
        self._work = work
        self._give = give
        self._shut = shut
        self._moot = moot
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: OrderedDict[bytes, str] = OrderedDict()
        #: The provider's ids of messages of which it is known whose they are.
        self._known: OrderedDict[str, bytes] = OrderedDict()
        #: Doubts of one message that wait for their turn (``Doubt.look``): one answer does for all.
        self._waiting: dict[tuple[str, int, int], list[Doubt]] = {}

    # -- what is remembered

    def took(self, message: bytes, provider_id: str) -> None:
        """Note whose a message at the provider is: a delivery's, or that of several (``Doubt.message``)."""
        if provider_id:
            _keep(self._known, provider_id, message)

    def doubted(self, key: bytes, address: str) -> None:
        """Note to which address a message in doubt went."""
        _keep(self._addresses, key, address)

    def adapter(self, channel: Channel, provider: str) -> Reconciling | None:
        """Return the provider that can be asked about a message, None where there is none. ``provider`` empty: nobody
        knows by which one it went."""
        for one in self._work.providers(channel):
            if isinstance(one, Reconciling) and provider in ("", one.name):
                return one
        return None

    def hashed(self, delivery: str, body: str) -> str:
        """Return the keyed hash of a message's words, empty where it has none. Spaces and line ends do not count."""
        hashing = self._work.mail_links.hashing
        # As what is on no channel: the words are no address, whose other forms would count as well.
        return hashing.key(Channel.ANY, "".join(body.split()), delivery) if body else ""

    def address(self, key: bytes, row: RecipientDelivery, attempt: Attempt, contacts: tuple[str, ...]) -> str:
        """Return the address of a message in doubt, empty where it is not known any more."""
        hashing = self._work.mail_links.hashing
        near = (self._addresses.get(key, ""), *contacts)
        return next((one for one in near if one and attempt.to_hash in hashing.keys(row.channel, one)), "")

    # -- looks

    def begin(self, doubt: Doubt) -> None:
        """Begin a look, or join the one that waits for its turn about the same message."""
        if doubt.digest and doubt.look in self._waiting:
            self._waiting[doubt.look].append(doubt)
            return
        if len(self._tasks) >= MOST:
            log.warning("a provider is not asked about a doubt now: too many wait")
            return
        if doubt.digest:
            self._waiting[doubt.look] = [doubt]
        task = asyncio.create_task(self._look(doubt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, limit_s: float) -> None:
        """Wait for those that go on, up to ``limit_s``; the rest are given up, and the next worker looks."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=limit_s)
        for task in set(self._tasks):
            task.cancel()
        self._waiting.clear()

    async def _look(self, doubt: Doubt) -> None:
        said = doubt.attempt.outcome
        adapter = self.adapter(doubt.row.channel, said.provider if said is not None else "")
        async with self._turn:
            doubts = self._waiting.pop(doubt.look, [doubt])
            if adapter is None or self._shut(doubt.row.channel, adapter):
                return
            if self._moot(doubt.partition, doubt.row.recipient_id):
                # Since the look was planned.
                return
            listed = await self._asked(adapter, doubt)
            await asyncio.sleep(PAUSE_S)
        if isinstance(listed, Outcome):
            log.info("a doubt could not be looked up", extra={"provider": adapter.name, "reason": listed.reason})
            return
        for one in doubts:
            self._told(adapter, one, listed)

    def _told(self, adapter: Reconciling, doubt: Doubt, listed: tuple[Listed, ...]) -> None:
        """Tell the partition's worker what a provider's list says of a doubt."""
        said, delivery = doubt.attempt.outcome, doubt.key.decode("utf-8", "replace")
        others = doubt.others.union(sid for sid, whose in self._known.items() if whose != doubt.message)
        found = lookup.found(
            listed,
            doubt.attempt.body_hash,
            lambda body: self.hashed(delivery, body),
            others,
        )
        sure = isinstance(found, Listed)
        log.info("a doubt was looked up", extra={"provider": adapter.name, "found": sure, "listed": len(listed)})
        attempt = doubt.attempt.attempt
        if isinstance(found, Listed):
            self.took(doubt.message, found.provider_id)
            cost = self._cost(adapter, doubt, found) if doubt.counts else 0
            self._give(doubt.partition, Looked(doubt.key, attempt, found, adapter.name, cost, counts=doubt.counts))
        elif found is None and lookup.last(doubt.attempt) and said is not None and said.provider:
            self._give(doubt.partition, Looked(doubt.key, attempt, None, adapter.name))

    def _cost(self, adapter: Reconciling, doubt: Doubt, found: Listed) -> int:
        """Return what a message that was found costs, in micros; 0 where nobody knows."""
        channel = doubt.row.channel
        micros = self._work.prices.of(channel, adapter.name, doubt.address) or 0
        if not micros or not found.body or not isinstance(adapter, Metered):
            return micros
        return micros * adapter.units(Send(channel, doubt.address, "", 1, 0, 0, 0, text=found.body))

    async def _asked(self, adapter: Reconciling, doubt: Doubt) -> tuple[Listed, ...] | Outcome:
        since, until = lookup.window(doubt.attempt)
        try:
            async with asyncio.timeout(adapter.call_timeout_s):
                listed = await adapter.look_up(doubt.address, since, until)
        except TimeoutError:
            return Outcome(OutcomeKind.DEFERRED, "call_timeout", adapter.name)
        except Exception as exc:  # noqa: BLE001  # a bug of ours must not end the worker for this
            log.error("the adapter %s raised: %s", adapter.name, raised_at(exc))
            return Outcome(OutcomeKind.DEFERRED, "bug", adapter.name)
        if isinstance(listed, Outcome):
            return listed
        return tuple(Listed(one.provider_id, one.created_ms, one.body) for one in listed)


def _keep(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > KEPT:
        known.popitem(last=False)
