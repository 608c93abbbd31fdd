"""What a template says on every channel, with samples: as the gate would have it, and nothing is sent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agents.wording import Unworded, worded
from app import template_topic
from app.config import Settings
from app.template_folder import template_folder
from channels import limits, render
from channels.layout import Foot
from channels.shelf import Shelf
from channels.template_check import SHOWN, sampled
from channels.template_rules import TemplateFault
from channels.templates import Version
from schemas.names import Channel, RequestKind
from schemas.records import Content, DeliveryRequest, RecipientProfile
from tables.consent import Category

#: Versions that can be used, and the faults of others by their names.
Found = tuple[list[Version], dict[str, list[TemplateFault]]]


async def _nothing() -> Found:
    return [], {}


@dataclass(frozen=True, slots=True)
class Words:
    """The templates of an installation. ``read`` raises ``OSError`` where they cannot be read."""

    read: Callable[[], Awaitable[Found]] = _nothing
    foot: Foot = field(default_factory=Foot)


def words_of(settings: Settings) -> Words:
    """Return where an installation's templates are: in its folder, else on their topic."""
    foot = Foot(settings.rules.sender_name, settings.rules.answer_hint)
    if settings.rules.templates_dir is None:
        return Words(partial(template_topic.read, settings), foot)
    folder = template_folder(settings)
    return Words(lambda: asyncio.to_thread(folder.read), foot)


@dataclass(frozen=True, slots=True)
class Preview:
    """One channel's message, or why there is none. ``size``: in the unit that the channel counts."""

    channel: Channel
    title: str = ""
    text: str = ""
    html: str = ""
    size: str = ""
    fault: str = ""

    def fields(self) -> dict[str, Any]:
        """Return it for JSON."""
        made = {"channel": self.channel.value, "title": self.title, "text": self.text, "html": self.html}
        return made | {"size": self.size, "fault": self.fault}


def previews(
    version: Version,
    given: Mapping[str, str | None],
    *,
    locale: str = "",
    zone: str = "UTC",
    due_ms: int = 0,
    title: str = "",
    text: str = "",
    category: Category | None = None,
    foot: Foot = Foot(),  # noqa: B008 - frozen
) -> list[Preview]:
    """Return what a template says on each channel to a reader. What is not ``given`` is a sample; None is nothing."""
    values = sampled(version, version.tongue(locale), given)
    content = Content(title, text, {name: value for name, value in values.items() if value is not None})
    asked = f"{version.name}@{version.version}"
    request = DeliveryRequest(RequestKind.DELIVER, "preview", template=asked, due_at=due_ms)
    profile = RecipientProfile(locale=locale, zone=zone)
    shelf = Shelf([version])
    made = []
    for channel in SHOWN:
        found = worded(shelf, request, "", content, category or Category(), channel, profile, foot)
        if isinstance(found, Unworded):
            made.append(Preview(channel, fault=f"{found.reason}: {found.detail}"))
            continue
        message = found.message
        # What SMS, WhatsApp and calls say begins with the title, where there is one.
        text_alone = channel in (Channel.SMS, Channel.WHATSAPP, Channel.VOICE)
        said = render.plain(message.title, message.text) if text_alone else message.text
        made.append(Preview(channel, "" if text_alone else message.title, said, message.html, size(channel, said)))
    return made


def size(channel: Channel, text: str) -> str:
    """Return how much a text is on its channel."""
    if channel is Channel.SMS:
        found = limits.sms_size(text)
        return f"{found.parts} part{'s' if found.parts > 1 else ''}, {found.encoding.value}"
    return f"{len(text)} characters"
