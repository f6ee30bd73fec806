# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict`` on files: from artefacts to a signed set, and what is refused on the way."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from eaa._keys import key_id, read_private_key, read_public_key
from eaa.cli._run import run
from eaa.cli.verdict import verdict
from eaa.verdict.envelope import parse_envelope, seal
from eaa.verdict.provenance import BUILD_TYPE, Provenance
from eaa.verdict.statement import Artifact, Statement

BUNDLE = Path(__file__).parents[1] / "verdict" / "data" / "pypi-attestations-0.0.19.slsa.sigstore.json"
Measure = Callable[..., tuple[int, str, str]]


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = run(verdict, "eaa verdict", [str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_new_key_is_for_its_owner_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for kind in ("ed25519", "p256"):
        path = tmp_path / kind
        status, out, _ = call(capsys, "key", "new", path, "--kind", kind, "--json")
        made = json.loads(out)
        assert status == 0
        assert path.stat().st_mode & 0o777 == 0o600
        public = read_public_key((tmp_path / f"{kind}.pub").read_bytes())
        assert read_private_key(path.read_bytes()).public_key() == public
        assert made["key_id"] == key_id(public)


def test_a_key_is_never_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "release"
    assert call(capsys, "key", "new", path)[0] == 0
    before = path.read_bytes(), (tmp_path / "release.pub").read_bytes()
    status, out, err = call(capsys, "key", "new", path)
    assert (status, out) == (2, "")
    assert "File exists" in err
    assert (path.read_bytes(), (tmp_path / "release.pub").read_bytes()) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["release", "release.pub"]


AT = "2026-06-01T00:00:00Z"
SIGNERS = """
[keys]
release = "release.pub"
security = "security.pub"
[products."acme/*"]
signers = ["release", "security"]
threshold = 2
"""


@pytest.fixture
def signed(capsys: pytest.CaptureFixture[str], tmp_path: Path, boot_files: Path) -> Measure:
    """A folder with two keys and their signers' file; calling it measures into ``set.json`` there."""
    for name in ("release", "security"):
        assert call(capsys, "key", "new", tmp_path / name)[0] == 0
    (tmp_path / "signers.toml").write_text(SIGNERS)

    def measure(*more: str, key: str = "release", version: int = 1) -> tuple[int, str, str]:
        return call(
            capsys, "measure", "--product", "acme/web", "--version", str(version), "--tee", "tdx",
            "--firmware", boot_files / "OVMF.fd", "--kernel", boot_files / "vmlinuz",
            "--initrd", boot_files / "initrd.img", "--cmdline", "quiet", "--expires", "2027-01-01T00:00:00Z",
            "--issued", "2026-05-01T00:00:00Z", "--key", tmp_path / key, "--out", tmp_path / "set.json", *more,
        )  # fmt: skip

    return measure


def test_one_command_signs_what_artefacts_measure_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, boot_files: Path, signed: Measure
) -> None:
    status, out, _ = signed("--json", "--register", f"mr_config_id={'AB' * 48}")
    assert status == 0
    made = json.loads(out)
    assert set(made["reference_values"]) == {"mr_td", "rtmr_1", "rtmr_2", "mr_config_id"}
    assert made["reference_values"]["mr_config_id"] == ["ab" * 48]
    assert any("rtmr_0" in note and "--register" in note for note in made["notes"])
    status, out, _ = call(capsys, "show", tmp_path / "set.json", "--json")
    shown = json.loads(out)
    assert shown["digest"] == made["digest"]
    inputs = {each["register"]: [one["name"] for one in each["inputs"]] for each in shown["registers"]}
    assert inputs["mr_td"] == ["firmware"]
    assert {"cmdline", "initrd"} <= set(inputs["rtmr_2"])
    digests = {each["name"]: each["digest"]["sha256"] for each in shown["artifacts"]}
    assert digests["initrd"] == sha256((boot_files / "initrd.img").read_bytes()).hexdigest()
    assert digests["cmdline"] == sha256(b"quiet").hexdigest()
    assert digests.keys() == {"firmware", "kernel", "initrd", "cmdline"}


def test_measuring_again_changes_nothing_and_adds_what_is_missing(tmp_path: Path, signed: Measure) -> None:
    path = tmp_path / "set.json"
    assert signed()[0] == 0
    before = path.read_bytes()
    assert signed("--issued", "2026-05-02T00:00:00Z")[0] == 0
    assert path.read_bytes() == before
    assert signed(key="security")[0] == 0
    assert len(json.loads(path.read_bytes())["signatures"]) == 2


def test_a_version_is_never_used_twice(tmp_path: Path, signed: Measure) -> None:
    assert signed()[0] == 0
    before = (tmp_path / "set.json").read_bytes()
    status, _, err = signed("--note", "something else")
    assert status == 2
    assert "with other content" in err
    assert "--version 2" in err
    assert (tmp_path / "set.json").read_bytes() == before
    assert signed("--note", "something else", version=2)[0] == 0


def test_a_set_holds_once_enough_have_signed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, signed: Measure
) -> None:
    path, signers = tmp_path / "set.json", tmp_path / "signers.toml"
    assert signed()[0] == 0
    status, _, err = call(capsys, "verify", path, "--signers", signers, "--at", AT)
    assert status == 1
    assert "signature.threshold" in err
    assert "security" in err
    for _ in range(2):  # a second time is no second signature
        assert call(capsys, "sign", path, "--key", tmp_path / "security")[0] == 0
        assert len(json.loads(path.read_bytes())["signatures"]) == 2
    status, out, _ = call(capsys, "verify", path, "--signers", signers, "--at", AT, "--json")
    assert status == 0
    assert json.loads(out)["signed_by"] == ["release", "security"]
    assert "holds: acme/web" in call(capsys, "verify", path, "--signers", signers, "--at", AT)[1]
    status, _, err = call(capsys, "verify", path, "--signers", signers, "--at", "2027-01-01T00:00:00Z")
    assert status == 1
    assert "set.expired" in err


