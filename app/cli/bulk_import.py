"""The command that sends a file of reminders: `remind --file`. It goes on where it was stopped, and doubles nothing."""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import click
from aiokafka.errors import TopicAuthorizationFailedError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agents.letters import CORRELATION
from agents.ports import Out
from agents.publisher import Publisher, PublishError, partition_of
from app import bulk
from app.bulk import Bad, Good, NoFileError, Wish
from app.cli import produce
from app.cli.failures import Failure, Misuse
from app.cli.remind import now_ms, refused
from app.cli.root import run
from app.cli.show import plain
from app.cli.times import moment
from app.config import Settings
from app.kafka import client_options
from app.topics import intake_of
from schemas.checks import Fault
from schemas.records import ReminderEvent

#: What is sent before the acknowledgements are awaited.
BATCH = 1000
BATCH_BYTES = 4 << 20
#: A batch that is not acknowledged in this time ends the run, in seconds.
LIMIT_S = 30.0


@dataclass(slots=True)
class Progressed:
    """How far a file has been sent: what the file beside it says. ``line``: the last that is acknowledged."""

    sha256: str
    topic: str
    brokers: str
    wish: dict[str, object]
    begun: int
    line: int = 0
    sent: int = 0
    ended: int = 0

    def same(self, other: "Progressed") -> bool:
        """Return whether another is about the same content, sent to the same place under the same ids."""
        mine = (self.sha256, self.topic, self.brokers, self.wish)
        return mine == (other.sha256, other.topic, other.brokers, other.wish)


