"""Hostile clients against a real server with two honest ones: each hears why it is refused, and the model never knew it.

Every case of the tables below is a stranger of its own in one and the same round, so all of them take a second together.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
import zlib

import msgspec
import numpy as np
import psutil
import pytest
from by_hand import raw
from federations import wait_for
from test_hostile_headers import HOSTILE

pytestmark = pytest.mark.system

TERABYTE = 2**40


def arrays(stranger):
    return [array.copy() for array in stranger.params.arrays()]


def with_value(position, value):
    """An offer in which one number is another one."""

    def offer(stranger):
        changed = arrays(stranger)
        changed[position].reshape(-1)[-1:] = value
        return stranger.offer_of(changed)

    return offer


def with_array(position, make):
    def offer(stranger):
        changed = arrays(stranger)
        changed[position] = make(changed[position])
        return stranger.offer_of(changed)

    return offer


def with_arrays(change):
    return lambda stranger: stranger.offer_of(change(arrays(stranger)))


def changed(**changes):
    return lambda stranger: stranger.offer(**changes)


def with_header(change):
    """An offer whose header says something else: `change` gets its table and returns JSON text, or a table."""

    def offer(stranger):
        good = stranger.offer()
        table = change(json.loads(good["header"][8:]))
        text = table if isinstance(table, bytes) else json.dumps(table).encode()
        return good | {"header": len(text).to_bytes(8, "little") + text}

    return offer


def entry(**changes):
    """The header's first tensor is described otherwise."""

    def change(table):
        name = next(iter(table))
        table[name] = {key: value for key, value in (table[name] | changes).items() if value is not None}
        return table

    return with_header(change)


def named(name):
    return with_header(lambda table: {name if key == "0" else key: value for key, value in table.items()})


