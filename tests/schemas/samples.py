"""Hypothesis strategies for any record, taken from its class."""

import dataclasses
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from schemas.codec import CONTRACTS
from schemas.wire import Schema, type_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
LONG = st.one_of(
    st.integers(-70, 70),
    st.integers(8180, 8200),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, 4_102_444_800_000),
)
INT = st.integers(-(1 << 31), (1 << 31) - 1)


def any_record(kind: type) -> st.SearchStrategy[Any]:
    """Return a strategy for records of a class that has a schema."""
    schema = CONTRACTS[kind].schema
    return _value(schema, schema.root, kind)


def _value(schema: Schema, node: Any, hint: Any) -> st.SearchStrategy[Any]:
    node = schema.resolve(node)
    if isinstance(node, list):
        inner = next(arg for arg in get_args(hint) if arg is not NoneType)
        assert get_origin(hint) in {Union, UnionType}
        return st.none() | _value(schema, node[1], inner)
    match type_of(node):
        case "record":
            hints = get_type_hints(hint)
            return st.builds(hint, **{f["name"]: _value(schema, f["type"], hints[f["name"]]) for f in node["fields"]})
        case "enum":
            return st.sampled_from([hint(symbol) for symbol in node["symbols"] if symbol != "UNKNOWN"])
        case "array":
            return st.lists(_value(schema, node["items"], get_args(hint)[0]), max_size=3).map(tuple)
        case "map":
            return st.dictionaries(TEXT, _value(schema, node["values"], get_args(hint)[1]), max_size=3)
        case "string":
            return TEXT
        case "bytes":
            return st.binary(max_size=200)
        case "long":
            return LONG
        case "int":
            return INT
        case "boolean":
            return st.booleans()
        case "double":
            return st.floats(allow_nan=False)
        case other:
            raise NotImplementedError(other)


def plain(value: Any) -> Any:
    """Return a record as the dicts and lists that fastavro takes and gives."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def without_logical(node: Any) -> Any:
    """Return a schema whose times are plain numbers, for fastavro would make datetimes of them."""
    if isinstance(node, dict):
        return {key: without_logical(value) for key, value in node.items() if key != "logicalType"}
    return [without_logical(item) for item in node] if isinstance(node, list) else node
