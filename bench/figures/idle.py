"""A thousand clients that wait: what each costs the server, and that two others train meanwhile."""

from __future__ import annotations

import http.client
import time

import psutil
from measure import Row, Sample, Settings, alternating, at_most
from processes import Program, Workshop, free_address, workshop

DEADLINE = 120.0


def measure(settings: Settings) -> list[Row]:
    clients = settings.scaled(1000)
    taken = alternating(min(settings.repeats, 2), umbel=lambda: _run(settings.python, clients))["umbel"]
    return [
        Row(f"errors, {clients} clients", "", taken["errors"], targets=(at_most(0, ""),)),
        Row("threads of the server more than before", "", taken["threads"], targets=(at_most(0, ""),)),
        Row("memory of the server per client", "kB", taken["memory"], targets=(at_most(200, "kB"),)),
        Row("a round of two others", "s", taken["round"], targets=(at_most(5, "s"),)),
        Row("from the start of these two to everybody's end", "s", taken["all"]),
    ]


def _run(python: str, clients: int) -> Sample:
    with workshop() as shop:
        until, address = time.monotonic() + DEADLINE, free_address()
        server = shop.start(python, "idle_server.py", name="server", address=address, clients=clients + 2)
        server.until(lambda: _answers(address), until, "an answer to GET /")
        process = psutil.Process(server.process.pid)
        threads, memory = process.num_threads(), process.memory_info().rss

        idle = shop.start(python, "idle.py", name="idle", address=address, clients=clients)
        idle.until(lambda: "all are polling" in idle.log.read_text(), until, "the last poll")
        time.sleep(2.0)  # polls stay open, nothing else happens
        threads_then, memory_then = process.num_threads(), process.memory_info().rss

        begin = time.monotonic()
        workers = [_worker(shop, python, address, f"worker-{i}") for i in range(2)]
        (_, round_begin, _), *_, (_, round_end, _) = server.result(until)["moments"]
        tally = idle.result(until)
        for worker in workers:
            worker.result(until)
        return {
            "errors": tally["errors"] + clients - tally["heard"],
            "threads": threads_then - threads,
            "memory": (memory_then - memory) / clients / 1000,
            "round": round_end - round_begin,
            "all": time.monotonic() - begin,
        }


def _answers(address: str) -> bool:
    """Whether the server serves: it listens a little earlier, while its threads are not all there."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _worker(shop: Workshop, python: str, address: str, name: str) -> Program:
    more = {"client_id": name}
    return shop.start(python, "client.py", "umbel", name=name, address=address, sizes=[1000], more=more)
