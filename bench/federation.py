"""One federation of real processes on loopback, in either framework or as plain TCP, and what its rounds took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from measure import Sample
from processes import Program, Workshop, free_address, listens, workshop

__all__ = ["Federation"]

MB = 1e6


@dataclass(frozen=True)
class Federation:
    """`clients` echo `tensors` × `floats` float32 for `rounds` rounds, of which the first `skip` are not measured.

    `deadline` is in seconds, for the whole of one run.
    """

    clients: int
    floats: int
    rounds: int
    tensors: int = 1
    skip: int = 0
    evaluate: bool = False
    deadline: float = 120.0

    def run(self, python: str, framework: str, **server: object) -> Sample:
        """A run of `framework` ("umbel" or "flwr"); `server` are more keywords of `start_server`."""
        with workshop() as shop:
            until, address = time.monotonic() + self.deadline, free_address()
            options = {"address": address, "clients": self.clients, "rounds": self.rounds, "evaluate": self.evaluate}
            started = shop.start(python, "server.py", framework, name="server", more=server, **options)
            started.until(lambda: listens(address), until, "an open port")
            sizes = [self.floats] * self.tensors
            for i in range(self.clients):
                shop.start(python, "client.py", framework, name=f"client-{i}", address=address, sizes=sizes, more={})
            return self._sample(started, shop, until)

    def floor(self, python: str) -> Sample:
        """The same bytes over plain TCP; an evaluation answers with eight bytes."""
        size = 4 * self.floats * self.tensors
        exchanges = [[size, size], [size, 8]] if self.evaluate else [[size, size]]
        with workshop() as shop:
            until, address = time.monotonic() + self.deadline, free_address()
            options = {"address": address, "clients": self.clients, "rounds": self.rounds, "exchanges": exchanges}
            started = shop.start(python, "tcp.py", "server", name="server", **options)
            time.sleep(1.0)  # a look whether it listens would be taken for a client
            for i in range(self.clients):
                shop.start(python, "tcp.py", "client", name=f"client-{i}", **options)
            return self._sample(started, shop, until)

    def _sample(self, server: Program, shop: Workshop, until: float) -> Sample:
        served = server.result(until)
        took_part = [program.result(until) for program in shop.programs if program is not server]
        begins = [moment for moment in served["moments"] if moment[0] == "round"]
        _, begin, cpu_begin = begins[self.skip]
        _, end, cpu_end = served["moments"][-1]
        measured = self.rounds - self.skip
        return {
            "seconds": (end - begin) / measured,
            "server_cpu": (cpu_end - cpu_begin) / measured,
            "client_cpu": sum(map(_cpu_of_a_round, took_part)),
            "server_peak": served["peak"] / MB,
            "client_peak": max(report["peak"] for report in took_part) / MB,
        }


def _cpu_of_a_round(report: dict[str, Any]) -> float:
    """CPU seconds of a client from one training to the next; those of its whole life where it trained once."""
    moments = [cpu for _, _, cpu in report["moments"]]
    return (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 1 else report["cpu"]
