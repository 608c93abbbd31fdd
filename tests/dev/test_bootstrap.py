"""The environment is made once, made again when it must be, and never by two at a time."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def wheel(folder: Path, version: str) -> str:
    """Write a wheel with one empty module; returns its line for a lock file."""
    info = f"brick-{version}.dist-info"
    files = {
        "brick.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: brick\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for name, content in files.items()
    ]
    path = folder / f"brick-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))
    return f"brick=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "requirements-dev.lock").write_text(wheel(tmp_path, "1.0"))
    return tmp_path


def start(clone: Path) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "REMINDERS_"))}
    script = (
        f"import sys; from pathlib import Path; from deploy.dev import bootstrap as b\n"
        f"try: b.bootstrap(Path({str(clone)!r}))\n"
        f"except b.BootstrapError as error: sys.exit(str(error))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone)},
    )


def bootstrap(clone: Path) -> tuple[int, str]:
    process = start(clone)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def installed(clone: Path) -> str:
    script = "import importlib.metadata as m; print(m.version('brick'))"
    done = subprocess.run([clone / ".venv/bin/python", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_two_at_once_then_nothing_to_do_then_a_changed_lock_then_an_interrupted_install(clone: Path) -> None:
    both = [start(clone), start(clone)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Installing 1 packages" in output for output in outputs) == 1
    assert installed(clone) == "1.0"

    assert bootstrap(clone) == (0, "")

    (clone / "requirements-dev.lock").write_text(wheel(clone, "2.0"))
    assert "Installing" in bootstrap(clone)[1]
    assert installed(clone) == "2.0"

    (clone / ".venv/.installed").unlink()
    code, output = bootstrap(clone)
    assert code == 0
    assert "Creating .venv" in output


def test_a_wrong_hash_is_refused_and_the_message_says_what_to_do(clone: Path) -> None:
    (clone / "requirements-dev.lock").write_text(f"brick==1.0 --hash=sha256:{'0' * 64}\n")
    code, output = bootstrap(clone)
    assert code == 1
    assert "pip failed" in output
    assert "make lock" in output
    assert not (clone / ".venv/.installed").exists()


def test_a_missing_lock_is_named(tmp_path: Path) -> None:
    code, output = bootstrap(tmp_path)
    assert code == 1
    assert "requirements-dev.lock is missing" in output


def test_an_old_python_is_told_what_to_do() -> None:
    script = """
import sys
from deploy.dev import bootstrap
sys.version_info = (3, 9, 2, "final", 0)
try:
    bootstrap.check_python()
except bootstrap.BootstrapError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "3.11 or newer is needed" in done.stdout
    assert "is 3.9.2" in done.stdout
    assert "PYTHON=" in done.stdout


def test_lock_files_hold_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        assert text.count("--hash=sha256:") >= text.count("==") > 50
    runtime = {line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert runtime <= set((ROOT / "requirements-dev.lock").read_text().splitlines())
