"""docs/openapi.yaml describes the routes and messages that the server has, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import yaml

from umbel.rounds.messages import Kind, Verdict
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http import protocol
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.server import HttpTransport

DESCRIPTION = yaml.safe_load((Path(__file__).parent.parent / "docs" / "openapi.yaml").read_text())
SCHEMAS = DESCRIPTION["components"]["schemas"]


def test_every_route_is_described_and_no_other(tmp_path):
    transport = HttpTransport(Listener("127.0.0.1:0"), "run", MemoryStore(FileContents(tmp_path)))
    try:
        served = {(re.sub(r":\w+}", "}", path), method) for path, method, _, _ in transport.routes()}
    finally:
        transport.close("", over=False)
    described = {(path, method.upper()) for path, methods in DESCRIPTION["paths"].items() for method in methods}
    assert described == served


def test_every_message_has_its_fields():
    for name, schema in SCHEMAS.items():
        fields = msgspec.structs.fields(getattr(protocol, name))
        assert set(schema["properties"]) == {field.encode_name for field in fields}, name
        assert set(schema.get("required", [])) == {field.encode_name for field in fields if field.required}, name
        strict = getattr(protocol, name).__struct_config__.forbid_unknown_fields
        assert schema.get("additionalProperties", True) is not strict, name


def test_every_message_is_described():
    structs = {name for name in protocol.__all__ if isinstance(getattr(protocol, name), type(msgspec.Struct))}
    assert structs == set(SCHEMAS)


def test_the_words_of_the_protocol_are_all_there():
    assert set(SCHEMAS["TaskHead"]["properties"]["kind"]["enum"]) == set(Kind)
    verdicts = {*Verdict, protocol.GO, protocol.WORKING}
    assert set(SCHEMAS["Outcome"]["properties"]["verdict"]["enum"]) == verdicts
    assert SCHEMAS["Register"]["properties"]["version"]["enum"] == [protocol.VERSION]
