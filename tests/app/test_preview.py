"""The command that shows when something fires: as a table, as JSON, line by line, and compared."""

import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli.root import main
from app.config import VARIABLES
from app.web import page
from schemas.codec import encode
from schemas.names import Lane, State
from schemas.records import Definition, Occurrence, ReminderRow
from tables import due as index

Invoke = Callable[..., Result]
EVE = "2026-12-24"
CASES = json.loads((Path(__file__).parents[1] / "cases/cases.json").read_text("utf-8"))


@pytest.fixture
def invoke() -> Invoke:
    def run(*args: str, env: dict[str, str] | None = None, stdin: str = "") -> Result:
        unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
        return CliRunner().invoke(main, ["preview", *args], input=stdin, env={**unset, **(env or {})})

    return run


def lines(invoke: Invoke, *asked: object, **options: Any) -> list[dict[str, Any]]:
    stdin = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in asked)
    result = invoke("--file", "-", stdin=stdin, **options)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def utc(answer: dict[str, Any]) -> list[str]:
    return [occurrence["utc"] for occurrence in answer["occurrences"]]


def test_a_line_is_answered_in_the_stated_form(invoke: Invoke) -> None:
    asked = {"zone": "America/Chicago", "dtstart": "2026-11-01T09:00", "rrule": "FREQ=DAILY", "count": 1}
    result = invoke("--file", "-", stdin=json.dumps(asked))
    assert result.stdout == (
        '{"occurrences":[{"utc":"2026-11-01T15:00:00Z","local":"2026-11-01T09:00","note":null}]}\n'
    )


def test_the_vectors_of_the_cases(invoke: Invoke) -> None:
    """Every rule of the cases, as lines, all answered in one go."""
    asked, expected = [], []
    for case in CASES:
        if case["kind"] not in ("a-time", "b-scheduler") or "vectors" not in case["input"]:
            continue
        answers = {vector["n"]: vector for vector in case["expected"]["vectors"]}
        for vector in case["input"]["vectors"]:
            answer = answers[vector["n"]]
            if "rrule" in vector and ({"utc", "local_dates", "local_times", "count"} & set(answer)):
                asked.append({key: vector[key] for key in ("zone", "dtstart", "rrule") if key in vector})
                asked[-1] |= {"exdates": vector.get("exdate", []), "count": vector.get("take", 100)}
                expected.append(answer)
    assert len(asked) > 20
    for line, answer, want in zip(asked, lines(invoke, *asked), expected, strict=True):
        found = answer["occurrences"]
        assert utc(answer) == want.get("utc", utc(answer)), line
        assert [one["local"][:10] for one in found] == want.get("local_dates", [one["local"][:10] for one in found])
        assert [one["local"] for one in found] == want.get("local_times", [one["local"] for one in found])
        assert len(found) == want.get("count", len(found))


