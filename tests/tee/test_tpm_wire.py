# SPDX-License-Identifier: Apache-2.0
"""A TPM's structures: read as they are written, and any other bytes refused."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import EvidenceError
from eaa.simulator.tpm import SoftwareTpm, ecc_area
from eaa.tee.tpm.evidence import (
    bundle_tpm2_tools,
    parse_key,
    parse_pcr_values,
    parse_tpm_evidence,
    tpm_evidence_from_kbs,
)
from eaa.tee.tpm.formats import parse_enacttrust, parse_go_attestation, parse_go_tpm_tools, parse_parsec
from eaa.tee.tpm.pcr_file import pack_pcr_file, parse_pcr_file
from eaa.tee.tpm.public import load_spki, parse_public
from eaa.tee.tpm.quote import (
    Attest,
    Clock,
    PcrSelection,
    Signature,
    pack_attest,
    pack_signature,
    parse_attest,
    parse_signature,
)
from eaa.tee.tpm.wire import Algorithm, sized

if TYPE_CHECKING:
    from collections.abc import Callable

TPM = SoftwareTpm(b"wire")
MESSAGE, SIGNATURE, VALUES = TPM.quote(b"challenge")
ATTEST = parse_attest(MESSAGE)
PCR_FILE = pack_pcr_file({Algorithm.SHA256: VALUES})
EVIDENCE = TPM.evidence(b"challenge")
COCO = {
    "ak_public": b64encode(TPM.ak_area.key).decode(),
    "tpm_quote": {
        "message": b64encode(MESSAGE).decode(),
        "signature": b64encode(SIGNATURE).decode(),
        "pcrs": [VALUES[index].hex() for index in range(24)],
    },
}
KEY = parse_key(TPM.ak_area.raw)
GO_DUMP = json.dumps(
    {
        "AK": {"Public": b64encode(TPM.ak_area.raw).decode()},
        "Quote": {"Quote": b64encode(MESSAGE).decode(), "Signature": b64encode(SIGNATURE).decode()},
        "Log": {"PCRs": [{"Index": 0, "Digest": b64encode(bytes(32)).decode(), "DigestAlg": 5}]},
    }
).encode()


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    assert len(content) < 1 << 14
    length = len(content)
    return bytes([number << 3 | 2, length & 0x7F | 0x80, length >> 7]) + content


GO_PCRS = b"\x08\x0b" + field(2, b"\x08\x00" + field(2, bytes(32)))
GO_MESSAGE = field(1, TPM.ak_area.raw) + field(2, field(1, MESSAGE) + field(2, SIGNATURE) + field(3, GO_PCRS))

attests = st.builds(
    Attest,
    st.binary(max_size=66),
    st.binary(max_size=66),
    st.builds(
        Clock,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    ),
    st.integers(0, 2**64 - 1),
    st.lists(
        st.builds(PcrSelection, st.sampled_from([4, 0xB, 0xC, 0xD, 0x12]), st.integers(0, 2**24 - 1)),
        max_size=5,
        unique_by=lambda selection: selection.bank,
    ).map(tuple),
    st.binary(max_size=64),
)


@given(attests)
def test_a_quote_is_read_as_it_was_written(attest: Attest) -> None:
    assert parse_attest(pack_attest(attest)) == attest


@given(
    st.builds(Signature, st.sampled_from([0x14, 0x16]), st.sampled_from([4, 0xB, 0xC, 0xD]), st.binary(max_size=512))
    | st.builds(
        Signature, st.just(0x18), st.sampled_from([0xB, 0xC]), st.binary(min_size=66, max_size=66)
    )
)  # fmt: skip
def test_a_signature_is_read_as_it_was_written(signature: Signature) -> None:
    assert parse_signature(pack_signature(signature)) == signature


def test_every_truncation_and_every_addition_is_refused() -> None:
    for whole, parse in (
        (MESSAGE, parse_attest),
        (SIGNATURE, parse_signature),
        (TPM.ak_area.raw, parse_public),
        (TPM.ek_area.raw, parse_public),
        (PCR_FILE, parse_pcr_file),
    ):
        parse(whole)
        for cut in range(len(whole)):
            with pytest.raises(EvidenceError):
                parse(whole[:cut])
        with pytest.raises(EvidenceError):
            parse(whole + b"\0")


def test_a_bank_selected_twice_is_refused() -> None:
    """The values of both would be taken from the same place, and the work would grow with their number."""
    twice = (PcrSelection(Algorithm.SHA256, 1), PcrSelection(Algorithm.SHA256, 2))
    with pytest.raises(EvidenceError, match="twice") as refused:
        parse_attest(pack_attest(ATTEST._replace(selections=twice)))
    assert refused.value.check == "tpm.quote.pcr-selection"


def test_a_list_of_selections_that_no_tpm_has_is_refused() -> None:
    head = MESSAGE[: MESSAGE.index(b"\0\0\0\x01\0\x0b\x03")]
    with pytest.raises(EvidenceError, match="65535 PCR banks"):
        parse_attest(head + (65535).to_bytes(4) + bytes(700))


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [(0, 0, "tpm.quote.magic"), (5, 0x17, "tpm.quote.magic")],
)
def test_what_a_tpm_did_not_compose_as_a_quote_is_named(at: int, value: int, check: str) -> None:
    altered = bytearray(MESSAGE)
    altered[at] = value
    with pytest.raises(EvidenceError) as refused:
        parse_attest(bytes(altered))
    assert refused.value.check == check


def test_the_name_is_that_of_the_whole_public_area() -> None:
    other = ecc_area(TPM.ak, 0x00040072)  # type: ignore[arg-type]
    assert parse_public(sized(TPM.ak_area.raw)) == TPM.ak_area
    assert other.key == TPM.ak_area.key
    assert other.name != TPM.ak_area.name
    assert other.missing_attributes == ["restricted"]
    assert TPM.ak_area.missing_attributes == []
    assert TPM.ek_area.missing_attributes == ["sign", "not decrypt"]


def test_a_weak_or_foreign_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    for key in (
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
    ):
        with pytest.raises(EvidenceError):
            load_spki(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(EvidenceError):
        load_spki(b"\x30\x00")


def test_both_forms_of_evidence_say_the_same() -> None:
    ours, coco = parse_tpm_evidence(EVIDENCE), tpm_evidence_from_kbs(COCO)
    assert parse_tpm_evidence(json.dumps(COCO).encode()).quote.message == coco.quote.message
    assert ours.report_data == coco.report_data == b"challenge"
    assert ours.measurements == coco.measurements
    assert ours.measurements["pcr00"] == "00" * 32
    assert ours.key.spki == coco.key.spki
    assert (ours.key.area, coco.key.area) == (TPM.ak_area, None)


def test_only_quoted_registers_are_shown() -> None:
    """What the sender says of other PCRs is signed by nobody (attack A13)."""
    from eaa.simulator.tpm import QuoteTraits

    message, signature, _ = TPM.quote(b"challenge", QuoteTraits(mask=1 << 4))
    everything = pack_pcr_file({Algorithm.SHA256: VALUES, Algorithm.SHA384: {4: bytes(48)}})
    evidence = parse_tpm_evidence(
        bundle_tpm2_tools(message=message, signature=signature, pcrs=everything, key=TPM.ak_area.raw)
    )
    assert list(evidence.measurements) == ["pcr04"]


def test_a_key_is_read_in_each_form() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = TPM.ak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    forms = [pem, b"\n" + pem + b"\n", TPM.ak_area.key, TPM.ak_area.raw, sized(TPM.ak_area.raw)]
    assert {parse_key(form).spki for form in forms} == {TPM.ak_area.key}


@pytest.mark.parametrize(
    "pcrs",
    [
        None,
        [],
        ["00" * 32] * 23,
        ["00" * 31] * 24,
        ["0 " * 32] * 24,
        ["zz" * 32] * 24,
        [32] * 24,
        [[256] * 32] * 24,
        [["00"] * 32] * 24,
        ["00" * 32] * 23 + [None],
        [[0] * 31] * 24,
    ],
)
def test_malformed_values_are_refused(pcrs: object) -> None:
    with pytest.raises(EvidenceError):
        parse_pcr_values(pcrs)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=64).map(bytes.hex),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=8,
)


def mutations(seed: bytes) -> st.SearchStrategy[bytes]:
    """The seed with a piece of it replaced."""

    def splice(piece: tuple[int, int, bytes]) -> bytes:
        at, length, content = piece
        return seed[:at] + content + seed[at + length :]

    return st.tuples(
        st.integers(0, len(seed)), st.integers(0, 16), st.binary(max_size=16)
    ).map(splice)  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "seed"),
    [
        (parse_attest, MESSAGE),
        (parse_signature, SIGNATURE),
        (parse_public, TPM.ak_area.raw),
        (parse_public, TPM.ek_area.raw),
        (parse_pcr_file, PCR_FILE),
        (parse_tpm_evidence, EVIDENCE),
        (parse_tpm_evidence, json.dumps(COCO).encode()),
        (parse_key, TPM.ak_area.raw),
        (load_spki, TPM.ak_area.key),
        (parse_go_attestation, GO_DUMP),
        (parse_go_tpm_tools, GO_MESSAGE),
        (lambda data: parse_enacttrust(data, KEY), bytes(16) + sized(MESSAGE) + SIGNATURE),
        (
            lambda data: parse_parsec(data, KEY),
            b"\xa1\x63pat\xa2\x6aattestInfo\x58" + bytes([len(MESSAGE)]) + MESSAGE
            + b"\x63sig\x58" + bytes([len(SIGNATURE)]) + SIGNATURE,
        ),
    ],
)  # fmt: skip
def test_any_bytes_give_a_value_or_an_error(parse: Callable[[bytes], object], seed: bytes) -> None:
    """Hypothesis: a value or an EvidenceError, nothing else."""

    @given(st.binary(max_size=200) | mutations(seed))
    def check(data: bytes) -> None:
        with suppress(EvidenceError):
            parse(data)

    parse(seed)
    check()


@given(
    st.fixed_dictionaries(
        {}, optional={"ak_public": json_values, "tpm_quote": json_values, "cc_eventlog": json_values}
    )
)
def test_any_document_gives_evidence_or_an_error(document: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        tpm_evidence_from_kbs(document)


def test_other_projects_formats_hold_the_same_quote() -> None:
    token = parse_enacttrust(bytes(16) + sized(MESSAGE) + SIGNATURE, KEY)
    dump, message = parse_go_attestation(GO_DUMP), parse_go_tpm_tools(GO_MESSAGE)
    assert token.quote.message == dump.quote.message == message.quote.message == MESSAGE
    assert token.measurements == {}
    assert dump.measurements == message.measurements == {"pcr00": "00" * 32}
    assert dump.key.area == message.key.area == TPM.ak_area
