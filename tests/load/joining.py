"""Many clients that join and wait, from one process and by hand: `python joining.py PORT NUMBER [AT ONCE]`.

Prints how many seconds each tenth of them has taken, and then holds their polls until it is killed. They come from many
addresses of this machine, as clients do: a server does not let one address have all of its connections.
"""

import asyncio
import sys
import time
from itertools import pairwise

import msgspec

PER_ADDRESS = 250


class Member(asyncio.Protocol):
    """Registers, polls, and tells `joined` when the server has answered the registration."""

    def __init__(self, name, joined):
        self.name, self.joined, self.data = name, joined, b""

    def connection_made(self, transport):
        self.transport = transport
        self.send("/v1/register", {"version": 1, "client_id": self.name})

    def send(self, path, message, session=""):
        body = msgspec.msgpack.encode(message)
        head = f"POST {path} HTTP/1.1\r\nhost: umbel\r\numbel-session: {session}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def data_received(self, data):
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0")
        if self.joined.done() or not end or len(body) < int(length.split(b":")[1]):
            return
        assert head.startswith(b"HTTP/1.1 200"), self.data
        self.send("/v1/next", {"have": []}, msgspec.msgpack.decode(body)["session"])
        self.joined.set_result(None)

    def connection_lost(self, error):
        if not self.joined.done():
            self.joined.set_exception(error or ConnectionError(f"{self.name}: closed before it had joined"))


async def join(port, number):
    loop = asyncio.get_running_loop()
    joined = loop.create_future()
    address = f"127.0.{number // PER_ADDRESS // 200 + 1}.{number // PER_ADDRESS % 200 + 1}"
    connection, _ = await loop.create_connection(
        lambda: Member(f"client-{number * 7919 % 1_000_003}", joined), "127.0.0.1", port, local_addr=(address, 0)
    )
    await joined
    return connection


async def main(port, number, at_once=32):
    numbers, kept, marks = iter(range(number)), [], [time.monotonic()]

    async def some():
        for each in numbers:
            kept.append(await join(port, each))
            if len(kept) % max(number // 10, 1) == 0:
                marks.append(time.monotonic())

    await asyncio.gather(*(some() for _ in range(at_once)))
    tenths = [later - earlier for earlier, later in pairwise(marks)]
    print("tenths", " ".join(f"{seconds:.3f}" for seconds in tenths), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
