"""Cases O-28 to O-30 of tests/cases/cases.json, as far as bytes and values go."""

import io
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest

from schemas import codec
from schemas.checks import Reason, check_reminder
from schemas.codec import Codec, Contract, RegistryUnavailable, Undecodable, to_ms
from schemas.records import ReminderEvent
from schemas.wire import read_long, write_long

CASES = {case["id"]: case for case in json.loads(Path(__file__).with_name("cases.json").read_text("utf-8"))}
NOW = 1_768_467_600_000


# -- O-28: Confluent framing -------------------------------------------------------------------------------------------

O28 = CASES["O-28"]
SCHEMA = O28["input"]["schema_id_42"]
MESSAGES = [bytes.fromhex(message) for message in O28["input"]["messages_hex"]]


@dataclass(frozen=True, slots=True)
class ReminderDue:
    """The record of the case."""

    id: str
    due: int


class Source:
    """A registry that knows schema 42, or does not answer."""

    def __init__(self) -> None:
        self.up = True

    async def schemas(self, ids: Iterable[int]) -> dict[int, str | None]:
        if not self.up:
            raise RegistryUnavailable("down")
        return {schema_id: json.dumps(SCHEMA) if schema_id == 42 else None for schema_id in ids}


def reader_of_the_case(source: Source) -> Codec:
    return Codec(source, {ReminderDue: Contract(ReminderDue, json.loads(json.dumps(SCHEMA)))})


O28_ANSWERS = [
    None,
    (Reason.UNKNOWN_FRAMING, "first byte 0x06"),
    (Reason.JSON_NOT_AVRO, ""),
    (Reason.TRUNCATED, "ends after 2 bytes"),
    (Reason.EMPTY_VALUE, ""),
    (Reason.UNKNOWN_SCHEMA_ID, "9999"),
    (Reason.TRUNCATED, "ends after 9 bytes"),
    (Reason.TRAILING_BYTES, "1 bytes after the record"),
]


@pytest.mark.parametrize("n", range(len(MESSAGES)))
async def test_o28_each_message(n: int) -> None:
    reader = reader_of_the_case(Source())
    await reader.prefetch(MESSAGES)
    answer = O28_ANSWERS[n]
    if answer is None:
        expected = O28["expected"]["messages"][n]
        due = to_ms(datetime.fromisoformat(expected["due"]))
        assert reader.decode_event(ReminderDue, MESSAGES[n]) == ReminderDue(expected["id"], due)
        return
    assert O28["expected"]["messages"][n].startswith(("DLQ", "unknown id 9999"))
    with pytest.raises(Undecodable) as caught:
        reader.decode_event(ReminderDue, MESSAGES[n])
    assert (caught.value.reason, caught.value.value) == answer
    assert caught.value.remedy


async def test_o28_an_unreachable_registry_says_nothing_about_an_event() -> None:
    source = Source()
    reader = reader_of_the_case(source)
    source.up = False
    with pytest.raises(RegistryUnavailable):
        await reader.prefetch([MESSAGES[5]])
    with pytest.raises(RegistryUnavailable):
        reader.decode_event(ReminderDue, MESSAGES[5])
    source.up = True
    await reader.prefetch([MESSAGES[5]])
    with pytest.raises(Undecodable):
        reader.decode_event(ReminderDue, MESSAGES[5])


async def test_o28_a_schema_of_another_record_is_refused_on_our_topic() -> None:
    reader = Codec(Source())
    await reader.prefetch([MESSAGES[0]])
    with pytest.raises(Undecodable) as caught:
        reader.decode_event(ReminderEvent, MESSAGES[0])
    assert caught.value.reason is Reason.INCOMPATIBLE_SCHEMA
    assert "is ReminderDue, not ReminderEvent" in caught.value.value


@pytest.mark.parametrize("n", range(1, len(MESSAGES)))
def test_o28_without_a_registry(n: int) -> None:
    with pytest.raises(Undecodable) as caught:
        Codec().decode_event(ReminderEvent, MESSAGES[n])
    framed = MESSAGES[n][:1] == b"\0" and len(MESSAGES[n]) >= 5
    assert (caught.value.reason is Reason.NO_REGISTRY) is framed


# -- O-29: ms and µs ---------------------------------------------------------------------------------------------------

