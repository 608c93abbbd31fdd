"""The console: who gets in, what they see, and that what they do has their name and cannot be forged."""

import html
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from app.template_folder import Folder
from app.template_preview import Words
from app.tokens import Keyring
from app.web.console import sessions
from app.web.console.routes import SCREENS
from app.web.console.sessions import COOKIE, Sessions
from app.web.ports import Unsent
from channels.layout import Foot
from schemas.names import Action, Channel, State
from schemas.records import Stages, TrailEntry
from tests.app.test_tokens import entry
from tests.web.pages import Page
from tests.web.stage import AT, AUTH, TOKEN, Fake, Serve, row
from tests.web.test_listing import stored

ROOT = Path(__file__).parents[2]
In = Callable[..., Awaitable[TestClient]]


def words_in(folder: Path) -> Words:
    async def read() -> Any:
        return Folder(folder).read()

    return Words(read, Foot("Praxis Weiß"))


WORDS = words_in(ROOT / "docs" / "templates")
EVIL = '<script>alert("x")</script>'
WAY = Stages(AT, AT, AT + 3, AT + 5, AT + 9, AT + 14, AT + 20, AT + 48)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.console.views.SHOWN_S", 0.0)
    monkeypatch.setattr("app.web.console.views.WRONG_S", 0.0)


