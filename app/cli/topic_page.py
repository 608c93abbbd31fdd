"""The page docs/topics.md, made from the data of ``app.topics`` and the documentation of the schemas."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.teams import Team
from app.topics import DAY_MS, TOPICS, Cleanup, TopicSpec, team_topic

#: All topics, and one that stands for those of teams.
_PAGE = (TOPICS[0], team_topic(Team("<team>", "<prefix>")), *TOPICS[1:])
_AVRO = Path(__file__).resolve().parent.parent.parent / "schemas" / "avro"


def document() -> str:
    """Return the text of docs/topics.md."""
    out = [
        "# Topics",
        "",
        "Made from `app/topics.py` and `schemas/avro` by `python -m app topics --doc`; a test compares.",
        "",
        "`python -m app topics` creates what is missing and refuses to go on where a topic differs in what matters.",
        "With `REMINDERS_NAMESPACE=acme` every name below begins with `acme.`.",
        "",
        "All topics have `REMINDERS_PARTITIONS` partitions, fixed at creation; a key's partition is murmur2(key) mod",
        "that number in every topic and table. Values are Avro in single-object encoding (`C3 01`, fingerprint, body);",
        "`reminders`, `intake.<team>` and `recipients` also take Confluent framing where a registry is configured.",
        "`intake.<team>` stands for the topic of each team in `TEAMS`; [teams](teams.md) has how to add one.",
        "",
        "| topic | key | written by | holds | schema |",
        "|---|---|---|---|---|",
    ]
    for spec in _PAGE:
        schemas = ", ".join(f"[{name}](#{name})" for name in _schemas(spec)) or "–"
        out.append(f"| `{spec.name}` | {spec.key} | {spec.written_by} | {spec.holds} | {schemas} |")
    out += [
        "",
        "## How they are kept",
        "",
        "`min.insync.replicas` is 2 where `REMINDERS_REPLICATION` is 3 or more, else 1; `message.timestamp.type` is",
        "`CreateTime` everywhere. A longer retention or a larger limit than the one given is accepted.",
        "",
        "| topic | kept | largest batch | further settings |",
        "|---|---|---|---|",
    ]
    shown = ("cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "retention.ms")
    for spec in _PAGE:
        kept = "last value of a key" if spec.cleanup is Cleanup.COMPACT else f"{spec.retention_ms // DAY_MS} days"
        further = ", ".join(f"`{k}={v}`" for k, v in spec.config(1).items() if k not in shown) or "–"
        out.append(f"| `{spec.name}` | {kept} | {spec.max_batch_bytes // 1024} KiB | {further} |")
    out += [
        "",
        "An event on the intake topics or `recipients` may have 256 KiB, a row 512 KiB, all else 2 MiB; the limit of",
        "the topic is larger because clients send batches. A larger event is rejected by intake, not by the broker.",
        "",
        "## More partitions",
        "",
        "The number cannot change in place: a key would move away from its row. `python -m app move` copies all",
        "to new topics under another namespace, with what is on its way: [how](operations.md#more-partitions).",
        "",
        "## Schemas",
        "",
        "A field marked *pii* is personal: masked in logs, views and metrics. Fields with a default may",
        "be left out.",
    ]
    for name in dict.fromkeys(name for spec in _PAGE for name in _schemas(spec)):
        out += ["", *_schema_page(name)]
    return "\n".join(out) + "\n"


def _schemas(spec: TopicSpec) -> list[str]:
    return [name for name in spec.schema.split(", ") if name]


def _schema_page(name: str) -> Iterator[str]:
    schema = json.loads((_AVRO / f"{name}.avsc").read_text(encoding="utf-8"))
    yield f"### {name}"
    yield ""
    full = f"{schema['namespace']}.{schema['name']}"
    yield f"`schemas/avro/{name}.avsc`, `{full}`. {_prose(schema.get('doc', ''))}".rstrip()
    records: list[dict[str, Any]] = []
    enums: list[dict[str, Any]] = []
    _collect(schema, records, enums)
    for record in records:
        yield ""
        if record is not schema:
            yield f"**{record['name']}** {_prose(record.get('doc', ''))}".rstrip()
            yield ""
        yield "| field | type | default | meaning |"
        yield "|---|---|---|---|"
        for fld in record["fields"]:
            default = f"`{json.dumps(fld['default'])}`" if "default" in fld else "–"
            pii = f"*pii: {fld['pii']}.* " if "pii" in fld else ""
            yield f"| `{fld['name']}` | {_type(fld['type'])} | {default} | {pii}{_prose(fld.get('doc', ''))} |"
    for enum in enums:
        yield ""
        yield f"**{enum['name']}**: {', '.join(enum['symbols'])}."


def _collect(schema: Any, records: list[dict[str, Any]], enums: list[dict[str, Any]]) -> None:
    """Gather the records and enums of a schema in the order in which they are defined."""
    match schema:
        case list():
            for branch in schema:
                _collect(branch, records, enums)
        case {"type": "record", "fields": fields}:
            records.append(schema)
            for fld in fields:
                _collect(fld["type"], records, enums)
        case {"type": "enum"}:
            enums.append(schema)
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            _collect(inner, records, enums)


def _type(schema: Any) -> str:
    match schema:
        case str():
            return schema
        case list():
            return " or ".join(_type(branch) for branch in schema)
        case {"type": "array", "items": items}:
            return f"array of {_type(items)}"
        case {"type": "map", "values": values}:
            return f"map of {_type(values)}"
        case {"logicalType": logical}:
            return str(logical)
        case {"name": name}:
            return str(name)
        case _:
            return str(schema["type"])


def _prose(doc: str) -> str:
    return " ".join(doc.split()).replace("``", "`").replace("|", "\\|")
