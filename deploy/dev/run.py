"""make run: broker, topics, mail server, workers and a first reminder, in one terminal; Ctrl-C ends all in order.

What it starts dies with it and is recorded under REMINDERS_HOME/run for make stop; its data stays for the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.dev.bootstrap import ROOT
from deploy.dev.broker import Broker, BrokerError, ensure_broker_files
from deploy.dev.process import LOOPBACK, Kept, PortBusyError, Records, kafka_answers, require_free, spawn
from deploy.dev.stop import stop_leftovers
from deploy.dev.supervisor import tail

READY_TIMEOUT_S = 180.0
CLUSTER_TIMEOUT_S = 5.0
SAMPLE_TIMEOUT_S = 90.0
#: The supervisor gives its worker a minute; a little more, so that it can say what became of it.
WORKER_STOP_S = 65.0
#: A worker takes two ports: its own and the next one, for the delivery half of --role all.
PORTS_APART = 10

_printing = threading.Lock()


class RunError(Exception):
    """Something the person at the keyboard has to mend; the message says how."""


def say(text: str, mark: str = "▸") -> None:
    """One message to the terminal, never torn by another thread's."""
    # A terminal that was closed must not keep us from ending things in order.
    with _printing, contextlib.suppress(OSError):
        print(f"{mark} {text}" if mark else text, flush=True)


