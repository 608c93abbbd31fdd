"""The examples of the page about templates, run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

from app.config import VARIABLES
from channels import template_rules
from channels.templates import FILES, SETTINGS
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "templates.md"


def test_every_command_prints_what_the_page_says() -> None:
    ours = {variant for v in VARIABLES for variant in (v.name, f"{v.name}_FILE")}
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    found = blocks(PAGE, "console")
    assert len(found) == 3
    commands = [line.removeprefix("$ ") for block in found for line in block.splitlines() if line.startswith("$ ")]
    said = "".join(line + "\n" for block in found for line in block.splitlines() if not line.startswith("$ "))
    done = subprocess.run(
        ["/bin/sh", "-c", "\n".join(commands)], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (said, "")


def test_it_names_every_file_and_every_filter() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"`{file}`" in text for file in (*FILES.values(), SETTINGS))
    names = template_rules.PLAIN_FILTERS | template_rules.OWN_FILTERS
    assert [name for name in names - {"d"} if name not in text] == []
    assert [name for name in template_rules.BUILT_IN if f"`reminder.{name}`" not in text] == []
