# SPDX-License-Identifier: Apache-2.0
"""Debian packages of builds: found by name and version, believed for their SHA-256 alone.

They come from a folder that is given, from the cache, or from Debian's archive through this machine's own apt: as it is set up, and, for
another release than the machine's, from the same archives with lists of their own.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from eaa.rats import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eaa.verdict.build_file import Environment, PackageSource

__all__ = ["PackageMissing", "collect", "default_cache"]

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INDEX: Final = re.compile(r"^'([^'\s]+)/dists/([a-z]+)(-security)?/InRelease'", re.MULTILINE)
_APT_SECONDS: Final = 900


class PackageMissing(NotFound):
    """A package that is nowhere to be had in the version that the build file pins."""

    code = "build.package-missing"


def default_cache() -> Path:
    """Return the folder where fetched packages are kept for the next build."""
    return platformdirs.user_cache_path("eaa") / "packages"


def collect(
    packages: Sequence[PackageSource],
    environment: Environment,
    *,
    cache: Path,
    given: Path | None = None,
    say: Callable[[str], None],
) -> dict[PackageSource, Path]:
    """Return a file for each package, fetching into ``cache`` what is in neither folder.

    :raises PackageMissing: when one is nowhere to be had, or what is found under its version is something else.
    """
    missing = [each for each in packages if _present(each, cache, given) is None]
    for attempt in (_download, _download_with_own_lists):
        if missing:
            say(f"fetching {_named(missing)}")
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as work:
                attempt(Path(work), missing, environment)
                for each in missing:
                    _keep(each, Path(work), cache)
            missing = [each for each in missing if _present(each, cache, given) is None]
    if missing:
        raise PackageMissing(
            f"not to be had with the digest that is pinned: {_named(missing)}",
            hint=f"Give a folder that has it with --packages, or let apt know an archive of Debian {environment.release}.",
        )
    found = {each: _present(each, cache, given) for each in packages}
    return {each: path for each, path in found.items() if path is not None}


def _present(package: PackageSource, cache: Path, given: Path | None) -> Path | None:
    candidates = [cache / f"{package.sha256}.deb"]
    if given is not None:
        candidates += sorted(given.glob(f"{package.package}_*.deb"))
    return next((path for path in candidates if path.is_file() and _sha256(path) == package.sha256), None)


def _keep(package: PackageSource, work: Path, cache: Path) -> None:
    for path in sorted(work.glob(f"{package.package}_*.deb")):
        if _sha256(path) == package.sha256:
            path.replace(cache / f"{package.sha256}.deb")


def _download(work: Path, packages: Sequence[PackageSource], environment: Environment) -> None:
    """Fetch as this machine's apt is set up; what it does not know is not there afterwards."""
    for each in packages:
        _apt(work, *_architecture(environment), "download", f"{each.package}={each.version}")


def _download_with_own_lists(work: Path, packages: Sequence[PackageSource], environment: Environment) -> None:
    """Fetch from the same archives, of the release that the build file names, without touching the machine's own lists."""
    if not _KEYRING.is_file():
        return
    for folder in ("lists/partial", "archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text("".join(_sources(environment.release)))
    options = [
        *_architecture(environment),
        *("-o", f"Dir::State={work}", "-o", f"Dir::State::lists={work / 'lists'}"),
        *("-o", f"Dir::State::status={work / 'status'}", "-o", f"Dir::Cache={work}"),
        *("-o", f"Dir::Etc::sourcelist={work / 'sources.list'}", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", "Acquire::Languages=none"),
    ]
    _apt(work, *options, "update")
    for each in packages:
        _apt(work, *options, "download", f"{each.package}={each.version}")


def _sources(release: str) -> Iterator[str]:
    """Give an entry for each archive of Debian that this machine's apt knows."""
    asked = _apt(Path("/"), "update", "--print-uris", quiet=False)
    known = {"stable", "oldstable", release, platform.freedesktop_os_release().get("VERSION_CODENAME")}
    for archive, suite, security in sorted(set(_INDEX.findall(asked))):
        if suite not in known:
            continue
        suites = (f"{release}-security",) if security else (release, f"{release}-updates")
        for each in suites:
            yield f"deb [signed-by={_KEYRING}] {archive} {each} main\n"


def _architecture(environment: Environment) -> tuple[str, ...]:
    return ("-o", f"APT::Architecture={environment.architecture}")


def _apt(work: Path, *arguments: str, quiet: bool = True) -> str:
    """Run apt-get in ``work`` and return what it prints. That it fails shows in what is not there afterwards."""
    program = shutil.which("apt-get")
    if program is None:
        return ""
    user = "root" if os.geteuid() == 0 else str(os.geteuid())
    settings = ["-o", f"APT::Sandbox::User={user}", "-o", "Acquire::Retries=3"]
    command = [program, *(["-qq"] if quiet else []), *settings, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - names and versions are of a form that is no option
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_APT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode(errors="replace")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _named(packages: Sequence[PackageSource]) -> str:
    return ", ".join(f"{each.package}={each.version}" for each in packages)
