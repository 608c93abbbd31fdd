"""Mails that come back: bounces, complaints, and mails that unsubscribe, each passed on whole by a mail server of ours.

The server shows who it is; the mail itself is believed by nobody. What it is about says the address that it was sent
to, which only we can have made, so that a forged bounce suppresses nobody: whoever has a true address can tell us of
that one mail, which was sent to them. What follows is with the brokers before the answer; the same mail again changes
nothing.
"""

import asyncio
import base64
import binascii
import hmac
import logging
from collections.abc import Sequence
from typing import assert_never, cast

from aiohttp import web
from faust.web import Request, Response

from agents.suppressions import BOUNCED, COMPLAINED, UNSUBSCRIBED
from app.callers import REFUSED, Callers
from app.web.answers import answer, error
from app.web.bodies import Refused, body_of
from app.web.links.views import caller, now_ms, suppression
from app.web.ports import MailPorts, Outgoing, Unsent
from channels import mail_reports
from channels.mail_reports import About, Report
from channels.smtp_settings import PROVIDER
from schemas import codec
from schemas.links import Act, Link
from schemas.names import Channel, OutcomeKind
from schemas.records import Delivery, DeliveryReceipt, Message
from tables import receipts

log = logging.getLogger(__name__)

MAIL = "message/rfc822"
#: What stands in a suppression as its source.
SOURCE = "mail"
#: Most recipients of an envelope that are looked at.
MAX_RECIPIENTS = 20


class MailIn:
    """The handler of mails."""

    def __init__(self, ports: MailPorts | None, callers: Callers) -> None:
        self._ports = ports
        self._callers = callers

    async def take(self, request: Request, _token: None) -> Response:
        """Take one mail as it is, with the envelope's recipients as ``to``."""
        asked, who = cast("web.Request", request), caller(self._callers, request)
        if wait := self._callers.wait_s(who):
            return error(429, "too many requests that were refused", **{"Retry-After": str(wait)})
        ports = self._ports
        if ports is None:
            self._callers.spend(who, REFUSED)
            return error(404, "no mails are taken: SMTP_CALLBACK_TOKEN is not set")
        if not _shown(asked.headers.get("Authorization", ""), ports.tokens()):
            self._callers.spend(who, REFUSED)
            said = "send the header Authorization: Bearer SMTP_CALLBACK_TOKEN"
            return error(401, said, **{"WWW-Authenticate": "Bearer"})
        try:
            raw = await _body(asked)
            sent_to = asked.query.getall("to", [])[:MAX_RECIPIENTS]
            # Beside the loop, which has better to do for the time that a megabyte takes.
            report = await asyncio.to_thread(mail_reports.read, raw, sent_to)
            about = await self._followed(ports, report)
        except Refused as exc:
            return error(exc.status, str(exc))
        except Unsent as exc:
            return error(503, f"not kept: {exc}; send it again", **{"Retry-After": "1"})
        log.info("a mail came back", extra={"about": about.value, "reason": report.reason, "code": report.code})
        return answer(200, {"taken": about.value})

    async def _followed(self, ports: MailPorts, report: Report) -> About:
        """Keep what follows from a mail; return what it was taken for."""
        match report.about:
            case About.NOTHING:
                return About.NOTHING
            case About.UNSUBSCRIBE:
                link = _link(ports, report)
                if link is None:
                    raise Refused(404, "the link does not hold: changed, too old, or none of ours")
                await ports.suppressions.send([suppression(link, UNSUBSCRIBED, SOURCE)])
            case About.COMPLAINED:
                await self._complained(ports, report)
            case About.FAILED | About.DELAYED | About.DELIVERED:
                found = await _sent(ports, report)
                if not found:
                    raise Refused(404, _NOBODYS)
                await self._told(ports, report, found)
            case other:
                assert_never(other)
        return report.about

    async def _complained(self, ports: MailPorts, report: Report) -> None:
        now = now_ms()
        found, link = await _sent(ports, report), _link(ports, report)
        if found:
            noted = [
                ports.desk.record(Channel.EMAIL, message.address, COMPLAINED, now, scope=one.category, source=SOURCE)
                for one, message in found
            ]
            await ports.suppressions.send([Outgoing(one.key, one.value) for one in noted])
            await ports.receipts.send(
                [news for one, _ in found for news in _came_of_it(one, receipts.COMPLAINED, report.code, now)]
            )
        elif link is not None:
            # Whoever collects complaints may leave out the envelope's sender; the link of the mail has the key as well.
            await ports.suppressions.send([suppression(link, COMPLAINED, SOURCE)])
        else:
            raise Refused(404, _NOBODYS)

    async def _told(self, ports: MailPorts, report: Report, found: Sequence[tuple[Delivery, Message]]) -> None:
        now = now_ms()
        if report.about is About.DELAYED:
            news = [told for one, _ in found for told in _came_of_it(one, receipts.DELAYED, report.code, now)]
        elif report.about is About.DELIVERED:
            news = [_receipt(one, OutcomeKind.DELIVERED, now) for one, _ in found]
        else:
            news = [_receipt(one, report.outcome, now, report.code, report.reason) for one, _ in found]
        await ports.receipts.send(news)
        if report.blames_address:
            # What went together went to one address.
            noted = ports.desk.record(Channel.EMAIL, found[0][1].address, BOUNCED, now, source=SOURCE)
            await ports.suppressions.send([Outgoing(noted.key, noted.value)])


