"""The command ``python -m app``. A command's module is imported when the command runs: most need no Faust."""

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from app.cli.failures import Failure, Faults
from app.config import ConfigError, Role, Settings

T = TypeVar("T")

#: Where each command is, in the order of the help.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "worker": ("app.cli.worker", "worker", "Run a worker until it is told to stop."),
    "topics": ("app.cli.topics", "topics", "Create the topics that are missing, refuse those that differ."),
    "move": ("app.cli.move", "move", "Move to topics with another number of partitions."),
    "acls": ("app.cli.acls", "acls", "Print the grants that each role needs on the brokers."),
    "remind": ("app.cli.remind", "remind", "Send a reminder."),
    "cancel": ("app.cli.remind", "cancel", "Cancel a reminder."),
    "snooze": ("app.cli.act", "snooze", "Remind of a reminder again later."),
    "acknowledge": ("app.cli.act", "acknowledge", "Note that the recipient has answered."),
    "pause": ("app.cli.act", "pause", "Send nothing of a reminder until it is resumed."),
    "resume": ("app.cli.act", "resume", "Let a paused reminder go on."),
    "fire": ("app.cli.act", "fire", "Send a reminder now."),
    "recipient": ("app.cli.recipient", "recipient", "Set, show, export or erase a recipient."),
    "erase": ("app.cli.forget", "erase", "Forget a recipient, a reminder or an address, and prove it."),
    "validate": ("app.cli.validate", "validate", "Say what intake would say to an event, and send nothing."),
    "import": ("app.cli.calendar_file", "import_", "Make reminders of a calendar's events."),
    "export": ("app.cli.calendar_file", "export", "Give a recipient's reminders to a calendar."),
    "preview": ("app.cli.preview", "preview", "Show when a rule or a reminder fires next, and send nothing."),
    "templates": ("app.cli.templates", "templates", "List, check and preview the templates of messages."),
    "trail": ("app.cli.trail", "trail", "Show what happened to a reminder."),
    "list": ("app.cli.listing", "list_", "List reminders by state, channel and due time."),
    "watch": ("app.cli.trail", "watch", "Show what happens to a reminder, as it happens."),
    "hold": ("app.cli.hold", "hold", "Hold a channel, a provider, a category, a tenant or a source back."),
    "release": ("app.cli.hold", "release", "Let a held scope go again."),
    "holds": ("app.cli.hold", "holds", "Say what is held."),
    "probe": ("app.cli.probe", "probe", "Look into a channel or a provider: six verdicts, nothing sent."),
    "providers": ("app.cli.providers", "providers", "Say which providers are not called for now, and why."),
    "suppress": ("app.cli.suppress", "suppress", "Let nothing be sent to an address."),
    "unsuppress": ("app.cli.suppress", "unsuppress", "Let an address be used again."),
    "suppressed": ("app.cli.suppress", "suppressed", "Say whether an address is suppressed, and why."),
    "audit": ("app.cli.ledger", "audit", "Compare events, rows, outcomes and audit, and name what does not add up."),
    "maybe": ("app.cli.maybe", "maybe", "List what may have been sent or not, and say what became of it."),
    "costs": ("app.cli.costs", "costs", "Say what messages cost, by channel, tenant and day."),
    "webhook": ("app.cli.webhook", "webhook", "Call a receiver of webhooks for a test, or show its secrets."),
    "dlq": ("app.cli.dlq", "dlq", "Look at dead letters, put them back, correct or close them."),
    "doctor": ("app.cli.doctor", "doctor", "Check everything that a worker needs."),
    "secrets": ("app.cli.secrets", "secrets", "List secrets and certificates, never their values."),
    "config": ("app.cli.settings", "config", "Check or show the configuration."),
    "openapi": ("app.cli.openapi", "openapi", "Print the description of the HTTP interface."),
}


class Commands(click.Group):
    """A group that knows its commands by name and imports them when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, doc) for name, (_, _, doc) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A multi-channel reminder service on Kafka. Configured by the environment: see docs/configuration.md."""


def load(needs: Role | None = None) -> Settings:
    """Return the settings of this environment, or fail with every fault."""
    try:
        return Settings.load(os.environ, needs)
    except ConfigError as exc:
        raise Faults(exc.faults) from exc


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. A fault of the settings or of the brokers becomes the command's one line."""
    try:
        return asyncio.run(work)
    except ConfigError as exc:
        raise Faults(exc.faults) from exc
    except (ConnectionError, OSError) as exc:
        raise Failure(str(exc) or type(exc).__name__) from exc


def entry() -> None:
    """Run the command line. Output to a pipe that was closed ends in silence."""
    # Without a handler Python prints aiokafka's complaints beside the one line that says what to do.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        main(prog_name="python -m app")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