def test_an_error_is_an_answer_and_stops_nothing(invoke: Invoke) -> None:
    good = {"zone": "UTC", "dtstart": "2026-01-01T09:00"}
    answers = lines(
        invoke,
        "nonsense",
        "[1]",
        {"dtstart": "2026-01-01T09:00"},
        {"zone": "CST", "dtstart": "2026-01-01T09:00"},
        {**good, "rule": "FREQ=DAILY"},
        {**good, "rrule": "FREQ=DALY"},
        {**good, "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"},
        {**good, "rrule": 5},
        {**good, "exdates": [5]},
        {**good, "exdates": ["soon"]},
        {**good, "count": 0},
        {**good, "window": "soon"},
        {**good, "calendar": "bank"},
        {"zone": "UTC", "dtstart": "2026-02-30T09:00"},
        {"zone": "UTC"},
        {"zone": "UTC", "cron": "61 * * * *"},
        {"zone": "../../etc/passwd", "dtstart": "2026-01-01T09:00"},
        {"zone": "\x00", "dtstart": "2026-01-01T09:00"},
        {**good, "rrule": "FREQ=DAILY;UNTIL=99991231T000000Z", "from": "9998-01-01T00:00:00Z"},
        {"zone": "America/New_York", "dtstart": "0001-01-01T00:00", "rrule": "FREQ=DAILY", "count": 2},
        {"zone": "Asia/Tokyo", "dtstart": "9999-12-31T23:00", "before": ["-P1D"]},
        good,
    )
    says = [
        "is no JSON", "is no JSON object", "zone: is missing", "America/Chicago or Asia/Shanghai", "rule: is unknown",
        "rrule: bad_rrule (DALY)", "rrule: never_fires", "rrule: is no text", "exdates: is no list",
        "exdates: 'soon' is no local time", "count: send a whole number", "window: 'soon' is no duration",
        "calendar: unknown_calendar (bank)", "dtstart: '2026-02-30T09:00'", "exactly one of dtstart, at and cron",
        "cron: bad_cron", "zone: '../../etc/passwd' is no zone", "is no zone",
    ]  # fmt: skip
    says += [
        "from: send a year from 1800 to 2200",
        "dtstart: send a year",
        "dtstart: send a year",
    ]
    for answer, says_ in zip(answers, says, strict=False):
        assert says_ in answer["error"]
    assert all(set(answer) in ({"error"}, {"occurrences"}) for answer in answers)
    assert utc(answers[-1]) == ["2026-01-01T09:00:00Z"]


def test_lists_are_as_long_as_they_should_be(invoke: Invoke) -> None:
    start = {"zone": "Europe/Berlin", "dtstart": "2026-01-01T09:00"}
    some, all_, more, within, both, forever = lines(
        invoke,
        {**start, "rrule": "FREQ=DAILY"},
        {**start, "rrule": "FREQ=DAILY;COUNT=25"},
        {**start, "rrule": "FREQ=DAILY", "count": 17, "id": "a", "n": 3},
        {**start, "rrule": "FREQ=DAILY", "window": "30d"},
        {**start, "rrule": "FREQ=DAILY", "window": "30d", "count": 3},
        {**start, "rrule": "FREQ=DAILY", "window": ["2026-03-01T00:00", "2026-03-05T00:00Z"]},
    )
    assert [len(a["occurrences"]) for a in (some, all_, more, within, both, forever)] == [10, 25, 17, 30, 3, 4]
    assert utc(forever)[0] == "2026-03-01T08:00:00Z"


def test_all_that_can_be_said(invoke: Invoke) -> None:
    answers = lines(
        invoke,
        {"zone": "Europe/Berlin", "cron": "30 2 * * *", "dtstart": "2026-03-28T00:00", "count": 3},
        {"zone": "Europe/Berlin", "dtstart": "2026-12-24", "before": ["P1D", "-PT9H"]},
        {"zone": "Europe/Berlin", "dtstart": "20261224T090000", "rdates": ["20261226T080000Z"], "exdate": "2026-12-24"},
        {"zone": "Europe/Berlin", "at": "2026-12-24T09:00:00.250Z", "before": "PT1H"},
        {"zone": "Europe/Berlin", "dtstart": "2026-10-25T01:30", "rrule": "FREQ=HOURLY;COUNT=4"},
        {"zone": "Europe/Berlin", "dtstart": "2026-12-01T09:00", "rrule": "FREQ=WEEKLY;BYDAY=MO;COUNT=2"},
    )
    assert utc(answers[0]) == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    assert answers[0]["occurrences"][1]["note"] == "moved from a time that does not exist"
    assert answers[1]["occurrences"] == [
        {"utc": "2026-12-22T23:00:00Z", "local": "2026-12-23T00:00", "note": None, "before": "P1D", "start": EVE},
        {"utc": "2026-12-24T08:00:00Z", "local": "2026-12-24T09:00", "note": None, "before": "-PT9H", "start": EVE},
    ]  # fmt: skip
    assert utc(answers[2]) == ["2026-12-26T08:00:00Z"]
    assert utc(answers[3]) == ["2026-12-24T08:00:00.250Z"]
    assert [(one["local"], one["note"]) for one in answers[4]["occurrences"]] == [
        ("2026-10-25T01:30", None),
        ("2026-10-25T02:30", "first of two"),
        ("2026-10-25T02:30", "second of two"),
        ("2026-10-25T03:30", None),
    ]
    assert [one["local"] for one in answers[5]["occurrences"]] == ["2026-12-01T09:00", "2026-12-07T09:00"]


