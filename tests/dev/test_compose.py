"""docker-compose.yml without Docker: its environments, commands and health checks are parsed and used.

The broker runs from the jars of `make run` with the settings that the image would make of its environment; topics and
worker run as their commands say; a mail server of the tests answers in place of the image of another. Names of
services become the loopback, and ports free ones.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.dev import broker as dev
from deploy.dev.broker import Broker
from deploy.dev.process import LOOPBACK, free_ports
from tests.sandbox.smtp_server import SmtpServer

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
LIMIT_S = 120.0
_WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|[^,\s][^,]*')


def parsed(text: str) -> Any:
    """Return what a file of the YAML that we write says: maps, lists, anchors, merges, literal blocks, flow."""
    lines = [(len(raw) - len(raw.lstrip()), raw.strip(), raw) for raw in text.splitlines()]
    lines = [line for line in lines if line[1] and not line[1].startswith("#")]
    anchors: dict[str, Any] = {}

    def scalar(word: str) -> Any:
        word = word.strip()
        if word.startswith("[") and word.endswith("]"):
            return [scalar(part) for part in _WORDS.findall(word[1:-1])]
        if word.startswith("{") and word.endswith("}"):
            return {k.strip(): scalar(v) for k, _, v in (part.partition(":") for part in _WORDS.findall(word[1:-1]))}
        return word[1:-1].replace('\\"', '"') if word[:1] == word[-1:] == '"' else word

    def block(at: int, depth: int) -> tuple[Any, int]:
        found: Any = [] if lines[at][1].startswith("- ") else {}
        while at < len(lines) and lines[at][0] == depth:
            if isinstance(found, list):
                found.append(scalar(lines[at][1][2:]))
                at += 1
                continue
            key, _, rest = lines[at][1].partition(":")
            rest, at, anchor = rest.strip(), at + 1, ""
            if rest.startswith("&"):
                anchor, rest = rest[1:], ""
            inner = lines[at][0] if at < len(lines) else 0
            value: Any
            if key == "<<":
                found = anchors[rest.removeprefix("*")] | found
                continue
            if rest == "|":
                begin = at
                while at < len(lines) and lines[at][0] > depth:
                    at += 1
                value = "\n".join(raw for _, _, raw in lines[begin:at])
            elif rest or inner <= depth:
                value = scalar(rest)
            else:
                value, at = block(at, inner)
            found[key] = value
            if anchor:
                anchors[anchor] = value
        return found, at

    return block(0, 0)[0]


class Stack:
    """What the file describes, as it runs here."""

    def __init__(self, home: Path, smtp_port: int) -> None:
        self.services: dict[str, Any] = parsed(COMPOSE)["services"]
        ports = free_ports(5)
        self.kafka_port, self.internal_port, self.controller_port, self.web_port, self.delivery_port = ports
        self.home = home
        #: What stands for a place in a container.
        self.places = {
            "kafka:19092": f"{LOOPBACK}:{self.internal_port}",
            "kafka:9093": f"{LOOPBACK}:{self.controller_port}",
            "INTERNAL://:19092": f"INTERNAL://{LOOPBACK}:{self.internal_port}",
            "CONTROLLER://:9093": f"CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "HOST://:9092": f"HOST://{LOOPBACK}:{self.kafka_port}",
            "localhost:9092": f"{LOOPBACK}:{self.kafka_port}",
            "/var/lib/kafka/data": str(home / "kafka"),
            "/data": str(home / "worker"),
            "0.0.0.0": LOOPBACK,
            "127.0.0.1:6066": f"{LOOPBACK}:{self.web_port}",
        }
        self.names = {"mail": LOOPBACK, "1025": str(smtp_port), "6066": str(self.web_port)}

    def here(self, value: str) -> str:
        """Return a value with its variables filled in, by their defaults, and its places on this machine."""
        given = {"WEB_TOKEN": "a-token-of-tests-only"}
        value = re.sub(
            r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda found: given.get(found[1]) or found[2].removeprefix("-"), value
        )
        for place, ours in self.places.items():
            value = value.replace(place, ours)
        return self.names.get(value, value)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service."""
        return {name: self.here(value) for name, value in self.services[service]["environment"].items()}

    def properties(self) -> dict[str, str]:
        """Return what the broker's image makes of its environment."""
        env = self.environment("kafka")
        heap = env.pop("KAFKA_HEAP_OPTS")
        assert heap.startswith("-Xmx")
        return {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in env.items()}

    def app(self, service: str) -> tuple[list[str], dict[str, str]]:
        """Return a command of ours and its environment."""
        entry = re.search(r'ENTRYPOINT \["python", (.*)\]', self.services[service]["build"]["dockerfile_inline"])
        assert entry is not None
        words = [word.strip(' "') for word in entry[1].split(",")]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env = kept | self.environment(service) | {"DELIVERY_WEB_PORT": str(self.delivery_port)}
        return [sys.executable, *words, *self.services[service]["command"]], env

    def health(self, service: str) -> list[str]:
        """Return the command that checks a service's health, less its word CMD."""
        cmd, *words = self.services[service]["healthcheck"]["test"]
        assert cmd == "CMD"
        return [self.here(word) for word in words]