O29 = {vector["n"]: vector for vector in CASES["O-29"]["input"]["vectors"]}
O29_EXPECTED = {vector["n"]: vector for vector in CASES["O-29"]["expected"]["vectors"]}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_o29_instants_are_the_numbers_of_the_case(n: int) -> None:
    """Vector 2 is what a producer of µs writes: the same instant, but another number."""
    instant = to_ms(datetime.fromisoformat(O29[n]["value"]))
    number = instant * 1000 if O29[n]["type"] == "timestamp-micros" else instant
    assert number == O29_EXPECTED[n]["long"]
    raw = bytes.fromhex(O29_EXPECTED[n]["hex"])
    assert write_long(number) == raw
    assert read_long(raw, 0) == (number, len(raw))
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, {"type": "long", "logicalType": O29[n]["type"]}, datetime.fromisoformat(O29[n]["value"])
    )
    assert out.getvalue() == raw


def event_with(raw: str) -> bytes:
    """Return an event whose ``at`` is the bytes of a vector."""
    mark = 1 << 40
    value = codec.encode(ReminderEvent("r-1", "anna", text="x", at=mark))
    return value.replace(write_long(mark), bytes.fromhex(raw))


def test_o29_micros_read_as_ms_are_implausible_and_nobody_overflows() -> None:
    """Vector 5: µs on our topic of ms."""
    event = codec.decode(ReminderEvent, event_with(O29[5]["hex"]))
    assert event.at == NOW * 1000
    fault = check_reminder(event, NOW, NOW)
    assert fault is not None
    assert (fault.reason, fault.field) == (Reason.IMPLAUSIBLE_TIME, "at")
    assert "µs" in fault.remedy


def test_o29_ms_read_as_micros_are_implausible_and_not_sent_at_once() -> None:
    """Vector 4: what decodes to January 1970 is refused, and so is a moment before 1970 (vector 3)."""
    wrong = to_ms(datetime.fromisoformat(O29_EXPECTED[4]["decodes_to"]))
    for at in (wrong, -1):
        fault = check_reminder(ReminderEvent("r-1", "anna", text="x", at=at), NOW, NOW)
        assert fault is not None
        assert (fault.reason, fault.field) == (Reason.IMPLAUSIBLE_TIME, "at")


async def test_o29_a_registrys_micros_are_refused_though_fingerprints_are_equal() -> None:
    ours = codec.CONTRACTS[ReminderEvent].schema.root
    theirs = json.dumps(ours, default=str).replace("timestamp-millis", "timestamp-micros")

    class Micros(Source):
        async def schemas(self, ids: Iterable[int]) -> dict[int, str | None]:
            return dict.fromkeys(ids, theirs)

    reader = Codec(Micros())
    value = struct.pack(">bI", 0, 42) + event_with(O29[5]["hex"])[10:]
    await reader.prefetch([value])
    with pytest.raises(Undecodable) as caught:
        reader.decode_event(ReminderEvent, value)
    assert (caught.value.reason, caught.value.field) == (Reason.INCOMPATIBLE_SCHEMA, "at")
    assert "timestamp-micros, not timestamp-millis" in caught.value.value


@pytest.mark.parametrize("zone", [O29[6]["process_tz"], "UTC"])
def test_o29_a_datetime_without_a_zone_is_refused_before_encoding(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    naive: Any = datetime.fromisoformat(O29[6]["naive_value"])
    with pytest.raises(ValueError, match="without a zone"):
        to_ms(naive)
    with pytest.raises(codec.Unencodable, match="at is datetime, not long"):
        codec.encode(ReminderEvent("r-1", at=naive))
    assert to_ms(naive.replace(tzinfo=UTC)) == NOW


# -- O-30: one bad message ---------------------------------------------------------------------------------------------


def test_o30_the_bytes_of_the_case_are_refused_and_their_neighbours_read() -> None:
    partition = CASES["O-30"]["input"]["partition"]
    raw = bytes.fromhex(partition[2].removeprefix("bytes "))
    values = [codec.encode(ReminderEvent(f"r-{n}")) for n in (1, 2)] + [raw] + [codec.encode(ReminderEvent("r-5"))]
    read, reasons = [], []
    for value in values:
        try:
            read.append(Codec().decode_event(ReminderEvent, value).reminder_id)
        except Undecodable as wrong:
            reasons.append((wrong.reason, wrong.value))
    assert read == ["r-1", "r-2", "r-5"]
    assert reasons == [(Reason.UNKNOWN_FRAMING, "first byte 0xff")]
