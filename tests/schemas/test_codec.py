"""Records survive the way to bytes and back, are what fastavro makes of them, and no bytes do any harm."""

import dataclasses
import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import codec, wire
from schemas.checks import Reason
from schemas.codec import Undecodable, Unencodable
from schemas.names import Channel, State
from schemas.records import (
    Applied,
    Content,
    Delivery,
    Occurrence,
    Policy,
    ReminderEvent,
    ReminderRow,
    Step,
    TemplateRecord,
)
from tests.effort import times
from tests.schemas.samples import any_record, plain, without_logical

KINDS = list(codec.CONTRACTS)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@every_kind
@settings(max_examples=times(60), deadline=None)
@given(data=st.data())
def test_a_record_survives_and_fastavro_agrees(kind: type, data: st.DataObject) -> None:
    record = data.draw(any_record(kind))
    value = codec.encode(record)
    assert value[:2] == b"\xc3\x01"
    assert value[2:10] == codec.fingerprint(kind)
    back = codec.decode(kind, value)
    assert back == record
    assert type(back) is kind
    assert dataclasses.replace(back) == record

    schema = fastavro.parse_schema(without_logical(json.loads(_avsc(kind).read_text("utf-8"))))
    assert fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, None) == plain(record)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, plain(record))
    assert out.getvalue() == value[10:]


def _avsc(kind: type) -> Path:
    names = {p.stem.replace("_", ""): p for p in Path(codec.__file__).parent.joinpath("avro").glob("*.avsc")}
    return names[kind.__name__.lower()]


def test_every_schema_has_a_record() -> None:
    files = {path.name for path in Path(codec.__file__).parent.joinpath("avro").glob("*.avsc")}
    assert {_avsc(kind).name for kind in KINDS} == files


@every_kind
@settings(max_examples=times(150), deadline=None)
@given(body=st.binary(max_size=300))
@example(body=b"")
@example(body=b"\xff" * 40)
@example(body=b"\x01" * 40)
def test_any_body_is_a_record_or_undecodable(kind: type, body: bytes) -> None:
    _decode_or_say(kind, b"\xc3\x01" + codec.fingerprint(kind) + body)


@settings(max_examples=times(300), deadline=None)
@given(value=st.binary(max_size=64), kind=st.sampled_from(KINDS))
def test_any_bytes_are_a_record_or_undecodable(kind: type, value: bytes) -> None:
    _decode_or_say(kind, value)


@every_kind
@settings(max_examples=times(60), deadline=None)
@given(data=st.data())
def test_a_damaged_record_is_a_record_or_undecodable(kind: type, data: st.DataObject) -> None:
    value = bytearray(codec.encode(data.draw(any_record(kind))))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(10, len(value) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_say(kind, bytes(value))


def _decode_or_say(kind: type, value: bytes) -> None:
    wrong = None
    try:
        record = codec.decode(kind, value)
    except Undecodable as caught:
        wrong = caught
    if wrong is None:
        assert codec.encode(codec.decode(kind, codec.encode(record))) == codec.encode(record)
    else:
        assert isinstance(wrong.reason, Reason)
        assert wrong.remedy
        assert len(wrong.value) <= 80
        assert wrong.value.isprintable()


@every_kind
@settings(max_examples=times(25), deadline=None)
@given(data=st.data())
def test_every_shorter_value_is_truncated_and_every_longer_one_trails(kind: type, data: st.DataObject) -> None:
    value = codec.encode(data.draw(any_record(kind)))
    cuts = range(1, len(value)) if len(value) < 80 else data.draw(st.lists(st.integers(1, len(value) - 1), max_size=30))
    for cut in cuts:
        with pytest.raises(Undecodable) as caught:
            codec.decode(kind, value[:cut])
        # A cut in the middle of a character, too, is a cut.
        assert caught.value.reason is Reason.TRUNCATED, (cut, caught.value)
    with pytest.raises(Undecodable) as caught:
        codec.decode(kind, value + data.draw(st.binary(min_size=1, max_size=4)))
    assert caught.value.reason is Reason.TRAILING_BYTES


def test_a_decoded_record_is_frozen_and_slotted() -> None:
    event = codec.decode(ReminderEvent, codec.encode(ReminderEvent("r-1", data={"a": "b"})))
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.text = "other"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")
    assert hash(dataclasses.replace(event.policy or Policy())) == hash(Policy())


def test_decoded_maps_are_not_shared() -> None:
    value = codec.encode(ReminderEvent("r-1"))
    assert codec.decode(ReminderEvent, value).data is not codec.decode(ReminderEvent, value).data


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (ReminderEvent("r", steps=(Step(Channel.UNKNOWN, address="x"),)), "steps[0].channel is never UNKNOWN"),
        (ReminderEvent("r", steps=(Step(Channel.ANY),)), "steps[0].channel is never ANY"),
        (ReminderEvent("r", version=1 << 63), "version is longer than 64 bits"),
        (ReminderEvent("r", jitter_s=1 << 31), "jitter_s is longer than 32 bits"),
        (ReminderEvent("r", policy=Policy(nag_max=-(1 << 31) - 1)), "policy.nag_max is longer than 32 bits"),
        (ReminderEvent("r", text="\ud800"), "text holds half a character"),
        (ReminderEvent(None), "reminder_id is NoneType, not string"),  # type: ignore[arg-type]
        (ReminderEvent("r", steps=None), "steps is NoneType, not array"),  # type: ignore[arg-type]
        (ReminderEvent("r", data={"a": 1}), "data is int, not string"),  # type: ignore[dict-item]
        (ReminderEvent("r", version=1.5), "version is float, not long"),  # type: ignore[arg-type]
        (ReminderRow(open=Occurrence("o", State.UNKNOWN, 1, 2, 3)), "open.state is never UNKNOWN"),
        (ReminderRow(applied=(Applied("t", None),)), "applied[0].offset is NoneType"),  # type: ignore[arg-type]
        (Delivery("d", "r", "o", "nowhere"), "channel is never nowhere"),  # type: ignore[arg-type]
        (object(), "object has no schema"),
        (Step(Channel.EMAIL), "Step has no schema"),
    ],
)
def test_what_does_not_fit_is_not_written(record: object, says: str) -> None:
    with pytest.raises(Unencodable) as caught:
        codec.encode(record)
    assert says in str(caught.value)


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -64, -65, 8191, 8192, -8192, 8193, (1 << 27) - 1, 1 << 27])
@pytest.mark.parametrize("shift", [0, 14, 34])
def test_numbers_at_the_edges(number: int, shift: int) -> None:
    number <<= shift
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert wire.write_long(number) == out.getvalue()
    assert wire.read_long(out.getvalue(), 0) == (number, len(out.getvalue()))


