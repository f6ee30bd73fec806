# SPDX-License-Identifier: Apache-2.0
"""TCG's RIM in XML: read without entities, believed when its maker signed it, and only what was signed."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from eaa.rim.errors import ManifestError, ManifestRefused
from eaa.rim.swid import MAX_RIM, rim_values, verify_rim

signxml = pytest.importorskip("signxml")
etree = pytest.importorskip("lxml.etree")

HASHES = ("75" * 48, "7d" * 48)
RIM = f"""<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
 xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384"
 name="GH100" tagId="533" version="1.0">
 <ns0:Meta xmlns:ns1="https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
  edition="GPU" product="GH100" ns1:PlatformManufacturerStr="NVIDIA Corporation"/>
 <ns0:Payload>
  <ns0:Resource type="Measurement" index="0" ns2:Hash0="{"0" * 96}" size="48"/>
  <ns0:Resource type="Measurement" index="12" ns2:Hash0="{"0" * 96}" ns2:Hash1="{HASHES[0].upper()}" ns2:Hash2="{HASHES[1]}"/>
  <ns0:Resource type="Other" index="13"/>
 </ns0:Payload>
</SoftwareIdentity>""".encode()
VALUES = {"NVIDIA_Corporation.GPU.measurement_12": list(HASHES)}


def certificate(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key, now = ec.generate_private_key(ec.SECP384R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return key, builder.sign(key, SHA384())


MAKER_KEY, MAKER = certificate("the maker of GPUs")
STRANGER_KEY, STRANGER = certificate("somebody else")


def signed(data: bytes = RIM, key: Any = MAKER_KEY, cert: Any = MAKER) -> bytes:
    signer = signxml.XMLSigner(signature_algorithm="ecdsa-sha384", digest_algorithm="sha384")
    return bytes(etree.tostring(signer.sign(etree.fromstring(data), key=key, cert=[cert])))


def test_measurements_are_named_as_trustee_does() -> None:
    assert rim_values(RIM) == VALUES


def test_what_the_maker_signed_counts() -> None:
    assert rim_values(verify_rim(signed(), [STRANGER, MAKER])) == VALUES


def _another_letter(match: re.Match[bytes]) -> bytes:
    return match[1] + (b"B" if match[2] == b"A" else b"A")


def test_unsigned_strange_and_changed_manifests_are_refused() -> None:
    for data, check in (
        (RIM, "manifest.unsigned"),
        (signed(key=STRANGER_KEY, cert=STRANGER), "manifest.signature"),
        (signed().replace(HASHES[1].encode(), b"7e" * 48), "manifest.signature"),
        (re.sub(rb"(SignatureValue>)(.)", _another_letter, signed(), count=1), "manifest.signature"),
    ):
        with pytest.raises(ManifestRefused) as caught:
            verify_rim(data, [MAKER])
        assert caught.value.check == check
        assert caught.value.hint
    with pytest.raises(ManifestRefused):
        verify_rim(signed(), [])


def test_a_signed_manifest_inside_another_lends_it_nothing() -> None:
    """Signature wrapping: an unsigned document around the signed one, with the signature moved up."""
    inner = etree.fromstring(signed())
    outer = etree.fromstring(RIM.replace(HASHES[1].encode(), b"7e" * 48))
    signature = inner.find("{http://www.w3.org/2000/09/xmldsig#}Signature")
    outer.append(signature)
    outer.append(inner)
    with pytest.raises(ManifestRefused):
        verify_rim(etree.tostring(outer), [MAKER])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"SoftwareIdentity", b"Software"),
        (b'edition="GPU"', b""),
        (b'edition="GPU"', b'edition=""'),
        (b"ns1:PlatformManufacturerStr", b"PlatformManufacturerStr"),
        (b"ns0:Payload", b"ns0:Load"),
        (b'index="12"', b""),
        (b'index="12"', b'index="a"'),
        (b'index="12"', b'index="0"'),
        (HASHES[1].encode(), b"7d"),
        (HASHES[1].encode(), b"zz" * 48),
        (b"xmlenc#sha384", b"xmlenc#md5"),
        (b'type="Measurement"', b'type="Other"'),
    ],
)
def test_what_is_no_rim_is_refused(old: bytes, new: bytes) -> None:
    assert old in RIM
    with pytest.raises(ManifestError):
        rim_values(RIM.replace(old, new))


def test_nothing_outside_of_the_document_is_looked_at() -> None:
    entities = b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d SYSTEM "file:///etc/passwd">]>'
    bomb = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
    )
    for data in (entities + RIM, bomb + b"]>" + RIM, b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">' + RIM):
        for read in (rim_values, lambda each: verify_rim(each, [MAKER])):
            with pytest.raises(ManifestError):
                read(data)
    for data in (b"", b"<", b"<a/>", b" " * (MAX_RIM + 1), b'<?xml version="1.0" encoding="nonsense"?><a/>'):
        with pytest.raises(ManifestError):
            rim_values(data)


@given(data=st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        rim_values(data)


@given(position=st.integers(0, len(RIM) - 1), byte=st.integers(0, 255))
def test_a_rim_with_a_changed_byte_is_read_or_refused(position: int, byte: int) -> None:
    data = bytearray(RIM)
    data[position] = byte
    with contextlib.suppress(ManifestError):
        rim_values(bytes(data))
