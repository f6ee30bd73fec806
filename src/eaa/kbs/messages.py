# SPDX-License-Identifier: Apache-2.0
"""The messages of the KBS protocol 0.4.0, as they are on the wire.

Challenge and response of the Confidential Containers' key broker: ``POST /auth`` takes a :class:`Request` and answers a
:class:`Challenge`; ``POST /attest`` takes an :class:`Attestation` and answers a :class:`TokenResponse`; ``GET /resource/…``
answers a :class:`JweResponse`; every refusal is an :class:`ErrorInformation`. Outer names are kebab-case, the two inside
``tee-evidence`` are snake_case. Unknown members are ignored, as the protocol grows by adding some.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from eaa._json import parse_json
from eaa.kbs.init_data import MAX_INIT_DATA
from eaa.kbs.tee_key import TeePubKey
from eaa.rats import ProtocolError

__all__ = [
    "ERROR_TYPE_PREFIX",
    "MAX_ATTESTATION",
    "MAX_REQUEST",
    "MAX_RESPONSE",
    "PROTOCOL_VERSION",
    "SESSION_COOKIE",
    "TEE_NAMES",
    "Attestation",
    "Challenge",
    "ErrorInformation",
    "InitData",
    "JweResponse",
    "Request",
    "RuntimeData",
    "TeeEvidence",
    "TokenResponse",
    "parse_json",
]

PROTOCOL_VERSION: Final = "0.4.0"
SESSION_COOKIE: Final = "kbs-session-id"
ERROR_TYPE_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"
TEE_NAMES: Final = frozenset(
    {
        "az-snp-vtpm", "az-tdx-vtpm", "cca", "csv", "hygondcu", "nvidia", "nvidiadpu",
        "se", "sgx", "snp", "tdx", "tpm",
    }
)  # fmt: skip
"""The names of TEEs on the wire. The protocol's two sample TEEs are left out: their evidence proves nothing."""

MAX_REQUEST: Final = 16 << 10
"""Bytes of a :class:`Request` or a :class:`Challenge`."""
MAX_ATTESTATION: Final = 2 << 20
"""Bytes of an :class:`Attestation`: a quote, its event logs and several GPUs' evidence."""
MAX_RESPONSE: Final = 4 << 20
"""Bytes of any answer that a client reads."""

_MAX_NAME: Final = 64
_MAX_NONCE: Final = 4096


class _Message(BaseModel):
    """One JSON object; strict about types, silent about members it does not know."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    @classmethod
    def from_json(cls, data: bytes, *, limit: int = MAX_REQUEST) -> Self:
        """Read the message from at most ``limit`` bytes.

        :raises ProtocolError: on malformed JSON or a message of another shape; names the member, never its value.
        """
        value = parse_json(data, limit)
        try:
            return cls.model_validate(value)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the message"
            raise ProtocolError(f"{cls.__name__}: {where}: {first['msg']}") from None

    def to_json(self) -> bytes:
        """Return the message as compact JSON."""
        return self.model_dump_json(by_alias=True).encode()


class _KebabMessage(_Message):
    """A message whose names have hyphens on the wire."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True)


class Request(_KebabMessage):
    """A guest asks for a challenge."""

    version: str = Field(max_length=_MAX_NAME)
    tee: str = Field(max_length=_MAX_NAME)
    extra_params: Any = ""
    """``""`` or an object, such as ``{"supported-hash-algorithms": […]}``."""

    def require_version(self) -> None:
        """Refuse a client of another protocol.

        :raises ProtocolError: unless the version is :data:`PROTOCOL_VERSION`; guests look for this text.
        """
        if self.version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"KBS Client Protocol Version Mismatch: expect ={PROTOCOL_VERSION} while the request is {self.version}",
                hint=f"Use a client that speaks {PROTOCOL_VERSION}.",
            )


class Challenge(_KebabMessage):
    """The nonce that the evidence must answer: standard base64 of 32 random bytes."""

    nonce: str = Field(min_length=1, max_length=_MAX_NONCE)
    extra_params: Any = ""
    """``""`` or ``{"selected-hash-algorithm": "sha256" | "sha384" | "sha512"}``."""


class InitData(_Message):
    """The configuration that the guest was launched with, whose digest the hardware carries."""

    format: str = Field(max_length=_MAX_NAME)
    body: str = Field(max_length=MAX_INIT_DATA, repr=False)


class RuntimeData(_KebabMessage):
    """What the report data binds. ``tee_pubkey`` is validated and keeps its typed members only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    nonce: str = Field(min_length=1, max_length=_MAX_NONCE)
    tee_pubkey: Annotated[
        TeePubKey,
        BeforeValidator(lambda value: value if isinstance(value, TeePubKey) else TeePubKey.from_jwk(value)),
        PlainSerializer(lambda key: key.jwk),
    ]


class TeeEvidence(_Message):
    """Evidence of the primary TEE, as its verifier defines it, and of devices.

    ``additional_evidence`` stays the very string that was sent, because it is hashed: ``""``, or JSON of TEE name → evidence.
    """

    primary_evidence: Any
    additional_evidence: str = ""


class Attestation(_KebabMessage):
    """A guest answers the challenge."""

    init_data: InitData | None = None
    runtime_data: RuntimeData
    tee_evidence: TeeEvidence


class TokenResponse(_Message):
    """The attestation result: an EAR as a JWT."""

    token: str = Field(min_length=1, repr=False)


class ErrorInformation(_Message):
    """Why a request was refused."""

    type: str
    detail: str = ""

    @classmethod
    def of(cls, variant: str, detail: str) -> ErrorInformation:
        """Return the error of the protocol's kind ``variant``, such as ``PolicyDeny`` or ``AttestationError``."""
        return cls(type=ERROR_TYPE_PREFIX + variant, detail=detail)

    @property
    def variant(self) -> str:
        """The last part of ``type``, such as ``PolicyDeny``."""
        return self.type.rpartition("/")[2]


class JweResponse(_Message):
    """A flattened JWE (RFC 7516 §7.2.2), every member base64url."""

    protected: str
    encrypted_key: str
    iv: str
    ciphertext: str
    tag: str
