"""Dates, numbers, money and plurals as a reader writes them. Pure: babel's data, and the zone that is given.

What a producer sends are texts. A local time without an offset is on the reader's clock already and stays as it is; one
with an offset, and every instant, is put on it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError
from babel import dates as babel_dates
from babel import numbers as babel_numbers
from babel.core import get_global

from schemas.zones import zone as zone_of

#: Lengths that babel has a pattern for.
STYLES = ("short", "medium", "long", "full")
DEFAULT_LOCALE = "en"
#: Longest number: digits beyond it are nobody's sum.
_MAX_DIGITS = 40
#: Plurals are asked for up to this number to know which forms a language has.
_TRIED = 201


class NotOneError(ValueError):
    """A value is not what it is to be formatted as. The text says what was wanted, never the value."""


#: What a locale may have behind language, script, region and variants: BCP 47's extensions and private use; POSIX's
#: encoding and modifier.
_EXTENDED = re.compile(r"[.@]|[-_][A-WYZa-wyz0-9](?=[-_])|[-_][xX](?=[-_])")
#: Languages that have another name in CLDR.
_NOW_NAMED = {"no": "nb", "sh": "sr-Latn"}
#: Longest name of a locale that is looked at: BCP 47 recommends room for 35.
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: the locale of the words that were chosen, and the clock on the reader's wall."""

    name: str
    locale: Locale
    zone: tzinfo


@lru_cache(maxsize=256)
def locale_of(name: str) -> Locale | None:
    """Return a locale, in whichever spelling (``de-AT``, ``de_AT``, ``zh-Hant-TW``), None where babel has none.

    Phones and servers say more than that: extensions (``en-US-u-hc-h23``), an encoding (``pt_BR.UTF-8``), a region that
    babel does not know. What it does not know is left out from the end, so that at least the language stays.
    """
    said = _EXTENDED.split(name.strip()[:_MAX_NAME])[0]
    parts = [part for part in said.replace("_", "-").split("-") if part]
    if parts:
        parts[:1] = _NOW_NAMED.get(parts[0].lower(), parts[0]).split("-")
    while parts:
        try:
            return Locale.parse("_".join(parts))
        except (UnknownLocaleError, ValueError, TypeError):
            parts.pop()
    return None


def tag(locale: Locale) -> str:
    """Return the name of a locale as templates' folders have it: ``de-AT``."""
    return str(locale).replace("_", "-")


@lru_cache(maxsize=1024)
def chain(name: str) -> tuple[str, ...]:
    """Return a locale and what stands in for it in the same language, nearest first: de-AT, de. Empty: none.

    A script is not left out where its language has several: zh-TW is written as zh-Hant, and never falls to zh. Where
    CLDR names another parent it comes first: es-MX, es-419, es; pt-AO, pt-PT, pt. Who
    reads Nynorsk reads Bokmål.
    """
    locale = locale_of(name)
    if locale is None:
        return ()
    names = [tag(locale), *_parents(locale)]
    likely = get_global("likely_subtags")
    whole = likely.get(str(locale)) or likely.get(f"{locale.language}_{locale.territory}") or ""
    script = locale.script or next((part for part in whole.split("_") if len(part) == 4), "")
    usual = next((part for part in likely.get(locale.language, "").split("_") if len(part) == 4), "")
    if script and (script != usual or locale.script):
        names.append(f"{locale.language}-{script}")
    if not script or script == usual:
        names.append(locale.language)
    if locale.language == "nn":
        names.append("nb")
    return tuple(dict.fromkeys(names))


def _parents(locale: Locale) -> list[str]:
    exceptions, found, name = get_global("parent_exceptions"), [], str(locale)
    while (name := exceptions.get(name, "")) and name != "root":
        found.append(name.replace("_", "-"))
    return [one for one in found if one.partition("-")[0] == locale.language]


@lru_cache(maxsize=1024)
def reader(locale: str, zone: str) -> Reader:
    """Return who reads; an unknown locale is English, an unknown zone UTC."""
    known = locale_of(locale) or Locale(DEFAULT_LOCALE)
    return Reader(str(known), known, zone_of(zone) or UTC)


@lru_cache(maxsize=256)
def plural_forms(locale: Locale) -> frozenset[str]:
    """Return the forms of a plural that whole numbers take in a language."""
    return frozenset(locale.plural_form(n) for n in range(_TRIED)) | {"other"}


def moment(value: object, reader: Reader) -> datetime:
    """Return an instant on the reader's clock; raises ``NotOneError``."""
    if isinstance(value, str):
        value = _parsed(value.strip())
    if isinstance(value, datetime):
        return value.astimezone(reader.zone) if value.tzinfo is not None else value
    raise NotOneError("a date and time, such as 2026-12-01T09:00")


