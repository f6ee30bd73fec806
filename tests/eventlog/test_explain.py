# SPDX-License-Identifier: Apache-2.0
"""Events in words."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from eaa.eventlog import (
    Event,
    EventType,
    aael_data,
    explain,
    image_data,
    parse_aael,
    tagged_data,
    variable_data,
)
from eaa.eventlog.dstack import runtime_content
from eaa.eventlog.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY, SHIM_LOCK

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff").bytes_le
X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
SHA256 = UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le


def words(kind: int, data: bytes, label: str = "") -> str:
    """Explain one event."""
    return explain(Event(1, 1, kind, {"sha384": bytes(48)}, data, label))


def certificate(name: str) -> bytes:
    """Return a certificate of that common name, in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def signature_list(kind: bytes, *entries: bytes) -> bytes:
    """Return an EFI_SIGNATURE_LIST; all entries have one size."""
    size = 16 + len(entries[0])
    return struct.pack("<16sIII", kind, 28 + size * len(entries), 0, size) + b"".join(
        GUID + each for each in entries
    )


def path(*nodes: tuple[int, int, bytes]) -> bytes:
    """Return a device path."""
    packed = (struct.pack("<BBH", kind, subtype, 4 + len(data)) + data for kind, subtype, data in nodes)
    return b"".join(packed) + b"\x7f\xff\4\0"


def utf16(text: str) -> bytes:
    return f"{text}\0".encode("utf-16-le")


@pytest.mark.parametrize(
    ("guid", "name", "value", "expected"),
    [
        (GLOBAL_VARIABLE, "SecureBoot", b"\1", "Secure Boot is on"),
        (GLOBAL_VARIABLE, "SecureBoot", b"\0", "Secure Boot is off"),
        (GLOBAL_VARIABLE, "SecureBoot", b"", "Secure Boot is off (the variable does not exist)"),
        (GLOBAL_VARIABLE, "SecureBoot", b"\1\1", "Secure Boot is in an unknown state: 0101"),
        (GLOBAL_VARIABLE, "SetupMode", b"\1", "Secure Boot's setup mode is on"),
        (GLOBAL_VARIABLE, "PK", b"", "platform key: empty"),
        (IMAGE_SECURITY, "dbx", b"\1", "what Secure Boot forbids (dbx): cannot be read: 01"),
        (GUID, "Mine", b"text\0", 'variable Mine of 00112233-4455-6677-8899-aabbccddeeff: "text"'),
        (GUID, "Mine", b"\1\2", "variable Mine of 00112233-4455-6677-8899-aabbccddeeff: 0102"),
    ],
)
def test_configuration(guid: bytes, name: str, value: bytes, expected: str) -> None:
    assert words(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(guid, name, value)) == expected


def test_a_name_under_another_guid_is_not_secure_boot_s() -> None:
    """Anybody may name a variable SecureBoot; only UEFI's own has that meaning."""
    told = words(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(GUID, "SecureBoot", b"\1"))
    assert "Secure Boot is" not in told


def test_keys_are_named_and_digests_counted() -> None:
    lists = signature_list(X509, certificate("Vendor A")) + signature_list(X509, certificate("Vendor B"))
    lists += signature_list(SHA256, bytes(32), bytes(32), bytes(32)) + signature_list(GUID, b"?")
    told = words(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(IMAGE_SECURITY, "db", lists))
    assert told == (
        "what Secure Boot allows (db): 2 certificates, 3 SHA-256 digests, 1 entry of another kind "
        "(CN=Vendor A; CN=Vendor B)"
    )


def test_only_the_first_keys_are_read() -> None:
    """Reading certificates is the dearest thing that an event can ask for."""
    lists = signature_list(X509, *[bytes(20)] * 10_000)
    told = words(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(IMAGE_SECURITY, "db", lists))
    assert told.count("(a certificate that cannot be read)") == 16
    assert "10000 certificates" in told


def test_a_huge_certificate_is_not_read() -> None:
    lists = signature_list(X509, b"\x30" * 9000)
    assert "(a certificate of 9000 bytes)" in words(
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(IMAGE_SECURITY, "db", lists)
    )


def test_who_allowed_an_image() -> None:
    der = certificate("Vendor CA")
    for name, value in (
        ("db", GUID + der),
        ("Shim", der),
        ("vendor_db", GUID + der),
        ("MokList", GUID + der),
    ):
        told = words(EventType.EV_EFI_VARIABLE_AUTHORITY, variable_data(IMAGE_SECURITY, name, value))
        assert told == f"an image was allowed by {name}: certificate CN=Vendor CA"
    digest = words(
        EventType.EV_EFI_VARIABLE_AUTHORITY, variable_data(IMAGE_SECURITY, "db", GUID + b"\x11" * 32)
    )
    assert digest == f"an image was allowed by db: SHA-256 digest {'11' * 32}"


