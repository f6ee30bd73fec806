# SPDX-License-Identifier: Apache-2.0
"""SIGSTRUCT: the certificate by which a signer vouches for an enclave; what EINIT checks before it runs one.

Layout and rules from Intel's Software Developer's Manual, volume 3D, "Enclave Signature Structure (SIGSTRUCT)" and "EINIT".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from eaa.rats import InputError

__all__ = ["SIGSTRUCT_SIZE", "Sigstruct", "parse_sigstruct"]

SIGSTRUCT_SIZE: Final = 1808

_LAYOUT: Final = struct.Struct("<16sII16sI84s384sI384sIIBB2s16s16s16s32s16s16sHH12s384s384s")
_SIGNED: Final = (slice(0, 128), slice(900, 1028))
_HEADER: Final = bytes.fromhex("06000000e10000000000010000000000")
_HEADER_2: Final = bytes.fromhex("01010000600000006000000001000000")
_VENDORS: Final = (0, 0x8086)
_EXPONENT: Final = 3
_KEY_BITS: Final = 3072
_HINT: Final = (
    "Give the bare SIGSTRUCT of 1808 bytes: Gramine's .sig file, or what sgx_sign dump -cssfile writes."
)


class _Fields(NamedTuple):
    header: bytes
    vendor: int
    date: int
    header_2: bytes
    software_defined: int
    reserved_1: bytes
    modulus: bytes
    exponent: int
    signature: bytes
    misc_select: int
    misc_mask: int
    cet_attributes: int
    cet_attributes_mask: int
    reserved_2: bytes
    isv_family_id: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_enclave: bytes
    reserved_3: bytes
    isv_ext_prod_id: bytes
    isv_prod_id: int
    isv_svn: int
    reserved_4: bytes
    q1: bytes
    q2: bytes


@dataclass(frozen=True, slots=True)
class Sigstruct:
    """What a verified SIGSTRUCT says of its enclave. ``date`` is in BCD, ``20260316`` in hex; the rest as in a report."""

    vendor: int
    date: str
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    isv_ext_prod_id: bytes
    isv_family_id: bytes
    attributes: bytes
    attributes_mask: bytes
    misc_select: int
    misc_mask: int


def parse_sigstruct(data: bytes) -> Sigstruct:
    """Read and verify a SIGSTRUCT as EINIT does: headers, reserved fields, key, signature, and the quotients Q1 and Q2.

    MRSIGNER is SHA-256 over the modulus as it stands, little-endian.

    :raises InputError: when any of it does not hold.
    """
    if len(data) != SIGSTRUCT_SIZE:
        raise InputError(f"a SIGSTRUCT has {SIGSTRUCT_SIZE} bytes, not {len(data)}", hint=_HINT)
    fields = _Fields._make(_LAYOUT.unpack(data))
    if (fields.header, fields.header_2) != (_HEADER, _HEADER_2):
        raise InputError("this is no SIGSTRUCT: its headers are not those of one", hint=_HINT)
    if fields.vendor not in _VENDORS:
        raise InputError(f"the SIGSTRUCT has the unknown vendor {fields.vendor:#x}", hint=_HINT)
    if any(fields.reserved_1 + fields.reserved_2 + fields.reserved_3 + fields.reserved_4):
        raise InputError("a reserved field of the SIGSTRUCT is not zero", hint=_HINT)
    _verify(fields, b"".join(data[part] for part in _SIGNED))
    return Sigstruct(
        fields.vendor,
        f"{fields.date:08x}",
        fields.mr_enclave,
        sha256(fields.modulus).digest(),
        fields.isv_prod_id,
        fields.isv_svn,
        fields.isv_ext_prod_id,
        fields.isv_family_id,
        fields.attributes,
        fields.attributes_mask,
        fields.misc_select,
        fields.misc_mask,
    )


def _verify(fields: _Fields, signed: bytes) -> None:
    modulus, signature, q1, q2 = (
        int.from_bytes(each, "little") for each in (fields.modulus, fields.signature, fields.q1, fields.q2)
    )
    if fields.exponent != _EXPONENT or modulus.bit_length() != _KEY_BITS or not modulus & 1:
        raise InputError("the key of the SIGSTRUCT is not RSA of 3072 bits with the exponent 3", hint=_HINT)
    try:
        key = RSAPublicNumbers(_EXPONENT, modulus).public_key()
        key.verify(fields.signature[::-1], signed, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        raise InputError(
            "the signature of the SIGSTRUCT does not verify",
            hint="Sign the enclave again: this one would not start, and what it claims is nobody's word.",
        ) from None
    square = signature * signature
    if (q1, q2) != (square // modulus, (square - q1 * modulus) * signature // modulus):
        raise InputError(
            "Q1 or Q2 of the SIGSTRUCT is wrong", hint="Sign the enclave again: this one would not start."
        )
