"""The floor under a round: the same bytes over plain TCP, with nothing around them: `tcp.py server|client OPTIONS`.

One thread per connection, blocking sockets, buffers that exist before the clock starts. In a round every client gets `down`
bytes and answers with `up` bytes, for each `[down, up]` of the exchanges, all clients at once.
"""

from __future__ import annotations

import socket
import sys
import threading

from reporting import Report, run


def touched(size: int) -> memoryview:
    """A buffer whose pages are there."""
    return memoryview(bytearray(b"\1") * size)


def receive(connection: socket.socket, into: memoryview) -> None:
    while into:
        got = connection.recv_into(into)
        if not got:
            raise ConnectionError("the other end has closed the connection")
        into = into[got:]


def serve(options: dict) -> None:
    exchanges, clients = options["exchanges"], options["clients"]
    model = touched(max(down for down, _ in exchanges))
    together = threading.Barrier(clients + 1)

    def attend(connection: socket.socket, upload: memoryview) -> None:
        for _ in range(options["rounds"]):
            for down, up in exchanges:
                together.wait()
                connection.sendall(model[:down])
                receive(connection, upload[:up])
                together.wait()

    host, port = options["address"].split(":")
    with socket.create_server((host, int(port)), backlog=clients) as listening:
        for _ in range(clients):
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upload = touched(max(up for _, up in exchanges))
            threading.Thread(target=attend, args=(connection, upload), daemon=True).start()
    report = Report()
    for _ in range(options["rounds"]):
        report.mark("round")
        for _ in exchanges:
            together.wait()
            together.wait()
    report.mark("end")
    report.write(options["report"])


def take_part(options: dict) -> None:
    report = Report()
    buffer = touched(max(max(exchange) for exchange in options["exchanges"]))
    host, port = options["address"].split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(options["rounds"]):
            for position, (down, up) in enumerate(options["exchanges"]):
                receive(connection, buffer[:down])
                if position == 0:
                    report.mark("fit")
                connection.sendall(buffer[:up])
    report.write(options["report"])


if __name__ == "__main__":
    run(serve if sys.argv[1] == "server" else take_part)
