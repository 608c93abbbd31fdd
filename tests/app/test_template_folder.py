"""The folder of templates: what is in it counts within seconds, and an edit that is wrong changes nothing."""

import asyncio
import logging
from pathlib import Path

import pytest

from app import template_folder
from app.config import Settings
from app.template_folder import Folder, Watch
from channels.shelf import Shelf
from channels.templates import About
from schemas.names import Channel


def write(folder: Path, path: str, text: str) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def watch(folder: Path) -> tuple[Shelf, Watch, list[int]]:
    shelf, told = Shelf(), list[int]()
    made = Watch(Folder(folder), shelf, told.append)
    made.start()
    return shelf, made, told


def says(shelf: Shelf, asked: str) -> str:
    version = shelf.find(asked)
    return version.say(Channel.SMS, {}, About()).text if version is not None else ""


async def test_an_edit_counts_once_it_has_stood_still(tmp_path: Path) -> None:
    write(tmp_path, "pills/text.txt", "one")
    shelf, watched, told = watch(tmp_path)
    assert says(shelf, "pills") == says(shelf, "pills@1") == "one"
    before = shelf.find("pills")
    assert before is not None
    write(tmp_path, "pills/text.txt", "one, edited")
    await watched.look()
    assert says(shelf, "pills") == "one"
    await watched.look()
    assert says(shelf, "pills") == "one, edited"
    assert shelf.known(before.ref) is before
    write(tmp_path, "pills@2/text.txt", "two")
    await watched.look()
    await watched.look()
    assert (says(shelf, "pills"), says(shelf, "pills@1")) == ("two", "one, edited")
    assert told == [0, 0, 0]


async def test_within_five_seconds_whoever_watches_has_it(tmp_path: Path) -> None:
    write(tmp_path, "pills/text.txt", "one")
    shelf, watched, _ = watch(tmp_path)
    assert template_folder.LOOK_S * 3 < 5
    task = asyncio.create_task(watched.run())
    write(tmp_path, "pills/text.txt", "two")
    try:
        async with asyncio.timeout(30):
            while says(shelf, "pills") != "two":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        task.cancel()


async def test_a_faulty_edit_is_told_and_what_was_there_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "pills/text.txt", "one")
    write(tmp_path, "new/text.txt", "{{ 7 * 7 }}")
    shelf, watched, told = watch(tmp_path)
    assert told == [1]
    assert shelf.find("new") is None
    with caplog.at_level(logging.ERROR):
        write(tmp_path, "pills/text.txt", "{{ broken")
        await watched.look()
        await watched.look()
    assert "pills is not taken: text.txt:1: cannot be read" in caplog.text
    assert (says(shelf, "pills"), told[-1]) == ("one", 2)
    write(tmp_path, "pills/text.txt", "mended")
    write(tmp_path, "new/text.txt", "good")
    await watched.look()
    await watched.look()
    assert (says(shelf, "pills"), says(shelf, "new"), told[-1]) == ("mended", "good", 0)
    (tmp_path / "new" / "text.txt").unlink()
    await watched.look()
    await watched.look()
    assert shelf.find("new") is None


async def test_a_folder_that_is_gone_takes_nothing_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "templates"
    write(folder, "pills/text.txt", "one")
    shelf, watched, _ = watch(folder)
    folder.rename(tmp_path / "elsewhere")
    for _ in range(3):
        await watched.look()
    assert says(shelf, "pills") == "one"
    assert caplog.text.count("cannot be read") == 1
    (tmp_path / "elsewhere").rename(folder)
    write(folder, "pills/text.txt", "back")
    await watched.look()
    await watched.look()
    assert says(shelf, "pills") == "back"


@pytest.mark.parametrize(
    ("path", "text", "folder", "why"),
    [
        ("loose.txt", "x", "loose.txt", "put it into a folder"),
        ("pills@0/text.txt", "x", "pills@0", "name the folder"),
        ("pills x/text.txt", "x", "pills x", "name the folder"),
        ("pills@1/text.txt", "x", "pills@1", "another number"),
        ("big/text.txt", "x" * 300_000, "big", "larger than"),
        ("long/sms.txt", "x" * 600, "long", "parts at the worst"),
    ],
)
def test_what_is_wrong_in_a_folder_is_named(tmp_path: Path, path: str, text: str, folder: str, why: str) -> None:
    write(tmp_path, "pills/text.txt", "one")
    write(tmp_path, "long/text.txt", "one") if path == "long/sms.txt" else None
    write(tmp_path, path, text)
    versions, faults = Folder(tmp_path).read()
    assert [version.name for version in versions] == ["pills"]
    assert why in str(faults[folder][0])


def test_bytes_that_are_no_text_are_named_and_what_editors_leave_is_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path, "pills/text.txt", "one\r\ntwo")
    for left in (".text.txt.swp", "text.txt~", "#text.txt#"):
        write(tmp_path, f"pills/{left}", "{{")
    write(tmp_path, ".git/config", "x")
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "text.txt").write_bytes(b"Gr\xfc\xdfe")
    versions, faults = Folder(tmp_path).read()
    assert [version.source.files for version in versions] == [{"text.txt": "one\ntwo"}]
    assert "UTF-8" in str(faults["latin"][0])


def test_the_settings_say_how_many_parts_a_text_message_may_have(tmp_path: Path) -> None:
    write(tmp_path, "pills/text.txt", "x")
    write(tmp_path, "pills/sms.txt", "x" * 500)
    environ = {"TEMPLATES_DIR": str(tmp_path)}
    assert template_folder.template_folder(Settings.load(environ)).read()[1] != {}
    split = Settings.load(environ | {"TWILIO_SMS_TOO_LONG": "split"})
    assert template_folder.template_folder(split).read()[1] == {}
    with pytest.raises(ValueError, match="TEMPLATES_DIR"):
        template_folder.template_folder(Settings.load({}))