def test_shim_s_own_state() -> None:
    level = variable_data(SHIM_LOCK, "SbatLevel", b"sbat,1,2023012900\nshim,2\n")
    assert words(EventType.EV_EFI_VARIABLE_AUTHORITY, level) == (
        "shim's revocation level (SBAT): sbat,1,2023012900 shim,2"
    )
    trusted = variable_data(SHIM_LOCK, "MokListTrusted", b"\1")
    assert words(EventType.EV_EFI_VARIABLE_AUTHORITY, trusted) == "shim trusts machine owner keys: yes"


def test_boot_order_and_options() -> None:
    order = variable_data(GLOBAL_VARIABLE, "BootOrder", b"\1\0\x0a\0")
    assert words(EventType.EV_EFI_VARIABLE_BOOT, order) == "BootOrder: Boot0001, Boot000A"
    disk = path(
        (2, 1, struct.pack("<HHI", 0x41D0, 0x0A03, 0)),
        (1, 1, b"\0\4"),
        (3, 23, struct.pack("<I8s", 1, bytes(8))),
        (4, 1, struct.pack("<IQQ16sBB", 1, 0x800, 0x1000, GUID, 2, 2)),
        (4, 4, utf16(r"\EFI\BOOT\BOOTX64.EFI")),
    )
    option = struct.pack("<IH", 1, len(disk)) + utf16("Linux") + disk
    told = words(EventType.EV_EFI_VARIABLE_BOOT, variable_data(GLOBAL_VARIABLE, "Boot0001", option))
    assert told == (
        'Boot0001 is "Linux": PciRoot(0x0)/Pci(0x4,0x0)/NVMe(0x1,00-00-00-00-00-00-00-00)/'
        r"HD(1,GPT,00112233-4455-6677-8899-aabbccddeeff,0x800,0x1000)/File(\EFI\BOOT\BOOTX64.EFI)"
    )


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ((1, 3, struct.pack("<IQQ", 11, 16, 32)), "MemoryMapped(11,0x10,0x20)"),
        ((1, 4, GUID + b"\1"), "VenHw(00112233-4455-6677-8899-aabbccddeeff,01)"),
        ((1, 5, b"\1\0\0\0"), "Ctrl(0x1)"),
        ((2, 1, struct.pack("<HHI", 0x41D0, 0x0604, 1)), "Acpi(PNP0604,0x1)"),
        ((3, 2, b"\1\0\2\0"), "Scsi(0x1,0x2)"),
        ((3, 5, b"\1\2"), "USB(0x1,0x2)"),
        ((3, 10, GUID), "VenMsg(00112233-4455-6677-8899-aabbccddeeff)"),
        ((3, 11, bytes(range(6)) + bytes(26) + b"\1"), "MAC(000102030405,0x1)"),
        ((3, 12, bytes(4) + b"\x0a\0\0\1" + bytes(11)), "IPv4(10.0.0.1)"),
        ((3, 13, bytes(31) + b"\1" + bytes(24)), "IPv6(::1)"),
        ((3, 18, b"\1\0\xff\xff\0\0"), "Sata(0x1,0xffff,0x0)"),
        ((3, 24, b"http://10.0.0.1/boot"), "Uri(http://10.0.0.1/boot)"),
        (
            (4, 1, struct.pack("<IQQ16sBB", 1, 1, 2, b"\x11\x22\x33\x44" + bytes(12), 1, 1)),
            "HD(1,MBR,0x44332211,0x1,0x2)",
        ),
        ((4, 2, struct.pack("<IQQ", 1, 2, 3)), "CDROM(0x1,0x2,0x3)"),
        ((4, 3, GUID), "VenMedia(00112233-4455-6677-8899-aabbccddeeff)"),
        ((4, 6, GUID), "FvFile(00112233-4455-6677-8899-aabbccddeeff)"),
        ((4, 7, GUID), "Fv(00112233-4455-6677-8899-aabbccddeeff)"),
        ((4, 8, struct.pack("<IQQ", 0, 2, 3)), "Offset(0x2,0x3)"),
        ((9, 9, b"\1\2"), "Path(9,9,0102)"),
        ((1, 1, b"\1"), "Path(1,1,01)"),
        ((9, 9, bytes(40)), f"Path(9,9,{'00' * 32}…)"),
    ],
)
def test_device_paths(node: tuple[int, int, bytes], expected: str) -> None:
    told = words(EventType.EV_EFI_BOOT_SERVICES_APPLICATION, image_data(path(node), 4096))
    assert told == f"application started: {expected} (4096 bytes)"


