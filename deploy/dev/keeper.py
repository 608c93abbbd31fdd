"""Run a command that must not outlive its owner: keeper.py REPORT_FD COMMAND ...

The owner holds the other end of this process's standard input. Once that end closes, by whatever death, the command
gets SIGTERM and, ten seconds later, SIGKILL. The command's process id is written to REPORT_FD; its exit status is this
process's own. A pipe and not PR_SET_PDEATHSIG alone: that one fires when the starting *thread* ends, and only on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

GRACE_S = 10.0
PR_SET_PDEATHSIG = 1


def die_with_keeper() -> None:
    """Covers a SIGKILL of the keeper itself, which has one thread only."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> int:
    """Stay until the command ends or the owner does."""
    report, command = int(sys.argv[1]), sys.argv[2:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # Whoever signals a whole group means the command; the keeper ends when the command has.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=unignore)  # noqa: PLW1509
    except OSError as error:
        os.write(report, f"{error}\n".encode())
        return 127
    os.write(report, f"{child.pid}\n".encode())
    os.close(report)
    while child.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready and not os.read(0, 4096):
            end(child)
    code = child.returncode
    return code if code >= 0 else 128 - code


def unignore() -> None:
    """Give the command the default signals and its link to the keeper."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    die_with_keeper()


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the command's group (thawed first), SIGKILL after the grace time."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGCONT)
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
