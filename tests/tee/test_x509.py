# SPDX-License-Identifier: Apache-2.0
"""Chains and lists: what holds them together, and that hostile ones are refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import EndorsementError, TrustAnchor
from eaa.tee.der import children, sequence
from eaa.tee.x509 import Certificate, ChainReader, CrlIssue, Window, read_crl, revoked_in

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Ca:
    """A certificate and its key; ``issue`` makes one below it."""

    def __init__(
        self,
        common: str,
        issuer: Ca | None = None,
        *,
        ca: bool = True,
        path: int | None = None,
        usage: bool = True,
        critical: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        digest: hashes.SHA224 | hashes.SHA256 | None = None,
    ) -> None:
        self.certificate: x509.Certificate
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        parent = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(parent.certificate.subject if issuer else name(common))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(BEGIN)
            .not_valid_after(END)
            .add_extension(x509.BasicConstraints(ca, path), critical=True)
        )
        if usage:
            sign = x509.KeyUsage(
                digital_signature=not ca,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(sign, critical=True)
        if critical:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(critical), b"\x05\x00")
            builder = builder.add_extension(unknown, critical=True)
        self.certificate = builder.sign(parent.key, digest or hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def read(self) -> Certificate:
        return Certificate(self.certificate.public_bytes(Encoding.DER))

    def anchor(self, *, key_only: bool = False) -> TrustAnchor:
        anchor = TrustAnchor.from_certificate(self.certificate, simulated=True)
        return TrustAnchor(anchor.name, anchor.public_key, simulated=True) if key_only else anchor

    def crl(self, *revoked: Ca, end: datetime = END) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(BEGIN)
            .next_update(end)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(BEGIN).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


ROOT = Ca("root")
MIDDLE = Ca("middle", ROOT)
LEAF = Ca("leaf", MIDDLE, ca=False)


def pem(*certificates: Ca) -> bytes:
    return b"".join(each.pem for each in certificates)


def read(data: bytes, anchors: Sequence[TrustAnchor] = (ROOT.anchor(),)) -> list[str]:
    return ChainReader(anchors).read(data).names


@pytest.mark.parametrize(
    "order", [(LEAF, MIDDLE, ROOT), (LEAF, ROOT, MIDDLE)], ids=["in order", "out of order"]
)
@pytest.mark.parametrize("key_only", [False, True])
def test_a_chain_is_read_up_to_its_pinned_root(order: tuple[Ca, ...], *, key_only: bool) -> None:
    assert read(pem(*order) + b"\0", [ROOT.anchor(key_only=key_only)]) == ["leaf", "middle", "root"]


def test_another_issue_of_the_root_with_the_same_key_is_the_same_root() -> None:
    again = Ca("root", key=ROOT.key)
    assert again.certificate != ROOT.certificate
    assert read(pem(LEAF, MIDDLE, again)) == ["leaf", "middle", "root"]


def test_a_root_with_a_pinned_key_but_a_broken_self_signature_is_refused() -> None:
    """The caller's copy of the root is not trusted for carrying the right key (attack A12)."""
    der = bytearray(Ca("root", key=ROOT.key).certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    altered = x509.load_der_x509_certificate(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(EndorsementError, match="no root"):
        read(pem(LEAF, MIDDLE) + altered)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 certificates"),
        (pem(LEAF, MIDDLE, ROOT) * 2, "6 certificates"),
        (pem(LEAF, MIDDLE), "no root"),
        (pem(LEAF, ROOT), "not issued by"),
        (pem(LEAF, MIDDLE, Ca("root")), "not issued by"),
        (pem(LEAF, Ca("middle", ROOT), ROOT), "not issued by"),
        (pem(LEAF, MIDDLE, ROOT, Ca("stranger")), "not issued by"),
        (pem(LEAF)[:-30], "something else"),
        (b"x" + pem(LEAF, MIDDLE, ROOT), "something else"),
        (pem(LEAF, MIDDLE, ROOT) + b"x", "something else"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", "broken"),
    ],
)
def test_what_is_no_chain_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EndorsementError, match=message):
        read(data)


def test_an_unpinned_root_is_refused_by_name() -> None:
    with pytest.raises(EndorsementError, match="not pinned"):
        read(pem(LEAF, MIDDLE, ROOT), [Ca("root").anchor()])
    with pytest.raises(EndorsementError, match="pinned: none"):
        read(pem(LEAF, MIDDLE, ROOT), [])


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (Ca("middle", ROOT, ca=False), "without being marked as a CA"),
        (Ca("middle", ROOT, usage=False), "without being marked as a CA"),
        (Ca("middle", ROOT, critical="1.2.3.4"), "unknown critical extension 1.2.3.4"),
        (Ca("middle", ROOT, digest=hashes.SHA224()), "not issued by"),
    ],
)
def test_a_bad_intermediate_is_refused(middle: Ca, message: str) -> None:
    with pytest.raises(EndorsementError, match=message):
        read(pem(Ca("leaf", middle, ca=False), middle, ROOT))


