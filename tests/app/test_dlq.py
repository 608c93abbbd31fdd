"""The dead letter workbench: what letters say, what bytes are, what an edit changes; on a broker, the commands."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from click.testing import CliRunner, Result

from agents import letters
from agents.letters import Complaint
from agents.publisher import partition_of
from app import sparse
from app.cli.dlq import dissect, edit, view
from app.cli.dlq.words import words
from app.cli.root import main
from app.config import VARIABLES, Settings
from app.dlq import Act, Book, Place
from app.open_letters import REMEMBERED, Tally
from app.topics import DAY_MS, TopicNames, ensure_topics
from deploy.dev.broker import Broker
from schemas.checks import Reason
from schemas.codec import decode, encode
from schemas.names import Action, AnswerKind, Channel, OutcomeKind, Priority
from schemas.records import Contact, DeliveryAnswer, Policy, RecipientEvent, ReminderEvent, Step

Invoke = Callable[..., Result]
NOW = 1_796_112_000_000


@pytest.fixture
def invoke() -> Invoke:
    def run(*args: str, env: dict[str, str] | None = None, stdin: str | bytes = "") -> Result:
        unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
        return CliRunner().invoke(main, ("dlq", *args), input=stdin, env={**unset, **(env or {})})

    return run


class Inbound:
    """A record as workers get it."""

    def __init__(self, value: bytes | None, key: bytes | None = b"a", headers: Any = (), **more: Any) -> None:
        self.topic = "reminders"
        self.partition, self.offset, self.timestamp = 3, 1042, NOW / 1000
        self.key, self.value, self.headers = key, value, list(headers)
        vars(self).update(more)


def dead(record: Any, reason: str = "no_zone", **more: Any) -> letters.Out:
    return letters.dead_letter("dlq", 4, record, Complaint(reason, **more), NOW + 5)


_OFFSETS: dict[int, int] = {}


def on_topic(headers: Any, value: bytes | None = None, key: bytes | None = b"a", partition: int = 0) -> ConsumerRecord:
    offset = _OFFSETS[partition] = _OFFSETS.get(partition, -1) + 1
    return ConsumerRecord("dlq", partition, offset, NOW + offset, 0, key, value, None, 0, 0, tuple(headers))


# -- letters -----------------------------------------------------------------------------------------------------------


def test_a_letter_that_was_put_back_keeps_count_of_it() -> None:
    back = [
        ("x", b"1"),
        ("dlq-redrives", b"2"),
        ("dlq-origin", b"dlq/0/7"),
        ("dlq-edited-by", b"anna"),
        ("dlq-run", b"r"),
    ]
    said = dict(dead(Inbound(b"v", headers=[*back, ("dlq-act", b"closed"), ("dlq-how", b"edited")])).headers)
    assert (said["dlq-redrives"], said["dlq-origin"], said["dlq-edited-by"]) == (b"2", b"dlq/0/7", b"anna")
    assert said["x"] == b"1"
    # What says something about letters cannot come from outside: an event with such a header is a letter like any.
    assert not {"dlq-run", "dlq-act", "dlq-how"} & said.keys()
    assert dict(dead(Inbound(b"v")).headers)["dlq-redrives"] == b"0"


def book(*records: ConsumerRecord) -> Book:
    found = Book()
    for record in records:
        found.add(record)
    return found


def closing(of: ConsumerRecord, how: str = "redriven") -> ConsumerRecord:
    said = {"dlq-act": "closed", "dlq-run": "r", "dlq-letter": str(of.offset), "dlq-how": how}
    return on_topic([(name, text.encode()) for name, text in said.items()], partition=of.partition)


def test_a_letter_is_open_until_it_is_closed() -> None:
    one, two = (on_topic(dead(Inbound(b"v", offset=n)).headers, b"v") for n in (1, 2))
    found = book(one, two, closing(two, "skipped"))
    assert [str(letter.place) for letter in found.unclosed()] == [f"0/{one.offset}"]
    assert [found.state(Place(0, r.offset)) for r in (one, two)] == ["open", "skipped"]


def test_a_unit_that_was_repeated_leaves_one_letter() -> None:
    first, again = (on_topic(dead(Inbound(b"v")).headers, b"v") for _ in range(2))
    other = on_topic(dead(Inbound(b"v", timestamp=NOW / 1000 + 1)).headers, b"v")  # of a topic that was made anew
    found = book(first, again, other)
    assert found.state(Place(0, again.offset)) == "copy"
    assert [letter.place.offset for letter in found.unclosed()] == [first.offset, other.offset]


def test_a_second_copy_of_what_was_put_back_leaves_one_letter() -> None:
    back = [("dlq-redrives", b"1"), ("dlq-origin", b"dlq/0/7")]
    first, again = (on_topic(dead(Inbound(b"v", offset=n, headers=back)).headers, b"v") for n in (8, 9))
    forged = on_topic(dead(Inbound(b"other", offset=10, headers=back)).headers, b"other")
    found = book(first, again, forged)
    assert [letter.place.offset for letter in found.unclosed()] == [first.offset, forged.offset]


def test_what_is_no_letter_of_ours_is_shown_all_the_same() -> None:
    found = book(on_topic([], b"v"), on_topic([("dlq-offset", b"9" * 30)], b"v"))
    assert len(found.unclosed()) == 2


def test_open_letters_are_counted_without_a_list_of_them() -> None:
    first = _OFFSETS.get(1, -1) + 1
    gone = on_topic(dead(Inbound(b"v", offset=1), "bug").headers, b"v", partition=1)
    kept, again, other = (on_topic(dead(Inbound(b"v", offset=n), "bug").headers, b"v", partition=1) for n in (2, 2, 3))
    said = [*(closing(record) for record in (gone, other)), on_topic([("dlq-act", b"begun")], partition=1)]
    named = [replace(act, headers=(*act.headers, ("dlq-reason", b"bug"))) for act in said]
    tally = Tally(first)
    for record in (gone, kept, again, other, *named):
        tally.add(record)
    assert (tally.counts, tally.next) == ({"bug": 1}, named[-1].offset + 1)
    # Retention has taken the first, and not yet what closed it.
    tally = Tally(kept.offset)
    for record in (kept, again, other, *named):
        tally.add(record)
    assert tally.counts == {"bug": 1}


def test_counting_is_bounded() -> None:
    tally = Tally(0)
    for n in range(REMEMBERED * 2):
        tally.add(on_topic(dead(Inbound(b"v", offset=n), f"reason_{n}").headers, b"v", partition=2))
    assert len(tally.counts) == 101
    assert tally.counts.total() == REMEMBERED * 2
    assert len(tally._known) == len(tally._order) == REMEMBERED


def test_every_reason_has_words() -> None:
    other = words("no such reason")
    assert [reason for reason in Reason if words(reason) == other] == []
    assert "trail a" in words("temporary", "trail a", occurrence=True)


# -- bytes -------------------------------------------------------------------------------------------------------------

CANARY = "Kanarienvogel"
EVENT = ReminderEvent(
    "clinic/1",
    recipient_id="anna",
    local="2026-12-01T09:00",
    title=f"{CANARY} title",
    text=f"{CANARY} text",
    data={f"{CANARY}-key": f"{CANARY} value"},
    steps=(Step(Channel.EMAIL, address=f"{CANARY}@people.example"),),
    actor=f"{CANARY}",
)


def told(value: bytes, *, reveal: bool) -> tuple[str, bytes]:
    """Return all that is told of bytes, and those of their bytes that the dump shows."""
    lines = list(dissect.dump(value, 4096, reveal=reveal))
    cells = [cell for line in lines for cell in line[10:58].split() if cell != "**"]
    for meant in (None, ReminderEvent, RecipientEvent):
        lines += view._decodings(value, meant, reveal)
    return "\n".join(lines), bytes.fromhex("".join(cells))


@pytest.mark.parametrize(
    "value",
    [
        encode(EVENT),
        encode(EVENT)[10:],
        encode(EVENT)[:-4],
        b"\0\0\0\0\7" + encode(EVENT)[10:],
        json.dumps({"text": CANARY}).encode(),
        encode(RecipientEvent("anna", contacts=(Contact(Channel.EMAIL, f"{CANARY}@people.example", CANARY),))),
    ],
    ids=["whole", "unframed", "cut", "confluent", "json", "recipient"],
)
def test_personal_values_are_masked(value: bytes) -> None:
    text, dumped = told(value, reveal=False)
    assert CANARY not in text
    assert not any(byte >= 0x20 for byte in dumped[dissect.framing(value)[0] :])
    assert told(value, reveal=True)[1] == value


def test_a_dump_shows_every_byte_once_revealed() -> None:
    value = bytes(range(256)) * 2
    lines = list(dissect.dump(value, 300, reveal=True))
    assert lines[2] == "00000020  20 21 22 23 24 25 26 27  28 29 2a 2b 2c 2d 2e 2f  | !\"#$%&'()*+,-./|"
    assert lines[-1] == "… 212 more bytes (--bytes 512)"
    assert bytes.fromhex("".join(line[10:58] for line in lines[:-1])) == value[:300]


@pytest.mark.parametrize("cut", [0, 10])
def test_bytes_are_tried_under_every_schema(cut: int) -> None:
    """With its framing and without."""
    found = {reading.kind: reading for reading in dissect.readings(encode(EVENT)[cut:])}
    assert found["ReminderEvent"].record == EVENT
    assert found["RecipientEvent"].record is None
    assert found["RecipientEvent"].why
    assert len(found) >= 18


def test_framing_is_told() -> None:
    assert dissect.framing(encode(EVENT))[1].endswith("(ReminderEvent)")
    assert dissect.framing(b"\xc3\x01" + bytes(8))[1].endswith("(not known)")
    assert dissect.framing(b"\0\0\0\1\0rest") == (5, "Confluent framing, schema id 256")
    assert dissect.framing(b"{}") == (0, "none that is known")


# -- edits -------------------------------------------------------------------------------------------------------------


def test_edits() -> None:
    event = replace(EVENT, policy=Policy(max_attempts=3), priority=Priority.URGENT, at=None)
    assert edit.changed(event, ()) == event
    assert sparse.read(ReminderEvent, json.dumps(edit.as_sparse(event))) == event
    after = edit.changed(
        event,
        (
            "zone=Europe/Berlin",
            "steps[0].address=b@people.example",
            "steps.1.channel=sms",
            "data.first.name=x=y",
            "policy.max_attempts=5",
            "priority=bulk",
            "expires_at=2027-01-01T00:00:00Z",
            "title=",
            "version=7",
        ),
    )
    assert after == replace(
        event,
        zone="Europe/Berlin",
        steps=(Step(Channel.EMAIL, address="b@people.example"), Step(Channel.SMS)),
        data={**event.data, "first.name": "x=y"},
        policy=Policy(max_attempts=5),
        priority=Priority.BULK,
        expires_at=1_798_761_600_000,
        title="",
        version=7,
    )
    assert edit.changed(event, ("policy=null",)).policy is None


@pytest.mark.parametrize(
    ("assignment", "fault"),
    [
        ("zone", "zone: say field=value"),
        ("zoen=x", "zoen: is not known; did you mean zone?"),
        ("version=seven", "version: must be a whole number"),
        ("steps[4].address=x", "steps[4].address: there are 1 entries"),
        ("zone.name=x", "zone.name: zone has no parts"),
        ("priority=now", 'priority: "now" is not known'),
    ],
)
def test_edits_that_cannot_be_say_why(assignment: str, fault: str) -> None:
    event = replace(EVENT, zone="Europe/Berlin")
    with pytest.raises(sparse.NotARecord) as wrong:
        edit.changed(event, (assignment,))
    assert str(wrong.value).startswith(fault)


def test_what_an_edit_changes_is_told_and_masked() -> None:
    after = edit.changed(EVENT, ("zone=Europe/Berlin", f"title={CANARY}!", f"data.{CANARY}-key=z", "local=2026-12-02"))
    lines = edit.difference(EVENT, after, reveal=False)
    assert CANARY not in "\n".join(lines)
    assert "+ zone: Europe/Berlin" in lines
    assert [line[:8] for line in lines if "title" in line] == ["- title:", "+ title:"]
    assert [line for line in lines if "local" in line] == ["- local: 2026-12-01T09:00", "+ local: 2026-12-02"]
    assert f"+ title: {CANARY}!" in edit.difference(EVENT, after, reveal=True)


# -- with a broker -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def env(broker: Broker) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP": broker.bootstrap, "REMINDERS_PARTITIONS": "4"}


@pytest.fixture
def place(env: dict[str, str], request: pytest.FixtureRequest) -> "Topics":
    """An installation of its own for each test."""
    environ = env | {"REMINDERS_NAMESPACE": f"w{abs(hash(request.node.name)) % 10**9}"}
    asyncio.run(ensure_topics(Settings.load(environ)))
    return Topics(environ)


class Topics:
    """Writes letters and reads what became of them."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.names = TopicNames(env["REMINDERS_NAMESPACE"])
        self._offset = 1000

    def letter(
        self, value: bytes | None, reason: str = "bug", *, topic: str = "", headers: Any = (), **more: Any
    ) -> str:
        """Write a dead letter as a worker does; return its place."""
        age = more.pop("age_ms", 60_000)
        key = more.pop("key", b"clinic/1")
        self._offset += 1
        record = Inbound(
            value, key, headers, topic=topic or self.names.reminders, offset=self._offset,
            timestamp=(time.time_ns() // 1_000_000 - age) / 1000,
        )  # fmt: skip
        at = more.pop("at", time.time_ns() // 1_000_000)
        out = letters.dead_letter(self.names.dlq, 4, record, Complaint(reason, **more), at)
        return asyncio.run(self._write(out))

    async def _write(self, out: letters.Out) -> str:
        async with AIOKafkaProducer(bootstrap_servers=self.env["KAFKA_BOOTSTRAP"]) as producer:
            sent = await producer.send_and_wait(
                out.topic, out.value, key=out.key, partition=out.partition, headers=list(out.headers)
            )
        return f"{sent.partition}/{sent.offset}"

    def records(self, topic: str = "") -> list[ConsumerRecord]:
        return asyncio.run(self._read(topic or self.names.reminders))

    async def _read(self, topic: str) -> list[ConsumerRecord]:
        async with AIOKafkaConsumer(bootstrap_servers=self.env["KAFKA_BOOTSTRAP"]) as consumer:
            tps = [TopicPartition(topic, n) for n in range(4)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends = await consumer.end_offsets(tps)
            found: list[ConsumerRecord] = []
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for batch in (await consumer.getmany(*tps, timeout_ms=200)).values():
                    found += batch
            return found


GOOD = replace(EVENT, zone="Europe/Berlin")


def listed(invoke: Invoke, place: Topics, *args: str) -> list[dict[str, Any]]:
    result = invoke("list", "--json", *args, env=place.env)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_lists_are_filtered_and_end_with_the_newest(invoke: Invoke, place: Topics) -> None:
    now = time.time_ns() // 1_000_000
    old = place.letter(encode(GOOD), "bug", key=b"b", at=now - 3 * 3_600_000)
    new = place.letter(encode(GOOD), "no_zone", key=b"c", field="zone", remedy="send one")
    other = place.letter(encode(RecipientEvent("anna")), "no_zone", topic=place.names.recipients, at=now - 60_000)
    parked = place.letter(b"\xc3\x01" + bytes(8), "unknown_fingerprint", parked=True)
    assert [letter["place"] for letter in listed(invoke, place)] == [old, other, new]
    assert [letter["place"] for letter in listed(invoke, place, "--reason", "no_zone")] == [other, new]
    assert [letter["place"] for letter in listed(invoke, place, "--topic", "recipients")] == [other]
    assert [letter["place"] for letter in listed(invoke, place, "--since", "1h")] == [other, new]
    assert [letter["place"] for letter in listed(invoke, place, "--until", "1h")] == [old]
    assert [letter["place"] for letter in listed(invoke, place, "--limit", "1")] == [new]
    assert [letter["state"] for letter in listed(invoke, place, "--parked")] == ["parked"]
    assert [letter["place"] for letter in listed(invoke, place, "--all")] == [old, other, new, parked]
    table = invoke("list", env=place.env)
    assert new in table.stdout
    assert "1 parked until a newer release: --parked" in table.stderr
    assert invoke("list", "--since", "yesterday", env=place.env).exit_code == 2


def test_a_letter_is_shown_by_both_of_its_places(invoke: Invoke, place: Topics) -> None:
    at = place.letter(encode(EVENT), "no_zone", field="zone", headers=[("correlation-id", b"c1"), ("secret", b"Vogel")])
    shown = invoke("show", at, env=place.env)
    assert shown.exit_code == 0, shown.output
    assert "A wall-clock time without a zone" in shown.output
    assert "readable as ReminderEvent" in shown.output
    assert "reminder_id = clinic/1" in shown.output
    assert "correlation-id: c1" in shown.output
    assert CANARY not in shown.output
    assert "Vogel" not in shown.output
    assert invoke("show", "reminders/3/1001", env=place.env).output == shown.output
    assert invoke("show", f"{place.names.reminders}/3/1001", env=place.env).output == shown.output
    revealed = invoke("show", at, "--reveal", env=place.env).output
    assert f"text = {CANARY} text" in revealed
    assert "secret: Vogel" in revealed
    assert invoke("show", "0/99", env=place.env).exit_code == 1
    assert invoke("show", "somewhere", env=place.env).exit_code == 2


def test_a_redrive_brings_back_all_that_a_record_was(invoke: Invoke, place: Topics) -> None:
    headers = [("correlation-id", b"c1"), ("twice", b"1"), ("twice", b"2"), (letters.FORWARDED, b"reminders/0/1")]
    at = place.letter(encode(GOOD), headers=headers, age_ms=3_600_000)
    (before,) = listed(invoke, place)
    dry = invoke("redrive", "--dry-run", env=place.env)
    assert dry.output.splitlines() == [f"{at}  {before['origin']}  clinic/1  would be redriven", "1 would be redriven"]
    assert place.records() == []
    done = invoke("redrive", env=place.env)
    assert (done.exit_code, done.stdout) == (0, "1 redriven\n"), done.output
    (record,) = place.records()
    assert (record.key, record.value, record.timestamp) == (b"clinic/1", encode(GOOD), before["timestamp"])
    assert record.partition == partition_of(b"clinic/1", 4)
    theirs = [(name, value) for name, value in record.headers if not name.startswith("dlq-")]
    assert theirs == headers[:3]
    ours = dict(record.headers)
    assert (ours["dlq-redrives"], ours["dlq-origin"]) == (b"1", f"{place.names.dlq}/{at}".encode())
    assert listed(invoke, place) == []
    (closed,) = listed(invoke, place, "--all")
    assert (closed["state"], closed["closed"]["to"]) == (
        "redriven",
        f"{record.topic}/{record.partition}/{record.offset}",
    )
    assert invoke("redrive", env=place.env).stdout == "0 redriven\n"
    again = invoke("redrive", at, env=place.env)
    assert (again.exit_code, "is closed already (redriven)" in again.stderr) == (1, True)
    assert len(place.records()) == 1


def test_what_would_be_refused_again_is_left(invoke: Invoke, place: Topics) -> None:
    names = place.names
    answer = DeliveryAnswer(AnswerKind.OUTCOME, "clinic/1", outcome=OutcomeKind.REJECTED)
    cases = {
        place.letter(b"{}", "json_not_avro"): "would be refused again: json_not_avro",
        place.letter(encode(replace(GOOD, zone="Mars")), "unknown_zone"): "would be refused again: unknown_zone",
        place.letter(encode(GOOD), headers=[("dlq-redrives", b"5")]): "was put back 5 times",
        place.letter(encode(GOOD), age_ms=7 * DAY_MS): "too old for its topic",
        place.letter(encode(answer), "temporary", topic=names.outcomes, remedy="trail clinic/1"): "an occurrence",
        place.letter(encode(GOOD), topic="elsewhere"): "comes from elsewhere",
    }
    good = place.letter(None, topic=names.recipients)
    dry = {line.split("  ")[0]: line for line in invoke("redrive", "--dry-run", env=place.env).output.splitlines()}
    assert all(f"left: {why}" in dry[at] for at, why in cases.items()), dry
    done = invoke("redrive", env=place.env)
    assert done.stdout.startswith("1 redriven, 6 left\n"), done.output
    assert [record.value for record in place.records(names.recipients)] == [None]
    assert place.records() == []
    assert {letter["place"] for letter in listed(invoke, place)} == cases.keys() - {good}
    forced = invoke("redrive", "--force", env=place.env)
    assert forced.stdout.startswith("3 redriven, 3 left\n"), forced.output
    assert sorted(dict(r.headers)["dlq-redrives"] for r in place.records()) == [b"1", b"1", b"6"]


def test_an_occurrence_that_was_given_up_is_sent_in_a_new_round(invoke: Invoke, place: Topics) -> None:
    delivery = "clinic%2F1:%401%2FPT0S:0:0"
    answer = DeliveryAnswer(AnswerKind.OUTCOME, "clinic/1", delivery, outcome=OutcomeKind.REJECTED)
    outcomes = place.names.outcomes
    one, other = (
        place.letter(encode(answer), "temporary", topic=outcomes, remedy="trail clinic/1", at=NOW + n) for n in (0, 1)
    )
    assert invoke("redrive", env=place.env).stdout.startswith("0 redriven, 2 left\n")
    done = invoke("redrive", one, env=place.env)
    assert (done.exit_code, done.stdout) == (0, "1 redriven\n"), done.output
    (record,) = place.records()
    event = decode(ReminderEvent, record.value)
    assert (event.reminder_id, event.action, event.delivery_id) == ("clinic/1", Action.FIRE, delivery)
    assert event.actor
    assert one in event.text
    assert (record.key, record.partition) == (b"clinic/1", partition_of(b"clinic/1", 4))
    assert record.timestamp > time.time() * 1000 - DAY_MS
    assert [letter["place"] for letter in listed(invoke, place)] == [other]
    assert invoke("redrive", "--occurrences", env=place.env).stdout == "1 redriven\n"
    assert len({decode(ReminderEvent, r.value).event_id for r in place.records()}) == 2
    assert invoke("redrive", "--occurrences", env=place.env).stdout == "0 redriven\n"


def test_redrives_are_limited_and_paced(invoke: Invoke, place: Topics) -> None:
    for n in range(6):
        place.letter(encode(GOOD), key=f"k{n}".encode(), at=NOW + n)
    begun = time.monotonic()
    assert invoke("redrive", "--limit", "4", "--rate", "4/s", env=place.env).stdout == "4 redriven\n"
    assert len(place.records()) == 4
    assert {record.key for record in place.records()} == {b"k0", b"k1", b"k2", b"k3"}
    assert invoke("redrive", "--rate", "2/s", env=place.env).stdout == "2 redriven\n"
    assert time.monotonic() - begun < 60
    assert invoke("redrive", "--rate", "5", env=place.env).exit_code == 2


def test_parked_letters_go_when_this_release_can_do_them(invoke: Invoke, place: Topics) -> None:
    place.letter(b"\xc3\x01" + bytes(8) + b"x", "unknown_fingerprint", parked=True)
    known = place.letter(encode(GOOD), "needs_newer_service", parked=True)
    place.letter(encode(GOOD), "bug", key=b"other")
    done = invoke("redrive", "--parked", env=place.env)
    assert done.stdout.startswith("1 redriven, 1 left\n"), done.output
    (record,) = place.records()
    assert dict(record.headers)["dlq-origin"].decode().endswith(f"/{known}")


def test_an_edit_is_checked_told_and_asked(invoke: Invoke, place: Topics) -> None:
    at = place.letter(encode(EVENT)[:-3], "truncated", headers=[("correlation-id", b"c1")])
    no_bytes = invoke("edit", at, "--set", "zone=Europe/Berlin", env=place.env)
    assert no_bytes.exit_code == 2
    assert "is no readable ReminderEvent; give the whole event with --json" in no_bytes.stderr
    wrong = invoke("edit", at, "--json", "-", env=place.env, stdin='{"reminder_id": "a", "recipient_id": "b"}')
    assert (wrong.exit_code, "no_start" in wrong.stderr) == (2, True)
    bare = place.letter(encode(replace(EVENT, recipient_id=""))[10:], "unknown_framing")
    args = ("edit", bare, "--set", "zone=Europe/Berlin", "--set", "reminder_id=clinic/2")
    asked = invoke(*args, env=place.env, stdin="n\n")
    assert asked.exit_code == 1
    assert "- reminder_id: clinic/1\n+ reminder_id: clinic/2\n" in asked.output
    assert CANARY not in asked.output
    assert place.records() == []
    done = invoke(*args, "--yes", env=place.env)
    assert done.exit_code == 0, done.output
    (record,) = place.records()
    assert (record.key, record.partition) == (b"clinic/2", partition_of(b"clinic/2", 4))
    event = decode(ReminderEvent, record.value)
    assert event == replace(EVENT, recipient_id="", zone="Europe/Berlin", reminder_id="clinic/2")
    ours = dict(record.headers)
    assert ours["dlq-edited-by"]
    assert ours["dlq-origin"] == f"{place.names.dlq}/{bare}".encode()
    (closed,) = (letter for letter in listed(invoke, place, "--all") if letter["place"] == bare)
    assert (closed["state"], closed["timestamp"]) == ("edited", record.timestamp)
    assert invoke(*args, "--yes", env=place.env).exit_code == 1


def test_an_old_event_is_sent_again_with_the_present_time(invoke: Invoke, place: Topics) -> None:
    at = place.letter(encode(replace(GOOD, action=Action.CANCEL)), age_ms=20 * DAY_MS)
    assert "too old" in invoke("edit", at, "--set", "version=3", "--yes", env=place.env).stderr
    assert invoke("edit", at, "--now", "--yes", env=place.env).exit_code == 0
    (record,) = place.records()
    assert abs(record.timestamp - time.time_ns() // 1_000_000) < 60_000


def test_a_recipient_is_edited(invoke: Invoke, place: Topics, tmp_path: Path) -> None:
    at = place.letter(b"{}", "json_not_avro", topic=place.names.recipients, key=b"anna")
    path = tmp_path / "anna.json"
    path.write_text('{"recipient_id": "anna", "zone": "Europe/Berlin"}')
    assert invoke("edit", at, "--json", str(path), "--yes", env=place.env).exit_code == 0
    (record,) = place.records(place.names.recipients)
    assert decode(RecipientEvent, record.value) == RecipientEvent("anna", zone="Europe/Berlin")


def test_a_letter_is_skipped_with_a_reason(invoke: Invoke, place: Topics) -> None:
    one, two = place.letter(b"{}", "json_not_avro"), place.letter(b"[]", "json_not_avro", key=b"b")
    assert invoke("skip", one, env=place.env).exit_code == 2
    assert invoke("skip", one, two, "--reason", "told the clinic", env=place.env).stdout == "2 skipped\n"
    assert listed(invoke, place) == []
    closed = listed(invoke, place, "--all")
    assert {(letter["state"], letter["closed"]["why"]) for letter in closed} == {("skipped", "told the clinic")}
    assert all(letter["closed"]["by"] for letter in closed)
    shown = invoke("show", one, env=place.env).output
    assert "told the clinic" in shown
    assert invoke("skip", one, "--reason", "again", env=place.env).exit_code == 1


def test_what_cannot_be_stuck_is_not_passed_over(invoke: Invoke, place: Topics) -> None:
    topic = place.names.reminders
    for name, said in (
        ("reminders/0/7", f"error: {topic}/0/7: there is no such event; the partition has 0 to -1"),
        ("reminders/99/0", f"error: {topic}/99/0: the topic has no such partition"),
        ("reminders.audit/0/7", "no worker reads it; give one of"),
        ("0/7", "there is no such letter"),
    ):
        stuck = invoke("skip", name, "--reason", "stuck", env=place.env)
        assert stuck.exit_code == 1
        assert said in stuck.stderr
    assert place.records(place.names.control) == []


def test_what_is_no_letter_is_not_listed(invoke: Invoke, place: Topics) -> None:
    place.letter(encode(GOOD))
    assert invoke("redrive", env=place.env).exit_code == 0
    acts = [dict(record.headers).get("dlq-act", b"").decode() for record in place.records(place.names.dlq)]
    assert sorted(filter(None, acts)) == sorted([Act.BEGUN, Act.SENDING, Act.CLOSED, Act.ENDED])
    assert len(listed(invoke, place, "--all")) == 1
