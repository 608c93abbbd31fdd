"""What is exported says all and nothing of the service's own; what a proof finds, and what it makes of it."""

import json
from pathlib import Path

import orjson
from click.testing import CliRunner

from app import export, proof
from app.cli.forget import _task
from app.cli.holdings import Held, content_of, same_address, says_something
from app.cli.root import main
from app.proof import Look, Search, Verdict, Wanted
from schemas import codec
from schemas.names import Channel, State
from schemas.records import (
    Applied,
    Closed,
    Consent,
    Contact,
    Content,
    Definition,
    RecipientLink,
    RecipientProfile,
    ReminderRow,
    Sealed,
    SuppressionRecord,
    TrailEntry,
)
from schemas.sealing import Sealing

CONTENT = Content("Visit", "At nine", {"doctor": "Dr. Who"}, ("anna@people.example",), "desk")
ROW = ReminderRow(
    definition=Definition(recipient_id="anna", at=1_796_083_200_000, sealed=Sealed(0, codec.encode(CONTENT))),
    closed=(Closed("@1/PT0S", State.SENT, 1_796_083_200_000, 1, reason="ok"),),
    trail=(TrailEntry(1, 1_796_083_200_000, State.SENT, "ok"),),
    applied=(Applied("t", 4),),
)
ANNA = RecipientProfile(
    zone="Europe/Berlin",
    contacts=(Contact(Channel.EMAIL, "anna@people.example", "private", verified=False),),
    consents=(Consent(False, 1_796_083_200_000, "offers", Channel.SMS, "form 12"),),
)


def test_the_export_is_json_and_says_all() -> None:
    told = export.document(
        "anna",
        1_796_083_200_000,
        profile=ANNA,
        suppressions=[SuppressionRecord(Channel.SMS, "stop", 1_796_083_200_000, 1)],
        reminders={"r/1": ROW},
        contents={"r/1": CONTENT},
        copies=[{"topic": "reminders", "records": 2}],
    )
    text = orjson.dumps(told).decode()
    assert json.loads(text)["exported_at"] == "2026-12-01T00:00:00.000Z"
    for word in (
        "anna@people.example",
        "private",
        "form 12",
        "Visit",
        "At nine",
        "Dr. Who",
        "stop",
        "SENT",
        "reminders",
    ):
        assert word in text, word
    assert '"granted":false' in text, "a refusal is said"
    assert '"verified":false' in text
    assert "applied" not in text


def test_what_nobody_here_can_read_is_said_to_be_there() -> None:
    sealed = ReminderRow(definition=Definition(sealed=Sealed(7, b"\x01\x02")))
    assert content_of("r", sealed, b"", Sealing()) is None
    assert says_something(sealed)
    assert "sealed" in orjson.dumps(export.document("a", 1, reminders={"r": sealed})).decode()
    assert Held(reminders={"r": sealed}).personal()
    assert not Held(profile=RecipientProfile(erased=True), reminders={"r": ReminderRow()}).personal()


def test_an_address_is_known_however_it_is_written() -> None:
    assert same_address(Channel.SMS, "+1 (201) 555-0123", "+12015550123")
    assert same_address(Channel.EMAIL, "Anna@People.example", "anna@people.example")
    assert not same_address(Channel.WEBHOOK, "https://a.example/A", "https://a.example/a")


WANTED = Wanted.of(["anna@people.example"], ["At nine o'clock", "ab"], ["anna", "r/1"])


def looked(*records: tuple[bytes, bytes | None]) -> Look:
    search, look = Search(WANTED), Look("t", 0)
    for offset, (key, value) in enumerate(records):
        search.record(look, offset, 1000 + offset, key, value, b"")
    return look


def test_what_is_too_short_to_look_for_is_counted() -> None:
    assert WANTED.short == 1
    assert Wanted.of([], [], ["anna"]).addresses == ()


def test_a_topic_kept_by_time_lets_go_by_itself() -> None:
    look = looked((b"bob", b"nothing"), (b"anna", b"..anna@people.example.."))
    assert look.at == [(1, 1001)]
    assert proof.verdict(look, compacted=False) is Verdict.GOES
    assert proof.verdict(looked((b"bob", b"nothing")), compacted=False) is Verdict.CLEAN
    assert proof.verdict(looked(), compacted=True) is Verdict.CLEAN


def test_a_compacted_topic_lets_go_only_of_what_was_replaced() -> None:
    held = looked((b"p/u:anna", b"anna@people.example"))
    assert proof.verdict(held, compacted=True) is Verdict.HELD
    replaced = looked((b"p/u:anna", b"anna@people.example"), (b"p/u:anna", b"erased"))
    assert proof.verdict(replaced, compacted=True) is Verdict.COMPACTED
    deleted = looked((b"p/u:anna", b"anna@people.example"), (b"p/u:anna", None))
    assert proof.verdict(deleted, compacted=True) is Verdict.COMPACTED


def test_what_others_have_too_is_theirs() -> None:
    assert looked((b"bob", b"At nine o'clock")).others == 0, "a text alone says nothing of whom it is for"
    shared = looked((b"p/u:bob", b"anna@people.example"), (b"p/u:annabel", b"anna@people.example"))
    assert (shared.at, shared.others) == ([], 2), "an id counts only as a whole"
    assert proof.verdict(shared, compacted=True) is Verdict.OTHERS
    assert proof.verdict(shared, compacted=False) is Verdict.OTHERS


def test_a_record_that_names_them_is_theirs_whatever_its_key() -> None:
    named = looked((b"r/2", b"\x08anna" + b"At nine o'clock"), (b"l/u:anna/r:x", b"At nine o'clock"))
    assert [offset for offset, _ in named.at] == [0, 1]


def test_headers_are_looked_at_and_files_byte_by_byte(tmp_path: Path) -> None:
    search, look = Search(WANTED), Look("t", 0)
    search.record(look, 0, 1, b"r/1", None, b"x\0anna@people.example")
    assert look.at == [(0, 1)]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.sst").write_bytes(b"\0" * 10_000 + b"anna@people.example" + b"\1" * 99)
    (tmp_path / "empty").write_bytes(b"")
    assert [search.file(path) for path in proof.files([tmp_path])] == [1, 0]


def test_by_id_every_record_that_names_one_is_found() -> None:
    search, look = Search(Wanted.of((), (), ["anna"]), by_id=True), Look("t", 0)
    search.record(look, 0, 1, b"anna", b"nothing personal", b"")
    search.record(look, 1, 1, b"annabel", b"nothing personal", b"")
    assert [offset for offset, _ in look.at] == [0]


def test_one_thing_is_forgotten_at_a_time() -> None:
    for args in ((), ("anna", "--reminder", "r"), ("--find", "x", "anna"), ("--reminder", "r", "--address", "a")):
        result = CliRunner().invoke(main, ["erase", *args], env={"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
        assert result.exit_code == 2, args
        assert result.stderr.startswith("error: "), args


def test_what_the_recipients_partition_does_not_know_is_erased_by_itself() -> None:
    held = Held("anna", ANNA, {b"l/u:anna/r:a": RecipientLink("a", 1, False)}, reminders={"a": ROW, "b": ROW})
    task = _task(held, Sealing())
    assert (task.reminders, task.unlinked) == (["a", "b"], ["b"])
    wanted = task.wanted(["more-of-them"])
    assert {b"anna@people.example", b"more-of-them"} <= set(wanted.addresses)
    assert {b"At nine", b"private", b"form 12", b"Dr. Who"} <= set(wanted.texts)
    assert wanted.ids == (b"a", b"anna", b"b")
