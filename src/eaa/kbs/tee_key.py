# SPDX-License-Identifier: Apache-2.0
"""The TEE's key pair of one handshake, to which the KBS wraps what it releases.

The public half travels as a JWK (RFC 7517) inside the attested runtime data. Only the members that the protocol types are
kept, letter by letter: they are what both sides hash, and whatever else a client wrote into the JWK is not attested.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eaa.kbs._encoding import b64url, from_b64url
from eaa.rats import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ECDH_ES_A256KW", "RSA_OAEP_256", "TeeKeyPair", "TeePubKey"]

ECDH_ES_A256KW: Final = "ECDH-ES+A256KW"
RSA_OAEP_256: Final = "RSA-OAEP-256"

CURVES: Final[Mapping[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-521": ec.SECP521R1()}
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
_MAX_RSA_EXPONENT: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class TeePubKey:
    """A validated public key of a TEE and its JWK, of which only the typed members are kept."""

    algorithm: str
    """``ECDH-ES+A256KW`` or ``RSA-OAEP-256``."""
    members: tuple[tuple[str, str], ...]
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey = field(compare=False, repr=False)

    @property
    def jwk(self) -> dict[str, str]:
        """The JWK with its typed members only: EC ``kty crv alg x y``, RSA ``kty alg n e``."""
        return dict(self.members)

    @classmethod
    def from_jwk(cls, jwk: object) -> TeePubKey:
        """Read a JWK with an EC key on P-256 or P-521 for ECDH-ES+A256KW, or an RSA key for RSA-OAEP-256.

        :raises ProtocolError: on any other algorithm, a point that is not on its curve, or an RSA modulus outside 2048…8192 bits.
        """
        if not isinstance(jwk, dict):
            raise ProtocolError("tee-pubkey is not a JWK object")
        kind = jwk.get("kty")
        if kind == "EC":
            return _read_ec(jwk)
        if kind == "RSA":
            return _read_rsa(jwk)
        raise ProtocolError(
            f"tee-pubkey has key type {_shown(kind)}",
            hint="Use an EC key (P-256, P-521) with ECDH-ES+A256KW, or an RSA key with RSA-OAEP-256.",
        )

    @classmethod
    def from_public_key(cls, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> TeePubKey:
        """Return the wire form of a public key.

        :raises ProtocolError: as :meth:`from_jwk`.
        """
        if isinstance(key, rsa.RSAPublicKey):
            numbers = key.public_numbers()
            n, e = (value.to_bytes((value.bit_length() + 7) // 8, "big") for value in (numbers.n, numbers.e))
            return cls.from_jwk({"kty": "RSA", "alg": RSA_OAEP_256, "n": b64url(n), "e": b64url(e)})
        curve = next((name for name, each in CURVES.items() if each.name == key.curve.name), key.curve.name)
        x, y = ec_coordinates(key)
        return cls.from_jwk({"kty": "EC", "crv": curve, "alg": ECDH_ES_A256KW, "x": x, "y": y})


@dataclass(frozen=True, slots=True)
class TeeKeyPair:
    """A key pair made for one handshake. The private half never shows in ``repr``."""

    public: TeePubKey
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(compare=False, repr=False)

    @classmethod
    def generate(cls, kind: str = "P-256") -> TeeKeyPair:
        """Make a fresh pair: ``P-256``, ``P-521`` or ``RSA-OAEP-256`` (3072 bits).

        :raises ProtocolError: for another ``kind``.
        """
        private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if kind == RSA_OAEP_256:
            private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
        elif kind in CURVES:
            private = ec.generate_private_key(CURVES[kind])
        else:
            known = ", ".join((*CURVES, RSA_OAEP_256))
            raise ProtocolError(f"no TEE key of kind {_shown(kind)}", hint=f"Known are: {known}.")
        return cls(TeePubKey.from_public_key(private.public_key()), private)

    def private_pem(self) -> str:
        """Return the private key as PEM: PKCS#8 for EC, PKCS#1 for RSA, as guests of this protocol exchange it."""
        is_rsa = isinstance(self.private, rsa.RSAPrivateKey)
        layout = PrivateFormat.TraditionalOpenSSL if is_rsa else PrivateFormat.PKCS8
        return self.private.private_bytes(Encoding.PEM, layout, NoEncryption()).decode()


