# SPDX-License-Identifier: Apache-2.0
"""Where artifacts come from: SLSA provenance v1, made by our builds and held against the builders that an owner trusts.

Builders are configured in TOML::

    [keys]
    alpha = "alpha.pub"                       # a file beside this one, or the PEM itself

    [builders."urn:acme:builder:alpha"]
    keys = ["alpha"]                          # who signs for this builder; for one that makes sigstore bundles:
    # identities = [{ identity = "https://github.com/…@refs/tags/v1", issuer = "https://token.actions.githubusercontent.com" }]
    build_types = ["urn:eaa:build:1"]
    sources = ["pkg:deb/debian/*", "file:*"]  # each thing that went in must match one

What a provenance says of its builder is believed only from that builder: under its key, or the identity that a bundle proves.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - pydantic reads it
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eaa._json import parse_json
from eaa._keys import key_id, read_public_key
from eaa.rats import AccessDenied, ConfigurationError
from eaa.verdict._reasons import first_reason
from eaa.verdict.build_file import MAX_BUILD_FILE
from eaa.verdict.envelope import Opened, parse_envelope
from eaa.verdict.errors import StatementError
from eaa.verdict.sigstore import MAX_BUNDLE, Identity, open_bundle
from eaa.verdict.statement import Artifact, Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eaa._keys import PublicKey

__all__ = [
    "BUILD_TYPE",
    "PROVENANCE_TYPE",
    "Builder",
    "BuilderPolicy",
    "Dependency",
    "Provenance",
    "ProvenanceRefused",
    "check_provenance",
    "open_signed",
    "parse_builders",
]

PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:eaa:build:1"
MAX_BUILDERS_FILE: Final = 1 << 20
_MAX_DEPENDENCIES: Final = 4096
_MAX_TEXT: Final = 2048


class ProvenanceRefused(AccessDenied):
    """A provenance that does not show that an artifact comes from a trusted builder. ``check`` names the rule that refused."""

    code = "provenance.refused"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something that went into a build: where it comes from, what it is called in the build, and its digests, sorted."""

    uri: str
    name: str
    digests: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as an in-toto ResourceDescriptor."""
        described = {"name": self.name, "digest": dict(self.digests)}
        return {"uri": self.uri, **described} if self.uri else described


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a builder says of one build."""

    builder: str
    build_type: str
    outputs: tuple[Artifact, ...]
    dependencies: tuple[Dependency, ...]
    external: Mapping[str, Any]
    internal: Mapping[str, Any]
    started: datetime | None = None
    finished: datetime | None = None
    version: str = ""

    def to_statement(self) -> Statement:
        """Return the statement to sign."""
        metadata = {
            name: time.isoformat().replace("+00:00", "Z")
            for name, time in (("startedOn", self.started), ("finishedOn", self.finished))
            if time is not None
        }
        predicate = {
            "buildDefinition": {
                "buildType": self.build_type,
                "externalParameters": dict(self.external),
                "internalParameters": dict(self.internal),
                "resolvedDependencies": [each.to_json() for each in self.dependencies],
            },
            "runDetails": {
                "builder": {
                    "id": self.builder,
                    **({"version": {"eaa": self.version}} if self.version else {}),
                },
                "metadata": metadata,
            },
        }
        return Statement(self.outputs, PROVENANCE_TYPE, predicate)

    @classmethod
    def from_statement(cls, statement: Statement) -> Provenance:
        """Read SLSA provenance v1, of whoever made it.

        :raises StatementError: when it is none.
        """
        if statement.predicate_type != PROVENANCE_TYPE:
            raise StatementError(
                f"this is no provenance: its predicate is of type {statement.predicate_type[:200]!r}",
                hint=f"SLSA provenance v1 is {PROVENANCE_TYPE}.",
            )
        try:
            said = _Predicate.model_validate(statement.predicate)
        except ValidationError as invalid:
            raise StatementError(f"the provenance cannot be read: {first_reason(invalid)}") from None
        definition, run = said.build_definition, said.run_details
        return cls(
            builder=run.builder.id,
            build_type=definition.build_type,
            outputs=statement.subject,
            dependencies=tuple(
                Dependency(each.uri, each.name, tuple(sorted(each.digest.items())))
                for each in definition.resolved_dependencies
            ),
            external=definition.external_parameters,
            internal=definition.internal_parameters,
            started=run.metadata.started_on,
            finished=run.metadata.finished_on,
            version=str(run.builder.version.get("eaa", ""))[:100],
        )

    def build_file(self) -> bytes:
        """Return the build file of one of our builds.

        :raises StatementError: when it is another kind of build, or the file is not the one that the provenance names by digest.
        """
        if self.build_type != BUILD_TYPE:
            raise StatementError(
                f"a build of type {self.build_type[:200]!r}; only {BUILD_TYPE} has a build file"
            )
        text, digest = self.external.get("buildFile"), self.external.get("sha256")
        if not isinstance(text, str) or len(text) > MAX_BUILD_FILE:
            raise StatementError("the provenance holds no build file")
        data = text.encode(errors="surrogatepass")
        if sha256(data).hexdigest() != digest:
            raise StatementError("the provenance holds another build file than it names by digest")
        return data


