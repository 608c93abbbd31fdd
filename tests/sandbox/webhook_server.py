"""A receiver of webhooks that checks them as a receiver should: signature, age, and ids that it has seen before."""

import ssl

from standardwebhooks import Webhook, WebhookVerificationError

from tests.sandbox.http_server import HttpServer, Reply, Seen


class WebhookServer(HttpServer):
    """Answers 204 to what is signed with the receiver's secret, 401 to all else, 200 to an id it has had before."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.secret = ""
        self.accepted: dict[str, Seen] = {}
        self.copies = 0

    def whom(self, seen: Seen) -> str:
        return seen.path

    def fault(self, seen: Seen) -> Reply | None:
        """Check the signature, where there is a secret."""
        if not self.secret:
            return None
        try:
            Webhook(self.secret).verify(seen.body, dict(seen.headers))
        except (WebhookVerificationError, ValueError):
            return Reply(401, {"error": "bad signature"})
        return None

    def take(self, seen: Seen) -> Reply:
        """Take a message that is new."""
        known = seen.headers["webhook-id"]
        if known in self.accepted:
            self.copies += 1
            return Reply(200, {"known": True})
        self.accepted[known] = seen
        return Reply(204)
