"""What the adapter of WhatsApp's own API needs to know. Pure; every fault of a configuration is named, without its
secrets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from channels.limits import TooLong
from channels.settings_parts import base_url_fault, pairs
from channels.whatsapp_rules import SOURCES

#: Where Meta's Graph API is, and the version of it that is asked.
BASE_URL = "https://graph.facebook.com"
VERSION = "v23.0"
_ID = re.compile(r"[0-9]{5,20}\Z")
_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]\Z")
_TEMPLATE = re.compile(r"[a-z0-9_]{1,512}/[a-z]{2,3}(_[A-Z]{2,4})?\Z")
_VARIABLE = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_HEADER = re.compile(r"[!-~]*\Z")


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """A telephone number at Meta, and how to treat it. It is there where ``phone_id`` is.

    ``templates``: ``category:name/language`` separated by commas, ``*`` for all others. ``variables``:
    ``variable=source`` separated by commas, by the places of the template (``1``, ``2``) or by its names; the
    sources are ``title``, ``text``, ``name``, ``reply`` and ``data.<key>``. ``app_secret``: what Meta signs news
    with; empty: none are believed. ``verify_token``: what Meta says when the address for news is entered there.
    """

    phone_id: str = ""
    token: str = field(default="", repr=False)
    app_secret: str = field(default="", repr=False)
    verify_token: str = field(default="", repr=False)
    templates: str = ""
    variables: str = "1=title,2=text"
    too_long: TooLong = TooLong.CUT
    base_url: str = BASE_URL
    api_version: str = VERSION
    ca_file: Path | None = None
    connections: int = 50
    connect_timeout_s: float = 5.0
    timeout_s: float = 20.0

    @property
    def whatsapp(self) -> bool:
        """Whether messages can be sent."""
        return bool(self.phone_id)

    @property
    def url(self) -> str:
        """The address of the sender's number."""
        return f"{self.base_url.rstrip('/')}/{self.api_version}/{self.phone_id}"

    def template(self, category: str) -> str:
        """Return the template of a category as ``name/language``, nothing where there is none."""
        templates = dict(pairs(self.templates, ":"))
        return templates.get(category) or templates.get("*", "")

    def sources(self) -> tuple[tuple[str, str], ...]:
        """Return each variable of a template with the source of its value."""
        return tuple(pairs(self.variables, "="))

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield each fault: the field, and what to do about it."""
        if self.phone_id and not _ID.match(self.phone_id):
            yield "phone_id", "use the id that Meta gives the number, digits alone; not the number itself"
        if self.phone_id and not self.token:
            yield "token", "is not set, but the number's id is; set it or its _FILE"
        if self.token and not self.phone_id:
            yield "phone_id", "is not set, but a token is; set it"
        if not _HEADER.match(self.token):
            yield "token", "holds a space or a character that no token has; copy it again"
        if self.verify_token and not self.app_secret:
            yield (
                "app_secret",
                "is not set, but a verify token is; news are believed with it alone; set it or its _FILE",
            )
        if not _VERSION.match(self.api_version):
            yield "api_version", "use a version of the Graph API such as v23.0"
        if fault := base_url_fault(self.base_url, BASE_URL):
            yield "base_url", fault
        for category, template in pairs(self.templates, ":"):
            if not category or not _TEMPLATE.match(template):
                yield "templates", "use category:name/language, such as *:visit/en_US, separated by commas"
                break
        for variable, source in pairs(self.variables, "="):
            if not _VARIABLE.match(variable) or not (source in SOURCES or source.startswith("data.")):
                yield "variables", "use 1=title,2=text; sources are title, text, name, reply and data.KEY"
                break
        if self.connect_timeout_s > self.timeout_s:
            yield "timeout_s", f"use at least {self.connect_timeout_s:g}, what a connection may take"
