# SPDX-License-Identifier: Apache-2.0
"""Parameter types: what they take, and that anything else is bad usage and nothing worse."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.cli._options import HexBytes, InputFile, Rfc3339, at_option, report_data_option, tee_option
from eaa.cli._run import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-16T12:00:00Z", datetime(2026, 3, 16, 12, tzinfo=UTC)),
        ("2026-03-16t12:00:00z", datetime(2026, 3, 16, 12, tzinfo=UTC)),
        ("2026-03-16 12:00:00.5Z", datetime(2026, 3, 16, 12, 0, 0, 500000, tzinfo=UTC)),
        ("2026-03-16T12:00:00+02:00", datetime(2026, 3, 16, 10, tzinfo=UTC)),
    ],
)
def test_rfc3339_times_are_read_as_utc(text: str, time: datetime) -> None:
    read = Rfc3339().convert(text, None, None)
    assert (read, read.utcoffset()) == (time, timedelta(0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-16",
        "2026-03-16T12:00:00",
        "20260316T120000Z",
        "2026-W12-1T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-03-16T24:00:01Z",
        "0001-01-01T00:00:00+23:59",
        "2026-03-16T12:00:00Z\n",
        "\uff12026-03-16T12:00:00Z",
    ],
)
def test_other_times_are_bad_usage(text: str) -> None:
    with pytest.raises(click.BadParameter, match="RFC 3339"):
        Rfc3339().convert(text, None, None)


@given(
    st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
)
def test_any_text_is_a_time_or_bad_usage(text: str) -> None:
    with contextlib.suppress(click.BadParameter):
        assert Rfc3339().convert(text, None, None).utcoffset() == timedelta(0)


def test_hex_of_either_case_within_its_bounds() -> None:
    assert HexBytes(4).convert("00aAfF", None, None) == b"\x00\xaa\xff"
    assert HexBytes(4).convert("", None, None) == b""


@pytest.mark.parametrize("text", ["0", "0x00", "zz", "00 00", "0011223344", "00\n", "é0"])
def test_other_hex_is_bad_usage(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"hex"):
        HexBytes(4).convert(text, None, None)


def test_hex_of_one_length_says_which() -> None:
    with pytest.raises(click.BadParameter, match=r"1 bytes of hex where 6 are expected"):
        HexBytes(6, 6).convert("00", None, None)


def test_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert InputFile(8).convert(str(path), None, None) == b"12345678"
    with pytest.raises(click.BadParameter, match="more than the 7 bytes"):
        InputFile(7).convert(str(path), None, None)


def test_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"\x00\xff"))
    monkeypatch.setattr("sys.stdin", stream)
    assert InputFile().convert("-", None, None) == b"\x00\xff"


@pytest.mark.parametrize("name", ["absent", ".", "with\0zero"])
def test_file_that_cannot_be_read_is_bad_usage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.BadParameter, match="cannot read"):
        InputFile().convert(name, None, None)


def test_shared_options_arrive_under_their_names() -> None:
    seen = {}

    @click.command()
    @tee_option("sgx", "tdx")
    @at_option
    @report_data_option
    def command(**values: object) -> None:
        seen.update(values)

    assert run(command, "c", ["--tee", "TDX", "--report-data", "0a"]) == 0
    at = seen.pop("at")
    assert isinstance(at, datetime)
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert seen == {"tee": "tdx", "report_data": b"\n"}
    assert run(command, "c", ["--tee", "tdx", "--report-data", "00" * 65]) == 2
    assert run(command, "c", ["--tee", "vax", "--report-data", "00"]) == 2
    assert run(command, "c", ["--tee", "tdx"]) == 2
