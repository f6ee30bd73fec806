# SPDX-License-Identifier: Apache-2.0
"""UEFI variables in words: Secure Boot and its keys, what is booted in which order, who vouched for an image."""

from __future__ import annotations

import re
from typing import Final

from eaa.eventlog._words import hex_of, quoted, text_of
from eaa.eventlog.device_path import device_path_text
from eaa.eventlog.uefi import (
    GLOBAL_VARIABLE,
    IMAGE_SECURITY,
    SHIM_LOCK,
    Variable,
    guid_text,
    parse_boot_option,
    parse_signatures,
    parse_variable,
    signature_data_text,
)

__all__ = ["authority", "boot_variable", "configuration"]

_SWITCHES: Final = {
    "SecureBoot": "Secure Boot is {}",
    "SetupMode": "Secure Boot's setup mode is {}",
    "AuditMode": "Secure Boot's audit mode is {}",
    "DeployedMode": "Secure Boot's deployed mode is {}",
}
_DATABASES: Final = {
    "PK": "platform key",
    "KEK": "keys that may change Secure Boot's databases (KEK)",
    "db": "what Secure Boot allows (db)",
    "dbx": "what Secure Boot forbids (dbx)",
    "dbt": "timestamp authorities (dbt)",
    "dbr": "recovery keys (dbr)",
    "MokList": "machine owner keys (MokList)",
    "MokListX": "what the machine's owner forbids (MokListX)",
}
_OPTION: Final = re.compile(r"(Boot|Driver|SysPrep|PlatformRecovery)[0-9A-F]{4}")
_ORDERS: Final = {"BootOrder": "Boot", "DriverOrder": "Driver"}
_MAX_ORDER: Final = 32
_ONE: Final = {
    "certificates": "certificate",
    "SHA-256 digests": "SHA-256 digest",
    "SHA-1 digests": "SHA-1 digest",
    "digests of certificates": "digest of a certificate",
    "entries of another kind": "entry of another kind",
}
_MALFORMED: Final = "a variable that cannot be read: "


def configuration(data: bytes) -> str:
    """Say what EV_EFI_VARIABLE_DRIVER_CONFIG holds."""
    variable = parse_variable(data)
    if variable is None:
        return _MALFORMED + hex_of(data)
    if variable.guid == GLOBAL_VARIABLE and variable.name in _SWITCHES:
        state = {b"\1": "on", b"\0": "off", b"": "off (the variable does not exist)"}.get(variable.data)
        return _SWITCHES[variable.name].format(state or f"in an unknown state: {hex_of(variable.data)}")
    if variable.name in _DATABASES and variable.guid in {GLOBAL_VARIABLE, IMAGE_SECURITY, SHIM_LOCK}:
        return f"{_DATABASES[variable.name]}: {_signatures(variable.data)}"
    return _any(variable)


def boot_variable(data: bytes) -> str:
    """Say what EV_EFI_VARIABLE_BOOT or its successor holds."""
    variable = parse_variable(data)
    if variable is None:
        return _MALFORMED + hex_of(data)
    prefix = _ORDERS.get(variable.name)
    if prefix is not None and len(variable.data) % 2 == 0:
        numbers = [
            f"{prefix}{high:02X}{low:02X}"
            for low, high in zip(*[iter(variable.data[: 2 * _MAX_ORDER])] * 2, strict=True)
        ]
        return f"{variable.name}: {', '.join(numbers) or 'empty'}"
    option = parse_boot_option(variable.data) if _OPTION.fullmatch(variable.name) else None
    if option is not None:
        state = "" if option.active else " (inactive)"
        return (
            f"{variable.name} is {quoted(option.description)}{state}: {device_path_text(option.device_path)}"
        )
    return _any(variable)


def authority(data: bytes) -> str:
    """Say what EV_EFI_VARIABLE_AUTHORITY holds: the entry of a database by which an image was allowed, or shim's own state."""
    variable = parse_variable(data)
    if variable is None:
        return _MALFORMED + hex_of(data)
    if variable.guid == SHIM_LOCK and variable.name.startswith("Sbat"):
        return f"shim's revocation level (SBAT): {text_of(variable.data).strip() or hex_of(variable.data)}"
    if variable.guid == SHIM_LOCK and variable.name == "MokListTrusted":
        trusted = "yes" if variable.data == b"\1" else "no"
        return f"shim trusts machine owner keys: {trusted}"
    if variable.name in _DATABASES or variable.name in {"Shim", "vendor_db"}:
        return f"an image was allowed by {variable.name}: {signature_data_text(variable.data)}"
    return _any(variable)


def _signatures(data: bytes) -> str:
    if not data:
        return "empty"
    signatures = parse_signatures(data)
    if signatures is None:
        return f"cannot be read: {hex_of(data)}"
    listed = ", ".join(
        f"{count} {what if count != 1 else _ONE[what]}" for what, count in signatures.counts.items()
    )
    return f"{listed} ({'; '.join(signatures.names)})" if signatures.names else listed


def _any(variable: Variable) -> str:
    value = text_of(variable.data)
    return f"variable {variable.name} of {guid_text(variable.guid)}: {quoted(value) if value else hex_of(variable.data)}"
