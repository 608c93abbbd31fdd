"""The fence: whoever the group has not heard of for too long ends, and so does whoever it never knew."""

from types import SimpleNamespace
from typing import Any

import pytest

from agents import fence
from agents.fence import Fence, note_expelled, note_heartbeat


class Ended(Exception):
    pass


def coordinator_and_fence(limit_s: float, monkeypatch: pytest.MonkeyPatch, at: list[float]) -> tuple[Any, Fence]:
    def end(why: str, exc: BaseException | None = None) -> None:
        raise Ended(why)

    monkeypatch.setattr(fence, "fatal", end)
    monkeypatch.setattr(fence, "now", lambda: at[0])
    coordinator = SimpleNamespace()
    consumer = SimpleNamespace(_thread=SimpleNamespace(_consumer=SimpleNamespace(_coordinator=coordinator)))
    app: Any = SimpleNamespace(_consumer=consumer, conf=SimpleNamespace(id="core"))
    return coordinator, Fence(app, limit_s)


def test_whoever_was_not_heard_of_for_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [100.0]
    coordinator, guard = coordinator_and_fence(5.0, monkeypatch, at)
    note_heartbeat(coordinator, 100.0)
    at[0] = 105.0
    guard.check("emits")
    at[0] = 105.1
    with pytest.raises(Ended, match=r"fenced at emits: group core last heard of this worker 5.1 s ago \(limit 5 s\)"):
        guard.check("emits")


def test_before_it_has_joined_and_once_it_was_expelled_a_worker_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator, guard = coordinator_and_fence(5.0, monkeypatch, [0.0])
    with pytest.raises(Ended, match="does not know this worker"):
        guard.check("changelog")
    note_heartbeat(coordinator, 0.0)
    guard.check("changelog")
    note_expelled(coordinator)
    with pytest.raises(Ended, match="does not know this worker"):
        guard.check("changelog")


def test_without_a_consumer_nobody_is_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "fatal", lambda why, exc=None: (_ for _ in ()).throw(Ended(why)))
    nobody: Any = SimpleNamespace(_consumer=None, conf=SimpleNamespace(id="core"))
    with pytest.raises(Ended):
        Fence(nobody).check("call")
