"""Which links a mail carries: by its channel, its category, and whether an answer is wanted."""

import pytest

from agents.mail_links import MailLinks
from schemas.hashing import AddressHash
from schemas.links import Act, Links
from schemas.names import Channel
from schemas.records import Delivery
from tables.consent import Category, Legal, Needs

LINKS = Links(("a secret of these tests",), "https://notify.example", 1000)
HASHING = AddressHash(((1, b"a secret of these tests"),))
MAKER = MailLinks(LINKS, HASHING)
MAIL = Delivery("r:o:0:0", "r", "o", Channel.EMAIL, "anna", due_at=5_000_000, category="offers")
OFFERS = Category(Legal.MARKETING, Needs.GRANT)


def token(url: str) -> str:
    return url.rpartition("/")[2]


def test_a_mail_can_be_unsubscribed_from_by_address_and_category() -> None:
    made = MAKER.of(MAIL, "U@x.example", OFFERS)
    assert set(made) == {"unsubscribe_url", "preferences_url"}
    link = LINKS.open(token(made["unsubscribe_url"]), 5_000_999)
    assert link is not None
    assert (link.act, link.category) == (Act.UNSUBSCRIBE, "offers")
    assert link.subject == HASHING.key(Channel.EMAIL, "u@x.example", "offers")
    assert MAKER.of(MAIL, "U@x.example", OFFERS) == made


def test_a_mail_does_what_the_link_does_where_there_is_an_address_for_it() -> None:
    maker = MailLinks(LINKS, HASHING, "stop@b.example")
    made = maker.of(MAIL, "U@x.example", OFFERS)
    assert made["unsubscribe_mail"] == f"mailto:stop@b.example?subject=unsubscribe%20{token(made['unsubscribe_url'])}"
    long = Delivery("r:o:0:0", "r", "o", Channel.EMAIL, "anna", due_at=5_000_000, category="c" * 700)
    assert "unsubscribe_mail" not in maker.of(long, "u@x.example", OFFERS)


@pytest.mark.parametrize("category", [Category(), Category(Legal.CARE), OFFERS])
def test_whatever_may_be_refused_can_be_unsubscribed_from(category: Category) -> None:
    assert "unsubscribe_url" in MAKER.of(MAIL, "u@x.example", category)


def test_what_needs_no_consent_offers_no_way_out() -> None:
    assert set(MAKER.of(MAIL, "u@x.example", Category(needs=Needs.NOTHING))) == {"preferences_url"}


def test_a_recipient_may_see_what_they_allow() -> None:
    link = LINKS.open(token(MAKER.of(MAIL, "u@x.example", OFFERS)["preferences_url"]), 0)
    assert link is not None
    assert (link.act, link.subject, link.until) == (Act.PREFERENCES, "anna", 5_001_000)
    nobody = Delivery("r:o:0:0", "r", "o", Channel.EMAIL, due_at=5_000_000)
    assert "preferences_url" not in MAKER.of(nobody, "u@x.example", OFFERS)


def test_a_mail_that_wants_an_answer_says_where() -> None:
    asking = Delivery("r:o:0:0", "r", "o", Channel.EMAIL, due_at=5_000_000, wants_answer=True)
    link = LINKS.open(token(MAKER.of(asking, "u@x.example", Category())["confirm_url"]), 0)
    assert link is not None
    assert (link.act, link.subject) == (Act.ACKNOWLEDGE, "r:o:0:0")


def test_a_push_that_wants_an_answer_tells_its_app_where() -> None:
    asking = Delivery("r:o:0:0", "r", "o", Channel.PUSH, "anna", due_at=5_000_000, wants_answer=True)
    assert set(MAKER.of(asking, "a-device", OFFERS)) == {"confirm_url"}
    assert MAKER.of(Delivery("r:o:0:0", "r", "o", Channel.PUSH, "anna"), "a-device", OFFERS) == {}


def test_other_channels_and_installations_without_an_address_have_none() -> None:
    assert MAKER.of(Delivery("r:o:0:0", "r", "o", Channel.SMS, wants_answer=True), "+12015550123", OFFERS) == {}
    assert MailLinks().of(MAIL, "u@x.example", OFFERS) == {}
