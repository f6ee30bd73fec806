# SPDX-License-Identifier: Apache-2.0
"""Build files: what to build, from which sources, how, and in which environment, with everything pinned by its digest.

A build file is TOML. It is read strictly: a key that is not known, a name that could be a path, a step that waits for itself, are
refused with the reason. Because each source and each package of the environment carries its SHA-256, the digest of the file alone
stands for everything that goes into a build.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from eaa.rats import InputError
from eaa.verdict._reasons import first_reason

__all__ = [
    "MAX_BUILD_FILE",
    "RESERVED_NAMES",
    "BuildFile",
    "BuildFileError",
    "Environment",
    "FileSource",
    "Limits",
    "PackageSource",
    "Pin",
    "Step",
    "parse_build_file",
]

MAX_BUILD_FILE: Final = 256 * 1024
RESERVED_NAMES: Final = ("provenance.", "rebuild.")
"""How the names of files begin that are put beside outputs."""
_SHELLS: Final = frozenset({"sh", "ash", "bash", "dash", "hush", "ksh", "mksh", "yash", "zsh"})
_OWN_VARIABLES: Final = frozenset({"HOME", "LANG", "LC_ALL", "SOURCE_DATE_EPOCH", "TZ"})


class BuildFileError(InputError):
    """A build file that cannot be used; nothing was run."""

    code = "build-file.malformed"


def _matching(pattern: str, what: str) -> AfterValidator:
    expression = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not expression.fullmatch(text):
            raise ValueError(f"{text[:60]!r} is no {what}")
        return text

    return AfterValidator(check)


def _inside(text: str) -> str:
    """Refuse a path that could lead out of the build file's folder."""
    parts = text.split("/")
    if not text.isprintable() or len(text) > 500 or "\\" in text or {"", ".", ".."} & set(parts):
        raise ValueError(f"{text[:60]!r} is no plain path below the build file's folder")
    return text


def _printable(text: str) -> str:
    if not text.isprintable() or len(text) > 4096:
        raise ValueError(f"{text[:60]!r} is too long, or holds a character that cannot be shown")
    return text


def _argument(text: str) -> str:
    if "\0" in text or len(text) > 64 * 1024:
        raise ValueError("an argument is too long, or holds a zero byte")
    return text


