"""Time zones by name: every spelling that means one zone, and for the rest what was probably meant. Pure.

Rules come from the tzdata package, whatever the system has: that may be years old. A name is an IANA name in any case,
a link of the IANA data (``US/Pacific``, ``EST``), ``Z``, or a name that Windows and Outlook use, as CLDR maps it. What
could be two zones is none: the sign of ``GMT+5``, ``CST``.
"""

import difflib
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

import tzdata  # type: ignore[import-untyped]

#: Abbreviations that are no zones, with those that they may mean, most people first.
_ABBREVIATIONS = {
    "ACST": ("Australia/Adelaide", "Australia/Darwin"),
    "AEDT": ("Australia/Sydney",),
    "AEST": ("Australia/Sydney", "Australia/Brisbane"),
    "AST": ("America/Halifax", "Asia/Riyadh"),
    "AWST": ("Australia/Perth",),
    "BRT": ("America/Sao_Paulo",),
    "BST": ("Europe/London", "Asia/Dhaka"),
    "CDT": ("America/Chicago", "America/Havana"),
    "CEST": ("Europe/Berlin", "Europe/Paris"),
    "CST": ("America/Chicago", "Asia/Shanghai", "America/Havana"),
    "EDT": ("America/New_York",),
    "EEST": ("Europe/Helsinki", "Europe/Kyiv"),
    "HKT": ("Asia/Hong_Kong",),
    "IST": ("Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"),
    "JST": ("Asia/Tokyo",),
    "KST": ("Asia/Seoul",),
    "MDT": ("America/Denver",),
    "MSK": ("Europe/Moscow",),
    "NST": ("America/St_Johns",),
    "NZDT": ("Pacific/Auckland",),
    "NZST": ("Pacific/Auckland",),
    "PDT": ("America/Los_Angeles",),
    "PKT": ("Asia/Karachi",),
    "PST": ("America/Los_Angeles", "Asia/Manila"),
    "SAST": ("Africa/Johannesburg",),
    "SGT": ("Asia/Singapore",),
    "WEST": ("Europe/Lisbon",),
    "WIB": ("Asia/Jakarta",),
}
#: Zones without summer time whose names look as if they had it, with those that do.
_FIXED = {"EST": "America/New_York", "MST": "America/Denver"}
_SIGNED = re.compile(r"(UTC|GMT|Z)?([+-])(\d{1,2})(?::?(\d\d))?")
#: No name is longer; a longer one is not looked at.
_MOST = 60


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Return the IANA names of the tzdata package."""
    names = resources.files("tzdata").joinpath("zones").read_text("utf-8").split()
    # "Factory" is what a machine has before anybody sets its zone.
    return frozenset(names) - {"Factory"}


@lru_cache(maxsize=1)
def _folded_names() -> dict[str, str]:
    return {"z": "Etc/UTC"} | {known.casefold(): known for known in sorted(zone_names())}


@lru_cache(maxsize=1)
def _windows_names() -> dict[str, str]:
    from babel.core import get_global  # noqa: PLC0415 - only a name that is not IANA's needs its tables

    mapping = get_global("windows_zone_mapping")
    # "UTC-11" is one of Windows', "UTC-10" is not: people who write such names mean no Windows zone.
    return {str(name).casefold(): str(known) for name, known in mapping.items() if not _SIGNED.fullmatch(name)}


_ZONES: dict[str, ZoneInfo] = {}


def canonical(name: str) -> str:
    """Return the IANA name, spelt as it is there, that a name means; nothing where it means none, or several."""
    if name in zone_names():
        return name
    if len(name) > _MOST:
        return ""
    folded = name.strip().casefold()
    known = _folded_names().get(folded) or _folded_names().get(folded.replace(" ", "_"))
    return known or (_windows_names().get(folded, "") if folded else "")


def zone(name: str) -> ZoneInfo | None:
    """Return the zone of a name, read from the tzdata package whatever the system has; None if there is none.

    Only listed names are opened, so no name of a producer reaches the file system.
    """
    known = _ZONES.get(name)
    if known is None and (key := canonical(name)):
        known = _ZONES.get(key)
        if known is None:
            with resources.files("tzdata").joinpath("zoneinfo", *key.split("/")).open("rb") as file:
                known = _ZONES[key] = ZoneInfo.from_file(file, key=key)
    return known


@lru_cache(maxsize=1024)
def similar_zone(name: str) -> str:
    """Return the zone, or the zones, that were probably meant by a name that is none; nothing where nobody knows."""
    wanted = name.strip()
    if not wanted or len(wanted) > _MOST:
        return ""
    if meant := _ABBREVIATIONS.get(wanted.upper()):
        return " or ".join(meant)
    if (signed := _SIGNED.fullmatch(wanted.upper())) is not None:
        return _signed(signed)
    folded = wanted.replace(" ", "_").casefold()
    places = {low: known for low, known in _folded_names().items() if "/" in low and not low.startswith("etc/")}
    if (place := next((known for low, known in places.items() if low.endswith(f"/{folded}")), "")) != "":
        return place
    # A flood of wrong names must not cost much: only names that begin alike are compared.
    alike = [low for low in places if low[:2] == folded[:2] and abs(len(low) - len(folded)) <= 2]
    return next((places[low] for low in difflib.get_close_matches(folded, alike, 1, 0.8)), "")


def _signed(found: re.Match[str]) -> str:
    """Return what an offset means either way: the names of IANA's have the sign turned round."""
    prefix, sign, hours, minutes = found.groups()
    if minutes not in (None, "00") or int(hours) > 12:
        return ""
    if not int(hours):
        return "Etc/UTC"
    ahead, behind = (
        f"Etc/GMT-{int(hours)} ({int(hours)} h ahead of UTC)",
        f"Etc/GMT+{int(hours)} ({int(hours)} h behind UTC)",
    )
    # An offset alone is ISO's, whose sign everybody reads alike.
    if not prefix:
        return ahead if sign == "+" else behind
    return f"{ahead} or {behind}"


def hint(name: str) -> str:
    """Return what a person should know of a zone that is taken as it is: ``EST`` has no summer time. Else nothing."""
    usual = _FIXED.get(canonical(name))
    return f"{name} has no summer time; {usual} has" if usual else ""


# -- the data ----------------------------------------------------------------------------------------------------------

#: Data that may be older than this deserve a warning: governments change clocks at a few weeks' notice.
OLD_DAYS = 183
_TABLE_DAYS = 357
_EXPIRES = re.compile(r"#expires (\d+)")


def release() -> str:
    """Return the release of the time zone data in use, such as ``2026f``."""
    return str(tzdata.IANA_VERSION)


@lru_cache(maxsize=1)
def no_older_than() -> datetime:
    """Return a day (UTC) before which the time zone data in use were not released.

    The package does not say when it was; its table of leap seconds, which is made anew each January and July and
    expires a year later, says it to half a year.
    """
    text = resources.files("tzdata").joinpath("zoneinfo", "leapseconds").read_text("utf-8")
    found = _EXPIRES.search(text)
    year = datetime(int(release()[:4]), 1, 1, tzinfo=UTC)
    if found is None:
        return year
    table = datetime.fromtimestamp(int(found[1]) - _TABLE_DAYS * 86_400, UTC)
    return max(table.replace(hour=0, minute=0, second=0, microsecond=0), year)


def may_be_old(now: datetime) -> bool:
    """Return whether the time zone data in use may be older than they should be."""
    return now - no_older_than() > timedelta(days=OLD_DAYS)
