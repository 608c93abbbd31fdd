"""The views: each route of ``app.web.routes`` with who may use it, and what it answers."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast
from urllib.parse import quote

from aiohttp import web
from faust.web import Request, Response, View

from agents.meter import EXPOSITION
from app.tokens import Token
from app.web import openapi
from app.web.answers import answer, error, raw
from app.web.callbacks import Callbacks
from app.web.callbacks_meta import MetaCallbacks
from app.web.callbacks_sendgrid import SendGridCallbacks
from app.web.console.views import Console
from app.web.links.preferences import PassedOn, PreferencePages
from app.web.links.views import LinkPages
from app.web.listing import BUDGET_S, Later, Listing, Unfit, read
from app.web.mail_in import MailIn
from app.web.page import damaged, reminder
from app.web.ports import CorePorts, DeliveryPorts, Ports
from app.web.quota import Quotas
from app.web.routes import JSON, Route, routes
from app.web.submit import Submitting
from schemas.codec import Undecodable

log = logging.getLogger(__name__)

#: Set on a request that one worker passes to another: it is passed once.
HOP = "X-Reminders-Hop"
CORRELATION = "X-Correlation-Id"
# Nobody between us and the caller keeps a copy, and no browser guesses what it is.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

#: What answers a route: the request, the token (None where the route is open to all), and the parts of the path.
Handler = Callable[..., Awaitable[Response]]


def attach_core(app: Any, ports: CorePorts) -> None:
    """Give a core app its views."""

    async def of_one(request: Request, token: Token, id: str) -> Response:  # noqa: A002 - the name in the path
        """Answer here, or pass the request once to the owner."""
        if not id.startswith(token.prefix):
            return error(403, "this token may only use ids with its prefix")
        owner = ports.owners.owner(id)
        if owner:
            return await _passed_on(request, ports, owner, id)
        if owner is None:
            return _later("no worker owns this reminder at the moment; try again")
        try:
            row = ports.rows.row(id)
        except LookupError:
            return _later("this worker is taking the reminder over; try again")
        if row is None:
            return error(404, _MISSING)
        try:
            shown = reminder(id, row, time.time_ns() // 1_000_000)
        except Undecodable as exc:
            log.error("the row of a reminder cannot be read: %s", exc.reason, extra={"reminder": id})
            shown = damaged(id, row, exc.reason)
        return answer(200, shown) if _sees(token, shown) else error(404, _MISSING)

    listing = Listing(ports.rows, ports.owners, ports.forward, ports.partitions)

    async def of_all(request: Request, token: Token) -> Response:
        """Answer for one partition of this worker, or gather over all."""
        now = time.time_ns() // 1_000_000
        try:
            wanted = read(cast("web.Request", request).query, token, ports.partitions, now)
            if wanted.partition is not None and request.headers.get(HOP):
                found = await listing.walked(wanted, wanted.partition, wanted.place.key, time.perf_counter() + BUDGET_S)
            else:
                found = await listing.gathered(wanted, _hop(request))
        except Unfit as exc:
            return error(exc.status, str(exc))
        except Later as exc:
            return _later(f"{exc}; try again")
        return answer(200, {"reminders": found.rows, "next": str(found.next) if found.next else None})

    submitting = Submitting(ports.outlet, Quotas(ports.quota_per_minute, ports.keys.quota, time.monotonic))

    async def described(_request: Request, _token: None) -> Response:
        return raw(200, openapi.text(), JSON)

    callbacks = Callbacks(ports.callbacks, ports.outlet, ports.callers)
    meta = MetaCallbacks(ports.callbacks, ports.outlet, ports.callers)
    mails = MailIn(ports.mails, ports.callers)
    links = LinkPages(ports.links, ports.outlet, ports.callers)
    preferences = PassedOn(ports.forward, ports.beside, ports.callers)
    handlers = {
        **_common(ports),
        "twilio_message": callbacks.message,
        "twilio_call": callbacks.call,
        "twilio_key": callbacks.key,
        "twilio_inbound": callbacks.inbound,
        "meta_verify": meta.verify,
        "meta_news": meta.news,
        "sendgrid_news": SendGridCallbacks(ports.events, ports.callers).news,
        "mail": mails.take,
        "link": links.show,
        "follow_link": links.act,
        "preferences": preferences.show,
        "choose": preferences.change,
        "openapi": described,
        "reminder": of_one,
        "reminders": of_all,
        "submit": submitting.post,
        "cancel": submitting.delete,
        "resolve": submitting.resolve,
    }
    Console(ports.keys, of_one, of_all, submitting, ports.desk, ports.words).attach(app)
    attach(app, ports, routes(core=True), handlers)


def attach_delivery(app: Any, ports: DeliveryPorts) -> None:
    """Give a delivery app its views."""
    preferences = PreferencePages(ports.preferences, ports.callers)
    handlers = {**_common(ports), "preferences": preferences.show, "choose": preferences.change}
    attach(app, ports, routes(core=False), handlers)


def attach(app: Any, ports: Ports, table: Iterable[Route], handlers: Mapping[str, Handler]) -> None:
    """Give an app the views of a table of routes, each with the handler of its operation."""
    by_path: dict[str, list[Route]] = {}
    for route in table:
        if not route.faust:
            by_path.setdefault(route.pattern, []).append(route)
    for pattern, methods in by_path.items():
        members = {route.method.lower(): _guarded(route, handlers[route.operation], ports) for route in methods}
        kind = cast("type[View]", type(f"View_{methods[0].operation}", (View,), members))
        app.page(pattern, name=methods[0].operation)(kind)
    app.web.web_app.middlewares.append(_shielded)


def _common(ports: Ports) -> dict[str, Handler]:
    vital = ports.vital

    async def live(_request: Request, _token: None) -> Response:
        return _state(vital.live())

    async def ready(_request: Request, _token: None) -> Response:
        return _state(vital.live() or vital.ready(), vital.notices())

    async def health(_request: Request, _token: None) -> Response:
        return answer(
            200, {"live": vital.live() or "ok", "ready": vital.ready() or "ok", **vital.notices(), **vital.details()}
        )

    async def metrics(_request: Request, _token: None) -> Response:
        return raw(200, ports.metrics.expose(), EXPOSITION)

    async def providers(_request: Request, _token: None) -> Response:
        return answer(200, {"providers": ports.providers()})

    async def provider(_request: Request, _token: None, name: str) -> Response:
        found = [one for one in ports.providers() if one["provider"] == name.lower()]
        if not found:
            return error(404, "no such provider is configured here; see /health/providers")
        works = all(one["state"] == "CLOSED" for one in found)
        return answer(200 if works else 503, {"status": "ok" if works else "not called", "providers": found})

    return {
        "live": live,
        "ready": ready,
        "health": health,
        "metrics": metrics,
        "providers": providers,
        "provider": provider,
    }


# -- who may ask -------------------------------------------------------------------------------------------------------


def _guarded(route: Route, handler: Handler, ports: Ports) -> Handler:
    """Let through to a handler only who may use its route."""

    async def method(_view: View, request: Request, **parts: str) -> Response:
        if route.access is None:
            return await handler(request, None, **parts)
        if ports.keys.empty:
            return error(403, "set WEB_TOKEN or WEB_TOKENS_FILE to use this view")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        token = ports.keys.find(given.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            return error(401, "send the header Authorization: Bearer TOKEN", **{"WWW-Authenticate": "Bearer"})
        if not token.access.allows(route.access):
            return error(403, f"this token is a {token.access}'s; this takes the role {route.access}")
        return await handler(request, token, **parts)

    method.__doc__ = route.summary
    return method


def _sees(token: Token, shown: Mapping[str, Any]) -> bool:
    """Return whether a token may see a reminder: one of a tenant sees no other's, nor what tells of no tenant."""
    if not token.tenant:
        return True
    definition = shown.get("definition")
    return definition is not None and definition["tenant"] == token.tenant


