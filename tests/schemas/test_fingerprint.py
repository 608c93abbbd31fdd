"""The fingerprint against an implementation of our own of what the Avro specification says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.records import RecipientEvent, ReminderEvent

EMPTY = 0xC15D213AA4D7A795
PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


def crc64(data: bytes) -> int:
    """Return the 64-bit Rabin fingerprint, bit by bit, as the specification's pseudo-code defines its table."""
    value = EMPTY
    for byte in data:
        step = (value ^ byte) & 0xFF
        for _ in range(8):
            step = (step >> 1) ^ (EMPTY & -(step & 1))
        value = (value >> 8) ^ step
    return value


def canonical(node: Any, namespace: str = "") -> str:
    """Return the parsing canonical form: PRIMITIVES, FULLNAMES, STRIP, ORDER, STRINGS, INTEGERS, WHITESPACE."""
    if isinstance(node, str):
        name = node if node in PRIMITIVES or "." in node or not namespace else f"{namespace}.{node}"
        return json.dumps(name)
    if isinstance(node, list):
        return "[" + ",".join(canonical(branch, namespace) for branch in node) + "]"
    kind = node["type"]
    if kind in PRIMITIVES:
        return json.dumps(kind)
    parts = []
    if "name" in node:
        full = node["name"] if "." in node["name"] else f"{node.get('namespace', namespace)}.{node['name']}".strip(".")
        namespace = full.rpartition(".")[0]
        parts.append(f'"name":{json.dumps(full)}')
    parts.append(f'"type":{json.dumps(kind)}')
    if "fields" in node:
        fields = (
            f'{{"name":{json.dumps(f["name"])},"type":{canonical(f["type"], namespace)}}}' for f in node["fields"]
        )
        parts.append(f'"fields":[{",".join(fields)}]')
    if "symbols" in node:
        parts.append(f'"symbols":{json.dumps(node["symbols"], separators=(",", ":"))}')
    parts += [f'"{key}":{canonical(node[key], namespace)}' for key in ("items", "values") if key in node]
    if "size" in node:
        parts.append(f'"size":{int(node["size"])}')
    return "{" + ",".join(parts) + "}"


@pytest.mark.parametrize(
    ("schema", "fingerprint"),
    [('"null"', 0x63DD24E7CC258F8A), ('"int"', 0x7275D51A3F395C8F), ('"string"', 0x8F014872634503C7)],
)
def test_the_reference_itself(schema: str, fingerprint: int) -> None:
    assert crc64(schema.encode()) == fingerprint


@pytest.mark.parametrize("kind", codec.CONTRACTS, ids=lambda kind: kind.__name__)
def test_the_fingerprint_is_the_specifications(kind: type) -> None:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
    schema = json.loads(Path(codec.__file__).parent.joinpath("avro", f"{name}.avsc").read_text("utf-8"))
    assert codec.fingerprint(kind) == crc64(canonical(schema).encode()).to_bytes(8, "little")


def test_no_two_records_share_a_fingerprint() -> None:
    assert len({codec.fingerprint(kind) for kind in codec.CONTRACTS}) == len(codec.CONTRACTS)


def test_the_fingerprints_of_producers_are_what_they_were() -> None:
    """Producers write these bytes: a change of them is a change of the contract."""
    assert codec.fingerprint(ReminderEvent).hex() == "bd4b462e638eb973"
    assert codec.fingerprint(RecipientEvent).hex() == "6f9646c3e7616e6c"
