"""As much of JSON Schema as the description of the interface uses."""

from collections.abc import Iterator, Mapping
from typing import Any

TYPES: Mapping[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
}  # fmt: skip
KNOWN = {
    "$ref", "additionalProperties", "anyOf", "default", "description", "enum", "format", "items", "maxItems",
    "maxLength", "minItems", "minLength", "minimum", "maximum", "oneOf", "properties", "required", "type",
}  # fmt: skip


def resolve(document: Mapping[str, Any], ref: str) -> Any:
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def misfits(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any, at: str = "$") -> Iterator[str]:
    """Say where a value is not what a schema says."""
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema:
        yield from misfits(document, resolve(document, schema["$ref"]), value, at)
    for name in ("oneOf", "anyOf"):
        if name in schema:
            fits = [not list(misfits(document, branch, value, at)) for branch in schema[name]]
            if not any(fits) or (name == "oneOf" and sum(fits) > 1):
                yield f"{at}: {sum(fits)} of {name}"
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (kind == "integer" and isinstance(value, bool))):
        yield f"{at}: is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of the enum"
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{at}.{name}: is missing" for name in schema.get("required", ()) if name not in value)
        rest = schema.get("additionalProperties", True)
        for name, item in value.items():
            if name in properties:
                yield from misfits(document, properties[name], item, f"{at}.{name}")
            elif rest is False:
                yield f"{at}.{name}: is not known"
            elif rest is not True:
                yield from misfits(document, rest, item, f"{at}.{name}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{at}: {len(value)} items"
        for n, item in enumerate(value):
            yield from misfits(document, schema.get("items", {}), item, f"{at}[{n}]")
