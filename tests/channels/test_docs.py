"""The page about channels says what the code does."""

import dataclasses

from channels.smtp_settings import SmtpSettings
from tests.channels.tables import PAGE, SETTINGS, filled, tables


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->\n" in page for name in tables())
    assert page == filled(page), "python -m tests.channels.tables writes them"


def test_every_setting_is_described() -> None:
    assert set(SETTINGS) == {field.name for field in dataclasses.fields(SmtpSettings)}
