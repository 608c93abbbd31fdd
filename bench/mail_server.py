"""A mail server that takes every mail after a given time and keeps none: ``python -m bench.mail_server PORT MS``."""

import asyncio
import signal
import sys


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float) -> None:
    def say(line: str) -> None:
        writer.write(line.encode() + b"\r\n")

    say("220 bench")
    try:
        while words := (await reader.readline()).strip().upper():
            match words[:4]:
                case b"EHLO":
                    writer.write(b"250-bench\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 10000000\r\n")
                case b"DATA":
                    say("354 go on")
                    await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(pause_s)
                    say("250 2.0.0 taken")
                case b"QUIT":
                    say("221 bye")
                    break
                case _:
                    say("250 2.0.0 ok")
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(port: int, pause_s: float) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(
        lambda reader, writer: _serve_one(reader, writer, pause_s), "127.0.0.1", port, limit=1 << 22
    )
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) / 1000))