@pytest.fixture
def signed_in(serve: Serve) -> In:
    async def start(fake: Fake, token: str = TOKEN, **more: Any) -> TestClient:
        more.setdefault("words", WORDS)
        client = await serve(fake, **more)
        answer = await client.post("/console/login", data={"token": token}, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/console")
        return client

    return start


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    path = tmp_path / "tokens.toml"
    path.write_text(
        entry("reader", "viewer", name="reader") + entry("desk", "operator", name="desk")
        + entry("clinic", "operator", tenant="clinic") + entry("bound", "operator", prefix="clinic/")
    )  # fmt: skip
    return Keyring(TOKEN, path)


async def seen(client: TestClient, path: str, status: int = 200) -> Page:
    answer = await client.get(path, allow_redirects=False)
    text = await answer.text()
    assert answer.status == status, text
    page = Page(text)
    assert page.faults == [], path
    return page


async def send(client: TestClient, page: Page, action: str, want: dict[str, str], **typed: str) -> ClientResponse:
    """Send the form of a page that has these values, with what was typed into it."""
    form = page.form(action, **want)
    return await client.post(action, data=form.fields | want | typed, allow_redirects=False)


def doubtful() -> bytes:
    return stored(State.MAYBE_SENT)


PATHS = ("/console/reminders", "/console/reminders/clinic/1", "/console/maybe", "/console/letters",
         "/console/letters/3/17", "/console/holds", "/console/templates", "/console/templates/visit",
         "/console/login")  # fmt: skip


def everything() -> Fake:
    told = TrailEntry(
        3, AT + 50, State.FAILED, "greylisted", attempt=1, channel=Channel.EMAIL, actor="anna", stages=WAY
    )
    return Fake(rows={"clinic/1": row(State.RETRY, more=(told,)), "clinic/2": doubtful(), EVIL: stored(State.SENT)})


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_pages_are_usable_by_all(signed_in: In, path: str) -> None:
    await seen(await signed_in(everything()), path)


def test_it_would_be_noticed() -> None:
    bad = '<html><body onload="x"><h2></h2><form><input><button>x</button></form><a href="http://x">x</a></body></html>'
    faults = " ".join(Page(bad).faults)
    for word in ("runs", "headings begin", "empty <h2>", "without a label", "elsewhere", "no language", "no submit"):
        assert word in faults


@pytest.mark.parametrize("path", [*PATHS, "/console/style.css"])
async def test_nothing_runs_in_a_page_and_nobody_keeps_it(signed_in: In, path: str) -> None:
    answer = await (await signed_in(everything())).get(path)
    policy = answer.headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if path.endswith(".css"):
        assert "url(" not in await answer.text()
        assert answer.headers["Content-Type"].startswith("text/css")
    else:
        assert answer.headers["Cache-Control"] == "no-store"


async def test_the_front_leads_to_the_console(signed_in: In) -> None:
    client = await signed_in(everything())
    for path, to in (("/", "/console"), ("/console", "/console/reminders")):
        answer = await client.get(path, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, to)
    answer = await client.get("/console/reminders?id=clinic/1", allow_redirects=False)
    assert answer.headers["Location"] == "/console/reminders/clinic/1"


async def test_a_reminder_in_words(signed_in: In) -> None:
    page = await seen(await signed_in(everything()), "/console/reminders/clinic/1")
    words = " ".join(page.text.split())
    assert "An attempt failed, and another one is planned." in words
    assert "Next: Attempt 1 is made." in words
    assert "Answered 48 ms after it was due (email, attempt 1)" in words
    assert "The server asks for a later try." in words
    assert "c***@e…" in words
    assert "anna" in words
    assert "canary" not in words.lower()
    assert [heading for _, heading in page.headings] == [
        "clinic/1", "Why it stands where it stands", "Act on it", "Trail", "What it is",
    ]  # fmt: skip


async def test_what_producers_write_is_text(signed_in: In) -> None:
    client = await signed_in(everything())
    for path in ("/console/reminders", "/console/reminders/" + "%3Cscript%3Ealert(%22x%22)%3C/script%3E",
                 "/console/reminders?prefix=%22%3E%3Cscript%3E", "/console/letters/3/17"):  # fmt: skip
        text = await (await client.get(path)).text()
        assert "<script" not in text
        assert "<b>" not in text
    assert EVIL in (await seen(client, "/console/reminders")).text


async def test_the_list_filters_and_pages(signed_in: In) -> None:
    client = await signed_in(Fake(rows={f"r/{n:03}": stored(State.RETRY) for n in range(60)}))
    found: list[str] = []
    path = "/console/reminders?state=FAILED&channel=email&due_before=2026-12-02T00:00:00Z"
    while path:
        page = await seen(client, path)
        found += [to for to in page.links if to.startswith("/console/reminders/r/")]
        path = next((to for to in page.links if "cursor=" in to), "")
    assert sorted(found) == [f"/console/reminders/r/{n:03}" for n in range(60)]
    page = await seen(client, "/console/reminders?due_before=tomorrow")
    assert "due_before: cannot be read" in page.text
    assert "Nothing fits." in (await seen(client, "/console/reminders?state=SENT")).text


async def test_what_is_not_there_and_what_cannot_be_read(signed_in: In) -> None:
    fake = Fake(rows={"bad": stored(State.RETRY)[:60]})
    client = await signed_in(fake)
    assert "no such reminder" in (await seen(client, "/console/reminders/nobody", 404)).text
    assert "truncated" in (await seen(client, "/console/reminders/bad")).text
    fake.recovering = True
    assert "taking the reminder over" in (await seen(client, "/console/reminders/bad", 503)).text
    assert "being taken over" in (await seen(client, "/console/maybe")).text


# -- who gets in -------------------------------------------------------------------------------------------------------


async def test_the_way_in_and_out(serve: Serve) -> None:
    client = await serve(everything())
    answer = await client.get("/console/reminders/clinic/1?x=1", allow_redirects=False)
    assert answer.headers["Location"] == "/console/login?next=%2Fconsole%2Freminders%2Fclinic%2F1%3Fx%3D1"
    page = await seen(client, answer.headers["Location"])
    assert page.form("/console/login").fields["next"] == "/console/reminders/clinic/1?x=1"
    wrong = await client.post("/console/login", data={"token": "wrong"}, allow_redirects=False)
    assert wrong.status == 401
    assert "Set-Cookie" not in wrong.headers
    assert Page(await wrong.text()).faults == []
    right = await send(client, page, "/console/login", {}, token=TOKEN)
    assert right.headers["Location"] == "/console/reminders/clinic/1?x=1"
    cookie = right.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie
    page = await seen(client, "/console/reminders")
    assert "admin, admin" in " ".join(page.text.split())
    assert (await send(client, page, "/console/logout", {})).status == 303
    assert (await client.get("/console/reminders", allow_redirects=False)).status == 303


async def test_over_tls_the_cookie_never_goes_in_clear(serve: Serve) -> None:
    client = await serve(everything())
    headers = {"X-Forwarded-Proto": "https"}
    answer = await client.post("/console/login", data={"token": TOKEN}, headers=headers, allow_redirects=False)
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/console@evil.example", "/reminders/x",
                                "/console/\r\nX: y", "javascript:x"])  # fmt: skip
