"""Every route of the web server as data. The views are attached from this table, and the description of the interface
(``app.web.openapi``) is made from it: a route that is not here does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.tokens import Access

#: Most of what one request may carry.
MAX_BODY_BYTES = 1024 * 1024
MAX_EVENTS = 1000
JSON = "application/json"

Json = Mapping[str, Any]
_TEXT: Json = {"type": "string"}


_REFUSING: Json = {
    "provider": "smtp",
    "channel": "EMAIL",
    "state": "OPEN",
    "misconfigured": True,
    "reason": "auth_refused",
    "since": "2026-12-01T09:00:00Z",
    "next_probe": "2026-12-01T09:00:31Z",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path, of the query or of the headers."""

    name: str
    where: str
    doc: str
    schema: Json = field(default_factory=lambda: _TEXT)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that a route may answer with. ``schema``: the name of a component, "" for no JSON."""

    status: int
    doc: str
    schema: str = "Error"
    media: str = JSON
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """A request and what is answered; tests send it. A value that differs each time stands for its like."""

    name: str
    summary: str
    status: int
    answer: object
    body: object = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. ``access`` None: open to all. ``everywhere``: on the delivery worker, too.

    ``faust``: Faust's own page, which is described here and attached there.
    """

    method: str
    path: str
    operation: str
    summary: str
    doc: str
    access: Access | None
    answers: tuple[Answer, ...]
    everywhere: bool = False
    parameters: tuple[Parameter, ...] = ()
    body: str = ""
    examples: tuple[Example, ...] = ()
    faust: bool = False

    @property
    def pattern(self) -> str:
        """The path as aiohttp takes it: an id may hold slashes."""
        return self.path.replace("{id}", "{id:.+}")

    @property
    def all_answers(self) -> tuple[Answer, ...]:
        """What the handler answers, and what is answered before it is asked."""
        return self.answers if self.access is None else (*self.answers, *_REFUSALS)


_REFUSALS = (
    Answer(401, "No token, or one that is not known.", headers=("WWW-Authenticate",)),
    Answer(403, "The token may not do this, or no token has been set up at all."),
)
_ID = Parameter("id", "path", "The reminder's id; its slashes may stay as they are.", required=True)
_ROUTED = Answer(
    503, "No worker can answer at the moment; ask again after `Retry-After` seconds.", headers=("Retry-After",)
)

_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Names this request: repeated with the same key, it has no second effect. Needed to repeat after a 503 or a broken "
    "connection.",
    {"type": "string", "maxLength": 200},
)
_CORRELATION = (
    Parameter("Correlation-Id", "header", "Goes with the events to the mail and into every log.", {"type": "string"}),
    Parameter("traceparent", "header", "W3C Trace Context: the correlation id where no other is given."),
)
_KEY_USED = Answer(422, "The `Idempotency-Key` came with another request before.")
_QUOTA = Answer(429, "The quota of the source and tenant is used up.", headers=("Retry-After",))
_UNSENT = Answer(
    503,
    "The brokers did not acknowledge, so that it may have been taken or not: send it again, with the same "
    "`Idempotency-Key`. Or too many requests came at once.",
    headers=("Retry-After",),
)
_REFERENCE = Parameter("delivery", "query", "The delivery, sealed: part of the address that Twilio was given.")


def _callback(path: str, operation: str, summary: str, doc: str, *, named: bool) -> Route:
    """Return a route for Twilio: a form, signed by it."""
    return Route(
        "POST",
        f"/callbacks/twilio/{path}",
        f"twilio_{operation}",
        summary,
        f"{doc} For Twilio alone: a form with its signature (`X-Twilio-Signature`) over the public address and the "
        "fields. Answered once the brokers have it; the same form may come again.",
        None,
        (
            Answer(200, "Kept, or nothing new. TwiML.", "", "text/xml"),
            Answer(400, "The body is no form."),
            Answer(403, "Not signed by Twilio."),
            Answer(404, "The address names no delivery, or Twilio is not configured."),
            Answer(408, "The body did not come in time."),
            Answer(413, "More than 65536 bytes."),
            Answer(415, "The body is not `application/x-www-form-urlencoded`."),
            Answer(429, "Too many requests of this caller were refused.", headers=("Retry-After",)),
            Answer(503, "The brokers did not acknowledge; Twilio sends it again.", headers=("Retry-After",)),
        ),
        parameters=(_REFERENCE,) if named else (),
        examples=(
            Example(
                "forged",
                "Anybody",
                404,
                {"error": "no provider was told of this address: TWILIO_CALLBACK_URL is not set"},
            ),
        ),
    )