def _announced(shape, size):
    text = json.dumps({"0": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return {"header": len(text).to_bytes(8, "little") + text, "size": size, "data": None}


def announced(shape, size):
    return changed(**_announced(shape, size))


# One offer each: the verdict, and words from the reason. A refused message (400) leaves the task open.
OFFERS = {
    # values
    "NaN in float32": (with_value(0, math.nan), "rejected", "array '0' contains nan; only finite values travel"),
    "inf in float32": (with_value(0, math.inf), "rejected", "contains inf"),
    "-inf in float64": (with_value(1, -math.inf), "rejected", "array '1' contains -inf"),
    "NaN in float16": (with_value(3, math.nan), "rejected", "array '3' contains nan"),
    "a sum that would overflow": (with_value(1, 1e300), "rejected", "contains 1e+300"),
    "float64 beyond float32": (with_array(0, lambda a: np.full_like(a, 1e39, "f8")), "rejected", "dtype there ends at"),
    "uint64 beyond int64": (with_array(2, lambda a: np.full_like(a, 2**63, "u8")), "rejected", "dtype there ends at"),
    "NaN where integers are": (with_array(2, lambda a: np.full_like(a, math.nan, "f4")), "rejected", "contains nan"),
    # shapes, names, numbers
    "transposed": (with_array(1, lambda a: a.T.copy()), "rejected", "with shape (3, 4), the model has (4, 3)"),
    "broadcastable": (with_array(1, lambda a: a[:1]), "rejected", "with shape (1, 3), the model has (4, 3)"),
    "a scalar": (with_array(1, lambda a: np.float64(1)), "rejected", "with shape (), the model has (4, 3)"),
    "flat": (with_array(1, lambda a: a.reshape(-1)), "rejected", "with shape (12,), the model has (4, 3)"),
    "one array too few": (with_arrays(lambda a: a[:-1]), "rejected", "returned 3 arrays, the model has 4 (missing '3'"),
    "one array too many": (with_arrays(lambda a: [*a, a[0]]), "rejected", "the model has 4 (unexpected '4'"),
    "no array": (with_arrays(lambda a: []), "rejected", "returned 0 arrays"),
    "no header": (changed(header=b"", size=0, data=None), "rejected", "returned 0 arrays"),
    "two arrays swapped": (with_arrays(lambda a: [a[1], a[0], *a[2:]]), "rejected", "array 0 with shape (4, 3)"),
    "another name": (named("weights"), "rejected", "('weights', '1', '2' and 1 more), and the model's arrays have no names"),
    "a path for a name": (named("../../../etc/passwd"), "rejected", "the model's arrays have no names"),
    "half a character for a name": (named("\ud800"), "rejected", "ud800"),
    "a name of a megabyte": (named("n" * 2**20), "rejected", "the model's arrays have no names"),
    "names in another order": (
        with_arrays(lambda a: {str(n): a[n] for n in (3, 2, 1, 0)}),
        "rejected",
        "returned '3' as array 0, where the model has '0'",
    ),
    # dtypes
    "objects": (entry(dtype="O"), "rejected", "unknown dtype 'O'"),
    "strings": (entry(dtype="<U8"), "rejected", "unknown dtype '<U8'"),
    "complex numbers": (entry(dtype="C64"), "rejected", "unknown dtype 'C64'"),
    "a number for a dtype": (entry(dtype=7), "rejected", "expected dtype, shape, data_offsets"),
    # headers
    "a header of garbage": (changed(header=b"\x00\xff" * 50), "rejected", "the header claims"),
    "a longer header than it says": (lambda s: s.offer(header=s.offer()["header"] + b" "), "rejected", "the header claims"),
    "a header of three bytes": (changed(header=b"abc"), "rejected", "a header needs at least 8 bytes"),
    "a header that is no JSON": (with_header(lambda _: b"{'0': 1}"), "rejected", "the header is not JSON"),
    "a header that is a list": (with_header(lambda _: b"[]"), "rejected", "the header is a JSON list"),
    "a header nested 100,000 deep": (with_header(lambda _: b"[" * 100_000), "rejected", "the header is not JSON"),
    "a number of 10,000 digits": (with_header(lambda _: b'{"0":' + b"9" * 10_000 + b"}"), "rejected", "the header"),
    "a name twice": (with_header(lambda _: b'{"0":1,"0":2}'), "rejected", "the header names '0' twice"),
    "NaN in a shape": (with_header(lambda _: b'{"0":{"dtype":"F32","shape":[NaN]}}'), "rejected", "the header contains NaN"),
    "a negative shape": (entry(shape=[-1]), "rejected", "impossible shape"),
    "a shape of 2^70": (entry(shape=[2**70]), "rejected", "impossible shape"),
    "33 dimensions": (entry(shape=[1] * 33), "rejected", "33 dimensions"),
    "dimensions whose product overflows": (entry(shape=[2**61] * 30), "rejected", "impossible shape"),
    "offsets with a hole": (entry(data_offsets=[8, 4008]), "rejected", "data lie without holes"),
    "offsets outside": (entry(data_offsets=[-8, 10**15]), "rejected", "data lie without holes"),
    "no offsets": (entry(data_offsets=None), "rejected", "expected dtype, shape, data_offsets"),
    "50,000 tensors": (
        with_header(lambda _: {str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}),
        "rejected",
        "",
    ),
    "1 TB announced": (announced([TERABYTE // 4], TERABYTE), "rejected", ""),
    # sizes
    "a size that is not the header's": (changed(size=8), "rejected", "the offer is of 8 bytes, its header describes"),
    "a negative size": (changed(size=-1), "rejected", "the offer is of -1 bytes"),
    "less data than offered": (lambda s: s.offer(data=s.offer()["data"][:-1]), "rejected", "were offered"),
    "more data than offered": (lambda s: s.offer(data=s.offer()["data"] + b"\0"), "rejected", "were offered"),
    "empty data": (changed(data=b""), "rejected", "0 bytes of data came"),
    "a wrong crc": (changed(crc32=1), "go", "the data was damaged on its way"),
    "a negative crc": (changed(crc32=-1), "go", "the data was damaged on its way"),
    # numbers of examples
    "-1 examples": (changed(num_examples=-1), "rejected", "num_examples=-1; it must be from 0 to 10,000,000"),
    "10^12 examples": (changed(num_examples=10**12), "rejected", "num_examples=1000000000000"),
    "2^64 - 1 examples": (changed(num_examples=2**64 - 1), "rejected", "num_examples=18446744073709551615"),
    "1.5 examples": (changed(num_examples=1.5), 400, "not a Offer message"),
    "NaN examples": (changed(num_examples=math.nan), 400, "not a Offer message"),
    "'10' examples": (changed(num_examples="10"), 400, "not a Offer message"),
    "nil examples": (changed(num_examples=None), 400, "not a Offer message"),
    # loss and metrics
    "a loss in words": (changed(loss="low"), 400, "not a Offer message"),
    "a list for a metric": (changed(metrics={"m": [1.0]}), "rejected", "metrics that cannot travel: 'm' is of type list"),
    "nothing for a metric": (changed(metrics={"m": None}), "rejected", "'m' is of type NoneType"),
    "a nested metric": (changed(metrics={"m": {"n": 1}}), "rejected", "'m' is of type dict"),
    "a time for a metric": (changed(metrics={"m": msgspec.msgpack.Ext(-1, bytes(4))}), "rejected", "'m' is of type"),
    "an extension for a metric": (changed(metrics={"m": msgspec.msgpack.Ext(5, b"x" * 100)}), "rejected", "'m' is of type"),
    "a metric nested 200 deep": (changed(metrics={"m": json.loads("[" * 200 + "]" * 200)}), "rejected", "of type list"),
    "metrics in a list": (changed(metrics=[1, 2]), 400, "not a Offer message"),
    "metrics by number": (changed(metrics={1: 2}), 400, "not a Offer message"),
    "no metrics": (changed(metrics=None), 400, "not a Offer message"),
    # messages
    "a field that does not exist": (lambda s: s.offer() | {"admin": True}, 400, "not a Offer message"),
    "data as text": (changed(data="abc"), 400, "not a Offer message"),
    "an empty message": (lambda s: b"", 400, "not a Offer message"),
    "a message of garbage": (lambda s: b"\xc1" * 99, 400, "not a Offer message"),
    "half a message": (lambda s: msgspec.msgpack.encode(s.offer())[:-50], 400, "not a Offer message"),
    "a message and a half": (lambda s: msgspec.msgpack.encode(s.offer()) + b"\x80", 400, "not a Offer message"),
    "a list for a message": (lambda s: [1, 2, 3], 400, "not a Offer message"),
    "nested 100,000 deep": (lambda s: b"\x91" * 100_000, 400, "not a Offer message"),
    "an array said to have 2^32 - 1 items": (lambda s: b"\xdd\xff\xff\xff\xff", 400, "not a Offer message"),
    "bytes said to be 4 GB": (lambda s: b"\x81\xa6header\xc6\xff\xff\xff\xff", 400, "not a Offer message"),
    "a message of 40 MB": (lambda s: bytes(40 * 2**20), 413, "the message is longer than"),
    "a failure that is a word": (lambda s: {"failure": "yes"}, 400, "not a Offer message"),
    "a failure of a kind of its own": (lambda s: {"failure": {"kind": "left", "text": "t"}}, "noted", ""),
    "a failure with U+0000": (lambda s: {"failure": {"kind": "raised", "text": "a\0b", "detail": "\0"}}, "noted", ""),
    "a failure of ten megabytes": (lambda s: {"failure": {"kind": "raised", "text": "x" * 10**7}}, "noted", ""),
}


def put_first(s):
    return s.put(0, bytes(8))


def commit_first(s):
    return s.commit(0)


def commit_without_data(s):
    s.reply(s.offer(data=None))
    return s.commit(0)


def wrong_offset(s):
    s.reply(s.offer(data=None))
    return s.put(4096, bytes(8))


def at_offset(offset):
    def act(s):
        s.reply(s.offer(data=None))
        return s.put(offset, bytes(8))

    return act


def too_much(s):
    offer = s.offer(data=None)
    s.reply(offer)
    return s.put(0, bytes(offer["size"] + 1))


def too_little(s):
    offer = s.offer(data=None)
    s.reply(offer)
    for offset, size in ((0, 1), (1, 3), (4, 1), (5, 11)):  # never a whole number
        assert s.put(offset, bytes(size)).body["offset"] == offset + size
    return s.commit(zlib.crc32(bytes(16)))


def wrong_crc(s):
    offer = s.offer()
    s.reply(offer | {"data": None})
    s.put(0, offer["data"])
    return s.commit(offer["crc32"] ^ 1)


def crc_of_another_type(s):
    s.reply(s.offer(data=None))
    return s.commit("00000000")


def nan_in_parts(s):
    offer = with_value(0, math.nan)(s)
    s.reply(offer | {"data": None})
    half = offer["size"] // 2
    s.put(0, offer["data"][:half])
    return s.put(half, offer["data"][half:])


def nan_across_two_parts(s):
    offer = with_value(1, math.nan)(s)  # its last value lies at bytes 88 to 95
    s.reply(offer | {"data": None})
    s.put(0, offer["data"][:93])
    return s.put(93, offer["data"][93:])


def part_too_large(s):
    s.reply(s.offer(data=None))
    return s.put(0, bytes(8 * 2**20 + 1))


def part_without_length(s):
    s.reply(s.offer(data=None))
    return s.put(0, iter([bytes(8), bytes(8)]))


def _put_head(s, length):
    head = f"PUT /v1/tasks/{s.task}/data/0 HTTP/1.1\r\nhost: x\r\numbel-session: {s.session}\r\n"
    return f"{head}content-length: {length}\r\n\r\n".encode()


def length_beyond_everything(s):
    s.reply(s.offer(data=None))
    return raw(s.port, _put_head(s, 2**80) + bytes(100), source=s.source)


def body_shorter_than_its_length(s):
    """A part that ends in the middle: what came counts, and the next offer goes on there."""
    offer = s.offer()
    s.reply(offer | {"data": None})
    raw(s.port, _put_head(s, 1000) + offer["data"][:100])
    return wait_for(lambda: _if(s.reply(offer | {"data": None}), lambda a: a.body["offset"] in (0, 100)), 5, "an offset")


def another_offer_in_between(s):
    """A second offer begins anew: no mixture of two uploads."""
    offer = s.offer(data=None)
    s.reply(offer)
    s.put(0, s.offer()["data"][:100])
    return s.reply(offer | {"num_examples": 11})


def inline_after_a_part(s):
    s.reply(s.offer(data=None))
    s.put(0, s.offer()["data"][:100])
    return s.reply(with_value(0, math.nan)(s))  # begins anew, and is looked at from its first byte on


def the_task_of_another(s):
    number = int(s.task.rsplit(".", 1)[1])
    mine, s.task = s.task, s.task.rsplit(".", 1)[0] + f".{0 if number else 1}"  # an honest client's
    try:
        return s.reply(s.offer(num_examples=10**6))
    finally:
        s.task = mine


def _on_task(task, step=lambda s: s.reply(s.offer())):
    def act(s):
        mine = s.task
        s.task = task(s) if callable(task) else task
        try:
            return step(s)
        finally:
            s.task = mine

    return act


def fenced(s):
    """A session whose name somebody else has taken."""
    old = s.session
    s.register()
    new, s.session = s.session, old
    try:
        return s.request("POST", "/v1/next", {"have": []})
    finally:
        s.session = new


def with_session(session, path="/v1/next", body=None, method="POST"):
    def act(s):
        mine, s.session = s.session, session
        try:
            return s.request(method, path, {"have": []} if body is None else body)
        finally:
            s.session = mine

    return act


def registering(client_id, version=1):
    return lambda s: s.request("POST", "/v1/register", {"version": version, "client_id": client_id})


def polling(have):
    return lambda s: s.request("POST", "/v1/next", {"have": have})


def asking(method, path, body=b"", **headers):
    return lambda s: s.request(method, path, body, **headers)


def content(name, **headers):
    return lambda s: s.request("GET", f"/v1/contents/{name}", **headers)


def sending(data, **options):
    return lambda s: raw(s.port, data, source=s.source, **options)


def _if(answer, condition):
    return answer if condition(answer) else None


# Anything else: the status or the verdict, and words from the reason.
ACTS = {
    # uploads in parts
    "data before an offer": (put_first, "go", "make an offer first"),
    "a commit before an offer": (commit_first, "go", "make an offer first"),
    "a commit without data": (commit_without_data, "rejected", "0 bytes of data came"),
    "data at a wrong offset": (wrong_offset, "go", "not the next byte"),
    "data at offset 10^17": (at_offset(10**17), "go", "not the next byte"),
    "data at offset 10^30": (at_offset(10**30), 400, "is not the number of a byte"),
    "data at an offset of 5,000 digits": (at_offset("9" * 5000), 400, "is not the number of a byte"),
    "data at a negative offset": (at_offset(-8), 400, "is not the number of a byte"),
    "data at an offset in other digits": (at_offset("%D9%A8"), 400, "is not the number of a byte"),
    "data without a session at an offset of 5,000 digits": (
        with_session("", "/v1/tasks/x/data/" + "9" * 5000, bytes(8), method="PUT"),
        401,
        "unknown session",
    ),
    "more than offered": (too_much, "rejected", "were offered"),
    "less than offered": (too_little, "rejected", "16 bytes of data came"),
    "a wrong crc": (wrong_crc, "go", "the data was damaged on its way"),
    "a crc in words": (crc_of_another_type, 400, "not a Commit message"),
    "NaN in the second part": (nan_in_parts, "rejected", "array '0' contains nan"),
    "NaN across two parts": (nan_across_two_parts, "rejected", "array '1' contains nan"),
    "a part of more than 8 MiB": (part_too_large, 413, "a part has at most"),
    "a part that does not say its length": (part_without_length, 413, "a part has at most"),
    "a length of 2^80": (length_beyond_everything, (0, 400, 413), ""),
    "a body shorter than its length": (body_shorter_than_its_length, "go", ""),
    "an offer in the middle of another": (another_offer_in_between, "go", ""),
    "all at once after a part": (inline_after_a_part, "rejected", "array '0' contains nan"),
    # other people's tasks
    "another client's task": (the_task_of_another, "stale", "never this client's"),
    "another client's upload": (
        _on_task(lambda s: s.task.rsplit(".", 1)[0] + ".0", lambda s: s.put(0, bytes(8))),
        "stale",
        "",
    ),
    "another client's commit": (_on_task(lambda s: s.task.rsplit(".", 1)[0] + ".0", lambda s: s.commit(0)), "stale", ""),
    "an unknown task": (_on_task(lambda s: s.task + "9999"), "stale", "never this client's"),
    "a task of another run": (_on_task("20200101-000000-abcdef.1.fit.0.0"), "stale", "belongs to another run"),
    "a task of the next round": (_on_task(lambda s: s.task.replace(".1.fit", ".2.fit")), "stale", ""),
    "a task that is a path": (_on_task("..%2f..%2f..%2fetc%2fpasswd"), (404, "stale"), ""),
    "a task of 60 KB": (_on_task("t" * 60_000), "stale", ""),
    "a task of bytes": (_on_task("%00%ff%0a"), "stale", ""),
    "a task of this run of bytes": (_on_task(lambda s: s.task + "%00%ff%0a"), "stale", "never this client's"),
    # sessions
    "a fenced session": (fenced, 409, "another process has registered under this client_id"),
    "no session": (with_session(""), 401, "unknown session"),
    "a session that never was": (with_session("0" * 32), 401, "unknown session"),
    "a session of 60 KB": (with_session("s" * 60_000), 401, "unknown session"),
    "leaving without a session": (with_session("", "/v1/leave", b""), 401, "unknown session"),
    # names
    "a name of nothing": (registering(""), 400, "use 1 to 128"),
    "a name of 129 letters": (registering("n" * 129), 400, "use 1 to 128"),
    "a name of a megabyte": (registering("n" * 2**20), 413, "the message is longer than"),
    "a path for a name": (registering("../../etc/passwd"), 400, "use 1 to 128"),
    "a name with a line break": (registering("a\n[SUMMARY]"), 400, "use 1 to 128"),
    "a name that paints": (registering("\x1b[31mred"), 400, "use 1 to 128"),
    "a number for a name": (registering(7), 400, "not a Register message"),
    "another protocol": (registering("z", version=99), 426, "this server speaks protocol 1"),
    "an empty registration": (asking("POST", "/v1/register"), 400, "not a Register message"),
    "a registration of garbage": (asking("POST", "/v1/register", b"\xff\xfe" * 99), 400, "not a Register message"),
    # polls
    "a poll that has 10^6 tasks": (polling([str(n) for n in range(10**6)]), (200, 413), ""),
    "a poll that has numbers": (polling([1, 2]), 400, "not a Poll message"),
    "a poll that has no list": (polling({}), 400, "not a Poll message"),
    "an empty poll": (asking("POST", "/v1/next"), 400, "not a Poll message"),
    "a poll of 30 MB": (asking("POST", "/v1/next", bytes(30 * 2**20)), 413, "the message is longer than"),
    # contents
    "a content that is not there": (content("model-999999"), 404, "no task of this client has the content"),
    "a content that is a path": (content("..%2f..%2fruns.sqlite"), 404, ""),
    "a content above": (content("../../../../etc/passwd"), 404, ""),
    "the lock": (content("lock"), 404, "no task of this client has the content"),
    "a range beyond the end": (content("model-000000", range="bytes=999999999-"), 416, ""),
    "a range of garbage": (content("model-000000", range="bytes=-5,7-x"), 416, ""),
    "a range of 10^30": (content("model-000000", range=f"bytes={10**30}-"), 416, ""),
    # HTTP
    "a path that does not exist": (asking("GET", "/v2/everything"), 404, ""),
    "a method that is not allowed": (asking("DELETE", "/v1/register"), 405, ""),
    "reading where one writes": (asking("GET", "/v1/next"), 405, ""),
    "an empty request": (sending(b""), 0, ""),
    "two empty lines": (sending(b"\r\n\r\n"), (0, 400), ""),
    "garbage": (sending(bytes(range(256)) * 40), 400, ""),
    "TLS spoken to a plain server": (sending(bytes.fromhex("160301020001000001fc0303") + bytes(500)), 400, ""),
    "no length": (sending(b"POST /v1/register HTTP/1.1\r\nhost: x\r\n\r\n"), 400, ""),
    "a negative length": (sending(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n"), 400, ""),
    "two lengths": (
        sending(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"),
        400,
        "",
    ),
    "a length and chunks": (
        sending(b"POST /v1/register HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        400,
        "",
    ),
    "a chunk of impossible size": (
        sending(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nx"),
        (0, 400),
        "",
    ),
    "a message shorter than its length": (
        sending(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nabc"),
        (0, 400),
        "",
    ),
    "a header of 200 KB": (asking("GET", "/", x_long="h" * 200_000), (0, 200, 400, 431), ""),
    "a path of 200 KB": (asking("GET", "/" + "p" * 200_000), (0, 400, 404, 414), ""),
    "5,000 headers": (sending(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n"), (0, 200, 400, 431), ""),
    "a header in pieces": (sending(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", pieces=20), 200, ""),
    "a WebSocket": (
        sending(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"),
        (200, 400, 426),
        "",
    ),
}


def _check(case, expected, words, answer):
    allowed = expected if isinstance(expected, tuple) else (expected,)
    got = answer.verdict or answer.status
    assert got in allowed, f"{case}: {str(answer)[:500]}"
    assert words in answer.why, f"{case}: {answer.why[:500]}"
    assert len(answer.why) < 5000, f"{case}: a reason of {len(answer.why)} characters"


def hostile_file(data):
    """A file of the corpus of headers, as an offer with its data."""
    end = 8 + int.from_bytes(data[:8], "little")
    header, rest = (data[:end], data[end:]) if end <= len(data) else (data, b"")
    return lambda s: s.offer(header=header, size=len(rest), data=rest, crc32=zlib.crc32(rest))


# Taken, or nothing that could be refused: no line is due.
NOTHING_TO_SAY = {
    "act: a header in pieces",
    "act: 5,000 headers",
    "act: a WebSocket",
    "act: an empty request",
    "act: two empty lines",
    "act: a poll that has 10^6 tasks",
    "act: an offer in the middle of another",
    "act: a body shorter than its length",
}


@pytest.mark.parametrize("store", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.slow)])
def test_whatever_strangers_do_the_model_is_that_of_the_honest_clients(federation, reference, strange, request, store):
    cases = [*((f"offer: {case}", *rest) for case, rest in OFFERS.items())]
    cases += [*((f"offer: a file: {case}", hostile_file(data), "rejected", "") for case, data in HOSTILE.items())]
    cases += [*((f"act: {case}", *rest) for case, rest in ACTS.items())]
    assert len(cases) >= 260
    number = len(cases) + 2
    kept = {} if store == "SQLite" else {"store": request.getfixturevalue("postgres").database(), "audit": True}
    server = federation.server(rounds=1, clients=number, central=False, keywords={"fraction_evaluate": 0.0}, **kept)
    server.says("Waiting for clients")
    federation.clients("a", "b", hold=["fit.1"])
    strangers = [strange(federation.port, f"m{index}") for index in range(len(cases))]
    for stranger in strangers:
        stranger.register()
    server.says(f"({number} available)")
    for stranger in strangers:
        stranger.take_task()
    federation.reached("a", "fit.1")
    federation.reached("b", "fit.1")

    dangling = strange(federation.port, "").connection()  # says half a sentence, and nothing more
    dangling.sendall(b"POST /v1/register HTTP/1.1\r\nhost: x\r\ncontent-le")
    wrong = []
    for stranger, (case, act, expected, words) in zip(strangers, cases, strict=True):
        try:
            answer = stranger.reply(act(stranger)) if case.startswith("offer") else act(stranger)
            _check(case, expected, words, answer)
        except Exception as error:  # all of them are told together
            wrong.append(f"{case}: {type(error).__name__} {error}".splitlines()[0])
        assert server.alive, f"{case} has ended the server"
    assert not wrong, "\n".join(wrong)
    said = server.text
    silent = [
        case
        for stranger, (case, *_) in zip(strangers, cases, strict=True)
        if not re.search(rf": ({stranger.name}|{re.escape(stranger.source)}): |client {stranger.name} failed ", said)
    ]
    assert set(silent) <= NOTHING_TO_SAY, f"no line in the log: {sorted(set(silent) - NOTHING_TO_SAY)}"
    for stranger in strangers:
        stranger.give_up()
    assert psutil.Process(server.pid).memory_info().rss < 600 * 2**20

    for name in "ab":
        federation.open(name, "fit.1")
    server.says("\nINFO    : [SUMMARY]")
    for stranger in strangers:
        stranger.leave()
    federation.all_end()
    assert f"fit: received 2 results and {len(cases)} failures" in server.text
    assert server.text.count("\nINFO    : [SUMMARY]") == 1, "a stranger wrote lines of its own"
    assert "\x1b" not in server.text
    assert "Traceback" not in server.text
    assert "Exception" not in server.text
    assert federation.model() == reference(rounds=1)
    assert not list(federation.folder.rglob("*.part"))
    assert len(list(federation.folder.rglob("*.safetensors"))) == 1


def test_the_same_update_twice_counts_once(federation, reference, strange):
    server = federation.server(rounds=1, clients=3, central=False, keywords={"fraction_evaluate": 0.0})
    server.says("Waiting for clients")
    federation.clients("a", "b", hold=["fit.1"])
    twin = strange(federation.port, "c")
    twin.register()
    server.says("(3 available)")
    twin.take_task()
    from federations import Gates, Member

    member = Member("c", Gates(federation.gates, "c", []))
    trained, examples, metrics = member.fit(arrays(twin), {"round": 1})
    offer = twin.offer_of(trained, num_examples=examples, metrics=metrics)
    assert twin.reply(offer).verdict == "accepted"
    assert twin.reply(offer).verdict == "already accepted"
    assert twin.reply(twin.offer(num_examples=10**6)).verdict == "already accepted"
    assert twin.put(0, offer["data"]).verdict == "already accepted"
    assert twin.commit(offer["crc32"]).verdict == "already accepted"
    assert twin.reply({"failure": {"kind": "raised", "text": "after all"}}).verdict == "already accepted"

    for name in "ab":
        federation.open(name, "fit.1")
    server.says("\nINFO    : [SUMMARY]")
    twin.leave()
    federation.all_end()
    assert federation.model() == reference("abc", rounds=1)


def test_metrics_that_nobody_asked_for(federation, reference, strange):
    """Large metrics of a client with a weight of zero: taken or refused, but in words, and not all on the console."""
    many = {
        "long": {"metrics": {"note": "x" * 2**20}},
        "long name": {"metrics": {"n" * 2**20: 1.0}},
        "many": {"metrics": {f"metric-{n}": 1.0 for n in range(100_000)}},
        "large": {"metrics": {"large": 2**64 - 1, "small": -(2**63)}},
    }
    server = federation.server(rounds=1, clients=2 + len(many), central=False, keywords={"fraction_evaluate": 0.0})
    server.says("Waiting for clients")
    federation.clients("a", "b", hold=["fit.1"])
    strangers = [strange(federation.port, f"m{index}") for index in range(len(many))]
    for stranger in strangers:
        stranger.register()
    server.says(f"({2 + len(many)} available)")
    for stranger, changes in zip(strangers, many.values(), strict=True):
        stranger.take_task()
        answer = stranger.reply(stranger.offer(num_examples=0, **changes))
        assert answer.verdict in ("accepted", "rejected"), answer
    for name in "ab":
        federation.open(name, "fit.1")
    server.says("\nINFO    : [SUMMARY]")
    for stranger in strangers:
        stranger.leave()
    federation.all_end()
    assert federation.model() == reference(rounds=1)
    assert len(server.text) < 100_000


def test_what_strangers_say_does_not_paint_the_console(federation, strange):
    server = federation.server(rounds=1, clients=3, central=False, keywords={"fraction_evaluate": 0.0})
    server.says("Waiting for clients")
    federation.client("a")
    painter, other = strange(federation.port, "m"), strange(federation.port, "n")
    painter.register()
    other.register()
    server.says("(3 available)")
    painter.take_task()
    other.take_task()
    assert painter.reply({"failure": {"kind": "raised", "text": "\x1b[2J\n[SUMMARY]\r"}}).verdict == "noted"
    assert other.reply(other.offer(metrics={"\x1b[2J\n[SUMMARY]\n": 1.0})).verdict in ("accepted", "rejected")
    server.says("Run over")
    painter.leave()
    other.leave()
    federation.all_end()
    assert server.text.count("\nINFO    : [SUMMARY]") == 1
    assert not [line for line in server.text.splitlines() if line.startswith("[SUMMARY]")], "a stranger wrote a line"
    assert "\x1b" not in server.text


def test_a_stranger_that_is_asked_for_the_first_parameters(federation, strange):
    """Whoever is asked first may send anything: the next one is asked."""
    offers = {
        "no arrays": lambda s: {"header": b"", "size": 0},
        "nan": lambda s: _parameters([np.array([math.nan])]),
        "half a character": lambda s: _parameters({"x": np.zeros(3)}, rename=("x", "\\ud800")),
        "a hundred GiB": lambda s: _announced([100 * 2**28], 100 * 2**30),  # nobody has said how large a model is
    }
    server = federation.server(rounds=1, clients=2 + len(offers), given=False, central=False)
    server.says("Waiting for clients")
    strangers = [strange(federation.port, f"A{index}") for index in range(len(offers))]  # "A" < "a"
    for stranger in strangers:
        stranger.register()
    federation.clients("a", "b")
    for stranger, (case, offer) in zip(strangers, offers.items(), strict=True):
        (task,) = stranger.request("POST", "/v1/next", {"have": []}).body["tasks"]
        assert task["kind"] == "parameters"
        stranger.task = task["id"]
        assert stranger.reply(offer(stranger)).verdict == "rejected", case
    server.says("Using initial parameters from client a")
    assert "Traceback" not in server.text
    assert "Exception" not in server.text


def _parameters(values, rename=None):
    from umbel.params import Params
    from umbel.wire import encode_header

    params = Params.of(values)
    data, text = params.buffer.tobytes(), encode_header(params.schema)[8:].decode()
    if rename:
        text = text.replace(*rename)
    header = len(text).to_bytes(8, "little") + text.encode()
    return {"header": header, "size": len(data), "data": data, "crc32": zlib.crc32(data)}


def test_a_header_without_end_is_cut_off(federation, strange):
    """Somebody who sends headers for ever gets no memory for them."""
    server = federation.server()
    server.says("Waiting for clients")
    before = psutil.Process(server.pid).memory_info().rss
    with socket.create_connection(("127.0.0.1", federation.port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(100):
                connection.sendall(b"x: " + b"y" * 2**20 + b"\r\n")
        after = psutil.Process(server.pid).memory_info().rss
    assert after - before < 64 * 2**20
    assert server.alive
    client = strange(federation.port, "a")
    client.register()
    client.leave()


