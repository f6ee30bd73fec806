# SPDX-License-Identifier: Apache-2.0
"""Concise Reference Integrity Manifests: draft-ietf-rats-corim, and the reference values among what they say.

Read are the reference triples of CoMIDs: whose software (class), and per measurement its digests, registers, raw value, version number.
Everything else, such as endorsements and keys, is left to whoever needs it, and named so that nobody takes the reading for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from cbor2 import CBORTag

from eaa._cbor import parse_cbor, write_cbor
from eaa.rim.cose import CONTENT_TYPE, MAX_SIGN1, Sign1, read_sign1
from eaa.rim.errors import ManifestError

__all__ = [
    "CORIM",
    "MEDIA_TYPE",
    "META",
    "Comid",
    "Corim",
    "Digest",
    "Measurement",
    "Triple",
    "parse_comid",
    "parse_corim",
    "signature_validity",
    "unwrap_corim",
]

MEDIA_TYPE: Final = "application/rim+cbor"
CORIM: Final = 501
META: Final = 8
"""Header parameter of the signer and the signature's validity."""
_COMID: Final = 506
_COMID_IN_BYTES: Final = b"\xd9\x01\xfa"
_OUTER: Final = (500, 502)
"""Tags of early drafts around a whole manifest, which tools still write."""
_OID: Final = 111
_BYTES: Final = 560
_EXACT_SVN: Final = 552
_MIN_SVN: Final = 553
_URI: Final = 32
_SIZES: Final = {1: 32, 7: 48, 8: 64, 10: 32, 11: 48, 12: 64, "sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Bytes of a digest by algorithm (IANA Named Information Hash Algorithm Registry)."""
_READ: Final = frozenset({1, 2, 4, 8, 11, 14, 15})
"""Values of a measurement that are read: svn, digests, raw value, serial number, name, integrity registers, number."""

Digest = tuple[int | str, bytes]
"""Algorithm, and what the digest is."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one element must measure to. ``minimum`` says that ``svn`` is one to reach; ``unread`` counts values of other kinds.

    ``identity`` tells elements apart even where their keys are of a kind that is not read.
    """

    key: int | str | UUID | None
    identity: bytes
    digests: tuple[Digest, ...] = ()
    registers: tuple[tuple[int | str, tuple[Digest, ...]], ...] = ()
    raw: bytes | None = None
    svn: int | None = None
    minimum: bool = False
    number: int | None = None
    name: str | None = None
    serial: str | None = None
    unread: int = 0


@dataclass(frozen=True, slots=True)
class Triple:
    """Reference values of one class of things; its id is an OID in dotted decimals, a UUID, or bytes.

    ``identity`` tells environments apart by whatever they are described with.
    """

    identity: bytes
    class_id: str | UUID | bytes | None
    vendor: str | None
    model: str | None
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class Comid:
    """One module's identity and reference values; ``unread`` counts triples of other kinds."""

    tag_id: str
    version: int
    triples: tuple[Triple, ...]
    unread: int


@dataclass(frozen=True, slots=True)
class Corim:
    """A manifest. ``extensions`` are the members that its profile defines; ``unread`` counts tags that are no CoMID."""

    id: str
    profiles: tuple[str, ...]
    comids: tuple[Comid, ...]
    not_before: datetime | None
    not_after: datetime | None
    extensions: Mapping[int, Any]
    unread: int


def unwrap_corim(data: bytes) -> tuple[Corim, Sign1 | None]:
    """Read a manifest, signed or not, and the signature around it if there is one, which is not verified here.

    :raises ManifestError: when it is none.
    """
    value = parse_cbor(data, MAX_SIGN1, error=ManifestError)
    while isinstance(value, CBORTag) and value.tag in _OUTER:
        value = value.value
    if isinstance(value, Mapping) or (isinstance(value, CBORTag) and value.tag == CORIM):
        return _corim(value), None
    signed = read_sign1(value)
    if signed.headers.get(CONTENT_TYPE) != MEDIA_TYPE:
        raise ManifestError("what is signed is no CoRIM", hint=f"Its content type must be {MEDIA_TYPE}.")
    return parse_corim(signed.payload), signed


def parse_corim(data: bytes) -> Corim:
    """Read an unsigned manifest, tagged or not.

    :raises ManifestError: when it is none.
    """
    return _corim(parse_cbor(data, MAX_SIGN1, error=ManifestError))


def parse_comid(data: bytes) -> Comid:
    """Read a CoMID by itself, tagged or not.

    :raises ManifestError: when it is none.
    """
    value = parse_cbor(data, MAX_SIGN1, error=ManifestError)
    value = _map(value.value if isinstance(value, CBORTag) and value.tag == _COMID else value, "a CoMID")
    identity, triples = _map(value.get(1), "a CoMID's identity"), _map(value.get(4), "a CoMID's triples")
    listed = [_triple(each) for each in _array(triples.get(0, ()), "the reference triples")]
    if not triples or not all(_array(each, "triples") for each in triples.values()):
        raise ManifestError("a CoMID without a triple says nothing")
    version = identity.get(1, 0)
    if not _is_number(version):
        raise ManifestError("a CoMID's version is no number")
    return Comid(_id(identity.get(0)), version, tuple(listed), len(triples.keys() - {0}))


def signature_validity(signed: Sign1) -> tuple[datetime | None, datetime | None]:
    """Return from when and until when the signer says that a manifest's signature is valid, as far as it says so.

    :raises ManifestError: when what it says is malformed.
    """
    meta = signed.headers.get(META)
    if meta is None:
        return None, None
    if not isinstance(meta, bytes):
        raise ManifestError("the signer's description is not bytes")
    members = _map(parse_cbor(meta, MAX_SIGN1, error=ManifestError), "the signer's description")
    validity = _map(members.get(1, {}), "a signature's validity")
    return _time(validity.get(0)), _time(validity.get(1))


def _corim(value: Any) -> Corim:
    value = value.value if isinstance(value, CBORTag) and value.tag == CORIM else value
    members = _map(value, "a CoRIM")
    tags = _array(members.get(1), "a CoRIM's tags")
    if not tags:
        raise ManifestError("a CoRIM without a tag says nothing")
    comids = [found for found in map(_comid_bytes, tags) if found is not None]
    validity = _map(members.get(4, {}), "a CoRIM's validity")
    return Corim(
        id=_id(members.get(0)),
        profiles=_profiles(members.get(3)),
        comids=tuple(parse_comid(each) for each in comids),
        not_before=_time(validity.get(0)),
        not_after=_time(validity.get(1)),
        extensions={name: each for name, each in members.items() if isinstance(name, int) and name < 0},
        unread=len(tags) - len(comids),
    )


def _comid_bytes(tag: Any) -> bytes | None:
    """Return a CoMID among a CoRIM's tags: bytes within the tag, or, as early drafts had it, the tag within bytes."""
    if _is_tagged(tag, _COMID, bytes):
        return bytes(tag.value)
    return tag if isinstance(tag, bytes) and tag.startswith(_COMID_IN_BYTES) else None


def _triple(value: Any) -> Triple:
    parts = _array(value, "a reference triple")
    if len(parts) != 2:
        raise ManifestError("a reference triple has an environment and measurements")
    described = _map(_map(parts[0], "an environment").get(0, {}), "a class")
    measurements = _array(parts[1], "measurements")
    if not measurements:
        raise ManifestError("a reference triple has no measurement")
    return Triple(
        write_cbor(parts[0]),
        _class_id(described.get(0)),
        _optional_text(described.get(1), "a vendor"),
        _optional_text(described.get(2), "a model"),
        tuple(_measurement(each) for each in measurements),
    )


def _measurement(value: Any) -> Measurement:
    members = _map(value, "a measurement")
    key, values = members.get(0), _map(members.get(1), "a measurement's values")
    if not values:
        raise ManifestError("a measurement has no value")
    svn, minimum = _svn(values.get(1))
    raw = values.get(4)
    masked = 5 in values or (raw is not None and not _is_tagged(raw, _BYTES, bytes))
    number = values.get(15)
    known_key = key is None or isinstance(key, str | UUID) or _is_number(key)
    ranged = number is not None and not _is_number(number)
    return Measurement(
        key=key if known_key else None,
        identity=write_cbor(key),
        digests=_digests(values[2]) if 2 in values else (),
        registers=_registers(values[14]) if 14 in values else (),
        raw=raw.value if raw is not None and not masked else None,
        svn=svn,
        minimum=minimum,
        number=number if not ranged else None,
        name=_optional_text(values.get(11), "a name"),
        serial=_optional_text(values.get(8), "a serial number"),
        unread=len(values.keys() - _READ) + masked + ranged + (not known_key),
    )


def _digests(value: Any) -> tuple[Digest, ...]:
    found = []
    for each in _array(value, "digests"):
        parts = _array(each, "a digest")
        if len(parts) != 2 or not isinstance(parts[0], int | str) or not isinstance(parts[1], bytes):
            raise ManifestError("a digest has an algorithm and bytes")
        algorithm, digest = parts
        if len(digest) != _SIZES.get(algorithm, len(digest)) or not digest:
            raise ManifestError(f"a digest of the algorithm {algorithm!r:.40} has {len(digest)} bytes")
        found.append((algorithm, digest))
    if not found:
        raise ManifestError("a list of digests is empty")
    return tuple(found)


def _registers(value: Any) -> tuple[tuple[int | str, tuple[Digest, ...]], ...]:
    members = _map(value, "integrity registers")
    if not members or not all(isinstance(name, int | str) for name in members):
        raise ManifestError("integrity registers are named by numbers or text")
    return tuple((name, _digests(each)) for name, each in members.items())


def _svn(value: Any) -> tuple[int | None, bool]:
    minimum = isinstance(value, CBORTag) and value.tag == _MIN_SVN
    found = value.value if isinstance(value, CBORTag) and value.tag in {_EXACT_SVN, _MIN_SVN} else value
    if found is not None and not _is_number(found):
        raise ManifestError("a security version is no number")
    return found, minimum


def _class_id(value: Any) -> str | UUID | bytes | None:
    if value is None or isinstance(value, UUID | bytes):
        return value
    if _is_tagged(value, _BYTES, bytes):
        return bytes(value.value)
    if _is_tagged(value, _OID, bytes):
        return _oid(value.value)
    if isinstance(value, CBORTag):  # an identity of a kind that somebody's profile defines
        return None
    raise ManifestError("a class has an id that is none")


def _profiles(value: Any) -> tuple[str, ...]:
    """Read the profile, or the list of them that early drafts had."""
    if value is None:
        return ()
    return tuple(map(_profile, value if isinstance(value, list | tuple) else (value,)))


def _profile(value: Any) -> str:
    if isinstance(value, str):
        return value
    if _is_tagged(value, _URI, str):
        return str(value.value)
    if _is_tagged(value, _OID, bytes):
        return _oid(value.value)
    raise ManifestError("a profile is neither a URI nor an OID")


def _oid(content: bytes) -> str:
    """Return an OID in dotted decimals (RFC 9090: the content of its BER encoding)."""
    numbers, number = [], 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if len(content) > 64 or not numbers or number:
        raise ManifestError("an OID is cut off, or too long")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _id(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= 1024:
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes) and len(value) == 16:
        return str(UUID(bytes=value))
    raise ManifestError("an id is neither text nor a UUID")


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value
    try:
        if _is_number(value):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise ManifestError("a time is none")


def _optional_text(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ManifestError(f"{what} is no text")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_tagged(value: Any, tag: int, kind: type) -> bool:
    return isinstance(value, CBORTag) and value.tag == tag and isinstance(value.value, kind)


def _map(value: Any, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ManifestError(f"{what} is no map")
    return value


def _array(value: Any, what: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ManifestError(f"{what} are no list")
    return value
