"""Sparse JSON to records: only what differs from the defaults is written; what is not known is refused, not dropped.

The command line and the HTTP intake read the same JSON by it. What it says of a fault names the field and never shows
what is personal in it.
"""

import dataclasses
import difflib
import json
import types
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from app.cli.times import instant_ms
from schemas.checks import shown
from schemas.codec import CONTRACTS

T = TypeVar("T")

#: Fields that are instants: ISO 8601 is taken beside ms since 1970.
INSTANTS = frozenset({"at", "expires_at"})
_SIZES = {"a text": str, "a whole number": int, "true or false": bool}
#: Longer names are nobody's slip of the pen, and to compare them would take long.
_NAME = 40


class NotARecord(ValueError):  # noqa: N818 - an answer more than an error
    """JSON that is no record: the path of the field at fault ("" for the whole), and what to do."""

    def __init__(self, remedy: str, field: str = "") -> None:
        super().__init__(f"{field}: {remedy}" if field else remedy)
        self.field = field
        self.remedy = remedy


def read(kind: type[T], text: str | bytes) -> T:
    """Return the record that sparse JSON describes. Raises NotARecord with one line."""
    return record(kind, parse(text))


def parse(text: str | bytes) -> Any:
    """Return the value of JSON in which no name is given twice. Raises NotARecord."""
    try:
        return json.loads(text, object_pairs_hook=_pairs)
    except NotARecord:
        raise
    except UnicodeDecodeError:
        raise NotARecord("is not UTF-8; save it as UTF-8") from None
    except json.JSONDecodeError as exc:
        raise NotARecord(f"is no JSON (line {exc.lineno}, column {exc.colno}: {exc.msg.lower()})") from None
    except RecursionError:
        raise NotARecord("is nested too deep") from None
    except ValueError:  # a number of thousands of digits, which Python refuses to read
        raise NotARecord("holds a number that is far too long") from None


def record(kind: type[T], value: Any) -> T:
    """Return the record that a value of ``parse`` describes. Raises NotARecord with one line."""
    if not isinstance(value, dict):
        raise NotARecord("is no JSON object; begin with { and give at least reminder_id and text")
    made: T = _record(kind, value, "")
    return made


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotARecord("is given twice; give it once", shown(twice))
    return found


@cache
def fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the type of each field, and whether it must be given."""
    hints = get_type_hints(kind)
    return {
        field.name: (
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    }


@cache
def _personal() -> dict[str, frozenset[str]]:
    """Return the personal fields of each kind of record, by its name, as its schema marks them."""
    found: dict[str, frozenset[str]] = {}

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for branch in node:
                walk(branch)
        elif isinstance(node, dict):
            fields = node.get("fields", ())
            if fields:
                found[node["name"].rpartition(".")[2]] = frozenset(f["name"] for f in fields if f.get("pii"))
            for child in (*(f["type"] for f in fields), node.get("items"), node.get("values")):
                walk(child)

    for contract in CONTRACTS.values():
        walk(contract.schema.root)
    return found


def personal(kind: Any) -> frozenset[str]:
    """Return the personal fields of a kind of record."""
    return _personal().get(kind.__name__, frozenset())


def near(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6) if len(name) <= _NAME else []
    return found[0] if found else ""


def _record(kind: Any, value: dict[str, Any], path: str) -> Any:
    known = fields(kind)
    private = personal(kind)
    given = {}
    for key, item in value.items():
        if key not in known:
            meant = near(key, known)
            hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
            raise NotARecord(f"is not known; {hint}", f"{path}{shown(key)}")
        given[key] = _value(known[key][0], item, f"{path}{key}", key, key in private)
    for name, (_, required) in known.items():
        if required and name not in given:
            raise NotARecord("is missing; give it", f"{path}{name}")
    return kind(**given)


def _value(hint: Any, value: Any, where: str, name: str, personal: bool) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _value(next(arg for arg in args if arg is not type(None)), value, where, name, personal)
    if origin is tuple:
        if not isinstance(value, list):
            raise NotARecord("must be a list, such as [ ... ]", where)
        return tuple(_value(args[0], item, f"{where}[{i}]", "", personal) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise NotARecord("must be an object of texts", where)
        return {key: _value(str, item, f"{where}.{shown(key)}", "", personal) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise NotARecord("must be an object, such as { ... }", where)
        return _record(hint, value, f"{where}.")
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _symbol(hint, value, where)
    if hint is int and name in INSTANTS and isinstance(value, str):
        return _instant(value, where)
    for size, plain in _SIZES.items():
        if hint is plain:
            # In JSON true is no number, though Python says so.
            if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
                raise NotARecord(f"must be {size}, is {_told(value, personal)}", where)
            return value
    raise AssertionError(f"no rule for {hint}")


def _instant(text: str, where: str) -> int:
    if len(text) > _NAME:
        raise NotARecord("is no instant; use ISO 8601, such as 2026-12-01T09:00:00+01:00", where)
    try:
        return instant_ms(text, instead="send local and zone")
    except ValueError as exc:
        raise NotARecord(str(exc), where) from None


def _symbol(hint: type[StrEnum], value: Any, where: str) -> StrEnum:
    known = [member.value for member in hint if member.value not in ("UNKNOWN", "ANY")]
    if isinstance(value, str) and value.upper() in known:
        return hint(value.upper())
    near = (
        difflib.get_close_matches(value.upper(), known, n=1) if isinstance(value, str) and len(value) <= _NAME else []
    )
    hint_text = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
    # An address that slipped into the wrong field is still one.
    personal = not near and isinstance(value, str) and not value.isalpha()
    raise NotARecord(f"{_told(value, personal)} is not known; {hint_text}", where)


def _told(value: Any, personal: bool) -> str:
    """Return a value as a fault may show it: short, and of what is personal only what kind of value it is."""
    match value:
        case None | bool():
            return json.dumps(value)
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return "a text" if personal else json.dumps(shown(value[:_NAME]), ensure_ascii=False)
        case _:
            return "a number" if personal else json.dumps(value)[:_NAME]
