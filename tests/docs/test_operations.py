"""Each procedure names the tests that execute it, and those tests exist."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
PROCEDURES = re.findall(r"^## (.+)\n((?:(?!^## ).*\n)+)", PAGE, re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
#: What the product promises procedures for.
WANTED = {"Add a worker", "Remove a worker", "More partitions", "Update and roll back", "Restore a lost disk",
          "A topic was made anew", "A full disk", "A clock that is wrong", "Rotate tokens"}  # fmt: skip


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_all_procedures_are_there() -> None:
    assert {name for name, _ in PROCEDURES} >= WANTED


@pytest.mark.parametrize(("name", "text"), PROCEDURES, ids=[name for name, _ in PROCEDURES])
def test_a_procedure_is_executed_by_a_test(name: str, text: str) -> None:
    named = NAMED.findall(text)
    assert named, f"{name}: which test executes it?"
    assert [f"{file}::{test}" for file, test in named if test not in functions(ROOT / file)] == []
