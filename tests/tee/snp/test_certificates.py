# SPDX-License-Identifier: Apache-2.0
"""VCEK and VLEK certificates: AMD's encodings, old and new, and the serial number 0."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eaa.rats import EndorsementError
from eaa.simulator.snp_mint import mint_snp
from eaa.tee.snp.certificates import read_endorsement_key
from eaa.tee.snp.product import Product, Tcb
from eaa.tee.snp.roots import AMD_AUTHORITIES, AMD_ROOTS
from eaa.tee.x509 import Certificate, ChainReader, split_pem

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from eaa.simulator.amd import AmdChipMaker


@pytest.fixture(scope="module")
def vcek(amd: AmdChipMaker, at: datetime) -> bytes:
    return mint_snp(amd, b"", at=at).machine.certificate


def leaves(vectors: Path) -> dict[str, bytes]:
    found = {}
    for path in vectors.glob("snp/*/v[cl]ek.*"):
        data = path.read_bytes()
        found[path.parent.name] = data if path.suffix == ".der" else split_pem(data)[0]
    return found


def test_real_certificates_have_the_serial_number_0_and_are_read_without_a_warning(vectors: Path) -> None:
    """pyca warns that it will refuse them one day; they are read without it (and warnings are errors in these tests)."""
    found = leaves(vectors)
    assert len(found) >= 14
    for name, der in found.items():
        key = read_endorsement_key(der)
        assert key.serial == 0, name
    with pytest.warns(CryptographyDeprecationWarning):
        x509.load_der_x509_certificate(der)


def test_what_is_read_is_what_pyca_reads(vectors: Path) -> None:
    for name, der in leaves(vectors).items():
        key = read_endorsement_key(der)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = x509.load_der_x509_certificate(der)
        assert key.signed == other.tbs_certificate_bytes, name
        assert key.signature == other.signature
        assert key.issuer == other.issuer.public_bytes()
        assert key.public_key == other.public_key()
        assert (key.window.start, key.window.end) == (other.not_valid_before_utc, other.not_valid_after_utc)


@pytest.mark.parametrize(("name", "snp", "microcode"), [("legacy", 10, 169), ("new", 0, 30)])
def test_both_encodings_of_extensions_are_read(vectors: Path, name: str, snp: int, microcode: int) -> None:
    """AMD once put the hardware id into its extension as it is, and later as an OCTET STRING."""
    key = read_endorsement_key((vectors / f"snp/snp-neg-trustee-vcek-{name}/vcek.der").read_bytes())
    assert key.hardware_id == bytes(range(64))
    assert (key.tcb.snp, key.tcb.microcode) == (snp, microcode)


@pytest.mark.parametrize("product", list(Product))
@pytest.mark.parametrize("signer", ["VCEK", "VLEK"])
def test_simulated_certificates_have_amds_shape(
    amd: AmdChipMaker, at: datetime, product: Product, signer: str
) -> None:
    machine = mint_snp(amd, b"", at=at, product=product, signer=signer).machine
    key = read_endorsement_key(machine.certificate)
    assert (key.kind, key.serial, key.tcb) == (signer, 0, machine.tcb)
    assert key.hardware_id == (machine.chip_id if signer == "VCEK" else None)
    assert (key.csp_id is None) is (signer == "VCEK")
    assert key.issued_by(Certificate(amd.authority(product, "ask" if signer == "VCEK" else "asvk").der))
    assert not key.issued_by(Certificate(amd.authority(product, "ark").der))


def test_a_simulated_certificate_differs_from_a_real_one_in_values_only(
    vectors: Path, amd: AmdChipMaker, at: datetime
) -> None:
    def shape(der: bytes) -> list[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
        extensions = [f"{each.oid.dotted_string} {each.critical}" for each in certificate.extensions]
        names = [each.oid.dotted_string for each in certificate.subject]
        return [*extensions, *names, certificate.signature_algorithm_oid.dotted_string]

    real = leaves(vectors)
    for product in Product:
        machine = mint_snp(amd, b"", at=at, product=product).machine
        assert shape(machine.certificate) == shape(real[f"snp-microsoft-{product.lower()}"])


def test_what_the_repository_ships_is_what_amd_publishes(vectors: Path) -> None:
    files = [*vectors.glob("amd-kds/*_chain.pem"), *vectors.glob("amd-kds/*_asvk.pem")]
    published = {der for path in files for der in split_pem(path.read_bytes())}
    assert {anchor.certificate for anchor in AMD_ROOTS} | set(AMD_AUTHORITIES) == published
    assert not any(anchor.simulated for anchor in AMD_ROOTS)


def test_the_shipped_authorities_lead_to_the_shipped_roots() -> None:
    chains = ChainReader(AMD_ROOTS)
    roots = {Certificate(each.certificate).subject: each.certificate for each in AMD_ROOTS}
    names = []
    for der in AMD_AUTHORITIES:
        certificate = Certificate(der)
        pem = b"".join(
            x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM)
            for each in (der, roots[certificate.issuer])
        )
        names.append(chains.read(pem).leaf.name)
    lines = ("Milan", "Genoa", "Turin")
    assert names == [f"SEV-{line}" for line in lines] + [f"SEV-VLEK-{line}" for line in lines]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a003020102", "a003020101", "version 3"),
        ("5345562d5643454b", "5345562d5643454c", "not of SEV-VCEK"),
        ("5345562d5643454b", "5345562d564c454b", "wrong one"),
        ("2b060104019c780104", "2b060104019c780105", "wrong one"),
        ("2b060104019c78010303", "2b060104019c78010304", "twice"),
        ("2b060104019c780102", "2b060104019c780107", "missing"),
        ("2b060104019c78010301040302010a", "2b060104019c7801030104030201ff", "patch level"),
        ("2b060104019c78010301040302010a", "2b060104019c78010301040304010a", "not the one DER"),
        ("06052b81040022", "06052b81040023", "key"),
        ("06092a864886f70d01010a", "06092a864886f70d01010b", "algorithms"),
        ("60864801650304020205", "60864801650304020105", "algorithms"),
    ],
)
def test_a_certificate_of_another_shape_is_refused(vcek: bytes, old: str, new: str, message: str) -> None:
    before, after = bytes.fromhex(old), bytes.fromhex(new)
    assert before in vcek
    with pytest.raises(EndorsementError, match=message):
        read_endorsement_key(vcek.replace(before, after, 1))


def test_another_algorithm_is_refused(vcek: bytes) -> None:
    """Named twice alike, but not the one that AMD's profile has."""
    sha384, sha256 = bytes.fromhex("608648016503040202"), bytes.fromhex("608648016503040201")
    with pytest.raises(EndorsementError, match="RSASSA-PSS"):
        read_endorsement_key(vcek.replace(sha384, sha256))


def test_an_ordinary_certificate_is_refused() -> None:
    for der in (AMD_AUTHORITIES[0], b"", b"\x30\x00", b"\x30" * 5000, bytes(9000)):
        with pytest.raises(EndorsementError):
            read_endorsement_key(der)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_an_error_or_changes_what_is_signed(vcek: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(vcek) - 1))
    damaged = vcek[:at] + data.draw(st.binary(max_size=3)) + vcek[at + data.draw(st.integers(0, 3)) :]
    whole = read_endorsement_key(vcek)
    try:
        key = read_endorsement_key(damaged)
    except EndorsementError:
        return
    assert damaged == vcek or (key.signed, key.signature) != (whole.signed, whole.signature)


def test_a_level_above_127_takes_two_bytes(amd: AmdChipMaker, at: datetime) -> None:
    key = read_endorsement_key(mint_snp(amd, b"", at=at, product=Product.MILAN).machine.certificate)
    assert key.tcb == Tcb(None, 4, 0, 0x1D, 0xDE)
