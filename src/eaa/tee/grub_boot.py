# SPDX-License-Identifier: Apache-2.0
"""A kernel that UEFI firmware boots from a disk through shim and GRUB, with Secure Boot, and the events of that boot. Pure.

shim (``mok.c``, ``tpm.c``, ``shim.c``) measures its lists and what allows GRUB; GRUB's module ``tpm`` each command that it runs into PCR 8 and each file
that it reads into PCR 9. The order of the events is that of a guest's log (shim 16.1, GRUB 2.06 of Debian 12; ``make interop-vm``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from eaa.eventlog.types import EventType
from eaa.eventlog.write import variable_data
from eaa.rats import ConfigurationError
from eaa.tee.authority import authority_of
from eaa.tee.efi_boot import boot_option_events
from eaa.tee.grub_config import bootstrap_commands, parse_grub_config
from eaa.tee.measured import Input, MeasuredEvent
from eaa.tee.pe import authenticode_digest
from eaa.tee.shim import SHIM_LOCK, Shim, parse_shim
from eaa.tee.uefi import exit_events, file_path, image_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.tee.uefi import Platform, SecureBoot

__all__ = ["GrubBoot", "grub_events"]

_GRUB_PATH: Final = "\\EFI\\BOOT\\grubx64.efi"
_VERIFICATIONS: Final = 2
"""How often Debian's GRUB has shim verify the kernel: its module ``shim_lock`` when the file is read, and its command ``linux``."""


@dataclass(frozen=True, slots=True)
class GrubBoot:
    """shim under the path for removable media, GRUB beside it, and GRUB's configuration under the prefix that GRUB has built in.

    ``device`` is the disk or partition that they lie on, as GRUB names it. ``fresh`` is false where shim has been at work with the machine's
    variables before, or somebody who gave it keys. ``failed_options`` and ``table`` are as in :class:`.UkiBoot`.
    """

    shim: bytes = field(repr=False)
    grub: bytes = field(repr=False)
    config: bytes = field(repr=False)
    kernel: bytes = field(repr=False)
    initrd: bytes = field(default=b"", repr=False)
    device: str = "hd0,gpt1"
    fresh: bool = True
    failed_options: int = 0
    table: bytes | None = field(default=None, repr=False)


def grub_events(platform: Platform, boot: GrubBoot, policy: SecureBoot) -> Iterator[MeasuredEvent]:
    """Yield the events from the moment that firmware starts boot options; those that cannot be known have no digest.

    :raises InputError: when an image is not what it should be, or the configuration is not of the simple form.
    :raises ConfigurationError: without Secure Boot, or when configuration and initial RAM disk do not go together.
    """
    if not policy.enabled:
        raise ConfigurationError(
            "a boot through shim and GRUB is computed for a firmware with Secure Boot enabled alone",
            hint="Give the variable store that the guest is started with, such as OVMF_VARS_4M.ms.fd.",
        )
    shim = parse_shim(boot.shim)
    yield from boot_option_events(
        platform, boot.shim, "shim", Input.SHIM, policy, boot.failed_options, boot.table
    )
    yield from _mok(platform, shim, boot, policy)
    digest, path = authenticode_digest(boot.grub, platform.algorithm), file_path(_GRUB_PATH)
    yield image_event(platform, "GRUB", digest, len(boot.grub), path, Input.GRUB)
    for command in bootstrap_commands(boot.grub, boot.device):
        yield _command(platform, command, Input.GRUB)
    yield _file(platform, "GRUB's configuration", boot.config, Input.GRUB_CONFIG)
    yield from _configured(platform, boot)
    yield from exit_events(platform)


def _mok(platform: Platform, shim: Shim, boot: GrubBoot, policy: SecureBoot) -> Iterator[MeasuredEvent]:
    """Yield what shim has measured of its own variables when it starts GRUB, and the certificate that allows GRUB and the kernel."""
    kind, source = EventType.EV_IPL, Input.SHIM if boot.fresh else Input.SECURE_BOOT
    allowed, revoked = (shim.allowed, shim.revoked or None) if boot.fresh else (None, None)
    yield platform.event(14, kind, "MokList, shim's vendor's certificate", allowed, source, b"MokList\0")
    yield platform.event(14, kind, "MokListX, shim's vendor's revocations", revoked, source, b"MokListX\0")
    level = variable_data(SHIM_LOCK.bytes_le, "SbatLevel", shim.level)
    authority = EventType.EV_EFI_VARIABLE_AUTHORITY
    what = "SbatLevel, shim's automatic level"
    yield platform.event(7, authority, what, level if boot.fresh else None, source, level)
    trusted = b"\1" if boot.fresh else None
    yield platform.event(14, kind, "MokListTrusted", trusted, Input.CONSTANT, b"MokListTrusted\0")
    entries = {authority_of(image, shim.allowed) for image in (boot.grub, boot.kernel)}
    entry = entries.pop()
    if entries or not boot.fresh or any(authority_of(image, policy.db) for image in (boot.grub, boot.kernel)):
        entry = None
    data = variable_data(SHIM_LOCK.bytes_le, "MokListRT", entry or b"")
    what = (
        "shim's vendor's certificate, which allows GRUB and the kernel"
        if entry
        else "what allows GRUB and the kernel: not shim's vendor's certificate alone"
    )
    yield platform.event(7, authority, what, data if entry else None, Input.SHIM, data)


def _configured(platform: Platform, boot: GrubBoot) -> Iterator[MeasuredEvent]:
    config = parse_grub_config(boot.config)
    if (config.initrd is None) != (not boot.initrd):
        raise ConfigurationError(
            "the GRUB configuration and the initial RAM disk do not go together",
            hint="Give the file that initrd names, and none without an initrd.",
        )
    for setting in config.settings:
        yield _command(platform, setting, Input.GRUB_CONFIG)
    yield _command(platform, config.linux, Input.GRUB_CONFIG)
    yield _file(platform, "the kernel", boot.kernel, Input.KERNEL)
    digest = authenticode_digest(boot.kernel, platform.algorithm)
    for _ in range(_VERIFICATIONS):
        what = "the kernel, as shim verifies it"
        yield image_event(platform, what, digest, len(boot.kernel), b"", Input.KERNEL)
    cmdline = config.cmdline.encode()
    data = b"kernel_cmdline: " + cmdline + b"\0"
    what = "the kernel's path and command line"
    yield platform.event(8, EventType.EV_IPL, what, cmdline, Input.CMDLINE, data)
    if config.initrd is not None:
        yield _command(platform, config.initrd, Input.GRUB_CONFIG)
        yield _file(platform, "the initial RAM disk", boot.initrd, Input.INITRD)
    yield _command(platform, "boot", Input.GRUB_CONFIG)


def _command(platform: Platform, text: str, source: Input) -> MeasuredEvent:
    data = text.encode()
    return platform.event(8, EventType.EV_IPL, text, data, source, b"grub_cmd: " + data + b"\0")


def _file(platform: Platform, what: str, content: bytes, source: Input) -> MeasuredEvent:
    return platform.event(9, EventType.EV_IPL, what, content, source, what.encode() + b"\0")
