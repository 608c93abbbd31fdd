"""Who must be allowed what on the brokers: the grants of each role, as data, and as commands of Kafka's own tool. Pure.

A role has what its part of the service does and nothing more. Two tests hold it: one compares it with what the workers
subscribe to, the other lets the service live under the broker's own authorizer with these grants alone.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.config import Settings
from app.topics import TopicNames, full_name, topics_of
from schemas.names import Channel


class Resource(StrEnum):
    """What a grant is about; the value is the option of ``kafka-acls``."""

    TOPIC = "--topic"
    GROUP = "--group"
    CLUSTER = "--cluster"


@dataclass(frozen=True, slots=True)
class Grant:
    """One role may do something with one resource. ``prefixed``: with all whose names begin so."""

    operation: str
    resource: Resource
    name: str = ""
    prefixed: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One role: its name, what runs with it, and its grants."""

    name: str
    runs: str
    grants: tuple[Grant, ...]

    @property
    def principal(self) -> str:
        """Return whom the grants are for unless another principal is named."""
        return f"User:reminders-{self.name.replace(':', '-')}"


def _topics(operation: str, *names: str) -> list[Grant]:
    return [Grant(operation, Resource.TOPIC, name) for name in names]


def parts(settings: Settings) -> tuple[Part, ...]:
    """Return all roles of the installation that the settings describe."""
    names = TopicNames.of(settings)
    every = [full_name(settings.namespace, spec.name) for spec in topics_of(settings)]
    # A worker compares all topics with what they must be before it starts.
    compare = _topics("Describe", *every) + _topics("DescribeConfigs", *every)
    posts, calls_back = [names.reminders, names.control], [names.receipts, names.replies, names.suppressions]
    events = [*names.intakes, names.recipients]
    told = [names.audit, names.status]
    changelogs = [names.reminders_changelog, names.recipients_changelog]
    retries, channels = list(names.retry.values()), list(names.channels.values())
    core_reads = [*names.intakes, names.outcomes, names.receipts, *retries]
    delivery_reads = [names.recipients, names.requests, *channels]
    core = (
        # The ledger compares what came in with the audit.
        _topics("Read", *core_reads, names.control, names.replies, names.dlq, names.audit, names.reminders_changelog)
        # An event on the wrong partition is written again to the right one.
        + _topics("Write", *names.intakes, names.requests, *retries, *told, names.dlq, names.reminders_changelog)
        # An occurrence that has ended waits for no answer.
        + _topics("Write", names.replies)
        # The console shows templates.
        + _topics("Read", names.templates)
        # A mail that comes back names the record that asked for it.
        + _topics("Read", names.channels[Channel.EMAIL])
        # The console holds and releases.
        + _topics("Write", names.control)
        # What was parked for a newer release is put back on the topic that it came from.
        + _topics("Write", names.recipients, names.outcomes, names.receipts, *channels)
        + [Grant("Read", Resource.GROUP, names.core_app)]
    )
    delivery = (
        _topics("Read", *delivery_reads, names.control, names.templates, names.suppressions, names.replies)
        + _topics("Read", names.recipients_changelog)
        + _topics("Write", names.recipients, *channels, names.outcomes, names.audit, names.dlq)
        + _topics("Write", names.control, *calls_back, names.recipients_changelog)
        + [Grant("Read", Resource.GROUP, names.delivery_app)]
    )
    operator = (
        _topics("Read", *every)
        # Dead letters are put back on any topic but a changelog, which the workers alone write.
        + _topics("Write", *(topic for topic in every if topic not in changelogs))
        + _topics("DescribeConfigs", *every)
        + [Grant("Describe", Resource.GROUP, group) for group in (names.core_app, names.delivery_app)]
        + [Grant("Create", Resource.CLUSTER), Grant("Describe", Resource.CLUSTER)]
        + [Grant(op, Resource.TOPIC, full_name(settings.namespace, "doctor-"), True) for op in ("Write", "Delete")]
    )
    return (
        Part("core", "python -m app worker --role core, with its web server", _once(core, compare)),
        Part(
            "delivery",
            "python -m app worker --role delivery, with its web server",
            _once(delivery, compare),
        ),
        Part(
            "web",
            "what the web servers of core and delivery workers write; both have it above",
            _once(_topics("Write", *posts, *calls_back)),
        ),
        Part("operator", "python -m app topics, dlq, hold, doctor and all other commands", _once(operator)),
        Part(
            "producer",
            "whoever may touch every reminder and recipient",
            _once(
                _topics("Write", *(topic for topic in events if topic not in names.prefixes)),
                _topics("Read", *told),
                [Grant("Read", Resource.GROUP, full_name(settings.namespace, "producer-"), True)],
            ),
        ),
        *(
            Part(
                f"team:{team.name}",
                f"the team {team.name}, whose ids begin with {team.prefix}; what it reads shows the ids of all",
                _once(
                    _topics("Write", full_name(settings.namespace, team.topic)),
                    _topics("Read", *told),
                    [Grant("Read", Resource.GROUP, full_name(settings.namespace, f"{team.topic}."), True)],
                ),
            )
            for team in settings.teams
        ),
    )


def _once(*grants: Sequence[Grant]) -> tuple[Grant, ...]:
    return tuple(dict.fromkeys(grant for some in grants for grant in some))


def commands(part: Part, bootstrap: str, principal: str = "", command_config: str = "") -> Iterator[str]:
    """Yield the commands that give a part its grants: one for all resources on which it may do the same."""
    may: defaultdict[tuple[Resource, str, bool], list[str]] = defaultdict(list)
    for grant in part.grants:
        may[grant.resource, grant.name, grant.prefixed].append(grant.operation)
    alike: defaultdict[tuple[Resource, bool, tuple[str, ...]], list[str]] = defaultdict(list)
    for (resource, name, prefixed), operations in may.items():
        alike[resource, prefixed, tuple(sorted(operations))].append(name)
    for (resource, prefixed, allowed), names in alike.items():
        words = ["kafka-acls", "--bootstrap-server", bootstrap]
        words += ["--command-config", command_config] if command_config else []
        words += ["--add", "--force", "--allow-principal", principal or part.principal]
        words += [word for operation in allowed for word in ("--operation", operation)]
        words += [word for name in names for word in (str(resource), name) if word]
        words += ["--resource-pattern-type", "prefixed"] if prefixed else []
        yield shlex.join(words)