def test_long_device_paths_are_cut() -> None:
    told = words(EventType.EV_EFI_BOOT_SERVICES_DRIVER, image_data(path(*[(1, 1, b"\0\0")] * 10_000), 1))
    assert told.count("Pci") == 64
    assert "…" in told


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"grub_cmd: set root=hd0\0", "GRUB command: set root=hd0"),
        (b"grub_cmd menuentry x {\n linux /k\n}\0\0", "GRUB command: menuentry x {  linux /k }"),
        (b"kernel_cmdline: /vmlinuz root=/dev/vda1 ro\0", "kernel command line: /vmlinuz root=/dev/vda1 ro"),
        (b"grub_linuxefi Kernel\0", "kernel, loaded by GRUB"),
        (b"MokList\0", "machine owner keys (MokList)"),
        (b"(hd0,gpt1)/boot/grub/grub.cfg\0", "file read by the boot loader: (hd0,gpt1)/boot/grub/grub.cfg"),
        (b"/boot/vmlinuz-6.1\0", "kernel read by the boot loader: /boot/vmlinuz-6.1"),
        (b"/boot/initrd.img-6.1\0", "initial RAM disk read by the boot loader: /boot/initrd.img-6.1"),
        (utf16(".cmdline"), "kernel command line, section .cmdline of the unified kernel image"),
        (utf16("root=/dev/vda1 ro"), "kernel command line: root=/dev/vda1 ro"),
        (b"something else", "boot loader: something else"),
        (b"\xff\xfe\xfd", "boot loader: fffefd"),
    ],
)
def test_boot_loaders(data: bytes, expected: str) -> None:
    assert words(EventType.EV_IPL, data) == expected


def test_tagged_events() -> None:
    tag = EventType.EV_EVENT_TAG
    assert words(tag, tagged_data(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0")).startswith(
        "kernel command line"
    )
    assert words(tag, tagged_data(0xF5BC582A, b"timeout 3")).endswith("(systemd-boot): timeout 3")
    assert words(tag, tagged_data(0x1234, b"text")) == "tagged event 00001234: text"
    assert words(tag, b"\1\2") == "tagged event that is cut off: 0102"


def test_what_workloads_logged() -> None:
    pulled = '{"image":"registry.example/app:1","digest":"sha256:00ff"}'
    entry = aael_data("github.com/confidential-containers", "PullImage", pulled)
    assert words(EventType.EV_EVENT_TAG, entry) == (
        "container image pulled: registry.example/app:1 with digest sha256:00ff"
    )
    other = aael_data("example.com", "PullImage", pulled)
    assert words(EventType.EV_EVENT_TAG, other) == f"PullImage by example.com: {pulled}"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("plain words", "plain words"),
        ('{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
        ("NaN", "NaN"),
        ('"\\ud800"', '"\\ud800"'),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_what_workloads_logged_is_json_only_when_it_is_one_value_to_all(content: str, value: object) -> None:
    entry = parse_aael(aael_data("a.b", "op", content))
    assert entry is not None
    assert entry.value() == value


@pytest.mark.parametrize(
    "parts", [("", "op", "x"), ("a b", "op", "x"), ("a", "o\np", "x"), ("a", "op", "x\ny")]
)
def test_entries_that_would_read_as_others_are_not_written(parts: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="printable"):
        aael_data(*parts)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (EventType.EV_SEPARATOR, b"\xff" * 4, "end of the firmware's preparations (all ones)"),
        (EventType.EV_SEPARATOR, b"\1\0\0\0", "the firmware met an error before it booted: 01000000"),
        (EventType.EV_NO_ACTION, b"StartupLocality\0\3", "the TPM was started at locality 3"),
        (EventType.EV_NO_ACTION, b"anything", "information only: anything"),
        (EventType.EV_S_CRTM_VERSION, utf16("1.2"), 'firmware version "1.2"'),
        (EventType.EV_S_CRTM_VERSION, GUID, "firmware version 00112233-4455-6677-8899-aabbccddeeff"),
        (EventType.EV_S_CRTM_CONTENTS, b"Boot Guard\0", 'what starts the measurements: "Boot Guard"'),
        (
            EventType.EV_POST_CODE,
            struct.pack("<QQ", 0xFF000000, 4096),
            "firmware code: 4096 bytes at 0xff000000",
        ),
        (EventType.EV_CPU_MICROCODE, b"\1", "CPU microcode: 01"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", "an ACPI table from the host"),
        (
            EventType.EV_PLATFORM_CONFIG_FLAGS,
            b"etc/acpi/rsdp\0",
            "configuration from the host (fw_cfg): etc/acpi/rsdp",
        ),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"flags", "platform configuration: flags"),
        (EventType.EV_TABLE_OF_DEVICES, b"\1", "table of devices: 01"),
        (
            EventType.EV_NONHOST_INFO,
            b"GCE NonHostInfo\0\4",
            "confidential computing by Google's firmware: AMD SEV-SNP",
        ),
        (EventType.EV_NONHOST_CODE, b"bmc", "about code outside this host: bmc"),
        (
            EventType.EV_OMIT_BOOT_DEVICE_EVENTS,
            b"BOOT ATTEMPTS OMITTED",
            "attempts to boot are not measured one by one: BOOT ATTEMPTS OMITTED",
        ),
        (
            EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB,
            struct.pack("<QQ", 16, 32),
            "firmware volume: 32 bytes at 0x10",
        ),
        (
            EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
            b"\3Fv\0" + struct.pack("<QQ", 16, 32),
            'firmware volume "Fv": 32 bytes at 0x10',
        ),
        (EventType.EV_EFI_HANDOFF_TABLES, b"\2" + bytes(7), "tables that the firmware hands over: 2"),
        (EventType.EV_EFI_HANDOFF_TABLES2, b"\4ACPI", 'tables that the firmware hands over: "ACPI"'),
        (EventType.EV_EFI_HCRTM_EVENT, b"HCRTM", "measurements began before the CPU did (H-CRTM): HCRTM"),
        (EventType.EV_EFI_SPDM_FIRMWARE_BLOB, b"\1", "a device's firmware or its identity (SPDM): 01"),
        (EventType.EV_EFI_GPT_EVENT, b"\1", "partition table that cannot be read: 01"),
        (EventType.EV_EFI_VARIABLE_BOOT, b"\1", "a variable that cannot be read: 01"),
        (0x12345678, b"\1", "01"),
        (EventType.EV_EFI_ACTION, b"", "(no content in the log)"),
    ],
)
def test_the_rest(kind: int, data: bytes, expected: str) -> None:
    assert words(kind, data) == expected


