"""How long before a start to remind: ISO 8601 durations, days on the wall clock and the rest elapsed. Pure."""

import re
from dataclasses import dataclass
from functools import lru_cache

#: The longest offset: a year and a day.
MAX_DAYS = 366
_FORM = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,8})M)?(?:(?P<seconds>\d{1,8})S)?)?"
)


class OffsetError(ValueError):
    """A duration that cannot be used; the text is the remedy."""


@dataclass(frozen=True, slots=True)
class Offset:
    """``days`` of the calendar, then ``seconds`` elapsed, before a start; both negative: after it."""

    days: int = 0
    seconds: int = 0

    @property
    def id(self) -> str:
        """The one form that names it, part of an occurrence's id: ``P1D``, ``PT1H30M``, ``PT0S``, ``-PT9H``."""
        if not self.days and not self.seconds:
            return "PT0S"
        days, seconds = abs(self.days), abs(self.seconds)
        time = "".join(
            f"{number}{unit}"
            for number, unit in ((seconds // 3600, "H"), (seconds // 60 % 60, "M"), (seconds % 60, "S"))
            if number
        )
        sign = "-" if self.days < 0 or self.seconds < 0 else ""
        return f"{sign}P{f'{days}D' if days else ''}{f'T{time}' if time else ''}"


NONE = Offset()


@lru_cache(maxsize=4096)
def parse(text: str) -> Offset:
    """Return what a duration says: ``P1D``, ``P1W``, ``PT90M``, ``P1DT2H``; ``-PT9H`` is after the start.

    A day is one of the calendar, whatever its hours; ``PT24H`` is 24 hours. Raises OffsetError.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or text.strip()[-1] in "PT":
        if re.fullmatch(r"[+-]?P[YMWDTHS.]*\d[\dYMWDTHS.]*", text.strip()):
            raise OffsetError("send weeks, days, hours, minutes and seconds as whole numbers; not months or years")
        raise OffsetError("send an ISO 8601 duration, such as P1D, PT2H, P1DT12H or PT0S")
    number = {name: int(found[name] or 0) for name in ("weeks", "days", "hours", "minutes", "seconds")}
    days = number["weeks"] * 7 + number["days"]
    seconds = number["hours"] * 3600 + number["minutes"] * 60 + number["seconds"]
    if days * 86_400 + seconds > MAX_DAYS * 86_400:
        raise OffsetError(f"send at most {MAX_DAYS} days")
    sign = -1 if found["sign"] == "-" else 1
    return Offset(sign * days, sign * seconds)
