"""What the webhook adapter needs to know. Pure; every fault of a configuration is named at once, without secrets."""

from dataclasses import dataclass, field
from pathlib import Path

from channels.egress_rules import Egress, permits
from channels.limits import TooLong

#: Shortest key that signatures are made with, in characters.
MIN_KEY = 32


def ports(text: str) -> tuple[int, ...]:
    """Return the ports that a setting lists, none where one of them is no port."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 and 1 <= int(part) <= 65535 for part in parts):
        return ()
    return tuple(int(part) for part in parts)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How receivers are called.

    ``keys`` make the secrets of all receivers, each signs; put a new one first and take the old one away once the
    receivers know. ``allow`` names inner addresses that may be called, and over plain HTTP. ``per_host`` bounds calls
    at once to one host and port, so that one slow receiver leaves room for the others.
    """

    keys: tuple[str, ...] = field(repr=False)
    allow: str = ""
    ports: tuple[int, ...] = (443,)
    ca_file: Path | None = None
    concurrency: int = 100
    per_host: int = 75
    connect_timeout_s: float = 10.0
    timeout_s: float = 20.0
    max_body: int = 20_480
    too_long: TooLong = TooLong.REFUSE

    def __post_init__(self) -> None:
        faults = [fault for fault in self._faults() if fault]
        if faults:
            raise ValueError("webhook: " + "; ".join(faults))

    @property
    def egress(self) -> Egress:
        """Where calls may lead."""
        return Egress(frozenset(self.ports), permits(self.allow))

    def _faults(self) -> list[str]:
        allow_fault = ""
        try:
            permits(self.allow)
        except ValueError as wrong:
            allow_fault = f"allow: {wrong}"
        return [
            "" if self.keys else "keys: give at least one",
            (
                f"keys: each needs at least {MIN_KEY} characters, long and random"
                if any(len(key) < MIN_KEY for key in self.keys)
                else ""
            ),
            "keys: none twice" if len(set(self.keys)) != len(self.keys) else "",
            allow_fault,
            "" if self.ports and all(1 <= port <= 65535 for port in self.ports) else "ports: from 1 to 65535",
            "" if 1 <= self.concurrency <= 10_000 else "concurrency: must be between 1 and 10000",
            "" if 1 <= self.per_host <= self.concurrency else "per_host: must be between 1 and concurrency",
            "" if self.connect_timeout_s > 0 else "connect_timeout_s: must be more than 0 seconds",
            "" if self.timeout_s > 0 else "timeout_s: must be more than 0 seconds",
            "" if 1024 <= self.max_body <= 262_144 else "max_body: must be between 1024 and 262144 bytes",
        ]
