"""Every topic as data: who writes it, what it holds, how it is kept. Creates what is missing, refuses what differs.

``docs/topics.md`` is made from this data and the schemas (``app.cli.topic_page``); a test compares them.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from app import teams
from app.config import Settings
from app.kafka import MAX_BATCH_BYTES, client_options, unreachable
from schemas.names import DELIVERY_CHANNELS, Channel

CORE_APP = "reminders-core"
DELIVERY_APP = "reminders-delivery"
REMINDERS_TABLE = "reminders"
RECIPIENTS_TABLE = "recipients"

#: Waits and the tier topic that records them: up to 5 min, up to 30 min, longer.
TIERS = ("1m", "10m", "1h")

_HOUR_MS = 3_600_000
DAY_MS = 24 * _HOUR_MS
_MIB = 1024 * 1024


class Cleanup(StrEnum):
    """How a topic is kept."""

    TIME = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic, without the namespace. ``max_ahead_ms``: how far ahead a time may lie, 0: the broker's limit."""

    name: str
    key: str
    written_by: str
    holds: str
    schema: str
    cleanup: Cleanup = Cleanup.TIME
    retention_ms: int = 7 * DAY_MS
    max_batch_bytes: int = MAX_BATCH_BYTES
    max_ahead_ms: int = 0
    further: Mapping[str, str] = field(default_factory=dict)

    def config(self, replication: int) -> dict[str, str]:
        """Return the settings with which the topic is created and against which it is compared."""
        config = {
            "cleanup.policy": self.cleanup.value,
            "max.message.bytes": str(self.max_batch_bytes),
            "message.timestamp.type": "CreateTime",
            "min.insync.replicas": str(min_insync(replication)),
        }
        if self.cleanup is Cleanup.TIME:
            config["retention.ms"] = str(self.retention_ms)
        if self.max_ahead_ms:
            config["message.timestamp.after.max.ms"] = str(self.max_ahead_ms)
        return config | dict(self.further)


def min_insync(replication: int) -> int:
    """Return how many copies must have a record before it counts: two, where one of three brokers may then fail."""
    return 2 if replication >= 3 else 1


# A changelog is read from where a worker stopped: its tombstones must outlive every absence.
_CHANGELOG = {
    "delete.retention.ms": str(7 * DAY_MS),
    "max.compaction.lag.ms": str(2**63 - 1),
    "min.cleanable.dirty.ratio": "0.3",
    "segment.bytes": str(64 * _MIB),
}


#: Of the recipients table, which holds contacts and keys: what was erased must leave the log, too, and soon. A segment
#: that is still written to is never cleaned, so the last record of a changelog, for which recovery waits, stays.
_ERASABLE = _CHANGELOG | {"max.compaction.lag.ms": str(DAY_MS)}


def _channel_topic(channel: Channel) -> TopicSpec:
    return TopicSpec(
        f"notifications.{channel.lower()}",
        "recipient id, or reminder id where there is no recipient",
        "gate",
        f"one delivery by {channel.lower()}: everything the channel needs",
        "delivery, message",
    )


def _tier_topic(tier: str) -> TopicSpec:
    return TopicSpec(
        f"notifications.retry.{tier}",
        "reminder id",
        "settle",
        "the public record that an attempt will be made again: id, attempt, not_before, reason",
        "retry_record",
    )


def team_topic(team: teams.Team) -> TopicSpec:
    """Return the intake topic of a team: as ``reminders``, for the ids of one prefix."""
    return TopicSpec(
        team.topic,
        "reminder id",
        f"the team {team.name}",
        f"as `reminders`, of ids that begin with `{team.prefix}`; others are REJECTED as outside_prefix",
        "reminder_event",
        max_ahead_ms=_HOUR_MS,
    )


