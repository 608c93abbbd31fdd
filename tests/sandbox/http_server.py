"""A provider's stand-in over HTTP: scripted answers for whom a message is for, and connections that can be counted, cut
and refused. Derived servers speak a provider's protocol; nothing here knows one.
"""

import asyncio
import json
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. A body that is neither text nor bytes is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()

    @property
    def kind(self) -> str:
        """The content type."""
        if isinstance(self.body, bytes | str):
            return "text/html" if self.data.lstrip().startswith(b"<") else "text/plain"
        return "application/json"


@dataclass(frozen=True, slots=True)
class Cut:
    """Take the message and break the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Half:
    """Take the message, and break the connection in the middle of the answer's body."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Say nothing until the event is set, then answer as ever."""

    event: asyncio.Event


Action = Reply | Cut | Half | Hold


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class HttpServer:
    """A server on a free port of the loopback. Scripts are taken in order; the last action of one stays."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._scripts: dict[str, deque[Action]] = defaultdict(deque)
        self._drops = 0
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self.port = 0
        self.connections = 0
        self.seen: list[Seen] = []

    # -- what a derived server says

    def whom(self, seen: Seen) -> str:
        """Return whom a request is for, by which its script is found."""
        raise NotImplementedError

    def fault(self, seen: Seen) -> Reply | None:
        """Return what the provider says to a request that is not in order, None for one that is."""
        return None

    def take(self, seen: Seen) -> Reply:
        """Take a message and return the provider's good answer."""
        raise NotImplementedError

    # -- what tests tell it

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def say(self, whom: str, *actions: Action) -> None:
        """Answer requests for somebody with these, one after the other; the last one stays."""
        self._scripts[whom] = deque(actions)

    def drop_next(self) -> None:
        """Break the next connection before a byte of it is read."""
        self._drops += 1

    async def until(self, condition: Callable[[], bool], limit_s: float = 20.0) -> None:
        """Return once a condition holds; looked at after every request."""
        async with asyncio.timeout(limit_s), self._news:
            await self._news.wait_for(condition)

    async def stop(self) -> None:
        """Refuse connections and end those that stand."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in self._tasks:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=200)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._accepting = asyncio.create_task(self._accept(self._listener, self._runner))

    # -- inside

    async def _accept(self, listener: socket.socket, runner: web.AppRunner) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            if self._drops:
                self._drops -= 1
                connection.close()
                continue
            self.connections += 1
            task = asyncio.create_task(self._welcome(connection, runner))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _welcome(self, connection: socket.socket, runner: web.AppRunner) -> None:
        loop = asyncio.get_running_loop()
        server = runner.server
        if server is None:
            raise RuntimeError("the server is not started")
        try:
            await loop.connect_accepted_socket(server, connection, ssl=self._tls)
        except OSError:
            connection.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.path_qs, dict(request.headers), await request.read())
        async with self._news:
            self.seen.append(seen)
            self._news.notify_all()
        wrong = self.fault(seen)
        if wrong is not None:
            return _response(wrong)
        script = self._scripts.get(self.whom(seen))
        action: Action | None = None
        if script:
            action = script.popleft() if len(script) > 1 else script[0]
        match action:
            case None:
                return _response(self.take(seen))
            case Reply():
                return _response(action)
            case Hold(event):
                await event.wait()
                return _response(self.take(seen))
            case Cut():
                self.take(seen)
            case Half():
                reply = self.take(seen)
                _half(request, reply)
        if request.transport is not None:
            request.transport.close()
        # The connection is gone; aiohttp wants something all the same.
        return web.Response()


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.data, headers=reply.headers, content_type=reply.kind)


def _half(request: web.Request, reply: Reply) -> None:
    if request.transport is None:
        return
    head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: {reply.kind}\r\nContent-Length: {len(reply.data)}\r\n\r\n"
    request.transport.write(head.encode() + reply.data[: len(reply.data) // 2])
