"""The command that forgets somebody, and proves it: topics and files are searched for what was held of them."""

import asyncio
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from aiokafka import TopicPartition
from rich.table import Table

from app import export, proof
from app.cli import holdings, produce
from app.cli.audit import entry_of, partitions, reader, records
from app.cli.failures import Failure, Misuse
from app.cli.holdings import Held
from app.cli.remind import now_ms, stamped
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.suppress import read_records
from app.cli.times import moment
from app.config import Settings
from app.proof import Look, Search, Verdict, Wanted
from app.topics import Cleanup, TopicNames, TopicSpec, full_name, intake_of, topics_of
from schemas.codec import encode
from schemas.names import Action, RecipientAction
from schemas.records import AuditEntry, Content, RecipientEvent, ReminderEvent
from schemas.sealing import Sealing

_Folder = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass
class Task:
    """What is to be forgotten: a recipient, reminders, and what was held of them before.

    ``unlinked``: reminders of the recipient of which their partition knows nothing (any more).
    """

    recipient_id: str = ""
    reminders: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    unlinked: list[str] = field(default_factory=list)

    def wanted(self, more: Iterable[str]) -> Wanted:
        """Return what a proof looks for."""
        ids = [self.recipient_id, *self.reminders, *self.also]
        return Wanted.of([*self.addresses, *more], self.texts, ids)


@click.command()
@click.argument("id", required=False)
@click.option("--reminder", default="", metavar="ID", help="Forget this reminder.")
@click.option("--address", default="", metavar="ADDRESS", help="Forget the reminders that carry this address.")
@click.option("--proof", is_flag=True, help="Look for what was held in every topic and file, and say what was found.")
@click.option("--find", multiple=True, metavar="TEXT", help="With --proof: look for this, too; may be repeated.")
@click.option("--files", "folders", multiple=True, type=_Folder, help="With --proof: a folder to search, such as logs.")
@click.option("--within", default=60, show_default=True, metavar="SECONDS", help="How long the workers may take.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(
    id: str | None,  # noqa: A002
    reminder: str,
    address: str,
    proof: bool,
    find: tuple[str, ...],
    folders: tuple[Path, ...],
    within: int,
    yes: bool,
) -> None:
    """Forget the recipient ID with all of their reminders, or what --reminder or --address names.

    What is pending ends CANCELLED with the reason erased. Ends with 1 where something is held that stays.

    \b
    python -m app erase anna --proof --yes
    python -m app erase --address +12015550123
    """
    if sum(map(bool, (id, reminder, address))) != 1:
        raise Misuse("give one of ID, --reminder and --address")
    if (find or folders) and not proof:
        raise Misuse("--find and --files: go with --proof")
    settings = load()
    task = run(_planned(settings, id or "", reminder, address))
    if not yes:
        what = (
            f"recipient {plain(id)} and {len(task.reminders)} reminders" if id else f"{len(task.reminders)} reminders"
        )
        click.confirm(f"Erase {what} for good?", abort=True)
    run(_erased(settings, task, within))
    console().print(f"erased: {_told(task)}", soft_wrap=True)
    if proof:
        sys.exit(run(_proved(settings, task.wanted(find), [settings.data_dir, *folders])))


def _told(task: Task) -> str:
    count = f"{len(task.reminders)} reminder{'' if len(task.reminders) == 1 else 's'}"
    return plain(f"{task.recipient_id}, {count}" if task.recipient_id else count)


async def _planned(settings: Settings, recipient: str, reminder: str, address: str) -> Task:
    sealing = Sealing.of(settings.rules.seal_keys)
    if recipient:
        return _task(await holdings.of_recipient(settings, recipient), sealing)
    if reminder:
        task = _task(await holdings.of_reminder(settings, reminder), sealing)
        task.also, task.recipient_id, task.reminders = [task.recipient_id], "", [reminder]
        return task
    held, people = await holdings.with_address(settings, address)
    for person in people:
        click.echo(plain(f"a contact of {person}: erase {person}, or give them other contacts"), err=True)
    if not held.reminders:
        raise Failure("no reminder carries this address")
    task = _task(held, sealing)
    task.addresses.append(address)
    return task


def _task(held: Held, sealing: Sealing) -> Task:
    task = Task(held.recipient_id, sorted(held.reminders))
    linked = {link.reminder_id for link in held.links.values() if not link.stands_in}
    task.unlinked = [rid for rid in task.reminders if rid not in linked]
    for contact in held.profile.contacts if held.profile is not None else ():
        task.addresses.append(contact.address)
        task.texts.append(contact.label)
    task.texts += [c.evidence for c in held.profile.consents] if held.profile is not None else []
    for content in held.contents(sealing).values():
        task.addresses += content.addresses
        task.texts += _texts(content)
    return task


def _texts(content: Content) -> Iterator[str]:
    yield from (content.title, content.text, *content.data.values())


async def _erased(settings: Settings, task: Task, within_s: float) -> None:
    """Send what erases, and return once the rows say so."""
    names = TopicNames.of(settings)
    if task.recipient_id:
        event_id = uuid.uuid4().hex
        event = RecipientEvent(
            task.recipient_id, RecipientAction.ERASE, event_id=event_id, correlation_id=event_id, source="cli"
        )
        await produce.send(settings, names.recipients, task.recipient_id, encode(event), event_id)
    for rid in task.unlinked if task.recipient_id else task.reminders:
        one = stamped(ReminderEvent(rid, action=Action.ERASE))
        await produce.send(settings, intake_of(settings)[0], rid, encode(one), one.correlation_id)
    end = time.monotonic() + within_s
    while left := await _left(settings, task):
        if time.monotonic() > end:
            raise Failure(
                f"sent, and not taken within {within_s:g} s: {plain(', '.join(left[:5]))}; are the workers up?"
            )
        await asyncio.sleep(1)


