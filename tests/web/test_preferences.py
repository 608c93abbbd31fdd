"""A recipient's own page: shows what they allow, takes what they choose, and asks the worker that knows them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from agents.suppressions import Desk as Suppressing
from app.callers import Callers
from app.web.links.choices import changes, choices
from app.web.ports import PreferencePorts, Reply, Unsent
from schemas import codec
from schemas.hashing import AddressHash
from schemas.links import Act, Link, Links
from schemas.names import Channel
from schemas.records import Consent, Contact, RecipientEvent, RecipientProfile
from tables.consent import Categories, Category, Legal, Needs, consented
from tests.web.pages import Page
from tests.web.stage import Fake, Serve

HASHING = AddressHash(((1, b"a secret of these tests"),))
LINKS = Links(("a secret of these tests",), "https://notify.example", 1000)
LATER = time.time_ns() // 1_000_000 + 3_600_000
PATH = f"/preferences/{LINKS.token(Link(Act.PREFERENCES, 'anna', LATER))}"
CATEGORIES = Categories(
    {
        "offers": Category(Legal.MARKETING, Needs.GRANT, postal_address="1 Long Way"),
        "duty": Category(needs=Needs.NOTHING),
        "<b>odd</b>": Category(),
    }
)
MAIL, PHONE = Contact(Channel.EMAIL, "anna@people.example"), Contact(Channel.SMS, "+12015550123")
ANNA = RecipientProfile(
    zone="Europe/Berlin",
    contacts=(MAIL, PHONE, Contact(Channel.WEBHOOK, "https://x.example")),
    quiet=("22:00-07:00",),
    consents=(Consent(False, 5, "general", Channel.SMS),),
)
ODD = [("form", "1"), ("on", "EMAIL|<b>odd</b>"), ("on", "SMS|<b>odd</b>")]


@dataclass
class Desk:
    """A delivery worker with one recipient."""

    known: RecipientProfile | None = ANNA
    at: str | None = ""
    moving: bool = False
    fresh: bool = True
    suppressed: dict[tuple[Channel, str], str] = field(default_factory=dict)
    reply: Reply | Exception = field(default_factory=lambda: Reply(200, b"<p>there</p>", "text/html"))

    def __post_init__(self) -> None:
        self.recipients, self.lifted = Fake(), Fake()
        self.asked: list[tuple[str, dict[str, str], bytes | None]] = []

    async def open(self, serve: Serve, **more: Any) -> "Desk":
        self.ports = PreferencePorts(
            LINKS,
            self,
            self,
            self.forward,
            self.recipients,
            self.lifted,
            Suppressing(HASHING),
            CATEGORIES,
            lambda channel, address, category: self.suppressed.get((channel, category), ""),
            lambda: self.fresh,
        )
        self.client: TestClient = await serve(Fake(), core=False, preferences=self.ports, **more)
        return self

    def profile(self, recipient_id: str) -> RecipientProfile | None:
        if self.moving:
            raise LookupError(3)
        return self.known if recipient_id == "anna" else None

    def owner(self, recipient_id: str) -> str | None:
        return self.at

    def owner_of(self, partition: int) -> str | None:
        return self.at

    async def forward(self, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        self.asked.append((url, dict(headers), body))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def page(self, status: int = 200) -> Page:
        answer = await self.client.get(PATH)
        assert answer.status == status
        return Page(await answer.text())

    @property
    def consents(self) -> list[tuple[str, Channel | None, bool]]:
        events = [codec.decode(RecipientEvent, r.value or b"") for batch in self.recipients.sent for r in batch]
        assert all((e.recipient_id, e.source, e.version) == ("anna", "preferences", 0) for e in events)
        return [(c.category, c.channel, c.granted) for e in events for c in e.consents]


@pytest.fixture
async def desk(serve: Serve) -> Desk:
    return await Desk().open(serve)


async def on(desk: Desk) -> list[str]:
    """Return which boxes are checked."""
    text = await (await desk.client.get(PATH)).text()
    boxes = text.split('name="on" value="')[1:]
    return [box.split('"')[0] for box in boxes if box.split(">")[0].endswith(" checked")]


async def test_the_page_shows_what_holds_and_changes_nothing(desk: Desk) -> None:
    for method in ("GET", "HEAD"):
        assert (await desk.client.request(method, PATH)).status == 200
    shown = await desk.page()
    assert shown.faults == []
    assert "22:00-07:00" in shown.text
    assert "Europe/Berlin" in shown.text
    # Silence allows what may be refused, and not what needs a grant; duty cannot be refused, webhooks reach machines.
    assert await on(desk) == ["EMAIL|&lt;b&gt;odd&lt;/b&gt;", "SMS|&lt;b&gt;odd&lt;/b&gt;", "EMAIL|general"]
    assert "duty" not in shown.text
    assert "anna@people" not in shown.text + PATH
    assert not desk.recipients.sent


async def test_what_is_chosen_becomes_consents_of_what_changed_alone(desk: Desk) -> None:
    answer = await desk.client.post(PATH, data=[*ODD, ("on", "SMS|general"), ("on", "SMS|offers")])
    assert answer.status == 200
    assert Page(await answer.text()).faults == []
    assert sorted(desk.consents, key=str) == [
        ("general", Channel.EMAIL, False),
        ("general", Channel.SMS, True),
        ("offers", Channel.SMS, True),
    ]
    assert not desk.lifted.sent


async def test_an_empty_form_is_none_and_nothing_changes_by_itself(desk: Desk) -> None:
    for body in ({}, {"on": "EMAIL|general"}):
        assert (await desk.client.post(PATH, data=body)).status == 400
    assert (await desk.client.post(PATH, data=b"\xff", headers={"Content-Type": "x/y"})).status == 400
    assert (await desk.client.post(PATH, data=b"x" * 70_000)).status == 413
    same = await desk.client.post(PATH, data=[*ODD, ("on", "EMAIL|general"), ("on", "SMS|duty")])
    assert "Nothing was changed" in await same.text()
    assert not desk.recipients.sent


async def test_an_unsubscribed_mail_can_be_chosen_again_and_a_stop_cannot(serve: Serve) -> None:
    wrong = {(Channel.EMAIL, "general"): "suppressed_unsubscribed", (Channel.SMS, "general"): "suppressed_stop"}
    desk = await Desk(suppressed=wrong).open(serve)
    assert "EMAIL|general" not in await on(desk)
    assert "START" in (await desk.page()).text
    assert (await desk.client.post(PATH, data=[*ODD, ("on", "EMAIL|general"), ("on", "SMS|general")])).status == 200
    assert desk.consents == [("general", Channel.EMAIL, True)]
    [[lifted]] = desk.lifted.sent
    assert (lifted.key, lifted.value) == (HASHING.key(Channel.EMAIL, MAIL.address, "general").encode(), None)


async def test_without_the_brokers_nothing_is_kept(desk: Desk) -> None:
    desk.recipients.unsent = Unsent("no acknowledgement")
    answer = await desk.client.post(PATH, data={"form": "1"})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    "path",
    [
        PATH + "A",
        "/preferences/nothing",
        f"/preferences/{LINKS.token(Link(Act.PREFERENCES, 'nobody', LATER))}",
        f"/preferences/{LINKS.token(Link(Act.PREFERENCES, 'anna', LATER - 7_200_000))}",
        f"/preferences/{LINKS.token(Link(Act.UNSUBSCRIBE, '1.abc', LATER))}",
    ],
    ids=["longer", "made up", "nobody's", "too old", "of another act"],
)
async def test_a_link_that_does_not_hold_shows_nothing(desk: Desk, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await desk.client.request(method, path, data={"form": "1"} if method == "POST" else None)
        assert answer.status == 404
        assert "does not hold" in await answer.text()
    assert not desk.recipients.sent


@pytest.mark.parametrize("profile", [None, replace(ANNA, erased=True)])
async def test_who_is_forgotten_has_no_page(serve: Serve, profile: RecipientProfile | None) -> None:
    desk = await Desk(known=profile).open(serve)
    assert (await desk.page(404)).title == "This link does not hold"


@pytest.mark.parametrize("wrong", [{"moving": True}, {"at": None}, {"fresh": False}])
async def test_who_cannot_know_says_so(serve: Serve, wrong: dict[str, Any]) -> None:
    desk = await Desk(**wrong).open(serve)
    assert (await desk.page(503)).title == "Not now"
    assert (await desk.client.post(PATH, data={"form": "1"})).status == 503
    assert not desk.recipients.sent


async def test_the_worker_that_knows_is_asked_once(serve: Serve) -> None:
    desk = await Desk(at="http://other:6067").open(serve)
    answer = await desk.client.get(PATH)
    assert (answer.status, await answer.text()) == (200, "<p>there</p>")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (await desk.client.post(PATH, data={"form": "1"})).status == 200
    [(url, marks, nothing), (_, _, body)] = desk.asked
    assert (url, nothing, body) == (f"http://other:6067{PATH}", None, b"form=1")
    # Two that each believe the other to be the owner would else pass it on for ever.
    assert (await desk.client.get(PATH, headers=marks)).status == 503
    # Nobody else can make such a mark.
    assert (await desk.client.get(PATH, headers={"X-Reminders-Hop": "1"})).status == 200
    assert len(desk.asked) == 3
    desk.reply = ConnectionError("refused")
    assert (await desk.client.get(PATH)).status == 503


async def test_guessers_wait(serve: Serve) -> None:
    desk = await Desk().open(serve, callers=Callers(60, (), lambda: 0.0))
    marked = {"X-Reminders-Hop": "1"}
    answers = [(await desk.client.get("/preferences/nothing", headers=marked)).status for _ in range(8)]
    assert answers == [404] * 6 + [429] * 2


async def test_a_core_worker_passes_it_on_to_the_worker_beside_it(serve: Serve) -> None:
    fake = Fake(reply=Reply(200, b"<p>there</p>", "text/html"))
    client = await serve(fake, beside="http://127.0.0.1:6067")
    answer = await client.get(PATH)
    assert (answer.status, await answer.text()) == (200, "<p>there</p>")
    [(url, headers)] = fake.forwarded
    assert (url, headers["X-Forwarded-For"]) == (f"http://127.0.0.1:6067{PATH}", "127.0.0.1")
    assert (await client.post(PATH, data={"form": "1"})).status == 200
    assert (await client.get("/preferences/not%20ours")).status == 404
    alone = await serve(Fake())
    assert (await alone.get(PATH)).status == 404


def test_a_wider_refusal_is_undone_for_what_was_chosen_alone() -> None:
    profile = replace(ANNA, consents=(Consent(False, 5),))
    before = choices(profile, {}, CATEGORIES.of, lambda *_: "")
    assert [choice.on for choice in before] == [False, False]
    [(_, consent)] = changes(before, {"EMAIL|general"}, 9)
    after = replace(profile, consents=(*profile.consents, consent))
    assert consented(after, "general", Channel.EMAIL) is True
    assert consented(after, "general", Channel.SMS) is False
    assert consented(after, "offers", Channel.EMAIL) is False
