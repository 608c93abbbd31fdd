"""Where we may connect to, and what an HTTP call comes to: over real sockets and resolvers."""

import ipaddress
import socket
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.egress import guard
from channels.egress_rules import SPECIAL, Egress, Permit, permits, plain, special
from channels.http_answers import Answer, Failure, HttpFault
from channels.http_call import HttpCaller
from tests.sandbox.webhook_server import WebhookServer

OPEN = Egress()

INNER = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_are_never_called(address: str) -> None:
    assert not OPEN.allows(address, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses_are_called_on_open_ports(address: str) -> None:
    assert OPEN.allows(address, 443)
    assert not OPEN.allows(address, 22)
    assert not OPEN.only_permitted().allows(address, 443)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f.1", "2130706433", "127.0.0.1.nip.io"])
def test_what_is_no_address_is_not_called(text: str) -> None:
    assert not OPEN.allows(text, 443)


@given(ip=st.ip_addresses())
def test_nothing_that_python_knows_as_inner_is_called(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if OPEN.allows(str(ip), 443):
        ip = plain(ip)
        kinds = (ip.is_multicast, ip.is_private, ip.is_reserved, ip.is_loopback, ip.is_link_local)
        assert ip.is_global
        assert not any(kinds)


@given(where=st.sampled_from([network for network, _ in SPECIAL]), data=st.data())
def test_no_address_of_a_special_range_is_called(where: Any, data: st.DataObject) -> None:
    number = data.draw(st.integers(int(where.network_address), int(where.broadcast_address)))
    ip = type(where.network_address)(number)
    assert special(ip)
    if ip.version == 4:
        assert special(ipaddress.ip_address(f"::ffff:{ip}"))


def test_what_is_permitted_is_called_on_its_port_alone() -> None:
    egress = Egress(permits=permits("10.1.2.0/24, 127.0.0.1:8443 ,[fd00::5]:9443,fd01::/64"))
    assert egress.allows("10.1.2.9", 443)
    assert not egress.allows("10.1.2.9", 80)
    assert not egress.allows("10.1.3.9", 443)
    assert egress.allows("127.0.0.1", 8443)
    assert egress.allows("::ffff:127.0.0.1", 8443)
    assert not egress.allows("127.0.0.1", 443)
    assert not egress.allows("127.0.0.2", 8443)
    assert egress.allows("fd00::5", 9443)
    assert egress.allows("fd01::77", 443)
    assert permits(" , ") == ()
    assert permits("10.0.0.1") == (Permit(ipaddress.ip_network("10.0.0.1/32")),)


@pytest.mark.parametrize(
    "text", ["localhost", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999", "[fd00::1", "[fd00::1]x", "10.0.0.1/8", "*"]
)
def test_what_cannot_be_a_permit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="use an address or a network"):
        permits(text)


# -- over sockets ------------------------------------------------------------------------------------------------------


def here(server: WebhookServer) -> Egress:
    return Egress(permits=permits(f"127.0.0.1:{server.port}"))


async def post(url: str, egress: Egress) -> Answer | Failure:
    caller = HttpCaller(connections=2, connect_timeout_s=5, timeout_s=5, socket_factory=guard(egress))
    await caller.open()
    try:
        return await caller.call("POST", url, body=b"{}", headers={"webhook-id": "x"})
    finally:
        await caller.close()


LOOPBACK_NAMES = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "localhost",
    "[::ffff:127.0.0.1]",
]


@pytest.mark.parametrize("name", LOOPBACK_NAMES)
async def test_no_notation_of_the_loopback_gets_through(name: str) -> None:
    async with WebhookServer() as server:
        answer = await post(f"http://{name}:{server.port}/", Egress(ports=frozenset({server.port})))
        assert answer in (Failure(HttpFault.NOT_ALLOWED), Failure(HttpFault.BAD_URL))
        assert server.connections == 0


async def test_a_name_that_changes_its_mind_is_looked_at_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: whatever a look before the call would have been told, the connection's own address decides."""
    answers = iter(["93.184.215.14", "127.0.0.1"])
    asked: list[str] = []

    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        address = next(answers)
        asked.append(address)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    assert (await aiohttp.ThreadedResolver().resolve("rebind.example", 443))[0]["host"] == "93.184.215.14"
    async with WebhookServer() as server:
        answer = await post(f"http://rebind.example:{server.port}/", Egress(ports=frozenset({server.port})))
        assert answer == Failure(HttpFault.NOT_ALLOWED)
        assert asked == ["93.184.215.14", "127.0.0.1"]
        assert server.connections == 0


async def test_of_several_addresses_only_those_that_may_be_called_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [
            {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}
            for address in ("10.0.0.1", "127.0.0.3", "127.0.0.1")
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    async with WebhookServer() as server:
        assert await post(f"http://several.example:{server.port}/", here(server)) == Answer(204)
        answer = await post(f"http://several.example:{server.port}/", Egress(ports=frozenset({server.port})))
        assert answer == Failure(HttpFault.NOT_ALLOWED)
        assert len(server.seen) == 1
