# SPDX-License-Identifier: Apache-2.0
"""The attestation report and the evidence around it: exact to the byte, total on anything else."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eaa.rats import EvidenceError
from eaa.simulator.snp_mint import mint_snp
from eaa.tee.snp.evidence import (
    DeliveredCertificate,
    SnpEvidence,
    evidence_from_kbs,
    evidence_to_kbs,
    make_evidence,
    pack_certificate_table,
    parse_certificate_table,
    parse_snp_evidence,
)
from eaa.tee.snp.product import Product, Tcb, product_of_cpuid, product_of_name
from eaa.tee.snp.report import REPORT_SIZE, AttestationReport

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from eaa.simulator.amd import AmdChipMaker

VERSIONS = [(p, v) for p in Product for v in (2, 3, 4, 5) if (p, v) != (Product.TURIN, 2)]
BYTES = bytes(range(256)) * 5
CERTIFICATES = (
    DeliveredCertificate("VCEK", b"\x30\x01\x00"),
    DeliveredCertificate("ASK", b"\x30\x02\x00\x01"),
)


@pytest.fixture(scope="module")
def report(amd: AmdChipMaker, at: datetime) -> bytes:
    return mint_snp(amd, b"challenge", at=at).report


def old_shape(report: AttestationReport) -> dict[str, Any]:
    """The report as the first releases of the crate serialised it."""

    def tcb(raw: bytes) -> dict[str, Any]:
        return {
            "bootloader": raw[0],
            "tee": raw[1],
            "_reserved": list(raw[2:6]),
            "snp": raw[6],
            "microcode": raw[7],
        }

    raw = report.pack()
    fields: dict[str, Any] = evidence_to_kbs(make_evidence(raw))["attestation_report"]
    for name in ("cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"):
        del fields[name]
    for name in ("current", "committed"):
        for part, level in fields.pop(name).items():
            fields[f"{name}_{part}"] = level
    fields["_author_key_en"] = fields.pop("key_info")
    fields |= {"_reserved_0": 0, "_reserved_1": list(raw[0x188:0x1A0]), "_reserved_2": 0, "_reserved_3": 0}
    fields["_reserved_4"] = list(raw[0x1F8:0x2A0])
    fields |= {
        f"{name}_tcb": tcb(getattr(report, f"{name}_tcb"))
        for name in ("current", "reported", "committed", "launch")
    }
    fields["signature"]["_reserved"] = [0] * 368
    return fields


@pytest.mark.parametrize(("product", "version"), VERSIONS)
def test_every_version_is_read_and_written_exactly(
    amd: AmdChipMaker, at: datetime, product: Product, version: int
) -> None:
    raw = mint_snp(amd, b"challenge", at=at, product=product, version=version).report
    report = AttestationReport.parse(raw)
    assert report.pack() == raw
    assert report.version == version
    assert report.product is (product if version > 2 else None)
    assert report.reserved_set(product) == []
    assert report.report_data == b"challenge".ljust(64, b"\0")
    assert bool(report.launch_mit_vector) is (version == 5)
    assert (report.tcb("reported", product).fmc is not None) is (product is Product.TURIN)


def test_real_reports_are_read_and_written_exactly(vectors: Path) -> None:
    seen = 0
    for path in vectors.glob("snp/*/report.bin"):
        raw = path.read_bytes()
        if len(raw) == REPORT_SIZE:
            report = AttestationReport.parse(raw)
            assert report.pack() == raw
            assert report.reserved_set(report.product) == []
            seen += 1
    assert seen >= 16


def test_fields_lie_where_the_specification_puts_them() -> None:
    """Offsets from the specification's table, each with a value of its own (attack A14)."""
    offsets = {
        "guest_svn": (0x004, 4), "policy": (0x008, 8), "family_id": (0x010, 16), "image_id": (0x020, 16), "vmpl": (0x030, 4),
        "signature_algo": (0x034, 4), "current_tcb": (0x038, 8), "platform_info": (0x040, 8), "key_info": (0x048, 4),
        "report_data": (0x050, 64), "measurement": (0x090, 48), "host_data": (0x0C0, 32), "id_key_digest": (0x0E0, 48),
        "author_key_digest": (0x110, 48), "report_id": (0x140, 32), "report_id_ma": (0x160, 32), "reported_tcb": (0x180, 8),
        "cpuid_family": (0x188, 1), "cpuid_model": (0x189, 1), "cpuid_stepping": (0x18A, 1), "chip_id": (0x1A0, 64),
        "committed_tcb": (0x1E0, 8), "current_build": (0x1E8, 1), "current_minor": (0x1E9, 1), "current_major": (0x1EA, 1),
        "committed_build": (0x1EC, 1), "committed_minor": (0x1ED, 1), "committed_major": (0x1EE, 1), "launch_tcb": (0x1F0, 8),
        "launch_mit_vector": (0x1F8, 8), "current_mit_vector": (0x200, 8), "signature_r": (0x2A0, 72), "signature_s": (0x2E8, 72),
    }  # fmt: skip
    raw = struct.pack("<I", 5) + BYTES[: 0x330 - 4] + bytes(368)
    report = AttestationReport.parse(raw)
    for name, (offset, size) in offsets.items():
        piece = raw[offset : offset + size]
        value = getattr(report, name)
        assert value == (piece if isinstance(value, bytes) else int.from_bytes(piece, "little")), name


