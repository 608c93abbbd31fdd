"""The handlers that write: reminders by POST, a cancel by DELETE. They answer once the brokers have it."""

import asyncio
import hashlib
import json
import logging
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from aiohttp import web
from faust.web import Request, Response

from agents.letters import CORRELATION
from app import sparse
from app.tokens import Token
from app.web.answers import answer, error
from app.web.intake import ANSWERS, Asked, Batch, cancel, resolve
from app.web.ports import Outgoing, Outlet, Unsent
from app.web.quota import Quotas, TooMany
from app.web.routes import JSON, MAX_BODY_BYTES, MAX_EVENTS
from schemas.records import ReminderEvent

log = logging.getLogger(__name__)

#: A body must have come whole in this time.
BODY_S = 10.0
#: Requests that may be at work at once; a client that is slow holds one of them for BODY_S at most.
MAX_AT_ONCE = 64
#: Events that are read before the loop may turn: some milliseconds.
_CHUNK = 20
MAX_KEY_CHARACTERS = 200
MAX_REASON = 200
_REMEMBERED = 10_000
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class _Refused(Exception):  # noqa: N818 - an answer more than an error
    """Why a request is not taken. ``close``: the rest of its body is not wanted."""

    def __init__(self, status: int, why: str, more: Mapping[str, object] | None = None, *, close: bool = False) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why
        self.more = dict(more or {})
        self.close = close

    def response(self) -> Response:
        after = self.more.get("retry_after_s")
        made = error(self.status, self.why, self.more, **({"Retry-After": str(after)} if after else {}))
        if self.close:
            cast("web.Response", made).force_close()
        return made


