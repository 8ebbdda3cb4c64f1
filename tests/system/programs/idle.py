"""Many clients that only wait, by hand, from one process: python idle.py PORT NUMBER. Polls until it is killed."""

import socket
import sys
import threading

import msgspec


def request(path, message, session=""):
    body = msgspec.msgpack.encode(message)
    head = f"POST {path} HTTP/1.1\r\nhost: umbel\r\numbel-session: {session}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def receive(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return msgspec.msgpack.decode(body)


def main(port, number):
    connections = []
    for index in range(number):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request("/v1/register", {"version": 1, "client_id": f"idle-{index}"}))
        session = receive(connection)["session"]
        connection.sendall(request("/v1/next", {"have": []}, session))
        connections.append(connection)
    print("all poll", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
