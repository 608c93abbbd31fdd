"""The development broker: it is a real one, it survives what it should, and it never outlives its owner."""

import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.dev.broker import Broker, BrokerError, BrokerFiles, ensure_broker_files
from deploy.dev.certificates import SecureFiles, make_secure_files
from deploy.dev.process import ProcessId, kafka_answers

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def files() -> BrokerFiles:
    return ensure_broker_files()


@pytest.fixture(scope="module")
def broker(files: BrokerFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker.start(tmp_path_factory.mktemp("kafka"), files=files) as running:
        yield running


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, value: bytes, **security: object) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, request_timeout_ms=5000, **security) as producer:
        await producer.send_and_wait(topic, value)


async def read_all(bootstrap: str, topic: str) -> list[bytes]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        batches = await consumer.getmany(timeout_ms=10_000)
        return [record.value for batch in batches.values() for record in batch]


async def test_what_was_written_outlives_stop_kill_and_a_change_of_port(files: BrokerFiles, tmp_path: Path) -> None:
    with Broker.start(tmp_path, files=files) as first:
        await create(first.bootstrap, "t")
        await produce(first.bootstrap, "t", b"before stop")
        first.stop()
        assert not first.running
        assert not kafka_answers(first.bootstrap)
        first.restart()
        await produce(first.bootstrap, "t", b"before kill")
        first.kill()
        assert not first.running
    with Broker.start(tmp_path, files=files) as second:
        assert await read_all(second.bootstrap, "t") == [b"before stop", b"before kill"]


def test_a_paused_broker_takes_connections_and_answers_nothing(broker: Broker) -> None:
    broker.pause()
    try:
        assert broker.running
        # A signal stops one thread after the other: the first question may still be answered.
        assert any(not kafka_answers(broker.bootstrap, 0.5) for _ in range(20))
    finally:
        broker.resume()
    assert kafka_answers(broker.bootstrap, 5)


def test_it_listens_on_the_loopback_only(broker: Broker) -> None:
    listeners = (broker.data_dir / "server.properties").read_text()
    assert "0.0.0.0" not in listeners
    assert f"listeners=PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:" in listeners


def test_an_unknown_topic_is_not_made_up(broker: Broker) -> None:
    assert "auto.create.topics.enable=false" in (broker.data_dir / "server.properties").read_text()


def test_two_at_once_and_a_taken_port_is_an_error_with_the_log(
    broker: Broker, files: BrokerFiles, tmp_path: Path
) -> None:
    with Broker.start(tmp_path / "second", files=files) as second:
        assert second.port != broker.port
        assert broker.running
    with pytest.raises(BrokerError, match="BindException"):
        Broker.start(tmp_path / "third", port=broker.port, files=files)


def test_it_dies_with_a_killed_owner_but_not_with_the_thread_that_started_it(tmp_path: Path) -> None:
    script = f"""
import sys, threading
from pathlib import Path
from deploy.dev.broker import Broker
found = []
thread = threading.Thread(target=lambda: found.append(Broker.start(Path({str(tmp_path)!r}))))
thread.start(); thread.join()
print(found[0].pid, found[0].running, flush=True)
threading.Event().wait()
"""
    owner = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    try:
        pid, running = owner.stdout.readline().split()
        assert running == "True"
        java = ProcessId.of(int(pid))
        assert java
        assert not java.wait(1)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
    assert java.wait(15)


async def test_sasl_and_mutual_tls(files: BrokerFiles, tmp_path: Path) -> None:
    secure = make_secure_files(tmp_path / "certificates")
    with Broker.start(tmp_path / "data", files=files, secure=secure) as broker:
        await create(broker.bootstrap, "t")
        for mechanism in ("SCRAM-SHA-512", "PLAIN"):
            await produce(broker.sasl_bootstrap, "t", mechanism.encode(), **sasl(secure, mechanism))
        with pytest.raises(KafkaError):
            await produce(broker.sasl_bootstrap, "t", b"no", **sasl(secure, "PLAIN", password="wrong"))
        await produce(broker.mtls_bootstrap, "t", b"mTLS", **tls(secure, certificate=True))
        with pytest.raises(KafkaError):
            await produce(broker.mtls_bootstrap, "t", b"no", **tls(secure, certificate=False))
        assert await read_all(broker.bootstrap, "t") == [b"SCRAM-SHA-512", b"PLAIN", b"mTLS"]


def tls(secure: SecureFiles, *, certificate: bool) -> dict[str, object]:
    context = ssl.create_default_context(cafile=secure.ca)
    if certificate:
        context.load_cert_chain(secure.client_cert, secure.client_key)
    return {"security_protocol": "SSL", "ssl_context": context}


def sasl(secure: SecureFiles, mechanism: str, password: str | None = None) -> dict[str, object]:
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=secure.ca),
        "sasl_mechanism": mechanism,
        "sasl_plain_username": secure.username,
        "sasl_plain_password": password or secure.password,
    }


def test_files_of_a_full_cache_need_no_network(files: BrokerFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMINDERS_MAVEN_REPO", "http://127.0.0.1:9")
    said: list[str] = []
    assert ensure_broker_files(said.append) == files
    assert said == []
