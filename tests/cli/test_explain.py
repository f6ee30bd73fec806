# SPDX-License-Identifier: Apache-2.0
"""What a person is told about evidence and verdicts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha384
from typing import TYPE_CHECKING, Any

import click
import pytest

from eaa.cli._render import appraisal_lines, verdict_lines
from eaa.cli._run import run
from eaa.cli.main import cli
from eaa.rats import Rule, Stage
from eaa.simulator import ChipMaker, mint, to_common_form

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = "0b1d7b5e-6a0c-4a55-8f0e-0e6a3d6f0c11"


def rule(stage: Stage, name: str) -> Rule:
    return Rule(f"{stage}.{name}", stage, f"Title of {name}", "Some specification", f"Mend {name}.")


def appraisal(*checks: Any, accepted: bool = False) -> dict[str, Any]:
    return {
        "accepted": accepted,
        "tee": "tdx",
        "at": "2026-11-23T12:00:00Z",
        "tcb_status": "UpToDate",
        "simulated": False,
        "checks": [check.to_json() for check in checks],
    }


CHECKS = (
    rule(Stage.AUTHENTICITY, "signature").passed("good", "good"),
    rule(Stage.AUTHENTICITY, "list").not_made("a list", "none"),
    rule(Stage.BINDING, "nonce").passed("n", "n"),
    rule(Stage.POSTURE, "advisories").warned("none", "INTEL-SA-1"),
    rule(Stage.POSTURE, "debug").failed("DEBUG=0", "DEBUG=1"),
    rule(Stage.REFERENCE, "spare").not_applicable("no reference value"),
)


def test_checks_are_a_tree_with_the_reasons_first() -> None:
    """Questions with something in the way come first, each with its counts; in each the worst check comes first."""
    lines = [click.unstyle(line) for line in appraisal_lines(appraisal(*CHECKS), full=False) if line]
    assert lines[0] == "REJECTED"
    headings = [line for line in lines[2:] if not line.startswith(" ")]
    assert headings == [
        "Is it real? 1 not made, 1 passed",
        "Is it in a state its owner may rely on? 1 failed, 1 to be read",
        "Is it the answer to this challenge? 1 passed",
        "Is it the software that the owner expects? 1 not applicable",
    ]
    at = lines.index(headings[1])
    assert lines[at + 1].startswith("  ✗ posture.debug")
    assert [line.strip() for line in lines[at + 2 : at + 6]] == [
        "expected: DEBUG=0",
        "found:    DEBUG=1",
        "source:   Some specification",
        "remedy:   Mend debug.",
    ]
    assert lines[at + 6].startswith("  ! posture.advisories")
    assert "good" not in "\n".join(lines)
    assert "      expected: good" in list(appraisal_lines(appraisal(*CHECKS), full=True))


def test_text_of_strangers_does_not_steer_the_terminal() -> None:
    """Control characters in what evidence spells are replaced."""
    lines = "\n".join(
        appraisal_lines(appraisal(rule(Stage.BINDING, "x").failed("\x1b]0;owned\x07", "a\rb")), full=True)
    )
    assert "\x1b]" not in lines
    assert not {"\x07", "\r"} & set(lines)


def test_a_verdict_names_itself_its_request_its_policy_and_what_was_released() -> None:
    record = {
        "id": ID,
        "request_id": "req",
        "document": {
            "status": "warning",
            "trust_vector": {"hardware": 97, "executables": 0},
            "policy_id": "default",
            "policy_digest": "ab" * 48,
            "appraisal": appraisal(CHECKS[0], accepted=True),
        },
        "releases": [{"path": "a/b/c", "resource_version": 2, "at": "2026-11-23T12:00:01Z"}],
    }
    lines = [click.unstyle(line).strip() for line in verdict_lines(record, full=True)]
    assert lines[0] == "ACCEPTED"
    assert f"verdict {ID}, request req" in lines
    assert "status warning: hardware 97" in lines
    assert "policy default, SHA-384 abababababababab…" in lines
    assert "released a/b/c version 2 at 2026-11-23T12:00:01Z" in lines


def test_a_verdict_on_unreadable_evidence_says_why() -> None:
    error = {"message": "a quote of 3 bytes", "check": "evidence.format"}
    lines = list(
        verdict_lines({"id": ID, "document": {"status": "contraindicated", "error": error}}, full=True)
    )
    assert click.unstyle(lines[0]) == "REJECTED"
    assert "a quote of 3 bytes (evidence.format)" in lines[1]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quote of an out-of-date platform, with its collateral and root."""
    folder = tmp_path_factory.mktemp("case")
    minted = mint(ChipMaker.create(AT), "tdx", b"\x00\xff", at=AT, faults=("stale-tcb",))
    (folder / "quote.bin").write_bytes(minted.quote)
    (folder / "root.der").write_bytes(minted.root_der)
    (folder / "collateral.json").write_text(json.dumps(to_common_form(minted.endorsements)))
    return folder


