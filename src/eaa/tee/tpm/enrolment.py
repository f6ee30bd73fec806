# SPDX-License-Identifier: Apache-2.0
"""Enrolment: how an owner comes to trust an attestation key, by credential activation, and how that is written down.

1. :func:`begin_enrolment` proves the endorsement key's certificate and the attestation key's attributes, and encrypts a secret that
   only a TPM with both keys can read.
2. The machine answers with TPM2_ActivateCredential.
3. :meth:`Enrolment.complete` compares, and returns the :class:`EnrolledAk` that the owner keeps as an endorsement.

That record is the owner's own word: take endorsements of kind ``tpm_enrolled_ak`` from the owner alone, never from whoever sends evidence.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from eaa._json import parse_json
from eaa.rats import Endorsement, EndorsementError, EvidenceError
from eaa.tee.tpm.certificates import Purpose, certify, check_revocation
from eaa.tee.tpm.credential import Credential, StorageKey, make_credential
from eaa.tee.tpm.evidence import parse_key
from eaa.tee.tpm.public import PublicArea, parse_public
from eaa.tee.tpm.wire import HASHERS
from eaa.tee.x509 import ChainReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eaa.rats import TrustAnchor

__all__ = ["ENROLLED_AK", "EnrolledAk", "Enrolment", "begin_enrolment"]

ENROLLED_AK: Final = "tpm_enrolled_ak"
"""Kind of the endorsement that is an enrolment: a record of ours, or just the key as PEM, DER, TPM2B_PUBLIC, or its TPM name."""
MIN_SECRET: Final = 16
_MAX_RECORD: Final = 64 * 1024
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class EnrolledAk:
    """An attestation key that the owner trusts: by its TPM name, by the key, or by both.

    ``area`` is its TPMT_PUBLIC, where the owner has it; ``ek_certificate`` (DER) and ``ek_issuers`` (PEM) are the endorsement key's
    that it was activated against; ``reset_count`` is the TPM's at enrolment.
    """

    name: bytes = b""
    spki: bytes = b""
    area: PublicArea | None = None
    ek_certificate: bytes = b""
    ek_issuers: bytes = b""
    reset_count: int | None = None

    @classmethod
    def of_area(cls, area: PublicArea) -> EnrolledAk:
        """Enrol the key of a public area, on the owner's own responsibility."""
        return cls(area.name, area.key, area)

    @classmethod
    def parse(cls, content: bytes) -> EnrolledAk:
        """Read the content of an endorsement of kind :data:`ENROLLED_AK`.

        :raises EndorsementError: when it is no such thing.
        """
        try:
            if content.lstrip().startswith(b"{"):
                return _parse_record(content)
            if _is_name(content):
                return cls(name=content)
            key = parse_key(content)
        except (EvidenceError, ValueError, KeyError, TypeError) as error:
            raise EndorsementError(f"an enrolled attestation key cannot be read: {error}") from error
        return cls.of_area(key.area) if key.area is not None else cls(spki=key.spki)

    def to_endorsement(self) -> Endorsement:
        """Return the record to keep; its content is all of it, and is what a file of it holds."""
        record = {
            "version": _VERSION,
            "name": self.name.hex(),
            "public_key": b64encode(self.spki).decode(),
            "public_area": b64encode(self.area.raw).decode() if self.area else None,
            "ek_certificate": b64encode(self.ek_certificate).decode(),
            "ek_issuers": self.ek_issuers.decode("ascii"),
            "reset_count": self.reset_count,
        }
        content = {name: value for name, value in record.items() if value not in (None, "")}
        return Endorsement(ENROLLED_AK, json.dumps(content, indent=1).encode(), self.ek_issuers)


read_enrolled: Final = lru_cache(4096)(EnrolledAk.parse)


def _is_name(content: bytes) -> bool:
    """Whether these bytes are a TPM name: a hash's number, then a digest of that hash."""
    hasher = HASHERS.get(int.from_bytes(content[:2], "big"))
    return hasher is not None and len(content) == 2 + hasher(b"").digest_size


