"""The commands that set, show, export and erase recipients."""

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import click
import orjson

from app import sparse
from app.cli import forget, holdings, produce
from app.cli.failures import Failure, Misuse
from app.cli.remind import told
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import moment
from app.topics import TopicNames
from schemas.checks import check_recipient, masked
from schemas.codec import encode
from schemas.names import Channel, RecipientAction
from schemas.records import Contact, RecipientEvent, RecipientProfile
from tables.transition import state


@click.group()
def recipient() -> None:
    """Set, show, export or erase a recipient."""


@recipient.command("set")
@click.argument("id", required=False)
@click.option("--email", "emails", multiple=True, metavar="ADDRESS", help="Contact; several are tried in this order.")
@click.option("--zone", default="", metavar="ZONE", help="IANA zone, such as Europe/Berlin.")
@click.option("--locale", default="", metavar="TAG", help="BCP 47, such as de-DE.")
@click.option("--region", default="", metavar="CODE", help="ISO 3166-2, such as DE-BE.")
@click.option("--no-contacts", is_flag=True, help="Remove all contacts.")
@click.option(
    "--version", "version_", type=click.IntRange(min=0), default=0, help="Higher wins; 0: the later one wins."
)
@click.option(
    "--json", "file", type=click.File("rb"), metavar="FILE", help="Sparse JSON of the event; - reads standard input."
)
def set_(
    id: str | None,  # noqa: A002 - the argument's name in the help
    emails: tuple[str, ...],
    zone: str,
    locale: str,
    region: str,
    no_contacts: bool,
    version_: int,
    file: click.utils.LazyFile | None,
) -> None:
    """Set what is given of the recipient ID; the rest stays. Contacts are replaced together.

    \b
    python -m app recipient set anna --email anna@example.org --zone Europe/Berlin
    """
    if file is not None:
        try:
            event = sparse.read(RecipientEvent, file.read())
        except sparse.NotARecord as exc:
            raise Misuse(f"--json: {plain(str(exc))}") from exc
    else:
        if not id:
            raise Misuse("ID: give the recipient's id, such as: recipient set anna --email anna@example.org")
        if emails and no_contacts:
            raise Misuse("--email and --no-contacts: give one of them")
        if not (emails or no_contacts or zone or locale or region):
            raise Misuse("nothing to set: give --email, --zone, --locale, --region or --no-contacts")
        contacts = tuple(Contact(Channel.EMAIL, address) for address in emails)
        event = RecipientEvent(
            recipient_id=id,
            zone=zone,
            locale=locale,
            region=region,
            contacts=contacts if contacts or no_contacts else None,
            version=version_,
        )
    _send(event)


@recipient.command()
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(id: str, yes: bool) -> None:  # noqa: A002
    """Erase the recipient ID: contacts, preferences and consent are forgotten, and nobody can bring them back."""
    if not yes:
        click.confirm(f"Erase recipient {plain(id)} for good?", abort=True)
    _send(RecipientEvent(recipient_id=id, action=RecipientAction.ERASE))


@recipient.command()
@click.argument("id")
def show(id: str) -> None:  # noqa: A002
    """Show what is known of the recipient ID, addresses masked, and how their reminders stand."""
    held = run(holdings.of_recipient(load(), id))
    if held.profile is None and not held.reminders:
        raise Failure(f"{plain(id)}: nothing is held")
    out = console()
    if held.profile is not None:
        for text in shown(held.profile):
            out.print(plain(text), soft_wrap=True)
    counts = Counter(state(row).value for row in held.reminders.values())
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
    out.print(f"reminders: {told}", soft_wrap=True)


def shown(profile: RecipientProfile) -> Iterator[str]:
    """Yield a profile as lines, addresses masked."""
    if profile.erased:
        yield f"erased at {moment(profile.updated_at)}"
        return
    for name in ("zone", "locale", "region"):
        if value := getattr(profile, name):
            yield f"{name}: {value}"
    for contact in profile.contacts:
        known = "" if contact.verified else ", not verified"
        yield f"contact: {contact.channel.lower()} {masked(contact.address, 'address')}{known}"
    for quiet in profile.quiet:
        yield f"quiet: {quiet}"
    for name in ("max_per_hour", "max_per_day"):
        if value := getattr(profile, name):
            yield f"{name}: {value}"
    for consent in profile.consents:
        what = "grants" if consent.granted else "refuses"
        where = consent.channel.lower() if consent.channel is not None else "every channel"
        yield f"consent: {what} {consent.category} on {where} since {moment(consent.at)}"


@recipient.command("export")
@click.argument("id")
@click.option("--output", type=click.File("wb"), default="-", metavar="FILE", help="Where to; - is the output.")
def export_(id: str, output: click.utils.LazyFile) -> None:  # noqa: A002
    """Write all that is held of the recipient ID as JSON, for them to keep. Keep it as you keep their letters.

    Reads all topics: run it where that does no harm.
    """
    output.write(orjson.dumps(run(forget.exported(load(), id)), option=orjson.OPT_INDENT_2) + b"\n")


def _send(event: RecipientEvent) -> None:
    event_id = event.event_id or uuid.uuid4().hex
    event = replace(
        event, event_id=event_id, correlation_id=event.correlation_id or event_id, source=event.source or "cli"
    )
    now = time.time_ns() // 1_000_000
    if fault := check_recipient(event, now, now):
        raise Misuse(told(fault))
    settings = load()
    topic = TopicNames.of(settings).recipients
    sent = run(produce.send(settings, topic, event.recipient_id, encode(event), event.correlation_id))
    verb = "erasure sent" if event.action is RecipientAction.ERASE else "sent"
    console().print(f"{plain(event.recipient_id)}: {verb} to {sent}", soft_wrap=True)
