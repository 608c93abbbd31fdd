"""A short selection of `make chaos`: workers that kill themselves amid their work, judged by the checker."""

from pathlib import Path

import pytest

from deploy.dev.broker import Broker
from tests.chaos.__main__ import plan
from tests.chaos.checker import DOUBLES, LOSSES
from tests.chaos.runner import Runner, table
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.service import serving


@pytest.mark.kafka
async def test_a_short_selection_loses_and_doubles_nothing(broker: Broker, tmp_path: Path) -> None:
    chosen = [scenario for scenario in SCENARIOS if scenario.quick]
    said: list[str] = []
    async with serving(tmp_path, "quick", broker) as service:
        runs = await Runner(service, "quick", said.append).run(plan(chosen, 1, "quick"))
    rows = table(runs, chosen)
    # How late all was is no matter here: the machine may be a slow one.
    faults = [str(fault) for row in rows for fault in row.faults if fault.kind in LOSSES | DOUBLES]
    assert faults + [trouble for row in rows for trouble in row.trouble] == [], "\n".join(said)
    assert [row.name for row in rows if not row.met] == [], "\n".join(said)
