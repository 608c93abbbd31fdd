"""An adapter whose settings can be changed while it is at work: the next call goes by the new one, those in flight end
with the old one, which is closed after the last of them."""

import logging
from collections.abc import Callable
from typing import Any

from channels.base import ChannelAdapter, Metered, OnRecord, Outcome, Reconciling, Retracting, Send
from schemas.names import Channel, OutcomeKind

log = logging.getLogger(__name__)


class _Held:
    """An adapter and its calls in flight."""

    __slots__ = ("adapter", "calls", "retired")

    def __init__(self, adapter: ChannelAdapter) -> None:
        self.adapter = adapter
        self.calls = 0
        self.retired = False


class Renewable:
    """Stands for one adapter after the other (``ChannelAdapter``). Make one with ``renewable``.

    ``rejected`` is called for every outcome that says that our settings are wrong: a new secret may be there.
    """

    def __init__(self, adapter: ChannelAdapter) -> None:
        self._held = _Held(adapter)
        self.rejected: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """Provider name, the same for all of them."""
        return self._held.adapter.name

    @property
    def channel(self) -> Channel:
        """The channel, the same for all of them."""
        return self._held.adapter.channel

    @property
    def concurrency(self) -> int:
        """How many ``send`` calls may run at once."""
        return self._held.adapter.concurrency

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``, in seconds."""
        return self._held.adapter.call_timeout_s

    @property
    def repeatable(self) -> bool:
        """Whether the other side knows a message by its token."""
        return self._held.adapter.repeatable

    async def open(self) -> None:
        """Open the adapter that holds now."""
        await self._held.adapter.open()

    async def close(self) -> None:
        """Close the adapter that holds now."""
        await self._held.adapter.close()

    async def probe(self) -> str:
        """Ask the adapter that holds now."""
        return await self._held.adapter.probe()

    async def send(self, message: Send) -> Outcome:
        """Send by the adapter that holds now."""
        outcome: Outcome = await self._through(lambda adapter: adapter.send(message))
        if outcome.kind is OutcomeKind.MISCONFIGURED:
            self.rejected()
        return outcome

    async def swap(self, adapter: ChannelAdapter) -> None:
        """Let an adapter that is open take the place of the one that holds now."""
        if (adapter.channel, adapter.name) != (self.channel, self.name):
            raise ValueError("another provider cannot take its place")
        before, self._held = self._held, _Held(adapter)
        before.retired = True
        if not before.calls:
            await _closed(before)

    async def _through(self, call: Callable[[Any], Any]) -> Any:
        held = self._held
        held.calls += 1
        try:
            return await call(held.adapter)
        finally:
            held.calls -= 1
            if held.retired and not held.calls:
                await _closed(held)


async def _closed(held: _Held) -> None:
    try:
        await held.adapter.close()
    except Exception as exc:  # noqa: BLE001  # it serves no more, and what it holds ends with the process at the latest
        log.warning("an adapter that was replaced could not be closed: %s", type(exc).__name__)


class _Retracts(Renewable):
    async def retract(self, message: Send, provider_id: str) -> Outcome:
        """Take a message back by the adapter that holds now."""
        outcome: Outcome = await self._through(lambda adapter: adapter.retract(message, provider_id))
        return outcome


class _Meters(Renewable):
    def units(self, message: Send) -> int:
        """Return the units of a message by the adapter that holds now."""
        adapter: Any = self._held.adapter
        return int(adapter.units(message))


class _Looks(Renewable):
    def words(self, message: Send) -> str:
        """Return the words of a message by the adapter that holds now."""
        adapter: Any = self._held.adapter
        return str(adapter.words(message))

    async def look_up(self, address: str, since_ms: int, until_ms: int) -> tuple[OnRecord, ...] | Outcome:
        """Look for messages by the adapter that holds now."""
        found: tuple[OnRecord, ...] | Outcome
        found = await self._through(lambda adapter: adapter.look_up(address, since_ms, until_ms))
        return found


#: What an adapter may be able to do, and what does it for one that can be replaced.
_ABLE: tuple[tuple[Any, type[Renewable]], ...] = ((Retracting, _Retracts), (Metered, _Meters), (Reconciling, _Looks))


def renewable(adapter: ChannelAdapter) -> Renewable:
    """Return what stands for an adapter, with all that it can do and no more."""
    parts = tuple(part for able, part in _ABLE if isinstance(adapter, able))
    made: Renewable = type("Renewable", parts or (Renewable,), {})(adapter)
    return made
