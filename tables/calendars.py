"""Holiday calendars: which days are off, and what then becomes of an occurrence. Pure.

Public holidays are those of the holidays library; own dates and a weekend come from the configuration.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

#: A calendar with no working day in this many days has none.
MOST_DAYS_OFF = 60


class DayOff(StrEnum):
    """What becomes of an occurrence on a day off."""

    FIRE = "fire"
    SKIP = "skip"
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Calendar:
    """A configured calendar. ``holidays``: a country or a part of one (``DE``, ``DE-BY``) or an exchange (``XNYS``) of
    the holidays library, or none. ``off``: further days off, ``on``: days that are none whatever else says so.
    ``weekend``: 0 is Monday."""

    name: str
    holidays: str = ""
    day_off: DayOff = DayOff.SKIP
    weekend: frozenset[int] = frozenset({5, 6})
    off: frozenset[date] = frozenset()
    on: frozenset[date] = frozenset()

    def why_off(self, day: date) -> str:
        """Return why a day is off: the holiday's name, else "weekend" or "day off"; nothing where it is none."""
        if day in self.on:
            return ""
        if day in self.off:
            return "day off"
        if name := public_holidays(self.holidays, day.year).get(day, "") if self.holidays else "":
            return name
        return "weekend" if day.weekday() in self.weekend else ""

    def moved(self, day: date) -> date | None:
        """Return the day on which an occurrence of a day fires; None where it is skipped."""
        if self.day_off is DayOff.FIRE or not self.why_off(day):
            return day
        if self.day_off is DayOff.SKIP:
            return None
        step = timedelta(days=-1 if self.day_off is DayOff.BEFORE else 1)
        there = day
        for _ in range(MOST_DAYS_OFF):
            there += step
            if not self.why_off(there):
                return there
        return None

    def since(self, day: date) -> date:
        """Return the first day whose occurrences may fire on a day or later."""
        if self.day_off is not DayOff.AFTER:
            return day
        for _ in range(MOST_DAYS_OFF):
            if not self.why_off(day - timedelta(days=1)):
                break
            day -= timedelta(days=1)
        return day


@lru_cache(maxsize=1024)
def public_holidays(code: str, year: int) -> dict[date, str]:
    """Return the public holidays of a country, a part of one, or an exchange. Raises ValueError for an unknown code."""
    import holidays  # noqa: PLC0415 - takes long, and few installations have calendars

    country, _, part = code.partition("-")
    try:
        if country in holidays.list_supported_financial(include_aliases=True):
            return dict(holidays.financial_holidays(country, years=year, expand=False))
        return dict(holidays.country_holidays(country, subdiv=part or None, years=year, expand=False))
    except NotImplementedError as exc:
        raise ValueError(f"the holidays library has no {code}; use a code such as DE, DE-BY, US-CA or XNYS") from exc


# -- the configuration -------------------------------------------------------------------------------------------------

_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_KEYS = ("holidays", "day_off", "weekend", "off", "on")


class CalendarError(ValueError):
    """A file of calendars that cannot be used: one line for each fault, with its remedy."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def read(text: str) -> dict[str, Calendar]:
    """Return the calendars that a TOML file describes, a table each, by name. Raises CalendarError.

    ::

        [bank]
        holidays = "DE-BY"      # of the holidays library; none: leave it out
        day_off = "before"      # fire, skip (the default), before, after
        weekend = ["SA", "SU"]  # the default
        off = [2026-12-24]      # days off besides
        on = [2026-12-19]       # no days off, whatever else says so
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise CalendarError([f"is no TOML: {exc}"]) from None
    found: dict[str, Calendar] = {}
    faults: list[str] = []
    for name, table in tables.items():
        if not isinstance(table, dict) or not _NAME.fullmatch(name):
            faults.append(f"{name[:40]}: begin a calendar with [name], of letters, digits, _ . and -")
            continue
        wrong = _faults(table)
        faults += [f"[{name}] {fault}" for fault in wrong]
        if not wrong:
            found[name] = _calendar(name, table)
    if faults:
        raise CalendarError(faults)
    return found


def _faults(table: Mapping[str, Any]) -> list[str]:
    faults = [f"{key}: is unknown; use {', '.join(_KEYS)}" for key in table if key not in _KEYS]
    try:
        code = table.get("holidays", "")
        if code:
            public_holidays(str(code), 2026)
    except ValueError as exc:
        faults.append(f"holidays: {exc}")
    if table.get("day_off", "skip") not in tuple(DayOff):
        faults.append(f"day_off: use one of {', '.join(DayOff)}")
    weekend = table.get("weekend", [])
    if not isinstance(weekend, list) or any(day not in _WEEKDAYS for day in weekend) or len(set(weekend)) > 6:
        faults.append(f"weekend: give a list of {', '.join(_WEEKDAYS)}, six at the most")
    for key in ("off", "on"):
        days = table.get(key, [])
        if not isinstance(days, list) or any(not isinstance(d, date) or isinstance(d, datetime) for d in days):
            faults.append(f"{key}: give a list of dates, such as [2026-12-24]")
    return faults


def _calendar(name: str, table: Mapping[str, Any]) -> Calendar:
    return Calendar(
        name,
        str(table.get("holidays", "")),
        DayOff(table.get("day_off", DayOff.SKIP)),
        frozenset(_WEEKDAYS.index(day) for day in table.get("weekend", ["SA", "SU"])),
        frozenset(table.get("off", [])),
        frozenset(table.get("on", [])),
    )
