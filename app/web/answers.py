"""Answers: JSON, and errors that say what to do."""

from collections.abc import Mapping
from typing import cast

import orjson
from aiohttp import web
from faust.web import Response

from app.web.routes import JSON


def raw(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with bytes."""
    sent = {"Content-Type": content_type, **(headers or {})}
    return cast("Response", web.Response(status=status, body=body, headers=sent))


def answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return raw(status, orjson.dumps(value) + b"\n", JSON, headers)


def error(status: int, why: str, more: Mapping[str, object] | None = None, /, **headers: str) -> Response:
    """Answer with what is wrong."""
    return answer(status, {"error": why, **(more or {})}, headers)
