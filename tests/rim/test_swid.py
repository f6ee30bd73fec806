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

from eaa.rats import TrustAnchor
from eaa.rim.errors import ManifestError, ManifestRefused
from eaa.rim.swid import MAX_RIM, RimTrust, rim_values, verify_rim

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


NOW = datetime(2026, 3, 16, tzinfo=UTC)


class Maker:
    """Somebody with a root certificate, and one below it that signs manifests."""

    def __init__(self, name: str) -> None:
        root_key, self.key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
        self.root = _certificate(f"{name} root", f"{name} root", root_key.public_key(), root_key, ca=True)
        self.leaf = _certificate(f"{name} signer", f"{name} root", self.key.public_key(), root_key, ca=False)

    def sign(self, data: bytes = RIM) -> bytes:
        signer = signxml.XMLSigner(signature_algorithm="ecdsa-sha384", digest_algorithm="sha384")
        chain = [self.leaf, self.root]
        return bytes(etree.tostring(signer.sign(etree.fromstring(data), key=self.key, cert=chain)))


def _certificate(
    name: str, issuer: str, public: Any, key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    subject, above = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    builder = x509.CertificateBuilder(above, subject, public, x509.random_serial_number())
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    usage = x509.KeyUsage(
        digital_signature=not ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return builder.add_extension(usage, critical=True).sign(key, SHA384())


MAKER, STRANGER = Maker("the maker of GPUs"), Maker("somebody else")


def trust(*makers: Maker, at: datetime = NOW) -> RimTrust:
    return RimTrust(tuple(TrustAnchor.from_certificate(each.root, simulated=True) for each in makers), at)


def test_measurements_are_named_as_trustee_does() -> None:
    assert rim_values(RIM) == VALUES


def test_what_the_maker_signed_counts() -> None:
    assert rim_values(verify_rim(MAKER.sign(), trust(STRANGER, MAKER))) == VALUES


def _another_letter(match: re.Match[bytes]) -> bytes:
    return match[1] + (b"B" if match[2] == b"A" else b"A")


def test_unsigned_strange_and_changed_manifests_are_refused() -> None:
    signed = MAKER.sign()
    for data, check in (
        (RIM, "manifest.unsigned"),
        (STRANGER.sign(), "manifest.chain"),
        (re.sub(rb"(X509Certificate>)[^<]+", rb"\1AAAA", signed), "manifest.chain"),
        (re.sub(rb"<[^>]*KeyInfo>.*KeyInfo>", b"", signed, flags=re.DOTALL), "manifest.chain"),
        (signed.replace(HASHES[1].encode(), b"7e" * 48), "manifest.signature"),
        (re.sub(rb"(SignatureValue>)(.)", _another_letter, signed, count=1), "manifest.signature"),
    ):
        assert refused(data, trust(MAKER)) == check
    assert refused(signed, trust()) == "manifest.chain"
    for at in (NOW - timedelta(days=2), NOW + timedelta(days=2)):
        assert refused(signed, trust(MAKER, at=at)) == "manifest.expired"


def refused(data: bytes, trusted: RimTrust) -> str:
    with pytest.raises(ManifestRefused) as caught:
        verify_rim(data, trusted)
    assert caught.value.hint
    return caught.value.check


def test_a_signed_manifest_inside_another_lends_it_nothing() -> None:
    """Signature wrapping: an unsigned document around the signed one, with the signature moved up."""
    inner = etree.fromstring(MAKER.sign())
    outer = etree.fromstring(RIM.replace(HASHES[1].encode(), b"7e" * 48))
    signature = inner.find("{http://www.w3.org/2000/09/xmldsig#}Signature")
    outer.append(signature)
    outer.append(inner)
    assert refused(etree.tostring(outer), trust(MAKER)) == "manifest.signature"


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
        for read in (rim_values, lambda each: verify_rim(each, trust(MAKER))):
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
