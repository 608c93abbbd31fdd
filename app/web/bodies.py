"""What providers post, read within bounds, and how a callback is answered whatever happens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web
from faust.web import Request, Response

from app.callers import REFUSED, Callers
from app.web.answers import error
from app.web.links.views import caller
from app.web.ports import Unsent

log = logging.getLogger(__name__)

#: Limit of a body's way to us, in seconds.
BODY_S = 30.0
#: What somebody is answered who is not known, or costs us something: guessing is made slow by these.
_COUNTED = frozenset({401, 403, 408, 413, 415})
_CHUNK = 64 * 1024


class Refused(Exception):  # noqa: N818 - an answer more than an error
    """Not to be believed, or not to be read: with which status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def body_of(request: web.Request, most: int) -> bytes:
    """Return a request's body of at most so many bytes; raises Refused for a longer one, and for one that takes longer
    than BODY_S."""
    if (request.content_length or 0) > most:
        raise Refused(413, f"send at most {most} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > most:
                    raise Refused(413, f"send at most {most} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_S:g} s") from None
    return bytes(body)


async def answered(callers: Callers, request: Request, act: Callable[[web.Request], Awaitable[Response]]) -> Response:
    """Answer a callback: what ``act`` says, why it refused, or that it is to be sent again. Who is refused again and
    again must wait; what a provider has signed is not counted, whatever we say to it, for a busy one is no guesser."""
    called = cast("web.Request", request)
    who = caller(callers, request)
    if wait := callers.wait_s(who):
        return error(429, "too many requests that were refused", **{"Retry-After": str(wait)})
    try:
        return await act(called)
    except Refused as exc:
        if exc.status == 403:
            log.warning("a callback without a valid signature was refused", extra={"path": called.path})
        if exc.status in _COUNTED:
            callers.spend(who, REFUSED)
        return error(exc.status, str(exc))
    except Unsent as exc:
        return error(503, f"not kept: {exc}; send it again", **{"Retry-After": "1"})
