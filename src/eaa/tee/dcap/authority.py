# SPDX-License-Identifier: Apache-2.0
"""Steps 1 to 5 of DCAP verification: everything that holds for a platform and its collateral, whatever the single quote says.

Nothing here looks at a clock: dates come out as windows and are judged by :mod:`eaa.tee.dcap.verify`, so that results can be
remembered by content for as long as anybody likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eaa.rats import Check, EndorsementError, Endorsements
from eaa.tee.dcap import rules
from eaa.tee.dcap.collateral import (
    EnclaveIdentity,
    TcbInfo,
    parse_enclave_identity,
    parse_tcb_info,
    read_enclave_identity,
    read_signing_chain,
    read_tcb_info,
    require_signature,
)
from eaa.tee.dcap.pck import PckIdentity, read_pck_chain
from eaa.tee.dcap.quote import CERT_PCK_CHAIN, CertificationData
from eaa.tee.x509 import Certificate, Chain, ChainReader, Crl, Window, read_crl, revoked_in, spell_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.rats import Endorsement, Rule
    from eaa.tee.dcap.signed_json import SignedObject

__all__ = [
    "Dated",
    "Platform",
    "Statement",
    "authenticate_enclave_identity",
    "authenticate_platform",
    "authenticate_tcb_info",
]

_S = TypeVar("_S", TcbInfo, EnclaveIdentity)

QE_OF_TEE = {"SGX": "QE", "TDX": "TD_QE"}


@dataclass(frozen=True, slots=True)
class Dated:
    """A rule about a window of time, judged later."""

    rule: Rule
    window: Window


@dataclass(slots=True)
class _Findings:
    """Checks and dates as they are found, in order."""

    checks: list[Check] = field(default_factory=list)
    dated: list[Dated] = field(default_factory=list)

    def add(self, check: Check) -> None:
        self.checks.append(check)


@dataclass(frozen=True, slots=True, eq=False)
class Statement(Generic[_S]):
    """A signed statement of the vendor: its checks, its signer and, unless something failed, what it says."""

    checks: tuple[Check, ...]
    signer: Chain | None
    value: _S | None


@dataclass(frozen=True, slots=True, eq=False)
class Platform:
    """A platform, its PCK identity and its collateral, with every check that needs neither the time nor the quote's body."""

    checks: tuple[Check, ...]
    dated: tuple[Dated, ...]
    pck: PckIdentity | None
    tcb_info: TcbInfo | None
    qe_identity: EnclaveIdentity | None
    facts: dict[str, Any]


def authenticate_tcb_info(endorsement: Endorsement, chains: ChainReader) -> Statement[TcbInfo]:
    """Prove and read TCB info: chain to a pinned root, signature over the very text, then its fields."""
    return _authenticate(
        endorsement,
        chains,
        (rules.TCB_INFO_CHAIN, rules.TCB_INFO_SIGNATURE, rules.TCB_INFO_FORMAT),
        read_tcb_info,
        parse_tcb_info,
    )


def authenticate_enclave_identity(
    endorsement: Endorsement, chains: ChainReader
) -> Statement[EnclaveIdentity]:
    """Prove and read an enclave identity (attack A1: fetched is not verified)."""
    return _authenticate(
        endorsement,
        chains,
        (rules.QE_IDENTITY_CHAIN, rules.QE_IDENTITY_SIGNATURE, rules.QE_IDENTITY_FORMAT),
        read_enclave_identity,
        parse_enclave_identity,
    )


def _authenticate(
    endorsement: Endorsement,
    chains: ChainReader,
    named: tuple[Rule, Rule, Rule],
    read: Callable[[bytes], SignedObject],
    parse: Callable[[SignedObject], _S],
) -> Statement[_S]:
    """Run the three steps of a signed statement, each a check of its own; the text is interpreted only once it is proven."""
    chain_rule, signature_rule, format_rule = named
    checks: list[Check] = []
    try:
        step, expected = format_rule, "a PCS response"
        signed = read(endorsement.content)
        step, expected = chain_rule, "TCB signing certificate, then a pinned root"
        signer = read_signing_chain(endorsement.issuer_chain, chains)
        checks.append(step.passed(expected, signer.anchor.name))
        step, expected = signature_rule, f"signed by {signer.leaf.name}"
        require_signature(signed, signer)
        checks.append(step.passed(expected, "the signature verifies"))
        step, expected = format_rule, "every field present, typed and in range"
        value = parse(signed)
    except EndorsementError as error:
        checks.append(step.failed(expected, str(error)))
        return Statement(tuple(checks), None, None)
    checks.append(step.passed(expected, f"version {value.version}"))
    return Statement(tuple(checks), signer, value)


