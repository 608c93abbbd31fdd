"""What is done to the service, as data: each scenario is a fault and the way it comes about."""

from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.points import At, How


class Way(StrEnum):
    """How a fault comes about. The first ones meet one role's worker while the other role meets its own; the others
    have the installation for themselves."""

    POINT = "a point is reached"
    RESTART = "killed, and the point is reached in the start after it"
    TERM = "asked to end, and the point is reached in the end"
    JOIN = "another worker joins, and the point is reached in the rebalance"
    WIPE = "killed, its data directory removed"
    CORRUPT = "killed, its store damaged"
    STOP = "asked to end, in orderly fashion"
    FREEZE = "frozen past its session beside another worker, and thawed"
    THIRD = "two more workers join one after the other, the first is killed"
    BROKER_KILL = "the broker is killed and started again"
    BROKER_FROZEN = "the broker is halted for a while"
    UNREACHABLE = "nothing gets through to the broker for a while"


#: Ways that need the installation for themselves.
ALONE = frozenset({Way.FREEZE, Way.THIRD, Way.BROKER_KILL, Way.BROKER_FROZEN, Way.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault of one role's worker, or of the broker (``role`` ""). ``late_ms``: the longest delay, with LATER."""

    name: str
    way: Way
    role: str = ""
    at: At = At.RECEIVED
    how: How = How.KILL
    inputs: str = ""
    late_ms: int = 0
    quick: bool = False


def _unit(role: str, inputs: str, *points: At, quick: At | None = None) -> list[Scenario]:
    return [
        Scenario(f"kill {role} {inputs or 'any'} {at}", Way.POINT, role, at, inputs=inputs, quick=at is quick)
        for at in points
    ]


_FROM_DECIDED = (At.DECIDED, At.EMITTED, At.LOGGED, At.WRITTEN, At.ACKED)

KILLS: tuple[Scenario, ...] = (
    *_unit("core", "", At.RECEIVED, At.FENCE),
    *_unit("core", "reminders", At.DECODE, *_FROM_DECIDED, quick=At.EMITTED),
    *_unit("core", "due", At.DECODE, *_FROM_DECIDED, quick=At.LOGGED),
    *_unit("core", "outcomes", At.DECODE, *_FROM_DECIDED),
    *_unit("core", "receipts", At.EMITTED, At.LOGGED),
    *_unit("core", "retry.1m", At.DECODE, At.LOGGED),
    Scenario("kill core amid its emits", Way.POINT, "core", At.DECIDED, How.LATER, late_ms=4),
    Scenario("kill core amid its changelog", Way.POINT, "core", At.EMITTED, How.LATER, late_ms=4),
    Scenario("kill core in recovery", Way.RESTART, "core", At.RECOVERED),
    Scenario("kill core in a rebalance", Way.JOIN, "core", At.REVOKED),
    Scenario("kill core in its stop", Way.TERM, "core", At.REVOKED),
    *_unit("delivery", "", At.RECEIVED, At.FENCE),
    *_unit("delivery", "requests", At.DECODE, *_FROM_DECIDED, quick=At.EMITTED),
    *_unit("delivery", "email", At.DECODE, *_FROM_DECIDED),
    *_unit("delivery", "word", At.DECODE, *_FROM_DECIDED),
    *_unit("delivery", "recipients", At.EMITTED, At.LOGGED),
    *_unit("delivery", "", At.STARTED, At.CALLED, At.ANSWERED, quick=At.ANSWERED),
    Scenario("kill delivery amid its emits", Way.POINT, "delivery", At.DECIDED, How.LATER, late_ms=4),
    Scenario("kill delivery in a call", Way.POINT, "delivery", At.CALLED, How.LATER, late_ms=120),
    Scenario("kill delivery in recovery", Way.RESTART, "delivery", At.RECOVERED),
    Scenario("kill delivery in a rebalance", Way.JOIN, "delivery", At.REVOKED),
    Scenario("kill delivery in its stop", Way.TERM, "delivery", At.REVOKED),
)
OTHERS: tuple[Scenario, ...] = (
    *(Scenario(f"SIGTERM {role}", Way.STOP, role) for role in ("core", "delivery")),
    *(Scenario(f"wiped store of {role}", Way.WIPE, role) for role in ("core", "delivery")),
    *(Scenario(f"damaged store of {role}", Way.CORRUPT, role) for role in ("core", "delivery")),
    *(
        Scenario(f"one of two core frozen at {at}", Way.FREEZE, "core", at, How.STOP)
        for at in (At.DECIDED, At.EMITTED, At.LOGGED)
    ),
    *(
        Scenario(f"one of two delivery frozen at {at}", Way.FREEZE, "delivery", at, How.STOP)
        for at in (At.EMITTED, At.STARTED, At.CALLED, At.ANSWERED)
    ),
    *(Scenario(f"a third {role} joins, the first is killed", Way.THIRD, role) for role in ("core", "delivery")),
    Scenario("broker killed and started again", Way.BROKER_KILL),
    Scenario("broker halted for 10 s", Way.BROKER_FROZEN),
    Scenario("broker unreachable for 10 s", Way.UNREACHABLE),
)
SCENARIOS: tuple[Scenario, ...] = (*KILLS, *OTHERS)
