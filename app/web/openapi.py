"""The description of the HTTP interface (OpenAPI 3.1), made from the table of routes and from the Avro schemas."""

from functools import cache
from typing import Any

import orjson

from app.sparse import INSTANTS
from app.tokens import Access
from app.web.routes import JSON, MAX_EVENTS, ROUTES, Answer, Parameter, Route
from app.why import STAGES
from schemas.codec import CONTRACTS
from schemas.records import ReminderEvent
from tables.circuit import Phase

#: The interface's own version: it rises with what would break a client.
VERSION = "1"
#: Reasons that only this way in can have; the rest are those of the dead letter queue.
HTTP_REASONS = {
    "invalid_json": "no JSON, or none that is an event",
    "repeated_id": "an unnumbered event of a reminder that has one in this request already",
    "forbidden_tenant": "the token is bound to another tenant",
    "forbidden_id": "the token may only use ids with its prefix",
}

Json = dict[str, Any]
_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "format": "int64"}
_FLAG: Json = {"type": "boolean"}
_PLAIN: dict[str, Json] = {
    "string": _TEXT,
    "long": _WHOLE,
    "int": {"type": "integer", "format": "int32"},
    "boolean": _FLAG,
}
_INSTANT: Json = {
    "oneOf": [
        _WHOLE | {"description": "ms since 1970-01-01 UTC"},
        _TEXT | {"format": "date-time", "description": "ISO 8601 with an offset"},
    ]
}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: tuple[str, ...], properties: Json, doc: str = "", *, further: bool = False) -> Json:
    schema: Json = {"type": "object", "required": list(required), "properties": properties}
    return (
        {"description": doc, **schema, "additionalProperties": further}
        if doc
        else schema | {"additionalProperties": further}
    )


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


# -- components --------------------------------------------------------------------------------------------------------


def _event_schemas() -> Json:
    """Return ReminderEvent and the records in it, as their Avro schema has them and the reader takes them."""
    schema = CONTRACTS[ReminderEvent].schema
    found: Json = {}

    def of(node: Any, name: str = "") -> Json:
        node = schema.resolve(node)
        if isinstance(node, list):
            return _or_null(of(next(branch for branch in node if branch != "null"), name))
        kind = node["type"] if isinstance(node, dict) else node
        match kind:
            case "long" if name in INSTANTS:
                return _INSTANT
            case "enum":
                return _TEXT | {"enum": [symbol for symbol in node["symbols"] if symbol != "UNKNOWN"]}
            case "array":
                return _list(of(node["items"]))
            case "map":
                return {"type": "object", "additionalProperties": of(node["values"])}
            case "record":
                return record(node)
        return _PLAIN[kind]

    def record(node: Json) -> Json:
        name = node["name"].rpartition(".")[2]
        properties: Json = {}
        for part in node["fields"]:
            made = dict(of(part["type"], part["name"]))
            if "doc" in part:
                made["description"] = part["doc"]
            if "default" in part:
                made["default"] = part["default"]
            properties[part["name"]] = made
        required = tuple(part["name"] for part in node["fields"] if "default" not in part)
        found[name] = _object(required, properties, node.get("doc", ""))
        return _ref(name)

    of(schema.root)
    found["ReminderEvent"]["description"] = (
        "A reminder (`action` UPSERT, the whole of it and never a patch) or what is to be done with one. Only what "
        "differs from the defaults need be given; a field that is not known is refused. Symbols are taken in any case."
    )
    return found


