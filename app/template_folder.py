"""The folder of templates: read, checked, and read again within seconds of an edit.

``TEMPLATES_DIR/pills@3/`` holds version 3 of ``pills``; ``pills/`` is its version 1. A version that has a fault is not
taken: what was there of it before stays, and the fault is told.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from app.config import Settings
from channels import limits
from channels.limits import TooLong
from channels.shelf import Shelf
from channels.template_check import check
from channels.template_rules import TemplateFault
from channels.templates import Source, Version, compiled
from schemas.names import Channel

log = logging.getLogger(__name__)

#: How often the folder is looked at, in seconds. What is being written is taken once it has stood for so long.
LOOK_S = 1.0
#: Most files of a folder; more are a mistake in TEMPLATES_DIR.
MAX_FILES = 20_000
_MAX_BYTES = 256 * 1024
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:@([1-9][0-9]{0,8}))?\Z")
#: Longest time that the worst case of a template may take, in seconds; the usual one takes a ten thousandth.
SLOW_S = 0.25

#: What tells one state of the folder from another: each file's path, time and size.
Fingerprint = dict[str, tuple[int, int, int]]


class Folder:
    """Reads a folder, and compiles only what has changed."""

    def __init__(self, path: Path, sms_parts: int = 0) -> None:
        self.path = path
        self._sms_parts = sms_parts
        self._known: dict[str, tuple[Version | None, list[TemplateFault]]] = {}

    def fingerprint(self) -> Fingerprint:
        """Return the state of the folder; raises ``OSError`` where it cannot be read."""
        found: Fingerprint = {}
        for folder, folders, files in os.walk(self.path, onerror=_raise, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if name.startswith((".", "#")) or name.endswith("~"):
                    continue
                path = os.path.join(folder, name)  # noqa: PTH118 - looked at each second
                try:
                    about = os.stat(path)  # noqa: PTH116
                except FileNotFoundError:
                    continue
                found[os.path.relpath(path, self.path)] = (about.st_mtime_ns, about.st_size, about.st_ino)
                if len(found) > MAX_FILES:
                    raise OSError(f"has more than {MAX_FILES} files; is it a folder of templates?")
        return found

    def read(self, paths: Fingerprint | None = None) -> tuple[list[Version], dict[str, list[TemplateFault]]]:
        """Return the versions that can be used, and the faults of the others by their folders."""
        texts: dict[str, dict[str, str]] = {}
        faults: dict[str, list[TemplateFault]] = {}
        for path in sorted(self.fingerprint() if paths is None else paths):
            folder, _, file = path.replace(os.sep, "/").partition("/")
            if not file:
                faults.setdefault(path, []).append(TemplateFault(path, 0, "put it into a folder such as pills@1"))
                continue
            try:
                with (self.path / path).open("rb") as opened:
                    raw = opened.read(_MAX_BYTES + 1)
                if len(raw) > _MAX_BYTES:
                    raise OSError(f"is larger than {_MAX_BYTES} bytes")
                texts.setdefault(folder, {})[file] = raw.decode("utf-8").replace("\r\n", "\n")
            except (OSError, UnicodeDecodeError) as exc:
                why = "is no UTF-8" if isinstance(exc, UnicodeDecodeError) else exc.strerror or str(exc)
                faults.setdefault(folder, []).append(TemplateFault(file, 0, f"cannot be read ({why})"))
        versions: dict[tuple[str, int], Version] = {}
        known: dict[str, tuple[Version | None, list[TemplateFault]]] = {}
        for folder, files in texts.items():
            named = _NAMED.match(folder)
            if named is None:
                faults.setdefault(folder, []).append(TemplateFault(folder, 0, "name the folder as pills or pills@2"))
            if named is None or folder in faults:
                continue
            source = Source(named[1], int(named[2] or 1), files)
            version, wrong = known[source.ref] = self._known.get(source.ref) or _checked(source, self._sms_parts)
            if (source.name, source.version) in versions:
                wrong = [TemplateFault(folder, 0, f"{source.name} is {source.name}@1; give one of them another number")]
            if wrong or version is None:
                faults[folder] = wrong
            else:
                versions[source.name, source.version] = version
        self._known = known
        return list(versions.values()), faults


def _raise(exc: OSError) -> None:
    raise exc


def _checked(source: Source, sms_parts: int) -> tuple[Version | None, list[TemplateFault]]:
    """Return a version that has been rendered with the most that its values may be, or what is wrong with it."""
    version, faults = compiled(source)
    if version is None:
        return None, faults
    began = time.thread_time()
    faults = check(version, sms_parts)
    if (took := time.thread_time() - began) > SLOW_S * len(version.tongues):
        faults.append(TemplateFault(source.name, 0, f"takes {took:.1f} s of its worst case; write it simpler"))
    return (None, faults) if faults else (version, [])


def template_folder(settings: Settings) -> Folder:
    """Return the configured folder; raises ``ValueError`` where there is none."""
    if settings.rules.templates_dir is None:
        raise ValueError("TEMPLATES_DIR is not set")
    twilio = settings.twilio
    parts = limits.LIMITS[Channel.SMS].most if twilio.sms_too_long is TooLong.SPLIT else twilio.sms_max_parts
    return Folder(settings.rules.templates_dir, parts)


class Watch:
    """Keeps a shelf as the folder is. ``told``: is called with the number of faulty versions after each reading."""

    def __init__(self, folder: Folder, shelf: Shelf, told: Callable[[int], None] = lambda count: None) -> None:
        self._folder = folder
        self._shelf = shelf
        self._told = told
        self._taken: Fingerprint | None = None
        self._seen: Fingerprint | None = None
        self._unreadable = False
        self._current: dict[tuple[str, int], Version] = {}

    def start(self) -> None:
        """Take the folder as it is. One that cannot be read is told, and looked at again."""
        try:
            self._taken = self._folder.fingerprint()
            self._take(*self._folder.read(self._taken))
        except OSError as exc:
            self._lost(exc)

    async def run(self) -> None:
        """Look at the folder for as long as the worker runs."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Take what has changed, once it has stood still from one look to the next."""
        try:
            state = await asyncio.to_thread(self._folder.fingerprint)
            self._unreadable = False
            if state != self._taken and state == self._seen:
                found = await asyncio.to_thread(self._folder.read, state)
                self._taken = state
                self._take(*found)
            self._seen = state
        except OSError as exc:
            self._lost(exc)

    def _lost(self, exc: OSError) -> None:
        if not self._unreadable:
            log.error("the folder of templates cannot be read (%s); what is known of it stays", exc.strerror or exc)
        self._unreadable = True

    def _take(self, versions: list[Version], faults: dict[str, list[TemplateFault]]) -> None:
        found = {(version.name, version.version): version for version in versions}
        for folder, wrong in faults.items():
            for fault in wrong:
                log.error("template %s is not taken: %s", folder, fault)
            named = _NAMED.match(folder)
            key = (named[1], int(named[2] or 1)) if named else ("", 0)
            if key not in found and key in self._current:
                found[key] = self._current[key]
        for key, version in found.items():
            if key not in self._current or self._current[key].ref != version.ref:
                log.info("template %s is taken", version.ref)
        self._current = found
        self._shelf.replace(found.values())
        self._told(len(faults))
