"""What a recipient allows, by channel and category, on a page of their own: seen and changed by the link of a mail.

The page is made where the recipient's row is; a worker that has it not passes the request on once. What is chosen is
with the brokers before it is answered.
"""

import logging
import re
from collections.abc import Mapping
from hmac import compare_digest
from typing import cast
from urllib.parse import parse_qs, quote

from aiohttp import web
from faust.web import Request, Response

from app.callers import REFUSED, Callers
from app.web.answers import raw
from app.web.links.choices import Choice, changes, choices
from app.web.links.render import headers, page
from app.web.links.views import caller, dead, now_ms
from app.web.ports import Forward, Outgoing, PreferencePorts, Reply, Unsent
from schemas import codec
from schemas.links import Act, Link
from schemas.records import RecipientEvent, RecipientProfile

log = logging.getLogger(__name__)

HOP = "X-Reminders-Hop"
SOURCE = "preferences"
FORM = "application/x-www-form-urlencoded"
MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 1000
TITLE = "Your preferences"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,2048}\Z")


class PreferencePages:
    """The handlers of the page, on a worker that may have the recipient's row."""

    def __init__(self, ports: PreferencePorts | None, callers: Callers) -> None:
        self._ports = ports
        self._callers = callers

    async def show(self, request: Request, _access: None, token: str) -> Response:
        """Show what the recipient allows. Changes nothing."""
        return await self._at_the_row(request, token, None)

    async def change(self, request: Request, _access: None, token: str) -> Response:
        """Take what the recipient chose."""
        body = await _body(cast("web.Request", request))
        if body is None:
            return page(TITLE, ("Please use the form of this page.",), status=413)
        return await self._at_the_row(request, token, body)

    async def _at_the_row(self, request: Request, token: str, body: bytes | None) -> Response:
        who, ports = caller(self._callers, request), self._ports
        mark = ports.links.passed_on(token) if ports is not None else ""
        # Counted where it came in; that one of us passed it on cannot be made up.
        passed_on = bool(mark) and compare_digest(request.headers.get(HOP, "").encode(), mark.encode())
        if not passed_on and (wait := self._callers.wait_s(who)):
            return page("Too fast", ("Please try again in a moment.",), status=429, retry_after_s=wait)
        link = ports.links.open(token, now_ms()) if ports is not None else None
        if ports is None or link is None or link.act is not Act.PREFERENCES:
            self._callers.spend(who, REFUSED)
            return dead()
        if not passed_on:
            self._callers.spend(who, 1)
        owner = ports.owners.owner(link.subject)
        if owner:
            return _later() if passed_on else await passed(ports.forward, owner, token, {HOP: mark}, body)
        try:
            profile = ports.profiles.profile(link.subject) if owner is not None else None
        except LookupError:
            return _later()
        if owner is None or not ports.why_known():
            return _later()
        if profile is None or profile.erased:
            return dead()
        return _shown(ports, profile) if body is None else await self._changed(ports, link, profile, body)

    async def _changed(self, ports: PreferencePorts, link: Link, profile: RecipientProfile, body: bytes) -> Response:
        try:
            form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            form = {}
        if "form" not in form:
            # Without it nobody pressed the page's button: an empty form would refuse everything.
            return page(TITLE, ("Please use the form of this page.",), status=400)
        now = now_ms()
        changed = list(changes(_choices(ports, profile), set(form.get("on", ())), now))
        lifted = [
            Outgoing(noted.key, noted.value)
            for choice, consent in changed
            if consent.granted
            for address in choice.addresses
            for noted in ports.desk.lifted(choice.channel, address, scope=choice.category)
        ]
        try:
            if lifted:
                await ports.suppressions.send(lifted)
            if changed:
                event = RecipientEvent(link.subject, consents=tuple(c for _, c in changed), source=SOURCE)
                await ports.recipients.send([Outgoing(link.subject.encode(), codec.encode(event))])
        except Unsent as exc:
            log.warning("what a recipient chose was not kept: %s", exc)
            return page("Not now", ("Please try again in a moment.",), status=503, retry_after_s=1)
        log.info("a recipient has chosen", extra={"changes": len(changed)})
        lines = [f"{c.category}, {choice.words}: {'on' if c.granted else 'off'}" for choice, c in changed]
        return page("Your choice is kept", (*(lines or ["Nothing was changed."]), "It holds within a few seconds."))


class PassedOn:
    """The same handlers on a worker without recipients: what they are asked goes to the delivery worker beside it."""

    def __init__(self, forward: Forward, beside: str, callers: Callers) -> None:
        self._forward = forward
        self._beside = beside
        self._callers = callers

    async def show(self, request: Request, _access: None, token: str) -> Response:
        """Pass a look on."""
        return await self._pass(request, token, None)

    async def change(self, request: Request, _access: None, token: str) -> Response:
        """Pass a choice on."""
        body = await _body(cast("web.Request", request))
        if body is None:
            return page(TITLE, ("Please use the form of this page.",), status=413)
        return await self._pass(request, token, body)

    async def _pass(self, request: Request, token: str, body: bytes | None) -> Response:
        who = caller(self._callers, request)
        if wait := self._callers.wait_s(who):
            return page("Too fast", ("Please try again in a moment.",), status=429, retry_after_s=wait)
        if not self._beside or not _TOKEN.match(token):
            self._callers.spend(who, REFUSED)
            return dead()
        # As the proxy that we are to it, so that it counts whom we count.
        made = await passed(self._forward, self._beside, token, {"X-Forwarded-For": who.partition("/")[0]}, body)
        self._callers.spend(who, REFUSED if made.status == 404 else 1)
        return made


async def passed(forward: Forward, to: str, token: str, marks: Mapping[str, str], body: bytes | None) -> Response:
    """Return what another worker answers."""
    sent = dict(marks) | ({"Content-Type": FORM} if body is not None else {})
    try:
        reply: Reply = await forward(f"{to.rstrip('/')}/preferences/{quote(token)}", sent, body)
    except (OSError, TimeoutError) as exc:
        log.warning("the worker of a recipient does not answer: %s", type(exc).__name__)
        return _later()
    return raw(reply.status, reply.body, f"{reply.content_type}; charset=utf-8", headers())


async def _body(request: web.Request) -> bytes | None:
    """Return a body that is not too large, else None."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES and (more := await request.content.read(MAX_BODY_BYTES + 1 - len(body))):
        body += more
    return bytes(body) if len(body) <= MAX_BODY_BYTES else None


def _choices(ports: PreferencePorts, profile: RecipientProfile) -> list[Choice]:
    return choices(profile, ports.categories.named, ports.categories.of, ports.why)


def _shown(ports: PreferencePorts, profile: RecipientProfile) -> Response:
    found = _choices(ports, profile)
    by_category: dict[str, list[Choice]] = {}
    for choice in found:
        by_category.setdefault(choice.category, []).append(choice)
    zone = f" ({profile.zone})" if profile.zone else ""
    quiet = f"Quiet hours{zone}: {', '.join(profile.quiet)}." if profile.quiet else "No quiet hours are set."
    lines = ("Choose which messages you want to get, and how.",)
    if not found:
        lines = ("There is nothing that you can choose here.",)
    return page(TITLE, lines, template="preferences.html", groups=by_category, quiet=quiet)


def _later() -> Response:
    return page("Not now", ("Please try again in a moment.",), status=503, retry_after_s=1)
