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
_PREFIX: Final = "1.2.840.113741.1.13.1."
_COMPONENTS: Final = tuple(f"{_PREFIX}2.{n}" for n in range(1, 17))


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
        fields = _fields(raw.value)
        tcb = _nested(fields[f"{_PREFIX}2"])
        components = tuple(_svn(tcb[name], 0xFF) for name in _COMPONENTS)
        configuration = _nested(fields[f"{_PREFIX}7"]) if f"{_PREFIX}7" in fields else {}
        instance = fields.get(f"{_PREFIX}6")
        extension = PckExtension(
            ppid=_octets(fields[f"{_PREFIX}1"], 16),
            tcb_components=components,
            pce_svn=_svn(tcb[f"{_PREFIX}2.17"], 0xFFFF),
            cpu_svn=_octets(tcb[f"{_PREFIX}2.18"], 16),
            pce_id=_octets(fields[f"{_PREFIX}3"], 2),
            fmspc=_octets(fields[f"{_PREFIX}4"], 6),
            sgx_type=_SGX_TYPES.get(bytes(fields[f"{_PREFIX}5"].data)[-1], "unknown"),
            platform_instance_id=_octets(instance, 16) if instance else None,
            configuration=tuple(
                (_CONFIGURATION.get(oid, oid), any(bytes(value.data))) for oid, value in configuration.items()
            ),
        )
    except KeyError as error:
        raise EndorsementError(f"the SGX extension lacks field {error.args[0]}") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise EndorsementError(f"the SGX extension cannot be read: {error}") from error
    return extension


_CONFIGURATION: Final = {
    f"{_PREFIX}7.1": "dynamic_platform",
    f"{_PREFIX}7.2": "cached_keys",
    f"{_PREFIX}7.3": "smt_enabled",
}


@asn1.sequence
class _Pair:
    """``SEQUENCE { OBJECT IDENTIFIER, ANY }``, the one shape the whole extension is made of."""

    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Holder:
    """pyca decodes classes only, so the SEQUENCE OF is held in a SEQUENCE of one."""

    pairs: list[_Pair]


def _fields(listing: bytes) -> dict[str, asn1.TLV]:
    """Read a DER ``SEQUENCE OF`` pairs into a table by dotted OID.

    :raises ValueError: on anything else, a repeated OID included.
    """
    pairs = asn1.decode_der(_Holder, sequence(listing)).pairs
    fields = {pair.oid.dotted_string: pair.value for pair in pairs}
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _nested(value: asn1.TLV) -> dict[str, asn1.TLV]:
    return _fields(sequence(bytes(value.data)))


def _octets(value: asn1.TLV, size: int) -> bytes:
    octets: bytes = value.parse(bytes)
    if len(octets) != size:
        raise ValueError(f"{len(octets)} bytes where {size} are due")
    return octets


def _svn(value: asn1.TLV, limit: int) -> int:
    svn: int = value.parse(int)
    if not 0 <= svn <= limit:
        raise ValueError(f"the SVN {svn} is out of range")
    return svn
