"""Files of reminders: what a line comes to, that it is the same each time, and what is said of a line that is wrong."""

import json
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app import bulk
from app.bulk import Bad, Good, NoFileError, Wish
from app.cli.root import main
from schemas.checks import check_reminder
from schemas.codec import decode
from schemas.names import Channel, MaybeSent
from schemas.records import ReminderEvent, Step

NOW = 1_795_600_000_000
CANARY = "canary.secret@people.example"
PLAIN = Wish()
GOOD = {
    "recipient_id": "anna",
    "local": "2027-12-01T09:00",
    "zone": "Europe/Berlin",
    "text": "Dentist at ten",
}  # fmt: skip


def lines(path: Path, *said: object) -> Path:
    path.write_text("".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in said), "utf-8")
    return path


def read(path: Path, wish: Wish = PLAIN) -> list[Good | Bad]:
    return list(bulk.read(path, wish, lambda event: check_reminder(event, NOW, NOW)))


def only(path: Path, wish: Wish = PLAIN) -> ReminderEvent:
    (line,) = read(path, wish)
    assert isinstance(line, Good), line
    assert decode(ReminderEvent, line.value) == line.event
    return line.event


def wrong(path: Path, wish: Wish = PLAIN) -> Bad:
    (line,) = [line for line in read(path, wish) if isinstance(line, Bad)]
    return line


# -- ids and versions --------------------------------------------------------------------------------------------------


def test_a_line_is_the_same_event_each_time(tmp_path: Path) -> None:
    given = lines(tmp_path / "a.jsonl", GOOD | {"reminder_id": "clinic/1"})
    first, second = only(given), only(given, Wish(actor="somebody else"))
    assert (first.reminder_id, first.version, first.source) == ("clinic/1", 1, "cli")
    assert len(first.event_id) == 32
    assert first.correlation_id == first.event_id
    assert (second.event_id, second.actor) == (first.event_id, "somebody else")
    # Another text, or another version, is another event.
    changed = only(lines(tmp_path / "b.jsonl", GOOD | {"reminder_id": "clinic/1", "text": "Dentist at nine"}))
    assert changed.event_id != first.event_id
    assert only(given, Wish(version=2)).event_id != first.event_id


def test_what_a_line_gives_is_kept(tmp_path: Path) -> None:
    ids = {"reminder_id": "a", "event_id": "e", "correlation_id": "c", "version": 7, "source": "s", "actor": "b"}
    event = only(lines(tmp_path / "a.jsonl", GOOD | ids), Wish("p/", "", 3, "me"))
    assert {name: getattr(event, name) for name in ids} == ids


def test_ids_are_made_from_a_column_or_from_the_line(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD | {"visit": 42})
    assert only(file, Wish("clinic/", "visit")).reminder_id == "clinic/42"
    # A column that is a field of the event is kept.
    named = only(lines(tmp_path / "b.jsonl", GOOD), Wish("for-", "recipient_id"))
    assert (named.reminder_id, named.recipient_id) == ("for-anna", "anna")
    plain = lines(tmp_path / "c.jsonl", GOOD)
    made = only(plain).reminder_id
    assert made.startswith("import/")
    assert made == only(lines(tmp_path / "d.jsonl", dict(reversed(GOOD.items())))).reminder_id
    assert made != only(lines(tmp_path / "e.jsonl", GOOD | {"text": "x"})).reminder_id
    missing = wrong(plain, Wish("clinic/", "visit"))
    assert (missing.field, missing.remedy) == ("visit", "is to make the id, and is missing; give a text or a number")


@pytest.mark.parametrize("column", ["text", "email", "data.name", "actor"])
def test_ids_are_not_made_from_what_is_personal(tmp_path: Path, column: str) -> None:
    with pytest.raises(NoFileError, match="is personal, and ids stand in keys and logs"):
        read(lines(tmp_path / "a.jsonl", GOOD), Wish("x/", column))


