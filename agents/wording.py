"""Wording: what a delivery says on its channel, by its template or without one."""

from dataclasses import dataclass
from datetime import UTC, datetime

from channels import layout, render
from channels.layout import Foot
from channels.render import Mail
from channels.shelf import Shelf
from channels.templates import About, UnsaidError
from channels.word_reasons import HOPELESS, UNKNOWN_MS, WordReason
from schemas.names import Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import Content, DeliveryRequest, Message, RecipientProfile
from tables.consent import Category

_NO_FOOT = Foot()


@dataclass(frozen=True, slots=True)
class Worded:
    """A message without its address. ``template``: the version that it was rendered with, "" for none."""

    message: Message
    template: str = ""


@dataclass(frozen=True, slots=True)
class Unworded:
    """Why there are no words. ``detail``: the template, and the variable or kind of value that it lacks."""

    reason: WordReason
    detail: str

    @property
    def outcome(self) -> OutcomeKind:
        """What becomes of the reminder: a template may be on its way, as a profile may; a value is not."""
        return OutcomeKind.REJECTED if self.reason in HOPELESS else OutcomeKind.HELD

    @property
    def wait_ms(self) -> int:
        """How long it waits for its template, 0: it does not."""
        return 0 if self.reason in HOPELESS else UNKNOWN_MS


def worded(
    shelf: Shelf,
    request: DeliveryRequest,
    before: str,
    content: Content,
    category: Category,
    channel: Channel,
    profile: RecipientProfile | None,
    foot: Foot,
) -> Worded | Unworded:
    """Return what a delivery says. ``before``: the version that an earlier attempt of it was rendered with, which it
    keeps for as long as anybody here knows it. ``foot``: what the installation says of itself."""
    foot = _foot(foot, category)
    if not request.template:
        return Worded(_plain(channel, content, foot, profile.locale if profile is not None else ""))
    version = (shelf.known(before) if before else None) or shelf.find(request.template)
    if version is None:
        return Unworded(WordReason.UNKNOWN, request.template)
    about = About(
        locale=profile.locale if profile is not None else "",
        zone=(profile.zone if profile is not None else "") or request.zone,
        due=datetime.fromtimestamp(request.due_at / 1000, UTC),
        title=content.title,
        text=content.text,
        category=request.category,
        sender=foot.sender,
    )
    try:
        said = version.say(channel, content.data, about)
    except UnsaidError as exc:
        return Unworded(exc.reason, f"{version.ref}: {exc.what}")
    if channel is Channel.EMAIL:
        made = layout.mail(render.email(said.title, said.text, said.html), Foot(postal=foot.postal))
        return Worded(_mail(made, content, version.tongue(about.locale).name), version.ref)
    return Worded(message_for(channel, "", replace(content, title=said.title, text=said.text)), version.ref)


def _plain(channel: Channel, content: Content, foot: Foot, locale: str) -> Message:
    if channel is Channel.EMAIL:
        return _mail(layout.mail(render.email(content.title, content.text), foot), content, locale)
    if foot == _NO_FOOT:
        return message_for(channel, "", content)
    title, text = layout.said(channel, content.title, content.text, foot)
    return message_for(channel, "", replace(content, title=title, text=text))


def _mail(made: Mail, content: Content, locale: str) -> Message:
    return Message("", title=made.subject, text=made.text, html=made.html, data=content.data, locale=locale)


def _foot(foot: Foot, category: Category) -> Foot:
    """Return what a category says at its foot, else what the installation does."""
    return Foot(category.sender or foot.sender, category.answer or foot.answer, category.postal_address)


def message_for(channel: Channel, address: str, content: Content, last_inbound_at: int = 0) -> Message:
    """Return the message of a delivery, rendered for its channel."""
    match channel:
        case Channel.PUSH | Channel.WEBHOOK:
            title = render.one_line(content.title)
            return Message(address, title=title, text=render.many_lines(content.text), data=content.data)
        case Channel.SMS | Channel.WHATSAPP | Channel.VOICE:
            title, text = render.one_line(content.title, render.MAX_TITLE), render.many_lines(content.text)
            return Message(address, title=title, text=text, data=content.data, last_inbound_at=last_inbound_at)
        case _:
            mail = render.email(content.title, content.text)
            return Message(address, title=mail.subject, text=mail.text, html=mail.html, data=content.data)
