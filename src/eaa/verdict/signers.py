# SPDX-License-Identifier: Apache-2.0
"""Who may sign which product's sets, and how many must: read from TOML, and held against an envelope.

::

    [keys]
    release = "release.pub"                   # a file beside this one, or the PEM itself
    security = "security.pub"

    [products."acme/*"]
    signers = ["release", "security"]
    threshold = 2

A product's name is a pattern: ``*`` stands for any one part, ``**`` at the end for all the rest. Of the patterns that fit, the most
specific one decides alone, so that an entry for one product is never widened by one for many.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from eaa._keys import key_id, read_public_key
from eaa.rats import ConfigurationError
from eaa.verdict.envelope import MAX_SIGNATURES, parse_envelope
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.reference_set import REFERENCE_VALUES, ReferenceSet, is_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from eaa._keys import PublicKey
    from eaa.verdict.envelope import Sealed

__all__ = [
    "CLOCK_SKEW",
    "MAX_SIGNERS",
    "SignedSet",
    "SignerPolicy",
    "Signers",
    "check_validity",
    "open_set",
    "parse_signers",
]

MAX_SIGNERS: Final = 1 << 20
"""Bytes of a configuration."""
CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the clock of who issued a set may be ahead of ours."""
_MAX_KEYS: Final = 1000
_MAX_PRODUCTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys that may sign one line of products, by the names that the configuration gives them, and how many must."""

    pattern: str
    keys: Mapping[str, PublicKey]
    threshold: int

    def names(self, ids: Iterable[str]) -> list[str]:
        """Return the names of the keys with these ids, in the configuration's order."""
        wanted = set(ids)
        return [name for name, key in self.keys.items() if key_id(key) in wanted]

    def check(self, sealed: Sealed) -> frozenset[str]:
        """Return the ids of the keys that signed, each once.

        :raises SignatureRefused: when they are too few, with the reason: unsigned, by others, changed since, or not by enough.
        """
        by_id = {key_id(key): name for name, key in self.keys.items()}
        signed_by = sealed.signers(self.keys.values())
        if len(signed_by) >= self.threshold:
            return signed_by
        missing = ", ".join(name for each, name in by_id.items() if each not in signed_by)
        hint = f"Have {self.threshold} of the signers of {self.pattern} sign it; these have not: {missing}."
        if not sealed.signatures:
            raise SignatureRefused("nobody has signed it", check="signature.none", hint=hint)
        broken = [by_id[name] for name, _ in sealed.signatures if name in by_id and name not in signed_by]
        if broken:
            raise SignatureRefused(
                f"the signature of {broken[0]} does not fit: the set was changed after it was signed, or the signature was",
                check="signature.tampered",
                hint="Take the set again from where it was signed.",
            )
        if not signed_by:
            raise SignatureRefused(
                f"it is signed, but by no key that may sign {self.pattern}",
                check="signature.foreign",
                hint=hint,
            )
        raise SignatureRefused(
            f"{len(signed_by)} of its signers signed it, {self.threshold} must",
            check="signature.threshold",
            hint=hint,
        )


@dataclass(frozen=True, slots=True)
class SignerPolicy:
    """Which signers decide on which products."""

    products: tuple[Signers, ...]

    def of_product(self, product: str) -> Signers:
        """Return the most specific entry that fits the product.

        :raises SignatureRefused: when none does, or two fit equally well.
        """
        fitting = [each for each in self.products if _fits(each.pattern, product)]
        best = max((_specificity(each.pattern) for each in fitting), default=None)
        decisive = [each for each in fitting if _specificity(each.pattern) == best]
        if not decisive:
            raise SignatureRefused(
                f"nobody is configured to sign {product}",
                check="signature.product",
                hint=f'Name its signers under [products."{product}"] of the signers\' file.',
            )
        if len(decisive) > 1:
            raise SignatureRefused(
                f"{decisive[0].pattern} and {decisive[1].pattern} fit {product} equally well",
                check="signature.product",
                hint=f'Say which signers it has under [products."{product}"] of the signers\' file.',
            )
        return decisive[0]


@dataclass(frozen=True, slots=True)
class SignedSet:
    """A set whose signatures hold for its product: who signed it, and the SHA-256 of its envelope."""

    set: ReferenceSet
    signed_by: frozenset[str]
    envelope_digest: str


def open_set(data: bytes, policy: SignerPolicy, at: datetime) -> SignedSet:
    """Return the set in an envelope that enough of its product's signers signed, and that is valid at a time.

    :raises StatementError: when it is no envelope around a sound set.
    :raises SignatureRefused: when it is something else than a set, is not signed as it must be, or is not valid at that time.
    """
    sealed = parse_envelope(data)
    statement = sealed.statement()
    if statement.predicate_type != REFERENCE_VALUES:
        raise SignatureRefused(
            f"it is signed as something else: {statement.predicate_type[:200]!r}",
            check="set.type",
            hint="Give a set of reference values, as eaa verdict measure writes it.",
        )
    found = ReferenceSet.from_statement(statement)
    signed_by = policy.of_product(found.product).check(sealed)
    check_validity(found, at)
    return SignedSet(found, signed_by, sha256(data).hexdigest())


