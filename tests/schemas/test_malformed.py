"""Each way in which bytes can be no event has its reason, its field, its value and its remedy."""

import io
import json
import struct
from typing import Any

import fastavro
import pytest

from schemas import codec, wire
from schemas.checks import Reason
from schemas.codec import Codec, RegistryUnavailable, Undecodable
from schemas.ids import MAX_EVENT_BYTES
from schemas.names import Channel
from schemas.records import Contact, Content, Policy, RecipientEvent, ReminderEvent, Step
from schemas.wire import write_long

HEAD = b"\xc3\x01" + codec.fingerprint(ReminderEvent)
GOOD = codec.encode(ReminderEvent("r-1", "anna", "2026-12-01T09:00", "Europe/Berlin", "Pills"))


def text(value: bytes) -> bytes:
    return write_long(len(value)) + value


def refused(value: Any, kind: type = ReminderEvent, reader: Codec | None = None) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        (reader or Codec()).decode_event(kind, value)
    wrong = caught.value
    assert wrong.fault.reason is wrong.reason
    assert (wrong.fault.field, wrong.fault.value, wrong.fault.remedy) == (wrong.field, wrong.value, wrong.remedy)
    assert str(wrong).startswith(f"{wrong.reason}: ")
    assert "\n" not in str(wrong)
    return wrong


FRAMES = [
    (b"", "empty_value", "", "a tombstone is a null value"),
    (None, "null_value", "", "send a record"),
    (b'{"reminder_id":"r-1"}', "json_not_avro", "", "as Avro, not as JSON"),
    (b' \n [{"reminder_id":"r-1"}]', "json_not_avro", "", "as Avro, not as JSON"),
    (b"\x06r-1\x80\xca\x90\x8e\xf8\x66", "unknown_framing", "first byte 0x06", "single-object"),
    (b"\xff\xff\xff", "unknown_framing", "first byte 0xff", "single-object"),
    (b"\xc3\x02" + GOOD[2:], "unknown_framing", "first byte 0xc3", "single-object"),
    (GOOD[10:], "unknown_framing", "first byte 0x06", "single-object"),
    (b"\xc3", "truncated", "ends after 1 bytes", "send the whole record"),
    (b"\xc3\x01\x00", "truncated", "ends after 3 bytes", "send the whole record"),
    (HEAD, "truncated", "ends after 10 bytes", "send the whole record"),
    (b"\xc3\x01" + b"\x01" * 8 + GOOD[10:], "unknown_fingerprint", "0101010101010101", "update the service"),
    (codec.encode(RecipientEvent("anna")), "incompatible_schema", "RecipientEvent", "send ReminderEvent"),
    (b"\x00\x00\x00\x00\x2a" + GOOD[10:], "no_registry", "0x00 and a schema id", "SCHEMA_REGISTRY_URL"),
    (GOOD + b"\xff", "trailing_bytes", "1 bytes after the record", "one record an event"),
    (GOOD + GOOD, "trailing_bytes", f"{len(GOOD)} bytes after the record", "one record an event"),
    (
        b"\xc3\x01" + bytes(MAX_EVENT_BYTES),
        "oversize",
        f"{MAX_EVENT_BYTES + 2} bytes",
        f"at most {MAX_EVENT_BYTES} bytes",
    ),
    (b"{" * (MAX_EVENT_BYTES + 1), "oversize", f"{MAX_EVENT_BYTES + 1} bytes", "at most"),
]


@pytest.mark.parametrize(
    ("value", "reason", "shows", "remedy"), FRAMES, ids=[f"{n}-{f[1]}" for n, f in enumerate(FRAMES)]
)
def test_a_frame(value: bytes | None, reason: str, shows: str, remedy: str) -> None:
    wrong = refused(value)
    assert (wrong.reason.value, wrong.value) == (reason, shows)
    assert remedy in wrong.remedy
    assert wrong.parked is (reason == "unknown_fingerprint")


def test_the_largest_event_is_read() -> None:
    event = ReminderEvent("r-1", text="x" * (MAX_EVENT_BYTES - len(codec.encode(ReminderEvent("r-1"))) - 2))
    value = codec.encode(event)
    assert len(value) == MAX_EVENT_BYTES
    assert Codec().decode_event(ReminderEvent, value) == event
    assert refused(value + b"\x00").reason is Reason.OVERSIZE


