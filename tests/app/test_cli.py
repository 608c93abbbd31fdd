import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.partitioner import DefaultPartitioner, murmur2
from click.testing import CliRunner, Result

from agents.publisher import partition_of
from app import sparse
from app.cli import times
from app.cli.audit import folded
from app.cli.root import COMMANDS, main
from app.cli.show import plain
from app.config import VARIABLES, Settings
from app.topics import TopicNames, ensure_topics
from deploy.dev.broker import Broker
from schemas.checks import zone
from schemas.codec import decode, encode
from schemas.names import Action, Channel, Priority, RecipientAction, State
from schemas.records import AuditEntry, Contact, RecipientEvent, ReminderEvent, Step

Invoke = Callable[..., Result]
NOWHERE = {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process, in an environment of its own."""

    def run(*args: str, env: dict[str, str] | None = None, stdin: str | bytes = "") -> Result:
        unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
        return CliRunner().invoke(main, args, input=stdin, env={**unset, **(env or NOWHERE)})

    return run


def said(result: Result) -> str:
    """Return the one line of a failure."""
    assert isinstance(result.exception, SystemExit), result.exception
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


# -- without a broker


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(invoke: Invoke, command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_usage_is_exit_2(invoke: Invoke) -> None:
    for args in ((), ("nonsense",), ("worker", "--role", "x"), ("trail",), ("watch",), ("recipient", "set", "anna")):
        assert invoke(*args).exit_code == 2, args


def test_configuration_faults_are_exit_2_one_line_each(invoke: Invoke) -> None:
    result = invoke("topics", env={"KAFKA_SECURITY": "x", "LOG_FORMAT": "y"})
    assert result.exit_code == 2
    assert [line.partition("=")[0] for line in result.stderr.splitlines()] == [
        "error: KAFKA_SECURITY",
        "error: LOG_FORMAT",
    ]
    result = invoke("worker", "--role", "delivery", env=NOWHERE)
    assert result.exit_code == 2
    assert "error: SMTP_HOST: is not set; name the mail server" in result.stderr.splitlines()


def test_config_check_and_show(invoke: Invoke) -> None:
    assert invoke("config", "check", "--role", "core").output == "ok: the configuration can be used\n"
    bad = invoke("config", "check", env={"SMTP_PASWORD": "x", "WEB_PORT": "0"})
    assert bad.exit_code == 2
    assert "warning: SMTP_PASWORD: is not read; did you mean SMTP_PASSWORD?" in bad.stderr
    assert len([line for line in bad.stderr.splitlines() if line.startswith("error: ")]) == 3
    shown = invoke("config", "show", env={"WEB_TOKEN": "canary-secret"}).output
    assert "canary" not in shown
    assert "set (environment)" in shown


@pytest.mark.parametrize(
    "args",
    [
        ("topics",),
        ("remind", "a", "b", "--email", "a@b.c", "--in", "5s"),
        ("cancel", "a"),
        ("trail", "a"),
        ("dlq", "list"),
    ],
)
def test_no_broker_is_exit_1_and_one_line(invoke: Invoke, args: tuple[str, ...]) -> None:
    result = invoke(*args)
    assert result.exit_code == 1
    assert said(result).startswith("KAFKA_BOOTSTRAP=127.0.0.1:1: no broker answers")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("remind", "a"), "ID and TEXT: give both"),
        (("remind", "a", "b"), "--in, --at, --local or --cron: say when"),
        (
            ("remind", "a", "b", "--to", "x", "--local", "2026-12-01T09:00", "--rrule", "FREQ=DAILY;COUNT=0"),
            "rrule: bad_rrule",
        ),
        (("remind", "a", "b", "--to", "x", "--cron", "0 9 * *"), "cron: bad_cron"),
        (
            ("remind", "a", "b", "--to", "x", "--local", "2026-12-01T09:00", "--before", "P1M"),
            "before[0]: bad_duration",
        ),
        (("remind", "--file", __file__, "--rrule", "FREQ=DAILY"), "--file: says all of the events"),
        (("cancel", "--tenant", "x", "--occurrence", "2026-12-01T09:00"), "--version, --occurrence and --watch"),
        (("remind", "a", "b", "--in", "5x"), "--in: '5x' is no duration; use"),
        (("remind", "a", "b", "--at", "2026-12-01T09:00"), "--at: '2026-12-01T09:00' has no offset; add Z"),
        (("remind", "a", "b", "--in", "5s", "--to", "x", "--nag-every", "soon"), "--nag-every: 'soon' is no duration"),
        (("remind", "a", "b", "--in", "5s", "--to", "x", "--nag-every", "0s"), "--nag-every: "),
        (("remind", "a", "b", "--in", "5s", "--to", "x", "--nag-max", "3"), "policy.nag_max: invalid"),
        (("remind", "--file", __file__, "--quorum", "2"), "--file: says all of the events"),
        (("remind", "a", "b", "--in", "5s", "--at", "2026-12-01T09:00Z"), "--in and --at: give one"),
        (("remind", "a", "b", "--to", "x", "--local", "2026-02-30T09:00"), "local: impossible_date"),
        (
            ("remind", "a", "b", "--to", "x", "--local", "2026-12-01", "--zone", "Berlin"),
            "zone: unknown_zone (Berlin); ",
        ),
        (("remind", "a", "b", "--in", "5s"), "recipient_id: no_recipient"),
        (("remind", "a", "b", "--in", "5s", "--email", "nobody"), "steps[0].address: bad_address"),
        (("remind", "a\x1b[2J", "b", "--in", "5s", "--email", "a@b.c"), "reminder_id: control_characters"),
        (("remind", "--json", "-", "--in", "5s"), "--json: says all of the event"),
        (("trail", "a", "--zone", "Berln"), "--zone: Berln is no IANA zone"),
        (("recipient", "set", "anna", "--email", "nobody"), "contacts[0].address: bad_address"),
        (("recipient", "set", "anna", "--email", "a@b.c", "--no-contacts"), "--email and --no-contacts"),
    ],
)
def test_input_that_intake_would_refuse_is_exit_2(invoke: Invoke, args: tuple[str, ...], line: str) -> None:
    result = invoke(*args)
    assert result.exit_code == 2
    assert said(result).startswith(line)
    assert "nobody" not in result.stderr


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is no JSON (line 1, column 1"),
        ("[1]", "is no JSON object"),
        ('{"reminder_id": "a", "txt": "b"}', "txt: is not known; did you mean text?"),
        ('{"reminder_id": "a", "qqq": 1}', "qqq: is not known; known are reminder_id, "),
        ('{"text": "b"}', "reminder_id: is missing; give it"),
        ('{"reminder_id": 7}', "reminder_id: must be a text, is 7"),
        ('{"reminder_id": "a", "version": true}', "version: must be a whole number, is true"),
        ('{"reminder_id": "a", "version": 1.5}', "version: must be a whole number, is 1.5"),
        ('{"reminder_id": "a", "at": "tomorrow"}', "at: 'tomorrow' is no instant"),
        ('{"reminder_id": "a", "steps": {}}', "steps: must be a list"),
        (
            '{"reminder_id": "a", "steps": [{"channel": "emial"}]}',
            'steps[0].channel: "emial" is not known; did you mean EMAIL?',
        ),
        ('{"reminder_id": "a", "steps": [{"channel": "ANY"}]}', 'steps[0].channel: "ANY" is not known'),
        (
            '{"reminder_id": "a", "steps": [{"adress": "x", "channel": "EMAIL"}]}',
            "steps[0].adress: is not known; did you mean address?",
        ),
        ('{"reminder_id": "a", "policy": {"quorum": "2"}}', 'policy.quorum: must be a whole number, is "2"'),
        ('{"reminder_id": "a", "data": {"k": 1}}', "data.k: must be a text, is a number"),
        ('{"reminder_id": "a", "reminder_id": "b"}', "reminder_id: is given twice"),
        ('{"reminder_id": "a", "text": ["secret"]}', "text: must be a text, is a list"),
        (
            '{"reminder_id": "a", "steps": [{"channel": "anna@x.example"}]}',
            "steps[0].channel: a text is not known; use",
        ),
        ('{"reminder_id": "a", "version": ' + "9" * 5000 + "}", "holds a number that is far too long"),
        (
            '{"reminder_id": "a", "at": "2026-12-01T09:00"}',
            "at: '2026-12-01T09:00' has no offset; add Z or +01:00, or send",
        ),
        ("[" * 100_000, "is nested too deep"),
    ],
)
def test_sparse_json_says_what_is_wrong(invoke: Invoke, text: str, fault: str) -> None:
    with pytest.raises(sparse.NotARecord) as wrong:
        sparse.read(ReminderEvent, text)
    assert str(wrong.value).startswith(fault)
    result = invoke("remind", "--json", "-", stdin=text)
    assert result.exit_code == 2
    assert said(result).startswith(f"--json: {fault}")


def test_sparse_json_is_the_event() -> None:
    text = """{"reminder_id": "clinic/1", "recipient_id": "anna", "text": "T", "at": "2026-12-01T09:00:00+01:00",
        "priority": "urgent", "steps": [{"channel": "email", "address": "a@b.c"}], "data": {"k": "v"}, "policy": null,
        "expires_at": 7}"""
    assert sparse.read(ReminderEvent, text) == ReminderEvent(
        "clinic/1",
        recipient_id="anna",
        text="T",
        at=1_796_112_000_000,
        expires_at=7,
        priority=Priority.URGENT,
        steps=(Step(Channel.EMAIL, address="a@b.c"),),
        data={"k": "v"},
    )
    assert sparse.read(RecipientEvent, '{"recipient_id": "a", "contacts": []}').contacts == ()


@pytest.mark.parametrize(
    ("text", "ms"),
    [("5s", 5000), ("1h30m", 5_400_000), ("1.5s", 1500), ("250ms", 250), ("2d", 172_800_000), ("1w 1d", 691_200_000)],
)
def test_durations(text: str, ms: int) -> None:
    assert times.duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "-5s", "s", "5s!", "5 years", "1h-5m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        times.duration_ms(text)


def test_moments_are_told_on_both_clocks() -> None:
    at = 1_796_112_000_000
    assert times.moment(at) == "2026-12-01 08:00:00.000Z"
    assert times.moment(at, zone("Europe/Berlin")) == "2026-12-01 09:00:00.000 CET (08:00:00.000Z)"
    assert times.moment(at, zone("Pacific/Auckland")) == "2026-12-01 21:00:00.000 NZDT (08:00:00.000Z)"
    assert (
        times.moment(at + 6 * 3_600_000, zone("Pacific/Auckland"))
        == "2026-12-02 03:00:00.000 NZDT (2026-12-01 14:00:00.000Z)"
    )
    assert times.moment(1 << 62) == f"{1 << 62} ms"


def test_terminals_are_not_steered() -> None:
    assert plain("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert plain("Zürich – 東京") == "Zürich – 東京"


def test_validate_has_the_reasons_of_the_dlq(invoke: Invoke, tmp_path: Path) -> None:
    good = ReminderEvent("a", recipient_id="anna", local="2026-12-01T09:00", zone="Europe/Berlin", text="T")
    result = invoke("validate", "-", stdin=encode(good))
    assert (result.exit_code, result.output) == (0, "ok: UPSERT, fires 2026-12-01 09:00:00.000 CET (08:00:00.000Z)\n")
    for data, reason in (
        (encode(good)[:-3], "truncated"),
        (encode(good) + b"x", "trailing_bytes"),
        (b"\xc3\x01" + bytes(8), "unknown_fingerprint"),
        (b"", "empty_value"),
        (b"\0\0\0\0\x07abc", "no_registry"),
        (encode(replace(good, zone="Mars/Base")), "unknown_zone"),
        (encode(RecipientEvent("anna")), "incompatible_schema"),
    ):
        result = invoke("validate", "-", stdin=data)
        assert result.exit_code == 1
        assert said(result).startswith(f"{reason}: ")
        verdict = json.loads(invoke("validate", "-", "--json", stdin=data).stdout)
        assert (verdict["ok"], verdict["reason"]) == (False, reason)
        assert verdict["remedy"]
    path = tmp_path / "event.json"
    path.write_text('{"recipient_id": "anna", "zone": "Europe/Berlin"}')
    assert invoke("validate", str(path), "--recipient").output == "ok: UPSERT\n"
    assert invoke("validate", str(tmp_path / "absent")).exit_code == 2


def entry(seq: int, state: State, at: int = 0, **more: Any) -> AuditEntry:
    return AuditEntry("tea", seq, at or seq, State.NONE, state, **more)


def test_a_second_decision_replaces_the_first() -> None:
    first = [entry(1, State.SCHEDULED), entry(2, State.SENDING), entry(3, State.SENT)]
    again = [entry(2, State.SENDING, 20), entry(3, State.CANCELLED, 30)]
    rejected = entry(0, State.REJECTED)
    assert folded([*first, rejected, *again]) == [first[0], rejected, *again]
    assert folded(first) == first


# Kafka's own vectors (clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java).
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_keys_fall_where_java_puts_them(key: bytes) -> None:
    assert murmur2(key) == JAVA[key] & 0xFFFFFFFF
    expected = (JAVA[key] & 0x7FFFFFFF) % 8
    assert partition_of(key, 8) == expected
    assert DefaultPartitioner()(key, list(range(8)), list(range(8))) == expected


# -- with a broker


@pytest.fixture(scope="module")
def env(broker: Broker) -> dict[str, str]:
    environ = {
        "KAFKA_BOOTSTRAP": broker.bootstrap,
        "REMINDERS_NAMESPACE": "cli",
        "REMINDERS_PARTITIONS": "4",
        "WEB_PORT": "9",
    }
    asyncio.run(ensure_topics(Settings.load(environ)))
    return environ


def names(env: dict[str, str]) -> TopicNames:
    return TopicNames(env["REMINDERS_NAMESPACE"])


async def _read(env: dict[str, str], topic: str) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(bootstrap_servers=env["KAFKA_BOOTSTRAP"], auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, n) for n in range(4)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for batch in (await consumer.getmany(*tps, timeout_ms=500)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def _write(env: dict[str, str], topic: str, key: bytes, values: list[bytes], **more: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=env["KAFKA_BOOTSTRAP"])
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=key, **more)
    finally:
        await producer.stop()


def test_remind_sends_what_any_producer_would(invoke: Invoke, env: dict[str, str]) -> None:
    args = (
        "clinic/visit-42",
        "Dentist at ten",
        "--to",
        "anna",
        "--local",
        "2026-12-01T09:00",
        "--zone",
        "Europe/Berlin",
    )
    result = invoke("remind", *args, "--title", "Dentist", env=env)
    assert result.exit_code == 0, result.output
    partition = partition_of(b"clinic/visit-42", 4)
    where, _, fires = result.output.partition(", fires ")
    assert where.startswith(f"clinic/visit-42: sent to cli.reminders/{partition}/")
    assert fires == "2026-12-01 09:00:00.000 CET (08:00:00.000Z)\n"
    (record,) = [r for r in asyncio.run(_read(env, names(env).reminders)) if r.key == b"clinic/visit-42"]
    event = decode(ReminderEvent, record.value)
    assert record.partition == partition
    assert (event.text, event.title, event.recipient_id, event.zone) == (
        "Dentist at ten",
        "Dentist",
        "anna",
        "Europe/Berlin",
    )
    assert event.source == "cli"
    assert event.event_id
    assert dict(record.headers) == {"correlation-id": event.correlation_id.encode()}


def test_a_series_from_the_command_line(invoke: Invoke, env: dict[str, str]) -> None:
    rule, text, zone = "FREQ=WEEKLY;BYDAY=MO", "Your pills", ("--zone", "America/New_York")
    more = ("--exclude", "2037-01-05T09:00", "--rdate", "2036-12-24T09:00", "--before", "P1D", "--before", "PT0S")
    args = ("remind", "pills", text, "--to", "anna", "--local", "2036-12-01T09:00")
    told = invoke(*args, "--rrule", rule, *zone, *more, env=env)
    assert told.exit_code == 0, told.output
    assert told.output.endswith(", fires 2036-11-30 09:00:00.000 EST (14:00:00.000Z), then by its rule\n")
    assert (
        "by its rule, in the recipient's zone"
        in invoke("remind", "c", text, "--to", "anna", "--cron", "0 9 * * *", env=env).output
    )
    assert invoke("cancel", "pills", "--occurrence", "2036-12-24T09:00", env=env).exit_code == 0
    events = [
        decode(ReminderEvent, r.value) for r in asyncio.run(_read(env, names(env).reminders)) if r.key == b"pills"
    ]
    assert (events[0].local, events[0].rrule) == ("2036-12-01T09:00", rule)
    assert (events[0].exclude, events[0].rdates) == (("2037-01-05T09:00",), ("2036-12-24T09:00",))
    assert events[0].before == ("P1D", "PT0S")
    assert (events[1].action, events[1].occurrence) == (Action.CANCEL, "2036-12-24T09:00")


def test_cancel_and_recipients(invoke: Invoke, env: dict[str, str]) -> None:
    assert invoke("cancel", "cancel-me", "--version", "3", env=env).exit_code == 0
    (record,) = [r for r in asyncio.run(_read(env, names(env).reminders)) if r.key == b"cancel-me"]
    event = decode(ReminderEvent, record.value)
    assert (event.action, event.version) == (Action.CANCEL, 3)
    set_ = invoke("recipient", "set", "anna", "--email", "a@example.org", "--email", "b@example.org", env=env)
    assert set_.output.startswith("anna: sent to cli.recipients/")
    assert invoke("recipient", "erase", "anna", "--yes", env=env).exit_code == 0
    first, second = (
        decode(RecipientEvent, r.value) for r in asyncio.run(_read(env, names(env).recipients)) if r.key == b"anna"
    )
    assert first.contacts == (Contact(Channel.EMAIL, "a@example.org"), Contact(Channel.EMAIL, "b@example.org"))
    assert second.action is RecipientAction.ERASE


def test_trail_reads_the_audit_topic(invoke: Invoke, env: dict[str, str]) -> None:
    entries = [
        entry(1, State.SCHEDULED, 1_796_112_000_000, reason="accepted", due=1_796_112_005_000),
        entry(2, State.SENDING, 1_796_112_005_012, reason="due", channel=Channel.EMAIL, attempt=1, lateness_ms=12),
        entry(
            3,
            State.SENT,
            1_796_112_005_100,
            reason="accepted",
            channel=Channel.EMAIL,
            attempt=1,
            provider="smtp",
            code="250",
        ),
    ]
    asyncio.run(_write(env, names(env).audit, b"tea", [encode(e) for e in entries]))
    other = encode(AuditEntry("other", 1, 1, State.NONE, State.SCHEDULED))
    asyncio.run(_write(env, names(env).audit, b"other", [other], partition=partition_of(b"tea", 4)))
    result = invoke("trail", "tea", "--zone", "Europe/Berlin", env=env)
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in result.output.splitlines()]
    assert lines[0] == "tea: SENT"
    assert len(lines) == 5
    assert "09:00:05.012 CET (08:00:05.012Z)" in lines[3]
    assert lines[3].endswith("SENDING    due; email, attempt 1; 12 ms late")
    assert lines[4].endswith("SENT       accepted; email, attempt 1; smtp 250")
    assert "next 2026-12-01 09:00:05.000 CET" in lines[2]
    rows = [json.loads(line) for line in invoke("trail", "tea", "--json", env=env).output.splitlines()]
    assert [row["to_state"] for row in rows] == ["SCHEDULED", "SENDING", "SENT"]
    unknown = invoke("trail", "nobody-knows", env=env)
    assert (unknown.exit_code, said(unknown).partition(":")[0]) == (1, "nobody-knows")
    # What has ended is not waited for.
    watched = invoke("watch", "tea", env=env)
    assert (watched.exit_code, len(watched.output.splitlines())) == (0, 3)


@pytest.mark.parametrize(("end", "code"), [(State.SENT, 0), (State.DEAD_LETTER, 1)])
def test_watching_ends_with_the_reminder(invoke: Invoke, env: dict[str, str], end: State, code: int) -> None:
    """A stand-in for core waits for the event and writes its life to the audit topic."""
    key = f"watched-{end.lower()}"

    async def core() -> None:
        while True:
            mine = [r for r in await _read(env, names(env).reminders) if r.key == key.encode()]
            if mine:
                break
            await asyncio.sleep(0.05)
        event = decode(ReminderEvent, mine[0].value)
        entries = [
            AuditEntry(key, 0, 1, State.NONE, State.REJECTED, reason="no_zone", event_id="of another event"),
            AuditEntry(key, 1, 2, State.NONE, State.SCHEDULED, reason="accepted", event_id=event.event_id),
            AuditEntry(key, 2, 3, State.SCHEDULED, State.SENDING, reason="due"),
            AuditEntry(key, 3, 4, State.SENDING, end, reason="accepted"),
            AuditEntry(key, 4, 5, end, State.SCHEDULED, reason="never shown"),
        ]
        await _write(env, names(env).audit, key.encode(), [encode(e) for e in entries])

    thread = threading.Thread(target=asyncio.run, args=(core(),))
    thread.start()
    result = invoke("remind", key, "T", "--email", "a@example.org", "--in", "5s", "--watch", env=env)
    thread.join()
    assert result.exit_code == code, result.output
    states = [line.partition("Z  ")[2].split()[0] for line in result.output.splitlines()[1:]]
    assert states == ["REJECTED", "SCHEDULED", "SENDING", end.value]


def test_dead_letters_are_listed(invoke: Invoke, env: dict[str, str]) -> None:
    said_ = {
        "reason": "no_zone",
        "field": "zone",
        "remedy": "send one",
        "topic": "cli.reminders",
        "partition": "3",
        "offset": "1042",
    }
    headers = [(f"dlq-{name}", value.encode()) for name, value in {**said_, "at": "1796112000000"}.items()]
    asyncio.run(_write(env, names(env).dlq, b"a\x1b[2J", [b"\x00bytes"], headers=headers))
    result = invoke("dlq", "list", env=env)
    assert result.exit_code == 0, result.output
    assert "cli.reminders/3/1042" in result.output
    assert "\x1b" not in result.output
    (letter,) = [json.loads(line) for line in invoke("dlq", "list", "--json", env=env).output.splitlines()]
    assert (letter["reason"], letter["at"], letter["size"]) == ("no_zone", 1_796_112_000_000, 6)
    assert invoke("dlq", "list", "--reason", "other", env=env).output == "no dead letters with reason other\n"


def test_a_missing_topic_is_named_and_not_made(invoke: Invoke, env: dict[str, str]) -> None:
    elsewhere = env | {"REMINDERS_NAMESPACE": "absent"}
    for args in (("remind", "a", "b", "--email", "a@b.c", "--in", "5s"), ("trail", "a")):
        result = invoke(*args, env=elsewhere)
        assert result.exit_code == 1
        assert said(result).endswith("does not exist; run `python -m app topics`")
    assert invoke("topics", "--check", env=elsewhere).exit_code == 1


def test_doctor(invoke: Invoke, env: dict[str, str], tmp_path: Path) -> None:
    result = invoke("doctor", "--json", env=env | {"REMINDERS_DATA_DIR": str(tmp_path)})
    verdicts = {row["check"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 0, result.stdout
    assert "from " in verdicts["tz data"]["text"]
    assert {name: row["grade"] for name, row in verdicts.items() if name not in ("disk", "tz data")} == {
        "versions": "ok",
        "broker": "ok",
        "topics": "ok",
        "clock": "ok",
        "providers": "ok",
        "progress": "ok",
        "sealing": "skip",
        "channels": "skip",
        "worker": "skip",
        "stuck": "skip",
    }
    wrong = env | {
        "REMINDERS_PARTITIONS": "5",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "1",
        "SMTP_FROM": "a@example.org",
    }
    result = invoke("doctor", env=wrong)
    assert result.exit_code == 1
    failed = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("fail")]
    assert failed == ["topics", "channels"]
    assert "set REMINDERS_PARTITIONS=4" in result.stdout
    result = invoke("doctor", "--json")
    grades = {row["check"]: row["grade"] for row in map(json.loads, result.stdout.splitlines())}
    assert (result.exit_code, grades["broker"], grades["topics"], grades["clock"]) == (1, "fail", "skip", "skip")


def test_topics(invoke: Invoke, env: dict[str, str]) -> None:
    result = invoke("topics", env=env)
    assert (result.exit_code, result.output) == (
        0,
        "23 topics, 4 partitions each: 0 created, the rest as they should be\n",
    )
    result = invoke("topics", env=env | {"REMINDERS_PARTITIONS": "5"})
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 23
