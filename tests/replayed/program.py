"""One process of a recorded run, which may be killed: `python program.py CASE PART ARGUMENT`.

- `simulate BACKEND`: all of it
- `serve PORT`: its server
- `take-part PORT NAME`: one of its clients

`simulate` and `serve` leave `record.json`. Where the case dies, they kill themselves once, and are to be started again.
"""

import json
import os
import signal
import sys
from pathlib import Path

from cases import CASES
from record import left_by, simulate

import umbel as fl


def die_once(case):
    def dying(number):
        if number == case.dies and case.dies and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return dying


def serve(case, port):
    history = fl.server.start_server(
        server_address=f"127.0.0.1:{port}",
        config=fl.server.ServerConfig(num_rounds=case.rounds, round_timeout=case.timeout),
        strategy=case.made(dying=die_once(case), waits_for_all=True),
    )
    return left_by(case, history, Path())


def main(name, part, *arguments):
    case = CASES[name]
    if part == "take-part":
        port, client = arguments
        fl.client.start_client(server_address=f"127.0.0.1:{port}", client_fn=case.client_fn, client_id=client)
        return
    if part == "serve":
        left = serve(case, *arguments)
    else:
        left = simulate(case, Path("kept"), backend=arguments[0], dying=die_once(case))
    Path("record.json").write_text(json.dumps(left))


if __name__ == "__main__":
    main(*sys.argv[1:])
