"""Addresses that name a delivery: short, the same each time, read in any case, and made by nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.bounces import BounceAddresses, Place

DOMAIN = "bounce.clinic.example"
OURS = BounceAddresses(("a secret of these tests",), DOMAIN)
DELIVERY = ids.delivery_id("clinic/visit 42", "2026-12-01T09:00/PT0S", 0, 1)


def address(of: BounceAddresses = OURS, partition: int = 3, offset: int = 1042) -> str:
    return f"{of.local(partition, offset, DELIVERY)}@{DOMAIN}"


@given(st.integers(0, 999), st.integers(0, 2**48 - 1), st.text(min_size=1, max_size=200))
def test_what_an_address_names(partition: int, offset: int, reminder: str) -> None:
    delivery = ids.delivery_id(reminder, "2026-12-01T09:00/PT0S", 0, 0)
    local = OURS.local(partition, offset, delivery)
    assert len(local) <= 64
    assert local == OURS.local(partition, offset, delivery)
    [place] = OURS.found([f"<{local}@{DOMAIN}>"])
    assert (place.partition, place.offset, place.is_of(delivery)) == (partition, offset, True)
    assert not place.is_of(delivery + "0")


def test_it_is_found_however_it_was_written() -> None:
    [place] = OURS.found(["", f"Mail <{address().upper()}>, other@x.example"])
    assert isinstance(place, Place)
    assert (place.partition, place.offset) == (3, 1042)
    assert [p.offset for p in OURS.found([f"{address()} {address(offset=7)}"])] == [1042, 7]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"b-{'a' * 45}@{DOMAIN}",
        address().replace(DOMAIN, "bounce.other.example"),
        address() + ".evil.example",
        "x" + address(),
        address()[:3] + ("b" if address()[3] != "b" else "c") + address()[4:],
        address(BounceAddresses(("another secret of tests",), DOMAIN)),
        "x" * 5000 + " " + address(),
    ],
)
def test_what_we_did_not_make_names_nothing(text: str) -> None:
    assert list(OURS.found([text])) == []


def test_no_second_way_to_write_it() -> None:
    # 28 bytes are 44.8 characters: of the last one a bit says nothing.
    last = address().partition("@")[0][-1]
    for other in "abcdefghijklmnopqrstuvwxyz234567":
        found = list(OURS.found([address().replace(f"{last}@", f"{other}@")]))
        assert bool(found) is (other == last)


def test_an_older_secret_still_opens_and_without_a_domain_there_are_none() -> None:
    both = BounceAddresses(("a newer secret of tests", "a secret of these tests"), DOMAIN)
    assert [p.offset for p in both.found([address()])] == [1042]
    assert both.local(3, 1042, DELIVERY) != OURS.local(3, 1042, DELIVERY)
    for none in (BounceAddresses(("a secret of these tests",)), BounceAddresses((), DOMAIN)):
        assert not none
        assert none.local(3, 1042, DELIVERY) == ""
        assert list(none.found([address()])) == []
