"""A worker of the product, built by its composition root, with an observer that can end or halt it at a named stage.

STOP_AT names a stage of ``agents.meter.Stage``; STOP_AFTER how many inputs must have reached it before (default 1);
STOP_HOW is ``kill`` (SIGKILL), ``stop`` (SIGSTOP), ``hang`` (the unit never goes on) or ``block`` (the loop does not);
STOP_ROLE limits it to one app (core or delivery). CLOCK_FILE names a file that says by how many ms the clock is off.
FILE_BYTES is the size at which a file can grow no more, as on a full disk.
"""

import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from agents.meter import Meter, Stage
from app import logs
from app.build import MeterObserver, build_core, build_delivery, serve
from app.config import Settings


class Saboteur(MeterObserver):
    """Ends this process at a stage."""

    def __init__(self, meter: Meter, role: str) -> None:
        super().__init__(meter)
        at, mine = os.environ.get("STOP_AT", ""), os.environ.get("STOP_ROLE", role) == role
        self._at = Stage(at) if at and mine else None
        self._left = int(os.environ.get("STOP_AFTER", "1"))
        self._how = os.environ.get("STOP_HOW", "kill")

    async def stage(self, stage: Stage, partition: int, inputs: int) -> None:
        await super().stage(stage, partition, inputs)
        if stage is self._at:
            self._left -= inputs
            if self._left <= 0:
                self._at = None
                match self._how:
                    case "hang":
                        await asyncio.Event().wait()
                    case "block":
                        time.sleep(600)  # noqa: ASYNC251 - the fault itself
                    case how:
                        os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)


def follow_a_file(path: Path) -> None:
    """Let the wall clock of this process be off by the ms that a file says: it jumps as a machine's may."""
    true_ns, looked, offset = time.time_ns, 0.0, 0

    def shifted_ns() -> int:
        nonlocal looked, offset
        if time.monotonic() > looked + 0.02:
            looked, offset = time.monotonic(), int(path.read_text()) * 1_000_000
        return true_ns() + offset

    time.time_ns = shifted_ns
    time.time = lambda: shifted_ns() / 1e9


def main() -> None:
    role = sys.argv[1]
    if "CLOCK_FILE" in os.environ:
        follow_a_file(Path(os.environ["CLOCK_FILE"]))
    if "FILE_BYTES" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["FILE_BYTES"]),) * 2)
    settings = Settings.load(os.environ)
    logs.setup(settings)
    meter = Meter(CollectorRegistry())
    apps = []
    if role in ("core", "all"):
        apps.append(build_core(settings, meter, Saboteur(meter, "core")))
    if role in ("delivery", "all"):
        apps.append(build_delivery(settings, meter, Saboteur(meter, "delivery")))
    serve(apps)


if __name__ == "__main__":
    main()
