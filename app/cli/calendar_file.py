"""The commands that take reminders from a calendar and give them to one."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson

from app import bulk, ics
from app.cli import holdings
from app.cli.bulk_import import files_of, send_file
from app.cli.failures import Failure, Misuse
from app.cli.remind import user
from app.cli.root import load, run
from app.cli.show import plain
from app.config import Settings
from schemas.codec import encode
from schemas.quick import replace
from schemas.records import Definition, Sealed
from schemas.sealing import Sealing

PREFIX = "calendar/"


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "recipient", metavar="RECIPIENT", required=True, help="Whose calendar it is.")
@click.option("--id-prefix", default=PREFIX, show_default=True, metavar="TEXT", help="What ids begin with.")
@click.option("--dry-run", is_flag=True, help="Check and report, and send nothing.")
def import_(file: Path, recipient: str, id_prefix: str, dry_run: bool) -> None:
    """Make reminders of the events in the calendar FILE (.ics): one for each, fired at its alarms, else at its start.

    What has no place in a reminder is reported with its line. FILE.jsonl keeps what is sent, as `remind --file` has it.
    """
    settings = load()
    try:
        found = ics.read(file.read_text("utf-8"), recipient, id_prefix)
    except UnicodeDecodeError as exc:
        raise Misuse(f"{file}: is no UTF-8; save it as UTF-8") from exc
    except ics.IcsError as exc:
        raise Misuse(plain(f"{file}: {exc}")) from exc
    for report in found.reports:
        click.echo(f"line {report.line}: {plain(report.what)}", err=True)
    lines = file.with_name(file.name + ".jsonl")
    try:
        lines.write_bytes(b"".join(orjson.dumps(ics.as_sparse(event)) + b"\n" for event in found.events))
    except OSError as exc:
        raise Failure(f"{lines}: cannot be written ({exc.strerror})") from exc
    sys.exit(send_file(settings, files_of(lines, None, None), bulk.Wish(id_prefix, "", bulk.VERSION, user()), dry_run))


@click.command()
@click.argument("recipient")
@click.option("--ics", "file", type=click.File("wb"), required=True, metavar="FILE", help="Where to; - is the output.")
def export(recipient: str, file: click.utils.LazyFile) -> None:
    """Write the pending reminders of RECIPIENT as a calendar. It holds their texts: keep it as you keep those."""
    settings = load()
    found = run(_rows(settings, recipient))
    reminders = []
    for reminder_id, (d, zone) in sorted(found.items()):
        if why := ics.not_exported(d):
            click.echo(f"{plain(reminder_id)}: {why}", err=True)
        else:
            reminders.append((reminder_id, d, zone))
    file.write(ics.write(reminders, datetime.now(UTC)))
    click.echo(f"{len(reminders)} reminders", err=True)


async def _rows(settings: Settings, recipient: str) -> dict[str, tuple[Definition, str]]:
    """Return a recipient's reminders that are not over, read from the changelog and opened, with the zone in use."""
    held = await holdings.of_recipient(settings, recipient)
    contents = held.contents(Sealing.of(settings.rules.seal_keys))
    found: dict[str, tuple[Definition, str]] = {}
    for rid, row in held.reminders.items():
        d = row.definition
        if row.open is None or d is None or d.recipient_id != recipient:
            continue
        if d.sealed.key_id and rid in contents:
            d = replace(d, sealed=Sealed(0, encode(contents[rid])))
        elif d.sealed.key_id:
            click.echo(f"{plain(rid)}: its text is sealed, and SEAL_KEY is not here or is another", err=True)
        found[rid] = (d, d.zone or row.zone)
    return found