_NOBODYS = "no address in it names a delivery that is remembered; was CALLBACK_KEY changed, or is it older than a week?"


def _came_of_it(delivery: Delivery, what: str, code: str, at: int) -> list[Outgoing]:
    """Return what is told of a mail that was taken and neither arrived nor failed by this. That it was taken is news
    where that was in doubt."""
    return [_receipt(delivery, OutcomeKind.ACCEPTED, at), _receipt(delivery, OutcomeKind.NONE, at, code, what)]


def _receipt(delivery: Delivery, outcome: OutcomeKind, at: int, code: str = "", detail: str = "") -> Outgoing:
    receipt = DeliveryReceipt(
        delivery.reminder_id,
        delivery.delivery_id,
        outcome,
        at,
        provider=PROVIDER,
        code=code,
        detail=detail,
        attempt=delivery.attempt,
    )
    return Outgoing(delivery.reminder_id.encode(), codec.encode(receipt))


async def _sent(ports: MailPorts, report: Report) -> list[tuple[Delivery, Message]]:
    """Return what the mail was sent for that a report is about: all that may have gone in it where it failed, else the
    one that it was sent as. Of the others nobody knows here whether they were left out before the call."""
    place = next(ports.addresses.found(report.addresses), None)
    if place is None:
        return []
    found = await ports.mails.find(place.partition, place.offset)
    named = [(one, message) for one, message in found if place.is_of(one.delivery_id)]
    return found if named and report.about is About.FAILED else named


def _link(ports: MailPorts, report: Report) -> Link | None:
    """Return what a sealed link in a mail stands for."""
    link = ports.links.open(report.link, now_ms()) if report.link else None
    return link if link is not None and link.act is Act.UNSUBSCRIBE else None


def _shown(header: str, tokens: Sequence[str]) -> bool:
    """Return whether a header has one of the tokens: as a bearer's, or as the password of any user, since some services
    can do no more than that."""
    scheme, _, given = header.partition(" ")
    # A header may have any bytes; those that are no UTF-8 come as surrogates.
    shown = given.strip().encode(errors="surrogateescape")
    if scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return any(hmac.compare_digest(shown, token.encode()) for token in tokens)


async def _body(request: web.Request) -> bytes:
    if request.content_type != MAIL:
        raise Refused(415, f"send the mail as it is, as {MAIL}")
    return await body_of(request, mail_reports.MAX_MAIL_BYTES)
