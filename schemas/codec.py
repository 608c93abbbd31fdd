"""Bytes to records and back: Avro single-object encoding, and Confluent framing where a registry is configured.

``encode`` and ``decode`` know every record of ``schemas.records`` that has a schema. A writer is known by its
fingerprint: the current schema and every released one of ``schemas/avro/released``.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from fastavro.schema import SchemaParseException, UnknownType

from schemas import records
from schemas.checks import PARKED, Fault, Reason, shown
from schemas.ids import MAX_EVENT_BYTES
from schemas.wire import (
    ERRORS,
    Incompatible,
    Node,
    Schema,
    counterpart,
    read_long,
    reader_of,
    type_of,
    writer_of,
)

T = TypeVar("T")

#: What single-object encoding begins with; the writer's fingerprint follows.
MAGIC = b"\xc3\x01"
_HEADER_BYTES = 10
_CONFLUENT_BYTES = 5
_FOLDER = Path(__file__).parent / "avro"
_UNKNOWN_IDS_KEPT = 65_536


class Undecodable(Exception):  # noqa: N818 - an answer more than an error
    """Bytes that are no record: why, in which field, with which value (safe to show), and what to do about it."""

    __slots__ = ("field", "reason", "remedy", "value")

    def __init__(self, reason: Reason, field: str, value: str, remedy: str) -> None:
        super().__init__(reason, field, value, remedy)
        self.reason = reason
        self.field = field
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}: {self.field or 'the event'}{f' ({self.value})' if self.value else ''}; {self.remedy}"

    @property
    def parked(self) -> bool:
        """Whether a newer version of the service may understand it."""
        return self.reason in PARKED

    def again(self) -> "Undecodable":
        """Return a copy to raise, without the traceback of an earlier raise."""
        return Undecodable(self.reason, self.field, self.value, self.remedy)

    @property
    def fault(self) -> Fault:
        """The same as a value."""
        return Fault(self.reason, self.field, self.value, self.remedy)


class Unencodable(ValueError):  # noqa: N818
    """A record that does not fit its schema: a bug of ours, or a producer's input that was not checked."""


class RegistryUnavailable(ConnectionError):  # noqa: N818
    """The schema registry gave no answer, so it cannot be told whether an event is good: nothing may be committed."""


class SchemaSource(Protocol):
    """Where the schemas of Confluent framing come from."""

    async def schemas(self, ids: Iterable[int]) -> dict[int, str | None]:
        """Return the schema of each id, None where the registry has none; raise RegistryUnavailable."""
        ...


