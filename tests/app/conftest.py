"""One real broker for the tests of this folder that need one, and workers as real processes."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.config import VARIABLES, Settings
from app.topics import ensure_topics
from deploy.dev.broker import Broker
from deploy.dev.certificates import make_secure_files
from deploy.dev.process import free_ports

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    secure = make_secure_files(tmp_path_factory.mktemp("certificates"))
    with Broker.start(tmp_path_factory.mktemp("kafka"), heap="384m", secure=secure) as started:
        yield started


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with none of our variables but these."""
    ours = {name for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONTZPATH": ""} | variables


def get(url: str, **headers: str) -> tuple[int, Any]:
    """GET a URL; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as exc:
        return exc.code, json.loads(exc.read())
    except OSError:
        return 0, None


def until(state: Callable[[], object], limit_s: float, what: str) -> float:
    """Return how many seconds it took until ``state()`` was true."""
    begun = time.monotonic()
    while not state():
        assert time.monotonic() - begun < limit_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - begun


@dataclass
class Worker:
    """A worker of the product as a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8")[-4000:]
        return get(f"{self.url}/ready")[0] == 200

    def partitions(self) -> list[int]:
        return list(get(f"{self.url}/health")[1]["partitions"])


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start workers; each is killed at the end if it still runs."""
    started: list[Worker] = []

    def start(role: str, **variables: str) -> Worker:
        number = len(started)
        # A pair of neighbours: the delivery worker's views are on the port after the core worker's.
        port = next(port for port in free_ports(20) if port < 65535)
        log = tmp_path / f"worker-{number}.log"
        env = environment(
            REMINDERS_DATA_DIR=str(tmp_path / f"data-{number}"),
            WEB_PORT=str(port),
            SESSION_TIMEOUT_S="6",
            FENCE_LIMIT_S="3",
            PUBLISH_TIMEOUT_S="2",
            **variables,
        )
        asyncio.run(ensure_topics(Settings.load(env)))
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "app", "worker", "--role", role], cwd=ROOT, env=env, stdout=out, stderr=out
            )
        started.append(Worker(process, f"http://127.0.0.1:{port}", log))
        return started[-1]

    yield start
    for worker in started:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