def _reminder_schemas() -> Json:
    time = _object(
        ("ms",), {"ms": _WHOLE, "utc": _TEXT, "local": _TEXT}, "An instant, on the reminder's clock as well."
    )
    state = _TEXT | {"description": "Such as SCHEDULED, SENT or CANCELLED; more may come."}
    entry = {
        "seq": _WHOLE,
        "at": _or_null(_ref("Time")),
        "state": state,
        "reason": _TEXT,
        "occurrence": _TEXT,
        "attempt": _WHOLE,
        "channel": _TEXT,
        "detail": _TEXT,
        "actor": _TEXT | {"description": "Who asked for it: the name of a token, or of a user."},
    }
    texts = ("recipient_id", "category", "source", "tenant", "damaged")
    line = {
        "reminder": _TEXT,
        "state": state,
        "reason": _TEXT,
        "because": _TEXT | {"description": "The reason in words."},
        "channel": _TEXT,
        "attempt": _WHOLE,
        "due_at": _or_null(_ref("Time")) | {"description": "When it was, or is to be, due."},
        "rule": _TEXT | {"description": "By what it fires again; empty for what fires once."},
        "next_due": _or_null(_ref("Time")) | {"description": "Of a series: when the one after this is due."},
        "acts_next": _or_null(_ref("Time")) | {"description": "Null of what has ended."},
        "deadline": _or_null(_ref("Time")),
        "updated_at": _or_null(_ref("Time")),
        "delivery_id": _TEXT | {"description": "The delivery that is open, or was the last one."},
        "address": _TEXT | {"description": "Masked; empty where the recipient's contacts serve."},
        **dict.fromkeys(texts, _TEXT),
    }
    stage = {
        "stage": _TEXT | {"enum": [name for name, _ in STAGES]},
        "at": _or_null(_ref("Time")),
        "ms": _WHOLE | {"description": "Since the stage before; negative where two clocks differ."},
        "waits_for": _TEXT,
    }
    late = {
        "due_at": _or_null(_ref("Time")),
        "total_ms": _WHOLE | {"description": "From the due time to the answer: the sum of all stages."},
        "attempt": _WHOLE,
        "channel": _TEXT,
        "stages": _list(_object(tuple(stage), stage)),
    }
    why = {
        "state": _TEXT | {"description": "What the state means."},
        "because": _TEXT | {"description": "How it came to it, in the words of docs/reasons.md."},
        "next": _TEXT,
        "next_at": _or_null(_ref("Time")),
        "deadline": _or_null(_ref("Time")) | {"description": "No message after it; null where none is left."},
        "lateness": _or_null(_ref("Lateness")),
    }
    return {
        "Time": time,
        "Why": _object(tuple(why), why, "Why it stands where it stands, and what happens next."),
        "Lateness": _object(tuple(late), late, "Where the time of the last attempt went."),
        "TrailEntry": _object(tuple(entry), entry, further=True),
        "ReminderLine": _object(tuple(line), line, further=True),
        "ReminderPage": _object(
            ("reminders", "next"),
            {
                "reminders": _list(_ref("ReminderLine")),
                "next": _or_null(_TEXT) | {"description": "The next page's `cursor`; null: there is none."},
            },
        ),
        "Reminder": _object(
            ("reminder", "state", "trail"),
            {
                "reminder": _TEXT,
                "state": state,
                "zone": _TEXT,
                "acts_next": _or_null(_ref("Time")),
                "why": _ref("Why"),
                "open": _or_null({"type": "object", "description": "The occurrence that is under way."}),
                "delivery_id": _TEXT | {"description": "The delivery that is open, or was the last one."},
                "closed": _list({"type": "object", "description": "The last occurrences that have ended."}),
                "trail": _list(_ref("TrailEntry")),
                "series": _or_null(
                    _object(
                        ("rule", "next", "next_due", "told", "told_at", "moved"),
                        {
                            "rule": _TEXT | {"description": "By what it fires, in a line."},
                            "next": _TEXT | {"description": "The occurrence after the open one; empty: there is none."},
                            "next_due": _or_null(_ref("Time")),
                            "told": _TEXT | {"description": "The last occurrence that ended."},
                            "told_at": _or_null(_ref("Time")),
                            "moved": _list({"type": "object", "description": "A start moved, or cancelled: no `to`."}),
                        },
                        "Where a series stands; null for what fires once.",
                    )
                ),
                "definition": _or_null({"type": "object"}),
                "content": _or_null({"type": "object", "description": "How much content there is; never the content."}),
                "version": _WHOLE,
                "event_id": _TEXT,
                "damaged": _TEXT | {"description": "Why the row cannot be read; the rest is what its header says."},
            },
            "What is known of a reminder. Further members may come.",
            further=True,
        ),
    }


