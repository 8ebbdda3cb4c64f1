"""schemathesis on the HTTP surface of a real server: python tests/fuzz/surface.py SECONDS

Requests follow docs/openapi.yaml, and break it. Whatever comes, the answer is one that the description has, and the server
lives. Two honest clients are in the middle of a round, and their model is the one that it should be.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import DeserializationContext, GenerationMode, SerializationContext
from schemathesis.checks import content_type_conformance, response_schema_conformance, status_code_conformance

HONEST = ["an-honest-client", "another-honest-client"]  # names that nobody makes up by chance
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "system"), str(ROOT / "tests" / "attacks" / "http")]

from by_hand import Stranger, address  # noqa: E402
from federations import Federation, in_process  # noqa: E402


def _binary(value: object) -> object:
    """`format: byte` is base64 in JSON, and bin in MessagePack; half of what looks like it is sent so."""
    if isinstance(value, dict):
        return {key: _binary(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_binary(part) for part in value]
    if isinstance(value, str) and len(value) % 4 == 0:
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            return value
    return value


@schemathesis.serializer("application/msgpack")
def to_msgpack(_: SerializationContext, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return msgspec.msgpack.encode(_binary(value))
    except (OverflowError, UnicodeEncodeError, TypeError):  # numbers and texts that MessagePack does not have
        return repr(value).encode("utf-8", "backslashreplace")


@schemathesis.deserializer("application/msgpack")
def from_msgpack(_: DeserializationContext, response: schemathesis.Response) -> object:
    return msgspec.to_builtins(msgspec.msgpack.decode(response.content))


def main(seconds: float) -> None:
    description = schemathesis.openapi.from_path(ROOT / "docs" / "openapi.yaml")
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(Path(folder) / "federation")
        try:
            server = federation.server(rounds=1, clients=3, central=False, keywords={"fraction_evaluate": 0.0})
            server.says("Waiting for clients")
            federation.clients(*HONEST, hold=["fit.1"])
            attacker = Attacker(federation.port)
            attacker.stranger.take_task()
            operations = [result.ok() for result in description.get_all_operations()]
            for operation in operations:
                for mode in (GenerationMode.NEGATIVE, GenerationMode.POSITIVE):
                    attacker.attack(operation, mode, seconds / len(operations) / 2)
                    assert server.alive, server.text
            attacker.stranger.leave()
            for name in HONEST:
                federation.open(name, "fit.1")
            assert server.ends(60) == 0, server.text
            assert "Traceback" not in server.text, server.text
            assert "Exception" not in server.text, server.text
            if not attacker.accepted:
                assert federation.model() == in_process(Path(folder), HONEST, rounds=1), federation.words()
            print(f"schemathesis: {attacker.sent} requests, {dict(sorted(attacker.statuses.items()))}")
        finally:
            federation.end()


class TimeIsUp(Exception):
    """It was not the server's fault."""


class Attacker:
    """Sends what schemathesis makes up, under a session that is renewed where the server has had enough of it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.sent = 0
        self.accepted = False
        self.statuses: Counter[int] = Counter()
        self.renew()

    def renew(self) -> None:
        self.stranger = Stranger(self.port, f"f{self.sent}", address(1 + self.sent % 200))
        self.stranger.register()

    def attack(self, operation: schemathesis.APIOperation, mode: GenerationMode, seconds: float) -> None:
        """One operation for so long, with requests that follow its description, or break it."""
        until = time.monotonic() + seconds

        @settings(
            max_examples=100_000,
            deadline=None,
            database=None,
            verbosity=Verbosity.quiet,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode), st.integers(0, 3), st.booleans(), st.booleans())
        def send(case: schemathesis.Case, known: int, owed: bool, text: bool) -> None:
            if time.monotonic() > until:
                raise TimeIsUp
            self.send(case, known=known > 0, owed=owed, text=text)

        with contextlib.suppress(TimeIsUp, Unsatisfiable):  # there is nothing in GET / that could be broken
            send()

    def send(self, case: schemathesis.Case, *, known: bool, owed: bool, text: bool) -> None:
        headers = {"accept": "*/*" if text else "application/msgpack"}
        if known:
            headers["umbel-session"] = self.stranger.session
        if owed and self.stranger.task and "task" in (case.path_parameters or {}):
            case.path_parameters["task"] = self.stranger.task
        self.sent += 1
        try:
            response = case.call(base_url=self.url, headers=headers, timeout=1.0 if case.path == "/v1/next" else 30.0)
        except requests.exceptions.ReadTimeout:
            assert case.path == "/v1/next", f"no answer to {case.path}"  # a poll without news may wait
            return
        except (requests.exceptions.InvalidHeader, UnicodeError):
            return  # it cannot even be sent
        self.statuses[response.status_code] += 1
        assert response.status_code != 500, response.content
        case.validate_response(response, checks=CHECKS)
        self.accepted |= response.status_code == 200 and b"accepted" in response.content
        if known and response.status_code in (401, 204):
            self.renew()


if __name__ == "__main__":
    main(float(sys.argv[1]))
