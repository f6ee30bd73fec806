# SPDX-License-Identifier: Apache-2.0
"""The example's guest from Debian's packages: built, rebuilt by another, agreed on, measured, signed, and attested from exactly these files."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import eaa
from eaa.cli._run import EXIT_OK, EXIT_REJECTED, run
from eaa.cli.main import cli
from eaa.simulator import ChipMaker, SimulatedAttester
from eaa.tee.registry import kind_of
from eaa.verdict.build import Workshop
from eaa.verdict.build_file import parse_build_file
from eaa.verdict.make import Identity, build_into
from eaa.verdict.packages import PackageMissing, collect
from eaa.verdict.sandbox import Sandbox, SandboxUnavailable
from eaa.verdict.signers import open_set, parse_signers
from eaa.verifier.reference import check_reference_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.rats import Appraisal, Check

    Eaa = Callable[..., tuple[int, str]]

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "guest"
CACHE = ROOT / ".cache" / "packages"
PRODUCT = "example/guest"


@pytest.fixture(scope="session")
def packages() -> Path:
    """The example's packages, from the cache or Debian's archive, and a sandbox to use them in."""
    file = parse_build_file((EXAMPLE / "build.toml").read_bytes())
    try:
        Sandbox.find()
        collect(file.packages, file.environment, cache=CACHE, say=lambda _: None)
    except (SandboxUnavailable, PackageMissing) as missing:
        pytest.skip(f"{missing}. {missing.hint}")
    return CACHE


@pytest.fixture
def run_eaa(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Eaa:
    """Run a command as a person does; return its status and what it printed."""
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: str | Path) -> tuple[int, str]:
        status = run(cli, "eaa", [str(word) for word in words])
        captured = capfd.readouterr()
        return status, captured.out + captured.err

    return call


@pytest.fixture
def built(packages: Path, tmp_path: Path) -> Path:
    """The guest, built."""
    file = parse_build_file((EXAMPLE / "build.toml").read_bytes())
    found = collect(file.packages, file.environment, cache=packages, say=lambda _: None)
    workshop = Workshop(Sandbox.find(), EXAMPLE, found, lambda _: None)
    build_into(tmp_path / "dist", file, workshop, Identity.of(None))
    return tmp_path / "dist"


def test_the_guest_comes_out_the_same_elsewhere(packages: Path, run_eaa: Eaa, tmp_path: Path) -> None:
    """Two builders, the second with everything varied, agree on every output's digest."""
    names = {"alpha": "urn:example:alpha", "beta": "urn:example:beta"}
    entries = "".join(
        f'[builders."{uri}"]\nkeys = ["{name}"]\nbuild_types = ["urn:eaa:build:1"]\nsources = ["pkg:deb/debian/*", "file:*"]\n'
        for name, uri in names.items()
    )
    keys = "".join(f'{name} = "{name}.pub"\n' for name in names)
    (tmp_path / "builders.toml").write_text(f"[keys]\n{keys}{entries}")
    for name in names:
        assert run_eaa("verdict", "key", "new", tmp_path / name)[0] == EXIT_OK
    one, other = tmp_path / "one", tmp_path / "other"

    def by(name: str) -> tuple[str | Path, ...]:
        return ("--key", tmp_path / name, "--builder", names[name], "--cache", packages)

    assert run_eaa("verdict", "build", EXAMPLE / "build.toml", "--out", one, *by("alpha"))[0] == EXIT_OK
    provenance = one / "provenance.dsse.json"
    status, said = run_eaa(
        "verdict", "rebuild", provenance, "--sources", EXAMPLE, "--out", other, *by("beta")
    )
    assert (status, "reproducible: every output is the same, bit by bit" in said) == (EXIT_OK, True), said
    status, said = run_eaa(
        *("verdict", "compare", provenance, other / "provenance.dsse.json"),
        *("--builders", tmp_path / "builders.toml", "--artifact", one / "initrd"),
    )
    assert (status, "2 builders agree" in said) == (EXIT_OK, True), said


