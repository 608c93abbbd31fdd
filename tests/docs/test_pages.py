"""Pages say what is so: links lead somewhere, commands and names exist, nothing of a machine is in them."""

import ast
import importlib.metadata
import re
import shlex
from pathlib import Path

import click
import pytest

from agents import meter
from app.cli.root import main
from app.config import VARIABLES
from schemas import names
from schemas.checks import Reason
from tests.docs.pages import LINK, ROOT, anchors, name, pages, prose, spans, table_column, tracked

PAGES = pages()
OPERATING = ROOT / "docs" / "operating.md"
ADR = ROOT / "docs" / "adr"


def source(*folders: str) -> str:
    """Return all of the product's code, strings that go over several lines joined."""
    text = "\n".join(path.read_text("utf-8") for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or not there.is_relative_to(ROOT):
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(there):
            wrong.append(f"{target}: no such heading")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    said = [match[1] for span in spans(page) for match in re.finditer(r"python -m app\b([^|>]*)", span)]
    for rest in said:
        command: click.Command = main
        context = click.Context(main)
        for word in shlex.split(rest, comments=True):
            if isinstance(command, click.Group):
                if word == "--help":
                    break
                found = command.get_command(context, word)
                assert found is not None, f"there is no command {word!r}: python -m app{rest}"
                command = found
            elif word.startswith("--"):
                options = {option for parameter in command.params for option in parameter.opts}
                assert word.partition("=")[0] in options, f"{command.name} has no {word}: python -m app{rest}"


def test_a_wrong_command_would_be_found() -> None:
    assert main.get_command(click.Context(main), "holiday") is None
    assert "python -m app remind" in "\n".join(spans(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    asked = {target for span in spans(page) for target in re.findall(r"\bmake ([a-z]+)\b", span)}
    assert asked <= targets


def test_the_two_commands_and_the_rest_of_make_are_told() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"make {target}" in readme for target in ("run", "test", "stop", "help"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_that_are_to_be_run_exist(page: Path) -> None:
    for module in {m for span in spans(page) for m in re.findall(r"python -m ((?:tests|deploy|bench)[\w.]*)", span)}:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


# -- names -----------------------------------------------------------------------------------------------------------

DEVELOPMENT = {
    "ARGS", "KAFKA_PORT", "PINNED", "REMINDERS_CACHE", "REMINDERS_HOME", "REMINDERS_MAVEN_REPO", "SMTP_SINK_PORT",
    "UPGRADE", "WORKERS", "DELIVERY_CHANNELS",
}  # fmt: skip
MINE = [page for page in PAGES if name(page) not in ("docs/topics.md", "docs/channels.md", "docs/faust.md")]


def known_names() -> set[str]:
    variables = {known for v in VARIABLES for known in (v.name, f"{v.name}_FILE", *v.choices)}
    enums = {
        member.name for kind in vars(names).values() if isinstance(kind, type) and hasattr(kind, "__members__")
        for member in kind  # type: ignore[attr-defined]
    }  # fmt: skip
    return variables | enums | DEVELOPMENT


@pytest.mark.parametrize("page", MINE, ids=name)
def test_names_in_capitals_are_variables_or_symbols(page: Path) -> None:
    whole = {span.partition("=")[0] for span in re.findall(r"`([^`\n]+)`", prose(page))}
    capitals = {word for word in whole if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", word)}
    assert capitals <= known_names()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_metrics_exist(page: Path) -> None:
    listed = set(re.findall(r"^\| `(\w+)`", meter.document(), re.MULTILINE))
    told = set(re.findall(r"\b((?:reminders|notifications)_[a-z_]+)\b", " ".join(spans(page))))
    assert {metric.removesuffix("_bucket") for metric in told} <= listed


def test_what_a_dying_worker_says_is_what_the_page_lists() -> None:
    code = source("app", "agents", "tables")
    phrases = table_column(OPERATING, "the line contains")
    assert len(phrases) >= 10
    assert [phrase for phrase in phrases if phrase not in code] == []


def test_every_way_to_die_is_on_the_page() -> None:
    code = source("app", "agents")
    told = table_column(OPERATING, "the line contains")
    said = re.findall(r'fatal\(\s*f?"([^"{]+)', code)
    assert len(said) >= 8
    assert [why for why in said if not any(phrase.strip() in why or why.strip() in phrase for phrase in told)] == []


def test_reasons_of_dead_letters_exist() -> None:
    code = source("app", "agents", "tables", "channels") + " ".join(reason.value for reason in Reason)
    assert [reason for reason in table_column(OPERATING, "reason") if f"{reason}" not in code] == []


def test_every_setting_given_to_faust_has_its_reason() -> None:
    tree = ast.parse((ROOT / "app" / "build.py").read_text("utf-8"))
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "StreamApp")
    given = {keyword.arg for keyword in call.keywords if keyword.arg}
    told = set(table_column(OPERATING, "setting | value | why"))
    assert given <= told
    assert told <= given


# -- decisions -------------------------------------------------------------------------------------------------------


def records() -> list[Path]:
    return sorted(path for path in ADR.glob("*.md") if path.name != "README.md")


def test_every_decision_is_listed_with_its_title() -> None:
    listed = dict(
        re.findall(r"^\| \[\d{4}\]\(([^)]+)\) \| (.+) \|$", (ADR / "README.md").read_text("utf-8"), re.MULTILINE)
    )
    titles = {path.name: path.read_text("utf-8").splitlines()[0] for path in records()}
    assert titles == {file: f"# {file[:4]}: {title}" for file, title in listed.items()}


def test_decisions_are_numbered_without_a_hole() -> None:
    assert [path.name[:4] for path in records()] == [f"{n:04}" for n in range(1, len(records()) + 1)]


@pytest.mark.parametrize("path", records(), ids=lambda path: path.stem)
def test_a_decision_has_all_its_parts(path: Path) -> None:
    parts = re.findall(r"^## (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "What would change our mind"]


def test_decisions_named_in_the_code_exist() -> None:
    numbers = {path.name[:4] for path in records()}
    named = set(re.findall(r"\bADR (\d{4})\b", source("app", "agents", "tables", "channels", "schemas", "deploy")))
    assert "0001" in named
    assert named <= numbers


def test_no_installed_distribution_claims_our_names() -> None:
    """ADR 0010: side by side, one would silently replace the other."""
    claimed = importlib.metadata.packages_distributions()
    assert {"app", "agents", "tables", "channels", "schemas"} & claimed.keys() == set()


# -- nothing of a machine --------------------------------------------------------------------------------------------

#: Written so that these lines do not match themselves.
MACHINE = re.compile(r"(?<![\w.~-])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/\w")
REGISTRY = re.compile(
    r"https?://[^\s\"'`)>]*(?:pyp[i]\.org|pythonhoste[d]|mave[n]\.org|maven2?[/]|/simpl[e]\b|/artifactor[y]|/nexu[s]|npmj[s]|"
    r"proxy\.golan[g])|--(?:extra-)?index-url[= ]+https?:|--find-links[= ]+https?:"
)


def test_no_path_of_a_machine_and_no_address_of_a_registry_is_tracked() -> None:
    if not tracked():
        pytest.skip("this is no clone")
    wrong = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE.search(line) or REGISTRY.search(line):
                wrong.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    assert not wrong


def test_such_lines_would_be_found() -> None:
    assert MACHINE.search("see /" + "work/main/x")
    assert REGISTRY.search("from https://" + "pypi" + ".org/simple")
    assert not MACHINE.search("GET /reminders/ID, tests/work/x, ~/work/x")
