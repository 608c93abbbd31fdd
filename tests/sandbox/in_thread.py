"""A stand-in in a thread of its own, for tests of commands, which run a loop of their own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Server(Protocol):
    """What starts and stops in a loop."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self) -> None:
        """Stop listening and end every connection."""


S = TypeVar("S", bound=Server)


@contextmanager
def in_thread(server: S) -> Iterator[S]:
    """Serve for a block. ``server`` is made outside of any loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
