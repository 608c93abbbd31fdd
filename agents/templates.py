"""Templates by the topic ``templates``, read whole by every delivery worker: all versions that were ever published.

Each set of words is a record of its own, under its name on record, so that none takes the place of another: what was
sent with it is sent with it again, on whichever worker. Of one version the words that were published last are the
current ones.
"""

import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer

from agents.broadcast import Broadcast
from channels.shelf import Shelf
from channels.templates import Source, Version, compiled
from schemas import codec
from schemas.codec import Undecodable
from schemas.records import TemplateRecord

log = logging.getLogger(__name__)


def current(published: dict[str, tuple[int, Version]]) -> list[Version]:
    """Return of each version the words that were published last. ``published``: by name on record, when and what."""
    last: dict[tuple[str, int], tuple[int, str]] = {}
    for ref, (at, version) in published.items():
        key = (version.name, version.version)
        last[key] = max(last.get(key, (at, ref)), (at, ref))
    return [published[ref][1] for _, ref in last.values()]


def version_of(record: TemplateRecord) -> Version | None:
    """Return what a record holds, None where this release cannot use it; the log says why."""
    version, faults = compiled(Source(record.name, record.version, record.parts))
    for fault in faults:
        log.error("template %s@%s of the topic is not taken: %s", record.name, record.version, fault)
    return version


class Templates(Broadcast):
    """Keeps a shelf as the topic is. ``told``: is called with the number of records that cannot be used."""

    def __init__(
        self,
        make_consumer: Callable[..., AIOKafkaConsumer],
        topic: str,
        partitions: int,
        *,
        shelf: Shelf,
        told: Callable[[int], None],
        fatal: Callable[[str, BaseException | None], None],
    ) -> None:
        super().__init__(make_consumer, topic, partitions, fatal=fatal)
        self._shelf = shelf
        self._told = told
        self._published: dict[str, tuple[int, Version]] = {}
        self._faulty: set[str] = set()
        self._changed = False

    def _apply(self, record: Any) -> None:
        ref = (record.key or b"").decode("utf-8", "replace")
        self._changed = True
        self._published.pop(ref, None)
        self._faulty.discard(ref)
        if record.value is None:
            return
        try:
            said = codec.decode(TemplateRecord, record.value)
        except Undecodable as why:
            log.error("a template cannot be read: %s", why.reason, extra={"offset": record.offset})
            self._faulty.add(ref)
            return
        if (version := version_of(said)) is None:
            self._faulty.add(ref)
        else:
            self._published[ref] = (said.at, version)

    def _turn(self) -> None:
        if self._changed:
            self._changed = False
            self._shelf.keep(version for _, version in self._published.values())
            self._shelf.replace(current(self._published))
            self._told(len(self._faulty))
