"""What the broker is started from: pinned jars and a Java that is new enough."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.broker import BrokerError, Jar, ensure_broker_files, find_java, java_version, read_lock

GOOD = b"the jar that was pinned"
NAME = "org.example:thing:1.0"


@pytest.fixture
def served() -> dict[str, bytes]:
    return {}


@pytest.fixture
def mirror(served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("REMINDERS_MAVEN_REPO", f"http://127.0.0.1:{server.server_port}/")
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "broker.lock"
    path.write_text(f"# a comment\n{NAME} sha256:{hashlib.sha256(GOOD).hexdigest()}\n")
    return path


@pytest.mark.usefixtures("mirror")
def test_a_jar_is_fetched_once_and_verified(served: dict[str, bytes], lock: Path, tmp_path: Path) -> None:
    served["/org/example/thing/1.0/thing-1.0.jar"] = GOOD
    said: list[str] = []
    files = ensure_broker_files(said.append, lock=lock, cache=tmp_path)
    assert Path(files.classpath).read_bytes() == GOOD
    assert said[-1] == "  1/1 jars"
    served.clear()
    assert ensure_broker_files(said.append, lock=lock, cache=tmp_path) == files


@pytest.mark.usefixtures("mirror")
def test_a_wrong_checksum_is_refused_and_the_file_removed(served: dict[str, bytes], lock: Path, tmp_path: Path) -> None:
    served["/org/example/thing/1.0/thing-1.0.jar"] = b"something else"
    with pytest.raises(BrokerError, match=r"thing-1\.0\.jar does not have the checksum"):
        ensure_broker_files(lambda _: None, lock=lock, cache=tmp_path)
    assert not (tmp_path / "maven/org/example/thing/1.0/thing-1.0.jar").exists()


@pytest.mark.usefixtures("mirror")
def test_a_file_cut_short_by_an_interrupted_fetch_is_fetched_anew(
    served: dict[str, bytes], lock: Path, tmp_path: Path
) -> None:
    served["/org/example/thing/1.0/thing-1.0.jar"] = GOOD
    jar = tmp_path / "maven/org/example/thing/1.0/thing-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(GOOD[:5])
    ensure_broker_files(lambda _: None, lock=lock, cache=tmp_path)
    assert jar.read_bytes() == GOOD


@pytest.mark.usefixtures("mirror")
def test_a_jar_that_cannot_be_had_names_the_ways_out(lock: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"(?s)REMINDERS_MAVEN_REPO.*KAFKA_BOOTSTRAP"):
        ensure_broker_files(lambda _: None, lock=lock, cache=tmp_path)


def test_a_damaged_lock_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "broker.lock"
    damaged.write_text("org.example:thing:1.0\n")
    with pytest.raises(BrokerError, match="line 1"):
        read_lock(damaged)


def test_the_lock_pins_every_jar_and_names_no_address() -> None:
    jars = read_lock()
    assert Jar("org.apache.kafka", "kafka_2.13", "4.1.1", jars[0].sha256).path in [jar.path for jar in jars]
    assert len({jar.path for jar in jars}) == len(jars) > 50
    assert "//" not in (Path(__file__).resolve().parents[2] / "deploy/broker.lock").read_text()


def test_the_images_run_the_same_kafka() -> None:
    compose = (Path(__file__).resolve().parents[2] / "docker-compose.yml").read_text()
    (version,) = {jar.version for jar in read_lock() if jar.artifact == "kafka_2.13"}
    assert f"image: apache/kafka:{version}\n" in compose


def fake_java(folder: Path, banner: str, code: int = 0) -> Path:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho '{banner}' >&2\nexit {code}\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_412"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("nonsense", None),
    ],
)
def test_the_version_is_what_java_says(banner: str, version: int | None, tmp_path: Path) -> None:
    assert java_version(fake_java(tmp_path, banner)) == version


def test_a_java_that_does_not_start_has_no_version(tmp_path: Path) -> None:
    assert java_version(fake_java(tmp_path, 'openjdk version "21"', code=1)) is None
    assert java_version(tmp_path / "missing") is None


def test_an_old_java_on_the_path_gives_way_to_the_packaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, 'java version "1.8.0_412"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    java = find_java()
    assert java.parent != tmp_path
    assert (java_version(java) or 0) >= 17


def test_a_new_enough_java_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = fake_java(tmp_path, 'openjdk version "21.0.2" 2024-01-16')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_java() == java
