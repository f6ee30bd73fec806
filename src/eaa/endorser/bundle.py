# SPDX-License-Identifier: Apache-2.0
"""Snapshots for sites without a network: what a store holds, in one signed file.

A bundle is a JSON Web Signature (RFC 7515, compact, EdDSA over Ed25519) whose payload lists every object with its content. The
signature says who has put the snapshot together; what the objects say is proven by their own signatures on import, as always.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from eaa import _keys
from eaa.endorser.history import API_V3, EARLY, STANDARD, VLEK
from eaa.rats import ConfigurationError, Endorsement, EndorsementError, Endorsements

if TYPE_CHECKING:
    from eaa.endorser.store import Snapshot

__all__ = [
    "MAX_BUNDLE",
    "Bundle",
    "open_bundle",
    "read_private_key",
    "read_public_key",
    "seal_bundle",
]

MAX_BUNDLE: Final = 256 * 1024 * 1024
_TYPE: Final = "eaa-endorsements+jwt"
_FORMAT: Final = 1
_HINT: Final = "Make one with: eaa endorser key NAME"
_HEADER: Final = {"alg": "EdDSA", "typ": _TYPE}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose signature holds: when it was made, as of when its content is, and the content by slot."""

    made: datetime
    as_of: datetime
    slots: dict[str, Endorsements]


def seal_bundle(snapshot: Snapshot, key: Ed25519PrivateKey, *, made: datetime, as_of: datetime) -> bytes:
    """Return a signed bundle of everything in ``snapshot``. The same input gives the same bytes."""
    objects: dict[str, bytes] = {}
    listed = []
    for (name, slot), stored in sorted(snapshot.slots.items()):
        if slot not in {STANDARD, EARLY, API_V3, VLEK} and not slot.startswith("#"):
            continue
        endorsement = stored.endorsement
        digests = [sha256(part).hexdigest() for part in (endorsement.content, endorsement.issuer_chain)]
        objects.update(zip(digests, (endorsement.content, endorsement.issuer_chain), strict=True))
        listed.append(
            {
                "name": name,
                "slot": slot,
                "kind": endorsement.kind,
                "content": digests[0],
                "issuer_chain": digests[1],
            }
        )
    manifest = {
        "format": _FORMAT,
        "made": made.isoformat(),
        "as_of": as_of.isoformat(),
        "listed": listed,
        "objects": {
            digest: base64.b64encode(content).decode() for digest, content in sorted(objects.items())
        },
    }
    signed = _encode(json.dumps(_HEADER).encode()) + b"." + _encode(json.dumps(manifest).encode())
    return signed + b"." + _encode(key.sign(signed))


def open_bundle(data: bytes, key: Ed25519PublicKey) -> Bundle:
    """Prove that ``key`` signed a bundle, then read it.

    :raises EndorsementError: when it did not, or the bundle is malformed or too large.
    """
    if len(data) > MAX_BUNDLE:
        raise EndorsementError(f"a bundle of {len(data)} bytes, at most {MAX_BUNDLE} are read")
    signed, _, signature = data.strip().rpartition(b".")
    header, _, payload = signed.partition(b".")
    try:
        key.verify(_decode(signature), signed)
        if json.loads(_decode(header)) != _HEADER:
            raise EndorsementError("it is signed, but it is no bundle of endorsements")
        return _read(json.loads(_decode(payload)))
    except InvalidSignature as error:
        raise EndorsementError(
            "the bundle is not signed by the key that is trusted for bundles",
            hint="Give the public key of who exported it with --key, and copy the file again.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EndorsementError(f"this is no bundle of endorsements: {type(error).__name__}") from error


def _read(manifest: dict[str, Any]) -> Bundle:
    if manifest["format"] != _FORMAT:
        raise EndorsementError(
            f"a bundle of format {manifest['format']!r}; known is {_FORMAT}", hint="Update EAA."
        )
    objects = {digest: base64.b64decode(text, validate=True) for digest, text in manifest["objects"].items()}
    for digest, content in objects.items():
        if sha256(content).hexdigest() != digest:
            raise EndorsementError(f"object {str(digest)[:16]} of the bundle has other content")
    slots: dict[str, list[Endorsement]] = {}
    for each in manifest["listed"]:
        item = Endorsement(str(each["kind"]), objects[each["content"]], objects[each["issuer_chain"]])
        slot = str(each["slot"])
        if slot not in {STANDARD, EARLY, API_V3, VLEK} and not (
            slot.startswith("#") and slot[1:].isdecimal()
        ):
            raise EndorsementError(f"the bundle has a slot {slot[:20]!r}, which is not known")
        slots.setdefault(slot, []).append(item)
    made, as_of = (datetime.fromisoformat(manifest[name]) for name in ("made", "as_of"))
    return Bundle(made, as_of, {slot: Endorsements(tuple(items)) for slot, items in slots.items()})


def read_private_key(pem: bytes) -> Ed25519PrivateKey:
    """Read the PEM of an Ed25519 private key.

    :raises ConfigurationError: when it is something else.
    """
    key = _keys.read_private_key(pem)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError("the key for bundles is not an Ed25519 private key", hint=_HINT)
    return key


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """Read the PEM of an Ed25519 public key.

    :raises ConfigurationError: when it is something else.
    """
    key = _keys.read_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("the key for bundles is not an Ed25519 public key", hint=_HINT)
    return key


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
