"""The commands that send and cancel reminders."""

import asyncio
import getpass
import sys
import time
import uuid
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from app import bulk, sparse
from app.cli import matching, produce
from app.cli.audit import BAD_ENDS, ENDS, Audit
from app.cli.failures import Misuse
from app.cli.root import load, run
from app.cli.show import console, line, plain
from app.cli.times import duration_ms, instant_ms, moment
from app.config import Settings
from app.topics import TopicNames, intake_of
from schemas.checks import Fault, check_prefix, instant_of, wall_clock
from schemas.checks import zone as zone_of
from schemas.codec import encode
from schemas.names import Action, Channel
from schemas.records import Policy, ReminderEvent, Step

Existing = click.Path(exists=True, dir_okay=False, path_type=Path)
Named = click.Path(dir_okay=False, path_type=Path)


def now_ms() -> int:
    """Return the wall clock in ms."""
    return time.time_ns() // 1_000_000


def told(fault: Fault) -> str:
    """Return a fault as one line."""
    value = f" ({fault.value})" if fault.value else ""
    return plain(f"{fault.field or 'the event'}: {fault.reason.value}{value}; {fault.remedy}")


@click.command()
@click.argument("id", required=False)
@click.argument("text", required=False)
@click.option("--to", "recipient", metavar="RECIPIENT", help="Recipient, as set by `recipient set`.")
@click.option("--email", metavar="ADDRESS", help="Send to this address, whoever the recipient is.")
@click.option("--in", "after", metavar="DURATION", help="From now: 5s, 1h30m, 2d.")
@click.option("--at", metavar="INSTANT", help="ISO 8601 with an offset: 2026-12-01T09:00:00+01:00.")
@click.option("--local", metavar="TIME", help="On the wall clock: 2026-12-01T09:00, or a date alone.")
@click.option("--zone", metavar="ZONE", help="IANA zone of --local; without it the recipient's.")
@click.option("--rrule", default="", metavar="RULE", help="Again by this rule of RFC 5545, counted from --local.")
@click.option("--cron", default="", metavar="EXPR", help="Five fields on the clock of the zone, instead of --local.")
@click.option(
    "--exclude", multiple=True, metavar="TIME", help="Leave this start out, or all of a date; again for more."
)
@click.option("--rdate", multiple=True, metavar="TIME", help="A further start, as --local; again for more.")
@click.option("--before", multiple=True, metavar="DURATION", help="Remind before: P1D, PT2H, PT0S; again for more.")
@click.option("--calendar", default="", metavar="NAME", help="Holiday calendar of CALENDARS_FILE for days off.")
@click.option("--nag-every", metavar="DURATION", help="Again so long after each round, until somebody answers.")
@click.option(
    "--nag-max", type=click.IntRange(min=0), default=0, help="At most so many times; 0: see docs/recipients.md."
)
@click.option("--escalate-to", multiple=True, metavar="RECIPIENT", help="Then ask this one; again for more, in turn.")
@click.option("--quorum", type=click.IntRange(min=1), default=1, help="So many people must answer.")
@click.option("--title", default="", help="Subject.")
@click.option(
    "--template", default="", metavar="NAME", help="Words of this template, or NAME@VERSION, instead of TEXT."
)
@click.option("--data", multiple=True, metavar="NAME=VALUE", help="A value for the template; again for more.")
@click.option(
    "--version", "version_", type=click.IntRange(min=0), default=0, help="Higher wins; 0: the later one wins."
)
@click.option(
    "--json", "json_", type=click.File("rb"), metavar="FILE", help="Sparse JSON of the event; - reads standard input."
)
@click.option("--watch", is_flag=True, help="Show what happens to it, until its end.")
@click.option(
    "--file", type=Existing, metavar="FILE", help="Many: .jsonl, a JSON object a line as for --json, or .csv."
)
@click.option("--dry-run", is_flag=True, help="With --file: check every line and send nothing.")
@click.option("--id-prefix", metavar="TEXT", help="With --file: what ids begin with where a line gives none.")
@click.option("--id-column", metavar="NAME", help="With --file: the column that makes those ids; else all of the line.")
@click.option("--errors", type=Named, metavar="FILE", help="With --file: where lines go that are refused.")
@click.option("--state", type=Named, metavar="FILE", help="With --file: where it is kept how far it has been sent.")
def remind(
    id: str | None,  # noqa: A002 - the argument's name in the help
    text: str | None,
    recipient: str | None,
    email: str | None,
    after: str | None,
    at: str | None,
    local: str | None,
    zone: str | None,
    rrule: str,
    cron: str,
    exclude: tuple[str, ...],
    rdate: tuple[str, ...],
    before: tuple[str, ...],
    calendar: str,
    nag_every: str | None,
    nag_max: int,
    escalate_to: tuple[str, ...],
    quorum: int,
    title: str,
    template: str,
    data: tuple[str, ...],
    version_: int,
    json_: click.utils.LazyFile | None,
    watch: bool,
    file: Path | None,
    **with_file: Any,
) -> None:
    """Send the reminder ID with TEXT, one given as JSON, or a file of them.

    A file may be sent again, after a crash or for safety: ids and versions are the same, so nothing is doubled. Lines
    without a version get --version, else 1: give a corrected file a higher one.

    \b
    python -m app remind --file visits.csv --id-prefix clinic/ --id-column visit --dry-run
    python -m app remind clinic/visit-42 --to anna --local 2026-12-01T09:00 --zone Europe/Berlin "Dentist at ten"
    python -m app remind tea --email you@example.org --in 5m --watch "The tea is ready"
    python -m app remind duty --to anna --in 1m --nag-every 10m --nag-max 2 --escalate-to ben "The pump has stopped"
    python -m app remind pills --to anna --local 2026-12-01T08:00 --rrule "FREQ=DAILY;COUNT=30" "Your pills"
    """
    now = now_ms()
    times = (rrule, cron, exclude, rdate, before, calendar, template, data, nag_every, nag_max, escalate_to, quorum > 1)
    if file is not None:
        if any((id, text, recipient, email, after, at, local, zone, *times, title, json_, watch)):
            raise Misuse("--file: says all of the events; only --version and the options with --file go with it")
        sys.exit(_file(load(), file, version_, **with_file))
    if given := next((name for name, value in with_file.items() if value), ""):
        raise Misuse(f"--{given.replace('_', '-')}: goes with --file; name the file")
    if json_ is not None:
        if any((text, recipient, email, after, at, local, zone, *times, title, version_)):
            raise Misuse("--json: says all of the event; leave the other options out, or put them into the JSON")
        event = _from_json(json_.read(), id)
    else:
        if not id or (text is None and not template):
            raise Misuse(
                "ID and TEXT: give both, such as: remind tea --email you@example.org --in 5m 'The tea is ready'"
            )
        event = ReminderEvent(
            reminder_id=id,
            recipient_id=recipient or "",
            text=text or "",
            title=title,
            template=template,
            data=pairs(data),
            at=_instant(after, at, now),
            local=local or "",
            zone=zone or "",
            rrule=rrule,
            cron=cron,
            exclude=exclude,
            rdates=rdate,
            before=before,
            calendar=calendar,
            steps=(Step(Channel.EMAIL, address=email),) if email else (),
            policy=_until_answered(nag_every, nag_max, escalate_to, quorum),
            version=version_,
        )
        if event.at is None and not (local or cron):
            raise Misuse("--in, --at, --local or --cron: say when")
    submit(load(), stamped(event), now, watch)


