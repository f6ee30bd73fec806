# SPDX-License-Identifier: Apache-2.0
"""Encrypted container images: ocicrypt's annotation packets and key provider messages. Pure, but for ``layout``, which reads an image's files for its digests."""

from eaa.image.annotation import KEK_SIZE, AnnotationPacket, unwrap, wrap
from eaa.image.errors import ImageError
from eaa.image.keyprovider import (
    UnwrapRequest,
    WrapRequest,
    parse_unwrap,
    parse_wrap,
    unwrap_result,
    wrap_result,
)
from eaa.image.uri import ResourceUri

__all__ = [
    "KEK_SIZE",
    "AnnotationPacket",
    "ImageError",
    "ResourceUri",
    "UnwrapRequest",
    "WrapRequest",
    "parse_unwrap",
    "parse_wrap",
    "unwrap",
    "unwrap_result",
    "wrap",
    "wrap_result",
]
