"""The commands of the dead letter workbench: list, show, redrive, edit, skip."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import orjson
from rich.table import Table

from app import dlq as book_
from app import sparse
from app.cli.dlq import dissect, edit, judge
from app.cli.dlq import stuck as stuck_
from app.cli.dlq.desk import Desk, actor
from app.cli.dlq.pick import (
    Length,
    Named,
    Rate,
    Selection,
    When,
    chosen,
    codec_for,
    filtered,
    kinds,
    now_ms,
    opened,
    records_of,
)
from app.cli.dlq.redrive import Wish, judge_for, redrive_letters
from app.cli.dlq.view import shown
from app.cli.failures import Failure, Misuse
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import moment
from app.config import Settings
from app.dlq import Book, Letter
from app.topics import TopicNames
from schemas.checks import Fault, check_recipient
from schemas.codec import Undecodable
from schemas.records import RecipientEvent
from tables.admission import event_fault


@click.group()
def dlq() -> None:
    """Look at dead letters, put them back, correct them, close them."""


# -- list --------------------------------------------------------------------------------------------------------------


@dlq.command("list")
@click.option("--reason", help="Only those with this reason.")
@click.option("--topic", help="Only those that came from this topic.")
@click.option("--since", type=When(), help="Only those from then on: 2h (ago), or an instant.")
@click.option("--until", "until", type=When(), help="Only those up to then.")
@click.option("--parked", is_flag=True, help="Those that wait for a newer release, which are left out else.")
@click.option("--all", "all_", is_flag=True, help="Closed, parked and doubled ones, too.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The latest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(
    reason: str | None,
    topic: str | None,
    since: int | None,
    until: int | None,
    parked: bool,
    all_: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List open dead letters, newest last: where each came from, why, and what to do.

    A letter is closed once it was redriven, edited or skipped.
    """
    settings = load()
    book = run(_book(settings, since))
    found = filtered(book, settings, reason, topic, since, until, all_=all_, parked=parked)
    letters = found[-limit:]
    if as_json:
        for letter in letters:
            click.echo(orjson.dumps(as_json_object(letter, book)))
        return
    if not letters:
        of = f" with reason {plain(reason)}" if reason else ""
        click.echo(("no dead letters" if all_ or not parked else "no parked letters") + of)
    else:
        console().print(_table(letters, book))
    notes = []
    if len(found) > len(letters):
        notes.append(f"{len(found) - len(letters)} earlier ones: --limit {len(found)}")
    if not parked and not all_:
        waiting = filtered(book, settings, reason, topic, since, until, all_=False, parked=True)
        notes += [f"{len(waiting)} parked until a newer release: --parked"] if waiting else []
    for note in notes:
        click.echo(note, err=True)


async def _book(settings: Settings, since: int | None = None) -> Book:
    async with opened(settings) as (consumer, tps):
        return await book_.read(consumer, tps, since)


def as_json_object(letter: Letter, book: Book) -> dict[str, Any]:
    """Return a letter as ``--json`` shows it."""
    closing = book.closings.get(letter.place)
    return {
        "at": letter.at,
        "place": str(letter.place),
        "state": book.state(letter.place),
        "origin": letter.origin,
        "timestamp": letter.timestamp,
        "reason": letter.reason,
        "field": letter.field,
        "value": letter.value,
        "remedy": letter.remedy,
        "attempts": letter.attempts,
        "redrives": letter.redrives,
        "parked": letter.parked,
        "occurrence": letter.occurrence,
        "correlation_id": letter.correlation_id,
        "came_from": letter.came_from,
        "edited_by": letter.edited_by,
        "key": (letter.key or b"").decode("utf-8", "replace"),
        "size": letter.size,
        "closed": None
        if closing is None
        else {"how": closing.how, "at": closing.at, "by": closing.actor, "why": closing.why, "to": closing.went_to},
    }


def _table(letters: Sequence[Letter], book: Book) -> Table:
    table = Table(box=None, pad_edge=False)
    states = {letter.place: book.state(letter.place) for letter in letters}
    columns = ["when", "letter", "origin", "key", "reason", "field", "remedy"]
    if set(states.values()) - {"open", "parked"}:
        columns.insert(2, "state")
    for column in columns:
        table.add_column(column, no_wrap=column in ("when", "letter", "state", "origin", "reason"))
    for letter in letters:
        row = {
            "when": moment(letter.at),
            "letter": str(letter.place),
            "state": states[letter.place],
            "origin": letter.origin,
            "key": (letter.key or b"").decode("utf-8", "replace"),
            "reason": letter.reason,
            "field": f"{letter.field}{f' ({letter.value})' if letter.value else ''}",
            "remedy": letter.remedy,
        }
        table.add_row(*(plain(row[column]) for column in columns))
    return table


