"""What is written back to somebody who has just written on WhatsApp: beside the answer to Meta, not in it."""

import asyncio
import logging

from channels.cloud_settings import CloudSettings
from channels.whatsapp_cloud import WhatsAppCloudChannel
from schemas.names import OutcomeKind

log = logging.getLogger(__name__)

#: Most that are written at once; more are left out, for nobody writes so much who wants to be understood.
MOST = 50


class Replying:
    """Writes back over Meta's API, on a connection of its own that is made when it is first needed. Best effort: what
    fails is logged, and whoever wrote may write again."""

    def __init__(self, settings: CloudSettings) -> None:
        self._channel = WhatsAppCloudChannel(settings)
        self._opening = asyncio.Lock()
        self._open = False
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
        try:
            async with self._opening:
                if not self._open:
                    await self._channel.open()
                    self._open = True
            outcome = await self._channel.reply(number, text)
        except OSError as exc:
            log.warning("somebody is not written back to: %s", type(exc).__name__)
            return
        if outcome.kind is not OutcomeKind.ACCEPTED:
            log.warning("somebody is not written back to", extra={"reason": outcome.reason, "code": outcome.code})

    async def close(self) -> None:
        """Leave what is on its way, and close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()
