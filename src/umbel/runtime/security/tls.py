"""TLS on both sides: from PEM to a context, and from OpenSSL's words to what to do about it. Standard library only."""

from __future__ import annotations

import os
import ssl
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from umbel.errors import SecurityError

__all__ = ["Pem", "client_context", "server_context", "why_tls_failed"]

Pem = bytes | str | Path  # PEM, also as text, or the path of a file that has it


Header = Callable[[bytes], tuple[int, str] | None]  # reads a PROXY header: size and address; None: more has to come


def server_context(
    certificates: tuple[Pem, Pem, Pem],
    *,
    client_certificates: bool,
    failed: Callable[[str], None],
    header: Header | None = None,
) -> ssl.SSLContext:
    """For a listener: CA certificate, the server's certificate and its private key.

    With `client_certificates` a client's certificate is checked against the CA. One that has none is told so in HTTP, where
    it can read it. `failed` hears why a handshake did not come about. `header` reads what a proxy may say before the
    handshake, which is then `told` of the session. Raises `SecurityError`.
    """
    authority, certificate, key = certificates
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.header = header
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.failed, context.shaking = failed, weakref.WeakSet()
    context.sslobject_class = _Told
    _trust(context, authority, "certificates=(ca, certificate, key): the CA certificate")
    _own(context, certificate, key, "certificates=(ca, certificate, key)")
    if client_certificates:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


HANDSHAKES = 2_048  # under way at the same time, of 50 KiB each


class _ServerContext(ssl.SSLContext):
    failed: Callable[[str], None]
    header: Header | None
    shaking: weakref.WeakSet[_Told]

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **options: Any) -> ssl.SSLObject:
        if len(self.shaking) >= HANDSHAKES:
            why = f"{HANDSHAKES:,} handshakes are under way; one more is refused"
            self.failed(why)
            raise ssl.SSLError(why)
        told = super().wrap_bio(incoming, outgoing, *arguments, **options)
        assert isinstance(told, _Told)
        told.incoming, told.outgoing, told.context_of = incoming, outgoing, self
        self.shaking.add(told)
        return told


class _Told(ssl.SSLObject):
    """The event loop keeps the error of a handshake to itself, and hangs up before the peer has heard of it. Not so here."""

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    context_of: _ServerContext
    told: str | None = None  # by a proxy; None where there was no header
    _first: bytes | None = b""  # what has come, while that may be a part of a header
    _error: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._error is not None:
            raise self._error
        self._read_header()
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.context_of.failed(why_tls_failed(error, server=True))
            if error.reason == "HTTP_REQUEST":
                self.outgoing.write(_SPEAK_TLS)
            elif not isinstance(error, ssl.SSLCertVerificationError):
                raise
            self._error = error
            raise ssl.SSLWantReadError from None  # then what is outgoing is sent; whatever comes in ends it
        self.context_of.shaking.discard(self)

    def _read_header(self) -> None:
        """Takes off what a proxy says before the handshake. Raises `SSLWantReadError` while more of it has to come."""
        if self.context_of.header is None or self._first is None:
            return
        self._first += self.incoming.read()
        found = self.context_of.header(self._first)
        if found is None:
            raise ssl.SSLWantReadError
        size, told = found
        self.told = told if size else None
        self.incoming.write(self._first[size:])
        self._first = None


_SPEAK_TLS_WHY = b"this port speaks TLS; connect by https, and give an Umbel client root_certificates=\n"
_SPEAK_TLS = (
    b"HTTP/1.1 426 Upgrade Required\r\nupgrade: TLS/1.2\r\nconnection: upgrade, close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_SPEAK_TLS_WHY), _SPEAK_TLS_WHY)
)


