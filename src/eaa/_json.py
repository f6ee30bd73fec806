# SPDX-License-Identifier: Apache-2.0
"""JSON (RFC 8259) from peers that are not trusted, read so that two readers cannot see two different documents."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn

from eaa.rats import InputError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_DEPTH", "parse_json"]

MAX_DEPTH: Final = 64
"""Arrays and objects inside each other; no message of ours goes beyond a dozen."""


def parse_json(data: bytes, limit: int, *, error: type[InputError] = ProtocolError) -> Any:
    """Return the value that ``data`` (UTF-8, at most ``limit`` bytes) holds.

    Refused besides malformed JSON: a name twice in one object (RFC 8259 §4 leaves its meaning open), nesting deeper than
    :data:`MAX_DEPTH`, NaN and infinities, and escaped surrogates that are no character.

    :raises InputError: of the class ``error``; the message never repeats the input.
    """
    if len(data) > limit:
        raise error(f"JSON of {len(data)} bytes, at most {limit} are read", hint="Send a smaller message.")
    try:
        value = _DECODER.decode(data.decode())
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise error(f"JSON is nested deeper than {MAX_DEPTH}") from None
    except UnicodeError:
        raise error(
            "JSON is not UTF-8", hint="RFC 8259 §8.1: send UTF-8 without a byte order mark."
        ) from None
    except _RefusedError as refused:
        raise error(f"JSON {refused}") from None
    except json.JSONDecodeError as malformed:
        raise error(f"not JSON: {malformed.msg} at character {malformed.pos}") from None
    except ValueError:  # an integer with more digits than CPython converts
        raise error("JSON has a number that is too long") from None
    # Fewer brackets than levels cannot nest too deep, which spares most documents the walk.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise error(f"JSON is nested deeper than {MAX_DEPTH}")
    return value


class _RefusedError(ValueError):
    """Well-formed JSON that we do not read."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RefusedError("has a name twice in one object")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise _RefusedError("has NaN or an infinity")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _RefusedError("has a number out of range")
    return number


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
)


def _deeper_than(value: Any, depth: int) -> bool:
    """Walk level by level, so that no input can exhaust the stack."""
    level: list[Any] = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item) if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
