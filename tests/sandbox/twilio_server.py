"""Twilio's stand-in: messages, calls and the account of API 2010-04-01, with its login, its checks and its errors.

The shapes are those of the vendor's OpenAPI document (``twilio_api_v2010.json``): form posts, SIDs, a refusal as JSON
with ``code``, ``message``, ``more_info`` and ``status``.
"""

import base64
import email.utils
import itertools
import re
import ssl
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.sandbox.http_server import HttpServer, Reply, Seen

ACCOUNT = "AC" + "0123456789abcdef" * 2
TOKEN = "canary-twilio-token-5b1e"
_PATH = re.compile(
    r"/2010-04-01/Accounts/(?P<sid>AC[0-9a-f]{32})(?:/(?P<what>Messages|Calls)(?:/(?P<one>(SM|CA)[0-9a-f]{32}))?)?\.json\Z"
)
_E164 = re.compile(r"(whatsapp:)?\+[1-9][0-9]{6,14}\Z")
#: Numbers that Twilio's test credentials refuse, with their code.
MAGIC = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}


class TwilioServer(HttpServer):
    """An account at Twilio. ``taken``: the parameters of each message and call, in order. ``waiting``: the SIDs of
    those that can still be canceled; ``canceled``: of those that were."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, account: str = ACCOUNT, token: str = TOKEN) -> None:
        super().__init__(tls)
        self.account = account
        self.token = token
        #: An account's second token, with which one token takes the other's place.
        self.secondary = ""
        self.status = "active"
        self.taken: list[dict[str, Any]] = []
        self.waiting: set[str] = set()
        self.canceled: list[str] = []
        self._numbers = itertools.count(1)
        #: What the list of messages has, the newest first.
        self.messages: list[dict[str, Any]] = []
        self.lists = 0

    def _record(self, form: dict[str, Any]) -> dict[str, Any]:
        made = email.utils.format_datetime(datetime.now(UTC))
        body = form.get("Body") or "words of a template"
        return {
            "body": body,
            "date_created": made,
            "date_sent": None,
            "date_updated": made,
            "direction": "outbound-api",
            "num_segments": "1",
            "num_media": "0",
            "error_code": None,
            "error_message": None,
            "price": None,
            "price_unit": "USD",
            "messaging_service_sid": form.get("MessagingServiceSid"),
            "api_version": "2010-04-01",
        }

    def _listed(self, seen: Seen) -> Reply:
        """Return a page of messages: by number, sender and day, with what names the next page, as the vendor says.

        https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
        """
        self.lists += 1
        asked = dict(parse_qsl(seen.path.partition("?")[2], keep_blank_values=True))
        size, page = int(asked.get("PageSize", 50)), int(asked.get("Page", 0))
        if not 1 <= size <= 1000:
            return error(400, 20001, "Page size must be between 1 and 1000")
        kept = [one for one in self.messages if _asked_for(one, asked)]
        shown = kept[page * size : (page + 1) * size]
        path = f"/2010-04-01/Accounts/{self.account}/Messages.json"

        def uri(number: int, **more: str) -> str:
            return f"{path}?{urlencode({**asked, 'PageSize': size, 'Page': number, **more})}"

        more = len(kept) > (page + 1) * size
        return Reply(
            200,
            {
                "messages": shown,
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": page * size + max(0, len(shown) - 1),
                "uri": uri(page),
                "first_page_uri": uri(0),
                "previous_page_uri": uri(page - 1) if page else None,
                "next_page_uri": uri(page + 1, PageToken=f"PA{shown[-1]['sid']}") if more else None,
            },
        )

    def taken_for(self, number: str) -> list[dict[str, Any]]:
        """Return the messages and calls that were taken for a number."""
        return [form for form in self.taken if form["To"].removeprefix("whatsapp:") == number]

    def whom(self, seen: Seen) -> str:
        """Return the number, without its scheme."""
        return str(_form(seen).get("To", "")).removeprefix("whatsapp:")

    def fault(self, seen: Seen) -> Reply | None:
        """Check as Twilio does: login, account, path, then the parameters."""
        tokens = [token for token in (self.token, self.secondary) if token]
        logins = [base64.b64encode(f"{self.account}:{token}".encode()).decode() for token in tokens]
        if seen.headers.get("Authorization", "").removeprefix("Basic ") not in logins:
            return error(401, 20003, f"Authentication Error - {seen.headers.get('Authorization')} is not known")
        found = _PATH.match(seen.path.partition("?")[0])
        if found is None or found["sid"] != self.account:
            return error(404, 20404, f"The requested resource {seen.path} was not found")
        if seen.method == "GET" and found["what"] is None:
            return Reply(200, {"sid": self.account, "status": self.status, "friendly_name": "Clinic"})
        if seen.method == "GET" and found["what"] == "Messages" and not found["one"]:
            return self._listed(seen)
        if seen.method != "POST" or found["what"] is None:
            return error(405, 20004, "Method not allowed")
        if found["one"]:
            if _form(seen) != {"Status": "canceled"}:
                return error(400, 20001, "Invalid parameter")
            if found["one"] not in self.waiting:
                return error(400, 30409, "This message cannot be canceled")
            return None
        return _refusal(_form(seen), found["what"])

    def take(self, seen: Seen) -> Reply:
        """Take a message or a call and answer with it."""
        form = _form(seen)
        if (found := _PATH.match(seen.path)) is not None and found["one"]:
            self.waiting.discard(found["one"])
            self.canceled.append(found["one"])
            return Reply(200, {"sid": found["one"], "account_sid": self.account, "status": "canceled"})
        self.taken.append(form)
        call = "/Calls.json" in seen.path
        number = next(self._numbers)
        made = {
            "sid": f"{'CA' if call else 'SM'}{number:032x}",
            "account_sid": self.account,
            "to": form["To"],
            "from": form.get("From"),
            "status": "accepted" if "MessagingServiceSid" in form else "queued",
            "direction": "outbound-api",
            "uri": f"{seen.path.removesuffix('.json')}/{number}.json",
        }
        if not call:
            self.messages.insert(0, made | self._record(form))
            made |= {"body": form.get("Body", ""), "num_segments": "1", "error_code": None, "price": None}
        self.waiting.add(str(made["sid"]))
        return Reply(201, made)


def _asked_for(message: dict[str, Any], asked: dict[str, str]) -> bool:
    """Return whether the list's filters let a message through. Those by time are by the day on which it was sent."""
    if message["to"] != asked.get("To", message["to"]) or message["from"] != asked.get("From", message["from"]):
        return False
    sent = message["date_sent"]
    day = email.utils.parsedate_to_datetime(sent).date().isoformat() if sent else ""
    wanted = {name: asked[name] for name in ("DateSent", "DateSent<", "DateSent>") if name in asked}
    if wanted and not day:
        return False
    exact, until, since = (wanted.get(name, day)[:10] for name in ("DateSent", "DateSent<", "DateSent>"))
    return day == exact and day <= until and day >= since


