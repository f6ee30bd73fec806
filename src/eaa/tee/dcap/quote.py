# SPDX-License-Identifier: Apache-2.0
"""The ECDSA quote that SGX and TDX share: read and written, exact to the byte.

Layout from Intel's "SGX ECDSA QuoteLibReference DCAP API" (quote v3, appendix A) and "TDX DCAP Quoting Library API" (quote v4
and v5, appendix A). All integers are little-endian. The report bodies are in :mod:`eaa.tee.sgx.evidence` and
:mod:`eaa.tee.tdx.evidence`; this module knows only their sizes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from eaa.rats import EvidenceError

__all__ = [
    "BODY_SGX",
    "BODY_TD10",
    "BODY_TD15",
    "ECDSA_P256",
    "INTEL_QE_VENDOR_ID",
    "MAX_QUOTE_SIZE",
    "TEE_SGX",
    "TEE_TDX",
    "CertificationData",
    "Envelope",
    "Header",
    "Quote",
    "QuoteSignature",
    "pack_envelope",
    "pack_signed",
    "parse_envelope",
]

MAX_QUOTE_SIZE: Final = 64 * 1024
"""More than any quote needs; a host that claims a longer one is refused before a byte is parsed (attack A32)."""
TEE_SGX: Final = 0x00
TEE_TDX: Final = 0x81
ECDSA_P256: Final = 2
INTEL_QE_VENDOR_ID: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

BODY_SGX: Final = 1
BODY_TD10: Final = 2
BODY_TD15: Final = 3
BODY_SIZES: Final = {BODY_SGX: 384, BODY_TD10: 584, BODY_TD15: 648}
_BODY_TEE: Final = {BODY_SGX: TEE_SGX, BODY_TD10: TEE_TDX, BODY_TD15: TEE_TDX}

CERT_PCK_CHAIN: Final = 5
CERT_QE_REPORT: Final = 6
_CERT_TYPES: Final = {
    1: "PPID in plaintext",
    2: "PPID encrypted with RSA-2048",
    3: "PPID encrypted with RSA-3072",
    4: "PCK certificate without chain",
    5: "PCK certificate chain",
    6: "QE report certification data",
    7: "platform manifest",
}

_HEADER: Final = struct.Struct("<HHIHH16s20s")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_TYPED: Final = struct.Struct("<HI")
_SIGNED: Final = struct.Struct("<64s64s")
_QE: Final = struct.Struct("<384s64sH")


class Header(NamedTuple):
    """The 48 bytes every quote begins with. In v3 ``reserved`` bytes 8..12 hold QE SVN and PCE SVN."""

    version: int
    att_key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes


class CertificationData(NamedTuple):
    """What certifies the QE's report: ``kind`` is Intel's certification data type, ``data`` its bytes."""

    kind: int
    data: bytes

    @property
    def kind_name(self) -> str:
        """Intel's name of the type, for a reader."""
        return _CERT_TYPES.get(self.kind, "unknown type")


class QuoteSignature(NamedTuple):
    """The signature part: ECDSA P-256 signatures are ``r ‖ s``, the attestation key is ``x ‖ y``, each 64 bytes big-endian."""

    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: CertificationData


@dataclass(frozen=True, slots=True)
class Envelope:
    """A quote taken apart. ``signed`` is exactly what the attestation key signs; ``padding`` counts zero bytes cut at the end."""

    raw: bytes
    header: Header
    body_type: int
    body: bytes
    signed: bytes
    signature: QuoteSignature
    padding: int


class _Report(Protocol):
    @property
    def report_data(self) -> bytes: ...
    @property
    def debug(self) -> bool: ...


_R = TypeVar("_R", bound=_Report)