def test_what_is_shown_says_everything_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, signed: Measure
) -> None:
    assert signed("--note", "the spring release", "--supersedes", "1", version=2)[0] == 0
    status, out, _ = call(capsys, "show", tmp_path / "set.json")
    assert status == 0
    for part in (
        "acme/web version 2 for tdx",
        "version 1",
        "the spring release",
        "mr_td",
        "from cmdline",
        "not verified",
    ):
        assert part in out


def test_a_signature_can_go_into_another_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, signed: Measure
) -> None:
    assert signed()[0] == 0
    before = (tmp_path / "set.json").read_bytes()
    arguments = ("--key", tmp_path / "security", "--out", tmp_path / "both.json", "--json")
    status, out, _ = call(capsys, "sign", tmp_path / "set.json", *arguments)
    assert status == 0
    assert json.loads(out)["signatures"] == 2
    assert (tmp_path / "set.json").read_bytes() == before


def test_sgx_and_snp_sets_are_made_alike(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, signed: Measure
) -> None:
    (tmp_path / "enclave.sgxs").write_bytes(ecreate())
    common = (
        "--product",
        "acme/enclave",
        "--version",
        "1",
        "--key",
        tmp_path / "release",
        "--out",
        tmp_path / "e",
    )
    status, out, _ = call(capsys, "measure", "--tee", "sgx", "--sgxs", tmp_path / "enclave.sgxs", *common)
    assert status == 0
    assert out.startswith("mr_enclave")
    for wrong in (
        ("--tee", "snp"),
        ("--tee", "sgx"),
        ("--tee", "sgx", "--cmdline", "a"),
        ("--tee", "snp", "--firmware", tmp_path / "enclave.sgxs", "--vcpus", "1", "--mode", "sev-es"),
        ("--tee", "sgx", "--sgxs", tmp_path / "enclave.sgxs", "--register", "mr_signer"),
    ):
        status, _, err = call(capsys, "measure", *wrong, *common)
        assert status == 2
        assert "usage" in err


def test_provenance_must_be_about_what_is_measured(tmp_path: Path, boot_files: Path, signed: Measure) -> None:
    kernel = Artifact.of("linux", (boot_files / "vmlinuz").read_bytes())
    ours, others = (
        seal(Statement((artifact,), "https://slsa.dev/provenance/v1", {}), [])
        for artifact in (kernel, Artifact.of("linux", b"another"))
    )
    (tmp_path / "ours").write_bytes(ours)
    (tmp_path / "others").write_bytes(others)
    status, _, err = signed("--provenance", str(tmp_path / "others"))
    assert status == 2
    assert "about none of the artifacts" in err
    assert signed("--provenance", str(tmp_path / "ours"))[0] == 0
    statement = parse_envelope((tmp_path / "set.json").read_bytes()).statement()
    assert statement.predicate["provenance"] == [sha256(ours).hexdigest()]


def provenance_of(key: Path, content: bytes, builder: str = "urn:alpha", more: bytes | None = None) -> bytes:
    outputs = [Artifact.of("linux", content), *([Artifact.of("extra", more)] if more is not None else [])]
    said = Provenance(
        builder=builder, build_type=BUILD_TYPE, outputs=tuple(outputs), dependencies=(), external={}, internal={},
    )  # fmt: skip
    return seal(said.to_statement(), [read_private_key(key.read_bytes())])