#: The topics of every installation; those of its teams come on top (``topics_of``).
TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(
        "reminders",
        "reminder id",
        "producers, command line, console",
        "upsert, cancel, snooze, acknowledge, pause, resume, erase",
        "reminder_event",
        max_ahead_ms=_HOUR_MS,
    ),
    TopicSpec(
        "recipients",
        "recipient id",
        "producers, command line, console",
        "contacts, zone, preferences, consent, as patches; a null value erases",
        "recipient_event",
        max_ahead_ms=_HOUR_MS,
    ),
    TopicSpec(
        "notifications.requests",
        "recipient id, or reminder id where there is no recipient",
        "core",
        "deliver this step, or withdraw that delivery; link or unlink a reminder and its recipient; destroy a key",
        "delivery_request, content",
    ),
    *(_channel_topic(channel) for channel in DELIVERY_CHANNELS),
    TopicSpec(
        "notifications.outcomes",
        "reminder id",
        "gate, channels",
        "what became of an attempt: outcome, reason, provider, cost, times; answers to withdrawals; that a recipient "
        "was erased",
        "delivery_answer",
    ),
    TopicSpec(
        "notifications.receipts",
        "reminder id",
        "web (callbacks of providers)",
        "later news of a delivery",
        "delivery_receipt",
    ),
    TopicSpec(
        "notifications.replies",
        "reminder id, or HMAC(channel, address)",
        "channels, core, web (callbacks of providers)",
        "which messages wait for a texted answer, of which address (a keyed hash), and when somebody last wrote; read "
        "whole by every worker",
        "reply_record",
    ),
    *(_tier_topic(tier) for tier in TIERS),
    TopicSpec(
        "notifications.dlq",
        "the original key",
        "all",
        "the original bytes, with reason, origin, attempts, correlation id and redrive count as headers; records with "
        "`dlq-act` say what became of them",
        "",
        retention_ms=30 * DAY_MS,
        max_batch_bytes=MAX_BATCH_BYTES + 64 * 1024,
    ),
    TopicSpec(
        "reminders.audit",
        "reminder id",
        "core",
        "every transition, rejections too: from, to, when, why, attempt, channel",
        "audit_entry",
        retention_ms=365 * DAY_MS,
    ),
    TopicSpec(
        "reminders.control",
        "scope, such as channel:sms",
        "operators, channels",
        "holds and releases; states of circuits, with an expiry",
        "control_record",
        cleanup=Cleanup.COMPACT,
    ),
    TopicSpec(
        "notifications.status",
        "reminder id",
        "core",
        "for producers: what became of each reminder, small and versioned",
        "reminder_status",
    ),
    TopicSpec(
        "templates",
        "name@version.words",
        "command line",
        "versioned templates, read whole",
        "template_record",
        cleanup=Cleanup.COMPACT,
    ),
    TopicSpec(
        "suppressions",
        "HMAC(channel, address)",
        "channels, web",
        "addresses not to be used: STOP, bounces, dead tokens, with reason and expiry",
        "suppression_record",
        cleanup=Cleanup.COMPACT,
    ),
    TopicSpec(
        f"{CORE_APP}-{REMINDERS_TABLE}-changelog",
        "reminder id",
        "core",
        "rows of the reminders table: a header of 20 bytes and the Avro body",
        "reminder_row",
        cleanup=Cleanup.COMPACT,
        further=_CHANGELOG,
    ),
    TopicSpec(
        f"{DELIVERY_APP}-{RECIPIENTS_TABLE}-changelog",
        "p/, d/, l/, c/ or g/ and the owner; q/ and a provider",
        "gate, channels",
        "rows of the recipients table: a header of 20 bytes and the Avro body, by the first letter of the key",
        "recipient_profile, sealed_profile, recipient_delivery, recipient_link, recipient_sends, recipient_digest, "
        "provider_day",
        cleanup=Cleanup.COMPACT,
        further=_ERASABLE,
    ),
)


def topics_of(settings: Settings) -> tuple[TopicSpec, ...]:
    """Return the topics of the installation that the settings describe."""
    return TOPICS + tuple(team_topic(team) for team in settings.teams)


@dataclass(frozen=True, slots=True, init=False)
class TopicNames:
    """The names of all topics, groups and tables of one installation."""

    reminders: str
    recipients: str
    requests: str
    outcomes: str
    receipts: str
    replies: str
    retry_1m: str
    retry_10m: str
    retry_1h: str
    dlq: str
    audit: str
    control: str
    status: str
    templates: str
    suppressions: str
    core_app: str
    delivery_app: str
    reminders_changelog: str
    recipients_changelog: str
    channels: Mapping[Channel, str]
    retry: Mapping[str, str]
    #: The prefix of the ids that each intake topic of a team takes, by topic.
    prefixes: Mapping[str, str]

    def __init__(self, namespace: str = "", of_teams: Iterable[teams.Team] = ()) -> None:
        """Name everything under a namespace."""

        def name(plain: str) -> str:
            return full_name(namespace, plain)

        put = object.__setattr__
        for plain in ("reminders", "recipients", "templates", "suppressions"):
            put(self, plain, name(plain))
        for last in ("requests", "outcomes", "receipts", "replies", "dlq", "status"):
            put(self, last, name(f"notifications.{last}"))
        for last in ("audit", "control"):
            put(self, last, name(f"reminders.{last}"))
        for tier in TIERS:
            put(self, f"retry_{tier}", name(f"notifications.retry.{tier}"))
        put(self, "core_app", name(CORE_APP))
        put(self, "delivery_app", name(DELIVERY_APP))
        put(self, "reminders_changelog", f"{self.core_app}-{REMINDERS_TABLE}-changelog")
        put(self, "recipients_changelog", f"{self.delivery_app}-{RECIPIENTS_TABLE}-changelog")
        put(self, "channels", {channel: name(f"notifications.{channel.lower()}") for channel in DELIVERY_CHANNELS})
        put(self, "retry", {tier: name(f"notifications.retry.{tier}") for tier in TIERS})
        put(self, "prefixes", {name(team.topic): team.prefix for team in of_teams})

    @property
    def intakes(self) -> tuple[str, ...]:
        """Return the topics that take reminders: everybody's, then those of teams."""
        return (self.reminders, *self.prefixes)

    @classmethod
    def of(cls, settings: Settings) -> "TopicNames":
        """Return the names of the installation that the settings describe."""
        return cls(settings.namespace, settings.teams)


