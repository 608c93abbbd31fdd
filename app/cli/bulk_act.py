"""Cancelling, pausing and resuming all reminders that match, with what became of each.

Which reminders there are is read from the changelog of their table, which needs no worker. What became of each act is
read from the audit topic. Stopped at any point and run again, it goes on: what is done does not match any more.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import click
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from agents.letters import CORRELATION
from agents.ports import Out
from agents.publisher import Publisher, PublishError, partition_of
from app import bulk_acts, dlq
from app.bulk_acts import Filter, Match
from app.cli import produce
from app.cli.audit import entry_of, partitions, reader
from app.cli.failures import Failure
from app.cli.remind import now_ms, user
from app.cli.show import plain
from app.cli.times import moment
from app.config import Settings
from app.kafka import client_options
from app.topics import TopicNames, intake_of
from schemas.codec import Undecodable, encode
from schemas.names import Action
from schemas.records import AuditEntry

BATCH = 1000
#: A batch that is not acknowledged in this time ends the run, in seconds.
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done with which reminders. ``wait_s``: how long no answer may come before the rest is given up."""

    action: Action
    wanted: Filter
    reason: str
    dry_run: bool
    yes: bool
    list: Path | None
    wait_s: float


@dataclass(slots=True)
class _Bar:
    """A line on a terminal that says how far something is."""

    progress: Progress | None
    task: int = field(default=0)

    def at(self, done: int) -> None:
        """Say how many are done."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done)  # type: ignore[arg-type]


@contextmanager
def _bar(what: str, total: int) -> Iterator[_Bar]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Bar(None)
        return
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), console=console, transient=True) as progress:
        yield _Bar(progress, progress.add_task("", total=max(total, 1)))


class BulkAct:
    """One run."""

    def __init__(self, settings: Settings, wish: Wish) -> None:
        self._settings = settings
        self._wish = wish
        self._names = TopicNames.of(settings)
        self._topic, self._prefix = intake_of(settings)
        #: Everything that is read is at least as old as the time at which the reading began.
        self._read_at = now_ms()
        self._unreadable = 0

    async def run(self) -> int:
        """Do it, and return the exit code: 1 where something could not be read, or was not answered."""
        found = await self._found()
        if self._unreadable:
            click.echo(f"{self._unreadable} rows cannot be read by this release, and are left alone", err=True)
        if not found:
            click.echo("none matches")
            return int(self._unreadable > 0)
        with ExitStack() as stack:
            out = stack.enter_context(self._list()) if self._wish.list is not None else None
            if self._wish.dry_run:
                for match in found:
                    self._say(out, match, match.state.value, "would be " + _DONE[self._wish.action])
                click.echo(f"{len(found)} would be {_DONE[self._wish.action]}; nothing was done")
                return int(self._unreadable > 0)
            if not self._wish.yes:
                click.confirm(f"{self._wish.action.value} {len(found)} reminders?", abort=True, err=True)
            return max(await self._done(found, out), int(self._unreadable > 0))

    # -- which -----------------------------------------------------------------------------------------------------

    async def _found(self) -> list[Match]:
        """Return the reminders that match, the earliest due first: the last row of each that the changelog has."""
        topic = self._names.reminders_changelog
        found: dict[bytes, Match] = {}
        unreadable: set[bytes] = set()
        async with reader(self._settings, topic) as consumer:
            tps = await partitions(consumer, topic)
            starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            count = 0
            with _bar("reading", sum(ends[tp] - starts[tp] for tp in tps)) as bar:
                async for record in dlq.span(consumer, starts, ends):
                    count += 1
                    if count % BATCH == 0:
                        bar.at(count)
                    match, readable = self._match(record.key or b"", record.value)
                    if match is not None:
                        found[record.key] = match
                    elif found:
                        found.pop(record.key, None)
                    if not readable:
                        unreadable.add(record.key)
                    elif unreadable:
                        unreadable.discard(record.key)
        self._unreadable = len(unreadable)
        return sorted(found.values(), key=lambda match: (match.due_at, match.reminder_id))

    def _match(self, key: bytes, raw: bytes | None) -> tuple[Match | None, bool]:
        """Return what matches, and whether the row could be read."""
        if raw is None or (self._prefix and not key.startswith(self._prefix.encode())):
            return None, True
        try:
            return bulk_acts.match(key, raw, self._wish.action, self._wish.wanted), True
        except Undecodable:
            return None, False

    # -- what is done ----------------------------------------------------------------------------------------------

    async def _done(self, found: Sequence[Match], out: TextIO | None) -> int:
        """Send the events and report what became of each. Return the exit code."""
        count = await produce.partitions_of(self._settings, self._topic)
        audit = self._names.audit
        async with reader(self._settings, audit) as consumer:
            tps = await partitions(consumer, audit)
            starts = await consumer.end_offsets(tps)
            ids = await self._send(found, count)
            told, results = await self._answers(consumer, starts, ids, out)
        for match in (match for event_id, match in ids.items() if event_id not in told):
            self._say(out, match, match.state.value, "not answered")
        what = ", ".join(f"{number} {state}" for state, number in results.most_common())
        click.echo(f"{len(told)} of {len(found)} answered{': ' if what else ''}{what}")
        if len(told) == len(found):
            return 0
        wait = f"{self._wish.wait_s:g} s"
        click.echo(
            f"{len(found) - len(told)} not answered within {wait}: they are sent, and done once a worker reads them; "
            "run it again to see what is left",
            err=True,
        )
        return 1

    async def _send(self, found: Sequence[Match], count: int) -> dict[str, Match]:
        actor = user()
        ids: dict[str, Match] = {}
        sent = 0
        publisher = Publisher(client_options(self._settings), timeout_s=LIMIT_S)
        await publisher.start()
        try:
            with _bar("sending", len(found)) as bar:
                for at in range(0, len(found), BATCH):
                    batch = []
                    for match in found[at : at + BATCH]:
                        event = bulk_acts.event(match, self._wish.action, actor, self._wish.reason)
                        ids[event.event_id] = match
                        key = match.reminder_id.encode()
                        headers = ((CORRELATION, event.correlation_id.encode()),)
                        ordered = bulk_acts.timestamp(match, self._read_at)
                        batch.append(Out(self._topic, partition_of(key, count), key, encode(event), headers, ordered))
                    await publisher.publish(batch)
                    sent += len(batch)
                    bar.at(sent)
        except PublishError as exc:
            raise Failure(
                f"{self._topic}: not sent ({exc}); {sent} of {len(found)} are kept; run it again to go on"
            ) from exc
        finally:
            await publisher.stop()
        return ids

    async def _answers(
        self, consumer: AIOKafkaConsumer, starts: dict[TopicPartition, int], ids: dict[str, Match], out: TextIO | None
    ) -> tuple[set[str], Counter[str]]:
        """Return which events were answered, and how often with what; report each as it comes."""
        consumer.assign(list(starts))
        for tp, start in starts.items():
            consumer.seek(tp, start)
        keys = {match.reminder_id.encode() for match in ids.values()}
        told: set[str] = set()
        results: Counter[str] = Counter()
        limit = time.monotonic() + self._wish.wait_s
        with _bar("answered", len(ids)) as bar:
            while len(told) < len(ids) and time.monotonic() < limit:
                for batch in (await consumer.getmany(timeout_ms=200, max_records=5000)).values():
                    for record in batch:
                        entry = entry_of(record) if record.key in keys else None
                        if entry is None or entry.event_id not in ids or entry.event_id in told:
                            continue
                        told.add(entry.event_id)
                        results[_result(entry)] += 1
                        self._say(out, ids[entry.event_id], entry.to_state.value, entry.reason)
                        limit = time.monotonic() + self._wish.wait_s
                bar.at(len(told))
                await asyncio.sleep(0)
        return told, results

    # -- what is said ----------------------------------------------------------------------------------------------

    @contextmanager
    def _list(self) -> Iterator[TextIO]:
        path = self._wish.list
        try:
            opened = path.open("w", encoding="utf-8") if path is not None else None
        except OSError as exc:
            raise Failure(f"--list {path}: cannot be written ({exc.strerror}); name another file") from exc
        if opened is None:
            raise AssertionError("no file is named")
        with opened:
            yield opened

    def _say(self, out: TextIO | None, match: Match, state: str, what: str) -> None:
        if out is None:
            due = moment(match.due_at) if match.due_at else "no time yet"
            click.echo(plain(f"{match.reminder_id}  {due}  {match.state.value} -> {state}  {what.replace('_', ' ')}"))
            return
        said = {
            "reminder_id": match.reminder_id,
            "due_at": match.due_at,
            "from": match.state,
            "to": state,
            "what": what,
        }
        out.write(json.dumps(said, ensure_ascii=False) + "\n")


_DONE = {Action.CANCEL: "cancelled", Action.PAUSE: "paused", Action.RESUME: "resumed"}


def _result(entry: AuditEntry) -> str:
    return f"{entry.to_state.value} ({entry.reason.replace('_', ' ')})"
