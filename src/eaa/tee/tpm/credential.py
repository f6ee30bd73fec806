# SPDX-License-Identifier: Apache-2.0
"""Credential activation without a TPM at the verifier's side: TPM2_MakeCredential in software.

A secret is encrypted so that only the TPM that holds an endorsement key can read it, and only if it also holds the object with a
given name (TPM 2.0 Library, Part 1, section 24, and annexes B.10.4 for RSA and C.6 for ECC; KDFa and KDFe are those of section 11.4.10).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from eaa.rats import EndorsementError
from eaa.tee.tpm.public import PublicArea, PublicKey, load_spki
from eaa.tee.tpm.wire import Algorithm, sized

__all__ = ["Credential", "StorageKey", "kdfa", "make_credential"]

_MAGIC: Final = struct.Struct(">II")
_TOOLS_MAGIC: Final = 0xBADCC0DE
_TOOLS_VERSION: Final = 1
_IDENTITY: Final = b"IDENTITY\0"
_AES_BLOCK: Final = 16
_HASHES: Final[dict[int, HashAlgorithm]] = {
    Algorithm.SHA256: SHA256(),
    Algorithm.SHA384: SHA384(),
    Algorithm.SHA512: SHA512(),
}
_RSA_TEMPLATES: Final = {
    2048: (Algorithm.SHA256, 128),
    3072: (Algorithm.SHA384, 256),
    4096: (Algorithm.SHA384, 256),
}
_ECC_TEMPLATES: Final = {
    256: (Algorithm.SHA256, 128),
    384: (Algorithm.SHA384, 256),
    521: (Algorithm.SHA512, 256),
}


@dataclass(frozen=True, slots=True)
class StorageKey:
    """An endorsement key with what its public area says beyond the key: the hash of its name, and its AES key size in bits."""

    key: PublicKey
    hash: int
    symmetric_bits: int

    @classmethod
    def of_area(cls, area: PublicArea) -> StorageKey:
        """Return the storage key that a TPMT_PUBLIC describes.

        :raises EndorsementError: when it is none that a credential can be made for.
        """
        if area.name_hash not in _HASHES or area.symmetric_bits not in {128, 192, 256}:
            raise EndorsementError("the endorsement key is no storage key with AES and a SHA-2 hash")
        return cls(load_spki(area.key), area.name_hash, area.symmetric_bits)

    @classmethod
    def of_key(cls, key: PublicKey) -> StorageKey:
        """Return the storage key of a certified key, with the parameters of its template.

        Source: TCG EK Credential Profile 2.5, B.3 and B.4: templates L-1, L-2 and H-1 to H-7 fix them by type and size.

        :raises EndorsementError: when no template has such a key.
        """
        templates = _RSA_TEMPLATES if isinstance(key, rsa.RSAPublicKey) else _ECC_TEMPLATES
        size = key.key_size if isinstance(key, rsa.RSAPublicKey) else key.curve.key_size
        parameters = templates.get(size)
        if parameters is None:
            raise EndorsementError(f"no endorsement key template has a key of {size} bits")
        return cls(key, *parameters)


@dataclass(frozen=True, slots=True)
class Credential:
    """What TPM2_ActivateCredential takes: the contents of TPM2B_ID_OBJECT and of TPM2B_ENCRYPTED_SECRET."""

    id_object: bytes = field(repr=False)
    encrypted_secret: bytes = field(repr=False)

    def to_tools_file(self) -> bytes:
        """Return the file that ``tpm2_activatecredential --credential-blob`` reads."""
        return (
            _MAGIC.pack(_TOOLS_MAGIC, _TOOLS_VERSION) + sized(self.id_object) + sized(self.encrypted_secret)
        )


def make_credential(endorsement_key: StorageKey, name: bytes, secret: bytes) -> Credential:
    """Encrypt ``secret`` for the TPM that holds both ``endorsement_key`` and the object called ``name``.

    ``secret`` has at most as many bytes as a digest of the endorsement key's hash; ``name`` is as :attr:`PublicArea.name`.

    :raises EndorsementError: when the secret is empty or too long for this key.
    """
    hashing = _HASHES[endorsement_key.hash]
    if not 0 < len(secret) <= hashing.digest_size:
        raise EndorsementError(f"a secret of {len(secret)} bytes, 1 to {hashing.digest_size} fit this key")
    seed, encrypted = _seed(endorsement_key.key, hashing)
    symmetric = kdfa(hashing, seed, b"STORAGE", name, endorsement_key.symmetric_bits // 8)
    # The IV is zero because each seed, and with it the key, is used once (Part 1, section 24.4).
    cipher = Cipher(AES(symmetric), CFB(bytes(_AES_BLOCK))).encryptor()
    identity = cipher.update(sized(secret)) + cipher.finalize()
    mac = HMAC(kdfa(hashing, seed, b"INTEGRITY", b"", hashing.digest_size), hashing)
    mac.update(identity + name)
    return Credential(sized(mac.finalize()) + identity, encrypted)


def _seed(key: PublicKey, hashing: HashAlgorithm) -> tuple[bytes, bytes]:
    """Return a fresh seed, and how the TPM gets it."""
    if isinstance(key, rsa.RSAPublicKey):
        seed = token_bytes(hashing.digest_size)
        oaep = padding.OAEP(padding.MGF1(hashing), hashing, _IDENTITY)
        return seed, key.encrypt(seed, oaep)
    ephemeral = ec.generate_private_key(key.curve)
    shared = ephemeral.exchange(ec.ECDH(), key)
    ours, theirs = _point(ephemeral.public_key()), _point(key)
    # KDFe: label with its zero byte, then the x-coordinates of both parties.
    seed = ConcatKDFHash(hashing, hashing.digest_size, _IDENTITY + ours[0] + theirs[0]).derive(shared)
    return seed, sized(ours[0]) + sized(ours[1])


def _point(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """Return the coordinates, each as long as the curve's field."""
    numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
    return numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")


def kdfa(hashing: HashAlgorithm, key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Return ``size`` bytes of KDFa, the counter mode of SP 800-108 with HMAC; ``context`` is contextU, contextV is empty."""
    return KBKDFHMAC(
        algorithm=hashing,
        mode=Mode.CounterMode,
        length=size,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(key)
