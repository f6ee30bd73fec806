# SPDX-License-Identifier: Apache-2.0
"""TPM evidence as other projects' attesters write it: go-tpm-tools, go-attestation, EnactTrust, Parsec.

Each becomes a :class:`~eaa.tee.tpm.evidence.TpmEvidence`. Where a format does not carry the PCR values or the key, the checks that need
them are not made: the key is then given from elsewhere, as the owner's trust anchor.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import EvidenceError
from eaa.tee.tpm.evidence import AttestationKey, TpmEvidence, parse_key
from eaa.tee.tpm.quote import MAX_PCR, PcrBank, TpmQuote, parse_attest, parse_signature
from eaa.tee.tpm.wire import Algorithm, Reader, digest_size

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["parse_enacttrust", "parse_go_attestation", "parse_go_tpm_tools", "parse_parsec"]

MAX_SIZE: Final = 4 * 1024 * 1024
"""These formats carry event logs and certificates, too."""
_FORMAT: Final = "evidence.format"
_GO_HASHES: Final = {3: Algorithm.SHA1, 5: Algorithm.SHA256, 6: Algorithm.SHA384, 7: Algorithm.SHA512}
"""Go's ``crypto.Hash`` numbers."""
_NODE_ID: Final = 16
_WIRE_VARINT, _WIRE_64, _WIRE_BYTES, _WIRE_32 = 0, 1, 2, 5
_CBOR_BYTES, _CBOR_TEXT, _CBOR_MAP = 2, 3, 5
_CBOR_LENGTHS: Final = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I")}


def parse_go_tpm_tools(data: bytes) -> TpmEvidence:
    """Read an ``attest.Attestation`` message; of its quotes, the one over the bank that is worth most.

    :raises EvidenceError: when it is malformed, or has no quote.
    """
    _bound(data)
    fields = list(_protobuf(data))
    quotes = [_go_quote(value) for number, value in fields if number == 2 and isinstance(value, bytes)]
    key = next((value for number, value in fields if number == 1 and isinstance(value, bytes)), b"")
    if not quotes:
        raise EvidenceError("the attestation holds no quote", check=_FORMAT)
    best = max(quotes, key=lambda quote: max((each.bank for each in quote.attest.selections), default=0))
    log = next((value for number, value in fields if number == 3 and isinstance(value, bytes)), b"")
    return TpmEvidence(data, best, parse_key(key), log)


def _go_quote(data: bytes) -> TpmQuote:
    fields = {number: value for number, value in _protobuf(data) if isinstance(value, bytes)}
    message = fields.get(1, b"")
    bank = 0
    values: dict[int, bytes] = {}
    for number, value in _protobuf(fields.get(3, b"")):
        if number == 1 and isinstance(value, int):
            bank = value
        elif number == 2 and isinstance(value, bytes):
            entry = dict(_protobuf(value))
            index, digest = entry.get(1, 0), entry.get(2)
            if not isinstance(index, int) or not isinstance(digest, bytes) or len(values) > MAX_PCR:
                raise EvidenceError("a PCR is not a number and its value", check=_FORMAT)
            values[index] = digest
    _require_sizes(bank, values)
    return TpmQuote(
        message, parse_attest(message), parse_signature(fields.get(2, b"")), {bank: PcrBank(values)}
    )


def _require_sizes(bank: int, values: dict[int, bytes]) -> None:
    if values and {len(value) for value in values.values()} != {digest_size(bank, _FORMAT)}:
        raise EvidenceError("PCR values are not of their bank's size", check=_FORMAT)


