# SPDX-License-Identifier: Apache-2.0
"""VCEK and VLEK certificates: which chip or cloud signs, at which TCB.

Profile and extensions (1.3.6.1.4.1.3704.1) from AMD's "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface
Specification" (57230), chapter 3.

These certificates are read here and not by pyca: AMD gives all of them the serial number 0, which RFC 5280 forbids and which pyca
says it will refuse. What is above them (ASK, ASVK, ARK) is ordinary and left to :mod:`eaa.tee.x509`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_der_public_key

from eaa.rats import EndorsementError
from eaa.tee.der import children, common_name, content
from eaa.tee.snp.product import Tcb
from eaa.tee.x509 import Window

if TYPE_CHECKING:
    from eaa.tee.x509 import Certificate

__all__ = ["VCEK", "VLEK", "EndorsementKey", "read_endorsement_key"]

VCEK: Final = "SEV-VCEK"
VLEK: Final = "SEV-VLEK"
"""Common names of the two kinds."""

MAX_CERTIFICATE: Final = 8 * 1024
_MAX_EXTENSIONS: Final = 32
_SEQUENCE, _INTEGER, _BIT_STRING, _OCTET_STRING, _IA5_STRING = 0x30, 0x02, 0x03, 0x04, 0x16
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION_3: Final = bytes.fromhex("a003020102")
_EXTENSIONS: Final = 0xA3
# RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt (RFC 4055). AMD writes the trailer field or, lately, leaves its
# default out, as DER asks for.
_PSS_PARAMETERS: Final = "06092a864886f70d01010a{}a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
_PSS_SHA384: Final = (
    bytes.fromhex("3041" + _PSS_PARAMETERS.format("3034")),
    bytes.fromhex("3046" + _PSS_PARAMETERS.format("3039") + "a303020101"),
)
_PSS: Final = padding.PSS(padding.MGF1(SHA384()), 48)

_ARC: Final = bytes.fromhex("2b060104019c7801")
"""1.3.6.1.4.1.3704.1, the arc of AMD's extensions."""


def _oid(*suffix: int) -> bytes:
    return bytes((0x06, len(_ARC) + len(suffix))) + _ARC + bytes(suffix)


_STRUCT_VERSION: Final = _oid(1)
_PRODUCT_NAME: Final = _oid(2)
_LEVELS: Final = {
    "bootloader": _oid(3, 1), "tee": _oid(3, 2), "snp": _oid(3, 3), "microcode": _oid(3, 8),
}  # fmt: skip
_FMC: Final = _oid(3, 9)
_HARDWARE_ID: Final = _oid(4)
_CSP_ID: Final = _oid(5)
_HARDWARE_ID_SIZES: Final = (64, 8)
"""Before Turin, and from Turin on."""


@dataclass(frozen=True, slots=True, eq=False)
class EndorsementKey:
    """A VCEK or VLEK certificate: read, not proven.

    ``hardware_id`` is the chip's (VCEK only), ``csp_id`` the cloud provider's name (VLEK only); ``tcb`` is the version that the key
    is bound to. ``serial`` is 0 in every certificate that AMD has issued so far.
    """

    name: str
    serial: int
    issuer: bytes
    window: Window
    public_key: ec.EllipticCurvePublicKey
    product_name: str
    tcb: Tcb
    hardware_id: bytes | None
    csp_id: str | None
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """``VCEK`` or ``VLEK``."""
        return self.name.removeprefix("SEV-")

    def issued_by(self, authority: Certificate) -> bool:
        """Whether ``authority`` is named in it and signed it."""
        key = authority.public_key
        if self.issuer != authority.subject or not isinstance(key, rsa.RSAPublicKey):
            return False
        try:
            key.verify(self.signature, self.signed, _PSS, SHA384())
        except InvalidSignature:
            return False
        return True


def read_endorsement_key(der: bytes) -> EndorsementKey:
    """Read a DER certificate of a VCEK or VLEK, proving nothing.

    :raises EndorsementError: when it is no such certificate.
    """
    if len(der) > MAX_CERTIFICATE:
        raise EndorsementError(f"a certificate of {len(der)} bytes, at most {MAX_CERTIFICATE} are read")
    try:
        return _read(der)
    except (ValueError, IndexError, OverflowError) as error:
        raise EndorsementError(f"the VCEK or VLEK certificate cannot be read: {error}") from error


