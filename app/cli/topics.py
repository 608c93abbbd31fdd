"""The command that creates and documents the topics."""

import click

from app.cli import topic_page
from app.cli.failures import Faults
from app.cli.root import load, run
from app.topics import TopicError, check_topics, ensure_topics


@click.command()
@click.option("--doc", is_flag=True, help="Print docs/topics.md and do nothing else.")
@click.option("--check", is_flag=True, help="Compare only; create nothing.")
def topics(doc: bool, check: bool) -> None:
    """Create the topics that are missing, with the right settings; refuse those that differ and say what to do."""
    if doc:
        click.echo(topic_page.document(), nl=False)
        return
    settings = load()
    try:
        reports = run(check_topics(settings) if check else ensure_topics(settings))
    except TopicError as exc:
        raise Faults(exc.faults, exit_code=1) from exc
    faults = [fault for report in reports for fault in report.faults]
    if faults:
        raise Faults(faults, exit_code=1)
    created = sum(report.created for report in reports)
    click.echo(
        f"{len(reports)} topics, {settings.partitions} partitions each: {created} created, the rest as they should be"
    )
