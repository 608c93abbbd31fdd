"""Wording: what a delivery says on its channel, by its template or without one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from channels import digest, layout, render
from channels.digest import Part
from channels.layout import Foot
from channels.render import Mail
from channels.shelf import Shelf
from channels.templates import About, Said, UnsaidError
from channels.word_reasons import HOPELESS, UNKNOWN_MS, WordReason
from schemas.names import Channel, OutcomeKind
from schemas.quick import quicken, replace
from schemas.records import Content, Delivery, DeliveryRequest, Message, MessageItem, RecipientProfile
from tables import digests
from tables.consent import Category

_NO_FOOT = Foot()


@quicken
@dataclass(frozen=True, slots=True)
class Worded:
    """A message without its address, and what it says as one of several. ``template``: the version that it was rendered
    with, "" for none."""

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
    foot = foot_of(foot, category)
    if not request.template:
        made = _plain(channel, content, foot, profile.locale if profile is not None else "")
        return Worded(_with_item(made, category, content, content.title, content.text))
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
        mail = layout.mail(render.email(said.title, said.text, said.html), Foot(postal=foot.postal))
        made = _mail(mail, content, version.tongue(about.locale).name)
    else:
        made = message_for(channel, "", replace(content, title=said.title, text=said.text))
    return Worded(_with_item(made, category, content, said.title, said.text), version.ref)


def _with_item(made: Message, category: Category, content: Content, title: str, text: str) -> Message:
    if not digests.digests(category):
        return made
    said_title, said_text = render.one_line(title, render.MAX_TITLE), render.many_lines(text)
    return replace(made, item=MessageItem(content.title, content.text, said_title, said_text))


def together(
    shelf: Shelf,
    channel: Channel,
    several: Sequence[tuple[Delivery, Message]],
    category: Category,
    profile: RecipientProfile,
    foot: Foot,
) -> Message:
    """Return several deliveries to one address as one message, in their order: in the words of their template, where
    they have the same and it goes through ``items``; else each in its own words, by the layout of a digest."""
    foot, messages, locale = foot_of(foot, category), [message for _, message in several], profile.locale
    said = _by_template(shelf, channel, several, profile, foot)
    first, parts = messages[0], parts_of(messages)
    if said is not None and channel is Channel.EMAIL:
        title = said.title or digest.heading(len(parts), locale)
        mail = layout.mail(render.email(title, said.text, said.html), Foot(postal=foot.postal))
        return replace(first, title=mail.subject, text=mail.text, html=mail.html, data={}, item=None)
    if said is not None:
        made = message_for(channel, first.address, Content(said.title, said.text), first.last_inbound_at)
        return replace(made, also=first.also)
    if channel is Channel.EMAIL:
        mail = digest.mail(parts, foot, locale)
        return replace(first, title=mail.subject, text=mail.text, html=mail.html, data={}, item=None, locale=locale)
    title, text = digest.said(channel, parts, foot, locale)
    return replace(first, title=title, text=text, data={}, item=None)


def _by_template(
    shelf: Shelf,
    channel: Channel,
    several: Sequence[tuple[Delivery, Message]],
    profile: RecipientProfile,
    foot: Foot,
) -> Said | None:
    refs = {delivery.template for delivery, _ in several}
    version = shelf.known(next(iter(refs))) if len(refs) == 1 and "" not in refs else None
    if version is None or not profile.zone or not version.several(channel, profile.locale):
        # Without a zone of theirs each may have one of its own.
        return None
    items = []
    for delivery, message in several:
        item = message.item or MessageItem()
        about = About(
            locale=profile.locale,
            zone=profile.zone,
            due=datetime.fromtimestamp(delivery.due_at / 1000, UTC),
            title=item.title,
            text=item.text,
            category=delivery.category,
            sender=foot.sender,
        )
        items.append((message.data, about))
    try:
        return version.say_several(channel, items)
    except UnsaidError:
        # Alone each could be said whole, so that each is said so.
        return None


def parts_of(messages: Sequence[Message]) -> list[Part]:
    """Return what several messages say as the parts of one."""
    items = [message.item or MessageItem(said_title=message.title, said_text=message.text) for message in messages]
    return [Part(item.said_title, item.said_text) for item in items]


def _plain(channel: Channel, content: Content, foot: Foot, locale: str) -> Message:
    if channel is Channel.EMAIL:
        return _mail(layout.mail(render.email(content.title, content.text), foot), content, locale)
    if foot == _NO_FOOT:
        return message_for(channel, "", content)
    title, text = layout.said(channel, content.title, content.text, foot)
    return message_for(channel, "", replace(content, title=title, text=text))


def _mail(made: Mail, content: Content, locale: str) -> Message:
    return Message("", title=made.subject, text=made.text, html=made.html, data=content.data, locale=locale)


def foot_of(foot: Foot, category: Category) -> Foot:
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
