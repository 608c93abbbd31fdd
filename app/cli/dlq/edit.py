"""Correcting an event: what an operator types becomes another record of the same kind, and what differs is told."""

import dataclasses
import json
import re
import types
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from app import sparse
from app.cli.dlq import dissect


def as_sparse(record: Any) -> dict[str, Any]:
    """Return a record as sparse JSON has it: what differs from the defaults."""
    found = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        factory = field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        if value != default:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_sparse(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def changed(record: Any, assignments: tuple[str, ...]) -> Any:
    """Return a record with ``field=value`` applied, such as ``zone=Europe/Berlin`` or ``steps[0].address=a@b.example``.

    Raises sparse.NotARecord with one line.
    """
    value = as_sparse(record)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise sparse.NotARecord(f"{assignment[:40]}: say field=value, such as zone=Europe/Berlin")
        _assign(type(record), value, re.findall(r"[^.\[\]]+", path), text, path)
    return sparse.read(type(record), json.dumps(value))


def _assign(hint: Any, value: Any, names: list[str], text: str, path: str) -> None:
    """Set what a path names within sparse JSON; what is not known there is left for the reader of it to refuse."""
    name, rest = names[0], names[1:]
    if isinstance(value, list):
        if not name.isdecimal() or int(name) > len(value):
            raise sparse.NotARecord(f"{path}: there are {len(value)} entries, from [0] on; [{len(value)}] adds one")
        inner = get_args(hint)[0]
        if int(name) == len(value):
            value.append({} if rest else None)
        if rest:
            _assign(inner, value[int(name)], rest, text, path)
        else:
            value[int(name)] = _leaf(inner, text)
    elif get_origin(hint) is dict:
        value[".".join(names)] = text
    else:
        inner = _bare(get_type_hints(hint).get(name, str))
        if not rest:
            value[name] = _leaf(inner, text)
            return
        if value.get(name) is None:
            value[name] = [] if get_origin(inner) is tuple else {}
        if not isinstance(value[name], list | dict):
            raise sparse.NotARecord(f"{path}: {name} has no parts")
        _assign(inner, value[name], rest, text, path)


def _bare(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


def _leaf(hint: Any, text: str) -> Any:
    hint = _bare(hint)
    if hint is str or (isinstance(hint, type) and issubclass(hint, StrEnum) and text != "null"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def difference(before: Any, after: Any, *, reveal: bool) -> list[str]:
    """Return what an edit changes, a line for each field, personal values masked unless revealed."""
    old, new = ({} if before is None else dissect.fields(before, reveal=True)), dissect.fields(after, reveal=True)
    shown_old = {} if before is None else dissect.fields(before, reveal=reveal)
    shown_new = dissect.fields(after, reveal=reveal)
    lines = []
    for path in dict.fromkeys([*old, *new]):
        if old.get(path) != new.get(path):
            lines += [f"- {_shown(shown_old, path)}"] if path in old else []
            lines += [f"+ {_shown(shown_new, path)}"] if path in new else []
    return list(dict.fromkeys(lines))


def _shown(shown: dict[str, str], path: str) -> str:
    # A masked map is one field where its entries are several.
    while path not in shown and "." in path:
        path = path.rpartition(".")[0]
    return f"{path}: {shown.get(path, '***')}"