def _read(der: bytes) -> EndorsementKey:
    signed, algorithm, signature = _exactly(children(der), 3)
    version, serial, inner, issuer, validity, subject, spki, extensions = _exactly(children(signed), 8)
    if version != _VERSION_3 or inner != algorithm:
        raise ValueError("it is not of version 3, or names two algorithms")
    if algorithm not in _PSS_SHA384:
        raise ValueError("it is not signed with RSASSA-PSS and SHA-384")
    name = common_name(subject)
    if name not in {VCEK, VLEK}:
        raise ValueError(f"it is of {name!r}, not of {VCEK} or {VLEK}")
    bits = content(signature, _BIT_STRING)
    if bits[0]:
        raise ValueError("its signature has unused bits")
    begin, end = (_time(each) for each in _exactly(children(validity), 2))
    values = _extensions(extensions)
    hardware_id, csp_id = values.get(_HARDWARE_ID), values.get(_CSP_ID)
    if (hardware_id is not None, csp_id is not None) != (name == VCEK, name == VLEK):
        raise ValueError(f"{name} with the wrong one of hardware id and CSP id")
    return EndorsementKey(
        name=name,
        serial=int.from_bytes(content(serial, _INTEGER), "big", signed=True),
        issuer=issuer,
        window=Window(name, begin, end),
        public_key=_key(spki),
        product_name=_text(values[_PRODUCT_NAME]),
        tcb=_tcb(values),
        hardware_id=_hardware_id(hardware_id) if hardware_id is not None else None,
        csp_id=_text(csp_id) if csp_id is not None else None,
        signed=signed,
        signature=bits[1:],
    )


def _exactly(elements: list[bytes], count: int) -> list[bytes]:
    if len(elements) != count:
        raise ValueError(f"{len(elements)} elements where {count} are due")
    return elements


def _time(element: bytes) -> datetime:
    digits = content(element, element[0]).decode("ascii")
    if element[0] == _UTC_TIME:  # RFC 5280, 4.1.2.5.1: 50 to 99 are of the last century
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif element[0] != _GENERALIZED_TIME:
        raise ValueError("a date is of an unknown type")
    if len(digits) != 15:
        raise ValueError("a date is malformed")
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _extensions(element: bytes) -> dict[bytes, bytes]:
    """Return the values of AMD's extensions by their identifier in DER; AMD marks none of them critical."""
    (listed,) = _exactly(children(element, tag=_EXTENSIONS), 1)
    entries = children(listed, _MAX_EXTENSIONS + 1)
    found: dict[bytes, bytes] = {}
    for entry in entries:
        oid, value = _exactly(children(entry), 2)
        if oid in found:
            raise ValueError("it has an extension twice")
        found[oid] = content(value, _OCTET_STRING)
    if len(entries) > _MAX_EXTENSIONS:
        raise ValueError("it has too many extensions")
    missing = {_STRUCT_VERSION, _PRODUCT_NAME, *_LEVELS.values()} - found.keys()
    if missing:
        raise ValueError(f"{len(missing)} of AMD's extensions are missing")
    return found


def _tcb(values: dict[bytes, bytes]) -> Tcb:
    levels = {name: _level(values[oid]) for name, oid in _LEVELS.items()}
    return Tcb(fmc=_level(values[_FMC]) if _FMC in values else None, **levels)


def _level(element: bytes) -> int:
    level = int.from_bytes(content(element, _INTEGER), "big", signed=True)
    if not 0 <= level <= 0xFF:
        raise ValueError(f"a security patch level is {level}")
    return level


def _text(element: bytes) -> str:
    return content(element, _IA5_STRING).decode("ascii")


def _hardware_id(value: bytes) -> bytes:
    """Return the chip's id; AMD once put it into the extension as it is, and later as an OCTET STRING."""
    identifier = value if len(value) in _HARDWARE_ID_SIZES else content(value, _OCTET_STRING)
    if len(identifier) not in _HARDWARE_ID_SIZES:
        raise ValueError(f"a hardware id of {len(identifier)} bytes")
    return identifier


def _key(spki: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(spki)
    except Exception as error:  # pyca documents no complete list for hostile keys
        raise ValueError("its key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("its key is not on P-384")  # noqa: TRY004 - of the certificate, not of an argument
    return key