async def test_a_login_leads_nowhere_else(serve: Serve, to: str) -> None:
    client = await serve(everything())
    answer = await client.post("/console/login", data={"token": TOKEN, "next": to}, allow_redirects=False)
    assert answer.headers["Location"] == "/console"


async def test_without_any_token_the_console_says_so(serve: Serve) -> None:
    page = await seen(await serve(everything(), token=""), "/console/login")
    assert "WEB_TOKEN" in page.text
    assert page.forms == []


async def test_a_bearer_token_opens_no_page_and_a_cookie_no_view(signed_in: In, serve: Serve) -> None:
    client = await serve(everything())
    assert (await client.get("/console/reminders", headers=AUTH, allow_redirects=False)).status == 303
    client = await signed_in(everything())
    assert (await client.get("/reminders/clinic/1")).status == 401


@pytest.mark.parametrize("screen", [s for s in SCREENS if s.access], ids=lambda s: f"{s.method} {s.path}")
async def test_nobody_gets_in_without_a_session(serve: Serve, screen: Any) -> None:
    fake = everything()
    client = await serve(fake)
    path = (
        screen.path.replace("{id}", "clinic/1")
        .replace("{partition}", "3")
        .replace("{offset}", "17")
        .replace("{name}", "visit")
    )
    for cookie in ("", "forged"):
        headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
        answer = await client.request(screen.method, path, headers=headers, data={"x": "y"}, allow_redirects=False)
        assert (answer.status, answer.headers["Location"].partition("?")[0]) == (303, "/console/login")
    assert (fake.sent, fake.asked) == ([], [])


