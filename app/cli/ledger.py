"""The command that compares what came in, the rows, the outcomes and the audit, and names what does not add up."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from agents.publisher import partition_of
from app.cli.audit import entry_of, partitions, reader
from app.cli.dlq.pick import When
from app.cli.hold import current
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import moment
from app.config import Settings
from app.dlq import span
from app.kafka import client_options
from app.ledger import GroupOffsets, inputs_of, sources_of
from app.topics import TopicNames, topic_ids
from schemas.names import Channel, State
from tables import due as index
from tables.holds import Subject, active, is_channel, takes
from tables.ledger import GRACE_MS, Ledger, Orphan, Reached, Role, Source
from tables.transition import Rules

#: Beyond every instant: what is read to its end is known up to then.
_ALL = 1 << 62
#: A purge may come so much later than it is due, in ms, before the whole audit is looked through for its reason.
_LATE_MS = 10 * 60_000


@dataclass(slots=True)
class Found:
    """What was compared, and what came of it. ``waiting``: inputs that no worker has taken yet."""

    events: int = 0
    answers: int = 0
    entries: int = 0
    rows: int = 0
    waiting: int = 0
    orphans: list[Orphan] = field(default_factory=list)


@click.command()
@click.option("--since", type=When(), required=True, help="From then on: 1h (ago), or an instant.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an orphan and line.")
def audit(since: int, as_json: bool) -> None:
    """Compare events, rows, outcomes and audit, and name each orphan: what one has and another lacks.

    Reads the topics from --since on, and the changelog whole. What is younger than some seconds, or has not been taken
    by any worker, is no orphan yet. Exits with 1 where there is one.
    """
    found = run(compare(load(), since))
    if as_json:
        for orphan in found.orphans:
            click.echo(orjson.dumps(orphan))
    elif found.orphans:
        console().print(_table(found.orphans))
    counts = f"{found.events} events, {found.answers} answers, {found.entries} audit entries and {found.rows} rows"
    verdict = "everything adds up" if not found.orphans else f"{len(found.orphans)} do not add up"
    click.echo(f"compared {counts} since {moment(since)}: {verdict}", err=as_json)
    if found.waiting:
        click.echo(f"{found.waiting} wait for a worker to take them; see `python -m app doctor`", err=as_json)
    sys.exit(1 if found.orphans else 0)


def _table(orphans: list[Orphan]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("when", "reminder", "kind", "where", "what", "remedy"):
        table.add_column(column, no_wrap=column in ("when", "kind"))
    for orphan in sorted(orphans, key=lambda orphan: (orphan.at, orphan.identity)):
        cells = (orphan.reminder_id, orphan.kind.value, orphan.where, orphan.why, orphan.remedy)
        table.add_row(moment(orphan.at), *map(plain, cells))
    return table


async def compare(settings: Settings, since: int, at: int | None = None) -> Found:
    """Compare all partitions, one after the other, as they stand ``at`` that instant (ms UTC), now if none is given."""
    names = TopicNames.of(settings)
    wanted = [*inputs_of(names), names.audit, names.reminders_changelog]
    sources = sources_of(names, await topic_ids(settings, wanted))
    held = await _held(settings)
    found = Found()
    group = GroupOffsets(client_options(settings), names.core_app)
    async with reader(settings, names.audit) as consumer:
        numbers = [tp.partition for tp in await partitions(consumer, names.audit)]
        columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TextColumn("partitions"))
        out = Console(stderr=True)
        try:
            with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
                bar = progress.add_task("", total=len(numbers))
                for number in numbers:
                    home = _home(len(numbers))
                    rules = Rules(retention_ms=int(settings.rules.retention_s * 1000))
                    ledger = Ledger(number, since, sources, rules, home, held)
                    await _Partition(consumer, names, ledger, sources, since, rules, group).compare(found, at)
                    progress.advance(bar)
        finally:
            await group.close()
    return found


def _home(count: int) -> Callable[[bytes], int]:
    return lambda key: partition_of(key, count)


async def _held(settings: Settings) -> Callable[[Channel], bool]:
    now = time.time_ns() // 1_000_000
    scopes = [record.scope for record in await current(settings) if is_channel(record.scope) and active(record, now)]
    return lambda channel: any(takes(scope, Subject(channel=channel.value)) for scope in scopes)


class _Partition:
    """One partition. The order of reading is what makes a comparison of moving things fair.

    Inputs and audit first, up to what is their end then; how far the group has taken them; the changelog to its end,
    which therefore reflects all that was taken; at last what the audit has got meanwhile, which tells of every row that
    was read.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        names: TopicNames,
        ledger: Ledger,
        sources: dict[str, Source],
        since: int,
        rules: Rules,
        group: GroupOffsets,
    ) -> None:
        self._consumer = consumer
        self._names = names
        self._ledger = ledger
        self._sources = sources
        self._since = since
        self._rules = rules
        self._group = group
        self._number = ledger.partition

    def _tp(self, topic: str) -> TopicPartition:
        return TopicPartition(topic, self._number)

    async def _from(self, topics: list[str], since: int) -> dict[TopicPartition, int]:
        tps = [self._tp(topic) for topic in topics]
        ends = await self._consumer.end_offsets(tps)
        at = await self._consumer.offsets_for_times(dict.fromkeys(tps, max(0, since)))
        return {tp: at[tp].offset if at.get(tp) is not None else ends[tp] for tp in tps}

    async def compare(self, found: Found, at: int | None) -> None:
        """Add to what was found."""
        ledger, audit = self._ledger, self._tp(self._names.audit)
        starts = await self._from([*self._sources, audit.topic], self._since)
        ends = await self._consumer.end_offsets(list(starts))
        now = time.time_ns() // 1_000_000 if at is None else at
        async for record in span(self._consumer, starts, ends):
            if record.topic == audit.topic:
                self._audited(record)
                found.entries += 1
                continue
            ledger.take_in(record.topic, record.offset, record.timestamp, record.key, record.value)
            if self._sources[record.topic].role is Role.EVENT:
                found.events += 1
            else:
                found.answers += 1
        offsets = await self._group.read()
        taken = {topic: offsets.get((topic, self._number), 0) for topic in self._sources}
        rows, deleted = await self._rows(now)
        last = await self._consumer.end_offsets([audit])
        async for record in span(self._consumer, {audit: ends[audit]}, last):
            self._audited(record)
        for key in list(ledger.pages):
            page = ledger.pages[key]
            found.rows += key in rows
            found.orphans += ledger.examine(key, rows.get(key), now, Reached(_ALL, _ALL, taken))
            found.waiting += sum(i.offset >= taken[i.topic] and i.at + GRACE_MS <= now for i in page.inputs)
        found.orphans += await self._without_reason(deleted, now)

    def _audited(self, record: ConsumerRecord) -> None:
        self._ledger.audited(record.topic, record.offset, record.timestamp, record.key, record.value)

    async def _rows(self, now: int) -> tuple[dict[bytes, bytes], dict[bytes, tuple[int, int]]]:
        """Return the rows to look at, and what was deleted since (offset and time) without that the audit told."""
        ledger, changelog = self._ledger, self._tp(self._names.reminders_changelog)
        starts = await self._consumer.beginning_offsets([changelog])
        rows: dict[bytes, bytes] = {}
        deleted: dict[bytes, tuple[int, int]] = {}
        late: set[bytes] = set()
        async for record in span(self._consumer, starts):
            key, value = record.key, record.value
            if key is None:
                continue
            fresh = record.timestamp >= self._since
            deleted.pop(key, None)
            if value is None:
                rows.pop(key, None)
                page = ledger.pages.get(key)
                if fresh and (page is None or not (page.seq or page.head)):
                    deleted[key] = record.offset, record.timestamp
                continue
            if fresh:
                ledger.logged(record.offset, record.timestamp, key, value)
            if len(value) >= index.HEADER.size and ledger.overdue("", value, now) is not None:
                late.add(key)
            else:
                late.discard(key)
            if fresh or key in ledger.pages or key in late:
                rows[key] = value
            else:
                rows.pop(key, None)
        for key in late & rows.keys():
            ledger.page(key)
        return rows, deleted

    async def _without_reason(self, deleted: dict[bytes, tuple[int, int]], now: int) -> list[Orphan]:
        """Return the deleted rows that had not ended so long before as rows are kept.

        A purge comes that long after a reminder's last move, so that the audit of that time has its end; where it has
        not, an older one may have.
        """
        kept = self._rules.retention_ms
        left = dict(deleted)
        if not left:
            return []
        audit = self._tp(self._names.audit)
        (start,) = (await self._from([audit.topic], self._since - kept - _LATE_MS)).values()
        (stop,) = (await self._from([audit.topic], now - kept + GRACE_MS)).values()
        first = (await self._consumer.beginning_offsets([audit]))[audit]
        ended: dict[bytes, Any] = {}
        for low, high in ((start, stop), (first, start)):
            if low >= high or not left:
                continue
            async for record in span(self._consumer, {audit: low}, {audit: high}):
                entry = entry_of(record) if record.key in left else None
                if entry is not None and (entry.seq or entry.to_state in (State.MAYBE_SENT, State.DEAD_LETTER)):
                    ended[record.key] = entry
            for key, entry in ended.items():
                if entry.at + kept <= left.get(key, (0, 0))[1] + GRACE_MS:
                    left.pop(key, None)
        orphans = []
        for key, (offset, at) in left.items():
            if key not in ended and first > 0:
                # The audit does not reach back so far: nothing can be said.
                continue
            orphans.append(self._ledger.deleted(key, f"{self._names.reminders_changelog}/{self._number}/{offset}", at))
        return orphans