def test_a_clock_in_the_initrd_is_found_out(packages: Path, run_eaa: Eaa, tmp_path: Path) -> None:
    """Break reproducibility on purpose: the rebuild is refused, and the report shows the file within the archive."""
    if shutil.which("diffoscope") is None:
        pytest.skip("diffoscope is not installed: apt-get install diffoscope-minimal")
    broken = tmp_path / "broken"
    shutil.copytree(EXAMPLE, broken)
    pack = (broken / "pack").read_text().replace("cd tree\n", "date +%s >tree/built-at\ncd tree\n")
    text = (broken / "build.toml").read_text()
    digest = sha256((broken / "pack").read_bytes()).hexdigest()
    (broken / "pack").write_text(pack)
    (broken / "build.toml").write_text(text.replace(digest, sha256(pack.encode()).hexdigest()))
    again = tmp_path / "again"
    status, said = run_eaa("verdict", "rebuild", broken / "build.toml", "--out", again, "--cache", packages)
    assert status == EXIT_REJECTED
    assert re.search(r"initrd differs, first at byte \d+", said)
    assert "kernel differs" not in said
    assert "built-at" in said
    report = json.loads((again / "rebuild.json").read_text())
    assert [each["output"] for each in report["differences"]] == ["initrd"]
    assert b"built-at" in (again / "rebuild.initrd.html").read_bytes()


async def attested(built: Path, maker_folder: Path, at: datetime) -> Appraisal:
    """What the verifier makes of a simulated guest that is booted from the files in ``built``."""
    settings: dict[str, Any] = {
        "vendor": maker_folder,
        "firmware": built / "firmware",
        "kernel": built / "kernel",
        "initrd": built / "initrd",
        "cmdline": (built / "cmdline").read_text(),
    }
    maker = ChipMaker.load(maker_folder)
    evidence = kind_of("tdx").from_kbs(await SimulatedAttester(settings).collect(b"challenge"))
    return eaa.Verifier([maker.trust_anchor()]).verify(
        evidence, maker.collateral("tdx", at), at=at, report_data=b"challenge"
    )


@pytest.mark.anyio
async def test_what_was_built_is_what_attests(built: Path, run_eaa: Eaa, tmp_path: Path) -> None:
    """Built, measured, signed; a simulated guest booted from exactly these files is accepted, and one changed byte is not."""
    at = datetime.now(UTC).replace(microsecond=0)
    maker_folder = tmp_path / "maker"
    ChipMaker.load_or_create(maker_folder / "simulator", at)
    assert run_eaa("sim", "acpi", tmp_path / "acpi")[0] == EXIT_OK
    assert run_eaa("verdict", "key", "new", tmp_path / "release")[0] == EXIT_OK
    status, said = run_eaa(
        *("verdict", "measure", "--product", PRODUCT, "--version", "1", "--tee", "tdx"),
        *("--firmware", built / "firmware", "--kernel", built / "kernel", "--initrd", built / "initrd"),
        *("--cmdline", (built / "cmdline").read_text(), "--memory", "2G", "--acpi", tmp_path / "acpi"),
        *("--provenance", built / "provenance.dsse.json"),
        *("--key", tmp_path / "release", "--out", tmp_path / "set.json"),
    )
    assert status == EXIT_OK, said
    policy = parse_signers(
        f'[keys]\nrelease = "release.pub"\n[products."{PRODUCT}"]\nsigners = ["release"]\nthreshold = 1\n'.encode(),
        lambda name: (tmp_path / name).read_bytes(),
    )
    signed = open_set((tmp_path / "set.json").read_bytes(), policy, at).set
    assert signed.provenance == (sha256((built / "provenance.dsse.json").read_bytes()).hexdigest(),)

    def checks(appraisal: Appraisal) -> tuple[Check, ...]:
        return check_reference_values(appraisal, signed.reference_values)

    appraisal = await attested(built, maker_folder, at)
    appraisal.accept()
    assert not [check.id for check in checks(appraisal) if check.blocks]
    changed = tmp_path / "changed"
    shutil.copytree(built, changed)
    initrd = bytearray((changed / "initrd").read_bytes())
    initrd[len(initrd) // 2] ^= 1
    (changed / "initrd").write_bytes(initrd)
    refused = checks(await attested(changed, maker_folder, at))
    assert [check.id for check in refused if check.blocks] == ["reference.tdx.rtmr_2"]