def explained(case: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    files = ["--endorsements", str(case / "collateral.json"), "--root", str(case / "root.der")]
    args = ["explain", str(case / "quote.bin"), "--tee", "tdx", "--at", AT.isoformat(), *files, *options]
    assert run(cli, "eaa", args) == 0
    return capsys.readouterr().out


def test_evidence_is_explained_with_numbers(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An out-of-date platform is told which component misses which level by how much."""
    text = explained(case, capsys)
    assert "TDX evidence; unverified" in text
    assert (
        "OutOfDate; for UpToDate of 2024-11-13, SGX component 1 (Early Microcode Update, BIOS) is 2, needs 3"
        in text
    )
    assert "TDX component 3 (TDX Late Microcode Update, OS/VMM) is 2, needs 3" in text


def test_a_verdict_in_a_file_is_explained_in_both_views(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "verdict.json"
    file.write_text(explained(case, capsys, "--json"))
    assert run(cli, "eaa", ["explain", str(file)]) == 0
    assert "✗ dcap.tcb.status" in capsys.readouterr().out
    assert run(cli, "eaa", ["explain", str(file), "--view", "guest", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert "claims" not in seen
    assert next(check for check in seen["checks"] if check["id"] == "dcap.tcb.status")["found"]


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"checks": []}',
        '{"checks": 1, "accepted": true, "tee": "", "at": ""}',
        '{"accepted": true, "tee": "", "at": "", "checks": [{"id": "a", "result": "fine", "title": "", "source": "", "remedy": ""}]}',
        '{"document": {"document": 7}}',
    ],
)
def test_other_json_is_no_verdict(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    assert run(cli, "eaa", ["explain", str(file)]) == 2
    assert "no verdict" in capsys.readouterr().err


@pytest.mark.parametrize("args", [[], ["x", "--list"], [ID], ["--list"], ["no-such-file"]])
def test_nothing_to_explain_is_bad_usage(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EAA_DATA", raising=False)
    assert run(cli, "eaa", ["explain", *args]) == 2


def test_a_file_named_like_an_id_is_a_file(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ID).write_text(explained(case, capsys, "--json"))
    monkeypatch.chdir(tmp_path)
    assert run(cli, "eaa", ["explain", ID]) == 0


@pytest.mark.parametrize(("launched", "status"), [(True, 0), (False, 1)])
def test_init_data_can_be_required(
    launched: bool,  # noqa: FBT001 - pytest passes parameters by name
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`eaa verify --init-data` compares the digest with the field of the evidence."""
    text = b"version = '0.1.0'\nalgorithm = 'sha384'\n[data]\n"
    (tmp_path / "initdata.toml").write_bytes(text)
    registers = {"mr_config_id": sha384(text).digest()} if launched else None
    minted = mint(ChipMaker.create(AT), "tdx", b"\x01", at=AT, registers=registers)
    (tmp_path / "quote.bin").write_bytes(minted.quote)
    (tmp_path / "root.der").write_bytes(minted.root_der)
    (tmp_path / "collateral.json").write_text(json.dumps(to_common_form(minted.endorsements)))
    files = ["--endorsements", str(tmp_path / "collateral.json"), "--root", str(tmp_path / "root.der")]
    options = ["--tee", "tdx", "--at", AT.isoformat(), "--report-data", "01", *files]
    init_data = ["--init-data", str(tmp_path / "initdata.toml")]
    args = ["verify", str(tmp_path / "quote.bin"), *options, *init_data]
    assert run(cli, "eaa", args) == status
    assert ("✓" if launched else "✗") + " binding.init-data" in capsys.readouterr().out
    (tmp_path / "initdata.toml").write_bytes(b"\xff")
    assert run(cli, "eaa", args) == 2
