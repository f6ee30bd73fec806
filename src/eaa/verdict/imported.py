# SPDX-License-Identifier: Apache-2.0
"""Sets from others' reference values: CoRIM, Trustee's RVPS messages, TCG's RIM, and plain JSON.

What comes in is a proposal. It becomes reference values when the product's signers sign the set that is made of it here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rim.corim import unwrap_corim
from eaa.rim.errors import ManifestRefused
from eaa.rim.names import named_values
from eaa.rim.rvps import MAX_PAYLOAD, parse_message
from eaa.rim.swid import rim_values, verify_rim
from eaa.rim.values import checked_reference_values
from eaa.verdict.corim import is_corim, set_of_corim
from eaa.verdict.errors import StatementError
from eaa.verdict.reference_set import RegisterValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rim.swid import RimTrust
    from eaa.verdict.reference_set import ReferenceSet

__all__ = ["Document", "Format", "Imported", "format_of", "read_document"]


_WHO_ANSWERS: Final = "whoever signs the set answers for it"


class Format(StrEnum):
    """How reference values of others are written."""

    CORIM = "corim"
    RVPS = "rvps"
    SWID = "swid"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes, how they are written, and whose XML signatures are believed: nobody's, unless told; ``unsigned`` takes a RIM without one."""

    data: bytes
    format: Format
    trust: RimTrust | None = None
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """What a document says: a whole set of ours, or the values by name; and in words what of it was not taken."""

    values: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    set: ReferenceSet | None = None

    def registers(self, names: Mapping[str, str]) -> tuple[RegisterValue, ...]:
        """Return the values as registers, renamed where ``names`` says so.

        :raises StatementError: when it names a value that is not there, or gives two the same name.
        """
        if unknown := names.keys() - self.values.keys():
            raise StatementError(
                f"the document has no value named {min(unknown)[:200]!r}",
                hint=f"It has: {', '.join(sorted(self.values))[:500]}",
            )
        return tuple(RegisterValue(names.get(name, name), values) for name, values in self.values.items())


def format_of(data: bytes) -> Format:
    """Tell how a document is written, by how it begins.

    :raises StatementError: when it begins like none that is read.
    """
    if is_corim(data):
        return Format.CORIM
    text = data.lstrip()
    if text.startswith(b"<"):
        return Format.SWID
    if text.startswith(b"{"):
        value = parse_json(data, 2 * MAX_PAYLOAD, error=StatementError)
        return Format.RVPS if isinstance(value, dict) and {"type", "payload"} <= value.keys() else Format.JSON
    raise StatementError("this is neither CBOR, XML nor a JSON object", hint="Say what it is with --format.")


def read_document(document: Document) -> Imported:
    """Read a document's reference values.

    :raises InputError: when it is malformed or has none.
    :raises ManifestRefused: when it is a RIM that is not signed as it must be.
    """
    data = document.data
    match document.format:
        case Format.CORIM:
            return _corim(data)
        case Format.SWID:
            return _rim(document)
        case Format.JSON:
            return Imported(_texts(parse_json(data, MAX_PAYLOAD, error=StatementError)))
        case Format.RVPS:
            message = parse_message(data)
            inner = Format.JSON if message.kind == "sample" else Format(message.kind)
            return read_document(replace(document, data=message.payload, format=inner))


def _corim(data: bytes) -> Imported:
    corim, signed = unwrap_corim(data)
    found = set_of_corim(corim)
    values, notes = named_values(corim)
    if not values:
        raise StatementError(
            "the manifest has no reference value that can be read", hint="; ".join(notes)[:500]
        )
    if signed is not None and found is None:
        notes.append(f"the manifest's signature is not looked at: {_WHO_ANSWERS}")
    return Imported({name: tuple(listed) for name, listed in values.items()}, tuple(notes), found)


def _rim(document: Document) -> Imported:
    if document.unsigned:
        return _rim_values(document.data, f"the RIM's signature is not looked at: {_WHO_ANSWERS}")
    if document.trust is None:
        raise ManifestRefused(
            "nobody's signature on a RIM is believed",
            check="manifest.chain",
            hint="Give the root certificate of its maker with --certificate.",
        )
    return _rim_values(verify_rim(document.data, document.trust))


def _rim_values(data: bytes, *notes: str) -> Imported:
    return Imported({name: tuple(listed) for name, listed in rim_values(data).items()}, notes)


def _texts(value: Any) -> dict[str, tuple[str, ...]]:
    """Return values as texts: numbers in decimals, as registers have them; what is neither has no place in a set."""
    if not isinstance(value, dict) or not value:
        raise StatementError("this is no JSON object of names and values")
    texts = {}
    for name, found in checked_reference_values(value).items():
        listed = [
            str(each) if _is_number(each) else each
            for each in (found if isinstance(found, list) else [found])
        ]
        if not all(isinstance(each, str) for each in listed):
            raise StatementError(
                f"the value {name[:200]!r} is neither text nor a whole number",
                hint="Set it by itself: eaa reference-value set",
            )
        texts[name] = tuple(dict.fromkeys(listed))
    return texts


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
