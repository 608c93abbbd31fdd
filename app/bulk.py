"""Files of reminders: lines of JSON, or CSV, to events that are the same whenever the file is read again.

A line's event has the id that the line gives, or one made from a column or from the line's content, a version, and an
event id made from all of it. So a file that is sent twice changes nothing the second time: what a reminder has seen it
refuses as a duplicate, and what has happened to it since then is newer. Memory does not grow with the file: ids are
remembered on disk.
"""

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from app import sparse
from schemas.checks import Fault, Reason
from schemas.codec import encode
from schemas.ids import MAX_EVENT_BYTES
from schemas.names import DELIVERY_CHANNELS, Action, Channel
from schemas.records import ReminderEvent

#: Longest line; an event may have 256 KiB, and JSON writes some characters as six.
MAX_LINE_BYTES = 1 << 20
#: What ids that are made here begin with, unless told otherwise.
PREFIX = "import/"
#: The version of a line that gives none. Numbered, so that a second run is known as one whatever has happened since.
VERSION = 1
#: Columns that are addresses of steps, by name.
_CHANNELS: dict[str, Channel] = {channel.lower(): channel for channel in DELIVERY_CHANNELS}
#: Fields of an event that stand in a cell as they are; those behind a dot are columns of their own.
_NESTED = ("data", "policy")


class Form(StrEnum):
    """How a file is written."""

    LINES = "lines of JSON"
    CSV = "CSV"


