"""Many clients that wait, in one process and on one thread: each registers and keeps a poll open until the run is over."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass

from reporting import Report, run

from umbel.runtime.transports.http.protocol import SESSION, VERSION, Next, Poll, Register, Registered, decode, encode


@dataclass
class Tally:
    polling: int = 0
    heard: int = 0  # clients that were told of the end
    errors: int = 0


async def post(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, session: str, body: bytes) -> bytes:
    reader, writer = streams
    head = f"POST {path} HTTP/1.1\r\nhost: umbel\r\n{SESSION}: {session}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    lines = answer.decode("latin-1").lower().splitlines()
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    data = await reader.readexactly(int(headers["content-length"]))
    if lines[0].split()[1] != "200":
        raise ConnectionError(f"{lines[0]}: {data!r}")
    return data


async def wait_for_the_end(address: str, name: str, tally: Tally) -> None:
    host, port = address.split(":")
    streams = await asyncio.open_connection(host, int(port))
    try:
        session = decode(await post(streams, "/v1/register", "", encode(Register(VERSION, name))), Registered).session
        tally.polling += 1
        while decode(await post(streams, "/v1/next", session, encode(Poll([]))), Next).over is None:
            pass
        tally.heard += 1
    finally:
        streams[1].close()


async def wait(options: dict) -> Tally:
    tally = Tally()
    names = [f"idle-{i}" for i in range(options["clients"])]
    waiting = [asyncio.create_task(wait_for_the_end(options["address"], name, tally)) for name in names]
    while tally.polling < len(names) and not any(task.done() for task in waiting):
        await asyncio.sleep(0.05)
    print("all are polling", flush=True)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    for error in filter(None, results):
        print(repr(error), flush=True)
        tally.errors += 1
    return tally


def main(options: dict) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report()
    tally = asyncio.run(wait(options))
    report.write(options["report"], heard=tally.heard, errors=tally.errors)


if __name__ == "__main__":
    run(main)
