# SPDX-License-Identifier: Apache-2.0
"""The report of Azure's paravisor (HCL): a hardware report, and the runtime data that it is bound to.

Layout from Microsoft's "Azure confidential VM guest attestation design", HCL report: 32 bytes of header; the hardware report in a place
of 1184 bytes (an SNP report, or a TDREPORT and zeros); then the runtime data: sizes, the kinds of report and hash, and JSON with the
vTPM's keys. The hash of that JSON is the report data of the hardware report. Integers are little-endian.
"""

from __future__ import annotations

import struct
from binascii import a2b_base64
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256, sha384, sha512
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from eaa._json import parse_json
from eaa.rats import EvidenceError
from eaa.tee.kind import REPORT_DATA_SIZE
from eaa.tee.tpm.public import spki_of

__all__ = [
    "FORMAT",
    "REPORT_SNP",
    "REPORT_TDX",
    "HclReport",
    "RuntimeData",
    "decode_url_safe",
    "pack_hcl_report",
    "parse_hcl_report",
    "parse_runtime_data",
]

FORMAT: Final = "az.hcl.format"
REPORT_SNP: Final = 2
REPORT_TDX: Final = 4
SNP_REPORT_SIZE: Final = 1184
TD_REPORT_SIZE: Final = 1024
_MAX_SIZE: Final = 64 * 1024
_SIGNATURE: Final = b"HCLA"
_ATTESTATION_REQUEST: Final = 2
_HEADER: Final = struct.Struct("<4sIII16s")
_RUNTIME_AT: Final = _HEADER.size + SNP_REPORT_SIZE
_RUNTIME: Final = struct.Struct("<5I")
_RUNTIME_VERSION: Final = 1
_SIZES: Final = {REPORT_SNP: SNP_REPORT_SIZE, REPORT_TDX: TD_REPORT_SIZE}
_HASHES: Final = {1: sha256, 2: sha384, 3: sha512}
_AK: Final = "HCLAkPub"
_MAX_KEYS: Final = 16
_TD_REPORT_DATA: Final = slice(128, 192)


@dataclass(frozen=True, slots=True)
class RuntimeData:
    """What the paravisor tells of its VM, as ``json`` byte for byte, and what stands in it.

    ``digest`` is its hash, padded with zeros to the 64 bytes of report data; ``ak`` the vTPM's attestation key as DER
    SubjectPublicKeyInfo; ``user_data`` what the guest last put beside its keys.
    """

    report_type: int
    json: bytes
    digest: bytes
    ak: bytes
    user_data: bytes
    configuration: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class HclReport:
    """A hardware report and its runtime data. Nothing is proven yet."""

    hardware: bytes
    runtime: RuntimeData

    @property
    def td_report_data(self) -> bytes:
        """The report data of a TDREPORT, which only the machine itself can check; a quote of it is what counts."""
        return self.hardware[_TD_REPORT_DATA]


@lru_cache(1024)
def parse_hcl_report(data: bytes) -> HclReport:
    """Read an HCL report, all of it: every byte that has no meaning is zero.

    :raises EvidenceError: when it is malformed.
    """
    if not _RUNTIME_AT + _RUNTIME.size <= len(data) <= _MAX_SIZE:
        raise _malformed(f"an HCL report of {len(data)} bytes")
    signature, _version, size, request, reserved = _HEADER.unpack_from(data)
    if signature != _SIGNATURE or request != _ATTESTATION_REQUEST or any(reserved):
        raise _malformed("this is no HCL attestation report")
    runtime = parse_runtime_data(data[_RUNTIME_AT:])
    used = _RUNTIME_AT + _RUNTIME.size + len(runtime.json)
    if size != used:
        raise _malformed(f"its header says {size} bytes, its parts have {used}")
    hardware = data[_HEADER.size : _RUNTIME_AT]
    length = _SIZES[runtime.report_type]
    if any(hardware[length:]):
        raise _malformed("bytes that are not zero follow the hardware report")
    return HclReport(hardware[:length], runtime)


