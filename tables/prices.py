"""What messages cost, by one table of prices: channel, provider, country. Pure.

Prices are whole micros of one currency, for what a provider bills as one: a part of a text message, a call, a message.
What is billed later, or otherwise (a call's minutes), nobody knows when a message leaves: a price is what the
installation says, never what a provider has billed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas import phones
from schemas.names import PHONE_CHANNELS, Channel

#: Stands for every provider, or every country, that the table does not name.
EVERY = "*"
MICROS = 1_000_000
#: With this reason a message is not sent that would cost more than its reminder allows.
TOO_DEAR = "too_dear"
#: With this reason a message is not sent whose reminder limits its cost, where nobody has said what it costs.
PRICE_UNKNOWN = "price_unknown"


def country(channel: Channel, address: str) -> str:
    """Return the country of an address by its number (ISO 3166-1, two letters), empty where it has none."""
    return phones.country(address) if channel in PHONE_CHANNELS else ""


@dataclass(frozen=True, slots=True)
class Prices:
    """An installation's prices. ``table``: micros by channel, provider and country, ``*`` for those it does not name.

    What telephone companies carry has no price unless the table says so; of other channels a message costs nothing
    that is counted by the piece, unless the table says so.
    """

    currency: str = ""
    table: Mapping[tuple[Channel, str, str], int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.table)

    def of(self, channel: Channel, provider: str, address: str) -> int | None:
        """Return what one message, or one part of it, costs to an address, in micros; None where nobody knows."""
        place = country(channel, address) if self.table else ""
        for one, there in ((provider, place), (provider, EVERY), (EVERY, place), (EVERY, EVERY)):
            if (micros := self.table.get((channel, one, there))) is not None:
                return micros
        return None if channel in PHONE_CHANNELS else 0

    def least(self, channel: Channel, providers: Iterable[str], address: str) -> int | None:
        """Return what the cheapest of a channel's providers takes, in micros; None where no price is known."""
        known = [micros for one in providers if (micros := self.of(channel, one, address)) is not None]
        return min(known, default=None)

    def words(self, micros: int) -> str:
        """Return an amount as people read it, such as ``0.075 EUR``."""
        return f"{amount(micros)} {self.currency}".rstrip()


def amount(micros: int) -> str:
    """Return micros as a decimal number with at least two places."""
    whole, rest = divmod(abs(micros), MICROS)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{places}"


NO_PRICES = Prices()


def beyond(cap: int, cost: int | None) -> str:
    """Return why a message must not be sent for its cost, empty if it may. ``cap``: micros, 0: none."""
    if cap <= 0:
        return ""
    if cost is None:
        return PRICE_UNKNOWN
    return TOO_DEAR if cost > cap else ""


@dataclass(frozen=True, slots=True)
class Way:
    """A channel by which a recipient may be reached. ``micros`` None: nobody knows its price. ``now``: it may be used
    at once, neither its hours nor anything else keep it back. ``answers``: an answer can come back on it."""

    channel: Channel
    micros: int | None
    now: bool = True
    answers: bool = True


def cheaper_first(ways: Iterable[Way], *, wants_answer: bool) -> tuple[Way, ...]:
    """Return the ways in the order in which they are to be tried: the cheaper first, among those that do what is
    wanted in time.

    In time: at once, for it is due. What is wanted: an answer where ``wants_answer``, else that the provider takes it,
    which all do. Where two cost the same, or nobody knows what they cost, and among the rest, the recipient's own order
    stays.
    """

    def rank(way: Way) -> tuple[bool, bool, int]:
        serves = way.now and (way.answers or not wants_answer)
        if not serves:
            return True, False, 0
        return False, way.micros is None, way.micros or 0

    return tuple(sorted(ways, key=rank))