# -- show --------------------------------------------------------------------------------------------------------------


@dlq.command()
@click.argument("letter", type=Selection())
@click.option("--reveal", is_flag=True, help="Show personal values.")
@click.option("--bytes", "limit", type=click.IntRange(min=0), default=256, show_default=True, help="How many to dump.")
def show(letter: Named, reveal: bool, limit: int) -> None:
    """Show one dead letter, by its PARTITION/OFFSET or the TOPIC/PARTITION/OFFSET it came from.

    What it is and what to do, its headers, its bytes, and what they say under every known schema.
    """
    for line in run(shown(load(), letter, reveal, limit)):
        click.echo(line)


# -- redrive -----------------------------------------------------------------------------------------------------------


@dlq.command()
@click.argument("selection", type=Selection(), nargs=-1)
@click.option("--reason", help="Only those with this reason.")
@click.option("--topic", help="Only those that came from this topic.")
@click.option("--since", type=When(), help="Only those from then on: 2h (ago), or an instant.")
@click.option("--until", type=When(), help="Only those up to then.")
@click.option("--parked", is_flag=True, help="Those that waited for a newer release and that this one can do.")
@click.option("--rate", type=Rate(), help="At most so many: 5/s, 100/m.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many in all, the oldest first.")
@click.option("--dry-run", is_flag=True, help="Say what would be done with each, and do nothing.")
@click.option("--force", is_flag=True, help="Also what would be refused again, or was put back 5 times.")
@click.option("--occurrences", is_flag=True, help="Also occurrences that were given up: each is sent in a new round.")
def redrive(
    selection: tuple[Named, ...],
    reason: str | None,
    topic: str | None,
    since: int | None,
    until: int | None,
    parked: bool,
    rate: float | None,
    limit: int | None,
    dry_run: bool,
    force: bool,
    occurrences: bool,
) -> None:
    """Put open letters back where they came from: the same key, bytes, headers and timestamp.

    Those named in SELECTION, else all that pass the filters. What would be refused again is left and counted.
    An occurrence that was given up is sent in a new round instead, if it is named or --occurrences is given.
    A crash neither loses nor doubles a letter: run it again.
    """
    settings = load()
    filters = {"reason": reason, "topic": topic, "since": since, "until": until, "parked": parked}
    sys.exit(run(redrive_letters(settings, Wish(selection, filters, rate, limit, dry_run, force, occurrences))))


# -- edit --------------------------------------------------------------------------------------------------------------


@dlq.command("edit")
@click.argument("letter", type=Selection())
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="Such as zone=Europe/Berlin; repeat.")
@click.option("--json", "file", type=click.File("rb"), metavar="FILE", help="The whole event, as sparse JSON; - reads.")
@click.option("--now", "as_new", is_flag=True, help="With the present time, not with the original's.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reveal", is_flag=True, help="Show personal values in what is changed.")
def edit_(
    letter: Named,
    assignments: tuple[str, ...],
    file: click.utils.LazyFile | None,
    as_new: bool,
    yes: bool,
    reveal: bool,
) -> None:
    """Correct the event in a letter and send it to the topic that it came from; this closes the letter.

    \b
    python -m app dlq edit reminders/3/1042 --set zone=Europe/Berlin --set steps[0].address=anna@example.org

    It keeps the original's time, so that a later event of the producer still wins; --now gives it the present.
    """
    if (file is not None) == bool(assignments) and not (as_new and file is None):
        raise Misuse("--set or --json: say what is wrong with it, or --now to send it again as it is")
    settings = load()
    raw = file.read() if file is not None else None
    run(_edit(settings, letter, assignments, raw, as_new, yes, reveal))


