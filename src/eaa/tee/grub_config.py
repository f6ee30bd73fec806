# SPDX-License-Identifier: Apache-2.0
"""What GRUB has been given to do: the configuration inside of its image, and one on the disk of the simplest form. Pure.

GRUB's language is not interpreted. A configuration is read if it is a list of ``set``, ``linux``, ``initrd`` and ``boot`` of plain words, as a build
system writes it; GRUB then measures each line as it stands, its words with one blank between them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from eaa.rats import InputError
from eaa.tee.pe import sections

__all__ = ["DEBIAN_SCRIPT", "GrubConfig", "bootstrap_commands", "parse_grub_config"]

_MAX_CONFIG: Final = 64 << 10
_WORD: Final = re.compile(r"[A-Za-z0-9_./=:,+@%()-]+", re.ASCII)
_SETTING: Final = re.compile(r"(root|default|timeout)=[A-Za-z0-9_,()-]+", re.ASCII)
_DEVICE: Final = re.compile(r"[a-z]+[0-9]+(,[a-z]+[0-9]+)?", re.ASCII)
_HINT: Final = "Write set, linux, initrd (of one file) and boot, in this order, one a line, without quotes, variables, menus or branches."
_MODULES: Final = struct.Struct("<4s4xQQ")
_MODULE: Final = struct.Struct("<II")
_MAX_MODULES: Final = 4096
_MEMDISK, _CONFIG, _PREFIX = 1, 2, 3
_BUILT_IN: Final = b"normal (memdisk)/grub.cfg\n"
DEBIAN_SCRIPT: Final = b"""if [ -z "$prefix" -o ! -e "$prefix" ]; then
	if ! search --file --set=root /.disk/info; then
		search --file --set=root /.disk/mini-info
	fi
	set prefix=($root)/boot/grub
fi
if [ -e $prefix/x86_64-efi/grub.cfg ]; then
	source $prefix/x86_64-efi/grub.cfg
elif [ -e $prefix/grub.cfg ]; then
	source $prefix/grub.cfg
else
	source $cmdpath/grub.cfg
fi
"""
"""The file on the disk in memory inside of Debian's signed images. GRUB measures its commands, and not the file."""


@dataclass(frozen=True, slots=True)
class GrubConfig:
    """The commands of a configuration: those before ``linux``, ``linux`` itself, and ``initrd`` where there is one; ``boot`` follows."""

    settings: tuple[str, ...]
    linux: str
    initrd: str | None

    @property
    def cmdline(self) -> str:
        """The kernel's path and its arguments, as GRUB measures them."""
        return self.linux.removeprefix("linux ")


def parse_grub_config(content: bytes) -> GrubConfig:
    """Read a configuration of the simple form.

    :raises InputError: when it is of any other.
    """
    if len(content) > _MAX_CONFIG:
        raise InputError(f"the GRUB configuration has more than {_MAX_CONFIG} bytes", hint=_HINT)
    lines = [_words(line) for line in content.decode("ascii", "replace").split("\n")]
    commands = [line for line in lines if line]
    names = "".join(f"{line[0]} " for line in commands)
    if not re.fullmatch(r"(set )*linux (initrd )?boot ", names):
        raise InputError(f"this GRUB configuration is not of the simple form: {names[:60]!r}", hint=_HINT)
    for name, *words in commands:
        if not _fitting(name, words):
            raise InputError(f"the arguments of {name} in the GRUB configuration are not known", hint=_HINT)
    texts = [" ".join(line) for line in commands[:-1]]
    at = names.split().index("linux")
    return GrubConfig(tuple(texts[:at]), texts[at], texts[at + 1] if len(texts) > at + 1 else None)


def _words(line: str) -> list[str]:
    words = line.split(" ")
    if line.lstrip(" ").startswith("#"):
        # GRUB joins a line that ends in a backslash with the next, a comment too.
        if not line.isprintable() or "\\" in line or "\ufffd" in line:
            raise InputError("a comment in the GRUB configuration is not plain text", hint=_HINT)
        return []
    words = [word for word in words if word]
    for word in words:
        if not _WORD.fullmatch(word):
            raise InputError(
                f"the GRUB configuration has {word[:40]!r}, which GRUB may not take as it stands", hint=_HINT
            )
    return words


def _fitting(name: str, words: list[str]) -> bool:
    if name == "set":
        return len(words) == 1 and _SETTING.fullmatch(words[0]) is not None
    if name == "linux":
        return bool(words) and not words[0].startswith("-")
    return len(words) == 1 and not words[0].startswith("-") if name == "initrd" else not words


def bootstrap_commands(image: bytes, device: str) -> tuple[str, ...]:
    """Return the commands by which Debian's GRUB comes from its built-in configuration to the one on the ``device`` that it was loaded from.

    :raises InputError: when the image is no GRUB, or has another configuration built in.
    """
    if not _DEVICE.fullmatch(device):
        raise InputError(
            f"{device[:40]!r} is no disk of GRUB's", hint="Give it as GRUB names it: hd0,gpt1 or hd0."
        )
    built_in = _modules(image)
    config = built_in.get(_CONFIG, b"").rstrip(b"\0")
    debian = config == _BUILT_IN and b"\0" + DEBIAN_SCRIPT + b"\0" in built_in.get(_MEMDISK, b"")
    prefix = built_in.get(_PREFIX, b"").rstrip(b"\0").decode("ascii", "replace")
    if not debian or not re.fullmatch(r"(/[A-Za-z0-9_-]+)+", prefix, re.ASCII):
        raise InputError(
            "this GRUB has another configuration built in than Debian's, so what it runs first is not known",
            hint="Give grubx64.efi.signed of Debian's grub-efi-amd64-signed.",
        )
    at = f"({device}){prefix}"
    return (
        f"[ -z {at} -o ! -e {at} ]",
        f"[ -e {at}/x86_64-efi/grub.cfg ]",
        f"[ -e {at}/grub.cfg ]",
        f"source {at}/grub.cfg",
    )


def _modules(image: bytes) -> dict[int, bytes]:
    """Return what lies in a GRUB image besides its core, by its type (GRUB, ``include/grub/kernel.h``)."""
    content = next((part.content for part in sections(image) if part.name == "mods"), b"")
    if len(content) < _MODULES.size or not content.startswith(b"mimg"):
        raise InputError("this is no GRUB: it has no modules", hint="Give GRUB's EFI image, grubx64.efi.")
    _, at, end = _MODULES.unpack_from(content)
    found: dict[int, bytes] = {}
    for _ in range(_MAX_MODULES):
        if at >= end:
            return found
        if at + _MODULE.size > len(content):
            break
        kind, size = _MODULE.unpack_from(content, at)
        if size < _MODULE.size or at + size > min(end, len(content)):
            break
        if kind in {_MEMDISK, _CONFIG, _PREFIX}:
            if kind in found:
                break
            found[kind] = content[at + _MODULE.size : at + size]
        at += size
    raise InputError("the modules in GRUB's image do not hold together")
