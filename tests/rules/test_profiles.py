"""How a profile is kept: contacts and proofs sealed, all else readable without a key; in clear it is as it ever was."""

import os

import pytest

from schemas import codec
from schemas.names import Channel
from schemas.quick import replace
from schemas.records import Consent, Contact, RecipientProfile
from schemas.sealing import Sealing, Unopened
from tables import profiles

CANARY = "canary-4711@people.example"
ANNA = RecipientProfile(
    version=3,
    zone="Europe/Berlin",
    locale="de",
    contacts=(Contact(Channel.EMAIL, CANARY, "canary label"), Contact(Channel.SMS, "+4915112345678", verified=False)),
    quiet=("22:00-07:00",),
    max_per_day=3,
    consents=(Consent(True, 5, "offers", Channel.EMAIL, "canary evidence"), Consent(False, 6, "news")),
    updated_at=9,
)
SEALING = Sealing.of(("the key of this test's house",))


def kept(profile: RecipientProfile, sealing: Sealing = SEALING, owner: str = "anna") -> bytes:
    return profiles.body_of(profile, owner, sealing, os.urandom)


def test_what_is_personal_cannot_be_read_and_comes_back_whole() -> None:
    body = kept(ANNA)
    assert b"canary" not in body
    assert b"15112345678" not in body
    assert profiles.opened(body, "anna", SEALING) == ANNA


def test_hours_caps_consents_and_erasures_need_no_key() -> None:
    known = profiles.known(kept(ANNA))
    assert known == replace(ANNA, contacts=(), consents=(replace(ANNA.consents[0], evidence=""), ANNA.consents[1]))


def test_each_row_has_a_key_of_its_own() -> None:
    assert kept(ANNA) != kept(ANNA)


@pytest.mark.parametrize("profile", [ANNA, RecipientProfile(erased=True, updated_at=7)])
def test_in_clear_it_is_the_row_of_before_and_read_at_any_time(profile: RecipientProfile) -> None:
    body = kept(profile, Sealing())
    assert body == codec.encode(profile)
    assert profiles.opened(body, "anna", SEALING) == profiles.known(body) == profile


def test_what_holds_nothing_personal_is_not_sealed() -> None:
    nothing = replace(ANNA, contacts=(), consents=(Consent(False, 6, "news"),))
    assert kept(nothing) == codec.encode(nothing)


@pytest.mark.parametrize(
    ("sealing", "owner", "reason"),
    [
        (Sealing.of(("some other key of another house",)), "anna", "master_unknown"),
        (Sealing(), "anna", "master_unknown"),
        (SEALING, "ben", "damaged"),
    ],
)
def test_it_opens_with_its_master_key_alone_and_in_its_own_place(sealing: Sealing, owner: str, reason: str) -> None:
    with pytest.raises(Unopened) as why:
        profiles.opened(kept(ANNA), owner, sealing)
    assert why.value.reason == reason