def error(status: int, code: int, message: str, **headers: str) -> Reply:
    """Return a refusal as Twilio words it."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    more = f"https://www.twilio.com/docs/errors/{code}"
    return Reply(status, {"code": code, "message": message, "more_info": more, "status": status}, told)


def _form(seen: Seen) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for name, value in parse_qsl(seen.body.decode(), keep_blank_values=True, strict_parsing=bool(seen.body)):
        form[name] = value if name not in form else [*_listed(form[name]), value]
    return form


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _refusal(form: dict[str, Any], what: str) -> Reply | None:
    to = form.get("To", "")
    if not to:
        return error(400, 21604 if what == "Messages" else 21201, "A 'To' phone number is required.")
    if not _E164.match(to):
        return error(400, 21211, f"Invalid 'To' Phone Number: {to}")
    if (code := MAGIC.get(to)) is not None:
        return error(400, code, f"The number {to} is refused")
    if "From" not in form and "MessagingServiceSid" not in form:
        return error(400, 21603, "A 'From' phone number is required.")
    if what == "Calls":
        known = "Twiml" in form or "Url" in form
        if len(form.get("Twiml", "")) > 4000:
            return error(400, 21609, "Twiml is longer than 4000 characters")
        return None if known else error(400, 21205, "Url parameter is required.")
    if to.startswith("whatsapp:") != str(form.get("From", to)).startswith("whatsapp:"):
        return error(400, 21910, "Invalid From and To pair. From and To should be of the same channel")
    if not form.get("Body") and not form.get("ContentSid"):
        return error(400, 21602, "Message body is required.")
    if len(form.get("Body", "")) > 1600:
        return error(400, 21617, "The concatenated message body exceeds the 1600 character limit")
    return None
