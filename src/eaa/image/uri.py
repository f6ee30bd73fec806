# SPDX-License-Identifier: Apache-2.0
"""Names of resources: ``kbs://<host>/<repository>/<type>/<tag>``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from eaa.image.errors import ImageError

__all__ = ["ResourceUri"]

_MAX_LENGTH: Final = 1024
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9_\-]+[a-zA-Z0-9_\-\.]*", re.ASCII)
_HOST: Final = re.compile(r"[a-zA-Z0-9._\-]*(:[0-9]{1,5})?|\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?", re.ASCII)
_HINT: Final = (
    "Name it kbs:///<repository>/<type>/<tag>; letters, digits, '_', '-' and (not first) '.' in each part."
)


@dataclass(frozen=True, slots=True)
class ResourceUri:
    """The name of one resource.

    ``host`` is kept for display only: a guest asks the one broker that its configuration names and its TLS anchors
    authenticate, whatever an image's annotation says.
    """

    repository: str
    type: str
    tag: str
    host: str = ""

    @property
    def path(self) -> str:
        """``<repository>/<type>/<tag>``, as in the broker's URLs."""
        return f"{self.repository}/{self.type}/{self.tag}"

    def __str__(self) -> str:
        return f"kbs://{self.host}/{self.path}"

    @classmethod
    def parse(cls, text: str) -> ResourceUri:
        """Read ``kbs:///r/t/g``, ``kbs://host/r/t/g``, ``host/r/t/g``, ``/r/t/g`` or ``r/t/g``.

        :raises ImageError: on anything else, such as ``kbs+plugin://`` or a missing part.
        """
        if len(text) > _MAX_LENGTH:
            raise ImageError(f"resource URI of {len(text)} characters", hint=_HINT)
        scheme, separator, rest = text.partition("://")
        if separator and scheme != "kbs":
            raise ImageError("resource URI with another scheme than kbs", hint=_HINT)
        host, *segments = (rest if separator else text).split("/")
        if not separator and len(segments) == 2:
            host, segments = "", [host, *segments]
        if (
            len(segments) != 3
            or not all(_SEGMENT.fullmatch(each) for each in segments)
            or not _HOST.fullmatch(host)
        ):
            raise ImageError("not a resource URI", hint=_HINT)
        repository, kind, tag = segments
        return cls(repository, kind, tag, host)

    @classmethod
    def parse_key_id(cls, text: str) -> ResourceUri:
        """Read the name of a key: a resource URI, or a bare name as in EAA's first images, which means ``kbs:///default/key/<name>``.

        :raises ImageError: when it is neither.
        """
        if len(text) <= _MAX_LENGTH and _SEGMENT.fullmatch(text):
            return cls("default", "key", text)
        return cls.parse(text)
