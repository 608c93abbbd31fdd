"""A proxy between an adapter and its provider that breaks the connection at a byte, either way, or at a time."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Way(StrEnum):
    """What a cut counts: bytes to the provider, bytes of its answers, or seconds."""

    OUT = "OUT"
    BACK = "BACK"
    TIME = "TIME"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the connections break: after so many bytes, or seconds. ``silent``: nothing passes any more, but nobody is
    told."""

    way: Way
    after: float
    silent: bool = False


class CuttingProxy:
    """Passes bytes on to a port of this machine. ``passed``: how many, each way, since the last ``arm``; ``open``: how
    many connections stand."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut: Cut | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._broken: list[asyncio.Event] = []
        self._silent = False
        self.port = 0
        self.open = 0
        self.passed = {Way.OUT: 0, Way.BACK: 0}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.arm(None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, cut: Cut | None) -> None:
        """Count anew, and break all connections once where the cut says; None: let everything through."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._silent:
            # What was to be heard no more must not be heard later.
            self._break()
        self._silent = False
        self._cut = cut
        self.passed = {Way.OUT: 0, Way.BACK: 0}
        if cut is not None and cut.way is Way.TIME:
            self._timer = asyncio.get_running_loop().call_later(cut.after, self._strike)

    def _strike(self) -> None:
        cut, self._cut = self._cut, None
        if cut is not None and cut.silent:
            self._silent = True
        else:
            self._break()

    def _break(self) -> None:
        for event in self._broken:
            event.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        broken = asyncio.Event()
        self._broken.append(broken)
        self.open += 1
        work: list[asyncio.Task[object]] = []
        writers = [writer]
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(to_writer)
            work = [
                asyncio.create_task(self._pass(Way.OUT, reader, to_writer)),
                asyncio.create_task(self._pass(Way.BACK, to_reader, writer)),
                asyncio.create_task(broken.wait()),
            ]
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            self._broken.remove(broken)
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for end in writers:
                with suppress(OSError, RuntimeError):
                    end.transport.abort()

    async def _pass(self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(65_536):
                if self._silent:
                    continue
                cut = self._cut
                if cut is None or cut.way is not way:
                    await self._on(way, sink, chunk)
                    continue
                await self._on(way, sink, chunk[: int(cut.after) - self.passed[way]])
                if self.passed[way] >= int(cut.after):
                    self._strike()

    async def _on(self, way: Way, sink: asyncio.StreamWriter, chunk: bytes) -> None:
        if chunk:
            self.passed[way] += len(chunk)
            sink.write(chunk)
            await sink.drain()
