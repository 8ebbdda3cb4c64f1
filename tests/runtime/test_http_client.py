"""What a client makes of what its server says, with a server that says it at a given moment."""

from __future__ import annotations

import re
import socket
import threading

import numpy as np
import pytest

from umbel.client import start_client
from umbel.errors import ServerRefused
from umbel.rounds.messages import Kind
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.http.address import Target, parse_address, parse_target
from umbel.runtime.transports.http.client import Patience, serve
from umbel.runtime.transports.http.link import Link, Unknown, Unreachable
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import ContentHead, Next, TaskHead, check_name
from umbel.runtime.transports.http.server import HttpTransport
from umbel.training import NumPyClient


class Evaluates(NumPyClient):
    def evaluate(self, parameters, config):
        return 0.5, 1, {}


class Forgetful:
    """A server, seen through its link, that has forgotten the session of whoever answers, and then ends the run."""

    name, signs, fits = "a", False, 2**62

    def __init__(self) -> None:
        self.answered, self.asked = threading.Event(), 0
        self.left = False

    def register(self) -> None:
        pass

    def next(self, have) -> Next:
        self.asked += 1
        if self.asked == 1:
            return Next([head(1)], [], None)
        assert self.answered.wait(10)
        return Next([head(2)], [], "all rounds done")

    def offer(self, task, offer):
        self.answered.set()
        raise Unknown("unknown session; register again")

    def leave(self) -> None:
        self.left = True

    def close(self) -> None:
        pass


def head(number: int) -> TaskHead:
    return TaskHead(f"run.{number}.evaluate.0.0", Kind.EVALUATE, number, {}, None)


def test_a_client_whose_answer_is_under_way_when_the_run_ends_ends_well_whatever_it_was_to_do_next():
    server = Forgetful()
    assert serve(server, Evaluates().to_client(), Patience("here", None, None)) == "all rounds done"
    assert server.left


@pytest.mark.parametrize("name", ["", "St. Mary's", "x" * 129, "a\udc80", "a\n", "../a"])
def test_a_name_that_no_client_can_have_is_refused_before_anything_is_sent(name):
    with pytest.raises(ValueError, match=r"use 1 to 128 letters, digits and|it is a name, or None"):
        start_client(server_address="127.0.0.1:9", client=Evaluates(), client_id=name, max_retries=0)


@pytest.mark.parametrize("name", ["hospital-1", "a@b:c+d.e_f", "больница", "अस्पताल", "病院", "x" * 128])
def test_names_are_of_any_script(name):
    check_name(name)


def test_a_server_that_will_not_have_a_name_says_so_to_its_client():
    listener = Listener("127.0.0.1:0")
    transport = HttpTransport(listener, "run", MemoryStore())
    link = Link(listener.url, "St. Mary's")
    with pytest.raises(ServerRefused, match=r"client_id \"St. Mary's\": use 1 to 128 letters"):
        link.register()
    link.close()
    transport.close("", over=False)


@pytest.mark.parametrize(
    "address", ["", "localhost", "::1", "::1:8080", "[::1]", ":80", "localhost:²", "a:99999", "a b:1", "a/b:1"]
)
def test_an_address_that_is_none_is_named(address):
    with pytest.raises(ValueError, match=r"is not host:port, such as '127.0.0.1:8080' or "):
        parse_address(address)


@pytest.mark.parametrize(
    ("address", "parsed"),
    {
        "localhost:8080": ("localhost", 8080),
        "[::1]:0": ("::1", 0),
        "[fe80::1%eth0]:65535": ("fe80::1%eth0", 65535),
        "https://server.example:443/": ("server.example", 443),
        "*:80": ("*", 80),
    }.items(),
)
def test_an_address_is_a_host_and_a_port(address, parsed):
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    ("address", "parsed"),
    {
        "localhost:8080": Target("", "localhost", 8080),
        "[::1]:8080": Target("", "::1", 8080),
        "http://fl.example.org": Target("http", "fl.example.org", 80),
        "https://fl.example.org": Target("https", "fl.example.org", 443),
        "HTTPS://fl.example.org/": Target("https", "fl.example.org", 443),
        "https://fl.example.org:8443/federation": Target("https", "fl.example.org", 8443, "/federation"),
        "https://[2001:db8::1]/a/b/": Target("https", "2001:db8::1", 443, "/a/b"),
        "https://fl.example.org/für alle": Target("https", "fl.example.org", 443, "/f%C3%BCr%20alle"),
        "https://fl.example.org/a%20b": Target("https", "fl.example.org", 443, "/a%20b"),
        "https://föderation.example/": Target("https", "xn--fderation-07a.example", 443),
    }.items(),
)
def test_a_client_finds_its_server_by_address_or_url(address, parsed):
    assert parse_target(address) == parsed


@pytest.mark.parametrize(
    ("address", "why"),
    {
        "fl.example.org": "is not host:port",
        "fl.example.org/federation": "is not host:port",
        "grpc://fl.example.org:8080": "has the scheme 'grpc'; Umbel speaks http and https",
        "https://": "is no URL such as 'https://fl.example.org/federation'",
        "https:///federation": "is no URL",
        "https://fl.example.org:99999": "is no URL",
        "https://fl.example.org:/": "is no URL",
        "https://a b/": "is no URL",
        "https://fl.example.org/?run=1": "is more than scheme, host, port and path",
        "https://fl.example.org/../x": "is more than scheme, host, port and path",
    }.items(),
)
def test_an_address_that_leads_nowhere_is_named(address, why):
    with pytest.raises(ValueError, match=re.escape(why)) as told:
        parse_target(address)
    assert repr(address) in str(told.value)


def test_a_password_in_an_address_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="leave out everything before the '@'") as told:
        start_client(server_address="https://ward:secret@fl.example.org/", client=Evaluates())
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("http://fl.example.org", {"root_certificates": "ca.pem"}),
        ("http://fl.example.org", {"insecure": False}),
        ("https://fl.example.org", {"insecure": True}),
    ],
)
def test_a_scheme_and_an_argument_that_contradict_each_other_are_named(address, options):
    with pytest.raises(ValueError, match=rf"server_address='{address}'.*contradict|contradicts server_address='{address}'"):
        start_client(server_address=address, client=Evaluates(), **options)


def test_a_refusal_that_breaks_off_is_a_broken_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = Link(f"http://127.0.0.1:{listener.getsockname()[1]}", "a")

        def refuse():
            with listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 404 x\r\ncontent-type: application/msgpack\r\ncontent-length: 9\r\n\r\nhalf")

        refusing = threading.Thread(target=refuse)
        refusing.start()
        with pytest.raises(Unreachable, match="the connection broke"):
            link.fetch(ContentHead("model", 4, 0), np.empty(4, np.uint8), 0)
        refusing.join(10)
        link.close()
