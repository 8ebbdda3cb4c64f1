"""Clients that ask without end, from one process: python crowd.py PORT SESSIONS CONNECTIONS SECONDS KIND [SOURCE]

Each of SESSIONS clients sends polls on CONNECTIONS connections, the next one as soon as the one before is answered. Prints
how many were answered with which status, and the longest that one waited. A client in quarantine comes back under another
name.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter

import msgspec

NAMES = b"".join(b"\xa2%c%c" % (33 + n % 90, 33 + n // 90) for n in range(5_000))
KINDS = {
    "waiting": msgspec.msgpack.encode({"have": []}),  # answered when there is news
    "finished": msgspec.msgpack.encode({"have": ["x"]}),  # at once: the task is not wanted
    "names": b"\x81\xa4have\xdc" + (5_000).to_bytes(2, "big") + NAMES,  # 15 kB that are 5,000 names
    "more names": b"\x81\xa4have\xdd" + (100_000).to_bytes(4, "big") + b"\xa0" * 100_000,
    "garbage": b"\xc1",
}


class Crowd:
    def __init__(self, port: int, kind: str, source: str) -> None:
        self.port, self.body, self.source = port, KINDS[kind], source
        self.statuses: Counter[int] = Counter()
        self.longest = 0.0
        self.names = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.source, 0))

    async def ask(self, streams, path: str, body: bytes, session: str = "") -> tuple[int, bytes]:
        reader, writer = streams
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\numbel-session: {session}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        length = 0
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, await reader.readexactly(length)

    async def session(self) -> str:
        self.names += 1
        streams = await self.connect()
        try:
            register = msgspec.msgpack.encode({"version": 1, "client_id": f"crowd-{self.names}"})
            status, answer = await self.ask(streams, "/v1/register", register)
            return msgspec.msgpack.decode(answer)["session"] if status == 200 else ""
        finally:
            streams[1].close()

    async def poll(self, session: list[str]) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                streams = await self.connect()
                try:
                    while True:
                        begun = time.monotonic()
                        status, _ = await self.ask(streams, "/v1/next", self.body, session[0])
                        self.longest = max(self.longest, time.monotonic() - begun)
                        self.statuses[status] += 1
                        if status == 401:
                            used, session[0] = session[0], "none"  # one of its connections registers anew
                            if used != "none":
                                session[0] = await self.session()
                finally:
                    streams[1].close()
            await asyncio.sleep(0.01)

    async def go(self, sessions: int, connections: int, seconds: float) -> None:
        tasks = []
        for _ in range(sessions):
            session = [await self.session()]
            tasks += [asyncio.ensure_future(self.poll(session)) for _ in range(connections)]
        print("in", flush=True)
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        print(f"{dict(self.statuses)} under {self.names} names, longest {self.longest:.1f} s", flush=True)


if __name__ == "__main__":
    port, sessions, connections, seconds, kind, *source = sys.argv[1:]
    crowd = Crowd(int(port), kind, source[0] if source else "127.0.0.1")
    asyncio.run(crowd.go(int(sessions), int(connections), float(seconds)))
