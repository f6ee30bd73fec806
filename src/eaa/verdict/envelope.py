# SPDX-License-Identifier: Apache-2.0
"""Statements under signatures: DSSE v1 envelopes (Dead Simple Signing Envelope).

A signature counts by the key that made it, never by the key id that is written beside it. What a key signed is the payload and its
type (the pre-authentication encoding), so that an envelope of another type cannot pass for one of ours.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import rfc8785
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from eaa._json import parse_json
from eaa._keys import key_id
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.statement import MAX_STATEMENT, Statement, parse_statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eaa._keys import PrivateKey, PublicKey

__all__ = [
    "MAX_ENVELOPE",
    "MAX_SIGNATURES",
    "PAYLOAD_TYPE",
    "Opened",
    "Sealed",
    "countersign",
    "open_envelope",
    "parse_envelope",
    "seal",
]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_SIGNATURES: Final = 32
MAX_ENVELOPE: Final = 2 * MAX_STATEMENT
_MAX_SIGNATURE: Final = 1024
_MAX_KEY_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope as it is written, believed by nobody yet: the payload's bytes, and pairs of key id and signature."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def to_bytes(self) -> bytes:
        """Return the envelope in canonical JSON; the same content gives the same bytes."""
        return rfc8785.dumps(
            {
                "payload": b64encode(self.payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [
                    {"keyid": name, "sig": b64encode(signature).decode()}
                    for name, signature in self.signatures
                ],
            }
        )

    def statement(self) -> Statement:
        """Read the payload, proven or not.

        :raises StatementError: when it is no statement.
        """
        return parse_statement(self.payload)

    def signers(self, keys: Iterable[PublicKey]) -> frozenset[str]:
        """Return the ids of those of ``keys`` that signed, each once however often it signed."""
        signed = Envelope(self.payload, PAYLOAD_TYPE, {}).pae()
        known = {key_id(key): SSlibKey.from_crypto(key, keyid=key_id(key)) for key in keys}
        found: set[str] = set()
        for name, signature in self.signatures:
            # A key id is a hint. Whoever does not know ours may have left it out or used another.
            candidates = [known[name]] if name in known else list(known.values())
            found.update(each.keyid for each in candidates if _verifies(each, signature, signed))
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Opened:
    """A statement, and the ids of the trusted keys that signed it: never fewer than were asked for."""

    statement: Statement
    signed_by: frozenset[str]


def seal(statement: Statement, keys: Iterable[PrivateKey]) -> bytes:
    """Return the statement in an envelope with a signature of each key; with no key, an envelope that nobody has signed yet."""
    payload = statement.to_bytes()
    signed = dict(_sign(payload, key) for key in keys)
    return Sealed(payload, tuple(sorted(signed.items()))).to_bytes()


def countersign(data: bytes, key: PrivateKey) -> bytes:
    """Return the envelope with a signature of ``key`` added. A key that has signed already changes nothing.

    :raises StatementError: when it is no envelope around a statement, or has no room for another signature.
    """
    sealed = parse_envelope(data)
    sealed.statement()
    if sealed.signers([key.public_key()]):
        return data
    name, signature = _sign(sealed.payload, key)
    others = [each for each in sealed.signatures if each[0] != name]
    if len(others) >= MAX_SIGNATURES:
        raise StatementError(f"the envelope has {len(others)} signatures, and {MAX_SIGNATURES} are the most")
    return Sealed(sealed.payload, tuple(sorted([*others, (name, signature)]))).to_bytes()


def open_envelope(data: bytes, trusted: Iterable[PublicKey], threshold: int = 1) -> Opened:
    """Return what an envelope says, once at least ``threshold`` of the ``trusted`` keys are found to have signed it.

    :raises StatementError: when it is no envelope around a statement.
    :raises SignatureRefused: when too few of the keys signed it as it is.
    """
    assert threshold > 0, "a threshold of none would open anything"
    sealed = parse_envelope(data)
    statement = sealed.statement()
    signed_by = sealed.signers(trusted)
    if not sealed.signatures:
        raise SignatureRefused(
            "nobody has signed it", check="signature.none", hint="Sign it: eaa verdict sign FILE --key KEY"
        )
    if len(signed_by) < threshold:
        raise SignatureRefused(
            f"{len(signed_by)} of the trusted keys signed it, {threshold} must",
            check="signature.threshold",
            hint="Have another of the configured signers sign it as it is: eaa verdict sign FILE --key KEY",
        )
    return Opened(statement, signed_by)


def parse_envelope(data: bytes) -> Sealed:
    """Read an envelope of at most :data:`MAX_ENVELOPE` bytes and :data:`MAX_SIGNATURES` signatures, and verify nothing.

    :raises StatementError: when it is no DSSE envelope around an in-toto statement.
    """
    value = parse_json(data, MAX_ENVELOPE, error=StatementError)
    if not isinstance(value, dict):
        raise StatementError("an envelope is a JSON object")
    if value.get("payloadType") != PAYLOAD_TYPE:
        raise StatementError(
            "this is no envelope around an in-toto statement", hint=f"Its payloadType must be {PAYLOAD_TYPE}."
        )
    listed = value.get("signatures")
    if not isinstance(listed, list) or len(listed) > MAX_SIGNATURES:
        raise StatementError(f"an envelope has a list of at most {MAX_SIGNATURES} signatures")
    return Sealed(_base64(value, "payload"), tuple(dict.fromkeys(_signature(each) for each in listed)))


def _signature(value: Any) -> tuple[str, bytes]:
    if not isinstance(value, dict):
        raise StatementError("a signature is not an object")
    name, signature = value.get("keyid") or "", _base64(value, "sig")
    if not isinstance(name, str) or len(name) > _MAX_KEY_ID or len(signature) > _MAX_SIGNATURE:
        raise StatementError("a signature or its key id is too long, or no text")
    return name, signature


def _base64(value: Mapping[str, Any], name: str) -> bytes:
    """Read standard or URL-safe base64, as DSSE has it."""
    text = value.get(name)
    try:
        if isinstance(text, str):
            return b64decode(text.encode("ascii").translate(_STANDARD), validate=True)
    except (UnicodeError, binascii.Error):
        pass
    raise StatementError(f"the envelope's {name} is not base64")


_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def _sign(payload: bytes, key: PrivateKey) -> tuple[str, bytes]:
    name = key_id(key.public_key())
    signer = CryptoSigner(key, SSlibKey.from_crypto(key.public_key(), keyid=name))
    made = Envelope(payload, PAYLOAD_TYPE, {}).sign(signer)
    return name, bytes.fromhex(made.signature)


def _verifies(key: SSlibKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify_signature(Signature(key.keyid, signature.hex()), signed)
    except UnverifiedSignatureError:  # of which every failure to verify is one
        return False
    return True
