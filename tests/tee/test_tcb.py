# SPDX-License-Identifier: Apache-2.0
"""TCB levels: component-wise matching, convergence and relaunch, against the tables of Intel's QVL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import ConfigurationError
from eaa.tee.dcap.collateral import IdentityLevel, TcbInfo
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.dcap.shapes import Component, PlatformLevel, PlatformStatus, SgxTcb, TcbLevel, TdxTcb
from eaa.tee.dcap.tcb import (
    Rating,
    best_level,
    combine,
    converge,
    match_isv_level,
    match_level,
    relaunch,
    shortfalls,
    svn_shortfall,
)
from eaa.tee.x509 import Window

DATE = datetime(2026, 1, 1, tzinfo=UTC)


def level(
    status: str, sgx: tuple[int, ...], pce: int = 0, tdx: tuple[int, ...] | None = None, *advisories: str
) -> TcbLevel:
    components = [Component(svn) for svn in sgx]
    tcb = SgxTcb(components, pce) if tdx is None else TdxTcb(components, pce, [Component(svn) for svn in tdx])
    return PlatformLevel(tcb, "2026-01-01T00:00:00Z", cast("PlatformStatus", status), advisories)


def sixteen(*svns: int) -> tuple[int, ...]:
    return (*svns, *(0,) * (16 - len(svns)))


def test_every_component_counts_by_itself() -> None:
    """An integer comparison of the 16 bytes would let a high first component hide a low second one (attack A6)."""
    levels = [level("UpToDate", sixteen(2, 2)), level("OutOfDate", sixteen(1, 1))]
    assert match_level(levels, sixteen(2, 2), 0) is levels[0]
    assert match_level(levels, sixteen(9, 1), 0) is levels[1]
    assert match_level(levels, sixteen(1, 9), 0) is levels[1]
    assert match_level(levels, sixteen(9, 0), 0) is None


def test_the_pce_svn_counts() -> None:
    levels = [level("UpToDate", sixteen(), 11), level("OutOfDate", sixteen(), 5)]
    assert match_level(levels, sixteen(), 11) is levels[0]
    assert match_level(levels, sixteen(), 10) is levels[1]
    assert match_level(levels, sixteen(), 4) is None


@pytest.mark.parametrize(("major", "matches"), [(0, False), (1, True)])
def test_a_versioned_module_is_not_rated_by_the_first_two_components(major: int, *, matches: bool) -> None:
    levels = [level("UpToDate", sixteen(), 0, sixteen(5, 0, 2))]
    assert (match_level(levels, sixteen(), 0, sixteen(4, major, 2)) is levels[0]) is matches
    assert match_level(levels, sixteen(), 0, sixteen(5, major, 1)) is None


def test_levels_without_tdx_components_never_match_a_td() -> None:
    assert match_level([level("UpToDate", sixteen())], sixteen(), 0, sixteen()) is None


CONVERGED = {
    ("UpToDate", "UpToDate"): "UpToDate",
    ("UpToDate", "OutOfDate"): "OutOfDate",
    ("UpToDate", "Revoked"): "Revoked",
    ("SWHardeningNeeded", "UpToDate"): "SWHardeningNeeded",
    ("SWHardeningNeeded", "OutOfDate"): "OutOfDate",
    ("ConfigurationNeeded", "UpToDate"): "ConfigurationNeeded",
    ("ConfigurationNeeded", "OutOfDate"): "OutOfDateConfigurationNeeded",
    ("ConfigurationAndSWHardeningNeeded", "UpToDate"): "ConfigurationAndSWHardeningNeeded",
    ("ConfigurationAndSWHardeningNeeded", "OutOfDate"): "OutOfDateConfigurationNeeded",
    ("OutOfDate", "UpToDate"): "OutOfDate",
    ("OutOfDate", "OutOfDate"): "OutOfDate",
    ("OutOfDateConfigurationNeeded", "OutOfDate"): "OutOfDateConfigurationNeeded",
    ("OutOfDate", "Revoked"): "Revoked",
    ("Revoked", "UpToDate"): "Revoked",
}


@pytest.mark.parametrize(("pair", "status"), CONVERGED.items())
def test_a_worse_part_worsens_the_platform(pair: tuple[str, str], status: str) -> None:
    platform, part = pair
    assert converge(platform, [part]) == status
    assert converge(platform, ["UpToDate", part]) == status


@given(
    platform=st.sampled_from(sorted({pair[0] for pair in CONVERGED})),
    parts=st.lists(st.sampled_from(["UpToDate", "OutOfDate", "Revoked"]), max_size=3),
)
def test_convergence_never_improves_and_never_loses_a_revocation(platform: str, parts: list[str]) -> None:
    status = converge(platform, parts)
    assert ("Revoked" in [platform, *parts]) is (status == "Revoked")
    if status == "UpToDate":
        assert platform == "UpToDate"
        assert set(parts) <= {"UpToDate"}


@pytest.mark.parametrize(
    ("launch", "current", "status"),
    [
        ("OutOfDate", "UpToDate", "TDRelaunchAdvised"),
        ("OutOfDate", "SWHardeningNeeded", "TDRelaunchAdvised"),
        ("OutOfDate", "ConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "UpToDate", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "OutOfDate", "OutOfDate"),
        ("OutOfDate", "Revoked", "OutOfDate"),
        ("UpToDate", "OutOfDate", "UpToDate"),
        ("Revoked", "UpToDate", "Revoked"),
    ],
)
def test_a_relaunch_is_advised_only_where_it_would_help(launch: str, current: str, status: str) -> None:
    assert relaunch(launch, current) == status


def test_advisories_of_every_part_are_joined_and_sorted() -> None:
    parts = [IdentityLevel(1, "UpToDate", None, ("B", "A"))]
    rating = combine(level("UpToDate", sixteen(), 0, None, "C", "A"), parts)
    assert rating.advisory_ids == ("A", "B", "C")


def test_an_svn_below_every_level_matches_none() -> None:
    levels = [IdentityLevel(4, "UpToDate", None, ()), IdentityLevel(2, "OutOfDate", None, ())]
    assert match_isv_level(levels, 4) is levels[0]
    assert match_isv_level(levels, 3) is levels[1]
    assert match_isv_level(levels, 1) is None


def test_revoked_can_never_be_accepted() -> None:
    with pytest.raises(ConfigurationError, match="Revoked"):
        AcceptancePolicy(tcb_statuses=frozenset({"UpToDate", "Revoked"}))
    with pytest.raises(ConfigurationError, match="uptodate"):
        AcceptancePolicy(tcb_statuses=frozenset({"uptodate"}))


def info(levels: list[TcbLevel], labels: tuple[str, ...] = ()) -> TcbInfo:
    window = Window("TCB info", DATE, DATE)
    newest = SgxTcb([Component(0, label) for label in labels], 0)
    return TcbInfo("SGX", 3, window, b"", b"", 1, tuple(levels), None, (), newest)


def test_the_best_level_is_up_to_date_where_one_is() -> None:
    levels = [
        level("SWHardeningNeeded", sixteen(3)),
        level("UpToDate", sixteen(2)),
        level("UpToDate", sixteen(1)),
    ]
    assert best_level(levels) is levels[1]
    assert best_level(levels[:1]) is levels[0]


def test_what_falls_short_is_named_with_its_numbers() -> None:
    """Every SVN below the level's, and no other, under the name that Intel gives it."""
    wanted = level("UpToDate", sixteen(3, 2, 1), 13)
    labels = ("Early Microcode Update, BIOS", "", "TXT SINIT", *("",) * 13)
    (reason,) = shortfalls(wanted, info([wanted], labels), sixteen(2, 2, 0), 11)
    assert reason == (
        "for UpToDate of 2026-01-01, SGX component 1 (Early Microcode Update, BIOS) is 2, needs 3; "
        "SGX component 3 (TXT SINIT) is 0, needs 1; PCE SVN is 11, needs 13"
    )
    assert shortfalls(wanted, info([wanted]), sixteen(3, 2, 1), 13) == ()