def full_name(namespace: str, name: str) -> str:
    """Return a topic's or group's name within a namespace."""
    return f"{namespace}.{name}" if namespace else name


def intake_of(settings: Settings) -> tuple[str, str]:
    """Return the topic to which the command line sends reminders, and what their ids must begin with, if known."""
    if not settings.team:
        return TopicNames.of(settings).reminders, ""
    prefix = next((team.prefix for team in settings.teams if team.name == settings.team), "")
    return full_name(settings.namespace, teams.Team(settings.team, prefix).topic), prefix


class TopicError(Exception):
    """Topics cannot be used as they are. ``faults`` has one line for each: what differs and what to do."""

    def __init__(self, faults: list[str]) -> None:
        """Keep every fault."""
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class TopicReport:
    """How one topic stands. ``faults``: what differs from the specification, each with its remedy."""

    name: str
    created: bool
    missing: bool
    partitions: int
    replication: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    partitions: int
    replication: int
    config: Mapping[str, str]


async def ensure_topics(settings: Settings) -> list[TopicReport]:
    """Create the topics that are missing and compare those that exist.

    Raises TopicError with every difference that matters, OSError with one line where no broker answers.
    """
    admin = await _admin(settings)
    try:
        names = {full_name(settings.namespace, spec.name): spec for spec in topics_of(settings)}
        missing = [name for name in names if name not in await _existing(admin, names)]
        if missing:
            await _create(admin, settings, {name: names[name] for name in missing})
            await _wait_for(admin, missing)
        reports = await _compare(admin, settings, names, created=frozenset(missing))
    except KafkaError as exc:
        raise OSError(await unreachable(settings, exc)) from exc
    finally:
        await admin.close()
    faults = [fault for report in reports for fault in report.faults]
    if faults:
        raise TopicError(faults)
    return reports


async def check_topics(settings: Settings) -> list[TopicReport]:
    """Compare all topics with their specification and change nothing. Raises OSError where no broker answers."""
    admin = await _admin(settings)
    try:
        return await _compare(
            admin, settings, {full_name(settings.namespace, spec.name): spec for spec in topics_of(settings)}
        )
    except KafkaError as exc:
        raise OSError(await unreachable(settings, exc)) from exc
    finally:
        await admin.close()


#: How long a cluster that has just started may answer without naming any of its brokers, in seconds.
NAMED_S = 20.0


async def _admin(settings: Settings) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**client_options(settings), client_id="reminders-topics", request_timeout_ms=20_000)
    try:
        await admin.start()
        async with asyncio.timeout(NAMED_S):
            while not admin._client.cluster.brokers():
                await asyncio.sleep(0.2)
                await admin._client.force_metadata_update()
    except (KafkaError, OSError) as exc:
        await admin.close()
        raise OSError(await unreachable(settings, exc)) from exc
    return admin


