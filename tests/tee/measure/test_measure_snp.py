# SPDX-License-Identifier: Apache-2.0
"""Launch digests: the same as ``sev-snp-measure`` gives for files, and no firmware that reaches it unchecked."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sevsnpmeasure.guest import calc_launch_digest  # type: ignore[import-untyped] # it ships no types
from sevsnpmeasure.sev_mode import SevMode as TheirMode  # type: ignore[import-untyped]
from sevsnpmeasure.vmm_types import VMMType  # type: ignore[import-untyped]

from eaa.rats import ConfigurationError, InputError
from eaa.tee.measured import inputs_of
from eaa.tee.snp.measure import (
    Kernel,
    SevGuest,
    SevMode,
    SevVmm,
    Svsm,
    cpu_signature,
    launch_digest,
    measure_sev,
    vcpu_types,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
HASHES = "7255371f-3a3b-4b04-927b-1da6efa8d454"
RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
SVSM_INFO = "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"
SIZE = 0x8000
SECTIONS = [(0x800000, 0x9000, 1), (0x80D000, 0x1000, 2), (0x80E000, 0x1000, 3), (0x811000, 0x1000, 4)]
KERNEL_HASHES = (0x810000, 0x1000, 0x10)
EPYC = 0x800F12


def image(make: Any, sections: Sequence[tuple[int, int, int]] = SECTIONS, /, **changed: bytes) -> bytes:
    body = b"".join(struct.pack("<III", *section) for section in sections)
    header = struct.pack("<4sIII", b"ASEV", 16 + len(body), 1, len(sections))
    entries = {
        HASHES: changed.get("hashes", struct.pack("<II", 0x810C00, 0x400)),
        RESET: changed.get("reset", struct.pack("<I", 0x80B004)),
        METADATA: changed.get("metadata", struct.pack("<I", 0x800)),
        SVSM_INFO: struct.pack("<I", 0x10),
    }
    kept = {guid: content for guid, content in entries.items() if content}
    return bytes(make(SIZE, kept, {0x800: changed.get("header", header) + body}))


def theirs(folder: Path, mode: Any, guest: SevGuest) -> bytes:
    """What the library gives for the same guest, by its own way through files."""

    def file(name: str, content: bytes | None) -> str | None:
        if content is None:
            return None
        (folder / name).write_bytes(content)
        return str(folder / name)

    kernel, svsm = guest.kernel, guest.svsm
    vmm = {SevVmm.QEMU: VMMType.QEMU, SevVmm.EC2: VMMType.ec2, SevVmm.GCE: VMMType.gce}[guest.vmm]
    return bytes(
        calc_launch_digest(
            mode,
            guest.vcpus,
            guest.vcpu_signature,
            file("firmware", guest.firmware),
            file("kernel", kernel.image if kernel else None),
            file("initrd", kernel.initrd if kernel else None),
            kernel.cmdline if kernel else None,
            guest.guest_features,
            vmm_type=vmm,
            svsm_file=file("svsm", svsm.image if svsm else None),
            ovmf_vars_size=svsm.vars_size if svsm else 0,
        )
    )


@pytest.mark.parametrize("vmm", list(SevVmm))
@pytest.mark.parametrize("kernel", [None, Kernel(b"kernel"), Kernel(b"kernel", b"initrd", "quiet")])
def test_snp_as_the_library_measures_files(
    firmware: Any, tmp_path: Path, vmm: SevVmm, kernel: Kernel | None
) -> None:
    guest = SevGuest(
        image(firmware, [*SECTIONS, KERNEL_HASHES]), 3, EPYC, vmm=vmm, kernel=kernel, guest_features=0x21
    )
    assert launch_digest(guest) == theirs(tmp_path, TheirMode.SEV_SNP, guest)


@pytest.mark.parametrize("kernel", [None, Kernel(b"kernel", b"initrd", "quiet")])
def test_sev_es_as_the_library_measures_files(firmware: Any, tmp_path: Path, kernel: Kernel | None) -> None:
    guest = SevGuest(image(firmware), 2, EPYC, SevMode.SEV_ES, kernel=kernel)
    assert launch_digest(guest) == theirs(tmp_path, TheirMode.SEV_ES, guest)
    assert len(launch_digest(guest)) == 32


def test_svsm_as_the_library_measures_files(firmware: Any, tmp_path: Path) -> None:
    svsm = Svsm(image(firmware, SECTIONS[1:]), 0x84000)
    guest = SevGuest(image(firmware), 4, EPYC, SevMode.SNP_SVSM, svsm=svsm)
    assert launch_digest(guest) == theirs(tmp_path, TheirMode.SEV_SNP_SVSM, guest)


def test_debian_firmware_as_the_library_measures_it(debian_ovmf: bytes, tmp_path: Path) -> None:
    for mode, their_mode in ((SevMode.SNP, TheirMode.SEV_SNP), (SevMode.SEV_ES, TheirMode.SEV_ES)):
        guest = SevGuest(debian_ovmf, 2, vcpu_types()["EPYC-v4"], mode)
        assert launch_digest(guest) == theirs(tmp_path, their_mode, guest)


def test_debian_firmware_measures_no_kernel(debian_ovmf: bytes) -> None:
    with pytest.raises(InputError, match="would not measure the kernel") as refused:
        launch_digest(SevGuest(debian_ovmf, 1, EPYC, kernel=Kernel(b"kernel")))
    assert "AmdSev" in refused.value.hint


def test_each_part_of_the_kernel_counts(firmware: Any) -> None:
    content = image(firmware, [*SECTIONS, KERNEL_HASHES])
    digests = {
        launch_digest(SevGuest(content, 1, EPYC, kernel=kernel))
        for kernel in (None, Kernel(b"a"), Kernel(b"b"), Kernel(b"a", b"i"), Kernel(b"a", b"", "c"))
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"metadata": b""}, "no SEV metadata"),
        ({"metadata": b"\1"}, "at least 4"),
        ({"metadata": struct.pack("<I", SIZE + 1)}, "outside"),
        ({"metadata": struct.pack("<I", 4)}, "outside"),
        ({"header": struct.pack("<4sIII", b"ASEW", 64, 1, 4)}, "ASEV"),
        ({"header": struct.pack("<4sIII", b"ASEV", 64, 2, 4)}, "version 1"),
        ({"header": struct.pack("<4sIII", b"ASEV", 63, 1, 4)}, "cannot be"),
        ({"header": struct.pack("<4sIII", b"ASEV", 1 << 31, 1, 4)}, "cannot be"),
        ({"header": struct.pack("<4sIII", b"ASEV", 64, 1, 1 << 31)}, "cannot be"),
        ({"reset": b""}, "further vCPUs"),
        ({"reset": bytes(4)}, "further vCPUs"),
        ({"hashes": struct.pack("<I", 0x810FFF)}, "within one page"),
    ],
)
def test_metadata_that_cannot_be_are_refused(firmware: Any, changed: dict[str, bytes], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        launch_digest(SevGuest(image(firmware, **changed), 2, EPYC))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ((0x1000, 0x1000, 9), "type 0x9"),
        ((0x1001, 0x1000, 1), "cannot be measured"),
        ((0x1000, 0x1001, 1), "cannot be measured"),
        ((0x1000, 0x2000, 0x10), "not one page"),
        ((0x1000, 0xFFFFF000, 1), "claim more than"),
    ],
)
def test_sections_that_cannot_be_are_refused(
    firmware: Any, section: tuple[int, int, int], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        launch_digest(SevGuest(image(firmware, [section]), 1, EPYC))


@pytest.mark.parametrize(
    "changed",
    [
        {"vcpus": 0},
        {"vcpus": 4097},
        {"vcpu_signature": 1 << 32},
        {"guest_features": 1 << 64},
        {"mode": SevMode.SNP_SVSM},
        {"svsm": Svsm(b"", 0)},
        {"mode": SevMode.SNP_SVSM, "svsm": Svsm(b"", 0), "kernel": Kernel(b"")},
        {"mode": SevMode.SNP_SVSM, "svsm": Svsm(b"", 0), "vmm": SevVmm.EC2},
        {"mode": SevMode.SNP_SVSM, "svsm": Svsm(b"", 1)},
        {"mode": SevMode.SEV_ES, "guest_features": 3},
        {"kernel": Kernel(b"", cmdline="a\0b")},
    ],
)
def test_parts_that_do_not_go_together_are_refused(firmware: Any, changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        launch_digest(replace(SevGuest(image(firmware), 1, EPYC), **changed))
    assert refused.value.hint


def test_firmware_that_is_cut_off_is_refused(firmware: Any) -> None:
    with pytest.raises(InputError, match="whole pages"):
        launch_digest(SevGuest(image(firmware)[100:], 1, EPYC))


def test_signatures_of_processors() -> None:
    assert vcpu_types()["EPYC-v4"] == cpu_signature(23, 1, 2) == EPYC
    with pytest.raises(ConfigurationError):
        cpu_signature(23, 1, 16)


def test_a_missing_library_is_said(firmware: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sevsnpmeasure.gctx", None)
    with pytest.raises(ConfigurationError, match="not installed") as refused:
        launch_digest(SevGuest(image(firmware), 1, EPYC))
    assert "eaa[measure]" in refused.value.hint


@given(
    st.integers(0, 0x8F0), st.binary(min_size=1, max_size=80), st.sampled_from([SevMode.SNP, SevMode.SEV_ES])
)
def test_any_firmware_gives_a_value_or_is_refused(
    firmware: Any, at: int, noise: bytes, mode: SevMode
) -> None:
    content = bytearray(image(firmware, [SECTIONS[1], KERNEL_HASHES]))
    start = SIZE - 0x900 + at
    content[start : start + len(noise)] = noise
    with contextlib.suppress(InputError):
        kernel = Kernel(b"kernel")
        assert launch_digest(SevGuest(bytes(content[:SIZE]), 2, EPYC, mode, kernel=kernel))


@given(
    st.lists(
        st.tuples(
            st.integers(0, (1 << 20) - 1).map(lambda page: page << 12),
            st.sampled_from([0, 0x1000, 0x2000]),
            st.sampled_from([1, 2, 3, 4, 5, 0x10]),
        ),
        max_size=5,
    ),
    st.binary(max_size=8),
    st.binary(max_size=8),
    st.sampled_from([None, Kernel(b"kernel")]),
)
def test_any_tables_give_a_value_or_are_refused(
    firmware: Any, sections: list[tuple[int, int, int]], hashes: bytes, reset: bytes, kernel: Kernel | None
) -> None:
    content = image(firmware, sections, hashes=hashes, reset=reset)
    with contextlib.suppress(InputError):
        guest = SevGuest(content, 2, EPYC, kernel=kernel)
        assert len(launch_digest(guest)) == 48


def test_each_input_of_the_launch_digest_has_its_own_name(firmware: Any) -> None:
    guest = SevGuest(
        image(firmware, [*SECTIONS, KERNEL_HASHES]), 2, EPYC, kernel=Kernel(b"kernel", b"initrd", "quiet")
    )
    before = measure_sev(guest)
    assert before.registers == {"measurement": launch_digest(guest)}
    changes = {
        "firmware": replace(guest, firmware=image(firmware, [*SECTIONS[1:], KERNEL_HASHES])),
        "machine": replace(guest, vcpus=3),
        "kernel": replace(guest, kernel=Kernel(b"Kernel", b"initrd", "quiet")),
        "initrd": replace(guest, kernel=Kernel(b"kernel", b"Initrd", "quiet")),
        "cmdline": replace(guest, kernel=Kernel(b"kernel", b"initrd", "Quiet")),
    }
    for name, changed in changes.items():
        after = measure_sev(changed)
        assert after.registers != before.registers
        pairs = zip(
            inputs_of(before.events)["measurement"], inputs_of(after.events)["measurement"], strict=True
        )
        assert [source.value for (source, mine), (_, theirs) in pairs if mine != theirs] == [name]
