"""Where and how a worker is ended or halted: written by the runner into a file, read by the worker."""

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self


class At(StrEnum):
    """The named points. The first ones are those of every unit of work, in order; then those of a call; then those of a
    worker's own life."""

    DECODE = "decode"
    RECEIVED = "received"
    FENCE = "fence"
    DECIDED = "decided"
    EMITTED = "emitted"
    LOGGED = "logged"
    WRITTEN = "written"
    ACKED = "acked"
    STARTED = "started"
    CALLED = "called"
    ANSWERED = "answered"
    RECOVERED = "recovered"
    REVOKED = "revoked"


class How(StrEnum):
    """What happens at a point: SIGKILL, the same some ms later, SIGSTOP."""

    KILL = "kill"
    LATER = "later"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Point:
    """A fault to come. ``inputs``: what the unit must hold, "" for anything; ``passes``: how often the point is passed
    before; ``ms``: how much later, with LATER."""

    at: At
    how: How = How.KILL
    inputs: str = ""
    passes: int = 0
    ms: int = 0

    def arm(self, path: Path) -> None:
        """Write it where a worker looks."""
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(self)))
        os.replace(beside, path)  # noqa: PTH105  # as one step

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return what is armed, None where nothing is."""
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(**found | {"at": At(found["at"]), "how": How(found["how"])})