@given(st.binary(min_size=64, max_size=64))
def test_the_measurement_does_not_depend_on_the_nonce(nonce: bytes) -> None:
    """Attack A14: a field at a wrong offset would move with what the guest supplies."""
    raw = bytearray(struct.pack("<I", 3) + BYTES[: 0x330 - 4] + bytes(368))
    before = AttestationReport.parse(bytes(raw))
    raw[0x50:0x90] = nonce
    after = AttestationReport.parse(bytes(raw))
    assert after.report_data == nonce
    assert after._replace(report_data=before.report_data) == before


@pytest.mark.parametrize("version", [0, 1, 6, 0xFFFFFFFF])
def test_an_unknown_version_is_refused(report: bytes, version: int) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_snp_evidence(struct.pack("<I", version) + report[4:])
    assert caught.value.check == "snp.report.version"


def test_the_firmwares_response_is_no_report_and_says_so(report: bytes) -> None:
    with pytest.raises(EvidenceError, match="version 0") as caught:
        parse_snp_evidence(struct.pack("<II24x", 0, REPORT_SIZE) + report)
    assert "32 bytes before" in caught.value.hint


@pytest.mark.parametrize("cut", [0, 1, 100, REPORT_SIZE - 1])
def test_a_short_report_is_refused(report: bytes, cut: int) -> None:
    with pytest.raises(EvidenceError):
        parse_snp_evidence(report[:cut])


def test_padding_is_cut_and_unsigned_bytes_are_refused(report: bytes) -> None:
    """Attack A13."""
    assert parse_snp_evidence(report + bytes(2912)).raw == report
    for junk in (b"unsigned", bytes(2000) + b"x"):
        with pytest.raises(EvidenceError):
            parse_snp_evidence(report + junk)
    with pytest.raises(EvidenceError) as caught:
        parse_snp_evidence(report[:-1] + b"\1")
    assert caught.value.check == "snp.report.length"


def test_a_certificate_table_is_read_and_written(report: bytes) -> None:
    table = pack_certificate_table(CERTIFICATES)
    assert parse_certificate_table(table + bytes(4096)) == CERTIFICATES
    evidence = parse_snp_evidence(report + table + bytes(100))
    assert evidence.certificates == CERTIFICATES
    assert evidence.raw == report + table
    assert parse_snp_evidence(evidence.raw) == evidence


