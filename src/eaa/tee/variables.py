# SPDX-License-Identifier: Apache-2.0
"""The variable store of a firmware image (``OVMF_VARS.fd``): which variables it holds, and with them the Secure Boot policy. Pure.

edk2, ``MdeModulePkg/Include/Guid/VariableFormat.h``: a firmware volume whose header is followed by a store of authenticated variables.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.rats import InputError
from eaa.tee.ovmf import MAX_FIRMWARE
from eaa.tee.shim import SHIM_LOCK
from eaa.tee.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY, SecureBoot

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["has_boot_options", "has_shim_variables", "parse_variables", "secure_boot_of"]

_VOLUME: Final = struct.Struct("<16x16sQ4sIHH")
_NV_DATA: Final = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
_STORE: Final = struct.Struct("<16sIBBHI")
_AUTHENTICATED: Final = UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_ENABLE: Final = UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
_FORMATTED, _HEALTHY = 0x5A, 0xFE
_VARIABLE: Final = struct.Struct("<HBxIQ16sIII16s")
_START: Final = 0x55AA
_ADDED: Final = 0x3F
_BEING_REPLACED: Final = 0x3E
_BOOT_OPTION: Final = re.compile("Boot([0-9A-F]{4}|Order)")
_MAX_VARIABLES: Final = 4096
_HINT: Final = "Give the variable store that the guest is started with, such as OVMF_VARS.fd."


def parse_variables(image: bytes) -> Mapping[tuple[UUID, str], bytes]:
    """Return the content of each variable of a store, by its namespace and name.

    :raises InputError: when the image is none, or does not hold together.
    """
    if len(image) > MAX_FIRMWARE or len(image) < _VOLUME.size:
        raise InputError(f"a variable store has at most {MAX_FIRMWARE} bytes, not {len(image)}", hint=_HINT)
    kind, _, signature, _, header, _ = _VOLUME.unpack_from(image)
    if signature != b"_FVH" or kind != _NV_DATA.bytes_le or header + _STORE.size > len(image):
        raise InputError(
            "this is no variable store: it does not start with a volume for variables", hint=_HINT
        )
    guid, size, form, state, _, _ = _STORE.unpack_from(image, header)
    if guid != _AUTHENTICATED.bytes_le or (form, state) != (_FORMATTED, _HEALTHY):
        raise InputError("this is no store of authenticated variables, or an unformatted one", hint=_HINT)
    if not _STORE.size <= size <= len(image) - header:
        raise InputError(f"the variable store claims {size} bytes, which cannot be", hint=_HINT)
    return _variables(image[header : header + size])


def _variables(store: bytes) -> Mapping[tuple[UUID, str], bytes]:
    found: dict[tuple[UUID, str], bytes] = {}
    replaced: dict[tuple[UUID, str], bytes] = {}
    at = _STORE.size
    for _ in range(_MAX_VARIABLES):
        if len(store) - at < _VARIABLE.size or int.from_bytes(store[at : at + 2], "little") != _START:
            return replaced | found
        _, state, _, _, _, _, name_size, size, vendor = _VARIABLE.unpack_from(store, at)
        at += _VARIABLE.size
        if name_size + size > len(store) - at:
            raise InputError("a variable runs over the end of its store", hint=_HINT)
        try:
            name = store[at : at + name_size].decode("utf-16-le").rstrip("\0")
        except UnicodeDecodeError:
            raise InputError("the name of a variable is not UTF-16", hint=_HINT) from None
        content = store[at + name_size : at + name_size + size]
        if state == _ADDED:
            found[UUID(bytes_le=vendor), name] = content
        elif state == _BEING_REPLACED:
            replaced[UUID(bytes_le=vendor), name] = content
        at = (at + name_size + size + 3) & ~3
    raise InputError(f"the variable store has more than {_MAX_VARIABLES} variables", hint=_HINT)


def has_boot_options(image: bytes) -> bool:
    """Whether a variable store holds boot options, which firmware measures and which then are not its own menu alone.

    :raises InputError: when the image is no variable store.
    """
    return any(
        guid == GLOBAL_VARIABLE and _BOOT_OPTION.fullmatch(name) for guid, name in parse_variables(image)
    )


def has_shim_variables(image: bytes) -> bool:
    """Whether shim has been at work with this variable store, or someone who gave it keys (MOK).

    :raises InputError: when the image is no variable store.
    """
    return any(guid == SHIM_LOCK for guid, _ in parse_variables(image))


def secure_boot_of(image: bytes) -> SecureBoot:
    """Return the policy that firmware with Secure Boot takes from a variable store: on when there is a platform key and it is not switched off.

    :raises InputError: when the image is no variable store.
    """
    variables = parse_variables(image)
    pk = variables.get((GLOBAL_VARIABLE, "PK"), b"")
    enabled = variables.get((_ENABLE, "SecureBootEnable"), b"\1")
    state = b"\1" if pk and enabled == b"\1" else b"\0"
    return SecureBoot(
        state,
        pk,
        variables.get((GLOBAL_VARIABLE, "KEK"), b""),
        variables.get((IMAGE_SECURITY, "db"), b""),
        variables.get((IMAGE_SECURITY, "dbx"), b""),
    )
