# SPDX-License-Identifier: Apache-2.0
"""ocicrypt's key provider protocol: the JSON inside the bytes of ``WrapKey`` and ``UnWrapKey``.

Peers in Go write byte slices as base64 and absent ones as null; peers in Rust also write arrays of numbers. A provider
must not insist on finding its own name among the decryption parameters: containerd sends others' only.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.image._fields import bytes_of, object_of
from eaa.image.annotation import MAX_ANNOTATION, MAX_OPTSDATA, require_wrap_type
from eaa.image.errors import ImageError
from eaa.image.uri import ResourceUri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.image.annotation import AnnotationPacket

__all__ = [
    "MAX_MESSAGE",
    "PROVIDER_NAME",
    "UnwrapRequest",
    "WrapRequest",
    "parse_unwrap",
    "parse_wrap",
    "unwrap_result",
    "wrap_result",
]

MAX_MESSAGE: Final = 1 << 20
PROVIDER_NAME: Final = "attestation-agent"
"""The name that ocicrypt's configurations give to this provider."""

_MAX_PARAMETER: Final = 8 << 10
_PARAMETERS: Final = ("keyid", "algorithm")


@dataclass(frozen=True, slots=True)
class WrapRequest:
    """A layer's key options to be wrapped, and the key to wrap them with; without ``kid`` the provider makes a new one."""

    kid: ResourceUri | None
    optsdata: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnwrapRequest:
    """The bytes of an annotation packet to be unwrapped."""

    annotation: bytes


def parse_wrap(data: bytes) -> WrapRequest:
    """Read a ``keywrap`` message.

    The recipient is what a user writes after ``provider:attestation-agent:``, either a key's bare name or URI, or
    ``keyid=<URI>::algorithm=A256GCM``.

    :raises ImageError: on a malformed message, or parameters that ask for something that is not done.
    """
    params = _params(data, "keywrap", "keywrapparams")
    config = object_of(params.get("ec") or {}, "ec")
    optsdata = bytes_of(params, "optsdata", MAX_OPTSDATA)
    return WrapRequest(_key_id(object_of(config.get("Parameters") or {}, "ec.Parameters")), optsdata)


def parse_unwrap(data: bytes) -> UnwrapRequest:
    """Read a ``keyunwrap`` message; its decryption parameters name nothing that this provider needs.

    :raises ImageError: on a malformed message.
    """
    return UnwrapRequest(
        bytes_of(_params(data, "keyunwrap", "keyunwrapparams"), "annotation", MAX_ANNOTATION)
    )


def wrap_result(packet: AnnotationPacket) -> bytes:
    """Return the answer to ``keywrap``."""
    return _result("keywrapresults", "annotation", packet.to_json())


def unwrap_result(optsdata: bytes) -> bytes:
    """Return the answer to ``keyunwrap``. It holds the layer's key in the clear: it may go to the asking process only."""
    return _result("keyunwrapresults", "optsdata", optsdata)


def _params(data: bytes, operation: str, name: str) -> Mapping[str, Any]:
    message = object_of(parse_json(data, MAX_MESSAGE, error=ImageError), "the key provider message")
    if message.get("op") != operation:
        raise ImageError(f"the key provider message is not a {operation}")
    return object_of(message.get(name), name)


def _result(half: str, name: str, data: bytes) -> bytes:
    return json.dumps({half: {name: b64encode(data).decode()}}).encode()


def _key_id(parameters: Mapping[str, Any]) -> ResourceUri | None:
    """Return the key that the parameters name: those under this provider's usual name, or else the first there are."""
    values = parameters.get(PROVIDER_NAME) or next(iter(parameters.values()), None)
    if not values:
        return None
    if not isinstance(values, list):
        raise ImageError("the key provider's parameters are not a list")
    try:
        text = bytes_of({"parameter": values[0]}, "parameter", _MAX_PARAMETER).decode()
    except UnicodeDecodeError:
        raise ImageError("the key provider's parameter is not UTF-8") from None
    if not text:
        return None
    if "=" not in text:
        return ResourceUri.parse_key_id(text)
    return _named(text)


def _named(text: str) -> ResourceUri | None:
    """Read ``name=value`` pairs joined by ``::``."""
    pairs = [pair.partition("=") for pair in text.split("::")]
    named = {name: value for name, _, value in pairs}
    if len(named) != len(pairs):
        raise ImageError("a key provider parameter is given twice")
    if not named.keys() <= set(_PARAMETERS):
        raise ImageError(
            "the key provider takes no other parameter than keyid and algorithm",
            hint="Import an existing key into the key broker first, then name it by keyid; there is no sample key.",
        )
    require_wrap_type(named.get("algorithm", "A256GCM"))
    return ResourceUri.parse_key_id(named["keyid"]) if "keyid" in named else None
