"""A History as JSON and back, exactly: floats by their shortest exact form, and marks for what JSON does not have.

A mark is an object whose only key begins with "$": {"$bytes": base64}, {"$float": "nan" | "inf" | "-inf"}, and
{"$dict": [[key, value], ...]} for a dict that JSON could not tell from a mark, or whose keys are not all text.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math

from umbel.runtime.stores.codec import plain

__all__ = ["history_fields", "json_text"]


def json_text(value: object) -> str:
    """A dataclass, or a plain value, as JSON text.

    >>> json_text({"loss": [(1, float("nan"))], "digest": b"ab"})
    '{"loss": [[1, {"$float": "nan"}]], "digest": {"$bytes": "YWI="}}'
    """
    return json.dumps(_write(value), allow_nan=False)


def history_fields(text: str | bytes) -> object:
    """What `json_text` was given, dataclasses as dicts and tuples as lists. Raises ValueError for a mark that says nothing.

    >>> history_fields('{"digest": {"$bytes": "YWI="}}')
    {'digest': b'ab'}
    """
    return _read(json.loads(text))


def _write(value: object) -> object:
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        case bytes() | bytearray():
            return {"$bytes": base64.b64encode(value).decode()}
        case list() | tuple():
            return [_write(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value) and not _like_a_mark(value):
            return {key: _write(item) for key, item in value.items()}
        case dict():
            return {"$dict": [[_write(key), _write(item)] for key, item in value.items()]}
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _write(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return _write(plain(value))


def _read(value: object) -> object:
    match value:
        case list():
            return [_read(item) for item in value]
        case {"$bytes": str(text), **rest} if not rest:
            return base64.b64decode(text, validate=True)
        case {"$float": "nan" | "inf" | "-inf" as number, **rest} if not rest:
            return float(number)
        case {"$dict": list(pairs), **rest} if not rest:
            return {_read(key): _read(item) for key, item in pairs}
        case dict() if _like_a_mark(value):
            raise ValueError(f"{json.dumps(value)[:100]} is a mark that says nothing")
        case dict():
            return {key: _read(item) for key, item in value.items()}
        case _:
            return value


def _like_a_mark(value: dict[object, object]) -> bool:
    return len(value) == 1 and all(isinstance(key, str) and key.startswith("$") for key in value)
