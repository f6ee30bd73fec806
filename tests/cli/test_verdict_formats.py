# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict export`` and ``import``: a set goes out in every format and comes back with its values."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from eaa._keys import new_key, read_private_key
from eaa.cli._run import run
from eaa.cli.verdict import verdict
from eaa.verdict.envelope import parse_envelope, seal
from eaa.verdict.reference_set import ReferenceSet, RegisterValue
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"mr_td": ["ab" * 48], "rtmr_1": ["cd" * 48]}
FOUND = ReferenceSet(
    "acme/web",
    1,
    "tdx",
    tuple(RegisterValue(name, tuple(values)) for name, values in VALUES.items()),
    (Artifact.of("firmware", b"OVMF"),),
    datetime(2026, 3, 16, tzinfo=UTC),
)
RIM = b"""<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384">
<Meta xmlns:r="https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/" edition="GPU"
 r:PlatformManufacturerStr="ACME"/><Payload><Resource type="Measurement" index="1" h:Hash0="%s"/></Payload></SoftwareIdentity>
""" % (b"ab" * 48)
SIGNERS = '[keys]\nrelease = "release.pub"\n[products."acme/*"]\nsigners = ["release"]\nthreshold = 1\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a signed set, its key and its signers' file."""
    private, public = new_key()
    (tmp_path / "release").write_bytes(private)
    (tmp_path / "release.pub").write_bytes(public)
    (tmp_path / "signers.toml").write_text(SIGNERS)
    (tmp_path / "set.json").write_bytes(seal(FOUND.to_statement(), [read_private_key(private)]))
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = run(verdict, "eaa verdict", [str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def read_set(path: Path) -> ReferenceSet:
    return ReferenceSet.from_statement(parse_envelope(path.read_bytes()).statement())


def test_a_signed_corim_is_verified_and_comes_back_whole(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    out = folder / "web.corim"
    arguments = (folder / "set.json", "--format", "corim", "--out", out)
    assert call(capsys, "export", *arguments, "--key", folder / "release")[0] == 0
    status, shown, _ = call(capsys, "verify", out, "--signers", folder / "signers.toml")
    assert status == 0
    assert "holds: acme/web version 1" in shown
    assert call(capsys, "export", *arguments)[0] == 0
    status, _, err = call(capsys, "verify", out, "--signers", folder / "signers.toml")
    assert status == 1
    assert "signature.none" in err
    status, _, _ = call(capsys, "import", out, "--out", folder / "back.json")
    assert status == 0
    assert read_set(folder / "back.json") == FOUND
    assert parse_envelope((folder / "back.json").read_bytes()).signatures == ()
    status, _, err = call(capsys, "import", out, "--product", "acme/db", "--out", folder / "other.json")
    assert status == 2
    assert "names its set itself" in err


@pytest.mark.parametrize("more", [("rvps",), ("rvps", "--carry", "corim"), ("json",)])
def test_values_come_back_from_each_format(
    capsys: pytest.CaptureFixture[str], folder: Path, more: tuple[str, ...]
) -> None:
    out, back = folder / "document", folder / "back.json"
    assert call(capsys, "export", folder / "set.json", "--out", out, "--format", *more)[0] == 0
    named = () if "corim" in more else ("--product", "acme/web", "--version", "1", "--tee", "tdx")
    status, shown, _ = call(capsys, "import", out, "--out", back, "--json", *named)
    assert status == 0
    assert json.loads(shown)["reference_values"] == VALUES
    assert read_set(back).reference_values == VALUES
    assert call(capsys, "import", out, "--out", back, *named)[0] == 0


def test_a_message_is_what_trustee_reads(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    out = folder / "message.json"
    assert call(capsys, "export", folder / "set.json", "--format", "rvps", "--out", out)[0] == 0
    message = json.loads(out.read_bytes())
    assert (message["version"], message["type"]) == ("0.1.0", "sample")
    assert json.loads(b64decode(message["payload"])) == VALUES


def test_values_are_renamed_to_registers(
    capsys: pytest.CaptureFixture[str], folder: Path, vectors: Path
) -> None:
    corim = vectors / "corim" / "corim-trustee-unsigned" / "corim.cbor"
    name = "ACME/RoadRunner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests"
    arguments = (
        "import",
        corim,
        "--out",
        folder / "new.json",
        "--product",
        "acme/road",
        "--version",
        "1",
        "--tee",
        "sgx",
    )
    status, shown, err = call(capsys, *arguments, "--name", f"{name}=mr_enclave")
    assert status == 0
    assert shown.startswith("mr_enclave")
    assert "are not read" in err
    assert call(capsys, *arguments, "--name", "mr_enclave")[0] == 2
    assert call(capsys, *arguments, "--name", "a=mr_enclave")[0] == 2


def test_bad_usage_is_refused(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    out = ("--out", folder / "out")
    values = folder / "values.json"
    values.write_text(json.dumps(VALUES))
    for wrong in (
        ("export", folder / "set.json", "--format", "json", "--key", folder / "release", *out),
        ("import", values, *out),
        ("import", values, "--product", "a", "--version", "1", *out),
        ("import", folder / "release", *out),
        ("import", values, "--certificate", folder / "release", *out),
    ):
        status, _, err = call(capsys, *wrong)
        assert status == 2
        assert "error:" in err
    assert not (folder / "out").exists()


def test_a_rim_needs_its_makers_root_or_a_word(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    pytest.importorskip("signxml")
    (folder / "gpu.xml").write_bytes(RIM)
    arguments = (
        "import",
        folder / "gpu.xml",
        "--out",
        folder / "gpu.json",
        "--product",
        "acme/gpu",
        "--version",
        "1",
        "--tee",
        "nvidia",
    )
    status, _, err = call(capsys, *arguments)
    assert status == 1
    assert "--certificate" in err
    status, shown, err = call(capsys, *arguments, "--allow-unsigned")
    assert status == 0
    assert shown.startswith("ACME.GPU.measurement_1")
    assert "not looked at" in err