def to_ms(value: int | datetime) -> int:
    """Return an instant in ms since 1970; one without a zone is refused, for it differs from machine to machine."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError("a datetime without a zone is no instant: give it one, as datetime(..., tzinfo=UTC)")
        return (value - _EPOCH) // timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"an instant is an int of ms or a datetime with a zone, not {type(value).__name__}")
    return value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- what is wrong with bytes ------------------------------------------------------------------------------------------


class _Walk:
    """Reads a body slowly, field by field, to say what the generated reader stumbled over.

    Broken structure comes first; a symbol that this version does not know is told only when all else is well.
    """

    def __init__(self, data: bytes, offset: int, writer: Schema, reader: Schema) -> None:
        self.data = data
        self.i = offset
        self.writer = writer
        self.reader = reader
        self.unknown: Undecodable | None = None

    def run(self) -> Undecodable:
        """Return what is wrong."""
        try:
            self.value(self.writer.root, self.reader.root, "", "")
        except Undecodable as found:
            return found
        except RecursionError:
            return Undecodable(Reason.INVALID, "", "nested too deep", _ENCODE_AGAIN)
        if left := len(self.data) - self.i:
            return Undecodable(
                Reason.TRAILING_BYTES,
                "",
                f"{left} bytes after the record",
                "send one record an event, and nothing after it",
            )
        return self.unknown or Undecodable(Reason.INVALID, "", "not in its shortest form", _ENCODE_AGAIN)

    def value(self, w: Node, r: Node | None, path: str, pii: str) -> None:
        w = self.branch(self.writer.resolve(w), path)
        if r is not None:
            r = counterpart(w, self.reader.resolve(r), self.reader)
            if r is None:
                raise Undecodable(Reason.INCOMPATIBLE_SCHEMA, path, type_of(w), _USE_OURS)
        match type_of(w):
            case "null":
                pass
            case "boolean":
                self.flag(path)
            case "int":
                self.int32(path, pii)
            case "long":
                self.long(path)
            case "float" | "double" as kind:
                self.take(4 if kind == "float" else 8, path)
            case "bytes":
                self.take(self.length(path), path)
            case "string":
                self.string(path, pii)
            case "fixed":
                self.take(int(w["size"]), path)
            case "enum":
                self.enum(w, r, path, pii)
            case "array":
                self.blocks(w["items"], None if r is None else r["items"], path, pii, keyed=False)
            case "map":
                self.blocks(w["values"], None if r is None else r["values"], path, pii, keyed=True)
            case _:
                self.record(w, r, path, pii)

    def branch(self, w: Node, path: str) -> Node:
        if not isinstance(w, list):
            return w
        index = self.long(path)
        if not 0 <= index < len(w):
            raise Undecodable(Reason.INVALID, path, f"branch {index} of {len(w)}", _ENCODE_AGAIN)
        return self.writer.resolve(w[index])

    def record(self, w: Node, r: Node | None, path: str, pii: str) -> None:
        ours = {} if r is None else {field["name"]: field for field in r["fields"]}
        for field in w["fields"]:
            own = ours.get(field["name"])
            personal = pii or field.get("pii") or (own or {}).get("pii") or ""
            name = f"{path}.{field['name']}" if path else str(field["name"])
            self.value(field["type"], None if own is None else own["type"], name, str(personal))

    def blocks(self, w: Node, r: Node | None, path: str, pii: str, *, keyed: bool) -> None:
        index = 0
        while count := self.long(path):
            if count < 0:
                count = -count
                self.long(path)
            if count > len(self.data) - self.i:
                raise self.short(path)
            for _ in range(count):
                if keyed:
                    self.string(path, pii)
                self.value(w, r, f"{path}[{index}]" if not keyed else path, pii)
                index += 1

    def enum(self, w: Node, r: Node | None, path: str, pii: str) -> None:
        index = self.long(path)
        symbols = w["symbols"]
        if not 0 <= index < len(symbols):
            raise Undecodable(Reason.INVALID, path, f"symbol {index} of {len(symbols)}", _ENCODE_AGAIN)
        symbol = str(symbols[index])
        if r is not None and self.unknown is None and (symbol == "UNKNOWN" or symbol not in r["symbols"]):
            known = ", ".join(str(own) for own in r["symbols"] if own != "UNKNOWN")
            self.unknown = Undecodable(
                Reason.NEEDS_NEWER_SERVICE, path, shown(symbol, pii), f"this version knows {known}; update the service"
            )

    def flag(self, path: str) -> None:
        flag = self.take(1, path)[0]
        if flag > 1:
            raise Undecodable(Reason.INVALID, path, f"{flag} as a boolean", _ENCODE_AGAIN)

    def int32(self, path: str, pii: str) -> None:
        number = self.long(path)
        if not -(1 << 31) <= number < 1 << 31:
            raise Undecodable(Reason.INVALID, path, shown(str(number), pii), "send a number of 32 bits")

    def string(self, path: str, pii: str) -> None:
        raw = self.take(self.length(path), path)
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            around = raw[max(0, error.start - 8) : error.start + 8].decode("latin-1").encode("unicode_escape").decode()
            raise Undecodable(Reason.BAD_UTF8, path, shown(around, pii), "encode text as UTF-8") from None

    def length(self, path: str) -> int:
        length = self.long(path)
        if length < 0:
            raise Undecodable(Reason.INVALID, path, f"length {length}", _ENCODE_AGAIN)
        return length

    def long(self, path: str) -> int:
        try:
            number, self.i = read_long(self.data, self.i)
        except IndexError:
            raise self.short(path) from None
        except OverflowError:
            raise Undecodable(Reason.INVALID, path, "a number longer than 64 bits", _ENCODE_AGAIN) from None
        return number

    def take(self, length: int, path: str) -> bytes:
        end = self.i + length
        if end > len(self.data):
            raise self.short(path)
        taken = self.data[self.i : end]
        self.i = end
        return taken

    def short(self, path: str) -> Undecodable:
        size = len(self.data)
        return Undecodable(
            Reason.TRUNCATED, path, f"ends after {size} bytes", "send the whole record; check size limits"
        )


_ENCODE_AGAIN = "encode it with an Avro library, with the schema that is named"
_USE_OURS = "write with the schemas of schemas/avro, whole and unchanged"


# -- one record class and its schema -----------------------------------------------------------------------------------


class _Readers(dict[bytes, Callable[[bytes, int], Any]]):
    """The readers of the known headers, each made when it is first asked for: all at once take half a second."""

    def __init__(self, make: Callable[[bytes], Callable[[bytes, int], Any]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, header: bytes) -> Callable[[bytes, int], Any]:
        made = self[header] = self._make(header)
        return made


class Contract(Generic[T]):
    """A record class with its schema, its writer and a reader for each known writer's schema."""

    __slots__ = ("_readers", "_writers", "fingerprint", "kind", "schema", "write")

    def __init__(self, kind: type[T], schema: Node, released: Iterable[Node] = ()) -> None:
        self.kind = kind
        self.schema = Schema(schema)
        self.fingerprint = self.schema.fingerprint()
        self.write: Callable[[Any], bytes] = self._first_write
        self._writers: dict[bytes, Schema] = {}
        for writer in [self.schema, *map(Schema, released)]:
            self._writers.setdefault(MAGIC + writer.fingerprint(), writer)
        self._readers = _Readers(lambda header: reader_of(kind, self._writers[header], self.schema))

    def _first_write(self, record: T) -> bytes:
        self.write = writer_of(self.kind, self.schema, MAGIC + self.fingerprint)
        return self.write(record)

    @property
    def headers(self) -> tuple[bytes, ...]:
        """Return what the bytes of each known writer begin with, the current schema's first."""
        return tuple(self._writers)

    def encode(self, record: T) -> bytes:
        """Return a record in single-object encoding; raise Unencodable."""
        try:
            return self.write(record)
        except ERRORS as error:
            wrong = _misfit(self.schema, self.schema.root, record, "") or type(error).__name__
            raise Unencodable(f"{self.kind.__name__}: {wrong}") from None

    def decode(self, data: bytes) -> T:
        """Return the record of bytes in single-object encoding; raise Undecodable."""
        try:
            found: T = self._readers[data[:_HEADER_BYTES]](data, _HEADER_BYTES)
        except ERRORS:
            pass
        else:
            return found
        raise self._undecodable(data)

    def _undecodable(self, data: bytes) -> Undecodable:
        if (wrong := _unframed(data)) is not None:
            return wrong
        if data[0] == 0:
            return Undecodable(
                Reason.NO_REGISTRY,
                "",
                "0x00 and a schema id",
                "set SCHEMA_REGISTRY_URL, or send Avro single-object encoding",
            )
        header = data[:_HEADER_BYTES]
        writer = self._writers.get(header)
        if writer is None:
            other = next((known for known in CONTRACTS.values() if MAGIC + known.fingerprint == header), None)
            if other is not None:
                return Undecodable(
                    Reason.INCOMPATIBLE_SCHEMA, "", other.kind.__name__, f"send {self.kind.__name__} to this topic"
                )
            return Undecodable(
                Reason.UNKNOWN_FINGERPRINT,
                "",
                header[2:].hex(),
                "write with a released schema; if it is newer than this service, update the service",
            )
        return _Walk(data, _HEADER_BYTES, writer, self.schema).run()

    def reader(self, writer: Schema) -> Callable[[bytes, int], T]:
        """Make a function that reads a foreign writer's body; it raises Undecodable, and making it Incompatible."""
        read = reader_of(self.kind, writer, self.schema)

        def checked(data: bytes, offset: int) -> T:
            try:
                return cast("T", read(data, offset))
            except ERRORS:
                pass
            raise _Walk(data, offset, writer, self.schema).run()

        return checked


