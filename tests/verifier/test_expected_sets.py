# SPDX-License-Identifier: Apache-2.0
"""Active sets: evidence matches one whole, or the owner's own values alone, and a refusal names the input that differs."""

from __future__ import annotations

import timeit
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha384
from typing import TYPE_CHECKING, Any

import pytest

from eaa.eventlog import parse_event_log
from eaa.eventlog.types import EventType
from eaa.eventlog.write import NewEvent, write_event_log
from eaa.rats import Result
from eaa.tee.measured import replay
from eaa.tee.tdx.evidence import TdxQuote
from eaa.verifier.expected_sets import NO_SETS, ExpectedSet, ExpectedSets, MeasuredInput
from eaa.verifier.set_differences import differences, logged_digests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Check
    from eaa.verifier.expected_sets import ReferenceResult

    from .conftest import Attest

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")


def _digest(text: str) -> str:
    return sha384(text.encode()).hexdigest()


def _registers(**parts: str) -> dict[str, str]:
    """Return registers that follow from names of a firmware, a kernel and an initrd."""
    given = {"firmware": "ovmf", "kernel": "linux", "initrd": "rd", **parts}
    return {
        "mr_td": _digest(given["firmware"]),
        "rtmr_0": _digest(f"machine of {given['firmware']}"),
        "rtmr_1": _digest(given["kernel"]),
        "rtmr_2": _digest(given["initrd"]),
        "rtmr_3": "00" * 48,
    }


def _set(product: str = "acme/web", version: int = 1, **parts: Any) -> ExpectedSet:
    expires_at = parts.pop("expires_at", None)
    registers = _registers(**parts)
    return ExpectedSet(
        product,
        version,
        "tdx",
        {name: (registers[name],) for name in NAMES},
        {
            "mr_td": (MeasuredInput("firmware", registers["mr_td"]),),
            "rtmr_2": (MeasuredInput("cmdline", "01" * 48), MeasuredInput("initrd", "02" * 48)),
        },
        expires_at,
    )


def _check(
    sets: ExpectedSets,
    registers: Mapping[str, str],
    own: Mapping[str, Any] | None = None,
    *,
    at: datetime = AT,
    logged: Mapping[str, list[str]] | None = None,
) -> ReferenceResult:
    return sets.check("tdx", registers, own or {}, at=at, logged=logged or {})


def _failing(result: ReferenceResult) -> list[str]:
    return [each.id for each in result.checks if each.blocks]


def _named(result: ReferenceResult, name: str) -> Check:
    return next(each for each in result.checks if each.id == name)


def test_a_whole_set_passes_and_is_named() -> None:
    result = _check(ExpectedSets([_set(), _set("acme/db", kernel="other")]), _registers())
    assert _failing(result) == []
    assert _named(result, "reference.set").found == "acme/web version 1"
    assert result.values["rtmr_1"] == [_registers()["rtmr_1"]]


def test_two_sets_are_never_mixed() -> None:
    """One product's kernel with another's firmware is refused, although each register alone is of an active set."""
    sets = ExpectedSets([_set(), _set("acme/db", 4, firmware="seabios", kernel="other", initrd="their rd")])
    mixed = _registers() | {name: _registers(initrd="their rd")[name] for name in ("rtmr_2",)}
    result = _check(sets, mixed)
    assert _failing(result) == ["reference.tdx.rtmr_2", "reference.set"]
    assert "rtmr_2 is that of acme/db version 4" in _named(result, "reference.set").found
    assert _failing(_check(sets, _registers())) == []


def _weak(tee: str, *names: str, version: int = 9) -> ExpectedSet:
    return ExpectedSet(
        "acme/part", version, tee, {name: (("00" * 48) if name == "rtmr_3" else "1",) for name in names}
    )


@pytest.mark.parametrize(
    ("tee", "names"),
    [
        ("tdx", ("rtmr_3",)),
        ("sgx", ("isv_svn",)),
        ("sgx", ("isv_svn", "isv_prod_id")),
        ("snp", ("guest_svn",)),
        ("tdx", ("pcr4",)),  # of another TEE
    ],
)
def test_a_set_without_the_registers_that_matter_admits_nobody(tee: str, names: tuple[str, ...]) -> None:
    measured = {name: "00" * 48 if name == "rtmr_3" else "1" for name in names}
    result = ExpectedSets([_weak(tee, *names)]).check(
        tee, measured | dict.fromkeys(NAMES, "ab" * 48), {}, at=AT, logged={}
    )
    assert _failing(result)


def test_a_set_that_says_too_little_stands_in_nobodys_way() -> None:
    """It matches the same guest, and is newer by its number, which means nothing between products."""
    sets = ExpectedSets([_weak("tdx", "rtmr_3"), _set()])
    result = _check(sets, _registers())
    assert _failing(result) == []
    assert _named(result, "reference.set").found == "acme/web version 1"


def test_the_owners_own_values_still_count_alone() -> None:
    own = {name: [_registers(kernel="own")[name]] for name in NAMES}
    sets = ExpectedSets([_set()])
    assert _failing(_check(sets, _registers(kernel="own"), own)) == []
    assert _failing(_check(sets, _registers(), own)) == []
    assert "reference.set" in _failing(_check(sets, _registers(kernel="neither"), own))
    # What the set leaves open, the owner's own value decides.
    more = {"mr_config_id": ["aa" * 48]}
    assert _failing(_check(sets, _registers(), more)) == ["reference.tdx.mr_config_id"]
    assert _failing(_check(sets, _registers() | {"mr_config_id": "aa" * 48}, more)) == []


