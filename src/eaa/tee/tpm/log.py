# SPDX-License-Identifier: Apache-2.0
"""The event log that comes with a TPM's quote: read once the quote is proven, and believed as far as it replays to the quoted PCRs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eaa.eventlog import Registers, to_trustee
from eaa.eventlog.checks import CONTENT, check_attested, check_content, check_replay
from eaa.eventlog.tcg import parse_tcg
from eaa.rats import EvidenceError, Result, Stage
from eaa.tee.tpm import rules
from eaa.tee.tpm.quote import MAX_PCR, bank_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eaa.rats import Check
    from eaa.tee.tpm.quote import TpmQuote

__all__ = ["check_log", "log_claim"]

_PROOF: Final = frozenset({rules.AK_ANCHORED.id, rules.SIGNATURE.id, rules.PCR_DIGEST.id})
_CLAIM: Final = "uefi_event_logs"


def check_log(data: bytes, quote: TpmQuote, made: Sequence[Check]) -> tuple[Check, ...]:
    """Tie the event log, if one came, to the PCRs of ``quote``, of which the checks ``made`` say whether anybody vouches for them.

    A PCR that was extended without any event in the log is a warning: IMA, systemd and CoCo's agent extend PCRs and keep logs of their
    own. One that the log does speak of has to be what the log replays to.
    """
    if not data:
        return (CONTENT.not_applicable("no event log came with the quote"),)
    if not _proven(made):
        return (CONTENT.not_made("a log of this very boot", "nobody vouches for the registers"),)
    try:
        log = parse_tcg(data, Registers.TPM)
    except EvidenceError as error:
        return (CONTENT.failed("a well-formed event log", str(error)),)
    banks = {
        bank_name(selection.bank): {
            f"pcr{index:02d}": quote.pcrs[selection.bank].values[index]
            for index in selection.indices
            if index < MAX_PCR
        }
        for selection in quote.attest.selections
    }
    checks = [
        check
        for bank, registers in banks.items()
        for check in check_replay(log, registers, bank, optional=registers)
    ]
    return (
        *checks,
        check_attested(log, {name for names in banks.values() for name in names}),
        check_content(log),
    )


def _proven(made: Iterable[Check]) -> bool:
    """Whether the attestation key is anchored, signed these very PCRs, and nothing that was looked at is forged."""
    passed = {check.id for check in made if check.result is Result.PASS}
    forged = any(check.result is Result.FAIL and check.rule.stage is Stage.AUTHENTICITY for check in made)
    return passed >= _PROOF and not forged


def log_claim(data: bytes, made: Iterable[Check]) -> dict[str, Any]:
    """Return the events as Trustee's claim, if a log came and no check of it stands in the way."""
    if not data or any(check.id.startswith("eventlog.") and check.blocks for check in made):
        return {}
    return {_CLAIM: to_trustee(parse_tcg(data, Registers.TPM))}
