"""The description of the interface: complete, true, and its examples sent."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app import sparse
from app.web import openapi
from app.web.console.routes import SCREENS
from app.web.routes import ROUTES, Route, routes
from schemas.records import Policy, ReminderEvent, Step
from tests.web.schema import misfits, resolve
from tests.web.stage import AUTH, Fake, Serve, row

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads(openapi.text())

#: Prints the routes of the two apps as the composition root makes them.
WALK = """
import json, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from agents.meter import Meter
from app.build import build_core, build_delivery
from app.config import Settings
settings = Settings.load({"REMINDERS_DATA_DIR": sys.argv[1], "SMTP_HOST": "127.0.0.1", "SMTP_FROM": "a@example.org"})
found = {}
for name, build in (("core", build_core), ("delivery", build_delivery)):
    app = build(settings, Meter(CollectorRegistry()))
    app.web.init_server()
    found[name] = [[r.method, r.resource.canonical] for r in app.web.web_app.router.routes()]
print(json.dumps(found))
"""


def test_no_worker_has_a_route_that_is_not_described(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        # Faust answers HEAD on every path, as GET or not at all.
        there = {(method, path) for method, path in found if method != "HEAD"}
        described = {(route.method, route.path) for route in routes(core=name == "core")}
        if name == "core":
            described |= {(screen.method, screen.path) for screen in SCREENS}
        assert there == described, name


def test_the_file_is_made_from_the_table() -> None:
    assert (ROOT / "docs/openapi.json").read_bytes() == openapi.text()


def test_every_route_says_all_that_belongs_to_it() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.operation for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        assert route.summary, route
        assert route.doc.endswith("."), route
        statuses = [answer.status for answer in route.all_answers]
        assert len(set(statuses)) == len(statuses), route
        named = {part[1:-1] for part in route.path.split("/") if part.startswith("{")}
        assert {p.name for p in route.parameters if p.where == "path"} == named, route
        assert {e.status for e in route.examples} <= set(statuses), route
        assert not route.everywhere or route.access is None, "tokens are the core worker's"


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    refs = {node["$ref"] for node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)}
    for ref in refs:
        resolve(DOCUMENT, ref)
    assert {ref.rpartition("/")[2] for ref in refs} == set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize("kind", [ReminderEvent, Step, Policy])
def test_the_event_has_the_fields_that_are_read(kind: Any) -> None:
    schema = DOCUMENT["components"]["schemas"][kind.__name__]
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(kind)}
    assert schema["additionalProperties"] is False


def test_what_the_schema_takes_is_read_and_what_it_refuses_is_not() -> None:
    schema = DOCUMENT["components"]["schemas"]["ReminderEvent"]
    good = {
        "reminder_id": "a", "at": "2026-12-01T09:00:00Z", "expires_at": 7, "action": "CANCEL", "data": {"k": "v"},
        "steps": [{"channel": "SMS", "address": "+49151"}], "policy": {"missed": "ALL"}, "before": ["PT1H"],
    }  # fmt: skip
    assert list(misfits(DOCUMENT, schema, good)) == []
    sparse.record(ReminderEvent, good)
    for bad in ({}, {"reminder_id": 1}, {"reminder_id": "a", "x": 1}, {"reminder_id": "a", "action": "UNKNOWN"},
                {"reminder_id": "a", "steps": [{}]}, {"reminder_id": "a", "at": True}):  # fmt: skip
        assert list(misfits(DOCUMENT, schema, bad)), bad
        with pytest.raises(sparse.NotARecord):
            sparse.record(ReminderEvent, bad)


async def test_the_description_is_served(serve: Serve) -> None:
    answer = await (await serve(Fake())).get("/openapi.json")
    assert (answer.status, await answer.read()) == (200, openapi.text())


def same(told: Any, found: Any) -> bool:
    """Return whether an answer is what an example shows; numbers and ids of its own differ each time."""
    if isinstance(told, dict):
        return isinstance(found, dict) and told.keys() == found.keys() and all(
            name in ("event_id", "correlation_id", "offset", "partition") or same(told[name], found[name])
            for name in told
        )  # fmt: skip
    if isinstance(told, list):
        return isinstance(found, list) and len(told) == len(found) and all(map(same, told, found))
    return bool(told == found)


EXAMPLES = [(route, example) for route in ROUTES for example in route.examples]


@pytest.mark.parametrize(
    ("route", "name"), [(r, e.name) for r, e in EXAMPLES], ids=lambda v: getattr(v, "operation", v)
)
async def test_examples_are_answered_as_they_say(serve: Serve, route: Route, name: str) -> None:
    """As a reader of the document has it: the request with its parameters and body, the answer by the same name."""
    told = DOCUMENT["paths"][route.path][route.method.lower()]
    path, headers, query = route.path, dict(AUTH), {}
    for parameter in told.get("parameters", ()):
        if (example := parameter.get("examples", {}).get(name)) is None:
            assert not parameter["required"]
            continue
        match parameter["in"]:
            case "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(example["value"]))
            case "query":
                query[parameter["name"]] = example["value"]
            case _:
                headers[parameter["name"]] = example["value"]
    bodies = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {})
    sent = {"json": bodies[name]["value"]} if name in bodies else {}
    client = await serve(Fake(rows={"clinic/visit-42": row()}))
    answer = await client.request(route.method, path, headers=headers, params=query, **sent)
    [(status, media)] = [
        (status, media)
        for status, answer_ in told["responses"].items()
        for media in answer_["content"].values()
        if name in media.get("examples", {})
    ]
    assert answer.status == int(status), await answer.text()
    found = await answer.json()
    assert same(media["examples"][name]["value"], found), found
    assert list(misfits(DOCUMENT, media["schema"], found)) == []
    assert list(misfits(DOCUMENT, media["schema"], media["examples"][name]["value"])) == []


async def test_answers_are_what_the_description_says(serve: Serve) -> None:
    client = await serve(Fake(rows={"x": row(), "bad": row()[:60]}))

    async def checked(path: str, headers: Mapping[str, str]) -> None:
        operation = DOCUMENT["paths"]["/reminders/{id}" if path.startswith("/reminders/") else path]["get"]
        answer = await client.get(path, headers=headers)
        [media] = operation["responses"][str(answer.status)]["content"].values()
        assert list(misfits(DOCUMENT, media["schema"], await answer.json())) == [], path

    for path in ("/live", "/ready", "/health", "/openapi.json", "/reminders/x", "/reminders/bad", "/reminders/y"):
        await checked(path, AUTH)
    await checked("/reminders/x", {})


def test_it_would_be_noticed() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for wrong in ([], {}, {"a": "1"}, {"a": 1, "b": 1}, {"a": True}):
        assert list(misfits({}, schema, wrong)), wrong
