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
from eaa.tee.x509 import ChainReader, read_crl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.rats import Endorsement, TrustAnchor
    from eaa.tee.x509 import Window

__all__ = ["ENCLAVES", "PCK_CAS", "Authenticator", "Subject", "anchor_id", "key_id"]

PCK_CAS: Final = {PLATFORM_CA: "platform", PROCESSOR_CA: "processor"}
"""Intel's two PCK CAs, and what PCS calls them."""
ENCLAVES: Final = frozenset({"QE", "TD_QE", "QVE"})
"""The enclaves that Intel publishes identities of: the quoting enclaves of SGX and TDX, the quote verification enclave."""


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


class Authenticator:
    """Proves endorsements below ``anchors``. Holds caches only, and is safe to share between threads."""

    def __init__(self, anchors: Iterable[TrustAnchor]) -> None:
        self._anchors = tuple(anchors)
        self._chains = ChainReader(self._anchors, size=64)
        self._readers = {
            "tcb_info": self._tcb_info,
            "qe_identity": self._enclave_identity,
            "pck_crl": self._pck_crl,
            "root_ca_crl": self._root_crl,
        }

    def authenticate(self, endorsement: Endorsement) -> Subject:
        """Prove that an endorsement was issued below one of the anchors, and return what it is about.

        :raises EndorsementError: when it is malformed, of an unknown kind, or its signature or chain does not hold.
        """
        reader = self._readers.get(endorsement.kind)
        if reader is None:
            raise EndorsementError(f"no endorsement is called {endorsement.kind!r}")
        try:
            return reader(endorsement)
        except EndorsementError as error:
            hint = error.hint or "Get it again from where it is published, unchanged, and pin its root."
            raise EndorsementError(f"{_title(endorsement)}: {error}", hint=hint) from error

    def _tcb_info(self, endorsement: Endorsement) -> Subject:
        signed = read_signed_object(endorsement.content, "tcbInfo")
        tcb_info = parse_tcb_info(signed)
        signer = read_signing_chain(endorsement.issuer_chain, self._chains)
        require_signature(signed, signer)
        scope = f"{tcb_info.id.lower()}/{tcb_info.fmspc.hex()}"
        return _subject("tcb_info", signer.anchor, scope, tcb_info.window, tcb_info.evaluation_number)

    def _enclave_identity(self, endorsement: Endorsement) -> Subject:
        signed = read_signed_object(endorsement.content, "enclaveIdentity", "qeIdentity")
        identity = parse_enclave_identity(signed)
        signer = read_signing_chain(endorsement.issuer_chain, self._chains)
        require_signature(signed, signer)
        if identity.id not in ENCLAVES:
            raise EndorsementError(f"an identity of {identity.id[:40]!r}; known are {sorted(ENCLAVES)}")
        return _subject(
            "qe_identity", signer.anchor, identity.id, identity.window, identity.evaluation_number
        )

    def _pck_crl(self, endorsement: Endorsement) -> Subject:
        chain = self._chains.read(endorsement.issuer_chain)
        if chain.leaf.name not in PCK_CAS:
            raise EndorsementError(f"a PCK CRL is issued by {sorted(PCK_CAS)}, not by {chain.leaf.name!r}")
        crl = read_crl(endorsement.content, chain.leaf)
        return _subject("pck_crl", chain.anchor, PCK_CAS[chain.leaf.name], crl.window)

    def _root_crl(self, endorsement: Endorsement) -> Subject:
        # The root's certificate does not come with its CRL; its key is pinned and that is what counts.
        try:
            crl = x509.load_der_x509_crl(endorsement.content)
            issued, next_update = crl.last_update_utc, crl.next_update_utc
            anchor = next((each for each in self._anchors if _signed_by(crl, each)), None)
        except Exception as error:  # pyca documents no complete list for hostile CRLs
            raise EndorsementError(f"the CRL cannot be read: {type(error).__name__}") from error
        if anchor is None:
            trusted = "; ".join(each.name for each in self._anchors) or "none"
            raise EndorsementError(f"no pinned root signed the CRL (pinned: {trusted})")
        if next_update is None:
            raise EndorsementError("the CRL has no nextUpdate, so its age cannot be judged")
        return Subject("root_ca_crl", anchor_id(anchor), "", issued, next_update)


def _signed_by(crl: x509.CertificateRevocationList, anchor: TrustAnchor) -> bool:
    key = load_der_public_key(anchor.public_key)
    return isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)


def _subject(kind: str, anchor: TrustAnchor, scope: str, window: Window, number: int = 0) -> Subject:
    return Subject(kind, anchor_id(anchor), scope, window.start, window.end, number)


def _title(endorsement: Endorsement) -> str:
    """Name an endorsement that may be anything, as far as it can be read."""
    try:
        signed = read_signed_object(endorsement.content, "tcbInfo", "enclaveIdentity", "qeIdentity")
    except EndorsementError:
        return endorsement.kind
    about = (signed.value.get(name) for name in ("id", "fmspc", "issueDate"))
    return " ".join([endorsement.kind, *(each[:32] for each in about if isinstance(each, str))])
