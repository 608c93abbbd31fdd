"""Workers as forks of one process that has imported everything: a start takes two seconds of CPU otherwise, and the
tests start hundreds. What is forked is a process of its own like any other: it is killed, frozen and ended alike.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

#: One server of forks for the whole run. It starts no thread and opens nothing.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.kafka.worker"])
#: Python reads these when it starts, so that a fork would not heed them.
_READ_AT_START = ("PYTHON", "LD_", "TZ")


class Fork:
    """A forked process, with the part of ``subprocess.Popen`` that tests use."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code once it has ended."""
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, none to what has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def can_fork(env: Mapping[str, str]) -> bool:
    """Return whether a fork would be what a new process with this environment is."""
    return all(os.environ.get(name) == value for name, value in env.items() if name.startswith(_READ_AT_START))


def worker(role: str, env: Mapping[str, str], log: Path) -> Fork:
    """Start ``tests.kafka.worker`` for a role with exactly this environment; it writes to ``log``."""
    process = _FORKS.Process(target=_run, args=(role, dict(env), str(log)), daemon=True)
    process.start()
    return Fork(process)


def _run(role: str, env: dict[str, str], log: str) -> None:
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number in (1, 2):
        os.dup2(out, number)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv = ["tests.kafka.worker", role]
    from tests.kafka.worker import main

    main()
