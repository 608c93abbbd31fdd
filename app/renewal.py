"""Secrets from files are read again when their files change, while the worker goes on.

A file counts as changed once two looks in a row have found the same new state of it, so that none is read half
written. What cannot be used is told (log, metric, alert) and changes nothing: what held before holds on.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from app import logs
from app.config import ConfigError, Settings

log = logging.getLogger(__name__)

#: Between two looks, in seconds; and where a provider has just refused our credential.
LOOK_S = 2.0
REFUSED_S = 0.5
#: How long a secret that was replaced still proves who sends us news, in seconds: what it signed is on its way.
OVERLAP_S = 600.0

Stamp = tuple[tuple[int, int, int], bytes] | None


class Renewal:
    """Looks at the files of one app's secrets. ``changed``: what is done with new settings; it raises ``OSError`` or
    ``ValueError`` where they cannot be used. ``told``: who is told of what is wrong, each time that it differs; nothing
    any more where the list is empty."""

    def __init__(
        self,
        settings: Settings,
        changed: Callable[[Settings], Awaitable[None]],
        told: Callable[[list[str]], None] = lambda faults: None,
    ) -> None:
        self._settings = settings
        self._changed = changed
        self._told = told
        self._hurry = asyncio.Event()
        self._used = self._seen = self._stamps()
        self._faults: list[str] = []

    def hurry(self) -> None:
        """Look sooner: a provider has refused what we have."""
        self._hurry.set()

    async def run(self) -> None:
        """Look for as long as the app lives."""
        if not self._used:
            return
        await self._compare()
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._hurry.wait()
                self._hurry.clear()
                # What refuses us goes on doing so: once in a while is enough.
                await asyncio.sleep(REFUSED_S)
                await self.look()
                await asyncio.sleep(REFUSED_S)
            except TimeoutError:
                pass
            await self.look()

    async def look(self) -> bool:
        """Look once; return whether new secrets hold now."""
        stamps = await asyncio.to_thread(self._stamps)
        if stamps == self._used:
            self._seen = stamps
            self._tell([])
            return False
        if stamps != self._seen:
            self._seen = stamps
            return False
        names = [name for name, stamp in stamps.items() if self._used.get(name) != stamp]
        try:
            settings = await asyncio.to_thread(self._settings.reread)
            if self._stamps() != stamps:
                return False
            # Before anything that uses them can fail and say so.
            logs.learn(settings)
            await self._changed(settings)
        except ConfigError as exc:
            self._tell(exc.faults)
            return False
        except (OSError, ValueError) as exc:
            self._tell([f"{', '.join(names)}: cannot be used ({type(exc).__name__}: {exc}); mend the file"])
            return False
        self._used = stamps
        self._tell([])
        log.info("secrets are read again: %s", ", ".join(names))
        return True

    async def _compare(self) -> None:
        """Have the files taken for new where they no longer hold what the settings were read from: one may have been
        replaced between that and the first stamps."""
        try:
            if await asyncio.to_thread(self._settings.reread) == self._settings:
                return
        except ConfigError:
            # What is wrong is told by the looks.
            pass
        self._used = {}

    def _tell(self, faults: list[str]) -> None:
        if faults == self._faults:
            return
        self._faults = faults
        self._told(faults)
        for fault in faults:
            log.error("a secret's new file cannot be used, what it held before is used: %s", fault)

    def _stamps(self) -> dict[str, Stamp]:
        return {name: _stamp(path) for name, path in self._settings.secret_files()}


def _stamp(path: Path) -> Stamp:
    """Return what a file is now, None where it cannot be read. Follows links, for mounted secrets are swapped so."""
    try:
        found = path.stat()
        return (found.st_ino, found.st_mtime_ns, found.st_size), hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None


class Overlapping:
    """A secret that others sign with: the one that holds, and the one before it for as long as it may be on its way."""

    def __init__(self, value: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._value, self._before, self._until = value, "", 0.0
        self._clock = clock

    def __call__(self) -> tuple[str, ...]:
        """Return what is accepted now, the newest first."""
        return (self._value, self._before) if self._before and self._clock() < self._until else (self._value,)

    def renew(self, value: str) -> None:
        """Let a new one hold."""
        if value != self._value:
            self._before, self._value, self._until = self._value, value, self._clock() + OVERLAP_S


class NewsSecrets:
    """What those prove themselves by who send us news, and what Meta is written back with, as the files say now.
    ``mail``: the tokens of servers that pass mails on; while one is replaced, its file names both."""

    def __init__(self, settings: Settings) -> None:
        self.twilio = Overlapping(settings.twilio.auth_token)
        self.meta = Overlapping(settings.cloud.app_secret)
        self.verify = Overlapping(settings.cloud.verify_token)
        self.mail = settings.smtp.callback_tokens
        self.cloud = settings.cloud

    def renew(self, settings: Settings) -> None:
        """Let new ones hold."""
        self.twilio.renew(settings.twilio.auth_token)
        self.meta.renew(settings.cloud.app_secret)
        self.verify.renew(settings.cloud.verify_token)
        self.mail = settings.smtp.callback_tokens
        self.cloud = settings.cloud


def restart_only(before: Settings, after: Settings) -> list[str]:
    """Return the secrets that have changed and take effect with a restart."""
    pairs: Iterable[tuple[str, object, object]] = (
        ("KAFKA_PASSWORD", before.kafka.password, after.kafka.password),
        ("SCHEMA_REGISTRY_PASSWORD", before.registry.password, after.registry.password),
        ("ADDRESS_HASH_KEY", before.rules.address_hash, after.rules.address_hash),
        ("SEAL_KEY", before.rules.seal_keys, after.rules.seal_keys),
        ("CALLBACK_KEY", before.callback_keys, after.callback_keys),
        ("WEB_TOKEN", before.web.token, after.web.token),
        ("ALERT_WEBHOOK", before.circuits.alert_webhook, after.circuits.alert_webhook),
    )
    return [name for name, old, new in pairs if old != new]
