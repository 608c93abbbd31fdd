"""What is written back on WhatsApp: over a real socket, and never in the way of what was told."""

import asyncio
import logging

import pytest

from app.web.replying import Replying
from tests.channels.cloud_stage import settings
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import authority
from tests.sandbox.cloud_server import CloudServer, error

NUMBER = "+12015550123"


async def test_an_answer_is_a_message_of_its_own() -> None:
    async with CloudServer(authority().issue("meta").server()) as server:
        holds = settings(Place(server.url, authority().file))
        replying = Replying(lambda: holds)
        replying(NUMBER, "Which one?")
        await server.until(lambda: bool(server.taken))
        await replying.close()
    [body] = server.taken
    assert (body["to"], body["text"]["body"]) == (NUMBER, "Which one?")
    assert "biz_opaque_callback_data" not in body


async def test_what_fails_is_logged_without_whom_it_was_for(caplog: pytest.LogCaptureFixture) -> None:
    async with CloudServer(authority().issue("meta").server()) as server:
        server.say(NUMBER, error(400, 131026, f"not to {NUMBER}"))
        holds = settings(Place(server.url, authority().file))
        replying = Replying(lambda: holds)
        replying(NUMBER, "canary-text")
        async with asyncio.timeout(20):
            while not [r for r in caplog.records if r.levelno == logging.WARNING]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await replying.close()
    told = [repr(vars(record)) for record in caplog.records]
    assert any("131026" in line for line in told)
    assert not [line for line in told if "5550123" in line or "canary" in line]


async def test_a_new_token_is_used_without_a_restart() -> None:
    async with CloudServer(authority().issue("meta").server()) as server:
        holds = [settings(Place(server.url, authority().file))]
        replying = Replying(lambda: holds[-1])
        replying(NUMBER, "one")
        await server.until(lambda: len(server.taken) == 1)
        server.token = "another"
        holds.append(settings(Place(server.url, authority().file), token="another"))
        replying(NUMBER, "two")
        await server.until(lambda: len(server.taken) == 2)
        await replying.close()
    assert [body["text"]["body"] for body in server.taken] == ["one", "two"]
