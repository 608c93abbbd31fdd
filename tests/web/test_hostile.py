"""Hostile requests over real sockets: whatever comes, signed or not, is answered below 500, and the next is served."""

import asyncio
import json
import random
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from app.web.routes import ROUTES
from tests.agents.test_hostile import hurt
from tests.effort import times
from tests.web.stage import AUTH, Fake, Serve
from tests.web.test_callbacks import Desks
from tests.web.test_callbacks_meta import Meta, failure, hook, said, status
from tests.web.test_callbacks_sendgrid import VENDOR_EVENT, Events
from tests.web.test_submit import event

#: Tokens that are none of ours, as headers can hold them.
WRONG = (
    *(
        "",
        "Bearer",
        "Bearer ",
        "bearer x",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer a-token-for-test",
        "Bearer a-token-for-testsx",
    ),
    *("a-token-for-tests", "Bearer " + "x" * 4000, "Bearer \xff\xfe", "Bearer a-token-for-tests, Bearer x"),
    *("Bearer A-TOKEN-FOR-TESTS", "Token a-token-for-tests", "Bearer ../../etc/passwd", "Bearer %s%n"),
)
COUNT = times(200)


def wounds(*bodies: bytes) -> list[bytes]:
    """Return bodies of which few are still what they were."""
    luck = random.Random(1)
    return [hurt(luck.choice(bodies), luck, list(bodies)) for _ in range(COUNT)]


def deep(value: Any) -> list[bytes]:
    """Return JSON that wants to be more: nested, huge, of other types."""
    return [
        b"[" * 5000 + b"]" * 5000,
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b"1e999999",
        b'{"object": NaN}',
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        *(json.dumps(other).encode() for other in (None, [], {}, 0, "x", [None], [[value]], {"entry": value})),
    ]


async def alive(client: TestClient) -> None:
    assert (await client.get("/live")).status == 200


async def test_signed_nonsense_of_meta_is_answered(serve: Serve) -> None:
    meta = Meta()
    await meta.open(serve)
    good = [hook(statuses=[status("sent"), failure(131047)]), hook(messages=[said("STOP"), said("1")])]
    for body in [*wounds(*(json.dumps(one).encode() for one in good)), *deep(good[0])]:
        assert (await meta.tell(body)).status in (200, 400, 413), body[:200]
    await alive(meta.client)


async def test_signed_nonsense_of_sendgrid_is_answered(serve: Serve) -> None:
    events = await Events().open(serve)
    for body in [*wounds(json.dumps([VENDOR_EVENT]).encode()), *deep([VENDOR_EVENT])]:
        assert (await events.tell(body)).status in (200, 400, 413), body[:200]
    await alive(events.client)


async def test_signed_nonsense_of_twilio_is_answered(serve: Serve) -> None:
    desks = await Desks().open(serve)
    luck = random.Random(2)
    good = {"MessageStatus": "delivered", "MessageSid": "SM1", "From": "+12015550123", "Body": "STOP", "Digits": "1"}
    for _ in range(COUNT):
        form = dict(good)
        for name in luck.sample(sorted(form), 2):
            form[name] = luck.choice(("", "\x00", "\u202e", "x" * 5000, "é" * 90, "-1", "+" + "9" * 60, "a\r\nb: c"))
        kind = luck.choice(("status", "call", "key", "inbound"))
        assert (await desks.post(kind, form, delivery="" if kind == "inbound" else "no delivery")).status in (
            200,
            400,
            404,
            413,
        )
    await alive(desks.client)


async def test_nonsense_of_a_producer_is_refused_as_such(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    good = [json.dumps(event()).encode(), json.dumps([event(rrule="FREQ=DAILY", data={"a": "b"})]).encode()]
    for body in [*wounds(*good), *deep(event())]:
        answer = await client.post("/reminders", data=body, headers=AUTH | {"Content-Type": "application/json"})
        assert answer.status in (202, 400, 413, 415, 422), (answer.status, body[:200])
        if answer.status != 202:
            assert await answer.json(), "it says what was wrong"
    await alive(client)


async def test_wrong_tokens_open_nothing(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    for route in ROUTES:
        if route.access is None:
            continue
        for token in WRONG:
            path = route.path.replace("{id}", "clinic/1").replace("{name}", "x")
            answer = await client.request(route.method, path, headers={"Authorization": token})
            assert answer.status in (401, 403, 429), (route.path, token[:40], answer.status)
            assert "canary" not in (await answer.text()).lower()
    assert fake.sent == []
    await alive(client)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /reminders HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /reminders HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /reminders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /reminders/%00%ff%2e%2e%2f HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 500,
        b"GET /live HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=range(10),
)
async def test_what_is_no_request_is_refused_and_the_next_is_served(serve: Serve, raw: bytes) -> None:
    client = await serve(Fake())
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(raw)
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read(1 << 16)
    writer.close()
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]
    assert b"Traceback" not in answer
    await alive(client)


async def test_a_hundred_who_say_nothing_keep_nobody_waiting(serve: Serve) -> None:
    client = await serve(Fake())
    idle = [await asyncio.open_connection(client.host, client.port) for _ in range(100)]
    for n, (_, writer) in enumerate(idle):
        writer.write(b"POST /reminders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"[: n % 60])
    async with asyncio.timeout(30):
        await alive(client)
    for _, writer in idle:
        writer.close()
