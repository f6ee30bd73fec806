# SPDX-License-Identifier: Apache-2.0
"""The quote's wire format: exact to the byte in both directions, and total."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import EvidenceError
from eaa.tee.dcap.quote import MAX_QUOTE_SIZE, pack_envelope, pack_signed, parse_envelope
from eaa.tee.registry import parse_evidence
from eaa.tee.sgx.evidence import EnclaveReport, SgxQuote
from eaa.tee.tdx.evidence import TdReport, TdxQuote

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.simulator import ChipMaker

FORMS = ["sgx-3", "sgx-4", "sgx-5", "tdx-4", "tdx-5", "tdx-5-td15"]


def quote_of(maker: ChipMaker, form: str, report_data: bytes = b"x") -> bytes:
    machine = maker.machine()
    tee, version, *td15 = form.split("-")
    if tee == "sgx":
        return machine.quote_sgx(report_data, version=int(version))
    return machine.quote_tdx(report_data, version=int(version), td15=bool(td15))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_read_is_written_again(maker: ChipMaker, form: str) -> None:
    data = quote_of(maker, form)
    quote = parse_evidence(data, tee=form[:3])
    assert isinstance(quote, SgxQuote | TdxQuote)
    envelope = quote.envelope
    assert quote.report.pack() == envelope.body
    signed = pack_signed(envelope.header, envelope.body_type, quote.report.pack())
    assert signed == envelope.signed
    assert pack_envelope(signed, envelope.signature) == data
    assert quote.raw == data


@pytest.mark.parametrize("form", FORMS)
def test_zero_padding_is_cut_and_counted(maker: ChipMaker, form: str) -> None:
    data = quote_of(maker, form)
    envelope = parse_envelope(data + bytes(70))
    assert envelope.padding == 70
    assert envelope.raw == data


@pytest.mark.parametrize("form", FORMS)
def test_any_other_trailing_byte_is_refused(maker: ChipMaker, form: str) -> None:
    data = quote_of(maker, form)
    for tail in (b"\x01", bytes(69) + b"\x01", b"\x01" + bytes(69)):
        with pytest.raises(EvidenceError) as caught:
            parse_envelope(data + tail)
        assert caught.value.check == "dcap.quote.length"


@pytest.mark.parametrize("form", FORMS)
def test_every_truncation_is_refused(maker: ChipMaker, form: str) -> None:
    data = quote_of(maker, form)
    for size in range(len(data)):
        with pytest.raises(EvidenceError):
            parse_envelope(data[:size])


def test_an_oversized_quote_is_refused_before_it_is_read(maker: ChipMaker) -> None:
    data = quote_of(maker, "tdx-4").ljust(MAX_QUOTE_SIZE + 1, b"\0")
    with pytest.raises(EvidenceError, match="at most"):
        parse_envelope(data)


def patched(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("form", "change", "check"),
    [
        ("tdx-4", patched(0, b"\x02\x00"), "dcap.quote.version"),
        ("tdx-4", patched(0, b"\x06\x00"), "dcap.quote.version"),
        ("tdx-4", patched(2, b"\x03\x00"), "dcap.quote.att-key-type"),
        ("sgx-3", patched(4, b"\x81"), "dcap.quote.tee-type"),
        ("tdx-5", patched(4, b"\x00"), "dcap.quote.tee-type"),
        ("tdx-5", patched(48, b"\x04"), "dcap.quote.body-type"),
        ("tdx-5", patched(50, b"\x00\x00\x00\x7f"), "dcap.quote.body-type"),
        ("tdx-4", patched(48 + 584 + 4 + 128, b"\x05"), "dcap.quote.certification-data"),
        ("tdx-4", patched(48 + 584, b"\xff\xff\xff\xff"), "dcap.quote.length"),
    ],
)
def test_each_malformed_field_is_named(
    maker: ChipMaker, form: str, change: Callable[[bytes], bytes], check: str
) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_envelope(change(quote_of(maker, form)))
    assert caught.value.check == check


def test_evidence_of_another_tee_is_refused(maker: ChipMaker) -> None:
    with pytest.raises(EvidenceError, match="TDX quote") as caught:
        parse_evidence(quote_of(maker, "tdx-4"), tee="sgx")
    assert "--tee tdx" in caught.value.hint
    with pytest.raises(EvidenceError, match="SGX quote"):
        parse_evidence(quote_of(maker, "sgx-3"), tee="tdx")
    with pytest.raises(EvidenceError, match="no verifier"):
        parse_evidence(b"", tee="sample")


@given(report_data=st.binary(min_size=64, max_size=64))
def test_measurements_do_not_depend_on_the_report_data(maker: ChipMaker, report_data: bytes) -> None:
    """A wrong offset would read a measurement out of what the guest chooses (attack A14)."""
    plain = parse_evidence(quote_of(maker, "tdx-5-td15"), tee="tdx")
    other = parse_evidence(quote_of(maker, "tdx-5-td15", report_data), tee="tdx")
    assert isinstance(plain, TdxQuote)
    assert isinstance(other, TdxQuote)
    assert other.report == plain.report._replace(report_data=report_data)


@given(data=st.binary(max_size=6000))
def test_any_bytes_give_a_quote_or_an_evidence_error(data: bytes) -> None:
    for tee in ("sgx", "tdx"):
        try:
            parse_evidence(data, tee=tee)
        except EvidenceError as error:
            assert error.check  # noqa: PT017 - any other exception fails the test


@given(
    form=st.sampled_from(FORMS),
    edits=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_mutated_quotes_give_a_quote_or_an_evidence_error(
    maker: ChipMaker, form: str, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(quote_of(maker, form))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        parse_evidence(bytes(data[: len(data) - cut]), tee=form[:3])
    except EvidenceError as error:
        assert error.check  # noqa: PT017 - any other exception fails the test


def test_report_bodies_have_exact_sizes() -> None:
    for size in (0, 383, 385):
        with pytest.raises(EvidenceError):
            EnclaveReport.parse(bytes(size))
    for size in (0, 583, 585, 647, 649):
        with pytest.raises(EvidenceError):
            TdReport.parse(bytes(size))