# The first fields are reminder_id, recipient_id, local, zone, text, action, at.
START = HEAD + text(b"r-1") + text(b"anna") + text(b"2026-12-01T09:00") + text(b"")
BODIES = [
    (HEAD + b"\x06r-", "truncated", "reminder_id", "ends after 13 bytes"),
    (HEAD + b"\x05r-", "invalid", "reminder_id", "length -3"),
    (HEAD + b"\x80", "truncated", "reminder_id", "ends after 11 bytes"),
    (HEAD + b"\xff" * 12, "invalid", "reminder_id", "a number longer than 64 bits"),
    (HEAD + text(b"caf\xe9"), "bad_utf8", "reminder_id", "caf\\xe9"),
    (HEAD + text(b"r-1") + text(b"\xed\xa0\x80"), "bad_utf8", "recipient_id", "\\xed\\xa0\\x80"),
    (START + text(b"Ihr Code: \xff"), "bad_utf8", "text", "*** (12 characters)"),
    (START + text(b"x") + b"\x7f", "invalid", "action", "symbol -64 of 11"),
    (START + text(b"x") + b"\x18", "invalid", "action", "symbol 12 of 11"),
    (START + text(b"x") + b"\x00" + GOOD[-1:] * 40, "invalid", "", ""),
    (START + text(b"x") + b"\x02" + b"\x04", "invalid", "at", "branch 2 of 2"),
    (START + text(b"x") + b"\x02" + b"\x03", "invalid", "at", "branch -2 of 2"),
    (START + text(b"x") + b"\x02" + b"\x02" + b"\x80" * 11, "invalid", "at", "a number longer than 64 bits"),
]


@pytest.mark.parametrize(
    ("value", "reason", "field", "shows"), BODIES, ids=[f"{n}-{b[1]}" for n, b in enumerate(BODIES)]
)
def test_a_body(value: bytes, reason: str, field: str, shows: str) -> None:
    wrong = refused(value)
    if field:
        assert (wrong.reason.value, wrong.field, wrong.value) == (reason, field, shows)
    assert wrong.remedy


def test_a_symbol_of_a_later_version_is_parked() -> None:
    # UNKNOWN itself, which nobody may send: as the action of a whole event, then of a chain's step.
    at = GOOD.index(b"Pills") + 5
    assert GOOD[at] == 2
    wrong = refused(GOOD[:at] + b"\x00" + GOOD[at + 1 :])
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.NEEDS_NEWER_SERVICE, "action", "UNKNOWN")
    assert wrong.parked
    assert "UPSERT" in wrong.remedy

    value = codec.encode(ReminderEvent("r-1", steps=(Step(Channel.SMS, address="+491701234567"), Step(Channel.EMAIL))))
    at = value.index(b"+49") + 13
    assert value[at] == 2
    wrong = refused(value[:at] + b"\x00" + value[at + 1 :])
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.NEEDS_NEWER_SERVICE, "steps[1].channel", "UNKNOWN")


def test_broken_structure_is_told_before_an_unknown_symbol() -> None:
    at = GOOD.index(b"Pills") + 5
    assert refused(GOOD[:at] + b"\x00" + GOOD[at + 1 : -1]).reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("event", "old", "new", "field", "shows"),
    [
        (ReminderEvent("r", title="secret"), b"secret", b"secre\xff", "title", "*** (9 characters)"),
        (ReminderEvent("r", data={"pin": "1234"}), b"1234", b"123\xff", "data", "*** (7 characters)"),
        (ReminderEvent("r", data={"pin": "1234"}), b"pin", b"pi\xff", "data", "*** (6 characters)"),
        (ReminderEvent("r", actor="anna"), b"anna", b"ann\xff", "actor", "*** (7 characters)"),
        (ReminderEvent("r", category="bills"), b"bills", b"bill\xff", "category", "bill\\xff"),
    ],
)
def test_what_is_personal_is_masked(event: ReminderEvent, old: bytes, new: bytes, field: str, shows: str) -> None:
    wrong = refused(codec.encode(event).replace(old, new))
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.BAD_UTF8, field, shows)


