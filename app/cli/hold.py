"""The commands that hold back what would be sent, let it go again, and say what is held."""

import getpass
import json
import time
import uuid
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from app.cli import audit, produce
from app.cli.failures import Misuse
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import duration_ms, instant_ms, moment
from app.config import Settings
from app.topics import TopicNames
from schemas import checks
from schemas.codec import Undecodable, decode, encode
from schemas.records import ControlRecord
from tables import holds as rules


def _scope(text: str) -> str:
    try:
        return rules.scope(text)
    except ValueError as exc:
        raise Misuse(str(exc)) from exc


def rate_of(text: str) -> float:
    """Return how many reminders a second a text says. Raises Misuse."""
    number = text.strip().removesuffix("/s")
    try:
        rate = float(number)
    except ValueError:
        rate = -1.0
    if not 0 < rate <= 100_000:
        raise Misuse(f"--rate {text!r}: give reminders a second, such as 20/s")
    return rate


async def _say(settings: Settings, record: ControlRecord) -> produce.Sent:
    key = rules.key(record.scope, recurring=record.every != "")
    return await produce.send(settings, TopicNames.of(settings).control, key, encode(record), uuid.uuid4().hex)


@click.command()
@click.argument("scope")
@click.option("--reason", required=True, help="Why; shown wherever the hold shows.")
@click.option(
    "--for", "length", default="", metavar="DURATION", help="How long, such as 2h; without it, until released."
)
@click.option(
    "--from",
    "start",
    default="",
    metavar="TIME",
    help="When it begins: ISO 8601 with an offset, or a wall clock with --zone; now by default.",
)
@click.option("--until", default="", metavar="TIME", help="When it ends, or with --every: when it recurs no more.")
@click.option("--zone", default="", metavar="ZONE", help="IANA zone of wall clocks, such as Europe/Berlin.")
@click.option(
    "--every",
    type=click.Choice(list(rules.EVERY)),
    help="Recur at the wall clock of --from in --zone, each time for as long as --for says.",
)
def hold(scope: str, reason: str, length: str, start: str, until: str, zone: str, every: str | None) -> None:
    """Hold SCOPE back: channel:sms, provider:smtp, category:x, tenant:y, source:z, or everything.

    Every worker obeys within a second, also right before a call. A held channel keeps its rows due; other scopes turn
    what comes due into HELD. What passes its deadline meanwhile expires, and says by which hold.

    \b
    python -m app hold channel:email --reason "provider trouble" --for 2h
    python -m app hold channel:sms --reason "their maintenance" --every weekly \\
        --from 2026-12-06T02:00 --zone Europe/Berlin --for 2h
    """
    settings = load()
    record = planned(_scope(scope), reason, length, start, until, zone, every or "", now_ms(), getpass.getuser())
    sent = run(_say(settings, record))
    console().print(f"{plain(record.scope)}: {_told(record, now_ms())} ({sent})", highlight=False)


def now_ms() -> int:
    """Return the present, ms UTC."""
    return time.time_ns() // 1_000_000


def planned(
    scope: str, reason: str, length: str, start: str, until: str, zone: str, every: str, now: int, actor: str
) -> ControlRecord:
    """Return the record of a hold. Raises Misuse, naming what is wrong."""
    there = checks.zone(zone) if zone else None
    if zone and there is None:
        meant = checks.similar_zone(zone)
        raise Misuse(f"--zone {zone!r}: is no IANA zone; {f'did you mean {meant}?' if meant else 'use Europe/Berlin'}")
    begins = _instant("--from", start, there) if start else now
    if length and until and not every:
        raise Misuse("give either --for or --until; both only with --every")
    lasts = _lasts(length) if length else 0
    ends = _instant("--until", until, there) if until else 0 if every or not length else begins + lasts
    if until and ends <= max(begins, now):
        raise Misuse(f"--until {until!r}: give a time that is still to come, after --from")
    if not every:
        if ends and ends <= now:
            raise Misuse("this hold would be over already; give a later --from, or a longer --for")
        return ControlRecord(scope, rules.HOLD, now, begins, ends, reason, actor)
    if not start or not length or there is None:
        raise Misuse("--every needs --from, --zone and --for: when it begins on which wall clock, and for how long")
    if lasts >= rules.EVERY[every] * 86_400_000:
        raise Misuse(
            f"--for {length!r}: is no shorter than the time from one start to the next; hold it without --every"
        )
    local = datetime.fromtimestamp(begins / 1000, UTC).astimezone(there).replace(tzinfo=None)
    if checks.instant_of(local, there) != begins:
        raise Misuse(f"--from {start!r}: is shown twice by that wall clock; give another first start")
    wall = local.isoformat(timespec="seconds")
    return ControlRecord(
        scope, rules.HOLD, now, begins, ends, reason, actor, every=every, local=wall, zone=zone, lasts_ms=lasts
    )


