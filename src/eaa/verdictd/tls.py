# SPDX-License-Identifier: Apache-2.0
"""Verdictd's own certificate authority and server certificate.

The authority is made once and pinned by guests and administrators; the server certificate is issued anew by the same authority
when it nears its end or when the server listens under another name. Validity follows the CA/Browser Forum's limit of 398 days
for server certificates.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from eaa._files import write_whole
from eaa.rats import ConfigurationError
from eaa.verdictd._files import make_folder, read_secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["TlsFiles", "ensure_tls", "server_context"]

AUTHORITY_LIFETIME: Final = timedelta(days=3650)
SERVER_LIFETIME: Final = timedelta(days=397)
RENEW_BEFORE: Final = timedelta(days=60)
_BACKDATE: Final = timedelta(minutes=5)
"""Guests' clocks may lag behind the server's."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the authority's and the server's files lie; ``authority`` is what peers pin."""

    authority: Path
    authority_key: Path
    certificate: Path
    key: Path

    @classmethod
    def within(cls, folder: Path) -> TlsFiles:
        """Return the files of one folder."""
        return cls(folder / "ca.pem", folder / "ca.key", folder / "server.pem", folder / "server.key")


def ensure_tls(folder: Path, hosts: Sequence[str], *, at: datetime) -> TlsFiles:
    """Make what is missing of the authority and the server certificate for ``hosts`` (names or addresses), and say where it lies.

    :raises ConfigurationError: when files that exist cannot be used.
    """
    make_folder(folder)
    files = TlsFiles.within(folder)
    if not files.authority.exists():
        _make_authority(files, at)
    authority, authority_key = _load_authority(files)
    if not _serves(files, authority, hosts, at):
        _issue(files, authority, authority_key, hosts, at)
    return files


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a server's TLS context: TLS 1.2 or newer, no compression, no renegotiation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key)
    return context


def _make_authority(files: TlsFiles, at: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Verdictd CA")])
    certificate = (
        _builder(name, name, key.public_key(), at, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_whole(files.authority_key, _pem(key))
    write_whole(files.authority, certificate.public_bytes(Encoding.PEM), mode=0o644)


def _load_authority(files: TlsFiles) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(files.authority.read_bytes())
        key = load_pem_private_key(read_secret(files.authority_key), None)
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"cannot use the TLS authority in {files.authority.parent}",
            hint="Restore ca.pem and ca.key, or remove the folder to begin with a new authority.",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigurationError(f"{files.authority_key} is not the key of {files.authority}")
    return certificate, key


def _serves(files: TlsFiles, authority: x509.Certificate, hosts: Sequence[str], at: datetime) -> bool:
    """Whether the certificate on disk is this authority's, names ``hosts`` and will not end soon."""
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = load_pem_private_key(read_secret(files.key), None)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except FileNotFoundError:
        return False
    except ConfigurationError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is issued
        return False
    return (
        key.public_key() == certificate.public_key()
        and certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc - RENEW_BEFORE
        and {_general_name(host) for host in hosts} <= set(names)
    )


def _issue(
    files: TlsFiles,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    at: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Verdictd")])
    certificate = (
        _builder(name, authority.subject, key.public_key(), at, SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    write_whole(files.key, _pem(key))
    write_whole(files.certificate, certificate.public_bytes(Encoding.PEM), mode=0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACKDATE)
        .not_valid_after(at + lifetime)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
