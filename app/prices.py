"""The file of prices: what a message costs by channel, provider and country. Read once, every fault named."""

import re
import tomllib
from pathlib import Path
from typing import Any

from schemas.names import DELIVERY_CHANNELS, Channel
from tables.prices import EVERY, Prices

#: Nobody pays more for one message: 1,000 of the currency, in micros.
MOST_MICROS = 1_000_000_000
_CHANNELS = {channel.value.lower(): channel for channel in DELIVERY_CHANNELS}
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")


class Faulty(Exception):  # noqa: N818 - it holds several
    """The file cannot be used. ``faults`` has one line for each fault: where, the value, what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def load(path: Path) -> Prices:
    """Return the prices of a file. Raises Faulty with every fault in it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise Faulty([f"cannot be read ({exc.strerror}); name a readable file"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise Faulty([f"is no TOML ({exc}); see docs/costs.md"]) from None
    faults: list[str] = []
    currency = document.pop("currency", "")
    if not isinstance(currency, str) or not _CURRENCY.match(currency):
        faults.append(f"currency={currency!r}: use the three letters of ISO 4217, such as EUR")
    table: dict[tuple[Channel, str, str], int] = {}
    for name, providers in document.items():
        channel = _CHANNELS.get(name)
        if channel is None:
            faults.append(f"{name}: is no channel; use {', '.join(_CHANNELS)}")
        elif not isinstance(providers, dict):
            faults.append(f"{name}: is no table; begin it with [{name}.twilio], or [{name}.'*'] for every provider")
        else:
            for provider, prices in providers.items():
                _provider(table, channel, provider, prices, faults)
    if not table and not faults:
        faults.append("names no price; see docs/costs.md")
    if faults:
        raise Faulty(faults)
    return Prices(currency, table)


def _provider(
    table: dict[tuple[Channel, str, str], int], channel: Channel, provider: str, prices: Any, faults: list[str]
) -> None:
    at = f"{channel.value.lower()}.{provider}"
    if provider != EVERY and not _PROVIDER.match(provider):
        faults.append(f"{at}: is no provider's name; use one that `python -m app providers` shows, or '*'")
    elif not isinstance(prices, dict):
        faults.append(f"{at}={prices!r}: is no table; begin it with [{at}] and give a price to each country, or to '*'")
    else:
        for place, micros in prices.items():
            if place != EVERY and not _COUNTRY.match(place):
                faults.append(f"{at}.{place}: is no country; use two letters (ISO 3166-1), such as DE, or '*'")
            elif isinstance(micros, bool) or not isinstance(micros, int) or not 0 <= micros <= MOST_MICROS:
                faults.append(f"{at}.{place}={micros!r}: use whole micros from 0 to {MOST_MICROS}: 75000 is 0.075")
            else:
                table[channel, provider, place] = micros
