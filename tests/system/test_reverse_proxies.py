"""Federations whose server stands behind a real nginx or a real HAProxy, configured as docs/behind-a-proxy.md says."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the extra security: REVERSE PROXIES ARE NOT TESTED HERE")

from federations import free_port

sys.path.insert(0, str(Path(__file__).parents[1]))

from reverse_proxies import HAProxy, Nginx, configuration, find_program
from umbel.runtime.security.certificates import issue, make_authority
from umbel.testing import ChaosProxy

pytestmark = pytest.mark.system

LARGE = 1_250_000  # float32 values: 5 MB
WHICH = ["nginx", "haproxy"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with certificates for 127.0.0.1: ca.pem, proxy.pem, proxy.key, and both of these in both.pem."""
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder, days=10)
    certificate, key = issue(folder, "proxy", "localhost", ["localhost", "127.0.0.1"], days=1, server=True)
    (folder / "both.pem").write_bytes(Path(certificate).read_bytes() + Path(key).read_bytes())
    return folder


class Behind:
    """A federation whose clients reach their server through a proxy."""

    def __init__(self, federation, proxy, url, made):
        self.federation, self.proxy, self.url, self._made = federation, proxy, url, made

    def server(self, **options):
        return self.federation.server(**options)

    def client(self, name, **options):
        """A client to whose system the proxy's certificate is as good as any."""
        return self.federation.client(name, **{"address": self.url, **options})


@pytest.fixture
def behind(federation, made, monkeypatch):
    """`behind(which, changes={})`: a proxy before the federation's port; `changes` are made to the page's configuration."""
    # What the clients' system trusts. The proxy is no way that loopback's addresses would go by themselves.
    monkeypatch.setenv("SSL_CERT_FILE", str(made / "ca.pem"))
    begun = []

    def begin(which, changes=(), *, title=None):
        if find_program(which) is None:
            pytest.skip(f"{which} is not installed here (scripts/proxies does that): federations behind it are not tested")
        port = free_port()
        places = {"127.0.0.1:8080": federation.address}
        if which == "nginx":
            places |= {
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "/etc/ssl/fl.example.org.pem": str(made / "proxy.pem"),
                "/etc/ssl/fl.example.org.key": str(made / "proxy.key"),
            }
            begun.append(Nginx(federation.folder / "nginx", port, configuration(title or "nginx", places | dict(changes))))
        else:
            places |= {"bind :443": f"bind 127.0.0.1:{port}"}
            if title is None:
                places["/etc/ssl/fl.example.org.both.pem"] = str(made / "both.pem")
            text = configuration(title or "HAProxy", places | dict(changes))
            begun.append(HAProxy(federation.folder / "haproxy", port, text))
        return Behind(federation, begun[-1], f"https://127.0.0.1:{port}/federation", made)

    yield begin
    for proxy in begun:
        print(f"\n======== {proxy.folder.name}\n{(proxy.folder / 'log').read_text()[-4000:]}")
        proxy.close()


def ends_as(federation, server, expected):
    assert server.ends(60) == 0
    federation.all_end()
    assert federation.model() == expected
    assert federation.history()["failures"] == []


@pytest.mark.parametrize("which", WHICH)
def test_a_model_that_is_too_large_for_one_body_goes_through_in_smaller_ones(behind, federation, reference, which):
    front = behind(which)
    server = front.server(size=LARGE, rounds=2)
    clients = [front.client(name) for name in "ab"]
    ends_as(federation, server, reference(size=LARGE, rounds=2))
    for client in clients:
        assert client.text.count("Received fit of round") == 2
        if which == "nginx":  # of 5 MB, 4 MiB and 2 MiB: and never again, in the second round
            assert client.text.count("takes no messages of") == 3
            assert "they have at most 1,048,576 from now on" in client.text


@pytest.mark.slow
def test_a_proxy_that_hangs_up_after_its_413_teaches_the_same(behind, federation, reference):
    """HAProxy does not hear out what it has refused: the connection may break before its answer is read."""
    rule = "http-request deny deny_status 413 if { req.hdr(content-length) -m int gt 1000000 }"
    front = behind("haproxy", {"    use_backend": f"    {rule}\n    use_backend"})
    server = front.server(size=LARGE, rounds=1)
    server.says("Waiting for clients")
    clients = [front.client(name) for name in "ab"]
    ends_as(federation, server, reference(size=LARGE, rounds=1))
    for client in clients:
        assert "they have at most 524,288 from now on" in client.text or "at most 524,288 bytes at once" in client.text


