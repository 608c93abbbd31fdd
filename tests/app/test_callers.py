"""Who calls: the address behind our own proxies, and how often it may."""

import pytest

from app.callers import Callers, caller, networks, url_fault

PROXIES = networks("127.0.0.1, ::1, 10.0.0.0/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "who"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        # Whoever is no proxy of ours says nothing that is believed.
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("::1", "1.2.3.4, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("127.0.0.1", "[2001:db8:1:2:ffff::5]", "2001:db8:1:2::/64"),
        ("", "", ""),
    ],
)
def test_whom_a_request_is_counted_for(peer: str, forwarded: str, who: str) -> None:
    assert caller(peer, forwarded, PROXIES) == who


def test_a_caller_waits_and_others_do_not() -> None:
    now = [0.0]
    callers = Callers(60, (), lambda: now[0])
    for _ in range(6):
        assert callers.wait_s("a") == 0
        callers.spend("a", 10)
    assert callers.wait_s("a") == 1
    assert callers.wait_s("b") == 0
    now[0] = 1.0
    assert callers.wait_s("a") == 0
    callers.spend("a", 10)
    assert callers.wait_s("a") == 1


def test_the_memory_is_bounded() -> None:
    callers = Callers(60, (), lambda: 0.0, most=100)
    for number in range(1000):
        callers.spend(f"192.0.2.{number}", 1)
    assert len(callers) == 100


def test_without_a_limit_nobody_waits_and_nothing_is_kept() -> None:
    callers = Callers(0, (), lambda: 0.0)
    for _ in range(10_000):
        callers.spend("a", 10)
    assert callers.wait_s("a") == 0
    assert len(callers) == 0


@pytest.mark.parametrize("url", ["https://x.example", "https://x.example/base", "http://127.0.0.1:6066"])
def test_public_addresses(url: str) -> None:
    assert url_fault(url) == ""


@pytest.mark.parametrize(
    "url",
    ["http://x.example", "x.example", "https://", "https://u:p@x.example", "https://x.example?a=1", "https://x.example#a",
     "https://x.example/ä", "https://x.example/a b", "https://[", "ftp://x.example", "https://" + "x" * 300],
)  # fmt: skip
def test_what_is_no_public_address(url: str) -> None:
    assert url_fault(url)


def test_what_is_no_network_is_said() -> None:
    with pytest.raises(ValueError, match="use addresses or networks"):
        networks("127.0.0.1, nonsense")