def test_an_address_is_masked() -> None:
    value = codec.encode(RecipientEvent("anna", contacts=(Contact(Channel.EMAIL, "anna@example.org"),)))
    wrong = refused(value.replace(b"anna@", b"ann\xff@"), RecipientEvent)
    assert (wrong.reason, wrong.field) == (Reason.BAD_UTF8, "contacts[0].address")
    assert "ann" not in wrong.value
    assert "example" not in wrong.value
    value = codec.encode(Content(addresses=("a", "+4917012")))
    with pytest.raises(Undecodable) as caught:
        codec.decode(Content, value.replace(b"+4917012", b"+491701\xff"))
    assert caught.value.field == "addresses[1]"
    assert "1701" not in caught.value.value


def test_numbers_of_more_than_32_bits() -> None:
    wide = codec.encode(ReminderEvent("r", policy=Policy(max_lateness_s=1 << 30)))
    wrong = refused(wide.replace(write_long(1 << 30), write_long(1 << 33)))
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.INVALID, "policy.max_lateness_s", str(1 << 33))


def test_a_boolean_is_one_bit() -> None:
    value = codec.encode(RecipientEvent("anna", contacts=(Contact(Channel.EMAIL, "a@b", "", verified=True),)))
    at = value.index(b"a@b") + 4
    assert value[at] == 1
    wrong = refused(value[:at] + b"\x02" + value[at + 1 :], RecipientEvent)
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.INVALID, "contacts[0].verified", "2 as a boolean")


def test_a_symbol_written_the_long_way_is_refused_and_not_misread() -> None:
    at = GOOD.index(b"Pills") + 5
    wrong = refused(GOOD[:at] + b"\x82\x00" + GOOD[at + 1 :])
    assert (wrong.reason, wrong.value) == (Reason.INVALID, "not in its shortest form")


# -- Confluent framing -------------------------------------------------------------------------------------------------


class Source:
    """A registry's answers."""

    def __init__(self, answers: dict[int, str | None]) -> None:
        self.answers = answers
        self.asked: list[set[int]] = []

    async def schemas(self, ids: Any) -> dict[int, str | None]:
        self.asked.append(set(ids))
        if any(schema_id not in self.answers for schema_id in ids):
            raise RegistryUnavailable("down")
        return {schema_id: self.answers[schema_id] for schema_id in ids}


