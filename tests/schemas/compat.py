"""What may change between two versions of a schema: FULL_TRANSITIVE, and what registries do not look at.

Fingerprints and registries ignore defaults and logical types, so whole schemas are compared: ms read as µs are silent.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
NOTHING = object()


class Named:
    """A schema as JSON with its named types."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.types: dict[str, Any] = {}
        self._collect(root, "")

    def _collect(self, node: Any, namespace: str) -> None:
        if isinstance(node, list):
            for branch in node:
                self._collect(branch, namespace)
        elif isinstance(node, dict):
            if "name" in node and node.get("type") in {"record", "enum", "fixed"}:
                namespace = node.get("namespace", namespace)
                self.types[node["name"]] = {**node, "full": f"{namespace}.{node['name']}"}
            for key in ("type", "items", "values"):
                if isinstance(node.get(key), (dict, list)):
                    self._collect(node[key], namespace)
            for field in node.get("fields", ()):
                self._collect(field["type"], namespace)

    def resolve(self, node: Any) -> Any:
        """Follow a name to the type it stands for."""
        if isinstance(node, str) and node not in PRIMITIVES:
            return self.types[node.rpartition(".")[2]]
        return self.types[node["name"]] if isinstance(node, dict) and node.get("name") in self.types else node


def broken(old: Any, new: Any) -> list[str]:
    """Return what a change breaks, each as ``field: rule``; empty if old and new read each other's records."""
    found: list[str] = []
    _compare(Named(old), Named(new), old, new, "", found, set())
    return found


def broken_among(versions: Sequence[Any]) -> list[str]:
    """Return what is broken between any two of all versions, not only between neighbours."""
    return [
        f"{n + 1} to {m + 1}: {fault}"
        for (n, old), (m, new) in combinations(enumerate(versions), 2)
        for fault in broken(old, new)
    ]


def _compare(a: Named, b: Named, old: Any, new: Any, path: str, found: list[str], seen: set[str]) -> None:
    old, new = a.resolve(old), b.resolve(new)
    if isinstance(old, list) or isinstance(new, list):
        _unions(a, b, old, new, path, found, seen)
        return
    was, now = _kind(old), _kind(new)
    if was != now:
        found.append(f"{path}: type changed")
        return
    if _logical(old) != _logical(new):
        found.append(f"{path}: logical type changed")
    if isinstance(old, dict) and "full" in old:
        if old["full"] != new["full"]:
            found.append(f"{path}: name changed")
        if old["full"] in seen:
            return
        seen = seen | {old["full"]}
    if was == "record":
        _records(a, b, old, new, path, found, seen)
    elif was == "enum":
        _enums(old, new, path, found)
    elif was == "fixed" and old["size"] != new["size"]:
        found.append(f"{path}: type changed")
    elif was == "array":
        _compare(a, b, old["items"], new["items"], f"{path}[]", found, seen)
    elif was == "map":
        _compare(a, b, old["values"], new["values"], f"{path}{{}}", found, seen)


def _unions(a: Named, b: Named, old: Any, new: Any, path: str, found: list[str], seen: set[str]) -> None:
    if not (isinstance(old, list) and isinstance(new, list)) or len(old) != len(new):
        found.append(f"{path}: type changed")
        return
    # A default belongs to the first branch, so their order counts.
    for was, now in zip(old, new, strict=True):
        _compare(a, b, was, now, path, found, seen)


def _records(a: Named, b: Named, old: Any, new: Any, path: str, found: list[str], seen: set[str]) -> None:
    was = {field["name"]: field for field in old["fields"]}
    now = {field["name"]: field for field in new["fields"]}
    for name in was.keys() | now.keys():
        at = f"{path}.{name}".strip(".")
        if name not in was:
            if "default" not in now[name]:
                found.append(f"{at}: added without a default")
        elif name not in now:
            if "default" not in was[name]:
                found.append(f"{at}: removed without a default")
        else:
            if was[name].get("default", NOTHING) != now[name].get("default", NOTHING):
                found.append(f"{at}: default changed")
            if "pii" in was[name] and was[name]["pii"] != now[name].get("pii"):
                found.append(f"{at}: pii lost")
            _compare(a, b, was[name]["type"], now[name]["type"], at, found, seen)


def _enums(old: Any, new: Any, path: str, found: list[str]) -> None:
    if "default" not in old or "default" not in new:
        found.append(f"{path}: enum without a default")
    elif old["default"] != new["default"]:
        found.append(f"{path}: default changed")
    found.extend(f"{path}: symbol {symbol} removed" for symbol in old["symbols"] if symbol not in new["symbols"])


def _kind(node: Any) -> str:
    return str(node["type"] if isinstance(node, dict) else node)


def _logical(node: Any) -> Any:
    return node.get("logicalType") if isinstance(node, dict) else None
