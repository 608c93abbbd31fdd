"""Pages behind links, out of templates: whatever goes into one is escaped, nothing comes from elsewhere, nothing runs.

The address of such a page is its key: it is told to nobody, and no search engine or cache keeps the page.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from faust.web import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _style() -> tuple[Markup, str]:
    """Return the stylesheet, ours and no user's, and its hash for the policy."""
    text = (_FOLDER / "style.css").read_text("utf-8")
    return Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()  # noqa: S704


@cache
def headers() -> dict[str, str]:
    """Return what every page is sent with."""
    policy = f"default-src 'none'; style-src 'sha256-{_style()[1]}'; form-action 'self'"
    return {
        "Content-Security-Policy": f"{policy}; base-uri 'none'; frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex, nofollow",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def page(
    title: str,
    lines: Sequence[str] = (),
    *,
    status: int = 200,
    template: str = "ask.html",
    retry_after_s: int = 0,
    **more: Any,
) -> Response:
    """Return a page."""
    given = {"button": ""} | more
    text = _environment().get_template(template).render(title=title, lines=lines, style=_style()[0], **given)
    sent = headers() | ({"Retry-After": str(retry_after_s)} if retry_after_s else {})
    made = web.Response(status=status, text=text, content_type="text/html", charset="utf-8", headers=sent)
    return cast("Response", made)
