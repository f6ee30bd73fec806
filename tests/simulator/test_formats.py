# SPDX-License-Identifier: Apache-2.0
"""What the simulator issues looks like what Intel issues: compared with real certificates, lists and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

import eaa
from eaa.simulator import ChipMaker, mint, to_common_form
from eaa.tee.dcap.quote import pack_envelope, pack_signed, parse_envelope

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SGX = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


def pck_chain(quote: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(parse_envelope(quote).signature.certification.data.rstrip(b"\0"))


def common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def shape(der: bytes) -> list[Any]:
    """Return tags, OIDs and sizes of fixed-size values of a DER element, without the values themselves."""
    found: list[Any] = []
    at = 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(der[at : at + count]), at + count
        content, at = der[at : at + size], at + size
        if tag & 0x20:
            found.append((tag, shape(content)))
        elif tag == 0x06:
            found.append((tag, content))
        else:
            found.append((tag, None if tag == 0x02 else size))
    return found


def form_of(value: Any) -> Any:
    """Return the names and kinds in a JSON value, in order; of lists, what their first element is like."""
    if isinstance(value, dict):
        return [(name, form_of(each)) for name, each in value.items()]
    if isinstance(value, list):
        return [form_of(value[0])] if value else []
    return type(value).__name__


@pytest.mark.parametrize(
    ("path", "tee", "ca"),
    [
        ("tdx/tdx-phala-uptodate", "tdx", "platform"),
        ("sgx/sgx-teepot-sw-hardening", "sgx", "platform"),
        ("sgx/sgx-teepot-out-of-date", "sgx", "processor"),
    ],
)
def test_the_pck_chain_is_shaped_as_intels(
    vectors: Path, maker: ChipMaker, at: datetime, path: str, tee: str, ca: str
) -> None:
    real = pck_chain((vectors / path / "quote.bin").read_bytes())
    ours = pck_chain(mint(maker, tee, b"", at=at, ca=ca).quote)
    assert [common_name(each.subject) for each in ours] == [common_name(each.subject) for each in real]
    assert [common_name(each.issuer) for each in ours] == [common_name(each.issuer) for each in real]
    for mine, theirs in zip(ours, real, strict=True):
        assert [(e.oid, e.critical) for e in mine.extensions] == [
            (e.oid, e.critical) for e in theirs.extensions
        ]
        assert mine.version == theirs.version
        assert mine.signature_algorithm_oid == theirs.signature_algorithm_oid
        for kind in (x509.BasicConstraints, x509.KeyUsage):
            assert (
                mine.extensions.get_extension_for_class(kind).value
                == theirs.extensions.get_extension_for_class(kind).value
            )
        assert [part.oid for part in mine.subject] == [part.oid for part in theirs.subject]
    sgx = [chain[0].extensions.get_extension_for_oid(SGX).value.public_bytes() for chain in (ours, real)]
    assert shape(sgx[0]) == shape(sgx[1])


def test_it_does_not_pass_for_intel(maker: ChipMaker) -> None:
    organisation = maker.root_certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0]
    assert organisation.value == "EAA simulated chip maker"
    assert maker.trust_anchor().simulated
    assert maker.trust_anchor().public_key != eaa.INTEL_ROOT.public_key


@pytest.mark.parametrize(
    ("name", "tee", "member"),
    [
        ("tcb_info-tdx-90c06f000000-2026-03-16.json", "tdx", "tcb_info"),
        ("tcb_info-sgx-90c06f000000-2025-09.json", "sgx", "tcb_info"),
        ("qe_identity-tdx-2026-03-16.json", "tdx", "qe_identity"),
        ("qe_identity-sgx-2025-01-21.json", "sgx", "qe_identity"),
    ],
)
def test_statements_have_intels_members_in_intels_order(
    vectors: Path, maker: ChipMaker, at: datetime, name: str, tee: str, member: str
) -> None:
    real = json.loads((vectors / "intel-pcs" / name).read_bytes())
    (item,) = maker.collateral(tee, at).of_kind(member)
    assert form_of(json.loads(item.content)) == form_of(real)


def test_revocation_lists_are_shaped_as_intels(vectors: Path, maker: ChipMaker, at: datetime) -> None:
    real = x509.load_der_x509_crl((vectors / "intel-pcs/pck_crl_platform-2026-03-16.der").read_bytes())
    (item,) = maker.collateral("tdx", at).of_kind("pck_crl")
    ours = x509.load_der_x509_crl(item.content)
    assert [(each.oid, each.critical) for each in ours.extensions] == [
        (each.oid, each.critical) for each in real.extensions
    ]
    assert common_name(ours.issuer) == common_name(real.issuer)
    assert list(ours[0].extensions) == list(real[0].extensions)
    assert real.next_update_utc is not None
    assert ours.next_update_utc is not None
    assert ours.next_update_utc - ours.last_update_utc == real.next_update_utc - real.last_update_utc


def test_the_common_form_has_the_members_others_use(vectors: Path, maker: ChipMaker, at: datetime) -> None:
    real = json.loads((vectors / "tdx/tdx-phala-uptodate/dcap_qvl_json.json").read_bytes())
    ours = to_common_form(maker.collateral("tdx", at))
    assert set(ours) >= {name for name in real if name != "pck_certificate_chain"}


def test_the_common_form_is_read_back_byte_for_byte(maker: ChipMaker, at: datetime, tmp_path: Path) -> None:
    collateral = maker.collateral("tdx", at)
    path = tmp_path / "collateral.json"
    path.write_text(json.dumps(to_common_form(collateral)))
    read = eaa.load_endorsements(path)
    for kind in ("tcb_info", "qe_identity", "pck_crl", "root_ca_crl"):
        assert read.of_kind(kind) == collateral.of_kind(kind)


@pytest.mark.parametrize(("tee", "version"), [("sgx", 3), ("sgx", 4), ("sgx", 5), ("tdx", 4), ("tdx", 5)])
def test_quotes_are_packed_as_they_are_parsed(maker: ChipMaker, at: datetime, tee: str, version: int) -> None:
    quote = mint(maker, tee, b"x", at=at, version=version).quote
    envelope = parse_envelope(quote)
    assert envelope.header.version == version
    assert envelope.padding == 0
    signed = pack_signed(envelope.header, envelope.body_type, envelope.body)
    assert pack_envelope(signed, envelope.signature) == quote