def check_validity(found: ReferenceSet, at: datetime) -> None:
    """Refuse a set before it was issued and from its end on.

    :raises SignatureRefused: when it is not valid at that time.
    """
    if found.issued_at > at + CLOCK_SKEW:
        raise SignatureRefused(
            f"it is issued on {found.issued_at:%Y-%m-%d %H:%M} UTC, which is yet to come",
            check="set.future",
            hint="Set the clock here or where it was signed.",
        )
    if found.expires_at is not None and found.expires_at <= at:
        raise SignatureRefused(
            f"it ended on {found.expires_at:%Y-%m-%d %H:%M} UTC",
            check="set.expired",
            hint="Sign a new version with a later end: eaa verdict measure --version N --expires TIME",
        )


def parse_signers(data: bytes, read: Callable[[str], bytes]) -> SignerPolicy:
    """Read the configuration; ``read`` returns the content of a file that it names.

    :raises ConfigurationError: when it is not sound: nothing is guessed and nothing ignored.
    """
    document = _toml(data)
    listed = _table(document.pop("keys", None), "keys", _MAX_KEYS)
    products = _table(document.pop("products", None), "products", _MAX_PRODUCTS)
    if document:
        raise _unsound(
            f"it has {min(document)[:100]!r}, which is not known", "Known are [keys] and [products]."
        )
    keys = {name: _key(name, value, read) for name, value in listed.items()}
    ids = [key_id(key) for key in keys.values()]
    if len(set(ids)) != len(ids):
        raise _unsound("one key has two names", "A key counts once: name it once.")
    return SignerPolicy(tuple(_signers(pattern, entry, keys) for pattern, entry in products.items()))


def _toml(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_SIGNERS:
        raise _unsound(f"it has {len(data)} bytes, at most {MAX_SIGNERS} are read", "Use patterns.")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        reason = (
            str(error).splitlines()[0] if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        )
        raise _unsound(f"it is not TOML: {reason[:200]}", "See docs/verdict.md for an example.") from error


def _table(value: Any, name: str, limit: int) -> dict[str, Any]:
    if not isinstance(value, dict) or not 1 <= len(value) <= limit:
        raise _unsound(f"it has no [{name}], or more than {limit}", "See docs/verdict.md for an example.")
    return value


def _key(name: str, value: Any, read: Callable[[str], bytes]) -> PublicKey:
    if not isinstance(value, str) or not value:
        raise _unsound(f"the key {name[:100]!r} is no text", "Name a PEM file, or give the PEM itself.")
    try:
        return read_public_key(value.encode() if "-----BEGIN" in value else read(value))
    except ConfigurationError as error:
        raise _unsound(f"the key {name[:100]!r}: {error}", error.hint) from error


def _signers(pattern: str, entry: Any, keys: Mapping[str, PublicKey]) -> Signers:
    where = f'[products."{pattern[:100]}"]'
    if not _is_pattern(pattern):
        raise _unsound(
            f"{where} names no product", "Such as acme/web, acme/* for any one part, acme/** for all below."
        )
    if not isinstance(entry, dict) or entry.keys() != {"signers", "threshold"}:
        raise _unsound(f"{where} must have signers and threshold, and nothing else", "Such as threshold = 1.")
    names, threshold = entry["signers"], entry["threshold"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _unsound(f"{where} has signers that are no list of names", "List names of [keys].")
    if unknown := [name for name in names if name not in keys]:
        raise _unsound(
            f"{where} has the signer {unknown[0][:100]!r}, who is not in [keys]", "Add the key there."
        )
    if len(set(names)) != len(names):
        raise _unsound(f"{where} has a signer twice", "A key counts once.")
    if not isinstance(threshold, int) or isinstance(threshold, bool):
        raise _unsound(f"{where} has a threshold that is no whole number", "Such as threshold = 1.")
    if not 1 <= threshold <= min(len(names), MAX_SIGNATURES):
        raise _unsound(
            f"{where} asks for {threshold} signatures of {len(names)} signers",
            "Ask for at least one, and no more than there are.",
        )
    return Signers(pattern, {name: keys[name] for name in names}, threshold)


def _is_pattern(pattern: str) -> bool:
    *front, last = pattern.split("/")
    named = ["x" if part == "*" else part for part in (*front, "*" if last == "**" else last)]
    return is_product("/".join(named))


def _fits(pattern: str, product: str) -> bool:
    parts, names = pattern.split("/"), product.split("/")
    if parts[-1] == "**":
        parts.pop()
        if len(names) <= len(parts):
            return False
        names = names[: len(parts)]
    return len(parts) == len(names) and all(
        part in {"*", name} for part, name in zip(parts, names, strict=True)
    )


def _specificity(pattern: str) -> tuple[int, int]:
    """Return how closely a pattern describes a product: parts that are named first, then parts that must be there."""
    parts = pattern.split("/")
    return len([part for part in parts if "*" not in part]), len([part for part in parts if part != "**"])


def _unsound(message: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"the signers' file cannot be used: {message}", hint=hint)
