# SPDX-License-Identifier: Apache-2.0
"""The PCK certificate: which platform signed, at which TCB.

Names and the SGX extension follow Intel's "SGX PCK Certificate and Certificate Revocation List Profile Specification",
section 1.3.5 (extension 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from eaa.rats import EndorsementError
from eaa.tee.der import children, content

if TYPE_CHECKING:
    from eaa.tee.x509 import Certificate, Chain, ChainReader

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


class PckExtension(NamedTuple):
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
    return PckIdentity(chain, read_pck_extension(chain.leaf), key)


def read_pck_extension(certificate: Certificate) -> PckExtension:
    """Read the SGX extension of a PCK certificate.

    :raises EndorsementError: when it is missing, malformed or incomplete.
    """
    extension = certificate.extensions.get(_IDENTIFIER)
    if extension is None:
        raise EndorsementError("the PCK certificate has no SGX extension")
    try:
        return _interpret(extension.value)
    except ValueError as error:
        raise EndorsementError(f"the SGX extension cannot be read: {error}") from error


_SEQUENCE: Final = 0x30
_BOOLEAN, _OCTETS, _OID, _ENUMERATED = 0x01, 0x04, 0x06, 0x0A
_OID_CONTENT: Final = bytes.fromhex("2a864886f84d010d01")
""":data:`SGX_EXTENSION` in DER; the names of all fields begin with it."""


_IDENTIFIER: Final = bytes((_OID, len(_OID_CONTENT))) + _OID_CONTENT


@cache
def _head(number: bytes, tag: int, size: int) -> bytes:
    """Return how a field ``SEQUENCE { SGX_EXTENSION.number, value }`` begins, up to the ``size`` bytes of its value's content."""
    name = bytes((_OID, len(_OID_CONTENT) + len(number))) + _OID_CONTENT + number
    return bytes((_SEQUENCE, len(name) + 2 + size)) + name + bytes((tag, size))


def _svn(number: int, *values: bytes) -> bytes:
    """Return a pattern for component ``number`` of the TCB; ``values`` are patterns for integers of one byte, two bytes, …."""
    fields = (
        re.escape(_head(bytes((2, number)), 0x02, size)) + b"(?:%b)" % value
        for size, value in enumerate(values, 1)
    )
    return b"(%b)" % b"|".join(fields)


_BYTE: Final = (rb"[\0-\x7f]", rb"\0[\x80-\xff]")
_WORD: Final = (rb"[\0-\x7f]", rb"\0[\x80-\xff]|[\x01-\x7f].", rb"\0[\x80-\xff].")
"""Integers of 8 and of 16 bits in DER."""
_TCB: Final = re.compile(
    b"".join(_svn(n, *_BYTE) for n in range(1, 17))
    + _svn(17, *_WORD)
    + re.escape(_head(b"\2\x12", _OCTETS, 16))
    + b"(.{16})",
    re.DOTALL,
)
"""The content of field 2: every byte is given, except for the SVNs of 16 components and of the PCE, and CPUSVN."""
_SVN_CONTENT: Final = len(_head(b"\2\1", 0x02, 1))
_FLAG: Final = re.compile(
    re.escape(_head(b"\7\0", _BOOLEAN, 1)[:-3]) + rb"([\0-\x7f])\x01\x01([\0\xff])", re.DOTALL
)
_FLAG_SIZE: Final = len(_head(b"\7\0", _BOOLEAN, 1)) + 1
_CONFIGURATION: Final = {1: "dynamic_platform", 2: "cached_keys", 3: "smt_enabled"}


def _interpret(der: bytes) -> PckExtension:
    """Check that the fields are the profile's, in its order and range, and name them.

    :raises ValueError: when they are not.
    """
    ppid, tcb, pce_id, fmspc, sgx_type, *rest = children(der)
    components, pce_svn, cpu_svn = _tcb(tcb)
    instance = _octets(rest.pop(0), 6, 16) if rest and rest[0].startswith(_head(b"\6", _OCTETS, 16)) else None
    configuration = _configuration(rest.pop(0)) if rest else ()
    if rest:
        raise ValueError("it has more fields than the profile names")
    return PckExtension(
        ppid=_octets(ppid, 1, 16),
        tcb_components=components,
        pce_svn=pce_svn,
        cpu_svn=cpu_svn,
        pce_id=_octets(pce_id, 3, 2),
        fmspc=_octets(fmspc, 4, 6),
        sgx_type=_SGX_TYPES.get(_value(sgx_type, 5, _ENUMERATED, 1)[0], "unknown"),
        platform_instance_id=instance,
        configuration=configuration,
    )


def _value(field: bytes, number: int, tag: int, size: int) -> bytes:
    head = _head(bytes((number,)), tag, size)
    if len(field) != len(head) + size or not field.startswith(head):
        raise ValueError(f"its field {number} is not the one that the profile names")
    return field[len(head) :]


def _octets(field: bytes, number: int, size: int) -> bytes:
    return _value(field, number, _OCTETS, size)


def _constructed(field: bytes, number: int) -> bytes:
    """Return the content of the SEQUENCE that a field holds."""
    name, value = children(field)
    if content(name, _OID) != _OID_CONTENT + bytes((number,)):
        raise ValueError(f"its field {number} is not the one that the profile names")
    return content(value, _SEQUENCE)


def _tcb(field: bytes) -> tuple[tuple[int, ...], int, bytes]:
    """Return the SVNs of the components, that of the PCE, and CPUSVN."""
    found = _TCB.fullmatch(_constructed(field, 2))
    if found is None:
        raise ValueError("its TCB is not the one that the profile names, or an SVN is out of range")
    *components, pce_svn, cpu_svn = found.groups()
    return tuple(each[-1] for each in components), int.from_bytes(pce_svn[_SVN_CONTENT:], "big"), cpu_svn


def _configuration(field: bytes) -> tuple[tuple[str, bool], ...]:
    """Return the flags by name; one without a name goes by its object identifier."""
    der = _constructed(field, 7)
    flags = _FLAG.findall(der)
    if len(flags) * _FLAG_SIZE != len(der):
        raise ValueError("its configuration is not a list of flags")
    return tuple(
        (_CONFIGURATION.get(number[0], f"{SGX_EXTENSION.dotted_string}.7.{number[0]}"), value != b"\0")
        for number, value in flags
    )
