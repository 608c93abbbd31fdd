"""Routes: by which provider of its channel a call goes, and when, and where it goes on if nothing reached the first."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext

from agents.breakers import Admitted, Breakers
from agents.control import Control
from agents.delivery import Delivering
from agents.pacing import Pacing, Slot
from agents.ports import Check, View
from channels.base import ChannelAdapter, Outcome
from schemas import codec, ids
from schemas.names import Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import Delivery, ProviderDay
from tables import circuit, quota
from tables import due as index
from tables.circuit import Weight
from tables.holds import Subject
from tables.prices import TOO_DEAR

#: With this reason a call is held that found no turn by its provider's rate.
PACED = "paced"
#: Picks the providers by which a call costs no more than it may.
Affordable = Callable[[tuple[ChannelAdapter, ...]], tuple[ChannelAdapter, ...]]
#: Outcomes after which the provider beside may be tried, if nothing has reached the first.
_NEXT_ONE = frozenset({OutcomeKind.DEFERRED, OutcomeKind.MISCONFIGURED})


class Routes:
    """The ways that the calls of one worker take."""

    def __init__(
        self,
        work: Delivering,
        control: Control,
        breakers: Breakers | None,
        pacing: Pacing | None,
        fence: Check,
        quotas: Mapping[str, int] | None = None,
    ) -> None:
        self._work = work
        self._control = control
        self._breakers = breakers
        self._pacing = pacing
        self._fence = fence
        #: When each call may begin whose provider's rate is limited.
        self._slots: dict[bytes, Slot] = {}
        #: Calls a day, over all workers, by the name of a circuit; and which providers a call may take by them.
        self._quotas = quotas or {}
        self._allowed: dict[bytes, frozenset[str]] = {}

    def paced(self, key: bytes, adapter: ChannelAdapter) -> bool:
        """Return whether a call may begin by its provider's rate, and remember when."""
        if self._pacing is None:
            return True
        slot = self._pacing.reserve((adapter, *self._work.spares.get(adapter.channel, ())))
        if slot is not None:
            self._slots[key] = slot
        return slot is not None

    def counts(self, channel: Channel) -> tuple[bytes, ...]:
        """Return the keys of the rows that count the calls of a channel's providers today."""
        if not self._quotas:
            return ()
        names = (name for name in self._quotas if circuit.channel_of(name) == channel.value.lower())
        return tuple(ids.provider_day_key(name) for name in names)

    def within_quota(
        self,
        view: View,
        partition: int,
        key: bytes,
        adapter: ChannelAdapter,
        now: int,
        affordable: Affordable | None = None,
    ) -> dict[bytes, bytes | None] | None:
        """Return the row that counts a call against its provider's calls a day, None where no provider of its channel
        may have one more today. The first that may have it is counted; a further one only where it has no quota.

        ``affordable``: one that is too dear gets no call, and so needs no room.
        """
        if not self._quotas:
            return {}
        adapters = (adapter, *self._work.spares.get(adapter.channel, ()))
        if affordable is not None:
            adapters = affordable(adapters)
        if self._breakers is not None and self._breakers.shut(adapter.channel, adapters):
            # It will be held: that is no call.
            return {}
        allowed: list[str] = []
        rows: dict[bytes, bytes | None] = {}
        for one in adapters:
            name = circuit.name_of(one.channel.value, one.name)
            if name not in self._quotas:
                allowed.append(name)
            elif not allowed:
                row, raw = ids.provider_day_key(name), view.get(ids.provider_day_key(name))
                known = codec.decode(ProviderDay, raw[index.HEADER.size :]) if raw is not None else None
                most = quota.share(self._quotas[name], partition, self._work.partitions)
                after = quota.counted(known, now, most)
                if after is not None:
                    allowed.append(name)
                    rows[row] = self._work.written(after, quota.next_day(now))
        if not allowed:
            return None
        self._allowed[key] = frozenset(allowed)
        return rows

    def shut(self, channel: Channel, provider: str) -> bool:
        """Return whether a provider's circuit lets no call through at the moment."""
        those = tuple(one for one in self._work.providers(channel) if one.name == provider)
        return self._breakers is not None and self._breakers.shut(channel, those)

    async def admitted(
        self,
        key: bytes,
        delivery: Delivery,
        adapter: ChannelAdapter,
        affordable: Affordable | None = None,
    ) -> Admitted | Outcome:
        """Return by whom a call may go: its channel's provider, and those beside it. Waits for its turn.

        ``affordable``: picks those by which it costs no more than it may.
        """
        slot = self._slots.pop(key, None)
        spares = self._work.spares.get(delivery.channel, ())
        adapters = (adapter, *spares)
        if (allowed := self._allowed.pop(key, None)) is not None:
            adapters = tuple(a for a in adapters if circuit.name_of(a.channel.value, a.name) in allowed)
        if affordable is not None:
            adapters = affordable(adapters)
            if not adapters:
                # Their prices have changed since it began.
                return Outcome(OutcomeKind.UNDELIVERABLE, TOO_DEAR, adapter.name, reached=False)
        if spares:
            held = self._control.holding
            adapters = tuple(a for a in adapters if held(Subject(provider=a.name)) is None) or adapters
        admitted: Admitted | Outcome = Admitted(adapters)
        if self._breakers is not None:
            admitted = await self._breakers.admit(delivery.channel, adapters, delivery.delivery_id)
        if self._pacing is not None and slot is not None and isinstance(admitted, Admitted):
            first = admitted.adapters[0]
            if not await self._pacing.turn(slot, first):
                return Outcome(OutcomeKind.HELD, PACED, first.name, retry_after_s=1, reached=False)
        return admitted

    async def through(
        self,
        channel: Channel,
        admitted: Admitted,
        send: Callable[[ChannelAdapter], Awaitable[Outcome]],
        look: Callable[[ChannelAdapter], Outcome | None],
    ) -> Outcome:
        """Call the provider, and the next one beside it where nothing can have reached the one before.

        ``look``: the last look, which is taken again before each further call, for time has passed.
        """
        before = ""
        outcome = Outcome(OutcomeKind.HELD, "stopping", "", reached=False)
        for n, adapter in enumerate(admitted.adapters):
            if n:
                if self._pacing is not None and not await self._pacing.turn(Slot(""), adapter):
                    break
                if (why := look(adapter)) is not None:
                    return why
                self._fence("call")
            with self._breakers.calling(adapter) if self._breakers is not None else nullcontext():
                outcome = await send(adapter)
            if self._breakers is not None:
                self._breakers.fed(channel, outcome, adapter.name, admitted.probe)
            if before:
                outcome = replace(outcome, detail=f"{outcome.detail} (before: {before})".lstrip())
            if outcome.reached or outcome.kind not in _NEXT_ONE:
                break
            before = f"{adapter.name} {outcome.reason}"
        return outcome


def uncounted(admitted: Admitted, outcome: Outcome) -> Outcome:
    """Return the outcome of a call as its delivery is to count it.

    A probe is the circuit's wish: where the provider fails still, the delivery loses none of its attempts by it, or
    the few that wait in a long outage would use theirs up one probe after the other.
    """
    failed = circuit.weigh(outcome.kind, outcome.reason, reached=outcome.reached) is Weight.BAD
    if admitted.probe and failed and outcome.kind is OutcomeKind.DEFERRED:
        return replace(outcome, reached=False)
    return outcome
