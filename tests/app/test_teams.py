"""Teams: what TEAMS may say, which ids a team may touch, and that each role's grants are what its code does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app import teams
from app.acls import Resource, commands, parts
from app.cli.root import main
from app.config import ConfigError, Settings
from app.teams import Team
from app.topics import TOPICS, TopicNames, intake_of, topics_of
from schemas.checks import Reason, check_prefix
from schemas.names import Channel
from tests.app.conftest import environment

TWO = {"TEAMS": "clinic:clinic-, billing:bill-"}


def test_teams_are_read() -> None:
    assert teams.parse("clinic:clinic-, billing:b:1/,") == (Team("clinic", "clinic-"), Team("billing", "b:1/"))
    assert teams.parse("") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Clinic:x", "'Clinic' is no name of a team"),
        ("a.b:x", "no name"),
        (":x", "no name"),
        ("clinic", "clinic: has no prefix; add one, such as clinic:clinic-"),
        ("clinic:", "has no prefix"),
        ("clinic:\x01", "printable"),
        (f"clinic:{'x' * 101}", "at most 100 bytes"),
        ("a:1,a:2", "a: is named twice"),
        ("a:x-,b:x-", "takes in 'x-' of b"),
        ("b:x-1,a:x-", "a: its prefix 'x-' takes in 'x-1' of b"),
    ],
)
def test_what_is_no_list_of_teams_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load({"TEAMS": text})
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith("TEAMS=")
    assert said in refused.value.faults[0]


def test_each_team_has_a_topic_like_reminders() -> None:
    settings = Settings.load({"REMINDERS_NAMESPACE": "ns", **TWO})
    names = TopicNames.of(settings)
    assert dict(names.prefixes) == {"ns.intake.clinic": "clinic-", "ns.intake.billing": "bill-"}
    assert names.intakes == ("ns.reminders", "ns.intake.clinic", "ns.intake.billing")
    reminders, *_, clinic, billing = topics_of(settings)
    assert len(topics_of(settings)) == len(TOPICS) + 2
    assert clinic.config(3) == billing.config(3) == reminders.config(3)


def test_the_command_line_writes_to_its_team() -> None:
    assert intake_of(Settings.load(TWO)) == ("reminders", "")
    assert intake_of(Settings.load(TWO | {"TEAM": "billing"})) == ("intake.billing", "bill-")
    # Who writes for a team need not know the others.
    assert intake_of(Settings.load({"TEAM": "billing"})) == ("intake.billing", "")
    for team, said in (("x y", "is no name of a team"), ("clinics", "is not in TEAMS; use one of clinic, billing")):
        with pytest.raises(ConfigError, match=said):
            Settings.load(TWO | {"TEAM": team})
    sent = CliRunner().invoke(
        main, ["remind", "clinic-1", "x", "--to", "anna", "--in", "5m"], env={**TWO, "TEAM": "billing"}
    )
    assert sent.exit_code == 2
    assert sent.output.startswith("error: reminder_id: outside_prefix (clinic-1); begin the id with bill-")


def test_an_id_outside_the_prefix_is_a_fault() -> None:
    assert check_prefix("clinic-1", "clinic-", "reminders") is None
    fault = check_prefix("bill-1", "clinic-", "reminders")
    assert fault is not None
    assert (fault.reason, fault.field, fault.value) == (Reason.OUTSIDE_PREFIX, "reminder_id", "bill-1")
    assert "clinic-" in fault.remedy
    assert "reminders" in fault.remedy
    assert not fault.parked


# -- grants ------------------------------------------------------------------------------------------------------------


def _granted(settings: Settings, role: str, operation: str) -> set[str]:
    part = next(part for part in parts(settings) if part.name == role)
    return {g.name for g in part.grants if g.operation == operation and g.resource is Resource.TOPIC}


INPUTS = """
import json, os
from prometheus_client import CollectorRegistry
from agents.meter import Meter
from app.build import build_core, build_delivery
from app.config import Settings
settings, meter = Settings.load(os.environ), Meter(CollectorRegistry(), process=False)
print(json.dumps([list(build(settings, meter).parts.topic_ids) for build in (build_core, build_delivery)]))
"""


def test_workers_may_read_what_they_subscribe_to_and_no_more(tmp_path: Path) -> None:
    variables = {"REMINDERS_DATA_DIR": str(tmp_path), "SMTP_HOST": "localhost", "SMTP_FROM": "a@b.example", **TWO}
    settings = Settings.load(variables)
    names = TopicNames.of(settings)
    # In a process of its own: to build an app corrects Faust in place.
    out = subprocess.run([sys.executable, "-c", INPUTS], env=environment(**variables), capture_output=True, check=True)
    core, delivery = map(set, json.loads(out.stdout))
    assert {"intake.clinic", "intake.billing"} < core
    # Beside their inputs: their table, holds, dead letters to be counted, the audit that the ledger compares;
    # templates, replies and suppressions, read whole.
    also = {names.reminders_changelog, names.control, names.dlq, names.audit, names.replies, names.templates}
    # What a bounce names.
    also.add(names.channels[Channel.EMAIL])
    assert _granted(settings, "core", "Read") == core | also
    beside = {names.recipients_changelog, names.control, names.templates, names.suppressions, names.replies}
    assert _granted(settings, "delivery", "Read") == delivery | beside
    every = {spec.name for spec in topics_of(settings)}
    for role in ("core", "delivery"):
        assert _granted(settings, role, "Describe") == _granted(settings, role, "DescribeConfigs") == every


def test_who_writes_what_is_as_the_topics_say() -> None:
    """The page of topics names the writers of each topic in words; the grants must not say another thing."""
    settings = Settings.load(TWO)
    writers = {"core": "core", "settle": "core", "gate": "delivery", "channels": "delivery", "all": "core"}
    for spec in topics_of(settings):
        said = spec.written_by.replace("(callbacks of providers)", "").split(", ")
        for word in said:
            role = writers.get(word.strip())
            if role is not None:
                assert spec.name in _granted(settings, role, "Write"), (spec.name, word)
        if spec.name.endswith("-changelog"):
            assert spec.name not in _granted(settings, "operator", "Write")
        else:
            assert spec.name in _granted(settings, "operator", "Write")


def test_a_team_may_write_to_its_topic_alone() -> None:
    settings = Settings.load(TWO)
    assert _granted(settings, "team:clinic", "Write") == {"intake.clinic"}
    assert _granted(settings, "team:billing", "Write") == {"intake.billing"}
    assert _granted(settings, "producer", "Write") == {"reminders", "recipients"}
    assert _granted(settings, "team:clinic", "Read") == {"reminders.audit", "notifications.status"}


def test_commands_are_printed_for_a_principal() -> None:
    runner = CliRunner()
    args = ["acls", "--role", "team:clinic", "--principal", "User:anna b", "--command-config", "admin.properties"]
    printed = runner.invoke(main, args, env={**TWO, "REMINDERS_NAMESPACE": "ns"})
    assert printed.exit_code == 0
    head, *lines = printed.output.splitlines()
    assert head.startswith("# team:clinic: the team clinic")
    assert lines[0] == (
        "kafka-acls --bootstrap-server 127.0.0.1:9092 --command-config admin.properties --add --force "
        "--allow-principal 'User:anna b' --operation Write --topic ns.intake.clinic"
    )
    assert lines[-1].endswith("--operation Read --group ns.intake.clinic. --resource-pattern-type prefixed")
    every = runner.invoke(main, ["acls"], env=TWO).output
    for role in ("core", "delivery", "web", "operator", "producer", "team:clinic", "team:billing"):
        assert f"# {role}: " in every
    for wrong in (["--role", "team:x"], ["--principal", "User:a"], ["--role", "core", "--principal", "anna"]):
        assert runner.invoke(main, ["acls", *wrong], env=TWO).exit_code == 2


def test_no_operation_is_lost_on_the_way_into_commands() -> None:
    for part in parts(Settings.load(TWO)):
        found = set()
        for command in commands(part, "b:1"):
            words = command.split()
            operations = [words[i + 1] for i, word in enumerate(words) if word == "--operation"]
            prefixed = "prefixed" in words
            for i, word in enumerate(words):
                if word in ("--topic", "--group"):
                    found |= {(op, word, words[i + 1], prefixed) for op in operations}
                elif word == "--cluster":
                    found |= {(op, word, "", prefixed) for op in operations}
        assert found == {(g.operation, str(g.resource), g.name, g.prefixed) for g in part.grants}, json.dumps(part.name)
