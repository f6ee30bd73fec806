# SPDX-License-Identifier: Apache-2.0
"""A set of reference values: what one version of a product measures to, from what, and until when it may run.

A set is a predicate of an in-toto statement whose subject is the artifacts that the values were computed from. Its identity is the
digest of the statement's canonical bytes, so whatever reads the same set reads the same digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from eaa.rats import EvidenceError
from eaa.tee.registry import kind_of
from eaa.verdict.errors import StatementError
from eaa.verdict.statement import MAX_SUBJECTS, Artifact, Statement

__all__ = [
    "MAX_REGISTERS",
    "MAX_VALUES",
    "REFERENCE_VALUES",
    "BuiltBy",
    "Input",
    "ReferenceSet",
    "RegisterValue",
    "is_product",
]

REFERENCE_VALUES: Final = "urn:eaa:reference-values:1"
"""The predicate's type."""
MAX_REGISTERS: Final = 1024
MAX_VALUES: Final = 1024
_MAX_INPUTS: Final = 1024
_MAX_VERSION: Final = 2**53 - 1
"""The largest whole number that every reader of JSON reads alike."""
_MAX_NOTE: Final = 4096
_MAX_PROVENANCE: Final = 64
_MAX_BUILDER: Final = 2048
_PRODUCT: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._+-]{0,63}){0,7}", re.ASCII
)
_NAME: Final = re.compile(r"[!-~]{1,256}", re.ASCII)
_TEE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_KNOWN_VALUE: Final = re.compile(r"([0-9a-f]{2}){1,512}|[0-9]{1,10}", re.ASCII)
_DIGEST: Final = re.compile(r"([0-9a-f]{2}){1,64}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_MEMBERS: Final = frozenset(
    {
        "product",
        "version",
        "tee",
        "issuedAt",
        "expiresAt",
        "registers",
        "supersedes",
        "provenance",
        "builtBy",
        "note",
    }
)


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that is measured into a register, in its place among the register's inputs.

    ``digest`` is the hex of the event's digest as it is extended, or of the input where a register is one digest of all.
    """

    name: str
    digest: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not _DIGEST.fullmatch(self.digest):
            raise StatementError(
                f"an input {self.name[:200]!r} has a bad name, or a digest that is not lower-case hex"
            )


@dataclass(frozen=True, slots=True)
class RegisterValue:
    """What a register may hold: lower-case hex, or a decimal number for those that are numbers."""

    register: str
    values: tuple[str, ...]
    inputs: tuple[Input, ...] = ()

    def __post_init__(self) -> None:
        shown = self.register[:200]
        if not _NAME.fullmatch(self.register):
            raise StatementError(
                f"a register has the name {shown!r}; it must be printable ASCII without spaces"
            )
        if not 1 <= len(self.values) <= MAX_VALUES or len(set(self.values)) != len(self.values):
            raise StatementError(f"{shown} has no value, one twice, or more than {MAX_VALUES}")
        if not all(0 < len(each) <= 1024 and each.isprintable() for each in self.values):
            raise StatementError(f"{shown} has a value that is empty, not printable or over 1024 characters")
        if len(self.inputs) > _MAX_INPUTS:
            raise StatementError(f"{shown} has {len(self.inputs)} inputs, and {_MAX_INPUTS} are the most")


@dataclass(frozen=True, slots=True)
class BuiltBy:
    """What was verified before the set was signed: that a trusted builder says, in a provenance, that it made an artifact."""

    artifact: str
    builder: str
    provenance: str


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """One version of a product's reference values. Every set that exists is sound; times are in UTC, to the second.

    ``expires_at`` of None means that the set does not end by itself. ``supersedes`` is the version that it retires when it becomes
    active. ``provenance`` names, by the SHA-256 of their bytes, the statements about where the artifacts come from; ``built_by`` says what of
    them was verified against the builders that whoever made the set trusts, and is their word.

    :raises StatementError: when a field is not what it must be.
    """

    product: str
    version: int
    tee: str
    registers: tuple[RegisterValue, ...]
    artifacts: tuple[Artifact, ...]
    issued_at: datetime
    expires_at: datetime | None = None
    supersedes: int | None = None
    provenance: tuple[str, ...] = ()
    built_by: tuple[BuiltBy, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("issued_at", "expires_at"):
            moment: datetime | None = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, _to_the_second(moment))
        self._check_names()
        self._check_registers()
        if not _is_version(self.version):
            raise StatementError(f"a version is a whole number from 1 to {_MAX_VERSION}")
        if self.supersedes is not None and not (
            _is_version(self.supersedes) and self.supersedes < self.version
        ):
            raise StatementError("the version that a set supersedes is lower than its own")
        if self.expires_at is not None and self.expires_at <= self.issued_at:
            raise StatementError("the set ends before it begins", hint="Give a later end.")
        self._check_origins()

    def _check_origins(self) -> None:
        if not all(_SHA256.fullmatch(each) for each in self.provenance):
            raise StatementError("provenance is named by the SHA-256 of its envelope, in lower-case hex")
        if len(self.provenance) > _MAX_PROVENANCE or len(set(self.provenance)) != len(self.provenance):
            raise StatementError(f"a set names at most {_MAX_PROVENANCE} provenances, each once")
        names = {each.name for each in self.artifacts}
        if len(set(self.built_by)) != len(self.built_by) or not all(
            each.artifact in names
            and each.provenance in self.provenance
            and 0 < len(each.builder) <= _MAX_BUILDER
            and each.builder.isprintable()
            for each in self.built_by
        ):
            raise StatementError(
                "who built an artifact is said once, of an artifact and by a provenance of the set"
            )

    def _check_names(self) -> None:
        if not is_product(self.product):
            raise StatementError(
                f"{self.product[:200]!r} is no name of a product",
                hint="Such as acme/web: letters, digits and ._+-",
            )
        if not _TEE.fullmatch(self.tee):
            raise StatementError(f"{self.tee[:40]!r} is no kind of TEE")
        if not 1 <= len(self.artifacts) <= MAX_SUBJECTS:
            raise StatementError(
                f"a set says what it was computed from: 1 to {MAX_SUBJECTS} artifacts",
                hint="Name the firmware, the kernel, or the document that the values come from.",
            )
        if len(self.note) > _MAX_NOTE:
            raise StatementError(f"a note has at most {_MAX_NOTE} characters")

    def _check_registers(self) -> None:
        names = [each.register for each in self.registers]
        if not 1 <= len(names) <= MAX_REGISTERS or len(set(names)) != len(names):
            raise StatementError(f"a set has 1 to {MAX_REGISTERS} registers, each once")
        known = _registers_of(self.tee)
        for each in self.registers:
            if each.register in known and not all(_KNOWN_VALUE.fullmatch(value) for value in each.values):
                raise StatementError(
                    f"{each.register} has a value that it can never hold",
                    hint="Registers are lower-case hex; versions are decimal numbers.",
                )

    def to_statement(self) -> Statement:
        """Return the set as a statement; :meth:`from_statement` gives the same set back."""
        predicate: dict[str, Any] = {
            "product": self.product,
            "version": self.version,
            "tee": self.tee,
            "issuedAt": self.issued_at.strftime(_TIME),
            "registers": [_register_to_json(each) for each in self.registers],
        }
        if self.expires_at is not None:
            predicate["expiresAt"] = self.expires_at.strftime(_TIME)
        if self.supersedes is not None:
            predicate["supersedes"] = self.supersedes
        if self.provenance:
            predicate["provenance"] = list(self.provenance)
        if self.built_by:
            predicate["builtBy"] = [
                {"artifact": each.artifact, "builder": each.builder, "provenance": each.provenance}
                for each in self.built_by
            ]
        if self.note:
            predicate["note"] = self.note
        return Statement(self.artifacts, REFERENCE_VALUES, predicate)

    @classmethod
    def from_statement(cls, statement: Statement) -> ReferenceSet:
        """Read a set out of a statement. What is not known here is refused: it may change what the set means.

        :raises StatementError: when the statement is about something else, or is no sound set.
        """
        if statement.predicate_type != REFERENCE_VALUES:
            raise StatementError(
                f"the statement is not about reference values but {statement.predicate_type[:200]!r}",
                hint=f"The predicateType of a set is {REFERENCE_VALUES}.",
            )
        predicate = statement.predicate
        if unknown := predicate.keys() - _MEMBERS:
            raise StatementError(
                f"the set has the member {min(unknown)[:200]!r}, which is not known", hint="Update EAA."
            )
        try:
            return cls(
                product=_text(predicate["product"]),
                version=predicate["version"],
                tee=_text(predicate["tee"]),
                registers=tuple(_register_from_json(each) for each in _list(predicate["registers"])),
                artifacts=statement.subject,
                issued_at=_time(predicate["issuedAt"]),
                expires_at=_time(predicate["expiresAt"]) if "expiresAt" in predicate else None,
                supersedes=predicate.get("supersedes"),
                provenance=tuple(_text(each) for each in _list(predicate.get("provenance", []))),
                built_by=tuple(_built_by_from_json(each) for each in _list(predicate.get("builtBy", []))),
                note=_text(predicate.get("note", "")),
            )
        except KeyError as error:
            raise StatementError(f"the set has no {error}") from error

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, of the statement's canonical bytes: the set's identity."""
        return self.to_statement().digest

    @property
    def reference_values(self) -> dict[str, list[str]]:
        """The values alone, as ``eaa reference-value import`` takes them: register name to what it may hold."""
        return {each.register: list(each.values) for each in self.registers}