async def test_a_session_ends_with_its_token_and_with_time(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(entry("reader", "viewer"))
    now = {"at": 0.0}
    keys = Keyring("", path, clock=lambda: now["at"])
    held = Sessions(keys, clock=lambda: now["at"])
    name = held.begin("reader")
    assert name is not None
    assert held.find(name) is not None
    assert held.begin("nobody") is None
    now["at"] += sessions.IDLE_S + 1
    assert held.find(name) is None
    name = held.begin("reader") or ""
    for _ in range(int(sessions.LONGEST_S / sessions.IDLE_S) + 1):
        assert held.find(name) is not None or now["at"] > sessions.LONGEST_S
        now["at"] += sessions.IDLE_S - 1
    now["at"] += sessions.IDLE_S
    assert held.find(name) is None
    name = held.begin("reader") or ""
    path.write_text("# nobody")
    now["at"] += 2
    assert held.find(name) is None


async def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    now = {"at": 0.0}
    held = Sessions(Keyring(TOKEN), clock=lambda: now["at"])
    names = []
    for _ in range(4):
        now["at"] += 1
        names.append(held.begin(TOKEN) or "")
    assert [held.find(name) is not None for name in names] == [False, True, True, True]


# -- who may do what ---------------------------------------------------------------------------------------------------


async def test_a_viewer_reads_and_acts_on_nothing(signed_in: In, keys: Keyring) -> None:
    fake = everything()
    client = await signed_in(fake, "reader", keys=keys)
    for path in PATHS[:-1]:
        page = await seen(client, path)
        # A preview is a form for what is typed to stay out of addresses; it does nothing.
        preview = ["/console/templates/visit@1"] if path == "/console/templates/visit" else []
        assert [form.action for form in page.forms if form.method == "post"] == ["/console/logout", *preview], path
    fake.asked.clear()
    form = page.form("/console/logout").fields["form"]
    for path in ("/console/reminders", "/console/letters", "/console/holds"):
        answer = await client.post(path, data={"form": form, "id": "clinic/1", "act": "cancel"}, allow_redirects=False)
        assert answer.status == 403
        assert "this takes an operator&#39;s" in await answer.text()
    assert (fake.sent, fake.asked) == ([], [])


async def test_a_bound_token_sees_its_own_alone(signed_in: In, keys: Keyring) -> None:
    fake = Fake(rows={"clinic/1": stored(State.RETRY, tenant="clinic"), "x/1": stored(State.RETRY, tenant="other")})
    for token in ("clinic", "bound"):
        client = await signed_in(fake, token, keys=keys)
        page = await seen(client, "/console/reminders")
        assert [to for to in page.links if to.startswith("/console/reminders/")] == ["/console/reminders/clinic/1"]
        assert "/console/letters" not in page.links
        assert (await client.get("/console/reminders/x/1")).status in (403, 404)
        for path in ("/console/letters", "/console/letters/3/17", "/console/holds"):
            await seen(client, path, 403)
        form = page.form("/console/logout").fields["form"]
        for path in ("/console/letters", "/console/holds"):
            assert (await client.post(path, data={"form": form, "act": "skip"}, allow_redirects=False)).status == 403
        if token == "bound":
            await client.post(
                "/console/reminders", data={"form": form, "id": "x/1", "act": "cancel"}, allow_redirects=False
            )
            assert "this token may not write this" in (await seen(client, "/console/maybe")).text
    assert (fake.sent, fake.asked) == ([], [])


@pytest.mark.parametrize(
    ("act", "action"),
    [("fire", Action.FIRE), ("cancel", Action.CANCEL), ("acknowledge", Action.ACKNOWLEDGE), ("pause", Action.PAUSE),
     ("resume", Action.RESUME)],
)  # fmt: skip
async def test_each_act_is_an_event_with_its_actor(signed_in: In, keys: Keyring, act: str, action: Action) -> None:
    fake = everything()
    client = await signed_in(fake, "desk", keys=keys)
    page = await seen(client, "/console/reminders/clinic/1")
    answer = await send(client, page, "/console/reminders", {"act": act})
    assert (answer.status, answer.headers["Location"]) == (303, "/console/reminders/clinic/1")
    [event] = fake.events
    assert (event.action, event.reminder_id, event.actor) == (action, "clinic/1", "desk")
    assert "the trail will have it" in (await seen(client, "/console/reminders/clinic/1")).text
    assert "the trail will have it" not in (await seen(client, "/console/reminders/clinic/1")).text
    # Sent again by the same form, it is the same event.
    await send(client, page, "/console/reminders", {"act": act})
    assert len({event.event_id for event in fake.events}) == 1


async def test_a_snooze_and_what_is_wrong_with_it(signed_in: In) -> None:
    fake = everything()
    client = await signed_in(fake)
    page = await seen(client, "/console/reminders/clinic/1")
    await send(client, page, "/console/reminders", {"act": "snooze"}, length="2h")
    [event] = fake.events
    assert event.action is Action.SNOOZE
    assert event.at is not None
    await send(client, page, "/console/reminders", {"act": "snooze"}, length="soon", key="other")
    assert len(fake.events) == 1
    assert "is no duration" in (await seen(client, "/console/reminders/clinic/1")).text


@pytest.mark.parametrize("path", ["/console/maybe", "/console/reminders/clinic/2"])
@pytest.mark.parametrize(("answer", "action"), [("sent", Action.CONFIRM_SENT), ("not-sent", Action.CONFIRM_NOT_SENT)])
async def test_a_doubt_is_settled(signed_in: In, path: str, answer: str, action: Action) -> None:
    fake = everything()
    client = await signed_in(fake)
    page = await seen(client, path)
    form = next(form for form in page.forms if "reason" in form.fields)
    assert form.buttons == [("act", "sent"), ("act", "not-sent")]
    data = form.fields | {"act": answer, "reason": "the log has it"}
    assert (await client.post(form.action, data=data, allow_redirects=False)).status == 303
    [event] = fake.events
    assert (event.action, event.text, event.actor) == (action, "the log has it", "admin")
    assert event.delivery_id == form.fields["delivery_id"] != ""
    await client.post(form.action, data=data | {"reason": " "}, allow_redirects=False)
    assert len(fake.events) == 1


async def test_what_the_brokers_refuse_is_said(signed_in: In) -> None:
    fake = everything()
    fake.unsent = Unsent("gone")
    client = await signed_in(fake)
    page = await seen(client, "/console/reminders/clinic/1")
    await send(client, page, "/console/reminders", {"act": "fire"})
    assert "Not done: the brokers did not acknowledge it" in (await seen(client, "/console/reminders/clinic/1")).text


async def test_letters(signed_in: In, keys: Keyring) -> None:
    fake = everything()
    client = await signed_in(fake, "desk", keys=keys)
    page = await seen(client, "/console/letters?reason=temporary&which=all")
    assert fake.asked == [("letters", "temporary", "", "all")]
    assert {"/console/letters/3/17", "/console/reminders/clinic/1"} <= set(page.links)
    page = await seen(client, "/console/letters/3/17")
    assert "force" not in " ".join(page.ids)
    await client.post("/console/letters", data=page.forms[1].fields | {"act": "redrive"}, allow_redirects=False)
    await client.post(
        "/console/letters", data=page.forms[2].fields | {"act": "skip", "why": "a test"}, allow_redirects=False
    )
    await client.post("/console/letters", data=page.forms[2].fields | {"act": "skip", "why": ""}, allow_redirects=False)
    await client.post(
        "/console/letters", data=page.forms[1].fields | {"act": "redrive", "force": "yes"}, allow_redirects=False
    )
    assert fake.asked[1:] == [("redrive", "3/17", "desk", False), ("skip", "3/17", "a test", "desk")]
    text = (await seen(client, "/console/letters/3/17")).text
    assert "Only an administrator" in text
    fake.refused = "Letter 3/17 is gone."
    assert "is gone" in (await seen(client, "/console/letters/3/17", 404)).text
    assert "is gone" in (await seen(client, "/console/letters")).text


async def test_an_administrator_may_force(signed_in: In) -> None:
    fake = everything()
    client = await signed_in(fake)
    page = await seen(client, "/console/letters/3/17")
    assert "force" in page.ids
    await client.post(
        "/console/letters", data=page.forms[1].fields | {"act": "redrive", "force": "yes"}, allow_redirects=False
    )
    assert fake.asked == [("redrive", "3/17", "admin", True)]


async def test_holds(signed_in: In, keys: Keyring) -> None:
    fake = everything()
    client = await signed_in(fake, "desk", keys=keys)
    page = await seen(client, "/console/holds")
    assert "trouble" in page.text
    form = page.form("/console/holds", scope="channel:email")
    await client.post("/console/holds", data=form.fields | {"act": "release", "rate": "20"}, allow_redirects=False)
    new = {"form": form.fields["form"], "act": "hold", "scope": "channel:sms", "reason": "trouble", "length": "2h"}
    await client.post("/console/holds", data=new, allow_redirects=False)
    await client.post("/console/holds", data=new | {"reason": ""}, allow_redirects=False)
    await client.post("/console/holds", data=new | {"scope": "everything"}, allow_redirects=False)
    assert fake.asked == [
        ("release", "channel:email", "20", False, "desk"),
        ("hold", "channel:sms", "trouble", "2h", "", "desk"),
    ]
    assert "Only an administrator" in (await seen(client, "/console/holds")).text


# -- forgery -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, ""),
        ({}, "forged"),
        ({"Origin": "https://evil.example"}, None),
        ({"Origin": "null"}, None),
        ({"Sec-Fetch-Site": "cross-site"}, None),
        ({"Sec-Fetch-Site": "same-site"}, None),
    ],
)
async def test_forms_of_others_do_nothing(signed_in: In, headers: dict[str, str], form: str | None) -> None:
    fake = everything()
    client = await signed_in(fake)
    page = await seen(client, "/console/reminders/clinic/1")
    data = page.form("/console/reminders", act="cancel").fields
    data = data if form is None else data | {"form": form}
    for path in ("/console/reminders", "/console/letters", "/console/holds", "/console/logout"):
        answer = await client.post(path, data=data, headers=headers, allow_redirects=False)
        assert answer.status == 403, path
    assert (fake.sent, fake.asked) == ([], [])
    await seen(client, "/console/reminders")


