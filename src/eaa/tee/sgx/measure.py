# SPDX-License-Identifier: Apache-2.0
"""What an SGX enclave will measure to: MRENCLAVE from how it is built, page by page. Pure.

Intel's Software Developer's Manual, volume 3D, "ECREATE", "EADD", "EEXTEND": each hashes a 64-byte record, EEXTEND then the 256 bytes
it measures. A file of just these records, in order, is an SGXS stream (Fortanix EDP); other layouts of a build (Gramine's manifest,
Intel's SDK) are defined by their signing tool alone, which writes the result into SIGSTRUCT: see :mod:`eaa.tee.sgx.sigstruct`.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Final

from eaa.rats import InputError
from eaa.tee.ovmf import PAGE

__all__ = [
    "CHUNK",
    "MAX_SGXS",
    "PAGE_EXECUTABLE",
    "PAGE_READABLE",
    "PAGE_REGULAR",
    "PAGE_TCS",
    "PAGE_WRITABLE",
    "EnclaveHash",
    "measure_sgxs",
]

CHUNK: Final = 256
"""Bytes that one EEXTEND measures."""

MAX_SGXS: Final = 1 << 30
"""Bytes of an SGXS stream."""

PAGE_READABLE: Final = 1 << 0
PAGE_WRITABLE: Final = 1 << 1
PAGE_EXECUTABLE: Final = 1 << 2
PAGE_TCS: Final = 1 << 8
PAGE_REGULAR: Final = 2 << 8

_RECORD: Final = 64
_CREATE: Final = struct.Struct("<8sIQ44s")
_ADD: Final = struct.Struct("<8sQQ40s")
_EXTEND: Final = struct.Struct("<8sQ48s")
_ECREATE: Final = b"ECREATE\0"
_EADD: Final = b"EADD\0\0\0\0"
_EEXTEND: Final = b"EEXTEND\0"
_UNMEASURED: Final = b"UNMEASRD"
_MIN_ENCLAVE: Final = 2 * PAGE
_MAX_ENCLAVE: Final = 1 << 56
_HINT: Final = "Build the enclave again; an SGXS stream is what ftxsgx-elf2sgxs writes."


class EnclaveHash:
    """MRENCLAVE in the making: created by ECREATE, then pages are added, and measured in chunks."""

    def __init__(self, size: int, ssa_frame_pages: int) -> None:
        """Start with ECREATE.

        :param size: bytes of the enclave's address range, a power of two of at least two pages.
        :param ssa_frame_pages: pages of one state save area frame.
        :raises InputError: when no enclave is like that.
        """
        if not _MIN_ENCLAVE <= size <= _MAX_ENCLAVE or size & (size - 1):
            raise InputError(
                f"an enclave of {size} bytes: its size is a power of two from {_MIN_ENCLAVE} on", hint=_HINT
            )
        if not 0 < ssa_frame_pages < 1 << 32:
            raise InputError(f"an enclave with SSA frames of {ssa_frame_pages} pages", hint=_HINT)
        self._size = size
        self._page: int | None = None
        self._hash = sha256(_CREATE.pack(_ECREATE, ssa_frame_pages, size, b""))

    def add(self, offset: int, flags: int) -> None:
        """Add the page at ``offset`` of the enclave, with the FLAGS of its SECINFO.

        :raises InputError: when there is no page at this offset, or a TCS has access rights or another page none at all.
        """
        if offset % PAGE or not 0 <= offset <= self._size - PAGE:
            raise InputError(f"no page of the enclave is at offset {offset:#x}", hint=_HINT)
        rights, kind = flags & 0x7, flags & ~0x7
        if not ((kind == PAGE_REGULAR and rights & PAGE_READABLE) or (kind == PAGE_TCS and not rights)):
            raise InputError(f"a page with the SECINFO flags {flags:#x} cannot be added", hint=_HINT)
        self._page = offset
        self._hash.update(_ADD.pack(_EADD, offset, flags, b""))

    def extend(self, offset: int, chunk: bytes | memoryview) -> None:
        """Measure the 256 bytes at ``offset`` of the enclave, in the page that was added last.

        :raises InputError: when they are not in it, or not 256.
        """
        page = self._page
        if page is None or offset % CHUNK or not page <= offset < page + PAGE or len(chunk) != CHUNK:
            raise InputError(
                f"{len(chunk)} bytes at offset {offset:#x} are no chunk of the page added last", hint=_HINT
            )
        self._hash.update(_EXTEND.pack(_EEXTEND, offset, b""))
        self._hash.update(chunk)

    def add_page(self, offset: int, flags: int, content: bytes) -> None:
        """Add a page and measure all of it.

        :raises InputError: as :meth:`add` does, or when the content is not one page.
        """
        if len(content) != PAGE:
            raise InputError(f"a page has {PAGE} bytes, not {len(content)}", hint=_HINT)
        self.add(offset, flags)
        for start in range(0, PAGE, CHUNK):
            self.extend(offset + start, content[start : start + CHUNK])

    def mr_enclave(self) -> bytes:
        """Return the 32 bytes that MRENCLAVE has if EINIT came now."""
        return self._hash.digest()


def measure_sgxs(stream: bytes) -> bytes:
    """Return MRENCLAVE of an enclave in an SGXS stream. Content that the stream marks as unmeasured does not count.

    :raises InputError: when the stream is malformed or cut off, or describes no possible enclave.
    """
    if len(stream) > MAX_SGXS:
        raise InputError(f"an SGXS stream of more than {MAX_SGXS} bytes", hint=_HINT)
    view = memoryview(stream)
    tag, ssa_frame_pages, size, zeros = _CREATE.unpack(_take(view, 0, _RECORD))
    if tag != _ECREATE or any(zeros):
        raise InputError("this is no SGXS stream: it does not start with ECREATE", hint=_HINT)
    enclave = EnclaveHash(size, ssa_frame_pages)
    position = _RECORD
    while position < len(view):
        record = _take(view, position, _RECORD)
        position += _RECORD
        tag = bytes(record[:8])
        if tag == _EADD:
            _, offset, flags, zeros = _ADD.unpack(record)
            enclave.add(offset, flags)
        elif tag in {_EEXTEND, _UNMEASURED}:
            _, offset, zeros = _EXTEND.unpack(record)
            chunk = _take(view, position, CHUNK)
            position += CHUNK
            if tag == _EEXTEND:
                enclave.extend(offset, chunk)
        else:
            raise InputError(f"the SGXS stream has an unknown record {tag.hex()}", hint=_HINT)
        if any(zeros):
            raise InputError("a reserved field of the SGXS stream is not zero", hint=_HINT)
    return enclave.mr_enclave()


def _take(view: memoryview, position: int, size: int) -> memoryview:
    part = view[position : position + size]
    if len(part) != size:
        raise InputError("the SGXS stream is cut off", hint=_HINT)
    return part
