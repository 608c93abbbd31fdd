"""The command that moves an installation to topics of another number of partitions."""

import os

import click

from app.cli.failures import Faults, Misuse
from app.cli.root import load, run
from app.config import ConfigError, Settings
from app.move import Move
from app.topics import TopicError


@click.command()
@click.option("--to", "namespace", required=True, help="The REMINDERS_NAMESPACE of the new topics.")
@click.option("--partitions", type=click.IntRange(1, 10_000), required=True, help="How many partitions they have.")
@click.option("--anew", is_flag=True, help="Delete the topics of that namespace first: a copy was broken off.")
@click.option("--late", is_flag=True, help="Carry over what has reached the old topics since, and do nothing else.")
def move(namespace: str, partitions: int, anew: bool, late: bool) -> None:
    """Copy everything to new topics with more (or fewer) partitions, while no worker runs.

    \b
    python -m app move --to v2 --partitions 24

    The environment says what is moved. Rows, audit, holds, suppressions, open dead letters and what no worker has taken
    yet go along; the old topics stay as they are. Start the workers with the new REMINDERS_NAMESPACE and
    REMINDERS_PARTITIONS, and empty directories. See docs/operations.md.
    """
    old = load()
    try:
        wanted = {"REMINDERS_NAMESPACE": namespace, "REMINDERS_PARTITIONS": str(partitions)}
        new = Settings.load({**os.environ, **wanted})
    except ConfigError as exc:
        raise Faults(exc.faults) from exc
    if new.namespace == old.namespace:
        raise Misuse("--to: is the namespace that is to be moved; name another one")
    if anew and late:
        raise Misuse("--anew and --late: --late adds to what was copied, --anew deletes it")
    work = Move(old, new, click.echo)
    try:
        counts = run(work.late() if late else work.whole(anew=anew))
    except TopicError as exc:
        raise Faults(exc.faults, exit_code=1) from exc
    if late:
        click.echo(f"{counts['late']} late records were carried over to {namespace}")
    else:
        click.echo(f"moved to {namespace}, {partitions} partitions; start its workers with empty directories")