@lru_cache(maxsize=4096)
def _parsed(text: str) -> datetime | None:
    try:
        # The week dates and basic forms that Python takes besides are nobody's intention.
        return datetime.fromisoformat(text) if len(text) >= 10 and text[4] == text[7] == "-" else None
    except ValueError:
        return None


def format_date(value: object, reader: Reader, style: str = "long") -> str:
    """Return the day of an instant."""
    return _format_date(moment(value, reader).date(), _styled(style), reader.name)


def format_time(value: object, reader: Reader, style: str = "short") -> str:
    """Return the time of day of an instant; ``long`` and ``full`` name the zone, too."""
    at = moment(value, reader)
    if _styled(style) in ("long", "full"):
        return babel_dates.format_time(_zoned(at, reader), style, tzinfo=at.tzinfo or reader.zone, locale=reader.locale)
    return _format_time(at.time(), style, reader.name)


def format_datetime(value: object, reader: Reader, style: str = "long") -> str:
    """Return the day and the time of day, as a language joins them."""
    at = moment(value, reader)
    day, clock = _format_date(at.date(), _styled(style), reader.name), _format_time(at.time(), "short", reader.name)
    return _joined(style, reader.name).format(clock, day)


def _zoned(at: datetime, reader: Reader) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=reader.zone)


def _styled(style: str) -> Any:
    if style not in STYLES:
        raise NotOneError(f"a style of {', '.join(STYLES)}")
    return style


@lru_cache(maxsize=8192)
def _format_date(day: date, style: Any, locale: str) -> str:
    return babel_dates.format_date(day, style, locale=locale)


@lru_cache(maxsize=8192)
def _format_time(at: time, style: Any, locale: str) -> str:
    return babel_dates.format_time(at, _pattern(style, locale), locale=locale)


@lru_cache(maxsize=512)
def _pattern(style: Any, locale: str) -> Any:
    """Return a style of the time of day, or its pattern where babel's short words for the halves of the day are English
    ones that the language does not write: Korean is 오후 3:05, as ICU has it, not PM 3:05."""
    short, wide = (babel_dates.get_period_names(width, "format", locale) for width in ("abbreviated", "wide"))
    if short.get("am") != "AM" or wide.get("am", "AM") == "AM":
        return style
    return re.sub(r"\ba\b", "aaaa", str(babel_dates.get_time_format(style, locale=locale).pattern))


@lru_cache(maxsize=512)
def _joined(style: Any, locale: str) -> str:
    # CLDR quotes words in it ("'um'"); babel's own formatting leaves these quotes out, too.
    return str(babel_dates.get_datetime_format(style, locale=locale)).replace("'", "")


def number_of(value: object) -> Decimal:
    """Return a number; raises ``NotOneError``. A text has a point before its decimals, and nothing between digits."""
    if isinstance(value, bool):
        raise NotOneError("a number")
    if isinstance(value, int | Decimal):
        return Decimal(value)
    text = str(value).strip()
    try:
        number = Decimal(text) if len(text) <= _MAX_DIGITS and "_" not in text and text.isascii() else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or number.adjusted() > _MAX_DIGITS or number.adjusted() < -_MAX_DIGITS:
        raise NotOneError("a number, such as 1234.5")
    return number


def format_number(value: object, reader: Reader) -> str:
    """Return a number with the reader's marks."""
    return _format_number(str(value), reader.name) if type(value) in _PLAIN else _decimal(number_of(value), reader.name)


_PLAIN = frozenset({str, int})


@lru_cache(maxsize=8192)
def _format_number(text: str, locale: str) -> str:
    return _decimal(number_of(text), locale)


def _decimal(number: Decimal, locale: str) -> str:
    return babel_numbers.format_decimal(number, locale=locale)


def format_percent(value: object, reader: Reader) -> str:
    """Return a share, 0.25 as 25 %."""
    return babel_numbers.format_percent(number_of(value), locale=reader.locale)


def format_money(value: object, reader: Reader, currency: str) -> str:
    """Return a sum of a currency (ISO 4217)."""
    if len(currency) != 3 or not currency.isalpha() or not currency.isascii():
        raise NotOneError("a currency of three letters, such as EUR")
    return babel_numbers.format_currency(number_of(value), currency.upper(), locale=reader.locale)


def format_plural(value: object, reader: Reader, forms: dict[str, str]) -> str:
    """Return the form that a number takes, with ``#`` as the number itself."""
    form, shown = _counted(str(value), reader.name) if type(value) in _PLAIN else _count(number_of(value), reader.name)
    return (forms.get(form) or forms["other"]).replace("#", shown)


@lru_cache(maxsize=8192)
def _counted(text: str, locale: str) -> tuple[str, str]:
    return _count(number_of(text), locale)


def _count(number: Decimal, locale: str) -> tuple[str, str]:
    return str(Locale.parse(locale).plural_form(number)), _decimal(number, locale)
