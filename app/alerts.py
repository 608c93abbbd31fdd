"""Alerts: what a person should hear of at once is posted to ``ALERT_WEBHOOK``, beside the log and the metrics.

The body is JSON with a ``text`` that chat tools show as it is. It holds names and reasons, never an address or a text.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp

from app.reasons import sentence
from schemas.names import Channel
from tables.circuit import Circuit, Phase

log = logging.getLogger(__name__)

#: How often one alert is tried, for how long each time, and the time between two tries, in seconds. The first three
#: begin within five seconds.
TRIES = 5
LIMIT_S = 2.0
WAITS_S = (0.5, 1.0, 5.0, 20.0)


class Alerts:
    """Posts alerts to one URL, which is a secret. Empty: none are posted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: set[asyncio.Task[None]] = set()

    def circuit(self, turned: Circuit) -> None:
        """Tell that a circuit has opened or closed."""
        if self._url:
            self._begin(of_circuit(turned))

    def secrets(self, faults: list[str]) -> None:
        """Tell that new files of secrets cannot be used, or that they can again."""
        if self._url:
            self._begin(of_secrets(faults))

    def _begin(self, body: Mapping[str, object]) -> None:
        task = asyncio.create_task(self._post(body), name="alert")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, body: Mapping[str, object]) -> None:
        why = ""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as session:
            for wait_s in (*WAITS_S[: TRIES - 1], None):
                try:
                    async with session.post(
                        self._url,
                        data=json.dumps(body),
                        headers={"Content-Type": "application/json"},
                        allow_redirects=False,
                    ) as response:
                        if response.status < 300:
                            return
                        why = str(response.status)
                except (aiohttp.ClientError, OSError, ValueError) as exc:
                    # Its words may have the URL in them.
                    why = type(exc).__name__
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
        log.error("an alert could not be posted to ALERT_WEBHOOK: %s", why)


def of_circuit(turned: Circuit) -> dict[str, object]:
    """Return the body of the alert for a circuit's turn."""
    channel, _, provider = turned.name.partition("/")
    if turned.phase is Phase.CLOSED:
        text = f"{turned.name} works again; what waited is being sent."
    else:
        what = "refuses our settings" if turned.misconfigured else "fails"
        named = next((c for c in Channel if c.value == channel.upper()), Channel.ANY)
        text = f"{turned.name} {what}: {sentence(turned.reason, named)} Nothing is lost: what was to go by it waits."
    return {
        "alert": "circuit",
        "provider": provider,
        "channel": channel.upper(),
        "state": turned.phase.value,
        "misconfigured": turned.misconfigured,
        "reason": turned.reason,
        "at": datetime.fromtimestamp(turned.at / 1000, UTC).isoformat(timespec="milliseconds"),
        "text": text,
    }


def of_secrets(faults: list[str]) -> dict[str, object]:
    """Return the body of the alert for new files of secrets. No value of a secret is in ``faults``."""
    text = "The files of secrets can be used again."
    if faults:
        text = f"A secret's new file cannot be used; what it held before is used: {'; '.join(faults)}"
    return {"alert": "secrets", "faults": faults, "text": text}