_Name = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", "plain name")]
_Reference = Annotated[
    str,
    _matching(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._+-]{0,99})?", "name or step/output"),
]
_Sha256 = Annotated[str, _matching(r"[0-9a-f]{64}", "SHA-256 in lower-case hex")]
_Package = Annotated[str, _matching(r"[a-z0-9][a-z0-9+.-]{1,99}", "name of a Debian package")]
_Version = Annotated[str, _matching(r"[0-9][A-Za-z0-9.+~:-]{0,99}", "version of a Debian package")]
_Word = Annotated[str, _matching(r"[a-z][a-z0-9-]{1,31}", "word such as bookworm or amd64")]
_Locale = Annotated[str, _matching(r"[A-Za-z0-9_.@-]{1,64}", "locale")]
_Zone = Annotated[str, _matching(r"[A-Za-z0-9_/+-]{1,64}", "time zone")]
_Umask = Annotated[str, _matching(r"0?[0-7]{3}", "umask such as 022")]
_Variable = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "name of a variable")]
_Command = Annotated[list[Annotated[str, AfterValidator(_argument)]], Field(min_length=1, max_length=1024)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FileSource(_Table):
    """A file below the build file's folder."""

    file: Annotated[str, AfterValidator(_inside)]
    sha256: _Sha256


class PackageSource(_Table):
    """A Debian package. As a source it is the folder of its files; in the environment its files are at the root."""

    package: _Package
    version: _Version
    sha256: _Sha256


def _kind_of_source(value: Any) -> str:
    return "package" if isinstance(value, dict) and "package" in value else "file"


_Source = Annotated[
    Annotated[FileSource, Tag("file")] | Annotated[PackageSource, Tag("package")],
    Discriminator(_kind_of_source),
]


class Environment(_Table):
    """What a build sees: the packages' files and nothing else of the machine, and these settings."""

    release: _Word
    architecture: _Word = "amd64"
    packages: Annotated[list[PackageSource], Field(min_length=1, max_length=1024)]
    source_date_epoch: Annotated[int, Field(ge=0, le=1 << 33)]
    locale: _Locale = "C.UTF-8"
    timezone: _Zone = "UTC"
    umask: _Umask = "022"
    variables: dict[_Variable, Annotated[str, AfterValidator(_printable)]] = {}

    @model_validator(mode="after")
    def _once(self) -> Self:
        if taken := _OWN_VARIABLES & self.variables.keys():
            raise ValueError(f"{', '.join(sorted(taken))}: set by fields of their own, or by the builder")
        _no_twins("package", [each.package for each in self.packages])
        return self


class Step(_Table):
    """Commands that turn inputs, in the folder ``in``, into outputs, in the folder ``out``; they run in the folder that holds both."""

    inputs: Annotated[list[_Reference], Field(max_length=1024)] = []
    run: Annotated[list[_Command], Field(min_length=1, max_length=256)]
    outputs: Annotated[list[_Name], Field(min_length=1, max_length=1024)]
    network: bool = False
    shell: bool = False

    @model_validator(mode="after")
    def _declared(self) -> Self:
        _no_twins("input", [self.input_name(each) for each in self.inputs])
        _no_twins("output", self.outputs)
        for command in self.run:
            if not self.shell and (name := _shell_in(command)):
                raise ValueError(
                    f"it runs the shell {name!r}; declare shell = true, or run the program itself"
                )
        return self

    @staticmethod
    def input_name(reference: str) -> str:
        """Return the name below ``in`` that a source or another step's output gets."""
        return reference.rpartition("/")[2]


class Limits(_Table):
    """What each step may take. Over it, the step is killed and the build has failed."""

    seconds: Annotated[int, Field(ge=1, le=7 * 86400)] = 600
    bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 1 << 30
    files: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    processes: Annotated[int, Field(ge=1, le=65536)] = 256
    memory: Annotated[int, Field(ge=16 << 20, le=1 << 40)] = 4 << 30


class _Rebuild(_Table):
    keep: list[
        Literal[
            "clock",
            "cores",
            "environment",
            "file-times",
            "locale",
            "order",
            "path",
            "timezone",
            "umask",
            "user",
        ]
    ] = []


class _Recipe(_Table):
    format: Literal[1]
    name: _Name
    environment: Environment
    sources: Annotated[dict[_Name, _Source], Field(max_length=1024)] = {}
    steps: Annotated[dict[_Name, Step], Field(min_length=1, max_length=256)]
    outputs: Annotated[dict[_Name, _Reference], Field(min_length=1, max_length=256)]
    limits: Limits = Limits()
    rebuild: _Rebuild = _Rebuild()

    @model_validator(mode="after")
    def _connected(self) -> Self:
        if twins := self.sources.keys() & self.steps.keys():
            raise ValueError(f"{min(twins)!r} is the name of a source and of a step")
        for name, reference in self.outputs.items():
            if name.startswith(RESERVED_NAMES):
                raise ValueError(
                    f"output {name!r} has a name that is kept for what EAA writes beside outputs"
                )
            if "/" not in reference:
                raise ValueError(f"output {name!r} must come from a step, as step/output")
            self._must_exist(f"output {name!r}", reference)
        for name, step in self.steps.items():
            for reference in step.inputs:
                self._must_exist(f"step {name!r}", reference)
        order = _sorted(self.steps)
        needed = {reference.partition("/")[0] for reference in self.outputs.values()}
        for name in reversed(order):
            if name not in needed:
                raise ValueError(f"step {name!r} leads to no output")
            needed.update(reference.partition("/")[0] for reference in self.steps[name].inputs)
        if unused := sorted(self.sources.keys() - needed):
            raise ValueError(f"source {unused[0]!r} is used by no step")
        return self

    def _must_exist(self, who: str, reference: str) -> None:
        name, _, output = reference.partition("/")
        if output and (name not in self.steps or output not in self.steps[name].outputs):
            raise ValueError(f"{who} wants {reference!r}, which no step makes")
        if not output and name not in self.sources:
            raise ValueError(f"{who} wants {reference!r}, which is no source")


@dataclass(frozen=True, slots=True)
class Pin:
    """One thing that goes into a build: its name in the file, where it comes from, and its digest."""

    name: str
    uri: str
    sha256: str


@dataclass(frozen=True, slots=True)
class BuildFile:
    """A build file: its bytes, and what they say. Step names are in an order in which they can run."""

    text: bytes
    name: str
    environment: Environment
    sources: dict[str, FileSource | PackageSource]
    steps: dict[str, Step]
    outputs: dict[str, str]
    limits: Limits
    keep: frozenset[str]

    @property
    def digest(self) -> str:
        """The SHA-256 of the file: it pins all that goes into the build, so it is the build's identity."""
        return sha256(self.text).hexdigest()

    @property
    def packages(self) -> tuple[PackageSource, ...]:
        """Every package, of the environment and of the sources, each once."""
        sources = (each for each in self.sources.values() if isinstance(each, PackageSource))
        return tuple(dict.fromkeys((*self.environment.packages, *sources)))

    @property
    def pins(self) -> tuple[Pin, ...]:
        """Everything that goes into the build, the build file first."""
        pins = [Pin("build-file", "", self.digest)]
        pins += [self._pin(f"environment/{each.package}", each) for each in self.environment.packages]
        pins += [self._pin(f"source/{name}", each) for name, each in self.sources.items()]
        return tuple(pins)

    def _pin(self, name: str, source: FileSource | PackageSource) -> Pin:
        if isinstance(source, FileSource):
            return Pin(name, f"file:{quote(source.file)}", source.sha256)
        where = f"arch={self.environment.architecture}&distro={self.environment.release}"
        uri = f"pkg:deb/debian/{quote(source.package)}@{quote(source.version, safe='')}?{where}"
        return Pin(name, uri, source.sha256)


def parse_build_file(data: bytes) -> BuildFile:
    """Read a build file.

    :raises BuildFileError: when it is no build file, wants what cannot be, or leads out of its folder.
    """
    if len(data) > MAX_BUILD_FILE:
        raise BuildFileError(f"a build file of {len(data)} bytes; at most {MAX_BUILD_FILE} are read")
    try:
        recipe = _Recipe.model_validate(tomllib.loads(data.decode()))
    except ValidationError as invalid:
        raise BuildFileError(
            f"build file: {first_reason(invalid)}",
            hint="docs/reproducible-builds.md lists what a build file may say.",
        ) from None
    except UnicodeDecodeError as malformed:
        raise BuildFileError("the build file is not UTF-8") from malformed
    except (ValueError, RecursionError) as malformed:
        raise BuildFileError(f"the build file is no TOML: {str(malformed)[:200]}") from malformed
    return BuildFile(
        text=data,
        name=recipe.name,
        environment=recipe.environment,
        sources=dict(recipe.sources),
        steps={name: recipe.steps[name] for name in _sorted(recipe.steps)},
        outputs=dict(recipe.outputs),
        limits=recipe.limits,
        keep=frozenset(recipe.rebuild.keep),
    )


def _sorted(steps: dict[str, Step]) -> list[str]:
    """Return the steps' names, each after those that it needs; among equals in the file's order."""
    graph = {
        name: [reference.partition("/")[0] for reference in step.inputs if "/" in reference]
        for name, step in steps.items()
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as cycle:
        raise ValueError(f"steps wait for each other: {' -> '.join(reversed(cycle.args[1]))}") from None


def _shell_in(command: list[str]) -> str:
    """Return the shell that a command runs, through BusyBox too, or nothing."""
    names = [word.rpartition("/")[2] for word in command[:2]]
    if names[0] in _SHELLS:
        return names[0]
    return names[1] if names[0] == "busybox" and names[1:] and names[1] in _SHELLS else ""


def _no_twins(what: str, names: list[str]) -> None:
    if twins := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{what} {min(twins)!r} is there twice")
