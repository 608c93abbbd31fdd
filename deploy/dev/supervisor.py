"""Keep one worker running: python -m deploy.dev.supervisor [--name worker-1] -- COMMAND ...

A worker that ends for any reason but success is started again, after a back-off that grows with each failure and is
forgotten after a minute of health. One that keeps ending at once is given up, loudly. A broker that does not answer is
no failure of the worker: the supervisor waits for it. SIGTERM and SIGINT are passed on; the worker has a minute to end.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.dev.process import Kept, Records, kafka_answers, spawn

GAVE_UP = 70


@dataclass(frozen=True)
class Policy:
    """When to start again and when to stop trying; seconds."""

    first_delay: float = 0.5
    longest_delay: float = 30.0
    healthy_after: float = 60.0
    immediate: float = 10.0
    give_up_after: int = 5
    stop_grace: float = 60.0
    broker_poll: float = 1.0


class Supervisor:
    """Runs one command; run() returns once it has ended for good. Use it in the main thread of a process of its own."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        broker_up: Callable[[], bool],
        name: str = "worker",
        log: Path | None = None,
        records: Records | None = None,
        policy: Policy | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._command = list(command)
        self._broker_up = broker_up
        self._name = name
        self._log = log
        self._records = records
        self._policy = policy or Policy()
        self._say = say or (lambda text: print(text, flush=True))
        self._stops = 0
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def run(self) -> int:
        """0: the worker ended with success or as it was asked to; GAVE_UP: it would not stay up; else its exit code."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        policy, failures, delay = self._policy, 0, self._policy.first_delay
        while self._wait_for_broker():
            began = time.monotonic()
            worker = self._start()
            if worker is None:
                return GAVE_UP
            code = self._watch(worker)
            lived = time.monotonic() - began
            if self._stopping or code == 0:
                return code
            self._say(f"{self._name} {describe(code)} after {lived:.1f} s")
            if not self._broker_up():
                continue  # its broker went away: that is waited for and held against nobody
            failures = failures + 1 if lived < policy.immediate else 0
            if failures >= policy.give_up_after:
                self._give_up(failures)
                return GAVE_UP
            if lived >= policy.healthy_after:
                delay = policy.first_delay
            self._say(f"{self._name} starts again in {delay:g} s")
            self._pause(delay)
            delay = min(2 * delay, policy.longest_delay)
        return 0

    def _stop(self, *_: object) -> None:
        self._stops += 1

    @property
    def _stopping(self) -> bool:
        return self._stops > 0

    def _start(self) -> Kept | None:
        try:
            if self._log is None:
                worker = spawn(self._command)
            else:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                with self._log.open("ab") as log:
                    worker = spawn(self._command, output=log)
        except OSError as error:
            self._say(f"{self._name}: {error}")
            return None
        if self._records is not None:
            self._records.add(self._name, worker.pid)
        self._say(f"{self._name} started (process {worker.pid})")
        return worker

    def _watch(self, worker: Kept) -> int:
        """Wait for the worker's end, passing on a wish to stop; returns its exit code."""
        while worker.poll() is None:
            if self._stopping:
                return self._end(worker)
            self._nap(3600)
        return worker.wait()

    def _end(self, worker: Kept) -> int:
        """SIGTERM, then SIGKILL once the grace time is over or the wish is repeated."""
        worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._policy.stop_grace
        while worker.poll() is None and self._stops < 2 and time.monotonic() < deadline:
            self._nap(deadline - time.monotonic())
        if worker.poll() is None:
            self._say(f"{self._name} did not end in time and is killed; what it had not acknowledged is done anew")
            return worker.kill()
        code = worker.wait()
        return 0 if code == 128 + signal.SIGTERM else code

    def _wait_for_broker(self) -> bool:
        """True once the broker answers; False if a stop comes first."""
        said = False
        while not self._stopping:
            if self._broker_up():
                if said:
                    self._say(f"{self._name}: the broker answers again")
                return not self._stopping
            if not said:
                self._say(f"{self._name} waits for the broker, which does not answer")
                said = True
            self._pause(self._policy.broker_poll)
        return False

    def _nap(self, seconds: float) -> None:
        """Return after so many seconds, or as soon as a signal has come, a child's end too."""
        if select.select([self._woken], [], [], max(seconds, 0))[0]:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)

    def _pause(self, seconds: float) -> None:
        """Return after so many seconds, or at once on a wish to stop."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._nap(left)

    def _give_up(self, failures: int) -> None:
        lines = [f"{self._name} ended {failures} times within {self._policy.immediate:.0f} s of its start: given up."]
        if self._log is not None:
            lines += [f"The end of {self._log}:", *tail(self._log)]
        self._say("\n".join(lines))


def tail(path: Path, lines: int = 15) -> list[str]:
    """The last lines of a text file, indented; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            return [f"  {line}" for line in file.read().decode(errors="replace").splitlines()[-lines:]]
    except OSError:
        return []


def describe(code: int) -> str:
    """An exit code in words."""
    if code > 128:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(code - 128).name}"
    return f"ended with code {code}"


def main() -> int:
    """Command line: see the module; KAFKA_BOOTSTRAP and KAFKA_SECURITY say which broker to wait for."""
    parser = argparse.ArgumentParser(prog="supervisor", description="Keep one worker running.")
    parser.add_argument("--name", default="worker")
    parser.add_argument("--log", type=Path, help="append the worker's output here")
    parser.add_argument("--records", type=Path, help="note the worker's process id in this folder")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("name the command to run after --")
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP") or "127.0.0.1:9092"
    plain = (os.environ.get("KAFKA_SECURITY") or "PLAINTEXT").upper() in ("PLAINTEXT", "SASL_PLAINTEXT")
    supervisor = Supervisor(
        command,
        broker_up=lambda: kafka_answers(bootstrap, plain=plain),
        name=options.name,
        log=options.log,
        records=Records(options.records) if options.records else None,
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
