# SPDX-License-Identifier: Apache-2.0
"""TPM verification.

1. a quote composed by a TPM (made while parsing: no other structure is read)
2. attestation key: anchored by the owner, its certificates, revocation, attributes
3. the key signed the quote, with a hash that holds
4. the quote selects PCRs, and the values given are those it speaks of
5. clock: safe, and no fewer resets than at enrolment
6. the event log that came with it, if the key is anchored and signed these PCRs: it replays to them, and its content is what was measured
7. every window of time holds now; the extra data is the expected report data

Step 2 repeats from quote to quote and is remembered by content in a bounded cache: another key, record or list is another entry, so
nothing outlives what it rests on.
"""

from __future__ import annotations

import hmac
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import Appraisal, Claims, EvidenceError
from eaa.tee.kind import policy_of
from eaa.tee.tpm import rules
from eaa.tee.tpm.anchor import anchor_key
from eaa.tee.tpm.log import check_log
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.public import load_spki, verifies
from eaa.tee.tpm.quote import bank_name, pcr_digest
from eaa.tee.tpm.wire import Algorithm
from eaa.tee.x509 import ChainReader, spell_utc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eaa.rats import Check, Endorsements, TrustAnchor
    from eaa.tee.tpm.anchor import Standing
    from eaa.tee.tpm.evidence import TpmEvidence
    from eaa.tee.tpm.public import PublicKey
    from eaa.tee.tpm.quote import PcrSelection, TpmQuote

__all__ = ["TpmVerifier", "check_clock", "check_extra_data", "check_quote", "quote_facts", "tpm_verifier"]

_WEAK: Final = frozenset({Algorithm.SHA1})
_TRUNCATED: Final = 32
_COMPOSED: Final = rules.MAGIC.passed("magic ff544347, type 8018", "magic ff544347, type 8018")
_SIGNED: Final = rules.SIGNATURE.passed("signed by the attestation key", "it verifies")
_UNSIGNED: Final = rules.SIGNATURE.failed("signed by the attestation key", "it does not verify")
_SAFE: Final = rules.CLOCK_SAFE.passed("safe", "safe")


def tpm_verifier(_anchors: Sequence[TrustAnchor], policies: Sequence[object]) -> TpmVerifier:
    """Make the verifier of TPM evidence. Roots of chip makers vouch for no TPM: see :class:`TpmPolicy`."""
    return TpmVerifier(policy_of(TpmPolicy, policies))


