"""Connections that look at where they lead: the rule of ``egress_rules``, asked when a socket is made."""

import socket
from collections.abc import Callable
from typing import Any

from channels.egress_rules import Egress


class NotAllowedError(OSError):
    """A connection would lead to where it must not. It says the same of every address: they are tried one by one."""

    def __init__(self) -> None:
        super().__init__("the address is not one that may be called")


def guard(egress: Egress) -> Callable[[Any], socket.socket]:
    """Return a maker of sockets that refuses every address that may not be called.

    It is given each address that a name was resolved to, and every address that was no name, right before the
    connection: so neither another notation nor a name that changes its mind gets past it.
    """

    def made(found: Any) -> socket.socket:
        family, kind, proto, _, where = found
        if not egress.allows(str(where[0]), int(where[1])):
            raise NotAllowedError
        return socket.socket(family=family, type=kind, proto=proto)

    return made
