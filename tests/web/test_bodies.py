"""Bodies that providers post: read whole, within bounds of size and time, however they come in pieces."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient

from app.web import bodies
from tests.web.stage import Serve
from tests.web.test_callbacks import Desks
from tests.web.test_callbacks_meta import MAX_BODY_BYTES, PATH, Meta
from tests.web.test_mail_in import ADDRESS, TOKEN, Door


async def pieces(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


async def test_a_body_without_a_length_is_bounded_by_what_comes(serve: Serve) -> None:
    meta = Meta()
    await meta.open(serve)
    # Whole, it is read, and wants a signature; one byte more is too much.
    assert (await meta.client.post(PATH, data=pieces(MAX_BODY_BYTES // 64, 64))).status == 403
    assert (await meta.client.post(PATH, data=pieces(MAX_BODY_BYTES // 64 + 1, 64))).status == 413


async def _held(client: TestClient, path: str, **headers: str) -> tuple[int, str]:
    """Return the answer to a body of which the rest never comes."""
    ended = asyncio.Event()

    async def begun() -> AsyncIterator[bytes]:
        yield b"x"
        await ended.wait()

    try:
        answer = await client.post(path, data=begun(), headers=headers)
        return answer.status, (await answer.json())["error"]
    finally:
        ended.set()


async def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    late = (408, "the body did not come within 0.1 s")
    desks, meta, door = await Desks().open(serve), Meta(), await Door().open(serve)
    await meta.open(serve)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    mail = {"Content-Type": "message/rfc822", "Authorization": f"Bearer {TOKEN}"}
    assert await _held(desks.client, "/callbacks/twilio/inbound", **form) == late
    assert await _held(meta.client, PATH) == late
    assert await _held(door.client, f"/callbacks/mail?to={ADDRESS}", **mail) == late
    assert desks.untouched
    assert meta.untouched
    assert door.untouched