def test_a_table_of_unknown_kinds_keeps_their_guid() -> None:
    odd = (DeliveredCertificate("ecae0c0f-9502-43b1-afa2-0ae2e0d565b6", b"\1\2"),)
    assert parse_certificate_table(pack_certificate_table(odd)) == odd


@pytest.mark.parametrize(
    "table",
    [
        b"\1" * 24,
        b"\1" * 23,
        struct.pack("<16sII", b"\1" * 16, 48, 1) + bytes(24),
        struct.pack("<16sII", b"\1" * 16, 0, 24) + bytes(24),
        struct.pack("<16sII", b"\1" * 16, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(24),
        pack_certificate_table(CERTIFICATES) + b"unsigned",
        struct.pack("<16sII", b"\1" * 16, 24, 0) * 17 + bytes(24),
    ],
)
def test_a_broken_table_is_refused(report: bytes, table: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_snp_evidence(report + table)


def test_too_much_evidence_is_refused_before_it_is_read(report: bytes) -> None:
    """Attack A32."""
    with pytest.raises(EvidenceError, match="at most"):
        parse_snp_evidence(report + bytes(64 * 1024))
    with pytest.raises(EvidenceError, match="at most"):
        parse_snp_evidence(b"{" + b" " * 600_000)


@pytest.mark.parametrize(("product", "version"), VERSIONS)
def test_the_attesters_json_gives_the_same_report(
    amd: AmdChipMaker, at: datetime, product: Product, version: int
) -> None:
    case = mint_snp(amd, b"challenge", at=at, product=product, version=version)
    evidence = case.evidence()
    text = json.dumps(case.evidence_json()).encode()
    assert parse_snp_evidence(text) == evidence
    assert evidence_from_kbs(
        {"attestation_report": old_shape(evidence.report), "cert_chain": None}
    ) == make_evidence(evidence.report_bytes)


def test_other_forms_of_json(report: bytes) -> None:
    certificates = {"vcek": b64encode(b"\x30\x01\x00").decode()}
    document = {"attestation_report": b64encode(report).decode(), "cert_chain": certificates}
    assert evidence_from_kbs(document) == make_evidence(report, CERTIFICATES[:1])
    table = b64encode(pack_certificate_table(CERTIFICATES)).decode().rstrip("=")
    tsm = {"provider": "sev_guest\n", "outblob": b64encode(report).decode(), "auxblob": table}
    assert evidence_from_kbs(tsm) == make_evidence(report, CERTIFICATES)
    assert evidence_from_kbs({"outblob": tsm["outblob"]}) == make_evidence(report)
    with pytest.raises(EvidenceError, match="tdx_guest"):
        evidence_from_kbs({**tsm, "provider": "tdx_guest"})


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": "5"},
        {"version": True},
        {"vmpl": -1},
        {"policy": 1 << 64},
        {"measurement": 48},
        {"measurement": [0] * 47},
        {"measurement": [256] * 48},
        {"measurement": ["a"] * 48},
        {"measurement": "00" * 48},
        {"reported_tcb": None},
        {"reported_tcb": {"bootloader": 1}},
        {"reported_tcb": {"fmc": 256, "bootloader": 0, "tee": 0, "snp": 0, "microcode": 0}},
        {"current": [1, 2, 3]},
        {"signature": {"r": [0] * 72}},
        {"cpuid_fam_id": "25"},
        {"launch_mit_vector": 1.5},
    ],
)
def test_json_that_is_no_report_is_refused(report: bytes, change: dict[str, Any]) -> None:
    document = evidence_to_kbs(make_evidence(report))
    document["attestation_report"] |= change
    with pytest.raises(EvidenceError) as caught:
        evidence_from_kbs(document)
    assert caught.value.check == "snp.evidence.format"