@pytest.mark.slow
def test_parts_that_never_get_through_as_a_whole_become_smaller(behind, federation, reference):
    """nginx passes on whole bodies alone: over connections that live for 300 kB, one of 1 MiB would never arrive."""
    front = behind("nginx")
    with ChaosProxy(front.proxy.port, reset_after=(300_000, 300_000)) as link:
        server = front.server(size=500_000, rounds=1)
        server.says("Waiting for clients")
        far = front.client("a", address=f"https://127.0.0.1:{link.port}/federation")
        front.client("b")
        assert server.ends(120) == 0
        ends_as(federation, server, reference(size=500_000, rounds=1))
    assert "The connection breaks again and again: at most 262,144 bytes at once from now on" in far.text


@pytest.mark.slow
def test_a_link_may_be_slow(behind, federation, reference):
    """A megabyte takes ten seconds, and nginx passes on nothing until all of it is there."""
    front = behind("nginx")
    with ChaosProxy(front.proxy.port, bandwidth=100_000, fragment=5_000) as link:
        server = front.server(size=250_000, rounds=1)
        server.says("Waiting for clients")
        far = front.client("a", address=f"https://127.0.0.1:{link.port}/federation")
        front.client("b")
        assert server.ends(120) == 0
        ends_as(federation, server, reference(size=250_000, rounds=1))
    assert "no answer in time" not in far.text


MANY = 3_000  # tensors, whose header alone is larger than what passes


def test_an_offer_that_is_too_large_by_its_header_goes_in_pieces(behind, federation):
    front = behind("nginx", {"    location /federation/ {": "    client_max_body_size 64k;\n    location /federation/ {"})
    script = Path(__file__).parent / "programs" / "many_tensors.py"
    server = federation.program("server", script, federation.address, str(MANY))
    clients = [federation.program(name, script, front.url, name) for name in "ab"]
    assert server.ends(60) == 0
    federation.all_end()
    assert "fit: received 2 results and 0 failures" in server.text
    assert f"trained to 1.5 in {MANY} tensors" in server.text
    for client in clients:
        assert "they have at most 65,536 from now on" in client.text
        assert client.text.count(": accepted") == 2


def test_a_client_says_what_is_wrong_where_not_even_64_kib_go_through(behind, federation):
    front = behind("nginx", {"    location /federation/ {": "    client_max_body_size 60000;\n    location /federation/ {"})
    server = front.server(size=LARGE, rounds=1, central=False)
    clients = [front.client(name) for name in "ab"]
    assert server.ends(60) == 0
    federation.all_end()
    for client in clients:
        assert "refuses messages of 65,536 bytes with 413, and Umbel needs 65,536; have its limit raised" in client.text
    assert "refuses messages of 65,536 bytes with 413" in server.text
    assert "fit: received 0 results and 2 failures" in server.text


@pytest.mark.parametrize("which", WHICH)
def test_signatures_hold_where_tls_ends_at_the_proxy_and_the_path_has_a_prefix(behind, federation, reference, which):
    """nginx takes its path off, HAProxy leaves it: what is signed is the same."""
    pytest.importorskip("blake3", reason="needs the extra security: IDENTITIES BEHIND PROXIES ARE NOT TESTED HERE")
    from umbel.runtime.security.members import Members

    (federation.folder / "umbel-runs").mkdir()
    members = Members(f"sqlite:///{federation.folder / 'umbel-runs' / 'runs.sqlite'}")
    tokens = [members.new_token(client=name, seconds=600.0) for name in "ab"]
    members.close()
    front = behind(which)
    server = front.server(size=LARGE, rounds=1, require_identity=True, trusted_proxies=["127.0.0.1"])
    server.says("Waiting for clients")
    for name, token in zip("ab", tokens, strict=True):
        front.client(name, join_token=token)
    ends_as(federation, server, reference(size=LARGE, rounds=1))
    assert server.text.count("has joined with the key") == 2


