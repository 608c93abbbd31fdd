"""Putting back what passes: first in thought (``--dry-run``), then in deed, at a rate."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app import dlq as book_
from app.cli.dlq import judge
from app.cli.dlq.desk import CHUNK, CHUNK_BYTES, Desk, Parcel, actor
from app.cli.dlq.pick import Named, chosen, codec_for, filtered, kinds, now_ms, opened, records_of
from app.cli.failures import Failure
from app.cli.show import plain
from app.config import Settings
from app.dlq import Book, Letter, Place
from app.topics import TopicNames
from schemas.codec import Codec


class Wish:
    """What a redrive was asked for."""

    def __init__(
        self,
        selection: Sequence[Named],
        filters: dict[str, Any],
        rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        force: bool = False,
        occurrences: bool = False,
    ) -> None:
        self.selection = selection
        self.filters = filters
        self.rate = rate
        self.limit = limit
        self.dry_run = dry_run
        self.force = force
        #: An occurrence sends a message to a person, so that it is put back only where it is meant.
        self.occurrences = occurrences or bool(selection)

    def letters(self, book: Book, settings: Settings) -> list[Letter]:
        """Return the letters that are meant."""
        if not self.selection:
            return filtered(book, settings, **self.filters)
        named = [chosen(book, name, settings) for name in self.selection]
        for letter in named:
            if not book.is_open(letter.place):
                raise Failure(f"{letter.place}: is closed already ({book.state(letter.place)})")
        return list({letter.place: letter for letter in named}.values())


async def redrive_letters(settings: Settings, wish: Wish, **desk: Any) -> int:
    """Do what was wished; return the exit code."""
    if wish.dry_run:
        async with opened(settings) as (consumer, tps):
            book = await book_.read(consumer, tps)
            return await _rehearse(settings, wish, consumer, book)
    async with Desk.open(settings, **desk) as open_desk:
        return await Redrive(settings, wish, open_desk).run()


async def judge_for(
    settings: Settings, consumer: AIOKafkaConsumer, letters: Sequence[Letter], force: bool, occurrences: bool = False
) -> judge.Judge:
    """Return who judges these letters."""
    names = TopicNames.of(settings)
    known = await consumer._client.fetch_all_metadata()
    topics = [topic for topic in kinds(names) if known.partitions_for_topic(topic)]
    wanted = [topic for topic in topics if any(letter.topic == topic for letter in letters)]
    counts = {topic: len(known.partitions_for_topic(topic)) for topic in topics}
    kept = await judge.retentions(settings, wanted) if wanted else {}
    return judge.Judge(names, Codec(), counts, kept, force, occurrences)


async def _rehearse(settings: Settings, wish: Wish, consumer: AIOKafkaConsumer, book: Book) -> int:
    letters = wish.letters(book, settings)
    rules = await judge_for(settings, consumer, letters, wish.force, wish.occurrences)
    by_place = {letter.place: letter for letter in letters}
    against: Counter[str] = Counter()
    sent = 0
    async for record in records_of(consumer, TopicNames.of(settings).dlq, letters):
        letter = by_place[Place(record.partition, record.offset)]
        why = await why_left(settings, rules, letter, record, book)
        if why:
            against[why] += 1
        elif wish.limit is not None and sent >= wish.limit:
            break
        else:
            sent += 1
        key = (letter.key or b"").decode("utf-8", "replace")
        click.echo(plain(f"{letter.place}  {letter.origin}  {key}  {f'left: {why}' if why else 'would be redriven'}"))
    _summary("would be redriven", sent, against, {})
    return 0


async def why_left(settings: Settings, rules: judge.Judge, letter: Letter, record: ConsumerRecord, book: Book) -> str:
    """Return what stands against putting a letter back, "" where nothing does."""
    if letter.place in book.doubts and not rules.force:
        return "may have been put back by a run that was killed long ago; look, then --force or skip"
    if settings.registry.url and (record.value or b"")[:1] == b"\0":
        async with codec_for(settings, [record.value]) as codec:
            return replace(rules, codec=codec).against(letter, record, now_ms())
    return rules.against(letter, record, now_ms())


def _summary(verb: str, sent: int, against: Counter[str], refused: dict[Place, str]) -> None:
    click.echo(f"{sent} {verb}" + (f", {sum(against.values())} left" if against else ""))
    for why, count in against.most_common():
        click.echo(plain(f"  {count} left: {why}"))
    for place, why in refused.items():
        click.echo(plain(f"  {place}: {why}"))


class Redrive:
    """Puts letters back, so many at a time."""

    def __init__(self, settings: Settings, wish: Wish, desk: Desk) -> None:
        self._settings = settings
        self._wish = wish
        self._desk = desk
        self._stop = asyncio.Event()
        self._sent = 0
        self._against: Counter[str] = Counter()
        self._refused: dict[Place, str] = {}
        self._next_at = 0.0
        rate = wish.rate
        self._chunk = CHUNK if rate is None else max(1, min(CHUNK, int(rate)))

    async def run(self) -> int:
        """Put back what can be, tell what was done, and return the exit code."""
        desk, wish = self._desk, self._wish
        letters = wish.letters(desk.book, self._settings)
        rules = await judge_for(self._settings, desk.consumer, letters, wish.force, wish.occurrences)
        by_place = {letter.place: letter for letter in letters}
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._halt)
        self._next_at = loop.time()
        columns = (TextColumn("redriving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        out = Console(stderr=True)
        chunk: list[Parcel] = []
        try:
            with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
                bar = progress.add_task("", total=len(letters))
                async for record in records_of(desk.consumer, TopicNames.of(self._settings).dlq, letters):
                    letter = by_place[Place(record.partition, record.offset)]
                    why = await why_left(self._settings, rules, letter, record, desk.book)
                    if why:
                        self._against[why] += 1
                    else:
                        chunk.append(self._parcel(letter, record, rules))
                    progress.advance(bar)
                    if self._full(chunk):
                        await self._send(chunk)
                        chunk = []
                    if self._stop.is_set() or (wish.limit is not None and self._sent >= wish.limit):
                        break
                if chunk and not self._stop.is_set():
                    await self._send(chunk)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        _summary(
            "redriven" if not self._stop.is_set() else "redriven, then stopped",
            self._sent,
            self._against,
            self._refused,
        )
        return int(bool(self._refused))

    def _parcel(self, letter: Letter, record: ConsumerRecord, rules: judge.Judge) -> Parcel:
        if letter.occurrence:
            count = rules.partitions[rules.names.reminders]
            return judge.renewed(letter, record, rules.names, count, actor())
        return judge.parcel(letter, record, rules.partitions[letter.topic])

    def _halt(self) -> None:
        self._stop.set()

    def _full(self, chunk: Sequence[Parcel]) -> bool:
        room = self._chunk if self._wish.limit is None else min(self._chunk, self._wish.limit - self._sent)
        return bool(chunk) and (len(chunk) >= room or sum(parcel.size for parcel in chunk) >= CHUNK_BYTES)

    async def _send(self, chunk: Sequence[Parcel]) -> None:
        loop = asyncio.get_running_loop()
        if (wait := self._next_at - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
        if self._stop.is_set():
            return
        refused = await self._desk.put_back(chunk)
        self._refused |= refused
        self._sent += len(chunk) - len(refused)
        if self._wish.rate is not None:
            self._next_at = max(self._next_at, loop.time()) + len(chunk) / self._wish.rate
