"""The registry client against a stand-in that speaks the registry's protocol."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from schemas.codec import Codec, RegistryUnavailable, Undecodable, encode
from schemas.records import ReminderEvent
from schemas.registry import Registry

AVRO = Path(__file__).parents[2] / "schemas" / "avro"


class StandIn:
    """Answers as Confluent's registry does; ``mode`` makes it fail."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, object]] = {}
        self.mode = ""
        self.asked: list[int] = []
        self.authorization = ""
        self.most = self.running = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.authorization = request.headers.get("Authorization", "")
        schema_id = int(request.match_info["id"])
        self.asked.append(schema_id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.01)
        finally:
            self.running -= 1
        match self.mode:
            case "500":
                return web.json_response({"error_code": 50001, "message": "store"}, status=500)
            case "401":
                return web.json_response({"error_code": 401, "message": "Unauthorized"}, status=401)
            case "html":
                return web.Response(status=404, text="<html>", content_type="text/html")
            case "bare":
                return web.json_response({"detail": "Not Found"}, status=404)
            case "redirect":
                raise web.HTTPFound("/elsewhere")
            case "list":
                return web.json_response([1])
            case "slow":
                await asyncio.sleep(5)
            case "large":
                return web.json_response({"schema": "x" * 2_000_000})
        if schema_id not in self.schemas:
            return web.json_response({"error_code": 40403, "message": "Schema not found"}, status=404)
        return web.json_response(self.schemas[schema_id], content_type="application/vnd.schemaregistry.v1+json")


@pytest.fixture
async def stand_in() -> AsyncIterator[tuple[StandIn, str]]:
    registry = StandIn()
    app = web.Application()
    app.router.add_get("/base/schemas/ids/{id}", registry.answer)
    async with TestServer(app) as server:
        yield registry, str(server.make_url("/base/"))


async def test_a_schema_is_given_and_an_unknown_id_is_none(stand_in: tuple[StandIn, str]) -> None:
    served, url = stand_in
    served.schemas[7] = {"schema": '"string"'}
    async with Registry(url) as registry:
        assert await registry.schemas([7, 8]) == {7: '"string"', 8: None}
        assert await registry.schemas([]) == {}
    assert served.authorization == ""


async def test_an_unknown_id_is_asked_for_again_after_a_while(stand_in: tuple[StandIn, str]) -> None:
    served, url = stand_in
    now = 0.0
    async with Registry(url, unknown_s=30, clock=lambda: now) as registry:
        assert await registry.schemas([8]) == {8: None}
        now = 29.0
        served.schemas[8] = {"schema": '"int"'}
        assert await registry.schemas([8]) == {8: None}
        now = 30.0
        assert await registry.schemas([8]) == {8: '"int"'}
    assert served.asked == [8, 8]


async def test_the_password_is_sent(stand_in: tuple[StandIn, str]) -> None:
    served, url = stand_in
    async with Registry(url, user="me", password="secret") as registry:
        await registry.schemas([1])
    assert served.authorization == "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.mark.parametrize("mode", ["500", "401", "html", "bare", "redirect", "list", "slow", "large"])
async def test_whatever_is_no_answer_is_unavailable(stand_in: tuple[StandIn, str], mode: str) -> None:
    served, url = stand_in
    served.mode = mode
    async with Registry(url, timeout_s=0.3, user="me", password="secret") as registry:
        with pytest.raises(RegistryUnavailable) as caught:
            await registry.schemas([1, 2, 3])
        assert "secret" not in str(caught.value)
        served.mode = ""
        assert await registry.schemas([1]) == {1: None}


async def test_nobody_listening_is_unavailable() -> None:
    async with Registry("http://127.0.0.1:1") as registry:
        with pytest.raises(RegistryUnavailable, match="ClientConnectorError"):
            await registry.schemas([1])


async def test_many_ids_are_asked_for_a_few_at_a_time(stand_in: tuple[StandIn, str]) -> None:
    served, url = stand_in
    async with Registry(url) as registry:
        assert await registry.schemas(range(100)) == dict.fromkeys(range(100))
    assert 1 < served.most <= 8


async def test_the_codec_reads_what_the_registry_knows(stand_in: tuple[StandIn, str]) -> None:
    served, url = stand_in
    event = ReminderEvent("r-1", text="x")
    schema = json.dumps(_schema())
    served.schemas |= {42: {"schema": schema}, 43: {"schema": schema, "references": [{"name": "x"}]}}
    served.schemas |= {44: {"schema": "syntax = 3", "schemaType": "PROTOBUF"}}
    body = encode(event)[10:]
    values = [b"\0" + n.to_bytes(4, "big") + body for n in (42, 43, 44, 45)]
    async with Registry(url) as registry:
        codec = Codec(registry)
        await codec.prefetch(values)
        reasons = []
        for value in values:
            try:
                assert codec.decode_event(ReminderEvent, value) == event
                reasons.append("read")
            except Undecodable as wrong:
                reasons.append(wrong.reason.value)
    assert reasons == ["read", "incompatible_schema", "incompatible_schema", "unknown_schema_id"]


def _schema() -> object:
    return json.loads(AVRO.joinpath("reminder_event.avsc").read_text("utf-8"))