def _protobuf(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field numbers and values of one message, in linear time."""
    reader = Reader(data, "the protobuf message", _FORMAT)
    while reader.at < len(data):
        tag = _varint(reader)
        number, wire = tag >> 3, tag & 7
        if wire == _WIRE_VARINT:
            yield number, _varint(reader)
        elif wire == _WIRE_BYTES:
            yield number, reader.take(_varint(reader))
        elif wire in {_WIRE_32, _WIRE_64}:
            yield number, reader.take(4 if wire == _WIRE_32 else 8)
        else:
            raise reader.error(f"wire type {wire}")


def _varint(reader: Reader) -> int:
    value = 0
    for shift in range(0, 64, 7):
        (byte,) = reader.take(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise reader.error("a number of more than 64 bits")


def parse_go_attestation(data: bytes) -> TpmEvidence:
    """Read the JSON that go-attestation's ``attest-tool dump`` writes.

    :raises EvidenceError: when it is malformed.
    """
    document = parse_json(data, MAX_SIZE, error=EvidenceError)
    try:
        key, quote, listed = document["AK"]["Public"], document["Quote"], document["Log"]["PCRs"]
        message, signature = (b64decode(quote[name], validate=True) for name in ("Quote", "Signature"))
        pcrs: dict[int, dict[int, bytes]] = {}
        for each in listed[: 16 * MAX_PCR]:
            bank = int(_GO_HASHES[each["DigestAlg"]])
            pcrs.setdefault(bank, {})[int(each["Index"])] = b64decode(each["Digest"], validate=True)
        public = b64decode(key, validate=True)
        log = b64decode(document["Log"].get("Raw") or "", validate=True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceError("this is no dump of go-attestation", check=_FORMAT) from error
    for bank, values in pcrs.items():
        _require_sizes(bank, values)
    quoted = TpmQuote(
        message,
        parse_attest(message),
        parse_signature(signature),
        {bank: PcrBank(values) for bank, values in pcrs.items()},
    )
    return TpmEvidence(data, quoted, parse_key(public), log)


def parse_enacttrust(data: bytes, key: AttestationKey) -> TpmEvidence:
    """Read an EnactTrust token: a node's UUID, then TPMS_ATTEST with its size, then TPMT_SIGNATURE. It names no key.

    :raises EvidenceError: when it is malformed.
    """
    _bound(data)
    reader = Reader(data, "the EnactTrust token", _FORMAT)
    reader.take(_NODE_ID)
    message = reader.sized(1024)
    signature = parse_signature(reader.take(len(data) - reader.at))
    return TpmEvidence(data, TpmQuote(message, parse_attest(message), signature, {}), key)


def parse_parsec(data: bytes, key: AttestationKey) -> TpmEvidence:
    """Read the platform attestation (``pat``) of Parsec's evidence, a CBOR map. It names its key by hash only.

    :raises EvidenceError: when it is malformed.
    """
    _bound(data)
    reader = Reader(data, "the Parsec evidence", _FORMAT)
    document = _cbor(reader, depth=2)
    reader.finish()
    platform = document.get("pat") if isinstance(document, dict) else None
    parts = platform if isinstance(platform, dict) else {}
    message, signature = parts.get("attestInfo"), parts.get("sig")
    if not isinstance(message, bytes) or not isinstance(signature, bytes):
        raise EvidenceError("the evidence holds no platform attestation", check=_FORMAT)
    return TpmEvidence(data, TpmQuote(message, parse_attest(message), parse_signature(signature), {}), key)


def _cbor(reader: Reader, depth: int) -> Any:
    """Read a CBOR value made of maps, text and bytes of definite length, which is all that Parsec uses."""
    (head,) = reader.take(1)
    kind, size = head >> 5, head & 31
    if size in _CBOR_LENGTHS:
        (size,) = reader.unpack(_CBOR_LENGTHS[size])
    elif size > 23:
        raise reader.error("a CBOR value of indefinite length")
    if kind == _CBOR_BYTES:
        return reader.take(size)
    if kind == _CBOR_TEXT:
        return reader.take(size).decode("utf-8", "replace")
    if kind != _CBOR_MAP or depth == 0 or size > 64:
        raise reader.error("CBOR that is neither map, text nor bytes, or is nested too deep")
    found: dict[Any, Any] = {}
    for _ in range(size):
        name = _cbor(reader, 0)
        found[name] = _cbor(reader, depth - 1)
    return found


def _bound(data: bytes) -> None:
    if len(data) > MAX_SIZE:
        raise EvidenceError(f"evidence of {len(data)} bytes, at most {MAX_SIZE} are read", check=_FORMAT)
