"""What the bytes of a letter are: a dump, and what they say under every schema that is known. Personal values are
masked unless they are asked for."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.checks import masked, shown
from schemas.codec import CONTRACTS, MAGIC, Undecodable
from schemas.wire import Node, Schema, type_of

#: Bytes of single-object encoding and of Confluent framing before the body.
_SINGLE, _CONFLUENT = 10, 5
_WIDTH = 16


# -- the dump ----------------------------------------------------------------------------------------------------------


def named(value: bytes) -> str:
    """Return the record whose fingerprint bytes carry, "" if they carry none that is known."""
    return next((c.kind.__name__ for c in CONTRACTS.values() if value[:_SINGLE] in c.headers), "")


def framing(value: bytes) -> tuple[int, str]:
    """Return how many bytes the framing takes, and what it says."""
    if value[:2] == MAGIC and len(value) >= _SINGLE:
        kind = named(value) or "not known"
        return _SINGLE, f"single-object encoding, fingerprint {value[2:_SINGLE].hex()} ({kind})"
    if value[:1] == b"\0" and len(value) >= _CONFLUENT:
        return _CONFLUENT, f"Confluent framing, schema id {int.from_bytes(value[1:_CONFLUENT], 'big')}"
    return 0, "none that is known"


def dump(value: bytes, limit: int, *, reveal: bool) -> Iterator[str]:
    """Yield a dump in lines. Unless revealed, every byte behind the framing that may be of a text is ``**``."""
    clear = framing(value)[0]
    for start in range(0, min(len(value), limit), _WIDTH):
        cells, text = [], ""
        for at in range(start, min(start + _WIDTH, len(value), limit)):
            byte = value[at]
            hidden = not reveal and at >= clear and byte >= 0x20
            cells.append("**" if hidden else f"{byte:02x}")
            text += "*" if hidden else chr(byte) if 0x20 <= byte < 0x7F else "."
        left, right = " ".join(cells[:8]), " ".join(cells[8:])
        yield f"{start:08x}  {left:<23}  {right:<23}  |{text}|"
    if len(value) > limit:
        yield f"… {len(value) - limit} more bytes (--bytes {len(value)})"


# -- under every schema ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What the bytes are under one schema: the record, or why not."""

    kind: str
    record: object | None
    why: str


def readings(value: bytes) -> list[Reading]:
    """Return what the body behind the framing is under every known schema, released ones included."""
    body = value[framing(value)[0] :]
    found = []
    for contract in CONTRACTS.values():
        why = ""
        for header in contract.headers:
            try:
                record = contract.decode(header + body)
            except Undecodable as wrong:
                # Without the value: under another schema than its own it may be anybody's text.
                why = why or f"{wrong.reason}: {wrong.field or 'the record as a whole'}"
            else:
                found.append(Reading(contract.kind.__name__, record, ""))
                break
        else:
            found.append(Reading(contract.kind.__name__, None, why))
    return found


# -- records, field by field -------------------------------------------------------------------------------------------


def fields(record: Any, *, reveal: bool, sure: bool = True) -> dict[str, str]:
    """Return the fields of a record that differ from their defaults, each by its path, as they may be shown.

    ``sure``: it is known that the bytes were meant so. Else nobody knows which of its fields are personal.
    """
    schema: Schema = CONTRACTS[type(record)].schema
    found: dict[str, str] = {}
    _record(schema, schema.root, record, "", "" if sure else "content", found, reveal)
    return found


def _record(schema: Schema, node: Node, record: Any, path: str, pii: str, found: dict[str, str], reveal: bool) -> None:
    types = {field["name"]: field for field in node["fields"]}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        factory = field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        if value != default:
            ours = types[field.name]
            name = f"{path}.{field.name}" if path else field.name
            _value(schema, ours["type"], value, name, pii or str(ours.get("pii", "")), found, reveal)


def _value(schema: Schema, node: Node, value: Any, path: str, pii: str, found: dict[str, str], reveal: bool) -> None:
    node = schema.resolve(node)
    if isinstance(node, list):
        node = next((schema.resolve(branch) for branch in node if type_of(schema.resolve(branch)) != "null"), "null")
    if dataclasses.is_dataclass(value):
        _record(schema, node, value, path, pii, found, reveal)
    elif isinstance(value, tuple):
        for n, item in enumerate(value):
            _value(schema, node["items"], item, f"{path}[{n}]", pii, found, reveal)
        if not value:
            found[path] = "[]"
    elif isinstance(value, dict):
        if pii and not reveal:
            found[path] = f"*** ({len(value)} entries)"
            return
        for key, item in value.items():
            _value(schema, node["values"], item, f"{path}.{key}", pii, found, reveal)
    else:
        found[path] = _text(value, "" if reveal else pii, reveal)


def _text(value: Any, pii: str, reveal: bool) -> str:
    if isinstance(value, bytes):
        return value.hex() if reveal else f"*** ({len(value)} bytes)"
    text = value.value if isinstance(value, StrEnum) else str(value)
    if pii:
        return masked(text, pii)
    return text if reveal else shown(text)
