"""Who calls from outside, and how often: one bucket for each address. Told the time, no I/O.

Behind a proxy the connection is the proxy's. What a trusted proxy says of the caller is believed, and nothing that
somebody else wrote before it: the last address in ``X-Forwarded-For`` that is no proxy of ours.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

MINUTE_S = 60.0
#: Addresses that are remembered; of more, the one that was silent longest is forgotten.
MAX_CALLERS = 10_000
#: What a refused request counts: whoever guesses is soon slow.
REFUSED = 10
#: Addresses of a list that are looked at, from its end.
MAX_HOPS = 20

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def url_fault(url: str) -> str:
    """Return what is wrong with a public address, empty if nothing is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no URL"
    if not url.isascii() or any(c <= " " for c in url) or not host or parts.query or parts.fragment or "@" in url:
        return "use the URL that readers reach this server by, such as https://notify.example.org, and no more"
    inside = host in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and inside):
        return "use https://; http only to this machine"
    return "" if len(url) <= 200 else "use at most 200 characters"


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks that a list names. Raises ValueError with what to do."""
    found = []
    for part in text.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise ValueError("use addresses or networks, such as 10.0.0.0/8, separated by commas") from None
    return tuple(found)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def caller(peer: str, forwarded: str, proxies: tuple[Network, ...]) -> str:
    """Return whom a request is counted for: an address, of IPv6 the network of a household (/64); of what is none, the
    connection as it stands. ``peer``: the other end of the connection; ``forwarded``: ``X-Forwarded-For``."""
    found = _address(peer)
    for text in reversed(forwarded.split(",")[-MAX_HOPS:]):
        if found is None or not any(found in network for network in proxies):
            break
        before = _address(text)
        if before is None:
            break
        found = before
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found or peer)


class Callers:
    """What is left to each caller: it fills up again evenly, to the requests of one minute at most."""

    def __init__(
        self,
        per_minute: int,
        proxies: tuple[Network, ...],
        clock: Callable[[], float],
        most: int = MAX_CALLERS,
    ) -> None:
        self._per_minute = per_minute
        self._proxies = proxies
        self._clock = clock
        self._most = most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def who(self, peer: str, forwarded: str) -> str:
        """Return whom a request is counted for."""
        return caller(peer, forwarded, self._proxies)

    def wait_s(self, who: str) -> int:
        """Return for how many seconds a caller must wait, 0: go on."""
        left = self._now(who, self._clock())
        return 0 if not self._per_minute or left >= 1 else max(1, math.ceil((1 - left) * MINUTE_S / self._per_minute))

    def spend(self, who: str, count: int) -> None:
        """Count requests of a caller."""
        if not self._per_minute:
            return
        now = self._clock()
        # No debt: whoever stops guessing may go on within a moment.
        self._left[who] = (max(0.0, self._now(who, now) - count), now)
        self._left.move_to_end(who)
        while len(self._left) > self._most:
            self._left.popitem(last=False)

    def _now(self, who: str, now: float) -> float:
        left, at = self._left.get(who, (float(self._per_minute), now))
        return min(float(self._per_minute), left + (now - at) * self._per_minute / MINUTE_S)
