# SPDX-License-Identifier: Apache-2.0
"""Boot a real guest with Secure Boot through Debian's shim and GRUB, and hold its quote against what was computed before.

As ``interop_uki.py``: shim, GRUB and the kernel are as Debian signs them, and the variable store is that with Microsoft's keys. PCRs 2 to 9 and
14 must be as computed. Downloads both packages with apt-get into .cache/interop-vm.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from secrets import token_bytes

from interop_vm import (
    BUSYBOX,
    CACHE,
    OVMF,
    compare,
    fetch_kernel,
    machine,
    make_initrd,
    make_tpm,
    run,
    start,
)

from eaa.tee.efi_boot import partition_table
from eaa.tee.grub_boot import GrubBoot
from eaa.tee.tpm.measure import measure_tpm
from eaa.tee.variables import has_shim_variables, secure_boot_of

PROGRAMS = ("mformat", "mcopy", "mmd", "apt-get", "dpkg-deb")
CODE, VARIABLES = "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"
SIGNED = {
    "shim-signed": "usr/lib/shim/shimx64.efi.signed",
    "grub-efi-amd64-signed": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
}


def main() -> int:
    """Boot; the exit status is 0 only if everything holds."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [str(path) for path in (BUSYBOX, OVMF / VARIABLES) if not path.exists()]
    drivers = sorted(Path("/usr/lib").glob("*/libtss2-tcti-device.so.0"))
    if missing or not drivers:
        print(
            f"interop-grub: missing: {', '.join(missing)}; run `make setup` and: apt-get install mtools ovmf"
        )
        return 1
    folder = Path(tempfile.mkdtemp(prefix="eaa-grub-", dir="/tmp"))
    try:
        make_tpm(folder)
        kernel = fetch_kernel()
        shim, grub = (fetch(package, path) for package, path in SIGNED.items())
        make_initrd(folder, drivers[0], kernel)
        config = folder / "grub.cfg"
        config.write_text(
            "# written by a build system\nset root=hd0\n\n"
            f"linux  /vmlinuz console=ttyS0 quiet nonce={token_bytes(32).hex()} test=a,b:c@d+e%(f) -- x.y-z\n"
            "  initrd /initrd.img\nboot\n"
        )
        disk = make_disk(folder, shim, grub, kernel)
        store = (OVMF / VARIABLES).read_bytes()
        predicted = measure_tpm(
            GrubBoot(
                shim.read_bytes(), grub.read_bytes(), config.read_bytes(), kernel.read_bytes(),
                (folder / "initrd.img").read_bytes(), device="hd0", fresh=not has_shim_variables(store),
                failed_options=1,  # q35 has a DVD drive, which is empty
                table=partition_table(disk.read_bytes()[: 1 << 16]),
            ),
            secure_boot=secure_boot_of(store),
        )  # fmt: skip
        command = (
            "qemu-system-x86_64", *machine(folder, CODE, VARIABLES, ",smm=on"), "-nographic", "-no-reboot",
            "-drive", f"if=virtio,format=raw,file={disk}",
        )  # fmt: skip
        print("a kernel through shim and GRUB, with Secure Boot:")
        held = compare(predicted, start(folder, command))
    finally:
        shutil.rmtree(folder)
    print("everything holds" if held else "something does NOT hold")
    return 0 if held else 1


def fetch(package: str, path: str) -> Path:
    """Return a file of a package of Debian's, without installing it."""
    found = CACHE / path
    if not found.exists():
        run("apt-get", "download", package, folder=CACHE)
        run("dpkg-deb", "--extract", str(next(CACHE.glob(f"{package}_*.deb"))), ".", folder=CACHE)
    return found


def make_disk(folder: Path, shim: Path, grub: Path, kernel: Path) -> Path:
    """Make a FAT file system, on a disk without partitions, from which firmware boots shim."""
    disk, initrd = folder / "disk.img", folder / "initrd.img"
    with disk.open("wb") as made:
        made.truncate(sum(path.stat().st_size for path in (shim, grub, kernel, initrd)) + (24 << 20))
    run("mformat", "-i", str(disk), "-F", "::", folder=folder)
    run("mmd", "-i", str(disk), "::/EFI", "::/EFI/BOOT", "::/EFI/debian", folder=folder)
    for path, place in (
        (shim, "/EFI/BOOT/BOOTX64.EFI"),
        (grub, "/EFI/BOOT/grubx64.efi"),
        (folder / "grub.cfg", "/EFI/debian/grub.cfg"),
        (kernel, "/vmlinuz"),
        (initrd, "/initrd.img"),
    ):
        run("mcopy", "-i", str(disk), str(path), f"::{place}", folder=folder)
    return disk


if __name__ == "__main__":
    sys.exit(main())