def _unframed(data: bytes | None) -> Undecodable | None:
    """Say why bytes carry neither of the two framings; None if they do."""
    if data is None:
        return _null_value()
    if not data:
        return Undecodable(Reason.EMPTY_VALUE, "", "", "send a record; a tombstone is a null value, not an empty one")
    if data[0] == 0:
        return None if len(data) >= _CONFLUENT_BYTES else _too_short(data)
    if data[:2] == MAGIC:
        return None if len(data) >= _HEADER_BYTES else _too_short(data)
    if data == MAGIC[:1]:
        return _too_short(data)
    if data.lstrip()[:1] in {b"{", b"["}:
        return Undecodable(Reason.JSON_NOT_AVRO, "", "", "encode the event as Avro, not as JSON")
    return Undecodable(
        Reason.UNKNOWN_FRAMING,
        "",
        f"first byte 0x{data[0]:02x}",
        "send Avro single-object encoding (0xc3 0x01, fingerprint) or Confluent framing (0x00, schema id)",
    )


def _null_value() -> Undecodable:
    return Undecodable(Reason.NULL_VALUE, "", "", "send a record; only a recipient is erased by a null value")


def _oversize(data: bytes) -> Undecodable:
    size = f"{len(data)} bytes"
    return Undecodable(
        Reason.OVERSIZE, "", size, f"send at most {MAX_EVENT_BYTES} bytes; link to large content instead"
    )


