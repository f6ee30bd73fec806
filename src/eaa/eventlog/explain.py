# SPDX-License-Identifier: Apache-2.0
"""Events in words, one line each. What a line says is what the log says: only the event's authenticity tells whether it is so."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from eaa.eventlog._boot_words import gpt, image, ipl, tag
from eaa.eventlog._variable_words import authority, boot_variable, configuration
from eaa.eventlog._words import hex_of, printable, quoted, text_of
from eaa.eventlog.types import EventType
from eaa.eventlog.uefi import guid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.eventlog.model import Event

__all__ = ["explain"]

_BLOB: Final = struct.Struct("<QQ")
_SP800_155: Final = b"SP800-155 Event"
_LOCALITY: Final = b"StartupLocality\0"
_ACPI: Final = "ACPI DATA"
_GCE: Final = b"GCE NonHostInfo\0"
_GCE_TECHNOLOGIES: Final = {0: "none", 1: "AMD SEV", 2: "AMD SEV-ES", 3: "Intel TDX", 4: "AMD SEV-SNP"}
_HANDOFF: Final = {"TdxTable": "the TD hand-off block, in which the host describes memory and devices"}
_TD_SHIM: Final = {
    "td_hob": "the TD hand-off block, in which the host describes memory and devices",
    "td_payload": "the payload of the TD shim",
    "td_payload_info": "kernel command line: ",
    "td_payload_svn": "the payload's security version",
}


def explain(event: Event) -> str:
    """Return one line for people: what the event says was measured. Printable characters only, whatever the log holds."""
    reader = _READERS.get(event.type, _unknown)
    words = reader(event.data) if event.data else "(no content in the log)"
    if event.label:
        words = f"{quoted(event.label)}: {words}"
    return printable(words)


def _unknown(data: bytes) -> str:
    return text_of(data) or hex_of(data)


def _separator(data: bytes) -> str:
    if data == bytes(4):
        return "end of the firmware's preparations: from here on, what it boots is measured"
    if data == b"\xff" * 4:
        return "end of the firmware's preparations (all ones)"
    return f"the firmware met an error before it booted: {_unknown(data)}"


def _no_action(data: bytes) -> str:
    if data.startswith(_LOCALITY):
        return (
            f"the TPM was started at locality {data[len(_LOCALITY)] if len(data) > len(_LOCALITY) else '?'}"
        )
    if data.startswith(_SP800_155) and len(data) >= 36:
        return f"the firmware's maker publishes reference measurements under {guid_text(data[20:36])}"
    return f"information only: {_unknown(data)}"


def _version(data: bytes) -> str:
    if len(data) == 16 and not data.endswith(b"\0\0"):
        return f"firmware version {guid_text(data)}"
    return f"firmware version {quoted(text_of(data) or hex_of(data))}"


def _action(data: bytes) -> str:
    return text_of(data) or hex_of(data)


def _post_code(data: bytes) -> str:
    if data == _ACPI.encode():
        return "an ACPI table"
    return f"firmware code: {_blob_or_text(data)}"


def _firmware(data: bytes) -> str:
    return f"firmware volume: {_blob_or_text(data)}"


def _blob_or_text(data: bytes) -> str:
    text = text_of(data)
    if text:
        return quoted(text)
    if len(data) == _BLOB.size:
        base, size = _BLOB.unpack(data)
        return f"{size} bytes at {base:#x}"
    return hex_of(data)


def _described(data: bytes) -> tuple[str, bytes]:
    """Split the description from what follows it (PFP 1.06, 10.2.5: one byte of length, then text)."""
    return text_of(data[1 : 1 + data[0]]), data[1 + data[0] :]


def _firmware_2(data: bytes) -> str:
    description, rest = _described(data)
    return f"{_TD_SHIM.get(description) or f'firmware volume {quoted(description)}'}: {_blob_or_text(rest)}"


def _handoff(data: bytes) -> str:
    return f"tables that the firmware hands over: {int.from_bytes(data[:8], 'little')}"


def _handoff_2(data: bytes) -> str:
    description, _ = _described(data)
    known = _HANDOFF.get(description)
    return (
        f"{description}: {known}" if known else f"tables that the firmware hands over: {quoted(description)}"
    )


def _config_flags(data: bytes) -> str:
    name = text_of(data[:16])
    if name in _TD_SHIM and len(data) > 20:
        return _TD_SHIM[name] + (text_of(data[20:]) if name == "td_payload_info" else "")
    text = text_of(data)
    if text == _ACPI:
        return "an ACPI table from the host"
    if text.startswith("etc/"):
        return f"configuration from the host (fw_cfg): {text}"
    return f"platform configuration: {text or hex_of(data)}"


def _host_info(data: bytes) -> str:
    if data.startswith(_GCE) and len(data) > len(_GCE):
        technology = data[len(_GCE)]
        return f"confidential computing by Google's firmware: {_GCE_TECHNOLOGIES.get(technology, technology)}"
    return f"about code outside this host: {_unknown(data)}"


def _crtm(data: bytes) -> str:
    return f"what starts the measurements: {_blob_or_text(data)}"


def _devices(data: bytes) -> str:
    return f"table of devices: {_unknown(data)}"


def _microcode(data: bytes) -> str:
    return f"CPU microcode: {_blob_or_text(data)}"


def _omitted(data: bytes) -> str:
    return f"attempts to boot are not measured one by one: {_unknown(data)}"


def _dynamic(data: bytes) -> str:
    return f"measurements began before the CPU did (H-CRTM): {_unknown(data)}"


def _device(data: bytes) -> str:
    return f"a device's firmware or its identity (SPDM): {hex_of(data)}"


def _dstack(data: bytes) -> str:
    name, _, payload = data[5:].partition(b":")
    if not payload:
        return f"dstack event {quoted(text_of(name))}"
    return f"dstack event {quoted(text_of(name))}: {text_of(payload) or payload.hex()}"


_READERS: Final[Mapping[int, Callable[[bytes], str]]] = {
    EventType.EV_POST_CODE: _post_code,
    EventType.EV_POST_CODE2: _post_code,
    EventType.EV_NO_ACTION: _no_action,
    EventType.EV_SEPARATOR: _separator,
    EventType.EV_ACTION: _action,
    EventType.EV_EVENT_TAG: tag,
    EventType.EV_S_CRTM_CONTENTS: _crtm,
    EventType.EV_S_CRTM_VERSION: _version,
    EventType.EV_CPU_MICROCODE: _microcode,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _config_flags,
    EventType.EV_TABLE_OF_DEVICES: _devices,
    EventType.EV_IPL: ipl,
    EventType.EV_NONHOST_CODE: _host_info,
    EventType.EV_NONHOST_CONFIG: _host_info,
    EventType.EV_NONHOST_INFO: _host_info,
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS: _omitted,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: configuration,
    EventType.EV_EFI_VARIABLE_BOOT: boot_variable,
    EventType.EV_EFI_VARIABLE_BOOT2: boot_variable,
    EventType.EV_EFI_VARIABLE_AUTHORITY: authority,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: image("application started"),
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: image("driver started"),
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: image("runtime driver started"),
    EventType.EV_EFI_GPT_EVENT: gpt,
    EventType.EV_EFI_GPT_EVENT2: gpt,
    EventType.EV_EFI_ACTION: _action,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: _firmware,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _firmware_2,
    EventType.EV_EFI_HANDOFF_TABLES: _handoff,
    EventType.EV_EFI_HANDOFF_TABLES2: _handoff_2,
    EventType.EV_EFI_HCRTM_EVENT: _dynamic,
    EventType.EV_EFI_SPDM_FIRMWARE_BLOB: _device,
    EventType.EV_EFI_SPDM_FIRMWARE_CONFIG: _device,
    EventType.EV_EFI_SPDM_DEVICE_POLICY: _device,
    EventType.EV_EFI_SPDM_DEVICE_AUTHORITY: _device,
    EventType.DSTACK_RUNTIME_EVENT: _dstack,
}