async def _edit(
    settings: Settings,
    named: Named,
    assignments: tuple[str, ...],
    raw: bytes | None,
    as_new: bool,
    yes: bool,
    reveal: bool,
    **desk: Any,
) -> None:
    names = TopicNames.of(settings)
    async with opened(settings) as (consumer, tps):
        book = await book_.read(consumer, tps)
        letter = chosen(book, named, settings)
        record = next(iter([r async for r in records_of(consumer, names.dlq, [letter])]), None)
        if record is None:
            raise Failure(f"{letter.place}: is gone; the topic keeps letters for so long only")
        rules = await judge_for(settings, consumer, [letter], force=True)
    _editable(letter, book, names)
    kind: Any = kinds(names)[letter.topic]
    before = await _event(settings, kind, record.value)
    try:
        if raw is not None:
            after = sparse.read(kind, raw)
        elif before is None:
            raise Misuse(f"{letter.place}: is no readable {kind.__name__}; give the whole event with --json FILE")
        else:
            after = edit.changed(before, assignments)
    except sparse.NotARecord as exc:
        raise Misuse(f"{'--json' if raw is not None else '--set'}: {plain(str(exc))}") from exc
    at = now_ms() if as_new else letter.timestamp
    if fault := _fault(after, at):
        value = f" ({fault.value})" if fault.value else ""
        raise Misuse(plain(f"{fault.field or 'the event'}: {fault.reason.value}{value}; {fault.remedy}"))
    parcel = judge.corrected(letter, record, after, rules.partitions.get(letter.topic, 0) or 1, actor(), as_new)
    if not as_new and (why := rules.against(letter, record, now_ms())):
        raise Failure(f"{letter.place}: {why}")
    for line in edit.difference(before, after, reveal=reveal) or ["nothing changes but its time"]:
        click.echo(plain(line))
    if not yes:
        click.confirm(f"Send it to {letter.topic} and close letter {letter.place}?", abort=True)
    async with Desk.open(settings, **desk) as at_work:
        _still_open(at_work.book, letter)
        if refused := await at_work.put_back([parcel]):
            raise Failure(f"{letter.place}: {refused[letter.place]}")
        click.echo(f"{letter.place}: sent to {at_work.book.closings[letter.place].went_to}")


def _editable(letter: Letter, book: Book, names: TopicNames) -> None:
    if not book.is_open(letter.place):
        raise Failure(f"{letter.place}: is closed already ({book.state(letter.place)})")
    if letter.occurrence:
        raise Failure(f"{letter.place}: an occurrence that was given up has no event to edit; see `dlq redrive`")
    if letter.topic not in (*names.intakes, names.recipients):
        raise Failure(f"{letter.place}: comes from {letter.topic or 'nowhere'}; only events of producers can be edited")


def _still_open(book: Book, letter: Letter) -> None:
    if letter.place not in book.letters or not book.is_open(letter.place):
        raise Failure(f"{letter.place}: somebody else has closed it meanwhile; see `dlq show {letter.place}`")


async def _event(settings: Settings, kind: Any, value: bytes | None) -> Any:
    """Return the event in a letter's bytes, read leniently: behind any framing, or none."""
    if value is None:
        return None
    try:
        async with codec_for(settings, [value]) as codec:
            return codec.decode_event(kind, value)
    except Undecodable:
        return next((r.record for r in dissect.readings(value) if isinstance(r.record, kind)), None)


def _fault(event: Any, record_ms: int) -> Fault | None:
    if isinstance(event, RecipientEvent):
        return check_recipient(event, now_ms(), record_ms)
    return event_fault(event, now_ms(), record_ms)


# -- skip --------------------------------------------------------------------------------------------------------------


@dlq.command()
@click.argument("letters", type=Selection(), nargs=-1, required=True)
@click.option("--reason", required=True, help="Why nothing more is to be done; kept with the letter.")
@click.option(
    "--wait", type=Length(), default="60s", show_default=True, help="For a worker to pass over a stuck event."
)
def skip(letters: tuple[Named, ...], reason: str, wait: int) -> None:
    """Close letters for which nothing more is to be done. Your name and the reason are kept.

    \b
    python -m app dlq skip 3/17 --reason "told the clinic"

    An event that no worker gets past is named by its TOPIC/PARTITION/OFFSET: the workers send it to the dead letters
    undone and go on behind it.

    \b
    python -m app dlq skip reminders/3/1042 --reason "ends every worker"
    """
    if not reason.strip() or len(reason) > 400:
        raise Misuse("--reason: say why, in at most 400 characters")
    for line in run(_skip(load(), letters, reason.strip(), wait)):
        click.echo(line)


async def _skip(settings: Settings, named: Sequence[Named], why: str, wait_ms: int, **desk: Any) -> list[str]:
    async with opened(settings) as (consumer, tps):
        book = await book_.read(consumer, tps)
    stuck = [name for name in named if stuck_.names_no_letter(book, name, settings)]
    told = [await stuck_.pass_over(settings, name, why, wait_ms) for name in dict.fromkeys(stuck)]
    closing = [name for name in named if name not in stuck]
    if closing:
        async with Desk.open(settings, **desk) as at_work:
            letters = [chosen(at_work.book, name, settings) for name in closing]
            for letter in letters:
                _still_open(at_work.book, letter)
            places = list(dict.fromkeys(letter.place for letter in letters))
            await at_work.skip(places, why)
        told.append(f"{len(places)} skipped")
    return told


__all__ = ["dlq"]
