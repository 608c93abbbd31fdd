"""The pages of this repository as text: code spans, links, headings, blocks."""

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs",)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Return every page for people."""
    found = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


@cache
def tracked() -> tuple[Path, ...]:
    """Return every file that git tracks; nothing where this is no clone."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(path for part in listed.split(b"\0") if part and (path := ROOT / part.decode()).is_file())


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """Return the code of a page: each inline span, and each line of a block for the shell."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """Return what links may point to within a page, as GitHub makes it from headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        text = LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading)
        found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return found


def table_column(page: Path, header: str) -> list[str]:
    """Return the code spans of the first column of the table that begins with a header."""
    text = page.read_text("utf-8")
    start = text.index(f"| {header} |")
    rows = text[start:].split("\n\n")[0].splitlines()[2:]
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row.split("|")[1])]