def _too_short(data: bytes) -> Undecodable:
    return Undecodable(
        Reason.TRUNCATED, "", f"ends after {len(data)} bytes", "send the whole record; check size limits"
    )


def _misfit(schema: Schema, node: Node, value: object, path: str) -> str:
    """Name the first field of a record that cannot be written as its schema says, and why; empty if all can."""
    node = schema.resolve(node)
    if isinstance(node, list):
        return "" if value is None else _misfit(schema, node[1], value, path)
    kind = type_of(node)
    if not isinstance(value, _WRITTEN_AS[kind]):
        return f"{path} is {type(value).__name__}, not {kind}"
    parts: list[tuple[str, Node, object]] = []
    if kind == "record":
        fields = [(str(field["name"]), field["type"]) for field in node["fields"]]
        parts = [(f"{path}.{name}".strip("."), part, getattr(value, name, None)) for name, part in fields]
    elif kind == "enum":
        return "" if value in node["symbols"] and value != "UNKNOWN" else f"{path} is never {value}"
    elif isinstance(value, tuple):
        parts = [(f"{path}[{n}]", node["items"], item) for n, item in enumerate(value)]
    elif isinstance(value, dict):
        parts = [(path, node["values"], item) for item in value.values()] + [(path, "string", key) for key in value]
    elif isinstance(value, int) and kind in {"int", "long"}:
        bits = 31 if kind == "int" else 63
        return "" if -(1 << bits) <= value < 1 << bits else f"{path} is longer than {bits + 1} bits"
    elif isinstance(value, str):
        return f"{path} holds half a character" if _SURROGATE.search(value) else ""
    return next((wrong for at, part, item in parts if (wrong := _misfit(schema, part, item, at))), "")


_SURROGATE = re.compile("[\ud800-\udfff]")
_WRITTEN_AS: Mapping[str, type | tuple[type, ...]] = {
    "array": tuple,
    "boolean": bool,
    "bytes": bytes,
    "double": (float, int),
    "enum": str,
    "int": int,
    "long": int,
    "map": dict,
    "record": object,
    "string": str,
}


# -- all of them -------------------------------------------------------------------------------------------------------


