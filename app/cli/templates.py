"""The commands about templates: what is there, what is wrong with it, and how it looks on each channel."""

import time
from collections.abc import Iterator
from pathlib import Path

import click
import orjson
from rich.columns import Columns
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.cli import produce
from app.cli.failures import Failure, Faults, Misuse
from app.cli.remind import pairs, user
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import instant_ms
from app.config import Settings
from app.template_folder import Folder
from app.template_preview import Found, Preview, previews, words_of
from app.template_topic import everything, record_of
from app.topics import TopicNames
from channels import formats
from channels.layout import Foot
from channels.template_check import SHOWN, measured
from channels.template_rules import TemplateFault
from channels.templates import CHOICE, Version
from schemas.checks import zone as zone_of
from schemas.codec import encode
from schemas.names import Channel

_DIR = click.option(
    "--dir",
    "path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="This folder instead of TEMPLATES_DIR or, without one, the topic.",
)
_WIDTH = 44


@click.group()
def templates() -> None:
    """Look at the templates of TEMPLATES_DIR, or of their topic, check them, and preview what they say."""


@templates.command("list")
@_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(path: Path | None, as_json: bool) -> None:
    """List the templates that can be used, with what each needs, and what is wrong with the others."""
    versions, faults = _read(path)
    if as_json:
        for version in versions:
            wants = sorted(_wants(version))
            click.echo(orjson.dumps({"template": version.ref, "locales": sorted(version.tongues), "needs": wants}))
    else:
        table = Table(box=None, pad_edge=False)
        for column in ("template", "locales", "needs"):
            table.add_column(column)
        for version in versions:
            table.add_row(version.ref, ", ".join(sorted(version.tongues)), ", ".join(sorted(_wants(version))))
        console().print(table)
    if faults:
        raise Faults(list(_lines(faults)), 1)


@templates.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(names: tuple[str, ...], path: Path | None, as_json: bool) -> None:
    """Check all templates, or those named: what they may not do, what they need, how long they get at the worst.

    Exits with 1 where one has a fault: such a version is not taken by any worker.
    """
    versions, faults = _read(path)
    known = {version.name for version in versions} | {folder.partition("@")[0] for folder in faults}
    if lacking := sorted(set(names) - known):
        raise Misuse(f"no template {', '.join(lacking)}; there are {', '.join(sorted(known)) or 'none'}")
    chosen = [version for version in versions if not names or version.name in names]
    wrong = {folder: faults[folder] for folder in faults if not names or folder.partition("@")[0] in names}
    rows = [(version, *row) for version in chosen for row in _worst(version)]
    if as_json:
        for version, locale, channel, text, note in rows:
            row = {"template": version.ref, "locale": locale, "channel": channel.value, "worst": text, "note": note}
            click.echo(orjson.dumps(row))
    else:
        table = Table(box=None, pad_edge=False)
        for column in ("template", "locale", "channel", "at the worst", ""):
            table.add_column(column)
        for version, locale, channel, text, note in rows:
            table.add_row(version.ref, locale, channel.value.lower(), text, note)
        console().print(table)
    if wrong:
        raise Faults(list(_lines(wrong)), 1)


@templates.command("publish")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@_DIR
def publish(names: tuple[str, ...], path: Path | None) -> None:
    """Put the templates of a folder, or those named, on the topic, for all workers that have no TEMPLATES_DIR.

    All are checked first; where one has a fault nothing is published. What was published before stays known, for what
    was sent with it.
    """
    settings = load()
    folder = path or settings.rules.templates_dir
    if folder is None:
        raise Misuse("name a folder with --dir, or set TEMPLATES_DIR")
    versions, faults = _read(folder)
    chosen = [version for version in versions if not names or {version.name, _named(version)} & set(names)]
    if wrong := {at: faults[at] for at in faults if not names or {at, at.partition("@")[0]} & set(names)}:
        raise Faults(list(_lines(wrong)), 1)
    if lacking := sorted(set(names) - {n for version in chosen for n in (version.name, _named(version))}):
        raise Misuse(f"no template {plain(', '.join(lacking))} in {folder}")
    run(_publish(settings, chosen))


@templates.command("withdraw")
@click.argument("name", metavar="NAME@VERSION")
def withdraw(name: str) -> None:
    """Take a version off the topic, with all words that it ever had. What names it waits until it is there again."""
    run(_withdraw(load(), name))


