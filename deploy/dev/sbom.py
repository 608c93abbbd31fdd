"""``make sbom``: what this release is made of, as a CycloneDX 1.6 bill of materials in JSON, from the lock files alone.

Packages of ``requirements.lock`` run in production; those that only ``requirements-dev.lock`` has, and the jars of the
development broker, are listed as ``excluded``: for tests and development. Every component has the SHA-256 of each of
its files that an installation accepts. Reads nothing but the lock files and fetches nothing.
"""

import argparse
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.dev.bootstrap import ROOT
from deploy.dev.broker import Jar, read_lock

SPEC = "1.6"
#: Which packages of the lock the project names itself, as uv writes it.
_OWN = "pyproject.toml"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class LockError(Exception):
    """A lock file is not what an installation may rely on; the message says what is wrong, and with which line."""


@dataclass(frozen=True, slots=True)
class Package:
    """A locked Python package. ``marker``: where it is installed, empty: everywhere. ``wanted_by``: the names of those
    that need it; the project's own name among them where it asks for it itself."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()
    wanted_by: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{re.sub(r'[-_.]+', '-', self.name).lower()}@{_escaped(self.version)}"


@dataclass(slots=True)
class _Reading:
    hashes: list[str] = field(default_factory=list)
    via: list[str] = field(default_factory=list)


def packages(text: str, project: str) -> list[Package]:
    """Return what a lock file pins. Raises LockError for a line that pins no exact version, or none of its hashes."""
    found: list[Package] = []
    read = _Reading()

    def finish() -> None:
        if found:
            if not read.hashes:
                raise LockError(f"{found[-1].name} is locked without a hash: run make lock")
            found[-1] = replace(found[-1], hashes=tuple(read.hashes), wanted_by=tuple(read.via))

    for line in text.splitlines():
        said = line.strip()
        if said.startswith("#"):
            name = said.removeprefix("#").strip().removeprefix("via").strip()
            if name and not name.startswith("-"):
                read.via.append(project if _OWN in name else name)
        elif said.startswith("--hash"):
            read.hashes += _HASH.findall(said)
        elif said:
            finish()
            pin = _PIN.match(said)
            if pin is None:
                raise LockError(f"no exact version is locked by {said!r}: run make lock")
            found.append(Package(pin[1], pin[2], (pin[3] or "").strip()))
            read = _Reading()
    finish()
    return found


def bill(root: Path = ROOT, *, at: datetime | None = None) -> dict[str, Any]:
    """Return the bill of materials of a tree; the same for the same locks but for ``at``. Raises LockError."""
    with (root / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    name, version = project["name"], project["version"]
    runs = packages((root / "requirements.lock").read_text(), name)
    beside = packages((root / "requirements-dev.lock").read_text(), name)
    known = {one.name: one.version for one in beside}
    for one in runs:
        if known.get(one.name) != one.version:
            raise LockError(f"{one.name} is {one.version} in production and {known.get(one.name)} in tests")
    only_dev = [one for one in beside if one.name not in {package.name for package in runs}]
    jars = read_lock(root / "deploy" / "broker.lock")
    components = [
        *(_component(one) for one in runs),
        *(_component(one, scope="excluded") for one in only_dev),
        *(_jar(jar) for jar in jars),
    ]
    own = f"pkg:generic/{name}@{_escaped(version)}"
    digest = json.dumps(components, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + digest)}",
        "version": 1,
        "metadata": {
            "timestamp": (at or _now()).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": name,
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": project["license"]["text"]}}],
            },
        },
        "components": components,
        "dependencies": list(_dependencies(own, name, [*runs, *only_dev])),
    }


def _component(one: Package, scope: str = "required") -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "scope": scope,
        "hashes": _hashes(one.hashes),
        "purl": one.purl,
    }
    if one.marker:
        made["properties"] = [{"name": "python:marker", "value": one.marker}]
    return made


def _jar(jar: Jar) -> dict[str, Any]:
    purl = f"pkg:maven/{jar.group}/{jar.artifact}@{_escaped(jar.version)}"
    return {
        "type": "library",
        "bom-ref": purl,
        "group": jar.group,
        "name": jar.artifact,
        "version": jar.version,
        "scope": "excluded",
        "hashes": _hashes([jar.sha256]),
        "purl": purl,
    }


def _hashes(found: Iterable[str]) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": one} for one in dict.fromkeys(found)]


def _dependencies(own: str, project: str, every: list[Package]) -> Iterator[dict[str, Any]]:
    refs = {project: own} | {one.name: one.purl for one in every}
    needs: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for one in every:
        for name in one.wanted_by:
            if name in refs:
                needs[refs[name]].append(one.purl)
    for ref, on in needs.items():
        yield {"ref": ref, "dependsOn": sorted(set(on))}


def _escaped(version: str) -> str:
    return version.replace("+", "%2B")


def _now() -> datetime:
    """Return the time of SOURCE_DATE_EPOCH, so that a build can be made again byte by byte, else the present one."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)


def main() -> int:
    """Write the bill to a file, or to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="where to write it; without: standard output")
    out: Path | None = parser.parse_args().out
    try:
        made = bill()
    except LockError as exc:
        print(f"sbom: {exc}", file=sys.stderr)
        return 1
    text = json.dumps(made, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"{out}: {len(made['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
