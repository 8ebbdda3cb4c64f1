"""Which route a request has, how its body is read and how an answer begins, without a server."""

from __future__ import annotations

import asyncio

import pytest

from umbel.runtime.transports.http.body import Body, Disconnected
from umbel.runtime.transports.http.protocol import Refused
from umbel.runtime.transports.http.requests import Request, Response, Route, Routes


async def nothing(request):
    return Response(204, {})


ROUTES = Routes(
    [
        Route("/", "GET", 0, nothing),
        Route("/v1/next", "POST", 1, nothing),
        Route("/v1/tasks/{task}/reply", "POST", 2, nothing),
    ]
)


def request(method, path, body=None, headers=()):
    return Request(method, path, path.encode(), list(headers), body or Body(), peer=("192.0.2.1", 1))


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


def read(body):
    async def chunks():
        found = []
        while chunk := await body.read():
            found.append(chunk)
        return [*found, await body.read()]

    return asyncio.run(chunks())


def test_a_body_is_read_to_its_end_and_no_further():
    body = Body()
    body.feed(bytes(2**15))
    body.feed(b"a")
    body.feed(b"b")
    body.end()
    assert read(body) == [bytes(2**15), b"ab", b""], "what is small is handed on together"
    assert body.size == 0


def test_whoever_waits_for_a_body_is_woken_by_what_comes():
    coming = iter([lambda: body.feed(b"a"), lambda: body.feed(b"b"), lambda: body.end()])
    body = Body(lambda: asyncio.get_running_loop().call_soon(next(coming)))
    assert read(body) == [b"a", b"b", b""]


def test_a_connection_that_ends_before_the_body_does_is_told():
    body = Body(lambda: asyncio.get_running_loop().call_soon(body.break_off))
    with pytest.raises(Disconnected):
        read(body)


def head(response, **options):
    status, *lines = response.head(**{"lasts": True} | options).decode().split("\r\n")
    assert lines[-2:] == ["", ""]
    return status, {name: value for name, _, value in (line.partition(": ") for line in lines[:-2]) if name != "date"}


def test_an_answer_says_how_long_it_is_unless_it_is_none():
    assert head(Response(200, {"a": "b"}, b"abc")) == ("HTTP/1.1 200 OK", {"a": "b", "content-length": "3"})
    assert head(Response(204, {})) == ("HTTP/1.1 204 No Content", {})


def test_an_answer_says_that_it_is_the_last():
    assert head(Response(204, {}), lasts=False)[1] == {"connection": "close"}


def test_nobody_puts_a_line_into_an_answer():
    for value in ("a\r\nset-cookie: b", "a\nb", "a\rb"):
        with pytest.raises(ValueError, match="a line break where none can be"):
            Response(200, {"a": value}).head(lasts=True)
