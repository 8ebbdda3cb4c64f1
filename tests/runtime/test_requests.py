"""Which route a request has, and how its answer is written: ASGI's messages, without a server."""

from __future__ import annotations

import asyncio

import pytest

from umbel.runtime.transports.http.protocol import Refused
from umbel.runtime.transports.http.requests import Disconnected, Request, Response, Route, Routes


async def nothing(request):
    return Response(204, {})


ROUTES = Routes(
    [
        Route("/", "GET", 0, nothing),
        Route("/v1/next", "POST", 1, nothing),
        Route("/v1/tasks/{task}/reply", "POST", 2, nothing),
    ]
)


def request(method, path, receive=None, headers=()):
    scope = {"method": method, "path": path, "raw_path": path.encode(), "headers": list(headers), "client": ("192.0.2.1", 1)}
    return Request(scope, receive, None)


@pytest.mark.parametrize(
    ("method", "path", "most"),
    [
        ("GET", "/", 0),
        ("HEAD", "/", 0),
        ("POST", "/v1/next", 1),
        ("POST", "/behind/a/proxy/v1/next", 1),
        ("POST", "/v1/tasks/run.1.fit.0.0/reply", 2),
    ],
)
def test_a_path_has_one_route(method, path, most):
    assert ROUTES.find(request(method, path)).most == most


@pytest.mark.parametrize("path", ["/v1/next/", "/v1/next\n", "/v1/tasks//reply", "/v1/tasks/a/b/reply"])
def test_another_path_is_unknown(path):
    with pytest.raises(Refused, match="is nothing that this server knows") as refused:
        ROUTES.find(request("POST", path))
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/next", "POST"), ("DELETE", "/v1/tasks/a/reply", "POST"), ("POST", "/", "GET, HEAD")],
)
def test_another_method_is_told_which_is_right(method, path, allowed):
    with pytest.raises(Refused, match=f"takes {allowed}, not {method}") as refused:
        ROUTES.find(request(method, path))
    assert (refused.value.status, refused.value.headers) == (405, {"allow": allowed})


def test_what_a_path_says_is_unquoted():
    asked = request("POST", "/x/v1/tasks/caf%C3%A9/reply")
    assert ROUTES.find(asked).method == "POST"
    assert asked.parameters == {"task": "café"}
    assert asked.raw_path == b"/v1/tasks/caf%C3%A9/reply", "this is what is signed"


def test_of_fields_with_one_name_the_first_counts_and_all_can_be_had():
    headers = request("GET", "/", headers=[(b"via", b"one"), (b"via", b"two")]).headers
    assert headers["via"] == "one"
    assert headers.getlist("via") == ["one", "two"]
    assert headers.get("range") is None


@pytest.mark.parametrize(("said", "length"), [(b"12", 12), (b"-1", 2**62), (b"9" * 20, 2**62), ("\u0663".encode(), 2**62)])
def test_a_length_that_is_none_is_longer_than_any_limit(said, length):
    assert request("PUT", "/", headers=[(b"content-length", said)]).length == length


def test_a_body_is_read_to_its_end_and_no_further():
    parts = iter([{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"}])

    async def receive():
        return next(parts)

    async def read():
        asked = request("PUT", "/", receive)
        return [chunk async for chunk in asked.stream()] + [chunk async for chunk in asked.stream()]

    assert asyncio.run(read()) == [b"ab", b"c"]


def test_a_connection_that_ends_before_the_body_does_is_told():
    async def receive():
        return {"type": "http.disconnect"}

    async def read():
        async for _ in request("PUT", "/", receive).stream():
            pass

    with pytest.raises(Disconnected):
        asyncio.run(read())


async def gone():
    return {"type": "http.disconnect"}


def sent(response):
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(response.send(send, request("GET", "/", gone)))
    return messages


def test_an_answer_says_how_long_it_is_unless_it_is_none():
    begin, body = sent(Response(200, {"a": "b"}, b"abc"))
    assert (begin["status"], begin["headers"], body["body"]) == (200, [(b"a", b"b"), (b"content-length", b"3")], b"abc")
    assert sent(Response(204, {}))[0]["headers"] == []


def test_what_is_made_while_it_is_sent_is_not_made_for_a_connection_that_has_ended():
    made = []

    async def blocks():
        for block in (b"1", b"2", b"3"):
            made.append(block)
            yield block

    sent(Response(200, {"content-length": "3"}, blocks()))
    assert made == [b"1"]
