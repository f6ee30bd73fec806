# SPDX-License-Identifier: Apache-2.0
"""TPM evidence as JSON: the form of CoCo's ``tpm`` attester, and one of ours that carries tpm2-tools' files as they are.

CoCo: ``{"ak_public": "<base64 of the DER key>", "tpm_quote": {"signature": "<base64 TPMT_SIGNATURE>", "message": "<base64
TPMS_ATTEST>", "pcrs": ["<hex of SHA-256 PCR 0>", … 24]}}``.

Ours: ``{"tpm2": {"message": …, "signature": …, "pcrs": …, "ak": …}}``, each the base64 of a file: what ``tpm2_quote`` writes with
``--message``, ``--signature`` and ``--pcr``, and the key as PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC. A key in a TPM's own form brings its
attributes and its name; the other forms are the bare key.

Beside either, ``cc_eventlog`` may hold the firmware's event log, the base64 of ``binary_bios_measurements``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import a2b_base64
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa._json import parse_json
from eaa.rats import EvidenceError
from eaa.tee.members import EVENT_LOG, event_log_member
from eaa.tee.tpm.pcr_file import parse_pcr_file
from eaa.tee.tpm.public import PublicArea, parse_public
from eaa.tee.tpm.quote import MAX_PCR, PcrBank, TpmQuote, parse_attest, parse_signature
from eaa.tee.tpm.wire import Algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_EVIDENCE",
    "AttestationKey",
    "TpmEvidence",
    "bundle_tpm2_tools",
    "parse_key",
    "parse_pcr_values",
    "parse_tpm_evidence",
    "tpm_evidence_from_kbs",
]

MAX_EVIDENCE: Final = 1024 * 1024
"""Nearly all of it is for the event log, of which firmware writes some ten to some hundred kilobytes."""
_PCR_SIZE: Final = 32
_MAX_FIELD: Final = 16 * 1024
_PEM: Final = (b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----")
_SEQUENCE: Final = 0x30


class AttestationKey(NamedTuple):
    """The key that evidence says it was signed with: the DER SubjectPublicKeyInfo, and the TPM's own description where there is one.

    What evidence says of its key is never believed by itself; see :mod:`eaa.tee.tpm.anchor`.
    """

    spki: bytes
    area: PublicArea | None = None


@dataclass(frozen=True, slots=True)
class TpmEvidence:
    """A quote of a TPM and the key that it says signed it.

    ``event_log`` is the firmware's log that came with it, as it came, or empty: nobody signed it, and it is read only once the quote
    has proven genuine (attack B9).
    """

    raw: bytes
    quote: TpmQuote
    key: AttestationKey
    event_log: bytes = b""

    @property
    def tee(self) -> str:
        """``tpm``."""
        return "tpm"

    @property
    def report_data(self) -> bytes:
        """The quote's ``extraData``, as long as it is: up to 66 bytes."""
        return self.quote.attest.extra_data

    @property
    def debug(self) -> bool:
        """False: a TPM has no debug mode to tell of."""
        return False

    @property
    def measurements(self) -> Mapping[str, str]:
        """The quoted PCRs, ``pcr00`` to ``pcr23`` for the SHA-256 bank."""
        return self.quote.measurements


def parse_tpm_evidence(data: bytes) -> TpmEvidence:
    """Parse evidence in either form.

    :raises EvidenceError: when it is neither, or malformed.
    """
    document = parse_json(data, MAX_EVIDENCE, error=EvidenceError)
    if not isinstance(document, dict):
        raise EvidenceError("TPM evidence is a JSON object", check="evidence.format")
    if "tpm2" in document:
        return _from_files(bytes(data), document["tpm2"], event_log_member(document))
    return _from_coco(bytes(data), document)


def tpm_evidence_from_kbs(evidence: Mapping[str, Any]) -> TpmEvidence:
    """Read the evidence that a KBS client sends.

    :raises EvidenceError: when it is malformed.
    """
    return _from_coco(json.dumps(dict(evidence), separators=(",", ":")).encode(), evidence)