def parse_runtime_data(data: bytes) -> RuntimeData:
    """Read runtime data with its header, all of it.

    :raises EvidenceError: when it is malformed, or names no attestation key.
    """
    if not _RUNTIME.size <= len(data) <= _MAX_SIZE:
        raise _malformed(f"runtime data of {len(data)} bytes")
    size, version, report_type, hash_type, length = _RUNTIME.unpack_from(data)
    end = _RUNTIME.size + length
    if version != _RUNTIME_VERSION or size != end or end > len(data):
        raise _malformed("the sizes of the runtime data do not agree")
    if report_type not in _SIZES or hash_type not in _HASHES:
        raise _malformed(f"report type {report_type} with hash type {hash_type}; known are 2, 4 with 1 to 3")
    if data[end:].strip(b"\0"):
        raise _malformed("bytes that are not zero follow the runtime data")
    text = data[_RUNTIME.size : end]
    document = parse_json(text, _MAX_SIZE, error=EvidenceError)
    if not isinstance(document, dict):
        raise _malformed("the runtime data is no JSON object")
    configuration = document.get("vm-configuration", {})
    if not isinstance(configuration, dict):
        raise _malformed("vm-configuration is no object")
    return RuntimeData(
        report_type,
        text,
        _HASHES[hash_type](text).digest().ljust(REPORT_DATA_SIZE, b"\0"),
        _attestation_key(document.get("keys")),
        _user_data(document.get("user-data", "")),
        configuration,
    )


def _attestation_key(keys: Any) -> bytes:
    """Return the one key called HCLAkPub."""
    if not isinstance(keys, list) or len(keys) > _MAX_KEYS:
        raise _malformed("the runtime data has no list of keys")
    found = [key for key in keys if isinstance(key, dict) and key.get("kid") == _AK]
    if len(found) != 1 or found[0].get("kty") != "RSA":
        raise _malformed(f"the runtime data has not exactly one RSA key {_AK}")
    exponent, modulus = (_number(found[0].get(name)) for name in ("e", "n"))
    try:
        return spki_of(RSAPublicNumbers(exponent, modulus).public_key())
    except ValueError as error:
        raise _malformed(f"{_AK} is no RSA key") from error


def _number(value: Any) -> int:
    if not isinstance(value, str) or len(value) > 1024:
        raise _malformed(f"{_AK} has no number where one is due")
    try:
        return int.from_bytes(decode_url_safe(value), "big")
    except ValueError as error:
        raise _malformed(f"{_AK} has broken base64") from error


def _user_data(value: Any) -> bytes:
    try:
        data = bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise _malformed("user-data is not hex") from error
    if len(data) > REPORT_DATA_SIZE:
        raise _malformed(f"user-data has {len(data)} bytes, at most {REPORT_DATA_SIZE} are possible")
    return data


def decode_url_safe(text: str) -> bytes:
    """Decode URL-safe base64 with or without padding, strictly.

    :raises ValueError: on anything else.
    """
    stripped = text.rstrip("=").encode("ascii")
    if stripped.translate(None, b"+/") != stripped:
        raise ValueError("not the URL-safe alphabet")
    standard = stripped.replace(b"-", b"+").replace(b"_", b"/")
    return a2b_base64(standard + b"=" * (-len(standard) % 4), strict_mode=True)


def pack_hcl_report(hardware: bytes, report_type: int, text: bytes, *, size: int = 2600) -> bytes:
    """Return the HCL report of a hardware report and the JSON whose SHA-256 it is bound to, padded to ``size``."""
    end = _RUNTIME.size + len(text)
    header = _HEADER.pack(_SIGNATURE, report_type // 2, _RUNTIME_AT + end, _ATTESTATION_REQUEST, bytes(16))
    runtime = _RUNTIME.pack(end, _RUNTIME_VERSION, report_type, 1, len(text))
    return (header + hardware.ljust(SNP_REPORT_SIZE, b"\0") + runtime + text).ljust(size, b"\0")


def _malformed(what: str) -> EvidenceError:
    return EvidenceError(f"HCL report: {what}", check=FORMAT)
