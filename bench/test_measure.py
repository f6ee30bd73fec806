# SPDX-License-Identifier: Apache-2.0
"""How long it takes to measure a firmware of 4 MiB, and a direct boot of a usual kernel and initial RAM disk."""

from __future__ import annotations

import struct
from hashlib import sha384
from typing import TYPE_CHECKING
from uuid import UUID

from eaa.tee.tdx.acpi import AcpiBlobs
from eaa.tee.tdx.direct_boot import DirectBoot, direct_boot_events
from eaa.tee.tdx.measure import measure_tdx
from eaa.tee.tdx.tdvf import parse_tdvf

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZE = 4 << 20
STORE = 0x84000
TDVF = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
FOOTER = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")


def firmware() -> bytes:
    """The layout of edk2's image of 4 MiB, filled with anything."""
    sections = (
        (STORE, SIZE - STORE, (1 << 32) - SIZE + STORE, SIZE - STORE, 0, 1),
        (0, STORE, (1 << 32) - SIZE, STORE, 1, 0),
        (0, 0, 0x811000, 0xF000, 3, 0),
        (0, 0, 0x80B000, 0x2000, 3, 0),
        (0, 0, 0x809000, 0x2000, 2, 0),
        (0, 0, 0x800000, 0x6000, 3, 0),
    )
    metadata = b"".join(struct.pack("<IIQQII", *section) for section in sections)
    metadata = struct.pack("<4sIII", b"TDVF", 16 + len(metadata), 1, len(sections)) + metadata
    table = struct.pack("<IH", 0x1000, 22) + TDVF.bytes_le
    table += struct.pack("<H", len(table) + 18) + FOOTER.bytes_le
    image = bytearray(bytes(range(256)) * (SIZE // 256))
    image[-0x1000 : -0x1000 + len(metadata)] = metadata
    image[-32 - len(table) : -32] = table
    return bytes(image)


def kernel(size: int = 12 << 20) -> bytes:
    """A PE image of 12 MiB in one section."""
    headers = 0x400
    head = bytearray(headers)
    head[:2], head[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    head[0x80:0x98] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0)
    struct.pack_into("<H", head, 0x98, 0x20B)
    struct.pack_into("<I", head, 0x98 + 60, headers)
    struct.pack_into("<II", head, 0x98 + 240 + 16, size - headers, headers)
    return bytes(head) + bytes(size - headers)


def test_mr_td(benchmark: BenchmarkFixture) -> None:
    """MRTD of 4 MiB: below 100 ms."""
    image = firmware()
    assert "mr_td" in benchmark(measure_tdx, image).registers


def test_direct_boot(benchmark: BenchmarkFixture) -> None:
    """MRTD, and RTMRs of a kernel of 12 MiB and an initial RAM disk of 40 MiB; nearly all of it is SHA-384 of these."""
    image, boot = firmware(), DirectBoot(kernel(), bytes(40 << 20), "console=ttyS0")
    assert "rtmr_2" in benchmark(measure_tdx, image, boot=boot, memory=2 << 30).registers


def test_hashing_alone(benchmark: BenchmarkFixture) -> None:
    """The floor of the above: SHA-384 of 52 MiB, each byte once. MRTD comes on top."""
    content = bytes(52 << 20)
    assert len(benchmark(lambda: sha384(content).digest())) == 48


def test_direct_boot_of_little(benchmark: BenchmarkFixture) -> None:
    """What of a prediction of RTMR 0 to 2 is not hashing of kernel and initial RAM disk."""
    tdvf, boot = parse_tdvf(firmware()), DirectBoot(kernel(16 << 10), bytes(1 << 10), "console=ttyS0")
    acpi = AcpiBlobs(bytes(4096), bytes(20), bytes(128 << 10))
    assert len(benchmark(lambda: list(direct_boot_events(tdvf, boot, 2 << 30, acpi)))) == 20
