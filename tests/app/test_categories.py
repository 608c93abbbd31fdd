"""The file of categories: every fault is named, and marketing keeps the law."""

from pathlib import Path

import pytest

from app import categories
from app.config import ConfigError, Settings
from schemas.names import MaybeSent
from schemas.windows import Window
from tables.consent import Caps, Category, Legal, Needs


def test_a_file_of_categories(tmp_path: Path) -> None:
    path = tmp_path / "categories.toml"
    path.write_text(
        """
[on-call]
consent = "nothing"
overrides_quiet = true
overrides_caps = true
maybe_sent = "resend"
unverified = true

[offers]
legal = "marketing"
postal_address = '''Clinic Ltd
1 Long Way, Newtown'''
quiet = ["SA,SU 00:00-24:00"]

[pills]
digest_window_s = 300
caps = "digest"
""",
        encoding="utf-8",
    )
    found = categories.load(path)
    assert found.of("on-call") == Category(
        Legal.TRANSACTIONAL,
        Needs.NOTHING,
        overrides_quiet=True,
        overrides_caps=True,
        unverified=True,
        maybe_sent=MaybeSent.RESEND,
    )
    assert found.of("offers") == Category(
        Legal.MARKETING,
        Needs.GRANT,
        calling_hours=True,
        quiet=(Window(0, 1440, frozenset({5, 6})),),
        postal_address="Clinic Ltd 1 Long Way, Newtown",
    )
    assert found.of("pills") == Category(digest_window_s=300, caps=Caps.DIGEST)
    assert found.of("anything else") == Category()


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "categories.toml"
    path.write_text(
        'x = 1\n[a]\nlegal = "spam"\nquit = []\nunverified = "yes"\n'
        '[b]\nlegal = "marketing"\nconsent = "nothing"\nquiet = ["late"]\nmaybe_sent = "twice"\n',
        encoding="utf-8",
    )
    with pytest.raises(categories.Faulty) as caught:
        categories.load(path)
    text = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 8
    for part in ("x: is no table", "a.legal='spam'", "did you mean quiet?", "a.unverified", "b.consent", "b.quiet"):
        assert part in text
    assert "b.postal_address=None: marketing mail must say" in text
    assert "b.maybe_sent" in text
    with pytest.raises(ConfigError) as refused:
        Settings.load({"CATEGORIES_FILE": str(path), "SMTP_HOST": "h", "SMTP_FROM": "a@b.example"})
    assert sum("CATEGORIES_FILE" in fault for fault in refused.value.faults) == 8


@pytest.mark.parametrize(("text", "part"), [("[a", "is no TOML"), (None, "cannot be read")])
def test_what_is_no_file_of_categories(tmp_path: Path, text: str | None, part: str) -> None:
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(categories.Faulty, match=part):
        categories.load(path)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("digest_window_s = 1", "digest_window_s"),
        ("digest_window_s = 43201", "digest_window_s"),
        ("digest_window_s = true", "digest_window_s"),
        ('digest_window_s = "5m"', "digest_window_s"),
        ('caps = "drop"', "caps"),
        ('caps = "digest"\noverrides_caps = true', "caps"),
    ],
)
def test_a_digest_that_cannot_be(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "categories.toml"
    path.write_text(f"[pills]\n{line}\n", "utf-8")
    with pytest.raises(categories.Faulty) as faulty:
        categories.load(path)
    assert [fault.partition("=")[0] for fault in faulty.value.faults] == [f"pills.{key}"]


def test_a_category_says_who_sends_and_how_to_answer_in_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "categories.toml"
    path.write_text('[lab]\nsender = "Lab"\nanswer = "Call 01"\n', "utf-8")
    assert (categories.load(path).of("lab").sender, categories.load(path).of("lab").answer) == ("Lab", "Call 01")
    path.write_text('[lab]\nsender = "a\\nb"\nanswer = 3\n', "utf-8")
    with pytest.raises(categories.Faulty) as faulty:
        categories.load(path)
    assert [fault.partition("=")[0] for fault in faulty.value.faults] == ["lab.sender", "lab.answer"]
