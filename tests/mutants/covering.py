"""Which tests run which function, noted in one run of all of them, and kept until a file changes."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import forked
from tests.mutants.copying import ROOT
from tests.mutants.generated import Mutant

#: Tests of the pure rules: no broker, and little time.
TESTS = ("tests/rules", "tests/cases", "tests/agents", "tests/channels/test_retry.py", "tests/schemas/test_windows.py")
TRACED = ("tables", "channels", "schemas")
LIMIT_S = 1800.0
#: Tests that run the very function are tried first, the fastest ones, for so many seconds by that run; then all others
#: of its module.
FIRST_S = 8.0
ALL_S = 120.0


@dataclass(frozen=True, slots=True)
class Covering:
    """By function (file and first line) the tests that run it; by test how long it took."""

    of: dict[tuple[str, int], list[str]]
    took: dict[str, float]

    def first(self, mutant: Mutant) -> list[str]:
        """Return the fastest tests that run a mutant's function."""
        return self._within(self.of.get((mutant.file, mutant.function), []), FIRST_S)

    def others(self, mutant: Mutant) -> list[str]:
        """Return further tests that run anything of its module: what a cache hid from the run that took notes."""
        tried = set(self.first(mutant))
        found = {test for (file, _), tests in self.of.items() if file == mutant.file for test in tests}
        return self._within(found - tried, ALL_S)

    def seconds(self, tests: list[str]) -> float:
        """Return how long tests took together."""
        return sum(self.took.get(test, 0.0) for test in tests)

    def _within(self, tests: "list[str] | set[str]", most_s: float) -> list[str]:
        chosen, spent = [], 0.0
        for test in sorted(tests, key=lambda one: (self.took.get(one, 0.0), one)):
            spent += self.took.get(test, 0.0)
            if chosen and spent > most_s:
                break
            chosen.append(test)
        return chosen


def covering(copy: Path) -> Covering:
    """Return who covers what; raise RuntimeError where the tests fail as they are."""
    kept = ROOT / ".cache" / "mutants" / f"{_print_of(copy)}.json"
    if kept.exists():
        said = json.loads(kept.read_text())
    else:
        ran = forked.run(copy, ["-m", "not kafka", *TESTS], limit_s=LIMIT_S, first=False, trace=TRACED)
        if ran.code != 0:
            raise RuntimeError(f"without any mutant these fail: {[f.test for f in ran.failures] or ran.output[-500:]}")
        said = {"took": ran.took, "touched": ran.touched}
        kept.parent.mkdir(parents=True, exist_ok=True)
        for old in kept.parent.glob("*.json"):
            old.unlink(missing_ok=True)
        kept.write_text(json.dumps(said))
    found: dict[tuple[str, int], list[str]] = {}
    for test, functions in said["touched"].items():
        for file, line in functions:
            found.setdefault((file, line), []).append(test)
    return Covering(found, said["took"])


def _print_of(copy: Path) -> str:
    digest = hashlib.sha256()
    for folder in ("agents", *TRACED, "tests"):
        for file in sorted((copy / folder).rglob("*.py")):
            if "mutants" not in file.parts[-2:]:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:24]
