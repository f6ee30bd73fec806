# SPDX-License-Identifier: Apache-2.0
"""SEV-SNP evidence: an attestation report and the certificates that came with it, read and written.

It comes as the report alone; as the report followed by the certificate table of an extended guest request (GHCB specification, SNP
Extended Guest Request; entries of GUID, offset, length); as the JSON of CoCo's attester; or as what Linux shows in configfs-tsm.
"""

from __future__ import annotations

import struct
from base64 import b64decode, urlsafe_b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from eaa._json import parse_json
from eaa.rats import EndorsementError, EvidenceError
from eaa.tee.snp.report import REPORT_SIZE, SIGNED_SIZE, AttestationReport
from eaa.tee.snp.report_json import report_from_json, report_to_json
from eaa.tee.x509 import split_pem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MAX_EVIDENCE_SIZE",
    "DeliveredCertificate",
    "SnpEvidence",
    "evidence_from_kbs",
    "evidence_to_kbs",
    "make_evidence",
    "pack_certificate_table",
    "parse_certificate_table",
    "parse_snp_evidence",
]

MAX_EVIDENCE_SIZE: Final = 64 * 1024
"""Report and certificate table; more than any platform hands over (A32)."""
MAX_JSON_SIZE: Final = 512 * 1024
"""JSON spends up to four characters on a byte."""
MAX_CERTIFICATES: Final = 16

_GUIDS: Final = {
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes: "ARK",
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes: "ASK",
    UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes: "VCEK",
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes: "VLEK",
    UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes: "CRL",
}
_GUID_OF: Final = {kind: guid for guid, kind in _GUIDS.items()}
_ENTRY: Final = struct.Struct("<16sII")
_END: Final = bytes(_ENTRY.size)
_PEM: Final = b"-----BEGIN"
_TSM_PROVIDER: Final = "sev_guest"


class DeliveredCertificate(NamedTuple):
    """A certificate that came with a report: ``kind`` is ``ARK``, ``ASK`` (which may be an ASVK), ``VCEK``, ``VLEK``, ``CRL`` or a
    GUID, whatever its sender calls it; ``data`` is DER.
    """  # noqa: D205 - the kinds are one list

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SnpEvidence:
    """A parsed report (version 2 to 5) with the certificates that came with it, which nobody has checked yet."""

    report: AttestationReport
    report_bytes: bytes
    certificates: tuple[DeliveredCertificate, ...] = ()

    @property
    def tee(self) -> str:
        """``snp``."""
        return "snp"

    @property
    def raw(self) -> bytes:
        """The report, followed by its certificates as a table if there are any: the one form for keeping."""
        return self.report_bytes + (pack_certificate_table(self.certificates) if self.certificates else b"")

    @property
    def signed(self) -> bytes:
        """Exactly what the chip signed."""
        return self.report_bytes[:SIGNED_SIZE]

    @property
    def report_data(self) -> bytes:
        """The 64 bytes the guest had signed."""
        return self.report.report_data

    @property
    def debug(self) -> bool:
        """Whether the guest's policy allows debugging."""
        return self.report.debug

    @property
    def measurements(self) -> Mapping[str, str]:
        """What identifies the guest, and ``guest_svn`` as a number in text."""
        report = self.report
        return {
            "measurement": report.measurement.hex(),
            "host_data": report.host_data.hex(),
            "id_key_digest": report.id_key_digest.hex(),
            "author_key_digest": report.author_key_digest.hex(),
            "family_id": report.family_id.hex(),
            "image_id": report.image_id.hex(),
            "guest_svn": str(report.guest_svn),
        }


def make_evidence(report_bytes: bytes, certificates: Iterable[DeliveredCertificate] = ()) -> SnpEvidence:
    """Return evidence of a report of exactly 1184 bytes.

    :raises EvidenceError: when it is no report.
    """
    return SnpEvidence(AttestationReport.parse(report_bytes), report_bytes, tuple(certificates))


def parse_snp_evidence(data: bytes) -> SnpEvidence:
    """Parse evidence in any of its forms, in linear time.

    Zero bytes behind a report or a table are padding. In JSON, ``{"attestation_report": …, "cert_chain": …}`` is CoCo's, and
    ``{"outblob": …, "auxblob": …}`` (base64) what configfs-tsm hands out.

    :raises EvidenceError: when it is malformed, too long, or a byte is not accounted for.
    """
    if data[:1] in {b"{", b" ", b"\n", b"\r", b"\t"}:
        document = parse_json(data, MAX_JSON_SIZE, error=EvidenceError)
        if not isinstance(document, dict):
            raise EvidenceError("the evidence is JSON, but no object", check="snp.evidence.format")
        return evidence_from_kbs(document)
    if len(data) > MAX_EVIDENCE_SIZE:
        raise EvidenceError(
            f"evidence of {len(data)} bytes, at most {MAX_EVIDENCE_SIZE} are read",
            check="snp.evidence.length",
        )
    report_bytes, rest = data[:REPORT_SIZE], data[REPORT_SIZE:]
    report = AttestationReport.parse(report_bytes)
    certificates = parse_certificate_table(rest) if any(rest) else ()
    return SnpEvidence(report, report_bytes, certificates)


