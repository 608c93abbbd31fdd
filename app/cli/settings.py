"""The commands that check, show and document the configuration."""

import os

import click
from rich.table import Table

from agents import meter
from app import config as settings_module
from app import reasons
from app.cli.failures import Faults
from app.cli.root import load
from app.cli.show import console
from app.config import ConfigError, Role, Settings
from app.kafka import ssl_context


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.option(
    "--role",
    type=click.Choice([*(role.value for role in Role), "none"]),
    default=Role.ALL.value,
    show_default=True,
    help="What will run with it; none: only the command line.",
)
def check(role: str) -> None:
    """Name every fault of the environment at once; exit with 2 where there is one."""
    needs = None if role == "none" else Role(role)
    faults: list[str] = []
    doubts: list[str] = []
    try:
        settings = Settings.load(os.environ, needs)
        ssl_context(settings.kafka)
        doubts = settings_module.doubts(settings)
    except ConfigError as exc:
        faults = exc.faults
    for line in settings_module.misspelt(os.environ) + doubts:
        click.echo(f"warning: {line}", err=True)
    if faults:
        raise Faults(faults)
    click.echo("ok: the configuration can be used")


@config.command()
def show() -> None:
    """Print what holds; secrets are hidden."""
    settings = load()
    table = Table(box=None, pad_edge=False)
    table.add_column("variable")
    table.add_column("value")
    for name, value in settings.shown:
        table.add_row(name, value)
    console().print(table)


@config.command()
@click.argument("page", type=click.Choice(["configuration", "metrics", "reasons"]), default="configuration")
def doc(page: str) -> None:
    """Print docs/configuration.md, docs/metrics.md or docs/reasons.md."""
    pages = {"configuration": settings_module.document, "metrics": meter.document, "reasons": reasons.document}
    click.echo(pages[page](), nl=False)
