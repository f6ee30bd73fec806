# SPDX-License-Identifier: Apache-2.0
"""Which entry of Secure Boot's ``db`` lets an image run: firmware measures it into PCR 7. Pure.

Signatures are not verified here. An image whose signature does not verify is not started, and then no measurement is compared.
"""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509 import load_der_x509_certificate

from eaa.rats import InputError
from eaa.tee.pe import certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.x509 import Certificate

__all__ = ["authority_of"]

_LIST: Final = struct.Struct("<16sIII")
_OWNER: Final = 16
_X509: Final = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
_MAX_SIGNATURE: Final = 1 << 20


def authority_of(image: bytes, db: bytes) -> bytes | None:
    """Return the EFI_SIGNATURE_DATA of the first certificate in ``db`` that signed ``image`` or issued its signer's, if there is one.

    :raises InputError: when the image is no PE image, its signatures are no PKCS #7, or ``db`` is no signature database.
    """
    signers: list[Certificate] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pyca warns of (a serial number of zero) is common in firmware
        for signature in certificates(image):
            signers += _signers(signature)
        for entry in _entries(db):
            try:
                trusted = load_der_x509_certificate(entry[_OWNER:])
            except ValueError:
                continue
            if any(_vouches(trusted, signer) for signer in signers):
                return entry
    return None


def _signers(signature: bytes) -> list[Certificate]:
    """Return the certificates of a PKCS #7 signature, which zeros may follow."""
    if len(signature) > _MAX_SIGNATURE:
        raise InputError("a signature of the image is too large")
    for content in (signature, signature.rstrip(b"\0")):
        try:
            return load_der_pkcs7_certificates(content)
        except (ValueError, UnsupportedAlgorithm):
            continue
    raise InputError("a signature of the image is no PKCS #7")


def _vouches(trusted: Certificate, signer: Certificate) -> bool:
    if signer == trusted:
        return True
    try:
        signer.verify_directly_issued_by(trusted)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _entries(db: bytes) -> Iterator[bytes]:
    """Yield the certificates of EFI_SIGNATURE_LISTs (UEFI 2.10, 32.4.1), each behind its owner's GUID."""
    at = 0
    while at < len(db):
        if len(db) - at < _LIST.size:
            raise InputError("the signature database is cut off")
        kind, size, header, each = _LIST.unpack_from(db, at)
        start, end = at + _LIST.size + header, at + size
        if each <= _OWNER or start > end or end > len(db) or (end - start) % each:
            raise InputError("the signature database does not hold together")
        if kind == _X509:
            yield from (db[entry : entry + each] for entry in range(start, end, each))
        at = end