def test_trusted_builders_provenance_is_verified_and_recorded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, boot_files: Path, signed: Measure
) -> None:
    kernel = (boot_files / "vmlinuz").read_bytes()
    for name in ("alpha", "mallory"):
        assert call(capsys, "key", "new", tmp_path / name)[0] == 0
    builders = tmp_path / "builders.toml"
    builders.write_text(
        '[keys]\na = "alpha.pub"\n[builders."urn:alpha"]\nkeys = ["a"]\n'
        f'build_types = ["{BUILD_TYPE}"]\nsources = ["*"]\n'
    )
    proof = tmp_path / "proof"
    given = ("--provenance", str(proof), "--builders", str(builders))
    for data, reason in (
        (provenance_of(tmp_path / "mallory", kernel), "no key or identity of that builder signed it"),
        (provenance_of(tmp_path / "alpha", kernel, "urn:beta"), "who is not trusted"),
        (provenance_of(tmp_path / "alpha", b"another"), "about none of the artifacts"),
        (seal(parse_envelope(provenance_of(tmp_path / "alpha", kernel)).statement(), []), "signed it"),
    ):
        proof.write_bytes(data)
        status, _, err = signed(*given)
        assert status in {1, 2}
        assert reason in err
        assert not (tmp_path / "set.json").exists()
    proof.write_bytes(provenance_of(tmp_path / "alpha", kernel))
    assert signed("--builders", str(builders))[0] == 2
    status, out, _ = signed(*given)
    assert status == 0
    assert "kernel        built by urn:alpha" in out
    statement = parse_envelope((tmp_path / "set.json").read_bytes()).statement()
    assert statement.predicate["builtBy"] == [
        {
            "artifact": "kernel",
            "builder": "urn:alpha",
            "provenance": sha256(proof.read_bytes()).hexdigest(),
        }
    ]
    assert "built by urn:alpha" in call(capsys, "show", tmp_path / "set.json")[1]


def test_as_many_builders_as_are_asked_for_must_agree(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, boot_files: Path, signed: Measure
) -> None:
    """One builder is too few for two, however often it built; one that made more than the others disagrees; two alike suffice."""
    kernel = (boot_files / "vmlinuz").read_bytes()
    builders = tmp_path / "builders.toml"
    text = ""
    keys = ""
    for name in ("alpha", "beta"):
        assert call(capsys, "key", "new", tmp_path / name)[0] == 0
        keys += f'{name} = "{name}.pub"\n'
        text += (
            f'[builders."urn:{name}"]\nkeys = ["{name}"]\nbuild_types = ["{BUILD_TYPE}"]\nsources = ["*"]\n'
        )
        (tmp_path / f"{name}.proof").write_bytes(provenance_of(tmp_path / name, kernel, f"urn:{name}"))
    builders.write_text(f"[keys]\n{keys}{text}")
    alpha, beta = (("--provenance", str(tmp_path / f"{name}.proof")) for name in ("alpha", "beta"))
    given = ("--builders", str(builders), "--agree", "2")
    status, _, err = signed(*alpha, *given)
    assert status == 1
    assert "1 independent builders made it, 2 must" in err
    assert not (tmp_path / "set.json").exists()
    assert signed("--agree", "2")[0] == 2
    agreed = (tmp_path / "beta.proof").read_bytes()
    (tmp_path / "beta.proof").write_bytes(provenance_of(tmp_path / "beta", kernel, "urn:beta", more=b"other"))
    status, _, err = signed(*alpha, *beta, *given)
    assert status == 1
    assert "builders disagree on extra" in err
    (tmp_path / "beta.proof").write_bytes(agreed)
    status, out, _ = signed(*alpha, *beta, *given)
    assert status == 0
    assert "urn:alpha" in out
    assert "urn:beta" in out


def test_a_sigstore_bundle_is_provenance(tmp_path: Path, boot_files: Path, signed: Measure) -> None:
    """A real bundle about something else is read and refused for what it is about, with builders for who signed it."""
    pytest.importorskip("sigstore", reason="sigstore is not installed")
    status, _, err = signed("--provenance", str(BUNDLE))
    assert status == 2
    assert "pypi_attestations-0.0.19.tar.gz' is about none of the artifacts" in err
    builders = tmp_path / "builders.toml"
    builders.write_text(
        '[builders."urn:b"]\nidentities = [{identity = "me@example.com", issuer = "https://example.com"}]\n'
        'build_types = ["x"]\nsources = ["*"]\n'
    )
    status, _, err = signed("--provenance", str(BUNDLE), "--builders", str(builders))
    assert status == 1
    assert "sigstore.identity" in err
    kernel = Artifact.of("linux", (boot_files / "vmlinuz").read_bytes())
    ours = seal(Statement((kernel,), "https://slsa.dev/provenance/v1", {}), [])
    wrapped = json.dumps({"verificationMaterial": {}, "dsseEnvelope": json.loads(ours)})
    (tmp_path / "bundle").write_text(wrapped)
    assert signed("--provenance", str(tmp_path / "bundle"))[0] == 0


def test_a_signers_file_that_cannot_be_used_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, signed: Measure
) -> None:
    assert signed()[0] == 0
    (tmp_path / "security.pub").unlink()
    status, _, err = call(capsys, "verify", tmp_path / "set.json", "--signers", tmp_path / "signers.toml")
    assert status == 2
    assert "security.pub" in err
    assert "beside" in err


def ecreate() -> bytes:
    """The shortest SGXS stream: an enclave of two pages, both empty."""
    return b"ECREATE\0" + struct.pack("<IQ44x", 1, 8192)
