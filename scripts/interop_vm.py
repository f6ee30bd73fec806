# SPDX-License-Identifier: Apache-2.0
"""Boot a real guest with a vTPM, then appraise what it sends: QEMU (TCG), OVMF, swtpm, Debian's cloud kernel, tpm2-tools.

1. swtpm_setup makes a TPM with a certified endorsement key; its CA is the only root that is trusted here.
2. From kernel, initial disk and command line alone, what the TPM will have measured is computed.
3. QEMU is asked which ACPI tables it would give to the firmware of this machine.
4. The guest boots. Its initial disk is busybox and tpm2-tools; it creates an attestation key, quotes PCRs 0 to 15 over a fresh
   nonce, and prints quote, key and the firmware's event log on its serial console.
5. The machine off, the same TPM proves by credential activation that the key is its own.
6. The quoted PCRs, and the event log event by event, are what was computed. PCR 0 is not, and it is said why. The ACPI tables are
   those that QEMU had said.
7. Our verifier accepts the quote; the event log, replayed, gives the quoted PCRs; another nonce, no enrolment and another root
   are refused on their checks.

Downloads a kernel with apt-get into .cache/interop-vm. Takes half a minute, and stops after three.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

from cryptography.x509 import load_pem_x509_certificate

from eaa.cli._measure.qemu import ask_for_acpi
from eaa.eventlog import check_event_log, explain, parse_event_log
from eaa.rats import Endorsements, TrustAnchor
from eaa.tee.direct_boot import DirectBoot, SetupHeader
from eaa.tee.q35 import memory_size
from eaa.tee.tpm.enrolment import begin_enrolment
from eaa.tee.tpm.evidence import TpmEvidence, bundle_tpm2_tools, parse_tpm_evidence
from eaa.tee.tpm.measure import measure_tpm
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.public import parse_public
from eaa.tee.tpm.verify import TpmVerifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eaa.tee.measured import LaunchMeasurement
    from eaa.tee.tdx.acpi import AcpiBlobs

PACKAGES = "qemu-system-x86 ovmf swtpm swtpm-tools tpm2-tools libtss2-tcti-swtpm0 libtss2-tcti-device0 cpio"
PROGRAMS = (
    "qemu-system-x86_64",
    "swtpm",
    "swtpm_setup",
    "swtpm_localca",
    "tpm2",
    "cpio",
    "apt-get",
    "dpkg-deb",
)
OVMF = Path("/usr/share/OVMF")
CACHE = Path(__file__).parents[1] / ".cache" / "interop-vm"
BUSYBOX = CACHE.parent / "tools" / "busybox"
MEMORY = "512M"
EK, AK = "0x81010001", "0x81010002"
FILES = ("q.msg", "q.sig", "q.pcrs", "ak.pub", "log", "acpi")
ACPI = ("table-loader", "acpi/rsdp", "acpi/tables")
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc p /proc; /bin/busybox mount -t sysfs s /sys
/bin/busybox mount -t devtmpfs d /dev; /bin/busybox mount -t securityfs f /sys/kernel/security
export TPM2TOOLS_TCTI=device:/dev/tpmrm0 PATH=/bin
cd /tmp
nonce=$(/bin/busybox sed 's/.*nonce=\\([0-9a-f]*\\).*/\\1/' /proc/cmdline)
tpm2 createak -Q -C {EK} -c ak.ctx -G rsa -g sha256 -s rsassa -u ak.pub
tpm2 evictcontrol -Q -c ak.ctx {AK}
tpm2 quote -Q -c ak.ctx -l sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -q $nonce -g sha256 -m q.msg -s q.sig -o q.pcrs
/bin/busybox cp /sys/kernel/security/tpm0/binary_bios_measurements log
/bin/busybox insmod /qemu_fw_cfg.ko
for file in {" ".join(ACPI)}; do /bin/busybox sha256sum /sys/firmware/qemu_fw_cfg/by_name/etc/$file/raw; done > acpi
for file in {" ".join(FILES)}; do echo "<$file>"; /bin/busybox base64 $file; echo "</$file>"; done
/bin/busybox poweroff -f
"""


