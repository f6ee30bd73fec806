# SPDX-License-Identifier: Apache-2.0
"""Which text is proven by its digest, type by type, and what happens when somebody changes it (attack A26)."""

from __future__ import annotations

import struct

import pytest

from eaa.eventlog import (
    Authenticity,
    EventType,
    NewEvent,
    aael_data,
    parse_event_log,
    tagged_data,
    variable_data,
    write_event_log,
)
from eaa.eventlog.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY

BOOT_ORDER = variable_data(GLOBAL_VARIABLE, "BootOrder", b"\1\0")
SECURE_BOOT = variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\1")
TD_SHIM = struct.pack("<16sI", b"td_payload_info", 9) + b"root=/dev"
LINUX = ".linux\0".encode("utf-16-le")
OLD_SHIM = variable_data(IMAGE_SECURITY, "db", b"\x30\x82certificate") + b"junk!!"


def examined(
    kind: int, data: bytes, measured: bytes, banks: tuple[str, ...] = ("sha1", "sha256")
) -> tuple[str, str]:
    """Return what is found of one event whose digests are of ``measured``."""
    (event,) = parse_event_log(write_event_log([NewEvent(1, kind, data, measured)], banks)).events
    return event.finding


@pytest.mark.parametrize(
    ("kind", "data", "measured"),
    [
        (EventType.EV_SEPARATOR, bytes(4), bytes(4)),
        (EventType.EV_SEPARATOR, b"\xff" * 4, b"\xff" * 4),
        (EventType.EV_SEPARATOR, b"no memory", b"\1\0\0\0"),
        (EventType.EV_ACTION, b"Calling INT 19h", b"Calling INT 19h"),
        (EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation", b"Exit Boot Services Invocation"),
        (EventType.EV_OMIT_BOOT_DEVICE_EVENTS, b"BOOT ATTEMPTS OMITTED", b"BOOT ATTEMPTS OMITTED"),
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, SECURE_BOOT, SECURE_BOOT),
        (EventType.EV_EFI_VARIABLE_AUTHORITY, SECURE_BOOT, SECURE_BOOT),
        (EventType.EV_EFI_VARIABLE_AUTHORITY, OLD_SHIM, OLD_SHIM[:-1]),
        (EventType.EV_EFI_VARIABLE_BOOT, BOOT_ORDER, b"\1\0"),
        (EventType.EV_EFI_VARIABLE_BOOT, BOOT_ORDER, BOOT_ORDER),
        (EventType.EV_EFI_VARIABLE_BOOT2, BOOT_ORDER, BOOT_ORDER),
        (EventType.EV_EFI_GPT_EVENT, b"EFI PART" + bytes(92), b"EFI PART" + bytes(92)),
        (EventType.EV_IPL, b"grub_cmd: linux /vmlinuz\0", b"linux /vmlinuz"),
        (EventType.EV_IPL, b"grub_cmd linux /vmlinuz\0\x7f", b"linux /vmlinuz\0"),
        (EventType.EV_IPL, b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz ro"),
        (EventType.EV_IPL, b"grub_kernel_cmdline /vmlinuz ro\0", b"/vmlinuz ro\0"),
        (EventType.EV_IPL, LINUX, b".linux\0"),
        (EventType.EV_IPL, b"any text", b"any text"),
        (EventType.EV_EVENT_TAG, aael_data("a.b", "op", "content"), aael_data("a.b", "op", "content")),
        (EventType.EV_EVENT_TAG, tagged_data(0xF5BC582A, b"loader.conf"), b"loader.conf"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, TD_SHIM, b"root=/dev"),
        (EventType.EV_S_CRTM_VERSION, b"1\0.\0\0\0", b"1\0.\0\0\0"),
        (EventType.EV_NONHOST_INFO, b"GCE NonHostInfo\0\3", b"GCE NonHostInfo\0\3"),
        (0x12345678, b"who knows", b"who knows"),
    ],
)
def test_content_that_was_measured_is_proven(kind: int, data: bytes, measured: bytes) -> None:
    assert examined(kind, data, measured)[0] is Authenticity.CONTENT


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EventType.EV_SEPARATOR, bytes(4)),
        (EventType.EV_SEPARATOR, b"no memory"),
        (EventType.EV_ACTION, b"text"),
        (EventType.EV_EFI_ACTION, b"text"),
        (EventType.EV_OMIT_BOOT_DEVICE_EVENTS, b"text"),
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, SECURE_BOOT),
        (EventType.EV_EFI_VARIABLE_AUTHORITY, OLD_SHIM),
        (EventType.EV_EFI_VARIABLE_BOOT, BOOT_ORDER),
        (EventType.EV_EFI_VARIABLE_BOOT, b"no variable"),
        (EventType.EV_EFI_GPT_EVENT, b"text"),
        (EventType.EV_IPL, b"grub_cmd: linux /vmlinuz\0"),
        (EventType.EV_IPL, b"kernel_cmdline: /vmlinuz ro"),
        (EventType.EV_EVENT_TAG, aael_data("a.b", "op", "content")),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, TD_SHIM),
    ],
)
def test_content_that_was_changed_is_a_mismatch(kind: int, data: bytes) -> None:
    assert examined(kind, data, b"what was really measured")[0] is Authenticity.MISMATCH


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, bytes(32)),
        (EventType.EV_EFI_BOOT_SERVICES_DRIVER, bytes(32)),
        (EventType.EV_EFI_RUNTIME_SERVICES_DRIVER, bytes(32)),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, bytes(16)),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\x03Fv\0" + bytes(16)),
        (EventType.EV_EFI_HANDOFF_TABLES, bytes(32)),
        (EventType.EV_EFI_HANDOFF_TABLES2, b"\x09TdxTable\0" + bytes(8)),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA"),
        (EventType.EV_POST_CODE, b"ACPI DATA"),
        (EventType.EV_IPL, b"/boot/vmlinuz\0"),
        (EventType.EV_IPL, LINUX),
        (EventType.EV_EVENT_TAG, tagged_data(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0")),
        (EventType.EV_EVENT_TAG, b"cut"),
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, b""),
        (0x12345678, b"who knows"),
    ],
)
def test_what_is_not_in_the_log_is_unauthenticated(kind: int, data: bytes) -> None:
    assert examined(kind, data, b"something else")[0] is Authenticity.UNAUTHENTICATED


