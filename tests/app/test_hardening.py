"""What the corrections to Faust keep, where no broker is needed to show it."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.consumer import Consumer
from faust.types import TP

from app import hardening

ONE = TP("reminders", 0)


class Dropped:
    """An event that was taken and given back."""

    tp = ONE
    offset = 20
    acked = False


async def nothing_committed() -> dict[TP, int | None]:
    return {}


@pytest.mark.parametrize(("flows", "kept"), [(False, {ONE: 20}), (True, {})])
async def test_a_seek_while_partitions_are_given_up_forgets_no_dropped_event(flows: bool, kept: dict[TP, int]) -> None:
    """A fetch that ends amid a revocation seeks again, and the last commit is yet to come."""
    hardening.install()
    app = SimpleNamespace(
        conf=SimpleNamespace(consumer_auto_offset_reset="earliest"), tables=SimpleNamespace(changelog_topics=set())
    )
    consumer: Any = SimpleNamespace(
        app=app,
        flow_active=flows,
        assignment=set,
        seek_to_committed=nothing_committed,
        _read_offset=defaultdict(lambda: None),
        _committed_offset={},
        _unacked_messages=set(),
    )
    app._consumer = consumer
    hardening.discard(app, Dropped())
    await Consumer.perform_seek(consumer)
    assert consumer.__dict__["_dropped_from"] == kept
