"""The commands that show what happened to a reminder, and what happens."""

import asyncio
import sys
from datetime import tzinfo
from typing import Any
from urllib.parse import quote

import aiohttp
import click
import orjson
from rich.table import Table
from yarl import URL

from app import why
from app.cli.audit import BAD_ENDS, ENDS, Audit, entry_of, partitions, reader
from app.cli.failures import Failure, Misuse
from app.cli.remind import now_ms, show
from app.cli.root import load, run
from app.cli.show import console, line, plain, trail_table
from app.cli.times import moment
from app.config import Settings
from app.topics import TopicNames
from schemas.checks import similar_zone
from schemas.checks import zone as zone_of
from schemas.names import Channel, State
from schemas.records import AuditEntry

#: The view is asked first; a worker that does not answer at once is not waited for.
_VIEW_LIMIT_S = 3.0


def zone_option(name: str | None) -> tzinfo | None:
    """Return the zone of an option, None where it is not given."""
    if not name:
        return None
    found = zone_of(name)
    if found is None:
        near = similar_zone(name)
        raise Misuse(
            f"--zone: {plain(name)} is no IANA zone; {f'did you mean {near}?' if near else 'such as Europe/Berlin'}"
        )
    return found


@click.command()
@click.argument("id")
@click.option(
    "--zone", metavar="ZONE", help="Show times on this wall clock; without it the reminder's, where it is known."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: what the view answers, or the audit entries.")
@click.option(
    "--audit", "full", is_flag=True, help="Read the audit topic, even where a worker answers: all of the history."
)
@click.option(
    "--why", "reasons", is_flag=True, help="Also: why it stands there, what happens next, and what made it late."
)
def trail(id: str, zone: str | None, as_json: bool, full: bool, reasons: bool) -> None:  # noqa: A002
    """Show what happened to the reminder ID.

    Asks the worker's view (WEB_HOST, WEB_PORT, WEB_TOKEN); where none answers, reads the audit topic.
    """
    clock = zone_option(zone)
    settings = load()
    row = None if full else run(from_view(settings, id))
    if row is not None:
        _show_row(row, clock, as_json, reasons)
        return
    entries = run(_history(settings, id))
    if not entries:
        raise Failure(f"{plain(id)}: nothing is on record; check the id, or wait until a worker has taken it")
    if as_json:
        click.echo(b"\n".join(orjson.dumps(entry) for entry in entries))
        return
    out = console()
    out.print(trail_table(f"{id}: {entries[-1].to_state}", entries, clock))
    if reasons:
        _show_why(why.recount(entries, now_ms()), clock)


async def from_view(settings: Settings, reminder_id: str, limit_s: float = _VIEW_LIMIT_S) -> dict[str, Any] | None:
    """Return what a worker's view answers; None where it cannot be asked or does not know."""
    web = settings.web
    if not web.token:
        return None
    url = URL(f"http://{web.host}:{web.port}/reminders/{quote(reminder_id, safe='')}", encoded=True)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=limit_s), trust_env=False) as session,
            session.get(url, headers={"Authorization": f"Bearer {web.token}"}, allow_redirects=False) as response,
        ):
            if response.status != 200:
                return None
            found: dict[str, Any] = orjson.loads(await response.read())
            return found
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
        return None


async def _history(settings: Settings, reminder_id: str) -> list[AuditEntry]:
    async with Audit.open(settings, reminder_id) as audit:
        return await audit.history()


