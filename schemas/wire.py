"""Readers and writers of Avro bodies, generated once a schema: straight-line Python from bytes to record and back.

fastavro parses the schemas, makes their canonical form and fingerprint, and is the reference in tests. Its reader takes
10 µs for a reminder event (measured), which is then a dict and no record, and it neither names the field that is wrong
nor refuses a negative index. A generated reader takes half of that, record included. What it cannot read raises some
built-in error; ``schemas.codec`` then walks the bytes slowly to say what is wrong.
"""

import dataclasses
import linecache
import struct
from collections.abc import Callable
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import fastavro

from schemas.quick import twin

#: A schema in parsed form: a primitive's or known type's name, a union, or a dict.
Node = Any
#: Whatever a generated reader or writer raises on what it cannot take.
ERRORS = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)

_PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_PROMOTIONS = frozenset({("int", "long"), ("int", "double"), ("long", "double"), ("float", "double")})
_INT32 = 1 << 31
_INT64 = 1 << 63


class Incompatible(Exception):  # noqa: N818 - an answer more than an error
    """The writer's schema cannot be read as ours: which field, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field = field
        self.why = why


# -- schemas -----------------------------------------------------------------------------------------------------------


class Schema:
    """A parsed schema with its named types."""

    __slots__ = ("names", "root")

    def __init__(self, source: Node) -> None:
        self.names: dict[str, Node] = {}
        self.root: Node = fastavro.parse_schema(source, named_schemas=self.names)

    def resolve(self, node: Node) -> Node:
        """Follow a name to the type it stands for."""
        return self.names[node] if isinstance(node, str) and node not in _PRIMITIVES else node

    def fingerprint(self) -> bytes:
        """Return the CRC-64-AVRO of the parsing canonical form, little-endian."""
        form = fastavro.schema.to_parsing_canonical_form(self.root)
        return bytes.fromhex(fastavro.schema.fingerprint(form, "CRC-64-AVRO"))


def type_of(node: Node) -> str:
    """Return the Avro type of a resolved node."""
    if isinstance(node, list):
        return "union"
    return str(node["type"] if isinstance(node, dict) else node)


def logical(node: Node) -> str:
    """Return the logical type of a resolved node, if it has one."""
    return str(node.get("logicalType", "")) if isinstance(node, dict) else ""


def base_name(node: Node) -> str:
    """Return the name of a record, enum or fixed without its namespace."""
    return str(node["name"]).rpartition(".")[2]


def mismatch(writer: Node, reader: Node) -> str:
    """Say why a resolved writer's node cannot be read as the reader's, looking no deeper; empty if it can."""
    wrote, wants = type_of(writer), type_of(reader)
    if wrote != wants and (wrote, wants) not in _PROMOTIONS:
        return f"is {wrote}, not {wants}"
    if wrote in {"record", "enum", "fixed"} and base_name(writer) != base_name(reader):
        return f"is {base_name(writer)}, not {base_name(reader)}"
    theirs, ours = logical(writer), logical(reader)
    # Without a unit of its own a number is taken for ours; a uuid is a string like any other.
    if theirs and theirs != ours and not (theirs == "uuid" and wants == "string"):
        return f"is {theirs}, not {ours or wants}"
    return ""


def counterpart(writer: Node, reader: Node, schema: Schema) -> Node | None:
    """Return the branch of a reader's union, or the reader's type itself, as which a resolved writer's node is read."""
    for branch in reader if isinstance(reader, list) else [reader]:
        resolved = schema.resolve(branch)
        if not mismatch(writer, resolved):
            return resolved
    return None


# -- what generated readers call ---------------------------------------------------------------------------------------


def read_long(b: bytes, i: int) -> tuple[int, int]:
    """Read a zigzag varint; return it and the offset behind it."""
    c = b[i]
    i += 1
    n = c & 127
    if c > 127 and (d := b[i]) < 128:
        n |= d << 7
        return (n >> 1) ^ -(n & 1), i + 1
    shift = 7
    while c > 127 and shift < 70:
        c = b[i]
        i += 1
        n |= (c & 127) << shift
        shift += 7
    if c > 127 or n >> 64:
        raise OverflowError("longer than 64 bits")
    return (n >> 1) ^ -(n & 1), i


