"""The commands that let an address be left alone, and used again. Addresses are written as keyed hashes alone."""

import time

import click
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.publisher import partition_of
from agents.suppressions import OPERATOR, PREFIX, REASONS
from app import reasons
from app.cli import produce
from app.cli.failures import Failure
from app.cli.root import load, run
from app.cli.show import plain
from app.cli.times import moment
from app.config import Settings
from app.kafka import client_options
from app.topics import TopicNames
from schemas import codec
from schemas.names import Channel
from schemas.records import SuppressionRecord

CHANNELS = [c.value.lower() for c in Channel if c not in (Channel.ANY, Channel.UNKNOWN)]
_category = click.option(
    "--category", "scope", default="", metavar="NAME", help="For reminders of this category alone; without it, for all."
)


@click.command()
@click.argument("channel", type=click.Choice(CHANNELS))
@click.argument("address")
@click.option("--reason", type=click.Choice(REASONS), default=OPERATOR, show_default=True, help="Why.")
@_category
def suppress(channel: str, address: str, reason: str, scope: str) -> None:
    """Let nothing be sent to ADDRESS on CHANNEL, whoever shares it. Every worker obeys within a second.

    \b
    Example: python -m app suppress sms +12015550123 --reason stop
    """
    settings, kind = load(), Channel(channel.upper())
    hashing = settings.rules.address_hash
    record = SuppressionRecord(kind, reason, int(time.time() * 1000), hashing.version, 0, scope, "command line")
    key = hashing.key(kind, address, scope)
    run(produce.send(settings, TopicNames.of(settings).suppressions, key, codec.encode(record), ""))
    click.echo(plain(f"suppressed: {channel}, {reason}{f', category {scope}' if scope else ''}"))


@click.command()
@click.argument("channel", type=click.Choice(CHANNELS))
@click.argument("address")
@_category
def unsuppress(channel: str, address: str, scope: str) -> None:
    """Let ADDRESS on CHANNEL be used again, under whichever secret it was suppressed."""
    settings, kind = load(), Channel(channel.upper())
    for key in settings.rules.address_hash.keys(kind, address, scope):
        run(produce.send(settings, TopicNames.of(settings).suppressions, key, None, ""))
    click.echo(plain(f"used again: {channel}{f', category {scope}' if scope else ''}"))


@click.command()
@click.argument("channel", type=click.Choice(CHANNELS))
@click.argument("address")
@_category
def suppressed(channel: str, address: str, scope: str) -> None:
    """Say whether ADDRESS on CHANNEL is suppressed, since when and why; exit 1 if it is not."""
    settings, kind = load(), Channel(channel.upper())
    wanted = {
        key: of for of in dict.fromkeys(("", scope)) for key in settings.rules.address_hash.keys(kind, address, of)
    }
    found = run(read_records(settings, set(wanted)))
    for key, record in found.items():
        until = f" until {moment(record.expires_at)}" if record.expires_at else ""
        where = f" for category {wanted[key]}" if wanted[key] else ""
        click.echo(plain(f"{channel}{where}: {record.reason} since {moment(record.at)}{until}"))
        click.echo(plain(f"  {reasons.sentence(PREFIX + record.reason)}"))
    if not found:
        raise Failure(f"{channel}: nothing keeps this address from being used")


async def read_records(settings: Settings, keys: set[str]) -> dict[str, SuppressionRecord]:
    """Return the records of some keys, read from the partitions that they lie in."""
    topic = TopicNames.of(settings).suppressions
    count = await produce.partitions_of(settings, topic)
    tps = [TopicPartition(topic, p) for p in sorted({partition_of(key.encode(), count) for key in keys})]
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, enable_auto_commit=False)
    await consumer.start()
    found: dict[str, SuppressionRecord] = {}
    try:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    key = (record.key or b"").decode("ascii", "replace")
                    if key not in keys:
                        continue
                    if record.value is None:
                        found.pop(key, None)
                    else:
                        found[key] = codec.decode(SuppressionRecord, record.value)
    finally:
        await consumer.stop()
    return found
