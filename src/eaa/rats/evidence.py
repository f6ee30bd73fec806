# SPDX-License-Identifier: Apache-2.0
"""Evidence and Endorsements, in the words of RFC 9334."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography import x509

__all__ = ["Endorsement", "Endorsements", "Evidence", "TrustAnchor"]


class Evidence(Protocol):
    """Parsed evidence of one TEE. Parsed says nothing about genuine: only an appraisal does."""

    @property
    def tee(self) -> str:
        """Name of the kind of TEE: ``sgx``, ``tdx``, …."""
        ...

    @property
    def raw(self) -> bytes:
        """The evidence as received, without padding."""
        ...

    @property
    def report_data(self) -> bytes:
        """What the TEE's software had the hardware sign: 64 bytes for SGX and TDX."""
        ...

    @property
    def debug(self) -> bool:
        """Whether the TEE says that its memory can be read from outside."""
        ...

    @property
    def measurements(self) -> Mapping[str, str]:
        """The measurement registers under the vendor's names in snake_case, lower-case hex."""
        ...


@dataclass(frozen=True, slots=True)
class Endorsement:
    """One signed object of a chip maker, byte for byte as published.

    ``kind`` names it (``tcb_info``, ``qe_identity``, ``pck_crl``, ``root_ca_crl``, …); ``issuer_chain`` is the PEM chain that
    came with it, leaf first, and may be empty.
    """

    kind: str
    content: bytes
    issuer_chain: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Endorsements:
    """A set of endorsements, identified by its content: two sets with equal bytes are equal and hash alike."""

    items: tuple[Endorsement, ...] = ()
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        state = sha256()
        for item in self.items:
            for part in (item.kind.encode(), item.content, item.issuer_chain):
                state.update(len(part).to_bytes(8, "big"))
                state.update(part)
        object.__setattr__(self, "digest", state.digest())

    def of_kind(self, kind: str) -> tuple[Endorsement, ...]:
        """Return the endorsements of one kind, in their order."""
        return tuple(item for item in self.items if item.kind == kind)

    @classmethod
    def merged(cls, sets: Iterable[Endorsements]) -> Endorsements:
        """Return one set that holds the items of all ``sets``, first come first."""
        return cls(tuple(dict.fromkeys(item for each in sets for item in each.items)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endorsements) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """The public key of a chip maker's root, pinned by whoever verifies.

    ``public_key`` is the DER SubjectPublicKeyInfo; keys are pinned and not certificates, because a vendor may issue its root
    certificate again for the same key. ``certificates`` may list the SHA-256 of issues known byte for byte, whose self-signature
    needs no further look. ``simulated`` marks a root of a chip maker in software; it shows in every verdict.
    """

    name: str
    public_key: bytes
    simulated: bool = False
    certificate: bytes = b""

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate, *, simulated: bool) -> TrustAnchor:
        """Return the anchor that pins this certificate's key."""
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(
            certificate.subject.rfc4514_string(), key, simulated, certificate.public_bytes(Encoding.DER)
        )
