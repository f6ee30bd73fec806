# SPDX-License-Identifier: Apache-2.0
"""Machines mint what they are asked for."""

from __future__ import annotations

import timeit
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import ConfigurationError
from eaa.simulator import ChipMaker, measure
from eaa.tee.dcap.quote import BODY_TD10, BODY_TD15
from eaa.tee.sgx.evidence import EnclaveReport, parse_sgx_quote
from eaa.tee.tdx.evidence import parse_tdx_quote

REGISTER = st.binary(min_size=48, max_size=48)


@given(
    report_data=st.binary(max_size=64),
    mr_td=REGISTER,
    rtmrs=st.tuples(REGISTER, REGISTER, REGISTER, REGISTER),
    td15=st.booleans(),
    debug=st.booleans(),
)
def test_a_td_shows_what_it_was_given(
    maker: ChipMaker,
    report_data: bytes,
    mr_td: bytes,
    rtmrs: tuple[bytes, bytes, bytes, bytes],
    td15: bool,  # noqa: FBT001 - drawn by Hypothesis
    debug: bool,  # noqa: FBT001
) -> None:
    quote = parse_tdx_quote(
        maker.machine().quote_tdx(report_data, mr_td=mr_td, rtmrs=rtmrs, td15=td15, debug=debug)
    )
    report = quote.report
    assert quote.report_data == report_data.ljust(64, b"\0")
    assert (report.mr_td, report.rtmr_0, report.rtmr_1, report.rtmr_2, report.rtmr_3) == (mr_td, *rtmrs)
    assert quote.debug is debug
    assert quote.envelope.body_type == (BODY_TD15 if td15 else BODY_TD10)
    assert quote.envelope.header.version == (5 if td15 else 4)


@given(
    report_data=st.binary(max_size=64),
    mr_enclave=st.binary(min_size=32, max_size=32),
    mr_signer=st.binary(min_size=32, max_size=32),
    product=st.integers(0, 0xFFFF),
    svn=st.integers(0, 0xFFFF),
    debug=st.booleans(),
)
def test_an_enclave_shows_what_it_was_given(
    maker: ChipMaker,
    report_data: bytes,
    mr_enclave: bytes,
    mr_signer: bytes,
    product: int,
    svn: int,
    debug: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    quote = parse_sgx_quote(
        maker.machine().quote_sgx(
            report_data,
            mr_enclave=mr_enclave,
            mr_signer=mr_signer,
            isv_prod_id=product,
            isv_svn=svn,
            debug=debug,
        )
    )
    report = quote.report
    assert quote.report_data == report_data.ljust(64, b"\0")
    assert (report.mr_enclave, report.mr_signer) == (mr_enclave, mr_signer)
    assert (report.isv_prod_id, report.isv_svn, quote.debug) == (product, svn, debug)


def test_the_default_guest_is_measured(maker: ChipMaker) -> None:
    shown = parse_tdx_quote(maker.machine().quote_tdx(b"")).measurements
    expected = measure("eaa simulated guest")
    assert {name: shown[name] for name in ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3")} == {
        name: expected[name] for name in ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3")
    }
    assert shown["mr_config_id"] == "00" * 48


def test_the_quoting_enclave_binds_its_key(maker: ChipMaker) -> None:
    signature = parse_tdx_quote(maker.machine().quote_tdx(b"")).envelope.signature
    report = EnclaveReport.parse(signature.qe_report)
    bound = sha256(signature.attestation_key + signature.qe_auth_data).digest()
    assert report.report_data == bound + bytes(32)
    assert not report.debug


def test_a_name_is_a_machine(maker: ChipMaker) -> None:
    first, again, other = maker.machine("a"), maker.machine("a"), maker.machine("b")
    assert first == again
    assert first.identity.ppid == again.identity.ppid != other.identity.ppid
    assert first.identity.platform_instance_id != other.identity.platform_instance_id
    assert first.pck_serial != other.pck_serial
    assert first.fmspc == other.fmspc != maker.machine("a", ca="processor").fmspc


def test_tcb_recovery_gives_another_certificate_to_the_same_platform(maker: ChipMaker) -> None:
    old, new = maker.machine("a", faults=["stale-tcb"]), maker.machine("a")
    assert old.identity.ppid == new.identity.ppid
    assert old.pck_serial != new.pck_serial


@pytest.mark.parametrize("number", [-1, 0x10000])
def test_numbers_that_do_not_fit_are_refused(maker: ChipMaker, number: int) -> None:
    with pytest.raises(ConfigurationError, match="16 bits"):
        maker.machine().quote_sgx(b"", isv_svn=number)


def test_quotes_are_minted_fast(maker: ChipMaker) -> None:
    machine = maker.machine()
    machine.quote_tdx(b"")
    best = min(timeit.repeat(lambda: machine.quote_tdx(b"x"), number=1, repeat=20))
    assert best < 0.002, f"{best * 1e6:.0f} µs"
