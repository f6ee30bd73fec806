# SPDX-License-Identifier: Apache-2.0
"""The PCK certificate: which platform signed, at which TCB.

Names and the SGX extension follow Intel's "SGX PCK Certificate and Certificate Revocation List Profile Specification",
section 1.3.5 (extension 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec

from eaa.rats import EndorsementError
from eaa.tee.der import sequence

if TYPE_CHECKING:
    from eaa.tee.x509 import Chain, ChainReader

__all__ = [
    "PLATFORM_CA",
    "PROCESSOR_CA",
    "PckExtension",
    "PckIdentity",
    "read_pck_chain",
    "read_pck_extension",
]

PLATFORM_CA: Final = "Intel SGX PCK Platform CA"
PROCESSOR_CA: Final = "Intel SGX PCK Processor CA"
_PCK: Final = "Intel SGX PCK Certificate"
_SGX_TYPES: Final = {0: "standard", 1: "scalable", 2: "scalable with integrity"}

SGX_EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


@dataclass(frozen=True, slots=True)
class PckExtension:
    """What Intel certifies about a platform.

    ``fmspc`` (6 bytes) names family, model, stepping, platform and custom SKU; ``tcb_components`` are the 16 SVNs of the
    platform's TCB and ``pce_svn`` that of its provisioning enclave; ``ppid`` (16 bytes) identifies the processor and
    ``platform_instance_id`` (16 bytes) the platform, where its CA is the platform CA.
    """

    ppid: bytes
    tcb_components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: str
    platform_instance_id: bytes | None
    configuration: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True, eq=False)
class PckIdentity:
    """A PCK chain that leads to a pinned root, and what its leaf says."""

    chain: Chain
    extension: PckExtension
    public_key: ec.EllipticCurvePublicKey

    @property
    def ca(self) -> str:
        """``platform`` or ``processor``: which of Intel's two CAs issued it, and so which CRL speaks of it."""
        return "platform" if self.chain.issuer.name == PLATFORM_CA else "processor"


def read_pck_chain(pem: bytes, chains: ChainReader) -> PckIdentity:
    """Read the PCK chain of a quote (leaf, CA and root, in any order after the leaf) and prove it up to a pinned root.

    :raises EndorsementError: when it is not such a chain.
    """
    chain = chains.read(pem)
    names = chain.names
    if len(names) != 3 or names[0] != _PCK or names[1] not in {PLATFORM_CA, PROCESSOR_CA}:
        raise EndorsementError(f"a PCK chain is a PCK certificate, a PCK CA and a root, not {names}")
    key = chain.leaf.public_key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EndorsementError("the PCK certificate's key is not on P-256")
    return PckIdentity(chain, read_pck_extension(chain.leaf.x509), key)


def read_pck_extension(certificate: x509.Certificate) -> PckExtension:
    """Read the SGX extension of a PCK certificate.

    :raises EndorsementError: when it is missing, malformed or incomplete.
    """
    try:
        raw = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
    except x509.ExtensionNotFound as error:
        raise EndorsementError("the PCK certificate has no SGX extension") from error
    if not isinstance(raw, x509.UnrecognizedExtension):
        raise EndorsementError("the PCK certificate's SGX extension is of an unknown shape")
    try:
        return _interpret(asn1.decode_der(_Extension, raw.value))
    except (ValueError, IndexError) as error:
        raise EndorsementError(f"the SGX extension cannot be read: {error}") from error


@asn1.sequence
class _Any:
    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Octets:
    oid: x509.ObjectIdentifier
    value: bytes


@asn1.sequence
class _Svn:
    oid: x509.ObjectIdentifier
    value: int


@asn1.sequence
class _Tcb:
    svn_01: _Svn
    svn_02: _Svn
    svn_03: _Svn
    svn_04: _Svn
    svn_05: _Svn
    svn_06: _Svn
    svn_07: _Svn
    svn_08: _Svn
    svn_09: _Svn
    svn_10: _Svn
    svn_11: _Svn
    svn_12: _Svn
    svn_13: _Svn
    svn_14: _Svn
    svn_15: _Svn
    svn_16: _Svn
    svn_pce: _Svn
    cpu_svn: _Octets


@asn1.sequence
class _TcbField:
    oid: x509.ObjectIdentifier
    value: _Tcb


@asn1.sequence
class _Extension:
    ppid: _Octets
    tcb: _TcbField
    pce_id: _Octets
    fmspc: _Octets
    sgx_type: _Any
    instance: _Octets | None
    configuration: _Any | None


@asn1.sequence
class _Flag:
    oid: x509.ObjectIdentifier
    value: bool


@asn1.sequence
class _Flags:
    """pyca decodes classes only, so a SEQUENCE OF is held in a SEQUENCE of one."""

    flags: list[_Flag]


_SVN_NAMES: Final = (*(f"svn_{n:02d}" for n in range(1, 17)), "svn_pce")
_OIDS: Final = tuple(
    x509.ObjectIdentifier(f"{SGX_EXTENSION.dotted_string}.{suffix}")
    for suffix in ("1", "2", "3", "4", "5", *(f"2.{n}" for n in range(1, 19)))
)
_CONFIGURATION: Final = {
    f"{SGX_EXTENSION.dotted_string}.7.{n}": name
    for n, name in enumerate(("dynamic_platform", "cached_keys", "smt_enabled"), start=1)
}


def _interpret(fields: _Extension) -> PckExtension:
    """Check that the fields are the profile's, in its order and range, and name them.

    :raises ValueError: when they are not.
    """
    tcb = fields.tcb.value
    svns = [getattr(tcb, name) for name in _SVN_NAMES]
    found = (
        *(field.oid for field in (fields.ppid, fields.tcb, fields.pce_id, fields.fmspc, fields.sgx_type)),
        *(svn.oid for svn in svns),
        tcb.cpu_svn.oid,
    )
    if found != _OIDS:
        raise ValueError("its fields are not the ones the profile names, in its order")
    *components, pce_svn = (svn.value for svn in svns)
    if not all(0 <= svn <= 0xFF for svn in components) or not 0 <= pce_svn <= 0xFFFF:
        raise ValueError("an SVN is out of range")
    return PckExtension(
        ppid=_octets(fields.ppid, 16),
        tcb_components=tuple(components),
        pce_svn=pce_svn,
        cpu_svn=_octets(tcb.cpu_svn, 16),
        pce_id=_octets(fields.pce_id, 2),
        fmspc=_octets(fields.fmspc, 6),
        sgx_type=_SGX_TYPES.get(fields.sgx_type.value.data[-1], "unknown"),
        platform_instance_id=_octets(fields.instance, 16) if fields.instance else None,
        configuration=_configuration(fields.configuration) if fields.configuration else (),
    )


def _configuration(field: _Any) -> tuple[tuple[str, bool], ...]:
    flags = asn1.decode_der(_Flags, sequence(sequence(bytes(field.value.data)))).flags
    names = [each.oid.dotted_string for each in flags]
    return tuple(
        (_CONFIGURATION.get(name, name), each.value) for name, each in zip(names, flags, strict=True)
    )


def _octets(field: _Octets, size: int) -> bytes:
    if len(field.value) != size:
        raise ValueError(f"{len(field.value)} bytes where {size} are due")
    return field.value
