"""Starting a client."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote

from umbel.context import Context
from umbel.keywords import check_fields, checked
from umbel.runtime.ignored_keywords import name_ignored
from umbel.runtime.interactive import exit_code
from umbel.runtime.log import configure, logger
from umbel.runtime.process import keep_standard_files
from umbel.runtime.security.identity import FOLDER, TOKEN, Identity
from umbel.runtime.security.kept_secret import FILE, load_secret
from umbel.runtime.security.tls import Pem, client_context
from umbel.runtime.transports.http.address import parse_target
from umbel.runtime.transports.http.client import Patience, serve
from umbel.runtime.transports.http.link import Link
from umbel.runtime.transports.http.protocol import check_name
from umbel.training import Client, ClientFn, NumPyClient, make_client

__all__ = ["ClientApp", "start_client", "start_numpy_client"]


@dataclass(frozen=True)
class ClientApp:
    """A client as a value: `client_fn` makes it from a context, or from a cid."""

    client_fn: ClientFn

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def start_client(
    *,
    server_address: str,
    client: Client | NumPyClient | None = None,
    client_fn: ClientFn | None = None,
    root_certificates: Pem | None = None,
    client_certificate: tuple[Pem, Pem] | None = None,
    insecure: bool | None = None,
    max_retries: int | None = None,
    max_wait_time: float | None = None,
    client_id: str | None = None,
    join_token: str | None = None,
    identity: str | Path | None = None,
    grpc_max_message_length: int | None = None,
    transport: str | None = None,
) -> None:
    """Takes part in the run of the server at `server_address` until it is over.

    The client may start before the server, and stays when the server is restarted. An exception in its `fit` or `evaluate`
    is reported to the server; the client goes on.

    - `server_address`: "host:port", or a URL such as "https://fl.example.org/federation", whose path is that of a reverse
      proxy (docs/behind-a-proxy.md). https is TLS with the CAs that the system trusts, or `root_certificates`.
    - `client`: a `NumPyClient` or a `Client`; or `client_fn`, which makes one from a `Context` or from a cid.
    - `root_certificates`: a CA certificate, PEM as bytes or text, or a path: the connection is then TLS. `insecure=False`
      without one means TLS with the CAs that the system trusts. `client_certificate`: this client's own certificate and its
      private key, likewise, for a server that asks for one.
    - `max_retries`, `max_wait_time` (seconds): when to give up on a server that does not answer; None never does. The
      seconds count from when an answer was due, also where a port takes connections and stays silent.
    - `client_id`: the client's name, for results that repeat: before each task `random`, numpy, torch, tensorflow, mlx and
      mxnet are seeded from the run's seed, this name and the round. Without one the name is random, and nothing is seeded.
    - `join_token`: what `umbel server token` printed, for a server with `require_identity=True`; by default the
      environment's `UMBEL_JOIN_TOKEN`. It is needed once: the client's key is in the file `identity`, by default
      `umbel-identity/CLIENT_ID.pem`, which is made where there is none.

    **Noise that is to protect comes from `context.private_rng`, and from nothing that is seeded.** With `client_id` the
    generators of `random`, numpy, torch, tensorflow, mlx and mxnet are seeded before each task from what the server knows:
    it computes every draw from them, and subtracts it. Noise for differential privacy that is drawn from numpy or torch,
    by Opacus or by ten lines of one's own, then protects nothing.

    Raises `ValueError` for arguments that contradict each other or cannot be, `SecurityError` for keys and certificates
    that cannot be used, `ServerUnreachable` where patience ends, and `ServerRefused` where the server will not have this
    client. Ctrl-C ends the process with exit code 130.
    """
    configure()
    keep_standard_files()
    name_ignored("start_client", grpc_max_message_length=grpc_max_message_length, transport=transport)
    source = client if client is not None else client_fn
    if source is None or (client is not None and client_fn is not None):
        raise ValueError("give start_client either client= or client_fn=, one of them")
    target = parse_target(server_address)
    secure = root_certificates is not None or client_certificate is not None or insecure is False
    if insecure and secure:
        raise ValueError("insecure=True contradicts root_certificates= and client_certificate=; leave one of them out")
    if target.scheme == "https" and insecure:
        raise ValueError(f"insecure=True contradicts server_address={server_address!r}; leave it out, or write http://")
    if target.scheme == "http" and secure:
        raise ValueError(
            f"server_address={server_address!r} is without TLS, which contradicts root_certificates=, client_certificate= "
            "and insecure=False; write https://, or leave them out"
        )
    if client_id is not None:
        check_name(client_id)
    bound = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where to listen, not where to connect
    scheme = target.scheme or ("https" if secure else "http")
    target = replace(target, scheme=scheme, host=bound.get(target.host, target.host))
    with contextlib.ExitStack() as cleanup:
        key = _identity(identity, client_id, join_token or os.environ.get(TOKEN))
        if key is not None:
            cleanup.callback(key.close)
        named_by_key = f"client-{secrets.token_hex(6)}" if key is None else f"client-{key.fingerprint[:12]}"
        secret = None if key is None else load_secret(key.path.with_name(f"{key.path.name}.{FILE}"))
        name = client_id if client_id is not None else named_by_key
        context = Context(node_id=name)
        instance = make_client(source, context)

        tls = client_context(root_certificates, client_certificate) if scheme == "https" else None
        patience = Patience(target.authority + target.path, max_retries, max_wait_time)
        link = Link(target.url, name, tls=tls, identity=key, patience=patience.left)
        logger.info("Client %s, server %s%s", name, target.authority, target.path)
        with exit_code("Stopped by Ctrl-C"):
            why = serve(link, instance, patience, repeats=client_id is not None, secret=secret)
            logger.info("The run is over: %s", why)


def start_numpy_client(server_address: str, client: NumPyClient, **options: object) -> None:
    """The same as `start_client`, and may be called with positional arguments."""
    start_client(server_address=server_address, client=client, **options)  # type: ignore[arg-type]  # checked there


def _identity(path: str | Path | None, client_id: str | None, join_token: str | None) -> Identity | None:
    """The client's key where it has one, or needs one to join."""
    where = Path(path) if path is not None else Path(FOLDER) / f"{_file_name(client_id or 'client')}.pem"
    if path is None and join_token is None and not where.exists():
        return None
    return Identity(where, join_token)


def _file_name(client_id: str) -> str:
    """A name for a file; where it would be longer than file systems take, cut off, with a digest of the whole."""
    name = quote(client_id, safe="")
    return name if len(name) <= 200 else f"{name[:160]}-{blake2b(client_id.encode(), digest_size=8).hexdigest()}"
