"""Firebase Cloud Messaging, HTTP v1, and Google's login before it: stateful, over real sockets.

It checks what Google checks: the proof of the service account (RS256, audience, scope, age), the access token, and the
message by the schemas of the API's published discovery document (``fcm.v1.json``).
"""

import itertools
import json
import re
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from google.auth import jwt

from tests.sandbox.http_server import HttpServer, Reply, Seen

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

#: The schemas of a request, from the API's published discovery document, without its prose.
SCHEMAS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("fcm.v1.json").read_text("utf-8"))["schemas"]
_RESERVED = re.compile(r"from\Z|message_type\Z|google\.|gcm\.notification\.")
_FORMATS = {"google-duration": re.compile(r"[0-9]+(\.[0-9]{1,9})?s\Z")}
_TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
    "any": object,
}


class FcmServer(HttpServer):
    """A project with an account. ``refuse_payload``: a text that is refused wherever it stands in a message."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, *, project: str = "clinic-app", certificate: bytes = b""
    ) -> None:
        super().__init__(tls)
        self.project = project
        self.certificate = certificate
        self.life_s = 3600
        self.logins = 0
        self.login_reply: Reply | None = None
        self.tokens: set[str] = set()
        #: Devices whose app is gone, and texts that are no tokens.
        self.unregistered: set[str] = set()
        self.malformed: set[str] = set()
        self.refuse_payload = ""
        #: Messages taken, by device; what was only looked at is not among them.
        self.taken: dict[str, list[dict[str, Any]]] = {}
        self.looked: list[str] = []
        self._numbers = itertools.count(1)

    @property
    def token_uri(self) -> str:
        """Where the login is."""
        return f"{self.url}/token"

    def whom(self, seen: Seen) -> str:
        if seen.path == "/token":
            return "/token"
        message = json.loads(seen.body)["message"]
        return str(message.get("token", ""))

    def fault(self, seen: Seen) -> Reply | None:
        """Check login, place and schema."""
        if seen.path == "/token":
            return self._login_fault(seen)
        bearer = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer not in self.tokens:
            return refusal(401, "UNAUTHENTICATED", f"invalid authentication credentials {bearer}")
        if seen.path != f"/v1/projects/{self.project}/messages:send":
            return refusal(404, "NOT_FOUND", "Requested entity was not found.")
        try:
            body = json.loads(seen.body)
        except ValueError:
            return refusal(400, "INVALID_ARGUMENT", "no JSON", violations=["message"])
        if wrong := mistakes(body, {"$ref": "SendMessageRequest"}, ""):
            return refusal(400, "INVALID_ARGUMENT", "Invalid JSON payload received.", violations=wrong)
        message = body["message"]
        if ("token" in message) == ("topic" in message):
            return refusal(400, "INVALID_ARGUMENT", "one target", violations=["message"])
        shown = {part: message[part] for part in ("notification", "data") if part in message}
        if len(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()) > 4096:
            return refusal(400, "INVALID_ARGUMENT", "Android message is too big", code="INVALID_ARGUMENT")
        device = message.get("token", "")
        if device in self.malformed:
            text = f"The registration token {device} is not a valid FCM registration token"
            return refusal(400, "INVALID_ARGUMENT", text, code="INVALID_ARGUMENT")
        if device in self.unregistered:
            return refusal(404, "NOT_FOUND", f"{device} was not found.", code="UNREGISTERED")
        if self.refuse_payload and self.refuse_payload in seen.body.decode():
            return refusal(400, "INVALID_ARGUMENT", f"no {self.refuse_payload}", code="INVALID_ARGUMENT")
        return None

    def take(self, seen: Seen) -> Reply:
        """Give out an access token, or take a message."""
        if seen.path == "/token":
            self.logins += 1
            token = f"ya29.canary-access-{self.logins}"
            self.tokens.add(token)
            return Reply(200, {"access_token": token, "expires_in": self.life_s, "token_type": "Bearer"})
        body = json.loads(seen.body)
        message = body["message"]
        if body.get("validate_only"):
            self.looked.append(message.get("token", ""))
            return Reply(200, {"name": f"projects/{self.project}/messages/fake_message_id"})
        self.taken.setdefault(message["token"], []).append(message)
        return Reply(200, {"name": f"projects/{self.project}/messages/{next(self._numbers)}"})

    def _login_fault(self, seen: Seen) -> Reply | None:
        if self.login_reply is not None:
            return self.login_reply
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        if form.get("grant_type") != GRANT:
            return Reply(400, {"error": "unsupported_grant_type"})
        try:
            claims = jwt.decode(  # type: ignore[no-untyped-call]
                form["assertion"], certs=self.certificate, audience=self.token_uri
            )
        except ValueError as wrong:
            return Reply(400, {"error": "invalid_grant", "error_description": str(wrong)})
        if claims["scope"] != SCOPE or claims["exp"] - claims["iat"] > 3600 or claims["exp"] < time.time():
            return Reply(400, {"error": "invalid_scope"})
        return None


def refusal(
    status: int, rpc: str, text: str, *, code: str = "", violations: list[str] | None = None, **headers: str
) -> Reply:
    """Return an error as Google's APIs word it; ``code``: FCM's own."""
    details: list[dict[str, Any]] = []
    if code:
        details.append({"@type": FCM_ERROR, "errorCode": code})
    if violations:
        fields = [{"field": name, "description": "x"} for name in violations]
        details.append({"@type": BAD_REQUEST, "fieldViolations": fields})
    error = {"code": status, "message": text, "status": rpc, "details": details}
    return Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


def mistakes(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """Return the fields that are not as the schema has them. Names may be in either case, as Google takes them."""
    if "$ref" in schema:
        fields = SCHEMAS[schema["$ref"]]
        if not isinstance(value, dict):
            return [path]
        wrong = []
        for name, part in value.items():
            where = f"{path}.{name}".removeprefix(".")
            known = fields.get(re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name))
            wrong += [where] if known is None else mistakes(part, known, where)
        return wrong
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
        return [path]
    if kind == "array":
        return [w for n, part in enumerate(value) for w in mistakes(part, schema["items"], f"{path}[{n}]")]
    if kind == "object":
        more = schema.get("additionalProperties", {"type": "any"})
        bad = [n for n, part in enumerate(value.values()) if mistakes(part, more, path)]
        own = [n for n, name in enumerate(value) if path == "message.data" and _RESERVED.match(name)]
        return [f"{path}[{n}].value" for n in bad + own]
    pattern = _FORMATS.get(schema.get("format", ""))
    if (pattern and not pattern.match(value)) or value not in schema.get("enum", [value]):
        return [path]
    return []