def test_a_table_for_people(invoke: Invoke) -> None:
    result = invoke("--zone", "Europe/Berlin", "--dtstart", "2026-03-28T02:30", "--rrule", "FREQ=DAILY", "--count", "2")
    assert result.exit_code == 0, result.output
    rows = [" ".join(row.split()) for row in result.stdout.splitlines()]
    assert rows == [
        "# local (Europe/Berlin) utc note",
        "1 2026-03-28 02:30 Sat CET 2026-03-28T01:30:00Z",
        "2 2026-03-29 03:30 Sun CEST 2026-03-29T01:30:00Z moved from 02:30, which does not exist",
    ]
    same = invoke(
        "--zone", "europe/berlin", "--dtstart", "2026-03-28T02:30", "--rrule", "FREQ=DAILY", "--count", "2", "--json"
    )
    assert utc(json.loads(same.stdout)) == ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z"]


def test_a_zone_without_summer_time_is_pointed_out(invoke: Invoke) -> None:
    result = invoke("--zone", "EST", "--dtstart", "2026-07-01T09:00")
    assert result.stderr == "note: EST has no summer time; America/New_York has\n"
    assert "2026-07-01T14:00:00Z" in result.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--zone", "Berlin", "--dtstart", "2026-01-01"), "did you mean Europe/Berlin?"),
        (("--zone", "UTC", "--dtstart", "2026-01-01T09:00", "--rrule", "FREQ=DAILY;BYWEEKNO=1"), "only with FREQ"),
        (("--file", "-", "--rrule", "FREQ=DAILY"), "--file: its lines say all"),
        (("--zone", "UTC", "--dtstart", "2026-01-01", "--compare-zone", "CST"), "--compare-zone: 'CST' is no zone"),
        (("--zone", "UTC", "--dtstart", "2026-01-01", "--compare-tzdata", "latest"), "a release such as 2025b"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(invoke: Invoke, args: tuple[str, ...], says: str) -> None:
    result = invoke(*args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_calendars_come_from_their_file(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "calendars.toml"
    file.write_text('[bank]\nholidays = "DE-BY"\nday_off = "after"\n')
    env = {"CALENDARS_FILE": str(file)}
    asked = {
        "zone": "Europe/Berlin",
        "dtstart": "2026-12-25T09:00",
        "rrule": "FREQ=YEARLY",
        "calendar": "bank",
        "count": 1,
    }
    (answer,) = lines(invoke, asked, env=env)
    assert answer["occurrences"][0]["local"] == "2026-12-28T09:00"
    assert answer["occurrences"][0]["note"].startswith("moved from 2026-12-25: ")
    file.write_text('[bank]\nholidays = "XX"\n')
    result = invoke("--file", "-", env=env)
    assert result.exit_code == 2
    assert "CALENDARS_FILE=" in result.stderr
    assert "the holidays library has no XX" in result.stderr


# -- compared


def test_another_zone_and_other_data(invoke: Invoke, tmp_path: Path) -> None:
    daily = ("--zone", "America/Vancouver", "--dtstart", "2026-10-31T09:00", "--rrule", "FREQ=DAILY", "--window", "3d")
    result = invoke(*daily, "--compare-zone", "Europe/Berlin", "--from", "2026-10-31T00:00", "--json")
    told = json.loads(result.stdout)
    assert (told["before"], told["after"]) == ("America/Vancouver", "Europe/Berlin")
    assert {
        "occurrence": "2026-11-01T09:00/PT0S",
        "before": "2026-11-01T16:00:00Z",
        "after": "2026-11-01T08:00:00Z",
    } in (told["changes"])
    # Data in which British Columbia still changes its clocks, as a wheel and as a folder.
    old = resources.files("tzdata").joinpath("zoneinfo/America/Los_Angeles").read_bytes()
    wheel = tmp_path / "tzdata-2025.2-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tzdata/zoneinfo/America/Vancouver", old)
    folder = tmp_path / "zoneinfo"
    (folder / "America").mkdir(parents=True)
    (folder / "America/Vancouver").write_bytes(old)
    for version in (wheel, folder):
        result = invoke(*daily, "--compare-tzdata", str(version), "--from", "2026-10-30T00:00", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["changes"] == [
            {"occurrence": "2026-11-01T09:00/PT0S", "before": "2026-11-01T16:00:00Z", "after": "2026-11-01T17:00:00Z"}
        ]
    table = invoke(*daily, "--compare-tzdata", str(wheel), "--from", "2026-10-30T00:00")
    assert "+60 min" in table.stdout
    shutil.rmtree(folder)
    folder.mkdir()
    assert "has no zone America/Vancouver" in invoke(*daily, "--compare-tzdata", str(folder)).stderr
    same = invoke("--zone", "UTC", "--dtstart", "2026-10-31", "--compare-zone", "Etc/UTC")
    assert "nothing would fire at another time" in same.stdout


# -- stored


@pytest.fixture
def view() -> Iterator[tuple[dict[str, bytes], int]]:
    """Serve rows as the worker's view shows them, made by the view's own page."""
    rows: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = rows.get(self.path.removeprefix("/reminders/"))
            allowed = self.headers["Authorization"] == "Bearer secret-secret"
            body = json.dumps(page.reminder("r", raw, 1) if raw and allowed else {}).encode()
            self.send_response(200 if raw and allowed else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield rows, server.server_port
    server.shutdown()


def row(d: Definition, zone: str = "") -> bytes:
    open_ = Occurrence("2026-01-01T09:00/PT0S", State.SCHEDULED, 1, 2, 1)
    return index.pack(index.STATE_CODES[State.SCHEDULED], Lane.NORMAL, 0, 1, 2) + encode(
        ReminderRow(definition=d, open=open_, zone=zone)
    )


def test_a_stored_reminder(invoke: Invoke, view: tuple[dict[str, bytes], int]) -> None:
    rows, port = view
    env = {"WEB_PORT": str(port), "WEB_TOKEN": "secret-secret"}
    rows["r"] = row(Definition(local="2026-01-01T09:00", rrule="FREQ=DAILY", before=("PT1H",)), "Europe/Berlin")
    result = invoke("--reminder", "r", "--count", "2", "--json", env=env)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["occurrences"]
    assert len(found) == 2
    assert all(one["local"].endswith("T08:00") and one["before"] == "PT1H" for one in found)
    assert found[0]["utc"] > datetime.now(UTC).isoformat()
    rows["r"] = row(Definition(local="2036-01-01T09:00"))
    assert "waits for its recipient's zone" in invoke("--reminder", "r", env=env).stderr
    there = invoke("--reminder", "r", "--zone", "Asia/Tokyo", "--json", env=env)
    assert utc(json.loads(there.stdout)) == ["2036-01-01T00:00:00Z"]
    rows["r"] = row(Definition(at=2_082_790_800_000))
    assert utc(json.loads(invoke("--reminder", "r", "--json", env=env).stdout)) == ["2036-01-01T09:00:00Z"]
    missing = invoke("--reminder", "nobody", env=env)
    assert (missing.exit_code, "no worker answers for it" in missing.stderr) == (1, True)
