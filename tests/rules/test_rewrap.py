"""A change of the master key: each row is found while it needs the old one, is written once, and opens as before."""

import os

import pytest

from schemas import codec, ids
from schemas.names import Channel
from schemas.quick import replace
from schemas.records import Contact, RecipientLink, RecipientProfile
from schemas.sealing import CONTENT, Sealing
from tables import profiles, rewrap
from tables.rewrap import Waits

OLD, NEW = "the key of this test's house", "a new key of this test's house"
OF_OLD, BOTH, OF_NEW = Sealing.of((OLD,)), Sealing.of((NEW, OLD)), Sealing.of((NEW,))
ANNA = RecipientProfile(zone="UTC", contacts=(Contact(Channel.EMAIL, "anna@people.example"),))
P, L = ids.profile_key("an/na"), ids.link_key("an/na", "clinic/1")


def link(sealing: Sealing = OF_OLD) -> RecipientLink:
    _, wrapped = sealing.seal("clinic/1", CONTENT, b"text", os.urandom)
    return RecipientLink("clinic/1", 3, True, wrapped_key=wrapped, correlation_id="c")


def profile(sealing: Sealing = OF_OLD) -> bytes:
    return profiles.body_of(ANNA, "an/na", sealing, os.urandom)


def renewed(key: bytes, body: bytes, sealing: Sealing, contacts: bool = True) -> bytes:
    new = rewrap.renewed(key, body, sealing, contacts, os.urandom)
    assert new is not None
    assert rewrap.waits(key, new, sealing, contacts) is None
    assert rewrap.renewed(key, new, sealing, contacts, os.urandom) is None, "once"
    return new


def test_a_link_has_its_key_wrapped_anew_and_its_content_opens_with_the_new_one_alone() -> None:
    sealed, wrapped = OF_OLD.seal("clinic/1", CONTENT, b"text", os.urandom)
    known = replace(link(), wrapped_key=wrapped)
    assert rewrap.waits(L, codec.encode(known), BOTH, True) is Waits.OLDER
    new = codec.decode(RecipientLink, renewed(L, codec.encode(known), BOTH))
    assert OF_NEW.open("clinic/1", CONTENT, sealed, new.wrapped_key) == b"text"
    assert replace(new, wrapped_key=wrapped) == known, "nothing else of it changes"


def test_a_profile_has_its_key_wrapped_anew_and_opens_with_the_new_one_alone() -> None:
    assert rewrap.waits(P, profile(), BOTH, True) is Waits.OLDER
    assert profiles.opened(renewed(P, profile(), BOTH), "an/na", OF_NEW) == ANNA


def test_contacts_in_clear_are_sealed_and_the_other_way_round() -> None:
    clear = codec.encode(ANNA)
    assert rewrap.waits(P, clear, OF_OLD, True) is Waits.CLEAR
    sealed = renewed(P, clear, OF_OLD)
    assert profiles.opened(sealed, "an/na", OF_OLD) == ANNA
    assert rewrap.waits(P, sealed, OF_OLD, False) is Waits.SEALED
    assert renewed(P, sealed, OF_OLD, contacts=False) == clear, "a release of before reads it again"


@pytest.mark.parametrize("sealing", [OF_NEW, Sealing()])
def test_what_cannot_be_helped_without_the_old_key_is_counted_and_left_alone(sealing: Sealing) -> None:
    for key, body in ((L, codec.encode(link())), (P, profile())):
        for contacts in (True, False):
            assert rewrap.waits(key, body, sealing, contacts) is Waits.UNKNOWN
            assert rewrap.renewed(key, body, sealing, contacts, os.urandom) is None


def test_what_needs_nothing_is_left_alone() -> None:
    keyless = codec.encode(replace(link(), wrapped_key=b""))
    erased = codec.encode(RecipientProfile(erased=True))
    for key, body in ((L, codec.encode(link())), (P, profile()), (L, keyless), (P, erased)):
        assert rewrap.waits(key, body, OF_OLD, True) is None
    assert rewrap.waits(P, codec.encode(ANNA), Sealing(), True) is None
    assert rewrap.waits(P, codec.encode(ANNA), OF_OLD, False) is None


def test_the_tag_of_the_key_in_use_stands_in_every_row_that_it_wraps() -> None:
    assert OF_OLD.tag in codec.encode(link())
    assert OF_OLD.tag in profile()
    assert OF_NEW.tag not in profile()
    assert Sealing().tag == b""
