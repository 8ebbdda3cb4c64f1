"""Real reverse proxies for tests, configured as docs/behind-a-proxy.md says, stopped and started as an operator does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["HAProxy", "Nginx", "configuration", "find_program"]

PAGE = Path(__file__).parent.parent / "docs" / "behind-a-proxy.md"


def find_program(name: str) -> str | None:
    """The path of nginx or haproxy; None where there is none (scripts/proxies installs them)."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")


def configuration(title: str, changes: Mapping[str, str]) -> str:
    """The block of the page under this heading, with ports and files of the test's own in place of the page's."""
    section = PAGE.read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    text = re.search(r"```\w*\n(.*?)```", section, re.DOTALL)[1]
    for old, new in changes.items():
        assert old in text, f"the page's configuration under {title!r} has no {old!r}"
        text = text.replace(old, new)
    return text


class _Proxy:
    """A process in the foreground, with its files in a folder of its own."""

    def __init__(self, folder: Path, port: int, text: str) -> None:
        folder.mkdir()
        self.folder, self.port = folder, port
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "config").write_text(self.whole(text))
        self.start()

    def whole(self, text: str) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.command()[0]} does not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Ends it at once, with every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        self._process = None

    def change(self, *changes: tuple[str, str]) -> None:
        """Makes changes to its configuration and starts it again."""
        path = self.folder / "config"
        text = path.read_text()
        for old, new in changes:
            assert old in text, f"the configuration has no {old!r}:\n{text}"
            text = text.replace(old, new)
        path.write_text(text)
        self.stop()
        self.start()

    def close(self) -> None:
        if self._process is not None:
            self.stop()


class Nginx(_Proxy):
    """nginx with `text` in its `http` block, and otherwise as it is installed."""

    def whole(self, text: str) -> str:
        # As root, it would hand its folders to another user, who may not enter pytest's.
        user = "user root;\n" if os.getuid() == 0 else ""
        places = "".join(
            f"    {kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/pid;\nerror_log stderr notice;\n"
            f"events {{}}\nhttp {{\n    access_log off;\n{places}{text}}}\n"
        )

    def command(self) -> list[str]:
        return [find_program("nginx") or "nginx", "-p", str(self.folder), "-c", str(self.folder / "config")]


class HAProxy(_Proxy):
    """HAProxy with this configuration."""

    def whole(self, text: str) -> str:
        return text

    def command(self) -> list[str]:
        return [find_program("haproxy") or "haproxy", "-db", "-f", str(self.folder / "config")]
