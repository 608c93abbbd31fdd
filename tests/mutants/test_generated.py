"""What makes mutants: each is a program, each is a change, and the sample is the same for a seed."""

import ast
from pathlib import Path

from tests.mutants.generated import mutants, sample
from tests.mutants.harmless import HARMLESS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''
"""Texts stay."""
LIMIT = 3

def f(a, b=1):
    """And so do docstrings."""
    if a and not b or a <= 2:
        log.info("left alone %d", 1)
        a += 1
        g(a)
        raise ValueError("left alone", 1)
    match a:
        case X.A | X.B if b is not None:
            return max(a, b) * 2
    return a in (1, True)
'''


def changes(source: str) -> set[str]:
    return {one.change for one in mutants("f.py", source)}


def test_all_kinds_of_changes_are_made_and_texts_left_alone() -> None:
    found = changes(SOURCE)
    assert {
        "a <= 2 -> a < 2",
        "not b -> (bool(b))",
        "a and not b or a <= 2 -> ((a and (not b)) and a <= 2)",
        "a and not b -> (a or not b)",
        "a += 1 -> a -= 1",
        "g(a) -> pass",
        "X.A | X.B -> X.B",
        "X.A | X.B -> X.A",
        "b is not None -> b is None",
        "max -> min",
        "max(a, b) * 2 -> (max(a, b) // 2)",
        "return a in (1, True) -> return None",
        "a in (1, True) -> a not in (1, True)",
        "True -> False",
        "2 -> 3",
    } <= found
    assert not any("left alone" in change or "docstrings" in change or change == "3 -> 4" for change in found)


def test_every_mutant_of_the_rules_is_a_program() -> None:
    for path in (ROOT / "tables" / "deliveries.py", ROOT / "tables" / "turns.py", ROOT / "schemas" / "windows.py"):
        text = path.read_text()
        for one in mutants(path.name, text):
            changed = one.of(text.encode())
            assert changed != text.encode()
            ast.parse(changed)


def test_a_sample_is_the_same_for_a_seed_and_another_for_another() -> None:
    one, same, other = (list(sample(ROOT, ["tables/pace.py"], 10, seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == 10


def test_what_is_called_harmless_is_still_made() -> None:
    files = {name.partition(":")[0] for name in HARMLESS}
    there = {one.name for file in files for one in mutants(file, (ROOT / file).read_text())}
    assert set(HARMLESS) <= there
