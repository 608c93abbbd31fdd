"""Whatever a writer's schema may be that ours can read, our readers find in its bytes what fastavro finds."""

import io
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import fastavro
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from schemas import codec, wire
from schemas.checks import Reason
from schemas.codec import Undecodable
from schemas.records import RecipientEvent, ReminderEvent, ReminderRow
from tests.effort import times
from tests.schemas.samples import plain, without_logical

AVRO = Path(codec.__file__).parent / "avro"
#: Types of fields that we do not have.
EXTRAS = [
    json.dumps(extra)
    for extra in (
        "string",
        "bytes",
        "double",
        "float",
        "boolean",
        "int",
        "null",
        ["null", "string", "long"],
        {"type": "fixed", "name": "Name", "size": 4},
        {"type": "enum", "name": "Name", "symbols": ["GOOD", "BAD"]},
        {"type": "map", "values": {"type": "array", "items": "long"}},
        {"type": "array", "items": {"type": "record", "name": "Name", "fields": [{"name": "x", "type": "string"}]}},
        {
            "type": "record",
            "name": "Name",
            "fields": [{"name": "n", "type": "int"}, {"name": "next", "type": ["null", "Name"]}],
        },
    )
]


def mutate(node: Any, random: Random, names: Iterator[int]) -> Any:
    """Return a schema that differs as a writer's may."""
    if isinstance(node, list):
        branches = [mutate(branch, random, names) for branch in node]
        return branches[::-1] if random.random() < 0.3 else branches
    if not isinstance(node, dict):
        return "int" if node == "long" and random.random() < 0.3 else node
    node = dict(node)
    if node["type"] == "record":
        fields = [
            {**field, "type": mutate(field["type"], random, names)}
            for field in node["fields"]
            # One that defines a name must stay, for others may use it; fastavro's default for bytes is a str.
            if "default" not in field or _stays(field["type"]) or random.random() < 0.8
        ]
        for field in fields:
            field.pop("default", None)
            if not isinstance(field["type"], (list, dict)) and random.random() < 0.2:
                field["type"] = ["null", field["type"]][:: random.choice((1, -1))]
        if random.random() < 0.5:
            n = next(names)
            extra = json.loads(random.choice(EXTRAS).replace("Name", f"Name{n}"))
            fields.insert(random.randrange(len(fields) + 1), {"name": f"extra{n}", "type": extra})
        node["fields"] = fields
    elif node["type"] == "array":
        node["items"] = mutate(node["items"], random, names)
    elif node["type"] == "enum" and random.random() < 0.5:
        symbols = list(node["symbols"])
        random.shuffle(symbols)
        node["symbols"] = symbols
    return node


@pytest.mark.parametrize("kind", [ReminderEvent, RecipientEvent, ReminderRow], ids=lambda kind: kind.__name__)
@settings(max_examples=times(120), deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_readers_agree_with_fastavro(kind: type, seed: int) -> None:
    contract = codec.CONTRACTS[kind]
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__)[1:]
    ours = without_logical(json.loads((AVRO / f"{name}.avsc").read_text("utf-8")))
    random = Random(seed)
    theirs = fastavro.parse_schema(mutate(ours, random, count()))
    schema = wire.Schema(theirs)
    datum = generate(schema, schema.root, random, random.choice((0.0, 0.0, 0.01)))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, theirs, datum)
    reader = fastavro.parse_schema(ours)
    read = contract.reader(schema)
    try:
        expected = fastavro.schemaless_reader(io.BytesIO(out.getvalue()), theirs, reader)
    except fastavro.read.SchemaResolutionError:
        event("a null where ours has none")
        with pytest.raises(Undecodable) as caught:
            read(out.getvalue(), 0)
        assert caught.value.reason is Reason.INCOMPATIBLE_SCHEMA
        return
    if "UNKNOWN" in _symbols(expected):
        event("UNKNOWN")
        with pytest.raises(Undecodable) as caught:
            read(out.getvalue(), 0)
        assert caught.value.reason is Reason.NEEDS_NEWER_SERVICE
        return
    event("read")
    assert plain(read(out.getvalue(), 0)) == expected


def _stays(node: Any) -> bool:
    return node == "bytes" or '"name"' in json.dumps(node)


def generate(schema: wire.Schema, node: Any, random: Random, odd: float) -> Any:
    """Return a value of a writer's schema; ``odd``: how often it is null where it may be, or UNKNOWN."""
    node = schema.resolve(node)
    if isinstance(node, list):
        branches = [branch for branch in node if branch != "null"] if random.random() >= odd else node
        return generate(schema, random.choice(branches), random, odd)
    match wire.type_of(node):
        case "record":
            # A list that goes on and on would never end.
            deep = wire.base_name(node).startswith("Name") and random.random() < 0.5
            return {
                f["name"]: None if deep and f["name"] == "next" else generate(schema, f["type"], random, odd)
                for f in node["fields"]
            }
        case "enum":
            known = [symbol for symbol in node["symbols"] if symbol != "UNKNOWN"] if random.random() >= odd else None
            return random.choice(known or node["symbols"])
        case "array":
            return [generate(schema, node["items"], random, odd) for _ in range(random.randrange(4))]
        case "map":
            return {str(n): generate(schema, node["values"], random, odd) for n in range(random.randrange(4))}
        case "fixed":
            return random.randbytes(node["size"])
        case kind:
            return {
                "null": lambda: None,
                "boolean": lambda: random.random() < 0.5,
                "int": lambda: random.randrange(-(1 << 31), 1 << 31) >> random.randrange(32),
                "long": lambda: random.randrange(-(1 << 63), 1 << 63) >> random.randrange(64),
                "float": lambda: float(random.randrange(-1000, 1000)),
                "double": random.random,
                "bytes": lambda: random.randbytes(random.randrange(9)),
                "string": lambda: "".join(random.choices("aé€😀", k=random.choice((0, 3, 80)))),
            }[kind]()


def _symbols(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(_symbols, value.values()))
    if isinstance(value, list):
        return set().union(*map(_symbols, value))
    return {value} if isinstance(value, str) else set()