_NOT_META: Json = {"error": "Meta was not told of this address: WHATSAPP_APP_SECRET is not set"}

_META: tuple[Route, ...] = (
    Route(
        "GET",
        "/callbacks/meta",
        "meta_verify",
        "That this address is ours",
        "For Meta, once, when the address is entered at the app: says `hub.challenge` back to whoever knows the verify "
        "token.",
        None,
        (
            Answer(200, "The challenge.", "", "text/plain"),
            Answer(400, "The challenge is none."),
            Answer(403, "Another verify token."),
            Answer(404, "Meta's API is not configured."),
            Answer(429, "Too many requests of this caller were refused.", headers=("Retry-After",)),
            Answer(503, "Ask again.", headers=("Retry-After",)),
        ),
        parameters=(
            Parameter("hub.mode", "query", "`subscribe`."),
            Parameter("hub.verify_token", "query", "As in `WHATSAPP_VERIFY_TOKEN`."),
            Parameter("hub.challenge", "query", "What is to be said back."),
        ),
        examples=(Example("unasked", "Anybody", 404, _NOT_META),),
    ),
    Route(
        "POST",
        "/callbacks/meta",
        "meta_news",
        "What became of WhatsApp messages, and what people wrote",
        "For Meta alone: a webhook of the field `messages`, with its signature (`X-Hub-Signature-256`) over the bytes "
        "of the body. Answered once the brokers have all of it; the same body may come again.",
        None,
        (
            Answer(200, "Kept, or nothing new.", "", "text/plain"),
            Answer(400, "The body is no news of WhatsApp."),
            Answer(403, "Not signed by Meta."),
            Answer(404, "Meta's API is not configured."),
            Answer(408, "The body did not come in time."),
            Answer(413, "More than 3 MiB."),
            Answer(429, "Too many requests of this caller were refused.", headers=("Retry-After",)),
            Answer(503, "The brokers did not acknowledge; Meta sends it again.", headers=("Retry-After",)),
        ),
        examples=(Example("forged", "Anybody", 404, _NOT_META),),
    ),
)

_SENDGRID = Route(
    "POST",
    "/callbacks/sendgrid",
    "sendgrid_news",
    "What became of mails",
    "For SendGrid alone: its signed event webhook, with the signature (`X-Twilio-Email-Event-Webhook-Signature`) over "
    "the timestamp and the bytes of the body. Answered once the brokers have all of it; the same body may come again.",
    None,
    (
        Answer(200, "Kept, or nothing new.", "", "text/plain"),
        Answer(400, "The body is no list of events."),
        Answer(403, "Not signed by SendGrid."),
        Answer(404, "SendGrid's events are not configured."),
        Answer(408, "The body did not come in time."),
        Answer(413, "More than 1 MiB."),
        Answer(429, "Too many requests of this caller were refused.", headers=("Retry-After",)),
        Answer(503, "The brokers did not acknowledge; SendGrid sends it again.", headers=("Retry-After",)),
    ),
    examples=(
        Example(
            "forged",
            "Anybody",
            404,
            {"error": "SendGrid was not told of this address: SENDGRID_EVENT_KEY is not set"},
        ),
    ),
)

_MAIL = Route(
    "POST",
    "/callbacks/mail",
    "mail",
    "Take a mail that came back",
    "For the mail server behind `SMTP_BOUNCE_DOMAIN` and `SMTP_UNSUBSCRIBE_ADDRESS` alone: one mail as it is, with the "
    "header `Authorization: Bearer` and `SMTP_CALLBACK_TOKEN`, or that as the password of any user (Basic). Reports of "
    "delivery (RFC 3464) and of complaints (RFC 5965) are told to the reminder, and suppress the address where there "
    "is no such mailbox, or the category that was complained of. Answered once the brokers have it; the same mail may "
    "come again.",
    None,
    (
        Answer(200, "Kept, or nothing follows from it: `taken` says what it was.", "Object"),
        Answer(401, "No token, or none of ours.", headers=("WWW-Authenticate",)),
        Answer(404, "It names no delivery and no link of ours, or no mails are taken here."),
        Answer(408, "The body did not come in time."),
        Answer(413, "More than 1048576 bytes."),
        Answer(415, "The body is not `message/rfc822`."),
        Answer(429, "Too many requests of this caller were refused.", headers=("Retry-After",)),
        Answer(503, "The brokers did not answer; send it again.", headers=("Retry-After",)),
    ),
    parameters=(Parameter("to", "query", "A recipient of the mail's envelope; may be repeated."),),
    examples=(Example("off", "Not set up", 404, {"error": "no mails are taken: SMTP_CALLBACK_TOKEN is not set"}),),
)


