"""The console's pages about templates: what is there, what is wrong with it, and how it looks on every channel."""

import asyncio
import time
from typing import Any, Protocol

from faust.web import Response

from app.cli.failures import Failure
from app.cli.times import instant_ms
from app.template_preview import Words, previews
from app.tokens import Token
from app.web.console.render import page
from app.web.console.sessions import Session
from channels import formats
from channels.shelf import Shelf
from channels.templates import Version, samples
from schemas.checks import zone as zone_of

HERE = "Templates"
MAX_VALUE = 2000


class Visit(Protocol):
    """One request of somebody who is signed in (``console.views``)."""

    @property
    def request(self) -> Any:
        """The request."""

    @property
    def session(self) -> Session:
        """Its session."""

    @property
    def token(self) -> Token:
        """Its token."""

    @property
    def form(self) -> Any:
        """What was typed."""


class TemplatePages:
    """The handlers."""

    _words: Words

    async def on_templates(self, visit: Visit) -> Response:
        """List the templates."""
        versions, faults, wrong = await self._read()
        rows = [
            {
                "name": f"{version.name}@{version.version}",
                "ref": version.ref,
                "locales": ", ".join(sorted(version.tongues)),
                "needs": ", ".join(sorted({name for tongue in version.tongues.values() for name in tongue.wants})),
            }
            for version in sorted(versions, key=lambda version: (version.name, version.version))
        ]
        return page(
            "templates.html",
            HERE,
            session=visit.session,
            token=visit.token,
            here=HERE,
            rows=rows,
            faults=faults,
            wrong=wrong,
        )

    async def on_template(self, visit: Visit) -> Response:
        """Show a template on all channels, with samples."""
        return await self._shown(visit, {})

    async def on_preview(self, visit: Visit) -> Response:
        """Show it with what was typed."""
        return await self._shown(visit, {name: str(value)[:MAX_VALUE] for name, value in visit.form.items()})

    async def _shown(self, visit: Visit, typed: dict[str, str]) -> Response:
        name = visit.request.match_info["name"]
        versions, _, wrong = await self._read()
        version = Shelf(versions).find(name)
        seen: dict[str, Any] = {"session": visit.session, "token": visit.token, "here": HERE}
        if version is None:
            words = wrong or "No template of this name and version can be used; the list says what is wrong with it."
            return page("message.html", name, status=404, words=words, back="/console/templates", **seen)
        locale, zone = typed.get("locale", "").strip() or version.default, typed.get("zone", "").strip() or "UTC"
        due = typed.get("due", "").strip()
        faults = []
        if formats.locale_of(locale) is None:
            faults.append(f"{locale} is no locale; use de or de-AT.")
            locale = version.default
        if zone_of(zone) is None:
            faults.append(f"{zone} is no time zone; use Europe/Vienna.")
            zone = "UTC"
        at = time.time_ns() // 1_000_000
        if due:
            try:
                at = instant_ms(due, "use 2026-12-01T09:00:00Z")
            except ValueError as exc:
                faults.append(f"{exc}.")
        values = samples(version, version.tongue(locale))
        values |= {key: typed[f"data.{key}"] for key in values if f"data.{key}" in typed}
        shown = await asyncio.to_thread(
            previews, version, values, locale=locale, zone=zone, due_ms=at, title="[title]", text="[text]",
            foot=self._words.foot,
        )  # fmt: skip
        return page(
            "template.html",
            version.ref,
            name=f"{version.name}@{version.version}",
            language=version.tongue(locale).locale.english_name,
            values=sorted(values.items()),
            wants=sorted(version.tongue(locale).wants),
            locale=locale,
            zone=zone,
            due=due,
            faults=faults,
            shown=shown,
            **seen,
        )

    async def _read(self) -> tuple[list[Version], list[str], str]:
        """Return the versions, what is wrong with others in a line each, and why none can be read."""
        try:
            versions, faults = await self._words.read()
        except (OSError, Failure) as exc:
            why = exc.strerror or str(exc) if isinstance(exc, OSError) else exc.message
            return [], [], f"The templates cannot be read ({why})."
        lines = [
            str(fault) if fault.file == name else f"{name}/{fault}" for name in sorted(faults) for fault in faults[name]
        ]
        return versions, lines, ""
