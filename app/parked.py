"""What was parked for a newer release is put back by the first worker that can do it (ADR 0023).

One worker looks: the one that owns partition 0 of core. It follows the dead letter topic for parked letters, judges
each by what this build knows, and puts those back that it can do, as ``dlq redrive`` does: each once, through any
crash. What fails here is tried again later and harms nothing else.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from agents.letters import ACT, PREFIX
from app.cli.dlq.desk import CHUNK, Desk
from app.cli.dlq.judge import Judge, parcel
from app.cli.dlq.pick import filtered, records_of
from app.cli.dlq.redrive import judge_for, why_left
from app.cli.failures import Failure
from app.config import Settings
from app.dlq import Act, Book, Letter, Place, headers_of, letter_of
from app.topics import TopicNames

log = logging.getLogger(__name__)

#: The partition whose owner looks.
MINE = 0
#: How often the owner looks for letters that came since, and how long it waits after something failed, in seconds.
LOOK_S = 30.0
AGAIN_S = 60.0
#: Records taken at once, and the pause after them and after a chunk that was put back, in seconds: nobody waits for it.
TAKEN = 200
PAUSE_S = 0.05
CHUNK_PAUSE_S = 1.0

_ROOT = Path(__file__).resolve().parents[1]


@lru_cache(maxsize=1)
def build_id() -> str:
    """Return what names the code that decides what can be done: of two builds with the same, neither knows more."""
    found = hashlib.sha256()
    for package in ("schemas", "tables", "agents"):
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in (".py", ".avsc"):
                found.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def actor() -> str:
    """Return who puts back, as the closing of a letter says it."""
    return f"build {build_id()}"


@dataclass(frozen=True, slots=True)
class _At:
    """A letter of which no more is known than where it lies."""

    place: Place


class Waiting:
    """The parked letters that are not closed, of what has been read of the dead letter topic."""

    def __init__(self) -> None:
        self.places: set[Place] = set()

    def add(self, record: ConsumerRecord) -> None:
        """Take in the next record of a partition."""
        said = headers_of(record)
        if ACT in said:
            of = said.get(PREFIX + "letter", "")
            if said[ACT] == Act.CLOSED and of.isdecimal():
                self.places.discard(Place(record.partition, int(of)))
        elif said.get(PREFIX + "parked"):
            self.places.add(Place(record.partition, record.offset))


def tried_already(letter: Letter, book: Book) -> bool:
    """Return whether this build has put a letter back before, and it was parked again: by a worker of an older release,
    or since it can be read and still not be done."""
    if not letter.came_from:
        return False
    try:
        before = book.closings.get(Place.of(letter.came_from))
    except ValueError:
        return False
    return before is not None and before.actor == actor()


class Parked:
    """Follows the dead letter topic while its worker owns partition MINE. ``desk``: what its runs are given beside."""

    def __init__(
        self,
        settings: Settings,
        make_consumer: Callable[..., AIOKafkaConsumer],
        owned: Callable[[], set[int]],
        **desk: Any,
    ) -> None:
        self._settings = settings
        self._make_consumer = make_consumer
        self._owned = owned
        self._desk = desk
        self._topic = TopicNames.of(settings).dlq
        #: Letters that this build cannot do, or has put back.
        self._judged: set[Place] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            while MINE not in self._owned():  # noqa: ASYNC110 - ownership tells nobody when it comes
                await asyncio.sleep(1.0)
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError) as exc:
                log.warning("parked letters are not looked after for now: %s", type(exc).__name__)
                await asyncio.sleep(AGAIN_S)
            except Failure as exc:
                # Somebody else acts on letters, most likely; what they do is seen at the next look.
                log.info("parked letters are not put back for now: %s", exc.message)
                await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        consumer = self._make_consumer(
            group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", max_partition_fetch_bytes=1 << 20
        )
        await consumer.start()
        try:
            waiting = Waiting()
            tps = [TopicPartition(self._topic, partition) for partition in range(self._settings.partitions)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            while MINE in self._owned():
                await self._read(consumer, tps, waiting)
                if fresh := waiting.places - self._judged:
                    await self._judge(fresh)
                await asyncio.sleep(LOOK_S)
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition], waiting: Waiting) -> None:
        """Read to the present end of the topic."""
        ends = await consumer.end_offsets(tps)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000, max_records=TAKEN)).values():
                for record in records:
                    waiting.add(record)
            await asyncio.sleep(PAUSE_S)

    async def _judge(self, places: set[Place]) -> None:
        """Judge letters by what this build knows; put those back that it can do."""
        async with self._reading() as consumer:
            can = await self._can(consumer, places)
        self._judged |= places - can
        if can:
            await self._put_back(can)
            self._judged |= can

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = self._make_consumer(group_id=None, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20)
        await consumer.start()
        try:
            yield consumer
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()

    async def _can(self, consumer: AIOKafkaConsumer, places: set[Place]) -> set[Place]:
        """Return the letters of which nothing says that they would be refused, or parked, again."""
        found: dict[Place, tuple[Letter, ConsumerRecord]] = {}
        async for record in records_of(consumer, self._topic, [_At(place) for place in sorted(places)]):
            letter = letter_of(record)
            found[letter.place] = letter, record
        rules = await judge_for(self._settings, consumer, [letter for letter, _ in found.values()], force=False)
        can = set()
        for place, (letter, record) in found.items():
            why = await why_left(self._settings, rules, letter, record, Book())
            if why:
                log.info("parked letter %s stays: %s", place, why)
            else:
                can.add(place)
            await asyncio.sleep(0)
        return can

    async def _put_back(self, places: set[Place]) -> None:
        """Put letters back in a run of its own, which first finishes what an earlier one left."""
        settings = self._settings
        async with Desk.open(settings, who=actor(), **self._desk) as desk:
            letters = [
                letter
                for letter in filtered(desk.book, settings, parked=True)
                if letter.place in places
                and letter.place not in desk.book.doubts
                and not tried_already(letter, desk.book)
            ]
            rules = await judge_for(settings, desk.consumer, letters, force=False)
            by_place = {letter.place: letter for letter in letters}
            sent = 0
            for start in range(0, len(letters), CHUNK):
                if start:
                    await asyncio.sleep(CHUNK_PAUSE_S)
                chunk = letters[start : start + CHUNK]
                sent += await self._put_back_some(desk, rules, chunk, by_place)
            log.info("put back %d of %d parked letters that this release can do", sent, len(places))

    async def _put_back_some(self, desk: Desk, rules: Judge, chunk: list[Letter], by_place: dict[Place, Letter]) -> int:
        parcels = []
        async for record in records_of(desk.consumer, self._topic, chunk):
            letter = by_place[Place(record.partition, record.offset)]
            if not await why_left(self._settings, rules, letter, record, desk.book):
                parcels.append(parcel(letter, record, rules.partitions[letter.topic]))
        if not parcels:
            return 0
        refused = await desk.put_back(parcels)
        for place, why in refused.items():
            log.warning("parked letter %s was not taken: %s", place, why)
        return len(parcels) - len(refused)
