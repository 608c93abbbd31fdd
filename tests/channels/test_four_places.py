"""A new channel touches four places: here is one, made in a copy of the code, counted, and put through the contract."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("app", "agents", "tables", "channels", "schemas", "tests/channels", "tests/sandbox", "pyproject.toml")

MODULE = '''"""Carrier pigeons over HTTP."""

import logging

import orjson

from channels.base import Outcome, Send
from channels.http_answers import Answer, Failure, fault_meaning, status_meaning
from channels.http_call import HttpCaller
from schemas.names import Channel, OutcomeKind


class PigeonChannel:
    """The pigeon adapter."""

    name = "loft"
    channel = Channel.PIGEON
    concurrency = 4
    call_timeout_s = 3.0
    repeatable = False

    def __init__(self, url, ca_file=None, key=""):
        self._url, self._key = url, key
        self._caller = HttpCaller(connections=4, connect_timeout_s=2, timeout_s=2, ca_file=ca_file)

    async def open(self):
        await self._caller.open()

    async def close(self):
        await self._caller.close()

    async def send(self, message: Send) -> Outcome:
        body = orjson.dumps({"to": message.address, "text": message.text, "id": message.token})
        outcome = _outcome(await self._caller.call("POST", self._url, body=body, headers={"Authorization": self._key}))
        logging.getLogger(__name__).info("pigeon call", extra={"token": message.token, "reason": outcome.reason})
        return outcome

    async def probe(self) -> str:
        said = _outcome(await self._caller.call("GET", self._url, headers={"Authorization": self._key}))
        if said.kind is not OutcomeKind.ACCEPTED:
            raise OSError(f"loft: {said.reason}")
        return "loft: ready"


def _outcome(got) -> Outcome:
    if isinstance(got, Failure):
        meaning, code, wait = fault_meaning(got), "", None
    else:
        meaning, code, wait = status_meaning(got.status), str(got.status), got.retry_after_s
        if got.status == 422:
            return Outcome(OutcomeKind.UNDELIVERABLE, "no_loft", "loft", code, blames_address=True)
    return Outcome(meaning.kind, meaning.reason, "loft", code, retry_after_s=wait, reached=meaning.reached)
'''

TEST = '''"""Pigeons keep the contract of all channels."""

import asyncio
import json

import pytest

from channels.pigeon import PigeonChannel
from schemas.names import OutcomeKind
from tests.channels.contract import ChannelContract, ProviderContract
from tests.channels.http_contract import HttpContract, HttpProviderContract
from tests.channels.twilio_stage import authority
from tests.sandbox.http_server import Cut, Hold, HttpServer, Reply


class Loft(HttpServer):
    key = "canary-key-of-the-loft"
    taken = ()

    def whom(self, seen):
        return json.loads(seen.body)["to"] if seen.body else ""

    def fault(self, seen):
        return None if seen.headers.get("Authorization") == self.key else Reply(401, self.key)

    def take(self, seen):
        self.taken = (*self.taken, seen.body)
        return Reply(202, "on its way")


class Stage:
    secret = Loft.key
    after_a_failed_server = OutcomeKind.MAYBE_SENT
    least_wait_s = None

    def __init__(self, server, adapter):
        self.server, self.adapter = server, adapter

    def address(self, number):
        return f"canary-roof-{number}"

    def taken(self, address):
        return [body for body in self.server.taken if json.loads(body)["to"] == address]

    def reply(self, address, reply):
        self.server.say(address, reply)

    def refuse_address(self, address):
        self.reply(address, Reply(422, address))

    def refuse_message(self, address):
        self.reply(address, Reply(413, address))

    def defer(self, address):
        self.reply(address, Reply(429, address))

    def lose_before(self, address):
        self.server.drop_next()

    def lose_after(self, address):
        self.server.say(address, Cut())

    def refuse_credentials(self):
        self.server.key = "another"

    def hold(self, address):
        event = asyncio.Event()
        self.server.say(address, Hold(event))
        return event

    async def held(self, address):
        await self.server.until(lambda: any(self.server.whom(seen) == address for seen in self.server.seen))

    async def vanish(self):
        await self.server.stop()

    def at(self, place):
        return PigeonChannel(place.url, place.ca_file, Loft.key)


class TestPigeon(ChannelContract, ProviderContract, HttpContract, HttpProviderContract):
    @pytest.fixture
    async def stage(self):
        async with Loft(authority().issue("loft").server()) as server:
            adapter = PigeonChannel(server.url, authority().file, Loft.key)
            await adapter.open()
            yield Stage(server, adapter)
            await adapter.close()

    @pytest.fixture
    def http(self, stage):
        return stage
'''

REGISTERED = """
from channels.pigeon import PigeonChannel
from channels.registry import FACTORIES, ChannelSettings, configured_channels
from schemas.names import Channel
from app.topics import TopicNames
from agents.wording import message_for
from schemas.records import Content

made = configured_channels(ChannelSettings())
assert isinstance(made[Channel.PIGEON], PigeonChannel)
assert TopicNames("").channels[Channel.PIGEON] == "notifications.pigeon"
assert message_for(Channel.PIGEON, "roof", Content(title="T", text="Text")).text == "Text"
"""


def inserted(path: Path, before: str, line: str) -> None:
    """Put a line before another one, of which there is exactly one."""
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, line + before), encoding="utf-8")


def contents(root: Path) -> dict[Path, bytes]:
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.suffix in (".py", ".toml", ".avsc")}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(root: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_new_channel_touches_four_places_and_keeps_the_contract(copy: Path) -> None:
    before = contents(copy)
    (copy / "channels/pigeon.py").write_text(MODULE, encoding="utf-8")
    (copy / "tests/channels/test_pigeon.py").write_text(TEST, encoding="utf-8")
    registry = copy / "channels/registry.py"
    inserted(registry, "from channels.sms import", "from channels.pigeon import PigeonChannel\n")
    inserted(
        registry,
        "    Channel.SMS: lambda",
        '    Channel.PIGEON: lambda settings: PigeonChannel("https://loft.example"),\n',
    )
    names = copy / "schemas/names.py"
    inserted(names, "\n\n#: The channels that have a topic", '    PIGEON = "PIGEON"\n')
    inserted(names, ", Channel.PUSH, Channel.WEBHOOK)", ", Channel.PIGEON")
    after = contents(copy)
    touched = {path.as_posix() for path in after if after[path] != before.get(path)}
    assert touched == {
        "channels/pigeon.py",
        "channels/registry.py",
        "schemas/names.py",
        "tests/channels/test_pigeon.py",
    }
    run(copy, "-c", REGISTERED)
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/channels/test_pigeon.py")
