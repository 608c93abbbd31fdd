"""Pages out of templates. Whatever goes into one is escaped; nothing of a page comes from elsewhere, and nothing runs
in it."""

from functools import cache
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from faust.web import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.tokens import Access, Token
from app.web.console.sessions import Session

_FOLDER = Path(__file__).parent / "templates"
#: No script, no picture, no font; styles from here; forms go here; nobody may frame it.
_POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "img-src 'none'; script-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    # With none at all a browser hides from us, too, where a form comes from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clock": clock, "words": lambda text: str(text).replace("_", " ")}
    return made


def clock(time: dict[str, Any] | None) -> str:
    """Return an instant as people read it: on the reminder's clock where that is known."""
    if not time:
        return "–"
    text = str(time.get("local") or time.get("utc") or time["ms"])
    return text.replace("T", " ", 1)


@cache
def style() -> bytes:
    """Return the stylesheet."""
    return (_FOLDER / "style.css").read_bytes()


def page(
    template: str,
    title: str,
    *,
    status: int = 200,
    session: Session | None = None,
    token: Token | None = None,
    here: str = "",
    **more: Any,
) -> Response:
    """Return a page. ``here``: the entry of the menu that it belongs to."""
    text = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            here=here,
            token=token,
            may_act=token is not None and token.access.allows(Access.OPERATOR),
            whole=token is not None and not token.tenant and not token.prefix,
            form=session.form if session else "",
            said=session.take() if session else [],
            **more,
        )
    )
    made = web.Response(status=status, text=text, content_type="text/html", charset="utf-8", headers=HEADERS)
    return cast("Response", made)


def moved(where: str) -> Response:
    """Send a browser to another page, by GET."""
    return cast("Response", web.Response(status=303, headers={**HEADERS, "Location": where}))