async def _publish(settings: Settings, versions: list[Version]) -> None:
    topic = TopicNames.of(settings).templates
    for version in versions:
        try:
            record = record_of(version.source, time.time_ns() // 1_000_000, user())
        except ValueError as exc:
            raise Misuse(str(exc)) from exc
        sent = await produce.send(settings, topic, version.ref, encode(record), "")
        click.echo(f"{version.ref}: published ({sent})")


async def _withdraw(settings: Settings, name: str) -> None:
    found, faults = await everything(settings)
    refs = [ref for ref in (*found, *faults) if ref.rpartition(".")[0] == name]
    if not refs:
        raise Misuse(f"no template {plain(name)} on the topic; name it as visit@1")
    for ref in refs:
        sent = await produce.send(settings, TopicNames.of(settings).templates, ref, None, "")
        click.echo(f"{ref}: withdrawn ({sent})")


def _named(version: Version) -> str:
    return f"{version.name}@{version.version}"


@templates.command("preview")
@click.argument("name")
@_DIR
@click.option("--locale", default="", metavar="LOCALE", help="Of the reader, such as de-AT.")
@click.option("--zone", default="UTC", metavar="ZONE", help="Of the reader.")
@click.option("--due", default="", metavar="INSTANT", help="When it is due. Default: now.")
@click.option("--title", default="[title]", help="The reminder's own title.")
@click.option("--text", default="[text]", help="The reminder's own text.")
@click.option("--data", multiple=True, metavar="NAME=VALUE", help="A value instead of its sample; again for more.")
@click.option(
    "--channel", type=click.Choice([channel.value.lower() for channel in SHOWN]), help="Print this one's words alone."
)
@click.option("--html", is_flag=True, help="Print the HTML of the mail alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def preview(
    name: str,
    path: Path | None,
    locale: str,
    zone: str,
    due: str,
    title: str,
    text: str,
    data: tuple[str, ...],
    channel: str | None,
    html: bool,
    as_json: bool,
) -> None:
    """Show what the template NAME (or NAME@VERSION) says on every channel, side by side, and send nothing.

    Values that are not given are samples: of template.toml, or made up.
    """
    version, folder_faults = _find(name, path)
    if version is None:
        if folder_faults:
            raise Faults(list(_lines(folder_faults)), 1)
        raise Misuse(f"no template {plain(name)}; see python -m app templates list")
    if zone_of(zone) is None:
        raise Misuse(f"--zone={plain(zone)}: no such time zone")
    if locale and formats.locale_of(locale) is None:
        raise Misuse(f"--locale={plain(locale)}: no such locale; use de or de-AT")
    try:
        at = instant_ms(due, "use 2026-12-01T09:00:00Z") if due else time.time_ns() // 1_000_000
    except ValueError as exc:
        raise Misuse(f"--due: {exc}") from exc
    rules = load().rules
    foot = Foot(rules.sender_name, rules.answer_hint)
    shown = previews(version, pairs(data), locale=locale, zone=zone, due_ms=at, title=title, text=text, foot=foot)
    shown = [one for one in shown if not channel or one.channel.value.lower() == channel]
    if as_json:
        for one in shown:
            click.echo(orjson.dumps(one.fields()))
    elif html:
        click.echo("".join(one.html for one in shown), nl=False)
    elif channel:
        for one in shown:
            click.echo("\n".join(plain(line) for line in "\n".join(filter(None, (one.title, one.text))).split("\n")))
    else:
        out = console()
        out.print(Text(f"{version.ref}, {version.tongue(locale).locale.english_name}"))
        out.print(Columns([_panel(one) for one in shown], width=_WIDTH))
    if faulty := sorted({one.fault for one in shown if one.fault}):
        raise Failure("; ".join(faulty))


def _panel(one: Preview) -> Panel:
    lines = [plain(line) for line in one.text.split("\n")]
    if one.title:
        lines = [plain(one.title), "─" * min(len(one.title), _WIDTH - 4), *lines]
    words = one.fault or "\n".join(lines)
    return Panel(Text(words), title=one.channel.value.lower(), subtitle=one.size, width=_WIDTH)


def _read(path: Path | None) -> Found:
    """Return what is in the folder that is named, in TEMPLATES_DIR, or on the topic, in this order."""
    try:
        versions, faults = Folder(path).read() if path is not None else run(_configured())
    except OSError as exc:
        raise Failure(f"the templates cannot be read ({exc.strerror or exc})") from exc
    return sorted(versions, key=lambda version: (version.name, version.version)), faults


async def _configured() -> Found:
    return await words_of(load()).read()


def _find(name: str, path: Path | None) -> tuple[Version | None, dict[str, list[TemplateFault]]]:
    from channels.shelf import Shelf  # noqa: PLC0415 - for this one command

    versions, faults = _read(path)
    own = {folder: wrong for folder, wrong in faults.items() if folder == name or folder.partition("@")[0] == name}
    return Shelf(versions).find(name), own


def _lines(faults: dict[str, list[TemplateFault]]) -> Iterator[str]:
    for folder, wrong in sorted(faults.items()):
        yield from (plain(f"{folder}/{fault}" if fault.file != folder else str(fault)) for fault in wrong)


def _wants(version: Version) -> set[str]:
    return {name for tongue in version.tongues.values() for name in tongue.wants}


def _worst(version: Version) -> Iterator[tuple[str, Channel, str, str]]:
    for locale, tongue in sorted(version.tongues.items()):
        for channel in CHOICE:
            if channel is Channel.WEBHOOK:
                continue
            for most in measured(version, tongue, channel):
                note = "" if most.fits else "is cut" if not most.own else "too long"
                yield locale, channel, f"{most.amount} of {most.allowed} {most.unit}", note