def test_without_active_sets_of_the_kind_there_is_no_such_check() -> None:
    for sets in (NO_SETS, ExpectedSets([replace(_set(), tee="snp", values={"measurement": ("aa" * 48,)})])):
        assert all(each.id != "reference.set" for each in _check(sets, _registers()).checks)


def test_an_expired_set_admits_nobody_from_its_end_on() -> None:
    sets = ExpectedSets([_set(expires_at=AT)])
    assert _failing(_check(sets, _registers(), at=AT - timedelta(seconds=1))) == []
    result = _check(sets, _registers())
    assert "reference.set" in _failing(result)
    assert (
        _named(result, "reference.set").found == "acme/web version 1, which expired at 2026-11-23T12:00:00Z"
    )
    both = ExpectedSets([_set(version=1), _set(version=2, expires_at=AT)])
    assert _named(_check(both, _registers()), "reference.set").found == "acme/web version 1"


@pytest.mark.parametrize("part", ["firmware", "kernel", "initrd"])
def test_what_differs_is_compared_with_the_nearest_set(part: str) -> None:
    sets = ExpectedSets([_set(), _set("acme/db", 9, firmware="x", kernel="y", initrd="z")])
    result = _check(sets, _registers(**{part: "changed"}))
    assert "nearest is acme/web version 1" in _named(result, "reference.set").found
    assert _named(result, "reference.set").result is Result.FAIL


def test_a_refusal_says_what_a_register_follows_from() -> None:
    result = _check(ExpectedSets([_set()]), _registers(initrd="changed"))
    said = "it follows from cmdline, initrd"
    assert said in _named(result, "reference.tdx.rtmr_2").found
    assert said in _named(result, "reference.set").found


def test_a_log_tells_which_input_differs() -> None:
    logged = {"rtmr_2": ["01" * 48, "99" * 48]}
    result = _check(ExpectedSets([_set()]), _registers(initrd="changed"), logged=logged)
    assert _named(result, "reference.set").found == "nearest is acme/web version 1; rtmr_2: initrd differs"


def test_software_of_nobody_is_said_to_be_of_nobody() -> None:
    strange = {name: _digest(f"strange {name}") for name in NAMES}
    result = _check(ExpectedSets([_set()]), strange)
    assert _named(result, "reference.set").found == "no register is that of an active set"


@pytest.mark.parametrize(
    ("logged", "said"),
    [
        (["01", "02", "03"], ""),
        (["01", "ff", "03"], "kernel differs"),
        (["ff", "ff", "03"], "acpi, kernel differ"),
        (["01", "02"], "initrd differs"),
        (["ff"], "acpi differs"),
        (["01", "02", "03", "04"], "something was measured after the last input"),
        ([], "acpi differs"),
        (None, "it follows from acpi, kernel, initrd"),
    ],
)
def test_differences_in_words(logged: list[str] | None, said: str) -> None:
    inputs = [MeasuredInput("acpi", "01"), MeasuredInput("kernel", "02"), MeasuredInput("initrd", "03")]
    assert differences(inputs, logged) == said
    assert differences([], logged) == ""
    assert differences([MeasuredInput("constant", "01")], None) == ""


def test_alternatives_and_minimums() -> None:
    many = ExpectedSet(
        "acme/web",
        1,
        "snp",
        {
            "measurement": tuple(f"{n:096x}" for n in range(100)),
            "host_data": ("aa" * 32,),
            "guest_svn": ("3",),
        },
    )
    sets = ExpectedSets([many])
    good = {"measurement": f"{77:096x}", "host_data": "aa" * 32, "guest_svn": "5"}
    for changes, found in (
        ({}, many),
        ({"measurement": f"{100:096x}"}, None),
        ({"host_data": "bb" * 32}, None),
        ({"guest_svn": "2"}, None),
        ({"guest_svn": "3"}, many),
    ):
        assert sets.find("snp", good | changes, AT) is found
    assert sets.find("tdx", good, AT) is None
    without = {name: value for name, value in good.items() if name != "host_data"}
    assert sets.find("snp", without, AT) is None


def test_a_lookup_costs_the_same_among_many() -> None:
    """Finding a set among 25,000 of four values each is not slower than among a few, by more than noise."""

    def fastest(count: int) -> float:
        sets = ExpectedSets(
            _set(f"p/{n}", firmware=str(n % 7), kernel=str(n % 90), initrd=str(n)) for n in range(count)
        )
        wanted = _registers(firmware="2", kernel="9", initrd="9")
        assert sets.find("tdx", wanted, AT) is not None
        return min(timeit.repeat(lambda: sets.find("tdx", wanted, AT), number=50, repeat=20))

    assert fastest(25_000) < 20 * fastest(10)


def test_digests_come_from_a_proven_log_alone(attest: Attest) -> None:
    events = [NewEvent(3, EventType.EV_EVENT_TAG, each) for each in (b"cmdline", b"initrd")]
    log = write_event_log(events, ("sha384",))
    digests = [sha384(each).digest() for each in (b"cmdline", b"initrd")]
    appraisal = attest("tdx", registers={"rtmr_2": replay(digests)})
    assert logged_digests(appraisal) == {}
    assert isinstance(appraisal.evidence, TdxQuote)
    with_log = replace(appraisal, evidence=replace(appraisal.evidence, event_log=log))
    assert logged_digests(with_log) == {}, "nobody checked it"
    from eaa.eventlog import check_event_log

    parsed = parse_event_log(log)
    good = check_event_log(parsed, {"rtmr_2": replay(digests)}, "sha384")
    bad = check_event_log(parsed, {"rtmr_2": bytes(48)}, "sha384")
    assert logged_digests(with_log.with_checks(tuple(good))) == {"rtmr_2": [each.hex() for each in digests]}
    assert logged_digests(with_log.with_checks(tuple(bad))) == {}