def _components() -> Json:
    own = "; ".join(f"`{reason}`: {meaning}" for reason, meaning in HTTP_REASONS.items())
    fault = {
        "index": {"type": "integer", "description": "Which event of an array; 0 for a single one."},
        "reason": _TEXT
        | {"description": f"As in the dead letter queue, such as `no_start`; or of this way in. {own}."},
        "field": _TEXT | {"description": "Which field; empty for the event as a whole."},
        "value": _TEXT | {"description": "What was in it, masked where it is personal."},
        "remedy": _TEXT | {"description": "What to do."},
    }
    taken = {
        "reminder_id": _TEXT,
        "event_id": _TEXT | {"description": "By it the trail tells what became of the event."},
        "correlation_id": _TEXT,
        "topic": _TEXT,
        "partition": {"type": "integer"},
        "offset": _WHOLE,
        "trail": _TEXT | {"description": "Where the reminder and its trail can be read."},
    }
    many = _list(_ref("ReminderEvent")) | {"minItems": 1, "maxItems": MAX_EVENTS}
    return {
        **_event_schemas(),
        "ReminderEvents": {"oneOf": [_ref("ReminderEvent"), many]},
        "Resolution": _object(
            ("answer", "reason"),
            {
                "answer": _TEXT | {"enum": ["sent", "not-sent"], "description": "What became of it."},
                "reason": _TEXT | {"maxLength": 200, "description": "How you know; kept on the trail."},
                "delivery_id": _TEXT | {"description": "The delivery that was looked for; empty: the one in doubt."},
            },
        ),
        "TakenEvent": _object(tuple(taken), taken, "An event that all copies of its partition have."),
        "Taken": _object(("events",), {"events": _list(_ref("TakenEvent"))}),
        "Fault": _object(tuple(fault), fault),
        "Error": _object(
            ("error",),
            {
                "error": _TEXT,
                "faults": _list(_ref("Fault")),
                "more_faults": _FLAG | {"description": "Whether there may be more faults than are listed."},
                "retry_after_s": {"type": "integer", "description": "As the header `Retry-After`."},
            },
        ),
        "Status": _object(("status",), {"status": _TEXT | {"description": "`ok`, or why not."}}),
        "Ready": _object(
            ("status",),
            {
                "status": _TEXT | {"description": "`ok`, or why not."},
                "held": _list(_TEXT | {"description": "A hold's scope, such as `channel:email`."}),
                "send_only_to": _WHOLE
                | {"description": "How many entries `SEND_ONLY_TO` has; all others get nothing."},
            },
            further=True,
        ),
        "Health": _object(("live", "ready"), {"live": _TEXT, "ready": _TEXT}, further=True),
        "Circuit": _object(
            ("provider", "channel", "state"),
            {
                "provider": _TEXT,
                "channel": _TEXT,
                "state": _TEXT | {"enum": [phase.value for phase in Phase]},
                "misconfigured": _FLAG | {"description": "Whether it refuses our own settings."},
                "reason": _TEXT | {"description": "As docs/reasons.md explains it."},
                "since": _TEXT,
                "until": _TEXT | {"description": "When a pause ends."},
                "next_probe": _TEXT | {"description": "When the next call may try it."},
            },
        ),
        "Providers": _object(("providers",), {"providers": _list(_ref("Circuit"))}),
        "Provider": _object(
            ("status", "providers"),
            {"status": _TEXT | {"description": "`ok`, or `not called`."}, "providers": _list(_ref("Circuit"))},
        ),
        "Object": {"type": "object"},
        **_reminder_schemas(),
    }


_HEADERS = {
    "Location": {"description": "Where the reminder can be read; for a single event.", "schema": _TEXT},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "`Bearer`.", "schema": _TEXT},
}
_ROLES = {
    Access.VIEWER: "Needs a token of any role.",
    Access.OPERATOR: "Needs a token of an operator or an administrator.",
    Access.ADMIN: "Needs a token of an administrator.",
}


# -- paths -------------------------------------------------------------------------------------------------------------


def _parameter(parameter: Parameter, route: Route) -> Json:
    said: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.doc,
        "schema": dict(parameter.schema),
    }
    given = {e.name: {"value": e.parameters[parameter.name]} for e in route.examples if parameter.name in e.parameters}
    return said | {"examples": given} if given else said


def _answer(answer: Answer, route: Route) -> Json:
    said: Json = {"description": answer.doc}
    if answer.headers:
        said["headers"] = {name: _HEADERS[name] for name in answer.headers}
    media: Json = {"schema": _ref(answer.schema) if answer.schema else _TEXT}
    examples = {e.name: {"summary": e.summary, "value": e.answer} for e in route.examples if e.status == answer.status}
    said["content"] = {answer.media: media | {"examples": examples} if examples else media}
    return said


def _operation(route: Route) -> Json:
    role = f" {_ROLES[route.access]}" if route.access is not None else ""
    said: Json = {"operationId": route.operation, "summary": route.summary, "description": route.doc + role}
    said["security"] = [{"token": []}] if route.access is not None else []
    if route.access is not None:
        said["x-role"] = route.access.value
    said["x-workers"] = ["core", "delivery"] if route.everywhere else ["core"]
    if route.parameters:
        said["parameters"] = [_parameter(parameter, route) for parameter in route.parameters]
    if route.body:
        media: Json = {"schema": _ref(route.body)}
        examples = {e.name: {"summary": e.summary, "value": e.body} for e in route.examples if e.body is not None}
        said["requestBody"] = {
            "required": True,
            "content": {JSON: media | {"examples": examples} if examples else media},
        }
    answers = sorted(route.all_answers, key=lambda answer: answer.status)
    said["responses"] = {str(answer.status): _answer(answer, route) for answer in answers}
    return said


@cache
def document() -> Json:
    """Return the description of the interface."""
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Reminders",
            "version": VERSION,
            "description": "The web server of a worker. Any core worker answers for any reminder. Made from "
            "`app/web/routes.py` (`python -m app openapi`); docs/produce/http.md says how to use it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _components(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`WEB_TOKEN`, or a token of the file `WEB_TOKENS_FILE`.",
                }
            },
        },
    }


@cache
def text() -> bytes:
    """Return the description as docs/openapi.json has it."""
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2) + b"\n"
