# SPDX-License-Identifier: Apache-2.0
"""Runs a build file: lays out what is pinned, runs the steps in the sandbox, and takes what they were to make.

Nothing is taken on trust. Sources and packages are hashed while they are copied to where the build sees them, packages are unpacked in the
sandbox too, and an output is a regular file of its declared name or the build has failed.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from eaa.rats import InputError
from eaa.verdict.build_file import BuildFileError, FileSource, Limits
from eaa.verdict.conditions import CLOCK_FOLDER
from eaa.verdict.sandbox import Cell, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from eaa.verdict.build_file import BuildFile, PackageSource, Step
    from eaa.verdict.conditions import Conditions
    from eaa.verdict.sandbox import Ran, Sandbox

__all__ = ["BuildFailed", "Workshop"]

_UNPACKING: Final = Limits(seconds=600, bytes=8 << 30, files=1_000_000)
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
_CHUNK: Final = 1 << 20


class BuildFailed(InputError):
    """A build that did not make what its file declares. Nothing of it is kept."""

    code = "build.failed"


@dataclass(frozen=True, slots=True)
class _Site:
    """One run of a build file: under which conditions, and where."""

    file: BuildFile
    conditions: Conditions
    stage: Path
    root: Path

    def cell(self, work: Path, inputs: Path, temporary: Path, *, network: bool) -> Cell:
        """Return what the commands of a step see."""
        under = self.conditions
        mounts = [
            Mount(work, under.folder, writable=True),
            Mount(inputs, f"{under.folder}/in"),
            Mount(temporary, "/tmp", writable=True),  # noqa: S108 - the build's own
        ]
        if under.faketime is not None:
            mounts.append(Mount(under.faketime, CLOCK_FOLDER))
        return Cell(
            root=self.root,
            mounts=tuple(mounts),
            folder=under.folder,
            variables=under.variables,
            hostname=under.hostname,
            user=under.user,
            umask=under.umask,
            one_core=under.one_core,
            network=network,
        )


@dataclass(frozen=True, slots=True)
class Workshop:
    """What builds need of this machine: a sandbox, the folder of the build file, the packages, and somebody to tell."""

    sandbox: Sandbox
    folder: Path
    packages: Mapping[PackageSource, Path]
    say: Callable[[str], None]

    def check_sources(self, file: BuildFile) -> None:
        """Hold the files beside the build file against what it pins.

        :raises BuildFileError: when one is missing or something else.
        """
        for name, source in file.sources.items():
            if isinstance(source, FileSource):
                for _ in _content(_inside(self.folder, source.file), source.sha256, f"source {name!r}"):
                    pass

    def build(self, file: BuildFile, conditions: Conditions, stage: Path) -> dict[str, Path]:
        """Run every step of ``file`` under ``conditions``, in ``stage``, and return the outputs by name.

        :raises BuildFileError: when a source is not what is pinned.
        :raises BuildFailed: when a step fails or makes something else than it declares.
        :raises LimitExceeded: when a step takes more than the file allows.
        """
        site = _Site(file, conditions, stage, self._environment(file, conditions, stage))
        made: dict[str, Path] = {}
        for name, step in file.steps.items():
            self.say(f"step {name}")
            begun = time.monotonic()
            made |= self._step(site, name, made)
            self.say(f"step {name}: {', '.join(step.outputs)} in {time.monotonic() - begun:.1f} s")
        return {output: made[reference] for output, reference in file.outputs.items()}

    def _environment(self, file: BuildFile, conditions: Conditions, stage: Path) -> Path:
        """Unpack the environment's packages into the root that the steps see."""
        root = self.sandbox.own(stage / "root")
        self.sandbox.own(root / "usr")
        for name in _MERGED:
            self.sandbox.own(root / "usr" / name)
            (root / name).symlink_to(f"usr/{name}")
        places = [place.strip("/") for place in ("proc", "dev", "tmp", CLOCK_FOLDER, conditions.folder)]
        for place in (*places, "etc"):
            for folder in reversed([root / place, *(root / place).parents]):
                if not folder.exists():
                    self.sandbox.own(folder)
        (root / "etc" / "resolv.conf").touch()
        self.say(f"unpacking {len(file.environment.packages)} packages of Debian {file.environment.release}")
        for package in file.environment.packages:
            self._unpack(package, root, stage)
        _still_folders(root, places)
        return root

    def _unpack(self, package: PackageSource, target: Path, stage: Path) -> None:
        """Unpack a package into ``target``, in the sandbox: a package may be hostile, and is no more than its digest says."""
        archive, listing = stage / "package.deb", stage / "package.tar"
        _copy(self.packages[package], archive, package.sha256, f"package {package.package}")
        cell = Cell(mounts=(Mount(archive, "/package.deb"),))
        self._must(cell, ["dpkg-deb", "--fsys-tarfile", "/package.deb"], package, stdout=listing)
        listing.chmod(0o444)
        cell = Cell(mounts=(Mount(target, "/target", writable=True), Mount(listing, "/package.tar")))
        keep = ("--keep-directory-symlink", "--no-same-owner", "--no-same-permissions")
        self._must(cell, ["tar", "--extract", "--file=/package.tar", "--directory=/target", *keep], package)
        archive.unlink()
        listing.unlink()

    def _must(self, cell: Cell, argv: list[str], package: PackageSource, stdout: Path | None = None) -> None:
        done = self.sandbox.run(cell, argv, _UNPACKING, seconds=_UNPACKING.seconds, stdout=stdout)
        if done.status != 0:
            raise BuildFailed(f"package {package.package} cannot be unpacked: {_said(done)}")

    def _step(self, site: _Site, name: str, made: Mapping[str, Path]) -> dict[str, Path]:
        """Run one step's commands, one after the other, and take its outputs."""
        step, limits = site.file.steps[name], site.file.limits
        place = self.sandbox.folder(site.stage / f"step-{name}")
        inputs = self._inputs(site, step, place, made)
        work, temporary = self.sandbox.own(place / "work"), self.sandbox.own(place / "tmp")
        self.sandbox.folder(work / "in")
        self.sandbox.own(work / "out")
        cell = site.cell(work, inputs, temporary, network=step.network)
        deadline = time.monotonic() + limits.seconds
        for command in step.run:
            done = self.sandbox.run(cell, command, limits, seconds=deadline - time.monotonic())
            if done.status != 0:
                raise BuildFailed(
                    f"step {name!r}: {command[0]!r} ended with status {done.status}: {_said(done)}",
                    hint="It sees its inputs in the folder in, and is to leave its outputs in the folder out.",
                )
        return _take(name, step, work / "out", place, limits)

    def _inputs(self, site: _Site, step: Step, place: Path, made: Mapping[str, Path]) -> Path:
        """Lay out a step's inputs, each under its name."""
        inputs = self.sandbox.folder(place / "in")
        times = (site.conditions.file_time, site.conditions.file_time)
        for reference in sorted(step.inputs, reverse=site.conditions.reverse):
            target = inputs / step.input_name(reference)
            source = site.file.sources.get(reference)
            if source is None:
                _copy(made[reference], target, None, reference)
            elif isinstance(source, FileSource):
                _copy(_inside(self.folder, source.file), target, source.sha256, f"source {reference!r}")
            else:
                self._unpack(source, self.sandbox.own(target), site.stage)
            os.utime(target, times)
        os.utime(inputs, times)
        return inputs


