"""Links of messages: they name nobody, hold for a time, and cannot be made up."""

import string

import pytest

from schemas.links import Act, Link, Links

OLD, NEW = "an old secret of these tests", "a new secret of these tests"
LINK = Link(Act.UNSUBSCRIBE, "1.abc", 2_000_000, "offers")


def test_a_link_opens_until_its_time() -> None:
    links = Links((NEW,), "https://x.example/base/", 1000)
    assert links.open(links.token(LINK), 1_999_999) == LINK
    assert links.open(links.token(LINK), 2_000_000) is None
    assert links.url(LINK) == f"https://x.example/base/l/{links.token(LINK)}"
    assert links.url(Link(Act.PREFERENCES, "anna", 1)).startswith("https://x.example/base/preferences/")


def test_it_names_nobody_and_is_the_same_for_every_attempt() -> None:
    links = Links((NEW,), "https://x.example")
    token = links.token(LINK)
    assert token == links.token(LINK)
    assert token.replace("-", "").replace("_", "").isalnum()
    for said in ("offers", "1.abc"):
        assert said not in token


def test_each_changed_character_makes_it_none() -> None:
    links = Links((NEW,), "https://x.example")
    token = links.token(LINK)
    letters = string.ascii_letters + string.digits + "-_"
    for at in range(len(token)):
        # The last character has bits that no byte needs: each other one must be refused all the same.
        for other in letters if at == len(token) - 1 else ("A", "B"):
            changed = token[:at] + other + token[at + 1 :]
            assert (links.open(changed, 0) is None) is (changed != token)
    for made_up in ("", "a", token[:-4], token + "AAAA", "ä", "x" * 3000, token + "="):
        assert links.open(made_up, 0) is None


def test_secrets_are_changed_one_after_the_other() -> None:
    before = Links((OLD,), "https://x.example").token(LINK)
    assert Links((NEW, OLD)).open(before, 0) == LINK
    assert Links((NEW,)).open(before, 0) is None
    assert Links((NEW, OLD)).token(LINK) == Links((NEW,)).token(LINK)


@pytest.mark.parametrize(("secrets", "base"), [((), "https://x.example"), ((NEW,), "")])
def test_without_a_secret_or_an_address_there_are_no_links(secrets: tuple[str, ...], base: str) -> None:
    links = Links(secrets, base)
    assert not links
    assert links.url(LINK) == ""


def test_a_reference_of_a_callback_is_no_link() -> None:
    from schemas.references import References

    assert Links((NEW,)).open(References((NEW,)).seal('["a","d",9999999999,""]'), 0) is None
