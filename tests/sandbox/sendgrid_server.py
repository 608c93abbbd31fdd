"""SendGrid's stand-in: ``/v3/mail/send`` and ``/v3/scopes`` with their login, their checks and their errors, and the
events of the signed event webhook.

The shapes are those of the vendor's reference: 202 with ``X-Message-Id`` and an empty body, a refusal as a list of
``errors`` with ``message``, ``field`` and ``help``, limits by ``X-RateLimit-…``.
"""

import base64
import itertools
import json
import re
import ssl
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.sandbox.http_server import HttpServer, Reply, Seen

API_KEY = "SG.canary-sendgrid-key-3d1f"
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+\Z", re.ASCII)
#: Headers that SendGrid sets itself and refuses to be given.
RESERVED = frozenset(
    {"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"}
    | {"to", "from", "subject", "reply-to", "cc", "bcc"}
)


class SendGridServer(HttpServer):
    """An account at SendGrid. ``taken``: each mail, in order; ``sandbox``: whether mails are only checked."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, api_key: str = API_KEY) -> None:
        super().__init__(tls)
        self.api_key = api_key
        self.scopes = ["mail.send", "sender_verification_eligible"]
        self.sender = "reminders@service.example"
        self.taken: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    def taken_for(self, address: str) -> list[dict[str, Any]]:
        """Return the mails that were taken for an address."""
        return [mail for mail in self.taken if _to(mail) == address]

    def whom(self, seen: Seen) -> str:
        """Return the recipient."""
        return _to(_body(seen))

    def fault(self, seen: Seen) -> Reply | None:
        """Check as SendGrid does: key, path, scope, then the mail."""
        if seen.headers.get("Authorization") != f"Bearer {self.api_key}":
            return error(401, f"The provided authorization grant is invalid: {seen.headers.get('Authorization')}")
        if (seen.method, seen.path) == ("GET", "/v3/scopes"):
            return Reply(200, {"scopes": self.scopes})
        if (seen.method, seen.path) != ("POST", "/v3/mail/send"):
            return error(404, "not found")
        if "mail.send" not in self.scopes:
            return error(403, "access forbidden")
        if seen.headers.get("Content-Type") != "application/json":
            return error(415, "Content-Type should be application/json.")
        return self._refusal(_body(seen))

    def take(self, seen: Seen) -> Reply:
        """Take a mail and answer with its id."""
        self.taken.append(_body(seen))
        made = base64.urlsafe_b64encode(f"mail {next(self._numbers):011d}".encode()).decode().rstrip("=")
        return Reply(202, "", {"X-Message-Id": made})

    def _refusal(self, mail: dict[str, Any]) -> Reply | None:
        address = _to(mail)
        if not _ADDRESS.match(address):
            return error(400, f"Does not contain a valid address: {address}", "personalizations.0.to.0.email")
        if mail.get("from", {}).get("email") != self.sender:
            return error(403, "The from address does not match a verified Sender Identity.", "from")
        kinds = [part.get("type") for part in mail.get("content", [])]
        if kinds != sorted(kinds, key=["text/plain", "text/html"].index) or not kinds:
            return error(400, "If present, text/plain must be first, followed by text/html.", "content")
        if not mail.get("subject"):
            return error(400, "The subject is required.", "subject")
        if any(not part.get("value") for part in mail["content"]):
            return error(400, "The content value must be a string at least one character in length.", "content.0.value")
        if reserved := RESERVED & {name.lower() for name in mail.get("headers", {})}:
            return error(400, f"The header {min(reserved)} is reserved.", "headers")
        if any("\n" in value for value in mail.get("headers", {}).values()):
            return error(400, "Headers must not hold line breaks.", "headers")
        if any(not isinstance(value, str) for value in mail.get("custom_args", {}).values()):
            return error(400, "The custom_args values must be strings.", "custom_args")
        return None


class Signer:
    """The key with which SendGrid signs events."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def shown(self) -> str:
        """The public key as SendGrid's page shows it."""
        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(public).decode()

    def headers(self, body: bytes, timestamp: str = "1600112502") -> dict[str, str]:
        """Return the headers of a request."""
        signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        return {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        }


def error(status: int, message: str, field: str | None = None, **headers: str) -> Reply:
    """Return a refusal as SendGrid words it."""
    said = {"errors": [{"message": message, "field": field, "help": None}]}
    return Reply(status, said, {name.replace("_", "-"): value for name, value in headers.items()})


def _to(mail: dict[str, Any]) -> str:
    try:
        return str(mail["personalizations"][0]["to"][0]["email"])
    except (KeyError, IndexError, TypeError):
        return ""


def _body(seen: Seen) -> dict[str, Any]:
    try:
        body = json.loads(seen.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
