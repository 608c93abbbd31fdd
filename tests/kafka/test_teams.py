"""Teams on the broker: each with its own topic and prefix, and the printed grants under the real authorizer."""

import asyncio
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateAclsRequest, CreateAclsRequestStruct

from agents.publisher import partition_of
from app.acls import Part, Resource, commands, parts
from app.topics import full_name
from deploy.dev.broker import Broker
from deploy.dev.certificates import make_secure_files
from schemas import codec
from schemas.names import Action, State
from schemas.records import ReminderEvent
from tests.kafka.harness import Installation, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

TEAMS = "clinic:clinic-,billing:bill-"
USERS = ("reminders-core", "reminders-delivery", "reminders-team-clinic", "reminders-operator")
PASSWORD = "a-password-of-tests-only"


async def test_a_team_touches_its_own_ids_alone(broker: Broker, tmp_path: Path) -> None:
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, extra={"TEAMS": TEAMS}) as service,
    ):
        clinic, billing = (full_name(service.namespace, f"intake.{team}") for team in ("clinic", "billing"))
        due = now_ms() + 4000
        later = due + 3_600_000
        await service._send(clinic, [("clinic-1", mail_event("clinic-1", due))])
        await service._send(billing, [("bill-1", mail_event("bill-1", later))])
        await service.send(mail_event("clinic-2", later))
        service.start()
        await service.all_in(["bill-1", "clinic-2"], [State.SCHEDULED])
        # Another team's is refused and stays as it was; one's own is cancelled, though it came by the common topic.
        await service._send(clinic, [("bill-1", ReminderEvent("bill-1", action=Action.CANCEL, actor="clinic"))])
        await service._send(clinic, [("clinic-2", ReminderEvent("clinic-2", action=Action.CANCEL))])
        wrong = (partition_of(b"clinic-3", service.partitions) + 1) % service.partitions
        event = codec.encode(mail_event("clinic-3", later))
        await service.producer.send_and_wait(clinic, event, key=b"clinic-3", partition=wrong)
        await service.all_in(["clinic-1"], [State.SENT])
        await service.all_in(["clinic-2"], [State.CANCELLED])
        await service.all_in(["clinic-3"], [State.SCHEDULED])
        await service.tap.until(service.dead_letters, 60, "the dead letter")
        (letter,) = service.dead_letters()
        assert (letter["dlq-reason"], letter["dlq-topic"]) == ("outside_prefix", clinic)
        assert (letter["dlq-field"], letter["dlq-value"]) == ("reminder_id", "bill-1")
        assert "clinic-" in letter["dlq-remedy"]
        assert service.row_states()["bill-1"] is State.SCHEDULED
        (refused,) = [entry for entry in service.audit("bill-1") if entry.to_state is State.REJECTED]
        assert (refused.reason, refused.origin_topic) == ("outside_prefix", clinic)


class _Acls(CreateAclsRequest):  # type: ignore[misc]
    """Several grants at once; aiokafka's own makes one."""

    def __init__(self, creations: Iterable[tuple[Any, ...]]) -> None:
        self._creations = list(creations)

    def build(self, request_struct_class: type[CreateAclsRequestStruct]) -> CreateAclsRequestStruct:
        return request_struct_class(self._creations)


_TYPES = {Resource.TOPIC: 2, Resource.GROUP: 3, Resource.CLUSTER: 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}


async def _grant(bootstrap: str, part: Part) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        response = await admin._send_request(
            _Acls(
                (_TYPES[g.resource], g.name or "kafka-cluster", 4 if g.prefixed else 3, part.principal, "*",
                 _OPERATIONS[g.operation], 3)
                for g in part.grants
            )
        )  # fmt: skip
        assert {code for code, _ in response.creation_responses} == {0}
    finally:
        await admin.close()


def _run(broker: Broker, command: str) -> None:
    """Run a printed command with Kafka's own tool."""
    words = command.split()
    assert words[0] == "kafka-acls"
    done = subprocess.run(
        [*broker._java("128m"), "org.apache.kafka.tools.AclCommand", *words[1:]],
        env=broker._env(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _login(broker: Broker, user: str, ca: Path) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP": broker.sasl_bootstrap, "KAFKA_SECURITY": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_USERNAME": user, "KAFKA_PASSWORD": PASSWORD, "KAFKA_CA_FILE": str(ca),
    }  # fmt: skip


async def _written(service: Installation, login: dict[str, str], topic: str, rid: str) -> None:
    from app.config import Settings
    from app.kafka import producer_options

    options = producer_options(Settings.load(service.environ() | login))
    async with AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait(topic, codec.encode(mail_event(rid, now_ms() + 4000)), key=rid.encode())


async def test_a_life_with_the_printed_grants_alone(tmp_path: Path) -> None:
    """Core, delivery and a team, each its own user, under Kafka's authorizer: what is printed is enough."""
    secure = make_secure_files(tmp_path / "secure")
    users = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The tap of the test and the broker itself come over the plain listener.
        "super.users": "User:ANONYMOUS",
        "listener.name.sasl.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
    }
    with Broker.start(tmp_path / "kafka", heap="384m", secure=secure, extra_config=config) as broker:
        extra = {"TEAMS": TEAMS}
        async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
            roles = {part.name: part for part in parts(service.settings)}
            for command in commands(roles["team:clinic"], broker.bootstrap):
                await asyncio.to_thread(_run, broker, command)
            for name in ("core", "delivery"):
                await _grant(broker.bootstrap, roles[name])
            team = _login(broker, "reminders-team-clinic", secure.ca)
            clinic, billing = (full_name(service.namespace, f"intake.{team}") for team in ("clinic", "billing"))
            core = service.start(0, role="core", **_login(broker, "reminders-core", secure.ca))
            delivery = service.start(1, role="delivery", **_login(broker, "reminders-delivery", secure.ca))
            await _written(service, team, clinic, "clinic-1")
            await service.all_in(["clinic-1"], [State.SENT])
            assert [mail.count("clinic-1") > 0 for mail in map(str, server.mails)] == [True]
            for topic in (billing, service.names.reminders, service.names.control):
                with pytest.raises((TopicAuthorizationFailedError, KafkaError)) as refused:
                    await _written(service, team, topic, "clinic-2")
                assert isinstance(refused.value, TopicAuthorizationFailedError), topic
            for worker in (core, delivery):
                assert worker.process.poll() is None, worker.tail()
                assert "Authorization" not in worker.log.read_text(), worker.tail()