def _lasts(text: str) -> int:
    try:
        lasts = duration_ms(text)
    except ValueError as exc:
        raise Misuse(f"--for: {exc}") from exc
    if lasts <= 0:
        raise Misuse(f"--for {text!r}: give a duration that is longer than nothing")
    return lasts


def _instant(option: str, text: str, zone: ZoneInfo | None) -> int:
    """Return an instant, given with its offset or as what a zone's wall clock shows."""
    wall = checks.wall_clock(text)
    if wall is not None and zone is not None:
        return checks.instant_of(wall, zone)
    try:
        return instant_ms(text, "give its --zone")
    except ValueError as exc:
        raise Misuse(f"{option}: {exc}") from exc


def _told(record: ControlRecord, now: int) -> str:
    found = rules.window(record, now)
    if found is None:
        return "over"
    until = moment(found.ends) if found.ends else "released"
    again = f"; {record.every} on the clock of {record.zone}" if record.every else ""
    return f"held from {moment(found.begins)} until {until}{again}"


@click.command()
@click.argument("scope")
@click.option(
    "--rate", default="", metavar="N/s", help="At most so many reminders a second; without it, as fast as it goes."
)
@click.option("--recurring", is_flag=True, help="End what recurs (hold --every); without it, that goes on.")
def release(scope: str, rate: str, recurring: bool) -> None:
    """Let SCOPE go again, at a rate if one is given (over all workers)."""
    settings = load()
    held = _scope(scope)
    record = ControlRecord(
        held,
        rules.RELEASE,
        now_ms(),
        actor=getpass.getuser(),
        rate_per_s=rate_of(rate) if rate else 0.0,
        every="recurring" if recurring else "",
    )
    sent = run(_say(settings, record))
    console().print(f"{plain(held)}: released ({sent})", highlight=False)
    for other in run(current(settings)):
        if other.scope == held:
            more = f"; {'release it with --recurring' if other.every else 'release it without --recurring'}"
            console().print(f"{plain(held)}: {_told(other, now_ms())}{more}", highlight=False)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def holds(as_json: bool) -> None:
    """Say what is held, since when, until when and why, and what is to come."""
    found = run(current(load()))
    now = now_ms()
    if as_json:
        click.echo(json.dumps([told(record, now) for record in found]))
        return
    if not found:
        console().print("Nothing is held.")
        return
    names = ("scope", "state", "from", "until", "recurs", "reason", "by")
    table = Table(*names, box=None, pad_edge=False)
    for record in found:
        shown = told(record, now)
        table.add_row(*(plain(shown[name]) for name in names))
    console().print(table)


def told(record: ControlRecord, now: int) -> dict[str, str]:
    """Return a hold in force or to come as a line. Raises ValueError for one that is over."""
    found = rules.window(record, now)
    if found is None:
        raise ValueError("what is over is not shown")
    recurs = f"{record.every} ({record.zone})" if record.every else ""
    if record.every and record.ends_at:
        recurs += f" until {moment(record.ends_at)}"
    return {
        "scope": record.scope,
        "state": "held" if found.begins <= now else "to come",
        "from": moment(found.begins),
        "until": moment(found.ends) if found.ends else "released",
        "recurs": recurs,
        "reason": record.reason,
        "by": record.actor,
    }


async def current(settings: Settings) -> list[ControlRecord]:
    """Return the holds in force or to come."""
    topic = TopicNames.of(settings).control
    last: dict[bytes | None, ControlRecord | None] = {}
    async with audit.reader(settings, topic) as consumer:
        async for record in audit.records(consumer, await audit.partitions(consumer, topic)):
            try:
                last[record.key] = decode(ControlRecord, record.value) if record.value is not None else None
            except Undecodable:
                last[record.key] = None
    now = now_ms()
    found = [(at, r) for r in last.values() if r is not None and (at := rules.window(r, now)) is not None]
    return [record for _, record in sorted(found, key=lambda one: (one[0], one[1].scope, one[1].every))]