def _read_time(b: bytes, i: int) -> tuple[int, int]:
    """Read a zigzag varint that is most likely a time of our days in ms: six bytes."""
    if len(b) >= i + 6:
        x, y, z = _unpack_time(b, i)
        if x & y & 0x8080 == 0x8080 and z & 0x8080 == 0x80 and not x & 1:
            return (_FOURTEEN[x] | _FOURTEEN[y] << 14 | _FOURTEEN[z] << 28) >> 1, i + 6
    return read_long(b, i)


_unpack_time = struct.Struct("<HHH").unpack_from
_NUMBERS = list(range(1 << 14))
#: What two bytes of a varint carry.
_FOURTEEN = [_NUMBERS[n & 127 | n >> 1 & 0x3F80] for n in range(1 << 16)]


def _read_int(b: bytes, i: int) -> tuple[int, int]:
    n, i = read_long(b, i)
    if not -_INT32 <= n < _INT32:
        raise OverflowError("longer than 32 bits")
    return n, i


def _read_bytes(b: bytes, i: int) -> tuple[bytes, int]:
    n = b[i]
    if n & 1 or (n > 127 and b[i + 1] > 127):
        n, i = read_long(b, i)
        if n < 0:
            raise ValueError("negative length")
    elif n > 127:
        # Nearly every text and key that needs two bytes needs no more.
        n = n >> 1 & 63 | b[i + 1] << 6
        i += 2
    else:
        n >>= 1
        i += 1
    j = i + n
    if j > len(b):
        raise IndexError("truncated")
    return b[i:j], j


def _read_string(b: bytes, i: int) -> tuple[str, int]:
    value, i = _read_bytes(b, i)
    return value.decode(), i


def _read_block(b: bytes, i: int) -> tuple[int, int]:
    """Read the count of an array's or map's next block; no more items than bytes are believed."""
    n, i = read_long(b, i)
    if n < 0:
        n = -n
        _, i = read_long(b, i)
    if n > len(b) - i:
        raise IndexError("truncated")
    return n, i


# -- what generated writers call ---------------------------------------------------------------------------------------

#: Fourteen bits as two bytes that go on, and as one or two bytes that end.
_MORE = [bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14)]
_LAST = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(1 << 14)]
#: Zigzag varints of 0, 1, 2 …
_SMALL = _LAST[::2]


def write_long(value: int) -> bytes:
    """Return the zigzag varint of a number."""
    n = value << 1 if value >= 0 else ~(value << 1)
    if n < 1 << 28:
        return _LAST[n] if n < 1 << 14 else _MORE[n & 16383] + _LAST[n >> 14]
    if n < 1 << 42:
        return _MORE[n & 16383] + _MORE[n >> 14 & 16383] + _LAST[n >> 28]
    if n >> 64:
        raise OverflowError("longer than 64 bits")
    parts = []
    while n >= 1 << 14:
        parts.append(_MORE[n & 16383])
        n >>= 14
    return b"".join(parts) + _LAST[n]


def _write_int(value: int) -> bytes:
    if not -_INT32 <= value < _INT32:
        raise OverflowError("longer than 32 bits")
    return write_long(value)


# -- types of Python ---------------------------------------------------------------------------------------------------


def unwrapped(hint: Any) -> Any:
    """Return ``X`` for ``X | None``."""
    if get_origin(hint) in {Union, UnionType}:
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def item_hint(hint: Any) -> Any:
    """Return what a tuple or the values of a dict hold."""
    args = get_args(hint)
    return args[1] if get_origin(hint) is dict else args[0]


def hints_of(kind: type) -> dict[str, Any]:
    """Return the resolved type hints of a record class."""
    return get_type_hints(kind)


