"""Where we may connect to on somebody else's word. Pure: the ranges as data, and the lookups on them.

Whoever may name a URL could have us ask what only we can reach: the loopback, a neighbour, a cloud's metadata service.
So an address is looked at when the connection is made, whatever its host was called and however it was written.
"""

import ipaddress
from dataclasses import dataclass

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What is not for everybody, with its source. Read together with GLOBAL_V6: of IPv6 only global unicast is.
SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(text), why)
    for text, why in (
        ("0.0.0.0/8", "this network (RFC 791)"),
        ("10.0.0.0/8", "private (RFC 1918)"),
        ("100.64.0.0/10", "shared by carriers (RFC 6598)"),
        ("127.0.0.0/8", "loopback (RFC 1122)"),
        ("168.63.129.16/32", "Azure's platform address"),
        ("169.254.0.0/16", "link-local, metadata services (RFC 3927)"),
        ("172.16.0.0/12", "private (RFC 1918)"),
        ("192.0.0.0/24", "protocol assignments (RFC 6890)"),
        ("192.0.2.0/24", "documentation (RFC 5737)"),
        ("192.31.196.0/24", "AS112 (RFC 7535)"),
        ("192.52.193.0/24", "AMT (RFC 7450)"),
        ("192.88.99.0/24", "6to4 relays (RFC 7526)"),
        ("192.168.0.0/16", "private (RFC 1918)"),
        ("192.175.48.0/24", "AS112 (RFC 7534)"),
        ("198.18.0.0/15", "benchmarks (RFC 2544)"),
        ("198.51.100.0/24", "documentation (RFC 5737)"),
        ("203.0.113.0/24", "documentation (RFC 5737)"),
        ("224.0.0.0/4", "multicast (RFC 5771)"),
        ("240.0.0.0/4", "reserved, broadcast (RFC 1112, RFC 8190)"),
        ("2001::/23", "protocol assignments, Teredo among them (RFC 2928, RFC 4380)"),
        ("2001:db8::/32", "documentation (RFC 3849)"),
        ("2002::/16", "6to4: an IPv4 address in disguise (RFC 3056)"),
        ("2620:4f:8000::/48", "AS112 (RFC 7534)"),
        ("3fff::/20", "documentation (RFC 9637)"),
    )
)
#: Global unicast (RFC 4291 §2.4). All else is special: loopback, mapped, NAT64, unique local, link-local, multicast.
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class Permit:
    """A network that is ours to call, on one port or on the ports that are open anyway (0)."""

    network: Network
    port: int = 0


@dataclass(frozen=True, slots=True)
class Egress:
    """What may be called: public addresses on ``ports``, and what is permitted besides. ``public``: whether at all."""

    ports: frozenset[int] = frozenset({443})
    permits: tuple[Permit, ...] = ()
    public: bool = True

    def allows(self, address: str, port: int) -> bool:
        """Return whether a connection may be made; the address as the socket has it, an IPv6 zone included."""
        try:
            ip = plain(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        if any(
            ip in permit.network and port in ({permit.port} if permit.port else self.ports) for permit in self.permits
        ):
            return True
        return self.public and port in self.ports and special(ip) == ""

    def only_permitted(self) -> "Egress":
        """Return the part of it that somebody has named: for what must not cross a network in clear."""
        return Egress(self.ports, self.permits, public=False)


def plain(ip: Ip) -> Ip:
    """Return the IPv4 address that a mapped one stands for: the system connects to that."""
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def special(ip: Ip) -> str:
    """Return why an address is not for everybody, nothing if it is."""
    ip = plain(ip)
    for network, why in SPECIAL:
        if ip.version == network.version and ip in network:
            return why
    if isinstance(ip, ipaddress.IPv6Address) and ip not in GLOBAL_V6:
        return "not global unicast (RFC 4291)"
    return "" if ip.is_global else "not global (IANA special-purpose registry)"


def permits(text: str) -> tuple[Permit, ...]:
    """Return what a setting permits: networks or addresses, each with a port or not, separated by commas.

    Raises ``ValueError`` that says which part is wrong and what it should look like.
    """
    return tuple(_permit(part.strip()) for part in text.split(",") if part.strip())


def _permit(part: str) -> Permit:
    port = 0
    address = part
    if part.startswith("["):
        address, closed, rest = part[1:].partition("]")
        tail = rest.removeprefix(":")
        bad = not closed or (rest != "" and not _is_port(tail))
        port = int(tail) if rest and not bad else 0
    elif part.count(":") == 1:
        address, _, tail = part.partition(":")
        bad = not _is_port(tail)
        port = int(tail) if not bad else 0
    else:
        bad = False
    remedy = f"{part!r}: use an address or a network, such as 10.1.2.0/24, 10.1.2.3:8443 or [fd00::5]:8443"
    if bad:
        raise ValueError(remedy)
    try:
        return Permit(ipaddress.ip_network(address), port)
    except ValueError:
        raise ValueError(remedy) from None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535
