# SPDX-License-Identifier: Apache-2.0
"""``eaa measure``: JSON that the import of reference values takes, exit statuses, options that do not go together."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.verifier.reference import index_reference_values

if TYPE_CHECKING:
    from pathlib import Path

TDVF = "e47a6535-984a-4798-865e-4685a7bf8ec2"
SEV = "dc886566-984a-4798-a75e-5585a7bf67cc"
RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(measure, "eaa measure", arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def image(firmware: Any, tmp_path: Path) -> str:
    """A firmware for TDX and SEV-SNP."""
    sections = (
        (0x2000, 0x6000, 0xFFFFA000, 0x6000, 0, 1),
        (0, 0x2000, 0xFFFF8000, 0x2000, 1, 0),
        (0, 0, 0x809000, 0x2000, 2, 0),
    )
    body = b"".join(struct.pack("<IIQQII", *section) for section in sections)
    tdvf = struct.pack("<4sIII", b"TDVF", 16 + len(body), 1, len(sections)) + body
    sev = struct.pack("<4sIIIIII", b"ASEV", 28, 1, 1, 0x80D000, 0x1000, 2)
    entries = {
        TDVF: struct.pack("<I", 0x800),
        SEV: struct.pack("<I", 0xA00),
        RESET: struct.pack("<I", 0x80B004),
    }
    path = tmp_path / "OVMF.fd"
    path.write_bytes(firmware(0x8000, entries, {0x800: tdvf, 0xA00: sev}))
    return str(path)


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    header = bytearray(0x1000)
    header[:2], header[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    header[0x80:0x98] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 0, 0, 0, 0, 240, 0)
    struct.pack_into("<H", header, 0x98, 0x20B)
    struct.pack_into("<I", header, 0x98 + 60, 0x400)
    path = tmp_path / "vmlinuz"
    path.write_bytes(bytes(header))
    return str(path)


def test_json_is_what_the_import_takes(capsys: pytest.CaptureFixture[str], image: str, kernel: str) -> None:
    status, out, _ = call(
        capsys, "tdx", "--firmware", image, "--kernel", kernel, "--cmdline", "quiet", "--json"
    )
    values = json.loads(out)
    assert (status, set(values)) == (0, {"mr_td", "rtmr_1", "rtmr_2"})
    assert all(values[name] in expected for name, expected in index_reference_values(values).items())
    options = hashlib.sha384("quiet\0".encode("utf-16-le")).digest()
    assert values["rtmr_2"] == hashlib.sha384(bytes(48) + options).hexdigest()


def test_what_is_left_out_is_said_to_people(
    capsys: pytest.CaptureFixture[str], image: str, kernel: str
) -> None:
    status, out, _ = call(
        capsys, "tdx", "--firmware", image, "--kernel", kernel, "--memory", "2G", "--vcpus", "4"
    )
    assert status == 0
    assert "rtmr_0: not known without the ACPI table loader" in out
    assert not any(line.startswith("rtmr_0 ") for line in out.splitlines())


def test_the_owners_acpi_tables_complete_rtmr_0(
    capsys: pytest.CaptureFixture[str], image: str, kernel: str
) -> None:
    acpi = [word for name in ("loader", "rsdp", "tables") for word in (f"--acpi-{name}", kernel)]
    arguments = (
        "tdx",
        "--firmware",
        image,
        "--kernel",
        kernel,
        "--memory",
        "2048",
        *acpi,
        "--events",
        "--json",
    )
    status, out, _ = call(capsys, *arguments)
    answer = json.loads(out)
    assert (status, answer["notes"]) == (0, [])
    assert set(answer["values"]) == {"mr_td", "rtmr_0", "rtmr_1", "rtmr_2"}
    register = bytes(48)
    for event in answer["events"]:
        if event["register"] == "rtmr_0":
            register = hashlib.sha384(register + bytes.fromhex(event["digest"])).digest()
    assert register.hex() == answer["values"]["rtmr_0"]


def test_events_without_a_digest_are_shown_as_unknown(
    capsys: pytest.CaptureFixture[str], image: str, kernel: str
) -> None:
    _, out, _ = call(capsys, "tdx", "--firmware", image, "--kernel", kernel, "--events")
    assert f"rtmr_0        {'?' * 96}  EV_PLATFORM_CONFIG_FLAGS: the ACPI tables" in out.splitlines()


def test_snp_prints_the_measurement(capsys: pytest.CaptureFixture[str], image: str) -> None:
    arguments = ("snp", "--firmware", image, "--vcpus", "2", "--json")
    status, out, _ = call(capsys, *arguments, "--vcpu-type", "EPYC-v4")
    assert status == 0
    assert len(json.loads(out)["measurement"]) == 96
    assert call(capsys, *arguments, "--vcpu-signature", "0x800f12")[1] == out
    assert call(capsys, *arguments, "--vcpu-signature", "8392466")[1] == out
    assert call(capsys, *arguments, "--vmm", "ec2")[0] == 0


def test_init_data_goes_into_the_field_of_the_tee(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"aa.toml" = "x"\n'
    (tmp_path / "i.toml").write_bytes(text)
    digest = hashlib.sha384(text).hexdigest()
    status, out, _ = call(capsys, "init-data", str(tmp_path / "i.toml"), "--json")
    assert (status, json.loads(out)) == (
        0,
        {"mr_config_id": digest, "host_data": digest[:64], "config_id": digest + "0" * 32},
    )
    assert json.loads(call(capsys, "init-data", str(tmp_path / "i.toml"), "--tee", "snp", "--json")[1]) == {
        "host_data": digest[:64]
    }
    (tmp_path / "i.toml").write_bytes(b"\xff")
    assert call(capsys, "init-data", str(tmp_path / "i.toml"))[0] == 2


def test_each_file_of_init_data_has_a_digest_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    policy = "package agent_policy\n"
    text = (
        f"version = '0.1.0'\nalgorithm = 'sha256'\n[data]\n'aa.toml' = 'x'\n'policy.rego' = '''{policy}'''\n"
    )
    (tmp_path / "i.toml").write_text(text)
    words = ("init-data", str(tmp_path / "i.toml"), "--tee", "snp", "--events", "--json")
    status, out, _ = call(capsys, *words)
    answer = json.loads(out)
    assert status == 0
    assert answer["values"] == {"host_data": hashlib.sha256(text.encode()).hexdigest()}
    assert [(event["what"], event["input"], event["digest"]) for event in answer["events"]] == [
        ("aa.toml", "init-data", hashlib.sha256(b"x").hexdigest()),
        ("policy.rego", "agent-policy", hashlib.sha256(policy.encode()).hexdigest()),
    ]


def test_an_sgxs_stream_tells_the_enclave_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stream = struct.pack("<8sIQ44s", b"ECREATE", 1, 0x2000, b"")
    (tmp_path / "e.sgxs").write_bytes(stream)
    status, out, _ = call(capsys, "sgx", "--sgxs", str(tmp_path / "e.sgxs"))
    assert status == 0
    assert hashlib.sha256(stream).hexdigest() in out
    assert "mr_signer: not known" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("tdx",),
        ("tdx", "--firmware", "IMAGE", "--initrd", "IMAGE"),
        ("tdx", "--firmware", "IMAGE", "--cmdline", "quiet"),
        ("tdx", "--firmware", "IMAGE", "--memory", "2G"),
        ("tdx", "--firmware", "IMAGE", "--kernel", "IMAGE"),
        ("tdx", "--firmware", "IMAGE", "--kernel", "IMAGE", "--acpi-rsdp", "IMAGE"),
        ("tdx", "--firmware", "IMAGE", "--kernel", "IMAGE", "--acpi", "/nonexistent"),
        ("tdx", "--firmware", "IMAGE", "--kernel", "IMAGE", "--machine-args", "-bios 'x"),
        ("tdx", "--firmware", "IMAGE", "--kernel", "IMAGE", "--qemu", "false", "--machine-args", "-bios x"),
        ("tdx", "--firmware", "IMAGE", "--memory", "two"),
        ("tdx", "--firmware", "/nonexistent"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "0", "--vcpu-type", "EPYC"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-type", "Xeon"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-type", "EPYC", "--vcpu-signature", "1"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-signature", "0x100000000"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-type", "EPYC", "--initrd", "IMAGE"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-type", "EPYC", "--kernel", "IMAGE"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-type", "EPYC", "--svsm", "IMAGE"),
        ("snp", "--firmware", "IMAGE", "--vcpus", "1", "--vcpu-type", "EPYC", "--mode", "snp-svsm"),
        ("sgx",),
        ("sgx", "--sigstruct", "IMAGE"),
        ("sgx", "--sgxs", "IMAGE"),
    ],
)
def test_bad_usage_and_bad_input_end_with_status_2(
    capsys: pytest.CaptureFixture[str], image: str, arguments: tuple[str, ...]
) -> None:
    words = [image if word == "IMAGE" else word for word in arguments]
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert err
