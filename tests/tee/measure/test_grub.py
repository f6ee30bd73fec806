# SPDX-License-Identifier: Apache-2.0
"""A boot through shim and GRUB: what goes into which register, and no input that breaks the parsers.

That a real guest quotes what is computed is held by ``make interop-vm``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tee.measure.test_uki import (
    GLOBAL,
    SECURITY,
    certificate,
    der,
    pe,
    signature_list,
    signed_by,
    store,
)

from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.eventlog.write import variable_data
from eaa.rats import ConfigurationError, InputError
from eaa.tee.grub_boot import GrubBoot
from eaa.tee.grub_config import DEBIAN_SCRIPT, bootstrap_commands, parse_grub_config
from eaa.tee.measured import inputs_of, replay
from eaa.tee.pe import authenticode_digest, sections
from eaa.tee.shim import parse_shim
from eaa.tee.tpm.measure import measure_tpm
from eaa.tee.uefi import SecureBoot

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.tee.measured import LaunchMeasurement

LOCK = UUID("605dab50-e046-4300-abb6-3dd810dd8b23").bytes_le
LEVEL = b"sbat,1,2025021800\nshim,4\n"
REVOKED = b"revoked"
CONFIG = b"# made\nset root=hd0\n\n  linux  /vmlinuz   quiet a=b\ninitrd /initrd\nboot\n"
MICROSOFT, VENDOR, OTHER = certificate("firmware"), certificate("vendor"), certificate("other")
POLICY = SecureBoot(b"\1", b"pk", b"kek", signature_list(der(MICROSOFT)), b"")


def long_named(parts: dict[str, bytes]) -> bytes:
    """A PE image whose sections have their names in the table of strings, as shim's have."""
    short = {f"/{4 + 16 * index}": content for index, content in enumerate(parts.values())}
    image = bytearray(pe(short))
    struct.pack_into("<II", image, 0x80 + 12, len(image), 0)
    strings = b"".join(name.encode().ljust(16, b"\0") for name in parts)
    return bytes(image) + struct.pack("<I", 4 + len(strings)) + strings


def shim(key: bytes = b"", level: bytes = LEVEL, revoked: bytes = REVOKED) -> bytes:
    key = key or der(VENDOR)
    table = struct.pack("<IIII", len(key), len(revoked), 16, 16 + len(key)) + key + revoked
    image = bytearray(
        long_named({".vendor_cert": table, ".sbatlevel": struct.pack("<III", 0, 8, 0) + level + b"\0"})
    )
    signature = signed_by(MICROSOFT)
    entry = struct.pack("<IHH", 8 + len(signature), 0x200, 2) + signature
    image += bytes(-len(image) % 8)
    struct.pack_into("<II", image, 0x98 + 112 + 32, len(image), len(entry))
    return bytes(image) + entry + bytes(-len(entry) % 8)


