"""The command that describes the HTTP interface."""

import click

from app.web import openapi as description


@click.command()
def openapi() -> None:
    """Print docs/openapi.json: the HTTP interface as OpenAPI 3.1."""
    click.echo(description.text(), nl=False)