@dataclass(frozen=True)
class Plan:
    """What to start, from the command line and the environment."""

    home: Path
    workers: int
    cluster: str | None
    kafka_port: int
    web_port: int
    sink_port: int
    app: tuple[str, ...]

    @classmethod
    def read(cls, workers: int, app: Sequence[str], environ: Mapping[str, str]) -> Plan:
        """RunError names the variable that cannot be read."""
        if not 1 <= workers <= 8:
            raise RunError(f"WORKERS={workers}: between 1 and 8 fit on one machine")

        def port(name: str, default: int) -> int:
            text = environ.get(name) or str(default)
            if not text.isdecimal() or not 0 < int(text) < 65536:
                raise RunError(f"{name}={text!r} is no port: give a number between 1 and 65535")
            return int(text)

        return cls(
            home=Path(environ.get("REMINDERS_HOME") or ROOT / ".data").expanduser().resolve(),
            workers=workers,
            cluster=environ.get("KAFKA_BOOTSTRAP") or None,
            kafka_port=port("KAFKA_PORT", 9092),
            web_port=port("WEB_PORT", 6066),
            sink_port=port("SMTP_SINK_PORT", 1025),
            app=tuple(app),
        )

    @property
    def bootstrap(self) -> str:
        """The brokers that the workers are told."""
        return self.cluster or f"{LOOPBACK}:{self.kafka_port}"

    def worker_port(self, number: int) -> int:
        """The web port of a worker, counted from 1."""
        return self.web_port + PORTS_APART * (number - 1)

    def worker_data(self, number: int) -> Path:
        """The data folder of a worker; tables of one cluster are never read against another's."""
        name = "worker" if number == 1 else f"worker-{number}"
        if self.cluster is None:
            return self.home / name
        return self.home / f"cluster-{re.sub(r'[^A-Za-z0-9.-]+', '_', self.cluster)[:80]}" / name

    def settings(self, number: int) -> dict[str, str]:
        """What worker and command line are told by environment."""
        return {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "REMINDERS_DATA_DIR": str(self.worker_data(number)),
            "WEB_BIND": LOOPBACK,
            "WEB_PORT": str(self.worker_port(number)),
            "WEB_TOKEN_FILE": str(self.home / "web.token"),
            "SEAL_KEY_FILE": str(self.home / "seal.key"),
            "SMTP_HOST": LOOPBACK,
            "SMTP_PORT": str(self.sink_port),
            "SMTP_TLS": "none",
            "SMTP_FROM": "reminders@example.org",
            # Time zones come from the locked tzdata; the system's may be years old.
            "PYTHONTZPATH": "",
        }

    def environment(self, number: int) -> dict[str, str]:
        """The shell's environment with our settings; SMTP_* and WEB_TOKEN of the shell are meant for another server."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SMTP_") and k != "WEB_TOKEN"}
        return kept | self.settings(number) | {"PYTHONUNBUFFERED": "1"}

    def check_ports(self) -> None:
        """PortBusyError for the first port that is taken."""
        if self.cluster is None:
            require_free(self.kafka_port, "Kafka", "KAFKA_PORT")
        require_free(self.sink_port, "mail server", "SMTP_SINK_PORT")
        for number in range(1, self.workers + 1):
            for port in (self.worker_port(number), self.worker_port(number) + 1):
                require_free(port, f"web views of worker {number}", "WEB_PORT")


class Run:
    """Everything that one make run started; close() ends it, the last started first."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.records = Records(plan.home / "run")
        self.broker: Broker | None = None
        self.sink: Kept | None = None
        self.supervisors: dict[str, Kept] = {}

    def start(self) -> None:
        """From nothing to workers that are ready; RunError, BrokerError or PortBusyError say what to do."""
        stop_leftovers(self.records, say)
        self.plan.check_ports()
        self._write_secrets()
        self._write_env()
        if self.plan.cluster is None:
            self._start_broker()
        else:
            self._find_cluster()
        self._make_topics()
        self._start_sink()
        for number in range(1, self.plan.workers + 1):
            self._start_worker(number)
        for number in range(1, self.plan.workers + 1):
            self._wait_until_ready(number)

    def _write_secrets(self) -> None:
        """Make what is secret once: the token of the web views, and the key that seals contents."""
        for name in ("web.token", "seal.key"):
            secret = self.plan.home / name
            if not secret.exists():
                self.plan.home.mkdir(parents=True, exist_ok=True)
                secret.touch(mode=0o600)
                secret.write_text(secrets.token_urlsafe(32) + "\n")

    def _write_env(self) -> None:
        """For the other terminal: what the command line needs to reach this very installation."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.plan.settings(1).items()]
        (self.plan.home / "env").write_text("".join(lines))

    def _start_broker(self) -> None:
        files = ensure_broker_files(say)
        data = self.plan.home / "kafka"
        state = "resuming with" if (data / "log" / "meta.properties").exists() else "new"
        say(f"Starting Kafka on {self.plan.bootstrap}, {state} data in {shown(data)} ...")
        self.broker = Broker.start(data, self.plan.kafka_port, files=files, progress=say)
        self.records.add("broker", self.broker.pid)

    def _find_cluster(self) -> None:
        say(f"Using the cluster at {self.plan.bootstrap}")
        plain = (os.environ.get("KAFKA_SECURITY") or "PLAINTEXT").upper() in ("PLAINTEXT", "SASL_PLAINTEXT")
        deadline = time.monotonic() + CLUSTER_TIMEOUT_S
        while not kafka_answers(self.plan.bootstrap, plain=plain):
            if time.monotonic() > deadline:
                raise RunError(
                    f"no broker answers at KAFKA_BOOTSTRAP={self.plan.bootstrap}: start it or correct the address;"
                    " unset the variable to get a broker of our own"
                )
            time.sleep(0.5)

    def _make_topics(self) -> None:
        say("Creating the topics that are missing ...")
        done = subprocess.run(
            [*self.plan.app, "topics"],
            cwd=ROOT,
            env=self.plan.environment(1),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RunError(f"the topics could not be made:\n{(done.stdout + done.stderr).strip()}")

    def _start_sink(self) -> None:
        mails = self.plan.home / "mails"
        command = [sys.executable, "-m", "tests.sandbox.smtp_sink"]
        command += ["--port", str(self.plan.sink_port), "--folder", str(mails)]
        self.sink = spawn(command, cwd=ROOT, env=self.plan.environment(1), output=subprocess.PIPE)
        self.records.add("sink", self.sink.pid)
        relay(self.sink, "  ")
        say(f"Mail server on {LOOPBACK}:{self.plan.sink_port}; it shows each mail here and keeps it in {shown(mails)}")

    def _start_worker(self, number: int) -> None:
        name = f"worker-{number}"
        command = [sys.executable, "-m", "deploy.dev.supervisor", "--name", name, "--log", str(self._log(number))]
        command += ["--records", str(self.records.folder), "--", *self.plan.app, "worker", "--role", "all"]
        supervisor = spawn(command, cwd=ROOT, env=self.plan.environment(number), output=subprocess.PIPE)
        self.supervisors[name] = supervisor
        self.records.add(f"supervisor-{number}", supervisor.pid)
        relay(supervisor, "▸ ")

    def _log(self, number: int) -> Path:
        return self.plan.home / "logs" / f"worker-{number}.log"

    def _wait_until_ready(self, number: int) -> None:
        url = f"http://{LOOPBACK}:{self.plan.worker_port(number)}/ready"
        began = said = time.monotonic()
        while (answer := fetch(url)) != "200":
            now = time.monotonic()
            if self.supervisors[f"worker-{number}"].poll() is not None:
                raise RunError(f"worker-{number} did not stay up; its log: {shown(self._log(number))}")
            if now - began > READY_TIMEOUT_S:
                end = "\n".join(tail(self._log(number)))
                raise RunError(f"worker-{number} is not ready after {READY_TIMEOUT_S:.0f} s ({url}: {answer}):\n{end}")
            if now - said > 5:
                said = now
                say(f"Waiting for worker-{number} to be ready ({url}: {answer}) ...")
            time.sleep(0.2)
        say(f"worker-{number} is ready; its log: {shown(self._log(number))}")

    def sample(self) -> None:
        """Send a reminder due in five seconds and show its trail as it grows; a failure is told and ends nothing."""
        name = f"hello-{time.strftime('%Y%m%d-%H%M%S')}"
        say(f"A first reminder, {name}, due in five seconds:")
        command = [*self.plan.app, "remind", name, "--email", "anna@example.org", "--in", "5s", "--watch"]
        command += ["Hello! This reminder went through Kafka and came back as a mail."]
        process = spawn(command, cwd=ROOT, env=self.plan.environment(1), output=subprocess.PIPE)
        relay(process, "  ")
        try:
            code = process.wait(SAMPLE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            say(f"{name} has not ended after {SAMPLE_TIMEOUT_S:.0f} s; look into {shown(self._log(1))}", "!")
            return
        if code:
            say(f"The first reminder failed (exit code {code}); look into {shown(self._log(1))}", "!")

    def tell(self) -> None:
        """Where the views are, and what to try."""
        python = shlex.join(self.plan.app)
        here = f"http://{LOOPBACK}:{self.plan.web_port}"
        token = (self.plan.home / "web.token").read_text().strip()
        text = f"""
