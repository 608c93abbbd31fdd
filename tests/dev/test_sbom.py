"""The bill of materials: what CycloneDX 1.6 requires, and everything that is locked, with its checksums."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.hardening import PINNED
from deploy.dev.sbom import LockError, bill, packages

ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 12, 1, tzinfo=UTC)
#: From bom-1.6.schema.json: what these fields may hold.
SERIAL = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HASH = re.compile(r"[a-fA-F0-9]{32}|[a-fA-F0-9]{40}|[a-fA-F0-9]{64}|[a-fA-F0-9]{96}|[a-fA-F0-9]{128}")
FIELDS = {"type", "bom-ref", "group", "name", "version", "scope", "hashes", "purl", "properties", "licenses"}
PURL = re.compile(r"pkg:(pypi|maven|generic)/[A-Za-z0-9._/-]+@[A-Za-z0-9._%-]+")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return bill(at=AT)


def test_it_is_what_the_standard_requires(made: dict[str, Any]) -> None:
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)
    assert made.keys() == {
        *("bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies"),
    }
    assert SERIAL.fullmatch(made["serialNumber"])
    assert made["metadata"]["timestamp"] == "2026-12-01T00:00:00Z"
    own = made["metadata"]["component"]
    for one in (own, *made["components"]):
        assert one.keys() <= FIELDS
        assert one["type"] in ("application", "library")
        assert one["name"]
        assert PURL.fullmatch(one["purl"]), one["purl"]
        assert one.get("scope", "required") in ("required", "optional", "excluded")
        hashes = one.get("hashes", [])
        assert all(h.keys() == {"alg", "content"} and HASH.fullmatch(h["content"]) for h in hashes)
        assert len({h["content"] for h in hashes}) == len(hashes), "items are unique"
        assert all(p.keys() == {"name", "value"} and p["value"] for p in one.get("properties", []))
    refs = [own["bom-ref"], *(one["bom-ref"] for one in made["components"])]
    assert len(set(refs)) == len(refs), "a reference names one component"
    for dependency in made["dependencies"]:
        assert dependency.keys() == {"ref", "dependsOn"}
        assert {dependency["ref"], *dependency["dependsOn"]} <= set(refs)
        assert len(set(dependency["dependsOn"])) == len(dependency["dependsOn"])
    assert len({dependency["ref"] for dependency in made["dependencies"]}) == len(made["dependencies"])


def test_all_that_is_locked_is_in_it_with_its_checksums(made: dict[str, Any]) -> None:
    there = {(one["name"], one["version"]): one for one in made["components"]}
    for name, scope in (("requirements.lock", "required"), ("requirements-dev.lock", "excluded")):
        text = (ROOT / name).read_text()
        pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
        assert pins
        assert set(pins) <= there.keys()
        hashes = {h["content"] for pin in pins for h in there[pin]["hashes"]}
        assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", text))
        if scope == "required":
            assert all(there[pin]["scope"] == scope for pin in pins)
    jars = re.findall(
        r"^[\w.-]+:([\w.-]+):([\w.-]+) sha256:(\w+)", (ROOT / "deploy/broker.lock").read_text(), re.MULTILINE
    )
    assert jars
    for name, version, sha256 in jars:
        assert any(
            one["name"] == name and one["version"] == version and one["hashes"][0]["content"] == sha256
            for one in made["components"]
        )


def test_who_needs_what_is_told(made: dict[str, Any]) -> None:
    needs = {one["ref"]: one["dependsOn"] for one in made["dependencies"]}
    faust = next(ref for ref in needs if ref.startswith("pkg:pypi/faust-streaming@"))
    assert any(ref.startswith("pkg:pypi/mode-streaming@") for ref in needs[faust])
    assert faust in needs[made["metadata"]["component"]["bom-ref"]]


def test_the_packages_that_are_corrected_are_locked_at_their_versions() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        locked = {one.name: one for one in packages((ROOT / lock).read_text(), "reminders")}
        assert {name: locked[name].version for name in PINNED} == PINNED
        assert all(one.hashes for one in locked.values())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("brick==1.0\n", "brick is locked without a hash"),
        (f"brick==1.0\nother==2 \\\n    --hash=sha256:{'0' * 64}\n", "brick is locked without a hash"),
        (f"brick>=1.0 --hash=sha256:{'0' * 64}\n", "no exact version is locked by 'brick>=1.0"),
        ("-e .\n", "no exact version"),
    ],
)
def test_a_lock_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(LockError, match=re.escape(why)):
        packages(text, "reminders")


def test_it_is_written_to_a_file_the_same_each_time(tmp_path: Path) -> None:
    texts = []
    for n in range(2):
        out = tmp_path / str(n) / "sbom.json"
        command = [sys.executable, "-m", "deploy.dev.sbom", "--out", str(out)]
        subprocess.run(command, cwd=ROOT, env={"SOURCE_DATE_EPOCH": "1796083200"}, check=True, capture_output=True)
        texts.append(out.read_text())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["metadata"]["timestamp"] == "2026-12-01T00:00:00Z"
