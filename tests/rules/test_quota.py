"""Calls a day: the parts make the whole, and every day begins anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import ProviderDay
from tables import quota
from tests.rules.life import DAY, T0, examples


@examples(100)
@given(st.integers(1, 10**6), st.integers(1, 64))
def test_the_parts_of_all_partitions_make_the_whole(calls: int, partitions: int) -> None:
    parts = [quota.share(calls, partition, partitions) for partition in range(partitions)]
    assert sum(parts) == calls
    assert max(parts) - min(parts) <= 1


def test_a_day_has_so_many_calls_and_the_next_one_as_many() -> None:
    known: ProviderDay | None = None
    for now in (T0, T0 + DAY):
        for n in range(3):
            known = quota.counted(known, now + n, 3)
            assert known is not None
            assert known.calls == n + 1
        assert quota.counted(known, now + DAY - 1, 3) is None
    assert quota.counted(None, T0, 0) is None
    assert quota.next_day(T0 + 1) == quota.next_day(T0 + DAY - 1) == T0 + DAY
    assert quota.day_of(T0) == "2026-12-01"


def test_quotas_are_read_and_faults_named() -> None:
    assert quota.parse("sms/twilio=1000, EMAIL/smtp = 5,") == {"sms/twilio": 1000, "email/smtp": 5}
    for bad in ("twilio=10", "sms/twilio", "sms/twilio=0", "sms/twilio=1.5", "sms/twilio=1,SMS/twilio=2"):
        with pytest.raises(ValueError, match="twilio"):
            quota.parse(bad)
