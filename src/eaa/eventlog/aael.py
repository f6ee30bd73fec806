# SPDX-License-Identifier: Apache-2.0
"""Events of the CoCo Attestation Agent's event log (AAEL): what workloads did, such as the container images they pulled.

A tagged event whose tag spells AAEL and whose text is ``domain operation content``; the digest is of tag, size and text.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from eaa._json import parse_json
from eaa.eventlog.authenticity import AAEL_TAG
from eaa.rats import EvidenceError

__all__ = ["AaelEntry", "aael_data", "parse_aael"]

_HEADER: Final = struct.Struct("<II")
_COCO: Final = "github.com/confidential-containers"
_MAX_CONTENT: Final = 64 * 1024


class AaelEntry(NamedTuple):
    """One entry. ``text`` is all of it; ``content`` is what follows the operation."""

    text: str
    domain: str
    operation: str
    content: str

    def value(self) -> Any:
        """Return the content as JSON, if it is JSON that two readers cannot read in two ways, else as text."""
        try:
            return parse_json(self.content.encode(), _MAX_CONTENT, error=EvidenceError)
        except EvidenceError:
            return self.content

    def words(self) -> str:
        """Say what happened."""
        value = self.value()
        if self.domain == _COCO and self.operation == "PullImage" and isinstance(value, dict):
            return f"container image pulled: {value.get('image')} with digest {value.get('digest')}"
        return f"{self.operation} by {self.domain}: {self.content}"


def parse_aael(data: bytes) -> AaelEntry | None:
    """Read the data of a tagged event, or return None when it is none of AAEL."""
    if len(data) < _HEADER.size:
        return None
    tag, size = _HEADER.unpack_from(data)
    if tag != AAEL_TAG or size != len(data) - _HEADER.size:
        return None
    try:
        text = data[_HEADER.size :].decode()
    except UnicodeDecodeError:
        return None
    parts = text.split(" ", 2)
    return AaelEntry(text, *parts) if len(parts) == 3 else None


def aael_data(domain: str, operation: str, content: str) -> bytes:
    """Return the data of an AAEL event, over which its digest goes.

    :raises ValueError: when domain or operation has white space, anything is not printable, or a part is empty.
    """
    for part in (domain, operation):
        if not part or not part.isprintable() or any(each.isspace() for each in part):
            raise ValueError("domain and operation are printable text without white space")
    if not content.isprintable():
        raise ValueError("content is printable text on one line")
    text = f"{domain} {operation} {content}".encode()
    return _HEADER.pack(AAEL_TAG, len(text)) + text
