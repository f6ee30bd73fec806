# SPDX-License-Identifier: Apache-2.0
"""Collateral files: read by content, kept byte for byte, refused with the file's name."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import eaa
from eaa.endorser.files import load_endorsements
from eaa.rats import EndorsementError, Endorsements
from eaa.simulator import ChipMaker, to_common_form
from eaa.tee.dcap.collateral_files import (
    MAX_FILE,
    crl_from_bytes,
    endorsements_from_files,
    endorsements_from_json,
    endorsements_to_files,
    endorsements_to_json,
    issuer_chain_from_bytes,
    statement_from_pcs,
)
from eaa.tee.dcap.signed_json import read_signed_object

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 1, tzinfo=UTC)
COLLATERAL = ChipMaker.create(NOW).collateral("tdx", NOW)
DOCUMENT = endorsements_to_json(COLLATERAL)
FILES = endorsements_to_files(COLLATERAL)
KINDS = ["tcb_info", "qe_identity", "pck_crl", "root_ca_crl"]


def document(**changes: Any) -> bytes:
    return json.dumps({**DOCUMENT, **changes}).encode()


def test_document_is_the_common_form() -> None:
    assert to_common_form(COLLATERAL) == DOCUMENT


def test_document_and_folder_give_the_same_set_back() -> None:
    assert endorsements_from_json(document()) == COLLATERAL
    assert endorsements_from_files(FILES) == COLLATERAL


def test_order_of_files_and_their_names_do_not_matter() -> None:
    renamed = {f"{n}-whatever": data for n, data in enumerate(reversed(FILES.values()))}
    assert set(endorsements_from_files(renamed).items) == set(COLLATERAL.items)


def test_signed_text_is_kept_byte_for_byte() -> None:
    text = '{"version" : 3,\n\t"é":"\\u00e9" , "n":1.50}'
    read = endorsements_from_json(document(tcb_info=text))
    assert read_signed_object(read.of_kind("tcb_info")[0].content, "tcbInfo").text == text.encode()
    assert endorsements_to_json(read)["tcb_info"] == text
    body = b' {"signature":"' + b"ab" * 64 + b'",\n "tcbInfo" : ' + text.encode() + b" }\n"
    assert read_signed_object(statement_from_pcs(body).content, "tcbInfo").text == text.encode()


@pytest.mark.parametrize("dress", ["der", "pem", "hex", "HEX", "base64", "wrapped base64"])
def test_crl_is_recognised_in_every_dress(dress: str) -> None:
    der = COLLATERAL.of_kind("pck_crl")[0].content
    plain = base64.b64encode(der)
    dressed = {
        "der": der,
        "pem": b"-----BEGIN X509 CRL-----\r\n" + plain + b"\r\n-----END X509 CRL-----\n",
        "hex": der.hex().encode() + b"\n",
        "HEX": der.hex().upper().encode(),
        "base64": plain,
        "wrapped base64": base64.encodebytes(der),
    }[dress]
    assert crl_from_bytes(dressed) == der
    assert endorsements_from_files({"x": dressed}).of_kind("pck_crl")[0].content == der


def test_chain_may_be_url_encoded_and_root_first() -> None:
    chain = COLLATERAL.items[0].issuer_chain
    leaf, end, root = chain.partition(b"-----END CERTIFICATE-----\n")
    assert issuer_chain_from_bytes(quote(chain, safe="").encode()) == chain
    assert issuer_chain_from_bytes(root + leaf + end) == chain


def test_chain_goes_to_what_it_can_certify() -> None:
    other = ChipMaker.create(NOW).collateral("sgx", NOW, ca="processor")
    mixed = {f"a-{name}": data for name, data in endorsements_to_files(other).items()}
    mixed |= {f"b-{name}": data for name, data in FILES.items()}
    read = endorsements_from_files(mixed)
    assert set(read.items) == {*COLLATERAL.items, *other.items}


def test_one_chain_serves_both_statements_and_equal_pieces_are_one() -> None:
    files = {name: data for name, data in FILES.items() if name != "qe_identity_issuer_chain.pem"}
    assert endorsements_from_files({**files, "collateral.json": document()}) == COLLATERAL


def test_what_is_no_collateral_is_passed_over_and_named() -> None:
    junk = {
        "README": b"read me",
        "events.json": b'{"mrtd": "00"}',
        "log.jsonl": b'{"a":1}\n{"b":2}',
        "quote.bin": bytes(range(256)),
        "list.json": b"[1]",
        "empty": b"",
    }
    ignored: list[str] = []
    assert endorsements_from_files({**junk, **FILES}, ignored=ignored) == COLLATERAL
    assert ignored == sorted(junk)


def test_nothing_but_junk_is_refused() -> None:
    with pytest.raises(EndorsementError, match="no collateral"):
        endorsements_from_files({"README": b"read me"})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tcb_info.json", b'{"tcbInfo":{},"signature":"00"}'),
        ("tcb_info.json", b'{"tcbInfo":{}}'),
        ("tcb_info.json", FILES["tcb_info.json"][:-9]),
        ("tcb_info.json", FILES["tcb_info.json"].replace(b'{"tcbInfo":', b'{"tcbInfo":{},"tcbInfo":')),
        ("tcb_info.json", FILES["tcb_info.json"].replace(b'"version":3', b'"version":3,"version":3')),
        ("both.json", b'{"tcbInfo":{},"enclaveIdentity":{},"signature":"' + b"00" * 64 + b'"}'),
        ("deep.json", b'{"tcbInfo":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("number.json", b'{"tcbInfo":{"n":' + b"9" * 100_000 + b'},"signature":"' + b"00" * 64 + b'"}'),
        ("pck_crl.der", FILES["pck_crl.der"][:-1]),
        ("pck_crl.der", FILES["pck_crl.der"] + b"\0"),
        ("pck_crl.hex", b"3082ff"),
        ("a.pem", b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"),
        ("chain.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        ("huge.json", b"{" + b" " * MAX_FILE + b"}"),
    ],
)
def test_malformed_collateral_is_refused_by_name(name: str, data: bytes) -> None:
    with pytest.raises(EndorsementError, match=f"^{name}: ") as caught:
        endorsements_from_files({name: data})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tcb_info_signature": None}, "without tcb_info_signature"),
        ({"tcb_info_signature": 'a","b":"' + "0" * 120}, "64 bytes of hex"),
        ({"tcb_info": '{},"x":{}'}, "more than one"),
        ({"tcb_info": '{"a":1,"a":2}'}, "twice"),
        ({"tcb_info": {"version": 3}}, "expected a string"),
        ({"qe_identity": "[]"}, "not an object"),
        ({"qe_identity": "{"}, "JSON"),
        ({"qe_identity": '{"a":NaN}'}, "NaN"),
        ({"qe_identity": '{"a":"\ud800"}'}, "characters"),
        ({"pck_crl": "3082"}, "CRL"),
        ({"pck_crl": "zz"}, "CRL"),
        ({"pck_crl_issuer_chain": "chain"}, "certificates"),
        (dict.fromkeys(DOCUMENT), "no collateral"),
    ],
)
def test_malformed_document_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EndorsementError, match=reason):
        endorsements_from_json(document(**changes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"{} {}", b'{"tcb_info":', b"\xff{}", b'{"pck_crl":""}'])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(EndorsementError, match=r"^this: "):
        endorsements_from_json(text, "this")


def test_part_of_a_document_is_a_part_of_the_set() -> None:
    read = endorsements_from_json(
        document(**{**dict.fromkeys(DOCUMENT, ""), "root_ca_crl": DOCUMENT["root_ca_crl"]})
    )
    assert [item.kind for item in read.items] == ["root_ca_crl"]


def test_document_holds_one_of_a_kind() -> None:
    later = COLLATERAL.of_kind("root_ca_crl")
    with pytest.raises(EndorsementError, match="another 'root_ca_crl'"):
        endorsements_to_json(Endorsements(later + later))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda each: st.lists(each, max_size=3)
)
json_documents = st.dictionaries(
    st.sampled_from([*DOCUMENT, "tcbInfo", "enclaveIdentity", "signature", "x"]),
    json_values | st.sampled_from(list(DOCUMENT.values())),
).map(lambda value: json.dumps(value).encode())


@given(text=st.binary(max_size=200) | json_documents)
def test_any_document_gives_a_set_or_an_endorsement_error(text: bytes) -> None:
    try:
        read = endorsements_from_json(text)
    except EndorsementError:
        return
    assert read.items
    assert endorsements_from_json(json.dumps(endorsements_to_json(read)).encode()) == read


@st.composite
def mutated_file(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(FILES)))
    data = bytearray(FILES[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return name, bytes(data)


@given(changed=mutated_file() | st.tuples(st.sampled_from(["a", "b.json", "c-crl"]), st.binary(max_size=64)))
@example(changed=("a", b"0\x80" * 40))
def test_any_folder_gives_a_set_or_an_endorsement_error(changed: tuple[str, bytes]) -> None:
    name, data = changed
    try:
        read = endorsements_from_files({**FILES, name: data})
    except EndorsementError:
        return
    assert {item.kind for item in read.items} <= set(KINDS)


def test_load_reads_document_folder_and_single_response(tmp_path: Path) -> None:
    (tmp_path / "collateral.json").write_bytes(document())
    folder = tmp_path / "folder"
    (folder / "nested").mkdir(parents=True)
    (folder / "nested" / "tcb_info.json").write_bytes(b"{}")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    assert load_endorsements(tmp_path / "collateral.json") == COLLATERAL
    assert load_endorsements(str(folder)) == COLLATERAL
    assert [item.kind for item in load_endorsements(folder / "tcb_info.json").items] == ["tcb_info"]
    assert [item.kind for item in load_endorsements(folder / "pck_crl.der").items] == ["pck_crl"]
    assert eaa.load_endorsements is load_endorsements


def test_load_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EndorsementError, match="No such file"):
        load_endorsements(tmp_path / "absent")
    (tmp_path / "big.json").write_bytes(b"{" + b" " * MAX_FILE)
    with pytest.raises(EndorsementError, match=r"big\.json: more than"):
        load_endorsements(tmp_path / "big.json")


def test_collateral_of_every_vector_is_read(vectors: Path) -> None:
    manifest = json.loads((vectors / "manifest.json").read_bytes())
    whole = parts = 0
    for vector in manifest["vectors"]:
        if vector["tee"] not in {"sgx", "tdx"}:
            continue
        paths = {role: vectors / file["path"] for role, file in vector["files"].items()}
        for role in {"collateral_assembled", "dcap_qvl_json"} & paths.keys():
            expected = json.loads(paths[role].read_bytes())
            read = endorsements_to_json(load_endorsements(paths[role]))
            expected.pop("pck_certificate_chain", None)  # the quote's, not of the collateral
            assert {name: text.strip() for name, text in read.items()} == {
                name: text.strip() for name, text in expected.items()
            }, vector["id"]
            whole += 1
        folder = {
            path.name: path.read_bytes()
            for role, path in paths.items()
            if role in KINDS or role.endswith("issuer_chain")
        }
        if folder:
            ignored: list[str] = []
            found = endorsements_from_files(folder, ignored=ignored)
            assert {item.kind for item in found.items} == set(KINDS) & paths.keys(), vector["id"]
            assert ignored == [], vector["id"]
            assert all(item.issuer_chain for item in found.items if item.kind in {"tcb_info", "qe_identity"})
            parts += 1
    assert min(whole, parts) >= 30