@pytest.mark.parametrize(
    "chain",
    [
        "VCEK",
        [{"cert_type": "VCEK"}],
        [{"cert_type": "VCEK", "data": "AA"}],
        [{"cert_type": "VCEK", "data": [256]}],
        [{"cert_type": "no such", "data": [1]}],
        [{"cert_type": {"OTHER": 5}, "data": [1]}],
        [None],
        [{"cert_type": "VCEK", "data": [1]}] * 17,
        {"vcek": 5},
        {"vcek": "!"},
    ],
)
def test_a_broken_chain_in_json_is_refused(report: bytes, chain: Any) -> None:
    with pytest.raises(EvidenceError):
        evidence_from_kbs({**evidence_to_kbs(make_evidence(report)), "cert_chain": chain})


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"{}", b' {"attestation_report": 5}', b'{"outblob": 5}', b"{" * 9999]
)
def test_json_that_is_no_evidence_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_snp_evidence(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 300)
    | st.text(max_size=8)
    | st.lists(st.integers(0, 255), max_size=72),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.data())
def test_any_bytes_are_evidence_or_an_error(data: st.DataObject) -> None:
    head = struct.pack("<I", data.draw(st.integers(0, 6))) + bytes(REPORT_SIZE - 4)
    raw = data.draw(st.binary(max_size=80) | st.binary(max_size=200).map(lambda tail: head + tail))
    try:
        evidence = parse_snp_evidence(raw)
    except EvidenceError:
        return
    assert parse_snp_evidence(evidence.raw) == evidence


@settings(max_examples=150)
@given(st.data())
def test_any_json_is_evidence_or_an_error(data: st.DataObject) -> None:
    sound: dict[str, Any] = evidence_to_kbs(
        make_evidence(struct.pack("<I", 5) + bytes(REPORT_SIZE - 4), CERTIFICATES)
    )
    where = data.draw(st.sampled_from([sound, sound["attestation_report"], sound["cert_chain"][0]]))
    where[data.draw(st.sampled_from(sorted(where)) | st.text(max_size=8))] = data.draw(JSON)
    try:
        evidence = evidence_from_kbs(sound)
    except EvidenceError:
        return
    assert isinstance(evidence, SnpEvidence)


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x01, Product.MILAN),
        (0x19, 0x11, Product.GENOA),
        (0x19, 0xA0, Product.GENOA),
        (0x19, 0xAF, Product.GENOA),
        (0x1A, 0x02, Product.TURIN),
        (0x1A, 0x11, Product.TURIN),
        (0x19, 0x20, None),
        (0x1A, 0x12, None),
        (0x17, 0x31, None),
    ],
)
def test_products_are_known_by_cpuid(family: int, model: int, product: Product | None) -> None:
    assert product_of_cpuid(family, model) is product


def test_products_are_known_by_name() -> None:
    assert product_of_name("Milan-B0") is Product.MILAN
    assert product_of_name("Genoa") is Product.GENOA
    assert product_of_name("Turin") is Product.TURIN
    for other in ("", "Naples", "milan", "MilanX"):
        assert product_of_name(other) is None


def test_tcb_versions_follow_the_product() -> None:
    raw = bytes(range(1, 9))
    assert Tcb.parse(raw, Product.MILAN) == Tcb(None, 1, 2, 7, 8)
    assert Tcb.parse(raw, Product.TURIN) == Tcb(1, 2, 3, 4, 8)
    for tcb in (Tcb(None, 1, 2, 7, 8), Tcb(1, 2, 3, 4, 8)):
        product = Product.TURIN if tcb.fmc is not None else Product.GENOA
        assert Tcb.parse(tcb.pack(), product) == tcb


def test_a_tcb_reaches_another_in_every_part() -> None:
    least = Tcb(1, 1, 1, 4, 0x51)
    assert least.reaches(least)
    for part in least._fields:
        lower = least._replace(**{part: getattr(least, part) - 1})
        assert not lower.reaches(least), part
        assert least.reaches(lower)
