# SPDX-License-Identifier: Apache-2.0
"""Statements in sigstore bundles: signed with a key of minutes that a certificate binds to an identity, and logged.

Everything that proves it is in the bundle, but for the roots: sigstore's library carries those, or a file gives them. No network is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from eaa._json import parse_json
from eaa.rats import ConfigurationError
from eaa.verdict.envelope import PAYLOAD_TYPE
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.statement import parse_statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eaa.verdict.statement import Statement

__all__ = ["MAX_BUNDLE", "Identity", "open_bundle"]

MAX_BUNDLE: Final = 8 << 20
_ROOTS: Final = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
"""Folder of the library's data with the roots of sigstore's public instance."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed: a mail address or the address of a workflow, and the issuer that vouches for it. One without the other is nobody."""

    identity: str
    issuer: str

    def __post_init__(self) -> None:
        if not self.identity or not self.issuer:
            raise ConfigurationError(
                "a sigstore identity needs its issuer, too",
                hint="Such as https://token.actions.githubusercontent.com for GitHub's workflows.",
            )


def open_bundle(
    data: bytes, identities: Sequence[Identity], trusted_root: Path | None = None
) -> tuple[Statement, Identity]:
    """Return the statement in a bundle, and which of the identities signed it.

    :param trusted_root: file of the roots, in place of those of sigstore's public instance.
    :raises StatementError: when it is no bundle around an in-toto statement.
    :raises SignatureRefused: when none of the identities signed it, or what proves it does not hold.
    :raises ConfigurationError: when the library or the roots are missing.
    """
    parse_json(data, MAX_BUNDLE, error=StatementError)
    models, errors = _library("sigstore.models"), _library("sigstore.errors")
    try:
        bundle = models.Bundle.from_json(data)
    except (errors.Error, *_MALFORMED) as error:
        raise StatementError(f"this is no sigstore bundle: {type(error).__name__}") from error
    verifier = _library("sigstore.verify").Verifier(trusted_root=_trusted_root(models, errors, trusted_root))
    wanted = _AnyOf(identities)
    try:
        kind, payload = verifier.verify_dsse(bundle, wanted)
    except (errors.Error, *_MALFORMED) as error:
        raise _refused(wanted, error) from error
    if kind != PAYLOAD_TYPE or wanted.found is None:
        raise StatementError(
            "the bundle is not around an in-toto statement", hint="Give the bundle of an attestation."
        )
    return parse_statement(payload), wanted.found


_MALFORMED: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library lets through for a bundle that is malformed in ways that it does not expect."""


class _AnyOf:
    """The library's policy: the certificate is of one of the identities. Remembers which, and whether it was asked at all."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = identities
        self.found: Identity | None = None
        self.asked = False

    def verify(self, cert: Any) -> None:
        """Refuse a certificate of anybody else."""
        policy, errors = _library("sigstore.verify.policy"), _library("sigstore.errors")
        self.asked = True
        for each in self._identities:
            try:
                policy.Identity(identity=each.identity, issuer=each.issuer).verify(cert)
            except errors.VerificationError:
                continue
            self.found = each
            return
        raise errors.VerificationError("none of the identities")


def _refused(wanted: _AnyOf, error: Exception) -> SignatureRefused:
    if wanted.asked and wanted.found is None:
        return SignatureRefused(
            "it is signed by another identity than those that may",
            check="sigstore.identity",
            hint="Compare with the certificate's subject and issuer; the address of a workflow ends with its tag or branch.",
        )
    return SignatureRefused(
        f"what proves the bundle does not hold: {' '.join(str(error).split())[:200]}",
        check="sigstore.proof",
        hint="Take the bundle again from where it was published, or give newer roots.",
    )


def _trusted_root(models: Any, errors: Any, path: Path | None) -> Any:
    try:
        if path is not None:
            return models.TrustedRoot.from_file(str(path))
        with as_file(files("sigstore._store") / _ROOTS / "trusted_root.json") as kept:
            return models.TrustedRoot.from_file(str(kept))
    except (errors.Error, OSError, *_MALFORMED) as error:
        raise ConfigurationError(
            f"sigstore's roots cannot be read: {type(error).__name__}",
            hint="Give a trusted_root.json of sigstore.",
        ) from error


def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "sigstore is not installed", hint="Install it with: pip install 'eaa[sigstore]'"
        ) from None