def _show_why(found: why.Why, zone: tzinfo | None) -> None:
    """Print why a reminder stands where it stands, what comes next, and where its lateness came from."""
    out = console()
    out.print()
    for name, words, at in (
        ("state", found.state, 0),
        ("because", found.because, 0),
        ("next", found.next, found.at),
        ("deadline", "No message after it." if found.deadline else "", found.deadline),
    ):
        if words:
            out.print(plain(f"{name:9} {words}{f' {moment(at, zone)}' if at else ''}"), soft_wrap=True)
    late = found.lateness
    if late is None:
        return
    about = ", ".join(part for part in (late.channel.value.lower(), f"attempt {late.attempt}") if part != "any")
    out.print(plain(f"late      {late.total_ms} ms after {moment(late.due_at, zone)} ({about})"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    before = "due"
    for part in late.parts:
        table.add_row(f"  {before} → {part.stage}", f"{part.ms} ms", moment(part.at, zone), why.WAITS[part.stage])
        before = part.stage
    out.print(table)


def _why_of(told: dict[str, Any]) -> why.Why:
    """Return what the view says, as it was before it became JSON."""

    def ms(time: dict[str, Any] | None) -> int:
        return int(time["ms"]) if time else 0

    late = told["lateness"]
    return why.Why(
        told["state"],
        told["because"],
        told["next"],
        ms(told["next_at"]),
        ms(told["deadline"]),
        late
        and why.Lateness(
            ms(late["due_at"]),
            late["total_ms"],
            late["attempt"],
            Channel(late["channel"] or Channel.ANY),
            tuple(why.Part(part["stage"], ms(part["at"]), part["ms"]) for part in late["stages"]),
        ),
    )


def _show_row(row: dict[str, Any], zone: tzinfo | None, as_json: bool, reasons: bool = False) -> None:
    if as_json:
        click.echo(orjson.dumps(row, option=orjson.OPT_INDENT_2))
        return
    clock = zone or zone_of(row.get("zone") or "")
    entries = [_entry(row["reminder"], entry) for entry in row["trail"]]
    out = console()
    out.print(trail_table(f"{row['reminder']}: {row['state']}", entries, clock))
    if (acts := row.get("acts_next")) and row.get("open"):
        out.print(f"acts next {acts.get('local') or acts.get('utc')}", soft_wrap=True)
    if found := row.get("series"):
        then = found["next_due"]
        out.print(plain(f"fires by {found['rule']}"), soft_wrap=True)
        out.print(f"then {then.get('local') or then.get('utc')}" if then else "then no more", soft_wrap=True)
    if reasons and row.get("why"):
        _show_why(_why_of(row["why"]), clock)
    if row.get("damaged"):
        out.print(f"the row cannot be read ({row['damaged']}); see `trail --audit`", soft_wrap=True)


def _entry(reminder_id: str, entry: dict[str, Any]) -> AuditEntry:
    return AuditEntry(
        reminder_id,
        seq=entry["seq"],
        at=entry["at"]["ms"] if entry["at"] else 0,
        from_state=State.UNKNOWN,
        to_state=State(entry["state"]),
        reason=entry["reason"],
        attempt=entry["attempt"],
        channel=Channel(entry["channel"] or Channel.ANY),
        detail=entry["detail"],
        actor=entry["actor"],
    )


@click.command()
@click.argument("id", required=False)
@click.option("--source", help="All reminders of this producer, from now on.")
@click.option("--zone", metavar="ZONE", help="Show times on this wall clock too.")
def watch(id: str | None, source: str | None, zone: str | None) -> None:  # noqa: A002
    """Show what happened to the reminder ID and what happens, until its end; or follow a whole SOURCE.

    Exits with 1 where the reminder ended badly: dead letter, rejected, expired, maybe sent.
    """
    if bool(id) == bool(source):
        raise Misuse("ID or --source: give one of them")
    clock = zone_option(zone)
    settings = load()
    sys.exit(run(_watch(settings, id, clock) if id else _watch_source(settings, source or "", clock)))


async def _watch(settings: Settings, reminder_id: str, zone: tzinfo | None) -> int:
    out = console()
    async with Audit.open(settings, reminder_id) as audit:
        past = await audit.history()
        for entry in past:
            out.print(line(entry, zone), soft_wrap=True)
        if past and past[-1].to_state in ENDS:
            return int(past[-1].to_state in BAD_ENDS)
        return await show(audit, zone)


async def _watch_source(settings: Settings, source: str, zone: tzinfo | None) -> int:
    topic = TopicNames.of(settings).audit
    out = console()
    async with reader(settings, topic) as consumer:
        tps = await partitions(consumer, topic)
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        while True:
            for batch in (await consumer.getmany(*tps, timeout_ms=500)).values():
                for record in batch:
                    entry = entry_of(record)
                    if entry is not None and entry.source == source:
                        out.print(f"{plain(entry.reminder_id)}  ", line(entry, zone), sep="", soft_wrap=True)
            await asyncio.sleep(0)
