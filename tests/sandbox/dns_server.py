"""A name server that answers questions for TXT records by UDP, in DNS' own wire format."""

import asyncio
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

LOOPBACK = "127.0.0.1"


class DnsServer:
    """A name server on the loopback. ``texts``: the TXT records by name, without a dot at the end; a name that is not
    there does not exist. ``silent``: it does not answer at all."""

    def __init__(self, texts: dict[str, list[str]] | None = None) -> None:
        self.texts = texts or {}
        self.silent = False
        self.asked: list[str] = []
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Listen."""
        made = asyncio.get_running_loop().create_datagram_endpoint(lambda: _Answering(self), local_addr=(LOOPBACK, 0))
        self._transport, _ = await made
        self.port = self._transport.get_extra_info("sockname")[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    @property
    def address(self) -> str:
        """Where it listens, as ``probe --dns`` takes it."""
        return f"{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def answer(self, data: bytes) -> bytes | None:
        """Return the answer to a question, None for silence."""
        question = dns.message.from_wire(data)
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.AA | dns.flags.RA
        name = question.question[0].name
        self.asked.append(name.to_text(omit_final_dot=True))
        texts = self.texts.get(self.asked[-1])
        if texts is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for text in texts or ():
            # A string holds 255 bytes; a longer text is several.
            strings = " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", strings))
        return None if self.silent else reply.to_wire()


class _Answering(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = self._server.answer(data)
        if reply is not None:
            self._transport.sendto(reply, addr)
