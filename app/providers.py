"""How providers stand, as ``/health/providers``, ``doctor`` and ``python -m app providers`` show it."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from agents.circuits import Board
from channels.base import ChannelAdapter
from tables import circuit
from tables.circuit import Circuit, Phase

Shown = dict[str, object]


def names(adapters: Iterable[ChannelAdapter]) -> list[str]:
    """Return the names of the circuits of all adapters, webhooks' too, in order."""
    return sorted(circuit.name_of(adapter.channel.value, adapter.name) for adapter in adapters)


def shown(c: Circuit, now: int) -> Shown:
    """Return how a circuit stands. Nothing in it is personal or secret."""
    channel, _, provider = c.name.partition("/")
    stands = c.stands(now)
    there: Shown = {"provider": provider, "channel": channel.upper(), "state": stands.value}
    if stands is not Phase.CLOSED:
        there |= {
            "misconfigured": c.misconfigured,
            "reason": c.reason,
            "since": moment(c.since),
            "until" if stands is Phase.PAUSED else "next_probe": moment(c.until),
        }
    return there


def listed(board: Board, configured: Sequence[str], clock: Callable[[], int]) -> Callable[[], list[Shown]]:
    """Return what lists the circuits of the configured providers, and of those that another worker has."""

    def now() -> list[Shown]:
        every = sorted({*configured, *board.known})
        return [shown(board.of(name), clock()) for name in every]

    return now


def moment(ms: int) -> str:
    """Return an instant as people and machines read it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if ms else ""
