# SPDX-License-Identifier: Apache-2.0
"""CoRIM: real manifests are read, their signatures verified, and whatever is no manifest refused."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cbor2 import CBORTag
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from eaa._cbor import write_cbor
from eaa._keys import new_key, read_private_key
from eaa.rim.corim import MEDIA_TYPE, META, parse_comid, parse_corim, signature_validity, unwrap_corim
from eaa.rim.cose import CONTENT_TYPE, parse_sign1, sign1
from eaa.rim.errors import ManifestError
from eaa.rim.names import named_values

if TYPE_CHECKING:
    from pathlib import Path

KEY = read_private_key(new_key()[0])
DIGEST = [7, b"\xab" * 48]
ROAD_RUNNER = "ACME/RoadRunner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests"
LAST = "a3a5e715f0cc574a73c3f9bebb6bc24f32ffd5b67b387244c2c909da779a1478"
NO_MANIFEST = {"signed_bad_signature", "signed_invalid_test", "cca_platform_invalid_digests"}
"""Among the real ones: not CBOR, a CoRIM without tags, a SHA-256 digest of 31 bytes."""


def comid(**changes: Any) -> dict[int, Any]:
    measurement = {0: "mr_td", 1: changes.get("values", {2: [DIGEST]})}
    environment = {0: changes.get("described", {1: "ACME", 2: "web"})}
    return {
        1: {0: changes.get("tag_id", "a tag"), 1: changes.get("version", 1)},
        4: {0: [[environment, changes.get("measurements", [measurement])]]},
    }


def corim(*comids: Any, **changes: Any) -> bytes:
    members = {0: "an id", 1: [CBORTag(506, write_cbor(each)) for each in comids or [comid()]]}
    return write_cbor(
        CBORTag(501, {k: v for k, v in (members | changes.get("members", {})).items() if v is not None})
    )


def files(vectors: Path) -> list[Path]:
    return sorted((vectors / "corim").glob("*/*.cbor"))


def test_every_real_manifest_is_read(vectors: Path) -> None:
    assert len(files(vectors)) > 35
    for path in files(vectors):
        read = parse_comid if path.name.startswith("comid") else unwrap_corim
        if path.stem in NO_MANIFEST:
            with pytest.raises(ManifestError):
                read(path.read_bytes())
        else:
            read(path.read_bytes())


@pytest.mark.parametrize("name", ["corim-signed-good-corim", "corim-signed-corim-with-extensions"])
def test_a_real_signature_holds_for_its_key(vectors: Path, name: str) -> None:
    folder = vectors / "corim" / name
    jwk = json.loads((folder / "public_key.json").read_bytes())
    key = ECKey.import_key({member: jwk[member] for member in ("kty", "crv", "x", "y")}).public_key
    assert isinstance(key, EllipticCurvePublicKey)
    data = (folder / "corim.cbor").read_bytes()
    found, signed = unwrap_corim(data)
    assert found.id == "test corim id"
    assert signed is not None
    assert signed.signed_by(key)
    assert not signed.signed_by(KEY.public_key())
    assert signature_validity(signed)[1] == datetime(2025, 12, 31, tzinfo=UTC)
    spoiled = unwrap_corim(data[:-1] + bytes([data[-1] ^ 1]))[1]
    assert spoiled is not None
    assert not spoiled.signed_by(key)


def test_values_are_named_as_trustee_does(vectors: Path) -> None:
    data = (vectors / "corim" / "corim-trustee-unsigned" / "corim.cbor").read_bytes()
    values, notes = named_values(parse_corim(data))
    assert list(values) == [ROAD_RUNNER]
    assert values[ROAD_RUNNER][-1] == LAST
    assert any("other kinds" in note for note in notes)


def test_a_real_snp_manifest_names_our_registers(vectors: Path) -> None:
    folder = vectors / "snp" / "snp-veraison-genoa-v3"
    values, _ = named_values(parse_corim((folder / "corim.bin").read_bytes()))
    assert values["measurement"][0] in (folder / "report.bin").read_bytes().hex()
    assert values["guest_svn"] == ["0"]


def test_two_elements_never_share_a_name(vectors: Path) -> None:
    data = (vectors / "corim" / "corim-unsigned" / "corim_2.cbor").read_bytes()
    with pytest.raises(ManifestError, match="two elements"):
        named_values(parse_corim(data))


def test_measurements_of_one_element_are_alternatives() -> None:
    measurements = [{0: "mr_td", 1: {2: [[7, bytes([byte]) * 48]]}} for byte in (1, 2, 1)]
    values, notes = named_values(parse_corim(corim(comid(measurements=measurements))))
    assert values == {"ACME/web/mr_td/digests": ["01" * 48, "02" * 48]}
    assert notes == []


def test_each_kind_of_value_has_its_name() -> None:
    values = {
        1: CBORTag(553, 7),
        2: [DIGEST],
        4: CBORTag(560, b"raw"),
        14: {0: [DIGEST], "x": [DIGEST]},
        15: 9,
    }
    found = parse_corim(corim(comid(values=values | {8: "serial", 11: "name"})))
    base = "ACME/web/mr_td/name/serial"
    assert named_values(found) == (
        {
            f"{base}/digests": ["ab" * 48],
            f"{base}/raw_bytes": [b"raw".hex()],
            f"{base}/svn": ["7"],
            f"{base}/number": ["9"],
            f"{base}/registers/0": ["ab" * 48],
            f"{base}/registers/x": ["ab" * 48],
        },
        [],
    )
    assert found.comids[0].triples[0].measurements[0].minimum


def test_what_is_not_read_is_said() -> None:
    masked = comid(values={2: [DIGEST], 4: CBORTag(560, b"\1"), 5: b"\1"})
    ranged = comid(values={2: [DIGEST], 15: CBORTag(564, [1, 2])}, described={1: "ACME", 2: "db"})
    keyed = comid() | {4: {3: [[{}, [CBORTag(554, "key")]]]}}
    found = parse_corim(
        corim(masked, ranged, keyed, members={1: [*_tags(masked, ranged, keyed), CBORTag(505, b"")]})
    )
    values, notes = named_values(found)
    assert set(values) == {"ACME/web/mr_td/digests", "ACME/db/mr_td/digests"}
    assert len(notes) == 4


def _tags(*comids: Any) -> list[Any]:
    return [CBORTag(506, write_cbor(each)) for each in comids]


def test_outer_tags_of_early_drafts_are_taken_off() -> None:
    plain = corim()
    for data in (b"\xd9\x01\xf6" + plain, b"\xd9\x01\xf4\xd9\x01\xf6" + plain, plain[3:]):
        assert unwrap_corim(data)[0] == parse_corim(plain)
    signed = sign1(plain, KEY, {CONTENT_TYPE: MEDIA_TYPE})
    assert unwrap_corim(b"\xd9\x01\xf6" + signed)[0] == parse_corim(plain)


def test_signed_bytes_that_are_no_corim_are_refused() -> None:
    for headers, payload in (
        ({}, corim()),
        ({CONTENT_TYPE: "text/plain"}, corim()),
        ({CONTENT_TYPE: MEDIA_TYPE}, b""),
    ):
        with pytest.raises(ManifestError):
            unwrap_corim(sign1(payload, KEY, headers))


def test_a_signers_validity_is_read_or_refused() -> None:
    def signed(meta: object) -> Any:
        return parse_sign1(sign1(b"", KEY, {META: meta}))

    times = write_cbor({0: {0: "a"}, 1: {0: CBORTag(1, 0), 1: 60}})
    assert signature_validity(signed(times)) == (
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 1, tzinfo=UTC),
    )
    assert signature_validity(parse_sign1(sign1(b"", KEY, {}))) == (None, None)
    for wrong in (1, b"", write_cbor({1: []}), write_cbor({1: {0: "now"}}), write_cbor({1: {1: 2**62}})):
        with pytest.raises(ManifestError):
            signature_validity(signed(wrong))


@pytest.mark.parametrize(
    "members",
    [
        {0: None},
        {0: ""},
        {0: b"short"},
        {1: None},
        {1: []},
        {1: {}},
        {1: [CBORTag(506, b"")]},
        {3: 7},
        {3: CBORTag(111, b"")},
        {3: CBORTag(111, b"\x80")},
        {4: []},
        {4: {1: "tomorrow"}},
        {4: {1: 2**60}},
    ],
)
def test_what_is_no_corim_is_refused(members: dict[int, Any]) -> None:
    parse_corim(corim())
    with pytest.raises(ManifestError):
        parse_corim(corim(members=members))


@pytest.mark.parametrize(
    "changes",
    [
        {"tag_id": 1},
        {"version": -1},
        {"version": True},
        {"described": []},
        {"described": {0: 7}},
        {"described": {1: 7}},
        {"described": {2: b"web"}},
        {"measurements": []},
        {"measurements": [7]},
        {"measurements": [{0: "a"}]},
        {"measurements": [{0: "a", 1: {}}]},
        {"values": {2: []}},
        {"values": {2: [[7]]}},
        {"values": {2: [[7, b""]]}},
        {"values": {2: [[7, b"\0" * 47]]}},
        {"values": {2: [["sha-256", b"\0" * 31]]}},
        {"values": {2: [[7, "ab"]]}},
        {"values": {1: "7"}},
        {"values": {1: -7}},
        {"values": {14: {}}},
        {"values": {14: {b"0": [DIGEST]}}},
        {"values": {8: 7}},
        {"values": {11: 7}},
    ],
)
def test_what_is_no_comid_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        parse_corim(corim(comid(**changes)))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for read in (unwrap_corim, parse_corim, parse_comid):
        with pytest.raises(ManifestError):
            read(data)


@given(position=st.integers(0, len(corim()) - 1), byte=st.integers(0, 255))
def test_a_manifest_with_a_changed_byte_is_read_or_refused(position: int, byte: int) -> None:
    data = bytearray(corim())
    data[position] = byte
    with contextlib.suppress(ManifestError):
        named_values(unwrap_corim(bytes(data))[0])