class NoFileError(ValueError):
    """A file that cannot be read as reminders at all; says what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How ids and versions are made where lines give none, and who sends them."""

    prefix: str = PREFIX
    column: str = ""
    version: int = VERSION
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Good:
    """A line that can be sent. ``read``: how many bytes of the file have been read by then."""

    line: int
    read: int
    event: ReminderEvent
    value: bytes


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that cannot be sent, and why; ``value`` is masked where it is personal."""

    line: int
    read: int
    reason: str
    field: str
    value: str
    remedy: str
    reminder_id: str = ""

    def json(self) -> str:
        """Return it as a line of the file of errors."""
        shown = ("line", "reminder_id", "field", "reason", "value", "remedy")
        return json.dumps({name: getattr(self, name) for name in shown}, ensure_ascii=False)


Checked = Callable[[ReminderEvent], Fault | None]
#: The number of a line, how far the file has been read, and what it says, or what is wrong with it.
_Raw = tuple[int, int, "dict[str, Any] | sparse.NotARecord"]


def form_of(path: Path) -> Form:
    """Return how a file is written, by the end of its name. Raises NoFileError."""
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return Form.CSV
        case ".jsonl" | ".ndjson" | ".json":
            return Form.LINES
        case other:
            raise NoFileError(
                f"{path.name}: ends in {other or 'nothing'}; name it .jsonl (a JSON object a line) or .csv"
            )


def read(path: Path, wish: Wish, check: Checked) -> Iterator[Good | Bad]:
    """Yield what each line of a file comes to, in order. Raises NoFileError where there is no going on."""
    check_column(wish.column)
    with path.open("rb") as file, _Seen() as seen:
        lines = _csv(file, path.name, wish) if form_of(path) is Form.CSV else _lines(file, path.name)
        for number, at, said in lines:
            try:
                if isinstance(said, sparse.NotARecord):
                    raise said
                event = _event(said, wish)
            except sparse.NotARecord as exc:
                yield Bad(
                    number, at, "invalid_json" if not exc.field else Reason.INVALID.value, exc.field, "", exc.remedy
                )
                continue
            yield _judged(number, at, event, check, seen)


def _judged(number: int, at: int, event: ReminderEvent, check: Checked, seen: "_Seen") -> Good | Bad:
    fault = check(event) or _unfit(event)
    value = b""
    if fault is None:
        value = encode(event)
        if len(value) > MAX_EVENT_BYTES:
            fault = Fault(Reason.OVERSIZE, "", f"{len(value)} bytes", f"send at most {MAX_EVENT_BYTES} bytes")
    if fault is None and (first := seen.before(event.reminder_id, number)):
        remedy = f"line {first} has the same id and would win; give each reminder one line"
        return Bad(number, at, "repeated_id", "reminder_id", event.reminder_id, remedy, event.reminder_id)
    if fault is None:
        return Good(number, at, event, value)
    known = event.reminder_id if event.reminder_id.isprintable() and len(event.reminder_id) <= 200 else ""
    return Bad(number, at, fault.reason.value, fault.field, fault.value, fault.remedy, known)


def _unfit(event: ReminderEvent) -> Fault | None:
    if event.action is Action.UPSERT:
        return None
    remedy = "a file holds reminders to create or replace; act on those that exist with `cancel`, `pause` and the like"
    return Fault(Reason.INVALID, "action", event.action.value, remedy)


# -- ids ---------------------------------------------------------------------------------------------------------------


class _Seen:
    """The ids of a file, and the line of each; on disk, so that a file may be of any length."""

    def __enter__(self) -> "_Seen":
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def before(self, reminder_id: str, line: int) -> int:
        """Remember the line of an id; return the line that has had it before, 0 if none has."""
        if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (reminder_id, line)).rowcount:
            return 0
        first: int = self._db.execute("SELECT line FROM seen WHERE id = ?", (reminder_id,)).fetchone()[0]
        return first


def check_column(column: str) -> None:
    """Raise NoFileError where ids must not be made from a column."""
    if column in _CHANNELS or column.partition(".")[0] in sparse.personal(ReminderEvent):
        raise NoFileError(f"--id-column {column}: is personal, and ids stand in keys and logs; use another column")


def _event(said: dict[str, Any], wish: Wish) -> ReminderEvent:
    """Return the event that a line says, with its ids and its version. Raises sparse.NotARecord."""
    said = dict(said)
    content = json.dumps(said, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    key = said.get(wish.column) if wish.column else None
    if wish.column and wish.column not in sparse.fields(ReminderEvent):
        said.pop(wish.column, None)
    if said.get("reminder_id") in (None, ""):
        if wish.column:
            if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
                raise sparse.NotARecord("is to make the id, and is missing; give a text or a number", wish.column)
            said["reminder_id"] = f"{wish.prefix}{key}"
        else:
            said["reminder_id"] = wish.prefix + hashlib.sha256(content).hexdigest()[:20]
    event = sparse.record(ReminderEvent, said)
    event = replace(event, version=event.version or wish.version)
    event_id = event.event_id or hashlib.sha256(encode(event)).hexdigest()[:32]
    correlation_id = event.correlation_id or event_id
    return replace(
        event,
        event_id=event_id,
        correlation_id=correlation_id,
        source=event.source or "cli",
        actor=event.actor or wish.actor,
    )


# -- lines of JSON -----------------------------------------------------------------------------------------------------


def _lines(file: BinaryIO, name: str) -> Iterator[_Raw]:
    number, at = 0, 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        at += len(raw)
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
                at += len(raw)
            yield number, at, sparse.NotARecord(f"is longer than {MAX_LINE_BYTES} bytes; send less")
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.lstrip().startswith(b"["):
                raise NoFileError(f"{name}: is a JSON array; write one object a line, as `jq -c '.[]'` does")
        if not raw.strip():
            continue
        try:
            said = sparse.parse(raw)
            if not isinstance(said, dict):
                raise sparse.NotARecord("is no JSON object; begin with { and end with } on the same line")
        except sparse.NotARecord as exc:
            yield number, at, exc
        else:
            yield number, at, said


# -- CSV ---------------------------------------------------------------------------------------------------------------


def _csv(file: BinaryIO, name: str, wish: Wish) -> Iterator[_Raw]:
    # What is no UTF-8 comes through as what no text can hold, and is refused in its own line.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline(MAX_LINE_BYTES)
    separator = max(",;\t", key=first.count)
    columns = next(csv.reader([first], delimiter=separator), [])
    columns = [column.strip() for column in columns]
    _checked_header(columns, name, wish)
    reader = csv.reader(text, delimiter=separator, strict=True)
    end = 1
    try:
        for cells in reader:
            number, end = end + 1, reader.line_num + 1
            if not any(cells):
                continue
            try:
                yield number, file.tell(), _object(columns, cells, wish)
            except sparse.NotARecord as exc:
                yield number, file.tell(), exc
    except csv.Error as exc:
        raise NoFileError(f"{name}, line {end + 1}: {exc}; close its quotes. Nothing behind it was read") from exc


def _checked_header(columns: Sequence[str], name: str, wish: Wish) -> None:
    known = sparse.fields(ReminderEvent)
    own = {"", wish.column}
    for column in columns:
        head, dot, rest = column.partition(".")
        fine = column in known or column in _CHANNELS or column in own or (dot and rest and head in _NESTED)
        if not fine:
            near = sparse.near(column, (*known, *_CHANNELS))
            hint = (
                f"did you mean {near}?" if near else f"use {', '.join((*known, *_CHANNELS))}, data.NAME or policy.NAME"
            )
            raise NoFileError(f"{name}: there is no column {column!r}; {hint}")
    twice = next((column for i, column in enumerate(columns) if column and column in columns[:i]), "")
    if twice:
        raise NoFileError(f"{name}: the column {twice!r} is there twice; keep one")
    for head in _NESTED:
        if head in columns and (parts := [column for column in columns if column.startswith(f"{head}.")]):
            raise NoFileError(f"{name}: {head} and {parts[0]} say the same thing; keep one of them")
    if "steps" in columns and (channels := [column for column in columns if column in _CHANNELS]):
        raise NoFileError(f"{name}: steps and {channels[0]} say the same thing; keep one of them")


def _object(columns: Sequence[str], cells: Sequence[str], wish: Wish) -> dict[str, Any]:
    """Return a row as the object that JSON would have; an empty cell is not given."""
    if len(cells) > len(columns):
        raise sparse.NotARecord(f"has {len(cells)} cells, and the header {len(columns)}; put quotes around a cell")
    said: dict[str, Any] = {}
    steps = []
    for column, text in zip(columns, cells, strict=False):
        if not text or not column:
            continue
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise sparse.NotARecord("is not UTF-8; save the file as UTF-8", column)
        head, dot, rest = column.partition(".")
        if column in _CHANNELS:
            steps.append({"channel": _CHANNELS[column].value, "address": text})
        elif dot and head in _NESTED:
            said.setdefault(head, {})[rest] = text if head == "data" else _cell(column, text)
        else:
            said[column] = _cell(column, text)
    if steps:
        said["steps"] = steps
    return said


#: Columns whose cells are lists of texts, separated by semicolons.
_LISTS = frozenset({"exclude", "rdates", "before", "policy.escalate_to"})
_JSON = frozenset({"steps", "data", "policy"})
_TEXTS = frozenset(name for name, (hint, _) in sparse.fields(ReminderEvent).items() if hint is str)


def _cell(column: str, text: str) -> Any:
    if column in _TEXTS:
        return text
    if column in _LISTS:
        return [part.strip() for part in text.split(";") if part.strip()]
    if column in _JSON:
        try:
            return sparse.parse(text)
        except sparse.NotARecord as exc:
            raise sparse.NotARecord(f"{exc.remedy}; write it as JSON", column) from None
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else text
