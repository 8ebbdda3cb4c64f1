"""Forks the programs of a trial: python zygote.py, orders on stdin, news on stdout, both as lines of JSON.

A crash matrix starts thousands of processes, and most of each one's life would be `import`. This process has imported all
of it and has one thread, so a child is a real process after 5 ms: own memory, own sockets, own signals, own death.
"""

from __future__ import annotations

import json
import os
import runpy
import selectors
import signal
import sys
import traceback

import psycopg  # noqa: F401
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401

import umbel as fl
import umbel.runtime.stores.sql
import umbel.server.strategy
from umbel.runtime import failpoints


def main() -> None:
    fl.client.start_client, fl.server.start_server  # noqa: B018  # imported, not called
    wake, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    order = json.loads(line)
                    tell({"order": order["order"], "pid": fork(order)})
                else:
                    os.read(wake, 4096)
                    bury()


def tell(news: dict[str, object]) -> None:
    print(json.dumps(news), flush=True)


def bury() -> None:
    """Tells of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        tell({"pid": pid, "ended": os.waitstatus_to_exitcode(status)})


def fork(order: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if number is signal.SIGCHLD else signal.default_int_handler)
        os.chdir(order["folder"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.update(order["environment"])
        failpoints.arm(os.environ.get(failpoints.FAILPOINT))
        script, *arguments = order["arguments"]
        sys.argv = [script, *arguments]
        sys.path.insert(0, os.path.dirname(script))
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
