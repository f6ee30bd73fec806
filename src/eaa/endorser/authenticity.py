# SPDX-License-Identifier: Apache-2.0
"""What an endorsement is about, and proof that a chip maker issued it. Dates are read and not judged: that is the appraisal's."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from eaa.rats import EndorsementError
from eaa.tee.dcap.collateral import (
    parse_enclave_identity,
    parse_tcb_info,
    read_signing_chain,
    require_signature,
)
from eaa.tee.dcap.pck import PLATFORM_CA, PROCESSOR_CA, read_pck_chain
from eaa.tee.dcap.shapes import EvaluationNumbers
from eaa.tee.dcap.signed_json import interpret, read_signed_object
from eaa.tee.snp.certificates import VCEK, read_endorsement_key
from eaa.tee.snp.product import Product, product_of_name
from eaa.tee.snp.roots import AMD_AUTHORITIES
from eaa.tee.x509 import Certificate, ChainReader, Window, read_crl, split_pem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.rats import Endorsement, TrustAnchor
    from eaa.tee.dcap.pck import PckIdentity
    from eaa.tee.snp.certificates import EndorsementKey
    from eaa.tee.x509 import Chain

__all__ = [
    "CHANNELLED",
    "ENCLAVES",
    "PCK_CAS",
    "TCB_EVALUATION_NUMBERS",
    "Authenticator",
    "Subject",
    "anchor_id",
    "evaluation_numbers",
    "key_id",
]

PCK_CAS: Final = {PLATFORM_CA: "platform", PROCESSOR_CA: "processor"}
"""Intel's two PCK CAs, and what PCS calls them."""
ENCLAVES: Final = frozenset({"QE", "TD_QE", "QVE"})
"""The enclaves that Intel publishes identities of: the quoting enclaves of SGX and TDX, the quote verification enclave."""
TCB_EVALUATION_NUMBERS: Final = "tcb_evaluation_numbers"
"""Intel's list of the TCB evaluation data numbers that it serves now, for ``sgx`` or ``tdx``."""
CHANNELLED: Final = frozenset({"tcb_info", "qe_identity"})
"""What Intel publishes through channels and by number; of everything else there is one current version."""
_AUTHORITY: Final = {"SEV-VLEK": "vlek", "SEV": "vcek"}
"""What the names of AMD's authorities begin with, and the keys that they issue."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an authentic endorsement is about.

    ``root`` identifies the chip maker's root key (:func:`anchor_id`). ``scope`` is ``tdx/50806f000000`` for TCB info, ``TD_QE`` for
    an enclave identity, ``tdx`` for evaluation numbers, ``platform`` or ``processor`` for a PCK CRL, empty for a root's CRL; of AMD
    ``Milan`` for a CRL, ``Milan/vcek`` for a chain, ``Milan/`` and hardware id or provider and the 8 bytes of the TCB for a
    VCEK or VLEK. ``evaluation_number`` is Intel's TCB evaluation data number, 0 where there is none.
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
            TCB_EVALUATION_NUMBERS: self._evaluation_numbers,
            "snp_vcek": self._snp_key,
            "snp_vlek": self._snp_key,
            "snp_chain": self._snp_chain,
            "snp_crl": self._root_crl,
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

    def pck_identity(self, pem: bytes) -> PckIdentity:
        """Prove a PCK certificate, followed by its issuers, up to one of the anchors.

        :raises EndorsementError: when it is none, or its chain does not hold.
        """
        return read_pck_chain(pem, self._chains)

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

    def _evaluation_numbers(self, endorsement: Endorsement) -> Subject:
        signed = read_signed_object(endorsement.content, "tcbEvaluationDataNumbers")
        body = interpret(signed, EvaluationNumbers)
        newest = max(_numbers_in(body), default=0)
        signer = read_signing_chain(endorsement.issuer_chain, self._chains)
        require_signature(signed, signer)
        # It is about every number, but a list that knows fewer of them is an older one.
        window = body.window("TCB evaluation data numbers")
        return _subject(TCB_EVALUATION_NUMBERS, signer.anchor, body.id.lower(), window, newest)

    def _snp_key(self, endorsement: Endorsement) -> Subject:
        key = read_endorsement_key(endorsement.content)
        if endorsement.kind != f"snp_{key.kind.lower()}":
            raise EndorsementError(f"a {key.kind} where a {endorsement.kind} is due")
        product = product_of_name(key.product_name)
        chain = self._issuer(key, endorsement.issuer_chain)
        if product is None or chain.leaf.name != (
            f"SEV-{product}" if key.name == VCEK else f"SEV-VLEK-{product}"
        ):
            raise EndorsementError(f"a certificate of {key.product_name!r} is issued by {chain.leaf.name!r}")
        whose = key.hardware_id.hex() if key.hardware_id is not None else key.csp_id
        scope = f"{product}/{whose}/{key.tcb.pack().hex()}"
        window = Window.intersection([key.window, chain.window])
        return _subject(endorsement.kind, chain.anchor, scope, window)

    def _issuer(self, key: EndorsementKey, issuer_chain: bytes) -> Chain:
        """Return the chain of the authority that issued ``key``: the one that came with it, else a published one of AMD."""
        ders = split_pem(issuer_chain) if issuer_chain else list(AMD_AUTHORITIES)
        roots = [each.certificate for each in self._anchors if each.certificate]
        certificates = [Certificate(der) for der in dict.fromkeys([*ders, *roots])]
        for authority in certificates:
            if authority.self_issued or not key.issued_by(authority):
                continue
            for root in certificates:
                if root.self_issued and root.subject == authority.issuer:
                    return self._chains.read(_pem(authority) + _pem(root))
        raise EndorsementError(f"the {key.kind} is issued by none of the authorities that came with it")

    def _snp_chain(self, endorsement: Endorsement) -> Subject:
        chain = self._chains.read(endorsement.content)
        line, _, name = chain.leaf.name.rpartition("-")
        product = product_of_name(name)
        if product is None or line not in _AUTHORITY or chain.root.name != f"ARK-{product}":
            raise EndorsementError(f"a chain of {chain.names} where an authority of AMD and its root are due")
        scope = f"{product}/{_AUTHORITY[line]}"
        return _subject("snp_chain", chain.anchor, scope, chain.window)

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
            names = [str(each.value) for each in crl.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        except Exception as error:  # pyca documents no complete list for hostile CRLs
            raise EndorsementError(f"the CRL cannot be read: {type(error).__name__}") from error
        if anchor is None:
            trusted = "; ".join(each.name for each in self._anchors) or "none"
            raise EndorsementError(f"no pinned root signed the CRL (pinned: {trusted})")
        if next_update is None:
            raise EndorsementError("the CRL has no nextUpdate, so its age cannot be judged")
        product = _product_of_root(names)
        if (product is None) != (endorsement.kind == "root_ca_crl"):
            raise EndorsementError(f"a CRL of {names} is no {endorsement.kind}")
        return Subject(endorsement.kind, anchor_id(anchor), product or "", issued, next_update)


def evaluation_numbers(content: bytes) -> frozenset[int]:
    """Return the numbers in Intel's list of them, which was proven when it was taken in.

    :raises EndorsementError: when it is malformed.
    """
    signed = read_signed_object(content, "tcbEvaluationDataNumbers")
    return frozenset(_numbers_in(interpret(signed, EvaluationNumbers)))


def _numbers_in(body: EvaluationNumbers) -> list[int]:
    return [each.tcb_evaluation_data_number for each in body.tcb_eval_numbers]


def _signed_by(crl: x509.CertificateRevocationList, anchor: TrustAnchor) -> bool:
    key = load_der_public_key(anchor.public_key)
    return isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and crl.is_signature_valid(key)


def _product_of_root(names: list[str]) -> Product | None:
    """Return the product line of AMD's root of that name, or None for any other root."""
    line, _, product = names[0].partition("-") if names else ("", "", "")
    return product_of_name(product) if line == "ARK" else None


def _pem(certificate: Certificate) -> bytes:
    return certificate.x509.public_bytes(Encoding.PEM)


def _subject(kind: str, anchor: TrustAnchor, scope: str, window: Window, number: int = 0) -> Subject:
    return Subject(kind, anchor_id(anchor), scope, window.start, window.end, number)


def _title(endorsement: Endorsement) -> str:
    """Name an endorsement that may be anything, as far as it can be read."""
    try:
        signed = read_signed_object(
            endorsement.content, "tcbInfo", "enclaveIdentity", "qeIdentity", "tcbEvaluationDataNumbers"
        )
        value = signed.value
    except EndorsementError:
        return endorsement.kind
    about = (value.get(name) for name in ("id", "fmspc", "issueDate"))
    return " ".join([endorsement.kind, *(each[:32] for each in about if isinstance(each, str))])