def main() -> int:
    """Do all of it in a folder of its own; the exit status is 0 only if everything holds."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [str(path) for path in (OVMF / "OVMF_CODE_4M.fd", BUSYBOX) if not path.exists()]
    drivers = sorted(Path("/usr/lib").glob("*/libtss2-tcti-device.so.0"))
    missing += [] if drivers else ["libtss2-tcti-device.so.0"]
    if missing:
        print(f"interop-vm: missing: {', '.join(missing)}; run `make setup` and: apt-get install {PACKAGES}")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="eaa-vm-", dir="/tmp"))
    try:
        kernel = fetch_kernel()
        make_tpm(folder)
        make_initrd(folder, drivers[0], kernel)
        nonce = token_bytes(32)
        cmdline = f"console=ttyS0 quiet nonce={nonce.hex()}"
        predicted = measure_tpm(
            DirectBoot(kernel.read_bytes(), (folder / "initrd.img").read_bytes(), cmdline, SetupHeader.QEMU),
            memory=memory_size(MEMORY),
        )
        acpi = learn_acpi(folder)
        begun = time.monotonic()
        said = boot(folder, kernel, cmdline)
        print(f"the guest booted in {time.monotonic() - begun:.1f} s and sent {', '.join(said)}")
        held = appraise(folder, said, nonce)
        held &= compare(predicted, said)
        held &= compare_acpi(acpi, said)
    finally:
        shutil.rmtree(folder)
    print("everything holds" if held else "something does NOT hold")
    return 0 if held else 1


def run(*command: str, folder: Path, **environment: str) -> str:
    """Run a program to its end; what it says is only of interest when it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"interop-vm: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def fetch_kernel() -> Path:
    """Return Debian's cloud kernel, without installing it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(CACHE.glob("boot/vmlinuz-*"))):
        listed = run("apt-cache", "depends", "linux-image-cloud-amd64", folder=CACHE)
        package = next(line.split()[-1] for line in listed.splitlines() if "Depends: linux-image-" in line)
        run("apt-get", "download", package, folder=CACHE)
        run("dpkg-deb", "--extract", str(next(CACHE.glob("*.deb"))), ".", folder=CACHE)
        found = sorted(CACHE.glob("boot/vmlinuz-*"))
    return found[-1]


def make_tpm(folder: Path) -> None:
    """Manufacture a TPM whose endorsement key has a certificate of a CA of its own."""
    for name in ("ca", "state"):
        (folder / name).mkdir()
    places = {
        "statedir": "",
        "signingkey": "/signkey.pem",
        "issuercert": "/issuercert.pem",
        "certserial": "/serial",
    }
    (folder / "ca.conf").write_text("".join(f"{name}={folder}/ca{end}\n" for name, end in places.items()))
    (folder / "setup.conf").write_text(
        f"create_certs_tool=swtpm_localca\ncreate_certs_tool_config={folder}/ca.conf\n"
        "create_certs_tool_options=/etc/swtpm-localca.options\n"
    )
    run("swtpm_setup", "--tpm2", "--tpmstate", "state", "--create-ek-cert", "--pcr-banks", "sha256",
        "--config", str(folder / "setup.conf"), "--write-ek-cert-files", str(folder), folder=folder)  # fmt: skip


def make_initrd(folder: Path, driver: Path, kernel: Path) -> None:
    """Put busybox, tpm2-tools and the libraries they need into an initial disk, and the kernel's module for fw_cfg."""
    tree = folder / "initrd"
    version = kernel.name.removeprefix("vmlinuz-")
    module = CACHE / "lib" / "modules" / version / "kernel" / "drivers" / "firmware" / "qemu_fw_cfg.ko"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX.resolve(), tree / "bin" / "busybox")
    shutil.copy(module, tree / module.name)
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    program = shutil.copy(shutil.which("tpm2") or "", tree / "bin" / "tpm2")
    listed = run("ldd", str(program), folder=folder) + run("ldd", str(driver), folder=folder)
    for library in {
        str(driver),
        *(word for word in listed.split() if word.startswith("/") and not word.endswith(":")),
    }:
        place = tree / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(library).resolve(), place)
    run("sh", "-c", "find . | cpio --quiet -o -H newc > ../initrd.img", folder=tree)