async def _existing(admin: AIOKafkaAdminClient, wanted: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return partitions and copies of those wanted topics that exist and have a leader for each partition."""
    found = {}
    for topic in await admin.describe_topics():
        if topic["topic"] in wanted and not topic["error_code"]:
            partitions = topic["partitions"]
            if partitions and all(partition["leader"] >= 0 for partition in partitions):
                found[topic["topic"]] = (len(partitions), min(len(partition["replicas"]) for partition in partitions))
    return found


_UNKNOWN, _EXISTS, _BAD_REPLICATION = 3, 36, 38


async def _create(admin: AIOKafkaAdminClient, settings: Settings, specs: Mapping[str, TopicSpec]) -> None:
    response = await admin.create_topics(
        [
            NewTopic(name, settings.partitions, settings.replication, topic_configs=spec.config(settings.replication))
            for name, spec in specs.items()
        ]
    )
    faults = []
    for name, code, message in response.topic_errors:
        if code in (0, _EXISTS):  # another worker may have been faster
            continue
        if code == _BAD_REPLICATION:
            faults = [
                f"REMINDERS_REPLICATION='{settings.replication}': more than there are brokers; use fewer or add brokers"
            ]
            break
        faults.append(
            f"{name}: cannot be created ({for_code(code).__name__}: {message}); create it or grant the right to"
        )
    if faults:
        raise TopicError(faults)


async def _wait_for(admin: AIOKafkaAdminClient, names: Sequence[str], limit_s: float = 30.0) -> None:
    """Return once every new topic has leaders; a broker announces a topic before it can serve it."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while set(names) - (await _existing(admin, names)).keys():
        if asyncio.get_running_loop().time() > deadline:
            raise TopicError([f"{names[0]}: was created, but has no leader after {limit_s:g} s; see the brokers' logs"])
        await asyncio.sleep(0.1)


async def _compare(
    admin: AIOKafkaAdminClient,
    settings: Settings,
    specs: Mapping[str, TopicSpec],
    created: frozenset[str] = frozenset(),
) -> list[TopicReport]:
    existing = await _existing(admin, specs)
    configs = await _configs(admin, list(existing))
    reports = []
    for name, spec in specs.items():
        if name not in configs:
            fault = f"{name}: does not exist; run `python -m app topics`"
            reports.append(TopicReport(name, created=False, missing=True, partitions=0, replication=0, faults=(fault,)))
            continue
        partitions, replication = existing[name]
        found = _Found(partitions, replication, configs[name])
        faults = tuple(differences(name, spec, found, settings.partitions, settings.replication))
        reports.append(
            TopicReport(
                name, name in created, missing=False, partitions=partitions, replication=replication, faults=faults
            )
        )
    return reports


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs = {}
    for response in responses:
        for code, message, _, name, entries in response.resources:
            if code == _UNKNOWN:  # deleted since it was listed
                continue
            if code:
                raise TopicError(
                    [f"{name}: cannot be described ({for_code(code).__name__}: {message}); grant DescribeConfigs"]
                )
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


#: Settings that must be equal; of the others it is enough that the topic keeps no less, or allows no less, than asked.
_EQUAL = ("cleanup.policy", "message.timestamp.type", "max.compaction.lag.ms")
_AT_LEAST = ("max.message.bytes", "min.insync.replicas", "delete.retention.ms")


def differences(name: str, spec: TopicSpec, found: _Found, partitions: int, replication: int) -> Iterator[str]:
    """Yield one line for each difference that would lose or misplace events: what is, what must be, what to do."""
    if found.partitions != partitions:
        yield (
            f"{name}: has {found.partitions} partitions, REMINDERS_PARTITIONS is {partitions}; "
            f"set REMINDERS_PARTITIONS={found.partitions}, or follow docs/operations.md to change the number"
        )
    if found.replication < replication:
        yield (
            f"{name}: has {found.replication} copies, REMINDERS_REPLICATION is {replication}; "
            f"add copies with kafka-reassign-partitions, or set REMINDERS_REPLICATION={found.replication}"
        )
    wanted = spec.config(replication)
    for setting, value in wanted.items():
        actual = found.config.get(setting, "")
        if setting in _EQUAL:
            good = actual == value
        elif setting in _AT_LEAST:
            good = int(actual or 0) >= int(value)
        elif setting == "retention.ms":
            good = actual == "-1" or (value != "-1" and int(actual or 0) >= int(value))
        elif setting == "message.timestamp.after.max.ms":
            good = int(actual or 2**63 - 1) <= int(value)
        else:  # how the broker cleans up changes its work, not what a reader sees
            continue
        if not good:
            yield (
                f"{name}: {setting} is {actual or 'not known'}, must be {value}; run kafka-configs --alter "
                f"--entity-type topics --entity-name {name} --add-config {setting}={value}"
            )


# -- topic ids --------------------------------------------------------------------------------------------------------


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka ships no types
    """Sixteen raw bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        return bytes(data.read(16))


class _MetadataResponse(Response):  # type: ignore[misc]
    """Metadata response version 12, the first that asks by topic id; aiokafka stops at version 5."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class([(bytes(16), name, {}) for name in self._names], False, False, {})


async def topic_ids(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """Return Kafka's id, in hex, of each topic: another one where a topic of the same name was made anew.

    Raises TopicError where a topic is missing, OSError where no broker answers.
    """
    client = AIOKafkaClient(**client_options(settings), client_id="reminders-topic-ids", request_timeout_ms=20_000)
    try:
        await client.bootstrap()
        response = await client.send(client.get_random_node(), _MetadataRequest(names))
    except NotImplementedError as exc:
        raise TopicError(["the brokers know no topic ids; use Kafka 3.0 or later"]) from exc
    except (KafkaError, OSError) as exc:
        raise OSError(await unreachable(settings, exc)) from exc
    finally:
        await client.close()
    ids = {topic[1]: topic[2].hex() for topic in response.topics if not topic[0]}
    absent = [f"{name}: does not exist; run `python -m app topics`" for name in names if name not in ids]
    if absent:
        raise TopicError(absent)
    return ids
