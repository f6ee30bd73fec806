# SPDX-License-Identifier: Apache-2.0
"""PCK certificates by platform: read, proven and selected."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.endorser.authenticity import Authenticator
from eaa.endorser.pck import (
    PckAnswer,
    PckCertificate,
    PckPlatform,
    RawTcb,
    prove_certificates,
    read_pckcerts,
    select_certificate,
)
from eaa.rats import EndorsementError, InputError
from eaa.simulator import ChipMaker
from eaa.simulator.publication import Publication
from eaa.simulator.timeline import Platform, Recovery, Timeline
from eaa.tee.dcap.collateral import parse_tcb_info, read_tcb_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.simulator import Machine

    Registration = Callable[..., PckPlatform]

NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
RECOVERY: Final = Recovery(19, early=NOW + DAY, standard=NOW + 30 * DAY)
TIMELINE: Final = Timeline(
    machines=(Platform("a"), Platform("b"), Platform("c", "processor")),
    recoveries=(RECOVERY,),
)


def answer_for(maker: ChipMaker, machine: Machine, at: datetime = NOW) -> PckAnswer:
    """Return what PCS says of a machine."""
    found = Publication(maker, TIMELINE).pck_certificates(at, "qe_id", machine.qe_id)
    return PckAnswer(
        tuple((each.tcbm, each.certificate) for each in found),
        found[0].issuer_chain,
        machine.fmspc,
        machine.ca,
    )


@pytest.fixture(scope="module")
def authenticator(maker: ChipMaker) -> Authenticator:
    return Authenticator((maker.trust_anchor(),))


def test_certificates_are_proven_and_read(
    maker: ChipMaker, authenticator: Authenticator, registration: Registration
) -> None:
    machine = maker.machine("a")
    answer = answer_for(maker, machine)
    proven = prove_certificates(answer, authenticator, registration(machine))
    assert len(proven) == len(answer.certificates) > 2
    assert {(each.fmspc, each.ca) for each in proven} == {(machine.fmspc, "platform")}
    assert [each.tcbm for each in proven] == [tcbm for tcbm, _ in answer.certificates]
    assert machine.identity.ppid.hex() not in repr(proven)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda good, _: good._replace(certificates=()), "0 PCK certificates"),
        (lambda good, _: good._replace(fmspc="00" * 6), "FMSPC"),
        (lambda good, _: good._replace(ca="processor"), "CA"),
        (lambda good, _: good._replace(certificates=(("00" * 18, good.certificates[0][1]),)), "TCBm"),
        (lambda good, _: good._replace(certificates=(("", b"none"),)), "PEM"),
        (lambda good, other: good._replace(issuer_chain=other.issuer_chain, fmspc=""), "not issued by"),
        (lambda good, _: good._replace(issuer_chain=b""), "no root"),
    ],
)
def test_certificates_that_do_not_agree_are_refused(
    maker: ChipMaker, authenticator: Authenticator, registration: Registration, change: Any, reason: str
) -> None:
    machine = maker.machine("a")
    wrong = change(answer_for(maker, machine), answer_for(maker, maker.machine("c", ca="processor")))
    with pytest.raises(EndorsementError, match=reason):
        prove_certificates(wrong, authenticator, registration(machine))


def test_certificates_of_another_maker_pce_or_platform_are_refused(
    maker: ChipMaker, authenticator: Authenticator, registration: Registration
) -> None:
    a, b = maker.machine("a"), maker.machine("b")
    platform = registration(a)
    stranger = ChipMaker.create(NOW)
    with pytest.raises(EndorsementError, match="not pinned"):
        prove_certificates(answer_for(stranger, stranger.machine("a")), authenticator, platform)
    elsewhere = PckPlatform(platform.root, platform.qe_id, "0001")
    with pytest.raises(EndorsementError, match="PCE 0000"):
        prove_certificates(answer_for(maker, a), authenticator, elsewhere)
    mixed = answer_for(maker, a)
    mixed = mixed._replace(certificates=(*mixed.certificates, *answer_for(maker, b).certificates))
    with pytest.raises(EndorsementError, match="several platforms"):
        prove_certificates(mixed, authenticator, platform)
    held = prove_certificates(answer_for(maker, a), authenticator, platform)[0]
    with pytest.raises(EndorsementError, match="than before"):
        prove_certificates(answer_for(maker, b), authenticator, platform, held)


def certificate(components: str, pce_svn: int) -> PckCertificate:
    svns = bytes.fromhex(components).ljust(16, b"\0")
    return PckCertificate(b"", b"", "", "", "", "", f"{components}/{pce_svn}", svns, pce_svn, NOW, NOW)


@pytest.mark.parametrize(
    ("cpu_svn", "pce_svn", "chosen"),
    [
        ("0303", 13, "0303/13"),
        ("ffff", 255, "0303/13"),
        ("0303", 12, "0202/11"),  # the PCE is too old for the highest
        ("0302", 13, "0202/11"),  # one component is too old
        ("02ff", 13, "02ff/5"),  # reached in all, and higher by its components where no level tells
        ("0201", 13, "0101/5"),
        ("0100", 255, None),
    ],
)
def test_highest_certificate_that_is_reached_in_every_component_is_selected(
    cpu_svn: str, pce_svn: int, chosen: str | None
) -> None:
    some = [certificate("0101", 5), certificate("0303", 13), certificate("0202", 11), certificate("02ff", 5)]
    raw = RawTcb(bytes.fromhex(cpu_svn).ljust(16, b"\0"), pce_svn)
    found = select_certificate(some, raw, None)
    assert (found.tcbm if found is not None else None) == chosen


def test_levels_of_tcb_info_decide_what_is_highest(maker: ChipMaker) -> None:
    """A certificate that is higher in a component which no level asks for is still of the lower level."""
    content = maker.collateral("sgx", NOW).of_kind("tcb_info")[0].content
    info = parse_tcb_info(read_tcb_info(content))
    best, worst = info.levels[0], info.levels[-1]
    low = bytearray(worst.tcb.sgx_components)
    low[0] = best.tcb.sgx_components[0] + 1
    pair = [
        PckCertificate(b"", b"", "", "", "", "", name, bytes(svns), pce_svn, NOW, NOW)
        for name, svns, pce_svn in (
            ("low", low, worst.tcb.pcesvn),
            ("high", best.tcb.sgx_components, best.tcb.pcesvn),
        )
    ]
    raw = RawTcb(b"\xff" * 16, 0xFFFF)
    assert getattr(select_certificate(pair, raw, None), "tcbm", "") == "low"
    assert getattr(select_certificate(pair, raw, info), "tcbm", "") == "high"


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps([{"tcbm": value, "cert": value}]).encode()
    )
)
def test_any_body_gives_certificates_or_an_endorsement_error(body: bytes) -> None:
    with contextlib.suppress(EndorsementError):
        assert isinstance(read_pckcerts(body), tuple)


def test_levels_without_a_certificate_are_passed_over(maker: ChipMaker) -> None:
    (tcbm, pem), *_ = answer_for(maker, maker.machine("a")).certificates
    listed = [{"tcbm": "00", "cert": "Not available"}, {"tcbm": tcbm, "cert": pem.decode()}]
    assert read_pckcerts(json.dumps(listed).encode()) == ((tcbm, pem),)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"qe_id": "00", "pce_id": "00"},
        {"qe_id": "zz", "pce_id": "0000"},
        {"qe_id": "00" * 200, "pce_id": "0000"},
        {"qe_id": "00", "pce_id": "0000", "enc_ppid": "00"},
        {"qe_id": "00", "pce_id": "0000", "platform_manifest": 7},
        {"qe_id": "00", "pce_id": "0000", "cpu_svn": "00" * 16},
        {"qe_id": "00", "pce_id": "0000", "cpu_svn": 1},
    ],
)
def test_registration_is_checked(value: Any) -> None:
    with pytest.raises(InputError):
        PckPlatform.from_json(value, "root")


def test_registration_keeps_what_identifies_a_machine_out_of_its_repr() -> None:
    value = {"qe_id": "AB", "pce_id": "0000", "enc_ppid": "CD" * 384, "platform_manifest": "EF" * 9}
    platform = PckPlatform.from_json(value, "root")
    assert (platform.qe_id, platform.need.scope) == ("ab", "ab/0000")
    assert "cdcd" not in repr(platform)
    assert "efef" not in repr(platform)
    assert PckPlatform.from_json(platform.to_json(), "root") == platform