async def _left(settings: Settings, task: Task) -> list[str]:
    """Return what still says something personal."""
    if task.recipient_id:
        held = await holdings.of_recipient(settings, task.recipient_id, everywhere=False)
        known = [task.recipient_id] if held.profile is None or not held.profile.erased else []
        rows = held.reminders
        for rid in set(task.reminders) - rows.keys():
            rows |= (await holdings.of_reminder(settings, rid)).reminders
        return known + [rid for rid, row in rows.items() if holdings.says_something(row)]
    found = [await holdings.of_reminder(settings, rid) for rid in task.reminders]
    return [rid for held in found for rid, row in held.reminders.items() if holdings.says_something(row)]


# -- proof -------------------------------------------------------------------------------------------------------------


async def _proved(settings: Settings, wanted: Wanted, folders: list[Path]) -> int:
    search, held = Search(wanted), False
    table = Table("where", "looked at", "found", "verdict", box=None, pad_edge=False)
    for spec, look in await looks(settings, search):
        said = proof.verdict(look, compacted=spec.cleanup is Cleanup.COMPACT)
        held |= said is Verdict.HELD
        offsets = f"{look.first}-{look.end - 1}, {look.records} records" if look.records else "empty"
        table.add_row(f"{look.topic}/{look.partition}", offsets, _places(look), said.value + _until(spec, look))
    for path in proof.files(folders):
        try:
            count, size = search.file(path), path.stat().st_size
        except OSError as exc:
            count, size = 0, 0
            table.add_row(str(path), "–", "–", f"cannot be read ({exc.strerror})")
            continue
        table.add_row(
            str(path), f"{size} bytes", str(count) if count else "–", "found in clear" if count else "nothing"
        )
    out = console()
    out.print(table)
    if wanted.short:
        out.print(f"{wanted.short} values were too short to be looked for", soft_wrap=True)
    if not (wanted.addresses or wanted.texts):
        out.print("nothing was held that could be looked for; name it with --find", soft_wrap=True)
    return int(held)


def _places(look: Look) -> str:
    if not look.at:
        return f"{look.others} of others" if look.others else "–"
    shown = ", ".join(str(offset) for offset, _ in look.at[:5])
    return f"{len(look.at)} (offsets {shown}{', …' if len(look.at) > 5 else ''})"


def _until(spec: TopicSpec, look: Look) -> str:
    if not look.at or spec.cleanup is Cleanup.COMPACT:
        return ""
    return f": the last by {moment(max(at for _, at in look.at) + spec.retention_ms)}"


async def looks(settings: Settings, search: Search) -> list[tuple[TopicSpec, Look]]:
    """Return a look at every partition of every topic of the installation, from its beginning to its end."""
    found = []
    for spec in topics_of(settings):
        topic = full_name(settings.namespace, spec.name)
        async with reader(settings, topic) as consumer:
            tps = await partitions(consumer, topic)
            of = {tp: Look(topic, tp.partition) for tp in tps}
            async for record in records(consumer, tps):
                rest = b"\0".join(value for _, value in record.headers if value)
                look = of[TopicPartition(topic, record.partition)]
                search.record(look, record.offset, record.timestamp, record.key, record.value, rest)
            found += [(spec, look) for look in of.values()]
    return found


# -- export ------------------------------------------------------------------------------------------------------------


async def exported(settings: Settings, recipient_id: str) -> dict[str, object]:
    """Return all that is held of a recipient. Raises Failure where nothing is."""
    held = await holdings.of_recipient(settings, recipient_id)
    if held.profile is None and not held.reminders:
        raise Failure(f"{plain(recipient_id)}: nothing is held")
    contents = held.contents(Sealing.of(settings.rules.seal_keys))
    hashing = settings.rules.address_hash
    addresses = [(c.channel, c.address) for c in held.profile.contacts] if held.profile is not None else []
    for rid, content in contents.items():
        d = held.reminders[rid].definition
        steps = d.steps if d is not None else ()
        addresses += [(s.channel, a) for s, a in zip(steps, content.addresses, strict=False) if a]
    keys = {key for channel, address in addresses for key in hashing.keys(channel, address)}
    suppressed = (await read_records(settings, keys)).values() if keys else ()
    search = Search(Wanted.of((), (), [recipient_id, *held.reminders]), by_id=True)
    copies = [
        {
            "topic": look.topic,
            "partition": look.partition,
            "records": len(look.at),
            "the_last_goes": moment(max(at for _, at in look.at) + spec.retention_ms),
        }
        for spec, look in await looks(settings, search)
        if look.at and spec.cleanup is Cleanup.TIME
    ]
    return export.document(
        recipient_id,
        now_ms(),
        profile=held.profile,
        suppressions=suppressed,
        reminders=held.reminders,
        contents=contents,
        deliveries=held.deliveries.values(),
        sends=held.sends,
        audit=await _audit(settings, set(held.reminders)),
        copies=copies,
    )


async def _audit(settings: Settings, wanted: set[str]) -> list[AuditEntry]:
    topic = TopicNames.of(settings).audit
    keys = {rid.encode() for rid in wanted}
    async with reader(settings, topic) as consumer:
        tps = await partitions(consumer, topic)
        found = [entry_of(r) async for r in records(consumer, tps) if r.key in keys]
    return [entry for entry in found if entry is not None]
