"""What the SMTP adapter needs to know. Pure; every fault of a configuration is named at once, without its secrets."""

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from channels.addresses import Address, a_label, parse
from channels.classify import GREYLIST_S
from channels.dkim import is_selector

#: The name of a mail server, where it is the only one.
PROVIDER = "smtp"


class Tls(StrEnum):
    """How a connection is protected. ``NONE`` is for a server on this machine or a network that is trusted."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


class AuthMethod(StrEnum):
    """Ways to log in (RFC 4616, and the older LOGIN)."""

    PLAIN = "plain"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach a mail server and how to treat it. ``call_timeout_s`` 0: the sum of what a call may take.

    ``message_id_domain`` and ``helo_name`` follow the sender's domain where they are empty. ``connect_timeout_s`` holds
    for the connection and the greeting, ``command_timeout_s`` for each command, ``final_reply_timeout_s`` for the
    answer to the final dot: RFC 5321 §4.5.3.2.6 asks for ten minutes, since giving up sooner means a doubt or a second
    mail. ``provider``: its name in outcomes and metrics. ``dkim_key``: a PEM file; mails are signed for
    ``dkim_domain``, or the sender's where that is empty. ``bounce_domain``: of envelope senders that name a delivery
    each; empty: the envelope sender is ``sender``.
    """

    host: str
    sender: str
    port: int = 587
    tls: Tls = Tls.STARTTLS
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    auth_methods: tuple[AuthMethod, ...] = (AuthMethod.PLAIN, AuthMethod.LOGIN)
    sender_name: str = ""
    message_id_domain: str = ""
    helo_name: str = ""
    pool_size: int = 10
    max_messages: int = 500
    max_age_s: float = 300.0
    idle_check_s: float = 10.0
    connect_timeout_s: float = 30.0
    command_timeout_s: float = 60.0
    final_reply_timeout_s: float = 600.0
    call_timeout_s: float = 0.0
    greylist_s: float = GREYLIST_S
    provider: str = PROVIDER
    dkim_key: Path | None = None
    dkim_selector: str = ""
    dkim_domain: str = ""
    bounce_domain: str = ""

    def __post_init__(self) -> None:
        faults = [fault for fault in self._faults() if fault]
        if faults:
            raise ValueError("smtp: " + "; ".join(faults))

    @property
    def from_address(self) -> Address:
        """The checked sender."""
        address = parse(self.sender)
        if not isinstance(address, Address):
            raise TypeError("the sender was checked before")
        return Address(address.local, address.domain, self.sender_name or address.name)

    @property
    def id_domain(self) -> str:
        """The domain that Message-IDs end in."""
        return a_label(self.message_id_domain) if self.message_id_domain else self.from_address.domain

    @property
    def envelope_domain(self) -> str:
        """The domain of envelope senders."""
        return a_label(self.bounce_domain) if self.bounce_domain else self.from_address.domain

    @property
    def signing_domain(self) -> str:
        """The domain that mails are signed for (DKIM's ``d=``)."""
        return a_label(self.dkim_domain) if self.dkim_domain else self.from_address.domain

    @property
    def call_limit_s(self) -> float:
        """The hard limit of one call."""
        return self.call_timeout_s or (self.final_reply_timeout_s + self.connect_timeout_s + 2 * self.command_timeout_s)

    @property
    def before_dot_s(self) -> float:
        """The limit of everything before the final dot, so that the answer to it has its full time."""
        return self.call_limit_s - self.final_reply_timeout_s

    def _faults(self) -> list[str]:
        sender = parse(self.sender)
        sender_fault = "" if isinstance(sender, Address) else f"sender: {sender.remedy}"
        if isinstance(sender, Address) and sender.needs_smtputf8:
            sender_fault = "sender: needs a part before the @-sign in ASCII"
        waits = ("max_age_s", "connect_timeout_s", "command_timeout_s", "final_reply_timeout_s", "greylist_s")
        secret = bool(self.username or self.password)
        return [
            _host_fault(self.host),
            sender_fault,
            "" if 1 <= self.port <= 65535 else "port: must be between 1 and 65535",
            "" if self.tls in list(Tls) else "tls: must be starttls, implicit or none",
            "client_key: needs client_cert beside it" if self.client_key and not self.client_cert else "",
            "username: is missing, but a password is given" if self.password and not self.username else "",
            "password: is missing, but a username is given" if self.username and not self.password else "",
            (
                "tls: none would send the password in clear to another machine; use starttls or implicit"
                if secret and self.tls == Tls.NONE and not is_loopback(self.host)
                else ""
            ),
            "auth_methods: name at least one" if self.username and not self.auth_methods else "",
            "" if set(self.auth_methods) <= set(AuthMethod) else "auth_methods: only plain and login are known",
            (
                "message_id_domain: must be a domain such as example.org"
                if self.message_id_domain and not a_label(self.message_id_domain)
                else ""
            ),
            (
                "helo_name: must be a host name or an address in brackets"
                if self.helo_name and not all("!" <= char <= "~" for char in self.helo_name)
                else ""
            ),
            "dkim_selector: name the key's selector, such as 2026a" if self.dkim_key and not self.dkim_selector else "",
            (
                "dkim_selector: must be labels of letters, digits and dashes"
                if self.dkim_selector and not is_selector(self.dkim_selector)
                else ""
            ),
            *(
                f"{name}: must be a domain such as mail.example.org"
                for name in ("dkim_domain", "bounce_domain")
                if getattr(self, name) and not a_label(getattr(self, name))
            ),
            "" if 1 <= self.pool_size <= 1000 else "pool_size: must be between 1 and 1000",
            "" if self.max_messages >= 1 else "max_messages: must be at least 1",
            "" if self.idle_check_s >= 0 else "idle_check_s: must not be negative",
            *("" if getattr(self, name) > 0 else f"{name}: must be more than 0 seconds" for name in waits),
            (
                ""
                if self.call_timeout_s == 0 or self.call_timeout_s > self.final_reply_timeout_s
                else "call_timeout_s: must be more than final_reply_timeout_s, or 0"
            ),
        ]


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its very name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_fault(host: str) -> str:
    if not host:
        return "host: name the mail server"
    if not all("!" <= char <= "~" for char in host):
        return "host: must be a host name or an IP address"
    return ""
