"""Providers over HTTP that take every message after a given time and keep none:
``python -m bench.provider_server KIND PORT MS``.

KIND is ``webhook``, ``push`` (FCM with its login), ``sms`` (Twilio) or ``dead``, which takes connections and never
answers. They check nothing: what is right is for tests to say, here only the time counts.
"""

import asyncio
import itertools
import signal
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def handler(kind: str, pause_s: float) -> Handler:
    """Return what answers requests."""
    numbers = itertools.count(1)

    async def webhook(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        await asyncio.sleep(pause_s)
        return web.Response(status=204)

    async def push(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        if request.path == "/token":
            return web.json_response({"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"})
        await asyncio.sleep(pause_s)
        return web.json_response({"name": f"projects/bench/messages/{next(numbers)}"})

    async def sms(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        await asyncio.sleep(pause_s)
        made = {"sid": f"SM{next(numbers):032x}", "status": "queued", "direction": "outbound-api", "num_segments": "1"}
        return web.json_response(made, status=201)

    async def dead(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    return {"webhook": webhook, "push": push, "sms": sms, "dead": dead}[kind]


async def main(kind: str, port: int, pause_s: float) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.ServerRunner(web.Server(handler(kind, pause_s), access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024, shutdown_timeout=0.1).start()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