def _inside(folder: Path, name: str) -> Path:
    """Return the file ``name`` of the build file's folder, which no link may lead out of."""
    try:
        path = (folder / name).resolve(strict=True)
    except (OSError, RuntimeError):
        raise BuildFileError(f"there is no source {name!r} beside the build file") from None
    if not path.is_relative_to(folder.resolve()):
        raise BuildFileError(f"source {name!r} leads out of the build file's folder")
    return path


def _copy(source: Path, target: Path, digest: str | None, what: str) -> None:
    """Copy a regular file, and hold what was copied against its digest."""
    with target.open("xb") as writer:
        for chunk in _content(source, digest, what):
            writer.write(chunk)
    target.chmod(0o444)


def _content(source: Path, digest: str | None, what: str) -> Iterator[bytes]:
    """Read a regular file in parts, and at its end hold what was read against its digest."""
    hashed = sha256()
    try:
        opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BuildFileError(f"{what} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise BuildFileError(f"{what} is no regular file")
    with open(opened, "rb") as reader:  # noqa: PTH123 - a descriptor
        while chunk := reader.read(_CHUNK):
            hashed.update(chunk)
            yield chunk
    if digest is not None and hashed.hexdigest() != digest:
        raise BuildFileError(
            f"{what} has the digest {hashed.hexdigest()}, and {digest} is pinned",
            hint="If the change is meant, pin the new digest in the build file.",
        )


def _take(name: str, step: Step, out: Path, place: Path, limits: Limits) -> dict[str, Path]:
    """Take a step's outputs: the declared ones, all of them, nothing else, and regular files each."""
    kept = place / "made"
    kept.mkdir()
    try:
        found = {path.name for path in out.iterdir()}
        if strange := sorted(found - set(step.outputs)):
            raise BuildFailed(f"step {name!r} left {strange[0][:100]!r} in out, which it does not declare")
        for output in step.outputs:
            if output not in found:
                raise BuildFailed(f"step {name!r} did not make {output!r}")
            status = (out / output).lstat()
            if not stat.S_ISREG(status.st_mode):
                raise BuildFailed(f"step {name!r} made {output!r}, which is no regular file")
            if status.st_size > limits.bytes:
                raise BuildFailed(
                    f"step {name!r} made {output!r} of {status.st_size} bytes, more than its limit"
                )
            _copy(out / output, kept / output, None, f"output {output!r}")
    except OSError:
        raise BuildFailed(f"step {name!r} left something in out that cannot be read") from None
    return {f"{name}/{output}": kept / output for output in step.outputs}


def _still_folders(root: Path, places: list[str]) -> None:
    """Refuse an environment in which a package has put a link where something is to be mounted."""
    for place in places:
        path = root
        for part in place.split("/"):
            path /= part
            if path.is_symlink() or not path.is_dir():
                raise BuildFailed(f"a package of the environment has replaced the folder /{place}")


def _said(done: Ran) -> str:
    return done.output[-400:].strip() or "it printed nothing"