class _Code:
    """Collects generated functions and the constants they use."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.functions: dict[object, str] = {}
        self.chunks: list[str] = []
        self.scope: dict[str, Any] = {
            "read_long": read_long,
            "read_int": _read_int,
            "read_time": _read_time,
            "read_bytes": _read_bytes,
            "read_string": _read_string,
            "read_block": _read_block,
            "write_long": write_long,
            "write_int": _write_int,
            "SMALL": _SMALL,
            "BOOL": (False, True),
            "NUL": b"\0",
            "ONE": b"\2",
            "unpack_from": struct.unpack_from,
            "pack": struct.pack,
        }

    def constant(self, value: object) -> str:
        name = f"K{len(self.scope)}"
        self.scope[name] = value
        return name

    def finish(self, function: str) -> Callable[..., Any]:
        source = "\n".join(self.chunks)
        filename = f"<generated {self.title}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), self.scope)  # noqa: S102 - built from our schemas: names are identifiers
        made: Callable[..., Any] = self.scope[function]
        return made


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


# -- reading -----------------------------------------------------------------------------------------------------------


class _Reader:
    """Generates the function that reads a writer's bytes into a reader's record."""

    def __init__(self, writer: Schema, reader: Schema, title: str) -> None:
        self.writer = writer
        self.reader = reader
        self.code = _Code(title)

    def read(self, w: Node, r: Node | None, hint: Any, target: str, path: str) -> list[str]:
        """Return lines that read one value of the writer into ``target``; ``r`` None: only to step over it."""
        w = self.writer.resolve(w)
        if isinstance(w, list):
            return self._union(w, r, hint, target, path)
        if r is not None:
            ours = self.reader.resolve(r)
            r = counterpart(w, ours, self.reader)
            if r is None:
                options = [self.reader.resolve(branch) for branch in (ours if isinstance(ours, list) else [ours])]
                nearest = next((option for option in options if type_of(option) == type_of(w)), options[-1])
                raise Incompatible(path, mismatch(w, nearest))
            if isinstance(ours, list):
                hint = unwrapped(hint)
        return self._plain(w, r, hint, target, path)

    def _union(self, w: list[Node], r: Node | None, hint: Any, target: str, path: str) -> list[str]:
        lines = ["n = b[i]", "i += 1"]
        if len(w) > 64:
            raise Incompatible(path, "is a union of too many types")
        for index, branch in enumerate(w):
            try:
                body = self.read(branch, r, hint, target, path)
            except Incompatible:
                # Many write null where they never mean it; every other type must be one that we can read.
                if branch != "null" or len(w) == 1:
                    raise
                body = ["raise ValueError"]
            lines += [f"{'el' if index else ''}if n == {index * 2}:", *_indented(body)]
        return [*lines, "else:", "    raise ValueError"]

    def _plain(self, w: Node, r: Node | None, hint: Any, target: str, path: str) -> list[str]:
        match type_of(w):
            case "null":
                return [f"{target} = None"]
            case "boolean":
                return [f"{target} = BOOL[b[i]]", "i += 1"]
            case ("int" | "long") as kind:
                cast = "float" if r is not None and type_of(r) == "double" else ""
                read = "read_time" if logical(w).startswith("timestamp") else f"read_{kind}"
                return [
                    "n = b[i]",
                    "if n & 129:",
                    f"    n, i = {read}(b, i)",
                    f"    {target} = {cast}(n)" if cast else f"    {target} = n",
                    "else:",
                    "    i += 1",
                    f"    {target} = {cast}(n >> 1)" if cast else f"    {target} = n >> 1",
                ]
            case "float":
                return [f"{target} = unpack_from('<f', b, i)[0]", "i += 4"]
            case "double":
                return [f"{target} = unpack_from('<d', b, i)[0]", "i += 8"]
            case "string":
                return [
                    "n = b[i]",
                    "if n & 129:",
                    f"    {target}, i = read_string(b, i)",
                    "elif n:",
                    "    i += 1",
                    "    j = i + (n >> 1)",
                    f"    {target} = b[i:j].decode()",
                    "    i = j",
                    "else:",
                    "    i += 1",
                    f"    {target} = ''",
                ]
            case "bytes":
                return [f"{target}, i = read_bytes(b, i)"]
            case "fixed":
                return [f"{target} = b[i:i + {int(w['size'])}]", f"i += {int(w['size'])}"]
            case "enum":
                return self._enum(w, r, hint, target)
            case "array":
                lines = ["if b[i]:", f"    {target}, i = {self._array(w, r, hint, path)}(b, i)"]
                return [*lines, "else:", "    i += 1", f"    {target} = ()"]
            case "map":
                lines = ["if b[i]:", f"    {target}, i = {self._map(w, r, hint, path)}(b, i)"]
                return [*lines, "else:", "    i += 1", f"    {target} = {{}}"]
            case "record":
                return [f"{target}, i = {self.record(w, r, hint, path)}(b, i)"]
            case other:
                raise Incompatible(path, f"is of the unknown type {other}")

    def _enum(self, w: Node, r: Node | None, hint: Any, target: str) -> list[str]:
        symbols = [str(symbol) for symbol in w["symbols"]]
        table: dict[int, object] = dict.fromkeys(range(0, 2 * len(symbols), 2))
        if r is not None:
            # What this version does not know, UNKNOWN included, is not in the table: the reader fails, the walk tells.
            known = {member.value: member for member in hint if member.value != "UNKNOWN"}
            ours = set(r["symbols"])
            table = {2 * n: known[symbol] for n, symbol in enumerate(symbols) if symbol in ours and symbol in known}
        name = self.code.constant(table)
        if len(symbols) <= 64:
            return [f"{target} = {name}[b[i]]", "i += 1"]
        return ["n, i = read_long(b, i)", f"{target} = {name}[n << 1]"]

    def _array(self, w: Node, r: Node | None, hint: Any, path: str) -> str:
        item = item_hint(hint) if r is not None else None
        key = ("array", id(w), id(r), item)
        if key not in self.code.functions:
            name = self.code.functions[key] = f"array{len(self.code.functions)}"
            lines = self.read(w["items"], r["items"] if r is not None else None, item, "v", f"{path}[]")
            self._loop(name, "out = []", [*lines, "add(v)"], "tuple(out)", ["add = out.append"])
        return self.code.functions[key]

    def _map(self, w: Node, r: Node | None, hint: Any, path: str) -> str:
        item = item_hint(hint) if r is not None else None
        key = ("map", id(w), id(r), item)
        if key not in self.code.functions:
            name = self.code.functions[key] = f"map{len(self.code.functions)}"
            lines = self.read(w["values"], r["values"] if r is not None else None, item, "v", f"{path}{{}}")
            lines = [*self._plain("string", None, str, "key", path), *lines, "out[key] = v"]
            self._loop(name, "out = {}", lines, "out", [])
        return self.code.functions[key]

    def _loop(self, name: str, start: str, body: list[str], result: str, setup: list[str]) -> None:
        # Most writers make one block, of fewer than 64 items; its count is a byte, and so is the end behind it.
        lines = [start, *setup, "count = b[i]", "i += 1"]
        lines += ["if count & 129 or count >> 1 > len(b) - i:", "    count, i = read_block(b, i - 1)"]
        lines += ["else:", "    count >>= 1", "while count:", "    for _ in range(count):", *_indented(_indented(body))]
        lines += ["    if b[i]:", "        count, i = read_block(b, i)", "    else:", "        i += 1", "        break"]
        lines += [f"return {result}, i"]
        self.code.chunks += [f"def {name}(b, i):", *_indented(lines)]

    def record(self, w: Node, r: Node | None, kind: Any, path: str) -> str:
        """Return the name of the function that reads a record: it fills the twin, then makes it the record."""
        key = ("record", w["name"], r["name"] if r is not None else None, kind)
        if key in self.code.functions:
            return self.code.functions[key]
        name = self.code.functions[key] = f"record{len(self.code.functions)}"
        lines = self._fields(w, r, kind, path) if r is not None else self._skipped(w, path)
        self.code.chunks += [f"def {name}(b, i):", *_indented(lines)]
        return name

    def _skipped(self, w: Node, path: str) -> list[str]:
        lines: list[str] = []
        for field in w["fields"]:
            lines += self.read(field["type"], None, None, "v", _join(path, field["name"]))
        return [*lines, "return None, i"]

    def _fields(self, w: Node, r: Node, kind: Any, path: str) -> list[str]:
        hints = hints_of(kind)
        ours = {str(field["name"]): field for field in r["fields"]}
        filled = self.code.constant(twin(kind))
        lines = [f"o = {filled}()"]
        for field in w["fields"]:
            at = _join(path, field["name"])
            if field["name"] in ours:
                own = ours.pop(field["name"])
                lines += self.read(field["type"], own["type"], hints[own["name"]], f"o.{own['name']}", at)
            else:
                lines += self.read(field["type"], None, None, "v", at)
        defaults = {field.name: field for field in dataclasses.fields(kind)}
        for missing in ours:
            lines.append(f"o.{missing} = {self._default(defaults[missing], _join(path, missing))}")
        return [*lines, f"o.__class__ = {self.code.constant(kind)}", "return o, i"]

    def _default(self, field: "dataclasses.Field[Any]", path: str) -> str:
        if field.default is not dataclasses.MISSING:
            return self.code.constant(field.default)
        if field.default_factory is not dataclasses.MISSING:
            return f"{self.code.constant(field.default_factory)}()"
        raise Incompatible(path, "is missing and has no default")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def reader_of(kind: type, writer: Schema, reader: Schema) -> Callable[[bytes, int], Any]:
    """Make the function that reads a body from an offset to the end of the bytes; raise Incompatible.

    Called, it raises one of ERRORS for what it cannot read.
    """
    made = _Reader(writer, reader, f"reader of {kind.__name__}")
    root = writer.resolve(writer.root)
    if isinstance(root, list) or (why := mismatch(root, reader.root)):
        raise Incompatible("", "is a union" if isinstance(root, list) else why)
    name = made.record(root, reader.root, kind, "")
    made.code.chunks += [
        "def read(b, i):",
        f"    o, i = {name}(b, i)",
        "    if i != len(b):",
        "        raise IndexError",
        "    return o",
    ]
    return made.code.finish("read")


# -- writing -----------------------------------------------------------------------------------------------------------


class _Writer:
    """Generates the function that appends a record's bytes to a list."""

    def __init__(self, schema: Schema, title: str) -> None:
        self.schema = schema
        self.code = _Code(title)

    def write(self, node: Node, hint: Any, value: str) -> list[str]:
        """Return lines that append ``value``, an expression."""
        node = self.schema.resolve(node)
        match type_of(node):
            case "union":
                if len(node) != 2 or node[0] != "null":
                    raise NotImplementedError("only unions of null and one type are written")
                lines = self.write(node[1], unwrapped(hint), "u")
                return [f"u = {value}", "if u is None:", "    w(NUL)", "else:", "    w(ONE)", *_indented(lines)]
            case "boolean":
                return [f"w(ONE_BYTE[{value}])"]
            case ("int" | "long") as kind:
                return [f"n = {value}", f"w(SMALL[n] if 0 <= n < 8192 else write_{kind}(n))"]
            case "double":
                return [f"w(pack('<d', {value}))"]
            case "string":
                return [
                    f"s = {value}",
                    "if s:",
                    "    s = s.encode()",
                    "    n = len(s)",
                    "    w(SMALL[n] if n < 8192 else write_long(n))",
                    "    w(s)",
                    "else:",
                    "    w(NUL if s == '' else s)",
                ]
            case "bytes":
                return [f"s = {value}", "n = len(s)", "w(SMALL[n] if n < 8192 else write_long(n))", "w(s)"]
            case "enum":
                table = self.code.constant(_enum_bytes(node, hint))
                return [f"w({table}[{value}])"]
            case "array":
                lines = self.write(node["items"], item_hint(hint), "item")
                body = [
                    f"s = {value}",
                    "if s:",
                    "    n = len(s)",
                    "    w(SMALL[n] if n < 8192 else write_long(n))",
                    "    for item in s:",
                ]
                return [*body, *_indented(_indented(lines)), "    w(NUL)", "else:", "    w(s if s is None else NUL)"]
            case "map":
                lines = self.write("string", str, "key") + self.write(node["values"], item_hint(hint), "item")
                body = [
                    f"s = {value}",
                    "if s:",
                    "    n = len(s)",
                    "    w(SMALL[n] if n < 8192 else write_long(n))",
                    "    for key, item in s.items():",
                ]
                return [*body, *_indented(_indented(lines)), "    w(NUL)", "else:", "    w(s if s is None else NUL)"]
            case "record":
                return [f"{self.record(node, hint)}({value}, w)"]
            case other:
                raise NotImplementedError(other)

    def record(self, node: Node, kind: Any) -> str:
        """Return the name of the function that writes a record."""
        key = node["name"]
        if key not in self.code.functions:
            name = self.code.functions[key] = f"record{len(self.code.functions)}"
            hints = hints_of(kind)
            lines = [line for f in node["fields"] for line in self.write(f["type"], hints[f["name"]], f"o.{f['name']}")]
            self.code.chunks += [f"def {name}(o, w):", *_indented(lines)]
        return self.code.functions[key]


def _enum_bytes(node: Node, hint: type[Enum]) -> dict[object, bytes]:
    known = {member.value: member for member in hint}
    # UNKNOWN is never written.
    symbols = enumerate(str(symbol) for symbol in node["symbols"])
    return {known[symbol]: write_long(n) for n, symbol in symbols if symbol != "UNKNOWN"}


def writer_of(kind: type, schema: Schema, header: bytes) -> Callable[[Any], bytes]:
    """Make the function that returns a header and a record's body; called, it raises ERRORS on what does not fit."""
    made = _Writer(schema, f"writer of {kind.__name__}")
    made.code.scope |= {"HEADER": header, "ONE_BYTE": {False: b"\0", True: b"\1"}, "join": b"".join}
    name = made.record(schema.root, kind)
    made.code.chunks += [
        "def write(o):",
        "    parts = [HEADER]",
        f"    {name}(o, parts.append)",
        "    return join(parts)",
    ]
    return made.code.finish("write")
