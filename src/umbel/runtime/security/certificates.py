"""A certificate authority of one's own, and what it issues: `umbel certs`. Needs the extra `security`.

ECDSA keys on P-256: every TLS library of the last ten years has them.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.errors import SecurityError
from umbel.runtime.security.extra import extra

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["AUTHORITY", "check_hosts", "issue", "make_authority"]

AUTHORITY = "ca"
_LEEWAY = datetime.timedelta(minutes=5)  # clocks differ


def make_authority(folder: Path, *, days: float, name: str = "Umbel federation") -> list[Path]:
    """Makes `ca.pem` and `ca.key` in the folder. Raises `SecurityError` where there is one already."""
    with extra("certificates"):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
    certificate, key = _paths(folder, AUTHORITY)
    for path in (certificate, key):
        if path.exists():
            raise SecurityError(f"{path} exists already; a new CA would make everything that it has issued worthless")
    private = _new_key()
    names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    signed = (
        _builder(names, names, private, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(private, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder, AUTHORITY, signed, private)


def check_hosts(hosts: Sequence[str]) -> None:
    """Raises `SecurityError` for a host that no certificate can be for."""
    with extra("certificates"):
        import cryptography.x509  # noqa: F401
    for host in hosts:
        _host(host)


def issue(folder: Path, file: str, name: str, hosts: Sequence[str], *, days: float, server: bool) -> list[Path]:
    """Makes `FILE.pem` and `FILE.key`, signed by the folder's CA: for a server with these hosts, or for a client.

    Raises `SecurityError` where there is no CA, and for a host that cannot be. An older certificate of this name is
    replaced: that is how one renews it.
    """
    with extra("certificates"):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
    certificate, key = _paths(folder, AUTHORITY)
    try:
        authority = x509.load_pem_x509_certificate(certificate.read_bytes())
        authority_key = serialization.load_pem_private_key(key.read_bytes(), None)
    except FileNotFoundError as error:
        raise SecurityError(f"no CA in {folder}: {error.filename} is missing; `umbel certs init` makes one") from None
    except ValueError as error:
        raise SecurityError(f"the CA in {folder} cannot be read: {error}") from None
    private = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])  # all that it may have
    purpose = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH if server else x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # type: ignore[arg-type]  # ours
    builder = (
        _builder(subject, authority.subject, private, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(authority_id, critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    signed = builder.sign(authority_key, hashes.SHA256())  # type: ignore[arg-type]  # ours
    return _write(folder, file, signed, private)


def _builder(
    subject: x509.Name, issuer: x509.Name, private: EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(digital_signature, False, False, False, False, key_cert_sign, crl_sign, False, False)


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        ascii_only = "write it in ASCII, as in 'xn--bcher-kva.example'"
        raise SecurityError(f"the host {host!r} cannot be in a certificate; {ascii_only}") from None


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.pem", folder / f"{name}.key"


def _write(folder: Path, name: str, signed: x509.Certificate, private: EllipticCurvePrivateKey) -> list[Path]:
    from cryptography.hazmat.primitives import serialization

    certificate, key = _paths(folder, name)
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.unlink(missing_ok=True)
    with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return [certificate, key]
