"""The commands about templates."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.root import main

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "templates"


def invoke(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["templates", *args], env=env or {})


def test_the_example_passes_its_check_and_is_listed() -> None:
    checked = invoke("check", "--dir", str(EXAMPLE), "--json")
    assert checked.exit_code == 0, checked.output
    rows = [json.loads(line) for line in checked.stdout.splitlines()]
    assert {row["channel"] for row in rows} == {"EMAIL", "SMS", "WHATSAPP", "VOICE", "PUSH"}
    assert {row["note"] for row in rows} == {""}
    (listed,) = map(json.loads, invoke("list", "--json", env={"TEMPLATES_DIR": str(EXAMPLE)}).stdout.splitlines())
    assert listed["needs"] == ["link", "name", "place"]
    assert listed["locales"] == ["de", "de-AT", "en"]


def test_a_preview_shows_every_channel_and_sends_nothing() -> None:
    given = ["--zone", "Europe/Vienna", "--locale", "de-AT", "--due", "2027-01-05T08:30:00Z", "--data", "name=Eva <b>"]
    shown = invoke("preview", "visit", "--dir", str(EXAMPLE), *given, "--json")
    rows = {row["channel"]: row for row in map(json.loads, shown.stdout.splitlines())}
    assert list(rows) == ["EMAIL", "SMS", "WHATSAPP", "VOICE", "PUSH"]
    assert rows["EMAIL"]["title"] == "Ihr Termin: 5. Jänner 2027"
    assert "<p" in rows["EMAIL"]["html"]
    assert "Eva &lt;b&gt;" in rows["EMAIL"]["html"]
    assert rows["SMS"] | {"text": "", "title": ""} == rows["SMS"] | {"size": "1 part, GSM-7", "text": "", "title": ""}
    assert "09:30" in rows["VOICE"]["text"]
    panels = invoke("preview", "visit@1", "--dir", str(EXAMPLE), *given)
    assert panels.exit_code == 0
    assert all(channel.lower() in panels.stdout for channel in rows)
    html = invoke("preview", "visit", "--dir", str(EXAMPLE), "--html")
    assert html.stdout.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("publish",), 2, "name a folder with --dir, or set TEMPLATES_DIR"),
        (("publish", "other", "--dir", str(EXAMPLE)), 2, "no template other in"),
        (("check", "other", "--dir", str(EXAMPLE)), 2, "no template other; there are visit"),
        (("preview", "other", "--dir", str(EXAMPLE)), 2, "no template other"),
        (("preview", "visit@2", "--dir", str(EXAMPLE)), 2, "no template visit@2"),
        (("preview", "visit", "--dir", str(EXAMPLE), "--zone", "Mars"), 2, "no such time zone"),
        (("preview", "visit", "--dir", str(EXAMPLE), "--locale", "xx"), 2, "no such locale"),
        (("preview", "visit", "--dir", str(EXAMPLE), "--due", "now"), 2, "--due"),
        (("preview", "visit", "--dir", str(EXAMPLE), "--data", "name"), 2, "NAME=VALUE"),
        (("preview", "visit", "--dir", str(EXAMPLE), "--data", "name="), 1, "template_variable_missing: visit@1"),
        (("preview", "visit", "--dir", str(EXAMPLE), "--data", "link=javascript:x"), 1, "template_failed: visit@1"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(args: tuple[str, ...], code: int, said: str) -> None:
    result = invoke(*args)
    assert result.exit_code == code
    assert said in result.stderr


def test_a_fault_is_named_by_file_and_line_and_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "pills@2" / "de").mkdir(parents=True)
    (tmp_path / "pills@2" / "text.txt").write_text("Dear {{ name|shout }}\n{{ 7 * 7 }}")
    (tmp_path / "pills@2" / "de" / "text.txt").write_text("{{ name")
    for args in (("check",), ("check", "pills"), ("list",), ("preview", "pills"), ("publish",), ("publish", "pills@2")):
        result = invoke(*args, "--dir", str(tmp_path))
        assert result.exit_code == 1, args
        assert "pills@2/text.txt:1: no filter shout" in result.stderr
        assert "pills@2/text.txt:2: a template may not hold mul" in result.stderr
        assert "pills@2/de/text.txt:1: cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--template", "../visit"), "template: invalid"),
        (("--template", "visit", "--data", "name"), "NAME=VALUE"),
        (("--data", "name=Anna"), "ID and TEXT"),
    ],
)
def test_a_reminder_from_the_shell_names_a_template_that_could_be_one(args: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["remind", "r", "--to", "anna", "--in", "5m", *args], env={})
    assert result.exit_code == 2
    assert said in result.stderr