def parse_certificate_table(table: bytes) -> tuple[DeliveredCertificate, ...]:
    """Take the certificate table of an extended guest request apart; PEM inside it, as some clouds have it, becomes DER.

    :raises EvidenceError: when an entry points outside, there are too many, or bytes that are not zero belong to none.
    """
    entries: list[tuple[bytes, int, int]] = []
    at = 0
    while (entry := table[at : at + _ENTRY.size]) != _END:
        if len(entry) < _ENTRY.size or len(entries) == MAX_CERTIFICATES:
            raise EvidenceError(
                f"the certificate table has no end within {MAX_CERTIFICATES} entries",
                check="snp.evidence.certificates",
            )
        entries.append(_ENTRY.unpack(entry))
        at += _ENTRY.size
    left = bytearray(table)
    left[:at] = bytes(at)
    found: list[DeliveredCertificate] = []
    for guid, offset, length in entries:
        if not at + _ENTRY.size <= offset <= offset + length <= len(table):
            raise EvidenceError(
                f"the certificate table has {len(table)} bytes; one of its entries lies at {offset} with {length}",
                check="snp.evidence.certificates",
            )
        kind = _GUIDS.get(guid) or str(UUID(bytes=guid))
        found.extend(DeliveredCertificate(kind, der) for der in _ders(table[offset : offset + length]))
        left[offset : offset + length] = bytes(length)
    if any(left):
        raise EvidenceError(
            "bytes that are not zero lie between the certificates", check="snp.evidence.length"
        )
    return _bounded(found)


def pack_certificate_table(certificates: Iterable[DeliveredCertificate]) -> bytes:
    """Return the certificate table that holds ``certificates``; the inverse of :func:`parse_certificate_table`."""
    listed = list(certificates)
    at = (len(listed) + 1) * _ENTRY.size
    head, body = b"", b""
    for kind, data in listed:
        guid = _GUID_OF.get(kind) or UUID(kind).bytes
        head += _ENTRY.pack(guid, at + len(body), len(data))
        body += data
    return head + _END + body


def evidence_from_kbs(document: Mapping[str, Any]) -> SnpEvidence:
    """Read the JSON of CoCo's attester or of configfs-tsm, as :func:`parse_snp_evidence` does.

    :raises EvidenceError: when it is neither, or malformed.
    """
    if "outblob" in document:
        return _from_tsm(document)
    if "attestation_report" not in document:
        raise EvidenceError(
            "the evidence has no attestation_report",
            check="snp.evidence.format",
            hint='SNP evidence in JSON is {"attestation_report": …, "cert_chain": …}.',
        )
    report = document["attestation_report"]
    raw = _base64(report) if isinstance(report, str) else report_from_json(report)
    return make_evidence(raw, _chain(document.get("cert_chain")))


def evidence_to_kbs(evidence: SnpEvidence) -> dict[str, Any]:
    """Return evidence as CoCo's attester sends it; the inverse of :func:`evidence_from_kbs`."""
    chain = [
        {"cert_type": kind if kind in _GUID_OF else {"OTHER": kind}, "data": list(data)}
        for kind, data in evidence.certificates
    ]
    return {"attestation_report": report_to_json(evidence.report), "cert_chain": chain or None}


def _from_tsm(document: Mapping[str, Any]) -> SnpEvidence:
    provider = document.get("provider", _TSM_PROVIDER)
    if not isinstance(provider, str) or provider.strip() != _TSM_PROVIDER:
        raise EvidenceError(
            f"the report is of the provider {str(provider)[:32]!r}, not of {_TSM_PROVIDER}",
            check="snp.evidence.format",
        )
    certificates = _base64(document.get("auxblob") or "")
    return parse_snp_evidence(_base64(document["outblob"]).ljust(REPORT_SIZE, b"\0") + certificates)


def _chain(value: Any) -> tuple[DeliveredCertificate, ...]:
    """Read ``cert_chain``: nothing, a list of ``{"cert_type": …, "data": [bytes]}``, or name → base64."""
    if value is None:
        return ()
    if isinstance(value, dict):
        pairs = [(name.upper(), _base64(each)) for name, each in value.items()]
    elif isinstance(value, list):
        pairs = [_entry(each) for each in value[: MAX_CERTIFICATES + 1]]
    else:
        raise _malformed("cert_chain is neither a list nor an object")
    return _bounded([DeliveredCertificate(kind, der) for kind, data in pairs for der in _ders(data)])


def _entry(value: Any) -> tuple[str, bytes]:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise _malformed("an entry of cert_chain has no data")
    kind = value.get("cert_type")
    if isinstance(kind, dict):
        kind = kind.get("OTHER")
    try:
        return (kind if kind in _GUID_OF else str(UUID(kind))), bytes(value["data"])
    except (ValueError, TypeError, AttributeError) as error:
        raise _malformed("an entry of cert_chain is of no known type, or its data are no bytes") from error


def _ders(data: bytes) -> list[bytes]:
    if not data.lstrip().startswith(_PEM):
        return [data]
    try:
        return split_pem(data)
    except EndorsementError as error:
        raise _malformed(f"a certificate in PEM: {error}") from error


def _bounded(certificates: list[DeliveredCertificate]) -> tuple[DeliveredCertificate, ...]:
    size = sum(len(each.data) for each in certificates)
    if len(certificates) > MAX_CERTIFICATES or size > MAX_EVIDENCE_SIZE:
        raise _malformed(
            f"{len(certificates)} certificates of {size} bytes, at most {MAX_CERTIFICATES} of {MAX_EVIDENCE_SIZE} are read"
        )
    return tuple(certificates)


def _base64(value: Any) -> bytes:
    """Decode base64 of either alphabet, with or without padding."""
    if not isinstance(value, str):
        raise _malformed(f"a {type(value).__name__} where base64 is expected")
    text = value.rstrip("=")
    text += "=" * (-len(text) % 4)
    try:
        return urlsafe_b64decode(text) if {"-", "_"} & set(text) else b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise _malformed("the base64 is broken") from error


def _malformed(what: str) -> EvidenceError:
    return EvidenceError(what, check="snp.evidence.format")
