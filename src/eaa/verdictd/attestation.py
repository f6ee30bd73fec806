# SPDX-License-Identifier: Apache-2.0
"""The handshake: a challenge, evidence that answers it, and a verdict, recorded whatever it says.

One attestation, in order:

1. the cookie is ours, its challenge has not expired, and the guest answers that very nonce;
2. the evidence is read (``eaa.tee``) and verified for the report data that nonce and TEE key make (``eaa.verifier``), and for the
   init-data that the guest says it was launched with, or that its owner demands;
3. reference values and the attestation policy are applied;
4. the nonce is spent and the verdict recorded, in one transaction with the session, which exists only if the evidence is genuine,
   bound and in an acceptable state;
5. the guest gets a token that states the verdict, or the checks that failed.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final

from eaa.kbs import parse_init_data, report_data
from eaa.rats import (
    AccessDenied,
    ConfigurationError,
    EvidenceError,
    EvidenceRejected,
    ProtocolError,
    Result,
    Rule,
    Stage,
    UnavailableError,
)
from eaa.rats.views import redacted_checks
from eaa.storage import NonceReused, SessionRecord, VerdictRecord
from eaa.tee.binding import check_init_data
from eaa.tee.registry import kind_of
from eaa.verdictd._logging import log
from eaa.verdictd._refusals import AttestationRefused
from eaa.verifier.appraise import appraise

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.kbs import Attestation, InitDocument
    from eaa.rats import Appraisal, Check, Endorsements, Evidence
    from eaa.verdictd._challenge import Challenge
    from eaa.verdictd.owner_state import OwnerState
    from eaa.verdictd.services import Services
    from eaa.verifier.appraise import Verdict

__all__ = ["Attestations", "Session"]

POLICY_ID: Final = "default"
"""What tokens name the attestation policy in force, as Trustee's do."""
_MAX_WARM: Final = 64
_PROVEN: Final = (
    frozenset({"dcap.pck.chain", "dcap.quote.signature"}),
    frozenset({"snp.vcek.chain", "snp.report.signature"}),
)
"""Checks of which one set must pass before a platform is noted: it is genuine, whatever else its evidence or our collateral lacks."""
_MAX_KEPT_EVIDENCE: Final = 512 * 1024
"""Bytes of JSON that a verdict on record keeps of the evidence as policies saw it."""
_SHORT_INIT_DATA: Final = 16 * 1024
"""Characters that are read faster than a thread is asked to."""
_NOT_ACCEPTED: Final = "the evidence was not accepted"

POLICY_IN_FORCE: Final = Rule(
    "policy.attestation",
    Stage.POLICY,
    "An attestation policy is in force",
    "RFC 9334 section 8.5",
    "Set one: eaa policy set attestation FILE",
)


@dataclass(frozen=True, slots=True)
class Session:
    """What a guest has earned: its token, and until when its cookie opens resources."""

    token: str = field(repr=False)
    expires: datetime


