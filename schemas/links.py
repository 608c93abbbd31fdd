"""Links in messages: what a click may do, sealed, so that the address names nobody and cannot be made up. Pure.

A link is the same for every attempt of a delivery, and ends some time after it was due: whoever finds an old message in
an archive can do nothing with it. It is sealed as references are (AES-SIV), so a changed character, an older secret or
another purpose all look alike: it does not open.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.references import References


class Act(StrEnum):
    """What a link is for."""

    ACKNOWLEDGE = "a"
    UNSUBSCRIBE = "u"
    PREFERENCES = "p"


@dataclass(frozen=True, slots=True)
class Link:
    """What a link may do. ``subject``: the delivery that is acknowledged, the key under which the address is
    suppressed, or the recipient whose preferences are shown. ``until`` is in ms UTC."""

    act: Act
    subject: str
    until: int
    category: str = ""


class Links:
    """Makes and reads links. ``secrets``: the first makes, all read. ``base``: the public address, empty: there are no
    links. ``lasts_ms``: how long after a message was due its links hold."""

    def __init__(self, secrets: tuple[str, ...], base: str = "", lasts_ms: int = 0) -> None:
        self._sealed = References(secrets, "links")
        self._passed_on = References(secrets, "links passed on")
        self._base = base.rstrip("/") if secrets else ""
        self.lasts_ms = lasts_ms

    def __bool__(self) -> bool:
        return bool(self._base)

    def token(self, link: Link) -> str:
        """Return a link in sealed form."""
        said = [link.act.value, link.subject, link.until // 1000, link.category]
        return self._sealed.seal(json.dumps(said, ensure_ascii=False, separators=(",", ":")))

    def passed_on(self, token: str) -> str:
        """Return what shows another of our workers that one of us passes a token on."""
        return self._passed_on.seal(token)

    def url(self, link: Link) -> str:
        """Return the address of a link, empty where there are no links."""
        if not self._base:
            return ""
        path = "preferences" if link.act is Act.PREFERENCES else "l"
        return f"{self._base}/{path}/{self.token(link)}"

    def open(self, token: str, now: int) -> Link | None:
        """Return what a token stands for, None for one that was not made here or has ended."""
        text = self._sealed.open(token)
        if text is None:
            return None
        said: Any = json.loads(text)
        act, subject, until_s, category = said
        link = Link(Act(act), subject, until_s * 1000, category)
        return link if link.until > now else None
