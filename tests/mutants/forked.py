"""Runs of pytest in forked children: the libraries are imported once, our own code anew in each.

What is planted in a file is seen by the next child. Bytecode is kept by the hash of its source, so that no child runs
what was there before.
"""

import compileall
import importlib
import io
import json
import os
import py_compile
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OURS = ("agents", "app", "bench", "channels", "deploy", "schemas", "tables", "tests")
#: What tests and product import of others, the slow ones.
_LIBRARIES = (
    *("aiohttp", "aiohttp.web", "aiokafka", "aiosmtplib", "aiosmtpd.controller", "babel", "cronsim", "cryptography"),
    *("cryptography.hazmat.primitives.ciphers.aead", "dateutil.rrule", "fastavro", "faust", "holidays", "hypothesis"),
    *("hypothesis.stateful", "hypothesis.strategies", "icalendar", "jinja2", "opentelemetry.trace", "orjson"),
    *("phonenumbers", "prometheus_client", "rocksdict", "standardwebhooks", "xdist", "zoneinfo"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed: where, in which phase, and by which exceptions."""

    test: str
    phase: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run came to. ``code``: pytest's exit code, -1 where its time was over. ``took``: by test, in seconds;
    ``touched``: by test, the functions that it called, as file and first line."""

    code: int
    seconds: float
    failures: tuple[Failure, ...] = ()
    took: dict[str, float] = field(default_factory=dict)
    touched: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    output: str = ""


def warm(copy: Path) -> None:
    """Import the libraries and compile what is ours."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    for folder in OURS:
        with redirect_stdout(io.StringIO()):
            compileall.compile_dir(
                copy / folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
            )


def run(
    copy: Path,
    tests: Sequence[str],
    *,
    limit_s: float,
    order: Iterable[str] = (),
    first: bool = True,
    trace: Sequence[str] = (),
) -> Ran:
    """Run tests in a child and return what they came to. ``order``: of what was collected run these alone, in this
    order. ``first``: stop at the first failure. ``trace``: folders whose functions are noted."""
    sys.stdout.flush()
    began = time.monotonic()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _in_child(copy, writes, tests, tuple(order), first, tuple(trace))
    os.close(writes)
    said = _heard(reads, began + limit_s)
    os.close(reads)
    # Whatever the child has started ends with it.
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seconds = time.monotonic() - began
    if said is None:
        return Ran(-1, seconds)
    return Ran(
        said["code"],
        seconds,
        tuple(Failure(test, phase, tuple(by)) for test, phase, by in said["failures"]),
        said["took"],
        {test: [(file, line) for file, line in found] for test, found in said["touched"].items()},
        said["output"],
    )


def _heard(reads: int, until: float) -> dict[str, Any] | None:
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        if not select.select([reads], [], [], left)[0]:
            return None
        part = os.read(reads, 1 << 16)
        if not part:
            return json.loads(b"".join(parts)) if parts else None
        parts.append(part)
    return None


class _Watch:
    """Takes note of a run. A plugin of pytest."""

    def __init__(self, order: tuple[str, ...], traced: tuple[str, ...]) -> None:
        self._rank = {name: n for n, name in enumerate(order)}
        self._traced = traced
        self.failures: list[tuple[str, str, list[str]]] = []
        self.took: dict[str, float] = {}
        self.touched: dict[str, list[tuple[str, int]]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self._rank:
            items[:] = sorted((i for i in items if i.nodeid in self._rank), key=lambda i: self._rank[i.nodeid])

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        self.failures.append((node.nodeid, getattr(report, "when", "collect"), sorted(_kinds(call.excinfo.value))))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] = self.took.get(report.nodeid, 0.0) + report.duration

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        if not self._traced:
            return (yield)
        seen: set[Any] = set()

        def note(frame: Any, event: str, _arg: object) -> None:
            if event == "call":
                seen.add(frame.f_code)

        sys.setprofile(note)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            here = tuple(str(Path.cwd() / folder) + os.sep for folder in self._traced)
            self.touched[item.nodeid] = [
                (os.path.relpath(code.co_filename), code.co_firstlineno)
                for code in seen
                if code.co_filename.startswith(here)
            ]


def _kinds(exc: BaseException) -> set[str]:
    if isinstance(exc, BaseExceptionGroup):
        return {kind for one in exc.exceptions for kind in _kinds(one)}
    return {type(exc).__name__}


def _in_child(
    copy: Path, writes: int, tests: Sequence[str], order: tuple[str, ...], first: bool, traced: tuple[str, ...]
) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(copy)
        sys.path[:] = [str(copy), *(p for p in sys.path if p not in ("", str(Path(__file__).resolve().parents[2])))]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.path_importer_cache.clear()
        out = copy / ".output"
        kept = os.open(out, os.O_CREAT | os.O_TRUNC | os.O_RDWR)
        os.dup2(kept, 1)
        os.dup2(kept, 2)
        watch = _Watch(order, traced)
        asked = ["-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--rootdir", str(copy), "--tb=short"]
        code = int(pytest.main([*asked, *(["-x"] if first else []), *tests], plugins=[watch]))
        sys.stdout.flush()
        said = {
            "code": code,
            "failures": watch.failures,
            "took": watch.took,
            "touched": watch.touched,
            "output": out.read_text(errors="replace")[-4000:],
        }
        with os.fdopen(writes, "w") as pipe:
            json.dump(said, pipe)
    finally:
        os._exit(code)
