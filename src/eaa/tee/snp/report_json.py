# SPDX-License-Identifier: Apache-2.0
"""The attestation report as JSON: the way the ``sev`` crate serialises it, which CoCo's attester sends.

The crate changed its structures several times; all of its shapes are read: reserved bytes as members of their own or left out,
firmware versions as three numbers or as one object, a TCB version by position or with ``fmc``. A number is a number and bytes are a
list of numbers. The current shape is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eaa.rats import EvidenceError
from eaa.tee.snp.report import AttestationReport

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["report_from_json", "report_to_json"]

_CPUID: Final = {
    "cpuid_family": "cpuid_fam_id",
    "cpuid_model": "cpuid_mod_id",
    "cpuid_stepping": "cpuid_step",
}
_SIZES: Final = {
    "family_id": 16, "image_id": 16, "report_data": 64, "measurement": 48, "host_data": 32, "id_key_digest": 48,
    "author_key_digest": 48, "report_id": 32, "report_id_ma": 32, "chip_id": 64,
}  # fmt: skip
_RESERVED_1: Final = 24
"""In version 2 of the report, where the CPUID fields came to stand later."""
_RESERVED_4: Final = 168
"""Likewise for the mitigation vectors."""


def report_from_json(value: Any) -> bytes:
    """Return the 1184 bytes of a report.

    :raises EvidenceError: when a member is missing, of another type or out of range.
    """
    fields = _Members(value, "attestation_report")
    cpuid, vectors = _cpuid(fields), _vectors(fields)
    current, committed = _version(fields, "current"), _version(fields, "committed")
    signature = _Members(fields.get("signature"), "signature")
    report = AttestationReport(
        version=fields.number("version", 32),
        guest_svn=fields.number("guest_svn", 32),
        policy=fields.number("policy", 64),
        vmpl=fields.number("vmpl", 32),
        signature_algo=fields.number("sig_algo", 32),
        platform_info=fields.number("plat_info", 64),
        key_info=fields.number("key_info" if "key_info" in fields else "_author_key_en", 32),
        reserved_0=fields.number("_reserved_0", 32) if "_reserved_0" in fields else 0,
        **{name: fields.octets(name, size) for name, size in _SIZES.items()},
        **{
            f"{name}_tcb": _tcb(fields, f"{name}_tcb")
            for name in ("current", "reported", "committed", "launch")
        },
        cpuid_family=cpuid[0],
        cpuid_model=cpuid[1],
        cpuid_stepping=cpuid[2],
        reserved_1=cpuid[3:],
        current_build=current[0],
        current_minor=current[1],
        current_major=current[2],
        reserved_2=fields.number("_reserved_2", 8) if isinstance(fields.get("_reserved_2"), int) else 0,
        committed_build=committed[0],
        committed_minor=committed[1],
        committed_major=committed[2],
        reserved_3=fields.number("_reserved_3", 8) if isinstance(fields.get("_reserved_3"), int) else 0,
        launch_mit_vector=int.from_bytes(vectors[:8], "little"),
        current_mit_vector=int.from_bytes(vectors[8:16], "little"),
        reserved_4=vectors[16:],
        signature_r=signature.octets("r", 72),
        signature_s=signature.octets("s", 72),
        unsigned=bytes(368),
    )
    return report.pack()


def report_to_json(report: AttestationReport) -> dict[str, Any]:
    """Return a report in the shape that the crate gives it today. What is reserved is left out, as there."""
    has_cpuid, has_vectors = report.version >= 3, report.version >= 5
    product = report.product
    return {
        "version": report.version,
        "guest_svn": report.guest_svn,
        "policy": report.policy,
        "family_id": list(report.family_id),
        "image_id": list(report.image_id),
        "vmpl": report.vmpl,
        "sig_algo": report.signature_algo,
        "current_tcb": report.tcb("current", product)._asdict(),
        "plat_info": report.platform_info,
        "key_info": report.key_info,
        "report_data": list(report.report_data),
        "measurement": list(report.measurement),
        "host_data": list(report.host_data),
        "id_key_digest": list(report.id_key_digest),
        "author_key_digest": list(report.author_key_digest),
        "report_id": list(report.report_id),
        "report_id_ma": list(report.report_id_ma),
        "reported_tcb": report.tcb("reported", product)._asdict(),
        **{name: getattr(report, ours) if has_cpuid else None for ours, name in _CPUID.items()},
        "chip_id": list(report.chip_id),
        "committed_tcb": report.tcb("committed", product)._asdict(),
        **{
            name: {
                "major": getattr(report, f"{name}_major"),
                "minor": getattr(report, f"{name}_minor"),
                "build": getattr(report, f"{name}_build"),
            }
            for name in ("current", "committed")
        },
        "launch_tcb": report.tcb("launch", product)._asdict(),
        "launch_mit_vector": report.launch_mit_vector if has_vectors else None,
        "current_mit_vector": report.current_mit_vector if has_vectors else None,
        "signature": {"r": list(report.signature_r), "s": list(report.signature_s)},
    }


class _Members:
    """The members of one JSON object, read strictly."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _malformed(f"{where} is no object")
        self._members: Mapping[str, Any] = value

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str) -> Any:
        return self._members.get(name)

    def number(self, name: str, bits: int) -> int:
        value = self._members.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
            raise _malformed(f"{name} is not a number of {bits} bits")
        return value

    def octets(self, name: str, size: int) -> bytes:
        value = self._members.get(name)
        try:
            # A list and nothing else: bytes(n) would make n zero bytes.
            octets = bytes(value) if isinstance(value, list) and len(value) == size else b""
        except (ValueError, TypeError):
            octets = b""
        if len(octets) != size:
            raise _malformed(f"{name} is not a list of {size} bytes")
        return octets


