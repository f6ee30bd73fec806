# SPDX-License-Identifier: Apache-2.0
"""What an endorsement is about, and proof that a chip maker issued it. Dates are read and not judged: that is the appraisal's."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from eaa.rats import EndorsementError
from eaa.tee.dcap.collateral import (
    parse_enclave_identity,
    parse_tcb_info,
    read_signing_chain,
    require_signature,
)
from eaa.tee.dcap.pck import PLATFORM_CA, PROCESSOR_CA
from eaa.tee.dcap.signed_json import read_signed_object
from eaa.tee.x509 import Chain, common_name, read_crl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eaa.rats import Endorsement, TrustAnchor
    from eaa.tee.x509 import Window

__all__ = ["PCK_CAS", "Subject", "anchor_id", "authenticate"]

PCK_CAS: Final = {PLATFORM_CA: "platform", PROCESSOR_CA: "processor"}
"""Intel's two PCK CAs, and what PCS calls them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an authentic endorsement is about.

    ``root`` identifies the chip maker's root key (:func:`anchor_id`); ``scope`` is ``tdx/50806f000000`` for TCB info, ``TD_QE`` for
    an enclave identity, ``platform`` or ``processor`` for a PCK CRL, and empty for a root's CRL. ``evaluation_number`` is
    Intel's TCB evaluation data number, 0 where there is none.
    """

    kind: str
    root: str
    scope: str
    issued: datetime
    next_update: datetime
    evaluation_number: int = 0

    @property
    def key(self) -> str:
        """What two versions of the same endorsement have in common."""
        return "/".join(part for part in (self.kind, self.root, self.scope) if part)


def anchor_id(anchor: TrustAnchor) -> str:
    """Return a short name of a root key: the first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo."""
    return key_id(anchor.public_key)


def key_id(public_key: bytes) -> str:
    """Return the short name of the DER SubjectPublicKeyInfo ``public_key``."""
    return sha256(public_key).hexdigest()[:16]


def authenticate(endorsement: Endorsement, anchors: Sequence[TrustAnchor]) -> Subject:
    """Prove that an endorsement was issued below one of ``anchors``, and return what it is about.

    :raises EndorsementError: when it is malformed, of an unknown kind, or its signature or chain does not hold.
    """
    try:
        if endorsement.kind == "tcb_info":
            return _tcb_info(endorsement, anchors)
        if endorsement.kind == "qe_identity":
            return _enclave_identity(endorsement, anchors)
        if endorsement.kind == "pck_crl":
            return _pck_crl(endorsement, anchors)
        if endorsement.kind == "root_ca_crl":
            return _root_crl(endorsement, anchors)
    except EndorsementError as error:
        raise EndorsementError(
            f"{endorsement.kind}: {error}",
            hint=error.hint or "Name the chip maker's root with --root, or get the collateral again.",
        ) from error
    raise EndorsementError(f"no endorsement is called {endorsement.kind!r}")


def _tcb_info(endorsement: Endorsement, anchors: Sequence[TrustAnchor]) -> Subject:
    signed = read_signed_object(endorsement.content, "tcbInfo")
    tcb_info = parse_tcb_info(signed)
    signer = read_signing_chain(endorsement.issuer_chain, anchors)
    require_signature(signed, signer)
    scope = f"{tcb_info.id.lower()}/{tcb_info.fmspc.hex()}"
    return _subject("tcb_info", signer.anchor, scope, tcb_info.window, tcb_info.evaluation_number)


def _enclave_identity(endorsement: Endorsement, anchors: Sequence[TrustAnchor]) -> Subject:
    signed = read_signed_object(endorsement.content, "enclaveIdentity", "qeIdentity")
    identity = parse_enclave_identity(signed)
    signer = read_signing_chain(endorsement.issuer_chain, anchors)
    require_signature(signed, signer)
    if identity.id not in {"QE", "TD_QE", "QVE"}:
        raise EndorsementError(f"an identity of {identity.id[:40]!r}; known are QE, TD_QE and QVE")
    return _subject("qe_identity", signer.anchor, identity.id, identity.window, identity.evaluation_number)


def _pck_crl(endorsement: Endorsement, anchors: Sequence[TrustAnchor]) -> Subject:
    chain = Chain.build(endorsement.issuer_chain, anchors)
    name = common_name(chain.leaf)
    if name not in PCK_CAS:
        raise EndorsementError(f"a PCK CRL is issued by {sorted(PCK_CAS)}, not by {name!r}")
    crl = read_crl(endorsement.content, chain.leaf)
    return _subject("pck_crl", chain.anchor, PCK_CAS[name], crl.window)


def _root_crl(endorsement: Endorsement, anchors: Sequence[TrustAnchor]) -> Subject:
    try:
        crl = x509.load_der_x509_crl(endorsement.content)
        issued, next_update = crl.last_update_utc, crl.next_update_utc
        anchor = next((each for each in anchors if _signed_by(crl, each)), None)
    except Exception as error:  # pyca documents no complete list for hostile CRLs
        raise EndorsementError(f"the CRL cannot be read: {type(error).__name__}") from error
    if anchor is None:
        trusted = "; ".join(each.name for each in anchors) or "none"
        raise EndorsementError(f"no pinned root signed the CRL (pinned: {trusted})")
    if next_update is None:
        raise EndorsementError("the CRL has no nextUpdate, so its age cannot be judged")
    return Subject("root_ca_crl", anchor_id(anchor), "", issued, next_update)


def _signed_by(crl: x509.CertificateRevocationList, anchor: TrustAnchor) -> bool:
    key = load_der_public_key(anchor.public_key)
    return isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)


def _subject(kind: str, anchor: TrustAnchor, scope: str, window: Window, number: int = 0) -> Subject:
    return Subject(kind, anchor_id(anchor), scope, window.start, window.end, number)
