# SPDX-License-Identifier: Apache-2.0
"""A build from its file to a folder of outputs with their provenance, under one builder's name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from eaa._keys import key_id
from eaa.verdict.conditions import pinned
from eaa.verdict.delivery import PROVENANCE_FILE, deliver, delivered, sha256_of
from eaa.verdict.envelope import seal
from eaa.verdict.provenance import BUILD_TYPE, Dependency, Provenance
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eaa._keys import PrivateKey
    from eaa.verdict.build import Workshop
    from eaa.verdict.build_file import BuildFile
    from eaa.verdict.conditions import Conditions, Variation

__all__ = ["Identity", "Made", "build_into", "make"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who builds: the builder's id, and the key that signs for it, if there is one."""

    id: str
    key: PrivateKey | None

    @classmethod
    def of(cls, key: PrivateKey | None, name: str | None = None) -> Identity:
        """Return the identity of that name, or of a name that follows from the key."""
        if name is None:
            name = f"urn:eaa:builder:{key_id(key.public_key())[:32] if key is not None else 'unsigned'}"
        return cls(name, key)

    def seal(self, provenance: Provenance) -> bytes:
        """Return the provenance in an envelope, signed if there is a key."""
        return seal(provenance.to_statement(), [self.key] if self.key is not None else [])


@dataclass(frozen=True, slots=True)
class Made:
    """A build: its outputs, each a file, and what is to be said of it."""

    files: dict[str, Path]
    provenance: Provenance


def make(
    file: BuildFile,
    workshop: Workshop,
    stage: Path,
    builder: str,
    conditions: Conditions | None = None,
    variations: Sequence[Variation] = (),
) -> Made:
    """Build under the pinned conditions, or others, and say what went in and what came out.

    :raises BuildFailed: and the like, as :meth:`Workshop.build` does.
    """
    stage = workshop.sandbox.folder(stage)
    started = _now()
    files = workshop.build(file, conditions or pinned(file.environment), stage)
    outputs = tuple(Artifact(name, (("sha256", sha256_of(path)),)) for name, path in sorted(files.items()))
    internal: dict[str, Any] = {}
    if variations:
        internal["variations"] = [
            {"name": each.name, "applied": each.applied, "how": each.how} for each in variations
        ]
    provenance = Provenance(
        builder=builder,
        build_type=BUILD_TYPE,
        outputs=outputs,
        dependencies=tuple(Dependency(pin.uri, pin.name, (("sha256", pin.sha256),)) for pin in file.pins),
        external={"buildFile": file.text.decode(), "sha256": file.digest, "name": file.name},
        internal=internal,
        started=started,
        finished=_now(),
        version=version("eaa"),
    )
    return Made(files, provenance)


def build_into(
    folder: Path, file: BuildFile, workshop: Workshop, identity: Identity
) -> tuple[Provenance, bool]:
    """Build into ``folder``, unless this build lies there already; return its provenance, and whether it was built now.

    :raises ConfigurationError: when the folder holds something else than a build.
    """
    workshop.check_sources(file)
    if found := _up_to_date(folder, file, identity):
        return found, False
    with workshop.sandbox.stage() as stage:
        made = make(file, workshop, stage / "build", identity.id)
        deliver(folder, {**made.files, PROVENANCE_FILE: identity.seal(made.provenance)})
    return made.provenance, True


def _up_to_date(folder: Path, file: BuildFile, identity: Identity) -> Provenance | None:
    """Return the provenance in ``folder``, if it is this builder's, of this very build file, and every output is there."""
    there = delivered(folder)
    if there is None:
        return None
    found, sealed = there
    same = (found.build_type, found.builder) == (BUILD_TYPE, identity.id) and not found.internal
    signed = identity.key is None or sealed.signers([identity.key.public_key()])
    return found if same and signed and found.external.get("sha256") == file.digest else None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