def _file_name(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _load(path: Path) -> Node:
    return json.loads(path.read_text("utf-8"))


def _contract(kind: type[T]) -> Contract[T]:
    name = _file_name(kind)
    released = sorted((_FOLDER / "released").glob(f"{name}.*.avsc"))
    return Contract(kind, _load(_FOLDER / f"{name}.avsc"), map(_load, released))


#: Every record class that has a schema.
CONTRACTS: Mapping[type, Contract[Any]] = {
    kind: _contract(kind)
    for kind in (
        records.ReminderEvent,
        records.RecipientEvent,
        records.ReminderRow,
        records.RecipientProfile,
        records.SealedProfile,
        records.RecipientDelivery,
        records.RecipientLink,
        records.RecipientSends,
        records.ProviderDay,
        records.RecipientDigest,
        records.Content,
        records.Message,
        records.DeliveryRequest,
        records.Delivery,
        records.DeliveryAnswer,
        records.DeliveryReceipt,
        records.RetryRecord,
        records.AuditEntry,
        records.ReminderStatus,
        records.ControlRecord,
        records.TemplateRecord,
        records.SuppressionRecord,
        records.ReplyRecord,
    )
}


def encode(record: object) -> bytes:
    """Return a record in Avro single-object encoding; raise Unencodable if it does not fit its schema."""
    contract = CONTRACTS.get(type(record))
    if contract is None:
        raise Unencodable(f"{type(record).__name__} has no schema")
    return contract.encode(record)


def decode(kind: type[T], data: bytes) -> T:
    """Return the record of bytes in Avro single-object encoding; raise Undecodable for whatever is wrong with them."""
    contract: Contract[T] = CONTRACTS[kind]
    return contract.decode(data)


def is_a(kind: type, data: bytes) -> bool:
    """Return whether bytes say that they are a record of a kind, by its current schema or a released one."""
    return data[:_HEADER_BYTES] in CONTRACTS[kind].headers


def fingerprint(kind: type) -> bytes:
    """Return the 8 bytes by which a record's current schema is known on the wire."""
    return CONTRACTS[kind].fingerprint


# -- producers' topics -------------------------------------------------------------------------------------------------


class Codec:
    """Reads producers' events in either framing; with a registry it learns the schemas of ids it meets."""

    __slots__ = ("_contracts", "_known", "_readers", "_registry", "_unknown")

    def __init__(
        self, registry: SchemaSource | None = None, contracts: Mapping[type, Contract[Any]] = CONTRACTS
    ) -> None:
        self._registry = registry
        self._contracts = contracts
        self._known: dict[int, str] = {}
        self._unknown: dict[int, None] = {}
        self._readers: dict[tuple[int, type], Callable[[bytes, int], Any] | Undecodable] = {}

    async def prefetch(self, values: Iterable[bytes | None]) -> None:
        """Ask the registry for schema ids that are not known yet; raise RegistryUnavailable if it does not answer."""
        if self._registry is None:
            return
        ids = {
            int.from_bytes(value[1:_CONFLUENT_BYTES], "big")
            for value in values
            if value and value[0] == 0 and _CONFLUENT_BYTES <= len(value) <= MAX_EVENT_BYTES
        }
        if not (missing := ids - self._known.keys()):
            return
        for schema_id, schema in (await self._registry.schemas(missing)).items():
            self._unknown.pop(schema_id, None)
            if schema is None:
                self._unknown[schema_id] = None
            else:
                self._known[schema_id] = schema
        while len(self._unknown) > _UNKNOWN_IDS_KEPT:
            del self._unknown[next(iter(self._unknown))]

    def decode_event(self, kind: type[T], value: bytes | None) -> T:
        """Return the record of a producer's bytes; raise Undecodable; RegistryUnavailable for an id not prefetched."""
        contract: Contract[T] = self._contracts[kind]
        if value is None:
            raise _null_value()
        if len(value) > MAX_EVENT_BYTES:
            raise _oversize(value)
        if self._registry is None or value[:1] != b"\0":
            return contract.decode(value)
        if len(value) < _CONFLUENT_BYTES:
            raise _too_short(value)
        schema_id = int.from_bytes(value[1:_CONFLUENT_BYTES], "big")
        reader = self._readers.get((schema_id, kind)) or self._learn(schema_id, contract)
        if isinstance(reader, Undecodable):
            raise reader.again()
        return cast("T", reader(value, _CONFLUENT_BYTES))

    def _learn(self, schema_id: int, contract: Contract[T]) -> Callable[[bytes, int], T] | Undecodable:
        schema = self._known.get(schema_id)
        if schema is None:
            if schema_id in self._unknown:
                return Undecodable(
                    Reason.UNKNOWN_SCHEMA_ID,
                    "",
                    str(schema_id),
                    "register the schema in the registry this service uses",
                )
            raise RegistryUnavailable(f"schema {schema_id} was not asked for")
        reader: Callable[[bytes, int], T] | Undecodable
        try:
            reader = contract.reader(Schema(json.loads(schema)))
        except Incompatible as error:
            reader = Undecodable(Reason.INCOMPATIBLE_SCHEMA, error.field, f"schema {schema_id}: {error.why}", _USE_OURS)
        except (*ERRORS, SchemaParseException, UnknownType, SyntaxError):
            why = f"schema {schema_id}: is no Avro schema of its own"
            reader = Undecodable(Reason.INCOMPATIBLE_SCHEMA, "", why, _USE_OURS)
        self._readers[schema_id, contract.kind] = reader
        return reader