def test_the_path_length_is_kept() -> None:
    root = Ca("root", path=0)
    middle = Ca("middle", root)
    assert read(pem(Ca("leaf", root, ca=False), root), [root.anchor()]) == ["leaf", "root"]
    with pytest.raises(EndorsementError, match="allows 0"):
        read(pem(Ca("leaf", middle, ca=False), middle, root), [root.anchor()])


def test_a_list_names_whom_it_revokes() -> None:
    crl = read_crl(MIDDLE.crl(LEAF), MIDDLE.read)
    assert revoked_in(crl, LEAF.read) == BEGIN
    assert revoked_in(crl, Ca("leaf", MIDDLE).read) is None
    assert crl.window == Window("CRL of middle", BEGIN, END)


def test_a_list_of_somebody_else_is_refused() -> None:
    with pytest.raises(CrlIssue, match="another issuer"):
        read_crl(ROOT.crl(), MIDDLE.read)
    with pytest.raises(CrlIssue, match="not signed"):
        read_crl(Ca("middle", ROOT).crl(), MIDDLE.read)
    with pytest.raises(CrlIssue, match="cannot be read"):
        read_crl(b"", MIDDLE.read)


def test_an_altered_list_is_refused() -> None:
    der = MIDDLE.crl(LEAF)
    serial = LEAF.certificate.serial_number
    size = (serial.bit_length() + 7) // 8
    altered = der.replace(serial.to_bytes(size, "big"), (serial ^ 1).to_bytes(size, "big"))
    assert altered != der
    with pytest.raises(CrlIssue, match="not signed"):
        read_crl(altered, MIDDLE.read)


def test_windows_intersect_and_name_what_bounds_them() -> None:
    day = timedelta(days=1)
    early, late = Window("early", BEGIN, BEGIN + 3 * day), Window("late", BEGIN + day, BEGIN + 5 * day)
    both = Window.intersection([early, late])
    assert (both.start, both.end) == (late.start, early.end)
    assert both.what == "late and early"
    assert both.holds(late.start)
    assert both.holds(early.end)
    assert not both.holds(early.end + timedelta(seconds=1))
    assert not both.holds(BEGIN)


@given(data=st.binary(max_size=400))
def test_any_bytes_give_elements_or_a_value_error(data: bytes) -> None:
    try:
        elements = children(data)
    except ValueError:
        return
    assert all(each in data for each in elements)


@given(content=st.lists(st.binary(max_size=300), max_size=5))
def test_sequences_are_taken_apart_as_they_were_made(content: list[bytes]) -> None:
    parts = [sequence(each) for each in content]
    assert children(sequence(b"".join(parts))) == parts


@given(edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5))
def test_mutated_chains_are_refused_or_harmless(edits: list[tuple[int, int]]) -> None:
    data = bytearray(pem(LEAF, MIDDLE, ROOT))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        chain = ChainReader([ROOT.anchor()]).read(bytes(data))
    except EndorsementError:
        return
    assert chain.leaf.signed == LEAF.read.signed


@given(edits=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=5))
def test_mutated_lists_are_refused_or_unchanged(edits: list[tuple[int, int]]) -> None:
    original = MIDDLE.crl(LEAF)
    data = bytearray(original)
    for position, value in edits:
        data[position % len(data)] = value
    try:
        crl = read_crl(bytes(data), MIDDLE.read)
    except CrlIssue:
        return
    assert revoked_in(crl, LEAF.read) == BEGIN


@pytest.mark.parametrize(
    ("offset", "found"),
    [
        (timedelta(0), "now"),
        (timedelta(days=10), "now"),
        (timedelta(days=10, seconds=30), "now: expired less than a minute ago"),
        (timedelta(days=10, minutes=2), "now: expired 2 minutes ago"),
        (timedelta(days=11, hours=5), "now: expired 1 day ago"),
        (timedelta(days=40), "now: expired 30 days ago"),
        (timedelta(hours=-1), "now: begins in 1 hour"),
    ],
)
def test_a_missed_window_says_by_how_much(offset: timedelta, found: str) -> None:
    window = Window("list", BEGIN, BEGIN + timedelta(days=10))
    assert window.found_at(BEGIN + offset, "now") == found