@dataclass(frozen=True, slots=True)
class Builder:
    """A builder that an owner trusts: who signs for it, and for what its word counts."""

    id: str
    signers: frozenset[str]
    build_types: frozenset[str]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuilderPolicy:
    """The builders that an owner trusts, and the keys and sigstore identities that sign for them."""

    keys: tuple[PublicKey, ...]
    identities: tuple[Identity, ...]
    builders: Mapping[str, Builder]


def open_signed(data: bytes, policy: BuilderPolicy, trusted_root: Path | None = None) -> Opened:
    """Return what an envelope or a sigstore bundle says, and who of the policy's keys or identities signed it: of keys it may be none.

    :raises StatementError: when it is neither of them around a statement.
    :raises SignatureRefused: when it is a bundle that none of the identities signed, or whose proof does not hold.
    """
    if _is_bundle(data):
        statement, identity = open_bundle(data, policy.identities, trusted_root)
        return Opened(statement, frozenset({_signer(identity)}))
    sealed = parse_envelope(data)
    return Opened(sealed.statement(), sealed.signers(policy.keys))


def _is_bundle(data: bytes) -> bool:
    value = parse_json(data, MAX_BUNDLE, error=StatementError)
    return isinstance(value, dict) and "verificationMaterial" in value


def _signer(identity: Identity) -> str:
    """Return how a sigstore identity stands among signers; a key's id never has a space."""
    return f"{identity.identity} {identity.issuer}"


def check_provenance(opened: Opened, policy: BuilderPolicy, artifacts: Mapping[str, str]) -> Provenance:
    """Return the provenance, once a trusted builder is found to say it of each of ``artifacts``: name and SHA-256.

    :raises StatementError: when the statement is no provenance.
    :raises ProvenanceRefused: when it does not hold, with the rule that it breaks.
    """
    found = Provenance.from_statement(opened.statement)
    builder = policy.builders.get(found.builder)
    if builder is None:
        raise ProvenanceRefused(
            f"it is of the builder {found.builder[:200]!r}, who is not trusted",
            check="provenance.builder",
            hint="Name the builder and its keys in the builders' file, if you trust it.",
        )
    if not builder.signers & opened.signed_by:
        raise ProvenanceRefused(
            f"it says that {builder.id} built it, and no key or identity of that builder signed it",
            check="provenance.signature",
            hint="Take the provenance from the builder again, as it was signed there.",
        )
    if found.build_type not in builder.build_types:
        raise ProvenanceRefused(
            f"a build of type {found.build_type[:200]!r}, for which {builder.id} is not trusted",
            check="provenance.build-type",
            hint="List the type in the builder's build_types, if its builds of that type are to count.",
        )
    _check_sources(found, builder)
    _check_subjects(found, artifacts)
    return found


def _check_sources(found: Provenance, builder: Builder) -> None:
    for each in found.dependencies:
        # The build file itself has no address: what it is follows from its digest, and what it wants is listed after it.
        if not each.digests:
            raise ProvenanceRefused(
                f"{each.uri[:200] or each.name[:200]} went in without a digest",
                check="provenance.source",
                hint="Every source of a build must be pinned.",
            )
        if each.uri and not any(fnmatchcase(each.uri, pattern) for pattern in builder.sources):
            raise ProvenanceRefused(
                f"{each.uri[:200]} went in, from where nothing may",
                check="provenance.source",
                hint="List the source in the builder's sources, if builds may use it.",
            )


