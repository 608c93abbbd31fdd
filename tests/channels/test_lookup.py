"""Twilio's list of messages, read over real sockets: paged, by number and time, and never taken for more than it is."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from channels.base import OnRecord, Outcome, Reconciling, Send
from channels.sms import SmsChannel
from channels.twilio_api import read_page
from channels.whatsapp import WhatsAppChannel
from schemas.names import Channel, OutcomeKind
from tests.channels.twilio_stage import settings
from tests.sandbox.http_server import Cut
from tests.sandbox.twilio_server import TOKEN, TwilioServer

NUMBER, OTHER = "+12015550142", "+12015550143"


@asynccontextmanager
async def desk(kind: Any = SmsChannel) -> AsyncIterator[tuple[TwilioServer, Any]]:
    async with TwilioServer() as server:
        place: Any = SimpleNamespace(url=server.url, ca_file=None)
        adapter = kind(settings(place))
        await adapter.open()
        try:
            yield server, adapter
        finally:
            await adapter.close()


def sms(number: int, to: str = NUMBER, text: str = "Hello") -> Send:
    return Send(Channel.SMS, to, f"t{number}", 1, 0, 0, 0, text=f"{text} {number}")


def now() -> int:
    return time.time_ns() // 1_000_000


async def test_a_message_whose_answer_was_lost_is_on_the_list() -> None:
    async with desk() as (server, adapter):
        assert isinstance(adapter, Reconciling)
        begun = now()
        server.say(NUMBER, Cut())
        assert (await adapter.send(sms(1))).kind is OutcomeKind.MAYBE_SENT
        (found,) = await adapter.look_up(NUMBER, begun - 60_000, now() + 60_000)
        assert found.body == adapter.words(sms(1))
        assert await adapter.look_up(OTHER, begun - 60_000, now() + 60_000) == ()
        assert await adapter.look_up(NUMBER, 0, begun - 60_000) == ()


async def test_the_list_is_read_page_by_page_to_the_beginning_of_the_window() -> None:
    async with desk() as (server, adapter):
        for n in range(45):
            await adapter.send(sms(n))
            await adapter.send(sms(n, OTHER))
        found = await adapter.look_up(NUMBER, now() - 60_000, now() + 60_000)
        assert isinstance(found, tuple)
        assert [one.body for one in found] == [f"Hello {n}" for n in reversed(range(45))]
        assert server.lists == 3
        old = "Mon, 01 Jan 2024 00:00:00 +0000"
        for message in server.messages[20:]:
            message["date_created"] = old
        server.lists = 0
        assert len(await adapter.look_up(NUMBER, now() - 60_000, now() + 60_000)) == 10
        assert server.lists == 1, "what is older is not read"


async def test_long_texts_are_read_in_smaller_pages() -> None:
    async with desk() as (server, adapter):
        for n in range(20):
            await adapter.send(sms(n))
        for message in server.messages:
            message["body"] = "\u20ac" * 1600
        found = await adapter.look_up(NUMBER, now() - 60_000, now() + 60_000)
        assert isinstance(found, tuple)
        assert len(found) == 20


async def test_words_of_a_template_are_the_providers_own() -> None:
    async with desk(WhatsAppChannel) as (_, adapter):
        message = Send(Channel.WHATSAPP, NUMBER, "t", 1, 0, 0, 0, text="Hello")
        assert adapter.words(message) == ""
        assert (await adapter.send(message)).kind is OutcomeKind.ACCEPTED
        (found,) = await adapter.look_up(NUMBER, now() - 60_000, now() + 60_000)
        assert found.provider_id.startswith("SM")


async def test_a_list_that_cannot_be_had_says_nothing_of_the_doubt() -> None:
    async with desk() as (server, adapter):
        server.token = "another"
        told = await adapter.look_up(NUMBER, 0, now())
        assert isinstance(told, Outcome)
        assert told.kind is OutcomeKind.MISCONFIGURED
        assert TOKEN not in repr(told)
        assert NUMBER not in repr(told)
    told = await adapter_down()
    assert told.kind in (OutcomeKind.DEFERRED, OutcomeKind.MAYBE_SENT)
    bad = await adapter.look_up("nobody", 0, now())
    assert isinstance(bad, Outcome)


async def adapter_down() -> Any:
    async with desk() as (server, adapter):
        await server.stop()
        return await adapter.look_up(NUMBER, 0, now())


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"messages": [{}], "next_page_uri": null}',
        b'{"messages": [], "next_page_uri": "https://elsewhere.example/2010-04-01/x"}',
        b'{"messages": [{"sid": "SM1", "date_created": "soon", "direction": "outbound-api"}]}',
    ],
)
def test_what_is_no_list_is_not_read_as_an_empty_one(body: bytes) -> None:
    assert read_page(body) is None


def test_only_what_we_have_sent_is_ours() -> None:
    page = b"""{"next_page_uri": "/2010-04-01/next", "messages": [
      {"sid": "SM1", "date_created": "Tue, 01 Dec 2026 08:00:00 +0000", "direction": "inbound", "body": "OK"},
      {"sid": "SM2", "date_created": "Tue, 01 Dec 2026 08:00:00 +0000", "direction": "outbound-api", "body": null}]}"""
    assert read_page(page) == ([OnRecord("SM2", 1_796_112_000_000, None)], "/2010-04-01/next")