def test_tls_that_passes_through_tells_the_server_who_connects(behind, federation, reference, made):
    front = behind("haproxy", title="HAProxy, TLS passed through")
    certificates = [str(made / name) for name in ("ca.pem", "proxy.pem", "proxy.key")]
    server = front.server(rounds=1, certificates=certificates, trusted_proxies=["127.0.0.1"])
    server.says("Waiting for clients")
    with socket.create_connection(("127.0.0.1", front.proxy.port), 10, source_address=("127.0.0.9", 0)) as plain:
        context = ssl.create_default_context(cafile=made / "ca.pem")
        with context.wrap_socket(plain, server_hostname="localhost") as stranger:
            stranger.sendall(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 404 " in stranger.recv(1000)
    server.says("127.0.0.9: refused GET '/nothing' with 404")
    for name in "ab":
        front.client(name)
    ends_as(federation, server, reference(rounds=1))


def test_a_forward_proxy_passes_on_what_the_server_says(federation, reference):
    """Also that it does not know a session any more: a client that took this for the proxy's word would wait for ever."""
    if find_program("nginx") is None:
        pytest.skip("nginx is not installed here (scripts/proxies does that): a forward proxy is not tested")
    port = free_port()
    text = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{federation.address}; }} }}\n"
    proxy = Nginx(federation.folder / "nginx", port, text)  # whatever host is asked for, it leads there
    try:
        server = federation.server(rounds=2)
        server.says("Waiting for clients")
        options = {"address": "http://fl.example.org:8080", "hold": ["fit.2"]}
        clients = [federation.client(name, HTTP_PROXY=f"http://127.0.0.1:{port}", **options) for name in "ab"]
        for name in "ab":
            federation.reached(name, "fit.2")
        server.kill()
        server = federation.server(rounds=2)
        for name in "ab":
            federation.open(name, "fit.2")
        ends_as(federation, server, reference(rounds=2))
    finally:
        proxy.close()
    for client in clients:
        assert f"Through the proxy http://127.0.0.1:{port}, which HTTP_PROXY names, to fl.example.org:8080" in client.text


@pytest.mark.slow
@pytest.mark.parametrize("which", WHICH)
def test_a_proxy_and_its_server_may_be_restarted_at_any_time(behind, federation, reference, which):
    front = behind(which)
    server = front.server(rounds=3, trusted_proxies=["127.0.0.1"])
    clients = [front.client(name, hold=["fit.2", "fit.3"]) for name in "ab"]
    for name in "ab":
        federation.reached(name, "fit.2")
    front.proxy.stop()
    for name in "ab":
        federation.open(name, "fit.2")
    for client in clients:
        client.says("connection refused")  # which is said after 10 s: longer than a client may be without a connection
    front.proxy.start()
    for name in "ab":
        federation.reached(name, "fit.3")
    server.kill()
    for name in "ab":
        federation.open(name, "fit.3")
    for client in clients:
        client.says(f"an intermediary at 127.0.0.1:{front.proxy.port} answered 50")
        assert "is the Umbel server behind it running?" in client.text
    server = front.server(rounds=3, trusted_proxies=["127.0.0.1"])
    ends_as(federation, server, reference())
    assert [client.text.count("Received fit of round") for client in clients] == [3, 3]


def test_a_page_in_place_of_the_server_is_waited_out(behind, federation, reference):
    """A portal, or a notice that the service is maintained, is no word of the server's, whatever its status."""
    page = "default_type text/html; return 200 '<title>Maintenance</title>'; #"
    front = behind("nginx", {"proxy_pass http": f"{page} proxy_pass http"})
    server = federation.server(rounds=1)
    server.says("Waiting for clients")
    clients = [front.client(name) for name in "ab"]
    for client in clients:
        client.says("answered 200 (nginx/1", 20)
        assert "Maintenance" in client.text
    front.proxy.change((page, ""))
    ends_as(federation, server, reference(rounds=1))


@pytest.mark.slow
@pytest.mark.parametrize("which", WHICH)
def test_a_model_of_100_mb_over_slow_links(behind, federation, reference, which):
    """One client's link passes 10 MB a second, and breaks now and then; the other's is as it is."""
    front = behind(which)
    with ChaosProxy(front.proxy.port, bandwidth=1e7, reset_after=(20_000_000, 60_000_000)) as link:
        server = front.server(size=25_000_000, rounds=1, trusted_proxies=["127.0.0.1"])
        server.says("Waiting for clients", 120)
        front.client("a", address=f"https://127.0.0.1:{link.port}/federation")
        front.client("b")
        assert server.ends(500) == 0
        assert link.resets
        ends_as(federation, server, reference(size=25_000_000, rounds=1))


@pytest.mark.slow
def test_a_training_that_holds_the_lock_is_not_lost_behind_a_proxy_that_ends_connections(behind, federation, reference):
    """nginx ends its connection to the server with every answer: that is no word of the client's."""
    front = behind("nginx")
    server = front.server(rounds=1, poll=0.5, trusted_proxies=["127.0.0.1"])
    server.says("Waiting for clients")
    front.client("a", locks={"fit.1": 10.0})  # longer than a client may be without any connection
    front.client("b")
    ends_as(federation, server, reference(rounds=1))
