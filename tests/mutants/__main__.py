"""``make mutants``: are the tests any good? Faults are planted in a copy of the tree, and a test must notice each.

Without an option all faults written by hand, then a sample of those made by a program.
"""

import sys
import time
from collections import Counter
from pathlib import Path

import click

from tests.mutants import covering, forked, generated
from tests.mutants.copying import copied
from tests.mutants.faults import FAULTS, Fault
from tests.mutants.generated import Mutant
from tests.mutants.harmless import HARMLESS
from tests.mutants.planted import Verdict, healthy, planted

#: What is neither pure nor has rules of its own.
_LEFT_OUT = ("tables/__init__.py", "tables/store.py", "tables/recovery.py")
_BESIDE = ("channels/retry.py", "schemas/windows.py")
#: Of the generated ones so many must be noticed, in percent.
GOAL = 90


@click.command(help=__doc__)
@click.option("--planted", "kind", flag_value="planted", help="Those written by hand alone.")
@click.option("--generated", "kind", flag_value="generated", help="Those made by a program alone.")
@click.option("--only", multiple=True, help="Those whose name or file has this in it. Repeatable.")
@click.option("--sample", default=8, show_default=True, help="How many are made of each file.")
@click.option("--seed", default=1, show_default=True, help="Which ones: the same for a seed.")
def main(*, kind: str | None, only: tuple[str, ...], sample: int, seed: int) -> None:
    """Plant faults and tell which were noticed; exit 1 if one by hand, or too many others, were not."""
    faults = [fault for fault in FAULTS if not only or any(part in fault.name or part in fault.file for part in only)]
    with copied() as copy:
        files = [
            *(f"tables/{path.name}" for path in sorted((copy / "tables").glob("*.py"))),
            *_BESIDE,
        ]
        files = [f for f in files if f not in _LEFT_OUT and (not only or any(part in f for part in only))]
        if not faults and not files:
            raise click.UsageError("nothing has that in its name")
        forked.warm(copy)
        by_hand = kind == "generated" or not faults or _planted(copy, faults)
        made = kind == "planted" or not files or _generated(copy, list(generated.sample(copy, files, sample, seed)))
    sys.exit(0 if by_hand and made else 1)


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


def _generated(copy: Path, mutants: list[Mutant]) -> bool:
    began = time.monotonic()
    cover = covering.covering(copy)
    click.echo(f"{len(cover.took)} tests were looked at in {time.monotonic() - began:.0f} s")
    noticed: Counter[str] = Counter()
    survived: list[Mutant] = []
    for n, mutant in enumerate(mutants, start=1):
        at = time.monotonic()
        by = _noticed(copy, mutant, cover)
        if by:
            noticed[mutant.file] += 1
        else:
            survived.append(mutant)
        said = "noticed " if by else "harmless" if mutant.name in HARMLESS else "SURVIVED"
        where = f"{mutant.file}:{mutant.line}: {_short(mutant.change)}"
        click.echo(f"{n:4}/{len(mutants)}  {said} {time.monotonic() - at:5.1f} s  {where}  {by}")
    total = Counter(mutant.file for mutant in mutants)
    click.echo("\nfile                      mutants  noticed  harmless  survived")
    for file, count in total.items():
        left = [mutant for mutant in survived if mutant.file == file]
        harmless = sum(mutant.name in HARMLESS for mutant in left)
        click.echo(f"{file:26}{count:7}{noticed[file]:9}{harmless:10}{len(left) - harmless:10}")
    share = 100 * noticed.total() / max(1, len(mutants))
    click.echo(
        f"made by a program: {len(mutants)}, noticed: {noticed.total()} ({share:.1f} %), "
        f"in {time.monotonic() - began:.0f} s"
    )
    for mutant in survived:
        why = HARMLESS.get(mutant.name)
        click.echo(f"  {mutant.file}:{mutant.line}: {mutant.change}" + (f" (harmless: {why})" if why else ""))
    return share >= GOAL


def _noticed(copy: Path, mutant: Mutant, cover: covering.Covering) -> str:
    """Return what noticed a mutant, nothing if nothing did."""
    file = copy / mutant.file
    text = file.read_bytes()
    try:
        file.write_bytes(mutant.of(text))
        for tests in (cover.first(mutant), cover.others(mutant)):
            if not tests:
                continue
            files = sorted({test.partition("::")[0] for test in tests})
            ran = forked.run(copy, files, order=tests, limit_s=30 + 10 * cover.seconds(tests))
            if ran.code == -1:
                return "its time was over"
            if ran.code != 0:
                return ran.failures[0].test if ran.failures else f"exit code {ran.code}"
    finally:
        file.write_bytes(text)
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


if __name__ == "__main__":
    main()
