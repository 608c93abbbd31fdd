"""`make chaos`: what the service promises, with everything around it failing. See docs/reliability.md."""

import argparse
import asyncio
import datetime
import importlib.metadata
import logging
import math
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.dev.broker import ENDPOINTS
from tests.chaos.runner import Row, Runner, table
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.service import serving

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- begin: written by make chaos -->", "<!-- end: written by make chaos -->"
PACKAGES = ("faust-streaming", "aiokafka", "rocksdict")


def plan(scenarios: Sequence[Scenario], runs: int, seed: str) -> list[tuple[Scenario, int]]:
    """Return all runs in an order drawn from the seed: every scenario once before any one again."""
    rng = random.Random(seed)
    planned: list[tuple[Scenario, int]] = []
    for number in range(1, runs + 1):
        planned += [(scenario, number) for scenario in rng.sample(scenarios, len(scenarios))]
    return planned


def document(rows: Sequence[Row], seed: str) -> str:
    """Return the table of runs, with what they ran on."""
    packages = (f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    versions = ", ".join((f"Kafka {ENDPOINTS[0].rpartition(':')[2]}", *packages))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    total = Row("all")
    for row in rows:
        total.runs, total.met, total.reminders = (
            total.runs + row.runs,
            total.met + row.met,
            total.reminders + row.reminders,
        )
        total.lost, total.doubled = total.lost + row.lost, total.doubled + row.doubled
        total.untimely, total.maybe_sent = total.untimely + row.untimely, total.maybe_sent + row.maybe_sent
        total.worst_ms = max(total.worst_ms, row.worst_ms)
    out = [
        f"{today}, `SEED={seed}`; Python {platform.python_version()}, {versions}; {os.cpu_count()} cores.",
        "",
        "| scenario | runs | met | reminders | lost | doubled | early or late | maybe sent | worst recovery, s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in (*rows, total):
        counts = (row.runs, row.met, row.reminders, row.lost, row.doubled, row.untimely, row.maybe_sent)
        out.append(f"| {row.name} | {' | '.join(map(str, counts))} | {row.worst_ms / 1000:.1f} |")
    return "\n".join(out)


def write(text: str) -> None:
    """Put the table into its page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often each scenario is run (default 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after so long")
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="a short selection")
    parser.add_argument("--seed", default=os.environ.get("SEED", ""), help="replay what had this seed; also SEED=…")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--write", action="store_true", help="write the table to docs/reliability.md")
    parser.add_argument("--keep", action="store_true", help="keep the logs and say where they are")
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    chosen = [s for s in SCENARIOS if given.only in s.name and (s.quick or not given.quick)]
    if given.list or not chosen:
        print("\n".join(f"{s.name}: {s.way}" for s in SCENARIOS))
        return 0 if given.list else 2
    seed = given.seed or str(random.SystemRandom().randrange(10**6))
    print(f"SEED={seed}: {len(chosen)} scenarios, {given.runs} run(s) each", flush=True)
    task = asyncio.current_task()
    assert task is not None
    for sig in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sig, task.cancel)
    home = Path(tempfile.mkdtemp(prefix="reminders-chaos-"))
    bad = False
    try:
        async with serving(home, seed) as service:
            runner = Runner(service, seed, lambda line: print(line, flush=True))
            runs = await runner.run(plan(chosen, given.runs, seed), given.minutes)
        rows = table(runs, chosen)
        bad = any(row.faults or row.trouble for row in rows)
        text = document(rows, seed)
        print(f"\n{text}")
        if given.write:
            write(text)
    finally:
        if given.keep or bad:
            print(f"logs: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
