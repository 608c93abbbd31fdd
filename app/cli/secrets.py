"""The command that lists secrets and certificates, never their values."""

import json
import os
import sys
import time
from datetime import UTC, datetime

import click
from rich.table import Table

from app import secret_list
from app.cli import holdings
from app.cli.root import load, run
from app.cli.show import console, plain
from tables.rewrap import Waits


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--waiting", is_flag=True, help="Count the rows that are not sealed as SEAL_KEY says; asks the brokers.")
def secrets(as_json: bool, waiting: bool) -> None:
    """List secrets and certificates: name, source, age and end, never a value.

    What comes from the environment has no age that can be known: keep it in a file (NAME_FILE) to see it. Exits with 1
    where one should be looked after. --waiting reads what the recipients' partitions keep, and says whether the old one
    of two master keys may go: it exits with 1 while it may not.
    """
    now = time.time_ns() // 1_000_000
    found = list(secret_list.listed(os.environ))
    wrong = [bool(kept.wrong(now)) for kept in found]
    if as_json:
        for kept in found:
            age = kept.age_days(now)
            line = {
                "name": kept.name,
                "source": kept.source,
                "age_days": None if age is None else round(age, 2),
                "values": kept.values,
                "ends": _day(kept.ends),
                "fault": kept.wrong(now),
            }
            click.echo(json.dumps(line))
    else:
        table = Table("name", "source", "age", "values", "ends", "", box=None, pad_edge=False)
        for kept in found:
            words = (kept.name, kept.source, _age(kept.age_days(now)), str(kept.values), _day(kept.ends) or "")
            table.add_row(*(plain(word) for word in (*words, kept.wrong(now))))
        if found:
            console().print(table)
        else:
            console().print("No secret is set.")
    if waiting:
        wrong.append(_waiting(as_json))
    if any(wrong):
        sys.exit(1)


def _waiting(as_json: bool) -> bool:
    """Say how many rows are sealed otherwise than now; return whether any is."""
    settings = load()
    found = run(holdings.sealed_otherwise(settings))
    if as_json:
        click.echo(json.dumps({"name": "SEAL_KEY", "waiting": {why.value: found[why] for why in Waits}}))
    else:
        console().print(holdings.told_of_sealing(found, len(settings.rules.seal_keys)), soft_wrap=True)
    return bool(found)


def _age(days: float | None) -> str:
    if days is None:
        return "unknown"
    return f"{days:.0f} d" if days >= 1 else f"{max(0.0, days) * 24:.0f} h"


def _day(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