def bundle_tpm2_tools(
    *, message: bytes, signature: bytes, pcrs: bytes, key: bytes, event_log: bytes = b""
) -> bytes:
    """Return our JSON for the files of ``tpm2_quote`` and ``tpm2_createak``, with the firmware's event log if it is given."""
    files = {"message": message, "signature": signature, "pcrs": pcrs, "ak": key}
    document: dict[str, Any] = {
        "tpm2": {name: b64encode(content).decode() for name, content in files.items()}
    }
    if event_log:
        document[EVENT_LOG] = b64encode(event_log).decode()
    return json.dumps(document).encode()


def _from_coco(raw: bytes, document: Mapping[str, Any]) -> TpmEvidence:
    quote = document.get("tpm_quote")
    if not isinstance(quote, dict):
        raise EvidenceError("TPM evidence has no tpm_quote", check="evidence.format")
    message = _base64(quote, "message")
    return TpmEvidence(
        raw,
        TpmQuote(
            message,
            parse_attest(message),
            parse_signature(_base64(quote, "signature")),
            {Algorithm.SHA256: parse_pcr_values(quote.get("pcrs"))},
        ),
        AttestationKey(_base64(document, "ak_public")),
        event_log_member(document),
    )


def _from_files(raw: bytes, files: Any, event_log: bytes) -> TpmEvidence:
    if not isinstance(files, dict):
        raise EvidenceError("tpm2 is an object of four files", check="evidence.format")
    message = _base64(files, "message")
    return TpmEvidence(
        raw,
        TpmQuote(
            message,
            parse_attest(message),
            parse_signature(_base64(files, "signature")),
            {bank: PcrBank(values) for bank, values in parse_pcr_file(_base64(files, "pcrs")).items()},
        ),
        parse_key(_base64(files, "ak")),
        event_log,
    )


def _base64(document: Mapping[str, Any], name: str) -> bytes:
    value = document.get(name)
    if isinstance(value, str) and len(value) <= _MAX_FIELD:
        try:
            return a2b_base64(value, strict_mode=True)
        except ValueError:
            pass
    raise EvidenceError(f"{name} is not in standard base64", check="evidence.format")


def parse_pcr_values(values: Any) -> PcrBank:
    """Return the SHA-256 bank of a list of 24 values in hex, or of lists of 32 numbers as early attesters wrote it.

    :raises EvidenceError: when it is none.
    """
    if not isinstance(values, list) or len(values) != MAX_PCR:
        raise EvidenceError(f"pcrs is a list of {MAX_PCR} values", check="tpm.quote.pcr-selection")
    try:
        if isinstance(values[0], str):
            return _bank_of_hex(tuple(values))
        return _bank([bytes(_bytes_of(value)) for value in values])
    except (TypeError, ValueError) as error:
        raise EvidenceError(
            f"each of pcrs has {_PCR_SIZE} bytes in hex or as numbers", check="tpm.quote.pcr-selection"
        ) from error


@lru_cache(1024)
def _bank_of_hex(values: tuple[str, ...]) -> PcrBank:
    """Read PCRs, which are the same in one quote of a machine after the other."""
    return _bank([bytes.fromhex(value) for value in values])


def _bank(values: list[bytes]) -> PcrBank:
    if any(len(value) != _PCR_SIZE for value in values):
        raise ValueError("a PCR of another size")
    return PcrBank(dict(enumerate(values)))


def _bytes_of(value: Any) -> list[int]:
    """Let only a list through: ``bytes`` would take a number for a length."""
    if isinstance(value, list):
        return value
    raise TypeError


def parse_key(data: bytes) -> AttestationKey:
    """Read an attestation key: PEM or DER SubjectPublicKeyInfo, TPM2B_PUBLIC or TPMT_PUBLIC.

    :raises EvidenceError: when it is malformed. A DER key is looked at when it is used.
    """
    begin, end = _PEM
    text = data.strip()
    if text.startswith(begin) and text.endswith(end):
        try:
            return AttestationKey(b64decode(b"".join(text[len(begin) : -len(end)].split()), validate=True))
        except ValueError as error:
            raise EvidenceError("the attestation key's PEM is broken", check="tpm.ak.format") from error
    if data[:1] == bytes((_SEQUENCE,)):
        return AttestationKey(data)
    area = parse_public(data)
    return AttestationKey(area.key, area)
