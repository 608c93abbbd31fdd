"""Every released schema reads and is read: bytes of then by code of now, bytes of now by schemas of then."""

import copy
import io
import json
from typing import Any

import fastavro
import pytest

from schemas import codec, wire
from schemas.records import RecipientEvent, ReminderEvent, ReminderRow
from tests.schemas.compat import broken, broken_among
from tests.schemas.release import AVRO, FIXTURES, RELEASED, as_json, bare, file_name, full, least, load, versions
from tests.schemas.samples import plain, without_logical

KINDS = list(codec.CONTRACTS)
RELEASES = [(kind, n + 1) for kind in KINDS for n in range(len(versions(kind)))]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
every_release = pytest.mark.parametrize(("kind", "version"), RELEASES, ids=[f"{k.__name__}-{v}" for k, v in RELEASES])


def contains(whole: Any, part: Any) -> bool:
    """Whether all that a record of then said is said now; newer fields may be there besides."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


@every_release
def test_bytes_of_then_are_read_now(kind: type, version: int) -> None:
    for fixture in load(FIXTURES / f"{file_name(kind)}.{version}.json"):
        value = bytes.fromhex(fixture["value"])
        assert contains(as_json(codec.decode(kind, value)), fixture["record"])
        if kind in {ReminderEvent, RecipientEvent}:
            assert codec.Codec().decode_event(kind, value) == codec.decode(kind, value)


@every_release
def test_bytes_of_then_are_found_by_their_fingerprint(kind: type, version: int) -> None:
    schema = wire.Schema(versions(kind)[version - 1])
    for fixture in load(FIXTURES / f"{file_name(kind)}.{version}.json"):
        assert bytes.fromhex(fixture["value"])[:10] == b"\xc3\x01" + schema.fingerprint()


@every_release
def test_bytes_of_now_are_read_by_schemas_of_then(kind: type, version: int) -> None:
    current = fastavro.parse_schema(without_logical(load(AVRO / f"{file_name(kind)}.avsc")))
    then = fastavro.parse_schema(without_logical(versions(kind)[version - 1]))
    for record in (least(kind), full(kind)):
        body = io.BytesIO(codec.encode(record)[10:])
        assert contains(plain(record), fastavro.schemaless_reader(body, current, then))


@every_kind
def test_no_version_breaks_another(kind: type) -> None:
    assert broken_among([*versions(kind), load(AVRO / f"{file_name(kind)}.avsc")]) == []


@every_kind
def test_what_is_written_has_been_released(kind: type) -> None:
    released = versions(kind)
    assert released, "run python -m tests.schemas.release"
    assert bare(released[-1]) == bare(load(AVRO / f"{file_name(kind)}.avsc")), "run python -m tests.schemas.release"


def test_no_release_is_left_over() -> None:
    known = {f"{file_name(kind)}.{version}" for kind, version in RELEASES}
    assert {path.stem for path in RELEASED.glob("*.avsc")} == known
    assert {path.stem for path in FIXTURES.glob("*.json")} == known


# -- the checker itself catches each kind of break ---------------------------------------------------------------------


def field(schema: Any, *path: str) -> Any:
    """Return a field of a schema by its path."""
    node = schema
    for name in path:
        while "fields" not in node:
            node = node[1] if isinstance(node, list) else node.get("items", node.get("type"))
        node = next(f for f in node["fields"] if f["name"] == name)
        found, node = node, node["type"]
    return found


def add(schema: Any, **new: Any) -> None:
    schema["fields"].append(new)


def drop(schema: Any, name: str) -> None:
    schema["fields"] = [f for f in schema["fields"] if f["name"] != name]


BREAKS = [
    ("added", lambda s: add(s, name="mood", type="string"), "mood: added without a default"),
    ("removed", lambda s: drop(s, "reminder_id"), "reminder_id: removed without a default"),
    ("type", lambda s: field(s, "version").update(type="string"), "version: type changed"),
    ("wider", lambda s: field(s, "jitter_s").update(type="long"), "jitter_s: type changed"),
    ("nullable", lambda s: field(s, "text").update(type=["null", "string"]), "text: type changed"),
    ("not nullable", lambda s: field(s, "at").update(type=field(s, "at")["type"][1]), "at: type changed"),
    ("one more type", lambda s: field(s, "at")["type"].append("string"), "at: type changed"),
    ("symbol", lambda s: field(s, "action")["type"]["symbols"].remove("SNOOZE"), "action: symbol SNOOZE removed"),
    ("enum default", lambda s: field(s, "action")["type"].pop("default"), "action: enum without a default"),
    (
        "other enum default",
        lambda s: field(s, "action")["type"].update(default="UPSERT"),
        "action: default changed",
    ),
    ("enum name", lambda s: field(s, "action")["type"].update(name="Act"), "action: name changed"),
    ("micros", lambda s: field(s, "at")["type"][1].update(logicalType="timestamp-micros"), "at: logical type changed"),
    ("no unit", lambda s: field(s, "at")["type"][1].pop("logicalType"), "at: logical type changed"),
    ("default", lambda s: field(s, "category").update(default="other"), "category: default changed"),
    ("no default", lambda s: field(s, "zone").pop("default"), "zone: default changed"),
    ("pii", lambda s: field(s, "text").pop("pii"), "text: pii lost"),
    ("other pii", lambda s: field(s, "actor").update(pii="content"), "actor: pii lost"),
    ("nested pii", lambda s: field(s, "steps", "address").pop("pii"), "steps[].address: pii lost"),
    ("nested type", lambda s: field(s, "policy", "quorum").update(type="long"), "policy.quorum: type changed"),
    ("map", lambda s: field(s, "data")["type"].update(values="long"), "data{}: type changed"),
    ("array", lambda s: field(s, "exclude")["type"].update(items="long"), "exclude[]: type changed"),
    ("namespace", lambda s: s.update(namespace="other"), ": name changed"),
]


@pytest.mark.parametrize(("change", "fault"), [b[1:] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_the_checker_names_what_a_change_breaks(change: Any, fault: str) -> None:
    old = load(AVRO / "reminder_event.avsc")
    new = copy.deepcopy(old)
    change(new)
    assert fault in broken(old, new)
    if not fault.endswith(("added without a default", "removed without a default", "removed", "lost")):
        assert broken(new, old)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: None,
        lambda s: add(s, name="mood", type="string", default=""),
        lambda s: drop(s, "calendar"),
        lambda s: s["fields"].reverse(),
        lambda s: field(s, "action")["type"]["symbols"].append("ARCHIVE"),
        lambda s: field(s, "zone").update(pii="place"),
        lambda s: field(s, "zone").update(doc="Another word."),
    ],
)
def test_the_checker_lets_pass_what_breaks_nothing(change: Any) -> None:
    old = load(AVRO / "reminder_event.avsc")
    new = copy.deepcopy(old)
    change(new)
    assert broken(old, new) == []


def test_the_checker_looks_at_all_versions() -> None:
    one = load(AVRO / "reminder_event.avsc")
    two, three = copy.deepcopy(one), copy.deepcopy(one)
    drop(two, "calendar")
    field(three, "calendar").update(type="long", default=0)
    assert broken(one, two) == broken(two, three) == []
    assert "1 to 3: calendar: type changed" in broken_among([one, two, three])


def test_fingerprints_do_not_see_what_the_checker_sees() -> None:
    old = load(AVRO / "reminder_row.avsc")
    new = json.loads(json.dumps(old).replace("timestamp-millis", "timestamp-micros"))
    field(new, "reachable").update(default=False)
    assert wire.Schema(copy.deepcopy(new)).fingerprint() == codec.fingerprint(ReminderRow)
    assert {"reachable: default changed", "created_at: logical type changed"} <= set(broken(old, new))
