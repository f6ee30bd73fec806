# SPDX-License-Identifier: Apache-2.0
"""What an SEV-ES or SEV-SNP guest will measure to: its launch digest, computed by virtee's ``sev-snp-measure``. Pure.

That library reads files and trusts them; here the bytes come in, and the firmware's tables are checked before the library sees them.
"SEV Secure Nested Paging Firmware ABI Specification", 8.17.2 (PAGE_INFO); "SEV API", 6.4 (LAUNCH_MEASURE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256, sha384
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from eaa.rats import ConfigurationError, InputError
from eaa.tee.measured import Input, LaunchMeasurement, MeasuredEvent
from eaa.tee.ovmf import MAX_FIRMWARE, PAGE, guided_table, u32_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_GUEST_FEATURES",
    "MAX_VCPUS",
    "Kernel",
    "SevGuest",
    "SevMode",
    "SevVmm",
    "Svsm",
    "cpu_signature",
    "launch_digest",
    "measure_sev",
    "vcpu_types",
]

DEFAULT_GUEST_FEATURES: Final = 0x1
"""SEV_FEATURES with SNP active and nothing else."""

MAX_VCPUS: Final = 4096

_FOUR_GIB: Final = 1 << 32
_ES_RESET: Final = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
_SVSM_INFO: Final = UUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")
_HASHES: Final = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
_METADATA: Final = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
_HEADER: Final = struct.Struct("<4sIII")
_SECTION: Final = struct.Struct("<III")
_MAX_SECTIONS: Final = 64
_MAX_SECTION_BYTES: Final = 64 << 20
_HASHES_SIZE: Final = 176
_KNOWN_SECTIONS: Final = frozenset({1, 2, 3, 4, 0x10})
_KERNEL_HASHES: Final = 0x10
_NO_KERNEL: Final = "the firmware has no place for kernel hashes, so it would not measure the kernel"
_NO_KERNEL_HINT: Final = "Use edk2's AmdSev platform build, which measures the kernel; with this firmware the host could boot any kernel unseen."
_HINT: Final = (
    "Give the OVMF image as QEMU gets it: built for SEV-SNP, neither the variable store nor an archive."
)


class SevMode(Enum):
    """Which launch is measured."""

    SNP = "snp"
    SNP_SVSM = "snp-svsm"
    """SEV-SNP with the COCONUT Secure VM Service Module below the firmware; QEMU only."""
    SEV_ES = "sev-es"


class SevVmm(Enum):
    """Whose initial processor state is measured."""

    QEMU = "qemu"
    EC2 = "ec2"
    GCE = "gce"


@dataclass(frozen=True, slots=True)
class Kernel:
    """What QEMU gets with ``-kernel``, ``-initrd`` and ``-append`` for measured direct boot (``kernel-hashes=on``)."""

    image: bytes = field(repr=False)
    initrd: bytes = field(default=b"", repr=False)
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class Svsm:
    """The SVSM image, and the bytes of the variable store between it and the firmware."""

    image: bytes = field(repr=False)
    vars_size: int


@dataclass(frozen=True, slots=True)
class SevGuest:
    """What a guest is launched from. ``vcpu_signature`` is CPUID leaf 1 EAX, see :func:`vcpu_types`; EC2 and GCE do not measure it."""

    firmware: bytes = field(repr=False)
    vcpus: int
    vcpu_signature: int
    mode: SevMode = SevMode.SNP
    vmm: SevVmm = SevVmm.QEMU
    kernel: Kernel | None = None
    svsm: Svsm | None = None
    guest_features: int = DEFAULT_GUEST_FEATURES


def vcpu_types() -> Mapping[str, int]:
    """Return the signature of each of QEMU's EPYC models by name.

    :raises ConfigurationError: when ``sev-snp-measure`` is not installed.
    """
    return dict(_library("vcpu_types").CPU_SIGS)


def cpu_signature(family: int, model: int, stepping: int) -> int:
    """Return CPUID leaf 1 EAX of a processor (AMD's CPUID specification, 25481).

    :raises ConfigurationError: when the numbers do not fit, or ``sev-snp-measure`` is not installed.
    """
    if not (0 <= family <= 0xF + 0xFF and 0 <= model <= 0xFF and 0 <= stepping <= 0xF):
        raise ConfigurationError(
            "no processor has this family, model and stepping", hint="See /proc/cpuinfo."
        )
    return int(_library("vcpu_types").cpu_sig(family, model, stepping))


def launch_digest(guest: SevGuest) -> bytes:
    """Return the launch digest: 48 bytes for SEV-SNP, 32 for SEV-ES.

    :raises ConfigurationError: when the parts do not go together, or ``sev-snp-measure`` is not installed.
    :raises InputError: when the firmware or the SVSM image cannot be read, or measures no kernel though one is given.
    """
    _check(guest)
    if guest.mode is SevMode.SEV_ES:
        return _sev_es(guest)
    if guest.mode is SevMode.SNP_SVSM:
        return _snp_svsm(guest)
    return _snp(guest)


def measure_sev(guest: SevGuest) -> LaunchMeasurement:
    """Return the launch digest as the register ``measurement``, and each input that it is of, with the input's own digest.

    :raises ConfigurationError: as :func:`launch_digest` does.
    :raises InputError: likewise.
    """
    machine = (
        f"{guest.mode.value} by {guest.vmm.value}: {guest.vcpus} vCPUs, signature {guest.vcpu_signature:#x}, "
        f"guest features {guest.guest_features:#x}"
    )
    parts = [
        ("the firmware", Input.FIRMWARE, guest.firmware),
        (f"the machine, {machine}", Input.MACHINE, machine.encode()),
    ]
    if guest.svsm is not None:
        content = guest.svsm.vars_size.to_bytes(8, "little") + guest.svsm.image
        parts.append(("the SVSM, behind the size of the variable store", Input.SVSM, content))
    if guest.kernel is not None:
        kernel = guest.kernel
        parts.append(("the kernel", Input.KERNEL, kernel.image))
        parts.append(("the initial RAM disk", Input.INITRD, kernel.initrd))
        parts.append(("the command line", Input.CMDLINE, kernel.cmdline.encode()))
    events = tuple(
        MeasuredEvent("measurement", None, what, sha384(content).digest(), source)
        for what, source, content in parts
    )
    return LaunchMeasurement({"measurement": launch_digest(guest)}, events, ())


def _check(guest: SevGuest) -> None:
    if not 0 < guest.vcpus <= MAX_VCPUS:
        raise ConfigurationError(
            f"{guest.vcpus} vCPUs: 1 to {MAX_VCPUS} are possible", hint="See QEMU's -smp."
        )
    if not 0 <= guest.vcpu_signature < 1 << 32 or not 0 <= guest.guest_features < 1 << 64:
        raise ConfigurationError(
            "the vCPU signature has 32 bits, the guest features have 64",
            hint="Give them as the VMM has them.",
        )
    if (guest.mode is SevMode.SNP_SVSM) != (guest.svsm is not None):
        raise ConfigurationError(
            "an SVSM image is for the mode snp-svsm, which needs one", hint="Give both or neither."
        )
    if guest.mode is SevMode.SNP_SVSM and (guest.kernel is not None or guest.vmm is not SevVmm.QEMU):
        raise ConfigurationError(
            "with an SVSM neither a kernel nor another VMM than QEMU is defined", hint="Leave them out."
        )
    if guest.mode is SevMode.SEV_ES and guest.guest_features != DEFAULT_GUEST_FEATURES:
        raise ConfigurationError("SEV-ES has no guest features", hint="Leave them out.")
    if guest.kernel is not None and "\0" in guest.kernel.cmdline:
        raise ConfigurationError("the command line has a NUL", hint="Give it as QEMU's -append has it.")


def _snp(guest: SevGuest) -> bytes:
    tables = _examine(guest.firmware, _HINT)
    if tables.sections is None:
        raise InputError("the firmware has no SEV metadata: it was not built for SEV-SNP", hint=_HINT)
    if guest.kernel is not None and not (_KERNEL_HASHES in tables.sections and tables.hashes):
        raise InputError(_NO_KERNEL, hint=_NO_KERNEL_HINT)
    firmware = _image(guest.firmware, _FOUR_GIB)
    context = _library("gctx").GCTX()
    context.update_normal_pages(firmware.gpa(), firmware.data())
    _library("guest").snp_update_metadata_pages(context, firmware, _hashes(guest), _vmm(guest))
    return _finish_snp(context, _processors(guest, tables), guest.vcpus)


def _snp_svsm(guest: SevGuest) -> bytes:
    assert guest.svsm is not None
    if not 0 <= guest.svsm.vars_size <= MAX_FIRMWARE or guest.svsm.vars_size % PAGE:
        raise ConfigurationError(
            f"a variable store of {guest.svsm.vars_size} bytes", hint="Give the size of OVMF_VARS.fd."
        )
    _examine(guest.firmware, _HINT)
    hint = "Give the SVSM image that QEMU boots."
    tables = _examine(guest.svsm.image, hint)
    if tables.sections is None or tables.svsm_start is None:
        raise InputError("the SVSM image has no SEV metadata or does not say where it starts", hint=hint)
    firmware = _image(guest.firmware, _FOUR_GIB)
    svsm = _image(guest.svsm.image, firmware.gpa() - guest.svsm.vars_size)
    context = _library("gctx").GCTX()
    context.update_normal_pages(firmware.gpa(), firmware.data())
    context.update_normal_pages(svsm.gpa(), svsm.data())
    _library("guest").snp_update_metadata_pages(context, svsm, None, _vmm(guest))
    processors = _library("vmsa").VMSA_SVSM(tables.svsm_start + svsm.gpa(), guest.vcpu_signature)
    return _finish_snp(context, processors, guest.vcpus)


def _finish_snp(context: Any, processors: Any, vcpus: int) -> bytes:
    for page in processors.pages(vcpus):
        context.update_vmsa_page(page)
    return bytes(context.ld())


def _sev_es(guest: SevGuest) -> bytes:
    tables = _examine(guest.firmware, _HINT)
    if guest.kernel is not None and not tables.hashes:
        raise InputError(_NO_KERNEL, hint=_NO_KERNEL_HINT)
    digest = sha256(guest.firmware)
    if guest.kernel is not None:
        digest.update(_hashes(guest).construct_table())
    for page in _processors(guest, tables).pages(guest.vcpus):
        digest.update(page)
    return digest.digest()


def _processors(guest: SevGuest, tables: _Tables) -> Any:
    if not tables.reset:
        raise InputError("the firmware does not say where its further vCPUs start", hint=_HINT)
    modes = _library("sev_mode").SevMode
    if guest.mode is SevMode.SEV_ES:
        mode, features = modes.SEV_ES, 0
    else:
        mode, features = modes.SEV_SNP, guest.guest_features
    return _library("vmsa").VMSA(mode, tables.reset, guest.vcpu_signature, features, _vmm(guest))


def _vmm(guest: SevGuest) -> Any:
    types = _library("vmm_types").VMMType
    return {SevVmm.QEMU: types.QEMU, SevVmm.EC2: types.ec2, SevVmm.GCE: types.gce}[guest.vmm]


@dataclass(frozen=True, slots=True)
class _Tables:
    """What an image says of itself: types of its SEV sections, place of the kernel hashes, start of vCPUs, start of an SVSM."""

    sections: frozenset[int] | None
    hashes: int | None
    reset: int | None
    svsm_start: int | None


def _examine(image: bytes, hint: str) -> _Tables:
    """Check everything in an image that the library follows without asking.

    :raises InputError: when the image is not whole pages, or its table or SEV metadata do not hold together.
    """
    table = guided_table(image)
    if len(image) % PAGE:
        raise InputError("the image is not whole pages; is the file cut off?", hint=hint)
    from_end = u32_of(table, _METADATA)
    sections = None if from_end is None else _sections(image, len(image) - from_end, hint)
    hashes = u32_of(table, _HASHES)
    if hashes is not None and hashes % PAGE > PAGE - _HASHES_SIZE:
        raise InputError("the place for kernel hashes is not within one page", hint=hint)
    svsm = table.get(_SVSM_INFO)
    start = int.from_bytes(svsm[:4], "little") if svsm is not None and len(svsm) >= 4 else None
    return _Tables(sections, hashes, u32_of(table, _ES_RESET), start)


def _sections(image: bytes, offset: int, hint: str) -> frozenset[int]:
    """Return the types of the sections in the SEV metadata at ``offset``, after checking each."""
    if not 0 <= offset <= len(image) - _HEADER.size:
        raise InputError("the SEV metadata lie outside of the image", hint=hint)
    signature, size, version, count = _HEADER.unpack_from(image, offset)
    if signature != b"ASEV" or version != 1:
        raise InputError("the SEV metadata do not start with 'ASEV' version 1", hint=hint)
    if count > _MAX_SECTIONS or size < _HEADER.size + count * _SECTION.size or offset + size > len(image):
        raise InputError(
            f"the SEV metadata claim {count} sections in {size} bytes, which cannot be", hint=hint
        )
    start = offset + _HEADER.size
    sections = [_SECTION.unpack_from(image, start + index * _SECTION.size) for index in range(count)]
    for gpa, length, kind in sections:
        if kind not in _KNOWN_SECTIONS or gpa % PAGE or length % PAGE:
            raise InputError(f"an SEV section of type {kind:#x} at {gpa:#x} cannot be measured", hint=hint)
        if kind == _KERNEL_HASHES and length != PAGE:
            raise InputError("the SEV section of kernel hashes is not one page", hint=hint)
    if sum(length for _, length, _ in sections) > _MAX_SECTION_BYTES:
        raise InputError(f"the SEV sections claim more than {_MAX_SECTION_BYTES} bytes", hint=hint)
    return frozenset(kind for _, _, kind in sections)


def _image(content: bytes, end: int) -> Any:
    """Return the library's firmware object for bytes that :func:`_examine` has accepted; its constructor takes a file name alone."""
    base = _library("ovmf").OVMF
    image: Any = base.__new__(base)
    image._data, image._gpa = content, end - len(content)  # noqa: SLF001 - the version is pinned
    image._parse_footer_table()  # noqa: SLF001
    image._parse_sev_metadata()  # noqa: SLF001
    return image


def _hashes(guest: SevGuest) -> Any:
    """Return the library's kernel hashes, or nothing without a kernel."""
    kernel = guest.kernel
    if kernel is None:
        return None
    base = _library("sev_hashes").SevHashes
    hashes: Any = base.__new__(base)
    hashes.kernel_hash = sha256(kernel.image).digest()
    hashes.initrd_hash = sha256(kernel.initrd).digest()
    hashes.cmdline_hash = sha256(kernel.cmdline.encode() + b"\0").digest()
    return hashes


def _library(module: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - an optional dependency, needed only here

    try:
        return import_module(f"sevsnpmeasure.{module}")
    except ModuleNotFoundError:
        raise ConfigurationError(
            "sev-snp-measure is not installed", hint="Install it with: pip install 'eaa[measure]'"
        ) from None
