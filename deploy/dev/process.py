"""Child processes that die with their owner, and process ids that cannot be mistaken for another's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

KEEPER = Path(__file__).with_name("keeper.py")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ProcessId:
    """A process id with the moment the process began, so that a reused id is told apart."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The identity of the process that has this id now; None if there is none."""
        started = start_time(pid)
        return None if started is None else cls(pid, started)

    @property
    def alive(self) -> bool:
        """True while that very process runs."""
        return start_time(self.pid) == self.started

    def signal(self, number: int) -> bool:
        """Send a signal to that very process; False, and nothing sent, if it is gone."""
        if not self.alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def wait(self, timeout: float) -> bool:
        """True once the process is gone, False if it still runs after timeout seconds."""
        deadline = time.monotonic() + timeout
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def start_time(pid: int) -> str | None:
    """When the process began, as the system tells it (comparable, not readable); None for a dead or zombie one."""
    if pid <= 0:
        return None
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        # The name in parentheses may hold anything, so count from the last one.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = done.stdout.strip().partition(" ")
    return None if not began or state.startswith("Z") else began.strip()


class Kept:
    """A child process that ends when this process ends, however that happens; see keeper.py."""

    def __init__(self, keeper: subprocess.Popen[bytes], pid: int) -> None:
        self._keeper = keeper
        self.pid = pid

    @property
    def keeper_pid(self) -> int:
        """The process that watches over the child."""
        return self._keeper.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """The child's output, if a pipe was asked for."""
        return self._keeper.stdout

    def poll(self) -> int | None:
        """The exit code (128 + n after signal n), or None while it runs."""
        return self._keeper.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one; subprocess.TimeoutExpired if that takes longer."""
        code = self._keeper.wait(timeout)
        if self._keeper.stdin:
            self._keeper.stdin.close()
        return code

    def signal(self, number: int) -> None:
        """Send a signal to the child; nothing happens if it has ended."""
        if self._keeper.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, grace: float) -> int:
        """SIGTERM, wait up to grace seconds, then SIGKILL; returns the exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.wait(grace)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL the child and whatever it started in its process group; returns the exit code."""
        if self._keeper.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return self.wait()


def spawn(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | IO[bytes] | None = None,
) -> Kept:
    """Start a command in a session of its own that dies with this process.

    Its output and errors go to output (a file or subprocess.PIPE), else where this process's go. OSError, with the
    system's words, if it cannot be started.
    """
    read_end, write_end = os.pipe()
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(write_end), *[os.fspath(part) for part in command]],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            pass_fds=(write_end,),
            start_new_session=True,
            env=None if env is None else dict(env),
            cwd=cwd,
        )
    finally:
        os.close(write_end)
    with open(read_end, closefd=True) as report:  # noqa: PTH123
        said = report.readline().strip()
    if not said.isdigit():
        keeper.wait()
        raise OSError(f"cannot start {command[0]}: {said or 'the keeper ended early'}")
    return Kept(keeper, int(said))


class Records:
    """What this folder's owner has started: one file a process, by name, for the one who has to clean up after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, pid: int) -> None:
        """Remember a running process under a name; a process that has ended already is not recorded."""
        identity = ProcessId.of(pid)
        if identity is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f".{name}.new"
        fresh.write_text(json.dumps(asdict(identity)))
        fresh.replace(self.folder / f"{name}.pid")

    def forget(self, name: str) -> None:
        """Drop a name; unknown ones are fine."""
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def alive(self) -> dict[str, ProcessId]:
        """The recorded processes that still run; files that say nothing usable are passed over."""
        found = {}
        for path in sorted(self.folder.glob("*.pid")):
            with contextlib.suppress(ValueError, TypeError, OSError):
                identity = ProcessId(**json.loads(path.read_text()))
                if identity.alive:
                    found[path.stem] = identity
        return found


class PortBusyError(Exception):
    """A port that is needed is taken; the message names it and the variable that moves ours."""

    def __init__(self, port: int, what: str, variable: str) -> None:
        super().__init__(
            f"port {port} ({what}) is already in use on {LOOPBACK}: end the program that holds it (lsof -i :{port}),"
            f" or move ours: {variable}={port + 10000 if port < 50000 else port - 10000} make run"
        )
        self.port = port
        self.variable = variable


def require_free(port: int, what: str, variable: str) -> None:
    """Raise PortBusyError if nobody could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortBusyError(port, what, variable) from error


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def kafka_answers(bootstrap: str, timeout: float = 2.0, *, plain: bool = True) -> bool:
    """True if any broker of the list answers: to ApiVersions where it speaks plain text, else to a connection.

    Asking costs one round trip and tells a frozen broker, whose kernel still accepts connections, from a live one.
    """
    request = struct.pack(">hhih", 18, 0, 1, 5) + b"probe"
    for address in bootstrap.split(","):
        host, _, port = address.strip().removeprefix("kafka://").rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            target = (host.strip("[]") or LOOPBACK, int(port))
            with socket.create_connection(target, timeout) as connection:
                if not plain:
                    return True
                connection.sendall(struct.pack(">i", len(request)) + request)
                if len(connection.recv(4)) == 4:
                    return True
    return False