def authenticate_platform(
    certification: CertificationData,
    endorsements: Endorsements,
    chains: ChainReader,
    tee: str,
    tcb_info_of: Callable[[Endorsement], Statement[TcbInfo]],
    identity_of: Callable[[Endorsement], Statement[EnclaveIdentity]],
) -> Platform:
    """Authenticate a platform and its collateral. ``tee`` is ``SGX`` or ``TDX``.

    The two callables authenticate one statement each; the verifier passes remembering ones, since thousands of platforms
    share a statement.
    """
    found = _Findings()
    # (1) The PCK chain leads to a pinned root (A12).
    pck = _pck(certification, chains, found)
    # (2) Revocation lists: the root's, then the one of the CA that issued the PCK (A10).
    root_crl = _root_crl(endorsements, pck, found)
    _pck_crl(endorsements, pck, chains, found)
    # (3) + (4) TCB info and QE identity: proven, of this TEE, of this platform, signer not revoked (A1, A3).
    info = _choose(
        [tcb_info_of(each) for each in endorsements.of_kind("tcb_info")],
        lambda value: value.id == tee and pck is not None and value.fmspc == pck.extension.fmspc,
    )
    tcb_info = _statement(
        info, rules.TCB_INFO_CHAIN, rules.TCB_INFO_REVOCATION, rules.TCB_INFO_DATES, root_crl, found
    )
    _platform_match(tcb_info, pck, tee, found)
    identity = _choose(
        [identity_of(each) for each in endorsements.of_kind("qe_identity")],
        lambda value: value.id == QE_OF_TEE[tee],
    )
    qe_identity = _statement(
        identity,
        rules.QE_IDENTITY_CHAIN,
        rules.QE_IDENTITY_REVOCATION,
        rules.QE_IDENTITY_DATES,
        root_crl,
        found,
    )
    if qe_identity is not None:
        expected = QE_OF_TEE[tee]
        found.add(rules.QE_IDENTITY_TEE.holds(qe_identity.id == expected, expected, qe_identity.id))
    return Platform(
        tuple(found.checks), tuple(found.dated), pck, tcb_info, qe_identity, _facts(pck, tcb_info, found)
    )


def _pck(certification: CertificationData, chains: ChainReader, found: _Findings) -> PckIdentity | None:
    expected = f"{CERT_PCK_CHAIN} (PCK certificate chain)"
    if certification.kind != CERT_PCK_CHAIN:
        found.add(rules.CERTIFICATION.failed(expected, f"{certification.kind} ({certification.kind_name})"))
        found.add(rules.PCK_CHAIN.not_made("a chain up to a pinned root", "the quote carries no PCK chain"))
        return None
    found.add(rules.CERTIFICATION.passed(expected, expected))
    try:
        pck = read_pck_chain(certification.data, chains)
    except EndorsementError as error:
        found.add(rules.PCK_CHAIN.failed("a chain up to a pinned root", str(error)))
        return None
    found.add(rules.PCK_CHAIN.passed("a chain up to a pinned root", pck.chain.anchor.name))
    found.dated.append(Dated(rules.PCK_VALIDITY, pck.chain.window))
    return pck


def _root_crl(endorsements: Endorsements, pck: PckIdentity | None, found: _Findings) -> Crl | None:
    root = pck.chain.root if pck else None
    crl = _crl(endorsements, "root_ca_crl", root, rules.ROOT_CRL, rules.ROOT_CRL_DATES, found)
    if pck is not None:
        _not_revoked(crl, pck.chain.issuer, rules.CA_REVOCATION, found)
    return crl


def _pck_crl(
    endorsements: Endorsements, pck: PckIdentity | None, chains: ChainReader, found: _Findings
) -> None:
    issuer = pck.chain.issuer if pck else None
    crl = _crl(endorsements, "pck_crl", issuer, rules.PCK_CRL, rules.PCK_CRL_DATES, found, chains)
    if pck is not None:
        _not_revoked(crl, pck.chain.leaf, rules.PCK_REVOCATION, found)


