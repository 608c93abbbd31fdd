"""make stop: end a make run, and what a killed one left; never a process that it did not start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.dev.bootstrap import ROOT
from deploy.dev.process import ProcessId, Records

#: What a supervisor gives its worker, and a run all of its own, before they resort to SIGKILL themselves.
GRACE_S = {"run": 150.0, "supervisor": 65.0, "worker": 10.0, "sink": 5.0, "broker": 30.0}


def stop_leftovers(records: Records, say: Callable[[str], None]) -> int:
    """End every recorded process but a run, workers first, the broker last; returns how many there were.

    A record holds when the process began, so an id that the system has given to another since is left alone.
    """
    return _stop(records, ["supervisor", "worker", "sink", "broker"], say)


def _stop(records: Records, kinds: list[str], say: Callable[[str], None]) -> int:
    ended = 0
    for kind in kinds:
        found = {name: process for name, process in records.alive().items() if name.partition("-")[0] == kind}
        for name, process in found.items():
            say(f"Ending {name} (process {process.pid}), left by an earlier run ...")
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        for name, process in found.items():
            _await_end(name, process, GRACE_S[kind], say)
            ended += 1
    for path in records.folder.glob("*.pid"):
        if path.stem.partition("-")[0] in kinds:
            path.unlink(missing_ok=True)
    return ended


def _await_end(name: str, process: ProcessId, grace: float, say: Callable[[str], None]) -> None:
    if process.wait(grace):
        return
    say(f"{name} did not end within {grace:.0f} s and is killed")
    process.signal(signal.SIGKILL)
    process.wait(10)


def main() -> int:
    """Command line: no arguments; REMINDERS_HOME as for make run."""
    home = Path(os.environ.get("REMINDERS_HOME") or ROOT / ".data").expanduser().resolve()
    records = Records(home / "run")

    def say(text: str) -> None:
        print(text, flush=True)

    run = records.alive().get("run")
    if run is not None:
        say(f"Asking make run (process {run.pid}) to end ...")
        run.signal(signal.SIGTERM)
        run.signal(signal.SIGCONT)
        _await_end("make run", run, GRACE_S["run"], say)
    ended = stop_leftovers(records, say)
    say("Stopped." if run is not None or ended else "Nothing is running here.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
