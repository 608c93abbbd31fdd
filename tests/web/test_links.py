"""Links of messages: a GET changes nothing, a POST is kept before it is answered, and a link cannot be made up."""

import time
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from app.callers import Callers
from app.web.links.render import page
from app.web.ports import LinkPorts, Unsent
from schemas import codec, ids
from schemas.hashing import AddressHash
from schemas.links import Act, Link, Links
from schemas.names import Action, Channel
from schemas.records import SuppressionRecord
from tests.web.pages import Page
from tests.web.stage import Fake, Serve

HASHING = AddressHash(((7, b"a secret of these tests"),))
KEY = HASHING.key(Channel.EMAIL, "u@x.example", "offers")
LINKS = Links(("a secret of these tests",), "https://notify.example", 1000)
LATER = time.time_ns() // 1_000_000 + 3_600_000
UNSUBSCRIBE = Link(Act.UNSUBSCRIBE, KEY, LATER, "offers")
DELIVERY = ids.delivery_id("clinic/visit 42", "2026-12-01T09:00/PT0S", 0, 1)
ACKNOWLEDGE = Link(Act.ACKNOWLEDGE, DELIVERY, LATER)
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def path(link: Link) -> str:
    return f"/l/{LINKS.token(link)}"


class Desk:
    """A server with links, each of whose ports keeps what it is given."""

    def __init__(self) -> None:
        self.reminders, self.suppressions = Fake(), Fake()

    async def open(self, serve: Serve, **more: Any) -> "Desk":
        ports = LinkPorts(LINKS, self.suppressions)
        self.client: TestClient = await serve(self.reminders, **({"links": ports} | more))
        return self

    @property
    def untouched(self) -> bool:
        return not (self.reminders.sent or self.suppressions.sent)


@pytest.fixture
async def desk(serve: Serve) -> Desk:
    return await Desk().open(serve)


@pytest.mark.parametrize("link", [UNSUBSCRIBE, ACKNOWLEDGE], ids=["unsubscribe", "acknowledge"])
async def test_looking_changes_nothing(desk: Desk, link: Link) -> None:
    for method in ("GET", "HEAD", "GET"):
        answer = await desk.client.request(method, path(link))
        assert answer.status == 200
    shown = Page(await answer.text())
    assert shown.faults == []
    [form] = shown.forms
    assert (form.method, form.action) == ("post", "")
    assert desk.untouched
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_one_click_unsubscribes_without_a_cookie_or_a_redirect(desk: Desk) -> None:
    many = FormData(ONE_CLICK, default_to_multipart=True)
    for body in (ONE_CLICK, ONE_CLICK, many, None):
        answer = await desk.client.post(path(UNSUBSCRIBE), data=body, allow_redirects=False)
        assert answer.status == 200
        assert Page(await answer.text()).title == "You are unsubscribed"
    assert len(desk.suppressions.sent) == 4
    for [record] in desk.suppressions.sent:
        assert record.key == KEY.encode()
        said = codec.decode(SuppressionRecord, record.value or b"")
        assert (said.channel, said.reason, said.scope, said.source) == (Channel.EMAIL, "unsubscribed", "offers", "link")
        assert (said.secret_version, said.expires_at) == (7, 0)
    assert not desk.reminders.sent


async def test_the_button_acknowledges_the_occurrence(desk: Desk) -> None:
    for _ in range(2):
        answer = await desk.client.post(path(ACKNOWLEDGE), data={"act": "yes"})
        assert answer.status == 200
    first, second = desk.reminders.events
    assert first == second
    assert (first.reminder_id, first.action, first.occurrence) == (
        "clinic/visit 42",
        Action.ACKNOWLEDGE,
        "2026-12-01T09:00",
    )
    assert (first.actor, first.source, first.delivery_id) == ("recipient", "link", DELIVERY)
    assert len(first.event_id) == 32
    assert "2026-12-01 09:00" in await (await desk.client.get(path(ACKNOWLEDGE))).text()


async def test_a_link_that_does_not_hold_is_answered_the_same_whatever_the_reason(desk: Desk) -> None:
    token = LINKS.token(UNSUBSCRIBE)
    wrong = [
        f"/l/{('A' if token[0] != 'A' else 'B') + token[1:]}",
        f"/l/{token}=",
        "/l/nothing",
        path(Link(Act.UNSUBSCRIBE, KEY, LATER - 7_200_000, "offers")),
        path(Link(Act.PREFERENCES, "anna", LATER)),
        path(Link(Act.ACKNOWLEDGE, "no delivery", LATER)),
        "/l/" + Links(("another secret of these tests",)).token(UNSUBSCRIBE),
    ]
    texts = set()
    for one in wrong:
        for method in ("GET", "POST"):
            answer = await desk.client.request(method, one)
            assert answer.status == 404, one
            texts.add(await answer.text())
    assert len(texts) == 1
    assert Page(texts.pop()).faults == []
    assert desk.untouched


async def test_without_links_there_are_none(serve: Serve) -> None:
    desk = await Desk().open(serve, links=None)
    assert (await desk.client.get(path(UNSUBSCRIBE))).status == 404
    assert (await desk.client.post(path(UNSUBSCRIBE))).status == 404
    assert desk.untouched


async def test_without_the_brokers_nothing_is_promised(desk: Desk) -> None:
    desk.suppressions.unsent = desk.reminders.unsent = Unsent("no acknowledgement")
    for link in (UNSUBSCRIBE, ACKNOWLEDGE):
        answer = await desk.client.post(path(link), data=ONE_CLICK)
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert Page(await answer.text()).faults == []


async def test_bodies_are_bounded(desk: Desk) -> None:
    assert (await desk.client.post(path(UNSUBSCRIBE), data=b"x" * 70_000)).status == 413
    assert desk.untouched


async def test_who_guesses_is_slowed_and_nobody_else(serve: Serve) -> None:
    now = [0.0]
    callers = Callers(60, (), lambda: now[0])
    desk = await Desk().open(serve, callers=callers)
    answers = [(await desk.client.get("/l/nothing")).status for _ in range(8)]
    assert answers == [404] * 6 + [429] * 2
    refused = await desk.client.post(path(UNSUBSCRIBE), data=ONE_CLICK)
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) == 1
    assert desk.untouched
    # Callbacks count for the same caller.
    assert (await desk.client.post("/callbacks/twilio/status")).status == 429
    now[0] += 1
    assert (await desk.client.post(path(UNSUBSCRIBE), data=ONE_CLICK)).status == 200


def test_what_goes_into_a_page_is_text() -> None:
    text = page("<b>t</b>", ("<script>x</script>",), button="<i>").text  # type: ignore[attr-defined]
    assert "<script>" not in text
    assert "&lt;b&gt;" in text
