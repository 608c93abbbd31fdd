"""Every reason that the code can write on a trail has a sentence, and no sentence is left over."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.suppressions import PREFIX, REASONS
from app import reasons
from channels import addresses, classify
from schemas.checks import Reason
from schemas.names import Channel, State

ROOT = Path(__file__).parents[2]
#: By function: which argument is the reason of what it writes, and its name where it is given by name.
WRITERS = {
    "note": (1, "reason"),
    "move": (1, "reason"),
    "close": (1, "reason"),
    "open": (None, "reason"),
    "withdraw": (1, "reason"),
    "ask_again": (0, "reason"),
    "start_step": (3, "reason"),
    "succeed": (3, "reason"),
    "again": (4, "reason"),
    "_again_at": (3, "reason"),
    "_withdraw": (2, "reason"),
    "_expire": (2, "why"),
    "_came_through": (5, "reason"),
    "_fold": (4, "reason"),
    "Outcome": (1, "reason"),
    "rejection": (1, "reason"),
    "Complaint": (0, "reason"),
    "answer": (3, "reason"),
    "refuse": (2, "why"),
    "Held": (0, "reason"),
    "Refused": (0, "reason"),
}
#: The same of functions that are called alike elsewhere.
OWN_WRITERS = {
    ("agents/gate.py", "refuse"): (1, "reason"),
    ("agents/deliver.py", "_refuse"): (4, "reason"),
    ("agents/intake.py", "refuse"): (None, "why"),
}


def literals(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from literals(node.body, constants)
            yield from literals(node.orelse, constants)
        case ast.BoolOp():
            for value in node.values:
                yield from literals(value, constants)
        case ast.Name(id=name) if name in constants:
            yield constants[name]


def constants_of(trees: dict[str, ast.Module]) -> dict[str, str]:
    return {
        target.id: node.value.value
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def written() -> dict[str, set[str]]:
    """Return the reasons that stand in the code as texts, and where."""
    paths = [*(ROOT / "tables").glob("*.py"), *(ROOT / "agents").glob("*.py"), *(ROOT / "channels").glob("*.py")]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}
    constants = constants_of(trees)
    found: dict[str, set[str]] = {}
    for place, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            position, keyword = OWN_WRITERS.get((place, name)) or WRITERS.get(name, (None, ""))
            given = [k.value for k in node.keywords if k.arg == keyword]
            if position is not None and len(node.args) > position:
                given.append(node.args[position])
            if place.startswith("channels/") and name != "Outcome":
                continue
            for one in given:
                for text in literals(one, constants):
                    found.setdefault(text, set()).add(f"{place}:{node.lineno}")
    return {text: places for text, places in found.items() if text}


KNOWN = {*reasons.LIFE, *map(str, reasons.EVENTS), *(r for table in reasons.CHANNELS.values() for r in table)}


def test_every_reason_of_the_code_has_a_sentence() -> None:
    found = written()
    assert {"due", "lease_expired", "no_contact", "busy", "receipt_missing", "resolved_sent"} <= found.keys()
    assert {reason: places for reason, places in found.items() if reason not in KNOWN} == {}


def test_no_sentence_is_left_over() -> None:
    text = "\n".join(
        path.read_text() for folder in ("tables", "agents", "channels") for path in (ROOT / folder).glob("*.py")
    )
    made = {PREFIX + reason for reason in REASONS}
    assert made <= reasons.LIFE.keys()
    assert [reason for reason in reasons.LIFE if f'"{reason}"' not in text and reason not in made] == []


def test_every_reason_of_an_event_and_of_a_channel_has_one() -> None:
    assert set(reasons.EVENTS) == set(Reason)
    assert {*classify.EXPLANATIONS, *addresses.REMEDIES} <= reasons.CHANNELS[Channel.EMAIL].keys()
    assert set(reasons.STATES) == set(State)


@pytest.mark.parametrize("path", sorted((ROOT / "channels").glob("*.py")), ids=lambda path: path.stem)
def test_no_channel_was_forgotten(path: Path) -> None:
    """A module that explains its reasons (EXPLANATIONS) is in the table: add it to CHANNELS in app/reasons.py."""
    tree = ast.parse(path.read_text())
    names = {
        target.id
        for node in tree.body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if isinstance(target, ast.Name)
    }
    if "EXPLANATIONS" in names:
        assert path.stem in (ROOT / "app" / "reasons.py").read_text()


def test_sentences_are_sentences() -> None:
    for table in (reasons.STATES, reasons.LIFE, reasons.EVENTS, *reasons.CHANNELS.values()):
        for words in table.values():
            assert words[0].isupper(), words
            assert words.endswith("."), words


def test_by_channel_first_and_never_nothing() -> None:
    assert reasons.sentence("ok", Channel.EMAIL) == "The server took it."
    assert reasons.sentence("hold:tenant:clinic") == "A hold on tenant:clinic keeps it back."
    assert reasons.sentence("") == ""
    assert reasons.sentence("of_next_year") == "Of next year (this release has no more words for it)."


def test_the_page() -> None:
    assert (ROOT / "docs/reasons.md").read_text("utf-8") == reasons.document()