async def test_a_form_of_one_session_is_none_of_another(signed_in: In) -> None:
    fake = everything()
    one, two = await signed_in(fake), await signed_in(fake)
    page = await seen(one, "/console/reminders/clinic/1")
    data = page.form("/console/reminders", act="cancel").fields
    assert (await two.post("/console/reminders", data=data, allow_redirects=False)).status == 403
    assert fake.sent == []


async def test_our_own_pages_may_say_where_they_come_from(signed_in: In) -> None:
    fake = everything()
    client = await signed_in(fake)
    page = await seen(client, "/console/reminders/clinic/1")
    data = page.form("/console/reminders", act="cancel").fields
    origin = str(client.make_url("/")).rstrip("/")
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/console/reminders", data=data, headers=headers, allow_redirects=False)).status == 303
    assert len(fake.events) == 1


# -- the page about it -------------------------------------------------------------------------------------------------


def test_the_page_lists_every_screen() -> None:
    text = (ROOT / "docs/console.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(GET|POST) (/[^`]*)` \| (\w+) \| (.+) \|$", text, re.MULTILINE))
    said = {(s.method, s.path, s.access.value if s.access else "nobody's", s.what) for s in SCREENS}
    assert {(m, p, a.replace("none", "nobody's"), html.unescape(w)) for m, p, a, w in told} == said


