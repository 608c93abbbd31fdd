"""Events to be passed over: how they are named, and which event is meant."""

import pytest

from schemas.checks import MAX_AHEAD_MS
from schemas.records import ControlRecord
from tables import skips
from tables.skips import SKIP, Place

NOW = 1_795_600_000_000


@pytest.mark.parametrize("topic", ["reminders", "ns.notifications.retry.1m", "skip:x"])
def test_a_scope_names_its_event(topic: str) -> None:
    named = Place(topic, 3, 1042)
    assert skips.place(skips.scope(named)) == named


NONE = (
    *("", "*", "tenant:a", "skip:", "skip:reminders", "skip:reminders/3", "skip:/3/4"),
    *("skip:reminders/x/4", "skip:reminders/3/", "skip:reminders/3/-1", "reminders/3/4"),
)


@pytest.mark.parametrize("scope", NONE)
def test_what_names_none_names_none(scope: str) -> None:
    assert skips.place(scope) is None


def test_it_is_meant_for_what_lay_there_and_for_a_time() -> None:
    record = ControlRecord("skip:reminders/0/1", SKIP, NOW, NOW, NOW + 1000)
    assert skips.meant(record, NOW - 5, NOW + 1)
    # A producer's clock may be ahead.
    assert skips.meant(record, NOW + MAX_AHEAD_MS, NOW + 1)
    # The topic was made anew, and another event lies there.
    assert not skips.meant(record, NOW + MAX_AHEAD_MS + 1, NOW + 1)
    assert not skips.meant(record, NOW - 5, NOW + 1000)
    assert not skips.meant(ControlRecord("skip:reminders/0/1", "HOLD", NOW), NOW - 5, NOW)
