"""The handlers of the console's pages."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from faust.web import Response

from app import reasons
from app.cli.times import duration_ms
from app.template_preview import Words
from app.tokens import Access, Token
from app.web import intake
from app.web.console.render import HEADERS, moved, page, style
from app.web.console.routes import SCREENS, Screen
from app.web.console.sessions import COOKIE, PATH, Session, Sessions
from app.web.console.words import TemplatePages
from app.web.listing import STATES
from app.web.ports import Desk, Keys, Refused
from app.web.submit import Submitting
from schemas.ids import provider_token
from schemas.names import DELIVERY_CHANNELS, Action, Channel
from schemas.records import ReminderEvent

log = logging.getLogger(__name__)

#: How long a page waits for its act to show on the trail, and how often it looks, in seconds.
SHOWN_S = 1.5
LOOK_S = 0.1
#: After a token that is not known, in seconds: guessing is slow.
WRONG_S = 0.5
#: Letters on one page.
MOST_LETTERS = 200
MAX_REASON = 200
#: What one button does with a reminder.
ACTS: dict[str, tuple[Action, str]] = {
    "fire": (Action.FIRE, "Send now"),
    "cancel": (Action.CANCEL, "Cancel"),
    "acknowledge": (Action.ACKNOWLEDGE, "Acknowledge"),
    "pause": (Action.PAUSE, "Pause"),
    "resume": (Action.RESUME, "Resume"),
}
_FILTERS = ("state", "channel", "due_before", "due_after", "prefix", "recipient", "category", "source", "cursor")
_INSIDE = re.compile(r"/console(/[A-Za-z0-9%._~/?=&:@,+-]*)?\Z")

#: A handler of the interface: it is given a request, a token and the parts of the path.
Inner = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a handler of the interface looks at of a request."""

    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in."""

    request: web.Request
    session: Session
    token: Token
    form: Mapping[str, str]

    def asked(self, query: Mapping[str, str] | None = None) -> Asked:
        """Return the same visitor's request of the interface."""
        return Asked({"Authorization": f"Bearer {self.session.bearer}"}, query or {})


def link(reminder_id: str) -> str:
    """Return the path of a reminder's page."""
    return f"/console/reminders/{quote(reminder_id, safe='/')}"


