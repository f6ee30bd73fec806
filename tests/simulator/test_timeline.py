# SPDX-License-Identifier: Apache-2.0
"""Timelines as files: read strictly, refused with the member's name."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import ConfigurationError
from eaa.simulator.timeline import (
    Platform,
    Publishing,
    Recovery,
    Revocation,
    Timeline,
    Trouble,
    read_timeline,
)

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=1)

STORY = b"""
[publishing]
evaluation = 18
validity_days = 30

[[machines]]
name = "machine-1"

[[recoveries]]
number = 19
early = 2026-11-01T00:00:00Z
standard = 2026-11-02T01:00:00+01:00
advisories = ["INTEL-SA-09999"]
sgx_svns = [4, 4, 2]

[[revocations]]
machine = "machine-2"
at = 2026-11-02T00:00:00Z

[[troubles]]
kind = "budget"
begin = 2026-11-01T00:00:00Z
end = 2026-11-02T00:00:00Z
paths = "/vcek/*"
seconds = 10
"""


def test_a_story_in_toml_is_the_one_in_python() -> None:
    assert read_timeline(STORY) == Timeline(
        publishing=Publishing(evaluation=18, validity_days=30),
        machines=(Platform("machine-1"),),
        recoveries=(Recovery(19, BEGIN, END, ("INTEL-SA-09999",), sgx_svns=(4, 4, 2)),),
        revocations=(Revocation("machine-2", END),),
        troubles=(Trouble("budget", BEGIN, END, "/vcek/*", seconds=10),),
    )


def test_json_says_the_same() -> None:
    told = {"revocations": [{"machine": "machine-2", "at": "2026-11-02T00:00:00Z", "ca": "processor"}]}
    assert read_timeline(json.dumps(told).encode()).revocations == (
        Revocation("machine-2", END, "processor"),
    )


def test_nothing_is_a_timeline_too() -> None:
    assert read_timeline(b"") == read_timeline(b"{}") == Timeline()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"x", "story.toml is neither TOML nor JSON"),
        (b"\xff", "story.toml is neither TOML nor JSON"),
        (b"{", "story.toml"),
        (b"weather = 1", "weather"),
        (b"[[recoveries]]\nnumber = 19", r"recoveries\.0\.early"),
        (b"[[revocations]]\nmachine = 'a'\nat = 2026-11-02T00:00:00", "does not know the time"),
        (b"[[revocations]]\nmachine = 'a'\nat = 2026-11-02T00:00:00Z\nca = 'root'", r"revocations\.0\.ca"),
        (b"[publishing]\nevaluation = '18'", r"publishing\.evaluation"),
        (b"[publishing]\nreissue_hours = 0", "reissue_hours"),
        (STORY.replace(b'"budget"', b'"rain"'), r"troubles\.0\.kind"),
        (STORY.replace(b"number = 19", b"number = 18"), "order of their numbers"),
        (STORY.replace(b"[4, 4, 2]", b"[4, 256]"), "SVNs from 0 to 255"),
        (STORY.replace(b"seconds = 10", b"status = 200"), "a status is one of"),
    ],
)
def test_what_cannot_be_used_is_named(text: bytes, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        read_timeline(text, "story.toml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "rain"},
        {"end": BEGIN},
        {"seconds": 61.0},
        {"seconds": float("nan")},
        {"size": 1 << 40},
        {"days": 0},
        {"requests": -1},
        {"retry_after": -1},
        {"begin": datetime(2026, 11, 1)},  # noqa: DTZ001 - that it has no zone is the point
    ],
)
def test_troubles_are_bounded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Trouble(**{"kind": "slow", "begin": BEGIN, "end": END, **wrong})


def test_recoveries_do_not_overtake_each_other() -> None:
    first = Recovery(19, BEGIN, END)
    with pytest.raises(ConfigurationError, match="recovery 20 comes before recovery 19"):
        Timeline(recoveries=(first, Recovery(20, BEGIN, BEGIN)))
    with pytest.raises(ConfigurationError, match="standard before early"):
        Recovery(20, END, BEGIN)


def test_a_trouble_is_from_begin_until_just_before_end() -> None:
    trouble = Trouble("refused", BEGIN, END, "/sgx/*/pckcrl")
    path = "/sgx/certification/v4/pckcrl"
    tick = timedelta(microseconds=1)
    assert [trouble.applies(at, path) for at in (BEGIN - tick, BEGIN, END - tick, END)] == [
        False,
        True,
        True,
        False,
    ]
    assert not trouble.applies(BEGIN, path + "x")


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.just(STORY), st.integers(0, len(STORY) - 1), st.binary(max_size=3)),
    )
)
def test_any_file_gives_a_timeline_or_a_configuration_error(given_: bytes | tuple[bytes, int, bytes]) -> None:
    text = (
        given_
        if isinstance(given_, bytes)
        else given_[0][: given_[1]] + given_[2] + given_[0][given_[1] + 1 :]
    )
    with suppress(ConfigurationError):
        assert isinstance(read_timeline(text), Timeline)