@pytest.mark.parametrize(("major", "named"), [(0, ["1", "3"]), (1, ["3"])])
def test_a_modules_own_svn_is_not_a_component(major: int, named: list[str]) -> None:
    """As in matching, components 1 and 2 are the module's identity's where it has a version."""
    wanted = level("UpToDate", sixteen(), 0, sixteen(5, 0, 3))
    (reason,) = shortfalls(wanted, info([wanted]), sixteen(), 0, sixteen(4, major, 2))
    assert [part.split()[2] for part in reason.partition(", ")[2].split("; ")] == named


def test_an_identitys_svn_is_compared_with_its_best_level() -> None:
    levels = [IdentityLevel(6, "UpToDate", DATE, ()), IdentityLevel(4, "OutOfDate", DATE, ())]
    assert svn_shortfall("the module's SVN", 4, levels) == (
        "for UpToDate of 2026-01-01, the module's SVN is 4, needs 6",
    )
    assert svn_shortfall("the module's SVN", 6, levels) == ()
    assert svn_shortfall("the module's SVN", 0, []) == ()
    undated = [IdentityLevel(2, "UpToDate", None, ())]
    assert svn_shortfall("it", 1, undated) == ("for UpToDate, it is 1, needs 2",)


def test_a_rating_reads_as_its_status_and_reasons() -> None:
    assert str(Rating("UpToDate", ())) == "UpToDate"
    assert str(Rating("OutOfDate", (), ("a", "b"))) == "OutOfDate; a; b"
