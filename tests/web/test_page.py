"""The page for those who produce by HTTP: its blocks are run as they stand, its tables compared."""

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app import tokens
from app.web.routes import ROUTES
from deploy.dev.broker import Broker
from tests.docs.pages import ROOT, blocks
from tests.kafka.harness import installed

PAGE = ROOT / "docs" / "produce" / "http.md"


def test_the_file_of_tokens_is_one() -> None:
    [block] = blocks(PAGE, "toml")
    said = tokens.parse(block.encode())
    assert [(t.name, t.access.value, t.tenant, t.prefix) for t in said.tokens] == [
        ("clinic-backend", "operator", "clinic", "clinic/"),
        ("front-desk", "viewer", "", ""),
    ]
    assert said.quotas == {"clinic": 600}


def test_every_answer_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    told = [
        status
        for line in text.splitlines()
        if line.startswith(("| 2", "| 4", "| 5"))
        for status in line.split("|")[1].replace(" ", "").split(",")
    ]
    reminders = [route for route in ROUTES if route.path.startswith("/reminders")]
    assert sorted(map(int, told)) == sorted({a.status for route in reminders for a in route.all_answers} - {200})


def test_a_token_is_made_as_the_page_says() -> None:
    line = next(line for line in PAGE.read_text("utf-8").splitlines() if "secrets.token_urlsafe" in line)
    command = line.strip().replace("python", shlex.quote(sys.executable), 1)
    made = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert tokens.digest(made[0]).hex() == made[1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_its_blocks_run(broker: Broker, tmp_path: Path) -> None:
    commands = [block for block in blocks(PAGE, "sh") if "curl" in block]
    assert len(commands) == 4
    async with installed(broker.bootstrap, tmp_path, 1) as service:
        worker = service.start(role="core")
        await service.until_ready(worker)
        answers = []
        for block in commands:
            env = {
                "URL": f"http://127.0.0.1:{worker.web_port}",
                "TOKEN": "a-token-of-tests-only",
                "PATH": os.environ["PATH"],
            }
            done = await asyncio.to_thread(
                subprocess.run,
                ["sh", "-ec", block],
                env=env,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            if "--json" in done.stderr:
                pytest.skip("this curl is too old for --json")
            assert done.returncode == 0, done.stdout + done.stderr
            answers += [json.loads(line) for line in done.stdout.splitlines()]
            await service.tap.until(lambda: {"clinic/visit-42"} <= set(service.rows()), 20, "the row of the reminder")
        one, two, cancel, shown, listed = answers
        assert [len(answer["events"]) for answer in (one, two, cancel)] == [1, 2, 1]
        assert {e["correlation_id"] for e in two["events"]} == {"booking-7"}
        assert shown["reminder"] == "clinic/visit-42"
        assert shown["trail"]
        assert listed == {"reminders": [], "next": None}
