"""The command that says what messages cost, out of the audit topic."""

from datetime import UTC, datetime

import click
import orjson
from rich.table import Table

from app import prices
from app.cli.audit import entry_of, partitions, reader, records
from app.cli.dlq.pick import When
from app.cli.root import load, run
from app.cli.show import console, plain
from app.config import Settings
from app.costs import Costs, Line
from app.topics import TopicNames
from tables.prices import NO_PRICES, amount


@click.command()
@click.option("--since", type=When(), required=True, help="From then on: 7d (ago), or an instant.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def costs(since: int, as_json: bool) -> None:
    """Say what messages cost by PRICES_FILE, by day (UTC), channel and tenant.

    Reads the audit topic: each message counts once, with the price that held when its provider took it. What became of
    it later changes nothing, and what the provider bills may differ.
    """
    settings = load()
    path = settings.rules.prices_file
    table = prices.load(path) if path is not None else NO_PRICES
    found = run(costs_of(settings, since))
    if as_json:
        for line in found:
            fields = {"day": _day(line), "channel": line.channel.value, "tenant": line.tenant}
            numbers = {"messages": line.messages, "cost_micros": line.micros, "currency": table.currency}
            click.echo(orjson.dumps(fields | numbers))
        return
    if not found:
        console().print("No message with a price is on record since then.")
        return
    shown = Table(box=None, pad_edge=False)
    for name, justify in (("day", "left"), ("channel", "left"), ("tenant", "left"), ("messages", "right")):
        shown.add_column(name, justify="right" if justify == "right" else "left")
    shown.add_column(f"cost {table.currency}".rstrip(), justify="right")
    for line in found:
        tenant = line.tenant or "–"
        shown.add_row(_day(line), line.channel.value, plain(tenant), str(line.messages), amount(line.micros))
    total = sum(line.micros for line in found)
    shown.add_row("in all", "", "", str(sum(line.messages for line in found)), amount(total))
    console().print(shown)


def _day(line: Line) -> str:
    return datetime.fromtimestamp(line.day / 1000, UTC).date().isoformat()


async def costs_of(settings: Settings, since: int) -> list[Line]:
    """Return what messages cost from an instant (ms UTC) on, the oldest day first."""
    topic, found = TopicNames.of(settings).audit, Costs(since)
    async with reader(settings, topic) as consumer:
        async for record in records(consumer, await partitions(consumer, topic), since):
            if (entry := entry_of(record)) is not None:
                found.add(entry)
    return found.lines()
