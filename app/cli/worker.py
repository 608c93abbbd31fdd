"""The command that runs a worker."""

import logging

import click

from app import logs
from app.cli.failures import Faults
from app.cli.root import load, run
from app.config import Role, Settings
from app.topics import TopicError, ensure_topics
from channels import send_only

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.ALL.value,
    show_default=True,
    help="core: intake and timer; delivery: gate and channels; all: both in one process.",
)
@click.option("--no-topics", is_flag=True, help="Do not create missing topics; they must exist.")
def worker(role: str, no_topics: bool) -> None:
    """Run a worker until it is told to stop (SIGTERM, Ctrl-C).

    It creates the topics that are missing and does not start where one differs. An infrastructure failure ends the
    process: run it under a supervisor that starts it again.
    """
    chosen = Role(role)
    settings = load(needs=chosen)
    logs.setup(settings)
    _say_who_alone_is_sent_to(settings)
    if not no_topics:
        try:
            run(ensure_topics(settings))
        except TopicError as exc:
            raise Faults(exc.faults) from exc
    # Imported last: it brings Faust in, which the other commands do without.
    from app.build import run_worker  # noqa: PLC0415

    run_worker(settings, chosen)


def _say_who_alone_is_sent_to(settings: Settings) -> None:
    """Say at the start what nobody should have to find out later: hardly anybody gets anything from this system."""
    entries = send_only.read(settings.rules.send_only_to)[0].entries
    if not entries:
        return
    text = f"SEND_ONLY_TO is set: only who is on its list ({entries} entries) is sent to, all others end SKIPPED"
    if settings.log.format == "text":
        click.secho(f" {text} ", fg="white", bg="red", bold=True, err=True)
    else:
        log.warning(text)
