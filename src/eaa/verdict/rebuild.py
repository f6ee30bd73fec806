# SPDX-License-Identifier: Apache-2.0
"""Rebuilds: a build once more under other conditions, compared bit by bit, and what differs said by diffoscope."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eaa.verdict.build_file import Limits
from eaa.verdict.conditions import varied
from eaa.verdict.delivery import sha256_of
from eaa.verdict.make import make
from eaa.verdict.sandbox import Cell, LimitExceeded, Mount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from eaa.verdict.build import Workshop
    from eaa.verdict.build_file import BuildFile
    from eaa.verdict.conditions import Variation
    from eaa.verdict.make import Made
    from eaa.verdict.sandbox import Sandbox

__all__ = ["Difference", "Rebuild", "first_difference", "rebuild"]

_CLOCK_STEP: Final = 2.0  # seconds: the coarsest clock in common use, FAT's, counts in these
_CHUNK: Final = 1 << 20
_REPORTING: Final = Limits(seconds=300, bytes=64 << 20, files=100_000, memory=8 << 30)
_REPORT_BYTES: Final = 4 << 20
_EXCERPT: Final = 2000
_NO_DIFFOSCOPE: Final = "diffoscope is not installed, so that is all: apt-get install diffoscope-minimal"
_NO_ORIGINAL: Final = (
    "the original is not beside the provenance, so that its digest is all there is to compare"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An output that came out differently: where it first differs, if the original is at hand, and what differs."""

    output: str
    expected: str
    found: str
    offset: int | None
    report: str

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {name: getattr(self, name) for name in ("output", "expected", "found", "offset", "report")}


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What a rebuild found: under which variations, what differs, and the reports to keep, by file name."""

    made: Made
    variations: tuple[Variation, ...]
    differences: tuple[Difference, ...]
    reports: dict[str, bytes]

    @property
    def reproducible(self) -> bool:
        """Whether every output is the same, bit by bit."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "reproducible": self.reproducible,
            "variations": [
                {"name": each.name, "applied": each.applied, "how": each.how} for each in self.variations
            ],
            "outputs": {each.name: each.sha256 for each in self.made.provenance.outputs},
            "differences": [each.to_json() for each in self.differences],
        }


def rebuild(
    file: BuildFile,
    workshop: Workshop,
    stage: Path,
    builder: str,
    expected: Mapping[str, str],
    originals: Mapping[str, Path],
    cores: int,
) -> Rebuild:
    """Build again with everything varied that must not matter, and compare with ``expected``: SHA-256 by output.

    :param originals: the outputs that are at hand, to tell what differs.
    :raises BuildFailed: and the like, as :meth:`Workshop.build` does.
    """
    conditions, variations = varied(file, cores=cores)
    time.sleep(_CLOCK_STEP)  # no clock that is built in may show the same as before
    made = make(file, workshop, stage / "rebuild", builder, conditions, variations)
    differences: list[Difference] = []
    reports: dict[str, bytes] = {}
    for name, path in made.files.items():
        found = sha256_of(path)
        if found == expected.get(name):
            continue
        offset, text = None, _NO_ORIGINAL
        if (original := originals.get(name)) is not None:
            offset = first_difference(original, path)
            text, files = _diffoscope(workshop.sandbox, name, original, path, stage)
            reports |= files
        differences.append(
            Difference(output=name, expected=expected.get(name, ""), found=found, offset=offset, report=text)
        )
    return Rebuild(made, variations, tuple(differences), reports)


def first_difference(one: Path, other: Path) -> int | None:
    """Return the offset of the first byte that two files have differently, the shorter one's end included; none if they are the same."""
    offset = 0
    with one.open("rb") as first, other.open("rb") as second:
        while True:
            left, right = first.read(_CHUNK), second.read(_CHUNK)
            if left != right:
                pairs = enumerate(zip(left, right, strict=False))
                return offset + next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
            if not left:
                return None
            offset += len(left)


def _diffoscope(
    sandbox: Sandbox, name: str, original: Path, found: Path, stage: Path
) -> tuple[str, dict[str, bytes]]:
    """Return the beginning of diffoscope's report, and the whole as files. It takes outputs apart, so it runs in the sandbox."""
    if shutil.which("diffoscope") is None:
        return _NO_DIFFOSCOPE, {}
    place = sandbox.folder(stage / f"report-{name}")
    kept, temporary = sandbox.own(place / "report"), sandbox.own(place / "tmp")
    mounts = [Mount(kept, "/report", writable=True), Mount(temporary, "/tmp", writable=True)]  # noqa: S108 - its own
    for folder, path in (("expected", original), ("found", found)):
        copy = sandbox.folder(place / folder) / name
        shutil.copyfile(path, copy)
        copy.chmod(0o444)
        mounts.append(Mount(copy.parent, f"/{folder}"))
    cell = Cell(mounts=tuple(mounts), variables={"HOME": "/tmp", "LC_ALL": "C.UTF-8"})  # noqa: S108 - its own
    options = [f"--max-report-size={_REPORT_BYTES}", "--text=/report/text", "--html=/report/html"]
    try:
        done = sandbox.run(
            cell,
            ["diffoscope", *options, f"/expected/{name}", f"/found/{name}"],
            _REPORTING,
            seconds=_REPORTING.seconds,
        )
    except LimitExceeded as exceeded:
        return f"diffoscope was ended: {exceeded}", {}
    files = {
        f"rebuild.{name}.{end}": _bounded(kept / kind) for end, kind in (("txt", "text"), ("html", "html"))
    }
    text = files[f"rebuild.{name}.txt"].decode(errors="replace")
    return text[:_EXCERPT] or f"diffoscope says nothing: {done.output[-300:]}", files


def _bounded(path: Path) -> bytes:
    """Read a report that a confined program has left: a regular file, or nothing."""
    if path.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4 * _REPORT_BYTES)
