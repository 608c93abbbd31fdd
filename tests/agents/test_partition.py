"""Which partition a key belongs to: as Kafka's own clients have it."""

from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from agents.publisher import murmur2, partition_of


@given(st.binary(max_size=300))
def test_the_hash_is_kafkas(key: bytes) -> None:
    assert murmur2(key) == reference(key)


def test_a_negative_hash_loses_its_sign() -> None:
    key = next(b"%d" % n for n in range(100) if reference(b"%d" % n) >> 31)
    assert partition_of(key, 8) == (reference(key) & 0x7FFFFFFF) % 8
    # Of a number of partitions that is no power of two the sign decides, too.
    assert partition_of(key, 24) == (reference(key) & 0x7FFFFFFF) % 24 != reference(key) % 24