def test_images_are_unauthenticated_even_if_the_digest_is_of_the_words() -> None:
    """A digest of the event's data is not what a loader extends: it proves no image."""
    assert (
        examined(EventType.EV_EFI_BOOT_SERVICES_APPLICATION, bytes(32), bytes(32))[0]
        is Authenticity.UNAUTHENTICATED
    )


def test_events_that_extend_nothing_prove_nothing() -> None:
    assert examined(EventType.EV_NO_ACTION, b"StartupLocality\0\3", b"")[0] is Authenticity.UNAUTHENTICATED


@pytest.mark.parametrize("kind", [EventType.EV_EFI_ACTION, EventType.EV_POST_CODE])
@pytest.mark.parametrize("changed", ["sha1", "sha384"])
def test_banks_that_disagree_are_no_proof(kind: int, changed: str) -> None:
    """Text that fits one bank only is a forgery for whoever looks at that bank."""
    written = write_event_log([NewEvent(1, kind, b"words")], ("sha1", "sha384"))
    (event,) = parse_event_log(written).events
    other = event._replace(digests={**event.digests, changed: bytes(len(event.digests[changed]))})
    strict = kind == EventType.EV_EFI_ACTION
    weak = Authenticity.MISMATCH if strict or changed == "sha1" else Authenticity.UNAUTHENTICATED
    assert other.authenticity is weak


def test_it_is_said_what_a_digest_covers() -> None:
    """Of a boot variable often the value only: anybody may write another name beside it."""
    assert (
        examined(EventType.EV_EFI_VARIABLE_BOOT, BOOT_ORDER, b"\1\0")[1]
        == "the variable's data, not its name"
    )
    renamed = variable_data(GLOBAL_VARIABLE, "OtherName", b"\1\0")
    assert (
        examined(EventType.EV_EFI_VARIABLE_BOOT, renamed, b"\1\0")[1] == "the variable's data, not its name"
    )
    assert examined(EventType.EV_IPL, LINUX, b".linux\0")[1] == "the section's name, not its content"


def test_shim_s_extra_byte_is_excused_only_behind_a_variable() -> None:
    """A variable that fills its event has no byte to leave out."""
    exact = variable_data(IMAGE_SECURITY, "db", b"\x30\x82certificate")
    assert examined(EventType.EV_EFI_VARIABLE_AUTHORITY, exact, exact[:-1])[0] is Authenticity.MISMATCH
