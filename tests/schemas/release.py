"""Released schemas and the bytes that were written with them: ``python -m tests.schemas.release``.

Adds a version of each schema that has changed since its last release, with two records in bytes. What has been released
is never changed; ``--again`` writes the last version anew, for as long as nobody has it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

from schemas import codec
from schemas.wire import Schema, type_of, unwrapped
from tests.schemas.compat import broken
from tests.schemas.samples import plain

AVRO = Path(codec.__file__).parent / "avro"
RELEASED = AVRO / "released"
FIXTURES = Path(__file__).parent / "fixtures"


def file_name(kind: type) -> str:
    """Return the name of a record's schema file, without its ending."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def load(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


def versions(kind: type) -> list[Any]:
    """Return the released schemas of a record, oldest first."""
    paths = RELEASED.glob(f"{file_name(kind)}.*.avsc")
    return [load(path) for path in sorted(paths, key=lambda path: int(path.name.split(".")[1]))]


def bare(node: Any) -> Any:
    """Return a schema without its prose."""
    if isinstance(node, dict):
        return {key: bare(value) for key, value in node.items() if key != "doc"}
    return [bare(item) for item in node] if isinstance(node, list) else node


def full(kind: type) -> Any:
    """Return a record all of whose fields are set, to the same values each time."""
    schema = codec.CONTRACTS[kind].schema
    return _value(schema, schema.root, kind, kind.__name__)


def least(kind: type) -> Any:
    """Return a record with nothing but what it must have."""
    schema = codec.CONTRACTS[kind].schema
    hints = get_type_hints(kind)
    must = [field for field in schema.root["fields"] if "default" not in field]
    return kind(**{f["name"]: _value(schema, f["type"], hints[f["name"]], f["name"]) for f in must})


def _value(schema: Schema, node: Any, hint: Any, name: str) -> Any:
    node = schema.resolve(node)
    match type_of(node):
        case "union":
            return _value(schema, node[1], unwrapped(hint), name)
        case "record":
            hints = get_type_hints(hint)
            return hint(**{f["name"]: _value(schema, f["type"], hints[f["name"]], f["name"]) for f in node["fields"]})
        case "enum":
            return hint(node["symbols"][1 + len(name) % (len(node["symbols"]) - 1)])
        case "array":
            return tuple(_value(schema, node["items"], get_args(hint)[0], f"{name}{n}") for n in range(2))
        case "map":
            return {f"{name}{n}": _value(schema, node["values"], get_args(hint)[1], f"ä{n}") for n in range(2)}
        case "string":
            return f"{name} é"
        case "bytes":
            return bytes(range(len(name))) + b"\xff"
        case "boolean":
            return len(name) % 2 == 0
        case "double":
            return len(name) / 4
        case "int" | "long":
            return 1_768_467_600_000 + len(name) if "logicalType" in str(node) else 1000 + len(name)
        case other:
            raise NotImplementedError(other)


def as_json(record: Any) -> Any:
    """Return a record as JSON can hold it: bytes as hex."""
    return json.loads(json.dumps(plain(record), default=bytes.hex))


def release(*, again: bool) -> list[str]:
    """Write what is missing; return the names written."""
    written = []
    for kind in codec.CONTRACTS:
        name = file_name(kind)
        current, released = AVRO / f"{name}.avsc", versions(kind)
        if released and bare(released[-1]) == bare(load(current)):
            continue
        if again:
            released = released[:-1]
        if faults := [fault for old in released for fault in broken(old, load(current))]:
            raise SystemExit(f"{name} breaks what was released: {'; '.join(faults)}")
        version = len(released) + 1
        (RELEASED / f"{name}.{version}.avsc").write_text(current.read_text("utf-8"), "utf-8")
        records = [{"value": codec.encode(r).hex(), "record": as_json(r)} for r in (least(kind), full(kind))]
        text = json.dumps(records, indent=1, ensure_ascii=False)
        (FIXTURES / f"{name}.{version}.json").write_text(text + "\n", "utf-8")
        written.append(f"{name}.{version}")
    return written


if __name__ == "__main__":
    print("\n".join(release(again="--again" in sys.argv)) or "nothing has changed")