class TpmVerifier:
    """Verifies quotes of TPMs. Holds caches only, and is safe to share between threads. ``keys`` bounds how many are remembered."""

    def __init__(self, policy: TpmPolicy, *, keys: int = 4096) -> None:
        self._policy = policy
        chains = ChainReader(policy.anchors, size=keys)
        self._standing = lru_cache(keys)(partial(anchor_key, anchors=policy.anchors, chains=chains))

    def verify(
        self, evidence: TpmEvidence, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify one quote as of ``at`` (UTC) against 64 bytes of report data."""
        quote = evidence.quote
        # (2) The attestation key.
        standing = self._standing(evidence.key, endorsements)
        checks = list(standing.checks)
        try:
            key: PublicKey | None = load_spki(evidence.key.spki)
        except EvidenceError as error:
            key = None
            checks.append(rules.AK_FORMAT.failed("an RSA key or a point on a NIST curve", str(error)))
        # (1), (3), (4) The quote.
        checks += check_quote(quote, key)
        # (5) The clock.
        checks.append(check_clock(quote, strict=self._policy.require_safe_clock))
        checks.append(_resets(quote, standing))
        # (6) The log of what was measured.
        checks += check_log(evidence.event_log, quote, checks)
        # (7) Now, and for this challenge.
        if standing.dated:
            now = spell_utc(at)
            checks.extend(
                rules.DATES.holds(window.holds(at), f"within {window}", window.found_at(at, now))
                for window in standing.dated
            )
        checks.append(check_extra_data(evidence.report_data, report_data, truncated=True))
        return Appraisal(evidence, at, tuple(checks), _claims(evidence, standing))


def check_quote(quote: TpmQuote, key: PublicKey | None) -> list[Check]:
    """Make steps 1, 3 and 4 with the key that is said to have signed, None when there is none."""
    signature, attest = quote.signature, quote.attest
    if key is None:
        signed = rules.SIGNATURE.not_made("signed by the attestation key", "the key cannot be read")
    else:
        signed = _SIGNED if verifies(key, signature, quote.message) else _UNSIGNED
    hashed, selected, complete = _scope(signature.hash, attest.selections)
    values = quote.selected
    if values is None:
        complete = rules.PCR_SELECTION.not_made("a value for each quoted PCR", f"quoted are {selected}")
    checks = [_COMPOSED, signed, hashed, complete]
    stated = attest.pcr_digest
    digest = None if values is None else pcr_digest(signature.hash, values)
    if digest is None:
        checks.append(rules.PCR_DIGEST.not_made(stated.hex(), "the values are missing"))
    else:
        checks.append(rules.PCR_DIGEST.holds(digest == stated, stated.hex(), digest.hex()))
    return checks


@lru_cache(1024)
def _scope(hashing: int, selections: tuple[PcrSelection, ...]) -> tuple[Check, str, Check]:
    """Judge the hashes, name the selection as tpm2-tools does, ``sha256:0,1,2``, and judge it as if all values were there."""
    banks = [bank_name(each.bank) for each in selections]
    weak = {hashing, *(each.bank for each in selections)} & _WEAK
    hashed = rules.HASH.holds(
        not weak, "no SHA-1", f"signature {bank_name(hashing)}, banks {', '.join(banks)}"
    )
    parts = (
        f"{name}:{','.join(map(str, each.indices))}" for name, each in zip(banks, selections, strict=True)
    )
    selected = "+".join(parts)
    if any(each.mask for each in selections):
        return hashed, selected, rules.PCR_SELECTION.passed("a value for each quoted PCR", selected)
    return hashed, selected, rules.PCR_SELECTION.failed("at least one PCR", "none")


def check_clock(quote: TpmQuote, *, strict: bool) -> Check:
    """Make the first half of step 5; only ``strict`` makes a doubtful clock a reason to refuse."""
    if quote.attest.clock.safe:
        return _SAFE
    return (rules.CLOCK_SAFE.failed if strict else rules.CLOCK_SAFE.warned)("safe", "it may have gone back")


def _resets(quote: TpmQuote, standing: Standing) -> Check:
    found = quote.attest.clock.reset_count
    if standing.reset_count is None:
        return rules.RESET_COUNT.not_applicable(f"{found} now; the enrolment noted none")
    return rules.RESET_COUNT.holds(
        found >= standing.reset_count, f"{standing.reset_count} or more, as at enrolment", str(found)
    )


def check_extra_data(found: bytes, expected: bytes, *, truncated: bool) -> Check:
    """Hold ``extraData`` against the 64 bytes that the challenge demands, in constant time (attack A17).

    It has to be the report data with all, some or none of its zero padding; with ``truncated``, the first 32 bytes of it will do, as
    CoCo's ``tpm`` attester cuts it. An empty one answers no challenge.
    """
    whole = hmac.compare_digest(found.ljust(len(expected), b"\0"), expected)
    first = truncated and len(found) == _TRUNCATED and hmac.compare_digest(found, expected[:_TRUNCATED])
    return rules.QUOTED_DATA.holds(bool(found) and (whole or first), expected.hex(), found.hex() or "nothing")


def quote_facts(quote: TpmQuote) -> dict[str, Any]:
    """Return what the quote says beside its PCRs."""
    clock = quote.attest.clock
    return {
        "clock": clock.milliseconds,
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "clock_safe": clock.safe,
        "firmware_version": f"{quote.attest.firmware_version:016x}",
        "qualified_signer": quote.attest.qualified_signer.hex(),
    }


def _claims(evidence: TpmEvidence, standing: Standing) -> Claims:
    return Claims(
        tee="tpm",
        report_data=evidence.report_data,
        measurements=evidence.measurements,
        debug=False,
        simulated=standing.simulated,
        values={**standing.facts, **quote_facts(evidence.quote)},
    )
