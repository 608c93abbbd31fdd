"""What is written back to somebody who has just written on WhatsApp: beside the answer to Meta, not in it."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

from channels.base import Send
from channels.cloud_settings import CloudSettings
from channels.renewable import Renewable, renewable
from channels.whatsapp_cloud import WhatsAppCloudChannel
from schemas.names import Channel, OutcomeKind

log = logging.getLogger(__name__)

#: Most that are written at once; more are left out, for nobody writes so much who wants to be understood.
MOST = 50
#: How late an answer may come, in ms.
LATE_MS = 60_000


class Replying:
    """Writes back over Meta's API, on a connection of its own that is made when it is first needed. ``settings``: what
    holds now. Best effort: what fails is logged, and whoever wrote may write again."""

    def __init__(self, settings: Callable[[], CloudSettings]) -> None:
        self._settings = settings
        self._used: CloudSettings | None = None
        self._channel: Renewable | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, number: str, text: str) -> None:
        """Begin to write to a number (E.164)."""
        if len(self._tasks) >= MOST:
            log.warning("somebody is not written back to: too many are at once")
            return
        task = asyncio.create_task(self._write(number, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, number: str, text: str) -> None:
        now = time.time_ns() // 1_000_000
        token = f"reply-{uuid.uuid4().hex}"
        message = Send(Channel.WHATSAPP, number, token, 1, now, now, now + LATE_MS, text=text, last_inbound_ms=now)
        try:
            outcome = await (await self._opened()).send(message)
        except OSError as exc:
            log.warning("somebody is not written back to: %s", type(exc).__name__)
            return
        if outcome.kind is not OutcomeKind.ACCEPTED:
            log.warning("somebody is not written back to", extra={"reason": outcome.reason, "code": outcome.code})

    async def _opened(self) -> Renewable:
        """Return what writes with the token that holds now."""
        async with self._opening:
            settings = self._settings()
            if self._channel is None:
                self._channel = renewable(WhatsAppCloudChannel(settings))
                await self._channel.open()
            elif settings != self._used:
                renewed = WhatsAppCloudChannel(settings)
                await renewed.open()
                await self._channel.swap(renewed)
            self._used = settings
            return self._channel

    async def close(self) -> None:
        """Leave what is on its way, and close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
