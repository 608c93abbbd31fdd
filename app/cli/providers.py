"""The command that says how providers stand, and that lets one be tried again."""

import json
import time

import click
from rich.table import Table

from agents.circuits import Board
from app import providers as book
from app.cli import audit, produce
from app.cli.failures import Failure
from app.cli.root import load, run
from app.cli.show import console, plain
from app.config import Settings
from app.reasons import sentence
from app.topics import TopicNames
from schemas import codec
from schemas.codec import Undecodable
from schemas.names import Channel
from schemas.records import ControlRecord
from tables import circuit


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--close", "name", default="", metavar="CHANNEL/PROVIDER", help="Let all workers call it again now.")
def providers(as_json: bool, name: str) -> None:
    """Say which providers are not called for now, since when and why.

    A provider that nothing is said of works, as far as its calls tell. One that was mended need not be closed by hand:
    the next probe finds out.

    \b
    python -m app providers --close email/smtp
    """
    settings = load()
    board = run(read(settings))
    if name:
        _close(settings, board, name.strip().lower())
        return
    now = _now()
    found = [book.shown(c, now) for _, c in sorted(board.known.items())]
    if as_json:
        click.echo(json.dumps(found))
        return
    shut = [one for one in found if one["state"] != circuit.Phase.CLOSED]
    if not shut:
        console().print("No provider is kept from being called.")
        return
    table = Table("channel", "provider", "state", "since", "until", "reason", box=None, pad_edge=False)
    for one in shut:
        channel = next((c for c in Channel if c.value == one["channel"]), Channel.ANY)
        until = str(one.get("until") or one.get("next_probe") or "")
        state = "MISCONFIGURED" if one["misconfigured"] else str(one["state"])
        words = [str(one["channel"]), str(one["provider"]), state, str(one["since"]), until]
        table.add_row(*(plain(word) for word in (*words, sentence(str(one["reason"]), channel))))
    console().print(table)


def _close(settings: Settings, board: Board, name: str) -> None:
    if name not in board.known:
        known = ", ".join(sorted(board.known)) or "none was ever open"
        raise Failure(f"{name}: there is no such circuit; known are: {known}")
    record = circuit.closed(board.of(name), _now(), "command line")
    if record is None:
        raise Failure(f"{name}: is called already")
    sent = run(produce.send(settings, TopicNames.of(settings).control, record.scope, codec.encode(record), ""))
    click.echo(plain(f"{name}: called again ({sent})"))


async def read(settings: Settings) -> Board:
    """Return the circuits as ``reminders.control`` has them."""
    board = Board(_now)
    topic = TopicNames.of(settings).control
    async with audit.reader(settings, topic) as consumer:
        async for record in audit.records(consumer, await audit.partitions(consumer, topic)):
            try:
                said = codec.decode(ControlRecord, record.value) if record.value is not None else None
            except Undecodable:
                continue
            if said is not None and said.kind == circuit.CIRCUIT:
                board.take(said.scope, said)
    return board


def _now() -> int:
    return time.time_ns() // 1_000_000
