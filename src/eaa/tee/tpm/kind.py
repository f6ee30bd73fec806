# SPDX-License-Identifier: Apache-2.0
"""TPM 2.0, as the rest of EAA knows it."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from eaa.tee.kind import TeeClaims, TeeKind
from eaa.tee.tpm.evidence import TpmEvidence, parse_tpm_evidence, tpm_evidence_from_kbs
from eaa.tee.tpm.log import log_claim
from eaa.tee.tpm.quote import MAX_PCR, register_name
from eaa.tee.tpm.verify import tpm_verifier
from eaa.tee.tpm.wire import Algorithm

if TYPE_CHECKING:
    from collections.abc import Container

    from eaa.rats import Appraisal

__all__ = ["INIT_DATA_PCR", "KIND", "PCR_TITLES", "REGISTER_SOURCE", "boot_registers", "extended_init_data"]

INIT_DATA_PCR: Final = "pcr08"
"""Where CoCo's guests measure their init-data; see :func:`extended_init_data`."""
REGISTER_SOURCE: Final = (
    "TCG PC Client Platform Firmware Profile, section 3.3.4 (PCR usage); RFC 9334 section 8.3"
)
_USES: Final = {
    0: "The firmware",
    1: "The firmware's configuration",
    2: "The drivers of added hardware",
    3: "The configuration of added hardware",
    4: "The boot loader, or the unified kernel image",
    5: "The boot loader's configuration and the partition table",
    6: "What the machine's maker measured",
    7: "Secure Boot's state and keys",
    8: "The boot loader's commands, or CoCo's init-data,",
    9: "What the boot loader loaded: kernel and initial disk",
    10: "The integrity measurement log (IMA)",
    11: "The unified kernel image's sections and boot phases",
    12: "The kernel's command line and credentials",
    13: "System extensions",
    14: "Shim's machine owner keys",
    15: "The system's identity and volumes",
    16: "The debugging register",
    23: "What applications measured",
}
PCR_TITLES: Final = {
    register_name(bank, index): f"{_USES.get(index, f'PCR {index}')} (PCR {index}) is as the owner expects"
    for bank in (Algorithm.SHA256, Algorithm.SHA384)
    for index in range(MAX_PCR)
}
"""The registers that reference values can speak of: the SHA-256 bank under Trustee's names, the SHA-384 bank with a prefix."""


def boot_registers(expected: Container[str], bank: Algorithm = Algorithm.SHA256) -> frozenset[str]:
    """Return the PCRs of a bank that pin what booted after the firmware: PCR 4, and PCR 9 (GRUB) or PCR 11 (unified kernel images).

    PCR 11, which Trustee's policies look at alone, starts at zero and is extended by whatever was booted, so that another system can
    bring it to any known value. It says something only if PCR 4 says which program the firmware started (attack A27).
    """
    loaded = register_name(bank, 9)
    return frozenset({register_name(bank, 4), loaded if loaded in expected else register_name(bank, 11)})


def extended_init_data(digest: bytes) -> bytes:
    """Return what :data:`INIT_DATA_PCR` holds after a guest measured init-data with this digest, cut to 32 bytes, into it."""
    return sha256(bytes(32) + digest[:32].ljust(32, b"\0")).digest()


def _required(expected: Container[str]) -> frozenset[str]:
    """Add PCR 0, because no hardware vouches for the firmware of a bare TPM's machine."""
    sha384 = "sha384_pcr04" in expected and "pcr04" not in expected
    bank = Algorithm.SHA384 if sha384 else Algorithm.SHA256
    return boot_registers(expected, bank) | {register_name(bank, 0)}


def _claims(appraisal: Appraisal) -> TeeClaims:
    """Trustee's: the quoted PCRs, the key's DER in base64, and the events of the log if one came."""
    evidence = appraisal.evidence
    assert isinstance(evidence, TpmEvidence)
    registers = dict(evidence.measurements)
    claims = {
        **registers,
        "ak_public": b64encode(evidence.key.spki).decode(),
        **log_claim(evidence.event_log, appraisal.checks),
    }
    return TeeClaims(claims, bytes.fromhex(registers.get(INIT_DATA_PCR, "")), extended_init_data)


KIND: Final = TeeKind(
    name="tpm",
    parse=parse_tpm_evidence,
    from_kbs=tpm_evidence_from_kbs,
    verifier=tpm_verifier,
    claims=_claims,
    registers=PCR_TITLES,
    register_source=REGISTER_SOURCE,
    required=_required,
)
