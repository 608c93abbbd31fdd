"""Each record class is what its schema says: names, types, defaults, symbols, and which fields are personal."""

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from schemas import codec
from schemas.wire import Schema, base_name, logical, type_of, unwrapped
from tests.schemas.release import AVRO, file_name, load

KINDS = list(codec.CONTRACTS)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
PLAIN = {"string": str, "long": int, "int": int, "boolean": bool, "double": float, "bytes": bytes}


@every_kind
def test_a_class_and_its_schema_agree(kind: type) -> None:
    schema = codec.CONTRACTS[kind].schema
    compare(schema, schema.root, kind, kind.__name__)


def compare(schema: Schema, node: Any, hint: Any, path: str) -> None:
    node = schema.resolve(node)
    match type_of(node):
        case "union":
            assert node[0] == "null", path
            assert unwrapped(hint) is not hint, path
            compare(schema, node[1], unwrapped(hint), path)
        case "record":
            assert dataclasses.is_dataclass(hint), path
            assert hint.__dataclass_params__.frozen, path  # type: ignore[attr-defined]
            assert hasattr(hint, "__slots__"), path
            assert base_name(node) == hint.__name__, path  # type: ignore[union-attr]
            hints = get_type_hints(hint)
            assert hints.keys() == {field["name"] for field in node["fields"]}, path
            defaults = {field.name: field for field in dataclasses.fields(hint)}
            for field in node["fields"]:
                at = f"{path}.{field['name']}"
                compare(schema, field["type"], hints[field["name"]], at)
                assert field.get("default", "none") == default_of(defaults[field["name"]]), at
        case "enum":
            assert issubclass(hint, Enum), path
            known = {member.value for member in hint}
            # A producer never names ANY: the schema given to them does not have it.
            assert set(node["symbols"]) in (known, known - {"ANY"}), path
            assert node["default"] == node["symbols"][0] == "UNKNOWN", path
        case "array":
            assert get_origin(hint) is tuple, path
            assert get_args(hint)[1] is ..., path
            compare(schema, node["items"], get_args(hint)[0], path)
        case "map":
            assert get_origin(hint) is dict, path
            compare(schema, node["values"], get_args(hint)[1], path)
        case plain:
            assert hint is PLAIN[plain], path
            assert logical(node) in {"", "timestamp-millis"}, path


def default_of(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return as_default(field.default_factory())
    return "none" if field.default is dataclasses.MISSING else as_default(field.default)


def as_default(value: Any) -> Any:
    """Return a default as the schema writes it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return list(value)
    if dataclasses.is_dataclass(value):
        return {field.name: as_default(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def test_every_schema_file_has_a_class() -> None:
    assert {path.stem for path in AVRO.glob("*.avsc")} == {file_name(kind) for kind in KINDS}


def test_one_namespace_a_schema() -> None:
    """Two schemas of one namespace that both define Channel overwrite each other in Java's generator."""
    spaces = [load(AVRO / f"{file_name(kind)}.avsc")["namespace"] for kind in KINDS]
    assert len(set(spaces)) == len(spaces)


@every_kind
def test_what_may_hold_a_person_is_marked(kind: type) -> None:
    """By the names that addresses, texts and people have in all our schemas."""
    marked = {"address": "address", "addresses": "address", "actor": "actor", "title": "content", "text": "content"}
    marked |= {"html": "content", "data": "content", "label": "content", "evidence": "content"}
    found = list(fields(load(Path(AVRO / f"{file_name(kind)}.avsc"))))
    assert [f["name"] for f in found if f["name"] in marked and f.get("pii") != marked[f["name"]]] == []
    assert [f["name"] for f in found if f["name"] == "body" and "pii" not in f] == []


def fields(node: Any) -> Any:
    if isinstance(node, list):
        for item in node:
            yield from fields(item)
    elif isinstance(node, dict):
        for field in node.get("fields", ()):
            yield field
            yield from fields(field["type"])
        for key in ("type", "items", "values"):
            if isinstance(node.get(key), (dict, list)):
                yield from fields(node[key])
