"""Sealed content opens at its own place with its own key, and nowhere else; master keys can be changed."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Sealed
from schemas.sealing import CLEAR, CONTENT, Sealing, Unopened, key_id_of

OLD, NEW = "an old secret of the house", "a new secret of the house"
SEALING = Sealing.of((OLD,))
places = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


def refused(sealing: Sealing, place: str, name: str, sealed: Sealed, key: bytes) -> str:
    with pytest.raises(Unopened) as caught:
        sealing.open(place, name, sealed, key)
    return caught.value.reason


@given(places, st.binary(max_size=300))
def test_what_is_sealed_opens_at_its_place(place: str, plain: bytes) -> None:
    sealed, key = SEALING.seal(place, CONTENT, plain, os.urandom)
    assert sealed.key_id == key_id_of(key) != CLEAR
    assert SEALING.open(place, CONTENT, sealed, key) == plain
    assert len(plain) < 8 or plain not in sealed.body + key


@given(places, places)
def test_it_cannot_be_moved(place: str, other: str) -> None:
    sealed, key = SEALING.seal(place, CONTENT, b"secret", os.urandom)
    if other != place:
        assert refused(SEALING, other, CONTENT, sealed, key) == "damaged"
    assert refused(SEALING, place, "other", sealed, key) == "damaged"


@given(st.data())
def test_a_changed_bit_opens_nothing(data: st.DataObject) -> None:
    sealed, key = SEALING.seal("r", CONTENT, b"secret", os.urandom)
    whole = bytearray(sealed.body + key)
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    body, wrapped = bytes(whole[: len(sealed.body)]), bytes(whole[len(sealed.body) :])
    assert refused(SEALING, "r", CONTENT, Sealed(sealed.key_id, body), wrapped)


def test_two_of_the_same_have_nothing_in_common() -> None:
    first, second = (SEALING.seal("r", CONTENT, b"the same", os.urandom) for _ in range(2))
    assert first[0].key_id != second[0].key_id
    assert first[0].body != second[0].body
    assert refused(SEALING, "r", CONTENT, first[0], second[1]) == "another_key"


def test_without_its_key_it_is_gone() -> None:
    sealed, _ = SEALING.seal("r", CONTENT, b"secret", os.urandom)
    assert refused(SEALING, "r", CONTENT, sealed, b"") == "key_gone"


def test_in_clear_without_a_master_key_and_readable_with_one() -> None:
    sealed, key = Sealing().seal("r", CONTENT, b"plain", os.urandom)
    assert (sealed, key) == (Sealed(CLEAR, b"plain"), b"")
    assert SEALING.open("r", CONTENT, sealed, b"") == b"plain"
    assert not Sealing()
    assert key_id_of(b"") == CLEAR


def test_a_master_key_is_changed_without_loss() -> None:
    sealed, key = SEALING.seal("r", CONTENT, b"secret", os.urandom)
    both = Sealing.of((NEW, OLD))
    assert both.open("r", CONTENT, sealed, key) == b"secret"
    assert both.seal("r", CONTENT, b"x", os.urandom)[1][1:5] != key[1:5], "the new one wraps"
    again = both.rewrapped("r", key, os.urandom)
    assert again is not None
    assert both.rewrapped("r", again, os.urandom) is None, "it is already"
    only = Sealing.of((NEW,))
    assert only.open("r", CONTENT, sealed, again) == b"secret"
    assert refused(only, "r", CONTENT, sealed, key) == "master_unknown"
    assert only.rewrapped("r", key, os.urandom) is None


def test_no_secret_is_shown() -> None:
    assert OLD not in repr(SEALING)