def framed(schema_id: int, body: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + body


OURS = codec.CONTRACTS[ReminderEvent].schema.root


def changed(**changes: Any) -> str:
    """Return the schema of reminders with other types for some fields."""
    return json.dumps({**OURS, "fields": [{**f, **changes.get(f["name"], {})} for f in OURS["fields"]]}, default=str)


async def test_an_event_in_confluent_framing_is_read() -> None:
    source = Source({7: changed(), 8: None})
    reader = Codec(source)
    value = framed(7, GOOD[10:])
    await reader.prefetch([value, None, b"", GOOD, b"\x00\x01", value])
    assert reader.decode_event(ReminderEvent, value) == codec.decode(ReminderEvent, GOOD)
    assert reader.decode_event(ReminderEvent, GOOD) == codec.decode(ReminderEvent, GOOD)
    await reader.prefetch([value])
    assert source.asked == [{7}]
    for cut in range(5, len(value)):
        assert refused(value[:cut], reader=reader).reason is Reason.TRUNCATED
    assert refused(value + b"\xff", reader=reader).reason is Reason.TRAILING_BYTES
    assert refused(b"\x00\x00", reader=reader).reason is Reason.TRUNCATED


async def test_an_unknown_id_is_refused_and_one_not_asked_for_is_never_guessed() -> None:
    source = Source({9999: None})
    reader = Codec(source)
    value = framed(9999, GOOD[10:])
    with pytest.raises(RegistryUnavailable):
        reader.decode_event(ReminderEvent, value)
    await reader.prefetch([value])
    wrong = refused(value, reader=reader)
    assert (wrong.reason, wrong.value, wrong.parked) == (Reason.UNKNOWN_SCHEMA_ID, "9999", False)
    source.answers[9999] = changed()
    await reader.prefetch([value])
    assert reader.decode_event(ReminderEvent, value).reminder_id == "r-1"


async def test_no_answer_is_no_answer() -> None:
    with pytest.raises(RegistryUnavailable):
        await Codec(Source({})).prefetch([framed(5, b"")])


FOREIGN = [
    (changed(at={"type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]}), "at", "timestamp-micros"),
    (changed(version={"type": "string"}), "version", "is string, not long"),
    (changed(jitter_s={"type": "long"}), "jitter_s", "is long, not int"),
    (changed(reminder_id={"name": "id"}), "reminder_id", "is missing and has no default"),
    ('{"type": "record", "name": "Other", "fields": []}', "", "is Other, not ReminderEvent"),
    ('["null", "string"]', "", "is a union"),
    ('"string"', "", "is string, not record"),
    ('"PROTOBUF"', "", "is no Avro schema of its own"),
    ("{", "", "is no Avro schema of its own"),
    ("[" * 100_000, "", "is no Avro schema of its own"),
    ('{"type": "record", "name": "ReminderEvent"}', "reminder_id", "is missing and has no default"),
    ('{"type": "record", "name": "ReminderEvent", "fields": [{"name": "x", "type": "Y"}]}', "", "is no Avro schema"),
    (changed(text={"type": ["null", "string", "long"]}), "text", "is long, not string"),
]


@pytest.mark.parametrize(("schema", "field", "why"), FOREIGN)
async def test_a_schema_that_is_not_ours_is_refused_as_such(schema: str, field: str, why: str) -> None:
    reader = Codec(Source({3: schema}))
    value = framed(3, GOOD[10:])
    await reader.prefetch([value])
    for _ in range(2):
        wrong = refused(value, reader=reader)
        assert (wrong.reason, wrong.field) == (Reason.INCOMPATIBLE_SCHEMA, field)
        assert why in wrong.value
        assert "schemas/avro" in wrong.remedy


async def test_a_newer_producer_is_read_as_far_as_it_is_known() -> None:
    """A field more, a symbol more: what is known is read, what is not is parked with the symbol's own name."""
    schema = json.loads(changed())
    schema["fields"].append({"name": "mood", "type": ["null", "string"], "default": None})
    action = next(f for f in schema["fields"] if f["name"] == "action")
    action["type"] = {**action["type"], "symbols": [*action["type"]["symbols"], "ARCHIVE"]}
    reader = Codec(Source({4: json.dumps(schema)}))

    def made(**fields: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), fields)
        return framed(4, out.getvalue())

    plain = made(reminder_id="r-9", text="x", mood="good")
    newer = made(reminder_id="r-9", text="x", action="ARCHIVE")
    await reader.prefetch([plain, newer])
    assert reader.decode_event(ReminderEvent, plain) == ReminderEvent("r-9", text="x")
    wrong = refused(newer, reader=reader)
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.NEEDS_NEWER_SERVICE, "action", "ARCHIVE")


async def test_many_unknown_ids_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_UNKNOWN_IDS_KEPT", 3)
    reader = Codec(Source(dict.fromkeys(range(10))))
    for schema_id in range(10):
        await reader.prefetch([framed(schema_id, b"")])
    assert list(reader._unknown) == [7, 8, 9]


async def test_a_producer_that_writes_null_for_nothing_is_read_where_it_writes_something() -> None:
    schema = changed(text={"type": ["null", "string"]})
    reader = Codec(Source({5: schema}))
    some, none = (io.BytesIO(), io.BytesIO())
    fastavro.schemaless_writer(some, fastavro.parse_schema(json.loads(schema)), {"reminder_id": "r", "text": "x"})
    fastavro.schemaless_writer(none, fastavro.parse_schema(json.loads(schema)), {"reminder_id": "r", "text": None})
    await reader.prefetch([framed(5, b"")])
    assert reader.decode_event(ReminderEvent, framed(5, some.getvalue())) == ReminderEvent("r", text="x")
    wrong = refused(framed(5, none.getvalue()), reader=reader)
    assert (wrong.reason, wrong.field, wrong.value) == (Reason.INCOMPATIBLE_SCHEMA, "text", "null")


def test_a_number_without_end_costs_nothing() -> None:
    with pytest.raises(OverflowError):
        wire.read_long(b"\xff" * 1_000_000, 0)
