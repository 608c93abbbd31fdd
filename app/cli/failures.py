"""How commands fail: one line that names the remedy; exit code 2 for usage and configuration, 1 for the rest."""

import click


class Failure(click.ClickException):
    """What was asked for could not be done."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        """Print one line."""
        click.echo(f"error: {self.message}", err=True)


class Misuse(Failure):
    """The command, its input or the configuration is wrong."""

    exit_code = 2


class Faults(Misuse):
    """Several faults at once, one line each."""

    def __init__(self, faults: list[str], exit_code: int = 2) -> None:
        """Keep every fault."""
        super().__init__("\n".join(faults))
        self.faults = faults
        self.exit_code = exit_code

    def show(self, file: object = None) -> None:
        """Print a line for each fault."""
        for fault in self.faults:
            click.echo(f"error: {fault}", err=True)