def _cpuid(fields: _Members) -> bytes:
    """Return the 24 bytes in which version 3 put family, model and stepping."""
    if "cpuid_fam_id" not in fields:
        return fields.octets("_reserved_1", _RESERVED_1)
    levels = [fields.number(name, 8) if fields.get(name) is not None else 0 for name in _CPUID.values()]
    return bytes(levels).ljust(_RESERVED_1, b"\0")


def _vectors(fields: _Members) -> bytes:
    """Return the 168 bytes in which version 5 put the mitigation vectors."""
    if "launch_mit_vector" in fields or "_reserved_4" not in fields:
        names = ("launch_mit_vector", "current_mit_vector")
        numbers = [fields.number(name, 64) if fields.get(name) is not None else 0 for name in names]
        return b"".join(number.to_bytes(8, "little") for number in numbers).ljust(_RESERVED_4, b"\0")
    return fields.octets("_reserved_4", _RESERVED_4)


def _version(fields: _Members, name: str) -> tuple[int, int, int]:
    """Return build, minor and major."""
    parts = ("build", "minor", "major")
    if name in fields:
        version = _Members(fields.get(name), name)
        build, minor, major = (version.number(part, 8) for part in parts)
    else:
        build, minor, major = (fields.number(f"{name}_{part}", 8) for part in parts)
    return build, minor, major


def _tcb(fields: _Members, name: str) -> bytes:
    """Return the 8 bytes of a TCB version; with ``fmc`` they are laid out as Turin has them."""
    tcb = _Members(fields.get(name), name)
    bootloader, tee, snp, microcode = (
        tcb.number(part, 8) for part in ("bootloader", "tee", "snp", "microcode")
    )
    if tcb.get("fmc") is not None:
        return bytes((tcb.number("fmc", 8), bootloader, tee, snp, 0, 0, 0, microcode))
    reserved = tcb.octets("_reserved", 4) if "_reserved" in tcb else bytes(4)
    return bytes((bootloader, tee)) + reserved + bytes((snp, microcode))


def _malformed(what: str) -> EvidenceError:
    return EvidenceError(what, check="snp.evidence.format")