@web.middleware
async def _shielded(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer in JSON whatever goes wrong before a view or in it, and nothing of what was asked for."""
    response: web.StreamResponse
    try:
        response = await handler(request)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        allow = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else {}
        response = cast("web.StreamResponse", error(exc.status, exc.reason.lower(), **allow))
    except Exception:
        log.exception("a view failed")
        response = cast("web.StreamResponse", error(500, "our fault; the log of the worker has it"))
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


# -- answers -----------------------------------------------------------------------------------------------------------

_MISSING = "no such reminder; it may have ended longer ago than RETENTION_S"


def _later(why: str) -> Response:
    return error(503, why, **{"Retry-After": "1"})


def _state(why: str, more: Mapping[str, object] | None = None) -> Response:
    return answer(503 if why else 200, {"status": why or "ok", **(more or {})})


def _hop(request: Request) -> dict[str, str]:
    """Return the headers with which a request is passed on."""
    headers = {"Authorization": request.headers["Authorization"], HOP: "1"}
    if correlation := request.headers.get(CORRELATION):
        headers[CORRELATION] = correlation
    return headers


async def _passed_on(request: Request, ports: CorePorts, owner: str, reminder_id: str) -> Response:
    if request.headers.get(HOP):
        # Two workers that each believe the other to be the owner would else pass it for ever.
        return _later("the reminder is moving between workers; try again")
    try:
        reply = await ports.forward(f"{owner.rstrip('/')}/reminders/{quote(reminder_id, safe='')}", _hop(request))
    except (OSError, TimeoutError) as exc:
        log.warning("the owner of a reminder does not answer: %s", type(exc).__name__, extra={"reminder": reminder_id})
        return _later("the worker that owns this reminder does not answer; try again")
    return raw(reply.status, reply.body, reply.content_type)
