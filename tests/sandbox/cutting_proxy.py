"""A proxy between an adapter and its provider that breaks the connection after so many bytes, either way."""

import asyncio
from contextlib import suppress
from typing import Self


class CuttingProxy:
    """Passes bytes on to a port of this machine. ``cut_out`` and ``cut_back``: bytes let through before the next
    connection breaks, None: all of them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cut_out: int | None = None
        self.cut_back: int | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        out, back = self.cut_out, self.cut_back
        self.cut_out = self.cut_back = None
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [
            asyncio.create_task(_pass(reader, to_writer, out)),
            asyncio.create_task(_pass(to_reader, writer, back)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for one in (writer, to_writer):
                with suppress(OSError, RuntimeError):
                    one.transport.abort()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int | None) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(65_536):
            if left is not None:
                chunk, left = chunk[:left], left - len(chunk[:left])
            sink.write(chunk)
            await sink.drain()
            if left == 0:
                return
