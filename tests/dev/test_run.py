"""make run and make stop, with a real broker and mail server and a stand-in for the application."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.dev.process import ProcessId, Records, free_ports, kafka_answers

ROOT = Path(__file__).resolve().parents[2]
FAKE_APP = f"{sys.executable} -m tests.dev.fake_app"


class Running:
    """A make run as a process of its own; its output is collected as it comes."""

    def __init__(self, environ: dict[str, str], *arguments: str, app: str = FAKE_APP) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.dev.run", "--app", app, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line

    def wait_for(self, text: str, timeout: float = 180) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} never came:\n{self.output}"
            assert self.process.poll() is None or text in self.output, f"ended before {text!r}:\n{self.output}"
            time.sleep(0.05)

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(120)
        self._reader.join(10)
        return code


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kafka, sink, web = free_ports(3)
    base = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP"}
    ours = {"KAFKA_PORT": kafka, "SMTP_SINK_PORT": sink, "WEB_PORT": web}
    return base | {name: str(port) for name, port in ours.items()} | {"REMINDERS_HOME": str(tmp_path / "home")}


@pytest.fixture
def home(environ: dict[str, str]) -> Path:
    return Path(environ["REMINDERS_HOME"])


@pytest.fixture(autouse=True)
def nothing_left(environ: dict[str, str], home: Path) -> Iterator[None]:
    yield
    left = Records(home / "run").alive()
    for process in left.values():
        process.signal(signal.SIGKILL)
    assert left == {}


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def stop(environ: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.dev.stop"], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.kafka
def test_from_nothing_to_a_mail_and_back_in_order_and_again(environ: dict[str, str], home: Path) -> None:
    run = Running(environ, "--workers", "2")
    run.wait_for("Ctrl-C ends everything")
    for text in (
        "SCHEDULED",
        "to:      anna@example.org",
        "This reminder went through Kafka",
        "Health: http://127.0.0.1",
    ):
        assert text in run.output
    data = re.findall(r"data in (\S+)", "".join(p.read_text() for p in sorted((home / "logs").glob("worker-*.log"))))
    assert data == [str(home / "worker"), str(home / "worker-2")]
    for secret in ("web.token", "seal.key"):
        assert stat.S_IMODE((home / secret).stat().st_mode) == 0o600
    assert f"export KAFKA_BOOTSTRAP=127.0.0.1:{environ['KAFKA_PORT']}\n" in (home / "env").read_text()
    assert len(list((home / "mails").glob("*.eml"))) == 1

    second = Running(environ)
    assert second.end() == 1
    assert f"already at work in {home} (process {run.process.pid})" in second.output

    broker = Records(home / "run").alive()["broker"]
    broker.signal(signal.SIGKILL)
    run.wait_for("starting it again")
    for log in sorted((home / "logs").glob("worker-*.log")):
        wait_until(lambda log=log: log.read_text().count("at work") == 2, f"{log.name}: a second start")

    assert run.end(signal.SIGINT) == 0
    order = [
        run.output.rindex(text)
        for text in ("Stopping the workers", "the mail server ...", "Stopping Kafka", "Stopped.")
    ]
    assert order == sorted(order)
    assert "ended in order" in (home / "logs" / "worker-1.log").read_text()
    token = (home / "web.token").read_text()

    again = Running(environ, "--no-sample")
    again.wait_for("Ctrl-C ends everything")
    assert "resuming with data" in again.output
    assert (home / "web.token").read_text() == token
    assert "Asking make run" in stop(environ)
    assert again.end() == 0
    assert not kafka_answers(f"127.0.0.1:{environ['KAFKA_PORT']}")


@pytest.mark.kafka
def test_a_killed_run_leaves_nothing_and_stop_makes_sure(environ: dict[str, str], home: Path) -> None:
    run = Running(environ, "--no-sample")
    run.wait_for("Ctrl-C ends everything")
    left = Records(home / "run").alive()
    assert set(left) == {"run", "broker", "sink", "supervisor-1", "worker-1"}
    run.end(signal.SIGKILL)
    assert "Stopped." in stop(environ)
    assert not any(process.alive for process in left.values())
    assert stop(environ) == "Nothing is running here.\n"


def test_stop_leaves_a_process_alone_that_only_has_the_same_id(environ: dict[str, str], home: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            records = Records(home / "run")
            records.add("broker", stranger.pid)
            path = home / "run" / "broker.pid"
            path.write_text(path.read_text().replace('"started": "', '"started": "another boot, '))
            (home / "run" / "sink.pid").write_text("no record")
            assert stop(environ) == "Nothing is running here.\n"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_stop_ends_a_recorded_process_even_a_frozen_one(environ: dict[str, str], home: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as left:
        Records(home / "run").add("worker-1", left.pid)
        left.send_signal(signal.SIGSTOP)
        assert f"Ending worker-1 (process {left.pid})" in stop(environ)
        assert left.wait(5) == -signal.SIGTERM


def test_a_process_id_that_ended_is_not_alive() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = ProcessId.of(child.pid)
        assert identity
        assert identity.alive
        assert not identity.wait(0.1)
        child.kill()
        assert identity.wait(5)
        assert not identity.signal(signal.SIGTERM)
    assert ProcessId.of(child.pid) is None


@pytest.mark.parametrize("variable", ["KAFKA_PORT", "SMTP_SINK_PORT", "WEB_PORT"])
def test_a_busy_port_is_named_with_the_variable_that_moves_it(variable: str, environ: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environ[variable])))
        taken.listen()
        run = Running(environ)
        assert run.end() == 1
    assert f"port {environ[variable]} (" in run.output
    assert f"{variable}=" in run.output


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("KAFKA_PORT", "http", "KAFKA_PORT='http' is no port"),
        ("WEB_PORT", "99999", "WEB_PORT='99999' is no port"),
        ("KAFKA_BOOTSTRAP", "127.0.0.1:9", "no broker answers at KAFKA_BOOTSTRAP=127.0.0.1:9"),
    ],
)
def test_what_cannot_work_says_so(variable: str, value: str, says: str, environ: dict[str, str]) -> None:
    run = Running(environ | {variable: value})
    assert run.end() == 1
    assert says in run.output


def test_more_workers_than_fit_are_refused(environ: dict[str, str]) -> None:
    run = Running(environ, "--workers", "99")
    assert run.end() == 1
    assert "WORKERS=99" in run.output
