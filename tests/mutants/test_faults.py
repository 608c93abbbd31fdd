"""The list of planted faults cannot rot: each is still there to be planted, and so is the test that must notice it."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]


@cache
def text_of(path: str) -> str:
    return (ROOT / path).read_text()


@cache
def named_in(path: str) -> frozenset[str]:
    """Return the tests of a file as pytest names them, without parameters."""
    found = set()
    for node in ast.parse(text_of(path)).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, _FUNCTIONS)}
        elif isinstance(node, _FUNCTIONS):
            found.add(node.name)
    return frozenset(found)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted_and_its_test_is_there(fault: Fault) -> None:
    assert text_of(fault.file).count(fault.old) == 1, "write it anew: the code has moved on"
    assert fault.old != fault.new
    ast.parse(text_of(fault.file).replace(fault.old, fault.new))
    path, _, name = fault.test.partition("::")
    assert name in named_in(path)
    assert fault.why


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