class Attestations:
    """Answers handshakes. Holds no state of its own but which collateral was seen before."""

    def __init__(self, services: Services, owner: OwnerState) -> None:
        self._services = services
        self._owner = owner
        self._warm: OrderedDict[bytes, None] = OrderedDict()

    def challenge(self, tee: str) -> tuple[Challenge, str]:
        """Return a fresh challenge and the cookie that carries it.

        :raises EvidenceError: when there is no verifier for this kind of TEE.
        """
        kind_of(tee)
        challenge = self._services.challenges.issue(tee, at=self._services.clock())
        return challenge, self._services.challenges.seal(challenge)

    async def attest(self, cookie: str, message: Attestation, *, request_id: str) -> Session:
        """Judge a guest's answer and record the verdict; return the session it opens.

        :raises AccessDenied: when the cookie is not ours or expired, or the nonce is another's or was used before.
        :raises ProtocolError: when the message asks for something that is not done here.
        :raises AttestationRefused: when the evidence is not accepted; the verdict is recorded.
        """
        at = self._services.clock()
        challenge = self._services.challenges.open(cookie)
        try:
            _require_answer(challenge, message, at)
        except AccessDenied as denied:
            self._services.metrics.attested(challenge.tee, "refused", [denied.check])
            raise
        expected = report_data(challenge.nonce, message.runtime_data.tee_pubkey)
        init_data = await _init_data(message)
        try:
            evidence = _evidence(message, challenge.tee)
        except EvidenceError as error:
            verdict_id = await self._record_unreadable(challenge, error, at, request_id)
            failed = {"id": error.check, "title": str(error), "remedy": error.hint}
            raise AttestationRefused(_NOT_ACCEPTED, verdict=verdict_id, checks=(failed,)) from None
        appraisal = await self._verified(evidence, expected, at)
        required = challenge.tee in self._services.require_init_data
        appraisal = appraisal.with_checks((_check_init_data(appraisal, init_data, required=required),))
        runtime_data = {"additional-evidence": "", **message.runtime_data.model_dump(by_alias=True)}
        verdict = await self._appraised(appraisal, runtime_data, init_data, at)
        try:
            appraisal.accept()
        except EvidenceRejected:
            await self._record(challenge, verdict, None, at, request_id)
            raise AttestationRefused(
                _NOT_ACCEPTED,
                verdict=verdict.id,
                checks=redacted_checks(check.to_json() for check in appraisal.failing),
            ) from None
        session = self._session(challenge, message, verdict, at)
        await self._record(challenge, verdict, session, at, request_id)
        return Session(session.token, session.expires_at)

    async def _verified(self, evidence: Evidence, expected: bytes, at: datetime) -> Appraisal:
        endorsements = self._endorsements(evidence)
        verify = self._services.verifier.verify
        started = time.perf_counter()
        if endorsements.digest in self._warm:
            # One P-256 verification, about 0.2 ms: a thread would cost as much again.
            appraisal = verify(evidence, endorsements, at=at, report_data=expected)
        else:
            appraisal = await asyncio.to_thread(verify, evidence, endorsements, at=at, report_data=expected)
            self._warm[endorsements.digest] = None
            while len(self._warm) > _MAX_WARM:
                self._warm.popitem(last=False)
        self._services.metrics.verified(evidence.tee, time.perf_counter() - started)
        passed = {check.id for check in appraisal.checks if check.result is Result.PASS}
        if any(proof <= passed for proof in _PROVEN):
            await self._observe(evidence)
        return appraisal

    async def _observe(self, evidence: Evidence) -> None:
        """Let the endorsements' keeper know a genuine platform; that it cannot take notes is no reason to turn a guest away."""
        try:
            await self._services.endorsements.observe(evidence)
        except UnavailableError as error:
            log.warning("a platform was not noted", reason=str(error))

    def _endorsements(self, evidence: Evidence) -> Endorsements:
        try:
            return self._services.endorsements.endorsements_for(evidence)
        except ConfigurationError as error:
            # Our store's fault, not the guest's: it may attest again when the store is mended.
            log.error("endorsements cannot be read", reason=str(error), hint=error.hint)
            raise UnavailableError(
                "the endorsements cannot be read", hint="The server's log says why."
            ) from error

    async def _appraised(
        self,
        appraisal: Appraisal,
        runtime_data: dict[str, Any],
        init_data: _InitData | None,
        at: datetime,
    ) -> Verdict:
        owner = await self._owner.current()
        if owner.attestation_policy is None:
            appraisal = appraisal.with_checks((POLICY_IN_FORCE.failed("a policy", "none"),))
        return await appraise(
            appraisal,
            engine=self._services.policies,
            policy_text=owner.attestation_policy or "",
            policy_id=POLICY_ID,
            reference_values=owner.reference_values(at),
            runtime_data=runtime_data,
            init_data_claims=init_data.claims if init_data is not None else None,
            sets=owner.sets,
        )

    def _session(
        self, challenge: Challenge, message: Attestation, verdict: Verdict, at: datetime
    ) -> SessionRecord:
        tokens = self._services.tokens
        token = tokens.issue(verdict, at=at)
        return SessionRecord(
            id=challenge.session,
            tee=challenge.tee,
            verdict_id=verdict.id,
            tee_public_key=dict(message.runtime_data.tee_pubkey.jwk),
            claims=tokens.verify(token, at=at),
            token=token,
            expires_at=at + tokens.lifetime,
        )

    async def _record(
        self,
        challenge: Challenge,
        verdict: Verdict,
        session: SessionRecord | None,
        at: datetime,
        request_id: str,
    ) -> None:
        failing = [check.id for check in verdict.appraisal.failing]
        record = VerdictRecord(
            id=verdict.id,
            at=at,
            tee=challenge.tee,
            accepted=session is not None,
            evidence_digest=sha256(verdict.appraisal.evidence.raw).digest(),
            document={
                **verdict.to_json(),
                "failed_checks": failing,
                **(_kept_evidence(verdict) if session is not None else {}),
            },
            request_id=request_id,
        )
        await self._spend(challenge, record, session)
        outcome = verdict.status.value if session is not None else "rejected"
        self._services.metrics.attested(challenge.tee, outcome, failing)
        log.info(
            "attested" if session is not None else "evidence rejected",
            tee=challenge.tee,
            verdict=verdict.id,
            status=verdict.status.value,
            simulated=verdict.simulated,
            failed_checks=failing,
        )

    async def _record_unreadable(
        self, challenge: Challenge, error: EvidenceError, at: datetime, request_id: str
    ) -> str:
        record = VerdictRecord(
            id=str(uuid.uuid4()),
            at=at,
            tee=challenge.tee,
            accepted=False,
            evidence_digest=b"",
            document={
                "status": "contraindicated",
                "failed_checks": [error.check],
                "error": {"code": error.code, "message": str(error), "check": error.check},
            },
            request_id=request_id,
        )
        await self._spend(challenge, record, None)
        self._services.metrics.attested(challenge.tee, "unreadable", [error.check])
        log.info("evidence unreadable", tee=challenge.tee, verdict=record.id, failed_checks=[error.check])
        return record.id

    async def _spend(
        self, challenge: Challenge, record: VerdictRecord, session: SessionRecord | None
    ) -> None:
        """Spend the nonce and record verdict and session, all or nothing."""
        try:
            await self._services.database.record_attestation(
                nonce=b64decode(challenge.nonce),
                expires_at=challenge.expires,
                verdict=record,
                session=session,
            )
        except NonceReused as reused:
            self._services.metrics.attested(challenge.tee, "replayed", [reused.check])
            raise


