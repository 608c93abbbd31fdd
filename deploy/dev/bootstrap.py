"""Make .venv and install requirements-dev.lock into it; a second call with the same lock does nothing.

Needs only a Python >= 3.11 with venv: standard library alone, and syntax that an older Python can still read, so that
it can say what is missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)


class BootstrapError(Exception):
    """Something the person at the keyboard has to mend; the message says how."""


def cache_dir(root: Path = ROOT) -> Path:
    """The one folder that everything fetched goes to: REMINDERS_CACHE, else .cache in the clone."""
    return Path(os.environ.get("REMINDERS_CACHE") or root / ".cache").expanduser().resolve()


@contextlib.contextmanager
def exclusive(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file at path; while another process holds it, say so once and wait."""
    import fcntl  # noqa: PLC0415  # here, so that Windows gets to the message in check_python

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(busy, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_python() -> None:
    """Refuse a Python that cannot run the product, and name one on the path that can."""
    if os.name != "posix":
        raise BootstrapError("The service runs on Linux and macOS; on Windows use WSL.")
    if sys.version_info[:2] >= OLDEST:
        return
    better = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    remedy = f"say PYTHON={better[0]}" if better else "install one and name it, as in PYTHON=python3.12"
    have = ".".join(map(str, sys.version_info[:3]))
    raise BootstrapError(f"Python 3.11 or newer is needed, {sys.executable} is {have}: {remedy} after make.")


def wanted_stamp(lock: Path) -> str:
    """What a finished install of this lock by this Python leaves in the stamp file."""
    return f"{hashlib.sha256(lock.read_bytes()).hexdigest()} python{sys.version_info[0]}.{sys.version_info[1]}\n"


def is_ready(venv: Path, stamp: str) -> bool:
    """True if an install of the same lock was finished here and its Python still starts."""
    try:
        if (venv / ".installed").read_text() != stamp:
            return False
        done = subprocess.run([str(venv / "bin" / "python"), "-c", ""], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def make_venv(venv: Path) -> None:
    """Create the environment, over whatever is left of an older one that no longer works."""
    print(f"Creating {venv.name} with Python {sys.version.split()[0]} ...", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BootstrapError(
            f"python -m venv failed:\n{(done.stdout + done.stderr).strip()}\n"
            "Debian and Ubuntu keep venv in a package of its own: apt-get install python3-venv."
        )


def install(venv: Path, lock: Path, log: Path) -> None:
    """Install every package of the lock, hashes checked, counting them as they arrive."""
    total = sum(1 for line in lock.read_text().splitlines() if line[:1].isalnum() and "==" in line)
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "-r", str(lock)]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    print(f"Installing {total} packages of {lock.name} (log: {log}) ...", flush=True)
    seen = 0
    tail: list[str] = []
    with log.open("w") as out:
        pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                out.write(line)
                tail = [*tail[-14:], line.rstrip()]
                if line.startswith(("Collecting ", "Requirement already satisfied: ")):
                    seen += 1
                    name = line.split(": ", 1)[-1].replace("Collecting ", "").split("==")[0].split()[0]
                    show_progress(f"  {seen}/{total} {name}", seen)
                elif line.startswith("Installing collected packages"):
                    show_progress("  unpacking ...", 0)
            code = pip.wait()
        except BaseException:
            pip.terminate()
            pip.wait()
            raise
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if code:
        raise BootstrapError(
            "\n".join(["pip failed:", *tail])
            + f"\nThe whole log: {log}. Look at the network and at pip's settings (pip config list), then run it again:"
            " it goes on where it stopped. After a change of pyproject.toml: make lock."
        )


def show_progress(text: str, count: int) -> None:
    """One line that is overwritten on a terminal; in a log, every tenth."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)
    elif count % 10 == 0:
        print(text, flush=True)


def bootstrap(root: Path = ROOT) -> Path:
    """Return the Python of an environment that holds exactly what the lock names, made if need be."""
    check_python()
    venv, lock = root / ".venv", root / "requirements-dev.lock"
    if not lock.exists():
        raise BootstrapError(f"{lock} is missing: git checkout -- {lock.name}.")
    stamp = wanted_stamp(lock)
    python = venv / "bin" / "python"
    if is_ready(venv, stamp):
        return python
    cache = cache_dir(root)
    with exclusive(cache / "bootstrap.lock", "Another bootstrap is at work in this clone; waiting for it ..."):
        if is_ready(venv, stamp):
            return python
        marker = venv / ".installed"
        same_python = marker.exists() and marker.read_text().endswith(stamp.split(" ", 1)[1])
        if not (same_python and is_ready(venv, marker.read_text())):
            make_venv(venv)
        marker.unlink(missing_ok=True)
        install(venv, lock, cache / "pip.log")
        fresh = marker.with_suffix(".new")
        fresh.write_text(stamp)
        fresh.replace(marker)
    print(f"Ready: {shlex.quote(str(python))}", flush=True)
    return python


def main() -> int:
    """Command line: no arguments; 0 once the environment is ready."""
    try:
        bootstrap()
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbootstrap: interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
