"""The command that prints what each role must be allowed on the brokers."""

import click

from app.acls import commands, parts
from app.cli.failures import Misuse
from app.cli.root import load


@click.command()
@click.option("--role", metavar="ROLE", help="Only this one: core, delivery, web, operator, producer or team:NAME.")
@click.option(
    "--principal", metavar="USER", help="For whom, such as User:anna; needs --role. Else User:reminders-ROLE."
)
@click.option("--command-config", metavar="FILE", default="", help="Handed on to kafka-acls: how it logs in.")
def acls(role: str | None, principal: str | None, command_config: str) -> None:
    """Print the kafka-acls commands that grant each role what it needs, and nothing more.

    They change nothing by themselves: look at them, then run them as an administrator of the brokers.

    \b
    python -m app acls --role team:clinic --principal User:clinic
    """
    settings = load()
    known = parts(settings)
    if principal and not role:
        raise Misuse("--principal: needs --role, since each role is another user's")
    if principal and ":" not in principal:
        raise Misuse(f"--principal {principal!r}: begin with its type, such as User:{principal}")
    wanted = [part for part in known if role in (None, part.name)]
    if not wanted:
        raise Misuse(f"--role {role!r}: use one of {', '.join(part.name for part in known)}; teams are those in TEAMS")
    for number, part in enumerate(wanted):
        if number:
            click.echo()
        click.echo(f"# {part.name}: {part.runs}")
        for command in commands(part, settings.kafka.bootstrap, principal or "", command_config):
            click.echo(command)