def _kept_evidence(verdict: Verdict) -> dict[str, Any]:
    """Return what dry runs ask policies about. Of evidence that is not accepted nothing is kept: anybody can send a lot of it."""
    evidence = dict(verdict.annotated_evidence)
    return {"annotated_evidence": evidence} if len(json.dumps(evidence)) <= _MAX_KEPT_EVIDENCE else {}


def _require_answer(challenge: Challenge, message: Attestation, at: datetime) -> None:
    """Refuse what does not answer this challenge, or asks for more than is verified here."""
    if at >= challenge.expires:
        raise AccessDenied(
            "the challenge has expired", check="session.expired", hint="Begin again with POST /kbs/v0/auth."
        )
    if not compare_digest(challenge.nonce.encode(), message.runtime_data.nonce.encode()):
        raise AccessDenied(
            "the evidence answers another challenge than the session's",
            check="session.nonce",
            hint="Ask for a new challenge and answer it; evidence is good for one use.",
        )
    if message.tee_evidence.additional_evidence:
        raise ProtocolError(
            "evidence of additional devices is not supported", hint="Attest the CPU's TEE alone."
        )


@dataclass(frozen=True, slots=True)
class _InitData:
    """Init-data as the guest sends it; its claims count only if the evidence carries its digest."""

    document: InitDocument
    claims: dict[str, Any] = field(repr=False)


async def _init_data(message: Attestation) -> _InitData | None:
    """Read the init-data of a message, if it has any.

    :raises ProtocolError: when it is malformed.
    """
    sent = message.init_data
    if sent is None:
        return None

    def read() -> _InitData:
        document = parse_init_data(sent.format, sent.body)
        return _InitData(document, document.claims())

    # A long text takes some hundred milliseconds, during which others are answered.
    return read() if len(sent.body) < _SHORT_INIT_DATA else await asyncio.to_thread(read)


def _check_init_data(appraisal: Appraisal, init_data: _InitData | None, *, required: bool) -> Check:
    if init_data is None:
        return check_init_data(b"", None, required=required)
    stated = kind_of(appraisal.evidence.tee).claims(appraisal)
    return check_init_data(stated.init_data, stated.init_data_of(init_data.document.digest))


def _evidence(message: Attestation, tee: str) -> Evidence:
    """Return the guest's evidence, read from the JSON that attesters of this kind of TEE send.

    :raises EvidenceError: when it is none.
    """
    sent = message.tee_evidence.primary_evidence
    if not isinstance(sent, dict):
        raise EvidenceError("the evidence is not a JSON object")
    return kind_of(tee).from_kbs(sent)