def test_the_file_says_what_it_is_read_as() -> None:
    services = parsed(COMPOSE)["services"]
    assert set(services) == {"kafka", "mail", "registry", "prometheus", "topics", "worker"}
    assert services["worker"]["environment"] == services["topics"]["environment"]
    assert services["worker"]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    assert services["kafka"]["healthcheck"]["test"][-1] == "kafka:19092"
    copied = re.findall(r"COPY (\w+) ./\w+", services["worker"]["build"]["dockerfile_inline"])
    assert set(copied) == {"app", "agents", "tables", "channels", "schemas"}
    mounts = [volume.split(":")[0] for volume in services["prometheus"]["volumes"]]
    assert all((ROOT / mount).is_dir() for mount in mounts)


def test_what_it_scrapes_and_alerts_of_is_there() -> None:
    folder = ROOT / "deploy" / "prometheus"
    scraped = (folder / "prometheus.yml").read_text("utf-8")
    port = parsed(COMPOSE)["services"]["worker"]["environment"]["WEB_PORT"]
    assert f'targets: ["worker:{port}"]' in scraped
    assert "- alerts.yml" in scraped
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    table = page[page.index("## Alerts") : page.index("The thresholds are starting points")]
    # Those without an expression are about what others measure.
    wanted = {expr for expr in re.findall(r"^\| [\w ]+ \| `([^`]+)`", table, re.MULTILINE) if "(" in expr}
    assert set(re.findall(r"expr: '(.+)'$", (folder / "alerts.yml").read_text("utf-8"), re.MULTILINE)) == wanted


@pytest.mark.kafka
async def test_what_runs_without_docker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker by its settings, healthy by its check; topics; a worker that is ready by its check and mails."""
    async with SmtpServer() as server:
        stack = Stack(tmp_path, server.port)
        monkeypatch.setattr(dev, "settings", lambda ports, log_dir, secure: stack.properties())
        with Broker.start(tmp_path / "broker", stack.kafka_port, heap="384m") as broker:
            script, *words = stack.health("kafka")
            assert script == "/opt/kafka/bin/kafka-broker-api-versions.sh"
            checked = [*broker._java("128m"), "org.apache.kafka.tools.BrokerApiVersionsCommand", *words]
            await asyncio.to_thread(_done, checked, broker._env())
            command, env = stack.app("topics")
            assert "created" in await asyncio.to_thread(_done, command, env)
            command, env = stack.app("worker")
            worker = _started(command, env, tmp_path / "worker.log")
            try:
                python, *words = stack.health("worker")
                assert python == "python"
                await asyncio.to_thread(_healthy, [sys.executable, *words], worker)
                words = ["remind", "compose/1", "It runs.", "--email", "anna@people.example", "--in", "1s"]
                sent = [sys.executable, "-m", "app", *words]
                await asyncio.to_thread(_done, sent, env)
                await server.until(lambda: len(server.mails) == 1, LIMIT_S)
                worker.terminate()
                grace = float(stack.services["worker"]["stop_grace_period"].removesuffix("s"))
                assert await asyncio.to_thread(worker.wait, grace) == 0
            finally:
                worker.kill()
                worker.wait()


def _started(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)


def _done(command: list[str], env: dict[str, str]) -> str:
    """Run a command to its good end; return what it said."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _healthy(check: list[str], worker: subprocess.Popen[bytes]) -> None:
    """Repeat a check until it is content."""
    until = time.monotonic() + LIMIT_S
    while subprocess.run(check, capture_output=True, check=False).returncode:
        assert worker.poll() is None, "the worker has ended"
        assert time.monotonic() < until, "it does not get well"
        time.sleep(0.5)
