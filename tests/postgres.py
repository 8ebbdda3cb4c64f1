"""A real PostgreSQL server for tests, which can be stopped and started like one that an operator restarts."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["Postgres", "find_server"]


def find_server() -> Path | None:
    """The folder of PostgreSQL's programs; None where there is none (scripts/postgres installs it)."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class Postgres:
    """A server on a free port of loopback, with a fresh cluster in a folder of its own."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not in pytest's folder: the server may not run as root, and another user may not enter there.
        self.folder = Path(tempfile.mkdtemp(prefix="umbel-postgres-"))
        self.user = getpass.getuser()
        if os.getuid() == 0:
            self.user = "postgres"
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._call("initdb", "--pgdata", str(self.folder / "data"), "--auth", "trust", "--no-sync", "--username", "umbel")
        self.start()

    def start(self) -> None:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # the tests kill processes, not the machine
            "max_connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *options], stdout=log, stderr=log, **self._as()
            )
        until = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < until:
            if self._call("pg_isready", "--host", "127.0.0.1", "--port", str(self.port), check=False) == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL does not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, *, kill: bool = False) -> None:
        """Stops it at once, closing all connections; `kill` by SIGKILL of the postmaster, as a crash would."""
        assert self._process is not None
        if kill:
            self._process.kill()
        else:
            self._process.send_signal(2)  # SIGINT: fast shutdown
        self._process.wait(30)
        self._process = None

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._call("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "umbel", name)
        return f"postgresql://umbel@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as(self) -> dict[str, str]:
        return {"user": self.user, "group": self.user, "cwd": "/"} if os.getuid() == 0 else {"cwd": "/"}

    def _call(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [self._programs / program, *arguments], capture_output=True, text=True, check=False, **self._as()
        )
        if check and done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")
        return done.returncode
