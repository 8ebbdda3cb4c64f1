"""Floods a server from one process, for so many seconds: python flooder.py PORT KINDS CONNECTIONS SECONDS [CA]

Each connection sends one of KINDS (joined by commas) until the server hangs up, and begins anew. Prints how many MiB went
out, and how many connections that took.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator

BLOCK = 2**16
POST = b"POST /v1/next HTTP/1.1\r\nhost: x\r\numbel-session: 0\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


def endless(head: bytes, part: bytes) -> Iterator[bytes]:
    return itertools.chain([head], itertools.repeat(part * max(BLOCK // len(part), 1)))


KINDS = {
    "trailers": lambda: endless(CHUNKED + b"0\r\n", b"a:b\r\n"),
    "a trailer": lambda: endless(CHUNKED + b"0\r\na:", b"b"),
    "extensions": lambda: endless(CHUNKED + b"1", b";a=b"),
    "small chunks": lambda: endless(CHUNKED, b"1\r\nx\r\n"),
    "fields": lambda: endless(POST, b"a:b\r\n"),
    "a field": lambda: endless(POST + b"a:", b"b"),
    "a name": lambda: endless(POST, b"b"),
    "a path": lambda: endless(b"GET /", b"b"),
    "empty lines": lambda: endless(b"", b"\r\n"),
    "pipelined": lambda: endless(b"", b"GET / HTTP/1.1\r\n\r\n"),
    "pipelined bodies": lambda: endless(b"", POST + b"content-length: 20\r\n\r\n" + bytes(20)),
    "upgrades": lambda: endless(b"", b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"),
    "a refused body": lambda: endless(POST + b"content-length: 99999999999\r\n\r\n", b"x"),
    "expectations": lambda: endless(b"", POST + b"expect: 100-continue\r\ncontent-length: 1\r\n\r\nx"),
}


def flood(port: int, kind: str, until: float, tls: ssl.SSLContext | None, done: list[int]) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.settimeout(5)
            wrapped = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
            with wrapped as connection:
                done[1] += 1
                for part in KINDS[kind]():
                    if time.monotonic() > until:
                        break
                    connection.sendall(part)
                    done[0] += len(part)


def main(port: str, kinds: str, connections: str, seconds: str, authority: str = "") -> None:
    tls = ssl.create_default_context(cafile=authority) if authority else None
    until, done = time.monotonic() + float(seconds), [0, 0]
    threads = [
        threading.Thread(target=flood, args=(int(port), kind, until, tls, done))
        for kind, _ in zip(itertools.cycle(kinds.split(",")), range(int(connections)), strict=False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{done[0] >> 20} MiB in {done[1]} connections")


if __name__ == "__main__":
    main(*sys.argv[1:])
