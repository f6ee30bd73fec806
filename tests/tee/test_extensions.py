# SPDX-License-Identifier: Apache-2.0
"""Extensions are read as pyca reads them, and what is no extension is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import EndorsementError
from eaa.tee.der import children, dotted, sequence
from eaa.tee.extensions import (
    OF_CERTIFICATE,
    Extension,
    read_basic_constraints,
    read_extensions,
    signs_certificates,
)
from eaa.tee.x509 import Certificate

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])


def octets(value: bytes) -> Extension:
    return Extension(critical=False, octets=bytes((4, len(value))) + value)


def certificate(*, ca: bool, length: int | None, sign: bool, critical: bool) -> bytes:
    usage = x509.KeyUsage(True, False, False, False, False, sign, sign, False, False)  # noqa: FBT003 - pyca's order
    builder = (
        x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 7, NOW, NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, length), critical=critical)
        .add_extension(usage, critical=critical)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113741.1.13.1"), bytes(300)),
            critical=False,
        )
    )
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("critical", [False, True])
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(("ca", "length"), [(False, None), (True, None), (True, 0), (True, 3), (True, 200)])
def test_extensions_are_what_pyca_says_they_are(
    length: int | None, *, ca: bool, sign: bool, critical: bool
) -> None:
    read = Certificate(certificate(ca=ca, length=length, sign=sign, critical=critical))
    theirs = {each.oid.dotted_string: each for each in read.x509.extensions}
    assert {dotted(name): each.critical for name, each in read.extensions.items()} == {
        name: each.critical for name, each in theirs.items()
    }
    assert {dotted(name): each.value for name, each in read.extensions.items()} == {
        name: each.value.public_bytes() for name, each in theirs.items()
    }
    assert (read.ca, read.path_length, read.key_cert_sign) == (ca, length, sign)


def test_an_extension_that_is_there_twice_is_refused() -> None:
    der = certificate(ca=True, length=0, sign=True, critical=True)
    doubled = der.replace(bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13"))
    assert doubled != der
    with pytest.raises(EndorsementError, match="cannot be read"):
        Certificate(doubled)


def test_a_critical_mark_that_is_not_true_in_der_is_refused() -> None:
    der = certificate(ca=True, length=0, sign=True, critical=True)
    altered = der.replace(bytes.fromhex("0603551d130101ff"), bytes.fromhex("0603551d13010101"))
    assert altered != der
    with pytest.raises(EndorsementError, match="cannot be read"):
        Certificate(altered)


@pytest.mark.parametrize("value", ["", "30", "3003010100", "30060101ff0101ff", "3003020100", "04020000"])
def test_malformed_basic_constraints_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"malformed|expected|cut off"):
        read_basic_constraints(octets(bytes.fromhex(value)))


@pytest.mark.parametrize("value", ["", "0300", "030100", "0402ff04"])
def test_a_malformed_key_usage_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"malformed|expected|cut off"):
        signs_certificates(octets(bytes.fromhex(value)))


@given(entries=st.lists(st.binary(max_size=40), max_size=40))
def test_any_bytes_give_extensions_or_an_error(entries: list[bytes]) -> None:
    listed = sequence(b"".join(map(sequence, entries)))
    marked = bytes((OF_CERTIFICATE,)) + sequence(listed)[1:]
    try:
        found = read_extensions(marked, OF_CERTIFICATE)
    except (ValueError, IndexError):
        return
    assert len(found) == len(children(listed, 33)) <= 32


@pytest.mark.parametrize(
    "text", ["1.2.840.113741.1.13.1", "0.9.2342", "2.5.29.19", "2.999.1", "2.23.133.8.1"]
)
def test_identifiers_are_spelled_with_dots(text: str) -> None:
    der = x509.UnrecognizedExtension(x509.ObjectIdentifier(text), b"")
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 7, NOW, NOW + timedelta(days=1))
    read = Certificate(
        builder.add_extension(der, critical=False).sign(KEY, SHA256()).public_bytes(Encoding.DER)
        if text != "2.5.29.19"
        else certificate(ca=True, length=None, sign=True, critical=True)
    )
    assert text in map(dotted, read.extensions)
