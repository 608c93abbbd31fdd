"""Circuits in the apps: what core and delivery do with the turns that ``reminders.control`` tells of."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agents.breakers import Breakers
from agents.circuits import Board
from agents.control import Control
from agents.meter import Meter
from agents.pacing import Pacing
from agents.ports import Clock
from agents.publisher import Publisher
from agents.release import Releases
from agents.timer import Timer
from app.alerts import Alerts
from channels.base import ChannelAdapter
from schemas.records import ControlRecord
from tables import circuit, holds, pace
from tables.circuit import Circuit, Limits, Phase
from tables.due import CHANNEL_CODES

if TYPE_CHECKING:
    from app.config import Settings


def limits(settings: "Settings") -> Limits:
    """Return when circuits open."""
    c = settings.circuits
    return Limits(
        window_ms=int(c.window_s * 1000),
        calls=c.calls,
        percent=c.percent,
        probe_ms=int(c.probe_s * 1000),
        slow_ms=int(c.slow_s * 1000),
    )


def of_delivery(
    settings: "Settings",
    control: Control,
    topic: str,
    publisher: Publisher,
    owned: Callable[[], set[int]],
    adapters: Iterable[ChannelAdapter],
    meter: Meter,
    clock: Clock,
    fatal: Callable[[str, BaseException | None], None],
) -> Breakers:
    """Return the breakers of a delivery app, known to its meter and its alerts."""
    board = control.circuits
    breakers = Breakers(
        board,
        topic=topic,
        partitions=settings.partitions,
        publish=publisher.publish,
        owned=owned,
        clock=clock,
        limits=limits(settings),
        fatal=fatal,
        alert=Alerts(settings.circuits.alert_webhook).circuit,
    )
    breakers.serves(adapters)

    def refresh() -> None:
        for name in breakers.names:
            channel, _, provider = name.partition("/")
            meter.circuit(channel, provider, circuit.shown(board.of(name), clock()))

    meter.asked.append(refresh)
    return breakers


def pacing(settings: "Settings", owned: Callable[[], set[int]], clock: Clock) -> Pacing | None:
    """Return what keeps the rates of providers, None where none is limited."""
    rates = pace.parse(settings.circuits.rates)
    return Pacing(rates, partitions=settings.partitions, owned=owned, clock=clock) if rates else None


def of_core(board: Board, timer: Timer, releases: Releases, rate: int) -> Callable[[], None]:
    """Let a circuit that closes let go what it kept back, at a rate a second (0: as fast as it goes). Return what does
    so again for the circuits that have closed lately: a worker that walked may have died."""

    def let_go(c: Circuit) -> None:
        releases.changed(ControlRecord(circuit.scope(c.name), holds.RELEASE, c.at, rate_per_s=float(rate)))

    def turned(before: Circuit | None, after: Circuit) -> None:
        if after.phase is not Phase.CLOSED or before is None:
            return
        named = circuit.channel_of(after.name).upper()
        if rate:
            timer.pace(circuit.scope(after.name), [c for c in CHANNEL_CODES if c.value == named], rate, after.at)
        let_go(after)

    board.turned.append(turned)

    def again() -> None:
        for c in list(board.known.values()):
            if c.phase is Phase.CLOSED:
                let_go(c)

    return again


def shut_by(board: Board) -> Callable[[str], str]:
    """Return who says by the scope of which circuit nothing of a channel is sent, empty where something may be."""

    def shut(channel: str) -> str:
        found = board.shut(channel) if channel else None
        return circuit.scope(found.name) if found is not None else ""

    return shut