def modules(*parts: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<II", kind, 8 + len(content)) + content for kind, content in parts)
    return b"mimg" + struct.pack("<IQQ", 0, 24, 24 + len(body)) + body


def grub(script: bytes = DEBIAN_SCRIPT, signer: Any = VENDOR, prefix: bytes = b"/EFI/debian\0") -> bytes:
    parts = (
        (1, b"disk\0" + script + b"\0"),
        (0, b"module"),
        (2, b"normal (memdisk)/grub.cfg\n\0"),
        (3, prefix),
    )
    return pe({"mods": modules(*parts)}, signed_by(signer))


def kernel(signer: Any = VENDOR) -> bytes:
    return pe({".text": b"kernel"}, signed_by(signer))


def measured(**changed: Any) -> LaunchMeasurement:
    parts = {"shim": shim(), "grub": grub(), "config": CONFIG, "kernel": kernel(), "initrd": b"disk"}
    return measure_tpm(GrubBoot(**(parts | {"table": b""} | changed)), secure_boot=POLICY)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def digests(result: LaunchMeasurement, register: str) -> list[bytes | None]:
    return [event.digest for event in result.events if event.register == register]


def test_commands_are_measured_as_grub_joins_their_words() -> None:
    at = "(hd0,gpt1)/EFI/debian"
    commands = [
        f"[ -z {at} -o ! -e {at} ]",
        f"[ -e {at}/x86_64-efi/grub.cfg ]",
        f"[ -e {at}/grub.cfg ]",
        f"source {at}/grub.cfg",
        "set root=hd0",
        "linux /vmlinuz quiet a=b",
        "/vmlinuz quiet a=b",
        "initrd /initrd",
        "boot",
    ]
    expected = replay((sha256(command.encode()) for command in commands), "sha256")
    assert measured().registers["pcr08"] == expected


def test_files_are_measured_as_they_are_read() -> None:
    image = kernel()
    expected = replay((sha256(content) for content in (CONFIG, image, b"disk")), "sha256")
    assert measured(kernel=image).registers["pcr09"] == expected


def test_programs_are_measured_as_they_are_started_and_the_kernel_twice() -> None:
    first, second, third = shim(), grub(), kernel()
    found = digests(measured(shim=first, grub=second, kernel=third), "pcr04")[-4:]
    assert found == [authenticode_digest(each, "sha256") for each in (first, second, third, third)]


def test_shims_keys_are_measured_as_its_variables() -> None:
    key = LOCK + der(VENDOR)
    allowed = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le + struct.pack(
        "<III", 28 + len(key), 0, len(key)
    )
    result = measured()
    expected = [sha256(allowed + key), sha256(REVOKED), sha256(b"\1")]
    assert digests(result, "pcr14") == expected
    level, authority = variable_data(LOCK, "SbatLevel", LEVEL), variable_data(LOCK, "MokListRT", key)
    assert digests(result, "pcr07")[-2:] == [sha256(level), sha256(authority)]


@pytest.mark.parametrize(
    ("changed", "unknown"),
    [
        ({"fresh": False}, {"pcr07", "pcr14"}),
        ({"kernel": kernel(OTHER)}, {"pcr07"}),
        ({"grub": grub(signer=MICROSOFT)}, {"pcr07"}),
        ({"shim": shim(revoked=b"")}, {"pcr14"}),
        ({"table": None}, {"pcr05"}),
    ],
)
def test_what_is_not_known_is_left_out(changed: dict[str, Any], unknown: set[str]) -> None:
    known = {"pcr02", "pcr03", "pcr04", "pcr05", "pcr06", "pcr07", "pcr08", "pcr09", "pcr14"}
    result = measured(**changed)
    assert set(result.registers) == known - unknown
    assert {note.split(":")[0] for note in result.unknown} == {"pcr00", "pcr01"} | unknown


def test_each_event_names_the_input_that_decides_it() -> None:
    listed = inputs_of(measured().events)
    assert [source.value for source, _ in listed["pcr04"]][-4:] == ["shim", "grub", "kernel", "kernel"]
    assert [source.value for source, _ in listed["pcr09"]] == ["grub-config", "kernel", "initrd"]
    expected = ["grub"] * 4 + ["grub-config"] * 2 + ["cmdline"] + ["grub-config"] * 2
    assert [source.value for source, _ in listed["pcr08"]] == expected


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"linux /vmlinuz\n",
        b"boot\n",
        b"linux /a\nlinux /b\nboot\n",
        b"initrd /i\nlinux /a\nboot\n",
        b"linux /a\nboot\nset root=hd0\n",
        b"linux /a $cmdline\nboot\n",
        b'linux /a "b c"\nboot\n',
        b"linux /a; boot\n",
        b"linux /a\\\nboot\n",
        b"linux /a #b\nboot\n",
        b"linux\t/a\nboot\n",
        b"linux /a\r\nboot\n",
        b"# joined \\\nlinux /a\nboot\n",
        b"linux\nboot\n",
        b"linux --verity /a\nboot\n",
        b"linux /a\ninitrd /i /j\nboot\n",
        b"linux /a\nboot now\n",
        b"set prefix=/x\nlinux /a\nboot\n",
        b"set\nlinux /a\nboot\n",
        b"insmod tpm\nlinux /a\nboot\n",
        b"menuentry x {\nlinux /a\n}\nboot\n",
        b"linux /\xc3\xa9\nboot\n",
        b"#\n" * 40000 + b"linux /a\nboot\n",
    ],
)
def test_a_configuration_of_any_other_form_is_refused(config: bytes) -> None:
    with pytest.raises(InputError):
        parse_grub_config(config)