class Console(TemplatePages):
    """All pages. ``look``: ``GET /reminders/{id}``; ``find``: ``GET /reminders``."""

    def __init__(
        self,
        keys: Keys,
        look: Inner,
        find: Inner,
        submitting: Submitting,
        desk: Desk,
        words: Words | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._keys = keys
        self._look = look
        self._find = find
        self._submitting = submitting
        self._desk = desk
        self._words = words or Words()
        self._now_ms = now_ms
        self._sessions = Sessions(keys)

    def attach(self, app: Any) -> None:
        """Give an app the pages. Before Faust has its own page at ``/``."""
        for screen in SCREENS:
            app.web.web_app.router.add_route(screen.method, screen.pattern, self._guarded(screen))

    def _guarded(self, screen: Screen) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        handler: Callable[..., Awaitable[Response]] = getattr(self, f"on_{screen.name}")

        async def method(request: web.Request) -> web.StreamResponse:
            return cast("web.StreamResponse", await self._answered(screen, handler, request))

        method.__doc__ = screen.what
        return method

    async def _answered(
        self, screen: Screen, handler: Callable[..., Awaitable[Response]], request: web.Request
    ) -> Response:
        """Let through to a page only who may see it, and to an act only who came from a form of ours."""
        form: Mapping[str, str] = {}
        if request.method == "POST":
            if not _from_here(request):
                return page("message.html", "Not from here", status=403, words="This form is not one of ours.", back="")
            form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        if screen.access is None:
            return await handler(request, form)
        found = self._sessions.find(request.cookies.get(COOKIE, ""))
        if found is None:
            # Where a form was sent to there may be nothing to come back to.
            to = request.path_qs if request.method == "GET" and _INSIDE.match(request.path_qs) else PATH
            return moved(f"/console/login?{urlencode({'next': to})}" if to != PATH else "/console/login")
        session, token = found
        if request.method == "POST" and not session.fits(form.get("form", "")):
            words = "This form is too old; go back, load the page again, and repeat it."
            return page("message.html", "Too old", status=403, session=session, token=token, words=words, back=PATH)
        if not token.access.allows(screen.access):
            words = f"Your token is a {token.access.value}'s; this takes an {screen.access.value}'s."
            return page("message.html", "Not allowed", status=403, session=session, token=token, words=words, back=PATH)
        if screen.whole and (token.tenant or token.prefix):
            words = "Your token is bound to a tenant or a prefix of ids; this belongs to all."
            return page("message.html", "Not allowed", status=403, session=session, token=token, words=words, back=PATH)
        return await handler(Visit(request, session, token, form))

    # -- in and out

    async def on_front(self, _request: web.Request, _form: Mapping[str, str]) -> Response:
        """Lead to the console."""
        return moved(PATH)

    async def on_front_page(self, _visit: Visit) -> Response:
        """Lead to the list."""
        return moved("/console/reminders")

    async def on_style(self, _request: web.Request, _form: Mapping[str, str]) -> Response:
        """Return the stylesheet."""
        headers = {**HEADERS, "Cache-Control": "max-age=300", "Content-Type": "text/css; charset=utf-8"}
        return cast("Response", web.Response(body=style(), headers=headers))

    async def on_login_form(self, request: web.Request, _form: Mapping[str, str]) -> Response:
        """Show the form that takes a token."""
        return self._login(request.query.get("next", ""))

    def _login(self, next_: str, wrong: str = "", status: int = 200) -> Response:
        to = next_ if _INSIDE.match(next_) else ""
        closed = self._keys.empty
        return page("login.html", "Sign in", status=status, next=to, wrong=wrong, closed=closed)

    async def on_login(self, request: web.Request, form: Mapping[str, str]) -> Response:
        """Begin a session."""
        name = self._sessions.begin(form.get("token", "").strip())
        if name is None:
            await asyncio.sleep(WRONG_S)
            return self._login(form.get("next", ""), "This token is not known.", 401)
        to = form.get("next", "")
        response = moved(to if _INSIDE.match(to) else PATH)
        secure = request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        cast("web.Response", response).set_cookie(
            COOKIE, name, path=PATH, httponly=True, samesite="Strict", secure=secure
        )
        return response

    async def on_logout(self, visit: Visit) -> Response:
        """End a session."""
        self._sessions.end(visit.request.cookies.get(COOKIE, ""))
        response = moved("/console/login")
        cast("web.Response", response).del_cookie(COOKIE, path=PATH)
        return response

    # -- reminders

    async def on_reminders(self, visit: Visit) -> Response:
        """List reminders."""
        query = visit.request.query
        if wanted := query.get("id", "").strip():
            return moved(link(wanted))
        asked = {name: query[name] for name in _FILTERS if query.get(name)}
        rows, after, wrong = await self._listed(visit, asked, "/console/reminders")
        return page(
            "reminders.html",
            "Reminders",
            session=visit.session,
            token=visit.token,
            here="Reminders",
            asked=asked,
            rows=rows,
            after=after,
            wrong=wrong,
            link=link,
            states=["FAILED", *(state.value for state in STATES)],
            channels=[channel.lower() for channel in DELIVERY_CHANNELS],
        )

    async def on_maybe(self, visit: Visit) -> Response:
        """List what is in doubt."""
        cursor = visit.request.query.get("cursor", "")
        asked = {"state": "MAYBE_SENT"} | ({"cursor": cursor} if cursor else {})
        rows, after, wrong = await self._listed(visit, asked, "/console/maybe")
        for row in rows:
            row["token"] = provider_token(row["delivery_id"]) if row.get("delivery_id") else ""
        return page(
            "maybe.html",
            "Maybe sent",
            session=visit.session,
            token=visit.token,
            here="Maybe sent",
            rows=rows,
            after=after,
            wrong=wrong,
            link=link,
            key=_key,
        )

    async def _listed(self, visit: Visit, asked: Mapping[str, str], path: str) -> tuple[list[dict[str, Any]], str, str]:
        """Return the lines of a page, the address of the next one, and what is wrong."""
        status, told = _told(await self._find(visit.asked(asked), visit.token))
        if status != 200:
            return [], "", str(told.get("error", f"The workers answer {status}."))
        after = f"{path}?{urlencode({**asked, 'cursor': told['next']})}" if told["next"] else ""
        return told["reminders"], after, ""

    async def on_reminder(self, visit: Visit) -> Response:
        """Show one reminder."""
        rid = visit.request.match_info["id"]
        status, told = _told(await self._look(visit.asked(), visit.token, rid))
        if status != 200:
            words = str(told.get("error", f"The workers answer {status}."))
            return page(
                "message.html",
                rid,
                status=status,
                session=visit.session,
                token=visit.token,
                here="Reminders",
                words=words,
                back="/console/reminders",
            )
        return page(
            "reminder.html",
            rid,
            session=visit.session,
            token=visit.token,
            here="Reminders",
            found={"paused": False, "damaged": "", "definition": None, "delivery_id": "", **told},
            acts=[(name, label) for name, (_, label) in ACTS.items()],
            key=_key,
            sentence=lambda reason, channel: reasons.sentence(reason, Channel(channel or Channel.ANY)),
        )

    async def on_act(self, visit: Visit) -> Response:
        """Do something with a reminder, and show it again once its trail says so."""
        form = visit.form
        rid, act = form.get("id", ""), form.get("act", "")
        to = link(rid) if rid else "/console/reminders"
        try:
            event = self._event(rid, act, form)
        except ValueError as exc:
            visit.session.said.append(str(exc))
            return moved(to)
        before = await self._seq(visit, rid)
        status, told = _told(await self._submitting.act(visit.token, event, form.get("key", "")[:200]))
        if status != 202:
            faults = "; ".join(f"{fault['field']}: {fault['remedy']}" for fault in told.get("faults", ()))
            visit.session.said.append(f"Not done: {told.get('error', status)}{f' ({faults})' if faults else ''}.")
            return moved(to)
        log.info("an act by the console", extra={"reminder": rid, "action": event.action.value, "by": visit.token.name})
        if await self._shows(visit, rid, before):
            visit.session.said.append("Done; the trail has it.")
        else:
            visit.session.said.append("Sent; the trail will have it in a moment.")
        return moved(to)

    def _event(self, rid: str, act: str, form: Mapping[str, str]) -> ReminderEvent:
        """Return the event of an act. Raises ValueError, saying what to do."""
        if act in intake.ANSWERS:
            reason = form.get("reason", "").strip()
            if not 0 < len(reason) <= MAX_REASON:
                raise ValueError(f"Say how you know, in at most {MAX_REASON} characters.")
            return intake.resolve(rid, act, reason, form.get("delivery_id", ""))
        if act == "snooze":
            try:
                at = self._now_ms() + duration_ms(form.get("length", "").strip())
            except ValueError as exc:
                raise ValueError(f"Not snoozed: {exc}.") from exc
            return ReminderEvent(rid, action=Action.SNOOZE, at=at)
        if act not in ACTS:
            raise ValueError("This is nothing that can be done with a reminder.")
        return ReminderEvent(rid, action=ACTS[act][0])

    async def _seq(self, visit: Visit, rid: str) -> int:
        status, told = _told(await self._look(visit.asked(), visit.token, rid))
        trail = told.get("trail") if status == 200 else None
        return int(trail[-1]["seq"]) if trail else 0

    async def _shows(self, visit: Visit, rid: str, before: int) -> bool:
        """Return whether the trail has grown, as soon as it has."""
        until = time.monotonic() + SHOWN_S
        while time.monotonic() < until:
            if await self._seq(visit, rid) > before:
                return True
            await asyncio.sleep(LOOK_S)
        return False

    # -- dead letters

    async def on_letters(self, visit: Visit) -> Response:
        """List dead letters."""
        asked = {name: visit.request.query.get(name, "").strip() for name in ("reason", "topic", "which")}
        wrong = ""
        rows: list[dict[str, str]] = []
        total = 0
        try:
            rows, total = await self._desk.letters(asked["reason"], asked["topic"], asked["which"], MOST_LETTERS)
        except Refused as exc:
            wrong = str(exc)
        return page(
            "letters.html",
            "Dead letters",
            session=visit.session,
            token=visit.token,
            here="Dead letters",
            asked=asked,
            rows=rows,
            total=total,
            wrong=wrong,
            link=link,
        )

    async def on_letter(self, visit: Visit) -> Response:
        """Show one dead letter."""
        place = f"{visit.request.match_info['partition']}/{visit.request.match_info['offset']}"
        try:
            lines = await self._desk.letter(place)
        except Refused as exc:
            return page(
                "message.html",
                f"Letter {place}",
                status=404,
                session=visit.session,
                token=visit.token,
                here="Dead letters",
                words=str(exc),
                back="/console/letters",
            )
        return page(
            "letter.html",
            f"Letter {place}",
            session=visit.session,
            token=visit.token,
            here="Dead letters",
            lines=lines,
            place=place,
        )

    async def on_act_on_letter(self, visit: Visit) -> Response:
        """Put a letter back, or close it."""
        form, token = visit.form, visit.token
        place, act, why = form.get("letter", ""), form.get("act", ""), form.get("why", "").strip()
        force = form.get("force") == "yes"
        try:
            if act == "redrive":
                if force and not token.access.allows(Access.ADMIN):
                    raise Refused("Only an administrator may put back what would be refused again.")
                said = await self._desk.redrive(place, token.name, force)
            elif act == "skip":
                if not 0 < len(why) <= MAX_REASON:
                    raise Refused(f"Say why, in at most {MAX_REASON} characters.")
                said = await self._desk.skip(place, why, token.name)
            else:
                raise Refused("This is nothing that can be done with a letter.")
        except Refused as exc:
            said = str(exc)
        visit.session.said.append(said)
        return moved(f"/console/letters/{quote(place, safe='/')}" if _PLACE.match(place) else "/console/letters")

    # -- holds

    async def on_holds(self, visit: Visit) -> Response:
        """Show what is held."""
        return page(
            "holds.html", "Holds", session=visit.session, token=visit.token, here="Holds", rows=self._desk.holds()
        )

    async def on_act_on_hold(self, visit: Visit) -> Response:
        """Hold or release a scope."""
        form, token = visit.form, visit.token
        given = {name: form.get(name, "").strip() for name in ("scope", "reason", "length", "start", "rate")}
        try:
            if given["scope"].lower() in ("*", "everything") and not token.access.allows(Access.ADMIN):
                raise Refused("Only an administrator may hold or release everything.")
            match form.get("act", ""):
                case "hold":
                    if not 0 < len(given["reason"]) <= MAX_REASON:
                        raise Refused(f"Give a reason, in at most {MAX_REASON} characters.")
                    said = await self._desk.hold(
                        given["scope"], given["reason"], given["length"], given["start"], token.name
                    )
                case "release":
                    recurring = form.get("recurring") == "yes"
                    said = await self._desk.release(given["scope"], given["rate"], recurring, token.name)
                case _:
                    raise Refused("This is nothing that can be done with a hold.")
        except Refused as exc:
            said = str(exc)
        visit.session.said.append(said)
        return moved("/console/holds")


_PLACE = re.compile(r"\d{1,9}/\d{1,18}\Z")


def _key() -> str:
    """Return what names one filled form: sent twice, it acts once."""
    return secrets.token_urlsafe(16)


def _from_here(request: web.Request) -> bool:
    """Return whether a form was sent by a page of this very server, as far as the browser says."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.host


def _told(response: Response) -> tuple[int, dict[str, Any]]:
    """Return what a handler of the interface answers."""
    made = cast("web.Response", response)
    body = made.body
    return made.status, orjson.loads(body) if isinstance(body, bytes | bytearray) and body else {}
