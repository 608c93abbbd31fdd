"""Routes by calls a day: counted in the partition's row, over to the provider beside, held when nothing is left."""

from types import SimpleNamespace
from typing import Any

from agents.breakers import Admitted
from agents.delivery import Delivering
from agents.routes import Routes, uncounted
from channels.base import Outcome
from schemas import ids
from schemas.names import Channel, OutcomeKind
from schemas.records import Delivery
from tables import due as index
from tests.rules.life import DAY, T0

ONE: Any = SimpleNamespace(name="one", channel=Channel.EMAIL)
TWO: Any = SimpleNamespace(name="two", channel=Channel.EMAIL)
DELIVERY = Delivery("d", "r", "@1/PT0S", Channel.EMAIL)


class View:
    """The rows of a partition."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return []


def routes(quotas: dict[str, int], *beside: Any) -> Routes:
    work: Any = SimpleNamespace(partitions=2, spares={Channel.EMAIL: beside} if beside else {})
    work.written = lambda row, due: Delivering.written(work, row, due)
    control: Any = SimpleNamespace(holding=lambda subject: None)
    return Routes(work, control, None, None, lambda where: None, quotas)


async def by(r: Routes, view: View, now: int = T0, partition: int = 0) -> str:
    """Return by which provider a delivery goes first, empty where it may not go."""
    rows = r.within_quota(view, partition, b"d", ONE, now)
    if rows is None:
        return ""
    view.rows.update(rows)
    admitted = await r.admitted(b"d", DELIVERY, ONE)
    assert isinstance(admitted, Admitted)
    return " ".join(adapter.name for adapter in admitted.adapters)


async def test_a_partition_has_its_part_of_a_day_and_a_new_day_has_as_much() -> None:
    r, view = routes({"email/one": 5}), View()
    assert r.counts(Channel.EMAIL) == (ids.provider_day_key("email/one"),)
    assert r.counts(Channel.SMS) == ()
    assert [await by(r, view) for _ in range(4)] == ["one", "one", "one", ""]
    # The row is purged when its day is over, by which time it says nothing.
    raw = view.rows[ids.provider_day_key("email/one")]
    assert raw is not None
    assert index.unpack(raw).due_ms == T0 + DAY
    assert await by(r, view, T0 + DAY) == "one"
    other = View()
    assert [await by(r, other, partition=1) for _ in range(3)] == ["one", "one", ""]


async def test_what_one_provider_may_not_have_goes_by_the_one_beside_it() -> None:
    r, view = routes({"email/one": 2}, TWO), View()
    assert [await by(r, view) for _ in range(3)] == ["one two", "two", "two"]
    # Where both are counted, a call that began with one is not repeated by the other, which would not be counted.
    r, view = routes({"email/one": 2, "email/two": 4}, TWO), View()
    assert [await by(r, view) for _ in range(4)] == ["one", "two", "two", ""]


async def test_without_quotas_nothing_is_looked_up() -> None:
    r = routes({}, TWO)
    assert r.counts(Channel.EMAIL) == ()
    assert r.within_quota(View(), 0, b"d", ONE, T0) == {}


async def test_what_can_be_paid_for_only_where_todays_calls_are_over_waits_for_the_next_day() -> None:
    def only(*names: str) -> Any:
        return lambda adapters: tuple(one for one in adapters if one.name in names)

    r, view = routes({"email/one": 2}, TWO), View()
    assert [await by(r, view) for _ in range(2)] == ["one two", "two"]
    assert r.within_quota(view, 0, b"d", ONE, T0, only("one")) is None
    assert r.within_quota(view, 0, b"d", ONE, T0 + DAY, only("one"))
    # What is too dear is not counted, and takes nobody's place.
    r, view = routes({"email/one": 2, "email/two": 2}, TWO), View()
    rows = r.within_quota(view, 0, b"d", ONE, T0, only("two"))
    assert list(rows or ()) == [ids.provider_day_key("email/two")]
    admitted = await r.admitted(b"d", DELIVERY, ONE, only("two"))
    assert isinstance(admitted, Admitted)
    assert [one.name for one in admitted.adapters] == ["two"]


def test_a_probe_that_fails_uses_up_no_attempt_and_all_else_counts_as_ever() -> None:
    probing, usual = Admitted((ONE,), "email/one"), Admitted((ONE,))
    failed = Outcome(OutcomeKind.DEFERRED, "unavailable", "one")
    assert not uncounted(probing, failed).reached
    assert uncounted(usual, failed) is failed
    for other in (
        Outcome(OutcomeKind.ACCEPTED, "ok", "one"),
        # About this message alone.
        Outcome(OutcomeKind.DEFERRED, "greylisted", "one"),
        # It may have been sent, whoever wished for the call.
        Outcome(OutcomeKind.MAYBE_SENT, "server_error", "one"),
    ):
        assert uncounted(probing, other) is other
