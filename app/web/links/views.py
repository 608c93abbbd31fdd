"""What a link in a message does: GET shows what it would do, POST does it.

Scanners and previews fetch every address in a mail, so nothing follows from a GET. One POST is enough, without a
cookie, a login or a redirect: mail programs send it by themselves (RFC 8058). It is with the brokers before it is
answered; the same POST again changes nothing. Whatever is wrong with a link, the answer is the same.
"""

import logging
import time
from hashlib import sha256
from typing import cast

from aiohttp import web
from faust.web import Request, Response

from agents.suppressions import UNSUBSCRIBED
from app.callers import REFUSED, Callers
from app.web.links.render import page
from app.web.ports import LinkPorts, Outgoing, Outlet, Unsent
from schemas import codec, ids
from schemas.links import Act, Link
from schemas.names import Action, Channel
from schemas.records import ReminderEvent, SuppressionRecord

log = logging.getLogger(__name__)

#: Largest body that is taken, in bytes; what is in it does not matter, the address says all.
MAX_BODY_BYTES = 64 * 1024
#: Who acts where a recipient answered.
RECIPIENT = "recipient"
SOURCE = "link"


class LinkPages:
    """The handlers of links. ``reminders``: where answers of people go, as events."""

    def __init__(self, ports: LinkPorts | None, reminders: Outlet, callers: Callers) -> None:
        self._ports = ports
        self._reminders = reminders
        self._callers = callers

    async def show(self, request: Request, _access: None, token: str) -> Response:
        """Say what the link would do. Changes nothing."""
        found = self._looked(request, token)
        if not isinstance(found, Link):
            return found
        if found.act is Act.ACKNOWLEDGE:
            line = f"Press the button to say that you have got the reminder{_when(found)}."
            return page("Have you got it?", (line,), button="Yes, I have got it")
        lines = (
            f"Do you want no more mails of this kind ({found.category}) to your address?",
            "Mails of other kinds are not changed by it.",
        )
        return page("Unsubscribe", lines, button="Unsubscribe")

    async def act(self, request: Request, _access: None, token: str) -> Response:
        """Do what the link is for."""
        if (cast("web.Request", request).content_length or 0) > MAX_BODY_BYTES:
            return page("Too much", ("Press the button on the page of the link.",), status=413)
        found = self._looked(request, token)
        if not isinstance(found, Link) or self._ports is None:
            return cast("Response", found)
        try:
            if found.act is Act.ACKNOWLEDGE:
                await self._reminders.send([_acknowledgement(found)])
                title, lines = "Thank you", ("Your answer has been noted. You can close this page.",)
            else:
                await self._ports.suppressions.send([suppression(found, UNSUBSCRIBED, SOURCE)])
                title = "You are unsubscribed"
                lines = (f"You will get no more mails of this kind ({found.category}) at your address.",)
        except Unsent as exc:
            log.warning("what a link asked for was not kept: %s", exc)
            return page("Not now", ("Please try again in a moment.",), status=503, retry_after_s=1)
        log.info("a link was followed", extra={"act": found.act.name.lower()})
        return page(title, lines)

    def _looked(self, request: Request, token: str) -> Link | Response:
        """Return what a link stands for, or the answer to whoever is too fast or has none of ours."""
        who = caller(self._callers, request)
        if wait := self._callers.wait_s(who):
            return page("Too fast", ("Please try again in a moment.",), status=429, retry_after_s=wait)
        link = self._ports.links.open(token, now_ms()) if self._ports is not None else None
        if link is None or link.act is Act.PREFERENCES or not _means_something(link):
            self._callers.spend(who, REFUSED)
            return dead()
        self._callers.spend(who, 1)
        return link


def caller(callers: Callers, request: Request) -> str:
    """Return whom a request is counted for."""
    asked = cast("web.Request", request)
    return callers.who(asked.remote or "", ",".join(asked.headers.getall("X-Forwarded-For", [])))


def dead() -> Response:
    """Return the one answer to a link that does not hold, whatever the reason."""
    lines = ("It was changed on its way, or it is too old. Use the link of a newer message.",)
    return page("This link does not hold", lines, status=404)


def now_ms() -> int:
    """Return the time, ms UTC."""
    return time.time_ns() // 1_000_000


def _means_something(link: Link) -> bool:
    return link.act is not Act.ACKNOWLEDGE or ids.named(link.subject) is not None


def _named(link: Link) -> tuple[str, str]:
    named = ids.named(link.subject)
    if named is None:
        raise AssertionError("looked at before")
    return named[0], named[1].rpartition("/")[0]


def _when(link: Link) -> str:
    """Return when the reminder is for, as its own wall clock has it; nothing of an instant, whose zone is not told."""
    _, start = _named(link)
    return "" if not start or start.startswith("@") else f" for {start.replace('T', ' ')}"


def _acknowledgement(link: Link) -> Outgoing:
    reminder_id, start = _named(link)
    event = ReminderEvent(
        reminder_id,
        action=Action.ACKNOWLEDGE,
        occurrence=start,
        event_id=sha256(f"{SOURCE}:{link.subject}".encode()).hexdigest()[:32],
        source=SOURCE,
        actor=RECIPIENT,
        # Who answers is who got this message.
        delivery_id=link.subject,
    )
    return Outgoing(reminder_id.encode(), codec.encode(event))


def suppression(link: Link, reason: str, source: str) -> Outgoing:
    """Return the record that suppresses the address for its category: the link has its key, and nobody needs the
    address."""
    version = int(link.subject.partition(".")[0])
    record = SuppressionRecord(Channel.EMAIL, reason, now_ms(), version, 0, link.category, source)
    return Outgoing(link.subject.encode(), codec.encode(record))
