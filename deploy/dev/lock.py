"""Write requirements.lock, requirements-dev.lock and broker.lock from what pyproject.toml and broker.py ask for."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

from deploy.dev.bootstrap import ROOT, cache_dir
from deploy.dev.broker import write_lock

UV = "uv==0.13.9"


def uv() -> Path:
    """The resolver, in an environment of its own inside the cache."""
    folder = cache_dir() / "uv"
    tool = folder / "bin" / "uv"
    if not tool.exists():
        print(f"Fetching {UV} ...", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", UV], check=True)
    return tool


def compile_lock(name: str, *options: str) -> None:
    """Resolve for every platform and Python >= 3.11, with hashes and without any address."""
    command = [str(uv()), "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--quiet"]
    command += ["--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "-o", name, *options]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    text = (ROOT / name).read_text()
    if re.search(r"://|--index|--find-links|--extra-index", text):
        sys.exit(f"lock: {name} holds an address; look at pip's and uv's settings")
    print(f"{name}: {text.count('==')} packages")


def main() -> int:
    """Command line: options for uv, such as -U; without them, versions that still fit stay."""
    options = sys.argv[1:]
    compile_lock("requirements.lock", *options)
    compile_lock("requirements-dev.lock", "--extra", "dev", "-c", "requirements.lock", *options)
    write_lock()
    print("Now: make setup")
    return 0


if __name__ == "__main__":
    sys.exit(main())
