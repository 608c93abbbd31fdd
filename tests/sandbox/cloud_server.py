"""Stand-in of Meta's WhatsApp Cloud API: a number's messages and the number itself, with its login, its checks and its
errors.

The shapes are those of the vendor's OpenAPI document (``business-messaging-api_v23.0.yaml``): JSON posts with
``messaging_product``, a ``wamid`` for each message, a refusal as ``error`` with ``message``, ``type``, ``code``,
``error_data`` and ``fbtrace_id``.
"""

import base64
import itertools
import json
import re
import ssl
from typing import Any

from tests.sandbox.http_server import HttpServer, Reply, Seen

PHONE_ID = "106540352242922"
TOKEN = "canary-meta-token-77aa"
_PATH = re.compile(r"/v[0-9]+\.[0-9]/(?P<id>[0-9]+)(?P<messages>/messages)?(\?.*)?\Z")
_NUMBER = re.compile(r"\+?[1-9][0-9]{6,14}\Z")


class CloudServer(HttpServer):
    """A number at Meta. ``taken``: the body of each message, in order. ``templates``: those that are approved, with how
    many values they take."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, phone_id: str = PHONE_ID, token: str = TOKEN) -> None:
        super().__init__(tls)
        self.phone_id = phone_id
        self.token = token
        self.templates: dict[tuple[str, str], int] = {("visit_reminder", "en_US"): 2}
        self.taken: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    def taken_for(self, number: str) -> list[dict[str, Any]]:
        """Return the messages that were taken for a number."""
        return [body for body in self.taken if body["to"] == number]

    def whom(self, seen: Seen) -> str:
        """Return the number."""
        return str(_body(seen).get("to", ""))

    def fault(self, seen: Seen) -> Reply | None:
        """Check as Meta does: login, number, then the parameters."""
        if seen.headers.get("Authorization") != f"Bearer {self.token}":
            return error(401, 190, f"Invalid OAuth access token: {seen.headers.get('Authorization')}", "OAuthException")
        found = _PATH.match(seen.path)
        if found is None or found["id"] != self.phone_id:
            return error(400, 33, f"Object with ID {seen.path} does not exist")
        if seen.method == "GET" and not found["messages"]:
            return Reply(200, {"id": self.phone_id, "quality_rating": "GREEN"})
        if seen.method != "POST" or not found["messages"]:
            return error(400, 100, "Unsupported request")
        return self._refusal(_body(seen))

    def take(self, seen: Seen) -> Reply:
        """Take a message and answer with its id."""
        body = _body(seen)
        self.taken.append(body)
        wamid = "wamid." + base64.b64encode(f"message {next(self._numbers):012d} of this number".encode()).decode()
        made: dict[str, Any] = {"id": wamid}
        if body["type"] == "template":
            made["message_status"] = "accepted"
        contact = {"input": body["to"], "wa_id": body["to"].lstrip("+")}
        return Reply(200, {"messaging_product": "whatsapp", "contacts": [contact], "messages": [made]})

    def _refusal(self, body: dict[str, Any]) -> Reply | None:
        if body.get("messaging_product") != "whatsapp":
            return error(400, 100, "(#100) The parameter messaging_product is required.")
        if not _NUMBER.match(str(body.get("to", ""))):
            return error(400, 131009, "(#131009) Parameter value is not valid", details="Invalid recipient")
        if len(body.get("biz_opaque_callback_data", "")) > 512:
            return error(400, 131009, "(#131009) biz_opaque_callback_data is longer than 512 characters")
        match body.get("type"):
            case "text":
                text = body.get("text", {}).get("body", "")
                return None if 0 < len(text) <= 4096 else error(400, 100, "(#100) Param text['body'] is wrong")
            case "template":
                return self._no_template(body.get("template", {}))
            case _:
                return error(400, 131051, "(#131051) Unsupported message type")

    def _no_template(self, template: dict[str, Any]) -> Reply | None:
        takes = self.templates.get((template.get("name", ""), template.get("language", {}).get("code", "")))
        if takes is None:
            return error(404, 132001, "(#132001) Template name does not exist in the translation")
        given = [p for part in template.get("components", []) for p in part["parameters"]]
        if len(given) != takes:
            return error(400, 132000, "(#132000) Number of parameters does not match the expected number of params")
        if any(re.search(r"[\n\t]| {5}", p["text"]) or not p["text"] for p in given):
            return error(400, 132007, "(#132007) Param text cannot have new-line/tab characters or many spaces")
        return None


def error(status: int, code: int, message: str, kind: str = "OAuthException", details: str = "", **more: str) -> Reply:
    """Return a refusal as Meta words it."""
    said: dict[str, Any] = {"message": message, "type": kind, "code": code, "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam"}
    if details:
        said["error_data"] = {"messaging_product": "whatsapp", "details": details}
    return Reply(status, {"error": said}, {name.replace("_", "-"): value for name, value in more.items()})


def _body(seen: Seen) -> dict[str, Any]:
    try:
        body = json.loads(seen.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
