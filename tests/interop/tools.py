"""Programs of others: taken from the path or the cache, else fetched by the client of their registry, else skipped."""

import contextlib
import os
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.bootstrap import cache_dir
from deploy.dev.broker import find_java

FETCH_S = 1800
START_S = 120.0
#: Of each program: its names on the path, its Go module, and the name under which Go installs it.
GO = {
    "mailpit": (("mailpit",), "github.com/axllent/mailpit@v1.33.1", "mailpit"),
    "toxiproxy": (("toxiproxy-server",), "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0", "server"),
}
APICURIO = "io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all"


def _cache() -> Path:
    folder = cache_dir() / "interop"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetched(what: str, *command: str, cwd: Path | None = None, **env: str) -> None:
    """Run a client that fetches something; skip with the last thing it said where it cannot."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{what} is not here, and neither is {command[0]} to fetch it")
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=FETCH_S, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        pytest.skip(f"{what} cannot be had here: {said[-1] if said else f'{command[0]} exits with {done.returncode}'}")


def program(what: str) -> Path:
    """Return the path of a program, fetched if need be; skip where it is not to be had."""
    names, module, installed = GO[what]
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    folder = _cache() / what
    if not (folder / installed).exists():
        _fetched(what, "go", "install", module, GOBIN=str(folder))
    return folder / installed


def promtool() -> Path:
    """Return the path of promtool, out of Debian's package if need be: Go refuses its module's `replace`s."""
    if found := shutil.which("promtool"):
        return Path(found)
    folder = _cache() / "promtool"
    found_here = folder / "usr" / "bin" / "promtool"
    if not found_here.exists():
        folder.mkdir(exist_ok=True)
        _fetched("promtool", "apt-get", "download", "prometheus", cwd=folder)
        package = next(iter(folder.glob("prometheus_*.deb")))
        _fetched("promtool", "dpkg", "-x", str(package), str(folder))
    return found_here


def apicurio() -> list[str]:
    """Return the command that starts a registry, less its options; skip where it is not to be had."""
    folder = _cache() / "apicurio"
    if not list(folder.glob("*-runner.jar")):
        archive = _cache() / "apicurio.tar.gz"
        if not archive.exists():
            _fetched("Apicurio", "mvn", "-q", "dependency:get", f"-Dartifact={APICURIO}", "-Dtransitive=false")
            parts = [f"-Dartifact={APICURIO}", f"-DoutputDirectory={_cache()}", "-Dmdep.stripVersion=true"]
            _fetched("Apicurio", "mvn", "-q", "dependency:copy", *parts)
            next(iter(_cache().glob("apicurio*.tar.gz"))).rename(archive)
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    (runner,) = folder.glob("*-runner.jar")
    return [str(find_java()), "-Xmx512m", "-cp", f"{runner}{os.pathsep}{folder}/lib/*"]


@contextlib.contextmanager
def running(command: list[str], log: Path, answers: str, **env: str) -> Iterator[None]:
    """Run a program for a block, once a URL of it answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **env})
    try:
        until = time.monotonic() + START_S
        while not _answers(answers):
            said = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"{command[0]} has ended: {said}"
            assert time.monotonic() < until, f"{answers} does not answer: {said}"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False
