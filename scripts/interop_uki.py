# SPDX-License-Identifier: Apache-2.0
"""Boot a real guest from a unified kernel image, without and with Secure Boot, and hold its quote against what was computed before.

As ``interop_vm.py``, with a disk: the image is made of systemd's stub, the kernel, the initial disk and a command line, and signed with
the test key that Debian's OVMF trusts in one of its variable stores. PCRs 2 to 7, 9 and 11 must be as computed, PCR 7 with the keys of the store and
the certificate that allowed the image.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

from interop_vm import (
    BUSYBOX,
    OVMF,
    compare,
    fetch_kernel,
    machine,
    make_initrd,
    make_tpm,
    run,
    start,
)

from eaa.tee.efi_boot import UkiBoot, partition_table
from eaa.tee.tpm.measure import measure_tpm
from eaa.tee.variables import secure_boot_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES = "systemd-boot-efi binutils sbsigntool mtools openssl"
PROGRAMS = ("objcopy", "sbsign", "mformat", "mcopy", "mmd", "openssl")
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
KEY, CERTIFICATE = (Path("/usr/share/ovmf") / f"PkKek-1-snakeoil.{end}" for end in ("key", "pem"))
PLACES = {".osrel": 0x20000, ".cmdline": 0x30000, ".linux": 0x2000000, ".initrd": 0x3000000}
# Code, variable store and options of the machine; the firmware with Secure Boot needs system management mode.
BOOTS: Mapping[str, tuple[str, str, str]] = {
    "without Secure Boot": ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", ""),
    "with Secure Boot": ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.snakeoil.fd", ",smm=on"),
}


def main() -> int:
    """Boot the image both ways; the exit status is 0 only if everything holds."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [str(path) for path in (STUB, KEY, CERTIFICATE, BUSYBOX) if not path.exists()]
    drivers = sorted(Path("/usr/lib").glob("*/libtss2-tcti-device.so.0"))
    if missing or not drivers:
        print(f"interop-uki: missing: {', '.join(missing)}; run `make setup` and: apt-get install {PACKAGES}")
        return 1
    held = True
    for name, (code, variables, options) in BOOTS.items():
        folder = Path(tempfile.mkdtemp(prefix="eaa-uki-", dir="/tmp"))
        try:
            make_tpm(folder)
            kernel = fetch_kernel()
            make_initrd(folder, drivers[0], kernel)
            image = make_image(folder, kernel, f"console=ttyS0 quiet nonce={token_bytes(32).hex()}")
            disk = make_disk(folder, image)
            predicted = measure_tpm(
                # q35 has a DVD drive, which is empty.
                UkiBoot(
                    image.read_bytes(), failed_options=1, table=partition_table(disk.read_bytes()[: 1 << 16])
                ),
                secure_boot=secure_boot_of((OVMF / variables).read_bytes()),
            )
            command = (
                "qemu-system-x86_64", *machine(folder, code, variables, options), "-nographic", "-no-reboot",
                "-drive", f"if=virtio,format=raw,file={disk}",
            )  # fmt: skip
            print(f"a unified kernel image, {name}:")
            held &= compare(predicted, start(folder, command))
        finally:
            shutil.rmtree(folder)
    print("everything holds" if held else "something does NOT hold")
    return 0 if held else 1


def make_image(folder: Path, kernel: Path, cmdline: str) -> Path:
    """Make a unified kernel image, and sign it."""
    (folder / "osrel").write_text("ID=eaa\nVERSION_ID=1\n")
    (folder / "cmdline").write_text(cmdline)
    contents = {
        ".osrel": folder / "osrel",
        ".cmdline": folder / "cmdline",
        ".linux": kernel,
        ".initrd": folder / "initrd.img",
    }
    words = [
        word
        for name, path in contents.items()
        for word in ("--add-section", f"{name}={path}", "--change-section-vma", f"{name}={PLACES[name]:#x}")
    ]
    run("objcopy", *words, str(STUB), "uki.efi", folder=folder)
    run("openssl", "rsa", "-in", str(KEY), "-passin", "pass:snakeoil", "-out", "key.pem", folder=folder)
    run(
        "sbsign",
        "--key",
        "key.pem",
        "--cert",
        str(CERTIFICATE),
        "--output",
        "signed.efi",
        "uki.efi",
        folder=folder,
    )
    return folder / "signed.efi"


def make_disk(folder: Path, image: Path) -> Path:
    """Make a FAT file system, on a disk without partitions, from which firmware boots the image."""
    disk = folder / "disk.img"
    with disk.open("wb") as made:
        made.truncate(image.stat().st_size + (24 << 20))
    run("mformat", "-i", str(disk), "-F", "::", folder=folder)
    run("mmd", "-i", str(disk), "::/EFI", "::/EFI/BOOT", folder=folder)
    run("mcopy", "-i", str(disk), str(image), "::/EFI/BOOT/BOOTX64.EFI", folder=folder)
    return disk


if __name__ == "__main__":
    sys.exit(main())
