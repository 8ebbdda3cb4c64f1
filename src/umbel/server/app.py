"""Starting a server."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.callbacks.base import Callback
from umbel.callbacks.stopping import with_stopping
from umbel.callbacks.trackers import TrackerName
from umbel.callbacks.watching import gather_watchers
from umbel.config import ServerConfig
from umbel.errors import SecurityError
from umbel.events import Observer
from umbel.keywords import check_fields, checked
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE, Room
from umbel.runtime.assembly import Federation, carry_out
from umbel.runtime.begun import begin
from umbel.runtime.experiment import design_experiment
from umbel.runtime.fingerprints import SECRET
from umbel.runtime.ignored_keywords import name_ignored
from umbel.runtime.interactive import exit_code, is_script, one_line
from umbel.runtime.log import configure, logger
from umbel.runtime.observers.console import Console
from umbel.runtime.observers.history import History
from umbel.runtime.process import need_files, prepare, spare_files
from umbel.runtime.resume import restore
from umbel.runtime.run import Clock
from umbel.runtime.run_registry import DEFAULT_STORE, open_run, places
from umbel.runtime.security.kept_secret import FILE, load_secret
from umbel.runtime.security.tls import Pem, server_context
from umbel.runtime.stores.base import Durability, Keeping
from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.forwarded import TrustedProxies
from umbel.runtime.transports.http.listener import AddressInUse, Listener
from umbel.runtime.transports.http.proxy_header import read_header
from umbel.runtime.transports.http.server import HttpTransport
from umbel.secret import Secret, usual_cipher
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.base import Strategy
from umbel.strategies.clients import ClientManager
from umbel.strategies.host import Declared
from umbel.strategies.server import Server

if TYPE_CHECKING:
    from umbel.runtime.transports.http.gate import Gate

__all__ = ["Server", "ServerApp", "ServerConfig", "start_server"]

LEAST_FILES = 64  # its own, and a few connections


@dataclass(frozen=True)
class ServerApp:
    """A server as a value: its config and its strategy."""

    config: ServerConfig | None = None
    strategy: Strategy | Algorithm | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def start_server(
    *,
    server_address: str = "[::]:8080",
    server: Server | None = None,
    config: ServerConfig | None = None,
    strategy: Strategy | Algorithm | None = None,
    client_manager: ClientManager | None = None,
    certificates: tuple[Pem, Pem, Pem] | None = None,
    require_client_certificate: bool = False,
    require_identity: bool = False,
    trusted_proxies: str | Sequence[str] = (),
    seed: int = 0,
    store: str | Path | None = DEFAULT_STORE,
    fresh: bool = False,
    durability: Durability = "process",
    keep_rounds: int | None = 100,
    store_patience: float = 60.0,
    lease: float = 180.0,
    audit: bool = False,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[Callback] = (),
    report_to: TrackerName | Sequence[TrackerName] | None = None,
    max_examples: int = 10**7,
    max_bytes: int | None = None,
    max_metrics: int = MAX_METRICS,
    max_metrics_size: int = MAX_METRICS_SIZE,
    grpc_max_message_length: int | None = None,
) -> History:
    """Runs `config.num_rounds` rounds of `strategy` (FedAvg where none is given) with the clients that connect.

    - `server_address`: "host:port"; "[::]" is every address, of IPv4 alone where there is no IPv6. Port 0 takes a free one.
    - `certificates`: CA certificate, server certificate and its private key, PEM as bytes or text, or paths: the connections
      are then TLS. `require_client_certificate`: clients must have a certificate of that CA, too (mutual TLS).
    - `require_identity`: only clients with a key that has joined take part (`umbel server token`), and every request of
      theirs is signed. Plain HTTP beyond this machine is refused then.
    - `trusted_proxies`: addresses and networks of reverse proxies whose word about a client's address is believed, by
      `Forwarded`, `X-Forwarded-For` or the PROXY protocol: so that limits do not hit everybody behind one
      (docs/behind-a-proxy.md).
    - `seed`: who is sampled follows from it, the round and the clients' names.
    - `store`: the folder (or SQLAlchemy URL) that keeps the run; a run that ended uncleanly goes on when the same server is
      started again, unless `fresh`. None keeps nothing.
    - `durability`: what an accepted update survives: the death of the "process", or the loss of "power" too, for the price
      of a flush per file and per commit.
    - `keep_rounds`: how many rounds the journal goes back at least, for `umbel replay`; None keeps all of it.
    - `store_patience`: seconds that a full disk or an absent database is tried again, before the server stops.
    - `lease`: seconds that a client may be silent while its connection stays open, as one is whose `fit` holds the
      interpreter's lock, before it counts as gone; its answer is taken all the same if its round is still open then.
    - `audit`: also keeps a chained record of who sent what and what became of it, for `umbel audit verify`; a run that has
      begun with one goes on with it.
    - `observers`: functions (or objects with `__call__`) that are given each event of `umbel.events`, in order, on a thread
      of their own (docs/observers.md).
    - `callbacks`: objects of `umbel.callbacks`, with Keras' methods, such as `[ModelCheckpoint("best.safetensors",
      save_best_only=True), EarlyStopping(patience=3)]`.
    - `report_to`: "tensorboard", "mlflow", "wandb", "trackio" or "csv", or a list of them: where each round's numbers go.
    - `max_examples`: the largest `num_examples` that is believed.
    - `max_bytes`: the largest update. None: where no model says how large it is (initial parameters that a client gives,
      updates that `aggregate_fit` combines by itself), as much as the disk can hold twice, 64 GiB at most.
    - `max_metrics`, `max_metrics_size`: how many metrics an answer may bring, and how many bytes of names, texts and
      numbers; what is more is left out, in the order of the client's dict, and the rest counts.

    Works in a script, a thread and a notebook. A port in use ends a script with exit code 1; Ctrl-C tells the clients,
    prints the History and exits with 130, or ends a notebook's cell by a `KeyboardInterrupt` whose `history` has it; SIGTERM
    leaves a run that can go on, and exits with 143. Raises `QuorumNotMet` where too few clients answer, `NotFinite` after
    three void rounds in a row, and whatever the strategy raises.
    """
    configure()
    name_ignored("start_server", grpc_max_message_length=grpc_max_message_length)
    experiment = design_experiment(
        strategy,
        client_manager,
        config,
        server=server,
        seed=seed,
        max_examples=max_examples,
        max_bytes=max_bytes,
        room=Room(max_metrics, max_metrics_size),
    )
    watchers = gather_watchers(observers, callbacks, report_to)
    experiment = replace(experiment, pace=with_stopping(experiment.pace, watchers.callbacks))
    keeping = Keeping(durability=durability, rounds=keep_rounds, audit=audit, patience=store_patience)
    prepare()
    with one_line():
        need_files(LEAST_FILES, "a server")
    limits = Limits(connections=min(Limits().connections, spare_files()), lease=lease)
    if require_identity and store is None:
        raise SecurityError("require_identity=True keeps its members in the store; leave out store=None")
    listener = _listen(server_address, certificates, require_client_certificate, TrustedProxies(trusted_proxies))
    with contextlib.ExitStack() as ends:
        ends.callback(listener.stop)
        if require_identity and listener.open_to_all:
            raise SecurityError(
                f"require_identity=True does not go with plain HTTP beyond this machine ({server_address}): give "
                "certificates=(ca, certificate, key), or listen on 127.0.0.1 behind a proxy that speaks TLS"
            )
        with one_line(), exit_code("Stopped by Ctrl-C, before the run was opened"):
            mine = experiment.fingerprint(listener.port) | {SECRET: usual_cipher()}
            opened = open_run(store, mine, fresh=fresh, keeping=keeping)
            ends.callback(opened.close)
            ends.callback(listener.stop)  # first: whoever still asks finds no closed store
            gate = None if store is None or not require_identity else _gate(store)
        with one_line(), exit_code("Stopped by Ctrl-C, without waiting for the clients to leave"):
            restored = restore(opened.stored, experiment.rules(opened.run), experiment.num_rounds)
            begun = begin(experiment, restored, opened.store, opened)
            secret = Secret.new() if opened.folder is None else load_secret(opened.folder / FILE)
            transport = HttpTransport(
                listener,
                opened.run,
                opened.store,
                known=begun.state.pool,
                pending=[task.id for task in begun.coordinator.pending],
                seed=seed,
                limits=limits,
                gate=gate,
                room=experiment.room,
                max_bytes=max_bytes,
            )
            logger.info("Umbel server on %s, run %s, %s", listener.url, opened.run, config or ServerConfig())
            _warn(listener, experiment.declared)
            clients = Federation(transport=transport, clock=Clock(restored.at), secret=lambda: secret)
            with watchers.following(restored.history) as versions:
                ended = carry_out(
                    experiment, begun, clients, display=Console(), observers=watchers.observers, versions=versions
                )
            ended.say()
            return ended.leave()


def _warn(listener: Listener, declared: Declared) -> None:
    """Says what somebody who starts such a server should know."""
    if listener.open_to_all:
        logger.warning(
            "Plain HTTP beyond loopback: whoever reaches port %d can read the model and take part. "
            "certificates=(ca, cert, key) makes it TLS.",
            listener.port,
        )
    if declared.reads_updates:
        logger.info("%s has an aggregate_fit of its own: updates that it reads are held in memory", declared.name)


def _listen(
    address: str, certificates: tuple[Pem, Pem, Pem] | None, client_certificates: bool, trusted: TrustedProxies
) -> Listener:
    if client_certificates and certificates is None:
        raise SecurityError("require_client_certificate=True needs TLS: give certificates=(ca, certificate, key)")
    tls = None
    if certificates is not None:
        header = read_header if trusted else None
        tls = server_context(certificates, client_certificates=client_certificates, failed=_HandshakeLog(), header=header)
    try:
        return Listener(address, tls=tls, trusted=trusted)
    except AddressInUse as error:
        if not is_script():
            raise
        sys.exit(f"umbel: {error.strerror}. Stop the other server, or choose another port with server_address=.")
    except (OSError, ValueError) as error:
        if not is_script():
            raise
        sys.exit(f"umbel: {getattr(error, 'strerror', None) or error}")


def _gate(store: str | Path) -> Gate:
    from umbel.runtime.security.members import Members
    from umbel.runtime.security.signatures import KEY_SIZE, Key, fingerprint
    from umbel.runtime.transports.http.gate import Gate

    fingerprint(Key(bytes(KEY_SIZE)).public)  # where the extra is missing, it is said now
    return Gate(Members(places(store)[0]))


class _HandshakeLog:
    """Says why a TLS handshake failed: each reason at once, and then no more than once in ten seconds."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, why: str) -> None:
        now = time.monotonic()
        if now - self._said.get(why, -math.inf) > 10:
            self._said[why] = now
            logger.warning("TLS failed: %s", why)