@pytest.mark.parametrize("number", [(1 << 63) - 1, -(1 << 63)])
def test_the_largest_numbers(number: int) -> None:
    assert wire.read_long(wire.write_long(number), 0)[0] == number
    for more in (number * 2, 1 << 64, -(1 << 64)):
        with pytest.raises(OverflowError):
            wire.write_long(more)
    with pytest.raises(OverflowError):
        wire.read_long(b"\xff" * 10 + b"\x01", 0)
    with pytest.raises(OverflowError):
        wire.read_long(b"\xff" * 9 + b"\x02", 0)


@pytest.mark.parametrize("ms", [0, 1, 1_099_511_627_775, 1_099_511_627_776, 2_199_023_255_551, 2_199_023_255_552, -1])
def test_times_about_the_six_bytes_that_are_read_fast(ms: int) -> None:
    for after in ("", "x" * 20):
        event = ReminderEvent("r", at=ms, expires_at=ms, text=after)
        assert codec.decode(ReminderEvent, codec.encode(event)) == event


def test_arrays_and_maps_in_several_blocks_with_sizes() -> None:
    head = b"\xc3\x01" + codec.fingerprint(Content)
    # Two blocks of one entry each, the first with its size in bytes.
    data = b"\x01\x08\x02a\x02b" + b"\x02\x02c\x02d" + b"\x00"
    addresses = b"\x03\x08\x02x\x02y" + b"\x02\x02z" + b"\x00"
    content = codec.decode(Content, head + b"\x00\x00" + data + addresses + b"\x00")
    assert content == Content(data={"a": "b", "c": "d"}, addresses=("x", "y", "z"))


@pytest.mark.parametrize("count", [1 << 20, 1 << 60, -(1 << 60)])
def test_a_count_of_what_is_not_there_costs_nothing(count: int) -> None:
    body = b"\x00\x00" + wire.write_long(count) + (b"\x00" if count < 0 else b"")
    with pytest.raises(Undecodable) as caught:
        codec.decode(Content, b"\xc3\x01" + codec.fingerprint(Content) + body)
    assert (caught.value.reason, caught.value.field) == (Reason.TRUNCATED, "data")


def test_an_instant_is_ms_or_has_a_zone() -> None:
    assert codec.to_ms(1_768_467_600_000) == 1_768_467_600_000
    assert codec.to_ms(datetime(2026, 1, 15, 9, tzinfo=UTC)) == 1_768_467_600_000
    assert codec.to_ms(datetime(2026, 1, 15, 4, tzinfo=timezone(timedelta(hours=-5)))) == 1_768_467_600_000
    assert codec.to_ms(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == -1
    assert codec.to_ms(datetime(2026, 1, 15, 9, 0, 0, 1999, tzinfo=UTC)) == 1_768_467_600_001
    with pytest.raises(ValueError, match="without a zone"):
        codec.to_ms(datetime(2026, 1, 15, 9))  # noqa: DTZ001
    for wrong in (True, 1.5, "2026"):
        with pytest.raises(TypeError, match="an instant is"):
            codec.to_ms(wrong)  # type: ignore[arg-type]


def test_a_writer_that_never_saw_a_field_gets_its_default() -> None:
    """A writer's schema is released: what it lacks takes our default, what it has too much is stepped over."""
    schema: Any = json.loads(_avsc(TemplateRecord).read_text("utf-8"))
    older = json.loads(json.dumps(schema))
    older["fields"] = [f for f in older["fields"] if f["name"] not in {"parts", "actor"}]
    older["fields"].append({"name": "weights", "type": {"type": "array", "items": ["null", "double"]}, "default": []})
    contract = codec.Contract(TemplateRecord, schema, [older])
    out = io.BytesIO()
    fastavro.schemaless_writer(out, older, {"name": "t", "version": 3, "at": 5, "weights": [1.5, None]})
    value = b"\xc3\x01" + wire.Schema(older).fingerprint() + out.getvalue()
    assert contract.decode(value) == TemplateRecord("t", 3, 5)
    with pytest.raises(Undecodable) as caught:
        contract.decode(value[:-1])
    assert (caught.value.reason, caught.value.field) == (Reason.TRUNCATED, "weights")
