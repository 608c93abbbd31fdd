"""``python -m bench``: measure, show, write bench/results/<time>.json."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from bench import channels, due, find, gate, intake, lanes, life, listing, million, recurrence, render, series
from bench.figures import Figure, machine, save, show
from bench.stage import BenchError, connected
from deploy.dev.broker import Broker

RESULTS = Path(__file__).parent / "results"

Bench = Callable[..., Awaitable[list[Figure]]]
#: ``recovery`` gives the figures of memory as well: they are of the same worker.
BENCHES: dict[str, Bench] = {
    "intake": intake.run,
    "due": due.run,
    "series": series.run,
    "lanes": lanes.run,
    "life": life.run,
    "channels": channels.run,
    "recovery": million.run,
    "find": find.run,
    "gate": gate.run,
    "recurrence": recurrence.run,
    "render": render.run,
    "list": listing.run,
}


async def _run(bootstrap: str, home: Path, names: list[str], *, quick: bool, takes: int) -> list[Figure]:
    figures: list[Figure] = []
    async with connected(bootstrap) as kafka:
        for name in names:
            began = time.monotonic()
            click.echo(f"{name} …")
            figures += await BENCHES[name](kafka, home, quick=quick, takes=takes)
            click.echo(f"{name}: {time.monotonic() - began:.0f} s")
    return figures


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHES)))
@click.option("--quick", is_flag=True, help="Small sizes and one take each: shows that benches run, not how fast.")
@click.option("--takes", type=click.IntRange(1, 20), help="Takes of each measurement. Default: 3, with --quick 1.")
def main(names: tuple[str, ...], quick: bool, takes: int | None) -> None:
    """Take the figures NAMES, all of them by default, on a broker of their own.

    Nothing else should run meanwhile: medians of several takes even out little, and a shared core halves a rate.
    """
    # What a broker says of topics that it is just making is no news.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    about: dict[str, Any] = machine() | {"quick": quick}
    with tempfile.TemporaryDirectory(prefix="reminders-bench-") as folder:
        home = Path(folder)
        with Broker.start(home / "kafka", progress=click.echo) as broker:
            run = _run(broker.bootstrap, home, list(names or BENCHES), quick=quick, takes=takes or (1 if quick else 3))
            try:
                figures = asyncio.run(run)
            except BenchError as exc:
                raise click.ClickException(str(exc)) from exc
    show(figures, about)
    click.echo(f"written to {save(figures, about, RESULTS).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
