# SPDX-License-Identifier: Apache-2.0
"""Certificates of endorsement keys and attestation keys, up to a pinned root.

The leaf is read by rules of its own (TCG EK Credential Profile for TPM 2.0, section 3.2): its subject is empty and the TPM's model stands
in a critical subject alternative name. Everything above it is an ordinary chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from eaa.rats import EndorsementError
from eaa.tee.der import children, dotted
from eaa.tee.x509 import (
    KNOWN_CRITICAL,
    Certificate,
    Chain,
    CrlIssue,
    Window,
    read_crl,
    require_issuer,
    revoked_in,
    split_pem,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eaa.tee.x509 import ChainReader

__all__ = ["Certified", "Purpose", "Revocation", "certify", "check_revocation"]

_ALTERNATIVE_NAME: Final = bytes.fromhex("0603551d11")
_EXTENDED_KEY_USAGE: Final = bytes.fromhex("0603551d25")
_DISTRIBUTION_POINTS: Final = bytes.fromhex("0603551d1f")
_KNOWN_CRITICAL: Final = KNOWN_CRITICAL | {_ALTERNATIVE_NAME, _EXTENDED_KEY_USAGE}
_HASHES: Final = (SHA256, SHA384, SHA512)
_PEM: Final = b"-----BEGIN"


class Purpose(Enum):
    """What a certificate says its key is for (TCG OID registry, tcg-kp: 2.23.133.8), as the DER of the identifier."""

    ENDORSEMENT_KEY = bytes.fromhex("06056781050801")
    ATTESTATION_KEY = bytes.fromhex("06056781050803")


@dataclass(frozen=True, slots=True, eq=False)
class Certified:
    """A TPM key's certificate whose chain holds. Dates are in ``window``, not judged."""

    leaf: Certificate
    chain: Chain
    window: Window

    @property
    def links(self) -> list[tuple[Certificate, Certificate]]:
        """Each certificate with its issuer, from the leaf to below the root."""
        return list(pairwise((self.leaf, *self.chain.certificates)))


@dataclass(frozen=True, slots=True)
class Revocation:
    """What revocation lists say of a chain: who is revoked and since when, whose list is missing, and when the lists hold."""

    revoked: tuple[tuple[str, datetime], ...]
    missing: tuple[str, ...]
    windows: tuple[Window, ...]


def certify(certificate: bytes, issuers: bytes, purpose: Purpose, chains: ChainReader) -> Certified:
    """Prove that ``certificate`` (DER or PEM) was issued for ``purpose`` below a pinned root; ``issuers`` is PEM, the nearest first.

    :raises EndorsementError: naming the first link or flag that does not hold.
    """
    if certificate.lstrip().startswith(_PEM):
        certificate, *rest = split_pem(certificate)
        if rest:
            raise EndorsementError("more than one certificate where a TPM key's is expected")
    leaf = Certificate(certificate)
    chain = chains.read(issuers)
    for below, authority in enumerate(chain.certificates):
        require_issuer(authority, below=below)
    _require_issued(leaf, chain.leaf)
    _require_leaf(leaf, purpose)
    window = Window(f"certificate of the TPM key {leaf.name!r}", leaf.window.start, leaf.window.end)
    return Certified(leaf, chain, Window.intersection([window, chain.window]))


def _require_issued(leaf: Certificate, issuer: Certificate) -> None:
    if not isinstance(leaf.x509.signature_hash_algorithm, _HASHES):
        raise EndorsementError(
            "the TPM key's certificate is signed with a hash that is not of the SHA-2 family"
        )
    try:
        leaf.x509.verify_directly_issued_by(issuer.x509)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise EndorsementError(f"the TPM key's certificate is not issued by {issuer.name!r}") from error


def _require_leaf(leaf: Certificate, purpose: Purpose) -> None:
    leaf.require_known(_KNOWN_CRITICAL)
    if leaf.ca:
        raise EndorsementError("the TPM key's certificate is that of a CA")
    usage = leaf.extensions.get(_EXTENDED_KEY_USAGE)
    try:
        purposes = children(usage.value) if usage is not None else []
    except ValueError as error:
        raise EndorsementError("the purposes of the TPM key's certificate cannot be read") from error
    if purpose.value not in purposes:
        raise EndorsementError(
            f"the certificate is not one of a TPM's {purpose.name.lower().replace('_', ' ')} "
            f"({dotted(purpose.value)})"
        )


def check_revocation(certified: Certified, lists: Sequence[bytes]) -> Revocation:
    """Look each certificate up in its issuer's list among ``lists`` (DER). A certificate that names no list needs none.

    A list that is not genuine, or of somebody else, counts as absent.
    """
    revoked, missing, windows = [], [], []
    for subject, issuer in certified.links:
        for der in lists:
            try:
                crl = read_crl(der, issuer)
            except CrlIssue:
                continue
            windows.append(crl.window)
            since = revoked_in(crl, subject)
            if since is not None:
                revoked.append((subject.name or "the TPM key", since))
            break
        else:
            if _DISTRIBUTION_POINTS in subject.extensions:
                missing.append(issuer.name)
    return Revocation(tuple(revoked), tuple(missing), tuple(windows))
