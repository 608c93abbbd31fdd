"""Figures and how they are shown: medians of several takes, a table, a JSON file."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``target``: as text; ``ok`` None: it has no target. ``more``: all that was measured."""

    bench: str
    what: str
    value: str
    target: str = ""
    ok: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which ``part`` of the values lie; the nearest that was measured."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * part))])


def spread(values: Sequence[float], form: str = ".0f") -> str:
    """Return the least and the greatest value as text."""
    return f"{min(values):{form}} … {max(values):{form}}"


def machine() -> dict[str, Any]:
    """Describe the machine, as far as the figures depend on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def show(figures: Sequence[Figure], about: Mapping[str, Any]) -> None:
    """Print the figures as a table."""
    console = Console()
    table = Table(title="Figures", title_justify="left", show_lines=False)
    for column in ("bench", "what", "measured", "target", ""):
        table.add_column(column, overflow="fold")
    marks = {True: "[green]reached", False: "[red]missed", None: ""}
    for figure in figures:
        table.add_row(figure.bench, figure.what, figure.value, figure.target, marks[figure.ok])
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in about.items()), style="dim", markup=False)


def save(figures: Sequence[Figure], about: Mapping[str, Any], folder: Path) -> Path:
    """Write the figures as JSON; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
    path.write_text(
        json.dumps({"about": dict(about), "figures": [asdict(figure) for figure in figures]}, indent=1) + "\n"
    )
    return path
