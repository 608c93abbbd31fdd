"""The views of real workers, and the product over a secured broker."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from click.testing import CliRunner

from agents.publisher import partition_of
from app.cli.root import main
from app.config import VARIABLES, Settings
from app.topics import ensure_topics
from deploy.dev.broker import Broker
from deploy.dev.process import free_ports
from tests.app.conftest import Worker, get, until

Start = Callable[..., Worker]
AUTH = {"Authorization": "Bearer a-token-for-tests"}


def cli(*args: str, **env: str) -> tuple[int, str]:
    unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
    result = CliRunner().invoke(main, args, env={**unset, **env})
    return result.exit_code, result.output


@pytest.mark.timeout(400)
def test_any_worker_answers_for_all(broker: Broker, start_worker: Start) -> None:
    env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REMINDERS_NAMESPACE": "views", "WEB_TOKEN": "a-token-for-tests"}
    one = start_worker("core", **env)
    two = start_worker("core", **env)

    def settled() -> bool:
        return one.ready() and two.ready() and len(one.partitions()) == len(two.partitions()) == 4

    until(settled, 180, "both workers have half of the partitions")
    ids = {}
    for worker in (one, two):
        partitions = worker.partitions()
        ids[worker.url] = next(
            f"clinic/{n}" for n in range(1000) if partition_of(f"clinic/{n}".encode(), 8) in partitions
        )
    for reminder_id in ids.values():
        code, said = cli("remind", reminder_id, "canary text", "--email", "canary@example.org", "--in", "1h", **env)
        assert code == 0, said
    for worker in (one, two):
        for reminder_id in ids.values():
            url = f"{worker.url}/reminders/{reminder_id}"
            until(lambda url=url: get(url, **AUTH)[0] == 200, 60, f"{url} answers")  # type: ignore[misc]
            shown = get(url, **AUTH)[1]
            assert (shown["reminder"], shown["state"]) == (reminder_id, "SCHEDULED")
            assert "canary" not in str(shown)
            assert get(url)[0] == 401
            assert get(url, Authorization="Bearer wrong")[0] == 401
        assert get(f"{worker.url}/reminders/clinic/unknown", **AUTH)[0] == 404
        assert get(f"{worker.url}/live") == (200, {"status": "ok"})
    code, said = cli("trail", ids[two.url], "--json", WEB_PORT=one.url.rpartition(":")[2], **env)
    assert code == 0, said
    assert '"state": "SCHEDULED"' in said
    for worker in (one, two):
        code, said = cli("list", "--state", "SCHEDULED", "--json", WEB_PORT=worker.url.rpartition(":")[2], **env)
        assert code == 0, said
        assert sorted(json.loads(line)["reminder"] for line in said.splitlines()) == sorted(ids.values())
        assert "canary" not in said

    broker.pause()
    try:
        took = until(lambda: get(f"{one.url}/ready")[0] == 503, 12, "/ready says that the broker is gone")
        assert took < 10
        assert get(f"{one.url}/live")[0] == 200
    finally:
        broker.resume()


@pytest.mark.timeout(400)
def test_a_life_over_sasl_ssl_and_over_mutual_tls(broker: Broker, start_worker: Start, tmp_path: Path) -> None:
    secure = broker.secure
    assert secure is not None
    (tmp_path / "password").write_text(f"{secure.password}\n")
    sasl = {
        "KAFKA_BOOTSTRAP": broker.sasl_bootstrap,
        "KAFKA_SECURITY": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_USERNAME": secure.username,
        "KAFKA_PASSWORD_FILE": str(tmp_path / "password"),
        "KAFKA_CA_FILE": str(secure.ca),
        "REMINDERS_NAMESPACE": "secure",
        "REMINDERS_PARTITIONS": "2",
    }
    mtls = {
        "KAFKA_BOOTSTRAP": broker.mtls_bootstrap,
        "KAFKA_SECURITY": "SSL",
        "KAFKA_CA_FILE": str(secure.ca),
        "KAFKA_CERT_FILE": str(secure.client_cert),
        "KAFKA_KEY_FILE": str(secure.client_key),
        "REMINDERS_NAMESPACE": "secure",
        "REMINDERS_PARTITIONS": "2",
    }
    mails: list[str] = []

    class Inbox:
        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
            mails.append(envelope.content.decode())  # type: ignore[attr-defined]
            return "250 2.0.0 OK"

    inbox = Controller(Inbox(), hostname="127.0.0.1", port=free_ports(1)[0])
    inbox.start()
    try:
        mail = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(inbox.port),
            "SMTP_TLS": "none",
            "SMTP_FROM": "r@example.org",
        }
        worker = start_worker("all", **sasl, **mail)
        until(worker.ready, 180, "the worker is ready")
        for env in (sasl, mtls):
            name = env["KAFKA_SECURITY"].lower()
            code, said = cli(
                "remind", name, f"Over {name}", "--email", "anna@example.org", "--in", "1s", "--watch", **env
            )
            assert code == 0, said
            assert "SENT" in said
        assert len(mails) == 2
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(90) == 0, worker.log.read_text("utf-8")[-4000:]
    finally:
        inbox.stop()
    log = worker.log.read_text("utf-8")
    assert secure.password not in log
    assert "anna@" not in log


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_refused_login_says_so(broker: Broker, mechanism: str) -> None:
    assert broker.secure is not None
    env = {
        "KAFKA_BOOTSTRAP": broker.sasl_bootstrap,
        "KAFKA_SECURITY": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": mechanism,
        "KAFKA_USERNAME": broker.secure.username,
        "KAFKA_PASSWORD": "canary-wrong",
        "KAFKA_CA_FILE": str(broker.secure.ca),
    }
    with pytest.raises(OSError, match=r"login refused .*check KAFKA_USERNAME, KAFKA_PASSWORD") as refused:
        asyncio.run(ensure_topics(Settings.load(env)))
    assert "canary" not in str(refused.value)


def test_an_unknown_authority_or_a_plain_port_says_so(broker: Broker) -> None:
    with pytest.raises(OSError, match=r"no TLS connection .*KAFKA_SECURITY and KAFKA_CA_FILE"):
        asyncio.run(ensure_topics(Settings.load({"KAFKA_BOOTSTRAP": broker.mtls_bootstrap, "KAFKA_SECURITY": "SSL"})))
    with pytest.raises(OSError, match="check that it speaks SSL there"):
        asyncio.run(ensure_topics(Settings.load({"KAFKA_BOOTSTRAP": broker.bootstrap, "KAFKA_SECURITY": "SSL"})))


def test_files_that_are_no_certificates(broker: Broker) -> None:
    env = {"KAFKA_BOOTSTRAP": broker.mtls_bootstrap, "KAFKA_SECURITY": "SSL", "KAFKA_CA_FILE": __file__}
    code, said = cli("topics", **env)
    assert code == 2
    assert said.startswith("error: KAFKA_CA_FILE=")
    code, said = cli("config", "check", "--role", "none", **env)
    assert code == 2
