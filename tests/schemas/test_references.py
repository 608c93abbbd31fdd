"""References: a delivery's id as providers carry it."""

import pytest

from schemas import ids
from schemas.references import References

ID = ids.delivery_id("clinic/visit: 42", "2026-12-01T09:00/-P1D", 0, 1)


def test_a_reference_opens_to_its_delivery_and_shows_nothing_of_it() -> None:
    refs = References(("a secret of these tests",))
    sealed = refs.seal(ID)
    assert refs.open(sealed) == ID
    assert refs.seal(ID) == sealed
    assert "clinic" not in sealed
    assert sealed.replace("-", "").replace("_", "").isalnum()
    assert ids.named(ID) == ("clinic/visit: 42", "2026-12-01T09:00/-P1D")


def test_another_secret_opens_nothing_and_an_older_one_still_does() -> None:
    old, new = References(("an older secret",)), References(("a newer secret", "an older secret"))
    assert References(("a third secret",)).open(old.seal(ID)) is None
    assert new.open(old.seal(ID)) == ID
    assert old.open(new.seal(ID)) is None
    assert References(()).seal(ID) == ""
    assert not References(())


@pytest.mark.parametrize("text", ["", "x", "%%%", "ä", "A" * 3000, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_what_is_no_reference_opens_nothing(text: str) -> None:
    assert References(("a secret of these tests",)).open(text) is None


def test_one_changed_character_opens_nothing() -> None:
    refs = References(("a secret of these tests",))
    sealed = refs.seal(ID)
    for at in range(0, len(sealed) - 1, 7):
        other = "A" if sealed[at] != "A" else "B"
        assert refs.open(sealed[:at] + other + sealed[at + 1 :]) is None


@pytest.mark.parametrize("text", ["", "a", "a:b:1", ":b:0:0", "a::0:0", "a:b:0:0:0"])
def test_what_is_no_id_of_a_delivery_names_nobody(text: str) -> None:
    assert ids.named(text) is None


def test_an_attempt_names_its_delivery_and_its_number() -> None:
    assert ids.attempt_named(ids.attempt_id(ID, 3)) == (ID, 3)
    assert ids.attempt_named(ID) == (ID, 0)
    assert ids.attempt_named("") == ("", 0)
