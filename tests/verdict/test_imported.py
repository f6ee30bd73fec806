# SPDX-License-Identifier: Apache-2.0
"""Others' documents: read by how they are written, named by who imports them, and never more than a proposal."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import InputError
from eaa.rim.errors import ManifestRefused
from eaa.rim.rvps import Message, write_message
from eaa.verdict.corim import corim_of, signed_corim_of
from eaa.verdict.errors import StatementError
from eaa.verdict.imported import Document, Format, format_of, read_document

if TYPE_CHECKING:
    from pathlib import Path

    from eaa._keys import PrivateKey
    from eaa.verdict.reference_set import ReferenceSet

Keys = tuple["PrivateKey", ...]
VALUES = {"mr_td": ["AB" * 48], "isv_svn": 3}
TEXTS = {"mr_td": ("ab" * 48,), "isv_svn": ("3",)}
RIM = b"""<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384">
<Meta xmlns:r="https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/" edition="GPU"
 r:PlatformManufacturerStr="ACME"/><Payload><Resource type="Measurement" index="1" h:Hash0="%s"/></Payload></SoftwareIdentity>
""" % (b"ab" * 48)


def test_each_format_is_found_out_and_read() -> None:
    plain = json.dumps(VALUES).encode()
    assert format_of(plain) is Format.JSON
    assert read_document(Document(plain, Format.JSON)).values == TEXTS
    message = write_message(Message("sample", plain))
    assert format_of(message) is Format.RVPS
    assert read_document(Document(message, Format.RVPS)).values == TEXTS
    assert format_of(b"\xd9\x01\xf5\xa0") is Format.CORIM
    assert format_of(b"\n" + RIM) is Format.SWID
    for unknown in (b"", b"[]", b"mr_td", b'"a"'):
        with pytest.raises(StatementError, match="neither"):
            format_of(unknown)


def test_a_rim_counts_when_signed_or_when_said_so() -> None:
    pytest.importorskip("signxml")
    message = write_message(Message("swid", RIM))
    for data, kind in ((RIM, Format.SWID), (message, Format.RVPS)):
        with pytest.raises(ManifestRefused):
            read_document(Document(data, kind))
        found = read_document(Document(data, kind, unsigned=True))
        assert found.values == {"ACME.GPU.measurement_1": ("ab" * 48,)}
        assert "not looked at" in found.notes[0]


def test_our_own_corim_is_the_set_again(keys: Keys, reference_set: ReferenceSet) -> None:
    for data in (corim_of(reference_set), signed_corim_of(reference_set, keys[0])):
        found = read_document(Document(data, Format.CORIM))
        assert found.set == reference_set
        assert found.notes == ()
    message = write_message(Message("corim", corim_of(reference_set)))
    assert read_document(Document(message, Format.RVPS)).set == reference_set


def test_anothers_corim_is_values_and_a_warning(vectors: Path) -> None:
    folder = vectors / "corim"
    found = read_document(
        Document((folder / "corim-signed-good-corim" / "corim.cbor").read_bytes(), Format.CORIM)
    )
    assert found.set is None
    assert any("signature is not looked at" in note for note in found.notes)
    name = "ACME/RoadRunner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests"
    (register,) = found.registers({name: "mr_enclave"})
    assert register.register == "mr_enclave"
    with pytest.raises(StatementError, match="no value named 'mr_td'"):
        found.registers({"mr_td": "mr_td"})
    roles = (folder / "corim-unsigned" / "corim_roles.cbor").read_bytes()
    with pytest.raises(StatementError, match="no reference value"):
        read_document(Document(roles, Format.CORIM))


@pytest.mark.parametrize("value", [[], {}, {"a": 1.5}, {"a": True}, {"a": -1}, {"a": [["b"]]}, {"a": {}}])
def test_values_that_no_register_has_are_refused(value: object) -> None:
    with pytest.raises(InputError):
        read_document(Document(json.dumps(value).encode(), Format.JSON))


@given(data=st.binary(max_size=100), kind=st.sampled_from(Format))
def test_any_bytes_are_read_or_refused(data: bytes, kind: Format) -> None:
    with contextlib.suppress(InputError):
        read_document(Document(data, kind, unsigned=True))
