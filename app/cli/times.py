"""Times as people type and read them. Pure: the present is a parameter."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ms(text: str) -> int:
    """Return a duration such as ``5s``, ``90m`` or ``1d12h`` in ms. Raises ValueError saying what is accepted."""
    parts = _PART.findall(text.replace(" ", ""))
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(f"{text!r} is no duration; use numbers with ms, s, m, h, d or w, such as 5s or 1h30m")
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def instant_ms(text: str, instead: str = "use --local and --zone") -> int:
    """Return an ISO 8601 instant in ms. Raises ValueError saying what is accepted: a time without an offset is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no instant; use ISO 8601, such as 2026-12-01T09:00:00+01:00") from None
    if at.utcoffset() is None:
        raise ValueError(f"{text!r} has no offset; add Z or +01:00, or {instead}")
    return (at - _EPOCH) // timedelta(milliseconds=1)


def moment(ms: int, zone: tzinfo | None = None) -> str:
    """Return an instant as shown to people: on the clock of a zone where one is known, and in UTC."""
    try:
        at = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return f"{ms} ms"
    utc = at.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    if zone is None:
        return f"{utc}Z"
    try:
        there = at.astimezone(zone)
    except OverflowError:
        return f"{utc}Z"
    local = there.isoformat(sep=" ", timespec="milliseconds")[:23]
    name = there.tzname() or str(zone)
    # The date is told once where both clocks show the same.
    return f"{local} {name} ({utc[11:] if utc[:10] == local[:10] else utc}Z)"