def _crl(
    endorsements: Endorsements,
    kind: str,
    issuer: Certificate | None,
    rule: Rule,
    dates: Rule,
    found: _Findings,
    chains: ChainReader | None = None,
) -> Crl | None:
    """Find the list of ``kind`` that ``issuer`` signed; with several, the one whose issuer fits."""
    candidates = endorsements.of_kind(kind)
    if not candidates or issuer is None:
        found.add(rule.not_made(f"a list signed by {_name(issuer)}", _missing(kind, issuer)))
        return None
    expected = f"a list signed by {issuer.name}"
    failure = ""
    for candidate in candidates:
        try:
            crl = read_crl(candidate.content, issuer)
            windows = [crl.window]
            if candidate.issuer_chain and chains is not None:
                windows.append(_issuer_window(candidate.issuer_chain, issuer, chains))
        except EndorsementError as error:
            failure = failure or str(error)
            continue
        found.add(rule.passed(expected, "issuer and signature hold"))
        found.dated.append(Dated(dates, Window.intersection(windows)))
        return crl
    found.add(rule.failed(expected, failure))
    return None


def _issuer_window(pem: bytes, issuer: Certificate, chains: ChainReader) -> Window:
    """Return how long the chain delivered with a CRL is valid; it must be of the CA that issued the platform's certificate.

    :raises EndorsementError: when it is not.
    """
    chain = chains.read(pem)
    if chain.leaf.spki != issuer.spki:
        raise EndorsementError(f"the CRL came with the chain of another CA than {issuer.name!r}")
    return chain.window


def _name(certificate: Certificate | None) -> str:
    return certificate.name if certificate is not None else "the issuing CA"


def _missing(kind: str, issuer: Certificate | None) -> str:
    return f"the endorsements hold no {kind}" if issuer is not None else "its issuer is not proven"


def _not_revoked(crl: Crl | None, certificate: Certificate, rule: Rule, found: _Findings) -> None:
    name = certificate.name
    expected = f"serial {certificate.x509.serial_number:x} of {name} is not listed"
    if crl is None:
        found.add(rule.not_made(expected, "there is no genuine revocation list to look it up in"))
        return
    revoked = revoked_in(crl, certificate)
    found.add(
        rule.holds(
            revoked is None, expected, "not listed" if revoked is None else f"revoked on {revoked:%Y-%m-%d}"
        )
    )


def _choose(candidates: list[Statement[_S]], fits: Callable[[_S], bool]) -> Statement[_S] | None:
    """Return the statement that fits, else the first one, whose checks then say what is wrong with it."""
    fitting = (each for each in candidates if each.value is not None and fits(each.value))
    return next(fitting, candidates[0] if candidates else None)


def _statement(
    statement: Statement[_S] | None,
    chain: Rule,
    revocation: Rule,
    dates: Rule,
    root_crl: Crl | None,
    found: _Findings,
) -> _S | None:
    if statement is None:
        found.add(chain.not_made("a signed statement of the vendor", "the endorsements hold none"))
        return None
    found.checks.extend(statement.checks)
    if statement.signer is None or statement.value is None:
        return None
    _not_revoked(root_crl, statement.signer.leaf, revocation, found)
    window = Window.intersection([statement.value.window, statement.signer.window])
    found.dated.append(Dated(dates, window))
    return statement.value


def _platform_match(info: TcbInfo | None, pck: PckIdentity | None, tee: str, found: _Findings) -> None:
    if info is None:
        return
    found.add(rules.TCB_INFO_TEE.holds(info.id == tee, tee, info.id))
    if pck is not None:
        fmspc, pce_id = pck.extension.fmspc, pck.extension.pce_id
        found.add(rules.TCB_INFO_FMSPC.holds(info.fmspc == fmspc, fmspc.hex(), info.fmspc.hex()))
        found.add(rules.TCB_INFO_PCE.holds(info.pce_id == pce_id, pce_id.hex(), info.pce_id.hex()))


def _facts(pck: PckIdentity | None, info: TcbInfo | None, found: _Findings) -> dict[str, Any]:
    """Return what the collateral says of the platform, for claims; nothing in here is decided upon."""
    facts: dict[str, Any] = {}
    if pck is not None:
        extension = pck.extension
        facts |= {
            "fmspc": extension.fmspc.hex(),
            "pce_id": extension.pce_id.hex(),
            "pce_svn": extension.pce_svn,
            "cpu_svn": extension.cpu_svn.hex(),
            "ppid": extension.ppid.hex(),
            "sgx_type": extension.sgx_type,
            "pck_ca": pck.ca,
            "pck_serial": f"{pck.chain.leaf.x509.serial_number:x}",
            **dict(extension.configuration),
        }
        if extension.platform_instance_id is not None:
            facts["platform_instance_id"] = extension.platform_instance_id.hex()
    if info is not None:
        facts["tcb_evaluation_number"] = info.evaluation_number
    if found.dated:
        facts["collateral_valid_until"] = spell_utc(min([each.window.end for each in found.dated]))
    return facts
