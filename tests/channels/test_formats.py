"""Locales as phones, browsers and servers name them, and what readers of a language expect."""

import pytest

from channels import formats


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("pt-BR", ["pt-BR", "pt"]),
        ("pt_BR.UTF-8", ["pt-BR", "pt"]),
        ("pt-AO", ["pt-AO", "pt-PT", "pt"]),
        ("es-MX", ["es-MX", "es-419", "es"]),
        ("en-AU", ["en-AU", "en-001", "en"]),
        ("zh-Hant-TW", ["zh-Hant-TW", "zh-Hant"]),
        ("zh_MO", ["zh-Hant-MO", "zh-Hant-HK", "zh-Hant"]),
        ("zh-CN", ["zh-Hans-CN", "zh-Hans", "zh"]),
        ("sr-Latn-RS", ["sr-Latn-RS", "sr-Latn"]),
        ("sh", ["sr-Latn"]),
        ("no-NO", ["nb-NO", "nb"]),
        ("no", ["nb"]),
        ("nn", ["nn", "nb"]),
        ("iw", ["he-IL", "he"]),
        ("en-US-u-hc-h23", ["en-US", "en"]),
        ("de-DE-u-co-phonebk", ["de-DE", "de"]),
        ("de-AT-x-foo", ["de-AT", "de"]),
        ("de-DE-1996", ["de-DE", "de"]),
        ("de_DE@euro", ["de-DE", "de"]),
        ("de-XX", ["de"]),
        ("de-", ["de"]),
        (" de ", ["de"]),
        ("ca-ES-valencia", ["ca-ES-VALENCIA", "ca"]),
        ("german", []),
        ("x-foo", []),
        ("C", []),
        ("POSIX", []),
        ("", []),
        ("a" * 5_000, []),
        ("-" * 5_000, []),
    ],
)
def test_what_stands_in_for_a_locale(name: str, chain: list[str]) -> None:
    assert list(formats.chain(name)) == chain


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ("ko-KR", "오후 3:05"),
        ("zh-TW", "下午3:05"),
        ("en-US", "3:05\u202fPM"),
        ("bn-BD", "3:05 PM"),
        ("fr-CA", "15 h 05"),
        ("de", "15:05"),
        ("no-NO", "15:05"),
    ],
)
def test_the_halves_of_a_day_are_in_the_words_of_the_language(locale: str, shown: str) -> None:
    reader = formats.reader(locale, "Asia/Seoul")
    assert formats.format_time("2026-12-01T15:05", reader).replace("\u00a0", " ") == shown