@pytest.mark.parametrize(
    "image",
    [
        grub(script=b"linux /other\n"),
        grub(prefix=b"(hd1)/x\0"),
        pe({".text": b""}),
        pe({"mods": b"mimg" + struct.pack("<IQQ", 0, 24, 1 << 40)}),
        pe({"mods": modules((2, b"a"), (2, b"b"))}),
        b"",
    ],
)
def test_a_grub_that_does_something_else_first_is_refused(image: bytes) -> None:
    with pytest.raises(InputError):
        bootstrap_commands(image, "hd0")


@pytest.mark.parametrize("device", ["", "(hd0)", "hd0,", "hd0 ]", "hd0,gpt1,gpt2"])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="no disk of GRUB's"):
        bootstrap_commands(grub(), device)


@pytest.mark.parametrize(
    "image",
    [
        shim(key=b"no certificate"),
        shim(level=b"level"),
        kernel(),
        long_named({".vendor_cert": struct.pack("<IIII", 9, 9, 16, 16), ".sbatlevel": bytes(12)}),
        b"MZ",
    ],
)
def test_what_is_no_shim_is_refused(image: bytes) -> None:
    with pytest.raises(InputError):
        parse_shim(image)


def test_without_secure_boot_nothing_is_computed() -> None:
    with pytest.raises(ConfigurationError, match="Secure Boot enabled"):
        measure_tpm(GrubBoot(shim(), grub(), CONFIG, kernel(), b"disk"))


@pytest.mark.parametrize(("config", "initrd"), [(CONFIG, b""), (b"linux /a\nboot\n", b"disk")])
def test_an_initial_disk_goes_with_its_command(config: bytes, initrd: bytes) -> None:
    with pytest.raises(ConfigurationError, match="do not go together"):
        measured(config=config, initrd=initrd)


def test_long_names_of_sections_are_found_and_broken_ones_are_left() -> None:
    assert [part.name for part in sections(long_named({".vendor_cert": b"a", ".sbatlevel": b"b"}))] == [
        ".vendor_cert",
        ".sbatlevel",
    ]
    assert [part.name for part in sections(pe({"/9999999": b"a", "/x": b"b"}))] == ["/9999999", "/x"]


@given(st.binary(max_size=200) | st.text("lsetinuxrdbo /=#\n\\ $", max_size=80).map(str.encode))
def test_any_configuration_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(InputError):
        assert parse_grub_config(content).linux.startswith("linux ")


@given(st.binary(max_size=200))
def test_any_modules_are_read_or_refused(content: bytes) -> None:
    for inside in (content, b"mimg" + content, modules((2, content))):
        with pytest.raises(InputError):
            bootstrap_commands(pe({"mods": inside}), "hd0")


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_shim_is_read_or_refused(table: bytes, levels: bytes) -> None:
    with pytest.raises(InputError):
        parse_shim(long_named({".vendor_cert": table, ".sbatlevel": levels}))


def test_the_command_computes_it_and_says_what_goes_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"shim": shim(), "grub": grub(), "grub-config": CONFIG, "kernel": kernel(), "initrd": b"disk"}
    words = ["tpm"]
    for name, content in (files | {"variables": store()}).items():
        (tmp_path / name).write_bytes(content)
        words += [f"--{name}", str(tmp_path / name)]
    assert run(measure, "eaa measure", [*words, "--json"]) == 2
    assert "Secure Boot enabled" in capsys.readouterr().out
    secure = store((GLOBAL, "PK", b"pk", 0x3F), (SECURITY, "db", signature_list(der(MICROSOFT)), 0x3F))
    (tmp_path / "variables").write_bytes(secure)
    assert run(measure, "eaa measure", [*words, "--json"]) == 0
    assert "pcr08" in json.loads(capsys.readouterr().out)
    for bad in (words[:3], words[:-2], [*words, "--cmdline", "x"], [*words, "--uki", words[2]]):
        assert run(measure, "eaa measure", bad) == 2
