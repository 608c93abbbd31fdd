"""Alerts over a real socket: tried again, and never a word of their URL in the log."""

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app import alerts
from app.alerts import Alerts
from tables.circuit import Circuit, Phase

OPEN = Circuit("email/smtp", Phase.OPEN, 1, 1_796_115_600_000, reason="auth_refused", misconfigured=True)


async def posted(statuses: list[int]) -> list[dict[str, Any]]:
    """Return what arrives where the first answers are these."""
    told: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response(status=statuses[min(len(told), len(statuses)) - 1])

    app = web.Application()
    app.router.add_post("/hook/secret-of-the-url", take)
    async with TestServer(app) as server:
        one = Alerts(str(server.make_url("/hook/secret-of-the-url")))
        one.circuit(OPEN)
        async with asyncio.timeout(30):
            await asyncio.gather(*one._tasks)
    return told


async def test_an_alert_is_posted_once_where_it_is_taken() -> None:
    [told] = await posted([204])
    assert (told["alert"], told["provider"], told["reason"]) == ("circuit", "smtp", "auth_refused")


async def test_an_alert_is_tried_again_and_given_up_without_naming_its_url(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alerts, "WAITS_S", (0.01, 0.01, 0.01, 0.01))
    assert len(await posted([500, 302, 200])) == 3
    with caplog.at_level(logging.DEBUG):
        assert len(await posted([503])) == alerts.TRIES
        gone = Alerts("http://127.0.0.1:1/secret-of-the-url")
        gone.circuit(OPEN)
        await asyncio.gather(*gone._tasks)
    said = [record.getMessage() for record in caplog.records if record.name == "app.alerts"]
    assert said == [
        "an alert could not be posted to ALERT_WEBHOOK: 503",
        "an alert could not be posted to ALERT_WEBHOOK: ClientConnectorError",
    ]
    assert "secret-of-the-url" not in " ".join(said)
