"""A copy of the tree in which faults are planted: the tree itself is never touched."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def copied() -> Iterator[Path]:
    """Yield a folder with a copy of what git knows of, changes that are not committed included; it goes afterwards."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in listed.stdout.decode().split("\0"):
            source, target = ROOT / name, copy / name
            if name and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        if (cache := ROOT / ".cache").exists():
            (copy / ".cache").symlink_to(cache.resolve())
        yield copy


def environment() -> dict[str, str]:
    """Return the environment of a test run in the copy."""
    profile = os.environ.get("HYPOTHESIS_PROFILE", "fast")
    # Written within one second of another, a fault would be hidden by the bytecode of what was there before.
    return os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": profile, "PYTHONTZPATH": ""}


def python() -> str:
    """Return the interpreter of this run: the packages of the lock are its own."""
    return sys.executable