def client_context(root_certificates: Pem | None, client_certificate: tuple[Pem, Pem] | None) -> ssl.SSLContext:
    """For a client: the CA that it trusts (None: the system's), and its own certificate and key. Raises `SecurityError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if root_certificates is None:
        context.load_default_certs()
    else:
        _trust(context, root_certificates, "root_certificates=")
    if client_certificate is not None:
        _own(context, *client_certificate, "client_certificate=(certificate, key)")
    return context


def why_tls_failed(error: BaseException, *, server: bool) -> str:
    """What went wrong in a handshake, and what to do about it.

    >>> error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    >>> why_tls_failed(error, server=False)
    'the server speaks no TLS; leave out root_certificates=, or give the server certificates='
    """
    text = str(error)
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    for words, codes, at_server, at_client in _CAUSES:
        if code in codes or (code is None and any(word in text.upper() for word in words)):
            return at_server if server else at_client
    return text


# OpenSSL's words, its codes of X.509 errors, what a server's operator reads, what a client's does.
_CAUSES: list[tuple[tuple[str, ...], tuple[int, ...], str, str]] = [
    (
        ("HTTP_REQUEST", "HTTP REQUEST"),
        (),
        "a client speaks plain HTTP to this TLS port; give it root_certificates=",
        "the server speaks no TLS; leave out root_certificates=, or give the server certificates=",
    ),
    (
        ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "RECORD LAYER FAILURE"),
        (),
        "a client speaks something else than TLS",
        "the server speaks no TLS; leave out root_certificates=, or give the server certificates=",
    ),
    (
        ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS", "VERSION_TOO_LOW"),
        (),
        "a client speaks a TLS older than 1.2, and is refused; its TLS library needs an update",
        "the server speaks a TLS older than 1.2; its TLS library needs an update",
    ),
    (
        ("ALERT_UNKNOWN_CA", "ALERT UNKNOWN CA"),
        (),
        "a client does not trust this server's CA; give it the CA's certificate (ca.pem) as root_certificates=",
        "the server does not trust the CA of this client's certificate; make the certificate with the server's CA "
        "(`umbel certs client NAME`)",
    ),
    (
        ("ALERT_CERTIFICATE_EXPIRED", "ALERT CERTIFICATE EXPIRED"),
        (),
        "a client has found this server's certificate expired (or the client's clock is wrong); renew it by `umbel certs "
        "server NAME`",
        "the server has found this client's certificate expired; renew it by `umbel certs client NAME`",
    ),
    (
        ("ALERT_BAD_CERTIFICATE", "ALERT BAD CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN", "ALERT CERTIFICATE UNKNOWN"),
        (),
        "a client does not accept this server's certificate: it is for another name than the one in the client's "
        "server_address=, or not valid; make it by `umbel certs server NAME`",
        "the server does not accept this client's certificate; make one with the server's CA (`umbel certs client NAME`)",
    ),
    (
        (),
        (10,),
        "a client's certificate has expired, and it is refused; renew it by `umbel certs client NAME`",
        "the server's certificate has expired, or this machine's clock is wrong; renew it by `umbel certs server NAME`",
    ),
    (
        (),
        (9,),
        "a client's certificate is not valid yet, or this machine's clock is wrong; it is refused",
        "the server's certificate is not valid yet, or this machine's clock is wrong",
    ),
    (
        (),
        (62, 64),
        "a client's certificate is for another name",
        "the server's certificate is for another name than the one in server_address=; connect by a name that it has, or "
        "make one with this name by `umbel certs server NAME`",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        (2, 7, 18, 19, 20, 21, 24, 26, 79),
        "a client's certificate is not from this server's CA, and it is refused; make one by `umbel certs client NAME`",
        "the server's certificate is not from a CA that this client trusts; give root_certificates= the CA that the server "
        "has (ca.pem)",
    ),
]


def _trust(context: ssl.SSLContext, authority: Pem, what: str) -> None:
    try:
        context.load_verify_locations(cadata=_read(authority, what).decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise SecurityError(f"{what} is no certificate in PEM ({error}); `umbel certs init` makes one") from None


def _own(context: ssl.SSLContext, certificate: Pem, key: Pem, what: str) -> None:
    with tempfile.TemporaryDirectory(prefix="umbel-") as folder:  # ssl reads keys from files only
        paths = []
        for name, given in (("certificate", certificate), ("key", key)):
            data = _read(given, f"{what}: the {name}")
            if b"-----BEGIN" not in data:
                raise SecurityError(f"{what}: the {name} is not in PEM; `umbel certs init` makes one")
            paths.append(os.path.join(folder, name))
            with open(os.open(paths[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
        try:
            context.load_cert_chain(paths[0], paths[1], lambda: b"")  # an encrypted key must not ask the terminal
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise SecurityError(f"{what}: the key is another certificate's; give the two that belong together") from None
            raise SecurityError(f"{what} cannot be read: {error}; `umbel certs init` makes a pair") from None


def _read(given: Pem, what: str) -> bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str) and "-----BEGIN" in given:
        return given.encode()
    try:
        return Path(given).read_bytes()
    except (OSError, ValueError) as error:
        # Text that is no path may be a key, and must not get into a log.
        name = os.fspath(given)
        shown = repr(name) if name.isprintable() and len(name) < 256 else f"{len(name):,} characters that are no path"
        raise SecurityError(f"{what}, {shown}, cannot be read: {getattr(error, 'strerror', error)}") from None
