"""A worker of the product, built by its composition root, that meets the fault which a file names.

FAULT_FILE names the file; it is looked at whenever a point is reached, so that a worker at work can be armed. The
points are the stages that the product tells its meter, the hooks around a revocation and a recovery, and, wrapped here,
the reading of a record and the fence.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from agents.meter import Meter, Stage
from agents.ports import Fire
from app import hardening, logs
from app.build import MeterObserver, build_core, build_delivery, serve
from app.config import Settings
from tests.chaos.points import At, How, Point


class Fuse(MeterObserver):
    """Lets this process meet its fault."""

    def __init__(self, meter: Meter, path: Path) -> None:
        super().__init__(meter)
        self._path = path
        self._looked = 0
        self._point: Point | None = None
        self._passes = 0
        self._reading: set[str] = set()
        self._inputs: dict[int, set[str]] = {}

    async def stage(self, stage: Stage, partition: int, inputs: int) -> None:
        await super().stage(stage, partition, inputs)
        if stage is Stage.DECIDED:
            self._inputs[partition], self._reading = self._reading, set()
        self.reached(At(stage.value), self._inputs.get(partition, set()))

    def read(self, inputs: str) -> None:
        """Note what the unit holds that is being decided."""
        self._reading.add(inputs)
        self.reached(At.DECODE, {inputs})

    def reached(self, at: At, inputs: set[str]) -> None:
        """Meet the fault, if it is this one."""
        point = self._armed()
        if point is None or point.at is not at or (point.inputs and point.inputs not in inputs):
            return
        if self._passes < point.passes:
            self._passes += 1
            return
        self._path.unlink()
        self._looked, self._point = 0, None
        match point.how:
            case How.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case How.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case How.LATER:
                threading.Timer(point.ms / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def _armed(self) -> Point | None:
        try:
            written = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._looked, self._point = 0, None
            return None
        if written != self._looked:
            self._looked, self._point, self._passes = written, Point.read(self._path), 0
        return self._point

    def attach(self, app: Any) -> Any:
        """Watch an app's units, its fence and its partitions."""
        units = app.parts.units
        units._logic = Watched(units._logic, self)
        fence = units._fence

        def fenced(where: str) -> None:
            fence(where)
            self.reached(At.FENCE, self._reading)

        units._fence = fenced

        async def revoked() -> None:
            self.reached(At.REVOKED, set())

        hardening.hooks(app).before_revoke.insert(0, revoked)
        hardening.hooks(app).replayed.append(lambda _: self.reached(At.RECOVERED, set()))
        return app


class Watched:
    """An app's rules, told of to a fuse."""

    def __init__(self, logic: Any, fuse: Fuse) -> None:
        self._logic = logic
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logic, name)

    def read(self, record: Any) -> Any:
        # Without the namespace: retry.1m, outcomes, sms.
        self._fuse.read(record.topic.partition(".")[2].removeprefix("notifications."))
        return self._logic.read(record)

    def command(self, partition: int, command: Any) -> Any:
        self._fuse.read("due" if isinstance(command, Fire) else "word")
        return self._logic.command(partition, command)


def main() -> None:
    role, path = sys.argv[1], Path(os.environ["FAULT_FILE"])
    settings = Settings.load(os.environ)
    logs.setup(settings)
    meter = Meter(CollectorRegistry())
    build = {"core": build_core, "delivery": build_delivery}[role]
    fuse = Fuse(meter, path)
    serve([fuse.attach(build(settings, meter, fuse))])


if __name__ == "__main__":
    main()
