"""Umbel's protocol spoken by hand, and as wrongly as one likes."""

from __future__ import annotations

import socket
import sys
import zlib
from dataclasses import dataclass

import msgspec
import numpy as np
import urllib3

from umbel.params import Params
from umbel.wire import encode_header

__all__ = ["Answer", "Stranger", "address", "raw"]


def address(number: int) -> str:
    """An address of this machine for each stranger: 127.0.0.0/8 is all of it, on Linux; elsewhere they share one."""
    return f"127.1.{number >> 8}.{number & 255}" if sys.platform == "linux" else "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """A status, 0 for none, and what the message says: a verdict (or nothing) with its reason."""

    status: int
    verdict: str = ""
    why: str = ""
    body: object = None


class Stranger:
    """A client that has a name, a session, perhaps a task, and no manners."""

    def __init__(self, port: int, name: str, source: str = "127.0.0.1") -> None:
        self.port, self.name, self.source = port, name, source
        self.session = ""
        self.task = ""
        self.params: Params | None = None
        self._connections: list[socket.socket] = []
        self._pool = urllib3.HTTPConnectionPool(
            "127.0.0.1", port, maxsize=1, timeout=20.0, retries=False, source_address=(source, 0)
        )

    def request(self, method: str, path: str, body: object = b"", **headers: str) -> Answer:
        """Sends bytes as they are, anything else as MessagePack."""
        data = body if isinstance(body, bytes) or hasattr(body, "__next__") else msgspec.msgpack.encode(body)
        headers = {"umbel-session": self.session} | {key.replace("_", "-"): value for key, value in headers.items()}
        try:
            response = self._pool.request(method, path, body=data, headers=headers, redirect=False)
        except urllib3.exceptions.ProtocolError:  # it hung up
            return Answer(0)
        try:
            message = msgspec.msgpack.decode(response.data)
        except msgspec.DecodeError:
            message = response.data
        if not isinstance(message, dict):
            return Answer(response.status, body=message)
        return Answer(response.status, message.get("verdict", ""), message.get("why", ""), message)

    def register(self) -> None:
        answer = self.request("POST", "/v1/register", {"version": 1, "client_id": self.name})
        assert answer.status == 200, answer
        self.session = answer.body["session"]

    def take_task(self) -> None:
        """Polls until there is a task; keeps its name and its model."""
        answer = self.request("POST", "/v1/next", {"have": []})
        (task,) = answer.body["tasks"]
        self.task = task["id"]
        self.params = Params.from_bytes(bytearray(task["content"]["data"]))

    def offer(self, **changes: object) -> dict[str, object]:
        """A correct offer of the model as it came, with changes."""
        data = self.params.buffer.tobytes()
        good = {
            "num_examples": 10,
            "loss": 0.0,
            "metrics": {"first": 0.5},
            "header": encode_header(self.params.schema),
            "size": len(data),
            "data": data,
            "crc32": zlib.crc32(data),
            "failure": None,
        }
        return good | changes

    def offer_of(self, arrays: list[np.ndarray] | dict[str, np.ndarray], **changes: object) -> dict[str, object]:
        """A correct offer of other arrays, in position or by name."""
        params = Params.of(arrays)
        data = params.buffer.tobytes()
        offered = {"header": encode_header(params.schema), "size": len(data), "data": data, "crc32": zlib.crc32(data)}
        return self.offer(**offered | changes)

    def reply(self, offer: object) -> Answer:
        return self.request("POST", f"/v1/tasks/{self.task}/reply", offer)

    def put(self, offset: object, data: object, **headers: str) -> Answer:
        return self.request("PUT", f"/v1/tasks/{self.task}/data/{offset}", data, **headers)

    def commit(self, crc32: object) -> Answer:
        return self.request("POST", f"/v1/tasks/{self.task}/commit", {"crc32": crc32})

    def give_up(self) -> None:
        """Reports a failure, so that the round need not wait; it may have an answer already."""
        answer = self.reply({"failure": {"kind": "raised", "text": "an attack is over"}})
        assert answer.status == 200, answer

    def leave(self) -> None:
        self.request("POST", "/v1/leave")
        self.close()

    def connection(self) -> socket.socket:
        """A connection of its own, to do with as one likes."""
        self._connections.append(socket.create_connection(("127.0.0.1", self.port), 10, (self.source, 0)))
        return self._connections[-1]

    def close(self) -> None:
        self._pool.close()
        for connection in self._connections:
            connection.close()


def raw(port: int, data: bytes, *, pieces: int = 1, source: str = "127.0.0.1") -> Answer:
    """Sends bytes on a connection of their own and closes its sending side; the status of the answer, 0 for none."""
    with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as connection:
        try:
            size = max(-(-len(data) // pieces), 1)
            for begin in range(0, len(data), size):
                connection.sendall(data[begin : begin + size])
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while block := connection.recv(65536):
                answer += block
        except ConnectionError:
            return Answer(0)
    status = answer.split(b" ", 2)[1] if answer.startswith(b"HTTP/1.1 ") else b"0"
    return Answer(int(status), body=answer)
