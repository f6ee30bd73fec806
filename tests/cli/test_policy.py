# SPDX-License-Identifier: Apache-2.0
"""``eaa policy test``: which files are tests, which policy they test, and what the exit status says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import pytest

from eaa.cli._dry_run import dry_run_lines
from eaa.cli._run import run
from eaa.cli.main import cli
from eaa.verifier.dry_run import Comparison

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = 'package policy\n\nimport rego.v1\n\ndefault allow := false\n\nallow if data.plugin == "resource"\n'
GOOD = 'package policy_test\n\nimport rego.v1\n\nimport data.policy\n\ntest_open if { policy.allow with data.plugin as "resource" }\n'
BAD = "package policy_test\n\nimport rego.v1\n\nimport data.policy\n\ntest_shut if { policy.allow }\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "release.rego").write_text(RELEASE)
    (tmp_path / "release_test.rego").write_text(GOOD)
    return tmp_path


def test_a_folder_is_searched_and_a_policy_found_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = folder / "deeper"
    deeper.mkdir()
    (deeper / "other.rego").write_text(RELEASE)
    (deeper / "named_otherwise_test.rego").write_text(GOOD)
    (deeper / "other.case.json").write_text(
        json.dumps([{"data": {"plugin": "resource"}, "expect": {"allow": True}}])
    )
    assert run(cli, "eaa", ["policy", "test", str(folder)]) == 0
    out = click.unstyle(capsys.readouterr().out)
    assert out.count("✓ test_open") == 2
    assert "✓ case 1" in out
    assert f"(policy {deeper / 'other.rego'})" in out
    assert out.endswith("3 passed\n")


def test_a_failure_is_status_1_and_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "more_test.rego").write_text(BAD)
    assert run(cli, "eaa", ["policy", "test", str(folder)]) == 1
    out = click.unstyle(capsys.readouterr().out)
    assert "✗ test_shut: undefined" in out
    assert out.endswith("1 passed, 1 failed\n")


def test_json_has_every_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken_test.rego").write_text("package policy_test\n\ntest_x if {\n")
    assert run(cli, "eaa", ["policy", "test", str(folder), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert [(each["name"], each["outcome"]) for each in answer["tests"]] == [
        ("test_x", "error"),
        ("test_open", "pass"),
    ]
    assert answer["tests"][1]["policy"].endswith("release.rego")


def test_the_policy_may_be_named(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "candidate.txt"
    elsewhere.write_text(RELEASE.replace('"resource"', '"other"'))
    file = str(folder / "release_test.rego")
    assert run(cli, "eaa", ["policy", "test", file]) == 0
    assert run(cli, "eaa", ["policy", "test", file, "--policy", str(elsewhere)]) == 1


def test_a_case_names_its_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "p.rego").write_text(RELEASE)
    (tmp_path / "q.rego").write_text(RELEASE)
    (tmp_path / "r.rego").write_text(RELEASE)
    case = tmp_path / "x.case.json"
    case.write_text(json.dumps({"policy": "sub/p.rego", "expect": {"allow": False}}))
    assert run(cli, "eaa", ["policy", "test", str(case)]) == 0
    capsys.readouterr()
    case.write_text(json.dumps({"expect": {"allow": False}}))
    assert run(cli, "eaa", ["policy", "test", str(case)]) == 1
    assert "cannot be told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a_test.rego", b"\xff"),
        ("a_test.rego", b"package policy_test\n"),
        ("a.case.json", b"{}"),
        ("a.case.json", b"not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_of_its_own(folder: Path, name: str, content: bytes) -> None:
    """One bad file fails the run and keeps no other from being run."""
    (folder / name).write_bytes(content)
    assert run(cli, "eaa", ["policy", "test", str(folder)]) == 1


def test_no_test_is_bad_usage(tmp_path: Path) -> None:
    """Whoever asks for tests and has none is told so, and not that all is well."""
    (tmp_path / "release.rego").write_text(RELEASE)
    for args in ([], [str(tmp_path)], [str(tmp_path / "release.rego")], [str(tmp_path / "nowhere")]):
        assert run(cli, "eaa", ["policy", "test", *args]) == 2


def test_a_dry_run_names_what_changes_and_counts_the_rest() -> None:
    compared = [
        Comparison("v1", "affirming", "contraindicated", claims={"hardware": (2, 97)}),
        Comparison("v2", "allow", "allow", path="a/b/c"),
        Comparison("v3", "allow", "deny", path="a/b/c", reasons=("candidate: the policy failed: x",)),
        Comparison("v4", reasons=("recorded without it",)),
        Comparison("v5", reasons=("recorded without it",)),
    ]
    assert list(dry_run_lines(compared)) == [
        "verdict v1: affirming → contraindicated (hardware 2 → 97)",
        "verdict v3: a/b/c: allow → deny",
        "    candidate: the policy failed: x",
        "2 left out: recorded without it",
        "2 of 3 decisions would change",
    ]
    assert list(dry_run_lines([])) == ["there is nothing on record to ask about"]
    many = [Comparison(f"v{n}", "allow", "deny") for n in range(30)]
    assert "and 10 more; --json shows them all" in list(dry_run_lines(many))