def is_product(name: str) -> bool:
    """Tell whether a text can name a product: up to eight parts of letters, digits and ``._+-``, such as ``acme/web``."""
    return _PRODUCT.fullmatch(name) is not None


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_VERSION


def _registers_of(tee: str) -> frozenset[str]:
    try:
        return frozenset(kind_of(tee).registers)
    except (
        EvidenceError
    ):  # values of what is not verified here, such as a GPU's, may be kept and handed on all the same
        return frozenset()


def _to_the_second(moment: datetime) -> datetime:
    if moment.tzinfo is None or not 1970 <= moment.year < 9999:
        raise StatementError(
            "a time has no offset, or is of no year that a set can speak of",
            hint="Give it in UTC, such as 2026-03-16T12:00:00Z.",
        )
    return moment.astimezone(UTC).replace(microsecond=0)


def _register_to_json(value: RegisterValue) -> dict[str, Any]:
    found: dict[str, Any] = {"register": value.register, "values": list(value.values)}
    if value.inputs:
        found["inputs"] = [{"name": each.name, "digest": each.digest} for each in value.inputs]
    return found


def _register_from_json(value: Any) -> RegisterValue:
    found = _object(value, {"register", "values", "inputs"})
    return RegisterValue(
        _text(found["register"]),
        tuple(_text(each) for each in _list(found["values"])),
        tuple(_input_from_json(each) for each in _list(found.get("inputs", []))),
    )


def _input_from_json(value: Any) -> Input:
    found = _object(value, {"name", "digest"})
    return Input(_text(found["name"]), _text(found["digest"]))


def _built_by_from_json(value: Any) -> BuiltBy:
    found = _object(value, {"artifact", "builder", "provenance"})
    return BuiltBy(_text(found["artifact"]), _text(found["builder"]), _text(found["provenance"]))


def _object(value: Any, members: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() - members:
        raise StatementError("the set has a part that is no object, or one with a member that is not known")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise StatementError("the set has something else where a list is expected")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise StatementError("the set has something else where text is expected")
    return value


def _time(value: Any) -> datetime:
    """Read a time in the one way that sets write it, so that no two texts mean the same set."""
    text = _text(value)
    try:
        moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        moment = None
    if moment is None or moment.strftime(_TIME) != text:
        raise StatementError("a time of the set is not in the form 2026-03-16T12:00:00Z")
    return moment