def _parse_record(content: bytes) -> EnrolledAk:
    record = parse_json(content, _MAX_RECORD, error=EvidenceError)
    if record.get("version") != _VERSION:
        raise EvidenceError(f"record version {record.get('version')!r}; known is {_VERSION}")
    resets = record.get("reset_count")
    if resets is not None and not (isinstance(resets, int) and 0 <= resets < 1 << 32):
        raise EvidenceError("reset_count is no count")
    name, spki = bytes.fromhex(_text(record, "name")), b64decode(_text(record, "public_key"), validate=True)
    raw = b64decode(_text(record, "public_area"), validate=True)
    area = parse_public(raw) if raw else None
    if area is not None and ((name or area.name) != area.name or (spki or area.key) != area.key):
        raise EvidenceError("name or key are not those of the public area")
    if area is not None:
        name, spki = area.name, area.key
    if not name and not spki:
        raise EvidenceError("it names no key")
    if name and not _is_name(name):
        raise EvidenceError("its name is no TPM name")
    certificate = b64decode(_text(record, "ek_certificate"), validate=True)
    return EnrolledAk(name, spki, area, certificate, _text(record, "ek_issuers").encode("ascii"), resets)


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name, "")
    if not isinstance(value, str):
        raise EvidenceError(f"{name} is no text")
    return value


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An enrolment that waits for the machine's answer. ``credential`` goes to the machine, ``secret`` never does."""

    credential: Credential
    area: PublicArea
    ek_certificate: bytes
    ek_issuers: bytes
    secret: bytes = field(repr=False)

    def complete(self, answer: bytes, *, reset_count: int | None = None) -> EnrolledAk:
        """Return the enrolled key when ``answer`` is the secret.

        ``reset_count`` is that of the machine's first quote; quotes of a smaller count are refused from then on.

        :raises EvidenceError: when it is not: the machine's TPM does not hold both keys.
        """
        if not hmac.compare_digest(answer, self.secret):
            raise EvidenceError(
                "credential activation failed: the answer is not the secret",
                check="tpm.ak.anchored",
                hint="Run TPM2_ActivateCredential with the very attestation key and endorsement key that were presented.",
            )
        return EnrolledAk(
            self.area.name, self.area.key, self.area, self.ek_certificate, self.ek_issuers, reset_count
        )


def begin_enrolment(
    area: PublicArea,
    ek_certificate: bytes,
    ek_issuers: bytes,
    *,
    anchors: Sequence[TrustAnchor],
    at: datetime,
    secret: bytes,
    revocation_lists: Sequence[bytes] = (),
) -> Enrolment:
    """Challenge a machine to prove that ``area``, its attestation key, lives in the TPM whose endorsement key is certified.

    ``ek_certificate`` is DER or PEM, ``ek_issuers`` PEM with the nearest first, ``secret`` 16 to 32 fresh random bytes, which the
    caller keeps until the answer comes.

    :raises EvidenceError: when the key lacks an attribute of an attestation key.
    :raises EndorsementError: when the endorsement key's certificate does not lead to one of ``anchors``, is revoked, lacks a revocation
        list that it names, or is not valid at ``at``; or when no credential can be made for it.
    """
    if area.missing_attributes:
        raise EvidenceError(
            f"the key is no attestation key: it lacks {', '.join(area.missing_attributes)}",
            check="tpm.ak.attributes",
            hint="Create a restricted signing key, as tpm2_createak does.",
        )
    if len(secret) < MIN_SECRET:
        raise EndorsementError(f"a secret of {len(secret)} bytes can be guessed; {MIN_SECRET} are due")
    certified = certify(ek_certificate, ek_issuers, Purpose.ENDORSEMENT_KEY, ChainReader(tuple(anchors)))
    revocation = check_revocation(certified, revocation_lists)
    for name, since in revocation.revoked:
        raise EndorsementError(f"the certificate of {name!r} is revoked since {since:%Y-%m-%d}")
    if revocation.missing:
        raise EndorsementError(
            f"no revocation list of {', '.join(revocation.missing)}",
            hint="Get the lists that the certificates name, in DER.",
        )
    for window in (certified.window, *revocation.windows):
        if not window.holds(at):
            raise EndorsementError(f"not valid now: {window}")
    key = StorageKey.of_key(certified.leaf.public_key)
    der = certified.leaf.x509.public_bytes(Encoding.DER)
    return Enrolment(make_credential(key, area.name, secret), area, der, ek_issuers, secret)
