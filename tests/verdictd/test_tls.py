# SPDX-License-Identifier: Apache-2.0
"""Verdictd's authority and server certificate."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from eaa.rats import ConfigurationError
from eaa.verdictd.tls import TlsFiles, ensure_tls, server_context

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)
HOSTS = ["localhost", "127.0.0.1"]


def _handshake(files: TlsFiles, client: ssl.SSLContext, name: str) -> str:
    ours, theirs = socket.socketpair()
    refused: list[BaseException] = []

    def serve() -> None:
        try:
            server_context(files).wrap_socket(ours, server_side=True).close()
        except OSError as error:
            refused.append(error)
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(theirs, server_hostname=name) as connection:
            return str(connection.version())
    finally:
        theirs.close()
        thread.join()


def test_pinned_client_connects_by_name_and_address(tmp_path: Path) -> None:
    """A client that trusts this authority alone reaches the server under each of its names."""
    files = ensure_tls(tmp_path / "tls", HOSTS, at=NOW)
    client = ssl.create_default_context(cafile=files.authority)
    assert _handshake(files, client, "localhost") == "TLSv1.3"
    assert _handshake(files, client, "127.0.0.1") == "TLSv1.3"


def test_other_name_is_refused(tmp_path: Path) -> None:
    """The certificate does not vouch for names it was not made for."""
    files = ensure_tls(tmp_path / "tls", HOSTS, at=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(files, ssl.create_default_context(cafile=files.authority), "example.com")


def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    """A client that speaks TLS 1.1 at most gets no connection."""
    files = ensure_tls(tmp_path / "tls", HOSTS, at=NOW)
    client = ssl.create_default_context(cafile=files.authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)ssl|reset|eof"):
        _handshake(files, client, "localhost")


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    """Folder 0700, keys 0600."""
    files = ensure_tls(tmp_path / "tls", HOSTS, at=NOW)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.authority_key.stat().st_mode) == 0o600


def test_second_start_changes_nothing(tmp_path: Path) -> None:
    """What is good is kept byte for byte."""
    files = ensure_tls(tmp_path, HOSTS, at=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert ensure_tls(tmp_path, HOSTS, at=NOW + timedelta(days=300)) == files
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("days", "hosts"), [(350, HOSTS), (1, [*HOSTS, "kbs.internal"])])
def test_certificate_is_renewed_by_the_same_authority(tmp_path: Path, days: int, hosts: list[str]) -> None:
    """Near its end, or for another name, a new certificate is issued; guests keep their pin."""
    files = ensure_tls(tmp_path, HOSTS, at=NOW)
    authority, certificate = files.authority.read_bytes(), files.certificate.read_bytes()
    ensure_tls(tmp_path, hosts, at=NOW + timedelta(days=days))
    assert files.authority.read_bytes() == authority
    assert files.certificate.read_bytes() != certificate
    renewed = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    renewed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert renewed.not_valid_after_utc > NOW + timedelta(days=days + 300)


def test_damaged_certificate_is_replaced_and_damaged_authority_is_not(tmp_path: Path) -> None:
    """The server certificate can be issued again; the authority that guests pin never changes by itself."""
    files = ensure_tls(tmp_path, HOSTS, at=NOW)
    files.certificate.write_text("damaged")
    ensure_tls(tmp_path, HOSTS, at=NOW)
    x509.load_pem_x509_certificate(files.certificate.read_bytes())
    files.authority_key.write_text("damaged")
    with pytest.raises(ConfigurationError):
        ensure_tls(tmp_path, HOSTS, at=NOW)


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A key that others can read is not used."""
    files = ensure_tls(tmp_path, HOSTS, at=NOW)
    files.key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        ensure_tls(tmp_path, HOSTS, at=NOW)


def test_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """A folder in which others can replace keys is not used."""
    folder = tmp_path / "tls"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write"):
        ensure_tls(folder, HOSTS, at=NOW)
