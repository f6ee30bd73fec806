# SPDX-License-Identifier: Apache-2.0
"""Where policy tests lie, which policy each of them tests, and how their results are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.rats import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from eaa.verifier.policy import PolicyEngine
    from eaa.verifier.policy_test import TestResult

__all__ = ["FileResults", "find_tests", "result_lines", "run_files"]

REGO: Final = "_test.rego"
CASES: Final = ".case.json"
_MAX_FILES: Final = 10_000
_MARKS: Final = {
    "pass": ("✓", "green"),
    "fail": ("✗", "red"),
    "error": ("✗", "red"),
    "skipped": ("-", "bright_black"),
}


@dataclass(frozen=True, slots=True)
class FileResults:
    """The results of one file of tests, against one policy."""

    file: Path
    policy: Path | None
    results: tuple[TestResult, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return one JSON object for each test."""
        shared = {"file": str(self.file), "policy": None if self.policy is None else str(self.policy)}
        return [
            {**shared, "name": each.name, "outcome": each.outcome.value, "reason": each.reason}
            for each in self.results
        ]


def find_tests(paths: Iterable[Path]) -> list[Path]:
    """Return the files of tests among ``paths`` and in the folders among them, in order of name.

    :raises click.UsageError: when a file is none, or there is none at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            if not path.name.endswith((REGO, CASES)):
                raise click.UsageError(f"{path} is no file of tests: their names end in {REGO} or {CASES}")
            found[path] = None
            continue
        inside = (each for end in (REGO, CASES) for each in path.rglob(f"*{end}"))
        found |= dict.fromkeys(sorted(each for each in inside if each.is_file()))
    if not found or len(found) > _MAX_FILES:
        raise click.UsageError(f"there are {len(found)} files of tests; their names end in {REGO} or {CASES}")
    return list(found)


async def run_files(
    engine: PolicyEngine, files: Sequence[Path], policy: Path | None
) -> tuple[FileResults, ...]:
    """Run every file. One that cannot be read is an error of its own and keeps no other from being run."""
    return tuple([await _run_file(engine, file, policy) for file in files])


async def _run_file(engine: PolicyEngine, file: Path, policy: Path | None) -> FileResults:
    from eaa.verifier.policy_test import Outcome, TestResult, run_rego_tests  # noqa: PLC0415 - as in cli.policy

    tested = policy
    try:
        if not file.name.endswith(REGO):
            return await _run_cases(engine, file, policy)
        tested = policy or _beside(file, file.name.removesuffix(REGO))
        results = await run_rego_tests(engine, _text(tested), _text(file))
    except InputError as error:
        reason = f"{error}. {error.hint}" if error.hint else str(error)
        results = (TestResult(file.name, Outcome.ERROR, reason),)
    return FileResults(file, tested, results)


async def _run_cases(engine: PolicyEngine, file: Path, policy: Path | None) -> FileResults:
    from eaa.verifier.policy_test import parse_cases, run_cases  # noqa: PLC0415 - as above

    results: list[TestResult] = []
    tested = policy
    for case in parse_cases(_read(file)):
        named = file.parent / case.policy if case.policy else None
        tested = policy or named or _beside(file, file.name.removesuffix(CASES))
        results += await run_cases(engine, _text(tested), (case,))
    return FileResults(file, tested, tuple(results))


def _beside(file: Path, name: str) -> Path:
    """Return the policy that a file of tests is about: the one of its own name, or the only one in its folder."""
    own = file.with_name(f"{name}.rego")
    if own.is_file():
        return own
    others = [each for each in sorted(file.parent.glob("*.rego")) if not each.name.endswith(REGO)]
    if len(others) != 1:
        raise ConfigurationError(
            f"which policy {file.name} tests cannot be told: there is no {own.name} beside it",
            hint="Name it with --policy, or in a case by its member policy.",
        )
    return others[0]


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read((4 << 20) + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error


def _text(file: Path) -> str:
    try:
        return _read(file).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8 text") from None


def result_lines(files: Iterable[FileResults]) -> Iterator[str]:
    """Yield a line for each test under its file's name, and a last one that counts them."""
    counts: dict[str, int] = {}
    for each in files:
        yield f"{each.file}" + (f" (policy {each.policy})" if each.policy is not None else "")
        for result in each.results:
            counts[result.outcome] = counts.get(result.outcome, 0) + 1
            mark, colour = _MARKS[result.outcome]
            reason = f": {result.reason}" if result.reason else ""
            yield f"  {click.style(mark, fg=colour)} {result.name}{reason}"
    yield ", ".join(
        f"{counts.get(name, 0)} {word}" for name, word in _COUNTED if name in counts or name == "pass"
    )


_COUNTED: Final = (("pass", "passed"), ("fail", "failed"), ("error", "in error"), ("skipped", "skipped"))