@dataclass(frozen=True, slots=True)
class Files:
    """The file and those beside it."""

    file: Path
    state: Path
    errors: Path

    def read(self) -> Progressed | None:
        """Return how far an earlier run has come, None where none has begun."""
        try:
            return Progressed(**json.loads(self.state.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as exc:
            raise Failure(f"{self.state}: cannot be read ({type(exc).__name__}); remove it to begin anew") from exc

    def write(self, progressed: Progressed) -> None:
        """Keep how far this run has come, so that no crash leaves half a file."""
        fresh = self.state.with_name(self.state.name + ".new")
        try:
            fresh.write_text(json.dumps(asdict(progressed)), "utf-8")
            fresh.replace(self.state)
        except OSError as exc:
            raise Failure(f"{self.state}: cannot be written ({exc.strerror}); name another with --state") from exc


def files_of(file: Path, state: Path | None, errors: Path | None) -> Files:
    """Return the file and those beside it; those lie beside it unless they are named."""
    found = Files(
        file,
        state or file.with_name(file.name + ".import.json"),
        errors or file.with_name(file.name + ".errors.jsonl"),
    )
    if len({path.resolve() for path in (found.file, found.state, found.errors)}) < 3:
        raise Misuse("--file, --state, --errors: name three different files")
    return found


def send_file(settings: Settings, files: Files, wish: Wish, dry_run: bool) -> int:
    """Send a file, or only check it, and say what came of it. Return the exit code: 1 where lines were refused."""
    try:
        bulk.form_of(files.file)
        bulk.check_column(wish.column)
        digest, size = _digest(files.file)
        return run(_Import(settings, files, wish, dry_run, digest, size).run())
    except NoFileError as exc:
        raise Misuse(plain(str(exc))) from exc


def _digest(file: Path) -> tuple[str, int]:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest(), file.stat().st_size
    except OSError as exc:
        raise Misuse(f"--file {file}: cannot be read ({exc.strerror}); name a readable file") from exc


class _Import:
    """One run over one file."""

    def __init__(self, settings: Settings, files: Files, wish: Wish, dry_run: bool, digest: str, size: int) -> None:
        self._settings = settings
        self._files = files
        self._wish = wish
        self._dry_run = dry_run
        self._size = size
        self._topic, _ = intake_of(settings)
        told = {"prefix": wish.prefix, "column": wish.column, "version": wish.version}
        self._at = Progressed(digest, self._topic, settings.kafka.bootstrap, told, now_ms())
        self._bad: Counter[str] = Counter()
        self._good = 0

    async def run(self) -> int:
        if not self._dry_run and (told := self._resumed()):
            click.echo(told)
            return 0
        already = self._at.sent
        begun = time.monotonic()
        with self._errors() as errors, _bar(self._size) as bar:
            if self._dry_run:
                for _ in self._good_lines(errors, bar):
                    self._good += 1
                    if self._good % BATCH == 0:
                        await asyncio.sleep(0)
            else:
                await self._send(errors, bar)
        took = time.monotonic() - begun
        return self._said(already, took)

    def _resumed(self) -> str:
        """Take up an earlier run. Return what to say where nothing is left to do."""
        before = self._files.read()
        if before is None:
            return ""
        if not self._at.same(before):
            why = "the file has changed" if before.sha256 != self._at.sha256 else "it was sent elsewhere, or otherwise"
            click.echo(f"begins anew: {why} since {moment(before.begun)}; what is the same changes nothing", err=True)
            return ""
        if before.ended:
            return (
                f"{self._files.file}: was sent on {moment(before.ended)}, {before.sent} reminders to {before.topic}; "
                f"nothing to do. Remove {self._files.state} to send it again, which changes nothing either"
            )
        click.echo(f"goes on after line {before.line}; {before.sent} reminders are sent", err=True)
        self._at = before
        return ""

    def _check(self, now: int) -> bulk.Checked:
        def check(event: ReminderEvent) -> Fault | None:
            return refused(self._settings, event, now)

        return check

    def _good_lines(self, errors: TextIO, bar: "_Bar") -> Iterator[Good]:
        """Yield the lines that can be sent; write down the others."""
        for line in bulk.read(self._files.file, self._wish, self._check(now_ms())):
            bar.at(line.read)
            match line:
                case Good():
                    yield line
                case Bad():
                    self._bad[line.reason] += 1
                    errors.write(line.json() + "\n")

    async def _send(self, errors: TextIO, bar: "_Bar") -> None:
        partitions = await produce.partitions_of(self._settings, self._topic)
        publisher = Publisher(client_options(self._settings), timeout_s=LIMIT_S)
        await publisher.start()
        skipped = self._at.line
        under_way: asyncio.Task[None] | None = None
        batch: list[Good] = []
        size = 0
        try:
            for line in self._good_lines(errors, bar):
                if line.line <= skipped:
                    continue
                batch.append(line)
                size += len(line.value)
                if len(batch) >= BATCH or size >= BATCH_BYTES:
                    if under_way is not None:
                        await under_way
                    under_way = asyncio.create_task(self._put(publisher, partitions, batch))
                    batch, size = [], 0
                    # The next lines are read while the brokers have these.
                    await asyncio.sleep(0)
            if under_way is not None:
                await under_way
            under_way = None
            await self._put(publisher, partitions, batch)
            self._at.ended = now_ms()
            self._files.write(self._at)
        finally:
            if under_way is not None:
                await asyncio.gather(under_way, return_exceptions=True)
            await publisher.stop()

    async def _put(self, publisher: Publisher, partitions: int, lines: list[Good]) -> None:
        """Send lines and return once all copies have them, and it is written down that they do."""
        if not lines:
            return
        try:
            await publisher.publish(self._record(line, partitions) for line in lines)
        except PublishError as exc:
            if isinstance(exc.__cause__, TopicAuthorizationFailedError):
                raise Failure(f"{self._topic}: writing is not allowed; grant Write on it to KAFKA_USERNAME") from exc
            kept = f"{self._at.sent} reminders are kept" if self._at.sent else "nothing is known to be kept"
            raise Failure(f"{self._topic}: not sent ({exc}); {kept}; run it again to go on from there") from exc
        self._at.line = lines[-1].line
        self._at.sent += len(lines)
        self._files.write(self._at)

    def _record(self, line: Good, partitions: int) -> Out:
        key = line.event.reminder_id.encode()
        headers = ((CORRELATION, line.event.correlation_id.encode()),)
        return Out(self._topic, partition_of(key, partitions), key, line.value, headers)

    @contextmanager
    def _errors(self) -> Iterator[TextIO]:
        """Give the file of errors; one that stays empty is removed."""
        path = self._files.errors
        try:
            opened = path.open("w", encoding="utf-8")
        except OSError as exc:
            raise Failure(f"{path}: cannot be written ({exc.strerror}); name another with --errors") from exc
        try:
            with opened:
                yield opened
        finally:
            if not path.stat().st_size:
                path.unlink()

    def _said(self, already: int, took: float) -> int:
        new = self._at.sent - already
        if self._dry_run:
            click.echo(f"{self._good} reminders could be sent to {self._topic}; nothing was")
        else:
            rate = f", {new / took:,.0f}/s" if new >= BATCH and took > 0 else ""
            more = f", {already} before" if already else ""
            click.echo(f"{new} reminders sent to {self._topic}{more}{rate}")
        if not self._bad:
            return 0
        reasons = ", ".join(f"{reason} {count}" for reason, count in self._bad.most_common())
        click.echo(f"{self._bad.total()} lines refused ({reasons}); see {self._files.errors}", err=True)
        return 1


class _Bar:
    """A progress bar on a terminal, and nothing elsewhere."""

    def __init__(self, progress: Progress | None, size: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=max(size, 1)) if progress is not None else None
        self._shown = 0

    def at(self, read: int) -> None:
        """Say how many bytes have been read."""
        if self._progress is not None and self._task is not None and read - self._shown > 16 * 1024:
            self._shown = read
            self._progress.update(self._task, completed=read)


@contextmanager
def _bar(size: int) -> Iterator[_Bar]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Bar(None, size)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, size)