def machine(
    folder: Path, code: str = "OVMF_CODE_4M.fd", variables: str = "OVMF_VARS_4M.fd", options: str = ""
) -> tuple[str, ...]:
    """Return the machine as QEMU's arguments; its files lie in ``folder``."""
    shutil.copy(OVMF / variables, folder / "vars.fd")
    return (
        "-machine", f"q35,accel=tcg{options}", "-m", MEMORY, "-nic", "none",
        "-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}/{code}",
        "-drive", f"if=pflash,format=raw,file={folder}/vars.fd",
        "-chardev", f"socket,id=tpm,path={folder}/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
        "-device", "tpm-crb,tpmdev=tpm0",
    )  # fmt: skip


def learn_acpi(folder: Path) -> AcpiBlobs:
    """Ask QEMU for the ACPI tables of the machine, with a copy of its TPM."""
    trial = folder / "trial"
    trial.mkdir()
    shutil.copytree(folder / "state", trial / "state")
    control = trial / "tpm.sock"
    with tpm(trial, control.exists, "--ctrl", f"type=unixio,path={control}"):
        return ask_for_acpi("qemu-system-x86_64", machine(trial), 100)


def boot(folder: Path, kernel: Path, cmdline: str) -> dict[str, bytes]:
    """Boot the guest, and return the files that it prints before it powers off."""
    command = (
        "qemu-system-x86_64", *machine(folder), "-nographic", "-no-reboot",
        "-kernel", str(kernel), "-initrd", str(folder / "initrd.img"), "-append", cmdline,
    )  # fmt: skip
    return start(folder, command)


def start(folder: Path, command: tuple[str, ...]) -> dict[str, bytes]:
    """Run a machine with its TPM until it is off, and return the files that its guest printed."""
    control = folder / "tpm.sock"
    with tpm(folder, control.exists, "--ctrl", f"type=unixio,path={control}"):
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=150, check=False
        )
    console = done.stdout.decode(errors="replace").replace("\r", "")
    said = {}
    for name in FILES:
        text, end, _ = console.partition(f"<{name}>\n")[2].partition(f"</{name}>")
        if not end or not text.strip():
            sys.exit(f"interop-vm: the guest did not send {name}; its console:\n{console[-3000:]}")
        said[name] = b64decode(text)
    return said


@contextmanager
def tpm(folder: Path, ready: Callable[[], bool], *options: str) -> Iterator[None]:
    """Run the TPM as long as it is needed."""
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}/state", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("interop-vm: swtpm does not come up")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def enrol(folder: Path, key: bytes, root: TrustAnchor) -> Endorsements:
    """Enrol the guest's key: the TPM that holds the certified endorsement key recovers a secret made for that key alone."""
    issuers = b"".join(
        (folder / "ca" / name).read_bytes() for name in ("issuercert.pem", "swtpm-localca-rootca-cert.pem")
    )
    enrolment = begin_enrolment(
        parse_public(key), (folder / "ek-rsa2048.crt").read_bytes(), issuers,
        anchors=(root,), at=datetime.now(UTC), secret=token_bytes(32),
    )  # fmt: skip
    (folder / "credential").write_bytes(enrolment.credential.to_tools_file())
    port = 20000 + os.getpid() % 20000

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port + 1)) == 0

    with tpm(folder, listening, "--flags", "not-need-init,startup-clear",
             "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
             "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"):  # fmt: skip
        for command in (
            "tpm2_startauthsession -Q --policy-session -S s.ctx",
            "tpm2_policysecret -Q -S s.ctx -c e",
            f"tpm2_activatecredential -Q -c {AK} -C {EK} -i credential -o answer -P session:s.ctx",
        ):
            run(*command.split(), folder=folder, TPM2TOOLS_TCTI=f"swtpm:host=127.0.0.1,port={port}")
    return Endorsements((enrolment.complete((folder / "answer").read_bytes()).to_endorsement(),))


def evidence_of(said: dict[str, bytes]) -> TpmEvidence:
    """Return the quote that the guest sent."""
    return parse_tpm_evidence(
        bundle_tpm2_tools(
            message=said["q.msg"], signature=said["q.sig"], pcrs=said["q.pcrs"], key=said["ak.pub"]
        )
    )