Up. Console: {here}/console   (token: {token}, from {shown(self.plan.home / "web.token")})
Health: {here}/health
Try next, in another terminal:

  . {shown(self.plan.home / "env")}
  {python} remind tea --email you@example.org --in 30s "The tea is ready" --watch
  {python} trail tea
  {python} doctor

Ctrl-C ends everything; the data stays in {shown(self.plan.home)}.
"""
        say(text, "")

    def stay(self) -> None:
        """Until interrupted: a broker that died is started again; RunError if a worker or the mail server is gone."""
        while True:
            time.sleep(0.5)
            for name, supervisor in self.supervisors.items():
                if supervisor.poll() is not None:
                    raise RunError(
                        f"{name} is gone for good; see above, and the logs in {shown(self.plan.home / 'logs')}"
                    )
            if self.sink is not None and self.sink.poll() is not None:
                raise RunError("the mail server has ended; see above")
            if self.broker is not None and not self.broker.running:
                say(f"Kafka has ended; starting it again (its log: {shown(self.broker.log_path)}) ...", "!")
                self.broker.restart()
                self.records.add("broker", self.broker.pid)

    def close(self) -> None:
        """Workers, mail server, broker, in this order; a second Ctrl-C kills what is left."""
        try:
            if self.supervisors:
                say("Stopping the workers (up to a minute; Ctrl-C again to kill) ...")
            for supervisor in self.supervisors.values():
                supervisor.signal(signal.SIGTERM)
            for name, supervisor in self.supervisors.items():
                supervisor.stop(WORKER_STOP_S)
                self.records.forget(name.replace("worker", "supervisor"))
                self.records.forget(name)
            if self.sink is not None:
                say("Stopping the mail server ...")
                self.sink.stop(5)
                self.records.forget("sink")
            if self.broker is not None:
                say("Stopping Kafka ...")
                self.broker.stop()
                self.records.forget("broker")
            say("Stopped.")
        except KeyboardInterrupt:
            say("Killing what is left; nothing accepted is lost.")
            for process in [*self.supervisors.values(), self.sink, self.broker]:
                if process is not None:
                    process.kill()
            stop_leftovers(self.records, say)


def shown(path: Path) -> str:
    """A path as short as it can be typed from the clone's root."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def relay(process: Kept, mark: str) -> None:
    """Print a child's lines as they come, each marked."""

    def copy() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            say(mark + line.decode(errors="replace").rstrip("\n"), "")

    threading.Thread(target=copy, daemon=True).start()


def fetch(url: str) -> str:
    """The status of a view, or why there is none; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(200).decode(errors='replace').strip()}"
    except OSError as error:
        return str(error)


@contextlib.contextmanager
def only_one(plan: Plan, records: Records) -> Iterator[None]:
    """Hold this data folder; RunError if another make run does."""
    records.folder.mkdir(parents=True, exist_ok=True)
    with (records.folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = records.alive().get("run")
            who = f" (process {other.pid})" if other else ""
            raise RunError(
                f"make run is already at work in {shown(plan.home)}{who}: make stop ends it; for a second installation"
                " beside it name another folder and other ports: REMINDERS_HOME, KAFKA_PORT, WEB_PORT, SMTP_SINK_PORT"
            ) from None
        records.add("run", os.getpid())
        try:
            yield
        finally:
            records.forget("run")


def interrupt(*_: object) -> None:
    """SIGTERM and SIGHUP end a run as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Command line: --workers N; everything else comes from the environment (make help)."""
    parser = argparse.ArgumentParser(prog="run", description="Run the whole service on this machine.")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--app", default=".venv/bin/python -m app", help=argparse.SUPPRESS)
    parser.add_argument("--no-sample", action="store_true", help="send no first reminder")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        plan = Plan.read(options.workers, shlex.split(options.app), os.environ)
        run = Run(plan)
        with only_one(plan, run.records):
            try:
                run.start()
                if not options.no_sample:
                    run.sample()
                run.tell()
                run.stay()
            finally:
                run.close()
    except KeyboardInterrupt:
        return 0
    except (RunError, BrokerError, PortBusyError) as error:
        say(str(error), "✗")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
