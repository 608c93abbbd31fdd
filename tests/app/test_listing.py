"""The commands that ask a worker's views: ``list``, and ``trail`` with its reasons; over HTTP, without Kafka."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from app.cli.root import main
from app.config import VARIABLES
from schemas.names import Channel, State
from schemas.records import Stages, TrailEntry
from tests.web.stage import AT, TOKEN, Fake, Stage, row
from tests.web.test_listing import many, stored

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def served() -> Iterator[tuple[Fake, Cli]]:
    """A worker's web server in a thread of its own, and the command line beside it."""
    fake, ready, loop = Fake(rows=many()), threading.Event(), asyncio.new_event_loop()
    stage, urls = Stage(), []

    async def start() -> None:
        urls.append((await stage.start(fake)).make_url("/"))
        ready.set()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(20)

    def cli(*args: str, **env: str) -> tuple[int, str, str]:
        unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
        where = {"WEB_HOST": urls[0].host, "WEB_PORT": str(urls[0].port), "WEB_TOKEN": TOKEN}
        result = CliRunner().invoke(main, args, env={**unset, **where, **env})
        return result.exit_code, result.stdout, result.stderr

    yield fake, cli
    asyncio.run_coroutine_threadsafe(stage.close(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


def test_the_list(served: tuple[Fake, Cli]) -> None:
    _, cli = served
    code, out, err = cli("list", "--state", "failed", "--channel", "email", "--due-before", "2026-12-01T08:00:06Z")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == [
        "due", "state", "reminder", "channel", "attempt", "acts", "next", "then", "rule", "to", "why",
    ]  # fmt: skip
    assert sorted(line.split()[2] for line in lines[1:]) == ["r/001", "r/002", "r/005"]
    assert "c***@e…" in out
    assert "canary" not in out


def test_pages_follow_each_other(served: tuple[Fake, Cli]) -> None:
    _, cli = served
    code, out, err = cli("list", "--json", "--limit", "25")
    first = [json.loads(line)["reminder"] for line in out.splitlines()]
    assert (code, len(first)) == (0, 25)
    cursor = err.strip().removeprefix("more: --cursor ")
    code, out, err = cli("list", "--json", "--all", "--cursor", cursor)
    rest = [json.loads(line)["reminder"] for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert sorted(first + rest) == sorted(many())


def test_what_goes_wrong_is_said(served: tuple[Fake, Cli]) -> None:
    fake, cli = served
    assert cli("list", "--state", "EXPIRED")[:2] == (0, "nothing fits\n")
    code, _, err = cli("list", "--due-before", "tomorrow")
    assert (code, err.startswith("error: --due-before: cannot be read; send ISO 8601")) == (2, True)
    code, _, err = cli("list", WEB_TOKEN="")
    assert (code, "WEB_TOKEN: is not set" in err) == (2, True)
    code, _, err = cli("list", WEB_TOKEN="wrong")
    assert (code, "answers 401" in err) == (1, True)
    code, _, err = cli("list", WEB_PORT="1")
    assert (code, "no worker answers" in err) == (1, True)
    fake.recovering = True
    code, _, err = cli("list")
    assert (code, "partition 0 is being taken over; try again" in err) == (1, True)


def test_a_trail_with_its_reasons(served: tuple[Fake, Cli]) -> None:
    fake, cli = served
    way = Stages(AT, AT, AT + 3, AT + 5, AT + 9, AT + 14, AT + 20, AT + 48)
    told = TrailEntry(
        3, AT + 50, State.FAILED, "greylisted", attempt=1, channel=Channel.EMAIL, actor="desk", stages=way
    )
    tomorrow = time.time_ns() // 1_000_000 + 86_400_000
    fake.rows = {"clinic/1": row(State.RETRY, more=(told,)), "clinic/2": stored(State.SCHEDULED, tomorrow)}
    code, out, _ = cli("trail", "clinic/1", "--why")
    assert code == 0
    assert "by desk" in out
    said = [" ".join(line.split()) for line in out.splitlines()]
    assert "state An attempt failed, and another one is planned." in said
    assert any(line.startswith("next Attempt 1 is made. 2026-12-01") for line in said)
    assert any(line.startswith("late 48 ms after 2026-12-01") for line in said)
    stages = [line for line in said if "→" in line]
    assert [line.split(" ms ")[0] for line in stages] == [
        "due → published 3",
        "published → claimed 2",
        "claimed → gated 4",
        "gated → queued 5",
        "queued → called 6",
        "called → answered 28",
    ]
    assert "late" not in cli("trail", "clinic/1")[1]
    told_as_json = json.loads(cli("trail", "clinic/1", "--json")[1])["why"]["lateness"]
    assert sum(part["ms"] for part in told_as_json["stages"]) == told_as_json["total_ms"] == 48
    code, out, _ = cli("trail", "clinic/2", "--why")
    assert (code, "It is sent." in out, "late" in out) == (0, True, False)