class Submitting:
    """Takes events in and sends them."""

    def __init__(
        self,
        outlet: Outlet,
        quotas: Quotas,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        fresh: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._outlet = outlet
        self._quotas = quotas
        self._now_ms = now_ms
        self._fresh = fresh
        self._at_work = 0
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()

    async def post(self, request: Request, token: Token) -> Response:
        """Take one reminder or an array of them."""
        try:
            async with self._place():
                asked = self._asked(request, token)
                body = await _body(cast("web.Request", request))
                value = _json(body)
                batch, single = Batch(asked), not isinstance(value, list)
                values = [value] if single else value
                if not values:
                    raise _Refused(400, "the array is empty; send a reminder, or an array of them")
                if len(values) > MAX_EVENTS:
                    raise _Refused(413, f"more than {MAX_EVENTS} events; send them in several requests")
                for index, one in enumerate(values):
                    if index % _CHUNK == 0:
                        await asyncio.sleep(0)
                    batch.read(index, one)
                    if batch.full:
                        break
                return await self._sent(batch, body, single)
        except _Refused as refused:
            return refused.response()

    async def delete(self, request: Request, token: Token, id: str) -> Response:  # noqa: A002 - the name in the path
        """Cancel a reminder."""
        try:
            async with self._place():
                batch = Batch(self._asked(request, token))
                event = _cancel(id, cast("web.Request", request).query)
                batch.take(0, event)
                return await self._sent(batch, repr(event).encode(), True)
        except _Refused as refused:
            return refused.response()

    async def resolve(self, request: Request, token: Token, id: str) -> Response:  # noqa: A002 - as above
        """Take a person's word on a reminder that may have been sent or not."""
        try:
            async with self._place():
                batch = Batch(self._asked(request, token))
                body = await _body(cast("web.Request", request))
                event = _resolved(id, _json(body))
                batch.take(0, event)
                return await self._sent(batch, repr(event).encode(), True)
        except _Refused as refused:
            return refused.response()

    async def act(self, token: Token, event: ReminderEvent, key: str) -> Response:
        """Take an act of the console. ``key``: names the form that was sent."""
        try:
            async with self._place():
                batch = Batch(Asked(token, key, "", self._now_ms(), self._fresh))
                batch.take(0, event)
                return await self._sent(batch, repr(replace(event, at=None)).encode(), True)
        except _Refused as refused:
            return refused.response()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._at_work >= MAX_AT_ONCE:
            raise _Refused(503, "too many requests at once; try again", {"retry_after_s": 1}, close=True)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def _asked(self, request: Request, token: Token) -> Asked:
        headers = request.headers
        key = headers.get("Idempotency-Key", "").strip()
        if len(key) > MAX_KEY_CHARACTERS or not key.isascii():
            raise _Refused(400, f"Idempotency-Key: use 1 to {MAX_KEY_CHARACTERS} characters of ASCII", close=True)
        return Asked(token, key, _correlation(headers), self._now_ms(), self._fresh)

    async def _sent(self, batch: Batch, body: bytes, single: bool) -> Response:
        if batch.faults:
            what = "this token may not write this" if batch.forbidden else "nothing was taken, for something is wrong"
            more = {"more_faults": True} if batch.full else {}
            raise _Refused(403 if batch.forbidden else 400, what, {"faults": batch.faults, **more})
        known = self._known(batch.asked, batch.events[0].tenant, body)
        give_back = self._counted(batch)
        records = [_outgoing(event, value) for event, value in zip(batch.events, batch.values, strict=True)]
        # Even what was not acknowledged may have been taken: from here on the key stands for this body.
        self._remember(*known)
        try:
            kept = await self._outlet.send(records)
        except Unsent as exc:
            give_back()
            log.warning("events that came by HTTP were not acknowledged: %s", exc, extra={"events": len(records)})
            why = "the brokers did not acknowledge it, so it may have been taken or not; send it again"
            raise _Refused(
                503,
                why + (" with the same Idempotency-Key" if batch.asked.key else ""),
                {"retry_after_s": 1},
            ) from exc
        taken = [
            {
                "reminder_id": event.reminder_id,
                "event_id": event.event_id,
                "correlation_id": event.correlation_id,
                "topic": there.topic,
                "partition": there.partition,
                "offset": there.offset,
                "trail": _trail(event),
            }
            for event, there in zip(batch.events, kept, strict=True)
        ]
        return answer(202, {"events": taken}, {"Location": _trail(batch.events[0])} if single else None)

    def _counted(self, batch: Batch) -> Callable[[], None]:
        try:
            return self._quotas.take(batch.events)
        except TooMany as exc:
            if exc.retry_after_s == 0:
                why = f"more events than the quota of a whole minute ({exc.limit}); send them in several requests"
                raise _Refused(413, why) from exc
            why = f"the quota of {exc.limit} events a minute is used up"
            raise _Refused(429, why, {"retry_after_s": exc.retry_after_s}) from exc

    def _known(self, asked: Asked, tenant: str, body: bytes) -> tuple[bytes, bytes]:
        """Return a key and what it stands for. A key that stood for something else here is refused."""
        if not asked.key:
            return b"", b""
        who = hashlib.sha256(json.dumps([asked.token.name, tenant, asked.key]).encode()).digest()
        what = hashlib.sha256(body).digest()
        if self._bodies.get(who, what) != what:
            raise _Refused(422, "this Idempotency-Key came with another request before; use a key once")
        return who, what

    def _remember(self, who: bytes, what: bytes) -> None:
        if who:
            self._bodies[who] = what
            self._bodies.move_to_end(who)
            if len(self._bodies) > _REMEMBERED:
                self._bodies.popitem(last=False)


def _trail(event: ReminderEvent) -> str:
    return f"/reminders/{quote(event.reminder_id, safe='/')}"


def _outgoing(event: ReminderEvent, value: bytes) -> Outgoing:
    headers = ((CORRELATION, event.correlation_id.encode()),)
    return Outgoing(event.reminder_id.encode(), value, headers)


def _correlation(headers: Mapping[str, str]) -> str:
    """Return the caller's correlation id, else the trace that the request belongs to (W3C Trace Context)."""
    if given := headers.get("Correlation-Id") or headers.get("X-Correlation-Id"):
        return given
    trace = headers.get("traceparent", "")
    return trace if _TRACEPARENT.match(trace) else ""


def _cancel(reminder_id: str, query: Mapping[str, str]) -> ReminderEvent:
    for name in query:
        if name not in ("version", "occurrence"):
            raise _Refused(400, "a parameter is not known; use version and occurrence alone")
    version = query.get("version", "0")
    if not re.fullmatch(r"[0-9]{1,18}", version):
        raise _Refused(400, "version: use a whole number, zero or more")
    return cancel(reminder_id, int(version), query.get("occurrence", ""))


def _resolved(reminder_id: str, given: Any) -> ReminderEvent:
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise _Refused(400, "send an object of texts: answer, reason and, best, delivery_id")
    if unknown := given.keys() - {"answer", "reason", "delivery_id"}:
        raise _Refused(400, f"{len(unknown)} members are not known; use answer, reason and delivery_id alone")
    if given.get("answer") not in ANSWERS:
        raise _Refused(400, f"answer: send {' or '.join(ANSWERS)}")
    reason = given.get("reason", "").strip()
    if not 0 < len(reason) <= MAX_REASON:
        raise _Refused(400, f"reason: say how you know, in at most {MAX_REASON} characters")
    return resolve(reminder_id, given["answer"], reason, given.get("delivery_id", ""))


def _json(body: bytes) -> Any:
    try:
        return sparse.parse(body)
    except sparse.NotARecord as exc:
        fault = {"index": 0, "reason": "invalid_json", "field": exc.field, "value": "", "remedy": exc.remedy}
        raise _Refused(400, "nothing was taken, for something is wrong", {"faults": [fault]}) from exc


async def _body(request: web.Request) -> bytes:
    if request.content_type != JSON or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise _Refused(415, f"send the body as {JSON} in UTF-8, and say so in Content-Type", close=True)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Refused(415, "send the body as it is, without Content-Encoding", close=True)
    too_large = _Refused(413, f"more than {MAX_BODY_BYTES} bytes; send them in several requests", close=True)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError as exc:
        raise _Refused(408, f"the body did not come within {BODY_S:g} s", close=True) from exc
    except (aiohttp.ClientPayloadError, web.RequestPayloadError, ConnectionError) as exc:
        raise _Refused(400, "the body ended early", close=True) from exc
    return bytes(body)
