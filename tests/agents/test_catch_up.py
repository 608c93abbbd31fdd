"""Catching up: who is told, and that nobody is before the rows may be worked on."""

import asyncio
from collections.abc import Mapping

from agents.catch_up import CatchUp


class Inputs:
    """Inputs that are all done."""

    progress: Mapping[tuple[str, int], int] = {("reminders", 0): 5, ("reminders", 1): 5}

    def undone(self, partition: int, topics: frozenset[str]) -> bool:
        return False


async def test_nobody_is_told_before_the_partition_is_owned() -> None:
    """Faust says that a rebalance is complete while its tables are not ready yet: a timer, or a walk over what a
    release lets go, that looked then would find no partition and not look again."""
    owned: set[int] = set()
    found: list[set[int]] = []

    async def ends(wanted: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return dict.fromkeys(wanted, 5)

    async def position(topic: str, partition: int) -> int:
        return 5

    catch_up = CatchUp(
        ("reminders",),
        Inputs(),
        assigned=lambda: {0, 1},
        owned=lambda: owned,
        ends=ends,
        position=position,
        fatal=lambda why, exc: found.append({-1}),
    )
    catch_up.reached.append(lambda: found.append(set(owned)))
    catch_up.begin()
    await asyncio.sleep(0.3)
    assert found == []
    assert not catch_up.caught_up(0)
    owned |= {0, 1}
    async with asyncio.timeout(10):
        while len(found) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert found == [{0, 1}, {0, 1}]
    assert catch_up.ready() == {0, 1}
    catch_up.forget()
    assert catch_up.ready() == set()
