# SPDX-License-Identifier: Apache-2.0
"""Unified kernel images, Secure Boot's keys and partition tables: against a recorded TD, and no input that breaks them.

That a real guest quotes what is computed of an image, with Secure Boot and without, is held by ``make interop-vm``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.eventlog import EventType, parse_event_log
from eaa.rats import ConfigurationError, InputError
from eaa.tee.authority import authority_of
from eaa.tee.direct_boot import DirectBoot
from eaa.tee.efi_boot import UkiBoot, partition_table
from eaa.tee.measured import inputs_of, replay
from eaa.tee.tdx.acpi import AcpiBlobs
from eaa.tee.tdx.measure import measure_tdx
from eaa.tee.tpm.measure import measure_tpm
from eaa.tee.uefi import SecureBoot
from eaa.tee.variables import parse_variables, secure_boot_of

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORDED = "eventlog/ccel-trustee-data-grub-gke/event_log.bin"
X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
OWNER = bytes(range(16))
CONTENTS = {".linux": b"", ".osrel": b"ID=test\n", ".cmdline": b"quiet", ".initrd": b"initrd"}


def pe(parts: Mapping[str, bytes], signature: bytes = b"") -> bytes:
    """A PE32+ image of these sections, and a table of certificates with the signature."""
    head = bytearray(0x800)
    head[:2], head[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    head[0x80:0x98] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(parts), 0, 0, 0, 240, 0)
    struct.pack_into("<H", head, 0x98, 0x20B)
    struct.pack_into("<I", head, 0x98 + 60, len(head))
    struct.pack_into("<I", head, 0x98 + 108, 16)
    body = b""
    for index, (name, content) in enumerate(parts.items()):
        at = 0x98 + 240 + 40 * index
        padded = content.ljust(-(-len(content) // 512) * 512, b"\0")
        where = len(head) + len(body)
        struct.pack_into("<8sIIII", head, at, name.encode(), len(content), where, len(padded), where)
        body += padded
    table = b""
    if signature:
        table = struct.pack("<IHH", 8 + len(signature), 0x200, 2) + signature
        table = table.ljust(-(-len(table) // 8) * 8, b"\0")
        struct.pack_into("<II", head, 0x98 + 112 + 32, len(head) + len(body), len(table))
    return bytes(head) + body + table


def uki(version: int = 252, signature: bytes = b"", **changed: bytes) -> bytes:
    magic = f"#### LoaderInfo: systemd-stub {version}.1-1 ####".encode()
    contents = (
        CONTENTS | {".linux": pe({".text": b"kernel"})} | {f".{name}": each for name, each in changed.items()}
    )
    return pe({".sdmagic": magic, **contents}, signature)


def signature_list(*certificates: bytes) -> bytes:
    return b"".join(
        X509 + struct.pack("<III", 28 + 16 + len(each), 0, 16 + len(each)) + OWNER + each
        for each in certificates
    )


def certificate(
    name: str, issuer: tuple[x509.Certificate, Any] | None = None
) -> tuple[x509.Certificate, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder(issuer[0].subject if issuer else subject, subject, key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=36500))
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return made, key


def signed_by(signer: tuple[x509.Certificate, Any]) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(b"digest").add_signer(*signer, hashes.SHA256())
    return builder.sign(serialization.Encoding.DER, [])


def der(one: tuple[x509.Certificate, Any]) -> bytes:
    return one[0].public_bytes(serialization.Encoding.DER)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_sections_are_measured_in_the_stubs_order_and_not_in_the_files() -> None:
    image = uki(osrel=b"ID=other\n", initrd=b"disk")
    parts = [
        (".linux", pe({".text": b"kernel"})),
        (".osrel", b"ID=other\n"),
        (".cmdline", b"quiet"),
        (".initrd", b"disk"),
    ]
    digests = [sha256(part) for name, content in parts for part in (f"{name}\0".encode(), content)]
    assert measure_tpm(UkiBoot(image)).registers["pcr11"] == replay(digests, "sha256")


@pytest.mark.parametrize(
    ("version", "measured"), [(252, set()), (253, {".uname"}), (254, {".uname", ".sbat"})]
)
def test_older_stubs_leave_newer_sections_out(version: int, measured: set[str]) -> None:
    events = measure_tpm(UkiBoot(uki(version, uname=b"6.1", sbat=b"sbat,1"))).events
    assert {event.what for event in events} & {".uname", ".sbat"} == measured


@pytest.mark.parametrize(
    ("name", "register", "changed"),
    [
        ("cmdline", "pcr11", {"cmdline": b"Quiet"}),
        ("initrd", "pcr11", {"initrd": b"Initrd"}),
        ("kernel", "pcr11", {"linux": pe({".text": b"Kernel"})}),
    ],
)
def test_a_changed_part_is_named(name: str, register: str, changed: dict[str, Any]) -> None:
    before = inputs_of(measure_tpm(UkiBoot(uki())).events)[register]
    after = inputs_of(measure_tpm(UkiBoot(uki(**changed))).events)[register]
    assert {mine[0].value for mine, theirs in zip(before, after, strict=True) if mine != theirs} == {name}


def test_what_depends_on_the_disk_is_said() -> None:
    unknown = {reason.partition(":")[0] for reason in measure_tpm(UkiBoot(uki())).unknown}
    assert unknown == {"pcr00", "pcr01", "pcr05"}
    assert "pcr05" in measure_tpm(UkiBoot(uki(), table=b"")).registers


def test_a_command_line_that_the_stub_would_change_is_not_guessed() -> None:
    measured = measure_tpm(UkiBoot(uki(cmdline=b"quiet\n")))
    assert "pcr09" not in measured.registers
    assert "pcr11" in measured.registers


def test_options_tried_in_vain_are_in_pcr_4() -> None:
    first, second = (measure_tpm(UkiBoot(uki(), failed_options=tries)).registers for tries in (0, 1))
    assert [name for name in first if first[name] != second[name]] == ["pcr04"]


def test_the_certificate_that_signed_or_issued_allows_the_image() -> None:
    root, stranger = certificate("root"), certificate("stranger")
    signer = certificate("signer", root)
    image = uki(signature=signed_by(signer))
    assert authority_of(image, signature_list(der(stranger), der(root))) == OWNER + der(root)
    assert authority_of(image, signature_list(der(signer), der(root))) == OWNER + der(signer)
    assert authority_of(image, signature_list(der(stranger))) is None
    assert authority_of(uki(), signature_list(der(root))) is None
    policy = SecureBoot(b"\1", b"pk", b"kek", signature_list(der(root)), b"")
    assert "pcr07" in measure_tpm(UkiBoot(image), secure_boot=policy).registers
    assert "pcr07" not in measure_tpm(UkiBoot(uki()), secure_boot=policy).registers
    with pytest.raises(ConfigurationError, match="Secure Boot enabled"):
        measure_tpm(DirectBoot(pe({".text": b"kernel"})), secure_boot=policy)


def store(*variables: tuple[UUID, str, bytes, int], size: int = 0x2000) -> bytes:
    body = b""
    for guid, name, content, state in variables:
        encoded = f"{name}\0".encode("utf-16-le")
        head = struct.pack(
            "<HBxIQ16sIII16s", 0x55AA, state, 7, 0, b"", 0, len(encoded), len(content), guid.bytes_le
        )
        body += (head + encoded + content).ljust((len(head) + len(encoded) + len(content) + 3) & ~3, b"\0")
    volume = struct.pack(
        "<16x16sQ4sIHH", UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le, size, b"_FVH", 0, 0x48, 0
    ).ljust(0x48, b"\0")
    kind = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
    head = struct.pack("<16sIBBHI", kind, size - 0x48, 0x5A, 0xFE, 0, 0)
    return (volume + head + body).ljust(size, b"\xff")


def test_secure_boot_is_on_when_there_is_a_platform_key() -> None:
    keys = [(GLOBAL, "PK", b"pk", 0x3F), (GLOBAL, "KEK", b"kek", 0x3F), (SECURITY, "db", b"db", 0x3F)]
    assert secure_boot_of(store(*keys)) == SecureBoot(b"\1", b"pk", b"kek", b"db", b"")
    assert secure_boot_of(store()) == SecureBoot(b"\0")
    switch = UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
    assert not secure_boot_of(store(*keys, (switch, "SecureBootEnable", b"\0", 0x3F))).enabled


def test_boot_options_in_a_store_leave_pcr_1_out(
    boot_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel, path = boot_files / "vmlinuz", tmp_path / "vars"
    for variables, known in (((), True), (((GLOBAL, "Boot0001", b"a disk", 0x3F),), False)):
        path.write_bytes(store(*variables))
        words = ["tpm", "--kernel", str(kernel), "--setup-header", "file", "--variables", str(path), "--json"]
        assert run(measure, "eaa measure", words) == 0
        assert ("pcr01" in json.loads(capsys.readouterr().out)) == known


def test_keys_or_boot_options_in_a_tds_firmware_leave_rtmr_0_out(boot_files: Path) -> None:
    firmware = bytearray((boot_files / "OVMF.fd").read_bytes())
    boot, acpi = DirectBoot((boot_files / "vmlinuz").read_bytes()), AcpiBlobs(b"l", b"r", b"t")
    for variables, known in (
        ((), True),
        (((GLOBAL, "PK", b"key", 0x3F),), False),
        (((GLOBAL, "BootOrder", b"\1\0", 0x3F),), False),
    ):
        firmware[:0x2000] = store(*variables)
        measured = measure_tdx(bytes(firmware), boot=boot, memory=1 << 30, acpi=acpi)
        assert ("rtmr_0" in measured.registers) == known


def test_deleted_variables_are_gone_and_replaced_ones_give_way() -> None:
    found = parse_variables(
        store(
            (GLOBAL, "a", b"deleted", 0x3C), (GLOBAL, "b", b"old", 0x3E), (GLOBAL, "b", b"new", 0x3F), (GLOBAL, "c", b"old", 0x3E)
        )
    )  # fmt: skip
    assert found == {(GLOBAL, "b"): b"new", (GLOBAL, "c"): b"old"}


def test_debians_stores_are_read() -> None:
    path = Path("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")
    if not path.is_file():
        pytest.skip("Debian's variable stores are not here: install the package ovmf")
    policy = secure_boot_of(path.read_bytes())
    assert policy.enabled
    assert (len(policy.pk), len(policy.kek), len(policy.db), len(policy.dbx)) == (935, 935, 935, 76)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (pe({".text": b"x"}), "no unified kernel image"),
        (uki(profile=b"x"), "chooses by .profile"),
        (uki()[:0x1000], "cut off"),
        (uki()[:0x90], "cut off"),
        (b"x" * 100, "no PE image"),
    ],
)
def test_an_image_that_cannot_be_is_refused(image: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        measure_tpm(UkiBoot(image))


@pytest.mark.parametrize(
    "damaged", [store()[:0x50], store()[:0x10], b"\0" * 0x2000, store((GLOBAL, "a", b"x", 0x3F))[:0x90]]
)
def test_a_store_that_cannot_be_is_refused(damaged: bytes) -> None:
    with pytest.raises(InputError):
        parse_variables(damaged)


@given(st.binary(max_size=200), st.integers(0, 0x300))
def test_any_store_gives_variables_or_is_refused(noise: bytes, at: int) -> None:
    image = bytearray(store((GLOBAL, "PK", b"pk", 0x3F), (SECURITY, "db", b"db", 0x3E)))
    image[at : at + len(noise)] = noise
    with contextlib.suppress(InputError):
        secure_boot_of(bytes(image))


@given(st.binary(max_size=64), st.integers(0, 0x900), st.integers(0, 0x1400))
def test_any_image_gives_a_value_or_is_refused(noise: bytes, at: int, size: int) -> None:
    image = bytearray(uki(signature=b"0\x80"))
    image[at : at + len(noise)] = noise
    policy = SecureBoot(b"\1", db=signature_list(b"0"))
    with contextlib.suppress(InputError):
        measure_tpm(UkiBoot(bytes(image[: len(image) - size])), secure_boot=policy)


@given(st.binary(max_size=300), st.integers(0, 700))
def test_any_disk_gives_a_table_or_is_refused(noise: bytes, at: int) -> None:
    disk = bytearray(bytes(512) + b"EFI PART" + bytes(64) + struct.pack("<QII", 2, 4, 128) + bytes(1024))
    disk[at : at + len(noise)] = noise
    with contextlib.suppress(InputError):
        partition_table(bytes(disk))


def test_the_partition_table_of_a_recorded_boot_is_rebuilt(vectors: Path) -> None:
    """A disk with the table that a TD logged gives the event that it logged."""
    log = parse_event_log((vectors / RECORDED).read_bytes())
    (logged,) = [event.data for event in log.events if event.type == EventType.EV_EFI_GPT_EVENT]
    entries = logged[100:].ljust(128 * 128, b"\0")
    disk = bytes(512) + logged[:92].ljust(512, b"\0") + entries
    assert partition_table(disk) == logged
    assert partition_table(bytes(1024)) == b""
    with pytest.raises(InputError, match="hold together"):
        partition_table(disk[:2048])


def test_a_recorded_td_measured_an_image_as_computed(boot_files: Path, vectors: Path) -> None:
    """Of a TD that booted an image with a stub of version 254 or later: every event of RTMR 1 and 2 by register and type, and the digest of each constant."""
    log = parse_event_log((vectors / RECORDED).read_bytes())
    theirs = [event for event in log.events if event.extends and event.register in {2, 3}]
    (table,) = [event.data for event in theirs if event.type == EventType.EV_EFI_GPT_EVENT]
    image = uki(254, uname=b"6.1", sbat=b"sbat,1")
    measured = measure_tdx(
        (boot_files / "OVMF.fd").read_bytes(), boot=UkiBoot(image, table=table, kernel_measures=False)
    )
    mine = [event for event in measured.events if event.register in {"rtmr_1", "rtmr_2"}]
    assert [(f"rtmr_{event.register - 1}", event.type) for event in theirs] == [
        (event.register, event.type) for event in mine
    ]
    named = [
        (one.digest, other.digests["sha384"])
        for one, other in zip(mine, theirs, strict=True)
        if one.input == "constant"
    ]
    assert len(named) == 10
    assert all(one == other for one, other in named)
    assert {"rtmr_1", "rtmr_2"} <= set(measured.registers)
    assert "rtmr_0" not in measured.registers


def test_the_commands_take_an_image_and_its_disk(
    boot_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "uki.efi").write_bytes(uki())
    (tmp_path / "disk").write_bytes(bytes(4096))
    (tmp_path / "vars").write_bytes(store())
    words = ["--uki", str(tmp_path / "uki.efi"), "--disk", str(tmp_path / "disk")]
    assert run(measure, "eaa measure", ["tpm", *words, "--variables", str(tmp_path / "vars")]) == 0
    assert "pcr11 " in capsys.readouterr().out
    assert run(measure, "eaa measure", ["tdx", "--firmware", str(boot_files / "OVMF.fd"), *words]) == 0
    assert "rtmr_2 " in capsys.readouterr().out
    for bad in (
        ["tpm"],
        ["tpm", *words, "--cmdline", "x"],
        ["tpm", *words[2:], "--kernel", str(boot_files / "vmlinuz")],
    ):
        assert run(measure, "eaa measure", bad) == 2