# -- templates ---------------------------------------------------------------------------------------------------------


async def test_a_template_is_shown_on_every_channel_and_what_is_typed_is_text_alone(signed_in: In) -> None:
    client = await signed_in(everything())
    listed = await seen(client, "/console/templates")
    assert "visit@1" in listed.text
    shown = await seen(client, "/console/templates/visit@1")
    for words in ("Email", "Sms", "Whatsapp", "Voice", "Push", "Dear Anna,", "1 part, GSM-7"):
        assert words in shown.text, words
    answer = await send(
        client, shown, "/console/templates/visit@1", {}, locale="de-AT", zone="Europe/Vienna",
        due="2027-01-05T08:30:00Z", **{"data.name": EVIL},
    )  # fmt: skip
    text = await answer.text()
    assert answer.status == 200
    assert EVIL not in text
    assert "Ihr Termin: 5. Jänner 2027" in text
    assert html.escape(EVIL, quote=False).replace('"', "&#34;") in text
    assert Page(text).faults == []


async def test_what_cannot_be_shown_of_a_template_is_said(signed_in: In, tmp_path: Path) -> None:
    client = await signed_in(everything())
    shown = await seen(client, "/console/templates/visit")
    for typed, words in (
        ({"zone": "Mars"}, "Mars is no time zone"),
        ({"locale": "xx"}, "xx is no locale"),
        ({"due": "soon"}, "is no instant"),
        ({"data.link": "javascript:x"}, "template_failed: visit@1"),
        ({"data.name": ""}, "template_variable_missing: visit@1"),
    ):
        answer = await send(client, shown, "/console/templates/visit@1", {}, **typed)
        assert words in await answer.text(), words
    await seen(client, "/console/templates/other", 404)
    folder = tmp_path / "templates"
    (folder / "bad").mkdir(parents=True)
    (folder / "bad" / "text.txt").write_text("{{ 7 * 7 }}")
    page = await seen(await signed_in(everything(), words=words_in(folder)), "/console/templates")
    assert "bad/text.txt:1: a template may not hold mul" in page.text
    nothing = await seen(await signed_in(everything(), words=Words()), "/console/templates")
    assert "No template is there" in nothing.text

    async def lost() -> Any:
        raise OSError(5, "the disk is gone")

    lost_ = await seen(await signed_in(everything(), words=Words(lost)), "/console/templates")
    assert "The templates cannot be read (the disk is gone)." in lost_.text