def _check_subjects(found: Provenance, artifacts: Mapping[str, str]) -> None:
    said = {each.name: each.sha256 for each in found.outputs}
    for name, digest in artifacts.items():
        if digest in said.values():
            continue
        other = f"; it speaks of another {name}, {said[name]}" if name in said else ""
        raise ProvenanceRefused(
            f"it does not speak of {name[:200]} with the digest {digest}{other}",
            check="provenance.subject",
            hint="Take the artifact and its provenance from the same build.",
        )


class _Wire(BaseModel):
    """Others' provenance: what is not needed is not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")


_Text = Annotated[str, Field(max_length=_MAX_TEXT)]


class _Resource(_Wire):
    uri: _Text = ""
    name: _Text = ""
    digest: Annotated[dict[str, _Text], Field(max_length=32)] = {}


class _Definition(_Wire):
    build_type: Annotated[_Text, Field(alias="buildType", min_length=1)]
    external_parameters: Annotated[dict[str, Any], Field(alias="externalParameters")]
    internal_parameters: Annotated[dict[str, Any], Field(alias="internalParameters")] = {}
    resolved_dependencies: Annotated[
        list[_Resource], Field(alias="resolvedDependencies", max_length=_MAX_DEPENDENCIES)
    ] = []


class _BuilderSaid(_Wire):
    id: Annotated[_Text, Field(min_length=1)]
    version: dict[str, Any] = {}


class _Metadata(_Wire):
    started_on: Annotated[datetime | None, Field(alias="startedOn")] = None
    finished_on: Annotated[datetime | None, Field(alias="finishedOn")] = None


class _Run(_Wire):
    builder: _BuilderSaid
    metadata: _Metadata = _Metadata()


class _Predicate(_Wire):
    build_definition: Annotated[_Definition, Field(alias="buildDefinition")]
    run_details: Annotated[_Run, Field(alias="runDetails")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _IdentityEntry(_Strict):
    identity: str
    issuer: str


class _BuilderEntry(_Strict):
    keys: list[str] = []
    identities: list[_IdentityEntry] = []
    build_types: Annotated[list[str], Field(min_length=1)]
    sources: Annotated[list[str], Field(min_length=1)]


class _BuildersFile(_Strict):
    keys: dict[str, str] = {}
    builders: Annotated[dict[str, _BuilderEntry], Field(min_length=1, max_length=1000)]


def parse_builders(data: bytes, read: Callable[[str], bytes]) -> BuilderPolicy:
    """Read the configuration of builders; ``read`` returns the content of a file that it names.

    :raises ConfigurationError: when it is not sound, or one key or identity speaks for two builders.
    """
    if len(data) > MAX_BUILDERS_FILE:
        raise _unsound(f"it has more than {MAX_BUILDERS_FILE} bytes")
    try:
        entries = _BuildersFile.model_validate(tomllib.loads(data.decode()))
    except ValidationError as invalid:
        raise _unsound(first_reason(invalid)) from None
    except (ValueError, RecursionError) as malformed:
        raise _unsound(str(malformed)[:200]) from malformed
    keys = {
        name: read_public_key(text.encode() if "-----BEGIN" in text else read(text))
        for name, text in entries.keys.items()
    }
    builders: dict[str, Builder] = {}
    identities: list[Identity] = []
    speaks_for: dict[str, str] = {}
    for name, entry in entries.builders.items():
        own = [Identity(each.identity, each.issuer) for each in entry.identities]
        identities += own
        builders[name] = _builder(name, entry, keys, own)
        for signer in builders[name].signers:
            if speaks_for.setdefault(signer, name) != name:
                raise _unsound(f"{signer[:200]} speaks for {speaks_for[signer][:200]} and for {name[:200]}")
    return BuilderPolicy(tuple(keys.values()), tuple(identities), builders)


def _builder(
    name: str, entry: _BuilderEntry, keys: Mapping[str, PublicKey], identities: Sequence[Identity]
) -> Builder:
    if unknown := [each for each in entry.keys if each not in keys]:
        raise _unsound(f"{name[:100]} has the key {unknown[0][:100]!r}, which is not in [keys]")
    signers = frozenset([*(key_id(keys[each]) for each in entry.keys), *map(_signer, identities)])
    if not signers:
        raise _unsound(f"{name[:100]} has neither keys nor identities")
    return Builder(name, signers, frozenset(entry.build_types), tuple(entry.sources))


def _unsound(message: str) -> ConfigurationError:
    return ConfigurationError(
        f"the builders' file cannot be used: {message}",
        hint="See docs/reproducible-builds.md for an example.",
    )