def ec_coordinates(key: ec.EllipticCurvePublicKey) -> tuple[str, str]:
    """Return x and y in base64url, each as long as the curve's field (RFC 7518 §6.2.1.2)."""
    numbers = key.public_numbers()
    size = (key.curve.key_size + 7) // 8
    return b64url(numbers.x.to_bytes(size, "big")), b64url(numbers.y.to_bytes(size, "big"))


def ec_public_key(curve_name: str, x: object, y: object, what: str) -> ec.EllipticCurvePublicKey:
    """Return the key at the point (x, y), which must lie on the curve.

    :raises ProtocolError: on coordinates of another length, or a point off the curve.
    """
    curve = CURVES[curve_name]
    size = (curve.key_size + 7) // 8
    coordinates = [from_b64url(value, f"{what}.{name}") for name, value in (("x", x), ("y", y))]
    if any(len(each) != size for each in coordinates):
        raise ProtocolError(f"{what} has a coordinate that is not {size} bytes long, as {curve_name} needs")
    numbers = [int.from_bytes(each, "big") for each in coordinates]
    try:
        return ec.EllipticCurvePublicNumbers(numbers[0], numbers[1], curve).public_key()
    except ValueError:
        raise ProtocolError(f"{what} is not a point on {curve_name}") from None


def _read_ec(jwk: Mapping[str, Any]) -> TeePubKey:
    curve, algorithm = jwk.get("crv"), jwk.get("alg")
    if not isinstance(curve, str) or curve not in CURVES:
        raise ProtocolError(f"tee-pubkey has curve {_shown(curve)}", hint="Use P-256 or P-521.")
    if algorithm != ECDH_ES_A256KW:
        raise ProtocolError(f"tee-pubkey has algorithm {_shown(algorithm)}", hint=f"Use {ECDH_ES_A256KW}.")
    key = ec_public_key(curve, jwk.get("x"), jwk.get("y"), "tee-pubkey")
    return TeePubKey(ECDH_ES_A256KW, _typed(jwk, "kty", "crv", "alg", "x", "y"), key)


def _read_rsa(jwk: Mapping[str, Any]) -> TeePubKey:
    algorithm = jwk.get("alg")
    if algorithm == "RSA1_5":
        raise ProtocolError(
            "tee-pubkey asks for RSA1_5, whose padding lets whoever can ask for decryptions recover the key (RFC 8725 §3.2)",
            hint=f"Use {RSA_OAEP_256}, or an EC key with {ECDH_ES_A256KW}.",
        )
    if algorithm != RSA_OAEP_256:
        raise ProtocolError(f"tee-pubkey has algorithm {_shown(algorithm)}", hint=f"Use {RSA_OAEP_256}.")
    values = [from_b64url(jwk.get(name), f"tee-pubkey.{name}") for name in ("n", "e")]
    if any(len(value) > _MAX_RSA_BITS // 8 for value in values):
        raise ProtocolError(f"tee-pubkey has an RSA number of more than {_MAX_RSA_BITS} bits")
    n, e = (int.from_bytes(value, "big") for value in values)
    if not _MIN_RSA_BITS <= n.bit_length() <= _MAX_RSA_BITS:
        raise ProtocolError(
            f"tee-pubkey has {n.bit_length()} bits", hint=f"Use at least {_MIN_RSA_BITS} bits."
        )
    if not (e % 2 == 1 and 3 <= e < _MAX_RSA_EXPONENT and n % 2 == 1):
        raise ProtocolError("tee-pubkey is not an RSA key", hint="Use the exponent 65537.")
    try:
        key = rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise ProtocolError("tee-pubkey is not an RSA key") from None
    return TeePubKey(RSA_OAEP_256, _typed(jwk, "kty", "alg", "n", "e"), key)


def _typed(jwk: Mapping[str, Any], *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, jwk[name]) for name in names)


def _shown(value: object) -> str:
    """Return an untrusted value short enough to be repeated."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