@dataclass(frozen=True, slots=True)
class Quote(Generic[_R]):
    """A quote with its report body parsed: what quotes of an enclave and of a TD have in common as evidence."""

    envelope: Envelope
    report: _R

    @property
    def raw(self) -> bytes:
        """The quote without padding."""
        return self.envelope.raw

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the enclave or TD had signed."""
        return self.report.report_data

    @property
    def debug(self) -> bool:
        """Whether its memory can be read from outside."""
        return self.report.debug


def parse_envelope(data: bytes) -> Envelope:
    """Take a quote of version 3, 4 or 5 apart, in linear time.

    Real quotes come zero-padded to their buffer's size: trailing zero bytes are cut and counted in ``padding``.

    :raises EvidenceError: on any other input; ``check`` names the rule.
    """
    if len(data) > MAX_QUOTE_SIZE:
        raise EvidenceError(
            f"quote of {len(data)} bytes, at most {MAX_QUOTE_SIZE} are read", check="dcap.quote.length"
        )
    data = bytes(data)
    reader = _Reader(data)
    header = Header._make(reader.unpack(_HEADER, "header"))
    body_type = _body_type(header, reader)
    body = reader.take(BODY_SIZES[body_type], "report body")
    signed = data[: reader.at]
    (length,) = reader.unpack(_U32, "signature length")
    end = reader.at + length
    if end > len(data):
        raise EvidenceError(
            f"the signature is said to be {length} bytes long, {len(data) - reader.at} are there",
            check="dcap.quote.length",
        )
    signature = _parse_signature(_Reader(data, reader.at, end), header.version)
    padding = len(data) - end
    if data.count(0, end) != padding:
        raise EvidenceError(
            f"{padding} bytes that are not all zero follow the quote", check="dcap.quote.length"
        )
    return Envelope(data[:end] if padding else data, header, body_type, body, signed, signature, padding)


def _body_type(header: Header, reader: _Reader) -> int:
    """Decide which report body follows, reading v5's body descriptor."""
    if header.version not in {3, 4, 5}:
        raise EvidenceError(
            f"quote version {header.version}; known are 3, 4 and 5", check="dcap.quote.version"
        )
    if header.att_key_type != ECDSA_P256:
        raise EvidenceError(
            f"attestation key type {header.att_key_type}; only 2 (ECDSA P-256) is defined for quotes in use",
            check="dcap.quote.att-key-type",
        )
    if header.version == 3:
        # In v3 these four bytes are reserved and zero, which equals the code of SGX.
        body_type = BODY_SGX
    elif header.version == 4:
        body_type = BODY_TD10 if header.tee_type == TEE_TDX else BODY_SGX
    else:
        body_type, size = reader.unpack(_TYPED, "body descriptor")
        if BODY_SIZES.get(body_type) != size:
            raise EvidenceError(
                f"body type {body_type} with {size} bytes; known are 1 (SGX, 384), 2 (TD 1.0, 584), 3 (TD 1.5, 648)",
                check="dcap.quote.body-type",
            )
    if header.tee_type != _BODY_TEE[body_type]:
        raise EvidenceError(
            f"TEE type {header.tee_type:#x} does not go with quote version {header.version}, body type {body_type}",
            check="dcap.quote.tee-type",
        )
    return body_type


def _parse_signature(reader: _Reader, version: int) -> QuoteSignature:
    signature, attestation_key = reader.unpack(_SIGNED, "signature and attestation key")
    if version == 3:
        outer = reader
    else:
        kind, length = reader.unpack(_TYPED, "certification data header")
        if kind != CERT_QE_REPORT:
            raise EvidenceError(
                f"certification data type {kind} ({_CERT_TYPES.get(kind, 'unknown')}) where a version {version} quote has 6",
                check="dcap.quote.certification-data",
            )
        if length != reader.left:
            raise EvidenceError(
                f"certification data of {length} bytes in a place of {reader.left}", check="dcap.quote.length"
            )
        outer = reader
    qe_report, qe_report_signature, auth_length = outer.unpack(_QE, "QE report")
    auth_data = outer.take(auth_length, "QE authentication data")
    kind, length = outer.unpack(_TYPED, "certification data header")
    certification = CertificationData(kind, outer.take(length, "certification data"))
    if outer.left:
        raise EvidenceError(
            f"{outer.left} bytes inside the signature are not accounted for", check="dcap.quote.length"
        )
    return QuoteSignature(
        signature, attestation_key, qe_report, qe_report_signature, auth_data, certification
    )


class _Reader:
    """A cursor over ``data[at:end]`` that never reads past its end."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, size: int, what: str) -> bytes:
        if size > self.left:
            raise EvidenceError(
                f"truncated at the {what}: {size} bytes are needed, {self.left} are left",
                check="dcap.quote.length",
            )
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        if layout.size > self.left:
            raise EvidenceError(
                f"truncated at the {what}: {layout.size} bytes are needed, {self.left} are left",
                check="dcap.quote.length",
            )
        fields = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return fields


def pack_signed(header: Header, body_type: int, body: bytes) -> bytes:
    """Return what the attestation key signs: header, in v5 the body descriptor, and body."""
    descriptor = _TYPED.pack(body_type, len(body)) if header.version == 5 else b""
    return _HEADER.pack(*header) + descriptor + body


def pack_envelope(signed: bytes, signature: QuoteSignature) -> bytes:
    """Return the quote whose signed part is ``signed``; the inverse of :func:`parse_envelope`."""
    (version,) = _U16.unpack_from(signed)
    certified = (
        _QE.pack(signature.qe_report, signature.qe_report_signature, len(signature.qe_auth_data))
        + signature.qe_auth_data
        + _TYPED.pack(signature.certification.kind, len(signature.certification.data))
        + signature.certification.data
    )
    if version > 3:
        certified = _TYPED.pack(CERT_QE_REPORT, len(certified)) + certified
    tail = _SIGNED.pack(signature.signature, signature.attestation_key) + certified
    return signed + _U32.pack(len(tail)) + tail
