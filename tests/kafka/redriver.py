"""``dlq redrive`` with a short lease, which ends or halts itself at a step.

STOP_AT names a step that ``app.cli.dlq.desk.Desk`` tells; STOP_AFTER how often it must have been told (default 1);
STOP_HOW is ``kill`` (SIGKILL) or ``stop`` (SIGSTOP). RATE: letters a second.
"""

import asyncio
import os
import signal
import sys

from app.cli.dlq.redrive import Wish, redrive_letters
from app.cli.failures import Failure
from app.config import Settings

LEASE_S = 4.0


class Saboteur:
    def __init__(self) -> None:
        self._at = os.environ.get("STOP_AT", "")
        self._left = int(os.environ.get("STOP_AFTER", "1"))
        self._how = os.environ.get("STOP_HOW", "kill")

    def __call__(self, step: str) -> None:
        print(step, flush=True)
        if step == self._at:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGSTOP if self._how == "stop" else signal.SIGKILL)


async def main() -> int:
    settings = Settings.load(os.environ)
    wish = Wish((), {}, rate=float(os.environ["RATE"]) if "RATE" in os.environ else None)
    return await redrive_letters(settings, wish, lease_s=LEASE_S, told=Saboteur())


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except Failure as exc:
        print(f"error: {exc.message}", flush=True)
        sys.exit(1)
