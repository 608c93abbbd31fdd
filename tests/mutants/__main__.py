"""``make mutants``: are the tests any good? Faults are planted in a copy of the tree, and a test must notice each."""

import sys
import time
from pathlib import Path

import click

from tests.mutants import forked
from tests.mutants.copying import copied
from tests.mutants.faults import FAULTS, Fault
from tests.mutants.planted import Verdict, healthy, planted


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Those whose name or file has this in it. Repeatable.")
def main(only: tuple[str, ...]) -> None:
    """Plant faults and tell which were noticed; exit 1 if one was not."""
    faults = [fault for fault in FAULTS if not only or any(part in fault.name or part in fault.file for part in only)]
    if not faults:
        raise click.UsageError("no fault has that in its name or its file")
    with copied() as copy:
        forked.warm(copy)
        ok = _planted(copy, faults)
    sys.exit(0 if ok else 1)


def _planted(copy: Path, faults: list[Fault]) -> bool:
    began = time.monotonic()
    if why := healthy(copy, faults):
        click.echo(f"without any fault these fail: {why}")
        return False
    verdicts: list[Verdict] = []
    for n, fault in enumerate(faults, start=1):
        verdict = planted(copy, fault)
        verdicts.append(verdict)
        click.echo(f"{n:3}/{len(faults)}  {verdict.said or 'caught':10} {verdict.seconds:5.1f} s  {fault.name}")
    missed = [verdict for verdict in verdicts if not verdict.caught]
    seconds = time.monotonic() - began
    click.echo(f"\nplanted by hand: {len(faults)}, caught: {len(faults) - len(missed)}, in {seconds:.0f} s")
    for verdict in missed:
        click.echo(f"  {verdict.fault.name} ({verdict.fault.file}): {verdict.said}; {verdict.fault.test}")
        click.echo(f"    {verdict.fault.why}")
    return not missed


if __name__ == "__main__":
    main()