def pairs(data: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE arguments as a map."""
    made = {}
    for pair in data:
        name, there, value = pair.partition("=")
        if not there or not name:
            raise Misuse(f"--data={plain(pair)}: use NAME=VALUE")
        made[name] = value
    return made


def _until_answered(nag_every: str | None, nag_max: int, escalate_to: tuple[str, ...], quorum: int) -> Policy | None:
    """Return the policy of one who wants an answer, None where none is wanted."""
    try:
        every_s = duration_ms(nag_every) // 1000 if nag_every is not None else 0
    except ValueError as exc:
        raise Misuse(f"--nag-every: {exc}") from exc
    if nag_every is not None and every_s < 1:
        raise Misuse("--nag-every: give a second or more")
    if not (every_s or nag_max or escalate_to or quorum > 1):
        return None
    return Policy(nag_every_s=every_s, nag_max=nag_max, escalate_to=escalate_to, quorum=quorum)


def _file(
    settings: Settings,
    file: Path,
    version: int,
    *,
    dry_run: bool,
    id_prefix: str | None,
    id_column: str | None,
    errors: Path | None,
    state: Path | None,
) -> int:
    from app.cli.bulk_import import files_of, send_file  # noqa: PLC0415 - brings what one reminder does without

    prefix = id_prefix if id_prefix is not None else intake_of(settings)[1] or bulk.PREFIX
    wish = bulk.Wish(prefix, id_column or "", version or bulk.VERSION, user())
    return send_file(settings, files_of(file, state, errors), wish, dry_run)


def _instant(after: str | None, at: str | None, now: int) -> int | None:
    try:
        if after is not None:
            if at is not None:
                raise Misuse("--in and --at: give one of them")
            return now + duration_ms(after)
        return instant_ms(at) if at is not None else None
    except ValueError as exc:
        raise Misuse(f"{'--in' if after is not None else '--at'}: {exc}") from exc


def _from_json(raw: bytes, given_id: str | None) -> ReminderEvent:
    try:
        event = sparse.read(ReminderEvent, raw)
    except sparse.NotARecord as exc:
        raise Misuse(f"--json: {plain(str(exc))}") from exc
    if given_id and given_id != event.reminder_id:
        raise Misuse(
            f"ID: is {plain(given_id)}, but reminder_id in the JSON is {plain(event.reminder_id)}; give one of them"
        )
    return event


def stamped(event: ReminderEvent) -> ReminderEvent:
    """Return an event with ids, source and actor where it has none."""
    event_id = event.event_id or uuid.uuid4().hex
    return replace(
        event,
        event_id=event_id,
        correlation_id=event.correlation_id or event_id,
        source=event.source or "cli",
        actor=event.actor or user(),
    )


def user() -> str:
    """Return who runs this, "" where nobody knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def submit(settings: Settings, event: ReminderEvent, now: int, watch: bool) -> None:
    """Check an event, send it and, if asked, show its trail; ends the process with the command's exit code."""
    if fault := refused(settings, event, now):
        raise Misuse(told(fault))
    sys.exit(run(_send(settings, event, now, watch)))


def refused(settings: Settings, event: ReminderEvent, now: int) -> Fault | None:
    """Return why intake would refuse an event on the topic to which the command line sends it, else None."""
    from tables.admission import event_fault  # noqa: PLC0415 - brings what reads rules, which few commands need

    fault = event_fault(event, now, now)
    if fault is not None:
        return fault
    return check_prefix(event.reminder_id, intake_of(settings)[1], TopicNames.of(settings).reminders)


async def _send(settings: Settings, event: ReminderEvent, now: int, watch: bool) -> int:
    topic, _ = intake_of(settings)
    when = when_text(event, now, settings)
    if not watch:
        sent = await produce.send(settings, topic, event.reminder_id, encode(event), event.correlation_id)
        _announce(event, sent, when)
        return 0
    async with Audit.open(settings, event.reminder_id) as audit:
        await audit.at_end()
        sent = await produce.send(settings, topic, event.reminder_id, encode(event), event.correlation_id)
        _announce(event, sent, when)
        return await show(audit, zone_of(event.zone), event)


def _announce(event: ReminderEvent, sent: produce.Sent, fires: str) -> None:
    out = console()
    when = f", fires {fires}" if fires else ""
    verb = "sent" if event.action is Action.UPSERT else f"{event.action.lower()} sent"
    out.print(f"{plain(event.reminder_id)}: {verb} to {sent}{when}", soft_wrap=True)


def when_text(event: ReminderEvent, now: int, settings: Settings) -> str:
    """Return when an event's reminder fires first, where the event alone says it."""
    zone = zone_of(event.zone)
    if event.action is not Action.UPSERT:
        return ""
    if event.rrule or event.cron or event.rdates or event.exclude or event.before or event.calendar:
        return _series_text(event, now, settings)
    if event.at is not None:
        return moment(event.at, zone)
    wall = wall_clock(event.local)
    if wall is None or len(event.local) == 10:
        return f"{event.local} (all day)" if event.local else ""
    return moment(instant_of(wall, zone), zone) if zone else f"{event.local} in the recipient's zone"


def _series_text(event: ReminderEvent, now: int, settings: Settings) -> str:
    from app.cli.preview import definition  # noqa: PLC0415 - brings what reads rules, as below
    from tables import schedule  # noqa: PLC0415

    if not event.zone and event.at is None:
        return "by its rule, in the recipient's zone"
    first = schedule.next_firing(definition(event), event.zone, now, settings.rules.times())
    if first is None:
        return "no more: all of its times are past"
    note = f" ({first.note})" if first.note else ""
    return plain(f"{moment(first.due_at, zone_of(event.zone))}{note}, then by its rule")


async def show(audit: Audit, zone: tzinfo | None, event: ReminderEvent | None = None) -> int:
    """Print entries as they come, until the end of the reminder. Return 0 where it ended well.

    With an event: a cancel ends with CANCELLED, and an entry of another event that came first ends nothing.
    """
    out = console()
    begun = event is None
    async for entry in audit.follow():
        out.print(line(entry, zone), soft_wrap=True)
        begun = begun or (event is not None and entry.event_id == event.event_id)
        if begun and entry.to_state in ENDS:
            return int(entry.to_state in BAD_ENDS)
        await asyncio.sleep(0)
    return 1


@click.command()
@click.argument("id", required=False)
@click.option(
    "--version", "version_", type=click.IntRange(min=0), default=0, help="Version to cancel; 0: whatever is there."
)
@click.option("--occurrence", default="", metavar="START", help="Original start of the one occurrence to cancel.")
@click.option("--reason", default="", help="Why; kept with the event, not shown to the recipient.")
@click.option("--watch", is_flag=True, help="Wait until it is cancelled, or was too late.")
@matching.options
def cancel(
    id: str | None,  # noqa: A002
    version_: int,
    occurrence: str,
    reason: str,
    watch: bool,
    **given: Any,
) -> None:
    """Cancel the reminder ID, or all that match. It holds once CANCELLED is on the trail; no call begins after that.

    \b
    python -m app cancel clinic/visit-42 --reason "moved away"
    python -m app cancel pills --occurrence 2026-12-24T08:00
    python -m app cancel --tenant clinic --due-before 2h --dry-run
    """
    if not (rid := matching.one(id, given)):
        if version_ or watch or occurrence:
            raise Misuse("--version, --occurrence and --watch: go with an ID; each of those that match has its own")
        sys.exit(matching.act_on_all(Action.CANCEL, reason, now_ms(), given))
    event = stamped(
        ReminderEvent(reminder_id=rid, action=Action.CANCEL, version=version_, occurrence=occurrence, text=reason)
    )
    submit(load(), event, now_ms(), watch)
