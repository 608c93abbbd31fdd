"""Calls a day that workers keep together without asking each other. Pure.

Each partition has its part of a provider's quota, counted in a row of its own that moves with the partition, so that no
restart and no new owner begins anew. Days are those of UTC.
"""

from datetime import UTC, datetime

from schemas.quick import replace
from schemas.records import ProviderDay

DAY_MS = 86_400_000


def share(quota: int, partition: int, partitions: int) -> int:
    """Return the part of a quota that a partition has; all parts make the whole."""
    return quota // partitions + (partition < quota % partitions)


def day_of(now: int) -> str:
    """Return the day of an instant (ms UTC)."""
    return datetime.fromtimestamp(now / 1000, UTC).date().isoformat()


def next_day(now: int) -> int:
    """Return when the next day begins, in ms UTC."""
    return (now // DAY_MS + 1) * DAY_MS


def counted(known: ProviderDay | None, now: int, most: int) -> ProviderDay | None:
    """Return the count with one call more, None where there may be none any more today."""
    today = day_of(now)
    calls = known.calls if known is not None and known.day == today else 0
    return replace(known or ProviderDay(today, 0), day=today, calls=calls + 1) if calls < most else None


def parse(text: str) -> dict[str, int]:
    """Return the quotas of ``sms/twilio=1000, email/smtp=50000``. Raises ValueError, saying what is wrong."""
    quotas: dict[str, int] = {}
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            continue
        name, equals, number = (part.strip() for part in entry.partition("="))
        channel, slash, provider = name.lower().partition("/")
        if not (equals and slash and channel and provider):
            raise ValueError(f"{entry!r}: use CHANNEL/PROVIDER=N, such as sms/twilio=1000, separated by commas")
        if not (number.isascii() and number.isdigit() and 0 < int(number) <= 10**12):
            raise ValueError(f"{entry!r}: use a whole number of calls a day above 0")
        if name.lower() in quotas:
            raise ValueError(f"{name!r}: is named twice")
        quotas[name.lower()] = int(number)
    return quotas