_TOKEN = Parameter("token", "path", "The link, sealed: part of the address in the message.", required=True)


def _page(status: int, doc: str, *headers: str) -> Answer:
    return Answer(status, doc, "", "text/html", headers)


def _link(
    method: str,
    operation: str,
    summary: str,
    doc: str,
    *answers: Answer,
    path: str = "/l/{token}",
    everywhere: bool = False,
) -> Route:
    """Return a route for whoever has the link of a message."""
    return Route(
        method,
        path,
        operation,
        summary,
        doc,
        None,
        (
            *answers,
            _page(404, "The link does not hold: changed, too old, or none of ours. Nobody is told which."),
            _page(429, "Too many requests of this caller.", "Retry-After"),
        ),
        parameters=(_TOKEN,),
        everywhere=everywhere,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/",
        "index",
        "Whether something listens",
        "A core worker leads to its console (docs/console.md); a delivery worker says that it is there.",
        None,
        (Answer(200, "It is there.", "Object"), Answer(303, "Leads to `/console`.", "", "text/html", ("Location",))),
        everywhere=True,
        faust=True,
    ),
    Route(
        "GET",
        "/live",
        "live",
        "Whether the process should be left running",
        "For a supervisor's probe: 503 with the reason where only a restart helps.",
        None,
        (Answer(200, "It should.", "Status"), Answer(503, "It should be ended and started again.", "Status")),
        everywhere=True,
        examples=(Example("live", "A worker that lives", 200, {"status": "ok"}),),
    ),
    Route(
        "GET",
        "/ready",
        "ready",
        "Whether the worker does its work",
        "503 with the reason during a recovery or a rebalance, or without a broker. What is held back all the same, by "
        "a hold or by `SEND_ONLY_TO`, stands beside it.",
        None,
        (Answer(200, "It does.", "Ready"), Answer(503, "It does not, and why.", "Ready")),
        everywhere=True,
        examples=(Example("ready", "A worker at work", 200, {"status": "ok"}),),
    ),
    Route(
        "GET",
        "/health",
        "health",
        "Both, with details for people",
        "Always 200. Nothing in it is personal or secret; further members may come.",
        None,
        (Answer(200, "How the worker is.", "Health"),),
        everywhere=True,
    ),
    Route(
        "GET",
        "/health/providers",
        "providers",
        "How the providers stand",
        "Each provider of each channel with its circuit (docs/circuits.md), and why where it is not called for now. "
        "`/ready` does not mind: the worker works.",
        None,
        (Answer(200, "All of them.", "Providers"),),
        everywhere=True,
        examples=(Example("providers", "A provider that refuses our settings", 200, {"providers": [_REFUSING]}),),
    ),
    Route(
        "GET",
        "/health/providers/{name}",
        "provider",
        "How one provider stands",
        "503 where it is not called for now on one of its channels.",
        None,
        (
            Answer(200, "It is called.", "Provider"),
            Answer(503, "It is not, and why.", "Provider"),
            Answer(404, "No such provider is configured."),
        ),
        everywhere=True,
        parameters=(Parameter("name", "path", "Its name, such as `smtp` or `twilio`.", required=True),),
        examples=(
            Example(
                "refusing",
                "A provider that refuses our settings",
                503,
                {"status": "not called", "providers": [_REFUSING]},
                parameters={"name": "smtp"},
            ),
        ),
    ),
    Route(
        "GET",
        "/metrics",
        "metrics",
        "Metrics for Prometheus",
        "The text format of Prometheus; docs/metrics.md lists all of them.",
        None,
        (Answer(200, "All values.", "", "text/plain"),),
        everywhere=True,
    ),
    Route(
        "GET",
        "/openapi.json",
        "openapi",
        "This description",
        "OpenAPI 3.1, as docs/openapi.json has it.",
        None,
        (Answer(200, "The description.", "Object"),),
    ),
    Route(
        "POST",
        "/reminders",
        "submit",
        "Send reminders",
        "One event or an array of them, as `python -m app remind --json` reads it: a reminder, or with `action` what "
        "is to be done with one. Any core worker takes any reminder. Answered once all copies of the partition have "
        "every event; what becomes of it is on its trail. If one event is wrong, nothing is sent.",
        Access.OPERATOR,
        (
            Answer(202, "The brokers have all of it.", "Taken", headers=("Location",)),
            Answer(400, "Something is wrong with it: each fault with its reason. Nothing was sent."),
            Answer(408, "The body did not come in time."),
            Answer(413, f"More than {MAX_BODY_BYTES} bytes, {MAX_EVENTS} events, or a whole minute's quota."),
            Answer(415, "The body is not `application/json`, not UTF-8 or compressed."),
            _KEY_USED,
            _QUOTA,
            _UNSENT,
        ),
        parameters=(_KEY, *_CORRELATION),
        body="ReminderEvents",
        examples=(
            Example(
                "one",
                "A mail on a wall clock",
                202,
                {
                    "events": [
                        {
                            "reminder_id": "clinic/visit-42",
                            "event_id": "0f2c5cbb4b0a4be4a5cf9a6c2a3ad1b7",
                            "correlation_id": "booking-7",
                            "topic": "reminders",
                            "partition": 5,
                            "offset": 1042,
                            "trail": "/reminders/clinic/visit-42",
                        }
                    ]
                },
                body={
                    "reminder_id": "clinic/visit-42",
                    "local": "2027-12-01T09:00",
                    "zone": "Europe/Berlin",
                    "text": "Dentist at ten",
                    "steps": [{"channel": "EMAIL", "address": "anna@example.org"}],
                },
                parameters={"Idempotency-Key": "visit-42-v1", "Correlation-Id": "booking-7"},
            ),
            Example(
                "several",
                "A change and a cancel, numbered",
                202,
                {
                    "events": [
                        {
                            "reminder_id": "clinic/visit-42",
                            "event_id": "b1a4d5d5b6a04f0cb6f2d8a0a2d5f7e1",
                            "correlation_id": "b1a4d5d5b6a04f0cb6f2d8a0a2d5f7e1",
                            "topic": "reminders",
                            "partition": 5,
                            "offset": 1043,
                            "trail": "/reminders/clinic/visit-42",
                        },
                        {
                            "reminder_id": "clinic/visit-43",
                            "event_id": "9c0de1d9a5b34a31b2f1b8f0f8a4f6c2",
                            "correlation_id": "9c0de1d9a5b34a31b2f1b8f0f8a4f6c2",
                            "topic": "reminders",
                            "partition": 2,
                            "offset": 977,
                            "trail": "/reminders/clinic/visit-43",
                        },
                    ]
                },
                body=[
                    {
                        "reminder_id": "clinic/visit-42",
                        "recipient_id": "anna",
                        "local": "2027-12-02T09:00",
                        "text": "Dentist at ten, a day later",
                        "version": 2,
                    },
                    {"reminder_id": "clinic/visit-43", "action": "CANCEL", "version": 3},
                ],
            ),
            Example(
                "wrong",
                "Two events, each with a fault",
                400,
                {
                    "error": "nothing was taken, for something is wrong",
                    "faults": [
                        {
                            "index": 0,
                            "reason": "impossible_date",
                            "field": "local",
                            "value": "2027-02-30T09:00",
                            "remedy": "send a date and time that the calendar has",
                        },
                        {
                            "index": 1,
                            "reason": "invalid_json",
                            "field": "txt",
                            "value": "",
                            "remedy": "is not known; did you mean text?",
                        },
                    ],
                },
                body=[
                    {"reminder_id": "clinic/1", "recipient_id": "anna", "local": "2027-02-30T09:00", "text": "Hello"},
                    {"reminder_id": "clinic/2", "recipient_id": "anna", "local": "2027-02-20T09:00", "txt": "Hello"},
                ],
            ),
        ),
    ),
    Route(
        "GET",
        "/reminders",
        "reminders",
        "List reminders",
        "By state, channel, due time and more, over all workers, page by page: go on with `cursor` set to `next` for "
        "as long as there is one. The order is stable and has no meaning. A page ends early where looking takes long, "
        "even an empty one. Addresses are masked; a token of a tenant or with a prefix sees its own.",
        Access.VIEWER,
        (
            Answer(200, "A page of reminders.", "ReminderPage"),
            Answer(400, "A parameter cannot be used."),
            _ROUTED,
        ),
        parameters=(
            Parameter(
                "state",
                "query",
                "One or several, with commas between them. `FAILED`: RETRY and DEAD_LETTER. Left out: all.",
            ),
            Parameter("channel", "query", "The channel of the step that it is at, or was at last."),
            Parameter(
                "due_before",
                "query",
                "Due before this instant: ISO 8601 with an offset, ms since 1970, or from now, such as `-2h`.",
            ),
            Parameter("due_after", "query", "Due at this instant or later; written likewise."),
            Parameter("tenant", "query", "Reminders of this tenant."),
            Parameter("category", "query", "Reminders of this category."),
            Parameter("recipient", "query", "Reminders of this recipient id."),
            Parameter("source", "query", "Reminders of this producer."),
            Parameter("prefix", "query", "Reminders whose id begins so."),
            Parameter("unreachable", "query", "`true`: those that are open and have nobody whom they can reach."),
            Parameter(
                "limit", "query", "Most of a page.", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
            ),
            Parameter("cursor", "query", "The `next` of the page before."),
            Parameter("partition", "query", "Of one partition alone.", {"type": "integer", "minimum": 0}),
        ),
        examples=(
            Example(
                "failed",
                "Mails that failed",
                200,
                {"reminders": [], "next": None},
                parameters={"state": "FAILED", "channel": "email", "due_before": "2026-12-01T09:00:00Z"},
            ),
            Example(
                "unfit",
                "A channel that there is not",
                400,
                {"error": "channel: use one of email, sms, whatsapp, voice, push, webhook"},
                parameters={"channel": "pigeon"},
            ),
        ),
    ),
    Route(
        "GET",
        "/reminders/{id}",
        "reminder",
        "What is known of one reminder",
        "State, next act and trail, from whichever worker owns the reminder. Texts are told by their length, addresses "
        "by their ends. A token of a tenant sees that tenant's reminders alone; the others are not there for it.",
        Access.VIEWER,
        (
            Answer(200, "The reminder.", "Reminder"),
            Answer(404, "No such reminder, or one that ended longer ago than it is kept."),
            _ROUTED,
        ),
        parameters=(_ID,),
        examples=(
            Example(
                "missing",
                "A reminder that is not there",
                404,
                {"error": "no such reminder; it may have ended longer ago than RETENTION_S"},
                parameters={"id": "clinic/nobody"},
            ),
        ),
    ),
    Route(
        "DELETE",
        "/reminders/{id}",
        "cancel",
        "Cancel a reminder",
        "Sends the event CANCEL. It holds once CANCELLED is on the trail: no call begins after that. A cancel that "
        "comes before its reminder is kept, and one of a reminder that nobody knows is no fault.",
        Access.OPERATOR,
        (
            Answer(202, "The brokers have it.", "Taken", headers=("Location",)),
            Answer(400, "Something is wrong with it. Nothing was sent."),
            _KEY_USED,
            _QUOTA,
            _UNSENT,
        ),
        parameters=(
            _ID,
            Parameter(
                "version",
                "query",
                "Cancels what is not newer than this; left out: whatever is there.",
                {"type": "integer", "format": "int64", "minimum": 0},
            ),
            Parameter("occurrence", "query", "The original local start of the one occurrence to cancel."),
            _KEY,
            *_CORRELATION,
        ),
        examples=(
            Example(
                "cancel",
                "A numbered cancel",
                202,
                {
                    "events": [
                        {
                            "reminder_id": "clinic/visit-42",
                            "event_id": "5d0f7c1f3e0f4bb49c4be54b1dfe2e0c",
                            "correlation_id": "5d0f7c1f3e0f4bb49c4be54b1dfe2e0c",
                            "topic": "reminders",
                            "partition": 5,
                            "offset": 1044,
                            "trail": "/reminders/clinic/visit-42",
                        }
                    ]
                },
                parameters={"id": "clinic/visit-42", "version": "3"},
            ),
        ),
    ),
    _MAIL,
    _callback(
        "status",
        "message",
        "What became of a message",
        "Kept as news of the delivery that the address names: sent, delivered, read, or failed with a code.",
        named=True,
    ),
    _callback(
        "call",
        "call",
        "What became of a call",
        "An answering machine is no person: a call that it took was made and not delivered.",
        named=True,
    ),
    _callback(
        "key",
        "key",
        "Which key somebody pressed",
        "1 acknowledges the occurrence that the call was about; what is said then is in the answer.",
        named=True,
    ),
    _callback(
        "inbound",
        "inbound",
        "What somebody wrote back",
        "A whole message such as STOP ends all messages to that address, START lets them begin again; anything else "
        "changes nothing.",
        named=False,
    ),
    *_META,
    _SENDGRID,
    _link(
        "GET",
        "link",
        "What a link of a message is for",
        "A page with a button, for readers of messages: to confirm, or to unsubscribe. Changes nothing, however often "
        "it is fetched.",
        _page(200, "The page."),
    ),
    _link(
        "POST",
        "follow_link",
        "Follow a link of a message",
        "Confirms or unsubscribes at once; the body does not matter, so that mail programs may send "
        "`List-Unsubscribe=One-Click` (RFC 8058). Answered once the brokers have it; the same request again changes "
        "nothing.",
        _page(200, "Done."),
        _page(413, "More than 65536 bytes."),
        _page(503, "The brokers did not acknowledge; send it again.", "Retry-After"),
    ),
    _link(
        "GET",
        "preferences",
        "What a recipient allows",
        "A page for the recipient to whom a mail went: each category that may be refused, by channel, and the quiet "
        "hours. Changes nothing. A core worker passes it on to the delivery worker beside it.",
        _page(200, "The page."),
        _page(503, "The worker that has this recipient does not answer at the moment.", "Retry-After"),
        path="/preferences/{token}",
        everywhere=True,
    ),
    _link(
        "POST",
        "choose",
        "Choose what a recipient allows",
        "The form of that page: what is not checked is refused. Answered once the brokers have it.",
        _page(200, "Kept."),
        _page(400, "Not the form of the page."),
        _page(413, "More than 65536 bytes."),
        _page(503, "The brokers did not acknowledge, or the worker does not answer; send it again.", "Retry-After"),
        path="/preferences/{token}",
        everywhere=True,
    ),
    Route(
        "POST",
        "/maybe/{id}",
        "resolve",
        "Say what became of a reminder in doubt",
        "Sends the event CONFIRM_SENT or CONFIRM_NOT_SENT for a reminder in MAYBE_SENT. `sent` settles it as SENT; "
        "`not-sent` sends it again in a new round, unless its deadline has passed. Name the delivery that you looked "
        "for (`delivery_id`, as `maybe list --json` shows it): a doubt that came "
        "later is then left alone. What is in no doubt is left alone, and its trail says so. The token's name and the "
        "reason are kept on the trail.",
        Access.OPERATOR,
        (
            Answer(202, "The brokers have it.", "Taken", headers=("Location",)),
            Answer(400, "Something is wrong with it. Nothing was sent."),
            Answer(408, "The body did not come in time."),
            Answer(413, f"More than {MAX_BODY_BYTES} bytes."),
            Answer(415, "The body is not `application/json`, not UTF-8 or compressed."),
            _KEY_USED,
            _QUOTA,
            _UNSENT,
        ),
        parameters=(_ID, _KEY, *_CORRELATION),
        body="Resolution",
        examples=(
            Example(
                "sent",
                "The server's log has it",
                202,
                {
                    "events": [
                        {
                            "reminder_id": "clinic/visit-42",
                            "event_id": "7f0f7c1f3e0f4bb49c4be54b1dfe2e0d",
                            "correlation_id": "7f0f7c1f3e0f4bb49c4be54b1dfe2e0d",
                            "topic": "reminders",
                            "partition": 5,
                            "offset": 1045,
                            "trail": "/reminders/clinic/visit-42",
                        }
                    ]
                },
                body={"answer": "sent", "reason": "the mail server's log has 250 for it"},
                parameters={"id": "clinic/visit-42"},
            ),
        ),
    ),
)


def routes(*, core: bool) -> tuple[Route, ...]:
    """Return the routes of the core worker, or those of the delivery worker."""
    return tuple(route for route in ROUTES if core or route.everywhere)