def test_partitions() -> None:
    header = struct.pack(
        "<8s4sII4sQQQQ16sQIII", b"EFI PART", b"\0\0\1\0", 92, 0, bytes(4), 1, 0, 0, 0, GUID, 2, 2, 128, 0
    )
    named = struct.pack("<16s16sQQQ72s", GUID, GUID, 1, 2, 0, utf16("esp"))
    nameless = struct.pack("<16s16sQQQ72s", GUID, GUID, 3, 4, 0, b"")
    told = words(EventType.EV_EFI_GPT_EVENT, header + struct.pack("<Q", 2) + named + nameless)
    guid = "00112233-4455-6677-8899-aabbccddeeff"
    assert told == f'partition table of disk {guid}: "esp", {guid}'
    assert words(EventType.EV_EFI_GPT_EVENT, header + struct.pack("<Q", 3) + named).startswith(
        "partition table that"
    )
    assert "2 more" in words(EventType.EV_EFI_GPT_EVENT, header + struct.pack("<Q", 18) + named * 18)


def test_dstack_s_runtime_events() -> None:
    kind = EventType.DSTACK_RUNTIME_EVENT
    assert words(kind, runtime_content("app-id", bytes.fromhex("00ff"))) == 'dstack event "app-id": 00ff'
    assert words(kind, runtime_content("storage-fs", b"zfs")) == 'dstack event "storage-fs": zfs'
    assert words(kind, runtime_content("system-ready", b"")) == 'dstack event "system-ready"'


def test_a_label_that_no_digest_covers_stands_in_quotation_marks() -> None:
    assert words(10, b"ACPI DATA", "acpi-tables") == '"acpi-tables": an ACPI table from the host'


@pytest.mark.parametrize(
    "data", [b"\x1b[2J\x1b]0;owned\7", b"grub_cmd: \x1b[31mred\r\nSecure Boot is on", "\u202etxt".encode()]
)
def test_a_log_does_not_write_to_the_terminal(data: bytes) -> None:
    """Escape sequences, line ends and marks that turn text around are not handed on."""
    for kind in (EventType.EV_IPL, EventType.EV_EFI_ACTION, EventType.EV_POST_CODE):
        told = words(kind, data, "\x1b[2J\n")
        assert told.isprintable()
        assert "\n" not in told


def test_long_text_is_cut() -> None:
    told = words(EventType.EV_EFI_ACTION, b"a" * 100_000)
    assert (len(told), told[-1]) == (2001, "…")