def compare(predicted: LaunchMeasurement, said: dict[str, bytes]) -> bool:
    """Print and return whether the quoted PCRs and the events of the log are those that were computed before the boot."""
    quoted = evidence_of(said).measurements
    print("computed before the boot, from what is booted alone:")
    held = True
    for name, value in predicted.registers.items():
        held &= quoted[name] == value.hex()
        print(
            f"  {name} {value.hex()}: {'as quoted' if quoted[name] == value.hex() else f'NOT {quoted[name]}'}"
        )
    mine = [
        (event.register, event.type, event.digest) for event in predicted.events if event.digest is not None
    ]
    theirs = [
        (f"pcr{event.register:02}", event.type, event.digests["sha256"])
        for event in parse_event_log(said["log"]).events
        if event.extends
    ]
    known = set(predicted.registers)
    same = [event for event in mine if event[0] in known] == [event for event in theirs if event[0] in known]
    held &= same
    print(f"  the log's events of these PCRs: {'as computed, in this order' if same else 'NOT as computed'}")
    for reason in predicted.unknown:
        print(f"  not in advance: {reason}")
    print(
        "  not in advance: pcr10, which the kernel extends for IMA, and the others that are left to the guest"
    )
    return held


def compare_acpi(acpi: AcpiBlobs, said: dict[str, bytes]) -> bool:
    """Print and return whether the guest was given the ACPI tables that QEMU had said it would be."""
    words = said["acpi"].split()
    given = dict(
        zip((word.decode() for word in words[1::2]), (word.decode() for word in words[::2]), strict=True)
    )
    print("learnt of QEMU before the boot, and what the guest's kernel found in fw_cfg:")
    held = True
    for name, content in zip(ACPI, (acpi.loader, acpi.rsdp, acpi.tables), strict=True):
        same = given.get(f"/sys/firmware/qemu_fw_cfg/by_name/etc/{name}/raw") == sha256(content).hexdigest()
        held &= same
        print(f"  etc/{name}, {len(content)} bytes: {'the same' if same else 'NOT the same'}")
    return held


def appraise(folder: Path, said: dict[str, bytes], nonce: bytes) -> bool:
    """Print and return whether quote and log are what they should be, and what should be refused is."""
    evidence = evidence_of(said)
    certificate = load_pem_x509_certificate((folder / "ca/swtpm-localca-rootca-cert.pem").read_bytes())
    root = TrustAnchor.from_certificate(certificate, simulated=True)
    mine, known = TpmPolicy(anchors=(root,)), enrol(folder, said["ak.pub"], root)
    held = True
    for what, expected, policy, endorsements, failing in (
        ("the quote, with its nonce and its TPM's maker", nonce, mine, known, []),
        ("the same for another nonce", token_bytes(32), mine, known, ["binding.report-data"]),
        ("the same without its TPM's maker", nonce, TpmPolicy(), known, ["tpm.certificate.chain"]),
        ("the same without an enrolment", nonce, mine, Endorsements(), ["tpm.ak.anchored"]),
    ):
        appraisal = TpmVerifier(policy).verify(
            evidence, endorsements, at=datetime.now(UTC), report_data=expected.ljust(64, b"\0")
        )
        found = [check.id for check in appraisal.failing]
        held &= found == failing
        print(f"  {what}: {', '.join(found) or 'accepted'}")
    log = parse_event_log(said["log"])
    registers = {name: bytes.fromhex(value) for name, value in evidence.measurements.items()}
    # The kernel extends PCR 10 for IMA, after the firmware's log ends.
    checks = check_event_log(log, registers, "sha256", optional={"pcr10"})
    for check in checks:
        held &= not check.blocks
        if check.blocks or check.result == "warn":
            print(f"  {check.id}: {check.result.value}: {check.found}")
    passed = sum(check.result == "pass" for check in checks)
    print(
        f"  the event log: {passed} of {len(checks)} checks pass; of its {len(log.events)} events, those of the boot:"
    )
    for event in log.events:
        if event.register in {4, 9}:
            print(f"    PCR {event.register}: {explain(event)}")
    return held


if __name__ == "__main__":
    sys.exit(main())