def test_two_lines_with_one_id_are_told(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD | {"reminder_id": "a"}, GOOD | {"reminder_id": "a", "text": "other"})
    second = wrong(file)
    assert (second.line, second.reason, second.reminder_id) == (2, "repeated_id", "a")
    assert second.remedy.startswith("line 1 has the same id")


# -- lines that are wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason", "field"),
    [
        ("{", "invalid_json", ""),
        ("[1]", "invalid_json", ""),
        ("7", "invalid_json", ""),
        ('{"reminder_id": "a", "reminder_id": "b"}', "invalid", "reminder_id"),
        (GOOD | {"txt": "x"}, "invalid", "txt"),
        (GOOD | {"version": "x"}, "invalid", "version"),
        (GOOD | {"zone": "Europe/Berlln"}, "unknown_zone", "zone"),
        (GOOD | {"local": "2027-02-30T09:00"}, "impossible_date", "local"),
        (GOOD | {"action": "CANCEL", "reminder_id": "a"}, "invalid", "action"),
        (GOOD | {"reminder_id": "a\x00"}, "control_characters", "reminder_id"),
        (GOOD | {"text": "x" * 70_000}, "too_large", "text"),
        ('{"text": "' + "x" * (1 << 20) + '"}', "invalid_json", ""),
        (GOOD | {"steps": [{"channel": "EMAIL", "address": CANARY[:13]}]}, "bad_address", "steps[0].address"),
    ],
)  # fmt: skip
def test_a_wrong_line_stops_none_of_its_neighbours(tmp_path: Path, said: object, reason: str, field: str) -> None:
    good = GOOD | {"reminder_id": "good"}
    first = GOOD | {"reminder_id": "first"}
    found = read(lines(tmp_path / "a.jsonl", first, said, "", good))
    bad = found[1]
    assert isinstance(bad, Bad)
    assert [type(line) for line in found] == [Good, Bad, Good]
    assert [line.line for line in found] == [1, 2, 4]
    assert (bad.reason, bad.field) == (reason, field)
    assert bad.remedy
    assert "canary" not in bad.json()
    assert json.loads(bad.json())["line"] == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.xlsx", "", "ends in .xlsx; name it .jsonl"),
        ("a", "", "ends in nothing"),
        ("a.jsonl", '[{"reminder_id": "a"}]\n', "is a JSON array; write one object a line"),
        ("a.csv", "reminder_id,txt\n", "no column 'txt'; did you mean text?"),
        ("a.csv", "text,text\n", "'text' is there twice"),
        ("a.csv", "steps,email\n", "steps and email say the same thing"),
        ("a.csv", "data,data.x\n", "data and data.x say the same thing"),
        ("a.csv", 'text\n"open\nand more\n', "line 2: unexpected end of data; close its quotes"),
    ],
)
def test_a_file_that_is_none_is_said_at_once(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(NoFileError) as refused:
        read(path)
    assert said in str(refused.value)


# -- CSV ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_says_what_json_does(tmp_path: Path, separator: str, mark: str) -> None:
    head = [
        "visit",
        "email",
        "sms",
        "local",
        "zone",
        "text",
        "title",
        "expires_at",
        "data.room",
        "policy.maybe_sent",
        "",
    ]
    cells = ["42", "anna@example.org", "", "2027-12-01T09:00", "Europe/Berlin", '"Two\nlines ""x"""', "007",
             "2027-12-02T09:00:00Z", "12", "resend", "left out"]  # fmt: skip
    file = tmp_path / "a.csv"
    file.write_text(f"{mark}{separator.join(head)}\n{separator.join(cells)}\n\n", "utf-8")
    event = only(file, Wish("clinic/", "visit"))
    assert event.reminder_id == "clinic/42"
    assert (event.text, event.title, event.data) == ('Two\nlines "x"', "007", {"room": "12"})
    assert event.steps == (Step(Channel.EMAIL, address="anna@example.org"),)
    assert event.expires_at == 1_827_738_000_000
    assert event.policy is not None
    assert event.policy.maybe_sent is MaybeSent.RESEND


def test_lines_of_csv_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(
        b'reminder_id,recipient_id,at,text\na,anna,1827737000000,"two\nlines"\nb,anna,soon,x\n'
        b"c,anna,1827737000000,\xe4\nd,anna,1827737000000,x,y\ne,,1827737000000,x\n"
    )
    found = read(file)
    assert [(line.line, getattr(line, "field", None)) for line in found] == [
        (2, None), (4, "at"), (5, "text"), (6, ""), (7, "recipient_id"),
    ]  # fmt: skip
    remedies = [line.remedy for line in found if isinstance(line, Bad)]
    assert "is no instant" in remedies[0]
    assert remedies[1] == "is not UTF-8; save the file as UTF-8"
    assert remedies[2].startswith("has 5 cells, and the header 4")


# -- size --------------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        file = tmp_path / f"{count}.jsonl"
        with file.open("w") as out:
            out.writelines(json.dumps(GOOD | {"reminder_id": f"r/{n}"}) + "\n" for n in range(count))
        tracemalloc.start()
        for _ in bulk.read(file, Wish(), lambda _: None):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(8000) < peak(1000) + 100_000


# -- the command -------------------------------------------------------------------------------------------------------


def remind(*args: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["remind", *args], env=env)


def test_a_dry_run_names_what_is_wrong_and_sends_nothing(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD | {"reminder_id": "a"}, GOOD | {"reminder_id": "b", "zone": "Nowhere"})
    done = remind("--file", str(file), "--dry-run", KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "1 reminders could be sent to reminders; nothing was",
        f"1 lines refused (unknown_zone 1); see {file}.errors.jsonl",
    ]
    (error,) = map(json.loads, Path(f"{file}.errors.jsonl").read_text("utf-8").splitlines())
    assert (error["line"], error["reminder_id"], error["field"], error["value"]) == (2, "b", "zone", "Nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.errors.jsonl"]
    # Mended, the file of errors is gone.
    lines(file, GOOD | {"reminder_id": "a"})
    assert remind("--file", str(file), "--dry-run").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_team_imports_its_own_ids_alone(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD | {"reminder_id": "bill-1"}, GOOD)
    done = remind("--file", str(file), "--dry-run", TEAMS="clinic:clinic-", TEAM="clinic")
    assert "1 reminders could be sent to intake.clinic" in done.output
    assert "outside_prefix 1" in done.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tea", "--file", "{}"], "--file: says all of the events"),
        (["--file", "{}", "--watch"], "--file: says all of the events"),
        (["tea", "x", "--in", "1m", "--dry-run"], "--dry-run: goes with --file"),
        (["tea", "x", "--in", "1m", "--id-column", "x"], "--id-column: goes with --file"),
        (["--file", "{}", "--errors", "{}"], "name three different files"),
        (["--file", "{}", "--id-column", "text"], "is personal"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path: Path, args: list[str], said: str) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD)
    done = remind(*(arg.replace("{}", str(file)) for arg in args), KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_no_broker_is_one_line_and_nothing_is_noted(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD)
    done = remind("--file", str(file), KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert done.exit_code == 1
    assert "no broker answers" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_the_examples_of_the_page_can_be_sent(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/produce/files.md").read_text("utf-8")
    of_json, of_csv = page.split("```json\n")[1].split("```")[0], page.split("```\nvisit,")[1].split("```")[0]
    (tmp_path / "visits.jsonl").write_text(of_json, "utf-8")
    (tmp_path / "visits.csv").write_text("visit," + of_csv, "utf-8")
    ids = [only(tmp_path / name, Wish("clinic/", "visit")).reminder_id for name in ("visits.jsonl", "visits.csv")]
    assert ids == ["clinic/visit-42", "clinic/42"]
